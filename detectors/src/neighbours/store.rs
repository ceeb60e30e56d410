//! Rows by client, in room that clients share fairly: full, whoever holds most loses the oldest row.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::RowId;
use super::packed::{Packed, Scaled};
use crate::shelf::ClientIndex;

/// How many rows may be held.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Quota {
    /// Of all clients.
    pub rows: usize,
    /// Of one.
    pub rows_per_client: usize,
}

/// The rows of all clients.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Store {
    width: usize,
    quota: Quota,
    shares: Vec<Packed>,
    held: usize,
    evicted: u64,
    /// Clients by the number of their rows: the last holds most.
    ranking: BTreeSet<(usize, ClientIndex)>,
}

impl Store {
    /// Room for rows of `width` columns.
    #[must_use]
    pub fn new(width: usize, quota: Quota) -> Self {
        Self { width, quota, ..Self::default() }
    }

    /// The rows of `client`.
    #[must_use]
    pub fn of(&self, client: ClientIndex) -> Option<&Packed> {
        self.shares.get(client)
    }

    /// The rows of all clients.
    pub fn shares(&self) -> impl Iterator<Item = &Packed> {
        self.ranking.iter().filter_map(|(_, client)| self.shares.get(*client))
    }

    /// Whether `client` holds the row.
    #[must_use]
    pub fn has(&self, client: ClientIndex, id: RowId) -> bool {
        self.of(client).is_some_and(|rows| rows.has(id))
    }

    /// Adds a row of `client`; where there is no room, the oldest row of whoever holds most is dropped.
    pub fn insert(&mut self, client: ClientIndex, row: &Scaled) {
        if self.shares.len() <= client {
            self.shares.resize_with(client + 1, || Packed::new(self.width));
        }
        self.change(client, |rows| rows.push(client, row));
        self.held += 1;
        if self.of(client).is_some_and(|rows| rows.len() > self.quota.rows_per_client) {
            self.drop_oldest_of(client);
        } else if self.held > self.quota.rows
            && let Some(&(_, most)) = self.ranking.last()
        {
            self.drop_oldest_of(most);
        }
    }

    /// Forgets the rows of `client`.
    pub fn forget(&mut self, client: ClientIndex) {
        let held = self.of(client).map_or(0, Packed::len);
        self.held -= held;
        let width = self.width;
        self.change(client, |rows| *rows = Packed::new(width));
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// Rows ever dropped to make room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn drop_oldest_of(&mut self, client: ClientIndex) {
        self.change(client, Packed::drop_oldest);
        self.held -= 1;
        self.evicted += 1;
    }

    /// Changes the rows of `client` and its rank.
    fn change(&mut self, client: ClientIndex, change: impl FnOnce(&mut Packed)) {
        let Some(rows) = self.shares.get_mut(client) else { return };
        self.ranking.remove(&(rows.len(), client));
        change(rows);
        if rows.len() > 0 {
            self.ranking.insert((rows.len(), client));
        }
    }
}
