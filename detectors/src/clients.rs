//! The one client table: who was seen lately, each under a small index that every per-client memory uses.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};

use crate::facts::Time;
use crate::identity::Identity;
use crate::places::Places;
use crate::shelf::ClientIndex;

/// Identities and their indexes. Full, it forgets whoever was silent longest and reuses the index.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Clients {
    clients_max: usize,
    known: Vec<Known>,
    evicted: u64,
    places: Places,
    longest_silent: u32,
    latest: u32,
}

/// A client in the order in which clients spoke last.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Known {
    identity: Identity,
    last_time: Time,
    /// Who spoke last before it, and after it; itself at either end.
    before: u32,
    after: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    clients_max: usize,
    known: Vec<Known>,
    evicted: u64,
    longest_silent: u32,
    latest: u32,
}

/// A client's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index.
    pub index: ClientIndex,
    /// Whether the client was not in the table: whatever is remembered under the index belongs to somebody who is
    /// forgotten.
    pub fresh: bool,
}

impl Clients {
    /// An empty table for at most `clients_max` clients, at least one.
    #[must_use]
    pub fn new(clients_max: usize) -> Self {
        Self {
            clients_max: clients_max.max(1),
            known: Vec::new(),
            evicted: 0,
            places: Places::default(),
            longest_silent: 0,
            latest: 0,
        }
    }

    /// Finds or enters `identity` and notes that it just spoke; O(1).
    pub fn touch(&mut self, identity: Identity, time: Time) -> Place {
        let known = self.index_of(identity);
        let index = known.unwrap_or_else(|| self.enter(identity));
        self.move_to_end(index as u32);
        self.known.get_mut(index).into_iter().for_each(|known| known.last_time = time);
        Place { index, fresh: known.is_none() }
    }

    /// The index of a client that is in the table.
    #[must_use]
    pub fn index_of(&self, identity: Identity) -> Option<ClientIndex> {
        self.places.find(hash(identity), |index| self.at(index) == Some(identity))
    }

    /// Who stands at `index`.
    #[must_use]
    pub fn at(&self, index: ClientIndex) -> Option<Identity> {
        self.known.get(index).map(|known| known.identity)
    }

    /// Clients that spoke at or after `since`; walks from the latest on.
    #[must_use]
    pub fn active(&self, since: Time) -> usize {
        let known = |index: u32| self.known.get(index as usize);
        let before = |one: &&Known| known(one.before);
        let latest_first = std::iter::successors(known(self.latest), before).take(self.known.len());
        latest_first.take_while(|known| known.last_time >= since).count()
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

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.known.capacity() * size_of::<Known>() + self.places.bytes()
    }

    /// Takes a free index for a new client, or that of the longest silent; it stands at the end.
    fn enter(&mut self, identity: Identity) -> ClientIndex {
        let index = if self.known.len() < self.clients_max {
            if self.known.len() == self.known.capacity() {
                self.known.reserve_exact(self.known.len() / 8 + 8);
            }
            let index = self.known.len();
            self.known.push(Known { identity, last_time: Time(0), before: self.latest, after: index as u32 });
            self.link(self.latest, |before| before.after = index as u32);
            self.latest = index as u32;
            index
        } else {
            self.evicted += 1;
            let index = self.longest_silent as usize;
            let gone = self.at(index).unwrap_or(identity);
            let known = &self.known;
            self.places.remove(hash(gone), index, |index| hash_at(known, index));
            self.link(index as u32, |known| known.identity = identity);
            index
        };
        let known = &self.known;
        self.places.insert(hash(identity), index, |index| hash_at(known, index));
        index
    }

    fn move_to_end(&mut self, index: u32) {
        let Some(&Known { before, after, .. }) = self.known.get(index as usize) else { return };
        if index == self.latest {
            return;
        }
        if index == self.longest_silent {
            self.longest_silent = after;
            self.link(after, |known| known.before = after);
        } else {
            self.link(before, |known| known.after = after);
            self.link(after, |known| known.before = before);
        }
        let latest = std::mem::replace(&mut self.latest, index);
        self.link(latest, |known| known.after = index);
        self.link(index, |known| (known.before, known.after) = (latest, index));
    }

    fn link(&mut self, index: u32, change: impl FnOnce(&mut Known)) {
        self.known.get_mut(index as usize).map(change);
    }
}

/// Keys are keyed hashes and addresses are few, so a plain hash will do.
fn hash(identity: Identity) -> u64 {
    let mut hasher = FxHasher::default();
    identity.hash(&mut hasher);
    hasher.finish()
}

fn hash_at(known: &[Known], index: usize) -> u64 {
    known.get(index).map_or(0, |known| hash(known.identity))
}

impl From<Stored> for Clients {
    fn from(stored: Stored) -> Self {
        let Stored { clients_max, known, evicted, longest_silent, latest } = stored;
        let mut places = Places::default();
        for (index, one) in known.iter().enumerate() {
            places.insert(hash(one.identity), index, |index| hash_at(&known, index));
        }
        Self { clients_max, known, evicted, places, longest_silent, latest }
    }
}

impl From<Clients> for Stored {
    fn from(clients: Clients) -> Self {
        let Clients { clients_max, known, evicted, longest_silent, latest, .. } = clients;
        Self { clients_max, known, evicted, longest_silent, latest }
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
