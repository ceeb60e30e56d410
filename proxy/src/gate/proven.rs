//! Keys that are known to be identities: whoever brings one is judged by the key and not by the address.

use std::collections::VecDeque;

use dashmap::DashSet;
use parking_lot::Mutex;

/// A bounded set of key hashes; the key that was proven first makes room.
#[derive(Debug)]
pub struct ProvenKeys {
    keys: DashSet<u64, ahash::RandomState>,
    order: Mutex<VecDeque<u64>>,
    keys_max: usize,
}

impl ProvenKeys {
    /// An empty set for at most `keys_max` keys.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self { keys: DashSet::with_hasher(ahash::RandomState::new()), order: Mutex::default(), keys_max }
    }

    /// Remembers a key. Returns how many keys made room.
    pub fn insert(&self, key: u64) -> usize {
        let mut order = self.order.lock();
        if self.keys.insert(key) {
            order.push_back(key);
        }
        let over = order.len().saturating_sub(self.keys_max);
        order.drain(..over).filter_map(|oldest| self.keys.remove(&oldest)).count()
    }

    /// Whether the key is known to be an identity.
    #[must_use]
    pub fn contains(&self, key: u64) -> bool {
        self.keys.contains(&key)
    }

    /// All keys, the one that was proven first in front.
    #[must_use]
    pub fn list(&self) -> Vec<u64> {
        self.order.lock().iter().copied().collect()
    }

    /// Keys remembered now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.order.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_key_makes_room_and_is_counted() {
        let keys = ProvenKeys::new(2);
        assert_eq!([1, 2, 2, 3].map(|key| keys.insert(key)), [0, 0, 0, 1]);
        assert_eq!([1, 2, 3].map(|key| keys.contains(key)), [false, true, true]);
        assert_eq!(keys.count(), 2);
    }
}
