//! What is spoken to a server: HTTP/1.1 or HTTP/2, plain or over TLS, over TCP or a unix socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use checkgate_load_tests::Body;
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::client::Reply;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const PATH: &str = "/v2/models/pricing/infer";
/// Streams that an HTTP/2 server of these tests allows at once.
const STREAMS_MAX: u32 = 5;

/// A request as the server got it.
#[derive(Clone, Debug)]
struct Got {
    version: Version,
    authority: String,
    scheme: String,
    host: String,
    trailers: Option<HeaderMap>,
    body: Bytes,
}

/// What a server got, and a gate that its answers wait at.
struct Seen {
    got: Mutex<Vec<Got>>,
    connections: AtomicUsize,
    gate: Semaphore,
}

impl Seen {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            got: Mutex::default(),
            connections: AtomicUsize::new(0),
            gate: Semaphore::new(permits),
        })
    }

    fn last(&self) -> Got {
        self.got.lock().unwrap().last().cloned().unwrap()
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

async fn respond(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    let uri = &head.uri;
    seen.got.lock().unwrap().push(Got {
        version: head.version,
        authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
        scheme: uri.scheme_str().unwrap_or_default().to_owned(),
        host: head.headers.get("host").map_or("", |host| host.to_str().unwrap()).to_owned(),
        trailers,
        body: collected.to_bytes(),
    });
    drop(seen.gate.acquire().await.unwrap());
    let status: HeaderMap = [("grpc-status".parse().unwrap(), "5".parse().unwrap())].into_iter().collect();
    Ok(Response::builder()
        .header("trailer", "grpc-status")
        .body(of_unknown_length("answered", status))
        .unwrap())
}

/// A body whose length is not announced, so that its trailers travel by HTTP/1.1 as well.
fn of_unknown_length(text: &'static str, trailers: HeaderMap) -> Body {
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
    tokio::spawn(async move {
        drop(sender.send_data(text.into()).await);
        drop(sender.send_trailers(trailers).await);
    });
    body.boxed_unsync()
}

/// Speaks HTTP/2 where the client begins with it, and HTTP/1.1 otherwise.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool, seen: Arc<Seen>) {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(move |request| respond(request, Arc::clone(&seen)));
    let stream = TokioIo::new(stream);
    // A client that leaves is no failure of the test.
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        drop(builder.max_concurrent_streams(STREAMS_MAX).serve_connection(stream, service).await);
    } else {
        drop(http1::Builder::new().serve_connection(stream, service).await);
    }
}

async fn begins_with_http2(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    stream.peek(&mut first).await.is_ok_and(|length| &first[..length] == b"PRI")
}

/// A server on TCP that ends with the test.
async fn plain_server(seen: &Arc<Seen>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::clone(seen));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let http2 = begins_with_http2(&stream).await;
                speak(stream, http2, seen).await;
            });
        }
    });
    address
}

fn unix_server(path: &Path, seen: &Arc<Seen>) {
    let (listener, seen) = (UnixListener::bind(path).unwrap(), Arc::clone(seen));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(stream, false, Arc::clone(&seen)));
        }
    });
}

async fn tls_server(config: ServerConfig, seen: &Arc<Seen>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::clone(seen));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                speak(stream, http2, seen).await;
            });
        }
    });
    address
}

async fn proxy(upstream: Value) -> Checkgate {
    Start::configured(json!({ "upstream": upstream })).run().await.unwrap()
}

/// A question of this media type with a trailer behind its body.
fn question(media_type: &str) -> Request<Body> {
    let sum = [("x-sum".parse().unwrap(), "7".parse().unwrap())].into_iter().collect();
    Request::post(PATH)
        .header("content-type", media_type)
        .header("host", "models.example")
        .header("te", "trailers")
        .header("trailer", "x-sum")
        .body(of_unknown_length("asked", sum))
        .unwrap()
}

async fn ask(checkgate: &Checkgate, media_type: &str) -> Reply {
    checkgate.client("127.0.0.1").send(question(media_type)).await.unwrap()
}

#[tokio::test]
async fn grpc_is_sent_by_http2_and_the_rest_by_http1() {
    let seen = Seen::new(9);
    let address = plain_server(&seen).await;
    let checkgate = proxy(json!({ "servers": [format!("http://{address}")] })).await;
    assert_eq!(ask(&checkgate, "application/json").await.text(), "answered");
    let got = seen.last();
    assert_eq!((got.version, got.host.as_str()), (Version::HTTP_11, "models.example"));
    let reply = ask(&checkgate, "application/grpc+proto").await;
    let got = seen.last();
    assert_eq!(got.version, Version::HTTP_2);
    assert_eq!((got.scheme.as_str(), got.authority.as_str()), ("http", "models.example"));
    assert_eq!(got.host, "", "HTTP/2 names the host once");
    assert_eq!(got.trailers.unwrap()["x-sum"], "7", "the trailers of the question reach the server");
    assert_eq!(reply.trailers.unwrap()["grpc-status"], "5", "and those of the answer the client");
}

#[tokio::test]
async fn http2_by_prior_knowledge_carries_everything() {
    let seen = Seen::new(9);
    let address = plain_server(&seen).await;
    let checkgate = proxy(json!({ "servers": [format!("http://{address}")], "http": "http2" })).await;
    for _ in 0..5 {
        assert_eq!(ask(&checkgate, "application/json").await.text(), "answered");
    }
    let got = seen.last();
    assert_eq!((got.version, &got.body[..]), (Version::HTTP_2, &b"asked"[..]));
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1, "one connection carries them all");
}

#[tokio::test]
async fn large_bodies_pass_over_http2() {
    let seen = Seen::new(9);
    let address = plain_server(&seen).await;
    let checkgate = proxy(json!({ "servers": [format!("http://{address}")], "http": "http2" })).await;
    let body = Bytes::from(vec![b'x'; 8 << 20]);
    let reply = checkgate.client("127.0.0.1").post(PATH, body.clone()).await.unwrap();
    assert_eq!(reply.text(), "answered");
    assert_eq!(seen.last().body.len(), body.len());
}

#[tokio::test]
async fn more_requests_than_streams_open_a_few_more_connections() {
    let seen = Seen::new(0);
    let address = plain_server(&seen).await;
    let checkgate = proxy(json!({ "servers": [format!("http://{address}")], "http": "http2" })).await;
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let mut client = checkgate.client("127.0.0.1");
        asking.spawn(async move { client.post(PATH, "{}").await.unwrap().text() });
    }
    checkgate_load_tests::until("all requests are open at once", || seen.count() == 20).await.unwrap();
    seen.gate.add_permits(99);
    assert!(asking.join_all().await.iter().all(|text| text == "answered"));
    let connections = seen.connections.load(Ordering::SeqCst);
    assert!((4..=16).contains(&connections), "20 requests, 5 streams each: {connections} connections");
}

#[tokio::test]
async fn a_server_may_listen_on_a_unix_socket() {
    let (seen, folder) = (Seen::new(9), tempfile::tempdir().unwrap());
    let path = folder.path().join("model.sock");
    unix_server(&path, &seen);
    let checkgate = proxy(json!({ "servers": [format!("unix:{}", path.display())] })).await;
    assert_eq!(ask(&checkgate, "application/json").await.text(), "answered");
    assert_eq!(ask(&checkgate, "application/json").await.text(), "answered");
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1, "its connections are kept as well");
    let nobody =
        proxy(json!({ "servers": [format!("unix:{}", folder.path().join("nobody").display())] })).await;
    assert_eq!(ask(&nobody, "application/json").await.status, 502);
}

/// An authority, and what it issued.
struct Keys {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Keys {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, folder }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn issue(&self, name: &str) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        (certificate.der().clone(), key)
    }

    /// A server's configuration; with `mutual` it takes only clients of the same authority.
    fn server(&self, name: &str, alpn: &[&str], mutual: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue(name);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

async fn tls_proxy(address: SocketAddr, http: &str, tls: Value) -> Checkgate {
    proxy(json!({ "servers": [format!("https://localhost:{}", address.port())], "http": http, "tls": tls }))
        .await
}

#[tokio::test]
async fn tls_agrees_upon_the_version() {
    let keys = Keys::new();
    let ca = json!({ "ca": keys.path("ca.pem") });
    for (offered, http, version) in [
        (&["h2", "http/1.1"][..], "auto", Some(Version::HTTP_2)),
        (&["http/1.1"], "auto", Some(Version::HTTP_11)),
        (&[], "auto", Some(Version::HTTP_11)),
        (&["h2", "http/1.1"], "http1", Some(Version::HTTP_11)),
        (&["h2", "http/1.1"], "http2", Some(Version::HTTP_2)),
        (&[], "http2", None),
    ] {
        let seen = Seen::new(9);
        let address = tls_server(keys.server("localhost", offered, false), &seen).await;
        let checkgate = tls_proxy(address, http, ca.clone()).await;
        let replies = [ask(&checkgate, "application/json").await, ask(&checkgate, "application/json").await];
        let status = if version.is_some() { 200 } else { 502 };
        assert!(replies.iter().all(|reply| reply.status == status), "{offered:?} {http}: {replies:?}");
        let Some(version) = version else { continue };
        let got = seen.last();
        assert_eq!(got.version, version, "{offered:?} {http}");
        assert!(version != Version::HTTP_2 || got.scheme == "https", "{offered:?} {http}");
        assert_eq!(seen.connections.load(Ordering::SeqCst), 1, "{offered:?} {http}: the connection is kept");
    }
}

#[tokio::test]
async fn only_a_certificate_that_verifies_is_believed() {
    let (keys, strangers) = (Keys::new(), Keys::new());
    let (ours, theirs) = (keys.path("ca.pem"), strangers.path("ca.pem"));
    for (name, certificate, tls, status) in [
        ("the right name", "localhost", json!({ "ca": ours }), 200),
        ("another name", "other.test", json!({ "ca": ours }), 502),
        ("another name, expected", "other.test", json!({ "ca": ours, "server_name": "other.test" }), 200),
        ("another authority", "localhost", json!({ "ca": theirs }), 502),
        ("another authority, accepted", "localhost", json!({ "ca": theirs, "insecure": true }), 200),
    ] {
        let seen = Seen::new(9);
        let address = tls_server(keys.server(certificate, &["http/1.1"], false), &seen).await;
        let checkgate = tls_proxy(address, "auto", tls).await;
        let reply = ask(&checkgate, "application/json").await;
        assert_eq!(reply.status, status, "{name}");
        if status == 502 {
            assert!(
                checkgate.log().contains("no TLS: invalid peer certificate"),
                "{name}: {}",
                checkgate.log()
            );
            assert!(!reply.text().contains("certificate"), "{name}: the client hears no cause");
            assert_eq!(seen.count(), 0, "{name}: nothing was sent");
        }
    }
}

#[tokio::test]
async fn a_server_may_ask_for_a_certificate() {
    let (keys, seen) = (Keys::new(), Seen::new(9));
    let address = tls_server(keys.server("localhost", &["http/1.1"], true), &seen).await;
    keys.issue("checkgate");
    let ca = keys.path("ca.pem");
    let own =
        json!({ "ca": ca, "certificate": keys.path("checkgate.pem"), "key": keys.path("checkgate.key") });
    let known = tls_proxy(address, "auto", own).await;
    assert_eq!(ask(&known, "application/json").await.text(), "answered");
    let unknown = tls_proxy(address, "auto", json!({ "ca": ca })).await;
    assert_eq!(ask(&unknown, "application/json").await.status, 502);
    assert_eq!(seen.count(), 1, "nothing of the second question was answered");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_gives_502() {
    let (keys, seen) = (Keys::new(), Seen::new(9));
    let address = plain_server(&seen).await;
    let checkgate = tls_proxy(address, "auto", json!({ "ca": keys.path("ca.pem") })).await;
    assert_eq!(ask(&checkgate, "application/json").await.status, 502);
}

#[tokio::test]
async fn health_is_asked_by_what_the_server_speaks() {
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("model.sock");
    let seen = [Seen::new(99), Seen::new(99), Seen::new(99), Seen::new(99)];
    let plain = format!("http://{}", plain_server(&seen[0]).await);
    let http2 = format!("http://{}", plain_server(&seen[1]).await);
    unix_server(&path, &seen[2]);
    let tls = tls_server(keys.server("localhost", &["h2"], false), &seen[3]).await;
    let health = json!({ "path": "/ready", "every": "50ms", "unhealthy_after": 1 });
    let ca = json!({ "ca": keys.path("ca.pem") });
    for (seen, version, upstream) in [
        (&seen[0], Version::HTTP_11, json!({ "servers": [plain] })),
        (&seen[1], Version::HTTP_2, json!({ "servers": [http2], "http": "http2" })),
        (&seen[2], Version::HTTP_11, json!({ "servers": [format!("unix:{}", path.display())] })),
        (
            &seen[3],
            Version::HTTP_2,
            json!({ "servers": [format!("https://localhost:{}", tls.port())], "tls": ca }),
        ),
    ] {
        let mut upstream = upstream;
        upstream["health"] = health.clone();
        let checkgate = proxy(upstream.clone()).await;
        checkgate_load_tests::until("three checks", || seen.count() >= 3).await.unwrap();
        assert_eq!(seen.last().version, version, "{upstream}");
        assert!(!checkgate.log().contains("unhealthy"), "{upstream}: {}", checkgate.log());
    }
}

#[tokio::test]
async fn tls_that_ends_without_a_goodbye_is_a_cut_answer() {
    let keys = Keys::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(keys.server("localhost", &["http/1.1"], false)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut asked = [0; 4096];
            drop(stream.read(&mut asked).await);
            // Without a length, the end of the connection is the end of the body: anybody on the way could forge it.
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await);
            drop(stream.flush().await);
        }
    });
    let upstream = json!({
        "servers": [format!("https://localhost:{port}")],
        "tls": { "ca": keys.path("ca.pem") },
        "retries": 0,
    });
    let checkgate = proxy(upstream).await;
    let reply = checkgate.client("127.0.0.1").get(PATH).await;
    assert!(reply.is_err(), "half an answer must not look whole: {reply:?}");
}
