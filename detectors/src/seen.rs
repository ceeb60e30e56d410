//! What a model was asked before: removal of exact repeats, and the lines on which a row lies.
//!
//! Everything is kept by client: no client's traffic can hide another's rows or lend it some.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::facts::Features;
use crate::hashing::Hashing;
use crate::lines::{BaseHit, LineHit, Lines, NewRow, Origin, WIDTH_MAX};
use crate::shelf::{Bounds, ClientIndex, Shelf};

/// Rows remembered to recognise repeats, over all clients; about 56 bytes each.
const ROWS: usize = 1 << 16;

/// The model's memory of rows, and what it says of the rows of the question at hand.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    rows: Shelf<Origin>,
    lines: Lines,
    repeats: u64,
    #[serde(skip)]
    now: Now,
}

/// What is known of the question at hand: scratch, reused.
#[derive(Debug, Default)]
struct Now {
    rows: Vec<SeenRow>,
    line_hits: Vec<LineHit>,
    base_hits: Vec<BaseHit>,
    cells: Vec<u64>,
}

/// A row of the question at hand that this client had not sent before.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenRow {
    /// Its position in the question.
    pub index: usize,
    /// Its keyed hash, salted by client.
    pub key: u64,
    /// Its keyed hash, the same for every client.
    pub content: u64,
    line_hits: Range<usize>,
    base_hits: Range<usize>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            rows: Shelf::new(Bounds::shared(ROWS)),
            lines: Lines::default(),
            repeats: 0,
            now: Now::default(),
        }
    }
}

impl Seen {
    /// Takes the rows of a question in order: repeats are counted and dropped, the rest is remembered and looked up.
    /// `columns` are the question's. O(rows x width), without allocation once the scratch has grown, beyond what is remembered.
    pub fn take(
        &mut self,
        hashing: &Hashing,
        client: ClientIndex,
        salt: u64,
        origin: Origin,
        question: &Features,
        columns: &Columns,
    ) {
        self.clear_now();
        for index in 0..question.rows() {
            hashing.cells(columns.fields(), question, index, &mut self.now.cells);
            self.take_row(client, salt, origin, columns, index);
        }
    }

    /// Rows of the question at hand that are not repeats, in order.
    #[must_use]
    pub fn rows(&self) -> &[SeenRow] {
        &self.now.rows
    }

    /// The lines that a row joined, as they stood with it.
    #[must_use]
    pub fn line_hits(&self, row: &SeenRow) -> &[LineHit] {
        self.now.line_hits.get(row.line_hits.clone()).unwrap_or(&[])
    }

    /// The bases that a row belongs to, as they stood with it.
    #[must_use]
    pub fn base_hits(&self, row: &SeenRow) -> &[BaseHit] {
        self.now.base_hits.get(row.base_hits.clone()).unwrap_or(&[])
    }

    /// Forgets everything of one client.
    pub fn forget(&mut self, client: ClientIndex) {
        self.rows.forget(client);
        self.lines.forget(client);
    }

    /// Forgets what was said of the last question.
    pub fn clear_now(&mut self) {
        self.now.rows.clear();
        self.now.line_hits.clear();
        self.now.base_hits.clear();
    }

    /// Rows that were exact repeats, ever.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Rows held, lines and bases included, and how many were ever dropped to make room.
    #[must_use]
    pub fn held_and_evicted(&self) -> (usize, u64) {
        let (held, evicted) = self.lines.held_and_evicted();
        (held + self.rows.len(), evicted + self.rows.evicted())
    }

    /// Bytes that grow with the clients, their rows left out.
    #[must_use]
    pub fn client_bytes(&self) -> usize {
        self.rows.client_bytes() + self.lines.client_bytes()
    }

    /// Most entries ever held.
    pub const ENTRIES_MAX: usize = ROWS + Lines::ENTRIES_MAX;

    fn take_row(&mut self, client: ClientIndex, salt: u64, origin: Origin, columns: &Columns, index: usize) {
        let now = &mut self.now;
        let content = now.cells.iter().fold(0, |sum: u64, cell| sum.wrapping_add(*cell));
        let key = content.wrapping_add(salt);
        if self.rows.get(client, key).is_some() {
            self.repeats += 1;
            return;
        }
        let (lines_before, bases_before) = (now.line_hits.len(), now.base_hits.len());
        if (2..=WIDTH_MAX).contains(&columns.counted()) {
            let row = NewRow { client, key, origin, fields: columns.fields(), cells: &now.cells };
            self.lines.enter(row, &self.rows, &mut now.line_hits, &mut now.base_hits);
        }
        self.rows.insert(client, key, origin);
        now.rows.push(SeenRow {
            index,
            key,
            content,
            line_hits: lines_before..now.line_hits.len(),
            base_hits: bases_before..now.base_hits.len(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Cell, Time};
    use crate::identity::Identity;

    /// Asks about a row, and gives how many fields were varied from its base so far.
    fn ask(seen: &mut Seen, client: ClientIndex, request: u64, row: [f64; 8]) -> usize {
        let hashing = Hashing::new([1, 2]);
        let question = Features { width: 8, cells: row.map(Cell::Number).to_vec(), ..Features::default() };
        let mut columns = Columns::default();
        columns.look_at(&hashing, &question, None);
        let origin = Origin { request, time: Time(request) };
        seen.take(&hashing, client, hashing.salt(Identity::Key(client as u64)), origin, &question, &columns);
        let hits = seen.rows().iter().flat_map(|row| seen.base_hits(row));
        hits.map(|hit| hit.fields.len()).max().unwrap_or(0)
    }

    /// A base, then changes of one field of it after the other, with rows of so many other clients between two of them.
    fn star(seen: &mut Seen, others: u64) -> usize {
        let base = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        ask(seen, 0, 0, base);
        let mut request = 0;
        let mut varied = 0;
        for field in 0..6 {
            for _ in 0..others {
                request += 1;
                ask(seen, request as usize, request, [request as f64 + 0.5; 8]);
            }
            let mut arm = base;
            arm[field] += 100.0;
            request += 1;
            varied = ask(seen, 0, request, arm);
        }
        varied
    }

    #[test]
    fn a_star_shows_however_many_clients_share_the_room_for_lines() {
        let room = |around| Seen { lines: Lines::with_room(160, around), ..Seen::default() };
        assert_eq!(star(&mut room(64), 0), 6, "alone");
        // Of twenty clients at a time each has room for the lines of one row, and the base is the oldest of its client.
        assert_eq!(star(&mut room(64), 12), 6, "among others");
        assert!(star(&mut room(1), 12) < 6, "this needs the lines around the base");
    }

    #[test]
    fn a_flood_of_pairs_leaves_the_lines_around_a_base() {
        let mut seen = Seen { lines: Lines::with_room(160, 64), ..Seen::default() };
        let base = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        ask(&mut seen, 0, 0, base);
        let mut arm = base;
        arm[0] += 100.0;
        ask(&mut seen, 0, 1, arm);
        for request in 2..1000 {
            let client = 1 + request as usize % 3;
            let mut row = [(request / 6) as f64 + 0.5; 8];
            row[1] += ((request / 3) % 2) as f64;
            ask(&mut seen, client, request, row);
        }
        let mut varied = 0;
        for field in 2..5 {
            let mut arm = base;
            arm[field] += 100.0;
            varied = ask(&mut seen, 0, 1000 + field as u64, arm);
        }
        assert_eq!(varied, 4, "three clients that begin sweeps all the time take nothing from a fourth");
    }
}
