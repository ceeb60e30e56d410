//! Where findings and decisions are sent, as typed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::settings::{EventKind, Mode, Severity};
use crate::units::{ByteSize, Period};

/// One place that findings, decisions and what operators do are sent to. It holds exactly one of the parts below by its
/// name, with that part's parameters. Secrets stand in environment variables (`${NAME}`) or files (`{file: PATH}`).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["name"]))]
pub struct RawSink {
    /// Its name in metrics, in the API and of its files in the state folder: 1 to 64 letters, digits, `.`, `_` or `-`.
    /// A sink that is given another name begins anew. Required.
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,64}$"))]
    pub name: Option<String>,
    /// What is sent; without it everything is.
    pub only: Option<RawOnly>,
    /// How much is sent at once.
    pub batch: Option<RawBatch>,
    /// How long the other side may take for one batch, connecting included.
    pub timeout: Option<Period>,
    /// What may wait for the other side, in the ledger; what is beyond it is skipped and counted.
    pub spool: Option<RawSpool>,
    /// The part and its parameters.
    #[serde(flatten)]
    #[schemars(skip)]
    pub part: RawSinkPart,
}

/// The rest of a sink's keys: the part and its parameters. Debug shows their names alone.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawSinkPart(pub Map<String, Value>);

impl fmt::Debug for RawSinkPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is sent: what every condition that is typed holds for. An event that is about no model, or no detector, is not
/// kept back by a condition on models or detectors.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawOnly {
    /// Kinds of events.
    pub kinds: Option<Vec<EventKind>>,
    /// The least severity: `low`, `medium` or `high`.
    pub severity: Option<Severity>,
    /// Names of models.
    pub models: Option<Vec<String>>,
    /// Names of detectors.
    pub detectors: Option<Vec<String>>,
    /// Modes that the record was made in: `observe` or `enforce`.
    pub modes: Option<Vec<Mode>>,
}

/// How much is sent at once. A part may send less at once than stands here.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawBatch {
    /// Events.
    pub events: Option<usize>,
    /// Bytes of theirs as JSON.
    pub bytes: Option<ByteSize>,
    /// How long an event waits for others.
    pub wait: Option<Period>,
}

/// What may wait for the other side. It is in the ledger in any case; a bound says from when on it is given up.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawSpool {
    /// Bytes of the ledger behind the sink's position.
    pub bytes: Option<ByteSize>,
    /// Age of an event.
    pub age: Option<Period>,
}
