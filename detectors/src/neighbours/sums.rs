//! The first look at remembered rows: sums of differences by bytes, for a thousand rows in a microsecond or a few.
//!
//! Eight rows are looked at together, so that one comparison with a limit does for all of them; what passes is looked at
//! again by sums of squares, while it is at hand. The number of blocks is known to the compiler, which counts nothing.
//! `cargo bench -p checkgate-detectors --bench rows` shows what a row costs.

use super::bytes::{Block, EIGHT, Eight, Wide, differences, squares};
use super::packed::STEPS_TO_CLOSE;

/// Tells by bytes alone what cannot lie within a ratio. Rounding adds at most one step to each difference, and the sum
/// of n differences is at most n times their root mean square.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Largest sum of differences.
    sum: u32,
    /// Largest sum of their squares.
    squares: u32,
}

impl Screen {
    /// What lies within `ratio` of a row of `width` columns passes.
    pub fn new(ratio: f32, width: usize) -> Self {
        let steps = ratio * STEPS_TO_CLOSE as f32 + 1.0;
        let width = width as f32;
        Self { sum: (width * steps) as u32, squares: (width * steps * steps) as u32 }
    }
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
    pub fn fill(&mut self, rows: &[Block], from: Point<'_>, screen: Screen, wanted: Wanted) {
        self.within.clear();
        self.least = match wanted {
            // Nothing lies below it.
            Wanted::Within => Least { sum: 0, place: None },
            Wanted::WithinAndLeast => Least::default(),
        };
        match from.blocks.len() {
            1 => self.look::<1, 1>(rows, from, screen),
            2 => self.look::<2, 2>(rows, from, screen),
            3 => self.look::<3, 3>(rows, from, screen),
            4 => self.look::<4, 3>(rows, from, screen),
            5 => self.look::<5, 3>(rows, from, screen),
            6 => self.look::<6, 4>(rows, from, screen),
            7 => self.look::<7, 5>(rows, from, screen),
            8 => self.look::<8, 5>(rows, from, screen),
            9 => self.look::<9, 6>(rows, from, screen),
            10 => self.look::<10, 6>(rows, from, screen),
            11 => self.look::<11, 7>(rows, from, screen),
            12 => self.look::<12, 8>(rows, from, screen),
            13 => self.look::<13, 8>(rows, from, screen),
            14 => self.look::<14, 9>(rows, from, screen),
            15 => self.look::<15, 9>(rows, from, screen),
            16 => self.look::<16, 10>(rows, from, screen),
            _ => {}
        }
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

    /// Looks at the `FIRST` blocks of eight rows, and at the others where not all of the eight are seen to be of no
    /// interest. Of few blocks all are looked at: the question whether they are needed would cost more.
    fn look<const BLOCKS: usize, const FIRST: usize>(
        &mut self,
        rows: &[Block],
        from: Point<'_>,
        screen: Screen,
    ) {
        let (Some(blocks), Some(wide)) = (from.blocks.first_chunk(), from.wide.first_chunk()) else { return };
        let (eights, rest) = rows.as_chunks::<BLOCKS>().0.as_chunks::<EIGHT>();
        // No sum of 256 bytes exceeds what two bytes tell.
        let limit = u16::try_from(screen.sum).unwrap_or(u16::MAX);
        let mut bound = Eight::all(limit.max(self.least.sum));
        self.within.resize(eights.len(), 0);
        for (eight, rows) in eights.iter().enumerate() {
            let Some(sums) = sums_of::<BLOCKS, FIRST>(rows, blocks, bound) else { continue };
            self.lower(eight * EIGHT, sums.numbers());
            bound = Eight::all(limit.max(self.least.sum));
            let passing = passing(rows, wide, sums.at_most(Eight::all(limit)), screen);
            self.within.get_mut(eight).into_iter().for_each(|within| *within = passing);
        }
        self.look_at_rest(eights.len() * EIGHT, rest, blocks, wide, screen);
    }

    /// The rows behind the last eight.
    fn look_at_rest<const BLOCKS: usize>(
        &mut self,
        start: usize,
        rows: &[[Block; BLOCKS]],
        from: &[Block; BLOCKS],
        wide: &[Wide; BLOCKS],
        screen: Screen,
    ) {
        let mut within = 0;
        for (place, row) in rows.iter().enumerate() {
            let sum = differences(row, from);
            self.lower(start + place, [u16::try_from(sum).unwrap_or(u16::MAX)]);
            let passes = sum <= screen.sum && squares(row, wide) <= screen.squares;
            within |= u8::from(passes) << place;
        }
        self.within.push(within);
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

/// The sums of eight rows, where any is at most the bound.
#[inline(always)]
fn sums_of<const BLOCKS: usize, const FIRST: usize>(
    rows: &[[Block; BLOCKS]; EIGHT],
    from: &[Block; BLOCKS],
    bound: Eight,
) -> Option<Eight> {
    let (from, from_rest) = from.split_at_checked(FIRST)?;
    let rows = rows.each_ref().map(|row| row.split_at_checked(FIRST).unwrap_or((row, &[])));
    let mut sums = Eight::differences(rows.map(|(row, _)| row), from);
    if FIRST < BLOCKS && sums.any_at_most(bound) {
        sums = sums.plus(Eight::differences(rows.map(|(_, row)| row), from_rest));
    }
    sums.any_at_most(bound).then_some(sums)
}

/// Those of the `bits` whose row passes by squares, too.
#[inline(always)]
fn passing<const BLOCKS: usize>(
    rows: &[[Block; BLOCKS]; EIGHT],
    from: &[Wide; BLOCKS],
    bits: u8,
    screen: Screen,
) -> u8 {
    let (mut left, mut passing) = (bits, 0);
    while left != 0 {
        let row = rows.get(left.trailing_zeros() as usize);
        let lowest = left & left.wrapping_neg();
        if row.is_some_and(|row| squares(row, from) <= screen.squares) {
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

    use super::super::bytes::{BLOCK, widened};
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
        let from = Point { blocks: from, wide: &wide };
        let mut sums = Sums::default();
        sums.fill(rows, from, screen, Wanted::WithinAndLeast);
        assert_eq!((places_of(&sums), sums.place_of_least()), (places.clone(), least), "{told}");
        sums.fill(rows, from, screen, Wanted::Within);
        assert_eq!(places_of(&sums), places, "{told}");
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
            check(&rows, &vec![[from % 9; BLOCK]; blocks], Screen { sum, squares });
            check(&rows, &vec![[from; BLOCK]; blocks], Screen { sum: sum * 32, squares: squares * 1024 });
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
                check(&rows[..count * blocks], &from, Screen { sum, squares: some * 50 });
            }
        }
    }

    #[test]
    fn no_rows_have_no_least() {
        let mut sums = Sums::default();
        let block = [0; BLOCK];
        let from = Point { blocks: &[block], wide: &[widened(&block)] };
        sums.fill(&[], from, Screen::new(1.0, BLOCK), Wanted::WithinAndLeast);
        assert_eq!(sums.place_of_least(), None);
    }
}
