//! The first look at remembered rows: sums of differences by bytes, for a thousand rows in a few microseconds.
//!
//! For rows of up to eight blocks the number of blocks is known to the compiler, which then counts nothing.
//! `cargo bench -p checkgate-detectors --bench rows` shows what a row costs.

use super::bytes::{Block, differences};

/// Rows that share one least sum, so that most are passed over together.
const GROUP: usize = 16;

/// The sum of the differences of the bytes between one row and each of many: scratch.
#[derive(Debug, Default)]
pub struct Sums {
    sums: Vec<u32>,
    /// The least of each group.
    least: Vec<u32>,
}

impl Sums {
    /// Compares every row of `rows` with `from`; both have the same number of blocks, at least one. A row that is seen
    /// to exceed `limit` after half of its blocks is not looked at further: its sum is some number above the limit.
    pub fn fill(&mut self, rows: &[Block], from: &[Block], limit: u32) {
        self.sums.clear();
        match from.len() {
            1 => self.extend::<1, 1>(rows, from, limit),
            2 => self.extend::<2, 2>(rows, from, limit),
            3 => self.extend::<3, 2>(rows, from, limit),
            4 => self.extend::<4, 2>(rows, from, limit),
            5 => self.extend::<5, 3>(rows, from, limit),
            6 => self.extend::<6, 3>(rows, from, limit),
            7 => self.extend::<7, 4>(rows, from, limit),
            8 => self.extend::<8, 4>(rows, from, limit),
            blocks => self.sums.extend(rows.chunks_exact(blocks.max(1)).map(|row| differences(row, from))),
        }
        self.least.clear();
        let least = |group: &[u32]| group.iter().fold(u32::MAX, |least, sum| least.min(*sum));
        self.least.extend(self.sums.chunks(GROUP).map(least));
    }

    /// Looks at the first `HALF` of the blocks, and at the others where the limit is not exceeded.
    fn extend<const BLOCKS: usize, const HALF: usize>(&mut self, rows: &[Block], from: &[Block], limit: u32) {
        let Some(from) = from.first_chunk::<BLOCKS>() else { return };
        let (Some(from_half), Some(from_rest)) = (from.first_chunk::<HALF>(), from.get(HALF..)) else {
            return;
        };
        let rows = rows.as_chunks::<BLOCKS>().0.iter();
        self.sums.extend(rows.map(|row| {
            let Some(row_half) = row.first_chunk::<HALF>() else { return u32::MAX };
            let sum = differences(row_half, from_half);
            // Of few blocks all are looked at: the question whether they are needed would cost more.
            if HALF < BLOCKS && sum <= limit {
                return sum + differences(row.get(HALF..).unwrap_or_default(), from_rest);
            }
            sum
        }));
    }

    /// The first place with the least sum; nothing where there are no rows.
    pub fn place_of_least(&self) -> Option<usize> {
        let least = *self.least.iter().min()?;
        self.places_up_to(least).next()
    }

    /// Places whose sum is at most `limit`, in order.
    pub fn places_up_to(&self, limit: u32) -> impl Iterator<Item = usize> {
        let groups = self.least.iter().enumerate().filter(move |(_, least)| **least <= limit);
        groups.flat_map(move |(group, _)| {
            let start = group * GROUP;
            let sums = self.sums.get(start..).unwrap_or_default().iter().take(GROUP).enumerate();
            sums.filter(move |(_, sum)| **sum <= limit).map(move |(place, _)| start + place)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes::BLOCK;
    use super::*;

    #[test]
    fn every_number_of_blocks_gives_the_same_sums() {
        for blocks in 1..=10 {
            let byte = |at: usize| (at * 37 % 251) as u8;
            let rows: Vec<Block> =
                (0..100 * blocks).map(|block| std::array::from_fn(|at| byte(block * BLOCK + at))).collect();
            let from: Vec<Block> = vec![[120; BLOCK]; blocks];
            let expected: Vec<u32> = (0..100)
                .map(|row| {
                    let bytes = row * blocks * BLOCK..(row + 1) * blocks * BLOCK;
                    bytes.map(|at| u32::from(byte(at).abs_diff(120))).sum()
                })
                .collect();
            let mut sums = Sums::default();
            sums.fill(&rows, &from, u32::MAX);
            assert_eq!(sums.sums, expected, "{blocks} blocks");
            let least = expected.iter().enumerate().min_by_key(|(_, sum)| **sum).map(|(place, _)| place);
            assert_eq!(sums.place_of_least(), least);
            let limit = expected[50];
            let places: Vec<usize> = (0..100).filter(|place| expected[*place] <= limit).collect();
            assert_eq!(sums.places_up_to(limit).collect::<Vec<_>>(), places);
            sums.fill(&rows, &from, limit);
            assert_eq!(sums.places_up_to(limit).collect::<Vec<_>>(), places, "{blocks} blocks, cut short");
        }
    }

    #[test]
    fn no_rows_have_no_least() {
        let mut sums = Sums::default();
        sums.fill(&[], &[[0; BLOCK]], u32::MAX);
        assert_eq!(sums.place_of_least(), None);
    }
}
