//! Raw settings: what was typed, in the order and the words of the file. The comment on a field is its
//! documentation, in the schema, in editors and on the reference page; defaults and ranges stand in
//! [`defaults`](crate::defaults).

mod crowdsec;
mod drift;
mod identity;
mod inbound;
mod ladder;
mod listen;
mod policy;
mod sink;
mod telemetry;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;

pub use crowdsec::{RawBouncer, RawCrowdsec, RawLapiServer, RawLapiSource};
pub use drift::{RawDrift, RawDriftVersion};
pub use identity::{RawToken, RawTokenForm};
pub use inbound::{RawAuthz, RawInbound, RawInboundFields};
pub use ladder::{RUNGS_MAX, RawLadder};
pub use listen::{RawCertificate, RawListen, RawTls};
pub use policy::{
    RawDecisions, RawMaintenance, RawPolicy, RawRule, RawTenant, RawTierPolicy, RawWhen, RawWidestPrefix,
};
pub use sink::{RawBatch, RawOnly, RawSink, RawSinkPart, RawSpool};
pub use telemetry::{RawSignal, RawTelemetry};
pub use upstream::{
    RawEjection, RawHealthCheck, RawServer, RawUpstream, RawUpstreamSettings, RawUpstreamTls,
    RawWeightedServer,
};

use crate::settings::{Hold, HopHeader, LogFormat, Mode, OnError, ProxyProtocol, Scope};
use crate::units::{ByteSize, Period};

/// Settings of checkgate, an inline proxy that recognises attacks on a model through its API.
///
/// Relative paths count from the folder of this file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct Raw {
    /// Where requests are accepted: an IP address and port, `unix:PATH`, or a list of these. Port 0 takes any free port.
    pub listen: Option<RawListen>,
    /// Whether every connection to a TCP listener for requests begins with a header of the PROXY protocol (version 1 or 2)
    /// that says whom it is from, before TLS and HTTP: `off` or `required`. With `required`, connections are taken from
    /// `clients.trusted_proxies` alone.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS on every TCP listener for requests; without it they are plain.
    pub tls: Option<RawTls>,
    /// The operators' listener.
    pub admin: Option<RawAdmin>,
    /// Endpoints on the operators' listener at which other systems decide, such as a SIEM or a SOAR; at most 64.
    pub inbound: Option<Vec<RawInbound>>,
    /// Where other proxies ask whether a request may pass. Without it, nobody can.
    pub authz: Option<RawAuthz>,
    /// Threads that serve requests; 0 means one for each core.
    pub threads: Option<usize>,
    /// Threads that look for attacks. Each model is pinned to one, so more than one helps only with several models.
    pub lanes: Option<usize>,
    /// Folder for the instance key, the admin token, the kill switch and learned references.
    pub state: Option<PathBuf>,
    /// Where findings and decisions are written, one JSON object a line: `stdout`, or a file that is appended to.
    pub findings: Option<PathBuf>,
    /// File where traffic is recorded for `checkgate replay`. It holds what clients sent: protect it accordingly.
    pub record: Option<PathBuf>,
    /// The program's own log, on standard error.
    pub log: Option<RawLog>,
    /// OpenTelemetry export: where metrics, traces and logs are pushed to.
    pub telemetry: Option<RawTelemetry>,
    /// Who counts as a client, and who is never blocked.
    pub clients: Option<RawClients>,
    /// When enforcement holds itself back: more decisions on clients than this are written down and not acted on.
    pub brake: Option<RawBrake>,
    /// How long decisions, proposals and offences last at most.
    pub decisions: Option<RawDecisions>,
    /// Your customers, where what follows from a finding depends on whose client it is about.
    pub tenants: Option<Vec<RawTenant>>,
    /// When models are exchanged: what rests on a model's reference is then only told, as muted.
    pub maintenance: Option<Vec<RawMaintenance>>,
    /// How long the ledger in the state folder keeps what.
    pub ledger: Option<RawLedger>,
    /// Where findings, decisions and what operators do are sent: to the tools that a security team has.
    pub sinks: Option<Vec<RawSink>>,
    /// CrowdSec: who enforces what is decided here, and whose decisions are enforced here.
    pub crowdsec: Option<RawCrowdsec>,
    /// Bounds on what is kept in memory and on disk; each has a counter that says when it was reached.
    pub limits: Option<RawLimits>,
    /// How long anything may take.
    pub timeouts: Option<RawTimeouts>,
    /// Where requests go that no entry of `models` claims: one server (`http://HOST:PORT`, `https://HOST:PORT` or
    /// `unix:PATH`), a list of servers, or a mapping. Their model names are discovered from the traffic. An entry of
    /// `models` without an upstream of its own uses this one, too.
    pub upstream: Option<RawUpstream>,
    /// Whether decisions are acted on, for every model that does not say otherwise: `observe` or `enforce`.
    pub mode: Option<Mode>,
    /// What waits for a verdict, for every model that does not say otherwise: `none`, `answer` (needed for a contract
    /// to replace an answer) or `question`.
    pub hold: Option<Hold>,
    /// What answers must keep, for every model that does not say otherwise. A model's own contract replaces it key
    /// by key.
    pub contract: Option<RawContract>,
    /// Detectors by name: `off`, `on`, or a mapping of parameters. All detectors run unless switched off. A
    /// model's own entry replaces the one here.
    pub detectors: Option<BTreeMap<String, RawDetector>>,
    /// Whether and how drift is watched, for every model that does not say otherwise: `off`, `on`, or a mapping. It only
    /// tells; nobody is blocked for it. A model's own mapping replaces the one here key by key.
    pub drift: Option<RawDrift>,
    /// What follows from a finding, for every model that does not say otherwise.
    pub policy: Option<RawPolicy>,
    /// How long a decision lasts, for every model that does not say otherwise: at a client's first offence, its second
    /// and so on, the last also for every further one; or one time for all. An offence counts for
    /// `decisions.offences_count_for` after its decision has ended.
    pub block_for: Option<RawLadder>,
    /// How requests and answers are read, for every model that does not say otherwise: a protocol's name, or one name
    /// with its parameters below it. Without it, the protocol is found from the traffic.
    pub protocol: Option<RawProtocol>,
    /// The protected endpoints. None are needed where `upstream` is given.
    pub models: Option<Vec<RawModel>>,
}

/// The operators' listener: metrics, decisions, findings, kill switch.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawAdmin {
    /// IP address and port. An address that other machines reach needs a token.
    pub listen: Option<String>,
    /// Bearer token that every call needs, 16 to 256 visible ASCII characters. `${NAME}` stands for the environment
    /// variable NAME. Without a token, one is made in the state folder, and reads on loopback need none.
    pub token: Option<RawSecret>,
    /// File that holds the token, instead of `token`; white space around it is ignored.
    pub token_file: Option<PathBuf>,
    /// Tokens with names and scopes of their own, at most 64. `checkgate token new NAME` makes one and prints its entry.
    pub tokens: Option<Vec<RawAdminToken>>,
    /// TLS on the operators' listener, written like the top-level `tls`. With `client_ca`, the names in `certificates`
    /// may ask without a token.
    pub tls: Option<RawTls>,
    /// Names in client certificates that may ask, at most 64. It needs `tls.client_ca`.
    pub certificates: Option<Vec<RawCertificateName>>,
}

/// A token of the operators' listener, of which only the hash is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["name", "sha256", "scopes"]))]
pub struct RawAdminToken {
    /// Who uses it, as the ledger names them: 1 to 64 letters, digits, `.`, `_` or `-`. Required.
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,64}$"))]
    pub name: Option<String>,
    /// SHA-256 of the token, 64 hexadecimal digits. Required.
    #[schemars(extend("pattern" = "^[0-9A-Fa-f]{64}$"))]
    pub sha256: Option<String>,
    /// What it may do: `read`, `decide` (decisions and the never-block list) or `admin` (everything). Required.
    pub scopes: Option<Vec<Scope>>,
}

/// A name in client certificates that may ask the operators' listener.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["name", "scopes"]))]
pub struct RawCertificateName {
    /// A DNS name or URI among the certificate's alternative names, or its common name. Required.
    pub name: Option<String>,
    /// What it may do: `read`, `decide` (decisions and the never-block list) or `admin` (everything). Required.
    pub scopes: Option<Vec<Scope>>,
}

/// The program's own log, on standard error.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawLog {
    /// `text` for people, `json` for one JSON object a line.
    pub format: Option<LogFormat>,
}

/// Who counts as a client, and who is never blocked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawClients {
    /// What tells one client from another: `ip` (your word that one address is one client), `certificate` (what the
    /// client showed in the TLS handshake; it needs `tls.client_ca`), `header:NAME` (a header such as an API key),
    /// `{header: NAME, verified_by_upstream: true}`, or `{token: {jwks: FILE}}` (a token that an issuer signed).
    /// Without it, addresses are used, and nobody is blocked while the traffic looks as if many clients share an
    /// address.
    pub identity: Option<RawIdentity>,
    /// Load balancers in front of checkgate, as addresses or networks (`10.0.0.0/8`). Only these are
    /// believed when they say whom they speak for.
    pub trusted_proxies: Option<Vec<String>>,
    /// Where your load balancers say it, read from the right: `x-forwarded-for`, or `forwarded` (RFC 7239). The other
    /// header is not looked at, since a client may have written it.
    pub hops: Option<HopHeader>,
    /// Addresses or networks that are never blocked, whatever they send.
    pub never_block: Option<Vec<String>>,
    /// Addresses or networks behind which many people sit, such as the way out of an office or of a mobile carrier. A
    /// decision on one of them is a throttle at most; keys, tokens and certificates that come from there are judged
    /// like any other.
    pub shared_addresses: Option<Vec<String>>,
    /// New API keys that one address may bring in an hour before its keys stop counting as clients of their own.
    pub new_keys_per_address: Option<u32>,
    /// Clients remembered for each model; the longest silent is forgotten first.
    pub remembered: Option<usize>,
}

/// When enforcement holds itself back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawBrake {
    /// New blocks a minute; those beyond it are written down and not acted on.
    pub blocks_per_minute: Option<u32>,
    /// Share of the clients seen in the last ten minutes that may be blocked at once, 0 to 1.
    pub share_of_clients: Option<f64>,
}

/// How long the ledger keeps what. Entries stay in its chain; what goes is their content, and the oldest files.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawLedger {
    /// How long the content of findings is kept.
    pub findings_for: Option<Period>,
    /// How long everything else is kept: decisions, and what operators did. Not shorter than `findings_for`; a
    /// decision that can still act is kept in any case.
    pub decisions_for: Option<Period>,
    /// Bytes of the ledger; beyond it the oldest goes first, however young it is.
    pub bytes_max: Option<ByteSize>,
}

/// Bounds on what is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawLimits {
    /// Bytes of a request or answer body that are looked into; a longer body passes and is counted as not inspected.
    pub inspect_bytes: Option<ByteSize>,
    /// Rows of one request that are judged; the rest are counted.
    pub rows_per_exchange: Option<usize>,
    /// Columns of a row that are read; a wider body is counted as not inspected.
    pub columns: Option<usize>,
    /// Bytes of traffic that wait to be looked at, for each lane; beyond it the busiest client's traffic is shed first.
    pub lane_bytes: Option<ByteSize>,
    /// Share of `lane_bytes` that one client may fill, 0.001 to 1.
    pub lane_share_per_client: Option<f64>,
    /// Questions whose answers are awaited, for each model.
    pub open_questions: Option<usize>,
    /// Distinct model names discovered in traffic that no entry of `models` claims; further names are counted.
    pub discovered_models: Option<usize>,
    /// Bytes of an answer that are held for its contract, or to be degraded; a longer answer cannot be judged
    /// (`on_error`), and is not coarsened.
    pub hold_bytes: Option<ByteSize>,
    /// Blocked clients at once, over all models.
    pub blocks: Option<usize>,
    /// Bytes of one recording; recording stops there.
    pub record_bytes: Option<ByteSize>,
    /// Open client connections; at most two fifths of the process's limit of open files, whatever stands here.
    pub connections: Option<usize>,
    /// Open connections of one address (of IPv6: one /64). Trusted proxies and unix sockets are exempt.
    pub connections_per_address: Option<usize>,
    /// Requests that are open at once; beyond it clients get 503 with Retry-After.
    pub in_flight: Option<usize>,
    /// Bytes of a request's head; a longer one is refused with 431.
    pub head_bytes: Option<ByteSize>,
    /// Lines of a request's head; a longer one is refused with 431.
    pub header_lines: Option<usize>,
    /// Bytes of a request body, for every model that does not say otherwise; a longer one is refused with 413.
    pub body_bytes: Option<ByteSize>,
    /// Bytes a second below which a request body is cut, after ten seconds of grace; 0 asks for none.
    pub body_bytes_per_second: Option<ByteSize>,
    /// Bytes a second below which a client that does not take its answer is cut, after ten seconds of grace; 0 asks
    /// for none.
    pub answer_bytes_per_second: Option<ByteSize>,
    /// Streams that one HTTP/2 connection may have open.
    pub http2_streams: Option<u32>,
}

/// How long anything may take.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawTimeouts {
    /// From the first byte of a connection or request to the end of the request's head, a TLS handshake included.
    pub head: Option<Period>,
    /// How long a connection without an open request stays.
    pub keep_alive: Option<Period>,
    /// Until the upstream accepts a connection, a TLS handshake included.
    pub connect: Option<Period>,
    /// From the end of the request to the first byte of the answer of one try; never longer than `first_byte`.
    pub each_try: Option<Period>,
    /// From the end of the request to the first byte of the answer, over all tries; a slow model needs more. Never
    /// longer than `total`.
    pub first_byte: Option<Period>,
    /// From the head of the request to the end of its answer. A stream that lasts longer needs more.
    pub total: Option<Period>,
    /// Between two bytes of a request or answer body.
    pub idle: Option<Period>,
    /// How long an answer is held for its contract, or to be degraded; after that it cannot be judged (`on_error`), and
    /// is not coarsened.
    pub hold_answer: Option<Period>,
    /// How long a question is held for its verdict; after that it goes on.
    pub hold_question: Option<Period>,
    /// From the signal to stop until open requests are cut.
    pub drain: Option<Period>,
}

/// One protected endpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["name"]))]
pub struct RawModel {
    /// Its name in metrics, findings and the API: 1 to 64 letters, digits, `.`, `_` or `-`. Required.
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,64}$"))]
    pub name: Option<String>,
    /// Path prefix that claims a request, such as `/v2/models/pricing`. Without it, the model name that the protocol
    /// finds in the request decides.
    #[schemars(extend("pattern" = "^/[^?#]*$"))]
    pub path: Option<String>,
    /// Where its requests go, written like the top-level `upstream`, which serves by default.
    pub upstream: Option<RawUpstream>,
    /// Bytes of a request body; a longer one is refused with 413. By default `limits.body_bytes`.
    pub body_bytes: Option<ByteSize>,
    /// How its requests and answers are read; by default the top-level `protocol`.
    pub protocol: Option<RawProtocol>,
    /// Whether decisions are acted on; by default the top-level `mode`.
    pub mode: Option<Mode>,
    /// What waits for a verdict; by default the top-level `hold`.
    pub hold: Option<Hold>,
    /// What its answers must keep; keys left out come from the top-level `contract`.
    pub contract: Option<RawContract>,
    /// What normal looks like: a file of JSON lines, one row of features a line. Without it, a provisional reference
    /// is learned from the first requests.
    pub reference: Option<PathBuf>,
    /// Detectors by name; those left out come from the top-level `detectors`.
    pub detectors: Option<BTreeMap<String, RawDetector>>,
    /// Whether and how its drift is watched; keys left out come from the top-level `drift`.
    pub drift: Option<RawDrift>,
    /// What follows from a finding; keys left out come from the top-level `policy`.
    pub policy: Option<RawPolicy>,
    /// How long a decision lasts; by default the top-level `block_for`.
    pub block_for: Option<RawLadder>,
}

/// Text that no debug output shows. It is written out only to lay flags over a file, inside of this crate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RawSecret(pub String);

impl fmt::Debug for RawSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What tells one client from another, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawIdentity {
    /// `ip`, `certificate` or `header:NAME`.
    Word(String),
    /// `{header: NAME, verified_by_upstream: BOOL}`.
    Header(RawHeader),
    /// `{token: {...}}`.
    Token(Box<RawTokenForm>),
}

/// A request header that tells one client from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping of settings")]
pub struct RawHeader {
    /// The header's name, such as `X-API-Key`; case does not matter.
    pub header: String,
    /// Your word that the upstream refuses keys it does not know, so that nobody can invent one.
    #[serde(default)]
    pub verified_by_upstream: bool,
}

/// What answers must keep and what happens otherwise, as typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawContract {
    /// What happens to an answer that breaks the contract: `refuse`, `clamp` or `{fallback: FILE}`.
    pub on_violation: Option<RawOnViolation>,
    /// What happens to an answer that cannot be judged: `refuse` or `pass`.
    pub on_error: Option<OnError>,
    /// The contract's own parameters, such as `rules`.
    pub parameters: Map<String, Value>,
}

/// What happens to an answer that breaks its contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawOnViolation {
    /// The client gets 422 with a problem document.
    Refuse,
    /// Offending numbers move to the nearest allowed value, row by row.
    Clamp,
    /// This file's JSON stands in: a number or array for the offending row, an object for the whole answer.
    Fallback(PathBuf),
}

/// One detector's entry, as typed.
#[derive(Clone, Debug, PartialEq)]
pub enum RawDetector {
    /// `on` or `off`.
    Switched(bool),
    /// Its parameters.
    Parameters(Map<String, Value>),
}

/// A protocol, as typed: a name, or one name with its parameters below it.
#[derive(Clone, Debug, PartialEq)]
pub struct RawProtocol {
    /// The protocol's name.
    pub name: String,
    /// Its parameters, where some were typed.
    pub parameters: Option<Map<String, Value>>,
}

// === What is written in more than one form ===

impl<'de> Deserialize<'de> for RawIdentity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawIdentity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ip, certificate, header:NAME, {header: NAME, verified_by_upstream: true} or {token: {...}}")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<RawIdentity, E> {
                Ok(RawIdentity::Word(word.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawIdentity, A::Error> {
                identity::Mapping::deserialize(MapAccessDeserializer::new(map))?
                    .form()
                    .map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl Serialize for RawIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Word(word) => word.serialize(serializer),
            Self::Header(header) => header.serialize(serializer),
            Self::Token(token) => token.serialize(serializer),
        }
    }
}

impl JsonSchema for RawIdentity {
    fn schema_name() -> Cow<'static, str> {
        "RawIdentity".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let header = generator.subschema_for::<RawHeader>();
        let token = generator.subschema_for::<RawTokenForm>();
        json_schema!({"oneOf": [{"type": "string", "pattern": "^(ip|certificate|header:.+)$"}, header, token]})
    }
}

impl<'de> Deserialize<'de> for RawContract {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = RawContract;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of settings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawContract, A::Error> {
                let mut contract = RawContract::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "on_violation" => contract.on_violation = map.next_value()?,
                        "on_error" => contract.on_error = map.next_value()?,
                        _ => drop(contract.parameters.insert(key, map.next_value()?)),
                    }
                }
                Ok(contract)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl Serialize for RawContract {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = [
            ("on_violation", self.on_violation.as_ref().and_then(|typed| serde_json::to_value(typed).ok())),
            ("on_error", self.on_error.and_then(|typed| serde_json::to_value(typed).ok())),
        ];
        let mut all = self.parameters.clone();
        all.extend(own.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        all.serialize(serializer)
    }
}

impl JsonSchema for RawContract {
    fn schema_name() -> Cow<'static, str> {
        "RawContract".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let on_violation = generator.subschema_for::<RawOnViolation>();
        let on_error = generator.subschema_for::<OnError>();
        json_schema!({
            "type": "object",
            "properties": {
                "on_violation": {
                    "description": "What happens to an answer that breaks the contract: `refuse` (422 with a problem document), `clamp` (offending numbers move to the nearest allowed value) or `{fallback: FILE}` (the file's JSON stands in: a number or array for the offending row, an object for the whole answer). It needs `hold: answer`.",
                    "allOf": [on_violation],
                },
                "on_error": {
                    "description": "What happens to an answer that cannot be judged, such as one in an unknown encoding: `refuse` (502 with a problem document) or `pass`.",
                    "allOf": [on_error],
                },
            },
        })
    }
}

impl<'de> Deserialize<'de> for RawDetector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawDetector;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("on, off or a mapping of parameters")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<RawDetector, E> {
                Ok(RawDetector::Switched(on))
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<RawDetector, E> {
                match word {
                    "on" => Ok(RawDetector::Switched(true)),
                    "off" => Ok(RawDetector::Switched(false)),
                    _ => Err(E::custom(format_args!(
                        "expected on, off or a mapping of parameters, found \"{word}\""
                    ))),
                }
            }
            fn visit_unit<E: Error>(self) -> Result<RawDetector, E> {
                Ok(RawDetector::Switched(true))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawDetector, A::Error> {
                Map::deserialize(MapAccessDeserializer::new(map)).map(RawDetector::Parameters)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl Serialize for RawDetector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Switched(on) => serializer.serialize_bool(*on),
            Self::Parameters(parameters) => parameters.serialize(serializer),
        }
    }
}

impl JsonSchema for RawDetector {
    fn schema_name() -> Cow<'static, str> {
        "RawDetector".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"enum": ["on", "off", true, false]}, {"type": "object"}]})
    }
}

impl<'de> Deserialize<'de> for RawProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawProtocol;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a protocol's name, or one name with its parameters below it")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<RawProtocol, E> {
                Ok(RawProtocol { name: name.into(), parameters: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawProtocol, A::Error> {
                let Some(name) = map.next_key()? else {
                    return Err(A::Error::custom("expected a protocol's name with its parameters below it"));
                };
                let parameters = map.next_value()?;
                match map.next_key::<String>()? {
                    None => Ok(RawProtocol { name, parameters }),
                    Some(_) => Err(A::Error::custom("a model speaks one protocol; keep one name here")),
                }
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl Serialize for RawProtocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.parameters {
            None => self.name.serialize(serializer),
            Some(parameters) => BTreeMap::from([(&self.name, parameters)]).serialize(serializer),
        }
    }
}

impl JsonSchema for RawProtocol {
    fn schema_name() -> Cow<'static, str> {
        "RawProtocol".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "object"]})
    }
}
