//! The least pace at which a client must send or take bytes.

use std::time::Duration;

use tokio::time::Instant;

/// How long a client may be waited for before it must have moved what its pace asks of it.
pub const GRACE: Duration = Duration::from_secs(10);

/// Measures a client's pace over the time that is spent waiting for it, and over no other.
///
/// Whoever moves as much as the pace asks for in [`GRACE`] begins anew; whoever was waited for so long before is too
/// slow. So what came fast before buys no right to stop later.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    bytes_min: u64,
    bytes: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// At least so many bytes a second; 0 asks for none.
    #[must_use]
    pub fn new(bytes_per_second: usize) -> Self {
        let bytes_min = (bytes_per_second as u64).saturating_mul(GRACE.as_secs());
        Self { bytes_min, bytes: 0, waited: Duration::ZERO, since: None }
    }

    /// The client is waited for; gives the moment at which it is too slow, unless it moves before.
    pub fn waits(&mut self, now: impl Fn() -> Instant) -> Option<Instant> {
        if self.bytes_min == 0 {
            return None;
        }
        let since = *self.since.get_or_insert_with(now);
        Some(since + GRACE.saturating_sub(self.waited))
    }

    /// The client moved `bytes`.
    pub fn moved(&mut self, bytes: usize, now: impl Fn() -> Instant) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes >= self.bytes_min {
            self.restart();
        } else if let Some(since) = self.since.take() {
            self.waited += now().saturating_duration_since(since);
        }
    }

    /// Another message begins.
    pub fn restart(&mut self) {
        (self.bytes, self.waited, self.since) = (0, Duration::ZERO, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that is waited for `pause` before each `bytes`: when it is cut, if within an hour.
    fn cut_after(bytes_per_second: usize, bytes: usize, pause: Duration) -> Option<Duration> {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(bytes_per_second), start);
        while now < start + Duration::from_secs(3600) {
            let next = now + pause;
            if let Some(due) = pace.waits(|| now).filter(|due| *due <= next) {
                return Some(due - start);
            }
            now = next;
            pace.moved(bytes, || now);
        }
        None
    }

    #[test]
    fn one_that_stops_is_cut_after_the_grace() {
        assert_eq!(cut_after(240, 1, Duration::from_secs(7200)), Some(GRACE));
    }

    #[test]
    fn one_that_trickles_is_cut_and_one_that_keeps_the_pace_is_not() {
        assert_eq!(cut_after(240, 1, Duration::from_secs(1)), Some(GRACE));
        assert_eq!(cut_after(240, 300, Duration::from_secs(1)), None);
        assert_eq!(cut_after(0, 1, Duration::from_secs(1)), None, "no pace is asked for");
    }

    #[test]
    fn what_came_fast_buys_no_right_to_stop() {
        let start = Instant::now();
        let mut pace = Pace::new(240);
        assert_eq!(pace.waits(|| start), Some(start + GRACE));
        pace.moved(1 << 30, || start + Duration::from_secs(11));
        let resumed = start + Duration::from_secs(100);
        assert_eq!(pace.waits(|| resumed), Some(resumed + GRACE));
    }

    #[test]
    fn time_that_is_not_spent_on_the_client_does_not_count() {
        let start = Instant::now();
        let mut pace = Pace::new(240);
        for hour in 0..5_u64 {
            let now = start + Duration::from_secs(3600 * hour);
            assert!(pace.waits(|| now).is_some_and(|due| due > now), "hour {hour}");
            pace.moved(1, || now + Duration::from_millis(1));
        }
    }
}
