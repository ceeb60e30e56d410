//! The model's latest rows, and narrow ones once more by cuts: then what lies far from a row in any column is told of 64
//! rows by one instruction, or of 256.
//!
//! A cut is a byte between two sixteenths of the range; for each cut of each column there is a bit to each of the latest
//! rows, which says whether the row's byte lies below it. Two cuts hold the rows that lie within reach in one column; those
//! that all columns hold are few, and looked at one by one. Wide rows are looked through as they lie: the more columns, the
//! farther two rows of one cluster may lie apart in one of them.

use serde::{Deserialize, Serialize};

use super::bytes::{BLOCK, Block, differences};
use super::packed::{Packed, Scaled, Within};
use super::sums::{Screen, Sums};
use super::{Other, RECENT_ROWS, RowId};
use crate::processor::{Processor, Work};
use crate::shelf::ClientIndex;

/// Bits of a word.
const WORD: usize = u64::BITS as usize;
/// Words with a bit to each of the latest rows, and a few more.
const WORDS: usize = RECENT_ROWS.div_ceil(WORD);
/// Places of the ring.
const PLACES: usize = WORDS * WORD;
/// Parts that cuts divide the range of a byte into.
const PARTS: usize = 16;
/// A bit to each place.
type Bits = [u64; WORDS];
/// The places whose byte lies below each cut of a column: none for the first, all for the last.
type Cuts = [Bits; PARTS + 1];

/// The latest rows of all clients, [`RECENT_ROWS`] at most.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Latest {
    rows: Packed,
    /// What is there follows from the rows.
    #[serde(skip)]
    columns: Ring,
}

impl Latest {
    /// No rows of `width` columns.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { rows: Packed::new(width), columns: Ring::default() }
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds a row, for which the oldest makes room.
    pub fn push(&mut self, client: ClientIndex, row: &Scaled) {
        if self.are_narrow() {
            self.columns.keep_up_with(&self.rows);
            self.columns.put(row.id, row.coarse());
        }
        self.rows.push(client, row);
        if self.rows.len() > RECENT_ROWS {
            self.rows.drop_oldest();
        }
    }

    /// Lets the rows of `client` belong to nobody.
    pub fn forget(&mut self, client: ClientIndex) {
        self.rows.forget(client);
    }

    /// Adds the rows of other clients than `client` that lie within reach of `from`, copies of it left out; in any order.
    pub fn others_within(
        &mut self,
        within: Within,
        client: ClientIndex,
        from: &Scaled,
        sums: &mut Sums,
        out: &mut Vec<Other>,
    ) {
        let ([block], true) = (from.coarse(), self.are_narrow()) else {
            return self.rows.others_within(within, client, from, sums, out);
        };
        let Self { rows, columns } = self;
        columns.keep_up_with(rows);
        columns.look(block, within.screen(), |back| out.extend(rows.other_at(back, within, client, from)));
    }

    fn are_narrow(&self) -> bool {
        (1..=BLOCK).contains(&self.rows.width())
    }
}

/// The bytes of the latest rows in a ring, and by cuts.
#[derive(Debug, Default)]
struct Ring {
    width: usize,
    blocks: Vec<Block>,
    columns: Vec<Cuts>,
    /// Rows ever put in.
    rows: usize,
    last: Option<RowId>,
    processor: Processor,
}

impl Ring {
    /// Takes the rows anew where others were put in, as after a restart.
    fn keep_up_with(&mut self, rows: &Packed) {
        if self.width == rows.width() && self.last == rows.last_id() {
            return;
        }
        self.width = rows.width();
        self.blocks = vec![[0; BLOCK]; PLACES];
        // All bytes are 0: they lie below every cut but the first.
        let mut cuts = [[u64::MAX; WORDS]; PARTS + 1];
        cuts.first_mut().into_iter().for_each(|first| *first = [0; WORDS]);
        self.columns = vec![cuts; self.width];
        (self.rows, self.last) = (0, None);
        rows.first_blocks().for_each(|(id, blocks)| self.put(id, blocks));
    }

    fn put(&mut self, id: RowId, blocks: &[Block]) {
        let place = self.rows % PLACES;
        let (word, bit) = (place / WORD, 1 << (place % WORD));
        let (Some(known), [block]) = (self.blocks.get_mut(place), blocks) else { return };
        for (cuts, (was, is)) in self.columns.iter_mut().zip(known.iter().zip(block)) {
            let (was, is) = (part_of(*was), part_of(*is));
            let between = cuts.get_mut(was.min(is) + 1..was.max(is) + 1).unwrap_or_default();
            between.iter_mut().filter_map(|cut| cut.get_mut(word)).for_each(|bits| *bits ^= bit);
        }
        *known = *block;
        self.rows += 1;
        self.last = Some(id);
    }

    /// Calls `found` with the rows that pass, counted back from the latest, and perhaps with places that hold older rows.
    fn look(&self, from: &Block, screen: Screen, mut found: impl FnMut(usize)) {
        let look = Look { columns: &self.columns, from, reach: screen.reach() };
        let within = self.processor.run(look);
        let latest = self.rows.wrapping_sub(1);
        let used = within.get(..self.rows.div_ceil(WORD).min(WORDS)).unwrap_or_default();
        for (word, bits) in used.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let place = word * WORD + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let block = self.blocks.get(place);
                if block.is_some_and(|block| screen.admits(differences(&[*block], &[*from]))) {
                    found(latest.wrapping_sub(place) % PLACES);
                }
            }
        }
    }
}

/// Which part of its range a byte lies in.
fn part_of(byte: u8) -> usize {
    usize::from(byte) * PARTS / (1 << u8::BITS)
}

/// A look for the places that lie within reach in every column.
struct Look<'a> {
    columns: &'a [Cuts],
    from: &'a Block,
    reach: u8,
}

impl<By> Work<By> for Look<'_> {
    type Output = Bits;

    #[inline(always)]
    fn by(self, _: By) -> Bits {
        let mut within = [u64::MAX; WORDS];
        for (cuts, from) in self.columns.iter().zip(self.from) {
            let first = part_of(from.saturating_sub(self.reach));
            let last = part_of(from.saturating_add(self.reach));
            let (Some(before), Some(until)) = (cuts.get(first), cuts.get(last + 1)) else { continue };
            for (within, (before, until)) in within.iter_mut().zip(before.iter().zip(until)) {
                *within &= until & !before;
            }
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::facts::{Cell, Features};
    use crate::geometry::Geometry;

    fn scaled(geometry: &Geometry, id: RowId, values: &[f64]) -> Scaled {
        let cells = values.iter().map(|value| Cell::Number(*value)).collect();
        let question = Features { width: values.len(), cells, ..Features::default() };
        let columns: Vec<usize> = (0..values.len()).collect();
        let mut scaled = Scaled::default();
        scaled.id = id;
        assert!(scaled.fill(geometry, &question, 0, &columns));
        scaled
    }

    fn sorted(mut others: Vec<Other>) -> Vec<(RowId, ClientIndex, u64)> {
        others.sort_by_key(|other| other.row);
        others.iter().map(|other| (other.row, other.client, other.ratio.to_bits())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_same_rows_are_found_by_cuts_as_row_by_row(
            width in 1..18_usize, rows in 0..2300_usize, seed: u32, restored: bool, processor: bool,
        ) {
            let number = |row: usize, column: usize| {
                (f64::from(seed) + row as f64 * 0.754_877_666 * (column + 1) as f64).fract() * 4.0
            };
            let geometry = Geometry::of(200, width, |row, column| Some(number(row, column))).unwrap();
            let within = Within::new(0.9 / width as f32 + 0.4, geometry.close(), width);
            let value = |row: usize| (0..width).map(|column| number(row % 1500 * 7, column)).collect::<Vec<_>>();
            let mut latest = Latest::new(width);
            if !processor {
                latest.columns.processor = Processor::plain();
            }
            for row in 0..rows {
                latest.push(row % 5, &scaled(&geometry, row as RowId, &value(row)));
            }
            latest.forget(4);
            if restored {
                latest = postcard::from_bytes(&postcard::to_stdvec(&latest).unwrap()).unwrap();
            }
            for row in [0, 3, rows, 5 * rows] {
                let from = scaled(&geometry, RowId::MAX, &value(row));
                let (mut found, mut plainly) = (Vec::new(), Vec::new());
                latest.others_within(within, 1, &from, &mut Sums::default(), &mut found);
                latest.rows.others_within(within, 1, &from, &mut Sums::default(), &mut plainly);
                prop_assert_eq!(sorted(found), sorted(plainly));
            }
            prop_assert_eq!(latest.len(), rows.min(RECENT_ROWS));
        }
    }
}
