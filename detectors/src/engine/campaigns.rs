//! What several clients do together: rows near each other are linked, and campaigns told.

use super::{Case, Engine, Label, Memory, Outbox};
use crate::campaign::{self, Grown, Sighting};
use crate::explain;
use crate::finding::{Action, DecisionId, Kind, Record, Tier};
use crate::lines::Origin;
use crate::neighbours::RowId;
use crate::query::{Finding, Purpose};
use crate::reference::Trust;

impl Engine {
    /// Links the new rows of the question at hand to those of other clients that lie near.
    pub(super) fn link_rows(&mut self, case: Case, out: &mut Outbox) {
        for position in 0..self.memory.seen.rows().len() {
            let Memory { neighbours, campaigns, reference, .. } = &mut self.memory;
            let Some(reference) = reference.as_ref() else { return };
            let Some(found) = neighbours.of(position).filter(|found| !found.others.is_empty()) else {
                continue;
            };
            // Where everybody asks, rows of several clients lie near each other all day.
            if neighbours.is_dense(position, reference) {
                continue;
            }
            out.refused_by = out.refused_by.or_else(|| campaigns.refuses(&found.others, case.time));
            let grown = campaigns.take(&Sighting {
                row: neighbours.first_row() + position as RowId,
                near: &found.others,
                is_crowded: found.is_crowded(),
                client: case.subject.identity,
                address: case.address,
                origin: Origin { request: case.request, time: case.time },
            });
            let trust = reference.trust;
            neighbours.mark(position);
            self.marked(case.request, false);
            if let Some(grown) = grown {
                self.tell_campaign(case, &grown, trust, out);
            }
        }
    }

    fn tell_campaign(&mut self, case: Case, grown: &Grown, trust: Trust, out: &mut Outbox) {
        let campaign = self.memory.campaigns.told(grown);
        let may_refuse = self.rules.policy.refuses_content && trust == Trust::Trusted;
        let mut finding = Finding {
            tier: if may_refuse { Tier::One } else { Tier::Two },
            statistic: grown.clients as f64,
            limit: campaign::CLIENTS_MIN as f64,
            trail: grown.trail,
            fields: Vec::new(),
            did: String::new(),
            rests_on: Some(trust),
        };
        let label = Label {
            name: campaign::NAME,
            atlas: campaign::ATLAS,
            owasp: campaign::OWASP,
            purpose: Purpose::Technique,
        };
        let judgement = self.judge_campaign(label, case, &finding);
        let refuses = judgement.then.action == Action::Block;
        finding.tier = if refuses { Tier::One } else { Tier::Two };
        let until = case.time.plus(self.lasts(0, &judgement).lasts);
        let mut did = explain::campaign(&campaign, &grown.trail, case.time, refuses.then_some(until));
        did.push_str(&explain::grounds(&judgement.grounds));
        let mut record = Record { campaign: Some(campaign), ..self.record(label, case, finding, did) };
        record.grounds = judgement.grounds;
        if refuses {
            let number = super::decisions::next(&mut self.memory.decisions, case.time);
            let id = DecisionId(self.rules.hashing.numbered(&self.rules.model, number));
            self.memory.campaigns.refuse(grown, id, until);
            (record.decision_id, record.until, record.action) = (Some(id), Some(until), Action::Refuse);
            out.records.push(record.clone());
            record.kind = Kind::Decision;
        }
        out.records.push(record);
    }
}
