//! The one place where the shell reads the clock for facts.

use std::time::{SystemTime, UNIX_EPOCH};

use checkgate_detectors::facts::Time;

/// The present moment.
#[must_use]
pub fn now() -> Time {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}
