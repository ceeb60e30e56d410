//! How near the rows of a question lie to earlier ones: measured once, for every detector that asks.
//!
//! Distances are those of the reference's [`Geometry`]: the root mean square over its columns, each divided by its
//! spread. They are told as ratios to what is close among the reference's own rows, so that 1 means the same for every
//! model. Without a reference nothing is measured.
//!
//! Three memories. *Own* holds every client's latest distinct rows and shares its room fairly and by suspicion: where there
//! is none left, rows go first that lie apart from the others of their client. So what is said of a client's rows depends
//! on that client alone, neither on its pace nor on how busy the others are, and nobody can be framed by near copies of his
//! queries. *Suspects* holds the rows that a detector marked, for as long as there is room
//! and with a quota for each client. *Recent* holds the model's latest rows, whoever sent them. The last two show what
//! no single client shows: rows of several clients close together.
//!
//! Cost: each remembered row that is looked at is first compared by bytes, one to a column; only what may be close
//! after that is compared exactly.

mod around;
mod bytes;
mod glance;
mod latest;
mod nearest;
mod packed;
mod ranking;
mod store;
mod sums;

use serde::{Deserialize, Serialize};

pub use self::around::Around;
pub use self::glance::{ALL, Glance, Range, Sketch, steps};
use self::latest::Latest;
pub use self::nearest::{NEAREST_MAX, Nearest, insert};
pub use self::packed::STEPS_TO_CLOSE;
use self::packed::{Packed, Scaled, Within};
use self::store::{Quota, Store};
use self::sums::Sums;
use crate::columns::Columns;
use crate::facts::Features;
use crate::geometry::Geometry;
use crate::reference::Reference;
use crate::seen::SeenRow;
use crate::shelf::ClientIndex;

/// A row's number, in the order in which rows came.
pub type RowId = u64;

/// Places of a client's rows, counted from the oldest.
type Places = std::ops::Range<usize>;

/// Rows of one client that are looked back upon.
const OWN_ROWS_PER_CLIENT: usize = 1000;
/// Rows of all clients, and their bytes.
const OWN_ROWS: usize = 1 << 16;
const OWN_BYTES: usize = 8 << 20;
/// Marked rows of all clients, and of one.
const SUSPECT_ROWS: usize = 2048;
const SUSPECT_ROWS_PER_CLIENT: usize = SUSPECT_ROWS / 8;
/// The model's latest rows.
const RECENT_ROWS: usize = 1000;
/// Rows of other clients that are named, for each row.
const OTHERS_MAX: usize = 10;
/// ... and of these, rows of one client: nobody alone makes a row look as if many asked for it.
const OTHERS_PER_CLIENT: usize = 3;
/// Ratio below which the rows of two clients count as one cluster.
pub const CLUSTER_RATIO: f32 = 0.4;
/// Rows of its own within [`CLUSTER_RATIO`] of a row from which on all of them count as company: half of the ten that
/// detectors look for.
const COMPANY_MIN: usize = NEAREST_MAX / 2;
/// Widest rows that are measured: beyond it distances say little, and fingerprints say more.
pub const WIDTH_MAX: usize = 256;

/// The model's memory of where rows lie, and what it says of the rows of the question at hand.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Neighbours {
    /// Which geometry the memories are measured in.
    basis: Option<u64>,
    rows: RowId,
    own: Store,
    suspects: Store,
    recent: Latest,
    #[serde(skip)]
    now: Now,
}

/// The rows of the question at hand: scratch, reused.
#[derive(Debug, Default)]
struct Now {
    client: ClientIndex,
    first: RowId,
    found: Vec<Neighbourhood>,
    /// Scaled values of the client's own earlier rows that lie nearest to the new ones.
    nearest: Vec<f32>,
    rows: Vec<Option<Scaled>>,
    spare: Vec<Scaled>,
    sums: Sums,
}

/// What is known of one new row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbourhood {
    /// The client's own earlier rows, those closer than the reference's.
    pub own: Nearest,
    /// The client's own earlier row that lies nearest, and where its values are.
    nearest: Option<RowId>,
    nearest_own: Places,
    /// Rows of other clients in one cluster with it, nearest first: at most 10, three of one client, one of those that
    /// are equally far, and no copies of the row itself.
    pub others: Vec<Other>,
}

/// A row of another client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Other {
    /// The row.
    pub row: RowId,
    /// Whose it is.
    pub client: ClientIndex,
    /// Its distance, as a ratio.
    pub ratio: f64,
}

/// A client's rows before one of its rows.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The latest.
    pub latest: RowId,
    /// Its scaled values.
    pub values: &'a [f32],
    rows: &'a Packed,
    place: usize,
}

impl<'a> Before<'a> {
    /// The bytes of the first columns of the client's row `id`, that is still remembered.
    #[must_use]
    pub fn sketch(&self, id: RowId) -> Option<Sketch<'a>> {
        self.rows.sketch(id)
    }

    /// The bytes of the first columns of the row at hand, and of the latest before it.
    #[must_use]
    pub fn sketches(&self) -> Option<[Sketch<'a>; 2]> {
        Some([self.rows.sketch_at(self.place + 1)?, self.rows.sketch_at(self.place)?])
    }

    /// The oldest row of whose scaled values `what` gives something, with that: of those among the `first` and the `latest`
    /// that came after the row `after`, if one is given. The very latest is none of them. The glance says which rows
    /// `what` certainly gives nothing of.
    pub fn find<T, const RANGES: usize>(
        &self,
        among: (usize, usize),
        after: Option<RowId>,
        glance: &Glance<RANGES>,
        mut what: impl FnMut(&[f32]) -> Option<T>,
    ) -> Option<(RowId, T)> {
        let start = after.map_or(0, |after| self.rows.held_before(after + 1));
        let mut looked_at = self.looked_at(among).into_iter();
        looked_at.find_map(|places| {
            let places = places.start.max(start).min(places.end)..places.end;
            self.rows.find(places, glance, &mut what)
        })
    }

    /// Whether the row `id` is one of those that [`Before::find`] looks at.
    #[must_use]
    pub fn is_among(&self, among: (usize, usize), id: RowId) -> bool {
        self.rows.has(id)
            && self.looked_at(among).iter().any(|places| places.contains(&self.rows.held_before(id)))
    }

    /// The places of the `first` rows and the `latest`.
    fn looked_at(&self, (first, latest): (usize, usize)) -> [Places; 2] {
        let place = self.place;
        [0..first.min(place), place.saturating_sub(latest).max(first).min(place)..place]
    }
}

/// Whose question it is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The client.
    pub client: ClientIndex,
    /// The question.
    pub question: &'a Features,
    /// Its columns.
    pub columns: &'a Columns,
}

impl Neighbourhood {
    /// Distance to the tenth nearest of the client's own earlier rows, as a ratio; nothing where it is 1 or more.
    #[must_use]
    pub fn tenth_own(&self) -> Option<f64> {
        self.own.nth(NEAREST_MAX)
    }
}

impl Neighbourhood {
    /// Whether ten rows lie in one cluster with it, at most three of them one client's, its own included.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let is_near = |n: &usize| self.own.nth(*n).is_some_and(|ratio| ratio < f64::from(CLUSTER_RATIO));
        let own = (1..=OTHERS_PER_CLIENT).take_while(is_near).count();
        own + self.others.len() >= NEAREST_MAX
    }
}

impl Neighbours {
    /// Measures the new `rows` of a question in order, and remembers them. O(rows x remembered rows x width).
    pub fn take(&mut self, place: Place<'_>, rows: &[SeenRow], reference: Option<&Reference>) {
        self.clear_now();
        self.now.client = place.client;
        self.now.first = self.rows;
        self.rows += rows.len() as RowId;
        self.now.found.resize_with(rows.len(), Neighbourhood::default);
        let geometry = reference.and_then(Reference::geometry).filter(|geometry| geometry.is_measure());
        let (Some(geometry), Some(columns)) = (geometry, place.columns.of_reference()) else { return };
        self.adopt(geometry);
        for (position, row) in rows.iter().enumerate() {
            let mut scaled = self.now.spare.pop().unwrap_or_default();
            if scaled.fill(geometry, place.question, row.index, columns) {
                scaled.id = self.now.first + position as RowId;
                self.measure(geometry, position, place.client, &scaled);
                self.remember(geometry, position, place.client, &scaled);
                self.now.rows.push(Some(scaled));
            } else {
                self.now.spare.push(scaled);
                self.now.rows.push(None);
            }
        }
    }

    /// What is known of the new row at `position` of [`Seen::rows`](crate::seen::Seen::rows).
    #[must_use]
    pub fn of(&self, position: usize) -> Option<&Neighbourhood> {
        self.now.found.get(position)
    }

    /// The client's own earlier row that lies nearest to the new row at `position`, and that row itself: scaled
    /// values, one to a numeric column of the reference.
    #[must_use]
    pub fn step(&self, position: usize) -> Option<(&[f32], &[f32])> {
        let before = self.now.nearest.get(self.now.found.get(position)?.nearest_own.clone())?;
        let row = self.now.rows.get(position)?.as_ref()?;
        (!before.is_empty()).then_some((before, row.exact.as_slice()))
    }

    /// Which of the client's own earlier rows lies nearest to the new row at `position`.
    #[must_use]
    pub fn nearest(&self, position: usize) -> Option<RowId> {
        self.now.found.get(position)?.nearest
    }

    /// The new row at `position` as [`Geometry::scale`] gives it; nothing where it could not be measured.
    #[must_use]
    pub fn scaled(&self, position: usize) -> Option<&[f64]> {
        Some(&self.now.rows.get(position)?.as_ref()?.values)
    }

    /// Whether the new row at `position` lies where the rows of `reference` lie densely: what everybody asks about.
    #[must_use]
    pub fn is_dense(&self, position: usize, reference: &Reference) -> bool {
        let row = self.now.rows.get(position).and_then(Option::as_ref);
        row.zip(reference.geometry()).is_some_and(|(row, geometry)| geometry.is_dense(&row.exact))
    }

    /// How the client's own earlier rows within `ratio` of the new row at `position` differ from it. Nothing where it could
    /// not be measured.
    #[must_use]
    pub fn around(&self, position: usize, reference: &Reference, ratio: f64) -> Option<Around<'_>> {
        let row = self.now.rows.get(position)?.as_ref()?;
        let geometry = reference.geometry()?;
        let within = Within::new(ratio as f32, geometry.close(), geometry.width());
        let mut around = Around::new(&row.exact);
        let mut sums = Sums::default();
        let own = self.own.of(self.now.client);
        let mut rows = own.map(|own| own.before(row, within, &mut sums)).unwrap_or_default();
        // Marked rows outlive the others.
        if let Some(suspects) = self.suspects.of(self.now.client) {
            let marked = suspects.before(row, within, &mut sums);
            rows.extend(marked.into_iter().filter(|(id, _)| !own.is_some_and(|own| own.has(*id))));
            rows.sort_unstable_by_key(|(id, _)| *id);
        }
        rows.into_iter().for_each(|(_, other)| around.take(other));
        Some(around)
    }

    /// The number of the first new row of the question at hand; the others follow in order.
    #[must_use]
    pub fn first_row(&self) -> RowId {
        self.now.first
    }

    /// Whether a row of `client` is still remembered and lies outside of where the rows of `reference` lie densely.
    #[must_use]
    pub fn lay_apart(&self, client: ClientIndex, row: RowId, reference: &Reference) -> bool {
        let geometry = reference.geometry().filter(|geometry| self.basis == Some(geometry.basis()));
        let values = self.own.of(client).and_then(|rows| rows.exact(row));
        geometry.zip(values).is_some_and(|(geometry, values)| !geometry.is_dense(values))
    }

    /// Scaled values of a row of `client` that is still remembered.
    #[must_use]
    pub fn row(&self, client: ClientIndex, row: RowId) -> Option<&[f32]> {
        self.own.of(client)?.exact(row)
    }

    /// The rows of `client` before the row `at`; nothing where there is none.
    #[must_use]
    pub fn before(&self, client: ClientIndex, at: RowId) -> Option<Before<'_>> {
        let rows = self.own.of(client)?;
        let place = rows.place_before(at)?;
        let (latest, values) = rows.at(place)?;
        Some(Before { latest, values, rows, place })
    }

    /// How many rows `client` asked about from `row` on and before `until`, if `row` is still remembered; otherwise from the
    /// first row on that is.
    #[must_use]
    pub fn rows_between(&self, client: ClientIndex, row: RowId, until: RowId) -> usize {
        self.own.of(client).map_or(0, |rows| rows.taken_between(row, until))
    }

    /// Scaled values of the rows of `client` that are remembered, the oldest first.
    pub fn rows_of(&self, client: ClientIndex) -> impl Iterator<Item = &[f32]> {
        self.own.of(client).into_iter().flat_map(Packed::rows)
    }

    /// Keeps a new row of the question at hand among the suspects, because a detector marked it.
    pub fn mark(&mut self, position: usize) {
        let Some(row) = self.now.rows.get(position).and_then(Option::as_ref) else { return };
        let client = self.now.client;
        if self.suspects.has(client, row.id) {
            return;
        }
        self.suspects.insert(client, row);
        if self.own.of(client).is_some_and(|own| own.is_company(row.id)) {
            self.suspects.keep_company(client, &[row.id]);
        }
    }

    /// Whether rows of `client` are among the suspects: some detector marked them in an earlier question.
    #[must_use]
    pub fn has_marked(&self, client: ClientIndex) -> bool {
        self.suspects.of(client).is_some()
    }

    /// Forgets what counts against one client.
    pub fn forget(&mut self, client: ClientIndex) {
        self.own.forget(client);
        self.suspects.forget(client);
    }

    /// Forgets all that is remembered of a client whose place in the client table another takes.
    pub fn forget_wholly(&mut self, client: ClientIndex) {
        self.forget(client);
        self.recent.forget(client);
    }

    /// Rows held, and rows ever dropped to make room.
    #[must_use]
    pub fn held_and_evicted(&self) -> (usize, u64) {
        (
            self.own.len() + self.suspects.len() + self.recent.len(),
            self.own.evicted() + self.suspects.evicted(),
        )
    }

    /// Bytes that grow with the clients, their rows left out.
    #[must_use]
    pub fn client_bytes(&self) -> usize {
        self.own.client_bytes() + self.suspects.client_bytes()
    }

    /// Most rows ever held.
    pub const ROWS_MAX: usize = OWN_ROWS + SUSPECT_ROWS + RECENT_ROWS;

    fn clear_now(&mut self) {
        self.now.found.clear();
        self.now.nearest.clear();
        self.now.spare.extend(self.now.rows.drain(..).flatten());
    }

    /// What was measured by another reference means nothing.
    fn adopt(&mut self, geometry: &Geometry) {
        if self.basis == Some(geometry.basis()) {
            return;
        }
        let width = geometry.width();
        let row_bytes = Packed::row_bytes(width);
        let own = Quota { rows: OWN_ROWS.min(OWN_BYTES / row_bytes), rows_per_client: OWN_ROWS_PER_CLIENT };
        let suspects = Quota { rows: SUSPECT_ROWS, rows_per_client: SUSPECT_ROWS_PER_CLIENT };
        self.basis = Some(geometry.basis());
        self.own = Store::new(width, own);
        self.suspects = Store::new(width, suspects);
        self.recent = Latest::new(width);
    }

    fn measure(&mut self, geometry: &Geometry, position: usize, client: ClientIndex, row: &Scaled) {
        let Some(found) = self.now.found.get_mut(position) else { return };
        let close = geometry.close();
        let sums = &mut self.now.sums;
        let mut own = Nearest::within(close);
        let nearest = self.own.of(client).and_then(|rows| rows.scan(row, &mut own, sums));
        // Marked rows outlive the others.
        if let Some(suspects) = self.suspects.of(client) {
            suspects.scan_beyond(self.own.of(client), row, &mut own, sums);
        }
        let start = self.now.nearest.len();
        self.now.nearest.extend_from_slice(nearest.map(|(_, values)| values).unwrap_or_default());
        found.nearest = nearest.map(|(id, _)| id);
        found.nearest_own = start..self.now.nearest.len();
        found.own = own;
        let within = Within::new(CLUSTER_RATIO, close, geometry.width());
        let mut others = Vec::new();
        for rows in self.suspects.shares() {
            rows.others_within(within, client, row, sums, &mut others);
        }
        self.recent.others_within(within, client, row, sums, &mut others);
        others.sort_by(|one: &Other, two| one.ratio.total_cmp(&two.ratio).then(one.row.cmp(&two.row)));
        // Copies of one row say no more than one of them.
        others.dedup_by_key(|other| other.ratio.to_bits());
        found.others = few_of_each(others);
    }

    fn remember(&mut self, geometry: &Geometry, position: usize, client: ClientIndex, row: &Scaled) {
        self.own.insert(client, row);
        let company = self.now.found.get(position).and_then(|found| found.own.nth(COMPANY_MIN));
        if company.is_some_and(|ratio| ratio < f64::from(CLUSTER_RATIO)) {
            let within = Within::new(CLUSTER_RATIO, geometry.close(), geometry.width());
            let own = self.own.of(client).map(|own| own.before(row, within, &mut self.now.sums));
            let mut ids: Vec<RowId> = own.unwrap_or_default().into_iter().map(|(id, _)| id).collect();
            ids.push(row.id);
            self.own.keep_company(client, &ids);
            self.suspects.keep_company(client, &ids);
        }
        self.recent.push(client, row);
    }
}

/// The first ten, at most three of each client.
fn few_of_each(others: Vec<Other>) -> Vec<Other> {
    let mut few: Vec<Other> = Vec::new();
    for other in others {
        let of_client = few.iter().filter(|known| known.client == other.client).count();
        if of_client < OTHERS_PER_CLIENT {
            few.push(other);
        }
        if few.len() == OTHERS_MAX {
            break;
        }
    }
    few
}

#[cfg(test)]
mod tests;
