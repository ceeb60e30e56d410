//! The rooms of one model: one of its own, and one for each version that its configuration names.
//!
//! A canary answers a part of a model's questions and is compared with a reference of its own; behind one entry it would
//! otherwise be a small part of a mixture. Which version is meant is said by the question's path or body, or, where it
//! leaves the choice to the server, by the answer ([`Features::version`]). A version that is not named shares the model's
//! own room, and its rows are counted: versions come from traffic, and nothing may grow by it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::saved::{Progress, SavedError, VERSION};
use super::view::View;
use super::{Ended, Frozen, Kept, Memory, Room, Settings, Standing, Told};
use crate::drift::record::DriftRecord;
use crate::drift::reference::DriftReference;
use crate::facts::{Features, Time};
use crate::finding::{FindingId, Mode};
use crate::hashing::Hashing;
use crate::identity::Identity;
use crate::reference::Trust;

/// Most versions of one model that have rooms.
pub const VERSIONS_MAX: usize = 8;

/// A version, with the reference that an operator named for it.
pub type Named = (Arc<str>, Option<Frozen>);

/// What is remembered of all rooms: of the model's own, of each version's, and of rows that other versions had.
pub type Form<M> = (M, Vec<(Arc<str>, M)>, u64);

/// What [`Rooms::save`] writes: the form's version, what each room saved, and rows that other versions had.
type Saved = (u16, Vec<u8>, Vec<(String, Vec<u8>)>, u64);

/// The rooms of one model.
#[derive(Debug)]
pub struct Rooms {
    own: Room,
    versions: Vec<(Arc<str>, Room)>,
    /// Rows of versions without a room, ever; counted where there are versions with one.
    others: u64,
}

/// What is kept of a question until its answer comes, for each room that it may be counted in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptOfRooms {
    asked: Asked,
    own: Kept,
    versions: Vec<(Arc<str>, Kept)>,
}

/// The version that a question asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Asked {
    /// It leaves that to the server.
    #[default]
    Any,
    /// One that has a room.
    Version(Arc<str>),
    /// One that has none.
    Other,
}

/// How far all rooms have come: another one, and there is something to save.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    own: Progress,
    versions: Vec<Progress>,
}

impl KeptOfRooms {
    /// How many values it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.versions.iter().map(|(_, kept)| kept.len()).sum::<usize>()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Rooms {
    /// Rooms that have seen nothing, with the references that the operator named or that were learned before. Of more
    /// than [`VERSIONS_MAX`] versions the first have rooms.
    #[must_use]
    pub fn new(settings: &Settings, own: Option<Frozen>, versions: Vec<Named>, hashing: &Hashing) -> Self {
        let room = |frozen| Room::new(settings.clone(), frozen, hashing);
        let versions = versions.into_iter().take(VERSIONS_MAX);
        Self {
            own: room(own),
            versions: versions.map(|(name, frozen)| (name, room(frozen))).collect(),
            others: 0,
        }
    }

    fn version(&self, name: &str) -> Option<&(Arc<str>, Room)> {
        self.versions.iter().find(|(version, _)| **version == *name)
    }

    /// The room of a version, or the model's own.
    #[must_use]
    pub fn room(&self, version: Option<&str>) -> Option<&Room> {
        version.map_or(Some(&self.own), |name| self.version(name).map(|(_, room)| room))
    }

    /// The room of the model itself.
    #[must_use]
    pub fn own(&self) -> &Room {
        &self.own
    }

    /// Which version a question asks for.
    fn asked(&self, question: &Features) -> Asked {
        match self.version(&question.version) {
            _ if self.versions.is_empty() || question.version.is_empty() => Asked::Any,
            Some((name, _)) => Asked::Version(Arc::clone(name)),
            None => Asked::Other,
        }
    }

    /// Takes a question, and gives what is to be kept of it until its answer comes: for its version's room, or, where it
    /// may be any version that answers, for each. O(rows x features x rooms).
    pub fn question(&mut self, question: &Features) -> KeptOfRooms {
        let asked = self.asked(question);
        let may_be = |name: &Arc<str>| match &asked {
            Asked::Any => true,
            Asked::Version(version) => version == name,
            Asked::Other => false,
        };
        let versions = self.versions.iter_mut().filter(|(name, _)| may_be(name));
        let versions = versions.map(|(name, room)| (Arc::clone(name), room.question(question))).collect();
        let own = match asked {
            Asked::Version(_) => Kept::default(),
            Asked::Any | Asked::Other => self.own.question(question),
        };
        KeptOfRooms { asked, own, versions }
    }

    /// The same while a room `beside` the model's own learns: rooms of versions rest meanwhile.
    pub fn question_beside(&self, beside: &mut Room, question: &Features) -> KeptOfRooms {
        let asked = self.asked(question);
        let own = match asked {
            Asked::Version(_) => Kept::default(),
            Asked::Any | Asked::Other => beside.question(question),
        };
        KeptOfRooms { asked, own, versions: Vec::new() }
    }

    /// The version that an exchange is of; `None` where none is said, empty for one without a room that the question named.
    fn meant<'a>(ended: &'a Ended<'_>, kept: &'a KeptOfRooms) -> Option<&'a str> {
        match &kept.asked {
            Asked::Version(name) => Some(name),
            Asked::Other => Some(""),
            Asked::Any => ended.answer.map(|answer| answer.version.as_str()).filter(|name| !name.is_empty()),
        }
    }

    /// Takes an exchange that has ended, with what was kept of its question, in the room of its version. A reference that
    /// a version's room learns stays there. O(rows x features).
    pub fn ended(
        &mut self,
        ended: &Ended<'_>,
        kept: &KeptOfRooms,
        hashing: &Hashing,
    ) -> (Vec<Told>, Option<DriftReference>) {
        let meant = Self::meant(ended, kept);
        let room = self.versions.iter_mut().find(|(version, _)| meant == Some(&**version));
        let Some((version, room)) = room else {
            if meant.is_some() && !self.versions.is_empty() {
                self.others += ended.answer.map_or(1, |answer| answer.rows().max(1) as u64);
            }
            return self.own.ended(ended, &kept.own, hashing);
        };
        let own = kept.versions.iter().find(|(name, _)| name == version).map(|(_, kept)| kept);
        let (mut told, _) = room.ended(ended, own.unwrap_or(&Kept::default()), hashing);
        told.iter_mut().for_each(|told| told.version = Some(Arc::clone(version)));
        (told, None)
    }

    /// The same of a question that a room `beside` the model's own took. It only learns, so that nothing is told.
    pub fn ended_beside(
        &mut self,
        beside: Option<&mut Room>,
        ended: &Ended<'_>,
        kept: &KeptOfRooms,
        hashing: &Hashing,
    ) {
        if Self::meant(ended, kept).is_some_and(|name| self.version(name).is_some()) {
            return;
        }
        if ended.answer.is_some() {
            self.own.exchanged(&kept.own);
        }
        if let Some(beside) = beside {
            let _ = beside.ended(ended, &kept.own, hashing);
        }
    }

    /// Has another reference take the place of the model's own.
    pub fn install(&mut self, frozen: Frozen) {
        self.own.install(frozen);
    }

    /// Something is wrong with a question: no room learns from what was kept of it.
    pub fn unlearn(&self, kept: &mut KeptOfRooms) {
        if self.own.learns() {
            kept.own = Kept::default();
        }
        let learns = |name: &Arc<str>| self.version(name).is_none_or(|(_, room)| room.learns());
        let of_learners = kept.versions.iter_mut().filter(|(name, _)| learns(name));
        of_learners.for_each(|(_, kept)| *kept = Kept::default());
    }

    /// The record of a change.
    #[must_use]
    pub fn record(&self, told: Told, id: FindingId, model: &Arc<str>, mode: Mode) -> Option<DriftRecord> {
        self.room(told.version.as_deref())?.record(told, id, model, mode)
    }

    /// How far a version's reference can be relied upon, or the model's own, if there is one by now.
    #[must_use]
    pub fn trust(&self, version: Option<&str>) -> Option<Trust> {
        self.room(version)?.trust()
    }

    /// Something speaks against a client: what was learned from it is taken back.
    pub fn suspect(&mut self, client: Identity) {
        self.own.suspect(client);
        self.versions.iter_mut().for_each(|(_, room)| room.suspect(client));
    }

    /// All that is remembered.
    #[must_use]
    pub fn memory(&self) -> Form<&Memory> {
        let versions = self.versions.iter().map(|(name, room)| (Arc::clone(name), room.memory()));
        (self.own.memory(), versions.collect(), self.others)
    }

    /// The same, of rooms that end.
    #[must_use]
    pub fn into_memory(self) -> Form<Memory> {
        let versions = self.versions.into_iter().map(|(name, room)| (name, room.into_memory()));
        (self.own.into_memory(), versions.collect(), self.others)
    }

    /// Goes on with what other rooms remembered; a version that had none begins afresh, and one that is no longer named is
    /// forgotten.
    pub fn take_over(&mut self, (own, versions, others): Form<Memory>) {
        self.own.take_over(own);
        for (name, memory) in versions {
            let room = self.versions.iter_mut().find(|(version, _)| *version == name);
            if let Some((_, room)) = room {
                room.take_over(memory);
            }
        }
        self.others = others;
    }

    /// How the model's own room stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { other_versions: self.others, ..self.own.standing() }
    }

    /// How the rooms of its versions stand.
    pub fn standings(&self) -> impl Iterator<Item = (&str, Standing)> + '_ {
        self.versions.iter().map(|(name, room)| (&**name, room.standing()))
    }

    /// Everything that is shown at `now` of a version's room, or of the model's own; nothing of a version without one.
    #[must_use]
    pub fn look(&self, version: Option<&str>, now: Time) -> Option<View> {
        let versions = self.versions.iter().map(|(name, _)| name.to_string()).collect();
        let mut view = View { versions, ..self.room(version)?.look(now) };
        if version.is_none() {
            view.standing.other_versions = self.others;
        }
        Some(view)
    }

    /// All that is remembered, learned references of versions included, and that of the model where it is asked for.
    /// O(features), some 10 KiB for each.
    #[must_use]
    pub fn save(&self, with_learned_reference: bool) -> Vec<u8> {
        let versions: Vec<(&str, Vec<u8>)> =
            self.versions.iter().map(|(name, room)| (&**name, room.save(true))).collect();
        let form = (VERSION, self.own.save(with_learned_reference), versions, self.others);
        // Plain data of this crate's own types always serialises into memory.
        postcard::to_stdvec(&form).unwrap_or_default()
    }

    /// Goes on where [`Rooms::save`] stopped. Each room does so by itself.
    ///
    /// # Errors
    /// Tells the first room's refusal; rooms that refuse are as they were.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), SavedError> {
        let (version, _) = postcard::take_from_bytes::<u16>(bytes)?;
        if version != VERSION {
            return Err(SavedError::Version(version));
        }
        let (_, own, versions, others): Saved = postcard::from_bytes(bytes)?;
        let mut outcome = self.own.restore(&own);
        for (name, bytes) in versions {
            let room = self.versions.iter_mut().find(|(version, _)| **version == *name);
            outcome = outcome.and(room.map_or(Ok(()), |(_, room)| room.restore(&bytes)));
        }
        self.others = others;
        outcome
    }

    /// How far they have come.
    #[must_use]
    pub fn progress(&self) -> Stage {
        let versions = self.versions.iter().map(|(_, room)| room.progress());
        Stage { own: self.own.progress(), versions: versions.collect() }
    }
}
