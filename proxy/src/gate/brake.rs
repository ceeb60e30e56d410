//! The brake: a guard that suddenly wants to block many clients is more likely wrong than right.
//!
//! Its cause may be a bad reference, a release that changed what honest clients send, or somebody who makes the
//! guard turn against its own users. Whichever it is, from the trip on new blocks are observations, one loud finding
//! says so, and a minute later the brake lets go and counts anew.

use std::collections::VecDeque;
use std::time::Duration;

use checkgate_detectors::engine::Engine;
use checkgate_detectors::facts::Time;
use serde::{Deserialize, Serialize};

/// Span in which new blocks are counted against the rate, and for which the brake stays on.
pub const MINUTE: Duration = Duration::from_secs(60);
/// Span in which new blocks are counted against the clients; the one in which a client counts as active.
pub const ACTIVE: Duration = Engine::ACTIVE;
/// With fewer active clients than this, a share says little.
const FEW_CLIENTS: usize = 10;
/// So many blocks always pass the share rule where there are few clients.
const BLOCKS_AMONG_FEW: usize = 3;

/// When the brake trips.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrakeLimits {
    /// Acting blocks in a minute.
    pub blocks_per_minute: u32,
    /// Acting blocks of one model in ten minutes, as a share of its clients active in that time; 0 to 1.
    pub share_of_clients: f64,
}

/// What a new block may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Act.
    Free,
    /// Nothing: this block is the one too many.
    Tripped(Trip),
    /// Nothing: the brake is on already.
    Engaged,
}

/// What went over which limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trip {
    /// The rule that was broken.
    pub rule: Rule,
    /// Blocks that were counted, this one included.
    pub blocks: usize,
    /// The measured value: blocks in the minute, or share of clients.
    pub statistic: f64,
    /// The value that it went over.
    pub limit: f64,
}

/// The two rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// New blocks in a minute.
    Rate,
    /// New blocks among the active clients.
    Share,
}

/// The brake's memory: acting blocks of the last ten minutes. The rate rule bounds it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Brake {
    passed: VecDeque<Time>,
    engaged_until: Option<Time>,
}

impl Brake {
    /// Whether a new block of a model that has `clients_active` may act under `limits`.
    pub fn judge(&mut self, limits: &BrakeLimits, clients_active: usize, now: Time) -> Verdict {
        if self.is_engaged(now) {
            return Verdict::Engaged;
        }
        self.forget(now);
        if let Some(trip) = self.rate(limits, now).or_else(|| self.share(limits, clients_active)) {
            self.engaged_until = Some(now.plus(MINUTE));
            return Verdict::Tripped(trip);
        }
        self.passed.push_back(now);
        Verdict::Free
    }

    /// Whether new blocks are observations. A clock that was set back does not prolong it.
    #[must_use]
    pub fn is_engaged(&self, now: Time) -> bool {
        self.engaged_until.is_some_and(|until| now < until && until.since(now) <= MINUTE)
    }

    /// Drops what is out of the ten minutes, and what a clock that was set back left in the future. Lanes may be a
    /// little apart, so a short way into the future is no reason.
    fn forget(&mut self, now: Time) {
        self.engaged_until = None;
        self.passed.retain(|passed| now.since(*passed) < ACTIVE && passed.since(now) < MINUTE);
    }

    fn rate(&self, limits: &BrakeLimits, now: Time) -> Option<Trip> {
        let blocks = self.passed.iter().filter(|passed| now.since(**passed) < MINUTE).count() + 1;
        let (statistic, limit) = (blocks as f64, f64::from(limits.blocks_per_minute));
        (statistic > limit).then_some(Trip { rule: Rule::Rate, blocks, statistic, limit })
    }

    fn share(&self, limits: &BrakeLimits, clients_active: usize) -> Option<Trip> {
        let blocks = self.passed.len() + 1;
        if clients_active < FEW_CLIENTS && blocks <= BLOCKS_AMONG_FEW {
            return None;
        }
        let (statistic, limit) = (blocks as f64 / clients_active.max(1) as f64, limits.share_of_clients);
        (statistic > limit).then_some(Trip { rule: Rule::Share, blocks, statistic, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Time {
        Time(second * 1_000_000)
    }

    /// A brake with limits that stay.
    struct Fixed {
        brake: Brake,
        limits: BrakeLimits,
    }

    fn brake(blocks_per_minute: u32, share_of_clients: f64) -> Fixed {
        Fixed { brake: Brake::default(), limits: BrakeLimits { blocks_per_minute, share_of_clients } }
    }

    impl Fixed {
        fn judge(&mut self, clients_active: usize, now: Time) -> Verdict {
            self.brake.judge(&self.limits, clients_active, now)
        }

        fn is_engaged(&self, now: Time) -> bool {
            self.brake.is_engaged(now)
        }
    }

    #[test]
    fn the_block_above_the_rate_trips_once_and_the_minute_is_waited_out() {
        let mut brake = brake(3, 1.0);
        for second in 0..3 {
            assert_eq!(brake.judge(1000, at(second)), Verdict::Free, "block {second}");
        }
        let trip = Trip { rule: Rule::Rate, blocks: 4, statistic: 4.0, limit: 3.0 };
        assert_eq!(brake.judge(1000, at(3)), Verdict::Tripped(trip));
        assert_eq!(brake.judge(1000, at(4)), Verdict::Engaged, "one trip, one finding");
        assert!(brake.is_engaged(at(62)));
        assert!(!brake.is_engaged(at(63)));
        assert_eq!(brake.judge(1000, at(63)), Verdict::Free, "the minute has passed");
    }

    #[test]
    fn a_slow_series_of_blocks_never_reaches_the_rate() {
        let mut brake = brake(3, 1.0);
        for minute in 0..1000 {
            assert_eq!(brake.judge(1_000_000, at(minute * 20)), Verdict::Free, "block {minute}");
        }
        assert!(brake.brake.passed.len() <= 30, "the memory must be ten minutes of the rate");
    }

    #[test]
    fn the_share_counts_the_last_ten_minutes() {
        let mut brake = brake(1000, 0.1);
        for second in 0..2 {
            assert_eq!(brake.judge(20, at(second)), Verdict::Free, "block {second}");
        }
        let trip = Trip { rule: Rule::Share, blocks: 3, statistic: 0.15, limit: 0.1 };
        assert_eq!(brake.judge(20, at(500)), Verdict::Tripped(trip));
        assert_eq!(brake.judge(20, at(601)), Verdict::Free, "the first two are out of the ten minutes");
    }

    #[test]
    fn among_few_clients_three_blocks_pass_and_the_fourth_may_trip() {
        let mut brake = brake(1000, 0.2);
        for second in 0..3 {
            assert_eq!(brake.judge(4, at(second)), Verdict::Free, "block {second}");
        }
        assert!(matches!(brake.judge(4, at(3)), Verdict::Tripped(Trip { rule: Rule::Share, .. })));
    }

    #[test]
    fn no_known_client_is_no_division_by_zero() {
        let mut brake = brake(1000, 0.5);
        assert_eq!(brake.judge(0, at(0)), Verdict::Free);
        assert_eq!(brake.judge(0, at(1)), Verdict::Free);
    }

    #[test]
    fn a_clock_that_is_set_back_neither_trips_nor_holds_the_brake() {
        let mut brake = brake(2, 1.0);
        for second in 0..3 {
            brake.judge(100, at(10_000 + second));
        }
        assert!(brake.is_engaged(at(10_003)));
        assert!(!brake.is_engaged(at(5_000)), "the brake would be on for more than an hour");
        assert_eq!(brake.judge(100, at(5_000)), Verdict::Free);
        assert_eq!(brake.judge(100, at(5_001)), Verdict::Free, "blocks of the future must not count");
    }
}
