//! No client speaks for everybody: of the rows that are counted, a client's are at most a share.
//!
//! The memory is the senders of the last [`ROWS`] rows that came, counted or not. A client's row is counted while its
//! counted ones among them stay within its share of all counted ones. Where there are too few clients to fill the whole
//! with such shares, each may have what would be left of it if one of them were silent: a model with one client or two
//! is watched whole. Bounded, and the same for the same rows.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// Rows that are looked back upon.
pub const ROWS: usize = 256;

/// Who sent the latest rows, and which of them were counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "VecDeque<(Identity, bool)>", into = "VecDeque<(Identity, bool)>")]
pub struct Shares {
    rows: VecDeque<(Identity, bool)>,
    clients: FxHashMap<Identity, Rows>,
    counted: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    came: u32,
    counted: u32,
}

impl Shares {
    /// Takes a row of `client` and says whether it is counted. `share` lies above 0 and at most at 1.
    pub fn admit(&mut self, client: Identity, share: f64) -> bool {
        if self.rows.len() >= ROWS
            && let Some((oldest, counted)) = self.rows.pop_front()
        {
            self.leave(oldest, counted);
        }
        let own = self.clients.entry(client).or_default();
        own.came += 1;
        let own = own.counted;
        let others = self.clients.len().saturating_sub(1).max(1);
        let share = share.max(1.0 / others as f64).min(1.0);
        // One more than its share, so that a beginning is possible.
        let counts = f64::from(own) < share * f64::from(self.counted + 1) + 1.0;
        if let Some(own) = self.clients.get_mut(&client).filter(|_| counts) {
            own.counted += 1;
            self.counted += 1;
        }
        self.rows.push_back((client, counts));
        counts
    }

    /// Whether more than half of the counted rows are of `client`: it is the traffic.
    #[must_use]
    pub fn is_most(&self, client: Identity) -> bool {
        self.clients.get(&client).is_some_and(|own| 2 * own.counted > self.counted)
    }

    fn leave(&mut self, client: Identity, counted: bool) {
        self.counted = self.counted.saturating_sub(u32::from(counted));
        let Some(own) = self.clients.get_mut(&client) else { return };
        own.came = own.came.saturating_sub(1);
        own.counted = own.counted.saturating_sub(u32::from(counted));
        if own.came == 0 {
            self.clients.remove(&client);
        }
    }
}

impl From<VecDeque<(Identity, bool)>> for Shares {
    fn from(rows: VecDeque<(Identity, bool)>) -> Self {
        let mut clients: FxHashMap<Identity, Rows> = FxHashMap::default();
        for (client, counted) in &rows {
            let own = clients.entry(*client).or_default();
            own.came += 1;
            own.counted += u32::from(*counted);
        }
        let counted = clients.values().map(|own| own.counted).sum();
        Self { rows, clients, counted }
    }
}

impl From<Shares> for VecDeque<(Identity, bool)> {
    fn from(shares: Shares) -> Self {
        shares.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of each client that are counted among 10,000 that come from `sender`.
    fn counted(sender: impl Fn(u64) -> u64, share: f64) -> FxHashMap<u64, u32> {
        let mut shares = Shares::default();
        let mut counted = FxHashMap::default();
        for row in 0..10_000 {
            let client = sender(row);
            *counted.entry(client).or_default() += u32::from(shares.admit(Identity::Key(client), share));
        }
        assert!(shares.rows.len() <= ROWS && shares.clients.len() <= ROWS, "bounded");
        counted
    }

    #[test]
    fn a_flood_counts_for_a_quarter_and_everybody_else_whole() {
        let rows = counted(|row| if row % 10 == 0 { 1 + row / 10 % 20 } else { 0 }, 0.25);
        let others: u32 = rows.iter().filter(|(client, _)| **client > 0).map(|(_, rows)| rows).sum();
        assert_eq!(others, 1000, "nobody else loses a row");
        assert!((300..=500).contains(&rows[&0]), "{} of 9,000 rows of the flood", rows[&0]);
    }

    #[test]
    fn few_clients_are_watched_whole_and_equals_lose_nothing() {
        assert_eq!(counted(|_| 7, 0.25)[&7], 10_000, "one alone");
        assert_eq!(counted(|row| u64::from(row % 10 == 0), 0.25)[&0], 9000, "one of two");
        let rows = counted(|row| ((row * 0x9e37_79b9) >> 16) % 5, 0.25);
        assert!(rows.values().sum::<u32>() >= 9900, "five clients: {rows:?}");
    }

    #[test]
    fn what_is_read_back_goes_on_the_same() {
        let mut whole = Shares::default();
        let mut sender = (0..2000_u64).map(|row| Identity::Key(row * row % 7));
        sender.by_ref().take(1000).for_each(|client| {
            let _ = whole.admit(client, 0.25);
        });
        let mut read: Shares = postcard::from_bytes(&postcard::to_stdvec(&whole).unwrap()).unwrap();
        for client in sender {
            assert_eq!(whole.admit(client, 0.25), read.admit(client, 0.25));
        }
    }
}
