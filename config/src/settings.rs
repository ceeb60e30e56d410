//! Checked settings: every value is in range, every name is known, every file exists.

mod crowdsec;
mod telemetry;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::telemetry::{Agent, Exporter, OtlpProtocol, Telemetry};
use crate::key_set::KeySet;

pub use self::crowdsec::{Bouncer, BouncerKey, Crowdsec, LapiServer, LapiSource, LapiUrl};

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

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// None does.
    #[default]
    Off,
    /// Each does, and comes from a trusted proxy.
    Required,
}

/// One place where requests are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and port; port 0 takes any free port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// TLS 1.2 and 1.3 as a server. The files were readable, and held what they should, when they were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates; the name that a client asks for chooses, the first stands in where none fits. At least one.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities (PEM) whose certificates clients show; without it no client certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused. Of no effect without `client_ca`.
    pub client_certificate: ClientCertificate,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// A client without one is refused in the handshake.
    #[default]
    Required,
    /// A client may come without one; one that does not verify is refused all the same.
    Optional,
}

/// The operators' listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address; loopback, unless a token or a certificate is needed there.
    pub listen: SocketAddr,
    /// The bearer token that the operator configured. Without one, a token is made in the state folder, writes
    /// need it, and reads on loopback need none.
    pub token: Option<Secret>,
    /// Further tokens, each with scopes of its own.
    pub tokens: Vec<Token>,
    /// TLS on this listener; without it, it is plain.
    pub tls: Option<Tls>,
    /// Names in client certificates that may ask without a token.
    pub certificates: Vec<CertificateName>,
}

/// A token of which only the hash is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who uses it.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// What it may do; each scope holds those before it.
    pub scope: Scope,
}

/// A name in client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// The name.
    pub name: String,
    /// What it may do; each scope holds those before it.
    pub scope: Scope,
}

/// An endpoint at which another system decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Its name in the path, in metrics and in the ledger.
    pub name: String,
    /// What is sent.
    pub shape: InboundShape,
    /// What the sender proves itself by: at least one, the text as it was given.
    pub secrets: Vec<Secret>,
    /// What may be asked for, at least one action; the first stands where a body asks for nothing.
    pub actions: Vec<InboundAction>,
    /// Models whose decisions may be touched; empty where all may.
    pub models: Vec<String>,
    /// How long a ban lasts where the body does not say; not longer than `at_most`.
    pub lasts: Duration,
    /// The longest ban.
    pub at_most: Duration,
    /// Where a body says what, as JSON pointers.
    pub fields: InboundFields,
}

/// JSON pointers into a body, each with those that stand in where it leads nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundFields {
    /// The client.
    pub client: Vec<String>,
    /// The id of a decision.
    pub decision_id: Vec<String>,
    /// What is asked for.
    pub action: Vec<String>,
    /// How long a ban lasts, in seconds.
    pub seconds: Vec<String>,
    /// The model that a ban is about.
    pub model: Vec<String>,
    /// Why.
    pub why: Vec<String>,
}

/// What an endpoint is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InboundShape {
    /// The webhook action of a Splunk alert.
    Splunk,
    /// The webhook of Alertmanager, version 4.
    Alertmanager,
    /// The HTTP action of a Sentinel playbook.
    Sentinel,
    /// Standard Webhooks, signed.
    Webhook,
}

/// What a sender may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InboundAction {
    /// A block of a client, for a time.
    Ban,
    /// The end of a decision.
    Lift,
    /// That a proposed decision acts.
    Approve,
    /// That a proposed decision does not.
    Reject,
}

impl InboundAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Ban, Self::Lift, Self::Approve, Self::Reject];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Lift => "lift",
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
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

/// What somebody may do at the operators' listener; each scope holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Change decisions and the never-block list.
    Decide,
    /// Everything: the kill switch and references as well.
    Admin,
}

impl Scope {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Decide => "decide",
            Self::Admin => "admin",
        }
    }
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

/// Who counts as a client, and who is never blocked.
#[derive(Clone, Debug)]
pub struct Clients {
    /// What tells one client from another.
    pub identity: ClientIdentity,
    /// Peers that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// Where they say it.
    pub hops: HopHeader,
    /// Addresses that no decision ever touches.
    pub never_block: Vec<IpNet>,
    /// Addresses behind which many people sit: a decision on one of them is a throttle at most.
    pub shared_addresses: Vec<IpNet>,
    /// New keys that one address may bring in an hour before its keys stop counting as identities.
    pub new_keys_per_address: u32,
    /// Clients remembered for each model; the longest silent is forgotten first.
    pub remembered: usize,
}

/// Where trusted proxies write down the hops of a request, read from the right. One header is believed: the other one may
/// be the client's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HopHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What tells one client from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientIdentity {
    /// Nobody said: the address, as long as the traffic does not look like a shared hop.
    Assumed,
    /// The operator's word that an address is a client.
    Address,
    /// The certificate that the client showed in the TLS handshake (its public key, by hash).
    Certificate,
    /// A request header such as an API key.
    Header {
        /// Its name, in lower case.
        name: String,
        /// The operator's word that the upstream refuses keys it does not know.
        verified_by_upstream: bool,
    },
    /// A claim of a token that an issuer signed.
    Token(Box<TokenIdentity>),
}

/// Tokens as identities (JSON Web Token, RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    /// Where the issuer's keys are.
    pub keys: KeySource,
    /// Who must have issued a token, where the operator says so.
    pub issuer: Option<String>,
    /// Whom a token must be for, where the operator says so.
    pub audience: Option<String>,
    /// The claim that names the client.
    pub claim: String,
    /// The header that holds the token, in lower case.
    pub header: String,
}

/// Where the keys are that tokens are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a file: what was read from it when the settings were checked.
    File(KeySet),
    /// At a URL, to be read while the program runs.
    Url(KeyUrl),
}

/// A URL that gives keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUrl {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Whether TLS is spoken; without it, the host is a loopback address.
    pub tls: bool,
    /// Authorities (PEM) to believe; by default those of the system.
    pub ca: Option<PathBuf>,
}

/// How the drift of a model is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// The part's own parameters.
    pub parameters: Value,
    /// The reference that the operator names; without it, one is learned.
    pub reference: Option<PathBuf>,
    /// The public key that must have signed it, where one must.
    pub reference_key: Option<PathBuf>,
    /// Versions that are watched apart, at most [`DRIFT_VERSIONS_MAX`].
    pub versions: Vec<DriftVersion>,
}

/// A version of a model that is watched apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftVersion {
    /// What the protocol calls it.
    pub name: String,
    /// The reference that the operator names; without it, one is learned.
    pub reference: Option<PathBuf>,
}

/// Most versions of one model that are watched apart.
pub const DRIFT_VERSIONS_MAX: usize = 8;

/// When enforcement holds itself back.
#[derive(Clone, Copy, Debug)]
pub struct Brake {
    /// More new blocks a minute than this become observations.
    pub blocks_per_minute: u32,
    /// So do blocks beyond this share of the clients seen in the last ten minutes, 0 to 1.
    pub share_of_clients: f64,
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

/// One place that findings, decisions and what operators do are sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// The part that sends, with its parameters. Of a secret these hold the place only.
    pub part: Chosen,
    /// What is sent.
    pub only: Only,
    /// How much at once.
    pub batch: Batch,
    /// How long the other side may take for one batch.
    pub timeout: Duration,
    /// What may wait for it.
    pub spool: Spool,
}

/// What a sink sends; a condition that is absent holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// Kinds of events.
    pub kinds: Option<Vec<EventKind>>,
    /// The least severity.
    pub severity: Option<Severity>,
    /// Models.
    pub models: Option<Vec<String>>,
    /// Detectors.
    pub detectors: Option<Vec<String>>,
    /// Modes.
    pub modes: Option<Vec<Mode>>,
}

/// How much a sink sends at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Events, at least one.
    pub events: usize,
    /// Bytes of theirs as JSON.
    pub bytes: usize,
    /// How long an event waits for others.
    pub wait: Duration,
}

/// What may wait for a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Bytes of the ledger behind the sink's position.
    pub bytes: u64,
    /// Age of an event.
    pub age: Duration,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A detector found something.
    Finding,
    /// A decision was taken.
    Decision,
    /// A proposed decision was approved.
    Approved,
    /// A proposed decision was turned down.
    Rejected,
    /// A decision was ended before its time.
    Lifted,
    /// A decision lasts longer, or shorter, than it was to.
    Extended,
    /// Requests came from the client of a decision.
    Met,
    /// The never-block list changed.
    NeverBlock,
    /// Enforcement was switched off, or back on.
    KillSwitch,
    /// Other settings came into force, or were refused.
    Configuration,
    /// What normal looks like was learned, or is trusted.
    Reference,
    /// The program started, or took over from another process.
    Started,
    /// What was known of a client was erased.
    Erased,
    /// Entries of the ledger found no room while its disk failed.
    Unwritten,
    /// The oldest entries of the ledger were removed.
    Removed,
    /// The traffic of a model, or its predictions, have shifted, or do so no longer.
    Drift,
    /// An operator tries a sink; no condition keeps it back.
    Test,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Finding,
        Self::Decision,
        Self::Approved,
        Self::Rejected,
        Self::Lifted,
        Self::Extended,
        Self::Met,
        Self::NeverBlock,
        Self::KillSwitch,
        Self::Configuration,
        Self::Reference,
        Self::Started,
        Self::Erased,
        Self::Unwritten,
        Self::Removed,
        Self::Drift,
        Self::Test,
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::Decision => "decision",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Lifted => "lifted",
            Self::Extended => "extended",
            Self::Met => "met",
            Self::NeverBlock => "never_block",
            Self::KillSwitch => "kill_switch",
            Self::Configuration => "configuration",
            Self::Reference => "reference",
            Self::Started => "started",
            Self::Erased => "erased",
            Self::Unwritten => "unwritten",
            Self::Removed => "removed",
            Self::Drift => "drift",
            Self::Test => "test",
        }
    }
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

/// One protected endpoint.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name in metrics, findings and the API.
    pub name: String,
    /// Path prefix that claims a request; without one, the name that the protocol finds in the request decides.
    pub path: Option<String>,
    /// Where requests go.
    pub upstream: Upstream,
    /// Bytes of a request body; a longer one is refused with 413.
    pub body_bytes: u64,
    /// The decoder, or `None` to find it from the traffic.
    pub protocol: Option<Chosen>,
    /// Whether decisions are acted on.
    pub mode: Mode,
    /// What waits for a verdict.
    pub hold: Hold,
    /// What an answer must keep, and what is done when it does not.
    pub contract: Contract,
    /// What normal looks like, as the operator names it.
    pub reference: Option<PathBuf>,
    /// The detectors that run, with their parameters.
    pub detectors: Vec<Chosen>,
    /// How drift is watched; nothing where it is not.
    pub drift: Option<Drift>,
    /// What follows from a finding.
    pub policy: Policy,
    /// How long a decision lasts: at the first offence, the second and so on; the last also for every further one.
    /// At least one.
    pub block_for: Vec<Duration>,
}

/// How long decisions, proposals and offences last, and where decisions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decisions {
    /// Where what a detector decides holds.
    pub scope: DecisionScope,
    /// The longest that any decision may last, whoever takes it.
    pub at_most: Duration,
    /// The widest network that a decision may be about.
    pub widest_prefix: WidestPrefix,
    /// How long a proposal waits for an operator.
    pub proposal_expires: Duration,
    /// How long an offence counts after its decision has ended.
    pub offences_count_for: Duration,
}

/// The fewest bits of an address that a decision may go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WidestPrefix {
    /// Of an IPv4 address.
    pub ipv4: u8,
    /// Of an IPv6 address.
    pub ipv6: u8,
}

impl Default for WidestPrefix {
    /// One client.
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

/// A customer of the operator, and who belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: String,
    /// Its clients.
    pub clients: Vec<Member>,
}

/// A client or several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The keyed hash of a key or certificate, as records print it.
    Key(u64),
    /// An address or a network.
    Network(IpNet),
}

/// A time in which what rests on a model's reference does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// The model; every model without it.
    pub model: Option<String>,
    /// When it begins.
    pub from: SystemTime,
    /// When it has ended; at most 30 days later.
    pub until: SystemTime,
    /// What it is for; may be empty.
    pub note: String,
}

/// What follows from a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// From one that is precise enough to act on.
    pub on_tier_one: OnTierOne,
    /// From two that only tell, where they agree on a client of great volume.
    pub on_tier_two: OnTierTwo,
    /// What comes before either, where it matches.
    pub rules: Rules,
    /// What holds for the clients of tenants, by their tier.
    pub tiers: BTreeMap<String, TierPolicy>,
    /// Significant digits that a degraded answer keeps, 1 to 15.
    pub digits: u8,
    /// By how much a degraded answer comes later.
    pub delay: Duration,
    /// Requests that a throttled client may send within a minute, at least one.
    pub requests_per_minute: u32,
}

/// What follows from a finding on a client of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierPolicy {
    /// From one that is precise enough to act on.
    pub on_tier_one: OnTierOne,
    /// From two that only tell.
    pub on_tier_two: OnTierTwo,
    /// What comes before either.
    pub rules: Rules,
}

/// Rules in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Where they stand, such as `policy.rules`.
    pub place: String,
    /// The rules; the first that matches counts.
    pub list: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it asks for.
    pub when: When,
    /// What follows.
    pub then: Then,
    /// How long that lasts, first offence first; as long as the model's decisions do without it.
    pub lasts: Option<Vec<Duration>>,
    /// The longest that it may last.
    pub at_most: Option<Duration>,
}

/// What a rule asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Detectors, one of which made the finding; empty for any.
    pub detectors: Vec<String>,
    /// Its tier, 1 or 2.
    pub tier: Option<u8>,
    /// Its severity or a graver one.
    pub severity: Option<Severity>,
    /// Whom it is about.
    pub subject: Option<Subject>,
    /// The tier of the client's tenant.
    pub tenant_tier: Option<String>,
    /// Whether two detectors agree.
    pub agreed: Option<bool>,
    /// How many findings there must be.
    pub count: Option<Count>,
}

/// So many findings within so long a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Findings, 2 to 64.
    pub findings: u32,
    /// The time.
    pub within: Duration,
}

/// What follows from a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is done at once.
    Now(Word),
    /// It waits for approval.
    Proposed {
        /// What is done then.
        action: Word,
        /// After how long it approves itself.
        approves_after: Option<Duration>,
    },
}

/// What a rule may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// It is told and nothing else.
    Alert,
    /// The client's requests go on and name the decision to the model server.
    Tag,
    /// The decision waits for approval.
    Propose,
    /// The client's requests are refused beyond so many a minute.
    Throttle,
    /// The client's answers are coarsened and delayed.
    Degrade,
    /// The client's requests are refused.
    Block,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It tells something.
    Low,
    /// It is precise enough to act on, or detectors agree.
    Medium,
    /// It would block.
    High,
}

/// Whom a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A client that is known by its key.
    Key,
    /// A client that is known by its address.
    Address,
    /// Several clients together.
    Campaign,
}

/// What follows from a finding that is precise enough to act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTierOne {
    /// The client's requests are refused.
    #[default]
    Block,
    /// The client's answers are coarsened and delayed.
    Degrade,
    /// The client's requests are refused beyond so many a minute.
    Throttle,
    /// The client's requests go on and name the decision to the model server.
    Tag,
    /// A block that waits for an operator's approval.
    Propose,
    /// It is told and nothing else.
    Alert,
}

/// Where a decision holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionScope {
    /// At the model whose traffic it rests on.
    #[default]
    Model,
    /// At every model in `enforce`.
    Everywhere,
}

/// What follows from findings that only tell, where they agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTierTwo {
    /// It is told and nothing else.
    #[default]
    Alert,
    /// The client's requests go on and name the decision to the model server.
    Tag,
    /// The client's requests are refused beyond so many a minute.
    Throttle,
    /// The client's answers are coarsened and delayed.
    Degrade,
}

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

/// A part that was chosen by name, with its checked parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The part's name.
    pub name: String,
    /// Its whole parameters, defaults filled in.
    pub parameters: Value,
}

/// Whether decisions are acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Never acts; says and counts what it would have done.
    #[default]
    Observe,
    /// Acts on its decisions.
    Enforce,
}

/// What waits for a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// Nothing.
    #[default]
    None,
    /// The answer, header and all, until its contract is judged.
    Answer,
    /// The question, until the lane has judged it.
    Question,
}

/// An output contract and its consequences.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The contract part's own parameters.
    pub parameters: Value,
    /// What happens to an answer that breaks it.
    pub on_violation: OnViolation,
    /// What happens to an answer that cannot be judged.
    pub on_error: OnError,
}

/// What happens to an answer that breaks its contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// 422 with a problem document.
    Refuse,
    /// Offending numbers move to the nearest allowed value, row by row.
    Clamp,
    /// The operator's own JSON stands in: a number or array for the offending row, an object for the whole answer.
    Fallback(Value),
}

/// What happens to an answer that cannot be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// 502 with a problem document.
    #[default]
    Refuse,
    /// It goes on as it came.
    Pass,
}
