//! Rows that differ in one field only: found by leave-one-out keys, remembered by suspicion.
//!
//! A row's key is the sum of its cells' hashes and of its client's salt. Taking one cell out again gives
//! the key of the *line* through the row along that field: all rows that are equal but for that field have it.
//! Keys are salted by client: a client's lines are made of its own rows, so nobody can be framed by near copies of
//! his queries.
//!
//! Four bounded memories, each shared fairly among clients. A line with one row is `fresh`: nearly all stay so. With
//! its second row it becomes a suspect, kept apart: no amount of honest traffic pushes it out. `bases` are the rows
//! from which different fields were varied. A base's lines with one row are kept `around` it as well: whoever varies it in
//! another field, however much later, meets them there.

use serde::{Deserialize, Serialize};

use crate::facts::Time;
use crate::hashing::Field;
use crate::shelf::{Bounds, ClientIndex, Shelf};

/// Widest row that has lines: beyond it, single fields carry too little to sweep one by one.
pub const WIDTH_MAX: usize = 100;

/// Lines with one row, over all clients; about 56 bytes each.
const FRESH_LINES: usize = (1 << 18) - AROUND_LINES;

/// Those of bases, kept once more.
const AROUND_LINES: usize = 1 << 15;

/// Lines with more rows, over all clients; at most about 460 bytes each, mostly 110.
const SUSPECT_LINES: usize = 1 << 15;

/// Rows from which fields were varied, over all clients; at most about 1,000 bytes each, mostly 170.
const BASES: usize = 1 << 14;

/// A small set of truncated hashes, at most [`Marks::MAX`]: what comes beyond is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks(Vec<u32>);

impl Marks {
    /// Most elements of a set.
    pub const MAX: usize = 64;

    /// The element that stands for a hash.
    #[must_use]
    pub fn of(hash: u64) -> u32 {
        (hash >> 32) as u32
    }

    /// Adds an element and says whether it was new.
    pub fn add(&mut self, mark: u32) -> bool {
        let new = self.0.len() < Self::MAX && !self.has(mark);
        if new {
            self.0.push(mark);
        }
        new
    }

    /// Whether `mark` is in the set.
    #[must_use]
    pub fn has(&self, mark: u32) -> bool {
        self.0.contains(&mark)
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Which rows and requests a piece of evidence is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// Distinct rows.
    pub rows: u32,
    /// Requests that they came in. Exact for one request, and never above `rows`.
    pub requests: u32,
    /// When the first row came.
    pub since: Time,
    /// The first requests, as examples; only as many as there are count.
    pub first_requests: [u64; 2],
    last_request: u64,
}

impl Trail {
    /// Adds a row of a request.
    pub fn add(&mut self, origin: Origin) {
        if self.rows == 0 || origin.time < self.since {
            self.since = origin.time;
        }
        if self.rows == 0 || self.last_request != origin.request {
            if let Some(example) = self.first_requests.get_mut(self.requests as usize) {
                *example = origin.request;
            }
            self.requests = self.requests.saturating_add(1);
            self.last_request = origin.request;
        }
        self.rows = self.rows.saturating_add(1);
    }

    /// Both together, where no request is in both.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let (mut first, second) = if self.since <= other.since { (*self, other) } else { (*other, self) };
        let examples = second.first_requests.iter().take(second.requests as usize);
        for (at, example) in (first.requests as usize..).zip(examples) {
            first.first_requests.get_mut(at).into_iter().for_each(|free| *free = *example);
        }
        first.rows = first.rows.saturating_add(second.rows);
        first.requests = first.requests.saturating_add(second.requests);
        first.last_request = second.last_request;
        first
    }

    /// Up to three example requests: the first two and the last.
    pub fn examples(&self) -> impl Iterator<Item = u64> + '_ {
        let first = self.first_requests.iter().take(self.requests as usize).copied();
        first.chain((self.requests > 2).then_some(self.last_request))
    }
}

/// Where a row came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The request.
    pub request: u64,
    /// When it came.
    pub time: Time,
}

/// A row that joined a line.
#[derive(Clone, Debug, PartialEq)]
pub struct LineHit {
    /// The column that alone differs.
    pub column: usize,
    /// Distinct values of that column so far, this row's included.
    pub values: usize,
    /// The rows of the line.
    pub trail: Trail,
    /// Whether other fields, too, were moved to two or more other values: two of them from the line's first row or from
    /// this one, or one from the first row and from this one or the one before it, as in a grid.
    pub crossed: bool,
}

/// A base row, and what was varied from it, as of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseHit {
    /// Fields varied one at a time.
    pub fields: Marks,
    /// Those of them that were moved to two or more other values.
    pub twice: Marks,
    /// Those of them that were moved to five or more other values.
    pub often: Marks,
    /// Rows varied from it.
    pub arms: u32,
    /// How many single changes lead to it from a row that was no change of another.
    pub depth: u32,
    /// The base and the rows varied from it.
    pub trail: Trail,
}

/// Values of a field, that of the base included, beyond which it was moved often.
const OFTEN: usize = 5;

/// Depth from which on a base is one that a search moved to: a form may be changed once before it is charted.
pub const MOVED: u32 = 2;

/// Fewest varied fields worth telling detectors of.
pub const BASE_FIELDS_MIN: usize = 3;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct First {
    row: u64,
    value: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Line {
    base: u64,
    latest: u64,
    values: Marks,
    trail: Trail,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Base {
    fields: Marks,
    twice: Marks,
    often: Marks,
    arms: u32,
    depth: u32,
    trail: Trail,
}

impl Base {
    /// How many fields other than `field` were moved to two or more other values.
    fn crossings(&self, field: u32) -> usize {
        self.twice.len() - usize::from(self.twice.has(field))
    }
}

/// Which memories hold anything of a client.
#[derive(Clone, Copy, Debug)]
struct Known {
    suspects: bool,
    around: bool,
}

/// A line as a row joined it.
struct Joined {
    /// Its first row.
    base: u64,
    /// The row that joined before.
    before: u64,
    /// Distinct values, this row's included.
    values: usize,
    trail: Trail,
}

/// A field as it was varied: by its mark, and over how many values, that of the base included.
#[derive(Clone, Copy, Debug)]
struct Varied {
    field: u32,
    values: usize,
}

/// A row on its way into the store.
#[derive(Clone, Copy, Debug)]
pub struct NewRow<'a> {
    /// Whose it is.
    pub client: ClientIndex,
    /// Its key, the client's salt included.
    pub key: u64,
    /// Where it came from.
    pub origin: Origin,
    /// Its columns.
    pub fields: &'a [Field],
    /// Hashes of its cells.
    pub cells: &'a [u64],
}

/// The lines of all clients' rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lines {
    fresh: Shelf<First>,
    around: Shelf<First>,
    suspects: Shelf<Line>,
    bases: Shelf<Base>,
    /// Lines that the row at hand is the first of: scratch.
    #[serde(skip)]
    begun: Vec<(u64, First)>,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            fresh: Shelf::new(Bounds::shared(FRESH_LINES)),
            around: Shelf::new(Bounds::shared(AROUND_LINES)),
            suspects: Shelf::new(Bounds::shared(SUSPECT_LINES)),
            bases: Shelf::new(Bounds::shared(BASES)),
            begun: Vec::new(),
        }
    }
}

impl Lines {
    /// Room for fewer lines with one row, and for fewer of those of bases.
    #[cfg(test)]
    pub(crate) fn with_room(fresh: usize, around: usize) -> Self {
        let shelf = |entries| Shelf::new(Bounds { entries, entries_per_client: entries });
        Self { fresh: shelf(fresh), around: shelf(around), ..Self::default() }
    }

    /// Enters a distinct row and appends the lines it joined and the bases it belongs to; O(width) hash look-ups.
    /// `rows` tells where the client's earlier rows came from.
    pub fn enter(
        &mut self,
        row: NewRow<'_>,
        rows: &Shelf<Origin>,
        line_hits: &mut Vec<LineHit>,
        base_hits: &mut Vec<BaseHit>,
    ) {
        let counted = row.fields.iter().zip(row.cells).enumerate().filter(|(_, (field, _))| field.counts());
        let mut known = self.known(row.client);
        for (column, (field, &cell)) in counted {
            let line = row.key.wrapping_sub(cell);
            let joined = self.join(row, known, (line, Marks::of(cell)), rows);
            let Some(Joined { base, before, values, trail }) = joined else { continue };
            let varied = Varied { field: field.mark(), values };
            if self.bases.get(row.client, base).is_none() {
                self.keep_around(row, base, column);
            }
            let base_origin = rows.get(row.client, base).copied().unwrap_or(row.origin);
            let first = self.vary(row.client, base, varied, base_origin, row.origin, base_hits);
            // This row may be the base too, sent after the rows that vary it.
            let depth = self.bases.get(row.client, base).map_or(0, |base| base.depth);
            let this = self.vary(row.client, row.key, varied, row.origin, base_origin, base_hits);
            self.deepen(row, depth + 1);
            let latest = self.bases.get(row.client, before).map_or(0, |base| base.crossings(varied.field));
            let crossed = first.max(this) > 1 || first > 0 && this.max(latest) > 0 && before != base;
            line_hits.push(LineHit { column, values, trail, crossed });
            known = self.known(row.client);
        }
        self.fresh.insert_all(row.client, self.begun.drain(..));
    }

    /// Forgets everything of one client.
    pub fn forget(&mut self, client: ClientIndex) {
        self.fresh.forget(client);
        self.around.forget(client);
        self.suspects.forget(client);
        self.bases.forget(client);
    }

    /// Entries held, and entries ever dropped to make room.
    #[must_use]
    pub fn held_and_evicted(&self) -> (usize, u64) {
        let Self { fresh, around, suspects, bases, begun: _ } = self;
        let held = fresh.len() + around.len() + suspects.len() + bases.len();
        (held, fresh.evicted() + around.evicted() + suspects.evicted() + bases.evicted())
    }

    /// Bytes that grow with the clients, their lines left out.
    #[must_use]
    pub fn client_bytes(&self) -> usize {
        let Self { fresh, around, suspects, bases, begun: _ } = self;
        fresh.client_bytes() + around.client_bytes() + suspects.client_bytes() + bases.client_bytes()
    }

    /// Most entries ever held.
    pub const ENTRIES_MAX: usize = FRESH_LINES + AROUND_LINES + SUSPECT_LINES + BASES;

    /// Most clients have neither, and each look at a large table is one that no cache holds.
    fn known(&self, client: ClientIndex) -> Known {
        Known { suspects: self.suspects.holds(client), around: self.around.holds(client) }
    }

    /// Joins `row` to the line under `key`: gives what the line is then, or nothing where the row is the line's first or its
    /// value is known there.
    fn join(
        &mut self,
        row: NewRow<'_>,
        known: Known,
        (key, value): (u64, u32),
        rows: &Shelf<Origin>,
    ) -> Option<Joined> {
        if known.suspects
            && let Some(line) = self.suspects.get_mut(row.client, key)
        {
            return line.values.add(value).then(|| {
                line.trail.add(row.origin);
                let before = std::mem::replace(&mut line.latest, row.key);
                Joined { base: line.base, before, values: line.values.len(), trail: line.trail }
            });
        }
        let around = || known.around.then(|| self.around.get(row.client, key)).flatten();
        let Some(&first) = self.fresh.get(row.client, key).or_else(around) else {
            self.begun.push((key, First { row: row.key, value }));
            return None;
        };
        // A row that the memory of repeats forgot is still no second row.
        if first.value == value {
            return None;
        }
        let mut trail = Trail::default();
        trail.add(rows.get(row.client, first.row).copied().unwrap_or(row.origin));
        trail.add(row.origin);
        let values = Marks(vec![first.value, value]);
        self.suspects.insert(row.client, key, Line { base: first.row, latest: row.key, values, trail });
        Some(Joined { base: first.row, before: first.row, values: 2, trail })
    }

    /// Keeps the lines of a row that `row` differs from in `column` alone: all other cells are the same, so that their keys
    /// follow from both.
    fn keep_around(&mut self, row: NewRow<'_>, base: u64, column: usize) {
        let cells = row.fields.iter().zip(row.cells).enumerate();
        let others = cells.filter(|(other, (field, _))| *other != column && field.counts());
        for (_, (_, &cell)) in others {
            let line = base.wrapping_sub(cell);
            if self.around.get(row.client, line).is_none() {
                self.around.insert(row.client, line, First { row: base, value: Marks::of(cell) });
            }
        }
    }

    /// Notes that a field was varied from the row `base`, and says how many others were moved to two values or more.
    fn vary(
        &mut self,
        client: ClientIndex,
        base: u64,
        varied: Varied,
        base_origin: Origin,
        spoke: Origin,
        hits: &mut Vec<BaseHit>,
    ) -> usize {
        let Some(base) = self.base(client, base, base_origin) else { return 0 };
        base.arms = base.arms.saturating_add(1);
        if base.fields.add(varied.field) {
            base.trail.add(spoke);
        }
        if varied.values > 2 {
            base.twice.add(varied.field);
        }
        if varied.values > OFTEN {
            base.often.add(varied.field);
        }
        if base.fields.len() >= BASE_FIELDS_MIN {
            let Base { fields, twice, often, arms, depth, trail } = base.clone();
            hits.push(BaseHit { fields, twice, often, arms, depth, trail });
        }
        base.crossings(varied.field)
    }

    /// Notes that a change of one field led to a row from a base of this depth less one.
    fn deepen(&mut self, row: NewRow<'_>, depth: u32) {
        if let Some(base) = self.bases.get_mut(row.client, row.key) {
            base.depth = if base.arms > 1 { base.depth.min(depth) } else { depth };
        }
    }

    fn base(&mut self, client: ClientIndex, key: u64, origin: Origin) -> Option<&mut Base> {
        if self.bases.get(client, key).is_none() {
            let mut base = Base::default();
            base.trail.add(origin);
            self.bases.insert(client, key, base);
        }
        self.bases.get_mut(client, key)
    }
}
