//! What a room remembers, over a restart: bytes with a version.
//!
//! A watch goes on under exactly the reference that it began with, which its checksum tells: one that was exchanged or
//! removed while nothing ran leaves a room that begins afresh. A model that no configuration names has its learned reference
//! nowhere else, so that it can be in the bytes. Questions that were open are gone, for nobody answers them any more.

use super::{Counts, Frozen, Pending, Room, Watched};
use crate::drift::latest::Latest;
use crate::drift::learner::Learner;
use crate::drift::reference::DriftReference;
use crate::drift::rolling::Rolling;
use crate::drift::rules::Held;
use crate::drift::shares::Shares;
use crate::drift::watch::Watch;
use crate::facts::Time;
use crate::reference::Trust;

/// The version of the form that [`Room::save`] writes.
pub const VERSION: u16 = 4;

/// A room's form: version, what is watched, the warm-up, the shares, and what was counted.
type Form<W, L, S> = (u16, Option<W>, L, S, Counts);
/// What is watched: the reference's checksum and, if they are in it, its bytes; the watch, the latest rows, since when, and
/// what waits to be told, how long rules have held, and the rolling reference.
type WatchedForm<W, L, P, H, R> = (u64, Option<Vec<u8>>, W, L, Option<Time>, Option<P>, H, R);

/// How far a room has come: another one, and there is something to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    rows: u64,
    learned: usize,
    counts: Counts,
}

/// Why a room does not go on with what was saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// Another version saved it.
    #[error("what was remembered of drift has version {0}, this program reads {VERSION}")]
    Version(u16),
    /// The reference is another one by now.
    #[error("the reference of drift is another one than when this was remembered")]
    OtherReference,
    /// The bytes do not read.
    #[error("what was remembered of drift cannot be read: {0}")]
    Damaged(#[from] postcard::Error),
}

impl Room {
    /// All that is remembered, a learned reference included where that is asked for. O(features), some 10 KiB for each.
    #[must_use]
    pub fn save(&self, with_learned_reference: bool) -> Vec<u8> {
        let memory = &self.memory;
        let watched = memory.watched.as_ref().map(
            |Watched { frozen, watch, latest, rolling, since, pending, rules }| {
                let is_wanted = with_learned_reference && frozen.trust == Trust::Provisional;
                let bytes = is_wanted.then(|| frozen.reference.to_bytes());
                (self.checksum, bytes, watch, latest, *since, pending.as_ref(), rules, rolling)
            },
        );
        let form: Form<WatchedForm<&Watch, &Latest, &Pending, &Held, &Rolling>, &Learner, &Shares> =
            (VERSION, watched, &memory.learner, &memory.shares, memory.counts);
        // Plain data of this crate's own types always serialises into memory.
        postcard::to_stdvec(&form).unwrap_or_default()
    }

    /// Goes on where [`Room::save`] stopped.
    ///
    /// # Errors
    /// Refuses another version, another reference, and bytes that are none of its own; the room is as it was, but for a
    /// learned reference that it takes where it had none.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), SavedError> {
        let (version, _) = postcard::take_from_bytes::<u16>(bytes)?;
        if version != VERSION {
            return Err(SavedError::Version(version));
        }
        let (_, saved, learner, shares, counts): Form<
            WatchedForm<Watch, Latest, Pending, Held, Rolling>,
            Learner,
            Shares,
        > = postcard::from_bytes(bytes)?;
        if let Some((_, Some(bytes), ..)) = &saved
            && self.memory.watched.is_none()
        {
            let reference = DriftReference::from_bytes(bytes).map_err(|_| SavedError::OtherReference)?;
            self.freeze(Frozen { trust: Trust::Provisional, reference });
        }
        let settings = self.watch_settings();
        match (&mut self.memory.watched, saved) {
            (Some(watched), Some((checksum, _, mut watch, latest, since, pending, rules, rolling)))
                if checksum == self.checksum
                    && watch.features().len() == watched.frozen.reference.features().len() =>
            {
                watch.adopt(settings);
                (watched.watch, watched.latest, watched.rolling) = (watch, latest, rolling);
                (watched.since, watched.pending, watched.rules) = (since, pending, rules);
                watched.rules.adopt(&self.settings.rules);
            }
            (None, None) => {}
            _ => return Err(SavedError::OtherReference),
        }
        (self.memory.learner, self.memory.shares, self.memory.counts) = (learner, shares, counts);
        self.rename();
        Ok(())
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let watched = self.memory.watched.as_ref();
        Progress {
            rows: watched.map_or(0, |watched| watched.watch.rows()),
            learned: self.memory.learner.len(),
            counts: self.memory.counts,
        }
    }
}
