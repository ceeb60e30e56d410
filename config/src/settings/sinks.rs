//! Where findings and decisions are sent.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chosen, Mode, Severity};

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
