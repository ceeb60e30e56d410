//! Listeners, TLS, upstreams, limits and timeouts: what comes out of what was typed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail loudly, as tests do")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use checkgate_config::settings::{
    Balance, CertificateFiles, ClientCertificate, ClientIdentity, Ejection, HealthCheck, HttpVersion, Listen,
    Server, ServerAddress, Settings, Upstream, UpstreamTls,
};
use checkgate_config::{problem, read};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use support::PARTS;

const ORIGIN: &str = "/etc/checkgate/checkgate.yaml";

fn accepted_at(text: &str, origin: &str) -> Settings {
    read(text, origin, &PARTS).map_err(|problems| problem::render(&problems)).unwrap()
}

fn accepted(text: &str) -> Settings {
    accepted_at(text, ORIGIN)
}

fn refused_at(text: &str, origin: &str) -> String {
    problem::render(&read(text, origin, &PARTS).expect_err("must be refused"))
}

fn refused(text: &str) -> String {
    refused_at(text, ORIGIN)
}

fn tcp(host: &str, port: u16) -> ServerAddress {
    ServerAddress::Tcp { host: host.into(), port }
}

fn plain(address: ServerAddress) -> Server {
    Server { address, tls: false, weight: 1 }
}

fn upstream(text: &str) -> Upstream {
    accepted(text).unclaimed.unwrap().upstream
}

/// A folder with `NAME.pem` and `NAME.key` for each of `names`.
fn certificates(names: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([(*name).to_owned()]).unwrap();
        std::fs::write(folder.path().join(format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(folder.path().join(format!("{name}.key")), signing_key.serialize_pem()).unwrap();
    }
    let origin = folder.path().join("checkgate.yaml").display().to_string();
    (folder, origin)
}

fn files(folder: &Path, name: &str) -> CertificateFiles {
    CertificateFiles {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    }
}

#[test]
fn listeners_are_addresses_and_unix_sockets_one_or_several() {
    let tcp = |text: &str| Listen::Tcp(text.parse().unwrap());
    let listen = |typed: &str| accepted(&format!("upstream: http://m:1\nlisten: {typed}\n")).listen;
    assert_eq!(listen("'[::1]:9000'"), [tcp("[::1]:9000")]);
    assert_eq!(listen("unix:/run/in.sock"), [Listen::Unix("/run/in.sock".into())]);
    assert_eq!(
        listen("[127.0.0.1:9000, unix:in.sock]"),
        [tcp("127.0.0.1:9000"), Listen::Unix("/etc/checkgate/in.sock".into())],
        "a relative path counts from the file's folder"
    );
}

#[test]
fn every_form_of_an_upstream_has_the_same_defaults() {
    let expected = Upstream {
        servers: vec![plain(tcp("m", 1))],
        balance: Balance::RoundRobin,
        http: HttpVersion::Auto,
        tls: UpstreamTls::default(),
        health: None,
        ejection: Ejection { failures: 5, pause: Duration::from_secs(10) },
        retries: 1,
        in_flight_per_server: 1024,
    };
    for text in [
        "upstream: http://m:1\n",
        "upstream: [http://m:1/]\n",
        "upstream: [{url: 'http://m:1'}]\n",
        "upstream: {servers: [http://m:1]}\n",
        "upstream: {servers: [{url: 'http://m:1'}], ejection: {failures: 5}, health: ~}\n",
    ] {
        assert_eq!(upstream(text), expected, "{text}");
    }
}

#[test]
fn a_whole_upstream_is_read() {
    let found = upstream(
        "upstream:\n  servers: [http://10.0.0.1:8080, {url: 'https://m.example:8443', weight: 3}, unix:m.sock]\n  \
         balance: client_hash\n  http: http2\n  tls: {server_name: other.example, insecure: true}\n  \
         health: {every: 1s, unhealthy_after: 1}\n  ejection: {pause: 1m}\n  retries: 0\n  in_flight_per_server: 7\n",
    );
    let expected = Upstream {
        servers: vec![
            plain(tcp("10.0.0.1", 8080)),
            Server { address: tcp("m.example", 8443), tls: true, weight: 3 },
            plain(ServerAddress::Unix("/etc/checkgate/m.sock".into())),
        ],
        balance: Balance::ClientHash,
        http: HttpVersion::Http2,
        tls: UpstreamTls {
            server_name: Some("other.example".into()),
            insecure: true,
            ..UpstreamTls::default()
        },
        health: Some(HealthCheck {
            path: "/v2/health/ready".into(),
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 1,
        }),
        ejection: Ejection { failures: 5, pause: Duration::from_secs(60) },
        retries: 0,
        in_flight_per_server: 7,
    };
    assert_eq!(found, expected);
}

#[test]
fn a_models_own_upstream_replaces_the_top_levels_as_a_whole() {
    let settings = accepted(
        "upstream: {servers: [http://m:1], retries: 4}\nmodels:\n\
         - {name: a}\n- {name: b, upstream: {servers: [http://n:2], balance: least_loaded}}\n",
    );
    let [a, b] = settings.models.as_slice() else { panic!("two models") };
    assert_eq!((a.upstream.retries, b.upstream.retries), (4, 1));
    assert_eq!(b.upstream.balance, Balance::LeastLoaded);
}

#[test]
fn the_body_limit_of_a_model_wins_over_the_one_for_all() {
    let settings = accepted(
        "upstream: http://m:1\nlimits: {body_bytes: 1MiB}\nmodels: [{name: a}, {name: b, body_bytes: 2GiB}]\n",
    );
    let bytes: Vec<u64> = settings.models.iter().map(|model| model.body_bytes).collect();
    assert_eq!(bytes, [1 << 20, 2 << 30]);
    assert_eq!(settings.unclaimed.unwrap().body_bytes, 1 << 20);
}

#[test]
fn limits_and_timeouts_are_on_by_default() {
    let settings = accepted("upstream: http://m:1\n");
    let (limits, timeouts) = (settings.limits, settings.timeouts);
    assert_eq!((limits.connections, limits.connections_per_address, limits.in_flight), (10_000, 1024, 4096));
    assert_eq!((limits.head_bytes, limits.header_lines, limits.http2_streams), (64 << 10, 256, 100));
    assert_eq!((limits.body_bytes_per_second, limits.answer_bytes_per_second), (240, 240));
    assert_eq!(settings.unclaimed.unwrap().body_bytes, 64 << 20);
    assert_eq!((timeouts.head.as_secs(), timeouts.keep_alive.as_secs()), (10, 60));
    assert_eq!((timeouts.each_try, timeouts.first_byte), (Duration::from_secs(60), Duration::from_secs(60)));
    assert_eq!(timeouts.total, Duration::from_secs(3600));
}

#[test]
fn a_shorter_time_that_was_typed_shortens_the_defaults_inside_of_it() {
    let timeouts = |typed: &str| accepted(&format!("upstream: http://m:1\ntimeouts: {typed}\n")).timeouts;
    let short = timeouts("{total: 5s}");
    assert_eq!((short.each_try.as_secs(), short.first_byte.as_secs()), (5, 5));
    let short = timeouts("{first_byte: 200ms}");
    assert_eq!((short.each_try.as_millis(), short.total.as_secs()), (200, 3600));
    let several_tries = timeouts("{each_try: 2s}");
    assert_eq!((several_tries.each_try.as_secs(), several_tries.first_byte.as_secs()), (2, 60));
}

#[test]
fn one_certificate_is_read_in_its_short_form_and_several_in_their_order() {
    let (folder, origin) = certificates(&["a", "b"]);
    let tls =
        |typed: &str| accepted_at(&format!("upstream: http://m:1\ntls: {typed}\n"), &origin).tls.unwrap();
    let one = tls("{certificate: a.pem, key: a.key}");
    assert_eq!(one.certificates, [files(folder.path(), "a")]);
    assert_eq!((one.client_ca, one.client_certificate), (None, ClientCertificate::Required));
    let several = tls(
        "{certificates: [{certificate: b.pem, key: b.key}, {certificate: a.pem, key: a.key}], client_ca: a.pem, \
         client_certificate: optional}",
    );
    assert_eq!(several.certificates, [files(folder.path(), "b"), files(folder.path(), "a")]);
    assert_eq!(several.client_ca, Some(folder.path().join("a.pem")));
    assert_eq!(several.client_certificate, ClientCertificate::Optional);
    assert!(accepted("upstream: http://m:1\n").tls.is_none(), "TLS is there where it is asked for");
}

#[test]
fn a_certificate_can_be_the_client() {
    let (_folder, origin) = certificates(&["a"]);
    let text = "upstream: http://m:1\nclients: {identity: certificate}\ntls: {certificate: a.pem, key: a.key, client_ca: a.pem}\n";
    assert_eq!(accepted_at(text, &origin).clients.identity, ClientIdentity::Certificate);
}

#[test]
fn tls_towards_a_server_is_read() {
    let (folder, origin) = certificates(&["a"]);
    let text = "upstream:\n  servers: [https://m.example:8443]\n  tls: {ca: a.pem, certificate: a.pem, key: a.key}\n";
    let tls = accepted_at(text, &origin).unclaimed.unwrap().upstream.tls;
    assert_eq!(tls.ca, Some(folder.path().join("a.pem")));
    assert_eq!(tls.certificate, Some(files(folder.path(), "a")));
}

#[test]
fn files_that_tls_could_not_use_are_refused_where_they_are_named() {
    let (folder, origin) = certificates(&["a", "b"]);
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("empty.pem", b"");
    write("binary.pem", &[0x30, 0x82, 0xff, 0x00, 0x80]);
    write("not-a-certificate.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write("cut.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n");
    write("letters.pem", b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n");
    write("not-a-key.key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    for (certificate, key, at, message) in [
        ("empty.pem", "a.key", "certificate", "holds no certificate"),
        ("binary.pem", "a.key", "certificate", "holds no certificate"),
        ("not-a-certificate.pem", "a.key", "certificate", "is broken"),
        ("cut.pem", "a.key", "certificate", "no \"-----END\" line"),
        ("letters.pem", "a.key", "certificate", "is not base64"),
        ("absent.pem", "a.key", "certificate", "there is no file"),
        ("a.pem", "b.key", "key", "belongs to another certificate"),
        ("a.pem", "a.pem", "key", "holds no private key"),
        ("a.pem", "not-a-key.key", "key", "unknown"),
    ] {
        let text = format!("upstream: http://m:1\ntls:\n  certificate: {certificate}\n  key: {key}\n");
        let said = refused_at(&text, &origin);
        assert!(said.contains(message), "{certificate} with {key}: {said}");
        assert!(said.contains(&format!("|   {at}: ")), "{certificate} with {key}, shown at {at}: {said}");
    }
}

#[test]
fn a_key_is_never_shown() {
    let (folder, origin) = certificates(&["a"]);
    let broken = "-----BEGIN PRIVATE KEY-----\nhunter2hunter2?!\n-----END PRIVATE KEY-----\n";
    std::fs::write(folder.path().join("broken.key"), broken).unwrap();
    let said = refused_at("upstream: http://m:1\ntls: {certificate: a.pem, key: broken.key}\n", &origin);
    assert!(said.contains("broken.key is not PEM") && !said.contains("hunter2"), "{said}");
}

#[test]
fn long_socket_paths_are_refused_and_the_longest_is_taken() {
    let listen = |bytes: usize| format!("upstream: http://m:1\nlisten: unix:/{}\n", "x".repeat(bytes - 1));
    assert_eq!(accepted(&listen(107)).listen.len(), 1);
    assert!(refused(&listen(108)).contains("at most 107 bytes, this one has 108"));
}

#[test]
fn no_server_may_be_checkgate_itself() {
    for text in [
        "listen: unix:in.sock\nupstream: unix:in.sock\n",
        "listen: [127.0.0.1:1, '[::1]:2']\nupstream: [http://m:1, 'http://[::1]:2']\n",
        "listen: 0.0.0.0:1\nupstream: {servers: [{url: 'https://127.0.0.1:1'}]}\n",
        "upstream: http://m:1\nmodels: [{name: a, upstream: 'http://127.0.0.1:8766'}]\n",
    ] {
        let said = refused(text);
        assert!(said.contains("checkgate itself listens on"), "{text}: {said}");
    }
}

#[test]
fn an_inherited_mistake_is_told_once() {
    let text = "upstream: [http://m:1, http://m:1]\nmodels: [{name: a}, {name: b}]\n";
    assert_eq!(refused(text).matches("stands above already").count(), 1);
}

#[test]
fn paths_of_a_flag_count_from_where_one_stands() {
    let flags = checkgate_config::Raw {
        listen: Some("unix:in.sock".into()),
        upstream: Some("unix:m.sock".into()),
        ..checkgate_config::Raw::default()
    };
    let settings = checkgate_config::from_raw(&flags, &PARTS).unwrap();
    assert_eq!(settings.listen, [Listen::Unix(PathBuf::from("in.sock"))]);
    let servers = settings.unclaimed.unwrap().upstream.servers;
    assert_eq!(servers, [plain(ServerAddress::Unix("m.sock".into()))]);
}
