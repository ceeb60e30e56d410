//! Virtual time: nothing passes but what the world lets pass.
//!
//! The machine has a clock of its own, which never steps, and a wall clock, which somebody sets now and then. A process
//! goes by the wall clock at its start and by the machine's clock since, as `crate::clock` does.

use std::cell::RefCell;
use std::time::Duration;

use checkgate_detectors::facts::Time;

use crate::clock::Reading;

/// When every world begins, on its wall clock.
pub const BEGINNING: u64 = 1_700_000_000_000_000;

/// The machine's clocks.
pub struct Clock {
    /// Microseconds since the world began: what a decision's length is measured by.
    passed: u64,
    /// By how much the wall clock was set, in microseconds.
    set_by: i64,
    boots: u32,
    booted: u64,
}

/// A process's start on both clocks.
#[derive(Clone, Debug)]
pub struct Start {
    /// Which boot of the machine.
    pub boot: u32,
    /// Microseconds since the world began.
    pub passed: u64,
    /// What the process took the time to be.
    pub time: Time,
    /// Microseconds of the machine's own clock.
    pub since_boot: u64,
}

impl Clock {
    pub fn new() -> Self {
        Self { passed: 0, set_by: 0, boots: 1, booted: 0 }
    }

    pub fn pass(&mut self, span: Duration) {
        self.passed += span.as_micros() as u64;
    }

    /// Sets the wall clock forward or back.
    pub fn set(&mut self, by: i64) {
        self.set_by += by;
    }

    /// The machine starts again, after a while.
    pub fn reboot(&mut self, off_for: Duration) {
        self.pass(off_for);
        self.boots += 1;
        self.booted = self.passed;
    }

    /// Microseconds since the world began.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Both clocks now, for a process that starts.
    pub fn start(&self) -> Start {
        let wall = Time((BEGINNING + self.passed).saturating_add_signed(self.set_by));
        Start { boot: self.boots, passed: self.passed, time: wall, since_boot: self.passed - self.booted }
    }
}

thread_local! {
    static READING: RefCell<Reading> = RefCell::default();
}

/// What the process of this thread's world reads from its clocks.
pub fn reading() -> Reading {
    READING.with_borrow(Clone::clone)
}

impl Start {
    /// Has [`reading`] give what a process that started then reads now.
    pub fn show(&self, clock: &Clock) {
        let passed = clock.passed - self.passed;
        let since_boot = self.since_boot + passed;
        let boot = format!("boot {}", self.boot).into();
        READING.set(Reading { boot, since_boot, time: Time(self.time.0 + passed) });
    }

    /// What a process that started then takes the time to be.
    pub fn now(&self, clock: &Clock) -> Time {
        Time(self.time.0 + (clock.passed - self.passed))
    }

    /// When a moment of that process is, in microseconds since the world began.
    pub fn passed_at(&self, time: Time) -> i64 {
        if time == Time::NEVER { i64::MAX } else { time.0 as i64 - self.time.0 as i64 + self.passed as i64 }
    }

    /// The other way round.
    pub fn time_at(&self, passed: i64) -> i64 {
        passed.saturating_sub(self.passed as i64).saturating_add(self.time.0 as i64)
    }
}
