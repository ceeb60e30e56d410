//! Checked settings: every value is in range, every name is known, every file exists.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything a running checkgate was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where requests are accepted.
    pub listen: SocketAddr,
    /// Where operators ask.
    pub admin: Admin,
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
    /// Who counts as a client.
    pub clients: Clients,
    /// When new blocks become observations.
    pub brake: Brake,
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

/// The operators' listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address; loopback, unless a token is configured.
    pub listen: SocketAddr,
    /// The bearer token that the operator configured. Without one, a token is made in the state folder, writes
    /// need it, and reads on loopback need none.
    pub token: Option<Secret>,
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
    /// Peers whose `X-Forwarded-For` is believed, read from the right.
    pub trusted_proxies: Vec<IpNet>,
    /// Addresses that no decision ever touches.
    pub never_block: Vec<IpNet>,
    /// New keys that one address may bring in an hour before its keys stop counting as identities.
    pub new_keys_per_address: u32,
    /// Clients remembered for each model; the longest silent is forgotten first.
    pub remembered: usize,
}

/// What tells one client from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientIdentity {
    /// Nobody said: the address, as long as the traffic does not look like a shared hop.
    Assumed,
    /// The operator's word that an address is a client.
    Address,
    /// A request header such as an API key.
    Header {
        /// Its name, in lower case.
        name: String,
        /// The operator's word that the upstream refuses keys it does not know.
        verified_by_upstream: bool,
    },
}

/// When enforcement holds itself back.
#[derive(Clone, Copy, Debug)]
pub struct Brake {
    /// More new blocks a minute than this become observations.
    pub blocks_per_minute: u32,
    /// So do blocks beyond this share of the clients seen in the last ten minutes, 0 to 1.
    pub share_of_clients: f64,
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
    /// Bytes of an answer that are held for a contract.
    pub hold_bytes: usize,
    /// Blocked clients at once, over all models.
    pub blocks: usize,
    /// Bytes of one recording.
    pub record_bytes: u64,
}

/// How long anything may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until the upstream accepts a connection.
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer.
    pub first_byte: Duration,
    /// Between two bytes of either body.
    pub idle: Duration,
    /// How long an answer is held for its contract.
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
    /// Where requests go: scheme `http`, host and port, no path.
    pub upstream: Upstream,
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
    /// How long a block lasts.
    pub block_for: Duration,
}

/// Where a model's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
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
