//! A table from hashes to places in some other memory, of four bytes a place and nothing else.
//!
//! The other memory knows what stands at a place, so neither keys nor hashes are kept here twice. Open addressing with
//! linear probing, at most three quarters full; what is taken out leaves no trace, since those behind it move up.

const FREE: u32 = u32::MAX;
const SLOTS_MIN: usize = 8;

/// Places by hash. Hashes must be keyed or mixed: whoever chooses them chooses the cost.
#[derive(Clone, Debug, Default)]
pub struct Places {
    slots: Vec<u32>,
    held: usize,
}

impl Places {
    /// The place of which `is_it` holds, among those that were entered under `hash`, and perhaps a few others.
    #[must_use]
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.home(hash);
        loop {
            let place = self.at(slot)?;
            if is_it(place) {
                return Some(place);
            }
            slot = self.after(slot);
        }
    }

    /// Enters a place under `hash`; it must not be there yet. `hash_of` gives the hash of a place that was entered.
    pub fn insert(&mut self, hash: u64, place: usize, hash_of: impl Fn(usize) -> u64) {
        if (self.held + 1) * 4 > self.slots.len() * 3 {
            let grown = vec![FREE; (self.slots.len() * 2).max(SLOTS_MIN)];
            let before = std::mem::replace(&mut self.slots, grown);
            for place in before.into_iter().filter(|place| *place != FREE) {
                self.put(hash_of(place as usize), place);
            }
        }
        // Memories are far smaller than what four bytes can tell.
        self.put(hash, u32::try_from(place).unwrap_or(FREE));
        self.held += 1;
    }

    /// Takes out a place that was entered under `hash`.
    pub fn remove(&mut self, hash: u64, place: usize, hash_of: impl Fn(usize) -> u64) {
        if self.slots.is_empty() {
            return;
        }
        let mut gap = self.home(hash);
        while self.at(gap) != Some(place) {
            if self.at(gap).is_none() {
                return;
            }
            gap = self.after(gap);
        }
        self.held -= 1;
        let mut slot = self.after(gap);
        while let Some(behind) = self.at(slot) {
            let home = self.home(hash_of(behind));
            // It may move up to the gap if that lies between its home and where it is.
            if self.distance(home, slot) >= self.distance(gap, slot) {
                self.set(gap, behind as u32);
                gap = slot;
            }
            slot = self.after(slot);
        }
        self.set(gap, FREE);
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    fn put(&mut self, hash: u64, place: u32) {
        let mut slot = self.home(hash);
        while self.at(slot).is_some() {
            slot = self.after(slot);
        }
        self.set(slot, place);
    }

    fn at(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot).filter(|place| **place != FREE).map(|place| *place as usize)
    }

    fn set(&mut self, slot: usize, place: u32) {
        self.slots.get_mut(slot).into_iter().for_each(|known| *known = place);
    }

    /// The number of slots is a power of two, so masking keeps to them.
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few different hashes, so that they crowd and wrap around.
        #[test]
        fn what_was_entered_is_found_until_it_is_taken_out(
            steps in prop::collection::vec((0..40_usize, 0..12_u64), 0..200),
        ) {
            let mut places = Places::default();
            let mut known = std::collections::BTreeMap::new();
            for (place, hash) in steps {
                match known.remove(&place) {
                    Some(before) => {
                        let hashes = known.clone();
                        places.remove(before, place, |place| hashes[&place]);
                    }
                    None => {
                        let hashes = known.clone();
                        places.insert(hash, place, |place| hashes[&place]);
                        known.insert(place, hash);
                    }
                }
                for place in 0..40 {
                    let found = (0..12).find_map(|hash| places.find(hash, |other| other == place));
                    prop_assert_eq!(found.is_some(), known.contains_key(&place));
                }
                prop_assert_eq!(places.held, known.len());
            }
        }
    }
}
