//! Drift in the engine: what is counted when an answer has come, and what is told.

use super::{Case, Engine, Label, Outbox, Subject, decisions};
use crate::drift::latest::{Carrier, Sender};
use crate::drift::record::DriftRecord;
use crate::drift::room::Ended;
use crate::drift::{ATLAS, NAME, OWASP};
use crate::explain::{self, Reservation};
use crate::facts::Answered;
use crate::finding::{Action, FindingId, Tier};
use crate::identity::Identity;
use crate::lines::{Origin, Trail};
use crate::maintenance;
use crate::open::OpenQuestion;
use crate::query::{Finding, Purpose};
use crate::standing::Doubt;

impl Engine {
    /// Counts an exchange for drift, and tells what there is to tell.
    pub(super) fn watch_drift(
        &mut self,
        subject: Subject,
        question: Option<&OpenQuestion>,
        answered: &Answered<'_>,
        out: &mut Outbox,
    ) {
        let (Some(rooms), Some(question)) = (&mut self.drift, question) else { return };
        let is_prediction = (200..300).contains(&answered.status);
        let sender = Sender {
            client: subject.identity,
            address: answered.asker.address,
            may_be_blocked: subject.may_be_blocked(),
        };
        let in_maintenance = maintenance::at(&self.rules.policy.maintenance, answered.time).is_some();
        let ended = Ended {
            sender,
            time: answered.time,
            status: answered.status,
            latency: answered.latency,
            answer: answered.answer.ok().filter(|_| is_prediction),
            in_maintenance: in_maintenance && !question.aside,
        };
        if question.aside {
            // It only learns, so that it tells nothing.
            rooms.ended_beside(self.drift_beside.as_deref_mut(), &ended, &question.kept, &self.rules.hashing);
            return;
        }
        let (told, frozen) = rooms.ended(&ended, &question.kept, &self.rules.hashing);
        out.frozen_drift = out.frozen_drift.take().or(frozen);
        for told in told {
            let Some(rooms) = &self.drift else { return };
            let number = decisions::next(&mut self.memory.findings, answered.time);
            let id = self.rules.hashing.numbered(&format!("finding {}", self.rules.model), number);
            let carriers = told.carriers();
            let record = rooms.record(told, FindingId(id), &self.rules.model, self.rules.policy.mode);
            let Some(record) = record else { continue };
            carriers.iter().for_each(|carrier| self.tell_carrier(carrier, &record, answered, out));
            out.drifts.push(record);
        }
    }

    /// A client without whom the rest looks as before is told of, and policy asked: it behaves unlike its own past,
    /// which is a sign and no proof.
    fn tell_carrier(
        &mut self,
        carrier: &Carrier,
        record: &DriftRecord,
        answered: &Answered<'_>,
        out: &mut Outbox,
    ) {
        let Sender { client: identity, address, may_be_blocked } = carrier.sender;
        let Some(client) = self.memory.clients.index_of(identity) else { return };
        let spared = self.rules.policy.never_block.contains(address).then_some(Reservation::NeverBlock);
        // Its own rows told whether it is proven; which doubt there was does not matter for what is only told.
        let doubted = (!may_be_blocked).then_some(Reservation::Unproven(Doubt::CarriesHalf));
        let subject = Subject { identity, reservation: spared.or(doubted) };
        let case = Case { subject, client, address, request: answered.id, time: answered.time };
        let mut trail = Trail::default();
        trail.add(Origin { request: answered.id, time: answered.time });
        let finding = Finding {
            tier: Tier::Two,
            statistic: carrier.before,
            limit: carrier.after,
            trail,
            fields: record.features.iter().map(|moved| moved.name.clone()).take(1).collect(),
            did: String::new(),
            rests_on: self.drift.as_ref().and_then(|rooms| rooms.trust(record.version.as_deref())),
        };
        let label = Label { name: NAME, atlas: ATLAS, owasp: OWASP, purpose: Purpose::Technique };
        self.suspect(identity);
        self.unlearn(identity);
        let judgement = self.judge(None, label, case, &finding, true);
        let did = explain::carrier(identity, carrier.share);
        if judgement.then.action > Action::Alert {
            let told = self.record(label, case, finding, did);
            self.decide(case, told, judgement, out);
        } else {
            let alert = explain::alert(finding.rests_on, &judgement.grounds, judgement.muted_until);
            let mut told = self.record(label, case, finding, format!("{did} {alert}"));
            told.grounds = judgement.grounds;
            out.records.push(told);
        }
    }

    /// A row of a question is suspicious, by the question alone or by the reference at work: nothing is learned from that
    /// question. The reference at work says nothing against what is learned aside, for it is of the model that goes.
    pub(super) fn marked(&mut self, request: u64, by_itself: bool) {
        if self.memory.lesson.is_some() {
            if by_itself {
                self.memory.open.let_go_aside(request);
            }
        } else if let Some(rooms) = &self.drift {
            self.memory.open.let_go(request, |kept| rooms.unlearn(kept));
        }
    }

    /// Something speaks against a client: what it asked is not what normal looks like.
    pub(super) fn suspect(&mut self, client: Identity) {
        if let Some(rooms) = &mut self.drift {
            rooms.suspect(client);
        }
    }
}
