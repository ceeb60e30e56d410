//! LINE: many values of one field, everything else unchanged.
//!
//! Price lists are read out, decision trees walked and attributes inferred by moving one field over its range. An
//! honest what-if form or slider stays at a handful of values (5 at most on the recorded honest clients). A slider that
//! asks at every stop, or a report over all regions, moves one field over more, and shows how the model hangs on one
//! field of one case, and a second slider shows another. Whoever reads a model out goes on: over the rest of the range,
//! along more fields of the same case, or over a grid of two. So where a reference is named, a line is told from `values` on,
//! and may block once two other fields of the case were moved, too, or one from several rows of the line, or the line has
//! `alone` values. A line whose values come twelve hours apart or more, as from somebody who watches a price, may not. Without one, a line may block from `values` on: there nothing else can.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Habit, Needs, ParameterError, Parameters, Purpose, QueryDetector,
    QuerySpec, is_one_of, tell_first,
};
use crate::facts::Time;
use crate::finding::Tier;
use crate::lines::{LineHit, Marks};
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "one_field_sweep",
    summary: "One field moved over many values while every other field stays as it is",
    source: "leave-one-out keys; the probes of Tramer et al., Stealing Machine Learning Models, USENIX Security 2016",
    atlas: "AML.T0024.002",
    owasp: "ML05:2023",
    tier: Tier::One,
    aspect: Aspect::Case,
    tells_alone: false,
    purpose: Purpose::Technique,
    needs: Needs::Question,
    state_bytes_max: 16,
    schema: super::schema_of::<Sweep>,
    defaults: super::defaults_of::<Sweep>,
    example: r#"{"values": 20, "free_fields": ["excess"]}"#,
    check: super::check_of::<Sweep>,
    build: |parameters| super::build_with(parameters, |sweep: Sweep| OneFieldSweep { sweep }),
};

/// When a sweep counts as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    /// Distinct values of one field, all other fields equal, at which the detector speaks: 3 to 64. Where a reference is
    /// named, it may block only if two more fields were moved from one of these rows, to two or more other values each, or
    /// one from several of them.
    #[schemars(range(min = 3, max = 64))]
    pub values: usize,
    /// Distinct values at which it may block though no other field was moved: `values` to 64. The stops of a slider and
    /// the regions of a country mostly stay below. Values that come twelve hours apart or more do not count here. Without
    /// a named reference, `values` is enough.
    #[schemars(range(min = 3, max = 64))]
    pub alone: usize,
    /// Fields that customers may sweep, by name or by position from 0.
    pub free_fields: Vec<String>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { values: 12, alone: 24, free_fields: Vec::new() }
    }
}

impl Parameters for Sweep {
    fn check(&self) -> Result<(), ParameterError> {
        let out_of_range = |value, least| format!("{value} is out of range; give {least} to {}", Marks::MAX);
        if !(3..=Marks::MAX).contains(&self.values) {
            return Err(ParameterError::at("values", out_of_range(self.values, 3)));
        }
        if !(self.values..=Marks::MAX).contains(&self.alone) {
            return Err(ParameterError::at("alone", out_of_range(self.alone, self.values)));
        }
        Ok(())
    }
}

/// Time between two values of a line, on average, from which on somebody may only watch: twice a day.
const WATCHED_PACE: Duration = Duration::from_secs(12 * 3600);

struct OneFieldSweep {
    sweep: Sweep,
}

impl QueryDetector for OneFieldSweep {
    type Slot = Habit;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Habit, out: &mut Findings) {
        let hits = seen.rows().iter().flat_map(|row| seen.line_hits(row));
        let marks =
            hits.filter(|hit| self.marks(exchange, hit)).map(|hit| (self.tier(exchange, me, hit), hit));
        tell_first(marks, out, |tier, hit| self.word(exchange, tier, hit));
    }
}

/// Whether the values of a line came so slowly that somebody may only watch how an answer changes.
fn is_watched(hit: &LineHit, now: Time) -> bool {
    now.since(hit.trail.since) >= WATCHED_PACE * hit.values as u32
}

impl OneFieldSweep {
    fn marks(&self, exchange: &Exchange<'_>, hit: &LineHit) -> bool {
        hit.values >= self.sweep.values && !is_one_of(&self.sweep.free_fields, exchange.question, hit.column)
    }

    fn tier(&self, exchange: &Exchange<'_>, me: &mut Habit, hit: &LineHit) -> Tier {
        let is_long = hit.values >= self.sweep.alone && !is_watched(hit, exchange.time);
        let suffices = exchange.trusted().is_none() || hit.crossed || is_long;
        if suffices { me.tier(exchange.id, &hit.trail) } else { Tier::Two }
    }

    fn word(&self, exchange: &Exchange<'_>, tier: Tier, hit: &LineHit) -> Finding {
        let field = exchange.question.name(hit.column);
        let values = hit.values;
        Finding {
            tier,
            statistic: values as f64,
            limit: self.sweep.values as f64,
            trail: hit.trail,
            did: format!(
                "tried {values} different values of field {field:?} while every other field stayed the same"
            ),
            fields: vec![field],
            rests_on: None,
        }
    }
}
