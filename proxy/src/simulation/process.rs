//! What a crash takes away: gate, desk, lane and ledger of one process, all of them the real ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use checkgate_detectors::facts::Time;
use tokio::sync::broadcast;

use super::clock::{self, Clock, Start};
use super::dice::Dice;
use super::disk::VirtualDisk;
use crate::capture::Entry;
use crate::gate::brake::BrakeLimits;
use crate::gate::{Gate, GateSettings};
use crate::lane::desk::{Desk, SavedEngine, Step};
use crate::ledger::book::Bounds;
use crate::ledger::entry::{By, Entry as Noted, What};
use crate::ledger::reduce::Retention;
use crate::ledger::{Hooks, Ledger, LedgerSettings, Opening, Ticket, Writer};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::records;

/// What worlds share: counts. Nothing depends on them.
#[derive(Clone)]
pub struct Setting {
    metrics: Arc<Metrics>,
    /// How much a book remembers.
    pub bounds: Bounds,
    /// Whether the disk does more harm than the ledger claims to bear, see `Lies::harsh`.
    pub harsh: bool,
}

impl Setting {
    pub fn new() -> Self {
        let metrics = Metrics::new(&[], &[]).unwrap();
        let bounds = Bounds { decisions_max: 60, findings_max: 40 };
        Self { metrics, bounds, harsh: std::env::var_os("SIMULATION_HARSH_DISK").is_some() }
    }
}

/// What a process hands over.
pub struct Saved {
    gate: Vec<u8>,
    engines: Vec<SavedEngine>,
    proven: BTreeSet<u64>,
}

/// One process.
pub struct Process {
    pub start: Start,
    pub gate: Gate,
    pub desk: Desk,
    pub plan: Arc<Plan>,
    pub ledger: Ledger,
    /// The ledger's writer, which takes its turns when the world says so.
    pub writer: Writer,
    /// Entries that were noted, with the word that is awaited on them.
    pub tickets: Vec<(Arc<Noted>, Ticket)>,
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
    moment: Instant,
}

impl Process {
    /// A process whose ledger is not open yet. `moment` stands for the beginning of the world.
    pub fn new(
        start: Start,
        plan: Arc<Plan>,
        setting: &Setting,
        (disk, moment): (&VirtualDisk, Instant),
    ) -> Self {
        let (ledger, writer) = open_ledger(setting, disk, moment);
        Self {
            start,
            gate: gate(&plan, setting),
            desk: Desk::new(Arc::clone(&plan)).unwrap(),
            heard: ledger.listen(),
            ledger,
            writer,
            tickets: Vec::new(),
            moment,
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

    /// Hands an entry to the ledger, and gives it as the ledger numbered it.
    pub fn note(&mut self, now: Time, by: By, what: What) -> Arc<Noted> {
        let ticket = self.ledger.note(now, by.clone(), what.clone());
        let number = self.ledger.book().last();
        let entry = Arc::new(Noted { number, time: now, by, what });
        self.tickets.push((Arc::clone(&entry), ticket));
        entry
    }

    /// The writer does what there is to do.
    pub fn write(&mut self, clock: &Clock) {
        self.start.show(clock);
        self.writer.turn(self.moment + Duration::from_micros(clock.passed()));
    }

    /// What listeners heard since they were asked last.
    pub fn heard(&mut self) -> Vec<Arc<Noted>> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    /// Opens the ledger, whose disk works at this moment.
    pub fn open(&mut self, how: Opening, clock: &Clock) {
        self.ledger.ask(Some(how));
        self.write(clock);
    }

    /// Writes what waits and closes the ledger.
    pub fn close(&mut self, clock: &Clock) {
        self.ledger.ask(None);
        self.write(clock);
    }

    /// Puts into force what an earlier process decided.
    pub fn resume(&mut self, now: Time) {
        let book = self.ledger.book();
        self.gate.resume(book.open(now), now);
    }

    /// What another process goes on with, as bytes.
    pub fn save(&self, now: Time) -> Saved {
        let gate = postcard::to_stdvec(&self.gate.save(now)).unwrap();
        Saved { gate, engines: self.desk.save(&|_| true), proven: self.proven.clone() }
    }

    /// Goes on with what another process saved.
    pub fn inherit(&mut self, saved: Saved, now: Time, without_blocks: bool) {
        if !without_blocks {
            self.gate.restore(postcard::from_bytes(&saved.gate).unwrap(), now);
        }
        let refused = self.desk.restore(&saved.engines, &|_| true);
        assert!(refused.is_empty(), "what one process saved is of no use to another: {refused:?}");
        self.proven = saved.proven;
        self.inherited.1 = saved.engines;
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
            lines.extend(told(&step));
        }
        lines
    }
}

/// What a step told: its records, and what maintenance windows taught that ended with it.
pub fn told(step: &Step) -> impl Iterator<Item = String> {
    let taught = step.outbox.taught.iter().map(|taught| format!("{taught:?}"));
    step.outbox.records.iter().map(records::line).chain(taught)
}

fn open_ledger(setting: &Setting, disk: &VirtualDisk, moment: Instant) -> (Ledger, Writer) {
    let settings = LedgerSettings {
        disk: Arc::new(disk.clone()),
        bounds: setting.bounds,
        segment_bytes: 16 * 1024,
        retention: Retention::default(),
        clock: clock::reading,
    };
    let hooks = Hooks { told: Box::new(|_| {}), opened: Box::new(|_, _| {}) };
    Ledger::by_turns(settings, hooks, moment)
}

fn gate(plan: &Plan, setting: &Setting) -> Gate {
    let settings = GateSettings {
        blocks_max: plan.limits.blocks,
        proven_keys_max: 1000,
        brake: BrakeLimits::default(),
        never_block: Vec::new(),
        shared_addresses: Vec::new(),
        at_most: None,
        // No file: the world remembers the switch.
        kill_switch: PathBuf::new(),
    };
    Gate::new(settings, Arc::clone(&setting.metrics))
}
