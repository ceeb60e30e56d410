//! Exact counts by slot, and the window that slides over them.

use serde::{Deserialize, Serialize};

use super::bins::SLOTS;
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

    /// Adds what a tick counted.
    #[inline(always)]
    pub fn take(&mut self, tick: &Tick<'_>) {
        tick.add_to(&mut self.slots);
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        self.add_all(&other.slots);
    }

    fn add_all(&mut self, counts: &[u32]) {
        let pairs = self.slots.iter_mut().zip(counts);
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

/// What was counted between two ticks. A tick has few events, and so costs by the slots that they met, not by all.
#[derive(Clone, Copy, Debug)]
pub struct Tick<'a> {
    counts: &'a Counts,
    /// The slots that were met, in order, with how often.
    met: &'a [(u32, u32)],
    events: u32,
}

/// The slots that a tick met, those that nothing is in last.
pub type Met = [(u32, u32); SLOTS];

impl<'a> Tick<'a> {
    /// Room for the slots of one tick.
    #[must_use]
    pub fn room() -> Met {
        [(0, 0); SLOTS]
    }

    /// The tick of these counts, of at most [`SLOTS`] slots.
    #[inline(always)]
    #[must_use]
    pub fn of(counts: &'a Counts, met: &'a mut Met) -> Self {
        let (mut len, mut events) = (0, 0_u64);
        for (slot, count) in (0..).zip(&counts.slots) {
            // Which slots are met cannot be foreseen, so there is no branch: what was not met is written over by the next.
            if let Some(next) = met.get_mut(len) {
                *next = (slot, *count);
            }
            len += usize::from(*count > 0);
            events += u64::from(*count);
        }
        let events = events.min(u64::from(u32::MAX)) as u32;
        Self { counts, met: met.get(..len).unwrap_or_default(), events }
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.events
    }

    /// The slots that were met, in order, with how often.
    #[inline(always)]
    pub fn met(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.met.iter().map(|(slot, count)| (*slot as usize, *count))
    }

    /// How often one slot was met.
    #[must_use]
    pub fn at(&self, slot: usize) -> u32 {
        self.counts.at(slot)
    }

    #[inline(always)]
    fn add_to(&self, slots: &mut [u32]) {
        for (slot, more) in self.met() {
            if let Some(count) = slots.get_mut(slot) {
                *count = count.saturating_add(more);
            }
        }
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

/// The counts of the last [`PARTS`] sub-windows, the one under way included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    pace: Pace,
    /// One part after the other.
    parts: Vec<u32>,
    /// Number of the part under way since the beginning of time or of counting.
    number: u64,
    events: u64,
}

impl Ring {
    /// An empty window over `slots` slots.
    #[must_use]
    pub fn new(slots: usize, pace: Pace) -> Self {
        let slots = if pace == Pace::Never { 0 } else { slots };
        Self { pace, parts: vec![0; slots * PARTS], number: 0, events: 0 }
    }

    /// Takes what was counted up to `now`. Counts that come at once stay together, in one part.
    #[inline(always)]
    pub fn take(&mut self, tick: &Tick<'_>, now: Time) {
        if self.pace == Pace::Never {
            return;
        }
        self.advance(now);
        tick.add_to(self.part(self.number));
        self.events += u64::from(tick.events());
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
            self.part(number - step).fill(0);
        }
        if steps > 0 {
            (self.number, self.events) = (number, 0);
        }
    }

    fn slots(&self) -> usize {
        self.parts.len() / PARTS
    }

    fn part(&mut self, number: u64) -> &mut [u32] {
        let slots = self.slots();
        let from = (number % PARTS as u64) as usize * slots;
        self.parts.get_mut(from..from + slots).unwrap_or_default()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.capacity() * size_of::<u32>()
    }

    /// What the whole window counted.
    #[must_use]
    pub fn sum(&self) -> Counts {
        let mut sum = Counts::new(self.slots());
        for part in self.parts.chunks(self.slots().max(1)) {
            sum.add_all(part);
        }
        sum
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
        (0..1000).for_each(|event| ring.take(&Tick::of(&one(event % 3), &mut Tick::room()), Time(0)));
        let all = 10 * PARTS as u64;
        assert_eq!(ring.sum().total(), all, "parts of 10 events, the last of them full");
        ring.take(&Tick::of(&one(0), &mut Tick::room()), Time(0));
        assert_eq!(ring.sum().total(), all - 9, "a new part pushes out the oldest");
        let read: Ring = postcard::from_bytes(&postcard::to_stdvec(&ring).unwrap()).unwrap();
        assert_eq!(read, ring, "it is read back as it was");
    }

    #[test]
    fn time_alone_empties_a_window() {
        let mut ring = Ring::new(3, Pace::Microseconds(1000));
        let mut take = |time| ring.take(&Tick::of(&one(1), &mut Tick::room()), Time(time));
        (0..5000).for_each(|event| take(1_000_000 + event * 20));
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
        ring.take(&Tick::of(&one(1), &mut Tick::room()), Time(5));
        ring.advance(Time(u64::MAX));
        assert_eq!((ring.sum().total(), ring.bytes()), (0, 0));
    }

    #[test]
    fn a_tick_tells_the_slots_that_were_met_and_how_often() {
        let mut slots = vec![0; SLOTS];
        let none = Counts::from_slots(slots.clone());
        assert_eq!(Tick::of(&none, &mut Tick::room()).met().count(), 0, "nothing was met");
        for (slot, count) in [(0, 3), (7, 1), (SLOTS - 1, 9)] {
            slots[slot] = count;
        }
        let counts = Counts::from_slots(slots);
        let mut met = Tick::room();
        let tick = Tick::of(&counts, &mut met);
        let met: Vec<(usize, u32)> = tick.met().collect();
        assert_eq!((met, tick.events()), (vec![(0, 3), (7, 1), (SLOTS - 1, 9)], 13));
        let mut sum = counts.clone();
        sum.take(&tick);
        assert_eq!(sum.slots(), counts.slots().iter().map(|count| 2 * count).collect::<Vec<_>>());
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
