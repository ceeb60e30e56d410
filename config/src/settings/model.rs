//! A protected endpoint.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Policy, Upstream};

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
