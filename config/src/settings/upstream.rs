//! The servers behind a model.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CertificateFiles;

/// Where a model's requests go: one or several servers that answer alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The servers; at least one.
    pub servers: Vec<Server>,
    /// How a server is chosen.
    pub balance: Balance,
    /// The version of HTTP that the servers speak.
    pub http: HttpVersion,
    /// TLS towards the servers whose URL begins with `https`.
    pub tls: UpstreamTls,
    /// Active health checks; none without it.
    pub health: Option<HealthCheck>,
    /// When a server that fails is left alone for a while.
    pub ejection: Ejection,
    /// Further tries after the first, where a request may be sent again.
    pub retries: u32,
    /// Requests open at one server; beyond it the server is passed over, and if all are, the client gets 503.
    pub in_flight_per_server: usize,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub address: ServerAddress,
    /// Whether TLS is spoken to it (`https`).
    pub tls: bool,
    /// Its share of the requests against the other servers, 1 to 1000.
    pub weight: u32,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// Host name or address (an IPv6 address without brackets), and port.
    Tcp {
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest open requests for its weight.
    LeastLoaded,
    /// The same server for the same client, as long as it is up (consistent hash).
    ClientHash,
}

/// The version of HTTP that servers speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpVersion {
    /// HTTP/2 for gRPC; otherwise what TLS agrees upon (ALPN), and HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
}

/// TLS towards servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Authorities (PEM) that are believed; by default those of the operating system.
    pub ca: Option<PathBuf>,
    /// What checkgate shows of itself.
    pub certificate: Option<CertificateFiles>,
    /// The name that the server's certificate must bear; by default the URL's host.
    pub server_name: Option<String>,
    /// Accepts any certificate.
    pub insecure: bool,
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for with GET; any status of 200 to 299 is a success.
    pub path: String,
    /// How often.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Successes in a row that bring a server back.
    pub healthy_after: u32,
    /// Failures in a row that take it out.
    pub unhealthy_after: u32,
}

/// When a server that fails real requests is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row: no connection, no answer in time, a broken answer. 0 never ejects.
    pub failures: u32,
    /// For how long; twice as long each time it fails again at once, up to ten times as long.
    pub pause: Duration,
}
