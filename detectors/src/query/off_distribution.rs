//! OOD: a client most of whose requests lie where the reference has no rows.
//!
//! Synthetic queries, other people's data and the first steps of an evasion search lie far from what a model is used
//! for. One odd request means nothing, so each client has a cumulative sum (Page, Biometrika 1954) of the evidence
//! for "two in five requests are off" against "three in a hundred are": it takes one step a request, by the majority
//! of its rows, so that a large batch is one step too.
//!
//! Lying off is no proof: units, cameras and whole regions change. Such rows change in few columns, or in all of them
//! together. Rows that somebody draws by chance are far in many columns at once
//! ([`is_far`](crate::geometry::Geometry::is_far)), and their columns do not hang together as the reference's do
//! ([`linkage`](crate::linkage)). Where both hold of twelve rows of one client or more, it may block by default.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::cumulative::{Evidence, Kept, Shares, Steps};
use crate::finding::Tier;
use crate::lines::Origin;
use crate::neighbours::RowId;
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
    aspect: Aspect::Place,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 168 + 10 * FAR_ROWS,
    schema: super::schema_of::<Off>,
    defaults: super::defaults_of::<Off>,
    example: r#"{"attack_share": 0.5, "false_alarms": 0.00001, "may_block": true}"#,
    check: super::check_of::<Off>,
    build: |parameters| super::build_with(parameters, OffDistribution::new),
};

/// Far rows of a client that are kept, the latest.
const FAR_ROWS: usize = 64;
/// Their columns are looked at again once this part of them is new.
const LOOKED_AT_EVERY: usize = 4;

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
    /// Whether it may block, where the reference is trusted, on rows that are far from it in many columns at once, and
    /// whose columns vary independently of each other where the reference's do not: rows drawn by chance, such as those
    /// that a copy of the model is fitted to. A load test with values by chance looks the same.
    pub drawn_may_block: bool,
}

impl Default for Off {
    fn default() -> Self {
        Self {
            honest_share: 0.03,
            attack_share: 0.4,
            false_alarms: 1e-4,
            may_block: false,
            drawn_may_block: true,
        }
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
    drawn_may_block: bool,
}

/// What is kept of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    off: Kept,
    far: Option<Box<FarRows>>,
}

/// The sum of requests that are far in many columns, and their rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct FarRows {
    evidence: Kept,
    rows: VecDeque<RowId>,
    /// Rows that must come before their columns are looked at again: that takes longer than a hundred rows do.
    wait: u32,
}

impl OffDistribution {
    fn new(off: Off) -> Self {
        let Off { may_block, drawn_may_block, .. } = off;
        Self { steps: Steps::new(off.shares()), may_block, drawn_may_block }
    }
}

impl QueryDetector for OffDistribution {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let Some(judged) = judged(exchange, seen, reference) else { return };
        if self.drawn_may_block
            && let Some(evidence) = self.drawn(exchange, reference, &judged, me)
        {
            out.push(self.word_drawn(reference.trust, evidence));
        }
        if judged.off * 2 <= judged.rows {
            return self.steps.fall(&mut me.off);
        }
        let origin = Origin { request: exchange.id, time: exchange.time };
        if let Some(evidence) = self.steps.rise(&mut me.off, origin, judged.off) {
            out.push(self.word(reference.trust, evidence));
        }
    }
}

impl OffDistribution {
    /// The evidence that a client's rows are drawn by chance, where there is enough.
    fn drawn<'a>(
        &self,
        exchange: &Exchange<'_>,
        reference: &Reference,
        judged: &Judged,
        me: &'a mut Slot,
    ) -> Option<&'a Evidence> {
        if judged.far.is_empty() && me.far.is_none() {
            return None;
        }
        if judged.far.len() * 2 <= judged.rows {
            me.far.iter_mut().for_each(|far| self.steps.fall(&mut far.evidence));
            me.far.take_if(|far| far.evidence.is_none());
            return None;
        }
        let far = me.far.get_or_insert_default();
        far.rows.extend(&judged.far);
        far.rows.drain(..far.rows.len().saturating_sub(FAR_ROWS));
        let origin = Origin { request: exchange.id, time: exchange.time };
        far.wait = far.wait.saturating_sub(judged.far.len() as u32);
        let evidence =
            self.steps.rise(&mut far.evidence, origin, judged.far.len()).filter(|_| far.wait == 0)?;
        let rows = far.rows.iter().filter_map(|row| exchange.neighbours.row(exchange.client, *row));
        let drawn = reference.trust == Trust::Trusted
            && reference.geometry().is_some_and(|geometry| geometry.vary_by_chance(rows));
        if !drawn {
            far.wait = (far.rows.len() / LOOKED_AT_EVERY) as u32;
        }
        drawn.then_some(evidence)
    }

    fn word_drawn(&self, trust: Trust, evidence: &Evidence) -> Finding {
        Finding {
            tier: Tier::One,
            did: "sent rows that are far from everything the reference knows, in many fields at once, and whose fields \
                  vary independently of each other where those of customers hang together"
                .to_owned(),
            ..self.word(trust, evidence)
        }
    }

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

/// How many new rows were judged, how many of them lie off the reference, and which ones far in many columns.
struct Judged {
    rows: usize,
    off: usize,
    far: Vec<RowId>,
}

/// Judges the new rows, where there are any and a way to. A row that differs from an earlier one in a single field
/// is left out: one odd case looked at from many sides, as a comparison portal does, is one piece of evidence.
fn judged(exchange: &Exchange<'_>, seen: &Seen, reference: &Reference) -> Option<Judged> {
    let geometry = reference.geometry()?;
    let columns = exchange.columns.of_reference()?;
    let mut scratch = Vec::new();
    let mut judged = Judged { rows: 0, off: 0, far: Vec::new() };
    let unrelated = seen.rows().iter().enumerate().filter(|(_, row)| seen.line_hits(row).is_empty());
    for (position, row) in unrelated {
        judged.rows += 1;
        let scaled = exchange.neighbours.scaled(position).unwrap_or_else(|| {
            geometry.scale(exchange.question, row.index, columns, &mut scratch);
            &scratch
        });
        if geometry.has_near(scaled) {
            continue;
        }
        judged.off += 1;
        if geometry.is_far(scaled) {
            judged.far.push(exchange.neighbours.first_row() + position as RowId);
        }
    }
    (judged.rows > 0).then_some(judged)
}
