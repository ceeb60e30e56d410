//! The handles of one model.

use checkgate_detectors::engine::Gauges;
use checkgate_detectors::facts::NotInspected;
use checkgate_detectors::finding::{Action, Kind, Record};
use prometheus::{Histogram, IntCounter, IntGauge};

use super::drift::DriftMetrics;
use super::labels::{CodeClass, ContractOutcome, DegradeOutcome, Label, PerLabel, UpstreamFailure};
use super::upstream::UpstreamMetrics;
use super::{Families, OTHER};
use crate::decode::Part;
use crate::gate::Reason;

/// Everything that is counted for one model. Bumping a handle is one atomic addition.
#[derive(Debug)]
pub struct ModelMetrics {
    /// Answered requests by class of status.
    pub requests: PerLabel<CodeClass>,
    /// Head of the request to end of the answer, in seconds.
    pub request_duration: Histogram,
    /// End of the question to first byte of the answer, in seconds.
    pub upstream_duration: Histogram,
    /// Bytes of request bodies.
    pub request_bytes: IntCounter,
    /// Bytes of answer bodies.
    pub response_bytes: IntCounter,
    /// Upstream failures by kind.
    pub upstream_errors: PerLabel<UpstreamFailure>,
    /// Its servers and the connections to them.
    pub upstream: UpstreamMetrics,
    /// Its drift.
    pub drift: DriftMetrics,
    /// Scored rows.
    pub rows: IntCounter,
    /// Rows beyond the cap.
    pub rows_over_cap: IntCounter,
    /// Parts that a full lane shed.
    pub shed: IntCounter,
    /// Requests that a block refused.
    pub refused: IntCounter,
    /// Requests that a throttle refused, or that a degraded client sent beyond its turn.
    pub throttled: IntCounter,
    /// Answers to degraded clients.
    pub degraded_answers: PerLabel<DegradeOutcome>,
    /// Decisions on a client that were not acted on.
    pub would_block: PerLabel<Reason>,
    /// Decisions, by what is done about the client.
    actions: PerLabel<Action>,
    /// Answers with a contract.
    pub contract_answers: PerLabel<ContractOutcome>,
    muted: IntCounter,
    not_inspected: [PerLabel<NotInspected>; 2],
    records: Vec<PerDetector>,
    sizes: Sizes,
}

/// What one detector said of one model.
#[derive(Clone, Debug)]
struct PerDetector {
    detector: &'static str,
    findings: IntCounter,
    notes: IntCounter,
    decisions: IntCounter,
}

/// The engine's sizes, and the bounds that it reached.
#[derive(Clone, Debug)]
struct Sizes {
    clients: IntGauge,
    clients_evicted: IntCounter,
    open_questions: IntGauge,
    open_questions_evicted: IntCounter,
    keys_turned_away: IntCounter,
    decisions_evicted: IntCounter,
    offences_evicted: IntCounter,
    rows_remembered: IntGauge,
    rows_evicted: IntCounter,
    repeats: IntCounter,
    reference_rows: IntGauge,
}

impl ModelMetrics {
    pub(super) fn resolve(all: &Families, name: &str, detectors: &[&'static str]) -> Self {
        let not_inspected = |part: Part| {
            PerLabel::resolve(|reason| all.not_inspected.with_label_values(&[name, part.as_str(), reason]))
        };
        let per_detector = |detector: &'static str| PerDetector {
            detector,
            findings: all.findings.with_label_values(&[name, detector]),
            notes: all.notes.with_label_values(&[name, detector]),
            decisions: all.decisions.with_label_values(&[name, detector]),
        };
        Self {
            requests: PerLabel::resolve(|class| all.requests.with_label_values(&[name, class])),
            request_duration: all.request_duration.with_label_values(&[name]),
            upstream_duration: all.upstream_duration.with_label_values(&[name]),
            request_bytes: all.request_bytes.with_label_values(&[name]),
            response_bytes: all.response_bytes.with_label_values(&[name]),
            upstream_errors: PerLabel::resolve(|kind| all.upstream_errors.with_label_values(&[name, kind])),
            upstream: UpstreamMetrics::resolve(all, name),
            drift: DriftMetrics::resolve(all, name),
            rows: all.rows.with_label_values(&[name]),
            rows_over_cap: all.rows_over_cap.with_label_values(&[name]),
            shed: all.shed.with_label_values(&[name]),
            refused: all.refused.with_label_values(&[name]),
            throttled: all.throttled.with_label_values(&[name]),
            degraded_answers: PerLabel::resolve(|outcome| {
                all.degraded_answers.with_label_values(&[name, outcome])
            }),
            would_block: PerLabel::resolve(|reason| all.would_block.with_label_values(&[name, reason])),
            contract_answers: PerLabel::resolve(|outcome| {
                all.contract_answers.with_label_values(&[name, outcome])
            }),
            actions: PerLabel::resolve(|action| all.decisions_by_action.with_label_values(&[name, action])),
            muted: all.muted.with_label_values(&[name]),
            not_inspected: [not_inspected(Part::Question), not_inspected(Part::Answer)],
            records: detectors.iter().copied().chain([OTHER]).map(per_detector).collect(),
            sizes: Sizes::resolve(all, name),
        }
    }

    /// Counts a body that was not looked into.
    pub fn not_inspected(&self, part: Part, reason: NotInspected) {
        if let Some(reasons) = self.not_inspected.get(part.index()) {
            reasons.inc(reason);
        }
    }

    /// Counts a finding or a decision under its detector.
    pub fn record(&self, record: &Record) {
        let detector = self.known(record.detector);
        let Some(counters) = self.records.iter().find(|counters| counters.detector == detector) else {
            return;
        };
        if record.grounds.muted.is_some() {
            self.muted.inc();
        }
        match record.kind {
            Kind::Finding => counters.findings.inc(),
            Kind::Decision => {
                counters.decisions.inc();
                self.actions.inc(record.action);
            }
            Kind::Note => counters.notes.inc(),
            // A change of drift is no record about a client.
            Kind::Drift => {}
        }
    }

    /// Moves the model's sizes by what changed in one engine since `before`. Several engines may share a label.
    pub fn sizes(&self, before: &Gauges, after: &Gauges) {
        let sizes = &self.sizes;
        shift(&sizes.clients, before.clients, after.clients);
        shift(&sizes.open_questions, before.open_questions, after.open_questions);
        shift(&sizes.rows_remembered, before.rows, after.rows);
        shift(&sizes.reference_rows, before.reference_rows, after.reference_rows);
        advance(&sizes.clients_evicted, before.clients_evicted, after.clients_evicted);
        advance(&sizes.open_questions_evicted, before.open_questions_evicted, after.open_questions_evicted);
        advance(&sizes.keys_turned_away, before.keys_turned_away, after.keys_turned_away);
        advance(&sizes.decisions_evicted, before.decisions_evicted, after.decisions_evicted);
        advance(&sizes.offences_evicted, before.offences_evicted, after.offences_evicted);
        advance(&sizes.rows_evicted, before.rows_evicted, after.rows_evicted);
        advance(&sizes.repeats, before.repeats, after.repeats);
    }

    /// The label that a detector counts under.
    pub(super) fn known(&self, detector: &str) -> &'static str {
        self.records
            .iter()
            .map(|counters| counters.detector)
            .find(|known| *known == detector)
            .unwrap_or(OTHER)
    }
}

impl Sizes {
    fn resolve(all: &Families, name: &str) -> Self {
        Self {
            clients: all.clients.with_label_values(&[name]),
            clients_evicted: all.clients_evicted.with_label_values(&[name]),
            open_questions: all.open_questions.with_label_values(&[name]),
            open_questions_evicted: all.open_questions_evicted.with_label_values(&[name]),
            keys_turned_away: all.keys_turned_away.with_label_values(&[name]),
            decisions_evicted: all.decisions_evicted.with_label_values(&[name]),
            offences_evicted: all.offences_evicted.with_label_values(&[name]),
            rows_remembered: all.rows_remembered.with_label_values(&[name]),
            rows_evicted: all.rows_evicted.with_label_values(&[name]),
            repeats: all.repeats.with_label_values(&[name]),
            reference_rows: all.reference_rows.with_label_values(&[name]),
        }
    }
}

fn shift(gauge: &IntGauge, before: u64, after: u64) {
    gauge.add(after.cast_signed().wrapping_sub(before.cast_signed()));
}

fn advance(counter: &IntCounter, before: u64, after: u64) {
    counter.inc_by(after.saturating_sub(before));
}
