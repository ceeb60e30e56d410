//! NEAR: rows of one client closer together than honest rows ever lie.
//!
//! Searches for adversarial examples ask about many small changes of one row. How close honest rows come is read off
//! the reference: the smallest distance of one of its rows to its tenth nearest among 800. A row is marked when its
//! own tenth nearest, among the client's latest 1,000 rows, is closer than 0.4 of that. Only the client's own rows
//! count: near copies that somebody else sends mark nothing, and neither its pace nor the rest of the traffic matters.
//! A marked row that lies where the reference's rows lie densely is no evidence: there everybody asks. Neither is one on
//! a line of eleven rows that differ in one field alone, such as the stops of a slider, or one of ten rows or more that
//! each differ from one base in one field alone, as in a chart of what moves an answer: sweeps have detectors of their
//! own. A base to which two single changes led is no chart's, but that of a search which keeps what helped.
//!
//! The idea is Chen, Carlini and Wagner's (Stateful Detection of Black-Box Adversarial Attacks, 2019), without an
//! encoder and with a limit that follows from the reference. It is blind to noise larger than the limit, and silent
//! before eleven rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::finding::Tier;
use crate::lines::{BaseHit, MOVED, Origin, Trail};
use crate::reference::Trust;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "near_duplicates",
    summary: "Rows of one client closer together than the reference's rows ever lie",
    source: "Chen, Carlini, Wagner, Stateful Detection of Black-Box Adversarial Attacks, 2019",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::One,
    aspect: Aspect::Case,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 64,
    schema: super::schema_of::<Near>,
    defaults: super::defaults_of::<Near>,
    example: r#"{"ratio": 0.3, "rows": 5}"#,
    check: super::check_of::<Near>,
    build: |parameters| super::build_with(parameters, |near: Near| NearDuplicates { near }),
};

/// When rows count as near duplicates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Near {
    /// How close a row's tenth nearest must be, in parts of how close the reference's rows come: above 0 and at most 1.
    /// Recorded honest clients stay above 0.47.
    pub ratio: f64,
    /// Marked rows at which the detector speaks: 3 to 1000. They must have come in at least two requests.
    #[schemars(range(min = 3, max = 1000))]
    pub rows: u32,
}

impl Default for Near {
    fn default() -> Self {
        Self { ratio: 0.4, rows: 3 }
    }
}

impl Parameters for Near {
    fn check(&self) -> Result<(), ParameterError> {
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            return Err(ParameterError::at("ratio", "must lie above 0 and be at most 1"));
        }
        if !(3..=1000).contains(&self.rows) {
            let message = format!("{} is out of range; give 3 to 1000", self.rows);
            return Err(ParameterError::at("rows", message));
        }
        Ok(())
    }
}

/// The neighbour that a row's distance is measured to.
const NEAREST: usize = 10;

struct NearDuplicates {
    near: Near,
}

/// The marked rows of a client that has any.
type Slot = Option<Box<Trail>>;

impl QueryDetector for NearDuplicates {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let mut closest = None;
        for position in 0..seen.rows().len() {
            let ratio = exchange.neighbours.of(position).and_then(|found| found.tenth_own());
            let Some(ratio) = ratio.filter(|ratio| *ratio < self.near.ratio) else { continue };
            out.mark(position);
            if exchange.neighbours.is_dense(position, reference) || is_swept(seen, position) {
                continue;
            }
            me.get_or_insert_default().add(Origin { request: exchange.id, time: exchange.time });
            closest = Some(closest.map_or(ratio, |closest: f64| closest.min(ratio)));
        }
        if let (Some(trail), Some(closest)) = (me.as_deref(), closest)
            && trail.rows >= self.near.rows
            && trail.requests > 1
        {
            out.push(self.word(reference.trust, closest, *trail));
        }
    }
}

/// Whether the row lies on a line long enough for its ten nearest to be on it, too, or was varied from a base from which
/// so many others were.
fn is_swept(seen: &Seen, position: usize) -> bool {
    let Some(row) = seen.rows().get(position) else { return false };
    let on_line = seen.line_hits(row).iter().any(|hit| hit.values > NEAREST);
    let is_chart = |hit: &BaseHit| hit.arms as usize >= NEAREST && hit.depth < MOVED;
    on_line || seen.base_hits(row).iter().any(is_chart)
}

impl NearDuplicates {
    fn word(&self, trust: Trust, closest: f64, trail: Trail) -> Finding {
        Finding {
            tier: Tier::One,
            statistic: f64::from(trail.rows),
            limit: f64::from(self.near.rows),
            trail,
            fields: Vec::new(),
            did: format!(
                "asked about many small changes of one row: each has ten others of its own at less than {:.2} of the \
                 distance that honest rows keep, the last at {closest:.2}",
                self.near.ratio
            ),
            rests_on: Some(trust),
        }
    }
}
