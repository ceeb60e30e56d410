//! The pulse of a lane: what its thread lets others see of itself, so that a lane that no longer moves is noticed.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use checkgate_detectors::at_work::AtWork;

/// Where times of a pulse are counted from. No wall clock: a step of it must not depose a lane.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Shared by the thread of a lane and whoever watches it.
#[derive(Debug, Default)]
pub struct Pulse {
    /// When the step at hand began, in milliseconds from [`ORIGIN`] on and never 0; 0 between steps.
    began: AtomicU64,
    /// Counts the threads that served this lane. A thread whose term is over publishes nothing more.
    term: AtomicU64,
    /// Which detector is asked.
    pub at_work: AtWork,
}

impl Pulse {
    /// A step begins.
    pub fn begin(&self, now: Instant) {
        self.began.store(millis(now.saturating_duration_since(*ORIGIN)).max(1), Ordering::Relaxed);
    }

    /// It is over.
    pub fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// How long the step at hand has taken so far, if there is one.
    pub fn step_takes(&self) -> Option<Duration> {
        let began = Some(self.began.load(Ordering::Relaxed)).filter(|began| *began > 0)?;
        Some(ORIGIN.elapsed().saturating_sub(Duration::from_millis(began)))
    }

    /// The term of the thread that serves the lane now.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Ends the term of the thread that serves it, and gives the term of the next.
    pub fn depose(&self) -> u64 {
        self.end();
        self.term.fetch_add(1, Ordering::AcqRel) + 1
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_seen_while_it_lasts_and_a_term_ends_once() {
        let pulse = Pulse::default();
        assert_eq!(pulse.step_takes(), None);
        pulse.begin(Instant::now());
        assert!(pulse.step_takes().is_some());
        assert_eq!((pulse.term(), pulse.depose(), pulse.term()), (0, 1, 1));
        assert_eq!(pulse.step_takes(), None, "the next thread begins between steps");
    }
}
