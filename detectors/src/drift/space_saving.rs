//! The keys that come most often, in bounded memory (Metwally, Agrawal and El Abbadi, Efficient Computation of Frequent
//! and Top-k Elements in Data Streams, ICDT 2005).

use serde::{Deserialize, Serialize};

/// Up to a fixed number of keys with their counts, and something remembered of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpaceSaving<V> {
    room: usize,
    entries: Vec<Entry<V>>,
    replaced: u64,
}

/// A key that is followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry<V> {
    /// The key.
    pub key: u64,
    /// How often it came, at most `error` too high.
    pub count: u32,
    /// What it took over from the key whose place it has.
    pub error: u32,
    /// What is remembered of it since it has its place.
    pub value: V,
}

impl<V> SpaceSaving<V> {
    /// Follows at most `room` keys.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { room, entries: Vec::new(), replaced: 0 }
    }

    /// Counts a key; `fresh` makes what is remembered of one that was not followed. Nothing comes back where there is
    /// no room for any key.
    pub fn add(&mut self, key: u64, fresh: impl FnOnce() -> V) -> Option<&mut Entry<V>> {
        self.add_near(key, &mut 0, fresh)
    }

    /// The same, fast where the key stands at `place` already. `place` becomes where it stands now.
    pub fn add_near(
        &mut self,
        key: u64,
        place: &mut usize,
        fresh: impl FnOnce() -> V,
    ) -> Option<&mut Entry<V>> {
        let is_there = |entry: &Entry<V>| entry.key == key;
        if !self.entries.get(*place).is_some_and(is_there) {
            *place = self.entries.iter().position(is_there).unwrap_or_else(|| self.make_place(key, fresh));
        }
        let entry = self.entries.get_mut(*place)?;
        entry.count = entry.count.saturating_add(1);
        Some(entry)
    }

    /// Gives a key that was not followed a place. What it takes over from the key before it counts as an error.
    fn make_place(&mut self, key: u64, fresh: impl FnOnce() -> V) -> usize {
        if self.entries.len() < self.room {
            self.entries.push(Entry { key, count: 0, error: 0, value: fresh() });
            return self.entries.len() - 1;
        }
        let rarest = self.entries.iter_mut().enumerate().min_by_key(|(_, entry)| entry.count);
        let Some((place, rarest)) = rarest else { return 0 };
        *rarest = Entry { key, count: rarest.count, error: rarest.count, value: fresh() };
        self.replaced += 1;
        place
    }

    /// Whether a key is followed.
    #[must_use]
    pub fn holds(&self, key: u64) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The keys, in the order in which their places were first taken.
    #[must_use]
    pub fn entries(&self) -> &[Entry<V>] {
        &self.entries
    }

    /// How often a key had to give its place to another, ever.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Bytes of the entries, what their values hold on the heap aside.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<V>>()
    }

    /// Forgets the keys.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_key_is_kept_among_many_rare_ones_and_its_count_is_near() {
        let mut keys = SpaceSaving::new(64);
        for event in 0..10_000_u64 {
            let key = if event % 20 == 0 { 7 } else { 1000 + event };
            let _ = keys.add(key, || ());
        }
        let kept = keys.entries().iter().find(|entry| entry.key == 7).expect("5 % are above one in 64");
        assert!(kept.count - kept.error <= 500 && 500 <= kept.count, "{kept:?}");
        assert!(kept.count <= 500 + 10_000 / 64, "the error is at most one in 64: {kept:?}");
        assert_eq!((keys.entries().len(), keys.holds(7)), (64, true));
        assert!(keys.replaced() > 9000, "what had to go is counted");
    }

    #[test]
    fn wherever_a_key_is_said_to_stand_it_is_counted_the_same() {
        let (mut plain, mut near) = (SpaceSaving::new(8), SpaceSaving::new(8));
        let mut places = [0; 16];
        for event in 0..5000_u64 {
            let key = event * event % 61 % 16;
            let _ = plain.add(key, || event);
            let _ = near.add_near(key, &mut places[key as usize], || event);
        }
        assert_eq!(plain, near);
        assert!(plain.replaced() > 100, "keys changed their places");
    }

    #[test]
    fn without_room_nothing_is_kept() {
        assert!(SpaceSaving::new(0).add(1, || ()).is_none());
    }
}
