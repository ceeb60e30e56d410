//! Rows laid one after the other, each twice: a byte to a column to look through quickly, and exact values.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::bytes::{BLOCK, Block, Wide, widened};
use super::glance::{Glance, Sketch};
use super::sums::{Point, Rows, Screen, Sums, Wanted, first_of};
use super::{Nearest, Other, RowId};
use crate::facts::Features;
use crate::geometry::Geometry;
use crate::shelf::ClientIndex;

/// A row as distances are measured from it.
#[derive(Clone, Debug, Default)]
pub struct Scaled {
    /// Its number.
    pub id: RowId,
    /// Its values, each divided by its column's spread.
    pub values: Vec<f64>,
    /// The same, as precise as rows are remembered.
    pub exact: Vec<f32>,
    /// The same in sixteenths of the distance that is close, around the middle of the reference: far values stop at
    /// either end. Filled up with zeros to whole blocks.
    coarse: Vec<Block>,
    wide: Vec<Wide>,
}

impl Scaled {
    /// A byte to a column, in whole blocks.
    #[must_use]
    pub fn coarse(&self) -> &[Block] {
        &self.coarse
    }

    /// Takes row `index` of `question`; says whether it can be measured: it has a finite number in every column that
    /// the geometry knows.
    pub fn fill(
        &mut self,
        geometry: &Geometry,
        question: &Features,
        index: usize,
        columns: &[usize],
    ) -> bool {
        geometry.scale(question, index, columns, &mut self.values);
        self.exact.clear();
        self.exact.extend(self.values.iter().map(|value| *value as f32));
        self.exact.iter().fold(true, |finite, value| finite & value.is_finite()) && {
            self.coarse.clear();
            self.coarse.resize(blocks_of(self.exact.len()), [0; BLOCK]);
            geometry.coarsen(&self.exact, self.coarse.as_flattened_mut());
            self.wide.clear();
            self.wide.extend(self.coarse.iter().map(widened));
            true
        }
    }
}

/// Makes room for a row of `more` parts, and for half of what is there: most clients have a few rows only.
fn make_room<T>(parts: &mut Vec<T>, more: usize) {
    if parts.capacity() - parts.len() < more {
        parts.reserve_exact(more.max(parts.len() / 2));
    }
}

/// Moves the row at `place`, counted from `first`, before those from `first` on. Each row has `parts` parts.
fn shift<T>(rows: &mut [T], first: usize, place: usize, parts: usize) {
    if let Some(rows) = rows.get_mut(first * parts..(first + place + 1) * parts) {
        rows.rotate_right(parts.min(rows.len()));
    }
}

/// Blocks of a row of `width` columns, at least one.
fn blocks_of(width: usize) -> usize {
    width.max(1).div_ceil(BLOCK)
}

/// Rows of one width, the oldest first. A row that is dropped leaves a gap at the front until half is gap.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Packed {
    held: Vec<Held>,
    /// Bytes of the columns that are looked at first, and of the others.
    first: Vec<Block>,
    rest: Vec<Block>,
    exact: Vec<f32>,
    width: u32,
    gap: u32,
    /// Rows that count as company.
    company: u32,
    /// Rows ever taken.
    taken: u32,
}

/// What is known of a row besides its values.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Held {
    id: RowId,
    owner: u32,
    /// How many rows were taken before it, and above that the bit of those that count as company.
    nth: u32,
}

/// The bit of a row that counts as company.
const COMPANY: u32 = 1 << 31;

impl Held {
    fn is_company(self) -> bool {
        self.nth & COMPANY != 0
    }
}

impl Packed {
    /// No rows of `width` columns.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width: width as u32, ..Self::default() }
    }

    /// Bytes of a row of `width` columns.
    #[must_use]
    pub fn row_bytes(width: usize) -> usize {
        blocks_of(width) * BLOCK + width * size_of::<f32>() + size_of::<Held>()
    }

    /// Columns of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len() - self.gap()
    }

    /// Those of them that count as company.
    #[must_use]
    pub fn company(&self) -> usize {
        self.company as usize
    }

    /// The latest row.
    #[must_use]
    pub fn last_id(&self) -> Option<RowId> {
        self.held.last().map(|held| held.id)
    }

    /// The blocks of the rows that are looked at first, the oldest first.
    pub fn first_blocks(&self) -> impl Iterator<Item = (RowId, &[Block])> {
        let rows = self.held.iter().zip(self.first.chunks_exact(self.blocks().0));
        rows.skip(self.gap()).map(|(held, blocks)| (held.id, blocks))
    }

    /// The oldest row.
    #[must_use]
    pub fn first_id(&self) -> Option<RowId> {
        self.held.get(self.gap()).map(|held| held.id)
    }

    /// Whether `id` is held.
    #[must_use]
    pub fn has(&self, id: RowId) -> bool {
        self.find_id(id).is_some()
    }

    /// Whether `id` is held and counts as company.
    #[must_use]
    pub fn is_company(&self, id: RowId) -> bool {
        self.find_id(id).and_then(|place| self.held.get(place)).is_some_and(|held| held.is_company())
    }

    /// Lets row `id` count as company, if it is held.
    pub fn keep_company(&mut self, id: RowId) {
        let Some(held) = self.find_id(id).and_then(|place| self.held.get_mut(place)) else { return };
        self.company += u32::from(!held.is_company());
        held.nth |= COMPANY;
    }

    /// The scaled values of row `id`.
    #[must_use]
    pub fn exact(&self, id: RowId) -> Option<&[f32]> {
        Some(self.row(self.find_id(id)?)?.exact)
    }

    /// The first blocks of row `id`.
    #[must_use]
    pub fn sketch(&self, id: RowId) -> Option<Sketch<'_>> {
        self.sketch_at(self.find_id(id)? - self.gap())
    }

    /// The first blocks of the row at a place, counted from the oldest.
    #[must_use]
    pub fn sketch_at(&self, place: usize) -> Option<Sketch<'_>> {
        let (place, (blocks, _)) = (self.gap() + place, self.blocks());
        self.first.get(place * blocks..(place + 1) * blocks)
    }

    fn gap(&self) -> usize {
        self.gap as usize
    }

    fn find_id(&self, id: RowId) -> Option<usize> {
        let held = self.held.get(self.gap()..)?;
        Some(self.gap() + held.binary_search_by_key(&id, |held| held.id).ok()?)
    }

    /// The place, counted from the oldest, of the last row before row `id`.
    #[must_use]
    pub fn place_before(&self, id: RowId) -> Option<usize> {
        self.held_before(id).checked_sub(1)
    }

    /// How many rows are held that came before row `id`.
    #[must_use]
    pub fn held_before(&self, id: RowId) -> usize {
        self.held.get(self.gap()..).unwrap_or_default().partition_point(|held| held.id < id)
    }

    /// How many rows were taken from `row` on and before `until`, those included that were dropped since, if `row` is held;
    /// otherwise from the first that is.
    #[must_use]
    pub fn taken_between(&self, row: RowId, until: RowId) -> usize {
        let taken_before = |id| {
            let held = self.held.get(self.gap() + self.held_before(id));
            held.map_or(self.taken, |held| held.nth & !COMPANY)
        };
        if row >= until {
            return 0;
        }
        (taken_before(until).wrapping_sub(taken_before(row)) & !COMPANY) as usize
    }

    /// The row at a place, counted from the oldest, with its scaled values.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<(RowId, &[f32])> {
        self.row(self.gap() + place).map(|row| (row.id, row.exact))
    }

    /// The first row at some places, counted from the oldest, of whose scaled values `what` gives something, with that. Only
    /// rows are asked about that the glance does not rule out.
    pub fn find<T, const RANGES: usize>(
        &self,
        places: Range<usize>,
        glance: &Glance<RANGES>,
        mut what: impl FnMut(&[f32]) -> Option<T>,
    ) -> Option<(RowId, T)> {
        let (first, end) = (self.gap() + places.start, self.gap() + places.end);
        let (width, (blocks, _)) = (self.width(), self.blocks());
        let found = if glance.rules_out() {
            let sketches = self.first.get(first * blocks..end * blocks)?.chunks_exact(blocks);
            let mut places = (first..).zip(sketches).filter(|(_, sketch)| glance.may_be(sketch));
            places.find_map(|(place, _)| Some((place, what(self.row(place)?.exact)?)))
        } else {
            let rows = self.exact.get(first * width..end * width)?.chunks_exact(width.max(1));
            (first..).zip(rows).find_map(|(place, row)| Some((place, what(row)?)))
        };
        found.and_then(|(place, found)| Some((self.held.get(place)?.id, found)))
    }

    /// The scaled values of all rows, the oldest first.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        (self.gap()..self.held.len()).filter_map(|place| Some(self.row(place)?.exact))
    }

    /// Adds a row.
    pub fn push(&mut self, client: ClientIndex, row: &Scaled) {
        make_room(&mut self.held, 1);
        let (first, rest) = row.coarse.split_at(first_of(row.coarse.len()));
        make_room(&mut self.first, first.len());
        make_room(&mut self.rest, rest.len());
        make_room(&mut self.exact, row.exact.len());
        // Clients are at most as many as fit into four bytes.
        self.held.push(Held { id: row.id, owner: client as u32, nth: self.taken });
        self.taken = (self.taken + 1) & !COMPANY;
        self.first.extend_from_slice(first);
        self.rest.extend_from_slice(rest);
        self.exact.extend_from_slice(&row.exact);
    }

    /// Drops the oldest row.
    pub fn drop_oldest(&mut self) {
        let Some(oldest) = self.held.get(self.gap()) else { return };
        self.company -= u32::from(oldest.is_company());
        self.gap += 1;
        let (gap, blocks) = (self.gap(), self.blocks());
        if gap * 2 >= self.held.len() {
            self.held.drain(..gap);
            self.first.drain(..gap * blocks.0);
            self.rest.drain(..gap * blocks.1);
            self.exact.drain(..gap * self.width());
            self.gap = 0;
        }
    }

    /// Drops the oldest row of those that count as company, or of those that do not.
    pub fn drop_oldest_of(&mut self, company: bool) {
        let gap = self.gap();
        let held = self.held.get(gap..).unwrap_or_default();
        let Some(place) = held.iter().position(|held| held.is_company() == company) else { return };
        // Those before it move into its place; company is dropped in order, so that they are few.
        if let Some(held) = self.held.get_mut(gap..=gap + place) {
            held.rotate_right(1);
        }
        let (blocks, width) = (self.blocks(), self.width());
        shift(&mut self.first, gap, place, blocks.0);
        shift(&mut self.rest, gap, place, blocks.1);
        shift(&mut self.exact, gap, place, width);
        self.drop_oldest();
    }

    /// Gives memory back once most of it is unused: otherwise every client could pin what it once held.
    pub fn trim(&mut self) {
        if self.held.capacity() > 2 * self.held.len() {
            self.held.shrink_to_fit();
            self.first.shrink_to_fit();
            self.rest.shrink_to_fit();
            self.exact.shrink_to_fit();
        }
    }

    /// Lets the rows of `client` belong to nobody.
    pub fn forget(&mut self, client: ClientIndex) {
        let own = self.held.iter_mut().filter(|held| held.owner == client as u32);
        own.for_each(|held| held.owner = NOBODY);
    }

    /// Offers every row to `nearest`, and gives the one that is nearest by bytes, with its exact values.
    pub fn scan(&self, from: &Scaled, nearest: &mut Nearest, sums: &mut Sums) -> Option<(RowId, &[f32])> {
        self.offer(|_| true, from, nearest, sums, Wanted::WithinAndLeast);
        let row = self.row(self.gap() + sums.place_of_least()?)?;
        Some((row.id, row.exact))
    }

    /// Offers the rows that `known` does not hold to `nearest`.
    pub fn scan_beyond(&self, known: Option<&Self>, from: &Scaled, nearest: &mut Nearest, sums: &mut Sums) {
        self.offer(|id| !known.is_some_and(|known| known.has(id)), from, nearest, sums, Wanted::Within);
    }

    /// Adds the rows of other clients than `client` that lie within reach of `from`, copies of it left out.
    pub fn others_within(
        &self,
        within: Within,
        client: ClientIndex,
        from: &Scaled,
        sums: &mut Sums,
        out: &mut Vec<Other>,
    ) {
        self.screen(from, within.screen, sums, Wanted::Within);
        sums.each_within(|place| out.extend(self.other(self.gap() + place, within, client, from)));
    }

    /// The row at a place, counted back from the latest, where it is such a row.
    #[must_use]
    pub fn other_at(&self, back: usize, within: Within, client: ClientIndex, from: &Scaled) -> Option<Other> {
        let place = self.held.len().checked_sub(back + 1).filter(|place| *place >= self.gap())?;
        self.other(place, within, client, from)
    }

    fn other(&self, place: usize, within: Within, client: ClientIndex, from: &Scaled) -> Option<Other> {
        let row = self.row(place).filter(|row| row.owner != client as u32 && row.owner != NOBODY)?;
        let sum = squared_sum(row.exact, &from.exact, within.cutoff()).filter(|sum| *sum > 0.0)?;
        let ratio = f64::from(sum / within.close).sqrt();
        Some(Other { row: row.id, client: row.owner as ClientIndex, ratio })
    }

    /// Gives the rows within reach of `from` that came before it, in order.
    pub fn before(&self, from: &Scaled, within: Within, sums: &mut Sums) -> Vec<(RowId, &[f32])> {
        let mut rows = Vec::new();
        self.screen(from, within.screen, sums, Wanted::Within);
        sums.each_within(|place| {
            if let Some(row) = self.row(self.gap() + place)
                && row.id < from.id
                && squared_sum(row.exact, &from.exact, within.cutoff()).is_some()
            {
                rows.push((row.id, row.exact));
            }
        });
        rows
    }

    fn offer(
        &self,
        counts: impl Fn(RowId) -> bool,
        from: &Scaled,
        nearest: &mut Nearest,
        sums: &mut Sums,
        wanted: Wanted,
    ) {
        self.screen(from, Screen::new(nearest.cutoff_ratio(), self.width()), sums, wanted);
        sums.each_within(|place| {
            if let Some(row) = self.row(self.gap() + place)
                && let Some(sum) = squared_sum(row.exact, &from.exact, nearest.cutoff())
                && counts(row.id)
            {
                nearest.offer(sum);
            }
        });
    }

    /// Finds the rows that pass.
    fn screen(&self, from: &Scaled, screen: Screen, sums: &mut Sums, wanted: Wanted) {
        let (first, rest) = self.blocks();
        let held = Rows {
            first: self.first.get(self.gap() * first..).unwrap_or_default(),
            rest: self.rest.get(self.gap() * rest..).unwrap_or_default(),
        };
        let from = Point { blocks: &from.coarse, wide: &from.wide };
        sums.fill(held, from, screen, wanted);
    }

    /// Blocks of a row that are looked at first, and the others.
    fn blocks(&self) -> (usize, usize) {
        let all = blocks_of(self.width());
        (first_of(all), all - first_of(all))
    }

    fn row(&self, place: usize) -> Option<Row<'_>> {
        let &Held { id, owner, .. } = self.held.get(place)?;
        let exact = self.exact.get(place * self.width()..(place + 1) * self.width())?;
        Some(Row { id, owner, exact })
    }
}

/// What is within reach: at most `ratio` times the distance whose squared sum is `close`.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    ratio: f32,
    close: f32,
    /// What passes by bytes.
    screen: Screen,
}

impl Within {
    /// Within `ratio` of a row of `width` columns, where the squared sum `close` counts as a ratio of 1.
    #[must_use]
    pub fn new(ratio: f32, close: f32, width: usize) -> Self {
        Self { ratio, close, screen: Screen::new(ratio, width) }
    }

    /// What passes by bytes.
    #[must_use]
    pub fn screen(self) -> Screen {
        self.screen
    }

    /// The squared sum from which on a row is out of reach.
    fn cutoff(self) -> f32 {
        self.close * self.ratio * self.ratio
    }
}

/// Owner of a row whose client was forgotten.
const NOBODY: u32 = u32::MAX;

struct Row<'a> {
    id: RowId,
    owner: u32,
    exact: &'a [f32],
}

/// Steps of a byte to a ratio of 1.
pub const STEPS_TO_CLOSE: f64 = 16.0;

/// Sums are kept apart in so many lanes, so that one need not wait for the other.
const LANES: usize = 8;

/// The sum of the squared differences where it lies below `cutoff`.
fn squared_sum(one: &[f32], two: &[f32], cutoff: f32) -> Option<f32> {
    let (one, one_rest) = one.as_chunks::<LANES>();
    let (two, two_rest) = two.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (one, two) in one.iter().zip(two) {
        for (lane, (one, two)) in lanes.iter_mut().zip(one.iter().zip(two)) {
            *lane += (one - two) * (one - two);
        }
    }
    let rest = one_rest.iter().zip(two_rest).map(|(one, two)| (one - two) * (one - two));
    let sum = lanes.iter().copied().chain(rest).sum();
    (sum < cutoff).then_some(sum)
}
