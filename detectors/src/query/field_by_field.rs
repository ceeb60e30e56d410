//! STAR: one row from which many different fields were varied one at a time.
//!
//! Gradients are estimated, sensitivities listed and decision boundaries approached this way, coordinate by
//! coordinate. Honest clients change what they need to know: 3 fields at most on the recorded ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Exchange, Finding, Findings, Habit, Needs, ParameterError, Parameters, QueryDetector, QuerySpec,
    is_one_of, tell_first,
};
use crate::finding::Tier;
use crate::lines::{BASE_FIELDS_MIN, BaseHit, Marks};
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "field_by_field",
    summary: "One row, and many fields of it varied one at a time",
    source: "leave-one-out keys; the probes of Chen et al., ZOO, AISec 2017",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::One,
    needs: Needs::Question,
    state_bytes_max: 16,
    schema: super::schema_of::<Star>,
    defaults: super::defaults_of::<Star>,
    example: r#"{"fields": 8, "free_fields": ["excess"]}"#,
    check: super::check_of::<Star>,
    build: |parameters| super::build_with(parameters, |star: Star| FieldByField { star }),
};

/// When a star counts as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Star {
    /// Different fields varied one at a time from one row at which the detector speaks: 3 to 64.
    #[schemars(range(min = 3, max = 64))]
    pub fields: usize,
    /// Fields that customers may vary, by name or by position from 0; they do not count.
    pub free_fields: Vec<String>,
}

impl Default for Star {
    fn default() -> Self {
        Self { fields: 6, free_fields: Vec::new() }
    }
}

impl Parameters for Star {
    fn check(&self) -> Result<(), ParameterError> {
        if (BASE_FIELDS_MIN..=Marks::MAX).contains(&self.fields) {
            return Ok(());
        }
        let range = format!("{} is out of range; give {BASE_FIELDS_MIN} to {}", self.fields, Marks::MAX);
        Err(ParameterError::at("fields", range))
    }
}

struct FieldByField {
    star: Star,
}

/// A base from which enough fields were varied.
struct Mark<'a> {
    hit: &'a BaseHit,
    /// Columns varied, the free ones left out.
    columns: Vec<usize>,
    /// How many fields were varied, those included that the question at hand does not have.
    fields: usize,
}

impl QueryDetector for FieldByField {
    type Slot = Habit;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Habit, out: &mut Findings) {
        let hits = seen.rows().iter().flat_map(|row| seen.base_hits(row));
        let marks = hits.filter_map(|hit| self.mark(exchange, hit));
        let tiers = marks.map(|mark| (me.tier(exchange.id, &mark.hit.trail), mark));
        tell_first(tiers, out, |tier, mark| self.word(exchange, tier, &mark));
    }
}

impl FieldByField {
    fn mark<'a>(&self, exchange: &Exchange<'_>, hit: &'a BaseHit) -> Option<Mark<'a>> {
        if hit.fields.len() < self.star.fields {
            return None;
        }
        let varied = exchange
            .columns
            .fields()
            .iter()
            .map(|field| field.mark())
            .enumerate()
            .filter(|(_, mark)| hit.fields.has(*mark));
        let (free, columns): (Vec<usize>, Vec<usize>) = varied
            .map(|(column, _)| column)
            .partition(|&column| is_one_of(&self.star.free_fields, exchange.question, column));
        let fields = hit.fields.len().saturating_sub(free.len());
        (fields >= self.star.fields).then_some(Mark { hit, columns, fields })
    }

    fn word(&self, exchange: &Exchange<'_>, tier: Tier, mark: &Mark<'_>) -> Finding {
        Finding {
            tier,
            statistic: mark.fields as f64,
            limit: self.star.fields as f64,
            trail: mark.hit.trail,
            fields: mark.columns.iter().map(|&column| exchange.question.name(column)).collect(),
            did: format!("took one row and varied {} of its fields one at a time", mark.fields),
            rests_on: None,
        }
    }
}
