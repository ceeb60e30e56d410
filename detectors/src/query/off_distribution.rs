//! OOD: a client most of whose requests lie where the reference has no rows.
//!
//! Synthetic queries, other people's data and the first steps of an evasion search lie far from what a model is used
//! for. One odd request means nothing, so each client has a cumulative sum (Page, Biometrika 1954) of the evidence
//! for "two in five requests are off" against "three in a hundred are": it takes one step a request, by the majority
//! of its rows, so that a large batch is one step too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Exchange, Finding, Findings, Needs, ParameterError, Parameters, QueryDetector, QuerySpec};
use crate::cumulative::{Evidence, Kept, Shares, Steps};
use crate::finding::Tier;
use crate::lines::Origin;
use crate::reference::{Reference, Trust};
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "off_distribution",
    summary: "Most requests of a client lie far from every row of the reference",
    source: "nearest neighbour in the reference and a cumulative sum (Page, Biometrika 1954)",
    atlas: "AML.T0024.002",
    owasp: "ML05:2023",
    tier: Tier::One,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 80,
    schema: super::schema_of::<Off>,
    defaults: super::defaults_of::<Off>,
    example: r#"{"attack_share": 0.5, "false_alarms": 0.00001, "may_block": true}"#,
    check: super::check_of::<Off>,
    build: |parameters| super::build_with(parameters, OffDistribution::new),
};

/// When a client counts as off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Off {
    /// Share of an honest client's requests that may lie off the reference, above 0 and below `attack_share`.
    pub honest_share: f64,
    /// Share of an attacker's requests that lies off it, below 1.
    pub attack_share: f64,
    /// How likely an honest client's run of requests is taken for an attack, above 0 and below 0.1.
    pub false_alarms: f64,
    /// Whether it may block where the reference is trusted. It only alerts by default: an honest client whose data
    /// drifts away from the reference looks the same, so watch its alerts on your own traffic first.
    pub may_block: bool,
}

impl Default for Off {
    fn default() -> Self {
        Self { honest_share: 0.03, attack_share: 0.4, false_alarms: 1e-4, may_block: false }
    }
}

impl Parameters for Off {
    fn check(&self) -> Result<(), ParameterError> {
        self.shares().check()
    }
}

impl Off {
    fn shares(&self) -> Shares {
        Shares { honest: self.honest_share, attack: self.attack_share, false_alarms: self.false_alarms }
    }
}

struct OffDistribution {
    steps: Steps,
    may_block: bool,
}

impl OffDistribution {
    fn new(off: Off) -> Self {
        Self { steps: Steps::new(off.shares()), may_block: off.may_block }
    }
}

impl QueryDetector for OffDistribution {
    type Slot = Kept;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Kept, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let Some(Judged { rows, off }) = judged(exchange, seen, reference) else { return };
        if off * 2 <= rows {
            return self.steps.fall(me);
        }
        let origin = Origin { request: exchange.id, time: exchange.time };
        if let Some(evidence) = self.steps.rise(me, origin, off) {
            out.push(self.word(reference.trust, evidence));
        }
    }
}

impl OffDistribution {
    fn word(&self, trust: Trust, evidence: &Evidence) -> Finding {
        let Evidence { sum, trail } = evidence;
        Finding {
            tier: if self.may_block && trust == Trust::Trusted { Tier::One } else { Tier::Two },
            statistic: *sum,
            limit: self.steps.limit,
            trail: *trail,
            fields: Vec::new(),
            did: "sent request after request that lies far from everything the reference knows".to_owned(),
            rests_on: Some(trust),
        }
    }
}

/// How many new rows were judged, and how many of them lie off the reference.
struct Judged {
    rows: usize,
    off: usize,
}

/// Judges the new rows, where there are any and a way to. A row that differs from an earlier one in a single field
/// is left out: one odd case looked at from many sides, as a comparison portal does, is one piece of evidence.
fn judged(exchange: &Exchange<'_>, seen: &Seen, reference: &Reference) -> Option<Judged> {
    let geometry = reference.geometry()?;
    let columns = exchange.columns.of_reference()?;
    let mut scratch = Vec::new();
    let mut judged = Judged { rows: 0, off: 0 };
    for row in seen.rows().iter().filter(|row| seen.line_hits(row).is_empty()) {
        judged.rows += 1;
        judged.off += usize::from(!geometry.is_near(exchange.question, row.index, columns, &mut scratch));
    }
    (judged.rows > 0).then_some(judged)
}
