//! From a finding to its record, and from a record to a decision.

use std::sync::Arc;

use super::judgement::Judgement;
use super::notes::Standing;
use super::{Block, Case, Engine, Label, Outbox, Told};
use crate::explain::{self, Reservation};
use crate::facts::Time;
use crate::finding::{
    ATLAS_VERSION, Action, DecisionId, FindingId, Grounds, Kind, Proposed, Record, Scope, Window, request_id,
};
use crate::in_force::InForceDecision;
use crate::ladder::{Ladder, Rung};
use crate::lines::Trail;
use crate::policy::Spans;
use crate::query::Finding;
use crate::rules::Approval;
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
        let mut did = explain::evidence(case.subject.identity, &finding.did, &finding.trail, case.time);
        self.suspect(case.subject.identity);
        if finding.rests_on.is_none() {
            self.unlearn(case.subject.identity);
        }
        let standing = self.standing(turn, case, finding.tier);
        let fresh = match standing {
            Standing::Told { .. } => !self.is_quiet(turn, case),
            Standing::Noted => !self.is_noted(turn, case),
        };
        let judgement = self.judge(Some(turn), label, case, &finding, fresh);
        let decides = judgement.then.action > Action::Alert;
        let mut label = label;
        if decides || fresh {
            did.push_str(&self.name_family(&mut label, case));
        }
        if decides {
            let did = match &judgement.agreement {
                Some(agreement) => format!("{did} {agreement}"),
                None => did,
            };
            let record = self.record(label, case, finding, did);
            return self.decide(case, record, judgement, out);
        }
        if fresh {
            let follows = match standing {
                Standing::Told { ally } => {
                    let alert = explain::alert(finding.rests_on, &judgement.grounds, judgement.muted_until);
                    format!("{}{alert}", ally.map(explain::ally).unwrap_or_default())
                }
                Standing::Noted => format!("{}{}", explain::NOTE, explain::grounds(&judgement.grounds)),
            };
            let mut record = self.record(label, case, finding, format!("{did} {follows}"));
            if standing == Standing::Noted {
                record.kind = Kind::Note;
            }
            record.grounds = judgement.grounds;
            out.records.push(record);
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
            grounds: Grounds::default(),
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

    /// Turns a finding into a decision on its client, or proposes one: both are told. Where nothing stronger could
    /// follow, and as long as a proposal waits, the client's evidence stops counting; says whether it does.
    pub(super) fn decide(
        &mut self,
        case: Case,
        mut record: Record,
        judgement: Judgement,
        out: &mut Outbox,
    ) -> bool {
        let wanted = judgement.then.action;
        let action = self.rules.policy.held_back(wanted, case.subject.identity);
        let rung = self.lasts(self.memory.offences.of(case.subject.identity, case.time), &judgement);
        let term = Term::new(case.time, rung, judgement.then.approval, &self.rules.policy.spans);
        let number = next(&mut self.memory.decisions, case.time);
        let id = DecisionId(self.rules.hashing.numbered(&self.rules.model, number));
        self.use_up(case, &judgement);
        record.decision_id = Some(id);
        record.grounds = judgement.grounds;
        record.grounds.scope = Some(self.rules.policy.scope);
        tell(&mut record, action, &term, case.subject.reservation);
        if action < wanted {
            record.explanation.push_str(explain::SHARED);
        }
        out.records.push(record.clone());
        out.records.push(Record { kind: Kind::Decision, ..record });
        out.blocks.push(self.block(case, id, action, &term));
        self.enter_in_force(case, id, action, &term);
        self.memory.learner.forget(case.subject.identity);
        self.suspect(case.subject.identity);
        self.unlearn(case.subject.identity);
        let tenant = self.rules.policy.tenant(case.subject.identity, case.address);
        let rests =
            term.approval.is_some() || self.rules.policy.suspends(tenant, action, case.subject.identity);
        if rests {
            self.forget(case.client);
        }
        rests
    }

    /// How long a decision on a client lasts that offended `before` times.
    pub(super) fn lasts(&self, before: u32, judgement: &Judgement) -> Rung {
        let policy = &self.rules.policy;
        let own = judgement.lasts.clone().map(Ladder::new);
        let rung = own.as_ref().unwrap_or(&policy.ladder).rung(before);
        let at_most = judgement.at_most.map_or(policy.spans.at_most, |own| own.min(policy.spans.at_most));
        Rung { lasts: rung.lasts.min(at_most), ..rung }
    }

    fn block(&self, case: Case, id: DecisionId, action: Action, term: &Term) -> Block {
        let active_since = Time(case.time.0.saturating_sub(Self::ACTIVE.as_micros() as u64));
        Block {
            id,
            client: case.subject.identity,
            action,
            time: case.time,
            acts_from: term.acts_from,
            until: term.until,
            lasts: term.rung.lasts,
            may_act: case.subject.reservation.is_none(),
            clients_active: self.memory.clients.active(active_since),
        }
    }

    /// Remembers the decision. Nobody offended by a proposal that only an operator can approve, before one does.
    fn enter_in_force(&mut self, case: Case, id: DecisionId, action: Action, term: &Term) {
        let identity = case.subject.identity;
        let Term { acts_from, until, .. } = *term;
        let may_be_blocked = case.subject.may_be_blocked();
        let decision = InForceDecision { id, action, acts_from, until, only_observed: !may_be_blocked };
        self.memory.in_force.enter(identity, decision, case.time);
        if may_be_blocked && acts_from < until {
            let counts_for = self.rules.policy.spans.offences_count_for;
            self.memory.offences.note(identity, id, until, counts_for, case.time);
        }
    }

    /// An operator approved a proposal: its client offended, and the decision lasts from now until `until`.
    pub fn approve(&mut self, id: DecisionId, until: Time, time: Time) {
        let Some((identity, before)) = self.memory.in_force.approve(id, until, time) else { return };
        if before.is_proposed(time) && before.acts_from >= before.until && !before.only_observed {
            let counts_for = self.rules.policy.spans.offences_count_for;
            self.memory.offences.note(identity, id, until, counts_for, time);
        }
    }

    /// An operator turned a proposal down: it is no offence, and its client's evidence starts afresh.
    pub fn reject(&mut self, id: DecisionId, time: Time) {
        self.lift(id, time);
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

/// From when to when a decision acts.
struct Term {
    rung: Rung,
    approval: Option<Approval>,
    acts_from: Time,
    /// Its end, or where only an operator approves it, when that is too late.
    until: Time,
}

impl Term {
    fn new(time: Time, rung: Rung, approval: Option<Approval>, spans: &Spans) -> Self {
        let (acts_from, until) = match approval {
            None => (time, time.plus(rung.lasts)),
            Some(Approval { after: Some(after) }) => (time.plus(after), time.plus(after).plus(rung.lasts)),
            Some(Approval { after: None }) => (Time::NEVER, time.plus(spans.proposal_expires)),
        };
        Self { rung, approval, acts_from, until }
    }

    fn proposed(&self, action: Action) -> Option<Proposed> {
        let approval = self.approval?;
        let approves = approval.after.map(|_| self.acts_from);
        let expires = approval.after.is_none().then_some(self.until);
        Some(Proposed { action, lasts: self.rung.lasts, expires, approves })
    }
}

/// Writes into a record what follows. What is only proposed or held back is an alert.
fn tell(record: &mut Record, action: Action, term: &Term, reservation: Option<Reservation>) {
    let proposed = term.proposed(action);
    let acts_of_itself = term.acts_from < term.until;
    record.until = acts_of_itself.then_some(term.until);
    let acts_at_once = proposed.is_none() && reservation.is_none();
    record.action = if acts_at_once { action } else { Action::Alert };
    let follows = match &proposed {
        Some(proposed) => explain::proposal(proposed, term.rung, reservation),
        None => explain::decision(action, term.rung, term.until, reservation),
    };
    record.grounds.proposed = proposed;
    let grounds = explain::grounds(&record.grounds);
    let alone = record.grounds.scope == Some(Scope::Model) && reservation.is_none();
    let scope = if alone { explain::ONE_MODEL } else { "" };
    record.explanation = format!("{} {follows}{scope}{grounds}", record.explanation);
}
