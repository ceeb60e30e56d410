//! What is exported, read back by a receiver of our own.

mod dogstatsd;
mod numbers;
mod receiver;
mod roads;
mod traces;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::{self, Exporter, OtlpProtocol, Secret};

use super::{Telemetry, Waiting};
use crate::metrics::Metrics;

/// The two protocols.
const PROTOCOLS: [OtlpProtocol; 2] = [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf];

fn metrics() -> Arc<Metrics> {
    Metrics::new(&["prices".to_owned(), "digits".to_owned()], &["one_field_sweep", "contract"]).unwrap()
}

fn exporter(address: SocketAddr, protocol: OtlpProtocol, path: &str) -> Exporter {
    Exporter {
        tls: false,
        host: address.ip().to_string(),
        port: address.port(),
        path: path.to_owned(),
        protocol,
        headers: vec![("x-api-key".into(), Secret::new("opens the door".into()))],
        timeout: Duration::from_millis(500),
        ca: None,
    }
}

/// Settings that send every signal to one receiver.
fn settings(address: SocketAddr, protocol: OtlpProtocol) -> settings::Telemetry {
    let to = |signal: &str| Some(exporter(address, protocol, &format!("/v1/{signal}")));
    settings::Telemetry {
        metrics: to("metrics"),
        traces: to("traces"),
        logs: to("logs"),
        dogstatsd: None,
        metrics_every: Duration::from_secs(3600),
        trace_ratio: 0.0,
        resource: vec![("service.name".into(), "gate".into()), ("zone".into(), "b".into())],
        passed_over: Vec::new(),
    }
}

fn started(settings: &settings::Telemetry, metrics: &Arc<Metrics>, waiting: &Waiting) -> Telemetry {
    Telemetry::start(settings, b"key", metrics, waiting).unwrap().unwrap()
}
