//! What a rehearsal found, as plain data: the JSON form is this, the other forms are written from it.

use std::collections::BTreeMap;

use checkgate_detectors::drift::record::DriftRecord;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Kind, Mode, Record};
use serde::Serialize;

use super::Severity;
use super::attack::AttackVerdict;
use super::candidate::Candidate;
use super::compare::Comparison;
use super::histogram::Histogram;
use crate::farthest::ModelClients;

/// The version of the JSON form: a reader that knows it knows every key of it. Keys may be added under it.
pub const VERSION: u32 = 1;

/// All that a rehearsal found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of this form.
    pub version: u32,
    /// The version of the program.
    pub checkgate: &'static str,
    /// The configuration file; nothing where the recorded settings were taken.
    pub policy: Option<String>,
    /// The gravest finding among the recorded clients and the candidate's answers.
    pub severity: Option<Severity>,
    /// What should be known before the rest is believed.
    pub notes: Vec<String>,
    /// The recorded traffic, if there was any.
    pub traffic: Option<Traffic>,
    /// The attacks, by the models whose policy they met.
    pub attacks: Vec<AttackRun>,
    /// What another policy would have done.
    pub comparison: Option<Comparison>,
    /// What a candidate model answers.
    pub candidate: Option<Candidate>,
}

/// What a policy would have done to recorded traffic.
#[derive(Debug, Default, Serialize)]
pub struct Traffic {
    /// The files.
    pub recordings: Vec<String>,
    /// Whether one of them ends in the middle of an entry.
    pub torn: bool,
    /// Entries.
    pub entries: u64,
    /// Questions.
    pub requests: u64,
    /// Rows that were scored.
    pub rows: u64,
    /// Clients that asked, by key where a request had one and by address otherwise.
    pub clients: usize,
    /// Questions whose clients were too many to be counted one by one.
    pub requests_of_uncounted_clients: u64,
    /// When the first entry was taken, Unix seconds.
    pub from: f64,
    /// When the last one was.
    pub until: f64,
    /// Questions that this policy refuses.
    pub refused: u64,
    /// Questions that were refused when they were recorded: what they asked is not known.
    pub refused_when_recorded: u64,
    /// Answers that broke their contract.
    pub answers_that_break_their_contract: u64,
    /// Parts that were not looked into, by reason.
    pub not_inspected: BTreeMap<&'static str, u64>,
    /// Whether the brake came on.
    pub brake: bool,
    /// What was decided at each model.
    pub models: BTreeMap<String, ModelSum>,
    /// Findings, by severity.
    pub findings_by_severity: BTreeMap<Severity, u64>,
    /// Clients of whom something was told, the gravest first.
    pub verdicts: Vec<ClientVerdict>,
    /// Who asked most and covered most, as it stood at the end: nothing is told of anybody for it.
    pub farthest: Vec<ModelClients>,
    /// The findings.
    pub findings: Vec<FindingLine>,
    /// Findings beyond those.
    pub findings_not_shown: u64,
    /// Changes of drift that would have been told, in order.
    pub drift: Vec<DriftRecord>,
    /// Changes of drift beyond those.
    pub drift_not_shown: u64,
    /// Questions over time.
    pub over_time: Option<Histogram>,
}

/// What one model saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelSum {
    /// Its mode.
    pub mode: Mode,
    /// Its questions.
    pub requests: u64,
    /// Their rows.
    pub rows: u64,
    /// Findings about its clients.
    pub findings: u64,
}

/// One attack run of the pack against one policy.
#[derive(Debug, Serialize)]
pub struct AttackRun {
    /// The models of the configuration that have this policy.
    pub models: Vec<String>,
    /// Its mode.
    pub mode: Mode,
    /// The attacks.
    pub attacks: Vec<AttackVerdict>,
}

/// What was done about a client, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was told of it.
    Unnoticed,
    /// It was told of.
    Told,
    /// A decision was taken that did not act: the model is in `observe`, or something held it back.
    WouldAct,
    /// Its requests were tagged.
    Tagged,
    /// It was throttled.
    Throttled,
    /// Its answers were degraded.
    Degraded,
    /// It was blocked.
    Blocked,
}

impl Outcome {
    /// What an acting decision of that action does.
    pub fn of(action: Action) -> Self {
        match action {
            Action::Block => Self::Blocked,
            Action::Degrade => Self::Degraded,
            Action::Throttle => Self::Throttled,
            Action::Tag => Self::Tagged,
            Action::Alert | Action::Clamp | Action::Fallback | Action::Refuse => Self::Told,
        }
    }

    /// In a word or two for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unnoticed => "not told of",
            Self::Told => "told of",
            Self::WouldAct => "not acted on",
            Self::Tagged => "tagged",
            Self::Throttled => "throttled",
            Self::Degraded => "degraded",
            Self::Blocked => "blocked",
        }
    }
}

/// One client of whom something was told.
#[derive(Clone, Debug, Serialize)]
pub struct ClientVerdict {
    /// Its address or the keyed hash of its key.
    pub client: String,
    /// The strongest that was done.
    pub outcome: Outcome,
    /// The gravest finding.
    pub severity: Severity,
    /// Its questions.
    pub requests: u64,
    /// Their rows.
    pub rows: u64,
    /// Questions that were answered.
    pub answered: u64,
    /// Questions that were answered before the decision, the one that led to it included.
    pub answered_before_decision: Option<u64>,
    /// Questions that this policy refuses.
    pub refused: u64,
    /// Answers that came coarse and late.
    pub degraded: u64,
    /// By how many seconds they came later together, to a client that asks as before.
    pub seconds_later: f64,
    /// Questions that were refused when they were recorded.
    pub refused_when_recorded: u64,
    /// When it first asked, Unix seconds.
    pub first_request: f64,
    /// When it last asked.
    pub last_request: f64,
    /// Findings about it.
    pub findings: u64,
    /// The first of them.
    pub first_finding: Option<Told>,
    /// The strongest decision on it, of several the first.
    pub decision: Option<Told>,
    /// What was told of it, in order.
    pub events: Vec<Event>,
    /// Events beyond those.
    pub events_not_shown: u64,
}

impl ClientVerdict {
    /// What best says why: the decision, or else the first finding.
    pub fn decisive(&self) -> Option<&Told> {
        self.decision.as_ref().or(self.first_finding.as_ref())
    }
}

/// A finding or decision, as far as a verdict shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// When, Unix seconds.
    pub time: f64,
    /// The detector.
    pub detector: String,
    /// The model.
    pub model: String,
    /// What is done.
    pub action: Action,
    /// Whether it acts.
    pub acts: bool,
    /// Until when.
    pub until: Option<f64>,
    /// The decision's id, or the finding's where there is none.
    pub id: String,
    /// Why, in a sentence.
    pub explanation: String,
}

impl Told {
    /// The part of `record` that is shown.
    pub fn of(record: &Record, acts: bool) -> Self {
        let decision = record.decision_id.filter(|_| record.kind == Kind::Decision);
        Self {
            time: record.time.seconds(),
            detector: record.detector.to_owned(),
            model: record.model.to_string(),
            action: record.action,
            acts,
            until: record.until.map(Time::seconds),
            id: decision.map_or_else(|| record.id.to_string(), |id: DecisionId| id.to_string()),
            explanation: record.explanation.clone(),
        }
    }

    /// Whether `record` does more.
    pub fn is_weaker_than(&self, record: &Record, acts: bool) -> bool {
        (self.acts, self.action) < (acts, record.action)
    }
}

/// One moment on a client's line of time.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When, Unix seconds.
    pub time: f64,
    /// The detector.
    pub detector: String,
    /// What is done.
    pub action: Action,
    /// How grave it is.
    pub severity: Severity,
    /// Until when it lasts.
    pub until: Option<f64>,
    /// Whether it acts.
    pub acts: bool,
}

/// A finding as a report lists it: the record itself, how grave it is, and whether its decision acts.
#[derive(Clone, Debug, Serialize)]
pub struct FindingLine {
    /// How grave it is.
    pub severity: Severity,
    /// Whether its decision acts.
    pub acts: bool,
    /// The record.
    #[serde(flatten)]
    pub record: Record,
}

impl FindingLine {
    /// The line of a record.
    pub fn of(record: &Record, severity: Severity, acts: bool) -> Self {
        Self { severity, acts, record: record.clone() }
    }
}

impl Report {
    /// Findings as grave as `severity` or graver, a candidate's broken answers among them and the attacks aside: those
    /// are meant to be found.
    pub fn findings_from(&self, severity: Severity) -> u64 {
        let traffic = self.traffic.iter().flat_map(|traffic| &traffic.findings_by_severity);
        let recorded: u64 = traffic.filter(|(of, _)| **of >= severity).map(|(_, count)| count).sum();
        let candidate = self.candidate.iter().filter(|candidate| candidate.severity() >= Some(severity));
        recorded + candidate.map(|candidate| candidate.breaks).sum::<u64>()
    }
}
