//! How far clients reach: whose distinct rows are most, and whose lie in most cells of feature space.
//!
//! Extraction with rows such as customers send shows in nothing that a row holds. It takes many rows, from everywhere,
//! and so do large honest clients: nothing is found here, but who asks most and covers most is told whom it wants to know.
//!
//! Counts are those of `coverage_growth`, where it runs and there is a reference; otherwise those that the engine itself
//! keeps, of rows within an hour. O(clients) for a look, nothing beside.

use std::cmp::Reverse;
use std::time::Duration;

use super::Engine;
use super::agreement::COUNTS_FOR;
use crate::facts::Time;
use crate::identity::Identity;
use crate::reference::Reference;

/// What one client asked for within the window that its latest row lies in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// The client.
    pub client: Identity,
    /// When the window began.
    pub from: Time,
    /// When it ends or ended.
    pub until: Time,
    /// Distinct rows.
    pub rows: u32,
    /// Cells that they lie in, of those after the 50th row; nothing where cells are not counted.
    pub cells: Option<u32>,
    /// In how many cells as many rows would lie that were drawn from where the reference's come from.
    pub expected_cells: Option<f64>,
    /// Its place by rows, from 1, among those told.
    pub by_rows: Option<u32>,
    /// Its place by cells.
    pub by_cells: Option<u32>,
}

/// Those of a model's clients that reach farthest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Farthest {
    /// Clients that asked for rows lately.
    pub clients: u64,
    /// Cells that the reference's rows lie in; 0 without one.
    pub reference_cells: u64,
    /// The first by rows and the first by cells, by rows.
    pub reach: Vec<Reach>,
}

/// What a detector counted of one client within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covers {
    /// When the window began.
    pub from: Time,
    /// When it ends or ended.
    pub until: Time,
    /// Distinct rows.
    pub rows: u32,
    /// Those of them whose cells were told apart.
    pub told_apart: u32,
    /// Cells that these lie in.
    pub cells: u32,
    /// The marginals that cells were told apart by.
    pub basis: u64,
}

impl Engine {
    /// The `most` clients that asked for most distinct rows, and as many whose rows lie in most cells, at `now`: those whose
    /// latest row lies in this window or in the one before.
    #[must_use]
    pub fn farthest(&self, now: Time, most: usize) -> Farthest {
        let marginals = self.memory.reference.as_ref().map(Reference::marginals);
        let mut all: Vec<Reach> =
            (0..self.memory.clients.len()).filter_map(|index| self.reach(index, now)).collect();
        let clients = all.len() as u64;
        place(&mut all, most, |reach| reach.rows, |reach, place| reach.by_rows = Some(place));
        place(&mut all, most, |reach| reach.cells.unwrap_or(0), |reach, place| reach.by_cells = Some(place));
        all.retain(|reach| reach.by_rows.is_some() || reach.by_cells.is_some());
        all.sort_unstable_by_key(|reach| (Reverse(reach.rows), reach.client));
        Farthest {
            clients,
            reference_cells: marginals.map_or(0, |marginals| marginals.cells() as u64),
            reach: all,
        }
    }

    fn reach(&self, index: usize, now: Time) -> Option<Reach> {
        let client = self.memory.clients.at(index)?;
        let running = self.detectors.iter().filter_map(|running| running.detector.as_ref());
        let covers = running.filter_map(|detector| detector.covers(index)).next();
        let (from, until, rows) = match covers {
            Some(covers) => (covers.from, covers.until, covers.rows),
            None => {
                let (rows, from) = self.memory.tallies.get(index)?.volume.within(COUNTS_FOR.as_secs());
                (from, from.plus(COUNTS_FOR), rows)
            }
        };
        let comparable = covers.zip(self.memory.reference.as_ref().map(Reference::marginals));
        let comparable = comparable
            .filter(|(covers, marginals)| covers.told_apart == 0 || marginals.basis() == covers.basis);
        let reach = Reach {
            client,
            from,
            until,
            rows,
            cells: comparable.map(|(covers, _)| covers.cells),
            expected_cells: comparable.map(|(covers, marginals)| marginals.expected_cells(covers.told_apart)),
            by_rows: None,
            by_cells: None,
        };
        Some(reach).filter(|reach| reach.is_recent(now))
    }
}

impl Reach {
    /// Whether the window is the present one or the one before.
    fn is_recent(&self, now: Time) -> bool {
        let length = Duration::from_micros(self.until.0.saturating_sub(self.from.0));
        self.rows > 0 && now < self.until.plus(length)
    }
}

/// Gives the first `most` by what `counts` their places, of those that have any.
fn place(all: &mut [Reach], most: usize, counts: fn(&Reach) -> u32, put: fn(&mut Reach, u32)) {
    let key = |reach: &Reach| (Reverse(counts(reach)), reach.client);
    let most = most.min(all.len());
    if most > 0 && most < all.len() {
        all.select_nth_unstable_by_key(most - 1, key);
    }
    let first = all.get_mut(..most).unwrap_or_default();
    first.sort_unstable_by_key(key);
    let placed = (1..).zip(first.iter_mut()).filter(|(_, reach)| counts(reach) > 0);
    placed.for_each(|(place, reach)| put(reach, place));
}
