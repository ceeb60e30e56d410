//! The one place where the shell reads the clock for facts.
//!
//! Within a process, time is the wall clock at its start and what the machine's own clock (CLOCK_BOOTTIME, which counts
//! through a suspend and takes no steps) has run since: whoever sets the wall clock neither ends nor prolongs a
//! decision. A process that starts reads the wall clock anew; [`carry`] says what that means for what an earlier one
//! decided.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use checkgate_detectors::facts::Time;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Microseconds of a step at least: what is smaller is the wall clock being kept right, and no step.
const STEP_MIN: u128 = 50_000;

/// A process's time beside the machine's own clock, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Which boot of the machine; empty where that cannot be told.
    pub boot: Arc<str>,
    /// Microseconds of the machine's own clock.
    pub since_boot: u64,
    /// What the process took the time to be.
    pub time: Time,
}

/// What becomes of times that an earlier process wrote down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Microseconds by which they move: the step that the wall clock made since that process started.
    #[serde(default)]
    pub shift: i64,
    /// The machine was started in between: nobody knows how long that took, so the wall clock counts, and nothing
    /// lasts longer from now on than it was to last as a whole.
    #[serde(default)]
    pub across_boot: bool,
}

impl Carried {
    /// A moment of the earlier process in this one's time.
    #[must_use]
    pub fn moment(self, time: Time) -> Time {
        Time(time.0.saturating_add_signed(self.shift))
    }

    /// When something ends that was to last `lasts`, `until` being in this process's time already.
    #[must_use]
    pub fn end(self, until: Time, lasts: Duration, now: Time) -> Time {
        if self.across_boot { until.min(now.plus(lasts)) } else { until }
    }
}

/// What becomes of the times of the process that read `before`, in one that reads `now`.
#[must_use]
pub fn carry(before: &Reading, now: &Reading) -> Carried {
    let same_boot = !now.boot.is_empty() && before.boot == now.boot && before.since_boot <= now.since_boot;
    if !same_boot {
        return Carried { shift: 0, across_boot: true };
    }
    let ran_on = i128::from(before.time.0) + i128::from(now.since_boot - before.since_boot);
    let step = i128::from(now.time.0) - ran_on;
    let shift = if step.unsigned_abs() < STEP_MIN { 0 } else { i64::try_from(step).unwrap_or(0) };
    Carried { shift, across_boot: false }
}

/// The present moment.
#[must_use]
pub fn now() -> Time {
    let start = start();
    Time(start.time.0.saturating_add(since_boot().saturating_sub(start.since_boot)))
}

/// The present moment beside the machine's own clock.
#[must_use]
pub fn reading() -> Reading {
    let start = start();
    let since_boot = since_boot();
    let time = Time(start.time.0.saturating_add(since_boot.saturating_sub(start.since_boot)));
    Reading { boot: Arc::clone(&start.boot), since_boot, time }
}

/// Goes on with the time of another process of the same boot. To be called before anything asks for the time;
/// afterwards, or where the boot is another, nothing changes.
pub fn continue_from(reading: &Reading) {
    if !reading.boot.is_empty() && reading.boot == boot() {
        START.get_or_init(|| reading.clone());
    }
}

/// How far this process's time is ahead of the wall clock, in seconds; negative where it is behind.
#[must_use]
pub fn ahead_of_wall() -> f64 {
    now().seconds() - wall().seconds()
}

static START: OnceLock<Reading> = OnceLock::new();

fn start() -> &'static Reading {
    START.get_or_init(|| Reading { boot: boot(), since_boot: since_boot(), time: wall() })
}

fn boot() -> Arc<str> {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().into()
}

fn wall() -> Time {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

fn since_boot() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let read = clock_gettime(clock);
    let (seconds, nanoseconds) = (u64::try_from(read.tv_sec), u64::try_from(read.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000) + nanoseconds.unwrap_or(0) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const START: u64 = 1_700_000_000_000_000;

    fn reading(boot: &str, since_boot: i64, time: i64) -> Reading {
        Reading {
            boot: boot.into(),
            since_boot: since_boot as u64,
            time: Time(START.saturating_add_signed(time)),
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_within_a_boot_moves_every_end_by_as_much() {
        for step in [0, HOUR, -HOUR, 240 * HOUR, -240 * HOUR] {
            // Two hours pass between the two readings, and the wall clock is set meanwhile.
            let (before, now) = (reading("a", HOUR, 0), reading("a", 3 * HOUR, 2 * HOUR + step));
            let carried = carry(&before, &now);
            let until = Time(START + 5 * HOUR as u64);
            let lasts = Duration::from_secs(5 * 3600);
            let end = carried.end(carried.moment(until), lasts, now.time);
            assert_eq!(
                end.since(now.time),
                Duration::from_secs(3 * 3600),
                "three hours are left, step {step}"
            );
        }
    }

    #[test]
    fn across_a_boot_the_wall_clock_counts_and_nothing_lasts_longer_than_it_was_to() {
        let (until, lasts) = (Time(START + 5 * HOUR as u64), Duration::from_secs(5 * 3600));
        for (passed, left) in [
            (2 * HOUR, 3 * 3600),
            (HOUR, 4 * 3600),
            (-HOUR, 5 * 3600),
            (240 * HOUR, 0),
            (-240 * HOUR, 5 * 3600),
        ] {
            let (before, now) = (reading("a", 9 * HOUR, 0), reading("b", HOUR, passed));
            let carried = carry(&before, &now);
            let end = carried.end(carried.moment(until), lasts, now.time);
            assert_eq!(end.since(now.time), Duration::from_secs(left), "the wall clock says {passed} passed");
        }
    }

    #[test]
    fn a_boot_that_nobody_knows_is_another_one() {
        assert!(carry(&reading("", 0, 0), &reading("", HOUR, HOUR)).across_boot);
        assert!(
            carry(&reading("a", HOUR, 0), &reading("a", 0, 0)).across_boot,
            "the machine's clock went back"
        );
    }

    #[test]
    fn time_goes_on_with_the_machines_own_clock() {
        let (first, second) = (super::reading(), super::reading());
        let ran = second.since_boot - first.since_boot;
        assert_eq!(second.time.0 - first.time.0, ran, "both clocks run alike");
        assert!(ahead_of_wall().abs() < 60.0, "nobody sets this machine's clock");
        assert!(!carry(&first, &second).across_boot || first.boot.is_empty(), "one boot is one boot");
        assert_eq!(carry(&first, &second).shift, 0);
    }
}
