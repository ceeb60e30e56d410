//! Four yes-or-no features made of one feature, for the failures that operators meet and distances miss: a value that
//! repeats (a stuck default), a new label that comes again, a value outside of the reference's range, and one that is
//! missing or of the wrong type.
//!
//! Each is a bet against the highest rate that the reference leaves open (Clopper and Pearson's bound r): b more of
//! them gives a factor 1 - b + b/r for each event that is one, and 1 - b for each that is not; its expectation is at
//! most 1 while the rate is at most r. Six b share the evidence, and Shiryaev and Roberts' sum gives the same promise
//! as in `event.rs`.

use serde::{Deserialize, Serialize};

use super::bins::{Bins, Value};
use super::event::raised;
use super::measure::{power, rate_bound};
use super::space_saving::SpaceSaving;

/// What the bets add to the rate.
const BETS: [f64; 6] = [1e-4, 1e-3, 0.005, 0.02, 0.1, 0.3];
/// Values among which a repeat is looked for.
pub const LATEST: usize = 64;
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
    /// The value was among the last 64 of the feature.
    Repeats,
    /// The reference never saw the label, and it came before.
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

/// What the derived features look back at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Folded bits of the latest values; empty where repeats tell nothing.
    latest: Vec<u32>,
    next: u32,
    new_labels: SpaceSaving<()>,
}

/// The factors of a bet's hit and miss, for each derived feature that can tell something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    bounds: [Option<f64>; 4],
}

/// The evidence of the four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    levels: [[f64; 6]; 4],
}

impl Memory {
    /// An empty memory. Repeats are looked for where `repeats`.
    #[must_use]
    pub fn new(repeats: bool) -> Self {
        let latest = if repeats { vec![0; LATEST] } else { Vec::new() };
        Self { latest, next: 0, new_labels: SpaceSaving::new(NEW_LABELS) }
    }

    /// Looks at a value that falls into `slot`, and remembers it.
    #[inline]
    pub fn look(&mut self, bins: &Bins, value: Value, slot: usize, hits: &mut Hits) {
        hits.values = hits.values.saturating_add(1);
        let there = slot < bins.scale();
        let [repeats, new_label, outside, not_there] = &mut hits.held;
        *not_there += u32::from(!there);
        if !there {
            return;
        }
        match value {
            Value::Number(number) => {
                *outside += u32::from(bins.is_outside(slot));
                *repeats += u32::from(self.repeats(number));
            }
            Value::Label(label) if bins.is_outside(slot) => {
                *new_label += u32::from(self.new_labels.holds(label));
                let _ = self.new_labels.add(label, || ());
            }
            Value::Label(_) | Value::Missing => {}
        }
    }

    #[inline]
    fn repeats(&mut self, number: f64) -> bool {
        let bits = (number + 0.0).to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Zero stands for a place that was never taken.
        let folded = (bits >> 32) as u32 | 1;
        let repeats = self.latest.iter().fold(false, |found, other| found | (*other == folded));
        let place = self.next as usize % LATEST;
        self.next = self.next.wrapping_add(1);
        if let Some(place) = self.latest.get_mut(place) {
            *place = folded;
        }
        repeats
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.latest.capacity() * size_of::<u32>() + self.new_labels.bytes()
    }

    /// New labels that had to give their place to others, ever.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.new_labels.replaced()
    }

    /// Forgets what a change brought.
    pub fn reset(&mut self) {
        self.latest.fill(0);
        self.new_labels.clear();
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
    pub fn take(&mut self, rates: &Rates, hits: &Hits) {
        for ((levels, bound), held) in self.levels.iter_mut().zip(&rates.bounds).zip(hits.held) {
            let Some(bound) = bound else { continue };
            let held = held.min(hits.values);
            for (level, bet) in levels.iter_mut().zip(BETS) {
                let factor = power(1.0 - bet + bet / bound, held) * power(1.0 - bet, hits.values - held);
                *level = raised(*level, hits.values, factor);
            }
        }
    }

    /// The evidence of one derived feature.
    #[must_use]
    pub fn of(&self, derived: Derived) -> f64 {
        let levels = self.levels.get(derived as usize);
        levels.map_or(0.0, |levels| levels.iter().sum::<f64>() / BETS.len() as f64)
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
    fn a_repeat_is_forgotten_after_sixty_four_values() {
        let numbers: Vec<Value> = (0..100).map(|row| Value::Number(f64::from(row))).collect();
        let at_distance = |apart: u32| {
            let between = (1..apart).map(|row| Value::Number(f64::from(row) + 0.5));
            let live: Vec<Value> =
                std::iter::once(Value::Number(0.25)).chain(between).chain([Value::Number(0.25)]).collect();
            looked(&live, &numbers).held[0]
        };
        assert_eq!((at_distance(64), at_distance(65)), (1, 0));
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
