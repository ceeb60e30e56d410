//! What the entries of the ledger add up to: every decision with where it stands, and the latest findings.
//!
//! A pure fold: the same entries in the same order give the same book, whether they come from a lane, from the disk
//! after a restart or from a simulation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use checkgate_detectors::identity::Identity;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::entry::{Decided, Entry, Status, What, record_names};
use crate::clock::{Carried, Reading};

/// How much a book remembers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Decisions, open or closed.
    pub decisions_max: usize,
    /// Findings, changes of drift among them.
    pub findings_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { decisions_max: 200_000, findings_max: 10_000 }
    }
}

/// A finding with the number of its entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The number of the last entry that was taken.
    last: u64,
    /// What the process that started last read from its clocks.
    clock: Option<Reading>,
    /// Decisions that were put out of the book since somebody asked.
    gone: Vec<DecisionId>,
}

/// What a book is besides its decisions and findings: little, and kept together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The number of the last entry that was taken.
    pub last: u64,
    /// The never-block list of operators.
    pub never_block: BTreeSet<IpNet>,
    /// Whether enforcement was switched off last.
    pub kill_switch: bool,
    /// Decisions that made room for others.
    pub evicted: u64,
    /// What the process that started last read from its clocks.
    pub clock: Option<Reading>,
}

impl Book {
    /// A book in which nothing stands yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// The book that these add up to; decisions in the order of their numbers.
    #[must_use]
    pub fn of(
        bounds: Bounds,
        standing: Standing,
        decisions: impl IntoIterator<Item = (u64, Decided)>,
        findings: impl IntoIterator<Item = Found>,
    ) -> Self {
        let mut book = Self::new(bounds);
        decisions.into_iter().for_each(|(number, decided)| book.decided(number, decided));
        book.findings.extend(findings);
        book.gone.clear();
        (book.last, book.evicted, book.clock) = (standing.last, standing.evicted, standing.clock);
        (book.never_block, book.kill_switch) = (standing.never_block, standing.kill_switch);
        book
    }

    /// What it is besides decisions and findings.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            last: self.last,
            never_block: self.never_block.clone(),
            kill_switch: self.kill_switch,
            evicted: self.evicted,
            clock: self.clock.clone(),
        }
    }

    /// Takes the next entry. One that was taken before changes nothing.
    pub fn take(&mut self, entry: &Entry) {
        if entry.number <= self.last {
            return;
        }
        self.last = entry.number;
        match &entry.what {
            What::Finding { record } | What::Drift { record } => self.found(entry.number, entry.time, record),
            What::Decision(decided) => self.decided(entry.number, (**decided).clone()),
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
            What::Erased { client, .. } => _ = self.erase(*client),
            What::Started { clock, carried, .. } => self.started(clock, *carried, entry.time),
            What::Removed { never_block, kill_switch, .. } => {
                // As the entries before it had left them, those included that are no longer there.
                self.never_block = never_block.iter().copied().collect();
                self.kill_switch = *kill_switch;
            }
            What::Configuration { .. } | What::Reference { .. } | What::Unwritten { .. } => {}
        }
    }

    fn started(&mut self, clock: &Reading, carried: Carried, now: Time) {
        self.clock = Some(clock.clone());
        for (_, decided) in self.decisions.values_mut() {
            let lasts = decided.span();
            decided.time = carried.moment(decided.time);
            decided.approves_itself = decided.approves_itself.map(|time| carried.moment(time));
            decided.until = carried.end(carried.moment(decided.until), lasts, now);
        }
    }

    /// Forgets all that is known of a client, and gives the decisions that were about it.
    pub fn erase(&mut self, client: Identity) -> Vec<DecisionId> {
        let about = client.to_string();
        self.findings.retain(|found| !record_names(&found.record, &about));
        self.forget(|decided| decided.client == client)
    }

    /// Forgets decisions that were over before `decisions_since`, and findings from before `findings_since`.
    pub fn forget_before(&mut self, decisions_since: Time, findings_since: Time) {
        while self.findings.front().is_some_and(|found| found.time < findings_since) {
            self.findings.pop_front();
        }
        self.forget(|decided| decided.until < decisions_since);
    }

    fn forget(&mut self, which: impl Fn(&Decided) -> bool) -> Vec<DecisionId> {
        let gone: Vec<(u64, DecisionId)> = self
            .decisions
            .values()
            .filter(|(_, decided)| which(decided))
            .map(|(number, decided)| (*number, decided.id))
            .collect();
        for (number, id) in &gone {
            self.by_number.remove(number);
            self.decisions.remove(id);
            self.note_gone(*id);
        }
        gone.into_iter().map(|(_, id)| id).collect()
    }

    fn note_gone(&mut self, id: DecisionId) {
        // Whoever does not ask builds its copy anew, see `Index`.
        if self.gone.len() < self.bounds.decisions_max {
            self.gone.push(id);
        }
    }

    /// Decisions that were put out of the book since this was last asked.
    pub fn take_gone(&mut self) -> Vec<DecisionId> {
        std::mem::take(&mut self.gone)
    }

    fn found(&mut self, number: u64, time: Time, record: &Arc<str>) {
        if self.findings.len() >= self.bounds.findings_max {
            self.findings.pop_front();
        }
        self.findings.push_back(Found { number, time, record: Arc::clone(record) });
    }

    fn decided(&mut self, number: u64, decided: Decided) {
        self.by_number.insert(number, decided.id);
        if let Some((before, _)) = self.decisions.insert(decided.id, (number, decided)) {
            self.by_number.remove(&before);
        }
        while self.decisions.len() > self.bounds.decisions_max.max(1) {
            let Some((_, id)) = self.by_number.pop_first() else { return };
            self.decisions.remove(&id);
            self.note_gone(id);
            self.evicted += 1;
        }
    }

    fn change(&mut self, id: DecisionId, how: impl FnOnce(&mut Decided)) {
        if let Some((_, decided)) = self.decisions.get_mut(&id) {
            how(decided);
        }
    }

    /// One decision with the number of the entry that made it.
    #[must_use]
    pub fn numbered(&self, id: DecisionId) -> Option<(u64, &Decided)> {
        self.decisions.get(&id).map(|(number, decided)| (*number, decided))
    }

    /// Goes on behind entry `number`: what stood up to there and was not taken is gone.
    pub fn skip(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    /// How much it remembers.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The number of the last entry that was taken.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What the process that started last read from its clocks.
    #[must_use]
    pub fn clock(&self) -> Option<&Reading> {
        self.clock.as_ref()
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
