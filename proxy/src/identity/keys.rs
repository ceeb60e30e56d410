//! The issuer's keys: from a file that a reload reads, or from a URL that is read in the background.
//!
//! ```text
//! none --first reading--> in force --every 5 minutes, or asked for at most once a minute--> reading
//! reading --read--> in force (the new)
//! reading --failed--> in force (the old; the gauge is 0, the log says why), again after 5 s, 10 s ... 5 minutes
//! ```
//! Requests take what is in force and never wait.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use bytes::Bytes;
use checkgate_config::key_set::KeySet;
use checkgate_config::settings::{HttpVersion, KeySource, KeyUrl, UpstreamTls};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::metrics::Metrics;
use crate::upstream::tls;

/// A URL that gave keys is read again after this time.
const EVERY: Duration = Duration::from_secs(300);
/// Requests bring a reading forward at most so often.
const ASKED_EVERY: Duration = Duration::from_secs(60);
/// After a reading that failed it is tried again after this time, twice that, and so on, up to [`EVERY`].
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A reading that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer; sets of keys are small.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How often it is looked whether a reading is due.
const TICK: Duration = Duration::from_millis(500);

/// One reading of the keys.
#[derive(Debug, Default)]
pub struct Reading {
    /// Counts readings that changed something; what was verified with another one counts no longer.
    pub number: u64,
    /// The keys.
    pub set: KeySet,
}

/// The keys in force.
#[derive(Debug)]
pub struct Keys {
    source: KeySource,
    reading: ArcSwap<Reading>,
    asked: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Keys {
    /// The keys of `source`. Those at a URL are read from now on by a thread that ends with the last user of the keys.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn of(source: &KeySource, metrics: Arc<Metrics>) -> io::Result<Arc<Self>> {
        let keys = Arc::new(Self {
            source: source.clone(),
            reading: ArcSwap::default(),
            asked: AtomicBool::new(false),
            metrics,
        });
        keys.metrics.token_keys.set(0);
        match source {
            KeySource::File(set) => keys.adopt(set.clone()),
            KeySource::Url(url) => {
                keys.metrics.token_keys_read_success.set(0);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let (url, weak) = (url.clone(), Arc::downgrade(&keys));
                let run = move || runtime.block_on(keep(url, weak));
                thread::Builder::new().name("token keys".into()).spawn(run)?;
            }
        }
        Ok(keys)
    }

    /// Where they come from.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// Those in force.
    pub fn reading(&self) -> arc_swap::Guard<Arc<Reading>> {
        self.reading.load()
    }

    /// A token names a key that is not among them: the issuer may have a new one.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    fn adopt(&self, set: KeySet) {
        self.metrics.token_keys_read_success.set(1);
        self.metrics.token_keys.set(i64::try_from(set.len()).unwrap_or(i64::MAX));
        let before = self.reading.load();
        if before.set != set {
            self.reading.store(Arc::new(Reading { number: before.number + 1, set }));
        }
    }

    /// Takes what a reading gave; says whether it succeeded.
    pub(super) fn take(&self, read: anyhow::Result<KeySet>) -> bool {
        let succeeded = read.is_ok();
        match read {
            Ok(set) => self.adopt(set),
            Err(error) => {
                self.metrics.token_keys_read_success.set(0);
                tracing::warn!("the keys of tokens cannot be read, those before stay in force: {error:#}");
            }
        }
        succeeded
    }
}

/// Reads the keys at `url` again and again, as long as somebody uses them.
async fn keep(url: KeyUrl, keys: Weak<Keys>) {
    let mut schedule = Schedule::new(Instant::now());
    while let Some(keys) = keys.upgrade() {
        if schedule.is_due(keys.asked.load(Ordering::Relaxed), Instant::now()) {
            keys.asked.store(false, Ordering::Relaxed);
            let begun = Instant::now();
            let read = timeout(PATIENCE, fetch(&url)).await;
            let read = read.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")));
            schedule.read(begun, keys.take(read));
        }
        drop(keys);
        sleep(TICK).await;
    }
}

/// When keys are read.
#[derive(Debug)]
struct Schedule {
    next: Instant,
    asked_from: Instant,
    failures: u32,
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { next: now, asked_from: now, failures: 0 }
    }

    fn is_due(&self, asked: bool, now: Instant) -> bool {
        now >= self.next || (asked && now >= self.asked_from)
    }

    /// Keys were read at `now`, or could not be.
    fn read(&mut self, now: Instant, succeeded: bool) {
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        let again = AGAIN_AFTER * 2_u32.saturating_pow(self.failures.saturating_sub(1).min(16));
        self.next = now + if succeeded { EVERY } else { again.min(EVERY) };
        self.asked_from = now + ASKED_EVERY;
    }
}

async fn fetch(url: &KeyUrl) -> anyhow::Result<KeySet> {
    let socket = TcpStream::connect((url.host.as_str(), url.port)).await.context("no connection")?;
    let text = if url.tls {
        let settings = UpstreamTls { ca: url.ca.clone(), ..UpstreamTls::default() };
        let connector = TlsConnector::from(tls::config(&settings, HttpVersion::Http1)?);
        let name = ServerName::try_from(url.host.clone()).context("the host is no name for TLS")?;
        get(url, connector.connect(name, socket).await.context("no TLS")?).await?
    } else {
        get(url, socket).await?
    };
    KeySet::parse(&text).map_err(|what| anyhow::anyhow!("{what}"))
}

/// Redirects are not followed: the operator named the place.
async fn get(
    url: &KeyUrl,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> anyhow::Result<String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(connection.await) });
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let request = Request::get(&url.path)
        .header(header::HOST, format!("{host}:{}", url.port))
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status() == StatusCode::OK, "the answer's status is {}", answer.status().as_u16());
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?;
    String::from_utf8(body.to_bytes().to_vec()).context("the answer is not UTF-8")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn keys_are_read_at_once_and_then_every_five_minutes() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert!(schedule.is_due(false, start), "the first reading waits for nothing");
        schedule.read(start, true);
        assert!(!schedule.is_due(false, start + seconds(299)));
        assert!(schedule.is_due(false, start + seconds(300)));
    }

    #[test]
    fn an_unknown_key_brings_a_reading_forward_once_a_minute() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.read(start, true);
        assert!(!schedule.is_due(true, start + seconds(59)), "it was read a moment ago");
        assert!(schedule.is_due(true, start + seconds(60)));
        schedule.read(start + seconds(60), true);
        assert!(!schedule.is_due(true, start + seconds(119)), "once a minute");
        assert!(schedule.is_due(true, start + seconds(120)));
    }

    #[test]
    fn failures_back_off_and_a_success_ends_that() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        for expected in [5, 10, 20, 40, 80, 160, 300, 300] {
            schedule.read(now, false);
            assert!(!schedule.is_due(false, now + seconds(expected - 1)), "not before {expected} s");
            now += seconds(expected);
            assert!(schedule.is_due(false, now), "after {expected} s");
        }
        (0..100).for_each(|_| schedule.read(now, false));
        assert!(schedule.is_due(false, now + seconds(300)), "however many failed");
        schedule.read(now, true);
        schedule.read(now, false);
        assert!(schedule.is_due(false, now + seconds(5)), "the count begins anew");
    }

    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;

    /// Answers one request with `answer`, and gives its head.
    async fn answers(mut socket: impl AsyncRead + AsyncWrite + Unpin, answer: String) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket.shutdown().await.ok();
        String::from_utf8(head).unwrap()
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nlocation: /elsewhere\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    /// What is read from a server that answers so.
    async fn read(answer: String) -> anyhow::Result<KeySet> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = KeyUrl { host: "127.0.0.1".into(), port, path: "/keys?v=1".into(), tls: false, ca: None };
        let server = tokio::spawn(async move { answers(listener.accept().await.unwrap().0, answer).await });
        let read = fetch(&url).await;
        let head = server.await.unwrap();
        assert!(head.starts_with("GET /keys?v=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{head}");
        read
    }

    #[tokio::test]
    async fn a_url_gives_keys_and_anything_else_is_told() {
        assert_eq!(read(answer("200 OK", SET)).await.unwrap().len(), 1);
        for (status, body, expected) in [
            ("302 Found", SET, "status is 302"),
            ("500 Internal Server Error", SET, "status is 500"),
            ("200 OK", "<html>", "no JSON Web Key Set"),
            ("200 OK", r#"{"keys":[]}"#, "no public key"),
            ("200 OK", &" ".repeat(ANSWER_BYTES_MAX + 1), "length limit exceeded"),
        ] {
            let said = format!("{:#}", read(answer(status, body)).await.unwrap_err());
            assert!(said.contains(expected), "{status}: {said}");
        }
    }

    #[tokio::test]
    async fn keys_by_tls_come_from_whoever_the_authorities_vouch_for() {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, cert.pem()).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        for (host, believed) in [("localhost", true), ("127.0.0.1", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let url = KeyUrl { host: host.into(), port, path: "/".into(), tls: true, ca: Some(ca.clone()) };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(listener.accept().await.unwrap().0).await {
                    answers(stream, answer("200 OK", SET)).await;
                }
            });
            assert_eq!(
                fetch(&url).await.is_ok(),
                believed,
                "the certificate is for localhost, asked is {host}"
            );
        }
    }

    #[tokio::test]
    async fn the_keys_of_a_url_come_by_themselves_and_their_thread_ends_with_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = KeyUrl { host: "127.0.0.1".into(), port, path: "/".into(), tls: false, ca: None };
        let metrics = Metrics::new(&[], &[]).unwrap();
        let keys = Keys::of(&KeySource::Url(url), Arc::clone(&metrics)).unwrap();
        assert!(keys.reading().set.is_empty(), "a request that comes now is not kept waiting");
        assert_eq!(metrics.token_keys_read_success.get(), 0);
        answers(listener.accept().await.unwrap().0, answer("200 OK", SET)).await;
        while keys.reading().set.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!((metrics.token_keys_read_success.get(), metrics.token_keys.get()), (1, 1));
        let weak = Arc::downgrade(&keys);
        drop(keys);
        while weak.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }
}
