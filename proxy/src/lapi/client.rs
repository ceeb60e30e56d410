//! One connection to a Local API: pulls, and nothing else.
//!
//! It is kept from one pull to the next and made anew where it broke. Redirects are not followed: the operator named
//! the place.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use checkgate_config::settings::{HttpVersion, LapiSource, LapiUrl, UpstreamTls};
use flate2::read::GzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, HeaderMap, HeaderValue, SERVER, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::wire::{API_KEY, SOFTWARE, SOFTWARE_NAME, STREAM};
use crate::upstream::tls;

/// A pull that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer, unpacked: some 300,000 decisions.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a pull gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The key is not known there.
    #[error("the key is refused")]
    Refused,
    /// An answer that is none.
    #[error("the answer's status is {0}")]
    Status(u16),
    /// It cannot be reached, or did not answer in time.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The answer is too long, or cannot be read.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// What a pull gave.
#[derive(Debug)]
pub struct Pulled {
    /// The message, as JSON.
    pub json: Vec<u8>,
    /// Whether a checkgate answered.
    pub by_checkgate: bool,
}

/// A connection to one Local API.
#[derive(Debug)]
pub struct Client {
    url: LapiUrl,
    host: HeaderValue,
    key: HeaderValue,
    /// The parameters that filter, each with `&` before it.
    filters: String,
    tls: Option<Arc<ClientConfig>>,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    /// A client of the Local API of `source`; it connects with the first pull.
    ///
    /// # Errors
    /// Where its settings make no connection, such as a file of authorities that is gone.
    pub fn new(source: &LapiSource) -> anyhow::Result<Self> {
        let url = source.url.clone();
        let tls = if url.tls {
            let settings = UpstreamTls { ca: url.ca.clone(), ..UpstreamTls::default() };
            Some(tls::config(&settings, HttpVersion::Http1)?)
        } else {
            None
        };
        let mut key = HeaderValue::from_str(source.key.reveal())?;
        key.set_sensitive(true);
        let host = HeaderValue::from_str(&authority(&url))?;
        Ok(Self { host, key, filters: filters(source), tls, url, connection: None })
    }

    /// Asks for what changed since the last pull, or for everything with `startup`.
    ///
    /// # Errors
    /// Says why there is no answer.
    pub async fn pull(&mut self, startup: bool) -> Result<Pulled, PullError> {
        let pulled = timeout(PATIENCE, self.ask(startup)).await;
        let pulled =
            pulled.unwrap_or_else(|_| Err(PullError::NoAnswer(format!("nothing within {PATIENCE:?}"))));
        if pulled.is_err() {
            self.connection = None;
        }
        pulled
    }

    async fn ask(&mut self, startup: bool) -> Result<Pulled, PullError> {
        let request = self.request(startup)?;
        let answer = self.connected().await?.send_request(request).await.map_err(no_answer)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(PullError::Refused),
            status => return Err(PullError::Status(status.as_u16())),
        }
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| PullError::Unreadable(error.to_string()))?.to_bytes();
        Ok(Pulled { json: unpacked(&head.headers, &body)?, by_checkgate: is_checkgate(&head.headers) })
    }

    fn request(&self, startup: bool) -> Result<Request<Empty<Bytes>>, PullError> {
        let path = format!("{}{STREAM}?startup={startup}{}", self.url.base, self.filters);
        let request = Request::get(path)
            .header(HOST, self.host.clone())
            .header(USER_AGENT, SOFTWARE)
            .header(ACCEPT_ENCODING, "gzip")
            .header(API_KEY, self.key.clone());
        request.body(Empty::new()).map_err(no_answer)
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Empty<Bytes>>, PullError> {
        let usable = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.connection = Some(self.connect().await?);
        }
        self.connection.as_mut().ok_or_else(|| PullError::NoAnswer("no connection".to_owned()))
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, PullError> {
        let socket = TcpStream::connect((self.url.host.as_str(), self.url.port)).await.map_err(no_answer)?;
        socket.set_nodelay(true).map_err(no_answer)?;
        let Some(config) = &self.tls else { return speak(socket).await };
        let name = ServerName::try_from(self.url.host.clone()).map_err(no_answer)?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await.map_err(no_answer)?;
        speak(stream).await
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Empty<Bytes>>, PullError> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
    // It ends with the sender.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn no_answer(error: impl std::error::Error) -> PullError {
    PullError::NoAnswer(error.to_string())
}

/// Host and port as a `Host` field has them.
pub fn authority(url: &LapiUrl) -> String {
    let LapiUrl { host, port, .. } = url;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What the operator leaves out is not sent either; scopes that mean nothing here are never asked for.
fn filters(source: &LapiSource) -> String {
    let mut filters = "&scopes=ip,range".to_owned();
    for (name, words) in [
        ("origins", &source.origins),
        ("scenarios_containing", &source.scenarios_containing),
        ("scenarios_not_containing", &source.scenarios_not_containing),
    ] {
        if !words.is_empty() {
            filters.push_str(&format!("&{name}={}", escaped(&words.join(","))));
        }
    }
    filters
}

/// A value within a query (RFC 3986, 3.4): what has a meaning there is written as its bytes.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~,/:".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn is_checkgate(headers: &HeaderMap) -> bool {
    headers.get(SERVER).is_some_and(|server| server.as_bytes().starts_with(SOFTWARE_NAME.as_bytes()))
}

fn unpacked(headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, PullError> {
    let packed = headers.get(CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() == b"gzip");
    if !packed {
        return Ok(body.to_vec());
    }
    let mut json = Vec::new();
    let most = ANSWER_BYTES_MAX as u64 + 1;
    let read = GzDecoder::new(body).take(most).read_to_end(&mut json);
    let size = read.map_err(|error| PullError::Unreadable(error.to_string()))?;
    if size > ANSWER_BYTES_MAX {
        return Err(PullError::Unreadable("it is longer than 64 MiB".to_owned()));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use checkgate_config::settings::Secret;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn source(port: u16) -> LapiSource {
        LapiSource {
            name: "lan".into(),
            url: LapiUrl { host: "127.0.0.1".into(), port, base: "/lapi".into(), tls: false, ca: None },
            key: Secret::new("the key of this instance".into()),
            every: None,
            origins: vec!["crowdsec".into(), "lists:a&b".into()],
            scenarios_containing: Vec::new(),
            scenarios_not_containing: vec!["ssh".into()],
            decisions_max: 10,
            blocks_per_minute: None,
        }
    }

    /// What a pull gives from a server that answers so, and the head that it was sent.
    async fn pulled(answer: Vec<u8>) -> (Result<Pulled, PullError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            socket.write_all(&answer).await.unwrap();
            socket.shutdown().await.ok();
            String::from_utf8(head).unwrap()
        });
        let pulled = Client::new(&source(port)).unwrap().pull(true).await;
        (pulled, server.await.unwrap())
    }

    fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    #[tokio::test]
    async fn a_pull_asks_as_a_bouncer_does_and_reads_packed_answers() {
        let body = br#"{"new":null,"deleted":null}"#;
        let headers = "server: checkgate/9.9.9\r\ncontent-encoding: gzip\r\n";
        let (given, head) = pulled(answer("200 OK", headers, &gzip(body))).await;
        let given = given.unwrap();
        assert_eq!((given.json.as_slice(), given.by_checkgate), (&body[..], true));
        let path = "/lapi/v1/decisions/stream?startup=true&scopes=ip,range&origins=crowdsec,lists:a%26b\
                    &scenarios_not_containing=ssh";
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("x-api-key: the key of this instance\r\n"), "{head}");
        let (given, _) = pulled(answer("200 OK", "server: something\r\n", body)).await;
        assert!(!given.unwrap().by_checkgate);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told() {
        let bomb = gzip(&vec![b' '; ANSWER_BYTES_MAX + 1]);
        for (answer, expected) in [
            (answer("403 Forbidden", "", b"{}"), "the key is refused"),
            (answer("302 Found", "location: /elsewhere\r\n", b""), "status is 302"),
            (answer("200 OK", "content-encoding: gzip\r\n", b"{}"), "cannot be read"),
            (answer("200 OK", "content-encoding: gzip\r\n", &bomb), "longer than 64 MiB"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec(), "cannot be read"),
            (b"nonsense\r\n\r\n".to_vec(), "no answer"),
        ] {
            let said = pulled(answer).await.0.unwrap_err().to_string();
            assert!(said.contains(expected), "{expected:?} is not said by {said:?}");
        }
    }
}
