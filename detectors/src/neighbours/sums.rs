//! The first look at remembered rows: sums of differences by bytes, for a thousand rows in a microsecond or a few.
//!
//! Eight rows are looked at together, so that one comparison with a limit does for all of them; what passes is looked at
//! again by sums of squares, while it is at hand. The number of blocks is known to the compiler, which counts nothing.
//! `cargo bench -p checkgate-detectors --bench rows` shows what a row costs.
//!
//! All of it is compiled once more for processors with AVX2, which the program finds out when it runs.

use super::bytes::{BLOCK, Block, EIGHT, Eight, Sizes, Wide, differences};
use super::packed::STEPS_TO_CLOSE;
use crate::processor::{Processor, Work};

/// Tells by bytes alone what cannot lie within a ratio. Rounding adds at most one step to each difference, and the sum
/// of n differences is at most n times their root mean square.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Largest sum of differences.
    sum: u32,
    /// Largest sum of their squares.
    squares: u32,
    /// Largest of them.
    reach: u8,
    /// Largest sum of the differences in the blocks that are looked at first. Sizes bound it: the sum of n differences is at
    /// most the root of n times the sum of their squares (Cauchy and Schwarz). So a part of a row tells more than the sum
    /// of all would let it.
    first: u32,
}

impl Screen {
    /// What lies within `ratio` of a row of `width` columns passes.
    pub fn new(ratio: f32, width: usize) -> Self {
        let blocks = width.max(1).div_ceil(BLOCK);
        let steps = ratio * STEPS_TO_CLOSE as f32 + 1.0;
        let width = width as f32;
        // All of a distance may lie in one column; one step more allows for how the square root is rounded.
        let reach = ratio * STEPS_TO_CLOSE as f32 * width.sqrt() + 2.0;
        let (sum, squares) = ((width * steps) as u32, (width * steps * steps) as u32);
        Self { reach: reach as u8, ..Self::of(sum, squares, blocks) }
    }

    fn of(sum: u32, squares: u32, blocks: usize) -> Self {
        let first = (u64::from(squares) * (first_of(blocks) * BLOCK) as u64).isqrt();
        Self { sum, squares, reach: u8::MAX, first: u32::try_from(first).map_or(sum, |first| first.min(sum)) }
    }

    /// The largest difference in one column.
    pub fn reach(self) -> u8 {
        self.reach
    }

    /// Whether a row with this sum of differences may pass.
    pub fn admits(self, sum: u32) -> bool {
        sum <= self.sum
    }
}

/// Blocks of a row that are looked at first: as many as tell nearly all rows of random numbers, and an even number, which
/// costs less. Of few blocks all are looked at: the question whether they are needed would cost more.
pub const fn first_of(blocks: usize) -> usize {
    match blocks {
        0 | 1 => blocks,
        2..=4 => 2,
        5..=11 => 4,
        _ => 6,
    }
}

/// The bytes of many rows. Most rows are told by their first blocks, which stand by themselves: of what the processor brings
/// near, all is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The first blocks of each row, row after row, as many as [`first_of`] tells.
    pub first: &'a [Block],
    /// The other blocks of each row, row after row.
    pub rest: &'a [Block],
}

/// The bytes of the row that others are compared with, 1 to 16 blocks.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// The blocks.
    pub blocks: &'a [Block],
    /// The same with room for differences.
    pub wide: &'a [Wide],
}

/// Which of many rows pass a screen, as seen from one row: scratch.
#[derive(Debug, Default)]
pub struct Sums {
    /// A bit to each row, eight to a byte; filled up to whole words.
    within: Vec<u8>,
    /// The least sum and the first row that has it.
    least: Least,
    processor: Processor,
}

#[derive(Clone, Copy, Debug)]
struct Least {
    sum: u16,
    place: Option<usize>,
}

impl Default for Least {
    fn default() -> Self {
        Self { sum: u16::MAX, place: None }
    }
}

/// What is wanted of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Which rows pass.
    Within,
    /// That, and the first of all rows with the least sum of differences.
    WithinAndLeast,
}

impl Sums {
    /// Compares every row of `rows` with `from`; they have the same number of blocks.
    pub fn fill(&mut self, rows: Rows<'_>, from: Point<'_>, screen: Screen, wanted: Wanted) {
        self.within.clear();
        self.least = match wanted {
            // Nothing lies below it.
            Wanted::Within => Least { sum: 0, place: None },
            Wanted::WithinAndLeast => Least::default(),
        };
        self.processor.run(Look { sums: self, rows, from, screen });
        self.within.resize(self.within.len().next_multiple_of(size_of::<u64>()), 0);
    }

    /// The first place with the least sum, where that was wanted; nothing where there are no rows.
    pub fn place_of_least(&self) -> Option<usize> {
        self.least.place
    }

    /// Calls `look` with the place of every row that passes, in order.
    pub fn each_within(&self, mut look: impl FnMut(usize)) {
        for (word, bytes) in self.within.as_chunks().0.iter().enumerate() {
            let mut bits = u64::from_le_bytes(*bytes);
            while bits != 0 {
                look(word * u64::BITS as usize + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    #[inline(always)]
    fn lower<const ROWS: usize>(&mut self, start: usize, sums: [u16; ROWS]) {
        for (place, sum) in (start..).zip(sums) {
            if sum < self.least.sum {
                self.least = Least { sum, place: Some(place) };
            }
        }
    }
}

/// A look at many rows.
struct Look<'a> {
    sums: &'a mut Sums,
    rows: Rows<'a>,
    from: Point<'a>,
    screen: Screen,
}

impl<S: Sizes> Work<S> for Look<'_> {
    type Output = ();

    #[inline(always)]
    fn by(self, by: S) {
        match self.from.blocks.len() {
            1 => self.blocks::<1, 0>(by),
            2 => self.blocks::<2, 0>(by),
            3 => self.blocks::<2, 1>(by),
            4 => self.blocks::<2, 2>(by),
            5 => self.blocks::<4, 1>(by),
            6 => self.blocks::<4, 2>(by),
            7 => self.blocks::<4, 3>(by),
            8 => self.blocks::<4, 4>(by),
            9 => self.blocks::<4, 5>(by),
            10 => self.blocks::<4, 6>(by),
            11 => self.blocks::<4, 7>(by),
            12 => self.blocks::<6, 6>(by),
            13 => self.blocks::<6, 7>(by),
            14 => self.blocks::<6, 8>(by),
            15 => self.blocks::<6, 9>(by),
            16 => self.blocks::<6, 10>(by),
            _ => {}
        }
    }
}

impl Look<'_> {
    /// Looks at the first blocks of eight rows, and at the others where not all of the eight are seen to be of no interest.
    #[inline(always)]
    fn blocks<const FIRST: usize, const REST: usize>(self, by: impl Sizes) {
        let Self { sums: all, rows, from, screen } = self;
        let Some(from) = Halves::<FIRST>::of(from) else { return };
        let (eights, last) = rows.first.as_chunks::<FIRST>().0.as_chunks::<EIGHT>();
        // No sum of 256 bytes exceeds what two bytes tell.
        let limits = [screen.first, screen.sum].map(|limit| u16::try_from(limit).unwrap_or(u16::MAX));
        all.within.resize(eights.len(), 0);
        let bounds_with = |least: Least| limits.map(|limit| Eight::all(limit.max(least.sum)));
        let mut bounds = bounds_with(all.least);
        for (eight, first) in eights.iter().enumerate() {
            let rest = || std::array::from_fn(|row| rest_of::<REST>(rows, eight * EIGHT + row));
            let Some(sums) = sums_of(first, rest, &from, (bounds, REST > 0), by) else { continue };
            // Seldom is one lower than all before it.
            if sums.any_at_most(Eight::all(all.least.sum.saturating_sub(1))) {
                all.lower(eight * EIGHT, sums.numbers());
                bounds = bounds_with(all.least);
            }
            let [_, limit] = limits;
            let within = sums.at_most(Eight::all(limit));
            let passing = if within == 0 { 0 } else { passing((first, rest()), &from, within, (screen, by)) };
            all.within.get_mut(eight).into_iter().for_each(|within| *within = passing);
        }
        let start = eights.len() * EIGHT;
        let last = last.iter().enumerate().map(|(row, first)| (first, rest_of::<REST>(rows, start + row)));
        look_at_last(all, (start, last), &from, (screen, by));
    }
}

/// The blocks of a row behind its first ones.
#[inline(always)]
fn rest_of<const REST: usize>(rows: Rows<'_>, row: usize) -> &[Block] {
    rows.rest.get(row * REST..(row + 1) * REST).unwrap_or_default()
}

/// The row that others are compared with, in the same two parts.
#[derive(Clone, Copy, Debug)]
struct Halves<'a, const FIRST: usize> {
    first: &'a [Block; FIRST],
    rest: &'a [Block],
    wide: &'a [Wide; FIRST],
    wide_rest: &'a [Wide],
}

impl<'a, const FIRST: usize> Halves<'a, FIRST> {
    fn of(from: Point<'a>) -> Option<Self> {
        let (first, rest) = from.blocks.split_first_chunk()?;
        let (wide, wide_rest) = from.wide.split_first_chunk()?;
        Some(Self { first, rest, wide, wide_rest })
    }

    /// The sum of the squares of the differences to a row.
    #[inline(always)]
    fn squares(&self, first: &[Block; FIRST], rest: &[Block], by: impl Sizes) -> u32 {
        by.squares(first, self.wide) + by.squares(rest, self.wide_rest)
    }
}

/// The rows behind the last eight, which begin at `start`.
#[inline(always)]
fn look_at_last<'r, const FIRST: usize>(
    all: &mut Sums,
    (start, rows): (usize, impl Iterator<Item = (&'r [Block; FIRST], &'r [Block])>),
    from: &Halves<'_, FIRST>,
    (screen, by): (Screen, impl Sizes),
) {
    let mut within = 0;
    for (place, (first, rest)) in rows.enumerate() {
        let sum = differences(first, from.first) + differences(rest, from.rest);
        all.lower(start + place, [u16::try_from(sum).unwrap_or(u16::MAX)]);
        let passes = sum <= screen.sum && from.squares(first, rest, by) <= screen.squares;
        within |= u8::from(passes) << place;
    }
    all.within.push(within);
}

/// The sums of eight rows, where any is at most the second bound, and that of its first blocks at most the first.
#[inline(always)]
fn sums_of<'r, const FIRST: usize>(
    rows: &[[Block; FIRST]; EIGHT],
    rest: impl Fn() -> [&'r [Block]; EIGHT],
    from: &Halves<'_, FIRST>,
    ([first, bound], has_rest): ([Eight; 2], bool),
    by: impl Sizes,
) -> Option<Eight> {
    let mut sums = by.differences(rows, from.first);
    if has_rest {
        if !sums.any_at_most(first) {
            return None;
        }
        sums = sums.plus(Eight::differences(rest(), from.rest));
    }
    sums.any_at_most(bound).then_some(sums)
}

/// Those of the `bits` whose row passes by squares, too.
#[inline(always)]
fn passing<const FIRST: usize>(
    (first, rest): (&[[Block; FIRST]; EIGHT], [&[Block]; EIGHT]),
    from: &Halves<'_, FIRST>,
    bits: u8,
    (screen, by): (Screen, impl Sizes),
) -> u8 {
    let (mut left, mut passing) = (bits, 0);
    while left != 0 {
        let row = left.trailing_zeros() as usize;
        let lowest = left & left.wrapping_neg();
        let row = first.get(row).zip(rest.get(row));
        if row.is_some_and(|(first, rest)| from.squares(first, rest, by) <= screen.squares) {
            passing |= lowest;
        }
        left ^= lowest;
    }
    passing
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::bytes::{squares, widened};
    use super::*;

    fn places_of(sums: &Sums) -> Vec<usize> {
        let mut places = Vec::new();
        sums.each_within(|place| places.push(place));
        places
    }

    fn check(rows: &[Block], from: &[Block], screen: Screen) {
        let wide: Vec<Wide> = from.iter().map(widened).collect();
        let each = || rows.chunks_exact(from.len());
        let sums: Vec<u32> = each().map(|row| differences(row, from)).collect();
        let passes =
            |row: &[Block]| differences(row, from) <= screen.sum && squares(row, &wide) <= screen.squares;
        let least = sums.iter().enumerate().min_by_key(|(_, sum)| **sum).map(|(place, _)| place);
        let passing = each().enumerate().filter(|(_, row)| passes(row)).map(|(place, _)| place);
        let places: Vec<usize> = passing.collect();
        let told = format!("{} blocks, {} rows, {screen:?}", from.len(), sums.len());
        let (first, rest): (Vec<_>, Vec<_>) = each().map(|row| row.split_at(first_of(from.len()))).unzip();
        let (first, rest) = (first.concat(), rest.concat());
        let rows = Rows { first: &first, rest: &rest };
        let from = Point { blocks: from, wide: &wide };
        for processor in [Processor::default(), Processor::plain()] {
            let mut sums = Sums { processor, ..Sums::default() };
            sums.fill(rows, from, screen, Wanted::WithinAndLeast);
            assert_eq!(
                (places_of(&sums), sums.place_of_least()),
                (places.clone(), least),
                "{told}, {processor:?}"
            );
            sums.fill(rows, from, screen, Wanted::Within);
            assert_eq!(places_of(&sums), places, "{told}, {processor:?}");
        }
    }

    proptest! {
        #[test]
        fn rows_within_and_the_first_with_the_least_are_those_of_all_sums(
            blocks in 1..17_usize,
            bytes in vec(0..9_u8, 0..120 * BLOCK),
            from in any::<u8>(),
            sum in 0..9_u32 * 256,
            squares in 0..81_u32 * 256,
        ) {
            // Few different bytes, so that sums are equal now and then.
            let rows: Vec<Block> = bytes.as_chunks().0.to_vec();
            check(&rows, &vec![[from % 9; BLOCK]; blocks], Screen::of(sum, squares, blocks));
            check(&rows, &vec![[from; BLOCK]; blocks], Screen::of(sum * 32, squares * 1024, blocks));
        }
    }

    #[test]
    fn every_number_of_blocks_and_rows_gives_the_same() {
        for blocks in 1..=16 {
            let byte = |at: usize| (at * 37 % 251) as u8;
            let rows: Vec<Block> =
                (0..100 * blocks).map(|block| std::array::from_fn(|at| byte(block * BLOCK + at))).collect();
            let from = vec![[120; BLOCK]; blocks];
            let some = differences(&rows[..blocks], &from);
            for (count, sum) in (0..=100).zip([0, some, some + 1, u32::MAX].into_iter().cycle()) {
                check(&rows[..count * blocks], &from, Screen::of(sum, some * 50, blocks));
            }
        }
    }

    #[test]
    fn no_rows_have_no_least() {
        let mut sums = Sums::default();
        let block = [0; BLOCK];
        let from = Point { blocks: &[block], wide: &[widened(&block)] };
        let none = Rows { first: &[], rest: &[] };
        sums.fill(none, from, Screen::new(1.0, BLOCK), Wanted::WithinAndLeast);
        assert_eq!(sums.place_of_least(), None);
    }
}
