//! The bins of one feature, cut from the reference and fixed: a value falls into exactly one of at most 34 slots.
//!
//! Fixed bins with exact counts give the same verdict for the same data, and their memory does not grow. What a
//! randomised sketch would add, quantiles nobody asked for, is not worth two runs that disagree.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// Edges between intervals of numbers: 14 quantiles, the quantiles at 0.1 % and 99.9 %, the minimum and just above the
/// maximum.
pub const EDGES: usize = 18;
/// Labels of a reference that have a slot of their own: the most frequent ones.
pub const LABELS: usize = 30;
/// Most slots of a feature: the labels, other labels of the reference, labels it never saw, missing, wrong type.
pub const SLOTS: usize = LABELS + 4;
/// Edges that a look-up compares at once.
const BLOCK: usize = 4;
/// Quantile edges besides the tails.
const QUANTILES: usize = 14;
/// 64-bit words of the set of further labels.
const OTHERS_WORDS: usize = 64;

/// One value of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// There is none.
    Missing,
    /// A number; NaN counts as the wrong type.
    Number(f64),
    /// A category, by the keyed hash of its text.
    Label(u64),
}

impl Value {
    /// A category, by its text under the key of its reference. Who does not know the key cannot choose texts that fall
    /// together.
    #[must_use]
    pub fn label(key: [u64; 2], text: &str) -> Self {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        hasher.write(text.as_bytes());
        Self::Label(hasher.finish())
    }
}

/// The slots of a feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Bins {
    /// Intervals of numbers.
    Numbers(NumberBins),
    /// Categories.
    Labels(LabelBins),
}

/// Intervals of numbers. An edge belongs to the interval above it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NumberBins {
    /// Ascending; those beyond `used` are the largest number, so that a look-up needs no branch.
    edges: [f64; EDGES],
    used: usize,
}

/// Categories, the most frequent first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelBins {
    /// Ascending by hash, with the slot of each.
    labels: Vec<(u64, u8)>,
    /// A Bloom filter of the reference's further labels (Bloom 1970): a collision hides a new label, it raises none.
    others: Vec<u64>,
}

impl Bins {
    /// Cuts the bins of a column: numbers where it holds more numbers than labels, otherwise labels.
    #[must_use]
    pub fn of(values: &[Value]) -> Self {
        let numbers: Vec<f64> = values.iter().filter_map(|value| number(*value)).collect();
        let labels: Vec<u64> = values.iter().filter_map(|value| label(*value)).collect();
        if labels.len() > numbers.len() {
            Self::Labels(LabelBins::of(labels))
        } else {
            Self::Numbers(NumberBins::of(numbers))
        }
    }

    /// How many slots there are, 3 to [`SLOTS`].
    #[must_use]
    pub fn slots(&self) -> usize {
        self.scale() + 2
    }

    /// How many slots stand on the feature's own scale: all but missing and wrong type, which are the last two.
    #[must_use]
    pub fn scale(&self) -> usize {
        match self {
            Self::Numbers(bins) => bins.scale(),
            Self::Labels(bins) => bins.labels.len() + 2,
        }
    }

    /// The slot of a value, below [`Bins::slots`].
    #[inline]
    #[must_use]
    pub fn slot(&self, value: Value) -> usize {
        match (self, value) {
            (Self::Numbers(bins), Value::Number(number)) => bins.slot(number),
            (Self::Labels(bins), Value::Label(label)) => bins.slot(label),
            (_, Value::Missing) => self.scale(),
            _ => self.scale() + 1,
        }
    }

    /// Whether a slot holds what the reference's range or labels do not: below the minimum, above the maximum, unseen.
    #[must_use]
    pub fn is_outside(&self, slot: usize) -> bool {
        match self {
            Self::Numbers(bins) => bins.used > 0 && (slot == 0 || slot == bins.used),
            Self::Labels(bins) => slot == bins.labels.len() + 1,
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Numbers(_) => 0,
            Self::Labels(bins) => {
                bins.labels.capacity() * size_of::<(u64, u8)>() + bins.others.capacity() * size_of::<u64>()
            }
        }
    }

    /// The value that a slot on the scale of numbers begins with; nothing for the lowest, and for labels.
    #[must_use]
    pub fn edge(&self, slot: usize) -> Option<f64> {
        match self {
            Self::Numbers(bins) => bins.used_edges().get(slot.checked_sub(1)?).copied(),
            Self::Labels(_) => None,
        }
    }
}

impl NumberBins {
    fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else {
            return Self { edges: [f64::MAX; EDGES], used: 0 };
        };
        let at = |part: f64| numbers.get((part * numbers.len() as f64) as usize).copied();
        let middle = (1..=QUANTILES).map(|part| part as f64 / (QUANTILES + 1) as f64);
        let parts = std::iter::once(0.001).chain(middle).chain(std::iter::once(0.999));
        let mut edges: Vec<f64> = std::iter::once(first)
            .chain(parts.filter_map(at))
            .chain(std::iter::once(last.next_up()))
            .collect();
        part_atoms(&mut edges);
        let mut kept = [f64::MAX; EDGES];
        kept.iter_mut().zip(&edges).for_each(|(kept, edge)| *kept = *edge);
        Self { edges: kept, used: edges.len().min(EDGES) }
    }

    /// As [`Bins::slot`]: looks which block of edges the number lies in, then where in it, without a branch.
    #[inline]
    pub(super) fn slot(&self, number: f64) -> usize {
        let (blocks, _) = self.edges.as_chunks::<BLOCK>();
        let below = |edge: &f64| usize::from(*edge <= number);
        let whole: usize = blocks.iter().map(|[_, _, _, last]| below(last)).sum();
        // The last block begins earlier, so that it is as long as the others; the edges before it lie below as well.
        let from = (whole * BLOCK).min(EDGES - BLOCK);
        let inside: usize = self.edges.iter().skip(from).take(BLOCK).map(below).sum();
        let slot = (from + inside).min(self.used);
        if number.is_nan() { self.used + 2 } else { slot }
    }

    /// The slots of numbers at all: all but missing and wrong type.
    #[inline]
    pub(super) fn scale(&self) -> usize {
        self.used + 1
    }

    fn used_edges(&self) -> &[f64] {
        self.edges.get(..self.used).unwrap_or(&[])
    }
}

/// A value that is several quantiles at once gets an interval of its own.
fn part_atoms(edges: &mut Vec<f64>) {
    let mut last = f64::NAN;
    for edge in edges.iter_mut() {
        if *edge == last {
            *edge = edge.next_up();
        } else {
            last = *edge;
        }
    }
    edges.sort_by(f64::total_cmp);
    edges.dedup();
}

impl LabelBins {
    fn of(mut labels: Vec<u64>) -> Self {
        labels.sort_unstable();
        let mut counted: Vec<(usize, u64)> = labels
            .chunk_by(|one, other| one == other)
            .filter_map(|run| Some((run.len(), *run.first()?)))
            .collect();
        counted.sort_unstable_by_key(|(count, label)| (std::cmp::Reverse(*count), *label));
        let mut own: Vec<(u64, u8)> =
            counted.iter().take(LABELS).zip(0..).map(|((_, label), slot)| (*label, slot)).collect();
        own.sort_unstable();
        let mut bins = Self { labels: own, others: Vec::new() };
        counted.iter().skip(LABELS).for_each(|(_, label)| bins.remember(*label));
        bins
    }

    #[inline]
    fn slot(&self, label: u64) -> usize {
        let place = self.labels.partition_point(|(other, _)| *other < label);
        match self.labels.get(place) {
            Some((other, slot)) if *other == label => usize::from(*slot),
            _ => self.labels.len() + usize::from(!self.knows(label)),
        }
    }

    fn remember(&mut self, label: u64) {
        self.others.resize(OTHERS_WORDS, 0);
        for (word, bit) in places(label) {
            if let Some(word) = self.others.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn knows(&self, label: u64) -> bool {
        places(label).all(|(word, bit)| self.others.get(word).is_some_and(|word| word & bit != 0))
    }
}

/// Four bits of a hash that is keyed already.
fn places(label: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..4).map(move |part| {
        let piece = (label >> (part * 16)) as usize;
        (piece / 64 % OTHERS_WORDS, 1 << (piece % 64))
    })
}

fn number(value: Value) -> Option<f64> {
    match value {
        Value::Number(number) => (!number.is_nan()).then_some(number),
        Value::Missing | Value::Label(_) => None,
    }
}

fn label(value: Value) -> Option<u64> {
    match value {
        Value::Label(label) => Some(label),
        Value::Missing | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: u32, value: impl Fn(u32) -> f64) -> Bins {
        Bins::of(&(0..count).map(|row| Value::Number(value(row))).collect::<Vec<_>>())
    }

    #[test]
    fn a_continuous_feature_has_nineteen_intervals_and_two_slots_for_what_is_no_number() {
        let bins = numbers(100_000, f64::from);
        assert_eq!((bins.scale(), bins.slots()), (19, 21), "14 quantiles, 2 tails, minimum and maximum");
        let slots = [-1.0, 0.0, 99.0, 100.0, 50_000.0, 99_999.0, 99_999.5, f64::INFINITY]
            .map(|value| bins.slot(Value::Number(value)));
        assert_eq!(slots, [0, 1, 1, 2, 9, 17, 18, 18], "in the order of the values");
        assert_eq!(bins.slot(Value::Missing), 19);
        assert_eq!(bins.slot(Value::Number(f64::NAN)), 20, "NaN is the wrong type");
        assert_eq!(bins.slot(Value::Label(7)), 20, "and so is a text");
        assert!(bins.is_outside(0) && bins.is_outside(18) && !bins.is_outside(1) && !bins.is_outside(19));
    }

    #[test]
    fn a_slot_is_the_number_of_edges_that_are_not_above_the_value() {
        for distinct in [1_u32, 2, 3, 7, 12, 16, 17, 18, 19, 40, 1000] {
            let bins = numbers(2000, |row| f64::from(row * 7919 % 2000 % distinct) - 5.0);
            let edges: Vec<f64> = (1..SLOTS).map_while(|slot| bins.edge(slot)).collect();
            let near = edges.iter().flat_map(|edge| [edge.next_down(), *edge, edge.next_up()]);
            for value in near.chain([f64::MIN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY]) {
                let expected = edges.iter().filter(|edge| **edge <= value).count();
                assert_eq!(bins.slot(Value::Number(value)), expected, "{value} among {edges:?}");
            }
        }
    }

    #[test]
    fn a_value_that_is_many_quantiles_has_an_interval_of_its_own() {
        let bins = numbers(1000, |row| if row < 600 { 0.0 } else { f64::from(row) });
        let slot = |value| bins.slot(Value::Number(value));
        assert!(slot(0.0) < slot(0.5) && slot(-1.0) < slot(0.0), "the atom at zero stands alone");
        let constant = numbers(1000, |_| 3.0);
        let slots = [2.0, 3.0, 4.0].map(|value| constant.slot(Value::Number(value)));
        assert!(slots[0] < slots[1] && slots[1] < slots[2], "{slots:?}");
    }

    #[test]
    fn an_empty_column_has_a_slot_for_any_number() {
        let bins = Bins::of(&[Value::Missing; 5]);
        assert_eq!((bins.slots(), bins.slot(Value::Number(1.0)), bins.slot(Value::Missing)), (3, 0, 1));
        assert!(!bins.is_outside(0), "nothing is known of its range");
    }

    #[test]
    fn labels_stand_by_frequency_and_rare_ones_are_told_from_unseen_ones() {
        let spread = |label: u64| label.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let column: Vec<Value> =
            (0..40_u64).flat_map(|label| vec![Value::Label(spread(label)); 100 - label as usize]).collect();
        let bins = Bins::of(&column);
        assert_eq!(bins.slots(), SLOTS);
        let slot = |label| bins.slot(Value::Label(spread(label)));
        assert_eq!((slot(0), slot(1), slot(29), slot(30), slot(39)), (0, 1, 29, 30, 30));
        let unseen = (1000..2000).filter(|label| slot(*label) == 31).count();
        assert!(unseen > 995, "{unseen} of 1,000 labels are known to be new");
        assert_eq!(bins.slot(Value::Number(1.0)), 33);
    }
}
