//! When a receiver that fails is asked again: later each time, and never all senders at once.

use std::time::Duration;

use tokio::time::Instant;

/// The wait after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// How a receiver fared.
#[derive(Debug, Default)]
pub struct BackOff {
    failures: u32,
}

impl BackOff {
    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed at `now`; gives when it may be asked again. It may have said when to come back (`wanted`, held to the longest wait); otherwise the wait
    /// lies between a half and the whole of what is due, by `share` from 0 to 1.
    pub fn failed(&mut self, now: Instant, wanted: Option<Duration>, share: f64) -> Instant {
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures.min(16))).min(LONGEST);
        let wait = wanted.unwrap_or_else(|| doubled.mul_f64(0.5 + 0.5 * share.clamp(0.0, 1.0)));
        self.failures = self.failures.saturating_add(1);
        now + wait.min(LONGEST)
    }

    /// It took what it was sent.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_a_success_ends_them() {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        for expected in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert_eq!(back_off.failed(now, None, 1.0) - now, Duration::from_secs(expected));
        }
        for _ in 0..100 {
            back_off.failed(now, None, 0.0);
        }
        assert_eq!(back_off.failed(now, None, 0.0) - now, Duration::from_secs(30), "half at the least");
        back_off.succeeded();
        assert_eq!(back_off.failed(now, None, 1.0) - now, Duration::from_secs(1), "it begins anew");
    }

    #[test]
    fn a_receiver_may_name_its_time_within_the_longest_wait() {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        assert_eq!(back_off.failed(now, Some(Duration::from_secs(7)), 0.3) - now, Duration::from_secs(7));
        assert_eq!(back_off.failed(now, Some(Duration::from_secs(86_400)), 0.3) - now, LONGEST);
    }
}
