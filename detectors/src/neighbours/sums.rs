//! The first look at remembered rows: sums of differences by bytes, for a thousand rows in a few microseconds.
//!
//! The loops have the form that compilers turn into vector instructions: for rows of up to eight blocks the number of
//! blocks is known to the compiler, and the sum of a block stands where it is used: told in another way, rows of one
//! block take four times the instructions. `cargo bench -p checkgate-detectors --bench rows` shows it.

/// So many bytes are compared at a time.
pub const BLOCK: usize = 16;
/// Bytes of a part of a row.
pub type Block = [u8; BLOCK];

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
    /// Compares every row of `rows` with `from`; both have the same number of blocks, at least one.
    pub fn fill(&mut self, rows: &[Block], from: &[Block]) {
        self.sums.clear();
        match from.len() {
            1 => self.extend::<1>(rows, from),
            2 => self.extend::<2>(rows, from),
            3 => self.extend::<3>(rows, from),
            4 => self.extend::<4>(rows, from),
            5 => self.extend::<5>(rows, from),
            6 => self.extend::<6>(rows, from),
            7 => self.extend::<7>(rows, from),
            8 => self.extend::<8>(rows, from),
            blocks => self.sums.extend(rows.chunks_exact(blocks.max(1)).map(|row| row_sum(row, from))),
        }
        self.least.clear();
        let least = |group: &[u32]| group.iter().fold(u32::MAX, |least, sum| least.min(*sum));
        self.least.extend(self.sums.chunks(GROUP).map(least));
    }

    fn extend<const BLOCKS: usize>(&mut self, rows: &[Block], from: &[Block]) {
        let Some(from) = from.first_chunk::<BLOCKS>() else { return };
        let rows = rows.as_chunks::<BLOCKS>().0.iter();
        self.sums.extend(rows.map(|row| {
            let mut sum = 0;
            for (row, from) in row.iter().zip(from) {
                sum += block_sum(row, from);
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

fn row_sum(row: &[Block], from: &[Block]) -> u32 {
    row.iter().zip(from).map(|(row, from)| block_sum(row, from)).sum()
}

#[inline(always)]
fn block_sum(one: &Block, two: &Block) -> u32 {
    one.iter().zip(two).map(|(one, two)| (i32::from(*one) - i32::from(*two)).unsigned_abs()).sum()
}

#[cfg(test)]
mod tests {
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
            sums.fill(&rows, &from);
            assert_eq!(sums.sums, expected, "{blocks} blocks");
            let least = expected.iter().enumerate().min_by_key(|(_, sum)| **sum).map(|(place, _)| place);
            assert_eq!(sums.place_of_least(), least);
            let limit = expected[50];
            let places: Vec<usize> = (0..100).filter(|place| expected[*place] <= limit).collect();
            assert_eq!(sums.places_up_to(limit).collect::<Vec<_>>(), places);
        }
    }

    #[test]
    fn no_rows_have_no_least() {
        let mut sums = Sums::default();
        sums.fill(&[], &[[0; BLOCK]]);
        assert_eq!(sums.place_of_least(), None);
    }
}
