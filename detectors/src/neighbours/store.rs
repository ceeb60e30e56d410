//! Rows by client, in room that clients share fairly: full, whoever holds most loses the oldest row.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::RowId;
use super::packed::{Packed, Scaled};
use crate::pages::Pages;
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
    shares: Pages<Option<Box<Packed>>>,
    held: usize,
    evicted: u64,
    /// Clients by the number of their rows: the last holds most.
    ranking: BTreeSet<(u32, u32)>,
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
        self.shares.get(client)?.as_deref()
    }

    /// The rows of all clients.
    pub fn shares(&self) -> impl Iterator<Item = &Packed> {
        self.ranking.iter().filter_map(|(_, client)| self.of(*client as ClientIndex))
    }

    /// Whether `client` holds the row.
    #[must_use]
    pub fn has(&self, client: ClientIndex, id: RowId) -> bool {
        self.of(client).is_some_and(|rows| rows.has(id))
    }

    /// Adds a row of `client`; where there is no room, the oldest row of whoever holds most is dropped.
    pub fn insert(&mut self, client: ClientIndex, row: &Scaled) {
        let own = self.shares.get_mut(client).and_then(Option::as_deref_mut);
        if let Some(own) = own.filter(|own| own.len() >= self.quota.rows_per_client) {
            // One comes and one goes: the client's rank stays.
            own.push(client, row);
            own.drop_oldest();
            own.trim();
            self.evicted += 1;
            return;
        }
        self.change(client, |rows| rows.push(client, row));
        self.held += 1;
        if self.held > self.quota.rows
            && let Some(&(_, most)) = self.ranking.last()
        {
            self.drop_oldest_of(most as ClientIndex);
        }
    }

    /// Forgets the rows of `client`.
    pub fn forget(&mut self, client: ClientIndex) {
        let held = self.of(client).map_or(0, Packed::len);
        if held > 0 {
            self.held -= held;
            self.ranking.remove(&(held as u32, client as u32));
        }
        self.shares.get_mut(client).into_iter().for_each(|rows| *rows = None);
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// Bytes that grow with the clients, those that hold rows left out: their rows are bounded.
    #[must_use]
    pub fn client_bytes(&self) -> usize {
        self.shares.bytes()
    }

    /// Rows ever dropped to make room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn drop_oldest_of(&mut self, client: ClientIndex) {
        self.change(client, |rows| {
            rows.drop_oldest();
            rows.trim();
        });
        self.held -= 1;
        self.evicted += 1;
    }

    /// Changes the rows of `client` and its rank.
    fn change(&mut self, client: ClientIndex, change: impl FnOnce(&mut Packed)) {
        let width = self.width;
        let Some(share) = self.shares.entry(client) else { return };
        let rows = share.get_or_insert_with(|| Box::new(Packed::new(width)));
        self.ranking.remove(&(rows.len() as u32, client as u32));
        change(rows);
        if rows.len() > 0 {
            self.ranking.insert((rows.len() as u32, client as u32));
        } else {
            *share = None;
        }
    }
}
