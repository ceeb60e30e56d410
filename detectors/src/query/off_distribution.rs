//! OOD: a client most of whose requests lie where the reference has no rows.
//!
//! Synthetic queries, other people's data and the first steps of an evasion search lie far from what a model is used
//! for. One odd request means nothing, so each client has a cumulative sum (Page, Biometrika 1954) of the evidence
//! for "two in five requests are off" against "three in a hundred are": it takes one step a request, by the majority
//! of its rows, so that a large batch is one step too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Exchange, Finding, Findings, Needs, ParameterError, Parameters, QueryDetector, QuerySpec};
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
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
        let wrong = |key, message: &str| Err(ParameterError::at(key, message));
        if !(self.honest_share > 0.0 && self.honest_share < self.attack_share) {
            return wrong("honest_share", "must lie above 0 and below attack_share");
        }
        if !(self.attack_share > 0.0 && self.attack_share < 1.0) {
            return wrong("attack_share", "must lie between 0 and 1");
        }
        if !(self.false_alarms > 0.0 && self.false_alarms < 0.1) {
            return wrong("false_alarms", "must lie between 0 and 0.1");
        }
        Ok(())
    }
}

/// The steps of the sum, from the parameters.
struct OffDistribution {
    step_off: f64,
    step_near: f64,
    limit: f64,
    may_block: bool,
}

/// One client's sum, and the rows that raised it since it was last zero.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Slot {
    sum: f64,
    trail: Trail,
}

/// Fewest rows of a client that an alarm rests on.
const ROWS_MIN: u32 = 3;

impl OffDistribution {
    fn new(off: Off) -> Self {
        Self {
            step_off: libm::log(off.attack_share / off.honest_share),
            step_near: libm::log((1.0 - off.attack_share) / (1.0 - off.honest_share)),
            // Wald's bound with one attack in a hundred missed.
            limit: libm::log(0.99 / off.false_alarms),
            may_block: off.may_block,
        }
    }
}

impl QueryDetector for OffDistribution {
    type Slot = Slot;
    type Population = ();

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let Some(Judged { rows, off }) = judged(exchange, seen, reference) else { return };
        let majority = off * 2 > rows;
        me.sum = (me.sum + if majority { self.step_off } else { self.step_near }).max(0.0);
        if me.sum == 0.0 {
            me.trail = Trail::default();
        }
        if majority {
            (0..off).for_each(|_| me.trail.add(Origin { request: exchange.id, time: exchange.time }));
            if me.sum >= self.limit && me.trail.rows >= ROWS_MIN {
                out.push(self.word(reference.trust, me));
            }
        }
    }
}

impl OffDistribution {
    fn word(&self, trust: Trust, me: &Slot) -> Finding {
        let Slot { sum, trail } = me;
        Finding {
            tier: if self.may_block && trust == Trust::Trusted { Tier::One } else { Tier::Two },
            statistic: *sum,
            limit: self.limit,
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
    let columns = reference.columns_of(exchange.question)?;
    let mut scratch = Vec::new();
    let mut judged = Judged { rows: 0, off: 0 };
    for row in seen.rows().iter().filter(|row| seen.line_hits(row).is_empty()) {
        judged.rows += 1;
        judged.off += usize::from(!geometry.is_near(exchange.question, row.index, &columns, &mut scratch));
    }
    (judged.rows > 0).then_some(judged)
}
