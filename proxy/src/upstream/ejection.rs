//! When a server that fails real requests is left alone for a while: a state machine that is told the time.

use std::time::{Duration, Instant};

use checkgate_config::settings;

/// A pause is at most this many times the configured one.
const PAUSES_MAX: u32 = 10;

/// What is known of one server from the requests that it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ejection {
    /// Failures in a row.
    failures: u32,
    /// Ejections in a row, without a success in between.
    ejections: u32,
    until: Option<Instant>,
}

impl Ejection {
    /// Whether the server is left alone at `now`.
    pub fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether nothing speaks against the server.
    pub fn is_spotless(&self) -> bool {
        self.failures == 0 && self.ejections == 0
    }

    /// Whether it was ejected and has not answered since.
    pub fn was_ejected(&self) -> bool {
        self.ejections > 0
    }

    /// A request failed. Where that ejects the server, says for how long.
    ///
    /// After a pause the first failure ejects again, for twice as long, up to ten times the configured pause; only a
    /// success makes the server start afresh.
    pub fn failed(&mut self, settings: &settings::Ejection, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let enough = self.failures >= settings.failures || self.ejections > 0;
        if settings.failures == 0 || !enough || self.is_out(now) {
            return None;
        }
        let times = 2_u32.saturating_pow(self.ejections).min(PAUSES_MAX);
        let pause = settings.pause.saturating_mul(times);
        self.ejections = self.ejections.saturating_add(1);
        self.failures = 0;
        self.until = Some(now + pause);
        Some(pause)
    }

    /// A request succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SETTINGS: settings::Ejection = settings::Ejection { failures: 3, pause: SECOND };

    #[test]
    fn failures_in_a_row_eject_and_a_success_forgives() {
        let (mut ejection, now) = (Ejection::default(), Instant::now());
        assert_eq!(ejection.failed(&SETTINGS, now), None);
        assert_eq!(ejection.failed(&SETTINGS, now), None);
        ejection.succeeded();
        assert_eq!(ejection.failed(&SETTINGS, now), None, "the row was broken");
        assert_eq!(ejection.failed(&SETTINGS, now), None);
        assert_eq!(ejection.failed(&SETTINGS, now), Some(SECOND));
        assert!(ejection.is_out(now), "it is out at once");
        assert!(!ejection.is_out(now + SECOND), "and back after the pause");
    }

    #[test]
    fn the_pause_doubles_up_to_ten_times() {
        let (mut ejection, mut now) = (Ejection::default(), Instant::now());
        ejection.failed(&SETTINGS, now);
        ejection.failed(&SETTINGS, now);
        let pauses: Vec<u64> = (0..6)
            .map(|_| {
                let pause = ejection.failed(&SETTINGS, now).unwrap();
                now += pause;
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10], "one failure after a pause is enough");
    }

    #[test]
    fn stragglers_during_a_pause_change_nothing() {
        let (mut ejection, now) = (Ejection::default(), Instant::now());
        for _ in 0..3 {
            ejection.failed(&SETTINGS, now);
        }
        assert_eq!(ejection.failed(&SETTINGS, now), None, "requests that were open when it was ejected");
        assert!(!ejection.is_out(now + SECOND));
    }

    #[test]
    fn zero_failures_never_eject() {
        let (mut ejection, now) = (Ejection::default(), Instant::now());
        let never = settings::Ejection { failures: 0, pause: SECOND };
        assert!((0..100).all(|_| ejection.failed(&never, now).is_none()));
    }
}
