//! LINE: many values of one field, everything else unchanged.
//!
//! Price lists are read out, decision trees walked and attributes inferred by moving one field over its range. An
//! honest what-if form or slider stays at a handful of values (5 at most on the recorded honest clients).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Exchange, Finding, Findings, Habit, Needs, ParameterError, Parameters, QueryDetector, QuerySpec,
    is_one_of, tell_first,
};
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
    /// Distinct values of one field, all other fields equal, at which the detector speaks: 3 to 64.
    #[schemars(range(min = 3, max = 64))]
    pub values: usize,
    /// Fields that customers may sweep, by name or by position from 0.
    pub free_fields: Vec<String>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { values: 12, free_fields: Vec::new() }
    }
}

impl Parameters for Sweep {
    fn check(&self) -> Result<(), ParameterError> {
        if (3..=Marks::MAX).contains(&self.values) {
            return Ok(());
        }
        Err(ParameterError::at(
            "values",
            format!("{} is out of range; give 3 to {}", self.values, Marks::MAX),
        ))
    }
}

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
            hits.filter(|hit| self.marks(exchange, hit)).map(|hit| (me.tier(exchange.id, &hit.trail), hit));
        tell_first(marks, out, |tier, hit| self.word(exchange, tier, hit));
    }
}

impl OneFieldSweep {
    fn marks(&self, exchange: &Exchange<'_>, hit: &LineHit) -> bool {
        hit.values >= self.sweep.values && !is_one_of(&self.sweep.free_fields, exchange.question, hit.column)
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
