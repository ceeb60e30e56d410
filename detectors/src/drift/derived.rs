//! Four yes-or-no features made of one feature, for the failures that operators meet and distances miss: a value that
//! repeats (a stuck default), a new label that comes again, a value outside of the reference's range, and one that is
//! missing or of the wrong type.
//!
//! Whoever sweeps one field repeats all others, and is nobody's population. So a value is a repeat only where another
//! sender brought it before ([`By`]), but for a sender that is the traffic. That makes repeats rarer than in a reference,
//! which knows no senders, and so leaves the promise below as it is.
//!
//! Each is a bet against the highest rate that the reference leaves open (Clopper and Pearson's bound r): b more of
//! them gives a factor 1 - b + b/r for each event that is one, and 1 - b for each that is not; its expectation is at
//! most 1 while the rate is at most r. Four b share the evidence, and Shiryaev and Roberts' sum gives the same promise
//! as in `event.rs`.

use serde::{Deserialize, Serialize};

use super::bins::{Bins, Value};
use super::counts::Tick;
use super::event::raised;
use super::lately::Lately;
use super::measure::rate_bound;
use super::powers::powers;
use super::space_saving::SpaceSaving;

/// What the bets add to the rate.
const BETS: [f64; 4] = [1e-3, 0.005, 0.02, 0.1];
/// Their shares: most where failures that operators meet lie, at some per cent. More frequent ones are seen at once by any
/// bet, and rarer ones take longest whatever the share.
const SHARES: [f64; BETS.len()] = [0.05, 0.2, 0.5, 0.25];
/// What each bet is multiplied by where an event does not hold.
const MISSES: [f64; BETS.len()] = {
    let (mut misses, mut bet) = (BETS, 0);
    while bet < BETS.len() {
        misses[bet] = 1.0 - BETS[bet];
        bet += 1;
    }
    misses
};
/// New labels that are followed.
pub const NEW_LABELS: usize = 32;
/// Where a reference's rate may be higher than this, more of it tells nothing.
const RATE_MAX: f64 = 0.5;

/// The derived features, in the order of everything that is kept of them.
pub const DERIVED: [Derived; 4] =
    [Derived::Repeats, Derived::NewLabelRepeats, Derived::OutsideRange, Derived::NotThere];

/// A yes-or-no feature of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Derived {
    /// The value was among the last [`LATEST`](super::lately::LATEST) of the feature, brought by another sender.
    Repeats,
    /// The reference never saw the label, and it came before, brought by another sender.
    NewLabelRepeats,
    /// The number lies below the reference's minimum or above its maximum.
    OutsideRange,
    /// It is missing, or of another type than in the reference.
    NotThere,
}

/// How often each derived feature held, and of how many values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// In the order of [`DERIVED`].
    pub held: [u32; 4],
    /// Values that were looked at.
    pub values: u32,
}

/// Whose values a row holds, as far as repeats are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// A byte of the sender's keyed hash, 0 where the sender is not known.
    mark: u8,
    /// Of whom no value before counts: the sender's own mark, or one that nobody has.
    but: u16,
}

/// What the derived features look back at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    latest: Lately,
    /// With who brought each, 0 once it was several.
    new_labels: SpaceSaving<u8>,
}

/// The factors of a bet's hit and miss, for each derived feature that can tell something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    bounds: [Option<f64>; 4],
}

/// The evidence of the four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    levels: [[f64; BETS.len()]; 4],
}

impl By {
    /// A sender that nobody knows: every repeat counts.
    pub const NOBODY: Self = Self { mark: 0, but: Self::NO_MARK };

    const NO_MARK: u16 = u16::MAX;

    /// The sender with this hash. Two senders in 255 are taken for one, which loses a repeat now and then and makes none.
    /// `own` where it sends most of the traffic: then its own repeats are the traffic's.
    #[must_use]
    pub fn sender(hash: u64, own: bool) -> Self {
        let mark = ((hash >> 56) as u8).max(1);
        Self { mark, but: if own { Self::NO_MARK } else { u16::from(mark) } }
    }

    /// The sender of a value that is read back.
    pub(super) fn marked(mark: u8) -> Self {
        Self { mark, ..Self::NOBODY }
    }

    /// What is kept of the sender.
    pub(super) fn mark(self) -> u8 {
        self.mark
    }

    /// Whether a value that `mark` brought before is a repeat.
    pub(super) fn repeats(self, mark: u8) -> bool {
        u16::from(mark) != self.but
    }
}

impl Memory {
    /// An empty memory. Repeats are looked for where `repeats`.
    #[must_use]
    pub fn new(repeats: bool) -> Self {
        Self { latest: Lately::new(repeats), new_labels: SpaceSaving::new(NEW_LABELS) }
    }

    /// Looks at a value that falls into `slot`, of a sender that is not known, and remembers it.
    pub fn look(&mut self, bins: &Bins, value: Value, slot: usize, hits: &mut Hits) {
        hits.values = hits.values.saturating_add(1);
        let [_, _, outside, not_there] = &mut hits.held;
        let there = slot < bins.scale();
        *not_there += u32::from(!there);
        *outside += u32::from(there && matches!(value, Value::Number(_)) && bins.is_outside(slot));
        self.look_back(bins, value, slot, By::NOBODY, hits);
    }

    /// The part of [`Memory::look`] that is about the values before, which no count of slots tells: whether it was among
    /// them. The other hits are [`Hits::by_slot`].
    pub fn look_back(&mut self, bins: &Bins, value: Value, slot: usize, by: By, hits: &mut Hits) {
        match value {
            Value::Number(number) if slot < bins.scale() => self.look_back_at(number, by, hits),
            Value::Label(label) if bins.is_outside(slot) => {
                let [_, new_label, _, _] = &mut hits.held;
                let is_known = self.new_labels.holds(label);
                let Some(kept) = self.new_labels.add(label, || by.mark) else { return };
                *new_label += u32::from(is_known && by.repeats(kept.value));
                kept.value = if kept.value == by.mark { by.mark } else { 0 };
            }
            Value::Number(_) | Value::Label(_) | Value::Missing => {}
        }
    }

    /// The same of a number that is of the feature's type.
    #[inline(always)]
    pub fn look_back_at(&mut self, number: f64, by: By, hits: &mut Hits) {
        let [repeats, ..] = &mut hits.held;
        *repeats += u32::from(self.latest.take(number, by));
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.latest.bytes() + self.new_labels.bytes()
    }

    /// New labels that had to give their place to others, ever.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.new_labels.replaced()
    }

    /// Forgets what a change brought.
    pub fn reset(&mut self) {
        self.latest.clear();
        self.new_labels.clear();
    }
}

impl Hits {
    /// Puts in place of those that depend on the slot alone what was counted by slot.
    pub fn by_slot(&mut self, bins: &Bins, tick: &Tick<'_>) {
        let either = |one: usize, other: usize| tick.at(one).saturating_add(tick.at(other));
        let [_, _, outside, not_there] = &mut self.held;
        self.values = tick.events();
        *not_there = either(bins.scale(), bins.scale() + 1);
        *outside = match bins {
            Bins::Numbers(_) if bins.is_outside(0) => either(0, bins.scale() - 1),
            Bins::Numbers(_) | Bins::Labels(_) => 0,
        };
    }
}

impl Rates {
    /// The highest rates that the reference leaves open at error `above`, by what held in it.
    #[must_use]
    pub fn of(hits: &[(u64, u64); 4], above: f64) -> Self {
        let bound = |(held, values): (u64, u64)| {
            let bound = rate_bound(held, values, above);
            (values > 0 && bound <= RATE_MAX).then_some(bound)
        };
        Self { bounds: hits.map(bound) }
    }

    /// Whether one of the derived features can tell something.
    #[must_use]
    pub fn tells(&self, derived: Derived) -> bool {
        self.bounds.get(derived as usize).is_some_and(Option::is_some)
    }

    /// How many of them can.
    #[must_use]
    pub fn telling(&self) -> usize {
        self.bounds.iter().flatten().count()
    }
}

impl Evidence {
    /// Settles a tick.
    #[inline(always)]
    pub fn take(&mut self, rates: &Rates, hits: &Hits) {
        let none = powers(MISSES, hits.values);
        for ((levels, bound), held) in self.levels.iter_mut().zip(&rates.bounds).zip(hits.held) {
            let Some(bound) = bound else { continue };
            let held = held.min(hits.values);
            let mut factors = none;
            if held > 0 {
                let hit = powers(BETS.map(|bet| 1.0 - bet + bet / bound), held);
                factors = powers(MISSES, hits.values - held);
                factors.iter_mut().zip(hit).for_each(|(factor, hit)| *factor *= hit);
            }
            let pairs = levels.iter_mut().zip(factors);
            pairs.for_each(|(level, factor)| *level = raised(*level, hits.values, factor));
        }
    }

    /// The evidence of one derived feature.
    #[must_use]
    pub fn of(&self, derived: Derived) -> f64 {
        let levels = self.levels.get(derived as usize);
        levels.map_or(0.0, |levels| levels.iter().zip(SHARES).map(|(level, share)| level * share).sum())
    }

    /// The mean of those that can tell something; nothing where none can.
    #[must_use]
    pub fn level(&self, rates: &Rates) -> Option<f64> {
        let telling = DERIVED.into_iter().filter(|derived| rates.tells(*derived));
        let sum: f64 = telling.map(|derived| self.of(derived)).sum();
        (rates.telling() > 0).then(|| sum / rates.telling() as f64)
    }

    /// Forgets it.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::counts::Counts;
    use super::*;

    fn looked(values: &[Value], reference: &[Value]) -> Hits {
        let bins = Bins::of(reference);
        let (mut memory, mut hits) = (Memory::new(true), Hits::default());
        values.iter().for_each(|value| memory.look(&bins, *value, bins.slot(*value), &mut hits));
        hits
    }

    #[test]
    fn each_derived_feature_holds_for_what_it_names() {
        let numbers: Vec<Value> = (0..100).map(|row| Value::Number(f64::from(row))).collect();
        let live = [5.0, 5.0, -0.0, 0.0, -1.0, 100.0].map(Value::Number);
        let hits = looked(&live, &numbers);
        assert_eq!(hits, Hits { held: [2, 0, 2, 0], values: 6 }, "two repeats, two outside of 0 to 99");
        let gaps = looked(&[Value::Missing, Value::Label(3), Value::Number(f64::NAN)], &numbers);
        assert_eq!(gaps, Hits { held: [0, 0, 0, 3], values: 3 });
        let labels = [1, 2, 3].map(Value::Label);
        let new = looked(&[1, 77, 77, 78, 77].map(Value::Label), &labels);
        assert_eq!(new, Hits { held: [0, 2, 0, 0], values: 5 }, "the second and third time of one new label");
    }

    #[test]
    fn what_slots_tell_is_the_same_as_what_each_value_tells() {
        let numbers: Vec<Value> = (0..100).map(|row| Value::Number(f64::from(row % 60))).collect();
        let labels: Vec<Value> = (0..100).map(|row| Value::Label(row % 40)).collect();
        let live = |row: u32| match row % 7 {
            0 => Value::Missing,
            1 => Value::Label(u64::from(row % 50)),
            2 => Value::Number(f64::NAN),
            _ => Value::Number(f64::from(row % 80) - 10.0),
        };
        for reference in [numbers, labels, vec![Value::Missing; 9]] {
            let bins = Bins::of(&reference);
            let mut counts = Counts::new(bins.slots());
            let (mut memory, mut both) = (Memory::new(true), Hits::default());
            let mut halves = (memory.clone(), Hits::default());
            for value in (0..500).map(live) {
                let slot = bins.slot(value);
                counts.add(slot);
                memory.look(&bins, value, slot, &mut both);
                halves.0.look_back(&bins, value, slot, By::NOBODY, &mut halves.1);
            }
            halves.1.by_slot(&bins, &Tick::of(&counts, &mut Tick::room()));
            assert_eq!((&memory, both), (&halves.0, halves.1), "{bins:?}");
            let read: Memory = postcard::from_bytes(&postcard::to_stdvec(&memory).unwrap()).unwrap();
            assert_eq!(read, memory, "it is read back as it was");
        }
    }

    #[test]
    fn a_value_repeats_where_another_brought_it_and_where_one_sender_is_the_traffic() {
        let numbers: Vec<Value> = (0..100).map(|row| Value::Number(f64::from(row))).collect();
        let labels: Vec<Value> = [1, 2].map(Value::Label).to_vec();
        let [one, other] = [7, 9].map(|sender: u64| By::sender(sender << 56, false));
        let most = By::sender(7 << 56, true);
        for (reference, value, held) in [(numbers, Value::Number(0.25), 0), (labels, Value::Label(77), 1)] {
            let bins = Bins::of(&reference);
            let repeats = |senders: &[By]| {
                let (mut memory, mut hits) = (Memory::new(true), Hits::default());
                let slot = bins.slot(value);
                senders.iter().for_each(|by| memory.look_back(&bins, value, slot, *by, &mut hits));
                let read: Memory = postcard::from_bytes(&postcard::to_stdvec(&memory).unwrap()).unwrap();
                assert_eq!(read, memory, "it is read back as it was");
                hits.held[held]
            };
            assert_eq!(repeats(&[one; 5]), 0, "one alone: {value:?}");
            assert_eq!(repeats(&[one, other]), 1, "the second brings what the first did: {value:?}");
            assert_eq!(repeats(&[one, other, other, one]), 3, "then it is both of theirs: {value:?}");
            assert_eq!(repeats(&[most; 5]), 4, "whoever is the traffic: {value:?}");
            assert_eq!(repeats(&[By::NOBODY; 5]), 4, "where senders are not known: {value:?}");
        }
    }

    #[test]
    fn a_rate_that_stays_open_is_no_evidence_and_a_higher_one_is() {
        let rates = Rates::of(&[(0, 100_000), (0, 0), (2, 100_000), (60_000, 100_000)], 0.01);
        assert_eq!(
            DERIVED.map(|derived| rates.tells(derived)),
            [true, false, true, false],
            "nothing counted, or too often, tells nothing"
        );
        let mut evidence = Evidence::default();
        (0..1000).for_each(|_| evidence.take(&rates, &Hits { held: [0; 4], values: 16 }));
        let quiet = evidence.level(&rates).expect("two of them tell");
        assert!(quiet < 16_000.0, "below the number of events: {quiet}");
        (0..2).for_each(|_| evidence.take(&rates, &Hits { held: [1, 0, 0, 0], values: 16 }));
        assert!(evidence.of(Derived::Repeats) > 1e5, "{}", evidence.of(Derived::Repeats));
        assert!(evidence.of(Derived::OutsideRange) < 16_100.0);
        assert_eq!(evidence.of(Derived::NotThere), 0.0);
    }
}
