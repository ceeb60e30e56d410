//! OpenTelemetry export, as typed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RawSecret;
use crate::settings::OtlpProtocol;
use crate::units::Period;

/// OpenTelemetry export (OTLP): metrics, traces and logs are pushed to a collector. Nothing is sent and no trace is
/// continued without an endpoint.
///
/// What stands here wins over the environment, as in OpenTelemetry's own configuration files; what is left out is taken
/// from the standard variables: `OTEL_EXPORTER_OTLP_ENDPOINT`, `_PROTOCOL`, `_HEADERS`, `_TIMEOUT`, `_CERTIFICATE`, the
/// same with `METRICS_`, `TRACES_` or `LOGS_` behind `OTLP_`, `OTEL_METRICS_EXPORTER`, `OTEL_TRACES_EXPORTER` and
/// `OTEL_LOGS_EXPORTER` (`none` switches a signal off), `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_SERVICE_NAME` and
/// `OTEL_RESOURCE_ATTRIBUTES`. `OTEL_SDK_DISABLED=true` switches everything off, whatever stands here. A variable that
/// cannot be understood is told in the log and passed over.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawTelemetry {
    /// The collector's URL, such as `http://127.0.0.1:4318`. With `http/protobuf`, `/v1/metrics`, `/v1/traces` and
    /// `/v1/logs` are added to its path.
    pub endpoint: Option<String>,
    /// How it is spoken to: `http/protobuf` (usually port 4318) or `grpc` (usually port 4317).
    pub protocol: Option<OtlpProtocol>,
    /// Headers of every request, such as the collector's API key. `${NAME}` stands for the environment variable NAME.
    pub headers: Option<BTreeMap<String, RawSecret>>,
    /// How long one delivery may take.
    pub timeout: Option<Period>,
    /// Authorities (PEM) that a collector at `https://` is checked against; by default those of the operating system.
    pub ca: Option<PathBuf>,
    /// Metrics, where they differ from the above.
    pub metrics: Option<RawSignal>,
    /// Traces, where they differ from the above.
    pub traces: Option<RawSignal>,
    /// Logs: findings, decisions, and the program's own warnings and errors, where they differ from the above.
    pub logs: Option<RawSignal>,
    /// The attribute `service.name` of all that is sent.
    pub service_name: Option<String>,
    /// Further attributes of all that is sent, by name.
    pub resource: Option<BTreeMap<String, String>>,
    /// An agent that is sent the metrics by DogStatsD, such as Datadog's: `HOST:PORT` (UDP, usually port 8125) or
    /// `unix:PATH`, a socket of datagrams. No variable names it, and `OTEL_SDK_DISABLED` does not switch it off.
    pub dogstatsd: Option<String>,
    /// How often metrics are pushed. Datadog's agent expects them every 10 seconds.
    pub metrics_every: Option<Period>,
    /// Share of the requests without a `traceparent` that begin a trace, 0 to 1. Those with one are traced where their
    /// caller sampled them, whatever stands here.
    pub trace_ratio: Option<f64>,
}

/// One signal (`metrics`, `traces` or `logs`), where it differs from what holds for all.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawSignal {
    /// Whether it is sent; without this it is where an endpoint is known.
    pub send: Option<bool>,
    /// Its URL, used as it stands: nothing is added to its path.
    pub endpoint: Option<String>,
    /// How it is spoken to.
    pub protocol: Option<OtlpProtocol>,
    /// Its headers, in place of those above.
    pub headers: Option<BTreeMap<String, RawSecret>>,
    /// How long one delivery may take.
    pub timeout: Option<Period>,
    /// Authorities (PEM) that the collector is checked against.
    pub ca: Option<PathBuf>,
}
