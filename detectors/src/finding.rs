//! What detectors say and what policy answers: plain records, printed one JSON object a line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::campaign::Campaign;
use crate::facts::Time;
use crate::identity::Identity;
use crate::tenants::TenantTag;

/// Whether a gate acts on its decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Never acts; says and counts what it would have done.
    #[default]
    Observe,
    /// Acts on its decisions.
    Enforce,
}

/// How far a finding may go by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Precise enough to block on.
    One,
    /// Tells an operator something; never blocks.
    Two,
}

impl Serialize for Tier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(match self {
            Self::One => 1,
            Self::Two => 2,
        })
    }
}

impl<'de> Deserialize<'de> for Tier {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            other => Err(serde::de::Error::custom(format_args!("a tier is 1 or 2, not {other}"))),
        }
    }
}

/// What is done about a finding, weakest first: what may be done to one answer stands before what may be done to a
/// client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is told and nothing else.
    Alert,
    /// Offending values of the answer are moved to the nearest one that the contract allows.
    Clamp,
    /// The offending answer is replaced by the operator's.
    Fallback,
    /// The offending answer is withheld.
    Refuse,
    /// The client's requests go on, and the model server is told of the decision.
    Tag,
    /// The client is refused beyond so many requests a minute.
    Throttle,
    /// The client's answers are coarsened and delayed.
    Degrade,
    /// The client is refused before the upstream is contacted.
    Block,
}

impl Action {
    /// The word that stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Clamp => "clamp",
            Self::Fallback => "fallback",
            Self::Refuse => "refuse",
            Self::Tag => "tag",
            Self::Throttle => "throttle",
            Self::Degrade => "degrade",
            Self::Block => "block",
        }
    }
}

/// The memory that a finding rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Distinct rows that count towards the statistic.
    pub rows: u64,
    /// Requests that those rows came in.
    pub requests: u64,
    /// From the first of them to the last, in seconds.
    pub seconds: f64,
    /// Share of this client's requests that were looked into, 0 to 1.
    pub observed: f64,
}

/// The id of a decision: stable under replay, meaningless to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(pub u64);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d-{:016x}", self.0)
    }
}

impl std::str::FromStr for DecisionId {
    type Err = InvalidDecisionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("d-").filter(|digits| digits.len() == 16).ok_or(InvalidDecisionId)?;
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| InvalidDecisionId)
    }
}

/// The id of a finding, and of the decision that answers it: stable under replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingId(pub u64);

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f-{:016x}", self.0)
    }
}

impl Serialize for FindingId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The release of MITRE ATLAS that technique ids are taken from.
pub const ATLAS_VERSION: &str = "5.6.0";

/// A text that is not a decision id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a decision id is \"d-\" and 16 hexadecimal digits, as in d-00f3a2b1c4d5e6f7")]
pub struct InvalidDecisionId;

impl Serialize for DecisionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DecisionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A detector's statement.
    Finding,
    /// A detector's statement that says too little alone: it stands in the log and is told to nobody.
    Note,
    /// Policy's answer to a finding.
    Decision,
    /// A change of a model's drift: [`crate::drift::record::DriftRecord`], which is about no client.
    Drift,
}

/// A finding, or the decision that answers it: one shape, so that whoever reads the log learns it once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The finding, as `checkgate explain` takes it; a decision carries the id of the finding that it answers.
    pub id: FindingId,
    /// When the row arrived that crossed the limit, as Unix seconds.
    #[serde(serialize_with = "as_seconds")]
    pub time: Time,
    /// Finding or decision.
    pub kind: Kind,
    /// Whom it is about.
    #[serde(serialize_with = "as_text")]
    pub client: Identity,
    /// The model that was asked.
    pub model: Arc<str>,
    /// The detector's name, as in `checkgate detectors`.
    pub detector: &'static str,
    /// How far the finding may go.
    pub tier: Tier,
    /// MITRE ATLAS technique.
    pub atlas: &'static str,
    /// The release of MITRE ATLAS that `atlas` is taken from.
    pub atlas_version: &'static str,
    /// Entry of the OWASP Machine Learning Security Top 10 (2023), where there is one.
    pub owasp: Option<&'static str>,
    /// The measured value.
    pub statistic: f64,
    /// The value at which the detector speaks.
    pub limit: f64,
    /// What was looked at.
    pub window: Window,
    /// What is done about it; in `observe`, what would have been.
    pub action: Action,
    /// The mode this record was made in.
    pub mode: Mode,
    /// The decision that this record is, or led to.
    pub decision_id: Option<DecisionId>,
    /// When the decision ends, as Unix seconds.
    #[serde(serialize_with = "as_optional_seconds")]
    pub until: Option<Time>,
    /// The columns that gave it away.
    pub fields: Vec<String>,
    /// The campaign that it is about, if it is about several clients together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Campaign>,
    /// What policy went by, where there is something to say.
    #[serde(flatten)]
    pub grounds: Grounds,
    /// Up to three example request ids.
    pub requests: Vec<String>,
    /// The same in a sentence for a person at 3 a.m.
    pub explanation: String,
}

/// Where a decision holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// At the model that its record names, and at no other.
    Model,
    /// At every model that is in `enforce`. What was decided before decisions had a scope holds there.
    #[default]
    Everywhere,
}

impl Scope {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Everywhere => "everywhere",
        }
    }
}

impl Record {
    /// The one model at which the decision holds that it is or led to; everywhere without it.
    #[must_use]
    pub fn only(&self) -> Option<Arc<str>> {
        (self.grounds.scope == Some(Scope::Model)).then(|| Arc::clone(&self.model))
    }
}

/// What policy went by. What there is not is left out of the record.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Grounds {
    /// The rule that was applied: `rule 2 of policy.rules`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The tenant that the client belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantTag>,
    /// What was proposed; until somebody approves it, nothing is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposed: Option<Proposed>,
    /// Where the decision holds; only on records that are a decision or led to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether a maintenance window kept it from counting, and what that is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muted: Option<String>,
}

/// A proposal, as its record tells it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Proposed {
    /// What is done once it is approved.
    pub action: Action,
    /// For how long then, in seconds.
    #[serde(serialize_with = "as_length")]
    pub lasts: Duration,
    /// When it is too late to approve it, as Unix seconds; none where it approves itself.
    #[serde(serialize_with = "as_optional_seconds", skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// When it approves itself, as Unix seconds.
    #[serde(serialize_with = "as_optional_seconds", skip_serializing_if = "Option::is_none")]
    pub approves: Option<Time>,
}

/// How a request id is printed, in records and in the journal.
#[must_use]
pub fn request_id(id: u64) -> String {
    format!("r-{id:016x}")
}

pub(crate) fn as_seconds<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.seconds())
}

fn as_optional_seconds<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(Time::seconds).serialize(serializer)
}

fn as_length<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(length.as_secs_f64())
}

fn as_text<S: Serializer>(text: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_has_one_word_and_a_place_by_its_strength() {
        let actions = [
            Action::Alert,
            Action::Clamp,
            Action::Fallback,
            Action::Refuse,
            Action::Tag,
            Action::Throttle,
            Action::Degrade,
            Action::Block,
        ];
        assert!(actions.is_sorted());
        for action in actions {
            let word = serde_json::to_string(&action).unwrap();
            assert_eq!(word.trim_matches('"'), action.as_str());
        }
    }

    #[test]
    fn a_decision_id_reads_back() {
        let id = DecisionId(0x00f3_a2b1_c4d5_e6f7);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "d-", "d-12", "f-00f3a2b1c4d5e6f7", "d-00f3a2b1c4d5e6fg"] {
            assert_eq!(bad.parse::<DecisionId>(), Err(InvalidDecisionId), "{bad:?} was read");
        }
    }
}
