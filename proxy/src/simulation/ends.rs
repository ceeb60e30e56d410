//! How a process ends, and how the next one goes on: a hand-over, a stop, a kill, a cut of the power.

use std::sync::Arc;
use std::time::Duration;

use super::disk::Trouble;
use super::expected::Expected;
use super::mutants::Mutant;
use super::process::Process;
use super::world::{Happening, World};
use crate::ledger::entry::{By, Entry, What};
use crate::ledger::log::{Place, Scan};
use crate::ledger::{Kept, Opening};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Another process takes over what is in force and remembered.
    HandOver,
    /// It finishes what waits.
    Stop,
    /// It is gone at once; the machine runs on.
    Kill,
    /// It is gone at once, and with it what the disk did not keep.
    PowerOff,
}

impl World {
    /// The process ends; the next step begins another.
    pub fn end(&mut self, end: End) {
        if matches!(end, End::HandOver | End::Stop) {
            self.serve_all();
            self.disk.trouble(Trouble::None);
            self.process.close(&self.clock);
            self.hear();
        }
        self.say(|| format!("the process ends: {end:?}"));
        self.happened.push(Happening::Ended);
        self.counts.ended += 1;
        self.ending = Some(end);
    }

    /// What is left is done, then the power is cut.
    pub fn finish(&mut self) {
        self.serve_all();
        self.write();
        self.end(End::PowerOff);
    }

    /// The disk begins to fail, or works again.
    pub fn trouble(&mut self) {
        let trouble = self.dice.pick(&[
            Trouble::None,
            Trouble::None,
            Trouble::Fails,
            Trouble::Flaky,
            Trouble::Flaky,
            Trouble::Full,
        ]);
        self.say(|| format!("trouble of the disk: {trouble:?}"));
        self.disk.trouble(trouble);
    }

    /// The ledger's writer takes its turn.
    pub fn write(&mut self) {
        self.process.write(&self.clock);
        self.hear();
    }

    /// What the ledger told since the last time.
    fn hear(&mut self) {
        self.happened.extend(self.process.heard().into_iter().map(Happening::Heard));
        let mut waiting = Vec::new();
        for (entry, mut ticket) in std::mem::take(&mut self.process.tickets) {
            match ticket.told() {
                Some(Kept::Durable) => self.happened.push(Happening::Durable(entry.number)),
                Some(Kept::InMemory) => {}
                None => waiting.push((entry, ticket)),
            }
        }
        self.process.tickets = waiting;
        while self.process.ledger.is_durable(self.acknowledged + 1) {
            self.acknowledged += 1;
        }
    }

    pub fn begin_again(&mut self, end: End) {
        self.disk.trouble(Trouble::None);
        let now = self.now();
        let saved = (end == End::HandOver).then(|| self.process.save(now));
        match end {
            End::HandOver | End::Stop => {}
            End::Kill => self.disk = self.disk.killed(),
            End::PowerOff => {
                self.disk = self.disk.powered_off();
                let off_for = self.dice.span(Duration::from_secs(7200));
                self.clock.reboot(off_for);
            }
        }
        let start = if saved.is_some() { self.process.start.clone() } else { self.clock.start() };
        let plan = Arc::clone(&self.process.plan);
        self.process = Process::new(start, plan, &self.setting, (&self.disk, self.moment));
        let how = if saved.is_some() { Opening::TakenOver } else { Opening::Afresh };
        self.process.open(how, &self.clock);
        let scan = self.go_on();
        match saved {
            Some(saved) => {
                let now = self.now();
                self.process.inherit(saved, now, self.is(Mutant::LosesBlocksInAHandOver));
            }
            None => self.resume(&scan),
        }
        self.happened.push(Happening::Begun(Box::new(scan)));
        self.restore_switches();
    }

    /// Goes on behind what the ledger holds after it was opened.
    pub fn go_on(&mut self) -> Scan {
        let number = self.process.ledger.book().last();
        let mut scan = Scan::default();
        let mut left = Vec::new();
        let read = scan.read(&self.disk, Place::default(), &mut |line, _| left.extend(line.entry.clone()));
        read.expect("the disk works at this moment");
        (self.noted_before, self.heard_before) = (number, number);
        self.process.heard();
        self.left = left;
        let began: Option<Entry> = self.left.last().cloned();
        self.say(|| {
            format!(
                "a process begins with entry {number}; the last that is left: {:?}",
                began.map(|it| it.number)
            )
        });
        let read = (scan.lines, scan.damaged, &scan.breaks, scan.gaps.len(), scan.at_the_end, scan.torn);
        self.say(|| format!("lines, damaged, breaks, gaps, at the end, torn: {read:?}"));
        self.entries.retain(|entry, _| *entry < number);
        if let Some(entry) = self.left.last() {
            self.entries.insert(entry.number, (Arc::new(entry.clone()), self.process.start.clone()));
        }
        scan
    }

    /// What should be is told anew from what is left, and the gate goes by the book.
    fn resume(&mut self, _scan: &Scan) {
        self.open.clear();
        let mut expected = Expected::default();
        let mut before = None;
        for entry in &self.left {
            let Some((_, start)) = self.entries.get(&entry.number) else { continue };
            if let (What::Started { .. }, Some(before)) = (&entry.what, before.replace(start)) {
                expected.begin(before, start);
            }
            expected.take(entry, start, None);
        }
        self.expected = expected;
        let now = self.now();
        self.process.resume(now);
    }

    fn restore_switches(&mut self) {
        let on = self.kill_switch_file && !self.is(Mutant::IgnoresTheKillSwitch);
        self.process.gate.set_kill_switch(on).ok();
        if self.kill_switch_file != self.expected.kill_switch {
            let by = By { from: Some("file".into()), ..By::default() };
            self.note(by, What::KillSwitch { on: self.kill_switch_file }, None);
        }
        let plan = (*self.process.plan).clone();
        self.reload(plan);
    }

    fn serve_all(&mut self) {
        while !self.process.lane.is_empty() {
            self.serve();
        }
    }
}
