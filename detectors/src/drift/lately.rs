//! The latest values of one feature with who brought each: was a value there before?
//!
//! Values stand in a ring, and those of one bucket hang together from the newest to the oldest, as the hash chains of
//! Deflate do (RFC 1951, section 4). So for a fresh value one place is looked at, seldom two. Nothing is ever taken out of a
//! chain: the place that a chain goes on to was taken earlier, and where it is the younger of the two, it was taken
//! anew since, as was all behind it.

use serde::{Deserialize, Serialize};

use super::derived::By;

/// Values among which a repeat is looked for.
pub const LATEST: usize = 128;
/// Chains: four to a value, so that most of them hold none.
const BUCKETS: usize = 4 * LATEST;
/// How far a folded value is shifted to tell its bucket.
const SHIFT: u32 = u32::BITS - BUCKETS.trailing_zeros();

/// The latest values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Lately {
    /// Nothing where nobody asks for repeats.
    ring: Option<Box<Ring>>,
    /// Values that were taken, modulo 2^32.
    next: u32,
}

/// As it is written: folded value and sender of each place, none where nobody asks for repeats, and how many were taken.
type Stored = (Vec<(u32, u8)>, u32);

#[derive(Clone, Debug)]
struct Ring {
    places: [Place; LATEST],
    /// The place that each bucket took last; what it holds by now may belong to another.
    newest: [u8; BUCKETS],
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Folded bits of the value, 0 where none was taken.
    value: u32,
    /// Who brought it.
    mark: u8,
    /// The place that its bucket took before.
    before: u8,
}

impl Lately {
    /// No values yet, and none at all unless somebody `asks` for repeats.
    #[must_use]
    pub fn new(asks: bool) -> Self {
        Self { ring: asks.then(|| Box::new(Ring::EMPTY)), next: 0 }
    }

    /// Takes a value in place of the oldest. Says whether it was among the latest, as far as `by` is concerned.
    #[inline(always)]
    pub fn take(&mut self, number: f64, by: By) -> bool {
        // Below 128, so that nothing is cut off.
        let place = (self.next % LATEST as u32) as u8;
        self.next = self.next.wrapping_add(1);
        let Some(ring) = &mut self.ring else { return false };
        let spread = (number + 0.0).to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Zero stands for a place that was never taken.
        ring.exchange((spread >> 32) as u32 | 1, place, by)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ring.as_ref().map_or(0, |_| size_of::<Ring>())
    }

    /// Forgets the values.
    pub fn clear(&mut self) {
        self.ring.iter_mut().for_each(|ring| **ring = Ring::EMPTY);
    }
}

impl Ring {
    const EMPTY: Self =
        Self { places: [Place { value: 0, mark: 0, before: 0 }; LATEST], newest: [0; BUCKETS] };

    /// Puts a value in a place. Says whether it was in any, as far as `by` is concerned.
    #[inline(always)]
    fn exchange(&mut self, value: u32, place: u8, by: By) -> bool {
        let Some(newest) = self.newest.get_mut(bucket(value)) else { return false };
        let before = std::mem::replace(newest, place);
        let may_be =
            self.places.get(usize::from(before)).is_some_and(|kept| bucket(kept.value) == bucket(value));
        let was = may_be && self.holds(value, before, place, by);
        if let Some(taken) = self.places.get_mut(usize::from(place)) {
            *taken = Place { value, mark: by.mark(), before };
        }
        was
    }

    /// Goes along the chain that begins at `at`; `place` is the oldest.
    #[inline(never)]
    fn holds(&self, value: u32, mut at: u8, place: u8, by: By) -> bool {
        let age = |at: u8| place.wrapping_sub(at).wrapping_sub(1) % LATEST as u8;
        while let Some(kept) = self.places.get(usize::from(at)) {
            if kept.value == value && by.repeats(kept.mark) {
                return true;
            }
            if bucket(kept.value) != bucket(value) || age(kept.before) <= age(at) {
                return false;
            }
            at = kept.before;
        }
        false
    }

    fn values(&self) -> impl Iterator<Item = (u32, u8)> + '_ {
        self.places.iter().map(|place| (place.value, place.mark))
    }
}

/// By the highest bits: those are spread best.
fn bucket(value: u32) -> usize {
    (value >> SHIFT) as usize
}

/// Chains follow from the values; what is left of old ones is nothing to compare.
impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        self.values().eq(other.values())
    }
}

impl From<Stored> for Lately {
    fn from((values, next): Stored) -> Self {
        let mut lately = Self::new(!values.is_empty());
        lately.next = next;
        let Some(ring) = &mut lately.ring else { return lately };
        // From the oldest on, as they came.
        let oldest = next as usize % LATEST;
        let in_order = (0..LATEST as u8).zip(values).cycle().skip(oldest).take(LATEST);
        for (place, (value, mark)) in in_order.filter(|(_, (value, _))| *value > 0) {
            let _ = ring.exchange(value, place, By::marked(mark));
        }
        lately
    }
}

impl From<Lately> for Stored {
    fn from(lately: Lately) -> Self {
        let values = lately.ring.map(|ring| ring.values().collect());
        (values.unwrap_or_default(), lately.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each value repeats, looked for among the last ones as they are.
    fn plainly(values: &[(f64, By)]) -> Vec<bool> {
        let repeats = |(at, (value, by)): (usize, &(f64, By))| {
            let latest = &values[at.saturating_sub(LATEST)..at];
            latest.iter().any(|(other, of)| other == value && by.repeats(of.mark()))
        };
        values.iter().enumerate().map(repeats).collect()
    }

    #[test]
    fn a_value_is_found_wherever_it_stands_among_the_latest() {
        for kinds in [1, 2, 5, 50, 127, 128, 129, 300, 5000_u64] {
            let spread = |event: u64| (event.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % kinds;
            let by = |event: u64| match spread(event * 7) % 4 {
                0 => By::NOBODY,
                sender => By::sender((sender + 1) << 56, event.is_multiple_of(11)),
            };
            let values: Vec<(f64, By)> = (0..6000).map(|event| (spread(event) as f64, by(event))).collect();
            let mut lately = Lately::new(true);
            for ((value, by), expected) in values.iter().zip(plainly(&values)) {
                assert_eq!(lately.take(*value, *by), expected, "{value} of {kinds} kinds");
                if lately.next.is_multiple_of(501) {
                    let read: Lately = postcard::from_bytes(&postcard::to_stdvec(&lately).unwrap()).unwrap();
                    assert_eq!(read, lately, "it is read back as it was");
                    lately = read;
                }
            }
        }
    }

    #[test]
    fn a_repeat_is_forgotten_after_as_many_values_as_are_kept() {
        let at_distance = |apart: usize| {
            let mut lately = Lately::new(true);
            let between = (1..apart).map(|value| value as f64);
            std::iter::once(0.25).chain(between).fold(false, |_, value| lately.take(value, By::NOBODY));
            lately.take(0.25, By::NOBODY)
        };
        assert!(at_distance(LATEST) && !at_distance(LATEST + 1), "{LATEST} values are kept");
    }

    #[test]
    fn where_nobody_asks_nothing_is_kept() {
        let mut lately = Lately::new(false);
        assert!(!lately.take(1.0, By::NOBODY) && !lately.take(1.0, By::NOBODY));
        assert_eq!(lately.bytes(), 0);
    }
}
