//! A glance at remembered rows: what the bytes of their first columns rule out need not be looked at in full.
//!
//! Who looks for a row of some kind says in which ranges its bytes lie, as steps beside the bytes of known rows. A byte is
//! its value in steps, but for rounding to half a step and for those at either end, which stand for all values beyond.

use super::bytes::{BLOCK, Block, Span, outside};

/// Most blocks of a row that are glanced at: all rows have as many among their first ones.
const BLOCKS: usize = 2;
/// Ends of what a byte tells.
const LEAST: i16 = 0;
const MOST: i16 = 255;

/// The bytes of a row's first columns.
pub type Sketch<'a> = &'a [Block];

/// Steps from one byte to another, ends included, that a value is looked for in.
pub type Range = (i16, i16);

/// The range of all values.
pub const ALL: Range = (LEAST, MOST);

/// Ranges of bytes for each of a row's first columns.
#[derive(Clone, Copy, Debug)]
pub struct Glance<const RANGES: usize> {
    blocks: [[Span; RANGES]; BLOCKS],
    /// How many of the blocks are glanced at.
    used: usize,
    /// Most columns that may lie in none of their ranges.
    outside_max: u32,
}

/// Every byte.
const EVERY: Span = Span { low: [0; BLOCK], length: [u8::MAX; BLOCK] };

/// So many steps, rounded up; more than there are where it is no number.
#[must_use]
pub fn steps(number: f32) -> i16 {
    // As what a byte tells ends far below, so may this.
    if number < f32::from(MOST) { libm::ceilf(number) as i16 } else { MOST }
}

impl<const RANGES: usize> Glance<RANGES> {
    /// For rows of which at most `outside_max` columns lie in none of the ranges that `ranges` gives for the bytes of the
    /// `known` rows in a column. Where one of these stands for all values beyond, every value is looked for. Of narrow rows
    /// none is ruled out.
    #[must_use]
    #[inline]
    pub fn new<const KNOWN: usize>(
        known: [Sketch<'_>; KNOWN],
        outside_max: usize,
        ranges: impl Fn([i16; KNOWN]) -> [Range; RANGES],
    ) -> Self {
        let is_narrow = known.iter().any(|row| row.len() < BLOCKS);
        let used = match outside_max {
            // The values of so few columns are looked at as quickly.
            _ if is_narrow => 0,
            // Where so many may lie outside, one block seldom tells.
            _ if 4 * outside_max > 3 * BLOCK => BLOCKS,
            _ => 1,
        };
        let mut blocks = [[EVERY; RANGES]; BLOCKS];
        for (place, block) in blocks.iter_mut().take(used).enumerate() {
            let known = known.map(|row| row.get(place).copied().unwrap_or_default());
            for column in 0..BLOCK {
                let bytes = known.map(|block| block.get(column).copied().map_or(LEAST, i16::from));
                let is_told = bytes.iter().fold(true, |told, byte| told & (*byte > LEAST) & (*byte < MOST));
                for (span, (low, high)) in block.iter_mut().zip(ranges(bytes)) {
                    let (low, high) = if is_told { (low.max(LEAST), high.min(MOST)) } else { ALL };
                    // Of a range beyond the ends nothing is left but the end.
                    let low = low.min(MOST);
                    let (begins, length) = (span.low.get_mut(column), span.length.get_mut(column));
                    if let (Some(begins), Some(length)) = (begins, length) {
                        (*begins, *length) = (low as u8, (high - low).max(0) as u8);
                    }
                }
            }
        }
        Self { blocks, used, outside_max: u32::try_from(outside_max).unwrap_or(u32::MAX) }
    }

    /// Whether any row may be ruled out.
    #[inline]
    #[must_use]
    pub fn rules_out(&self) -> bool {
        self.used > 0
    }

    /// Whether a row of this sketch may be what is looked for.
    #[inline]
    #[must_use]
    pub fn may_be(&self, row: Sketch<'_>) -> bool {
        let mut columns = 0;
        self.blocks.iter().take(self.used).zip(row).all(|(ranges, block)| {
            columns += outside(ranges, block).count_ones();
            columns <= self.outside_max
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_passes_where_as_few_columns_as_may_lie_outside_of_all_ranges(
            one: [[u8; BLOCK]; BLOCKS], other: [[u8; BLOCK]; BLOCKS], row: [[u8; BLOCK]; BLOCKS],
            reach in 0..90_i16, outside_max in 0..20_usize,
        ) {
            let ranges = |[one, other]: [i16; 2]| [(one - reach, one + reach), (other - 1, other + 2 * reach)];
            let glance = Glance::new([&one, &other], outside_max, ranges);
            let lies_outside = |((one, other), byte): ((&u8, &u8), &u8)| {
                let is_told = [*one, *other].iter().all(|byte| (1..255).contains(byte));
                let holds = |(low, high): Range| (low..=high).contains(&i16::from(*byte));
                is_told && !ranges([i16::from(*one), i16::from(*other)]).into_iter().any(holds)
            };
            let used = if outside_max > 12 { BLOCKS } else { 1 };
            let columns = one.as_flattened().iter().zip(other.as_flattened()).zip(row.as_flattened());
            let outside = columns.take(used * BLOCK).filter(|column| lies_outside(*column)).count();
            prop_assert_eq!(glance.may_be(&row), outside <= outside_max);
        }
    }

    #[test]
    fn steps_are_rounded_up_and_end_where_bytes_do() {
        assert_eq!([0.0, 0.1, 3.0, 1e9, f32::NAN].map(steps), [0, 1, 3, 255, 255]);
    }

    #[test]
    fn a_range_beyond_the_ends_of_a_byte_holds_the_end() {
        let beyond = Glance::new([&[[250; BLOCK]; BLOCKS]], 0, |[byte]| [(byte + 20, byte + 30)]);
        assert!(beyond.may_be(&[[255; BLOCK]]) && !beyond.may_be(&[[254; BLOCK]]));
        let below = Glance::new([&[[9; BLOCK]; BLOCKS]], 0, |[byte]| [(byte - 30, byte - 20)]);
        assert!(below.may_be(&[[0; BLOCK]]) && !below.may_be(&[[1; BLOCK]]));
    }
}
