//! Deliveries, by either protocol.

use std::sync::Arc;
use std::time::{Duration, Instant};

use checkgate_config::settings::{Exporter, OtlpProtocol};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio_rustls::TlsAcceptor;
use tonic::Code;

use super::receiver::{Answers, Receiver};
use super::{PROTOCOLS, exporter, metrics, settings, started};
use crate::metrics::labels::{ExportOutcome, Signal};
use crate::telemetry::Waiting;
use crate::telemetry::connect::Connector;
use crate::telemetry::deliver::{self, Courier, Taken, Undelivered};

async fn delivered(receiver: &Receiver, protocol: OtlpProtocol) -> Result<Taken, Undelivered> {
    let exporter = exporter(receiver.address, protocol, "/v1/metrics");
    let courier = Courier::<deliver::Metrics>::new(&exporter, Connector::new(&exporter).unwrap()).unwrap();
    courier.deliver(ExportMetricsServiceRequest::default()).await
}

#[tokio::test]
async fn a_message_arrives_with_the_operators_headers() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start(protocol, Answers::Takes).await;
        assert_eq!(delivered(&receiver, protocol).await.unwrap(), Taken::default(), "{protocol:?}");
        receiver.got(|got| {
            assert_eq!(got.metrics.len(), 1, "{protocol:?}");
            let (path, headers) = &got.heads[0];
            let expected = match protocol {
                OtlpProtocol::Grpc => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
                OtlpProtocol::HttpProtobuf => "/v1/metrics",
            };
            assert_eq!(path, expected);
            assert_eq!(headers["x-api-key"], "opens the door", "{protocol:?}");
            assert!(headers["user-agent"].to_str().unwrap().starts_with("checkgate/"), "{headers:?}");
        });
    }
}

#[tokio::test]
async fn what_a_collector_does_not_take_is_told_by_its_kind() {
    for protocol in PROTOCOLS {
        for (status, code, again) in [
            (400, Code::InvalidArgument, false),
            (401, Code::Unauthenticated, false),
            (404, Code::Unimplemented, false),
            (429, Code::ResourceExhausted, true),
            (503, Code::Unavailable, true),
            (504, Code::DeadlineExceeded, true),
        ] {
            let answers = Answers::Fails(status, code, &[("retry-after", "7")]);
            let receiver = Receiver::start(protocol, answers).await;
            let failed = delivered(&receiver, protocol).await.unwrap_err();
            assert_eq!(failed.again, again, "{protocol:?}, {status}: {failed}");
            if protocol == OtlpProtocol::HttpProtobuf {
                assert_eq!(failed.after, Some(Duration::from_secs(7)), "{status}");
            }
        }
        let receiver = Receiver::start(protocol, Answers::Partly(3)).await;
        assert_eq!(delivered(&receiver, protocol).await.unwrap().rejected, 3, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_not_there_fails_in_time() {
    for protocol in PROTOCOLS {
        let hanging = Receiver::start(protocol, Answers::Hangs).await;
        let mut gone = hanging.clone();
        // A port that was free a moment ago; nobody listens there.
        gone.address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (receiver, what) in [(hanging, "hangs"), (gone, "is gone")] {
            let begun = Instant::now();
            let failed = delivered(&receiver, protocol).await.unwrap_err();
            assert!(failed.again, "{protocol:?}, {what}: {failed}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{protocol:?}, {what}");
            assert!(!failed.to_string().contains("opens the door"), "{failed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_delivered_when_the_process_stops() {
    for protocol in PROTOCOLS {
        let (receiver, metrics) = (Receiver::start(protocol, Answers::Takes).await, metrics());
        let settings = settings(receiver.address, protocol);
        let telemetry = started(&settings, &metrics, &Waiting::of(&settings));
        tokio::task::block_in_place(|| telemetry.stop());
        receiver.until(|got| !got.metrics.is_empty()).await;
        receiver.got(|got| {
            let [message] = got.metrics.as_slice() else { panic!("{} pushes", got.metrics.len()) };
            let all = &message.resource_metrics[0];
            let of = |name: &str| {
                let attributes = &all.resource.as_ref().unwrap().attributes;
                let found = attributes.iter().find(|one| one.key == name);
                match found.and_then(|one| one.value.clone()).and_then(|value| value.value) {
                    Some(Value::StringValue(value)) => value,
                    other => panic!("{name}: {other:?}"),
                }
            };
            assert_eq!((of("service.name").as_str(), of("zone").as_str()), ("gate", "b"));
            assert_eq!(of("service.version"), env!("CARGO_PKG_VERSION"));
            assert_eq!(of("service.instance.id").len(), 36);
            assert_eq!(all.scope_metrics[0].metrics.len(), metrics.gather().len(), "{protocol:?}");
        });
        assert_eq!(metrics.telemetry.exports(Signal::Metrics, ExportOutcome::Delivered), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_or_hanging_collector_does_not_hold_up_the_end() {
    for protocol in PROTOCOLS {
        let (receiver, metrics) = (Receiver::start(protocol, Answers::Hangs).await, metrics());
        let settings = settings(receiver.address, protocol);
        let telemetry = started(&settings, &metrics, &Waiting::of(&settings));
        let begun = Instant::now();
        tokio::task::block_in_place(|| telemetry.stop());
        assert!(begun.elapsed() < Duration::from_secs(5), "{protocol:?}: {:?}", begun.elapsed());
        assert_eq!(metrics.telemetry.exports(Signal::Metrics, ExportOutcome::Failed), 1, "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_comes_back_gets_the_next_push() {
    for protocol in PROTOCOLS {
        let answers = Answers::Fails(503, Code::Unavailable, &[]);
        let (receiver, metrics) = (Receiver::start(protocol, answers).await, metrics());
        let mut settings = settings(receiver.address, protocol);
        settings.metrics_every = Duration::from_secs(1);
        let telemetry = started(&settings, &metrics, &Waiting::of(&settings));
        receiver.until(|got| got.heads.len() >= 2).await;
        receiver.answers(Answers::Takes);
        receiver.until(|got| !got.metrics.is_empty()).await;
        let failed = metrics.telemetry.exports(Signal::Metrics, ExportOutcome::Failed);
        assert!((2..5).contains(&failed), "{protocol:?}: {failed} pushes failed");
        tokio::task::block_in_place(|| telemetry.stop());
    }
}

/// A certificate for `localhost`, as PEM, and a server that shows it and speaks `alpn`.
fn tls(alpn: &[u8]) -> (String, TlsAcceptor) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    server.alpn_protocols = vec![alpn.to_vec()];
    (cert.pem(), TlsAcceptor::from(Arc::new(server)))
}

#[tokio::test]
async fn a_collector_by_tls_is_believed_by_its_authority_and_name() {
    let folder = tempfile::tempdir().unwrap();
    for (protocol, alpn) in [(OtlpProtocol::Grpc, &b"h2"[..]), (OtlpProtocol::HttpProtobuf, b"http/1.1")] {
        let (pem, acceptor) = tls(alpn);
        let receiver = Receiver::start_with(protocol, Answers::Takes, Some(acceptor)).await;
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, pem).unwrap();
        for (host, believed) in [("localhost", true), ("127.0.0.1", false)] {
            let exporter = Exporter {
                tls: true,
                host: host.into(),
                ca: Some(ca.clone()),
                ..exporter(receiver.address, protocol, "/v1/metrics")
            };
            let courier =
                Courier::<deliver::Metrics>::new(&exporter, Connector::new(&exporter).unwrap()).unwrap();
            let delivered = courier.deliver(ExportMetricsServiceRequest::default()).await;
            assert_eq!(delivered.is_ok(), believed, "{protocol:?}, {host}: {delivered:?}");
        }
        assert_eq!(receiver.got(|got| got.metrics.len()), 1, "{protocol:?}");
    }
}
