//! From a finding to its record, and from a record to a decision.

use std::sync::Arc;

use super::{Block, Case, Engine, Label, Outbox};
use crate::explain::{self, Reservation};
use crate::facts::Time;
use crate::finding::{Action, DecisionId, Kind, Record, Window, request_id};
use crate::in_force::InForceDecision;
use crate::lines::Trail;
use crate::query::Finding;
use crate::shelf::ClientIndex;

impl Engine {
    /// Tells a finding and decides on it; says whether it led to a block decision.
    pub(super) fn report(
        &mut self,
        turn: usize,
        label: Label,
        case: Case,
        finding: Finding,
        out: &mut Outbox,
    ) -> bool {
        let did = explain::evidence(case.subject.identity, &finding.did, &finding.trail, case.time);
        if self.rules.policy.action(finding.tier, finding.rests_on) == Action::Block {
            let record = self.record(label, case, finding, did);
            self.block(case, record, case.subject.reservation, out);
            return true;
        }
        if !self.is_quiet(turn, case) {
            let explanation = format!("{did} {}", explain::alert(finding.rests_on));
            out.records.push(self.record(label, case, finding, explanation));
        }
        false
    }

    /// Whether this detector's alert on this client still stands; if not, it does from now on.
    fn is_quiet(&mut self, turn: usize, case: Case) -> bool {
        let detectors = self.detectors.len();
        let Some(tally) = self.memory.tallies.get_mut(case.client) else { return true };
        tally.quiet_until.resize(detectors, Time(0));
        let Some(until) = tally.quiet_until.get_mut(turn) else { return true };
        let quiet = *until > case.time;
        if !quiet {
            *until = case.time.plus(self.rules.policy.block_for);
        }
        quiet
    }

    pub(super) fn record(&self, label: Label, case: Case, finding: Finding, explanation: String) -> Record {
        Record {
            time: case.time,
            kind: Kind::Finding,
            client: case.subject.identity,
            model: Arc::clone(&self.rules.model),
            detector: label.name,
            tier: finding.tier,
            atlas: label.atlas,
            statistic: finding.statistic,
            limit: finding.limit,
            window: self.window(case, &finding.trail),
            action: Action::Alert,
            mode: self.rules.policy.mode,
            decision_id: None,
            until: None,
            fields: finding.fields,
            requests: finding.trail.examples().map(request_id).collect(),
            explanation,
        }
    }

    fn window(&self, case: Case, trail: &Trail) -> Window {
        let tally = self.memory.tallies.get(case.client);
        let observed = tally.map_or(0.0, |tally| tally.inspected as f64 / tally.requests.max(1) as f64);
        Window {
            rows: u64::from(trail.rows),
            requests: u64::from(trail.requests),
            seconds: case.time.since(trail.since).as_secs_f64(),
            observed,
        }
    }

    /// Turns a finding into a block decision: both are told, and the client's evidence stops counting.
    pub(super) fn block(
        &mut self,
        case: Case,
        mut record: Record,
        reservation: Option<Reservation>,
        out: &mut Outbox,
    ) {
        let block_for = self.rules.policy.block_for;
        let until = case.time.plus(block_for);
        let id = DecisionId(self.rules.hashing.numbered(&self.rules.model, self.memory.decisions));
        self.memory.decisions += 1;
        record.decision_id = Some(id);
        record.until = Some(until);
        record.action = if reservation.is_none() { Action::Block } else { Action::Alert };
        record.explanation.push(' ');
        record.explanation.push_str(&explain::block(block_for, until, reservation));
        out.records.push(record.clone());
        out.records.push(Record { kind: Kind::Decision, ..record });
        let identity = case.subject.identity;
        let active_since = Time(case.time.0.saturating_sub(Self::ACTIVE.as_micros() as u64));
        out.blocks.push(Block {
            id,
            client: identity,
            time: case.time,
            until,
            may_act: reservation.is_none(),
            clients_active: self.memory.clients.active(active_since),
        });
        let only_observed = !case.subject.may_be_blocked();
        self.memory.in_force.enter(identity, InForceDecision { id, until, only_observed }, case.time);
        self.memory.learner.forget(identity);
        self.forget(case.client);
    }

    /// Forgets a client's evidence.
    pub(super) fn forget(&mut self, client: ClientIndex) {
        self.memory.seen.forget(client);
        let detectors = self.detectors.iter_mut().filter_map(|running| running.detector.as_mut());
        detectors.for_each(|detector| detector.forget(client));
        if let Some(tally) = self.memory.tallies.get_mut(client) {
            tally.violations = Trail::default();
            tally.distinct_violations = 0;
            tally.quiet_until.clear();
        }
    }
}
