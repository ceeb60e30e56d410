//! A new connection to a server: socket, TLS where it is spoken, then HTTP/1.1 or HTTP/2.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use checkgate_config::settings::{Server, ServerAddress, Upstream};
use http::HeaderValue;
use http::uri::{Authority, Scheme};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::connection::{Connection, Exclusive, Shared, Wanted};
use super::socket::{Counted, Stream, Watch, Watched};
use crate::socket::Socket;

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most lines of an answer's head. Up to as many the parser has room on the stack; beyond it, every answer would pay for
/// tables on the heap.
const HEADER_LINES_MAX: usize = 100;
/// A silent TCP connection is probed after this time. HTTP/2 connections are left to it as well: servers of gRPC take
/// pings that come more often than every five minutes for abuse and close the connection.
const PROBED_AFTER: Duration = Duration::from_secs(15);
const PROBED_EVERY: Duration = Duration::from_secs(5);
const PROBES_MAX: u32 = 3;
/// Stands for the number of requests that a server takes at once until it has said so; no server says this.
const STREAMS_UNKNOWN: usize = usize::MAX >> 1;
/// How often it is looked whether it has; there is nothing to be woken by.
const SETTINGS_EVERY: Duration = Duration::from_millis(1);

/// Why there is no connection. Logs get the cause; a client never does.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing accepts connections there.
    #[error("no connection: {0}")]
    Socket(#[source] io::Error),
    /// The handshake of TLS failed: the certificate is not believed, or this is no TLS.
    #[error("no TLS: {0}")]
    Tls(#[source] io::Error),
    /// HTTP/2 is wanted and the server did not agree to it.
    #[error("the server does not agree to HTTP/2")]
    NotAgreed,
    /// The server was to speak HTTP/2 without being asked first, and does not.
    #[error("the server does not speak HTTP/2")]
    NotHttp2,
    /// It took too long.
    #[error("no connection within {0:?}")]
    Late(Duration),
    /// HTTP could not begin.
    #[error("no HTTP: {0}")]
    Http(#[source] hyper::Error),
}

/// How long a connection may take, and stand still.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until it is ready for a request, a TLS handshake included.
    pub connect: Duration,
    /// For what was written and is not taken.
    pub stalled: Duration,
}

/// The name that a server goes by in requests.
#[derive(Debug)]
pub struct Origin {
    /// The scheme of its URL.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    host: HeaderValue,
}

impl Origin {
    /// The authority as a `Host` field.
    pub fn host(&self) -> HeaderValue {
        self.host.clone()
    }
}

/// Connects to one server.
#[derive(Debug)]
pub struct Connector {
    address: ServerAddress,
    origin: Origin,
    tls: Option<Tls>,
}

#[derive(Debug)]
struct Tls {
    /// Swapped when certificates are read anew.
    config: ArcSwap<ClientConfig>,
    name: ServerName<'static>,
}

impl Connector {
    /// A connector to `server` of `upstream`, with `tls` where the server speaks it.
    ///
    /// # Errors
    /// Where the server's name is none.
    pub fn new(
        upstream: &Upstream,
        server: &Server,
        tls: Option<&Arc<ClientConfig>>,
    ) -> anyhow::Result<Self> {
        let host = host(&server.address);
        let tls = match tls.filter(|_| server.tls) {
            Some(config) => {
                let name = upstream.tls.server_name.as_deref().unwrap_or(host).to_owned();
                let name = ServerName::try_from(name).context("the server's name is no name for TLS")?;
                Some(Tls { config: ArcSwap::new(Arc::clone(config)), name })
            }
            None => None,
        };
        let authority: Authority = authority(&server.address).parse().context("the server's URL")?;
        let scheme = if server.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let host = HeaderValue::from_str(authority.as_str()).context("the server's host")?;
        Ok(Self { address: server.address.clone(), origin: Origin { scheme, authority, host }, tls })
    }

    /// The server's name in requests.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What is spoken where nothing asks for more.
    pub fn usual(&self) -> Wanted {
        if self.tls.is_some() { Wanted::Agreed } else { Wanted::Http1 }
    }

    /// Uses certificates that were read anew for connections from now on.
    pub fn renew(&self, config: &Arc<ClientConfig>) {
        if let Some(tls) = &self.tls {
            tls.config.store(Arc::clone(config));
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// Says why there is no connection.
    pub async fn connect(&self, wanted: Wanted, patience: Patience) -> Result<Connection, ConnectError> {
        timeout(patience.connect, self.connected(wanted, patience))
            .await
            .unwrap_or(Err(ConnectError::Late(patience.connect)))
    }

    async fn connected(&self, wanted: Wanted, patience: Patience) -> Result<Connection, ConnectError> {
        let watch = Arc::new(Watch::default());
        let socket = socket(&self.address, patience.stalled).await.map_err(ConnectError::Socket)?;
        let socket = Watched::new(socket, Arc::clone(&watch));
        let Some(tls) = &self.tls else {
            return speak(Stream::Plain(socket), wanted == Wanted::Http2, watch).await;
        };
        let connector = TlsConnector::from(tls.config.load_full());
        let stream = connector.connect(tls.name.clone(), socket).await.map_err(ConnectError::Tls)?;
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if wanted == Wanted::Http2 && !agreed {
            return Err(ConnectError::NotAgreed);
        }
        speak(Stream::Tls(Box::new(stream)), agreed, watch).await
    }
}

async fn socket(address: &ServerAddress, stalled_max: Duration) -> io::Result<Socket> {
    match address {
        ServerAddress::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        ServerAddress::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let probes = TcpKeepalive::new()
                .with_time(PROBED_AFTER)
                .with_interval(PROBED_EVERY)
                .with_retries(PROBES_MAX);
            let socket = SockRef::from(&stream);
            socket.set_tcp_keepalive(&probes)?;
            socket.set_tcp_user_timeout(Some(stalled_max))?;
            Ok(Socket::Tcp(stream))
        }
    }
}

async fn speak(stream: Stream, http2: bool, watch: Arc<Watch>) -> Result<Connection, ConnectError> {
    if http2 {
        speak_http2(stream).await
    } else {
        speak_http1(stream, watch).await.map_err(ConnectError::Http)
    }
}

async fn speak_http1(stream: Stream, watch: Arc<Watch>) -> hyper::Result<Connection> {
    let (sender, connection) = http1::Builder::new()
        // The library would read 400 KiB ahead of a client that does not take its answer.
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX)
        .handshake(TokioIo::new(Counted::new(stream, Arc::clone(&watch))))
        .await?;
    Ok(Connection::Exclusive(Box::new(Exclusive::new(sender, connection, watch))))
}

/// The connection is ready once the server has sent its settings, its first frame (RFC 9113, 3.4): before that nobody
/// knows how many requests it takes at once, nor whether it speaks HTTP/2 at all.
async fn speak_http2(stream: Stream) -> Result<Connection, ConnectError> {
    let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_max_send_streams(STREAMS_UNKNOWN)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Http)?;
    while connection.current_max_send_streams() == STREAMS_UNKNOWN {
        tokio::select! {
            _ = &mut connection => return Err(ConnectError::NotHttp2),
            () = sleep(SETTINGS_EVERY) => {}
        }
    }
    let open_max = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    let shared = Shared::new(sender, Arc::clone(&open_max));
    tokio::spawn(poll_fn(move |context| {
        let polled = Pin::new(&mut connection).poll(context);
        open_max.store(connection.current_max_send_streams(), Ordering::Relaxed);
        polled.map(drop)
    }));
    Ok(Connection::Shared(Box::new(shared.stream())))
}

/// The host as certificates and URLs name it; a unix socket is this machine's own.
fn host(address: &ServerAddress) -> &str {
    match address {
        ServerAddress::Tcp { host, .. } => host,
        ServerAddress::Unix(_) => "localhost",
    }
}

fn authority(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        ServerAddress::Tcp { host, port } => format!("{host}:{port}"),
        ServerAddress::Unix(_) => host(address).to_owned(),
    }
}
