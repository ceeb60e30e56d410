//! A table from hashes to places in some other memory, of four or eight bytes a place and nothing else.
//!
//! The other memory knows what stands at a place, so keys are not kept here twice. With one word to a slot a table is
//! smallest; with two, the second keeps half of the hash, so that the other memory is asked only where it matches: for
//! memories that no cache holds. Open addressing with linear probing; what is taken out leaves no trace, since those
//! behind it move up. Tables are at most three quarters full, those for large memories at most half: they are looked into
//! more than grown, and as memories hold a power of two at most, or a little less, they end as large either way.

/// Places are told by one more than they are, so that memory which the system gives out zeroed is free as it comes.
const FREE: u32 = 0;
const SLOTS_MIN: usize = 8;
/// Quarters of the slots that are taken at most, with one word to a slot and with two.
const QUARTERS_MAX: [usize; 2] = [3, 2];

/// Places by hash. Hashes must be keyed or mixed: whoever chooses them chooses the cost.
#[derive(Clone, Debug, Default)]
pub struct Places<const WORDS: usize = 1> {
    /// The place, and with two words half of its hash.
    slots: Vec<[u32; WORDS]>,
    held: usize,
}

impl<const WORDS: usize> Places<WORDS> {
    /// The place of which `is_it` holds, among those that were entered under `hash`, and perhaps a few others.
    #[must_use]
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.home(hash);
        loop {
            let known = self.at(slot)?;
            let place = place_of(known);
            if known.get(1).is_none_or(|half| *half == hash as u32) && is_it(place) {
                return Some(place);
            }
            slot = self.after(slot);
        }
    }

    /// Enters a place under `hash`; it must not be there yet. `hash_of` gives the hash of a place that was entered.
    pub fn insert(&mut self, hash: u64, place: usize, hash_of: impl Fn(usize) -> u64) {
        let [one_word, two_words] = QUARTERS_MAX;
        if (self.held + 1) * 4 > self.slots.len() * if WORDS == 1 { one_word } else { two_words } {
            self.grow(hash_of);
        }
        // Memories are far smaller than what four bytes can tell.
        let mut known = [hash as u32; WORDS];
        known.first_mut().into_iter().for_each(|word| *word = place as u32 + 1);
        self.put(known, hash);
        self.held += 1;
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, hash_of: impl Fn(usize) -> u64) {
        let grown = vec![[FREE; WORDS]; (self.slots.len() * 2).max(SLOTS_MIN)];
        let before = std::mem::replace(&mut self.slots, grown);
        before
            .iter()
            .filter(|known| is_taken(known))
            .for_each(|known| self.put(*known, hash_at(known, &hash_of)));
    }

    /// Takes out a place that was entered under `hash`.
    pub fn remove(&mut self, hash: u64, place: usize, hash_of: impl Fn(usize) -> u64) {
        if self.slots.is_empty() {
            return;
        }
        let mut gap = self.home(hash);
        while let Some(known) = self.at(gap) {
            if place_of(known) == place {
                self.held -= 1;
                return self.close(gap, hash_of);
            }
            gap = self.after(gap);
        }
    }

    /// Moves what stands behind a gap up to it where that lies between its home and where it is.
    fn close(&mut self, mut gap: usize, hash_of: impl Fn(usize) -> u64) {
        let mut slot = self.after(gap);
        while let Some(&known) = self.at(slot) {
            let home = self.home(hash_at(&known, &hash_of));
            if self.distance(home, slot) >= self.distance(gap, slot) {
                self.set(gap, known);
                gap = slot;
            }
            slot = self.after(slot);
        }
        self.set(gap, [FREE; WORDS]);
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<[u32; WORDS]>()
    }

    fn put(&mut self, known: [u32; WORDS], hash: u64) {
        let mut slot = self.home(hash);
        while let Some(taken) = self.slots.get_mut(slot) {
            if !is_taken(taken) {
                *taken = known;
                return;
            }
            slot = self.after(slot);
        }
    }

    fn at(&self, slot: usize) -> Option<&[u32; WORDS]> {
        self.slots.get(slot).filter(|known| is_taken(known))
    }

    fn set(&mut self, slot: usize, known: [u32; WORDS]) {
        self.slots.get_mut(slot).into_iter().for_each(|slot| *slot = known);
    }

    /// The number of slots is a power of two, so masking keeps to them; half of a hash tells more of them than there
    /// are.
    fn home(&self, hash: u64) -> usize {
        hash as u32 as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }
}

fn is_taken<const WORDS: usize>(known: &[u32; WORDS]) -> bool {
    known.first().is_some_and(|place| *place != FREE)
}

fn place_of<const WORDS: usize>(known: &[u32; WORDS]) -> usize {
    known.first().map_or(0, |place| (*place - 1) as usize)
}

/// The hash that a place was entered under, or the half of it that homes are found by.
fn hash_at<const WORDS: usize>(known: &[u32; WORDS], hash_of: impl Fn(usize) -> u64) -> u64 {
    known.get(1).map_or_else(|| hash_of(place_of(known)), |half| u64::from(*half))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;

    use super::*;

    /// Enters places that are not there and takes out those that are; after each step everything is found.
    fn play<const WORDS: usize>(steps: &[(usize, u64)]) -> Result<(), TestCaseError> {
        let mut places: Places<WORDS> = Places::default();
        let mut known = std::collections::BTreeMap::new();
        for &(place, hash) in steps {
            let hashes = known.clone();
            match known.remove(&place) {
                Some(before) => places.remove(before, place, |place| hashes[&place]),
                None => {
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
        Ok(())
    }

    proptest! {
        /// Few different hashes, so that they crowd and wrap around.
        #[test]
        fn what_was_entered_is_found_until_it_is_taken_out(
            steps in prop::collection::vec((0..40_usize, 0..12_u64), 0..200),
        ) {
            play::<1>(&steps)?;
            play::<2>(&steps)?;
        }
    }
}
