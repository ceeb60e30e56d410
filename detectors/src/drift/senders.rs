//! Where the values of one feature come from: counts by slot for the senders that send most, at one level (address,
//! network, key).

use serde::{Deserialize, Serialize};

use super::space_saving::SpaceSaving;

/// Senders that are followed at one level.
pub const SENDERS: usize = 64;
/// Slots of a sender's counts: those of the feature, put together where there are more.
pub const COARSE: usize = 16;

/// Counts in coarse slots.
pub type Vector = [u32; COARSE];

/// What one level counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Senders {
    slots: usize,
    all: Vector,
    kept: SpaceSaving<Own>,
}

/// What is remembered of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Own {
    /// The sender at the next coarser level that it belongs to.
    pub parent: u64,
    counts: [u16; COARSE],
}

impl Senders {
    /// Nothing yet, of a feature with `slots` slots.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self { slots: slots.max(1), all: [0; COARSE], kept: SpaceSaving::new(SENDERS) }
    }

    /// What a feature with `counts` in its slots counted as a whole, of nobody in particular.
    #[must_use]
    pub fn of_nobody(counts: &[u32]) -> Self {
        let mut senders = Self::new(counts.len());
        for (slot, count) in counts.iter().enumerate() {
            let coarse = senders.coarse(slot);
            if let Some(all) = senders.all.get_mut(coarse) {
                *all = all.saturating_add(*count);
            }
        }
        senders
    }

    /// Neighbouring slots are put together, the last slots of a feature last.
    fn coarse(&self, slot: usize) -> usize {
        if self.slots <= COARSE { slot } else { slot * COARSE / self.slots }
    }

    /// Counts a value that fell into `slot`, sent by `sender`, which belongs to `parent`.
    pub fn add(&mut self, sender: u64, parent: u64, slot: usize) {
        self.add_near(sender, parent, slot, &mut 0);
    }

    /// The same, fast where the sender is followed at `place`, which becomes where it is followed now.
    pub fn add_near(&mut self, sender: u64, parent: u64, slot: usize, place: &mut usize) {
        let coarse = self.coarse(slot);
        if let Some(count) = self.all.get_mut(coarse) {
            *count = count.saturating_add(1);
        }
        let fresh = || Own { parent, counts: [0; COARSE] };
        let Some(entry) = self.kept.add_near(sender, place, fresh) else { return };
        let counts = &mut entry.value.counts;
        // All are compared, eight by one instruction: to stop at the first would take longer.
        if counts.iter().fold(false, |full, count| full | (*count == u16::MAX)) {
            // The shape is what counts, not the number.
            counts.iter_mut().for_each(|count| *count /= 2);
        }
        if let Some(count) = counts.get_mut(coarse) {
            *count += 1;
        }
    }

    /// Counts of everybody.
    #[must_use]
    pub fn all(&self) -> &Vector {
        &self.all
    }

    /// The senders that are followed: who, of whom, and their counts.
    pub fn each(&self) -> impl Iterator<Item = (u64, u64, Vector)> + '_ {
        self.kept
            .entries()
            .iter()
            .map(|entry| (entry.key, entry.value.parent, entry.value.counts.map(u32::from)))
    }

    /// The counts of one sender, if it is followed.
    #[must_use]
    pub fn of(&self, sender: u64) -> Option<Vector> {
        self.each().find(|(other, _, _)| *other == sender).map(|(_, _, counts)| counts)
    }

    /// How often a sender had to give its place to another, ever.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.kept.replaced()
    }

    /// Bytes that it takes, all told.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.kept.bytes()
    }
}

/// The sum of counts.
#[must_use]
pub fn total(counts: &Vector) -> u32 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// `one` without `other`.
#[must_use]
pub fn without(one: &Vector, other: &Vector) -> Vector {
    let mut rest = *one;
    rest.iter_mut().zip(other).for_each(|(count, less)| *count = count.saturating_sub(*less));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_keep_their_shape_and_stay_within_four_kilobytes() {
        let mut senders = Senders::new(21);
        for event in 0..400_000_u64 {
            senders.add(7, 1, 20);
            senders.add(1000 + event, 2, 0);
        }
        let own = senders.of(7).expect("half of the events are its own");
        assert!(own[15] > 30_000 && total(&own) == own[15], "in the last slot: {own:?}");
        assert_eq!((senders.all()[0], senders.all()[15]), (400_000, 400_000));
        assert!(senders.bytes() <= 4096, "{} bytes", senders.bytes());
        assert!(senders.replaced() > 0 && senders.each().count() == SENDERS);
    }
}
