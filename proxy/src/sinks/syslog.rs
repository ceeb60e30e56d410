//! Syslog: RFC 5424 messages over UDP, TCP (RFC 6587) or TLS (RFC 5425), with CEF, LEEF, JSON or OCSF as body.
//!
//! Syslog acknowledges nothing. Over TCP and TLS a batch counts as taken once it was written; what was written last on a
//! connection is kept, and written again on the next one where the other side closed it: the receiver may see an event
//! twice, and knows it by its id. What the other side's machine had taken and its program had not read is lost with it.

use std::collections::VecDeque;
use std::sync::Arc;

use checkgate_config::parts::PartError;
use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::address::{Allowed, Connection};
use super::http::{connector, secured};
use super::render::syslog::{Facility, Format, Head, message};
use super::steps::step;
use super::{Event, Ground, Parameters, Sink, SinkError, SinkSpec};

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "syslog",
    summary: "syslog (RFC 5424) over UDP, TCP or TLS, with CEF, LEEF, JSON or OCSF as body",
    schema: super::schema_of::<Syslog>,
    defaults: super::defaults_of::<Syslog>,
    check: super::check_of::<Syslog>,
    example: "address: siem.example:6514\ntransport: tls\nformat: cef\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// Bytes of a message: what rsyslog takes by default.
const MESSAGE_BYTES_MAX: usize = 8192;
/// Bytes that are written again after a connection was closed.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Where Linux says what the machine is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Syslog.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Syslog {
    /// Host and port of the receiver, such as `siem.example:6514`. Required.
    pub address: String,
    /// `tls`, `tcp` or `udp`. Over UDP nobody hears of what is lost.
    pub transport: Transport,
    /// How messages are told apart over TCP and TLS: `octets` (a count in front, RFC 6587, 3.4.1) or `lines` (a line feed
    /// behind each).
    pub framing: Framing,
    /// The body: `cef`, `leef`, `json` or `ocsf`.
    pub format: Format,
    /// The facility: `kern`, `user`, `daemon`, `auth`, `authpriv`, or `local0` to `local7`.
    pub facility: Facility,
    /// The name of the sending host; without it what the machine is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The name of the sending program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// How the receiver is reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `certificate_file` and `key_file` what is shown to it, `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

/// What carries messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TLS over TCP.
    #[default]
    Tls,
    /// TCP, readable by anybody on the way.
    Tcp,
    /// UDP, one datagram a message.
    Udp,
}

/// How messages are told apart in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// The length stands in front.
    #[default]
    Octets,
    /// A line feed stands behind.
    Lines,
}

impl Parameters for Syslog {
    fn check(&self) -> Result<(), PartError> {
        host_and_port(&self.address)?;
        for (key, name, letters) in [("hostname", &self.hostname, 255), ("app_name", &self.app_name, 48)] {
            let sound = |name: &String| {
                (1..=letters).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
            };
            if !name.as_ref().is_none_or(sound) {
                let message = format!("expected 1 to {letters} visible ASCII characters");
                return Err(PartError::new(&[key], message));
            }
        }
        self.connection.allowed("connection").map(drop)
    }
}

/// The host, without brackets, and the port.
fn host_and_port(address: &str) -> Result<(&str, u16), PartError> {
    let wrong = || PartError::new(&["address"], "expected a host and a port, such as siem.example:6514");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    if host.is_empty() || !host.chars().all(plain) {
        return Err(wrong());
    }
    Ok((host, port))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Link {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>),
}

/// Sends syslog.
struct Sender {
    host: String,
    port: u16,
    transport: Transport,
    framing: Framing,
    format: Format,
    head: Head,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    allowed: Allowed,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    link: Option<Link>,
    /// What was written last on a stream.
    kept: VecDeque<Arc<[u8]>>,
    kept_bytes: usize,
    /// The stream on which that was written is gone, or a send on it was cut off.
    unsure: bool,
}

impl Open {
    fn keep(&mut self, written: Vec<u8>) {
        self.kept_bytes += written.len();
        self.kept.push_back(written.into());
        while self.kept_bytes > KEPT_BYTES_MAX
            && self.kept.len() > 1
            && let Some(oldest) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.len();
        }
    }
}

impl Sender {
    fn new(parameters: Syslog, _: &Ground<'_>) -> Result<Self, PartError> {
        let (host, port) = host_and_port(&parameters.address)?;
        let keys = ("address", "connection");
        let tls = match parameters.transport {
            Transport::Tls => Some(connector(host, &parameters.connection, keys)?),
            Transport::Tcp | Transport::Udp => None,
        };
        let app = parameters.app_name.unwrap_or_else(|| "checkgate".to_owned());
        let head =
            Head { facility: parameters.facility, host: parameters.hostname.unwrap_or_else(own_name), app };
        Ok(Self {
            host: host.to_owned(),
            port,
            transport: parameters.transport,
            framing: parameters.framing,
            format: parameters.format,
            head,
            tls,
            allowed: parameters.connection.allowed("connection")?,
            open: Mutex::default(),
        })
    }

    async fn send_all(&self, batch: &[Event]) -> Result<(), SinkError> {
        let messages: Vec<String> =
            batch.iter().map(|event| message(&self.head, self.format, event, MESSAGE_BYTES_MAX)).collect();
        let mut open = self.open.lock().await;
        // Until all is written the link is nobody's: a send that is cut off leaves half a message in it.
        let mut before = open.link.take();
        let closed = match &mut before {
            Some(link) => link.was_closed().await,
            None => false,
        };
        if closed {
            step(|| "the connection was closed".to_owned());
            (before, open.unsure) = (None, true);
        }
        let mut link = match before {
            Some(link) => link,
            None => self.connect().await?,
        };
        let repeats = std::mem::replace(&mut open.unsure, true);
        match &mut link {
            Link::Datagrams(socket) => send_datagrams(socket, &messages).await?,
            Link::Stream(stream) => {
                if repeats {
                    for kept in &open.kept {
                        write(stream, kept).await?;
                    }
                }
                let written = self.framed(&messages);
                write(stream, &written).await?;
                step(|| format!("{} messages were written; syslog acknowledges nothing", messages.len()));
                open.keep(written);
            }
        }
        open.unsure = false;
        open.link = Some(link);
        Ok(())
    }

    fn framed(&self, messages: &[String]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            match self.framing {
                Framing::Octets => bytes.extend_from_slice(format!("{} {message}", message.len()).as_bytes()),
                Framing::Lines => bytes.extend_from_slice(format!("{message}\n").as_bytes()),
            }
        }
        bytes
    }

    async fn connect(&self) -> Result<Link, SinkError> {
        if self.transport == Transport::Udp {
            return self.socket().await.map(Link::Datagrams);
        }
        let stream = self.allowed.connect(&self.host, self.port).await?;
        Ok(match &self.tls {
            None => Link::Stream(Box::new(stream)),
            Some((connector, name)) => Link::Stream(Box::new(secured(connector, name, stream).await?)),
        })
    }

    async fn socket(&self) -> Result<UdpSocket, SinkError> {
        let failed = |error| SinkError::later(format!("no socket: {error}"));
        let addresses = self.allowed.resolve(&self.host, self.port).await?;
        let address = *addresses.first().ok_or_else(|| SinkError::later("the name has no address"))?;
        let own = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(own).await.map_err(failed)?;
        socket.connect(address).await.map_err(failed)?;
        step(|| format!("datagrams go to {address}"));
        Ok(socket)
    }
}

async fn write(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> Result<(), SinkError> {
    let written = match stream.write_all(bytes).await {
        Ok(()) => stream.flush().await,
        Err(error) => Err(error),
    };
    written.map_err(|error| SinkError::later(format!("the connection broke: {error}")))
}

impl Link {
    /// Whether the other side closed the connection. Nothing is expected from it; what comes all the same is passed
    /// over.
    async fn was_closed(&mut self) -> bool {
        let Self::Stream(stream) = self else { return false };
        let mut unasked = [0; 256];
        loop {
            tokio::select! {
                biased;
                read = stream.read(&mut unasked) => match read {
                    Ok(0) | Err(_) => return true,
                    Ok(_) => {}
                },
                () = std::future::ready(()) => return false,
            }
        }
    }
}

async fn send_datagrams(socket: &UdpSocket, messages: &[String]) -> Result<(), SinkError> {
    for message in messages {
        // An error here is mostly that of an earlier datagram: nobody listens.
        socket
            .send(message.as_bytes())
            .await
            .map_err(|error| SinkError::later(format!("nobody takes datagrams there: {error}")))?;
    }
    step(|| format!("{} datagrams were sent; nobody says whether they arrive", messages.len()));
    Ok(())
}

impl Sink for Sender {
    fn send<'a>(&'a self, batch: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.send_all(batch))
    }

    fn target(&self) -> String {
        let transport = match self.transport {
            Transport::Tls => "tls",
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        format!("{transport}://{}:{}", self.host, self.port)
    }
}

/// What this machine is called, or `-`, which stands for nothing (RFC 5424, 6.2.4).
pub(super) fn own_name() -> String {
    let name = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (typed, expected) in [
            ("siem.example:6514", Some(("siem.example", 6514))),
            ("[2001:db8::1]:514", Some(("2001:db8::1", 514))),
            ("192.0.2.7:514", Some(("192.0.2.7", 514))),
            ("siem.example", None),
            ("siem.example:0", None),
            ("siem.example:70000", None),
            (":514", None),
            ("tcp://siem.example:514", None),
        ] {
            assert_eq!(host_and_port(typed).ok(), expected, "{typed}");
        }
    }

    #[test]
    fn what_is_kept_for_another_try_is_bounded() {
        let mut open = Open::default();
        (0..100).for_each(|_| open.keep(vec![0; 10_000]));
        assert!(open.kept_bytes <= KEPT_BYTES_MAX && open.kept.len() > 20, "{} bytes", open.kept_bytes);
        open.keep(vec![0; 1_000_000]);
        assert_eq!((open.kept.len(), open.kept_bytes), (1, 1_000_000), "one batch is kept in any case");
    }

    /// Messages that are told apart by counts.
    fn counted(bytes: &[u8]) -> Vec<String> {
        let (mut messages, mut rest) = (Vec::new(), bytes);
        while let Some(blank) = rest.iter().position(|byte| *byte == b' ') {
            let count: usize = std::str::from_utf8(&rest[..blank]).unwrap().parse().unwrap();
            let Some(message) = rest.get(blank + 1..blank + 1 + count) else { break };
            messages.push(String::from_utf8(message.to_vec()).unwrap());
            rest = &rest[blank + 1 + count..];
        }
        messages
    }

    #[tokio::test]
    async fn what_a_receiver_may_have_lost_with_its_connection_is_written_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let parameters = Syslog {
            address: listener.local_addr().unwrap().to_string(),
            transport: Transport::Tcp,
            ..Syslog::default()
        };
        let ground = Ground { environment: &|_| None, instance: &"cg-0".into() };
        let sender = Sender::new(parameters, &ground).unwrap_or_else(|error| panic!("{error:?}"));
        let events = crate::sinks::tests::events("prices");
        sender.send(&events[..2]).await.unwrap();
        let (mut first, _) = listener.accept().await.unwrap();
        let mut read = vec![0; 1];
        first.read_exact(&mut read).await.unwrap();
        // It goes with most of what was written unread.
        drop(first);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        sender.send(&events[2..3]).await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        sender.send(&events[3..4]).await.unwrap();
        drop(sender);
        let mut all = Vec::new();
        second.read_to_end(&mut all).await.unwrap();
        let messages = counted(&all);
        assert_eq!(messages.len(), 4, "{messages:#?}");
        for (message, event) in messages.iter().zip(&events) {
            assert!(message.contains(&*event.id), "{message} is not {:?}", event.kind);
        }
    }
}
