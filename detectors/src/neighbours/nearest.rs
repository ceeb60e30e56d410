//! The nearest of many rows.

use serde::{Deserialize, Serialize};

/// How many of the nearest rows are kept.
pub const NEAREST_MAX: usize = 10;

/// The nearest rows, by their distance as a ratio to what is close: at most ten, and only those below 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// Squared sums over the columns, ascending.
    squared_sums: [f32; NEAREST_MAX],
    len: usize,
    /// The squared sum that counts as a ratio of 1.
    close: f32,
}

impl Nearest {
    /// Nothing found yet, where a squared sum of `close` is a ratio of 1.
    #[must_use]
    pub fn within(close: f32) -> Self {
        Self { squared_sums: [0.0; NEAREST_MAX], len: 0, close }
    }

    /// The squared sum from which on a row is of no interest.
    #[must_use]
    pub fn cutoff(&self) -> f32 {
        let [.., last] = self.squared_sums;
        if self.len == NEAREST_MAX { last } else { self.close }
    }

    /// The distance from which on a row is of no interest, as a ratio.
    #[must_use]
    pub fn cutoff_ratio(&self) -> f32 {
        (self.cutoff() / self.close).sqrt()
    }

    /// Takes a row with this squared sum, which must lie below [`Nearest::cutoff`].
    pub fn offer(&mut self, squared_sum: f32) {
        let found = self.squared_sums.get(..self.len).unwrap_or_default();
        let at = found.partition_point(|known| *known <= squared_sum);
        insert(&mut self.squared_sums, at, squared_sum);
        self.len = (self.len + 1).min(NEAREST_MAX);
    }

    /// Distance to the `n`-th nearest, counted from 1, as a ratio; nothing where it is 1 or more.
    #[must_use]
    pub fn nth(&self, n: usize) -> Option<f64> {
        let found = self.squared_sums.get(..self.len)?;
        found.get(n.checked_sub(1)?).map(|sum| f64::from(*sum / self.close).sqrt())
    }

    /// How many lie below a ratio of 1, ten at most.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Puts `value` at `at` and drops the last; nothing where `at` lies beyond the last.
pub fn insert<T>(values: &mut [T], at: usize, value: T) {
    let Some(behind) = values.get_mut(at..).filter(|behind| !behind.is_empty()) else { return };
    behind.rotate_right(1);
    if let Some(first) = behind.first_mut() {
        *first = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_nearest_are_kept_in_order() {
        let mut nearest = Nearest::within(400.0);
        for number in [7_u8, 3, 19, 1, 11, 5, 17, 9, 13, 15, 2, 18] {
            let squared = f32::from(number).powi(2);
            if squared < nearest.cutoff() {
                nearest.offer(squared);
            }
        }
        assert_eq!(nearest.len(), 10);
        let nth = |n| nearest.nth(n).map(|ratio| libm::round(ratio * 100.0));
        assert_eq!(nth(1), Some(5.0), "1 of 20");
        assert_eq!(nth(10), Some(85.0), "17 of 20: 18 and 19 were pushed out");
        assert_eq!((nth(0), nth(11)), (None, None));
    }
}
