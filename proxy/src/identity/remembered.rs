//! Tokens that were verified: a token costs one check of its signature, however often it is shown.

use std::collections::VecDeque;

use dashmap::DashMap;
use parking_lot::Mutex;

/// What is known of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verified {
    /// Whom it names, as a keyed hash.
    pub client: u64,
    /// When it expires, as Unix seconds.
    pub expires: f64,
    /// The reading of the issuer's keys that it was verified with.
    pub reading: u64,
}

/// A bounded memory by keyed hashes of 128 bits, so that nobody finds another token with the hash of one in it. The token
/// that was verified first makes room.
#[derive(Debug)]
pub struct Remembered {
    tokens: DashMap<u128, Verified, ahash::RandomState>,
    order: Mutex<VecDeque<u128>>,
    tokens_max: usize,
}

impl Remembered {
    /// Remembers nothing yet, and at most `tokens_max` tokens.
    pub fn new(tokens_max: usize) -> Self {
        Self {
            tokens: DashMap::with_hasher(ahash::RandomState::new()),
            order: Mutex::default(),
            tokens_max: tokens_max.max(1),
        }
    }

    /// Whether it is as large as it is to be now.
    pub fn has_room_for(&self, tokens_max: usize) -> bool {
        self.tokens_max == tokens_max.max(1)
    }

    /// What is known of the token with this hash, from the reading of keys that is in force.
    pub fn find(&self, token: u128, reading: u64) -> Option<Verified> {
        self.tokens.get(&token).map(|known| *known).filter(|known| known.reading == reading)
    }

    /// Remembers a token. Returns how many tokens made room.
    pub fn insert(&self, token: u128, verified: Verified) -> usize {
        let mut order = self.order.lock();
        if self.tokens.insert(token, verified).is_none() {
            order.push_back(token);
        }
        let over = order.len().saturating_sub(self.tokens_max);
        order.drain(..over).filter_map(|oldest| self.tokens.remove(&oldest)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_token_makes_room_and_is_counted() {
        let verified = |client| Verified { client, expires: 9.0, reading: 1 };
        let tokens = Remembered::new(2);
        assert_eq!([1, 2, 2, 3].map(|token| tokens.insert(token.into(), verified(token))), [0, 0, 0, 1]);
        assert_eq!([1, 2, 3].map(|token| tokens.find(token, 1).is_some()), [false, true, true]);
        assert_eq!(tokens.find(2, 2), None, "other keys are in force");
    }
}
