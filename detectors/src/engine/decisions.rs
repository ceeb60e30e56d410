//! From a finding to its record, and from a record to a decision.

use std::sync::Arc;

use super::{Block, Case, Engine, Label, Outbox, Told};
use crate::explain;
use crate::facts::Time;
use crate::finding::{ATLAS_VERSION, Action, DecisionId, FindingId, Kind, Record, Window, request_id};
use crate::in_force::InForceDecision;
use crate::lines::Trail;
use crate::query::Finding;
use crate::shelf::ClientIndex;

impl Engine {
    /// Tells a finding and decides on it; says whether it led to a decision after which the client's evidence rests.
    pub(super) fn report(
        &mut self,
        turn: usize,
        label: Label,
        case: Case,
        finding: Finding,
        out: &mut Outbox,
    ) -> bool {
        let did = explain::evidence(case.subject.identity, &finding.did, &finding.trail, case.time);
        let action = self.rules.policy.action(finding.tier, finding.rests_on);
        if action > Action::Alert {
            let record = self.record(label, case, finding, did);
            self.decide(case, record, action, out);
            return true;
        }
        let agreement = self.agreement(turn, case, &finding);
        if let Some(agreement) = agreement {
            let action = self.rules.policy.together();
            let record = self.record(label, case, finding, format!("{did} {agreement}"));
            self.decide(case, record, action, out);
            let action = self.rules.policy.held_back(action, case.subject.identity);
            return self.rules.policy.suspends(action, case.subject.identity);
        }
        if !self.is_quiet(turn, case) {
            let explanation = format!("{did} {}", explain::alert(finding.rests_on));
            out.records.push(self.record(label, case, finding, explanation));
        }
        false
    }

    /// What this detector told of the client last.
    pub(super) fn told(&mut self, turn: usize, case: Case) -> Option<&mut Told> {
        let detectors = self.detectors.len();
        let spoken_of = self.memory.tallies.entry(case.client)?.spoken_of.get_or_insert_default();
        spoken_of.told.resize(detectors, Told::default());
        spoken_of.told.get_mut(turn)
    }

    /// Whether this detector's alert on this client still stands; if not, it does from now on.
    fn is_quiet(&mut self, turn: usize, case: Case) -> bool {
        let quiet_for = self.rules.policy.ladder.rung(0).lasts;
        let Some(told) = self.told(turn, case) else { return true };
        let quiet = told.quiet_until > case.time;
        if !quiet {
            told.quiet_until = case.time.plus(quiet_for);
        }
        quiet
    }

    pub(super) fn record(
        &mut self,
        label: Label,
        case: Case,
        finding: Finding,
        explanation: String,
    ) -> Record {
        let number = next(&mut self.memory.findings, case.time);
        Record {
            id: FindingId(self.rules.hashing.numbered(&format!("finding {}", self.rules.model), number)),
            time: case.time,
            kind: Kind::Finding,
            client: case.subject.identity,
            model: Arc::clone(&self.rules.model),
            detector: label.name,
            tier: finding.tier,
            atlas: label.atlas,
            atlas_version: ATLAS_VERSION,
            owasp: Some(label.owasp),
            statistic: finding.statistic,
            limit: finding.limit,
            window: self.window(case, &finding.trail),
            action: Action::Alert,
            mode: self.rules.policy.mode,
            decision_id: None,
            until: None,
            fields: finding.fields,
            campaign: None,
            requests: finding.trail.examples().map(request_id).collect(),
            explanation,
        }
    }

    fn window(&self, case: Case, trail: &Trail) -> Window {
        let tally = self.memory.tallies.get(case.client);
        let observed =
            tally.map_or(0.0, |tally| f64::from(tally.inspected) / f64::from(tally.requests.max(1)));
        Window {
            rows: u64::from(trail.rows),
            requests: u64::from(trail.requests),
            seconds: case.time.since(trail.since).as_secs_f64(),
            observed,
        }
    }

    /// Turns a finding into a decision on its client: both are told, and where nothing stronger could follow, the
    /// client's evidence stops counting.
    pub(super) fn decide(&mut self, case: Case, mut record: Record, wanted: Action, out: &mut Outbox) {
        let reservation = case.subject.reservation;
        let identity = case.subject.identity;
        let action = self.rules.policy.held_back(wanted, identity);
        let rung = self.rules.policy.ladder.rung(self.memory.offences.of(identity, case.time));
        let until = case.time.plus(rung.lasts);
        let number = next(&mut self.memory.decisions, case.time);
        let id = DecisionId(self.rules.hashing.numbered(&self.rules.model, number));
        record.decision_id = Some(id);
        record.until = Some(until);
        record.action = if reservation.is_none() { action } else { Action::Alert };
        record.explanation.push(' ');
        record.explanation.push_str(&explain::decision(action, rung, until, reservation));
        if action < wanted {
            record.explanation.push_str(explain::SHARED);
        }
        out.records.push(record.clone());
        out.records.push(Record { kind: Kind::Decision, ..record });
        let active_since = Time(case.time.0.saturating_sub(Self::ACTIVE.as_micros() as u64));
        out.blocks.push(Block {
            id,
            client: identity,
            action,
            time: case.time,
            acts_from: case.time,
            until,
            lasts: rung.lasts,
            may_act: reservation.is_none(),
            clients_active: self.memory.clients.active(active_since),
        });
        let only_observed = !case.subject.may_be_blocked();
        self.memory.in_force.enter(identity, InForceDecision { id, action, until, only_observed }, case.time);
        if reservation.is_none() {
            self.memory.offences.note(identity, id, until, case.time);
        }
        self.memory.learner.forget(identity);
        if self.rules.policy.suspends(action, identity) {
            self.forget(case.client);
        }
    }

    /// Forgets a client's evidence.
    pub(super) fn forget(&mut self, client: ClientIndex) {
        self.memory.seen.forget(client);
        self.memory.neighbours.forget(client);
        let detectors = self.detectors.iter_mut().filter_map(|running| running.detector.as_mut());
        detectors.for_each(|detector| detector.forget(client));
        if let Some(tally) = self.memory.tallies.get_mut(client) {
            tally.spoken_of = None;
        }
    }
}

/// The next number of a series. The first is the time at which it is needed: an engine that begins afresh, after a
/// restart or a reload, gives no id that one before it gave and that may still be in force.
pub(super) fn next(series: &mut u64, now: Time) -> u64 {
    if *series == 0 {
        *series = now.0;
    }
    let number = *series;
    *series += 1;
    number
}
