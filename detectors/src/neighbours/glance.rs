//! A glance at remembered rows: what the bytes of their first columns rule out need not be looked at in full.
//!
//! Who looks for a row of some kind says in which ranges its values lie. A row's bytes rise with its values, so a value
//! whose byte lies outside of the bytes of a range lies outside of the range.

use std::ops::RangeInclusive;

use super::bytes::{BLOCK, Block};
use crate::geometry::Geometry;

/// Most blocks of a row that are glanced at: all rows have as many among their first ones.
const BLOCKS: usize = 2;

/// Ranges of scaled values for each of a row's first columns, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Glance<const RANGES: usize> {
    blocks: [[Bytes; RANGES]; BLOCKS],
    /// How many of the blocks are glanced at.
    used: usize,
    /// Most columns that may lie in none of their ranges.
    outside_max: u32,
}

/// A range of bytes for each column of a block, ends included.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    low: Block,
    high: Block,
}

/// Every byte.
const ALL: Bytes = Bytes { low: [0; BLOCK], high: [u8::MAX; BLOCK] };

impl<const RANGES: usize> Glance<RANGES> {
    /// For rows that `geometry` scaled, of which at most `outside_max` columns lie in none of the ranges that `ranges` gives
    /// for a column. A range whose ends are no numbers holds everything.
    #[must_use]
    pub fn new(
        geometry: &Geometry,
        outside_max: usize,
        ranges: impl Fn(usize) -> [RangeInclusive<f32>; RANGES],
    ) -> Self {
        let mut blocks = [[ALL; RANGES]; BLOCKS];
        let steps = geometry.steps();
        // Where so many may lie outside, one block seldom tells.
        let used = if 4 * outside_max > 3 * BLOCK { BLOCKS } else { 1 };
        for column in 0..(used * BLOCK).min(geometry.width()) {
            let Some(block) = blocks.get_mut(column / BLOCK) else { break };
            for (bytes, range) in block.iter_mut().zip(ranges(column)) {
                let (low, high) = range.into_inner();
                let place = column % BLOCK;
                if low <= high
                    && let (Some(lowest), Some(highest)) =
                        (bytes.low.get_mut(place), bytes.high.get_mut(place))
                {
                    (*lowest, *highest) = (steps.byte(column, low), steps.byte(column, high));
                }
            }
        }
        Self { blocks, used, outside_max: u32::try_from(outside_max).unwrap_or(u32::MAX) }
    }

    /// Whether a row with these first blocks may be what is looked for.
    #[inline]
    #[must_use]
    pub fn may_be(&self, first: &[Block]) -> bool {
        let mut outside = 0;
        self.blocks.iter().take(self.used).zip(first).all(|(ranges, block)| {
            outside += outside_of(ranges, block);
            outside <= self.outside_max
        })
    }
}

/// How many bytes of a block lie in none of their ranges.
#[inline]
fn outside_of<const RANGES: usize>(ranges: &[Bytes; RANGES], block: &Block) -> u32 {
    let mut outside = [1_u8; BLOCK];
    for Bytes { low, high } in ranges {
        for (outside, (byte, (low, high))) in outside.iter_mut().zip(block.iter().zip(low.iter().zip(high))) {
            *outside &= u8::from(byte < low) | u8::from(byte > high);
        }
    }
    outside.iter().map(|outside| u32::from(*outside)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_lies_within_is_never_ruled_out_and_what_lies_far_off_is(
            values in prop::collection::vec((-9.0..9.0_f32, 0.0..2.0_f32, -1.0..1.0_f32), 1..60), outside in 0..4_usize,
        ) {
            let width = values.len();
            let number = |row: usize, column: usize| (row as f64 * 0.754_877_666 * (column + 1) as f64).fract() * 4.0;
            let geometry = Geometry::of(200, width, |row, column| Some(number(row, column))).unwrap();
            let around = |column: usize| {
                let (value, reach, _) = values[column];
                [value - reach..=value + reach, 0.0..=0.5]
            };
            let glance = Glance::new(&geometry, outside, around);
            let first = |row: Vec<f32>| {
                let mut bytes = Vec::new();
                geometry.coarsen(&row, &mut bytes);
                bytes.resize(width.next_multiple_of(BLOCK), 0);
                bytes.as_chunks().0.iter().copied().take(BLOCKS).collect::<Vec<Block>>()
            };
            let mut row: Vec<f32> = values.iter().map(|(value, reach, at)| value + at * reach).collect();
            row.iter_mut().step_by(3).for_each(|value| *value = 0.25);
            row.iter_mut().take(outside).for_each(|value| *value = 99.0);
            prop_assert!(glance.may_be(&first(row.clone())));
            row.iter_mut().for_each(|value| *value = 99.0);
            // Bytes stop at their end, where everything above is one.
            let is_told = |column: &usize| {
                let [around, other] = around(*column);
                geometry.steps().byte(*column, around.end().max(*other.end())) < u8::MAX
            };
            let told = (0..width.min(BLOCK)).filter(is_told).count();
            prop_assert_eq!(glance.may_be(&first(row)), told <= outside);
        }
    }

    #[test]
    fn a_range_without_numbers_rules_nothing_out() {
        let geometry = Geometry::of(200, 3, |row, column| Some((row * (column + 1) % 7) as f64)).unwrap();
        let glance = Glance::new(&geometry, 0, |_| [f32::NAN..=f32::NAN]);
        assert!(glance.may_be(&[[0; BLOCK]]) && glance.may_be(&[[u8::MAX; BLOCK]]));
    }
}
