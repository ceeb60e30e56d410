//! NEAR: rows of one client closer together than honest rows ever lie.
//!
//! Searches for adversarial examples ask about many small changes of one row. How close honest rows come is read off
//! the reference: the smallest distance of one of its rows to its tenth nearest among 800. A row is marked when its
//! own tenth nearest, among the client's latest 1,000 rows, is closer than 0.4 of that. Only the client's own rows
//! count: near copies that somebody else sends mark nothing, and the rest of the traffic does not matter.
//! A marked row that lies where the reference's rows lie densely is no evidence: there everybody asks. Neither is one on
//! a line of eleven rows that differ in one field alone, such as the stops of a slider, or one of ten rows or more that
//! each differ from one base in one field alone, as in a chart of what moves an answer: sweeps have detectors of their
//! own. A base to which two single changes led is no chart's, but that of a search which keeps what helped.
//!
//! Nor are the rows of somebody who turns a few knobs: those near it differ from it in three fields at most, as in a chart
//! around a case or sliders that go on from each other, or it is one step from one of them and they differ in five fields
//! together, no more than half of the columns; and its values there keep the steps of the reference. Searches move many
//! fields, or by less. Rows that go one way in every field, such as a fading lamp, search for nothing, and a client whose rows
//! come six hours apart may watch a case. The price: a search by whole steps in so few fields is left
//! to the detectors of sweeps.
//!
//! The idea is Chen, Carlini and Wagner's (Stateful Detection of Black-Box Adversarial Attacks, 2019), without an
//! encoder and with a limit that follows from the reference. It is blind to noise larger than the limit, and silent
//! before eleven rows. Cost: a marked row is compared with the client's rows once more, O(remembered rows x width), and
//! with the reference's.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::facts::Time;
use crate::finding::Tier;
use crate::lines::{BaseHit, MOVED, Origin, Trail};
use crate::neighbours::{Around, RowId};
use crate::reference::{Reference, Trust};
use crate::seen::{Seen, SeenRow};

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
    state_bytes_max: 96,
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
    /// Marked rows at which the detector speaks: 3 to 1000. They must have come in at least two requests. Rows do not count
    /// that differ from those near them in a few fields by whole steps, as in charts and with sliders, that all go one way, or
    /// that come six hours apart.
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

/// Time from one row of a client to the next from which on somebody may only watch a case, such as a patient: four times a day.
const WATCHED_PACE: Duration = Duration::from_secs(6 * 3600);
/// Most fields in which rows differ that are charted around one case: one each, and one that was changed in between.
const APART_MAX: usize = 3;
/// Most fields that somebody moves one after the other; a star has six.
const KNOBS_MAX: usize = 5;

struct NearDuplicates {
    near: Near,
}

/// What is kept of a client that has rows which count.
type Slot = Option<Box<Evidence>>;

/// Rows that lie close together for no reason that people have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Evidence {
    trail: Trail,
    /// When the latest came.
    latest: Time,
    /// The latest.
    row: RowId,
}

impl Evidence {
    /// Takes a row, the `rows`-th of the client's after the latest that was taken. It counts unless that many took so long
    /// that somebody may only watch a case.
    fn take(&mut self, origin: Origin, row: RowId, rows: usize) {
        if self.trail.rows == 0 || origin.time.since(self.latest) < WATCHED_PACE * rows as u32 {
            self.trail.add(origin);
        }
        (self.latest, self.row) = (origin.time, row);
    }
}

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
            if self.is_honest_work(exchange, reference, seen, position) {
                continue;
            }
            let evidence = me.get_or_insert_default();
            let row = exchange.neighbours.first_row() + position as RowId;
            let rows = exchange.neighbours.rows_between(exchange.client, evidence.row, row);
            evidence.take(Origin { request: exchange.id, time: exchange.time }, row, rows);
            closest = Some(closest.map_or(ratio, |closest: f64| closest.min(ratio)));
        }
        if let (Some(Evidence { trail, .. }), Some(closest)) = (me.as_deref(), closest)
            && trail.rows >= self.near.rows
            && trail.requests > 1
        {
            out.push(self.word(reference.trust, closest, *trail));
        }
    }
}

/// Whether the row lies on a line long enough for its ten nearest to be on it, too, or was varied from a base from which
/// so many others were.
fn is_swept(seen: &Seen, row: &SeenRow) -> bool {
    let on_line = seen.line_hits(row).iter().any(|hit| hit.values > NEAREST);
    let is_chart = |hit: &BaseHit| hit.arms as usize >= NEAREST && hit.depth < MOVED;
    on_line || seen.base_hits(row).iter().any(is_chart)
}

/// Whether somebody turned a few knobs, or watches something that goes one way: how the rows near it differ from it says
/// so, and its values keep the reference's steps where they differ.
fn is_turned(exchange: &Exchange<'_>, reference: &Reference, around: &Around<'_>, index: usize) -> bool {
    let (moved, half) = (around.moved().filter(|moved| *moved).count(), around.moved().len() / 2);
    let is_chart = around.most() <= APART_MAX.min(half);
    let is_slider = around.has_step() && moved <= KNOBS_MAX.min(half);
    (is_chart || is_slider || around.goes_one_way()) && keeps_steps(exchange, reference, around, index)
}

/// Whether the values of the row at `index` of the question are multiples of the reference's steps in the columns that moved.
fn keeps_steps(exchange: &Exchange<'_>, reference: &Reference, around: &Around<'_>, index: usize) -> bool {
    let Some((mut finer, geometry)) = exchange.finer(index).zip(reference.geometry()) else { return false };
    let moved = geometry.scales().zip(around.moved()).filter(|(_, moved)| *moved);
    let moved: Vec<usize> = moved.map(|((column, _), _)| column).collect();
    !finer.any(|marginal| moved.contains(&marginal.column))
}

impl NearDuplicates {
    /// Whether the marked row is one that people make by turning knobs, charting a case, or asking what everybody asks.
    fn is_honest_work(
        &self,
        exchange: &Exchange<'_>,
        reference: &Reference,
        seen: &Seen,
        position: usize,
    ) -> bool {
        let Some(row) = seen.rows().get(position) else { return false };
        let around = || exchange.neighbours.around(position, reference, self.near.ratio);
        is_swept(seen, row)
            || around().is_some_and(|around| is_turned(exchange, reference, &around, row.index))
            || exchange.neighbours.is_dense(position, reference)
    }

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
