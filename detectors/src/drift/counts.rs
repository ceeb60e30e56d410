//! Exact counts by slot, and the window that slides over them.

use serde::{Deserialize, Serialize};

use crate::facts::Time;

/// Sub-windows of a window: an hour in parts of five minutes, a day in parts of two hours.
pub const PARTS: usize = 4;

/// How often each slot was met. A count that reaches the end of its range stays there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    slots: Vec<u32>,
}

impl Counts {
    /// Nothing yet, in `slots` slots.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self { slots: vec![0; slots] }
    }

    /// Counts of what is given, one to a slot.
    #[must_use]
    pub fn from_slots(slots: Vec<u32>) -> Self {
        Self { slots }
    }

    /// Counts one more in a slot.
    #[inline]
    pub fn add(&mut self, slot: usize) {
        if let Some(count) = self.slots.get_mut(slot) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        let pairs = self.slots.iter_mut().zip(&other.slots);
        pairs.for_each(|(count, more)| *count = count.saturating_add(*more));
    }

    /// Takes away what another counted.
    pub fn part_from(&mut self, other: &Self) {
        let pairs = self.slots.iter_mut().zip(&other.slots);
        pairs.for_each(|(count, less)| *count = count.saturating_sub(*less));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.fill(0);
    }

    /// The counts, one to a slot.
    #[must_use]
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// How many events were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.slots.iter().map(|count| u64::from(*count)).sum()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    /// The count of one slot.
    #[must_use]
    pub fn at(&self, slot: usize) -> u32 {
        self.slots.get(slot).copied().unwrap_or(0)
    }
}

/// When a window goes on to its next part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// After so many events, at least 1.
    Events(u64),
    /// After so many microseconds, at least 1, whether anything comes or not.
    Microseconds(u64),
    /// There is no window: nothing is kept, for nobody looks.
    Never,
}

/// The counts of the last [`PARTS`] sub-windows, the one under way included, with their sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    pace: Pace,
    /// One part after the other.
    parts: Vec<u32>,
    sum: Counts,
    /// Number of the part under way since the beginning of time or of counting.
    number: u64,
    events: u64,
}

impl Ring {
    /// An empty window over `slots` slots.
    #[must_use]
    pub fn new(slots: usize, pace: Pace) -> Self {
        let slots = if pace == Pace::Never { 0 } else { slots };
        let parts = vec![0; slots * PARTS];
        Self { pace, parts, sum: Counts::new(slots), number: 0, events: 0 }
    }

    /// Takes what was counted up to `now`. Counts that come at once stay together, in one part.
    pub fn take(&mut self, counts: &Counts, now: Time) {
        if self.pace == Pace::Never {
            return;
        }
        self.advance(now);
        self.sum.merge(counts);
        for (kept, count) in self.part(self.number).iter_mut().zip(counts.slots()) {
            *kept = kept.saturating_add(*count);
        }
        self.events += counts.total();
    }

    /// Lets go of what has grown too old by `now`.
    pub fn advance(&mut self, now: Time) {
        let number = match self.pace {
            Pace::Events(each) => self.number + u64::from(self.events >= each.max(1)),
            Pace::Microseconds(each) => now.0 / each.max(1),
            Pace::Never => return,
        };
        // A clock that went back leaves the window where it is.
        let steps = number.saturating_sub(self.number).min(PARTS as u64);
        for step in 0..steps {
            let old = Counts::from_slots(self.part(number - step).to_vec());
            self.sum.part_from(&old);
            self.part(number - step).fill(0);
        }
        if steps > 0 {
            (self.number, self.events) = (number, 0);
        }
    }

    fn part(&mut self, number: u64) -> &mut [u32] {
        let slots = self.sum.slots().len();
        let from = (number % PARTS as u64) as usize * slots;
        self.parts.get_mut(from..from + slots).unwrap_or_default()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.capacity() * size_of::<u32>() + self.sum.bytes()
    }

    /// What the whole window counted.
    #[must_use]
    pub fn sum(&self) -> &Counts {
        &self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(slot: usize) -> Counts {
        let mut counts = Counts::new(3);
        counts.add(slot);
        counts
    }

    #[test]
    fn the_sum_is_that_of_the_latest_parts_by_count() {
        let mut ring = Ring::new(3, Pace::Events(10));
        (0..1000).for_each(|event| ring.take(&one(event % 3), Time(0)));
        let all = 10 * PARTS as u64;
        assert_eq!(ring.sum().total(), all, "parts of 10 events, the last of them full");
        ring.take(&one(0), Time(0));
        assert_eq!(ring.sum().total(), all - 9, "a new part pushes out the oldest");
        let parts = ring.parts.iter().sum::<u32>();
        assert_eq!(u64::from(parts), ring.sum().total(), "the sum is exact");
    }

    #[test]
    fn time_alone_empties_a_window() {
        let mut ring = Ring::new(3, Pace::Microseconds(1000));
        (0..5000).for_each(|event| ring.take(&one(1), Time(1_000_000 + event * 20)));
        let all = PARTS as u64 * 50;
        assert_eq!(ring.sum().total(), all, "parts of 1 ms with 50 events each");
        ring.advance(Time(1_100_000));
        assert_eq!(ring.sum().total(), all - 50, "one part is gone");
        ring.advance(Time(0));
        assert_eq!(ring.sum().total(), all - 50, "a clock that goes back changes nothing");
        ring.advance(Time(u64::MAX));
        assert_eq!(ring.sum().total(), 0, "a long silence empties it");
    }

    #[test]
    fn without_a_pace_nothing_is_kept() {
        let mut ring = Ring::new(3, Pace::Never);
        ring.take(&one(1), Time(5));
        ring.advance(Time(u64::MAX));
        assert_eq!((ring.sum().total(), ring.bytes()), (0, 0));
    }

    #[test]
    fn a_full_counter_stays_full() {
        let mut counts = Counts::from_slots(vec![u32::MAX, 0]);
        counts.add(0);
        counts.add(7);
        assert_eq!(
            counts.slots(),
            [u32::MAX, 0],
            "neither wraps, and a slot that is not there counts nothing"
        );
    }
}
