//! What a throttled client may still send: so many requests within each minute of its decision.
//!
//! Minutes follow each other without overlap from the moment of the decision on. One atomic number holds the minute and
//! what was used of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use checkgate_detectors::facts::Time;

/// The span in which requests are counted, and what a client is told to wait that sent too many, however much of the
/// span is left.
pub const SPAN: Duration = Duration::from_secs(60);

/// What one decision's client used of its minute. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Allowance(Arc<AtomicU64>);

/// Where a client stands in its minute tells one decision from another as little as where a clock stands.
impl PartialEq for Allowance {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Allowance {}

impl Allowance {
    /// Takes one request of the `per_minute` that are allowed in each minute since `since`, if one is left.
    #[must_use]
    pub fn take(&self, per_minute: u32, since: Time, now: Time) -> bool {
        let minute = now.since(since).as_secs() / SPAN.as_secs();
        let next = |state: u64| {
            let used = if state >> 32 == minute { state & u64::from(u32::MAX) } else { 0 };
            (used < u64::from(per_minute)).then_some(minute << 32 | (used + 1))
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Time {
        Time(second * 1_000_000)
    }

    #[test]
    fn each_minute_has_its_own_allowance() {
        let allowance = Allowance::default();
        let taken = |second: u64| allowance.take(2, at(100), at(second));
        assert_eq!([100, 101, 102, 159].map(taken), [true, true, false, false]);
        assert_eq!([160, 219, 219].map(taken), [true, true, false], "the next minute");
        assert!(taken(1_000_000));
    }

    #[test]
    fn clones_count_together() {
        let allowance = Allowance::default();
        assert!(allowance.clone().take(1, at(0), at(0)));
        assert!(!allowance.take(1, at(0), at(1)));
    }
}
