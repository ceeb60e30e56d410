//! Drift in the engine: what is counted when an answer has come, and what is told.

use super::{Ended, Engine, Outbox, decisions};
use crate::facts::Answered;
use crate::finding::FindingId;
use crate::identity::Identity;
use crate::open::OpenQuestion;

impl Engine {
    /// Counts an exchange for drift, and tells what there is to tell.
    pub(super) fn watch_drift(
        &mut self,
        client: Identity,
        question: Option<&OpenQuestion>,
        answered: &Answered<'_>,
        out: &mut Outbox,
    ) {
        let (Some(room), Some(question)) = (&mut self.drift, question) else { return };
        let is_prediction = (200..300).contains(&answered.status);
        let ended = Ended {
            client,
            address: answered.asker.address,
            time: answered.time,
            status: answered.status,
            latency: answered.latency,
            answer: answered.answer.ok().filter(|_| is_prediction),
        };
        let (told, frozen) = room.ended(&ended, &question.kept, &self.rules.hashing);
        for told in told {
            let number = decisions::next(&mut self.memory.findings, answered.time);
            let id = self.rules.hashing.numbered(&format!("finding {}", self.rules.model), number);
            out.drifts.extend(room.record(told, FindingId(id), &self.rules.model, self.rules.policy.mode));
        }
        out.frozen_drift = out.frozen_drift.take().or(frozen);
    }

    /// A row of a question is suspicious: nothing is learned from that question.
    pub(super) fn marked(&mut self, request: u64) {
        if self.drift.as_ref().is_some_and(|room| room.learns()) {
            self.memory.open.let_go(request);
        }
    }

    /// Something speaks against a client: what it asked is not what normal looks like.
    pub(super) fn suspect(&mut self, client: Identity) {
        if let Some(room) = &mut self.drift {
            room.suspect(client);
        }
    }
}
