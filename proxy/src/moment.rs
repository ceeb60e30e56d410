//! One reading of the clock for all that is done at one go.
//!
//! Moving a connection along notes a handful of moments within microseconds: when a question was complete, when the first
//! byte of its answer came, when the exchange was over. They are taken for the same moment, that of the first reading.

use std::cell::Cell;
use std::time::Instant;

/// What readings of this thread's clock give.
#[derive(Clone, Copy)]
enum Reading {
    /// The present moment, each time.
    Afresh,
    /// The present moment, and from then on the same.
    First,
    /// What was read first.
    Same(Instant),
}

thread_local! {
    static READING: Cell<Reading> = const { Cell::new(Reading::Afresh) };
}

/// Puts back what was before, also where the work panics.
struct Before(Reading);

impl Drop for Before {
    fn drop(&mut self) {
        READING.set(self.0);
    }
}

/// Does `work`, within which all calls of [`now`] by this thread give one moment. It must not wait for anything.
pub fn at_one_go<T>(work: impl FnOnce() -> T) -> T {
    let _before = Before(READING.replace(Reading::First));
    work()
}

/// The present moment; within one go the one that was read first.
pub fn now() -> Instant {
    match READING.get() {
        Reading::Same(moment) => moment,
        Reading::Afresh => Instant::now(),
        Reading::First => {
            let moment = Instant::now();
            READING.set(Reading::Same(moment));
            moment
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn moves_on() -> bool {
        let before = now();
        (0..1_000_000).any(|_| now() > before)
    }

    #[test]
    fn one_go_is_one_moment_and_time_moves_on_after_it() {
        let (first, second) = at_one_go(|| {
            assert!(!moves_on(), "one go");
            (now(), at_one_go(now))
        });
        assert!(second >= first && moves_on(), "it is over");
        assert!(at_one_go(now) >= second, "another go is another moment");
        drop(catch_unwind(|| at_one_go(|| panic!("of this test"))));
        assert!(moves_on(), "however it ended");
    }
}
