//! BISECTION: rows that halve the way between two earlier ones, again and again.
//!
//! Who knows a case and any row of another class finds the border between them by halving the way: each row lies in the
//! middle between the row before and one of the two ends that it was between. HopSkipJump, SignOPT and whatever else sees
//! labels alone begin every step so, long before their rows crowd together. Honest rows come in order: sliders, sensors
//! and time series go on from the row before and do not turn back to the middle. Rows that differ from an earlier one in
//! a single field are left out: people halve prices.
//!
//! The first middle of a chain counts for nothing, for any row may lie between two of many; each that continues it counts.
//! Cost: the rows of a question are compared with the client's first 16 and latest 48, O(64 x width) a row, mostly a few
//! columns of each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::family::{FIRST_ROWS, LATEST_ROWS, Mirror};
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
use crate::neighbours::RowId;
use crate::reference::Trust;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "bisection",
    summary: "Rows of one client halve the way between two earlier ones, again and again",
    source: "the binary search of Chen, Jordan, Wainwright, HopSkipJumpAttack, IEEE S&P 2020",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::One,
    aspect: Aspect::Steps,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 112,
    schema: super::schema_of::<Halves>,
    defaults: super::defaults_of::<Halves>,
    example: r#"{"rows": 8}"#,
    check: super::check_of::<Halves>,
    build: |parameters| super::build_with(parameters, |halves: Halves| Bisection { halves }),
};

/// When rows count as a bisection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Halves {
    /// Rows that continue to halve a way at which the detector speaks: 3 to 1000. They must have come in at least two
    /// requests.
    #[schemars(range(min = 3, max = 1000))]
    pub rows: u32,
}

impl Default for Halves {
    fn default() -> Self {
        Self { rows: 4 }
    }
}

impl Parameters for Halves {
    fn check(&self) -> Result<(), ParameterError> {
        if (3..=1000).contains(&self.rows) {
            return Ok(());
        }
        Err(ParameterError::at("rows", format!("{} is out of range; give 3 to 1000", self.rows)))
    }
}

struct Bisection {
    halves: Halves,
}

/// What is kept of a client: the ends of the way that its latest row halved, and the rows that continued to halve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    ends: Option<(RowId, RowId)>,
    trail: Option<Box<Trail>>,
}

/// How a row stands to the ways before it.
enum Step {
    /// It halves one of the two halves that the row before left.
    Continues(RowId, RowId),
    /// It halves some way that begins at the row before.
    Begins(RowId, RowId),
}

impl QueryDetector for Bisection {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let mut spoke = false;
        for (position, row) in seen.rows().iter().enumerate() {
            let step = step(exchange, position, me.ends).filter(|_| seen.line_hits(row).is_empty());
            me.ends = match step {
                None => None,
                Some(Step::Begins(one, other)) => Some((one, other)),
                Some(Step::Continues(one, other)) => {
                    out.mark(position);
                    let origin = Origin { request: exchange.id, time: exchange.time };
                    me.trail.get_or_insert_default().add(origin);
                    spoke = true;
                    Some((one, other))
                }
            };
        }
        let enough = |trail: &&Trail| spoke && trail.rows >= self.halves.rows && trail.requests > 1;
        if let Some(trail) = me.trail.as_deref().filter(enough) {
            out.push(self.word(reference.trust, *trail));
        }
    }
}

/// How the new row at `position` stands to the ways before it, where the row before halved the one between `ends`.
fn step(exchange: &Exchange<'_>, position: usize, ends: Option<(RowId, RowId)>) -> Option<Step> {
    let (neighbours, client) = (exchange.neighbours, exchange.client);
    let at = neighbours.first_row() + position as RowId;
    let row = neighbours.row(client, at)?;
    let before = neighbours.before(client, at)?;
    let mirror = Mirror::new(row, before.values);
    let halves = |end: RowId| neighbours.row(client, end).is_some_and(|end| mirror.is_middle(end));
    if let Some((one, other)) = ends
        && let Some(end) = [one, other].into_iter().find(|end| halves(*end))
    {
        return Some(Step::Continues(before.latest, end));
    }
    let to_one = exchange.reference?.geometry()?.steps() as f32;
    let glance = mirror.glance(before.sketches()?, to_one);
    let is_end = |end: &[f32]| mirror.is_middle(end).then_some(());
    let (end, ()) = before.find((FIRST_ROWS, LATEST_ROWS), None, &glance, is_end)?;
    Some(Step::Begins(before.latest, end))
}

impl Bisection {
    fn word(&self, trust: Trust, trail: Trail) -> Finding {
        Finding {
            tier: Tier::One,
            statistic: f64::from(trail.rows),
            limit: f64::from(self.halves.rows),
            trail,
            fields: Vec::new(),
            did: "halved the way between two of its rows again and again, as a search for the border between two classes \
                  does"
                .to_owned(),
            rests_on: Some(trust),
        }
    }
}
