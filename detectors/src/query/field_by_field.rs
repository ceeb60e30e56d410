//! STAR: one row from which many different fields were varied one at a time.
//!
//! Gradients are estimated, sensitivities listed and decision boundaries approached this way, coordinate by
//! coordinate. Honest clients change what they need to know: 3 fields at most on the recorded ones. Explanations do vary
//! all fields of a case, but put a usual value in the place of each, or move some of them a step up and down; whoever
//! differentiates moves many fields both ways, or by less than the steps that honest values keep, and whoever searches
//! tries many values of each. Fewer fields moved both ways are enough around a base to which a search moved, step by
//! step, or where the rows lie off the reference. So where a reference is named, any other star is only told. Without one
//! it may block: there nothing else can.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Habit, Needs, ParameterError, Parameters, Purpose, QueryDetector,
    QuerySpec, is_one_of, tell_first,
};
use crate::finding::Tier;
use crate::lines::{BASE_FIELDS_MIN, BaseHit, MOVED, Marks};
use crate::reference::Reference;
use crate::seen::{Seen, SeenRow};

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "field_by_field",
    summary: "One row, and many fields of it varied one at a time",
    source: "leave-one-out keys; the probes of Chen et al., ZOO, AISec 2017",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::One,
    aspect: Aspect::Case,
    tells_alone: false,
    purpose: Purpose::Fields,
    needs: Needs::Question,
    state_bytes_max: 32,
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
    /// Different fields varied one at a time from one row at which the detector speaks: 3 to 64. Where a reference is
    /// named, it may block only if so many fields took five or more other values, or so many rows values finer than the
    /// steps that the reference's keep, or `twice` fields two or more other values.
    /// As many as `fields` with two or more are enough where rows lie off the reference, or single changes led to the base.
    #[schemars(range(min = 3, max = 64))]
    pub fields: usize,
    /// Fields that took two or more other values at which it may block: `fields` to 64. Charts of what moves an answer put
    /// up to a dozen fields up and down.
    #[schemars(range(min = 3, max = 64))]
    pub twice: usize,
    /// Fields that customers may vary, by name or by position from 0; they do not count.
    pub free_fields: Vec<String>,
}

impl Default for Star {
    fn default() -> Self {
        Self { fields: 6, twice: 16, free_fields: Vec::new() }
    }
}

impl Parameters for Star {
    fn check(&self) -> Result<(), ParameterError> {
        let wrong = |key, value, least| {
            let range = format!("{value} is out of range; give {least} to {}", Marks::MAX);
            Err(ParameterError::at(key, range))
        };
        if !(BASE_FIELDS_MIN..=Marks::MAX).contains(&self.fields) {
            return wrong("fields", self.fields, BASE_FIELDS_MIN);
        }
        if !(self.fields..=Marks::MAX).contains(&self.twice) {
            return wrong("twice", self.twice, self.fields);
        }
        Ok(())
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
    /// How many of them took two or more other values.
    twice: usize,
    /// How many of them took five or more.
    often: usize,
}

/// What is kept of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    habit: Habit,
    /// Rows that differ from an earlier one in a single field, whose value is finer than the reference's.
    fine: u32,
    /// ... and such rows that lie off the reference.
    off: u32,
}

impl QueryDetector for FieldByField {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let fine = seen.rows().iter().filter(|row| is_fine(exchange, seen, row));
        me.fine = me.fine.saturating_add(fine.count() as u32);
        me.off = me.off.saturating_add(off_rows(exchange, seen));
        let hits = seen.rows().iter().flat_map(|row| seen.base_hits(row));
        let marks = hits.filter_map(|hit| self.mark(exchange, hit));
        let tiers = marks.map(|mark| (self.tier(exchange, me, &mark), mark));
        tell_first(tiers, out, |tier, mark| self.word(exchange, tier, &mark));
    }
}

/// Whether a row differs from an earlier one in a single field, and its value there is finer than the reference's steps.
fn is_fine(exchange: &Exchange<'_>, seen: &Seen, row: &SeenRow) -> bool {
    let hits = seen.line_hits(row);
    if hits.is_empty() || exchange.trusted().is_none() {
        return false;
    }
    let Some((mut finer, columns)) = exchange.finer(row.index).zip(exchange.columns.of_reference()) else {
        return false;
    };
    let moved = |column: Option<&usize>| hits.iter().any(|hit| Some(&hit.column) == column);
    finer.any(|marginal| moved(columns.get(marginal.column)))
}

/// How many new rows differ from an earlier one in a single field, and lie off the reference.
fn off_rows(exchange: &Exchange<'_>, seen: &Seen) -> u32 {
    let geometry = exchange.trusted().and_then(Reference::geometry);
    let Some((geometry, columns)) = geometry.zip(exchange.columns.of_reference()) else { return 0 };
    let mut scratch = Vec::new();
    let arms = seen.rows().iter().filter(|row| !seen.line_hits(row).is_empty());
    arms.filter(|row| !geometry.is_near(exchange.question, row.index, columns, &mut scratch)).count() as u32
}

impl FieldByField {
    fn tier(&self, exchange: &Exchange<'_>, me: &mut Slot, mark: &Mark<'_>) -> Tier {
        let (fields, twice) = (self.star.fields, self.star.twice);
        let twice = if mark.hit.depth >= MOVED || me.off as usize >= 2 * fields { fields } else { twice };
        let searches = mark.often >= fields || mark.twice >= twice || me.fine as usize >= fields;
        if searches || exchange.trusted().is_none() {
            me.habit.tier(exchange.id, &mark.hit.trail)
        } else {
            Tier::Two
        }
    }

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
        let without_free = |of: &Marks| {
            let marked = |column: &&usize| {
                exchange.columns.fields().get(**column).is_some_and(|field| of.has(field.mark()))
            };
            of.len().saturating_sub(free.iter().filter(marked).count())
        };
        let (twice, often) = (without_free(&hit.twice), without_free(&hit.often));
        (fields >= self.star.fields).then_some(Mark { hit, columns, fields, twice, often })
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
