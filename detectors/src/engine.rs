//! The engine: all that is remembered of one model, and the order in which its detectors are asked.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::Contract;
use crate::facts::{Answered, Asked, Time};
use crate::finding::{DecisionId, Record};
use crate::identity::Identity;
use crate::policy::Policy;
use crate::reference::Reference;

/// Everything an engine is built from.
pub struct Build {
    /// The model's name, as records print it.
    pub model: Arc<str>,
    /// Secret of this instance: keys every hash, so that nobody outside can aim at a cell.
    pub hash_key: [u64; 2],
    /// Detector names with their checked parameters.
    pub detectors: Vec<(String, serde_json::Value)>,
    /// The output contract.
    pub contract: Contract,
    /// What an offending answer leads to, as records print it.
    pub contract_action: crate::finding::Action,
    /// From findings to decisions.
    pub policy: Policy,
    /// What normal looks like, if the operator named it; otherwise it is learned as provisional.
    pub reference: Option<Reference>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds on what one engine remembers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients remembered.
    pub clients: usize,
    /// Questions whose answers are awaited.
    pub open_questions: usize,
    /// New keys that one address may bring in an hour.
    pub new_keys_per_address: u32,
}

/// A block to put into force.
#[derive(Clone, Debug)]
pub struct Block {
    /// The decision.
    pub id: DecisionId,
    /// Whom it refuses.
    pub client: Identity,
    /// When it was taken.
    pub time: Time,
    /// When it ends.
    pub until: Time,
    /// Whether the gate may act on it: the identity is proven, the client is not on the never-block list, and what
    /// it rests on is trusted. Otherwise it is an observation.
    pub may_act: bool,
    /// Clients active within the last ten minutes, for the brake.
    pub clients_active: usize,
}

/// What one step of the engine gives: cleared and reused by the caller.
#[derive(Default)]
pub struct Outbox {
    /// Findings and decisions, in order.
    pub records: Vec<Record>,
    /// Blocks to put into force; each also stands in `records`.
    pub blocks: Vec<Block>,
    /// Keys that this step proved to be identities.
    pub proven_keys: Vec<u64>,
    /// A reference that this step froze as provisional.
    pub frozen: Option<Reference>,
    /// Detectors that this step quarantined after a panic.
    pub quarantined: Vec<&'static str>,
}

/// Counts of bounds reached and sizes, read by the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Clients remembered now.
    pub clients: u64,
    /// Clients forgotten to make room, ever.
    pub clients_evicted: u64,
    /// Open questions now.
    pub open_questions: u64,
    /// Open questions given up to make room, ever.
    pub open_questions_evicted: u64,
    /// Rows remembered now.
    pub rows: u64,
    /// Rows forgotten to make room, ever.
    pub rows_evicted: u64,
    /// Rows that were exact repeats, ever.
    pub repeats: u64,
    /// Rows in the reference now.
    pub reference_rows: u64,
}

/// One model's engine.
pub struct Engine {}

impl Engine {
    /// Builds the engine of one model.
    ///
    /// # Errors
    /// Names a detector that does not exist or parameters that it cannot take.
    pub fn new(_build: Build) -> Result<Self, BuildError> {
        Ok(Self {})
    }

    /// Takes a question: repeats are removed, the detectors that need only the question judge it.
    pub fn asked(&mut self, _asked: &Asked<'_>, _out: &mut Outbox) {}

    /// Takes an answer: it is joined to its question and the rest of the detectors judge it.
    pub fn answered(&mut self, _answered: &Answered<'_>, _out: &mut Outbox) {}

    /// An operator lifted a decision: its client's evidence starts afresh.
    pub fn lift(&mut self, _decision: DecisionId, _time: Time) {}

    /// Sizes and bounds reached.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges::default()
    }

    /// How long a client counts as active.
    pub const ACTIVE: Duration = Duration::from_secs(600);
}

/// Why an engine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No detector of that name.
    #[error("there is no detector {0:?}; `checkgate detectors` lists them")]
    UnknownDetector(String),
    /// Parameters that the detector cannot take.
    #[error("detector {detector}: {message}")]
    Parameters {
        /// Its name.
        detector: String,
        /// What is wrong, and the mend.
        message: String,
    },
}
