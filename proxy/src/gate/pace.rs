//! How fast a degraded client is answered, and how coarse.
//!
//! Both follow from the rows that the client was answered under its decision, from when that was, and from a ladder that
//! the configuration fixes. What was measured, by whom and how far it was over is no argument of anything here, so no
//! delay can tell it.
//!
//! ```text
//! step 0, `step_rows` rows --> step 1, twice the delay, one digit fewer --> ... --> the longest delay, one digit
//!      ^--------------------- a row is forgotten in twice the longest delay ---------------------|
//! ```
//!
//! Answers of one client come one after the other: each begins to be paid when the one before is paid. An answer is held
//! no longer than the longest delay, and what its rows come to beyond that is owed before the next.

use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::Policy;
use checkgate_detectors::facts::Time;
use parking_lot::Mutex;

/// Requests of one degraded client that may be open at once.
pub const PLACES: u32 = 4;

/// What the configuration has by default.
const DELAY: Duration = Duration::from_millis(500);
const DELAY_MAX: Duration = Duration::from_secs(30);
const STEP_ROWS: u32 = 5;
const DIGITS: u8 = 2;

/// What a row costs, by how many were answered before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Microseconds that a row costs on the first step.
    first: u64,
    /// Microseconds that it costs at most.
    longest: u64,
    /// Rows of a step, at least one.
    step_rows: u64,
    /// Significant digits on the first step.
    digits: u8,
}

impl Default for Ladder {
    fn default() -> Self {
        Self::new(DELAY, DELAY_MAX, STEP_ROWS, DIGITS)
    }
}

impl Ladder {
    fn new(delay: Duration, delay_max: Duration, step_rows: u32, digits: u8) -> Self {
        let first = micros(delay);
        Self {
            first,
            longest: micros(delay_max).max(first),
            step_rows: u64::from(step_rows.max(1)),
            digits: digits.max(1),
        }
    }

    /// The one of a policy.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        Self::new(policy.delay, policy.delay_max, policy.step_rows, policy.digits)
    }

    /// By how much every row comes later at least.
    #[must_use]
    pub fn first(&self) -> Duration {
        Duration::from_micros(self.first)
    }

    /// The longest that a row delays.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest)
    }

    /// What a client is told to wait that asks for more than it may, in whole seconds and however long its turn is off.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(self.longest.div_ceil(1_000_000).max(1))
    }

    /// Significant digits of the row that comes after `before` others.
    #[must_use]
    pub fn digits(&self, before: u64) -> u8 {
        let fewer = u8::try_from(before / self.step_rows).unwrap_or(u8::MAX);
        self.digits.saturating_sub(fewer).max(1)
    }

    /// Microseconds that the row costs that comes after `before` others.
    fn row(&self, before: u64) -> u64 {
        let step = u32::try_from(before / self.step_rows).unwrap_or(u32::MAX);
        let doubled = 2_u64.checked_pow(step).and_then(|times| self.first.checked_mul(times));
        doubled.map_or(self.longest, |delay| delay.min(self.longest)) * u64::from(self.first > 0)
    }

    /// Microseconds that `rows` cost which come after `before` others.
    fn cost(&self, mut before: u64, mut rows: u64) -> u64 {
        let mut sum = 0_u64;
        while rows > 0 {
            let row = self.row(before);
            // On the highest step all that are left cost the same.
            let left = self.step_rows - before % self.step_rows;
            let alike = if row == self.longest || row == 0 { rows } else { rows.min(left) };
            sum = sum.saturating_add(row.saturating_mul(alike));
            (before, rows) = (before.saturating_add(alike), rows - alike);
        }
        sum
    }

    /// Rows after which nothing changes any more.
    fn top(&self) -> u64 {
        let ratio = self.longest.checked_div(self.first).unwrap_or(1);
        let doublings = u64::from(ratio.max(1).ilog2()) + u64::from(!ratio.is_power_of_two());
        (doublings + 1).max(u64::from(self.digits)).saturating_mul(self.step_rows)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Where the client of one decision stands. Clones are of the same client; another process begins anew.
#[derive(Clone, Debug, Default)]
pub struct Pace(Arc<Mutex<Course>>);

#[derive(Debug, Default)]
struct Course {
    /// Rows answered and not forgotten, at most the ladder's top.
    rows: u64,
    /// From when on the next row is being forgotten.
    mark: Time,
    /// When all that was answered is paid.
    paid: Time,
    /// Requests that are open.
    open: u32,
}

/// Where a client stands tells one decision from another as little as where a clock stands.
impl PartialEq for Pace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pace {}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How long it is held.
    pub held: Duration,
    /// What its rows cost; beyond what it is held for, the next answer waits.
    pub cost: Duration,
    /// Significant digits that it keeps.
    pub digits: u8,
}

/// One of the places of a client, until it is dropped.
#[derive(Debug)]
pub struct Place(Pace);

impl Pace {
    /// A place for a request that comes at `now`. There is none beyond [`PLACES`], and none for one whose turn is further
    /// off than the longest delay. Where nothing is delayed there is always one.
    #[must_use]
    pub fn enter(&self, ladder: &Ladder, now: Time) -> Option<Place> {
        let mut course = self.0.lock();
        let full = course.open >= PLACES || course.paid.since(now) > ladder.longest();
        if full && ladder.first > 0 {
            return None;
        }
        course.open = course.open.saturating_add(1);
        Some(Place(self.clone()))
    }

    /// The turn of an answer of so many rows that has come at `now`; none where it is further off than the longest delay,
    /// and then nothing counts. What has no rows counts as one.
    #[must_use]
    pub fn turn(&self, ladder: &Ladder, rows: u64, now: Time) -> Option<Turn> {
        let mut course = self.0.lock();
        let queued = course.paid.since(now);
        (queued <= ladder.longest()).then(|| course.answer(ladder, rows, now, queued))
    }

    /// The turn of an answer to a client that has waited until its turn, as a rehearsal counts it.
    #[must_use]
    pub fn patient_turn(&self, ladder: &Ladder, rows: u64, now: Time) -> Turn {
        let mut course = self.0.lock();
        let now = now.max(course.paid);
        course.answer(ladder, rows, now, Duration::ZERO)
    }
}

impl Course {
    fn answer(&mut self, ladder: &Ladder, rows: u64, now: Time, queued: Duration) -> Turn {
        self.forget(ladder, now);
        let rows = rows.max(1);
        let digits = ladder.digits(self.rows.saturating_add(rows - 1));
        let cost = Duration::from_micros(ladder.cost(self.rows, rows));
        self.rows = self.rows.saturating_add(rows).min(ladder.top());
        self.paid = now.plus(queued).plus(cost);
        Turn { held: queued.saturating_add(cost.min(ladder.longest())), cost, digits }
    }

    /// Takes back the rows that are forgotten by `now`: one in twice the longest delay, which is half as fast as rows are
    /// answered on the highest step, so that nobody gains by a rest.
    fn forget(&mut self, ladder: &Ladder, now: Time) {
        let span = ladder.longest.saturating_mul(2);
        let Some(gone) = micros(now.since(self.mark)).checked_div(span) else { return };
        if gone >= self.rows {
            (self.rows, self.mark) = (0, now);
        } else {
            self.rows -= gone;
            self.mark = self.mark.plus(Duration::from_micros(gone.saturating_mul(span)));
        }
    }
}

impl Place {
    /// Whether it is one of that client.
    #[must_use]
    pub fn is_of(&self, pace: &Pace) -> bool {
        Arc::ptr_eq(&self.0.0, &pace.0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut course = self.0.0.lock();
        course.open = course.open.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
