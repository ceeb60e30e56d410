//! What a crash takes away: gate, desk, lane and ledger of one process, all of them the real ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use checkgate_detectors::facts::Time;
use tokio::sync::broadcast;

use super::clock::Start;
use super::dice::Dice;
use crate::capture::Entry;
use crate::gate::brake::BrakeLimits;
use crate::gate::{Gate, GateSettings};
use crate::lane::desk::{Desk, SavedEngine, Step};
use crate::ledger::Ledger;
use crate::ledger::book::Bounds;
use crate::ledger::entry::{By, Entry as Noted, What};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::records::{self, Outlet};

/// What worlds share: counts and an outlet that writes nowhere. Nothing depends on them.
#[derive(Clone)]
pub struct Setting {
    metrics: Arc<Metrics>,
    outlet: Arc<Outlet>,
    /// How much a book remembers.
    pub bounds: Bounds,
}

impl Setting {
    pub fn new() -> Self {
        let metrics = Metrics::new(&[], &[]).unwrap();
        let outlet = Arc::new(records::tests::silent(&metrics));
        Self { metrics, outlet, bounds: Bounds { decisions_max: 60, findings_max: 40 } }
    }
}

/// One process.
pub struct Process {
    pub start: Start,
    pub gate: Gate,
    pub desk: Desk,
    pub plan: Arc<Plan>,
    pub ledger: Ledger,
    /// Keys that some model knows as identities.
    pub proven: BTreeSet<u64>,
    /// What waits in front of the lane, by client: fair as the real door is, in an order that is drawn.
    pub lane: BTreeMap<usize, VecDeque<Entry>>,
    /// What the lane took since this process began.
    pub journal: Vec<Entry>,
    /// What it told.
    pub lines: Vec<String>,
    /// What it began with.
    pub inherited: (Arc<Plan>, Vec<SavedEngine>),
    /// Reused.
    pub step: Step,
    heard: broadcast::Receiver<Arc<Noted>>,
}

impl Process {
    pub fn new(start: Start, plan: Arc<Plan>, setting: &Setting) -> Self {
        let ledger = Ledger::in_memory(setting.bounds);
        Self {
            start,
            gate: gate(&plan, setting),
            desk: Desk::new(Arc::clone(&plan)).unwrap(),
            heard: ledger.listen(),
            ledger,
            proven: BTreeSet::new(),
            lane: BTreeMap::new(),
            journal: Vec::new(),
            lines: Vec::new(),
            inherited: (Arc::clone(&plan), Vec::new()),
            plan,
            step: Step::default(),
        }
    }

    /// Leaves a capture at the lane's door.
    pub fn queue(&mut self, client: usize, entry: Entry, captures_max: usize) {
        let waiting: usize = self.lane.values().map(VecDeque::len).sum();
        if waiting < captures_max {
            self.lane.entry(client).or_default().push_back(entry);
        }
    }

    /// Takes the next capture of one of the clients.
    pub fn dequeue(&mut self, dice: &mut Dice) -> Option<Entry> {
        let client = *self.lane.keys().nth(dice.below(self.lane.len()))?;
        let waiting = self.lane.get_mut(&client)?;
        let entry = waiting.pop_front();
        if waiting.is_empty() {
            self.lane.remove(&client);
        }
        entry
    }

    /// Hands an entry to the ledger, and gives what its listeners heard.
    pub fn note(&mut self, now: Time, by: By, what: What) -> Vec<Arc<Noted>> {
        drop(self.ledger.note(now, by, what));
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    /// A gate and a desk of another process go on where these are; everything goes through bytes.
    pub fn hand_over(&mut self, start: Start, now: Time, setting: &Setting) {
        let saved = self.desk.save(&|_| true);
        let bytes = postcard::to_stdvec(&self.gate.save(now)).unwrap();
        self.gate = gate(&self.plan, setting);
        self.gate.restore(postcard::from_bytes(&bytes).unwrap(), now);
        self.desk = Desk::new(Arc::clone(&self.plan)).unwrap();
        let refused = self.desk.restore(&saved, &|_| true);
        assert!(refused.is_empty(), "what one process saved is of no use to another: {refused:?}");
        self.start = start;
        self.journal.clear();
        self.lines.clear();
        self.inherited = (Arc::clone(&self.plan), saved);
    }

    /// What another desk makes of the same journal.
    pub fn replayed(&self) -> Vec<String> {
        let (plan, saved) = &self.inherited;
        let mut desk = Desk::new(Arc::clone(plan)).unwrap();
        desk.restore(saved, &|_| true);
        let mut step = Step::default();
        let mut lines = Vec::new();
        for entry in &self.journal {
            desk.step(entry.clone(), &mut step);
            lines.extend(step.outbox.records.iter().map(records::line));
        }
        lines
    }
}

fn gate(plan: &Plan, setting: &Setting) -> Gate {
    let settings = GateSettings {
        blocks_max: plan.limits.blocks,
        proven_keys_max: 1000,
        brake: BrakeLimits::default(),
        never_block: Vec::new(),
        at_most: None,
        // No file: the world remembers the switch.
        kill_switch: PathBuf::new(),
    };
    Gate::new(settings, Arc::clone(&setting.metrics), Arc::clone(&setting.outlet))
}
