//! Constant steps: row after row moved by the same vector.
//!
//! Whoever walks a straight line through feature space, towards a decision boundary or across a plane, moves each row
//! by what the last one was moved by. The step of a row leads to it from the client's own row that lies nearest, so
//! that unrelated questions in between do not hide a walk. Steps are compared by their length and by one projection,
//! in the reference's spreads, so that a client takes sixteen bytes.
//!
//! Cost: two multiplications for each value of a new row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
use crate::neighbours::WIDTH_MAX;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "constant_step",
    summary: "Rows of one client follow each other at a constant step",
    source: "differences of consecutive queries, as in GWAD (CVPR 2025), compared with each other only",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::Two,
    aspect: Aspect::Case,
    tells_alone: false,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 80,
    schema: super::schema_of::<Steady>,
    defaults: super::defaults_of::<Steady>,
    example: r#"{"rows": 30}"#,
    check: super::check_of::<Steady>,
    build: |parameters| super::build_with(parameters, |steady: Steady| ConstantStep { steady }),
};

/// When steps count as constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Steady {
    /// Rows in a row, each moved by the step of the one before, at which the detector speaks: 5 to 1000.
    #[schemars(range(min = 5, max = 1000))]
    pub rows: u32,
}

impl Default for Steady {
    fn default() -> Self {
        Self { rows: 15 }
    }
}

impl Parameters for Steady {
    fn check(&self) -> Result<(), ParameterError> {
        if (5..=1000).contains(&self.rows) {
            return Ok(());
        }
        Err(ParameterError::at("rows", format!("{} is out of range; give 5 to 1000", self.rows)))
    }
}

/// By how much of its length a step may differ from the one before: values are often cut to a few decimals.
const SAME: f32 = 0.01;

struct ConstantStep {
    steady: Steady,
}

/// The latest step of a client, and the rows that came at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    length: f32,
    projection: f32,
    run: Option<Box<Trail>>,
}

impl QueryDetector for ConstantStep {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let mut longest = None;
        for position in 0..seen.rows().len() {
            let Some((before, row)) = exchange.neighbours.step(position) else { continue };
            me.step(before, row, Origin { request: exchange.id, time: exchange.time });
            longest = me.run.as_deref().copied().filter(|run| run.rows >= self.steady.rows).or(longest);
        }
        if let Some(trail) = longest {
            out.push(Finding {
                tier: Tier::Two,
                statistic: f64::from(trail.rows),
                limit: f64::from(self.steady.rows),
                trail,
                fields: Vec::new(),
                did: "moved row after row by one and the same step".to_owned(),
                rests_on: Some(reference.trust),
            });
        }
    }
}

impl Slot {
    /// Takes the step from one scaled row to another.
    fn step(&mut self, before: &[f32], row: &[f32], origin: Origin) {
        let changes = || row.iter().zip(before).map(|(row, before)| row - before);
        let length = changes().map(|change| change * change).sum::<f32>().sqrt();
        let projection = changes().zip(&WEIGHTS).map(|(change, weight)| change * weight).sum::<f32>();
        let same = |one: f32, other: f32| (one - other).abs() <= SAME * length;
        if length > 0.0 && same(length, self.length) && same(projection, self.projection) {
            self.run.get_or_insert_default().add(origin);
        } else {
            self.run = None;
        }
        (self.length, self.projection) = (length, projection);
    }
}

/// One weight to a column, between -1 and 1, that no two columns share: multiples of the golden ratio without their
/// whole part.
static WEIGHTS: [f32; WIDTH_MAX] = weights();

const fn weights() -> [f32; WIDTH_MAX] {
    const GOLDEN: f32 = 0.618_034;
    let mut weights = [0.0; WIDTH_MAX];
    let mut rest: &mut [f32] = &mut weights;
    let mut column = 1_u16;
    while let Some((weight, behind)) = rest.split_first_mut() {
        let multiple = column as f32 * GOLDEN;
        *weight = (multiple - (multiple as i32) as f32) * 2.0 - 1.0;
        rest = behind;
        column += 1;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Time;

    #[test]
    fn weights_are_what_is_left_of_multiples_of_the_golden_ratio() {
        for (weight, column) in WEIGHTS.into_iter().zip(1_u16..) {
            assert_eq!(weight, (f32::from(column) * 0.618_034).fract() * 2.0 - 1.0, "{column}");
        }
    }

    fn run(rows: &[[f32; 3]]) -> u32 {
        let mut slot = Slot::default();
        for (number, pair) in rows.windows(2).enumerate() {
            slot.step(&pair[0], &pair[1], Origin { request: number as u64, time: Time(0) });
        }
        slot.run.map_or(0, |run| run.rows)
    }

    #[test]
    fn only_one_and_the_same_step_makes_a_run() {
        let walk: Vec<[f32; 3]> = (0..10_u8).map(f32::from).map(|n| [n, 0.5 * n, 7.0]).collect();
        assert_eq!(run(&walk), 8, "the first step has none before it");
        let rounded: Vec<[f32; 3]> =
            walk.iter().map(|row| row.map(|value| value + 0.001 * value.sin())).collect();
        assert_eq!(run(&rounded), 8, "but for rounding");
        let turning: Vec<[f32; 3]> =
            (0..10_usize).map(|n| [[0.0, 0.0, 0.0], [1.0, 0.5, 0.0]][n % 2]).collect();
        assert_eq!(run(&turning), 0, "to and fro is no walk");
        let same_length: Vec<[f32; 3]> =
            [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]].to_vec();
        assert_eq!(run(&same_length), 0, "as long, but elsewhere");
    }
}
