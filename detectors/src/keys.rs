//! Which API keys are identities: those that the upstream verifies, as the operator says or as it was seen to do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::Time;
use crate::identity::{Address, Asker, Identity};
use crate::places::Places;

/// How long a new key counts against its address.
const HOUR: Duration = Duration::from_secs(3600);

/// Shortest time between two sweeps of a full table.
const MINUTE: Duration = Duration::from_secs(60);

/// The keys of one model's clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    new_keys_per_address: u32,
    proven: Proven,
    /// Up to two keys that the upstream refused: proof that it looks at keys, for every other key.
    refused: Vec<u64>,
    /// When each address brought its new keys within the last hour.
    newcomers: BTreeMap<Address, Arrivals>,
    /// When the addresses of more than an hour ago were last forgotten.
    swept: Time,
    turned_away: u64,
}

/// New keys of one address within an hour.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Arrivals {
    since: Time,
    keys: u32,
}

impl Keys {
    /// Nothing proven; remembers at most `keys_max` keys.
    #[must_use]
    pub fn new(keys_max: usize, new_keys_per_address: u32) -> Self {
        Self {
            new_keys_per_address,
            proven: Proven::new(keys_max),
            refused: Vec::new(),
            newcomers: BTreeMap::new(),
            swept: Time(0),
            turned_away: 0,
        }
    }

    /// The asker's key as an identity, where it is one. `newly` takes a key that this call proved.
    pub fn identity(&mut self, asker: &Asker, time: Time, newly: &mut Vec<u64>) -> Option<Identity> {
        let key = asker.key?;
        if asker.keys_verified {
            self.prove(asker.address, key, time, newly);
        }
        self.proven.has(key).then_some(Identity::Key(key))
    }

    /// Learns from the upstream's answer to a key: it is proven once it was accepted and another was refused.
    pub fn answered(&mut self, asker: &Asker, status: u16, time: Time, newly: &mut Vec<u64>) {
        let Some(key) = asker.key else { return };
        match status {
            401 | 403 if self.refused.len() < 2 && !self.refused.contains(&key) => self.refused.push(key),
            200..=299 if self.refused.iter().any(|&refused| refused != key) => {
                self.prove(asker.address, key, time, newly);
            }
            _ => {}
        }
    }

    /// Proofs that were not taken for want of room or of allowance, and proven keys forgotten to make room, ever.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.turned_away
    }

    fn prove(&mut self, address: Address, key: u64, time: Time, newly: &mut Vec<u64>) {
        if self.proven.has(key) {
            return;
        }
        if !self.admits(address, time) {
            self.turned_away += 1;
            return;
        }
        self.turned_away += u64::from(self.proven.add(key));
        newly.push(key);
    }

    /// Counts a new key of `address` and says whether it may still bring one.
    fn admits(&mut self, address: Address, time: Time) -> bool {
        if !self.newcomers.contains_key(&address) && !self.has_room(time) {
            return false;
        }
        let arrivals = self.newcomers.entry(address).or_insert(Arrivals { since: time, keys: 0 });
        if time.since(arrivals.since) >= HOUR {
            *arrivals = Arrivals { since: time, keys: 0 };
        }
        let admitted = arrivals.keys < self.new_keys_per_address;
        arrivals.keys += u32::from(admitted);
        admitted
    }

    /// Bytes held for keys.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.proven.keys.capacity() * size_of::<u64>() + self.proven.places.bytes()
    }

    /// Whether one more address may bring keys. A full table is swept at most once a minute: the sweep is linear.
    fn has_room(&mut self, time: Time) -> bool {
        if self.newcomers.len() >= self.proven.keys_max && time.since(self.swept) >= MINUTE {
            self.swept = time;
            self.newcomers.retain(|_, arrivals| time.since(arrivals.since) < HOUR);
        }
        self.newcomers.len() < self.proven.keys_max
    }
}

/// Keys in the order of their proofs; the oldest is overwritten once there is no room.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
struct Proven {
    keys_max: usize,
    keys: Vec<u64>,
    oldest: usize,
    places: Places,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    keys_max: usize,
    keys: Vec<u64>,
    oldest: usize,
}

impl Proven {
    fn new(keys_max: usize) -> Self {
        Self { keys_max: keys_max.max(1), keys: Vec::new(), oldest: 0, places: Places::default() }
    }

    // Keys are keyed hashes: they need no other.
    fn has(&self, key: u64) -> bool {
        self.places.find(key, |place| self.keys.get(place) == Some(&key)).is_some()
    }

    /// Adds a key that is not there, and says whether another had to go.
    fn add(&mut self, key: u64) -> bool {
        let place = self.oldest;
        let gone = self.keys.get(place).copied().filter(|_| self.keys.len() >= self.keys_max);
        let place = if let Some(gone) = gone {
            let keys = &self.keys;
            self.places.remove(gone, place, |place| key_at(keys, place));
            self.keys.get_mut(place).into_iter().for_each(|known| *known = key);
            self.oldest = (place + 1) % self.keys_max;
            place
        } else {
            if self.keys.len() == self.keys.capacity() {
                self.keys.reserve_exact(self.keys.len() / 8 + 8);
            }
            self.keys.push(key);
            self.keys.len() - 1
        };
        let keys = &self.keys;
        self.places.insert(key, place, |place| key_at(keys, place));
        gone.is_some()
    }
}

fn key_at(keys: &[u64], place: usize) -> u64 {
    keys.get(place).copied().unwrap_or_default()
}

impl From<Stored> for Proven {
    fn from(stored: Stored) -> Self {
        let Stored { keys_max, keys, oldest } = stored;
        let mut places = Places::default();
        for (place, key) in keys.iter().enumerate() {
            places.insert(*key, place, |place| key_at(&keys, place));
        }
        Self { keys_max, keys, oldest, places }
    }
}

impl From<Proven> for Stored {
    fn from(proven: Proven) -> Self {
        let Proven { keys_max, keys, oldest, .. } = proven;
        Self { keys_max, keys, oldest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Standing;

    fn asker(key: u64, keys_verified: bool) -> Asker {
        let address = Address::of("198.51.100.1".parse().unwrap());
        Asker { address, standing: Standing::Assumed, key: Some(key), keys_verified }
    }

    fn identity(keys: &mut Keys, key: u64, verified: bool) -> Option<Identity> {
        keys.identity(&asker(key, verified), Time(0), &mut Vec::new())
    }

    #[test]
    fn the_operators_word_proves_a_key() {
        let mut keys = Keys::new(10, 5);
        let mut newly = Vec::new();
        for _ in 0..2 {
            assert_eq!(keys.identity(&asker(1, true), Time(0), &mut newly), Some(Identity::Key(1)));
        }
        assert_eq!(newly, [1], "a proof is told once");
    }

    #[test]
    fn a_key_is_proven_by_its_own_acceptance_and_anothers_refusal() {
        let mut keys = Keys::new(10, 5);
        let mut newly = Vec::new();
        keys.answered(&asker(1, false), 200, Time(0), &mut newly);
        assert_eq!(identity(&mut keys, 1, false), None, "an upstream that accepts everything proves nothing");
        keys.answered(&asker(2, false), 401, Time(0), &mut newly);
        keys.answered(&asker(2, false), 200, Time(0), &mut newly);
        assert_eq!(identity(&mut keys, 2, false), None, "a key's own refusal is no proof");
        keys.answered(&asker(1, false), 200, Time(0), &mut newly);
        assert_eq!((identity(&mut keys, 1, false), newly), (Some(Identity::Key(1)), vec![1]));
    }

    #[test]
    fn an_address_brings_only_so_many_new_keys_an_hour() {
        let mut keys = Keys::new(100, 3);
        let known = |keys: &mut Keys, range: std::ops::Range<u64>, time| {
            let mut newly = Vec::new();
            range.filter(|&key| keys.identity(&asker(key, true), time, &mut newly).is_some()).count()
        };
        assert_eq!(known(&mut keys, 0..10, Time(0)), 3);
        assert_eq!(known(&mut keys, 0..10, Time(1)), 3, "known keys stay identities");
        assert_eq!(known(&mut keys, 10..20, Time(0).plus(HOUR)), 3);
    }

    #[test]
    fn the_oldest_proof_goes_first() {
        let mut keys = Keys::new(2, 10);
        for key in 1..=3 {
            identity(&mut keys, key, true);
        }
        let known = |keys: &Keys| (1..=4).filter(|key| keys.proven.has(*key)).collect::<Vec<u64>>();
        assert_eq!((known(&keys), keys.turned_away()), (vec![2, 3], 1));
        let mut restored: Keys = postcard::from_bytes(&postcard::to_stdvec(&keys).unwrap()).unwrap();
        identity(&mut restored, 4, true);
        assert_eq!(known(&restored), [3, 4]);
    }
}
