//! Rows by client, in room that clients share fairly, and by suspicion.
//!
//! Rows that lie close to several others of their client are company: rows of a search are, those of customers hardly ever.
//! Full, whoever holds most rows without company loses the oldest of them, so that a search is remembered however many
//! clients ask about other things. Company has at most half of the room; beyond that, whoever holds most of it loses the
//! oldest, so that no flood of company takes what else is remembered.

use serde::{Deserialize, Serialize};

use super::RowId;
use super::packed::{Packed, Scaled};
use super::ranking::Ranking;
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
    company: usize,
    evicted: u64,
    /// Clients by the number of their rows without company.
    ranking: Ranking,
    /// Clients with company, by how much of it.
    ranking_of_company: Ranking,
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
        self.ranking.clients().filter_map(|client| self.of(client))
    }

    /// Whether `client` holds the row.
    #[must_use]
    pub fn has(&self, client: ClientIndex, id: RowId) -> bool {
        self.of(client).is_some_and(|rows| rows.has(id))
    }

    /// Adds a row of `client`; where there is no room, a row is dropped as the top of this file says.
    pub fn insert(&mut self, client: ClientIndex, row: &Scaled) {
        let own = self.shares.get_mut(client).and_then(Option::as_deref_mut);
        if let Some(own) = own.filter(|own| own.len() >= self.quota.rows_per_client) {
            self.evicted += 1;
            if own.first_id().is_some_and(|id| own.is_company(id)) {
                return self.change(client, |rows| replace_oldest(rows, client, row));
            }
            // One comes and one goes: the client's rank stays.
            return replace_oldest(own, client, row);
        }
        self.change(client, |rows| rows.push(client, row));
        if self.held > self.quota.rows {
            self.make_room();
        }
    }

    /// Lets rows of `client` count as company, those that are held.
    pub fn keep_company(&mut self, client: ClientIndex, ids: &[RowId]) {
        if self.of(client).is_some() {
            self.change(client, |rows| ids.iter().for_each(|id| rows.keep_company(*id)));
        }
        if self.company > self.quota.rows / 2 {
            self.let_company_go();
        }
    }

    /// Forgets the rows of `client`.
    pub fn forget(&mut self, client: ClientIndex) {
        if self.of(client).is_some() {
            self.change(client, |rows| *rows = Packed::default());
        }
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

    fn make_room(&mut self) {
        let (loser, company) = match self.ranking.most() {
            Some((held, client)) if held > 0 => (Some(client), false),
            _ => (self.ranking_of_company.most().map(|(_, client)| client), true),
        };
        loser.into_iter().for_each(|client| self.drop_oldest_of(client, company));
    }

    fn let_company_go(&mut self) {
        while self.company > self.quota.rows / 2
            && let Some((_, most)) = self.ranking_of_company.most()
        {
            self.drop_oldest_of(most, true);
        }
    }

    /// Drops a client's oldest row of those that are company, or of those that are not.
    pub fn drop_oldest_of(&mut self, client: ClientIndex, company: bool) {
        self.change(client, |rows| {
            rows.drop_oldest_of(company);
            rows.trim();
        });
        self.evicted += 1;
    }

    /// Changes the rows of `client`, its ranks and the sums.
    fn change(&mut self, client: ClientIndex, change: impl FnOnce(&mut Packed)) {
        let width = self.width;
        let Some(share) = self.shares.entry(client) else { return };
        let rows = share.get_or_insert_with(|| Box::new(Packed::new(width)));
        let of = |rows: &Packed| (rows.len(), rows.company());
        let (held_before, company_before) = of(rows);
        change(rows);
        let (held, company) = of(rows);
        if held == 0 {
            *share = None;
        }
        self.ranking.set(client, (held > 0).then_some((held - company) as u32));
        if company_before != company {
            self.ranking_of_company.set(client, (company > 0).then_some(company as u32));
        }
        self.held = self.held + held - held_before;
        self.company = self.company + company - company_before;
    }
}

fn replace_oldest(rows: &mut Packed, client: ClientIndex, row: &Scaled) {
    rows.push(client, row);
    rows.drop_oldest();
    rows.trim();
}
