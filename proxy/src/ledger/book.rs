//! What the entries of the ledger add up to: every decision with where it stands, and the latest findings.
//!
//! A pure fold: the same entries in the same order give the same book, whether they come from a lane, from the disk
//! after a restart or from a simulation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use ipnet::IpNet;

use super::entry::{Decided, Entry, Status, What};

/// How much a book remembers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Decisions, open or closed.
    pub decisions_max: usize,
    /// Findings.
    pub findings_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { decisions_max: 200_000, findings_max: 10_000 }
    }
}

/// A finding with the number of its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number of its entry, by which lists are continued.
    pub number: u64,
    /// When its entry was made.
    pub time: Time,
    /// Its record as a line of JSON.
    pub record: Arc<str>,
}

/// The sum of all entries.
#[derive(Clone, Debug, Default)]
pub struct Book {
    bounds: Bounds,
    /// Each with the number of the entry that made it, by which lists are continued.
    decisions: BTreeMap<DecisionId, (u64, Decided)>,
    by_number: BTreeMap<u64, DecisionId>,
    findings: VecDeque<Found>,
    never_block: BTreeSet<IpNet>,
    kill_switch: bool,
    evicted: u64,
}

impl Book {
    /// A book in which nothing stands yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Takes the next entry.
    pub fn take(&mut self, entry: &Entry) {
        match &entry.what {
            What::Finding { record } => self.found(entry.number, entry.time, record),
            What::Decision(decided) => self.decided(entry.number, decided),
            What::Approved { id, until } => self.change(*id, |decided| {
                decided.status = Status::InForce;
                decided.until = *until;
            }),
            What::Rejected { id } => self.change(*id, |decided| decided.status = Status::Rejected),
            What::Lifted { id } => self.change(*id, |decided| decided.status = Status::Lifted),
            What::Met { id, requests } => self.change(*id, |decided| decided.requests = *requests),
            What::Extended { id, until } => self.change(*id, |decided| decided.until = *until),
            What::NeverBlock { added, removed } => {
                self.never_block.extend(added);
                removed.iter().for_each(|network| _ = self.never_block.remove(network));
            }
            What::KillSwitch { on } => self.kill_switch = *on,
            What::Erased { .. }
            | What::Configuration { .. }
            | What::Reference { .. }
            | What::Started { .. } => {}
        }
    }

    fn found(&mut self, number: u64, time: Time, record: &Arc<str>) {
        if self.findings.len() >= self.bounds.findings_max {
            self.findings.pop_front();
        }
        self.findings.push_back(Found { number, time, record: Arc::clone(record) });
    }

    fn decided(&mut self, number: u64, decided: &Decided) {
        if let Some((before, _)) = self.decisions.insert(decided.id, (number, decided.clone())) {
            self.by_number.remove(&before);
        }
        self.by_number.insert(number, decided.id);
        while self.decisions.len() > self.bounds.decisions_max.max(1) {
            let Some((_, id)) = self.by_number.pop_first() else { return };
            self.decisions.remove(&id);
            self.evicted += 1;
        }
    }

    fn change(&mut self, id: DecisionId, how: impl FnOnce(&mut Decided)) {
        if let Some((_, decided)) = self.decisions.get_mut(&id) {
            how(decided);
        }
    }

    /// One decision.
    #[must_use]
    pub fn decision(&self, id: DecisionId) -> Option<&Decided> {
        self.decisions.get(&id).map(|(_, decided)| decided)
    }

    /// Decisions with the numbers of their entries, the newest first, from before the entry `before` on.
    pub fn decisions(&self, before: Option<u64>) -> impl Iterator<Item = (u64, &Decided)> {
        let older = ..before.unwrap_or(u64::MAX);
        self.by_number
            .range(older)
            .rev()
            .filter_map(|(number, id)| self.decisions.get(id).map(|(_, decided)| (*number, decided)))
    }

    /// Findings, the newest first, from before the entry `before` on.
    pub fn findings(&self, before: Option<u64>) -> impl Iterator<Item = &Found> {
        let older = before.unwrap_or(u64::MAX);
        self.findings.iter().rev().skip_while(move |found| found.number >= older)
    }

    /// Decisions that can still change something.
    pub fn open(&self, now: Time) -> impl Iterator<Item = &Decided> {
        self.decisions.values().map(|(_, decided)| decided).filter(move |decided| decided.is_open(now))
    }

    /// Networks that operators put on the never-block list while the program ran.
    #[must_use]
    pub fn never_block(&self) -> &BTreeSet<IpNet> {
        &self.never_block
    }

    /// Whether enforcement was switched off last.
    #[must_use]
    pub fn kill_switch(&self) -> bool {
        self.kill_switch
    }

    /// Decisions that were forgotten for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}
