//! Lessons: what a model is learned from while it is being exchanged.
//!
//! While a maintenance window lasts, rows that are asked for and answered go aside, in the quarantine of a warm-up: into
//! a learner of the query reference, and into a room of drift beside the one at work. Those keep the latest rows, since at
//! the window's beginning the model that goes may still answer. The references at work are not touched, and detectors go
//! by them all the while. What a finding rests on them says nothing against a client here: the reference is of the model
//! that goes.

use serde::{Deserialize, Serialize};

use super::{Engine, Outbox};
use crate::drift::room::{Frozen, Room};
use crate::facts::{Answered, Features, Time};
use crate::identity::Identity;
use crate::maintenance::{self, Maintenance, Taught};
use crate::open::{OpenQuestion, Sample};
use crate::reference::{Learner, Reference, ReferenceRow, values_of};

/// Rows of one question that are kept for a lesson until its answer comes.
pub(super) const ROWS_OF_A_QUESTION: usize = 32;

/// A maintenance window under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lesson {
    window: Maintenance,
    /// When the first exchange of it came.
    began: Time,
    /// Rows that were asked for and answered, repeats aside.
    seen: u64,
    learner: Learner,
}

impl Lesson {
    pub(super) fn forget(&mut self, client: Identity) {
        self.learner.forget(client);
    }
}

impl Engine {
    /// Begins a lesson where a maintenance window has begun, and ends one where it has ended.
    pub(super) fn attend(&mut self, time: Time, out: &mut Outbox) {
        if self.rules.policy.maintenance.is_empty() && self.memory.lesson.is_none() {
            return;
        }
        let window = maintenance::at(&self.rules.policy.maintenance, time);
        match (&mut self.memory.lesson, window) {
            (Some(lesson), Some(window)) => lesson.window.until = lesson.window.until.max(window.until),
            // What came late from before the end of a lesson does not begin another one.
            (None, Some(window)) if time > self.memory.lesson_over => {
                let (window, learner) = (window.clone(), Learner::default());
                self.memory.lesson = Some(Lesson { window, began: time, seen: 0, learner });
                let hashing = &self.rules.hashing;
                self.drift_beside = self.drift.as_ref().map(|rooms| Box::new(rooms.own().beside(hashing)));
            }
            // What came late from before its beginning does not end it.
            (Some(lesson), None) if time >= lesson.began => self.conclude(time, out),
            _ => {}
        }
    }

    /// Time has passed: ends a lesson whose window has ended, also where nobody asks the model any more.
    pub fn settle(&mut self, now: Time, out: &mut Outbox) {
        if self.is_lesson_over(now) {
            self.conclude(now, out);
        }
    }

    /// Whether a lesson is under way whose window has ended.
    #[must_use]
    pub fn is_lesson_over(&self, now: Time) -> bool {
        let lesson = self.memory.lesson.as_ref();
        lesson.is_some_and(|lesson| {
            now >= lesson.began && maintenance::at(&self.rules.policy.maintenance, now).is_none()
        })
    }

    fn conclude(&mut self, now: Time, out: &mut Outbox) {
        let Some(mut lesson) = self.memory.lesson.take() else { return };
        let mut room = self.drift_beside.take();
        self.memory.lesson_over = now;
        let query = lesson.learner.freeze();
        let drift_rows = room.as_ref().map_or(0, |room| room.learner().len() as u64);
        let drift = room.as_mut().and_then(|room| room.conclude());
        let learner = room.as_ref().map(|room| room.learner());
        let of_drift = learner.filter(|_| drift.is_some());
        let counts = of_drift.map_or_else(|| lesson.learner.counts(), |learner| learner.counts().clone());
        let span = of_drift.map_or_else(|| lesson.learner.span(), |learner| learner.span());
        out.taught.push(Taught {
            model: self.rules.model.clone(),
            window: lesson.window,
            seen: lesson.seen,
            rows: lesson.learner.len() as u64,
            drift_rows,
            clients: counts.len() as u64,
            shares: Taught::largest(&counts),
            span,
            query,
            drift,
        });
    }

    /// Learns from an exchange that began in the window under way. Rows of whoever was found out are gone already, and
    /// whoever is suspected gives none.
    pub(super) fn teach(&mut self, question: OpenQuestion, answered: &Answered<'_>, answer: &Features) {
        let Some(lesson) = &mut self.memory.lesson else { return };
        let client = question.identity;
        let is_suspect = self.drift_beside.as_ref().is_some_and(|room| room.learner().suspects(client));
        if is_suspect || !(200..300).contains(&answered.status) {
            return;
        }
        lesson.seen += question.distinct_rows.len() as u64;
        for Sample { row, content, values, names } in question.samples {
            if let Some(p) = values_of(answer, row as usize).filter(|p| !p.is_empty()) {
                let row = ReferenceRow { x: values, p };
                lesson.learner.learn_latest((client, answered.time), content, &names, row);
            }
        }
    }

    /// Something that does not rest on the reference speaks against a client: what it taught is taken back.
    pub(super) fn unlearn(&mut self, client: Identity) {
        if let Some(lesson) = &mut self.memory.lesson {
            lesson.forget(client);
        }
        if let Some(room) = &mut self.drift_beside {
            room.suspect(client);
        }
    }

    /// Has other references take the place of those at work, at an operator's word.
    pub fn install(&mut self, query: Option<Reference>, drift: Option<Frozen>) {
        if let Some(reference) = query {
            self.memory.reference = Some(reference);
            self.memory.learner = Learner::default();
            self.columns.forget();
        }
        if let (Some(rooms), Some(frozen)) = (&mut self.drift, drift) {
            rooms.install(frozen);
        }
    }

    /// The room that learns beside, as it was saved.
    pub(super) fn restore_beside(&mut self, memory: Option<crate::drift::room::Memory>) {
        let hashing = &self.rules.hashing;
        self.drift_beside = self.drift.as_ref().zip(memory).map(|(rooms, memory)| {
            let mut beside = rooms.own().beside(hashing);
            beside.take_over(memory);
            Box::new(beside)
        });
    }
}

/// A room that learns beside another one.
pub(super) type Beside = Option<Box<Room>>;
