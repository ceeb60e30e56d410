//! TLS.

use std::fs;
use std::path::Path;

use checkgate_config::settings::{CertificateFiles, ClientCertificate, Tls};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::transport::tls::{TlsError, public_key_hash};

/// An authority and the files of a server.
struct Keys {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Keys {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { authority, folder: tempfile::tempdir().unwrap() }
    }

    fn issue(&self, names: &[&str]) -> (Certificate, KeyPair) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.authority).unwrap();
        (certificate, key)
    }

    fn write(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let (certificate, key) = self.issue(names);
        let path = |end: &str| self.folder.path().join(format!("{file}.{end}"));
        fs::write(path("crt"), certificate.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        CertificateFiles { certificate: path("crt"), key: path("key") }
    }

    fn settings(&self) -> Tls {
        let certificates = vec![
            self.write("first", &["models.test"]),
            self.write("second", &["*.other.test", "other.test"]),
        ];
        Tls { certificates, client_ca: None, client_certificate: ClientCertificate::Required }
    }

    fn mutual(&self, client_certificate: ClientCertificate) -> Tls {
        let path = self.folder.path().join("authority.crt");
        fs::write(&path, self.authority.pem()).unwrap();
        Tls { client_ca: Some(path), client_certificate, ..self.settings() }
    }

    fn client(
        &self,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
        own: Option<(Certificate, KeyPair)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

async fn connect(
    server: &Server,
    config: ClientConfig,
    name: &'static str,
) -> std::io::Result<TlsStream<DuplexStream>> {
    let connected = server.connect();
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, connected.client).await
}

fn served_with(stream: &TlsStream<DuplexStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// GET over HTTP/1.1 on a stream; an error where the server hung up.
async fn ask(stream: &mut TlsStream<DuplexStream>, path: &str) -> std::io::Result<String> {
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn with_tls(settings: &Tls) -> Server {
    Server::with(rules(), Some(TlsHandle::new(settings).unwrap()))
}

fn read(path: &Path) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(path).unwrap()
}

#[tokio::test]
async fn both_versions_carry_http_1() {
    let keys = Keys::new();
    let server = with_tls(&keys.settings());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = keys.client(&["http/1.1"], &[version], None);
        let mut stream = connect(&server, config, "models.test").await.unwrap();
        let answer = ask(&mut stream, "/who").await.unwrap();
        assert!(answer.ends_with("true None"), "{version:?}: {answer}");
    }
}

#[tokio::test]
async fn alpn_chooses_http_2_where_the_client_has_it() {
    let keys = Keys::new();
    let server = with_tls(&keys.settings());
    let stream = connect(&server, keys.client(&["h2", "http/1.1"], BOTH, None), "models.test").await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let _connection = tokio::spawn(connection);
    let request = Request::post("https://models.test/").body(Full::<Bytes>::from("two")).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "two");
}

#[tokio::test]
async fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let keys = Keys::new();
    let settings = keys.settings();
    let server = with_tls(&settings);
    for (name, file) in [("models.test", 0), ("other.test", 1), ("eu.other.test", 1)] {
        let stream = connect(&server, keys.client(&[], BOTH, None), name).await.unwrap();
        assert_eq!(served_with(&stream), read(&settings.certificates[file].certificate), "{name}");
    }
    let unknown = connect(&server, keys.client(&[], BOTH, None), "a.b.other.test").await;
    assert!(unknown.is_err(), "the first certificate stands in, and its names do not fit");
}

#[tokio::test]
async fn a_required_certificate_is_the_identity_and_whoever_has_none_is_refused() {
    let keys = Keys::new();
    let server = with_tls(&keys.mutual(ClientCertificate::Required));
    let (certificate, key) = keys.issue(&["client"]);
    let hash = public_key_hash(certificate.der()).unwrap();
    let config = keys.client(&[], BOTH, Some((certificate, key)));
    let mut stream = connect(&server, config, "models.test").await.unwrap();
    let answer = ask(&mut stream, "/who").await.unwrap();
    assert!(answer.ends_with(&format!("true Some({hash:02x?})")), "{answer}");
    let refused = match connect(&server, keys.client(&[], BOTH, None), "models.test").await {
        Ok(mut stream) => ask(&mut stream, "/who").await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "a client without a certificate was served");
    assert_eq!(server.rejected(Rejected::Handshake), 1);
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_but_not_be_a_stranger_s() {
    let keys = Keys::new();
    let server = with_tls(&keys.mutual(ClientCertificate::Optional));
    let mut stream = connect(&server, keys.client(&[], BOTH, None), "models.test").await.unwrap();
    assert!(ask(&mut stream, "/who").await.unwrap().ends_with("true None"));
    let strange = Keys::new().issue(&["client"]);
    let refused = match connect(&server, keys.client(&[], BOTH, Some(strange)), "models.test").await {
        Ok(mut stream) => ask(&mut stream, "/who").await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "a certificate of another authority was believed");
}

#[tokio::test]
async fn certificates_change_without_a_restart_and_a_broken_file_changes_nothing() {
    let keys = Keys::new();
    let settings = keys.settings();
    let server = with_tls(&settings);
    let open = connect(&server, keys.client(&[], BOTH, None), "models.test").await.unwrap();
    let renewed = keys.write("first", &["models.test"]);
    let tls = server.app.downstream.tls().unwrap();
    tls.reload(&settings).unwrap();
    let stream = connect(&server, keys.client(&[], BOTH, None), "models.test").await.unwrap();
    assert_eq!(served_with(&stream), read(&renewed.certificate));
    assert_ne!(served_with(&open), served_with(&stream));
    fs::write(&renewed.key, "no key").unwrap();
    assert!(matches!(tls.reload(&settings), Err(TlsError::Read { path, .. }) if path == renewed.key));
    connect(&server, keys.client(&[], BOTH, None), "models.test")
        .await
        .expect("what was in use stays in use");
    let mut old = open;
    assert!(ask(&mut old, "/who").await.unwrap().ends_with("true None"), "open connections go on");
}

#[test]
fn files_that_do_not_fit_are_errors_that_name_them() {
    let keys = Keys::new();
    let first = keys.write("first", &["models.test"]);
    let second = keys.write("second", &["other.test"]);
    let tls = |certificate: &Path, key: &Path| Tls {
        certificates: vec![CertificateFiles { certificate: certificate.to_owned(), key: key.to_owned() }],
        client_ca: None,
        client_certificate: ClientCertificate::Required,
    };
    let mismatch = TlsHandle::new(&tls(&first.certificate, &second.key));
    assert!(matches!(mismatch, Err(TlsError::Unusable { path, .. }) if path == first.certificate));
    let no_certificate = TlsHandle::new(&tls(&first.key, &first.key));
    assert!(matches!(no_certificate, Err(TlsError::NoCertificate(path)) if path == first.key));
    let missing = TlsHandle::new(&tls(&keys.folder.path().join("none"), &first.key));
    assert!(matches!(missing, Err(TlsError::Read { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stops_has_the_deadline_of_a_head() {
    let keys = Keys::new();
    let server = with_tls(&keys.settings());
    let mut connected = server.connect();
    connected.client.write_all(&[22, 3, 1, 0, 200]).await.unwrap();
    let (heard, seconds) = connected.hear_all().await;
    assert_eq!((heard.as_str(), seconds), ("", 10));
    assert_eq!(server.rejected(Rejected::HeadTimeout), 1);
}

#[tokio::test]
async fn tls_begins_behind_the_header_of_a_balancer() {
    let keys = Keys::new();
    let rules = Rules { proxy_header: true, ..rules() };
    let server = Server::with(rules, Some(TlsHandle::new(&keys.settings()).unwrap()));
    let block = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x0a\0\0\x09\x12\x67\x1f\x90";
    for header in [block.as_slice(), b"PROXY TCP4 203.0.113.9 10.0.0.9 1 2\r\n"] {
        let mut connected = server.connect_from("10.0.0.1");
        connected.client.write_all(header).await.unwrap();
        let name = ServerName::try_from("models.test").unwrap();
        let connector = TlsConnector::from(Arc::new(keys.client(&["http/1.1"], BOTH, None)));
        let mut stream = connector.connect(name, connected.client).await.unwrap();
        let answer = ask(&mut stream, "/where").await.unwrap();
        assert!(answer.ends_with("203.0.113.9 named true"), "{answer}");
    }
}
