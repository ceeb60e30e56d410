//! What a rehearsal counts of each client.

use std::collections::BTreeMap;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Kind, Record};
use checkgate_detectors::identity::{Asker, Identity};

use super::report::{ClientVerdict, Event, Outcome, Told};
use super::runner::{Fate, Taken};
use super::severity::Severity;

/// Clients that are counted one by one; what further ones did counts in the sums only.
const CLIENTS_MAX: usize = 100_000;
/// Events of one client that a report shows.
const EVENTS_MAX: usize = 200;

/// All clients of a rehearsal.
#[derive(Debug, Default)]
pub struct Clients {
    by_identity: BTreeMap<Identity, Tally>,
    /// Questions of clients beyond those that are counted one by one.
    pub uncounted: u64,
}

/// What one client did, and what was done to it.
#[derive(Clone, Debug, Default)]
struct Tally {
    requests: u64,
    rows: u64,
    answered: u64,
    degraded: u64,
    refused: u64,
    unknown: u64,
    first: Option<Time>,
    last: Time,
    findings: u64,
    severity: Option<Severity>,
    first_finding: Option<Told>,
    decision: Option<Told>,
    answered_before_decision: u64,
    events: Vec<Event>,
    events_over: u64,
}

impl Clients {
    /// Counts what an entry led to.
    pub fn count(&mut self, taken: &Taken<'_>) {
        if let Some((asker, fate)) = taken.fate {
            self.ask(asker, fate, taken);
        }
        for record in taken.records {
            let acts = record.decision_id.is_some_and(|id| taken.acting.contains(&id));
            self.tell(record, acts);
        }
    }

    /// A question counts for the address and for the key, as findings may be about either.
    fn ask(&mut self, asker: Asker, fate: Fate, taken: &Taken<'_>) {
        let identities = [Some(Identity::Address(asker.address)), asker.key.map(Identity::Key)];
        for identity in identities.into_iter().flatten() {
            let Some(tally) = self.tally(identity) else {
                self.uncounted += 1;
                continue;
            };
            tally.requests += 1;
            tally.rows += taken.rows;
            tally.first.get_or_insert(taken.time);
            tally.last = tally.last.max(taken.time);
            match fate {
                Fate::Answered => tally.answered += 1,
                Fate::Degraded => {
                    tally.answered += 1;
                    tally.degraded += 1;
                }
                Fate::Refused => tally.refused += 1,
                Fate::Unknown => tally.unknown += 1,
            }
        }
    }

    fn tell(&mut self, record: &Record, acts: bool) {
        let Some(tally) = self.tally(record.client) else { return };
        let severity = Severity::of(record);
        tally.severity = tally.severity.max(Some(severity));
        tally.note_event(record, acts);
        match record.kind {
            Kind::Finding => {
                tally.findings += 1;
                tally.first_finding.get_or_insert_with(|| Told::of(record, acts));
            }
            Kind::Decision => {
                let stronger = tally.decision.as_ref().is_none_or(|told| told.is_weaker_than(record, acts));
                if stronger {
                    tally.decision = Some(Told::of(record, acts));
                    tally.answered_before_decision = tally.answered;
                }
            }
        }
    }

    fn tally(&mut self, identity: Identity) -> Option<&mut Tally> {
        if self.by_identity.len() >= CLIENTS_MAX && !self.by_identity.contains_key(&identity) {
            return None;
        }
        Some(self.by_identity.entry(identity).or_default())
    }

    /// Clients that were counted one by one; one with a key counts once for it and once for its address.
    pub fn len(&self) -> usize {
        self.by_identity.len()
    }

    /// Those of whom something was told, the gravest first and then in the order of their first finding.
    pub fn verdicts(self) -> Vec<ClientVerdict> {
        let told = self.by_identity.into_iter().filter_map(|(identity, tally)| tally.verdict(identity));
        let mut verdicts: Vec<ClientVerdict> = told.collect();
        verdicts.sort_by(|one, other| {
            let moment = |verdict: &ClientVerdict| verdict.decisive().map_or(0.0, |told| told.time);
            (other.outcome, other.severity)
                .cmp(&(one.outcome, one.severity))
                .then(moment(one).total_cmp(&moment(other)))
                .then(one.client.cmp(&other.client))
        });
        verdicts
    }
}

impl Tally {
    fn note_event(&mut self, record: &Record, acts: bool) {
        if record.kind == Kind::Finding && record.decision_id.is_some() {
            // Its decision follows at the same moment and says the same.
            return;
        }
        if self.events.len() >= EVENTS_MAX {
            self.events_over += 1;
            return;
        }
        self.events.push(Event {
            time: record.time.seconds(),
            detector: record.detector.to_owned(),
            action: record.action,
            severity: Severity::of(record),
            until: record.until.map(Time::seconds),
            acts,
        });
    }

    fn verdict(self, identity: Identity) -> Option<ClientVerdict> {
        let severity = self.severity?;
        let outcome = match &self.decision {
            Some(told) if told.acts => Outcome::of(told.action),
            Some(told) if told.action > Action::Alert => Outcome::WouldAct,
            _ => Outcome::Told,
        };
        Some(ClientVerdict {
            client: identity.to_string(),
            outcome,
            severity,
            requests: self.requests,
            rows: self.rows,
            answered: self.answered,
            answered_before_decision: self.decision.is_some().then_some(self.answered_before_decision),
            refused: self.refused,
            degraded: self.degraded,
            refused_when_recorded: self.unknown,
            first_request: self.first.unwrap_or_default().seconds(),
            last_request: self.last.seconds(),
            findings: self.findings,
            first_finding: self.first_finding,
            decision: self.decision,
            events: self.events,
            events_not_shown: self.events_over,
        })
    }
}

/// Keeps the first records of a rehearsal.
#[derive(Debug, Default)]
pub struct Findings {
    /// One JSON value to a finding.
    pub kept: Vec<super::report::FindingLine>,
    /// Findings beyond those.
    pub over: u64,
    /// How many there were of each severity, weakest first.
    pub by_severity: BTreeMap<Severity, u64>,
}

/// Findings that a report shows one by one.
const FINDINGS_MAX: usize = 10_000;

impl Findings {
    /// Takes the findings of a step; a decision says nothing that its finding does not.
    pub fn take(&mut self, records: &[Record], acting: &[DecisionId]) {
        for record in records.iter().filter(|record| record.kind == Kind::Finding) {
            let severity = Severity::of(record);
            *self.by_severity.entry(severity).or_default() += 1;
            if self.kept.len() < FINDINGS_MAX {
                let acts = record.decision_id.is_some_and(|id| acting.contains(&id));
                self.kept.push(super::report::FindingLine::of(record, severity, acts));
            } else {
                self.over += 1;
            }
        }
    }
}
