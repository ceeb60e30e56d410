//! The one client table: who was seen lately, each under a small index that every per-client memory uses.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::facts::Time;
use crate::identity::Identity;
use crate::shelf::ClientIndex;

/// Identities and their indexes. Full, it forgets whoever was silent longest and reuses the index.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Clients {
    clients_max: usize,
    known: Vec<Known>,
    turn: u64,
    evicted: u64,
    indexes: FxHashMap<Identity, ClientIndex>,
    /// Turn of the last request -> index: the first is the longest silent.
    by_silence: BTreeMap<u64, ClientIndex>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Known {
    identity: Identity,
    last_turn: u64,
    last_time: Time,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    clients_max: usize,
    known: Vec<Known>,
    turn: u64,
    evicted: u64,
}

/// Where a client stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index.
    pub index: ClientIndex,
    /// Whether the index is fresh: whatever was kept under it belongs to somebody who is forgotten.
    pub fresh: bool,
}

impl Clients {
    /// An empty table for at most `clients_max` clients, at least one.
    #[must_use]
    pub fn new(clients_max: usize) -> Self {
        Self {
            clients_max: clients_max.max(1),
            known: Vec::new(),
            turn: 0,
            evicted: 0,
            indexes: FxHashMap::default(),
            by_silence: BTreeMap::new(),
        }
    }

    /// Finds or enters `identity` and notes that it just spoke; O(log clients).
    pub fn touch(&mut self, identity: Identity, time: Time) -> Place {
        self.turn += 1;
        let known = self.indexes.get(&identity).copied();
        let index = known.unwrap_or_else(|| self.free_index());
        let entry = Known { identity, last_turn: self.turn, last_time: time };
        match self.known.get_mut(index) {
            Some(old) => {
                self.by_silence.remove(&old.last_turn);
                *old = entry;
            }
            None => self.known.push(entry),
        }
        self.by_silence.insert(self.turn, index);
        if known.is_none() {
            self.indexes.insert(identity, index);
        }
        Place { index, fresh: known.is_none() }
    }

    /// The index of a client that is in the table.
    #[must_use]
    pub fn index_of(&self, identity: Identity) -> Option<ClientIndex> {
        self.indexes.get(&identity).copied()
    }

    /// Who stands at `index`.
    #[must_use]
    pub fn at(&self, index: ClientIndex) -> Option<Identity> {
        self.known.get(index).map(|known| known.identity)
    }

    /// Clients that spoke at or after `since`; walks from the latest on.
    #[must_use]
    pub fn active(&self, since: Time) -> usize {
        let latest_first = self.by_silence.values().rev();
        latest_first
            .map_while(|&index| self.known.get(index))
            .take_while(|known| known.last_time >= since)
            .count()
    }

    /// Clients remembered now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Clients forgotten to make room, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn free_index(&mut self) -> ClientIndex {
        if self.known.len() < self.clients_max {
            return self.known.len();
        }
        let longest_silent = self.by_silence.first_key_value().map_or(0, |(_, &index)| index);
        if let Some(identity) = self.at(longest_silent) {
            self.indexes.remove(&identity);
            self.evicted += 1;
        }
        longest_silent
    }
}

impl From<Stored> for Clients {
    fn from(stored: Stored) -> Self {
        let indexes = stored.known.iter().enumerate().map(|(index, known)| (known.identity, index)).collect();
        let by_silence =
            stored.known.iter().enumerate().map(|(index, known)| (known.last_turn, index)).collect();
        let Stored { clients_max, known, turn, evicted } = stored;
        Self { clients_max, known, turn, evicted, indexes, by_silence }
    }
}

impl From<Clients> for Stored {
    fn from(clients: Clients) -> Self {
        let Clients { clients_max, known, turn, evicted, .. } = clients;
        Self { clients_max, known, turn, evicted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_is_forgotten_first() {
        let mut clients = Clients::new(2);
        let touch = |clients: &mut Clients, key, time| clients.touch(Identity::Key(key), Time(time));
        assert_eq!(touch(&mut clients, 1, 10), Place { index: 0, fresh: true });
        assert_eq!(touch(&mut clients, 2, 20), Place { index: 1, fresh: true });
        assert_eq!(touch(&mut clients, 1, 30), Place { index: 0, fresh: false });
        assert_eq!(touch(&mut clients, 3, 40), Place { index: 1, fresh: true }, "2 was silent longest");
        assert_eq!(clients.index_of(Identity::Key(2)), None);
        assert_eq!((clients.len(), clients.evicted()), (2, 1));
        assert_eq!(clients.active(Time(35)), 1);
    }

    #[test]
    fn a_stored_table_goes_on_alike() {
        let mut live = Clients::new(5);
        for turn in 0..40_u64 {
            live.touch(Identity::Key(turn * turn % 11), Time(turn));
        }
        let mut restored: Clients = postcard::from_bytes(&postcard::to_stdvec(&live).unwrap()).unwrap();
        for turn in 40..90_u64 {
            let identity = Identity::Key(turn * 3 % 13);
            assert_eq!(live.touch(identity, Time(turn)), restored.touch(identity, Time(turn)), "turn {turn}");
        }
    }
}
