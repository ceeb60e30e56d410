//! The watchdog: a lane whose thread does not come back gets another.
//!
//! A thread cannot be ended from outside, so a detector that runs in a circle keeps its thread. The lane does not: after
//! [`STUCK_AFTER`] another thread begins afresh behind the same door, without the detector that was at work. What was
//! remembered of the lane's models is lost, and so is its recording; decisions in force stay in force, and no request
//! waited for any of it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Lanes;

/// A step takes milliseconds, and a body of many megabytes a second; one that takes longer than this does not end.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How often the watchdog looks.
const LOOKS_EVERY: Duration = Duration::from_millis(500);
/// Threads that a lane may lose. Each of them may keep a core busy until the process ends.
pub const DEPOSED_MAX: u32 = 4;

impl Lanes {
    /// Starts the thread that looks after the lanes for as long as they live.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        let lanes = Arc::downgrade(self);
        let look = move || {
            while let Some(lanes) = lanes.upgrade() {
                lanes.look_after();
                drop(lanes);
                thread::sleep(LOOKS_EVERY);
            }
        };
        thread::Builder::new().name("watchdog".into()).spawn(look).map(drop)
    }

    /// Looks at every lane once; replaces the thread of one that does not move.
    fn look_after(&self) {
        let mut hopeless = 0;
        for lane in self.stuck() {
            if let Err(error) = self.replace(lane) {
                hopeless += 1;
                tracing::error!(lane, %error, "the lane does not move and gets no other thread; requests flow");
            }
        }
        self.outlets.metrics.lanes_stuck.set(hopeless);
    }

    /// Lanes whose step at hand has taken too long.
    fn stuck(&self) -> Vec<usize> {
        let served = self.served.lock();
        let is_stuck = |takes: Duration| takes >= STUCK_AFTER;
        let lanes = served.iter().enumerate();
        lanes
            .filter(|(_, lane)| lane.seat.pulse.step_takes().is_some_and(is_stuck))
            .map(|(lane, _)| lane)
            .collect()
    }
}
