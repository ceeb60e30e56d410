//! A bounded memory that clients share fairly.
//!
//! When it is full, the client that holds most loses its oldest entry, so that a slow client's few entries outlive
//! any flood from busier ones; and no client ever holds more than its share. Both rules depend on counts alone,
//! hence on nothing but the order of the facts.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// A client's index in the one client table.
pub type ClientIndex = usize;

/// Entries under 64-bit keys, each owned by one client. A key belongs to one client only: it is hashed with the
/// client's own salt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored<V>", into = "Stored<V>", bound(serialize = "V: Clone + Serialize"))]
pub struct Shelf<V> {
    bounds: Bounds,
    shares: Vec<Share<V>>,
    held: usize,
    births: u64,
    evicted: u64,
    /// Position of each key within its client's share, counted from the first entry that the share ever had.
    positions: FxHashMap<u64, u64>,
    /// Who loses next among all but the writer: the last element.
    ranking: BTreeSet<Rank>,
    /// Who wrote last, kept out of the ranking: a row's entries are written one after the other, and its client's
    /// rank changes with each.
    writer: Option<ClientIndex>,
}

/// How much may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Entries of all clients together.
    pub entries: usize,
    /// Entries of one client.
    pub entries_per_client: usize,
}

impl Bounds {
    /// `entries` altogether, of which one client may hold an eighth.
    #[must_use]
    pub fn shared(entries: usize) -> Self {
        Self { entries, entries_per_client: (entries / 8).max(1) }
    }
}

/// Orders clients by what they hold; among equals the one with the oldest entry stands last.
type Rank = (usize, Reverse<u64>, ClientIndex);

/// One client's entries, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Share<V> {
    first_position: u64,
    entries: VecDeque<Entry<V>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry<V> {
    key: u64,
    born: u64,
    value: V,
}

/// What is written down of a shelf: the rest follows from it.
#[derive(Serialize, Deserialize)]
struct Stored<V> {
    bounds: Bounds,
    shares: Vec<Share<V>>,
    births: u64,
    evicted: u64,
}

impl<V> Default for Share<V> {
    fn default() -> Self {
        Self { first_position: 0, entries: VecDeque::new() }
    }
}

impl<V> Share<V> {
    fn rank(&self, client: ClientIndex) -> Option<Rank> {
        self.entries.front().map(|oldest| (self.entries.len(), Reverse(oldest.born), client))
    }

    fn index_of(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.first_position)?).ok()
    }

    /// Gives memory back once most of it is unused: otherwise every client could pin a full share of it.
    fn trim(&mut self) {
        if self.entries.capacity() > 16 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

impl<V> Shelf<V> {
    /// An empty shelf.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            shares: Vec::new(),
            held: 0,
            births: 0,
            evicted: 0,
            positions: FxHashMap::default(),
            ranking: BTreeSet::new(),
            writer: None,
        }
    }

    /// Entries held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Entries dropped to make room, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The client's entries, oldest first.
    pub fn of(&self, client: ClientIndex) -> impl Iterator<Item = &V> {
        self.shares.get(client).into_iter().flat_map(|share| &share.entries).map(|entry| &entry.value)
    }

    /// The client's entry under `key`.
    #[must_use]
    pub fn get(&self, client: ClientIndex, key: u64) -> Option<&V> {
        let share = self.shares.get(client)?;
        let index = share.index_of(*self.positions.get(&key)?)?;
        share.entries.get(index).filter(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The client's entry under `key`, to be changed.
    pub fn get_mut(&mut self, client: ClientIndex, key: u64) -> Option<&mut V> {
        let share = self.shares.get_mut(client)?;
        let index = share.index_of(*self.positions.get(&key)?)?;
        share.entries.get_mut(index).filter(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    /// Puts an entry under a key that the client does not hold yet; O(log clients), and O(1) where the client wrote
    /// last and nobody else has to make room.
    pub fn insert(&mut self, client: ClientIndex, key: u64, value: V) {
        if self.shares.len() <= client {
            self.shares.resize_with(client + 1, Share::default);
        }
        self.hand_pen_to(client);
        self.make_room(client);
        let Some(share) = self.shares.get_mut(client) else { return };
        let position = share.first_position + share.entries.len() as u64;
        share.entries.push_back(Entry { key, born: self.births, value });
        self.positions.insert(key, position);
        self.births += 1;
        self.held += 1;
    }

    /// Forgets everything of one client.
    pub fn forget(&mut self, client: ClientIndex) {
        while self.drop_oldest(client) {}
        if let Some(share) = self.shares.get_mut(client) {
            *share = Share::default();
        }
    }

    fn make_room(&mut self, client: ClientIndex) {
        let own = self.shares.get(client).map_or(0, |share| share.entries.len());
        let loser = if own >= self.bounds.entries_per_client {
            Some(client)
        } else if self.held >= self.bounds.entries {
            self.rank(client).max(self.ranking.last().copied()).map(|(_, _, loser)| loser)
        } else {
            None
        };
        if loser.is_some_and(|loser| self.drop_oldest(loser)) {
            self.evicted += 1;
        }
    }

    fn drop_oldest(&mut self, client: ClientIndex) -> bool {
        let before = self.rank(client);
        let Some(share) = self.shares.get_mut(client) else { return false };
        let Some(oldest) = share.entries.pop_front() else { return false };
        share.first_position += 1;
        share.trim();
        self.positions.remove(&oldest.key);
        self.held -= 1;
        if self.writer != Some(client) {
            before.and_then(|rank| self.ranking.take(&rank));
            self.ranking.extend(self.rank(client));
        }
        true
    }

    /// Ranks the writer before and takes the one to come out of the ranking.
    fn hand_pen_to(&mut self, client: ClientIndex) {
        if self.writer == Some(client) {
            return;
        }
        self.ranking.extend(self.writer.and_then(|before| self.rank(before)));
        self.rank(client).and_then(|rank| self.ranking.take(&rank));
        self.writer = Some(client);
    }

    fn rank(&self, client: ClientIndex) -> Option<Rank> {
        self.shares.get(client)?.rank(client)
    }
}

impl<V> From<Stored<V>> for Shelf<V> {
    fn from(stored: Stored<V>) -> Self {
        let mut shelf = Self::new(stored.bounds);
        for (client, share) in stored.shares.iter().enumerate() {
            shelf.ranking.extend(share.rank(client));
            shelf.held += share.entries.len();
            let positions = share.first_position..;
            shelf.positions.extend(share.entries.iter().map(|entry| entry.key).zip(positions));
        }
        Self { shares: stored.shares, births: stored.births, evicted: stored.evicted, ..shelf }
    }
}

impl<V> From<Shelf<V>> for Stored<V> {
    fn from(shelf: Shelf<V>) -> Self {
        Self { bounds: shelf.bounds, shares: shelf.shares, births: shelf.births, evicted: shelf.evicted }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shelf() -> Shelf<u64> {
        Shelf::new(Bounds { entries: 8, entries_per_client: 4 })
    }

    #[test]
    fn a_quiet_clients_entry_outlives_a_flood() {
        let mut shelf = shelf();
        shelf.insert(0, 1, 10);
        for key in 100..1000 {
            shelf.insert(1 + (key % 3) as usize, key, key);
        }
        assert_eq!(shelf.get(0, 1), Some(&10), "three busy clients must not push out a quiet one");
        assert_eq!(shelf.len(), 8);
    }

    #[test]
    fn no_client_holds_more_than_its_share() {
        let mut shelf = shelf();
        for key in 0..5 {
            shelf.insert(0, key, key);
        }
        assert_eq!(shelf.get(0, 0), None, "the oldest goes first");
        assert_eq!((shelf.len(), shelf.evicted()), (4, 1));
    }

    #[test]
    fn a_key_is_found_by_its_owner_only() {
        let mut shelf = shelf();
        shelf.insert(0, 7, 70);
        shelf.insert(1, 8, 80);
        assert_eq!(shelf.get(1, 7), None);
        assert_eq!(shelf.get(0, 8), None);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_a_stored_shelf_goes_on_alike(
            before in prop::collection::vec((0..6_usize, any::<u64>()), 0..60),
            after in prop::collection::vec((0..6_usize, any::<u64>(), prop::bool::weighted(0.1)), 0..60),
        ) {
            let mut live = shelf();
            for (client, key) in before {
                live.insert(client, key, key);
            }
            let bytes = postcard::to_stdvec(&live).unwrap();
            let mut restored: Shelf<u64> = postcard::from_bytes(&bytes).unwrap();
            for (client, key, forget) in after {
                for shelf in [&mut live, &mut restored] {
                    if forget { shelf.forget(client) } else { shelf.insert(client, key, key) }
                    prop_assert!(shelf.len() <= 8);
                    prop_assert_eq!(shelf.len(), shelf.shares.iter().map(|share| share.entries.len()).sum::<usize>());
                }
                prop_assert_eq!(live.get(client, key), restored.get(client, key));
            }
            prop_assert_eq!(postcard::to_stdvec(&live).unwrap(), postcard::to_stdvec(&restored).unwrap());
        }
    }
}
