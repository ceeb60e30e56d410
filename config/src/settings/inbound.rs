//! Where other systems decide.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

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
