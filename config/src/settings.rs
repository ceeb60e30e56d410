//! Checked settings: every value is in range, every name is known, every file exists.

mod admin;
mod clients;
mod crowdsec;
mod inbound;
mod listen;
mod model;
mod policy;
mod sinks;
mod telemetry;
mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::admin::{Admin, CertificateName, Scope, Token};
pub use self::clients::{ClientIdentity, Clients, HopHeader, KeySource, KeyUrl, TokenIdentity};
pub use self::crowdsec::{Bouncer, BouncerKey, Crowdsec, LapiServer, LapiSource, LapiUrl};
pub use self::inbound::{Inbound, InboundAction, InboundFields, InboundShape};
pub use self::listen::{CertificateFiles, ClientCertificate, Listen, ProxyProtocol, Tls};
pub use self::model::{
    Chosen, Contract, DRIFT_VERSIONS_MAX, Drift, DriftVersion, Hold, Mode, Model, OnError, OnViolation,
};
pub use self::policy::{
    Brake, Count, DecisionScope, Decisions, Maintenance, Member, OnTierOne, OnTierTwo, Policy, Rule, Rules,
    Severity, Subject, Tenant, Then, TierPolicy, When, WidestPrefix, Word,
};
pub use self::sinks::{Batch, EventKind, Only, Sink, Spool};
pub use self::telemetry::{Agent, Exporter, OtlpProtocol, Telemetry};
pub use self::upstream::{
    Balance, Ejection, HealthCheck, HttpVersion, Server, ServerAddress, Upstream, UpstreamTls,
};

/// Everything a running checkgate was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where requests are accepted: at least one listener.
    pub listen: Vec<Listen>,
    /// Whether connections to its TCP listeners begin with a header that says whom they are from.
    pub proxy_protocol: ProxyProtocol,
    /// TLS on every TCP listener for requests; without it they are plain.
    pub tls: Option<Tls>,
    /// Where operators ask.
    pub admin: Admin,
    /// Where other systems decide.
    pub inbound: Vec<Inbound>,
    /// Where other proxies ask whether a request may pass.
    pub authz: Authz,
    /// Threads that serve requests; 0 means one for each core.
    pub threads: usize,
    /// Lane threads; each model is pinned to one.
    pub lanes: usize,
    /// Where the instance key, the admin token, the kill switch and learned references live.
    pub state: PathBuf,
    /// Where findings and decisions are written, one JSON object a line.
    pub findings: Findings,
    /// Where captures are recorded for `checkgate replay`, if anywhere.
    pub record: Option<PathBuf>,
    /// How the program's own log is written to standard error.
    pub log: LogFormat,
    /// Where metrics, traces and logs are pushed to.
    pub telemetry: Telemetry,
    /// Who counts as a client.
    pub clients: Clients,
    /// When new blocks become observations.
    pub brake: Brake,
    /// How long decisions last at most.
    pub decisions: Decisions,
    /// The operator's customers.
    pub tenants: Vec<Tenant>,
    /// When models are exchanged.
    pub maintenance: Vec<Maintenance>,
    /// How long the ledger keeps what.
    pub ledger: Ledger,
    /// Where findings and decisions are sent.
    pub sinks: Vec<Sink>,
    /// Who enforces what is decided here, and whose decisions are enforced here.
    pub crowdsec: Crowdsec,
    /// Bounds on what is kept.
    pub limits: Limits,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// What holds for traffic that no entry of `models` claims; its model names are discovered, and its own name is
    /// `discovered`, which no entry of `models` bears.
    pub unclaimed: Option<Model>,
    /// The protected endpoints.
    pub models: Vec<Model>,
}

/// Where other proxies ask whether a request may pass, and what holds for requests that no model claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authz {
    /// The listeners; none where nobody may ask.
    pub listen: Vec<Listen>,
    /// Whether decisions act there: the mode at the top level.
    pub enforces: bool,
    /// Requests that a throttled client may send within a minute there.
    pub requests_per_minute: u32,
}

/// A value that no log, message or dump may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from view.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The value itself, for the one place that compares it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The key that it is in Standard Webhooks, where it is one: `whsec_` and the Base64 of 24 to 64 bytes.
    #[must_use]
    pub fn signing_key(&self) -> Option<Vec<u8>> {
        let key = BASE64_STANDARD.decode(self.0.strip_prefix("whsec_")?).ok()?;
        (24..=64).contains(&key.len()).then_some(key)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where findings and decisions go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Findings {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// The form of the program's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How long the ledger keeps what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The content of findings.
    pub findings_for: Duration,
    /// Everything else; not shorter.
    pub decisions_for: Duration,
    /// Bytes of the ledger; beyond it the oldest goes first.
    pub bytes_max: u64,
}

/// Bounds on what is kept; each has a counter that says when it was reached.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request or answer body that are looked into; a longer one is counted as not inspected.
    pub inspect_bytes: usize,
    /// Rows of one exchange that are scored; the rest are counted.
    pub rows_per_exchange: usize,
    /// Columns of a row that are read; a wider body is counted as not inspected.
    pub columns: usize,
    /// Bytes of captures that wait in front of one lane.
    pub lane_bytes: usize,
    /// Share of `lane_bytes` that one client may fill, 0 to 1.
    pub lane_share_per_client: f64,
    /// Questions whose answers are awaited, for each model.
    pub open_questions: usize,
    /// Distinct model names discovered in unclaimed traffic.
    pub discovered_models: usize,
    /// Bytes of an answer that are held for a contract or to be degraded.
    pub hold_bytes: usize,
    /// Blocked clients at once, over all models.
    pub blocks: usize,
    /// Bytes of one recording.
    pub record_bytes: u64,
    /// Open client connections; the process lowers it to two fifths of its descriptor limit.
    pub connections: usize,
    /// Open connections of one address (IPv6: one /64); trusted proxies and unix sockets are exempt.
    pub connections_per_address: usize,
    /// Requests that are open at once; beyond it 503 with Retry-After.
    pub in_flight: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Lines of a request's head.
    pub header_lines: usize,
    /// Bytes a second below which a request body is cut, after ten seconds of grace; 0 asks for none.
    pub body_bytes_per_second: usize,
    /// Bytes a second below which a client that does not take its answer is cut, after ten seconds of grace.
    pub answer_bytes_per_second: usize,
    /// Streams that one HTTP/2 connection may have open.
    pub http2_streams: u32,
}

/// How long anything may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a connection or request to the end of the request's head, a TLS handshake included.
    pub head: Duration,
    /// A connection on which no request is open.
    pub keep_alive: Duration,
    /// Until the upstream accepts a connection, a TLS handshake included.
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer of one try.
    pub each_try: Duration,
    /// From the end of the request to the first byte of the answer, over all tries.
    pub first_byte: Duration,
    /// From the head of the request to the end of its answer.
    pub total: Duration,
    /// Between two bytes of either body.
    pub idle: Duration,
    /// How long an answer is held for its contract or to be degraded.
    pub hold_answer: Duration,
    /// How long a question is held for its verdict; after that it goes on.
    pub hold_question: Duration,
    /// From the signal to stop until open requests are cut.
    pub drain: Duration,
}
