//! Export by OpenTelemetry and by DogStatsD: what is sent where.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// What is sent where; a signal without an exporter is not sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// Where metrics go.
    pub metrics: Option<Exporter>,
    /// Where traces go.
    pub traces: Option<Exporter>,
    /// Where logs go.
    pub logs: Option<Exporter>,
    /// Where metrics go by DogStatsD.
    pub dogstatsd: Option<Agent>,
    /// How often metrics are pushed.
    pub metrics_every: Duration,
    /// Share of the requests without a parent that begin a trace, 0 to 1.
    pub trace_ratio: f64,
    /// Attributes of all that is sent, `service.name` first.
    pub resource: Vec<(String, String)>,
    /// What was found in the environment and passed over, one sentence each.
    pub passed_over: Vec<String>,
}

impl Telemetry {
    /// Whether anything is sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.metrics.is_some() || self.traces.is_some() || self.logs.is_some() || self.dogstatsd.is_some()
    }
}

/// An agent that takes DogStatsD's datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// By UDP.
    Udp {
        /// Host name or address; an IPv6 address without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// By a unix socket of datagrams.
    Unix(PathBuf),
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where one signal goes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exporter {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the URL, beginning with `/`; of no meaning for gRPC.
    pub path: String,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Headers of every request, names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// How long one delivery may take.
    pub timeout: Duration,
    /// Authorities (PEM) that are believed; by default those of the operating system.
    pub ca: Option<PathBuf>,
}

impl Exporter {
    /// Host and port as they stand in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    /// Protobuf by HTTP/1.1.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}
