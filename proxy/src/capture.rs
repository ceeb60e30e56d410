//! Captures: what the request's way hands to a lane, in two parts with one id.
//!
//! Plain data without a handle in it, with a versioned byte form (the journal's): a lane can be fed from another
//! process, and a recording can be read by a later version.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use checkgate_detectors::contract::Violation;
use checkgate_detectors::facts::{NotInspected, Time};
use checkgate_detectors::finding::DecisionId;
use checkgate_detectors::identity::Asker;
use serde::{Deserialize, Serialize};

use crate::decode::KeptLines;
use crate::plan::{self, Plan};

/// The version of the byte form. Fields are only ever appended, under a new number.
pub const VERSION: u16 = 5;

/// The body of a part, as far as it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// Nothing of it, and why.
    Not(NotInspected),
}

impl Body {
    /// Lets go of what was kept, for want of room in front of the lane; a reason that stands already stays.
    pub fn shed(&mut self) {
        if let Self::Whole(_) = self {
            *self = Self::Not(NotInspected::Shed);
        }
    }

    /// Memory that the body holds on to, in bytes.
    pub fn held(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Not(_) => 0,
        }
    }
}

/// What became of a request before the upstream was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// It went on.
    Admitted,
    /// A decision refused it: this part is a head only.
    Refused(DecisionId),
}

/// The first part: the request body is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Joins the two parts.
    pub id: u64,
    /// When the request body was complete.
    pub time: Time,
    /// Who asks.
    pub asker: Asker,
    /// The id of the configured model that claims the request; `None` for unclaimed traffic.
    pub model: Option<u16>,
    /// The protocol that claims the request, by position in the list of decoders.
    pub protocol: Option<u8>,
    /// The model's name as the path gives it; empty where it gives none.
    pub name: String,
    /// Path without query.
    pub path: String,
    /// Headers that a decoder needs: content type, content encoding and their like.
    pub headers: KeptLines,
    /// Length of the request body in bytes.
    pub length: u64,
    /// Keyed hash of the request body, also where the body itself was shed; 0 where nothing is recorded.
    pub hash: u64,
    /// The body.
    pub body: Body,
    /// What became of it.
    pub admission: Admission,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The upstream's answer reached the client whole.
    Answered,
    /// The answer was withheld or replaced because it broke its contract.
    Replaced,
    /// The answer was withheld because it could not be judged.
    Unjudged,
    /// The client was blocked while it waited.
    Blocked(DecisionId),
    /// The upstream failed.
    UpstreamFailed,
    /// The client left, or the answer was cut.
    Cut,
}

/// The second part: the client has its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The id of the asked part.
    pub id: u64,
    /// When the answer was complete.
    pub time: Time,
    /// The upstream's status; 0 where it gave none.
    pub status: u16,
    /// Headers that a decoder needs.
    pub headers: KeptLines,
    /// Length of the upstream's answer body in bytes.
    pub length: u64,
    /// From the end of the question to the first byte of the answer.
    pub latency: Duration,
    /// The body as the upstream sent it, whatever the client got.
    pub body: Body,
    /// What the contract said where the answer was held for it; then the lane does not judge it again.
    pub judged: Option<Judged>,
    /// How it ended.
    pub outcome: Outcome,
}

/// A contract's verdict on a held answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Rows that were judged.
    pub rows: u64,
    /// Violations in the order of rows; the first few, so that a hostile answer cannot fill the journal.
    pub violations: Vec<Violation>,
}

/// What an operator did that the engine must know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lift {
    /// When.
    pub time: Time,
    /// The decision that no longer holds.
    pub decision: DecisionId,
}

/// An operator approved a proposal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approved {
    /// When.
    pub time: Time,
    /// The decision that acts from now on.
    pub decision: DecisionId,
    /// When it ends.
    pub until: Time,
}

/// An operator turned a proposal down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// When.
    pub time: Time,
    /// The decision that never acts.
    pub decision: DecisionId,
}

/// An operator lets decisions of a model rest on what it learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promoted {
    /// When.
    pub time: Time,
    /// The model's name.
    pub model: String,
}

/// Time has passed, and with it the end of a maintenance window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Now.
    pub time: Time,
}

/// An operator lets decisions of a model rest on what a maintenance window taught.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Installed {
    /// When.
    pub time: Time,
    /// The model's name.
    pub model: String,
    /// What queries are held against, as JSON lines.
    pub query: Option<Arc<str>>,
    /// The bytes of what drift is measured by.
    pub drift: Option<Arc<[u8]>>,
}

/// What drift remembered before a restart, which a model's engine goes on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// When.
    pub time: Time,
    /// The model's name.
    pub model: String,
    /// What its engine saved.
    pub bytes: Vec<u8>,
}

/// A reload: from here on another plan holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replanned {
    /// When.
    pub time: Time,
    /// The plan, whole.
    #[serde(with = "plan::as_json")]
    pub plan: Arc<Plan>,
}

/// One entry of a lane's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A question.
    Asked(Asked),
    /// Its answer.
    Answered(Answered),
    /// An operator's lift.
    Lift(Lift),
    /// A reload.
    Plan(Replanned),
    /// An operator's approval.
    Approve(Approved),
    /// An operator's rejection.
    Reject(Rejected),
    /// An operator's trust in what a model learned.
    Promote(Promoted),
    /// What drift remembered before a restart.
    Remember(Remembered),
    /// Time has passed.
    Settle(Settled),
    /// An operator's trust in what a maintenance window taught.
    Install(Installed),
}

impl Entry {
    /// When it happened.
    #[must_use]
    pub fn time(&self) -> Time {
        match self {
            Self::Asked(asked) => asked.time,
            Self::Answered(answered) => answered.time,
            Self::Lift(lift) => lift.time,
            Self::Plan(replanned) => replanned.time,
            Self::Approve(approved) => approved.time,
            Self::Reject(rejected) => rejected.time,
            Self::Promote(promoted) => promoted.time,
            Self::Remember(remembered) => remembered.time,
            Self::Settle(settled) => settled.time,
            Self::Install(installed) => installed.time,
        }
    }
}
