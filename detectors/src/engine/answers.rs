//! What follows from an answer: the contract is judged, and a reference learned.

use super::{Case, Engine, Label, Outbox, lesson};
use crate::contract::{self, Violation};
use crate::explain;
use crate::facts::{Answered, Features};
use crate::finding::{Action, Record, Tier};
use crate::identity::Identity;
use crate::lines::{Origin, Trail};
use crate::open::{OpenQuestion, Sample};
use crate::query::{Finding, Purpose};
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
        let is_proof = block_after > 0 && tally.distinct_violations >= block_after;
        let fresh = before.checked_ilog2() != count.checked_ilog2();
        if !is_proof && !fresh {
            return;
        }
        let finding = violation_finding(first, trail);
        let label = Label {
            name: contract::NAME,
            atlas: contract::ATLAS,
            owasp: contract::OWASP,
            purpose: Purpose::Technique,
        };
        let judgement = self.judge(None, label, case, &finding, fresh);
        let decides = is_proof && judgement.then.action > Action::Alert;
        if !decides && !fresh {
            return;
        }
        let (client, action) = (case.subject.identity, self.rules.contract_action);
        let explanation = explain::violation(client, &first.output, first, u64::from(count), action);
        let mut record = self.record(label, case, finding, explanation);
        if decides {
            self.decide(case, record, judgement, out);
        } else {
            record.grounds.tenant = judgement.grounds.tenant;
            out.records.push(Record { action, ..record });
        }
    }

    /// Rows of the question at hand that a reference may be learned from.
    pub(super) fn samples(&self, identity: Identity, rows: &Features) -> Vec<Sample> {
        let room = match (&self.memory.lesson, &self.memory.reference) {
            (Some(_), _) => lesson::ROWS_OF_A_QUESTION,
            (None, Some(_)) => return Vec::new(),
            (None, None) => self.memory.learner.room(identity),
        };
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
        if question.aside {
            self.teach(question, answered, answer);
            return;
        }
        // What was asked before a model is exchanged and answered meanwhile is nobody's normal.
        let learns = self.memory.reference.is_none() && self.memory.lesson.is_none();
        if !learns || !(200..300).contains(&answered.status) {
            return;
        }
        for Sample { row, content, values, names } in question.samples {
            if let Some(p) = values_of(answer, row as usize).filter(|p| !p.is_empty()) {
                let row = ReferenceRow { x: values, p };
                self.memory.learner.learn((question.identity, answered.time), content, &names, row);
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

fn violation_finding(first: &Violation, trail: Trail) -> Finding {
    Finding {
        tier: Tier::One,
        statistic: first.value,
        limit: first.bound,
        trail,
        fields: vec![first.output.clone()],
        did: String::new(),
        rests_on: None,
    }
}
