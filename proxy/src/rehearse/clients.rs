//! What a rehearsal counts of each client.

use std::collections::BTreeMap;
use std::time::Duration;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Kind, Record};
use checkgate_detectors::identity::{Asker, Identity};

use super::Severity;
use super::report::{ClientVerdict, Event, Outcome, Told};
use super::runner::{Fate, Taken};

/// Clients that are counted one by one; what further ones did counts in the sums only.
const CLIENTS_MAX: usize = 100_000;
/// Events of one client that a report shows.
const EVENTS_MAX: usize = 200;

/// All clients of a rehearsal.
#[derive(Debug, Default)]
pub struct Clients {
    by_identity: BTreeMap<Identity, Tally>,
    asked: usize,
    /// Questions of clients beyond those that are counted one by one.
    pub uncounted: u64,
}

/// What one client did, and what was done to it.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// Whether a question came whose narrowest identity this is.
    asked_as_itself: bool,
    requests: u64,
    rows: u64,
    answered: u64,
    degraded: u64,
    later: Duration,
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

    /// A question counts for the address and for the key, as findings may be about either; a client is counted by its
    /// narrowest identity.
    fn ask(&mut self, asker: Asker, fate: Fate, taken: &Taken<'_>) {
        let identities = [Some(Identity::Address(asker.address)), asker.key.map(Identity::Key)];
        let narrowest = asker.key.map_or(Identity::Address(asker.address), Identity::Key);
        for identity in identities.into_iter().flatten() {
            let Some(tally) = self.tally(identity) else {
                self.uncounted += u64::from(identity == narrowest);
                continue;
            };
            let is_new = identity == narrowest && !std::mem::replace(&mut tally.asked_as_itself, true);
            tally.requests += 1;
            tally.rows += taken.rows;
            tally.first.get_or_insert(taken.time);
            tally.last = tally.last.max(taken.time);
            match fate {
                Fate::Answered => tally.answered += 1,
                Fate::Degraded => {
                    tally.answered += 1;
                    tally.degraded += 1;
                    tally.later = tally.later.saturating_add(taken.delay);
                }
                Fate::Refused => tally.refused += 1,
                Fate::Unknown => tally.unknown += 1,
            }
            self.asked += usize::from(is_new);
        }
    }

    fn tell(&mut self, record: &Record, acts: bool) {
        // A note is told to nobody.
        if record.kind == Kind::Note {
            return;
        }
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
            Kind::Note | Kind::Drift => {}
        }
    }

    fn tally(&mut self, identity: Identity) -> Option<&mut Tally> {
        if self.by_identity.len() >= CLIENTS_MAX && !self.by_identity.contains_key(&identity) {
            return None;
        }
        Some(self.by_identity.entry(identity).or_default())
    }

    /// Clients that asked and were counted one by one.
    pub fn count_of_clients(&self) -> usize {
        self.asked
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
            seconds_later: self.later.as_secs_f64(),
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

#[cfg(test)]
mod tests {
    use checkgate_detectors::finding::Mode;
    use checkgate_detectors::identity::{Address, Standing};

    use super::*;
    use crate::records::tests::record;

    fn asker(last: u8, key: Option<u64>) -> Asker {
        let address = Address::of(std::net::Ipv4Addr::new(192, 0, 2, last).into());
        Asker { address, standing: Standing::Declared, key, keys_verified: false }
    }

    fn taken<'a>(fate: Option<(Asker, Fate)>, records: &'a [Record], acting: &[DecisionId]) -> Taken<'a> {
        Taken {
            time: Time(5_000_000),
            fate,
            rows: 2,
            delay: Duration::ZERO,
            model: None,
            records,
            drifts: &[],
            brake: false,
            acting: acting.to_vec(),
            not_inspected: &[],
            broke_contract: false,
        }
    }

    #[test]
    fn a_client_counts_once_by_its_narrowest_identity() {
        let mut clients = Clients::default();
        for key in [None, Some(1), Some(2), Some(1), None] {
            clients.count(&taken(Some((asker(7, key), Fate::Answered)), &[], &[]));
        }
        assert_eq!(clients.count_of_clients(), 3, "two keys, and the address by itself");
        assert!(clients.verdicts().is_empty(), "nothing was told of anybody");
    }

    #[test]
    fn a_verdict_tells_the_strongest_decision_and_what_came_before_it() {
        let client = Identity::Address(asker(7, None).address);
        let told = |kind, action| Record { action, client, mode: Mode::Enforce, ..record(kind, 7) };
        let finding = told(Kind::Finding, Action::Block);
        let decision = told(Kind::Decision, Action::Block);
        let id = decision.decision_id.unwrap();
        let mut clients = Clients::default();
        clients.count(&taken(Some((asker(7, None), Fate::Answered)), &[], &[]));
        clients.count(&taken(Some((asker(7, None), Fate::Answered)), &[finding, decision.clone()], &[id]));
        clients.count(&taken(Some((asker(7, None), Fate::Refused)), &[], &[]));
        let verdicts = clients.verdicts();
        let [verdict] = verdicts.as_slice() else { panic!("one client: {verdicts:?}") };
        assert_eq!((verdict.outcome, verdict.severity), (Outcome::Blocked, Severity::High));
        assert_eq!((verdict.answered, verdict.refused, verdict.rows), (2, 1, 6));
        assert_eq!(verdict.answered_before_decision, Some(2), "the one that led to it included");
        let mut held_back = Clients::default();
        held_back.count(&taken(None, &[decision], &[]));
        assert_eq!(held_back.verdicts()[0].outcome, Outcome::WouldAct, "a decision that did not act");
    }

    #[test]
    fn clients_beyond_the_bound_are_counted_together() {
        let mut clients = Clients::default();
        for number in 0..CLIENTS_MAX as u64 + 5 {
            clients.count(&taken(Some((asker(7, Some(number)), Fate::Answered)), &[], &[]));
        }
        // The address takes one place of its own.
        assert_eq!((clients.count_of_clients(), clients.uncounted), (CLIENTS_MAX - 1, 6));
    }
}
