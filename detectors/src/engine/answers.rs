//! What follows from an answer: the contract is judged, and a reference learned.

use super::{Case, Engine, Label, Outbox};
use crate::contract::{self, Violation};
use crate::explain;
use crate::facts::{Answered, Features};
use crate::finding::{Action, Record, Tier};
use crate::identity::Identity;
use crate::lines::{Origin, Trail};
use crate::open::{OpenQuestion, Sample};
use crate::query::Finding;
use crate::reference::{Learner, ReferenceRow, values_of};

impl Engine {
    /// Judges an answer by the contract: told are a client's first violation and every doubling of their number, so
    /// that a flood of them does not flood the log.
    pub(super) fn judge_answer(
        &mut self,
        case: Case,
        question: Option<&OpenQuestion>,
        answered: &Answered<'_>,
        out: &mut Outbox,
    ) {
        let mut violations = std::mem::take(&mut self.violations);
        violations.clear();
        match (answered.judged, answered.answer) {
            (Some(judged), _) => violations.extend_from_slice(judged),
            (None, Ok(answer)) => self.rules.contract.judge(answer, &mut violations),
            (None, Err(_)) => {}
        }
        if let Some(first) = violations.first() {
            out.broke_contract = true;
            let violation = first.clone();
            violations.dedup_by_key(|violation| violation.row);
            self.report_violations(case, question, &violation, &violations, out);
        }
        self.violations = violations;
    }

    /// `rows` holds one violation to each offending row.
    fn report_violations(
        &mut self,
        case: Case,
        question: Option<&OpenQuestion>,
        first: &Violation,
        rows: &[Violation],
        out: &mut Outbox,
    ) {
        let Some(tally) = self.memory.tallies.entry(case.client) else { return };
        let tally = tally.spoken_of.get_or_insert_default();
        let before = tally.violations.rows;
        let distinct = |row: &Violation| {
            question.is_some_and(|question| question.distinct_rows.binary_search(&(row.row as u32)).is_ok())
        };
        for row in rows {
            tally.violations.add(Origin { request: case.request, time: case.time });
            tally.distinct_violations += u32::from(distinct(row));
        }
        let (count, trail) = (tally.violations.rows, tally.violations);
        let block_after = self.rules.contract.block_after;
        let action = self.rules.policy.action(Tier::One, None);
        let decides = block_after > 0 && tally.distinct_violations >= block_after && action > Action::Alert;
        if !decides && before.checked_ilog2() == count.checked_ilog2() {
            return;
        }
        let record = self.violation_record(case, first, trail);
        if decides {
            self.decide(case, record, action, out);
        } else {
            out.records.push(Record { action: self.rules.contract_action, ..record });
        }
    }

    fn violation_record(&mut self, case: Case, first: &Violation, trail: Trail) -> Record {
        let count = u64::from(trail.rows);
        let action = self.rules.contract_action;
        let explanation = explain::violation(case.subject.identity, &first.output, first, count, action);
        let finding = Finding {
            tier: Tier::One,
            statistic: first.value,
            limit: first.bound,
            trail,
            fields: vec![first.output.clone()],
            did: String::new(),
            rests_on: None,
        };
        self.record(
            Label { name: contract::NAME, atlas: contract::ATLAS, owasp: contract::OWASP },
            case,
            finding,
            explanation,
        )
    }

    /// Rows of the question at hand that a reference may be learned from.
    pub(super) fn samples(&self, identity: Identity, rows: &Features) -> Vec<Sample> {
        if self.memory.reference.is_some() {
            return Vec::new();
        }
        let room = self.memory.learner.room(identity);
        let new = self.memory.seen.rows().iter().take(room);
        new.filter_map(|row| {
            let values = values_of(rows, row.index)?;
            Some(Sample { row: row.index as u32, content: row.content, values, names: rows.names.clone() })
        })
        .collect()
    }

    pub(super) fn learn(
        &mut self,
        question: OpenQuestion,
        answered: &Answered<'_>,
        answer: &Features,
        out: &mut Outbox,
    ) {
        if self.memory.reference.is_some() || !(200..300).contains(&answered.status) {
            return;
        }
        for Sample { row, content, values, names } in question.samples {
            if let Some(p) = values_of(answer, row as usize).filter(|p| !p.is_empty()) {
                let row = ReferenceRow { x: values, p };
                self.memory.learner.learn(question.identity, content, &names, row);
            }
        }
        if let Some(frozen) = self.memory.learner.freeze() {
            out.frozen = Some(frozen.clone());
            self.memory.reference = Some(frozen);
            self.columns.forget();
            self.memory.learner = Learner::default();
        }
    }
}
