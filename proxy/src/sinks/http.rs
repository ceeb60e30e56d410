//! The one HTTP client of all sinks: HTTP/1.1, plain or over TLS, on a connection that is kept.
//!
//! Redirects are not followed: the operator named the place, and a redirect would take secrets to another one. An
//! answer's body is read up to a bound, and shown in errors without anything that could move a terminal.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use checkgate_config::settings::{HttpVersion, UpstreamTls};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::SinkError;
use super::address::{Allowed, Connection};
use super::steps::step;
use crate::told;
use crate::upstream::tls;

/// Bytes of an answer's body that are read.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A connection that was idle for longer is not used again: the other side may be about to close it.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Letters of an answer that errors show.
const SHOWN_MAX: usize = 200;

/// Asks one server again and again.
pub struct Client {
    url: Url,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    allowed: Allowed,
    kept: Mutex<Option<Link>>,
}

/// Where a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
}

impl Url {
    /// Reads `http://` and `https://` URLs.
    ///
    /// # Errors
    /// What is wrong with it, and the mend. The URL itself is not repeated, for it may hold a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = |what: &str| format!("{what}; write for example https://siem.example/events");
        if text.is_empty() {
            return Err(wanted("the URL is missing"));
        }
        let uri: Uri = text.parse().map_err(|_| wanted("this is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wanted("a URL begins with https:// or http://")),
        };
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(wanted("names and passwords do not stand in the URL"));
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if host.is_empty() || port == 0 {
            return Err(wanted("the URL names no host and port"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls, host, port, path })
    }

    /// Checks a URL among parameters: one that is written `${NAME}`, because it holds a secret, is read while the sink is
    /// built ([`Ground::url`](super::Ground::url)).
    ///
    /// # Errors
    /// What is wrong with it, and the mend.
    pub fn check(key: &str, text: &str) -> Result<(), PartError> {
        match SecretSource::variable(text) {
            Some(_) => Ok(()),
            None => Self::parse(text).map(drop).map_err(|message| PartError::new(&[key], message)),
        }
    }

    /// Scheme, host and port, without path and query: those may hold a secret.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The beginning of its body, up to 64 KiB.
    pub body: Bytes,
}

impl Answer {
    /// What most servers mean by their status: 2xx is taken; 408, 425, 429 and 5xx are for later, with `Retry-After` as
    /// the pause; 400, 409, 411, 413, 415, 422 and 431 are about what was sent; everything else somebody has to mend.
    ///
    /// # Errors
    /// What the status means.
    pub fn judged(&self) -> Result<(), SinkError> {
        let why = self.told();
        match self.status.as_u16() {
            200..=299 => Ok(()),
            408 | 425 | 429 | 500..=599 => Err(SinkError::Later { why, wait: self.retry_after() }),
            400 | 409 | 411 | 413 | 415 | 422 | 431 => Err(SinkError::Never { why }),
            300..=399 => Err(SinkError::Refused {
                why: format!("{why}; redirects are not followed: name the place that it points to"),
            }),
            _ => Err(SinkError::Refused { why }),
        }
    }

    /// Status and the beginning of the body, for people.
    #[must_use]
    pub fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String =
            text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_MAX).collect();
        let text = told::replaced(&text);
        let status = self.status.as_u16();
        if text.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {text}") }
    }

    /// How long it asks to be left alone: seconds, or a date (RFC 9110, 10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => {
                let at = httpdate::parse_http_date(text).ok()?;
                Some(at.duration_since(SystemTime::now()).unwrap_or_default())
            }
        }
    }
}

/// An open connection; dropping it closes it.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
    used: Instant,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// A client of the server at `url`; nothing is connected yet. `keys` are the parameters' own names, for errors.
    ///
    /// # Errors
    /// The URL is none, or the authorities cannot be read.
    pub fn new(url: &str, connection: &Connection, keys: (&str, &str)) -> Result<Self, PartError> {
        let url = Url::parse(url).map_err(|message| PartError::new(&[keys.0], message))?;
        let tls = if url.tls { Some(connector(&url.host, connection, keys)?) } else { None };
        let allowed = connection.allowed(keys.1)?;
        Ok(Self { url, tls, allowed, kept: Mutex::default() })
    }

    /// Where it asks.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Posts `body` to the URL, and gives the answer whatever its status is.
    ///
    /// # Errors
    /// No answer came.
    pub async fn post(
        &self,
        headers: &[(HeaderName, HeaderValue)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, SinkError> {
        self.ask(Method::POST, None, headers, body).await
    }

    /// Asks for `path` on the same server, or for the URL's own, and gives the answer whatever its status is.
    ///
    /// # Errors
    /// No answer came.
    pub async fn ask(
        &self,
        method: Method,
        path: Option<&str>,
        headers: &[(HeaderName, HeaderValue)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, SinkError> {
        let body = body.into();
        let request = self.request(method, path.unwrap_or(&self.url.path), headers, body)?;
        let kept = self.kept.lock().take().filter(|link| link.used.elapsed() < IDLE_MAX);
        if let Some(mut link) = kept
            && link.sender.ready().await.is_ok()
        {
            // A connection that the other side was about to close says nothing about the other side: a second try
            // on a new one tells.
            match link.sender.send_request(request.clone()).await {
                Ok(answer) => return self.answer(link, answer).await,
                Err(_) => step(|| "the kept connection was closed".to_owned()),
            }
        }
        let mut link = self.link().await?;
        let answer = link.sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        self.answer(link, answer).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, SinkError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.url.authority())
            .header(header::USER_AGENT, concat!("checkgate/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
            .body(Full::new(body))
            .map_err(|error| SinkError::refused(format!("the request cannot be written: {error}")))
    }

    async fn link(&self) -> Result<Link, SinkError> {
        let stream = self.allowed.connect(&self.url.host, self.url.port).await?;
        match &self.tls {
            None => open(stream).await,
            Some((connector, name)) => open(secured(connector, name, stream).await?).await,
        }
    }

    async fn answer(&self, mut link: Link, answer: http::Response<Incoming>) -> Result<Answer, SinkError> {
        let (head, mut incoming) = answer.into_parts();
        let mut body = Vec::new();
        let mut whole = true;
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| no_answer(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            let room = BODY_BYTES_MAX - body.len();
            body.extend_from_slice(data.get(..data.len().min(room)).unwrap_or_default());
            if data.len() > room {
                whole = false;
                break;
            }
        }
        if whole {
            link.used = Instant::now();
            *self.kept.lock() = Some(link);
        }
        let answer = Answer { status: head.status, headers: head.headers, body: body.into() };
        step(|| answer.told());
        Ok(answer)
    }
}

/// TLS towards `host`.
///
/// # Errors
/// The authorities cannot be read, or the host is no name for TLS.
pub fn connector(
    host: &str,
    connection: &Connection,
    keys: (&str, &str),
) -> Result<(TlsConnector, ServerName<'static>), PartError> {
    let (ca, certificate) = (connection.ca_file.clone(), connection.certificate());
    let settings = UpstreamTls { ca, certificate, ..UpstreamTls::default() };
    let config = tls::config(&settings, HttpVersion::Http1)
        .map_err(|error| PartError::new(&[keys.1], format!("{error:#}")))?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| PartError::new(&[keys.0], "the host is no name for TLS"))?;
    Ok((TlsConnector::from(config), name))
}

/// A TLS handshake on `stream`.
///
/// # Errors
/// A certificate that does not hold has to be mended; anything else may pass.
pub async fn secured<S: AsyncRead + AsyncWrite + Unpin>(
    connector: &TlsConnector,
    name: &ServerName<'static>,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, SinkError> {
    let secured = connector.connect(name.clone(), stream).await.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => SinkError::refused(format!(
                "its certificate does not hold: {error}; name its authority with connection.ca_file, or mend it"
            )),
            _ => SinkError::later(format!("no TLS: {error}")),
        }
    })?;
    step(|| {
        let version = secured.get_ref().1.protocol_version();
        format!("TLS handshake done{}", version.map_or(String::new(), |version| format!(", {version:?}")))
    });
    Ok(secured)
}

async fn open(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Link, SinkError> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| no_answer(&error))?;
    let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    Ok(Link { sender, task, used: Instant::now() })
}

fn no_answer(error: &hyper::Error) -> SinkError {
    let mut why = format!("no answer: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        why = format!("{why}: {inner}");
        source = inner.source();
    }
    step(|| why.clone());
    SinkError::later(why)
}

/// A header's value from parts of the configuration or of an event.
///
/// # Errors
/// It holds what no header may.
pub fn header_value(text: &str) -> Result<HeaderValue, SinkError> {
    HeaderValue::from_str(text).map_err(|_| SinkError::never("it holds characters that no header may"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const KEYS: (&str, &str) = ("url", "connection");

    /// Answers every request on every connection with `answer`, and counts connections; closes after each answer where
    /// `closes` says so.
    async fn server(answer: String, closes: bool) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events?a=b", listener.local_addr().unwrap());
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answers(stream, answer.clone(), closes));
            }
        });
        (url, connections)
    }

    async fn answers(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: String, closes: bool) {
        let mut read = Vec::new();
        while stream.read_buf(&mut read).await.is_ok_and(|read| read > 0) {
            if read.ends_with(b"body") {
                read.clear();
                if stream.write_all(answer.as_bytes()).await.is_err() || closes {
                    return;
                }
            }
        }
    }

    fn with(status: &str, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    }

    async fn judged(answer: String) -> Result<(), SinkError> {
        let (url, _) = server(answer, false).await;
        let client =
            Client::new(&url, &Connection::default(), KEYS).unwrap_or_else(|error| panic!("{error:?}"));
        client.post(&[], "body").await?.judged()
    }

    #[tokio::test]
    async fn every_status_means_one_thing() {
        let later = |error: &SinkError| matches!(error, SinkError::Later { wait: None, .. });
        let never = |error: &SinkError| matches!(error, SinkError::Never { .. });
        let refused = |error: &SinkError| matches!(error, SinkError::Refused { .. });
        for status in ["200 OK", "202 Accepted", "204 No Content"] {
            judged(with(status, "", "")).await.unwrap();
        }
        for status in ["408 a", "425 a", "429 a", "500 a", "502 a", "503 a", "599 a"] {
            let error = judged(with(status, "", "")).await.unwrap_err();
            assert!(later(&error), "{status}: {error:?}");
        }
        for status in ["400 a", "409 a", "413 a", "422 a"] {
            let error = judged(with(status, "", "no")).await.unwrap_err();
            assert!(never(&error) && error.to_string().ends_with("no"), "{status}: {error:?}");
        }
        for status in
            ["301 a", "302 a", "307 a", "401 a", "403 a", "404 a", "405 a", "407 a", "410 a", "418 a"]
        {
            let error = judged(with(status, "location: http://127.0.0.1:1/\r\n", "")).await.unwrap_err();
            assert!(refused(&error), "{status}: {error:?}");
        }
        for garbage in ["", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: a\r\n\r\n"] {
            let (url, _) = server(garbage.to_owned(), true).await;
            let client =
                Client::new(&url, &Connection::default(), KEYS).unwrap_or_else(|error| panic!("{error:?}"));
            let error = client.post(&[], "body").await.unwrap_err();
            assert!(later(&error), "{garbage:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn retry_after_is_read_in_both_forms() {
        for (header, expected) in [("120", 120), ("0", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)] {
            let error = judged(with("503 a", &format!("retry-after: {header}\r\n"), "")).await.unwrap_err();
            let SinkError::Later { wait, .. } = error else { panic!("{error:?}") };
            assert_eq!(wait, Some(Duration::from_secs(expected)), "{header}");
        }
        let error = judged(with("503 a", "retry-after: soon\r\n", "")).await.unwrap_err();
        assert!(matches!(error, SinkError::Later { wait: None, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_is_shown_in_part_and_steers_nothing() {
        let body = format!("\u{1b}[2J\r\n\u{202e}{}", "long ".repeat(100_000));
        let error = judged(with("500 a", "", &body)).await.unwrap_err().to_string();
        assert!(error.len() < 400 && !error.contains(told::clean::steers), "{error:?}");
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_one_that_was_closed_costs_no_event() {
        for (closes, expected) in [(false, 1), (true, 5)] {
            let (url, connections) = server(with("200 OK", "", "fine"), closes).await;
            let client =
                Client::new(&url, &Connection::default(), KEYS).unwrap_or_else(|error| panic!("{error:?}"));
            for _ in 0..5 {
                let answer = client.post(&[], "body").await.unwrap();
                assert_eq!((answer.status, &*answer.body), (StatusCode::OK, b"fine".as_slice()));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(connections.load(Ordering::SeqCst), expected, "the server closes: {closes}");
        }
    }

    #[tokio::test]
    async fn a_send_that_is_cut_off_leaves_nothing_for_the_next_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client =
            Client::new(&url, &Connection::default(), KEYS).unwrap_or_else(|error| panic!("{error:?}"));
        tokio::spawn(async move {
            let hangs = listener.accept().await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            answers(stream, with("200 OK", "", ""), false).await;
            drop(hangs);
        });
        let hangs = tokio::time::timeout(Duration::from_millis(50), client.post(&[], "body")).await;
        assert!(hangs.is_err(), "nobody answered");
        let next = tokio::time::timeout(Duration::from_secs(5), client.post(&[], "body")).await;
        assert!(next.is_ok_and(|answer| answer.is_ok()), "the next send met what the last one left");
    }

    #[tokio::test]
    async fn over_tls_whoever_the_authorities_vouch_for_is_believed() {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, cert.pem()).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream: TcpStream = stream;
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(answers(stream, with("200 OK", "", ""), false));
                }
            }
        });
        let believes = Connection { ca_file: Some(ca), ..Connection::default() };
        for (host, connection, expected) in [
            ("localhost", &believes, true),
            ("127.0.0.1", &believes, false),
            ("localhost", &Connection::default(), false),
        ] {
            let url = format!("https://{host}:{port}/");
            let client = Client::new(&url, connection, KEYS).unwrap_or_else(|error| panic!("{error:?}"));
            match client.post(&[], "body").await {
                Ok(_) => assert!(expected, "{host} was believed"),
                Err(error) => {
                    assert!(!expected, "{host}: {error}");
                    assert!(matches!(error, SinkError::Refused { .. }), "{error:?}: somebody has to mend it");
                }
            }
        }
    }

    #[test]
    fn urls_are_read_whole_and_never_repeated() {
        for (typed, expected) in [
            ("https://siem.example/a?b=c", Some(("siem.example", 443, "/a?b=c", true))),
            ("http://[::1]:81", Some(("::1", 81, "/", false))),
            ("https://siem.example?a", Some(("siem.example", 443, "/?a", true))),
            ("https://user:hunter2@siem.example/", None),
            ("ftp://siem.example/", None),
            ("siem.example", None),
            ("https://", None),
            ("https://siem.example:0/", None),
            ("", None),
        ] {
            let read = Url::parse(typed);
            if let Err(said) = &read {
                assert!(!said.contains("hunter2"), "{said}");
            }
            let read = read.as_ref().map(|url| (url.host.as_str(), url.port, url.path.as_str(), url.tls));
            assert_eq!(read.ok(), expected, "{typed}");
        }
        assert_eq!(Url::parse("https://siem.example/secret?key=1").unwrap().origin(), "https://siem.example");
    }
}
