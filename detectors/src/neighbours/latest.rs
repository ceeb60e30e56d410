//! The model's latest rows, and narrow ones once more by columns: then what lies far from a row is told of 128 rows at a
//! time, in half of the instructions that a look row by row takes.
//!
//! By columns, a byte of each of 128 rows lies side by side in a ring of the latest rows. Rows of more than 16 columns are
//! looked through as they lie: their sums exceed what a byte tells.

use serde::{Deserialize, Serialize};

use super::bytes::{BLOCK, Basic, Block, Group, PART, PARTS, Sizes};
use super::packed::{Packed, Scaled, Within};
use super::sums::{Processor, Screen, Sums};
use super::{Other, RECENT_ROWS, RowId};
use crate::shelf::ClientIndex;

/// Rows of a group.
const GROUP: usize = PARTS * PART;
/// Places of the ring.
const PLACES: usize = RECENT_ROWS.next_multiple_of(GROUP);

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
        let limit = Screen::new(within.ratio, self.rows.width()).in_a_byte();
        let (Some(limit), [block], true) = (limit, from.coarse(), self.are_narrow()) else {
            return self.rows.others_within(within, client, from, sums, out);
        };
        self.columns.keep_up_with(&self.rows);
        let found = self.columns.look(block, limit);
        out.extend(found.filter_map(|place| self.rows.other_at(place, within, client, from)));
    }

    fn are_narrow(&self) -> bool {
        (1..=BLOCK).contains(&self.rows.width())
    }
}

/// Bytes by columns.
#[derive(Debug, Default)]
struct Ring {
    width: usize,
    /// As many as there are columns for each 128 places.
    groups: Vec<Group>,
    /// Rows ever put in.
    rows: usize,
    last: Option<RowId>,
    processor: Processor,
    /// Scratch.
    found: Vec<usize>,
}

impl Ring {
    /// Takes the rows anew where others were put in, as after a restart.
    fn keep_up_with(&mut self, rows: &Packed) {
        if self.width == rows.width() && self.last == rows.last_id() {
            return;
        }
        self.width = rows.width();
        self.groups.clear();
        self.groups.resize(PLACES / GROUP * self.width, [[0; PART]; PARTS]);
        (self.rows, self.last) = (0, None);
        rows.first_blocks().for_each(|(id, blocks)| self.put(id, blocks));
    }

    fn put(&mut self, id: RowId, blocks: &[Block]) {
        let place = self.rows % PLACES;
        let columns = self.groups.get_mut(place / GROUP * self.width..).unwrap_or_default();
        for (column, byte) in columns.iter_mut().zip(blocks.as_flattened()).take(self.width) {
            column.as_flattened_mut().get_mut(place % GROUP).into_iter().for_each(|known| *known = *byte);
        }
        self.rows += 1;
        self.last = Some(id);
    }

    /// The rows whose sum of differences is at most `limit`, counted back from the latest, and perhaps places that are
    /// free or hold older rows.
    fn look(&mut self, from: &Block, limit: u8) -> impl Iterator<Item = usize> {
        self.found.clear();
        let used = self.rows.min(PLACES).div_ceil(GROUP) * self.width;
        let groups = self.groups.get(..used).unwrap_or_default();
        let look = Look { groups, width: self.width, from, limit, found: &mut self.found, by: Basic };
        look.by_what_is_there(self.processor);
        let latest = self.rows.wrapping_sub(1);
        self.found.iter().map(move |place| latest.wrapping_sub(*place) % PLACES)
    }
}

/// A look at all groups, with a way to add up.
struct Look<'a, S> {
    groups: &'a [Group],
    width: usize,
    from: &'a Block,
    limit: u8,
    found: &'a mut Vec<usize>,
    by: S,
}

#[cfg(target_arch = "x86_64")]
impl<S: Sizes> pulp::WithSimd for Look<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: pulp::Simd>(self, _: V) {
        self.all();
    }
}

impl Look<'_, Basic> {
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    fn by_what_is_there(self, processor: Processor) {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = processor.avx2 {
            let Self { groups, width, from, limit, found, .. } = self;
            return pulp::Simd::vectorize(simd, Look { groups, width, from, limit, found, by: simd });
        }
        self.all();
    }
}

impl<S: Sizes> Look<'_, S> {
    #[inline(always)]
    fn all(self) {
        let Self { groups, width, from, limit, found, by } = self;
        for (group, columns) in groups.chunks_exact(width.max(1)).enumerate() {
            let Some(parts) = by.within(columns, from, limit) else { continue };
            for (part, mut within) in parts.into_iter().enumerate() {
                while within != 0 {
                    found.push(group * GROUP + part * PART + within.trailing_zeros() as usize);
                    within &= within - 1;
                }
            }
        }
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
        fn the_same_rows_are_found_by_columns_as_row_by_row(
            width in 1..18_usize, rows in 0..2300_usize, seed: u32, restored: bool, processor: bool,
        ) {
            let number = |row: usize, column: usize| {
                (f64::from(seed) + row as f64 * 0.754_877_666 * (column + 1) as f64).fract() * 4.0
            };
            let geometry = Geometry::of(200, width, |row, column| Some(number(row, column))).unwrap();
            let within = Within { ratio: 0.9 / width as f32 + 0.4, close: geometry.close() };
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
