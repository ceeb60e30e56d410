//! Marginals: the values of a client, column by column, are spread otherwise than the reference's.
//!
//! Space-filling designs, noise and other people's data can look natural row by row and still have one column that
//! does not: too even, too wide, or in one place only. The measure is the largest distance between two cumulative
//! distributions over all columns, of Kolmogorov and Smirnov, from counts in sixteen classes of the reference. A row
//! that differs from an earlier one in a single field is left out, as a case looked at from many sides would count
//! many times. Counts are halved now and then, so that what a client did long ago fades.
//!
//! Cost: a search among fifteen bounds for each value of a new row, from the client's 51st distinct row on; nothing is
//! kept of it before. All counts are compared only once so many rows came that some column might exceed the limit.
//!
//! It only alerts: an honest client with a portfolio of its own looks the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::facts::Cell;
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
use crate::marginals::{CLASSES, Marginal, Marginals};
use crate::reference::{Reference, Trust};
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "marginal_drift",
    summary: "The values of a client in some column are spread otherwise than the reference's",
    source: "two-sample test of Kolmogorov and Smirnov (Smirnov, Annals of Mathematical Statistics 1948)",
    atlas: "AML.T0024.002",
    owasp: "ML05:2023",
    tier: Tier::Two,
    aspect: Aspect::Spread,
    tells_alone: false,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: COLUMNS_MAX * CLASSES + 96,
    schema: super::schema_of::<Drift>,
    defaults: super::defaults_of::<Drift>,
    example: r#"{"distance": 0.5, "rows": 150}"#,
    check: super::check_of::<Drift>,
    build: |parameters| super::build_with(parameters, |drift: Drift| MarginalDrift { drift }),
};

/// Most columns that are counted, at even distances where there are more: 1 KiB of a client.
const COLUMNS_MAX: usize = 64;
/// Rows counted after which all counts are halved; below what a byte holds.
const HALVED_AT: u32 = 250;

/// When values count as spread otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drift {
    /// The largest distance of an honest client's values in any column, above 0 and below 1.
    pub distance: f64,
    /// Fewest distinct rows of a client that are judged, 50 to 250. Its first half is not counted, so that nothing is
    /// kept of clients that ask for less.
    #[schemars(range(min = 50, max = 250))]
    pub rows: u32,
}

impl Default for Drift {
    fn default() -> Self {
        Self { distance: 0.45, rows: 100 }
    }
}

impl Parameters for Drift {
    fn check(&self) -> Result<(), ParameterError> {
        if !(self.distance > 0.0 && self.distance < 1.0) {
            return Err(ParameterError::at("distance", "must lie between 0 and 1, as 0.45 does"));
        }
        if !(50..=250).contains(&self.rows) {
            return Err(ParameterError::at("rows", format!("{} is out of range; give 50 to 250", self.rows)));
        }
        Ok(())
    }
}

struct MarginalDrift {
    drift: Drift,
}

/// Distinct rows of a client, and the counts of one that has enough of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    rows: u32,
    counted: Option<Box<Counted>>,
}

/// Rows by column and class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    basis: u64,
    /// Sixteen classes to a column.
    counts: Vec<u8>,
    /// Rows in the counts.
    rows: u32,
    trail: Trail,
    /// Rows that may come before any column can exceed the limit, by what was found when all were compared last.
    #[serde(skip)]
    quiet: u32,
}

impl QueryDetector for MarginalDrift {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let (Some(reference), Some(columns)) = (exchange.reference, exchange.columns.of_reference()) else {
            return;
        };
        let unrelated = || seen.rows().iter().filter(|row| seen.line_hits(row).is_empty());
        if unrelated().next().is_none() {
            return;
        }
        me.rows = me.rows.saturating_add(unrelated().count() as u32);
        if me.rows <= self.drift.rows / 2 {
            return;
        }
        let counted = me.counted.get_or_insert_default();
        counted.adopt(reference.marginals());
        for row in unrelated() {
            let cells = exchange.question.row(row.index);
            let classes = watched(reference.marginals()).map(|marginal| {
                let cell = columns.get(marginal.column).and_then(|column| cells.get(*column));
                match cell {
                    Some(Cell::Number(number)) => marginal.class(*number),
                    _ => None,
                }
            });
            counted.add(classes, Origin { request: exchange.id, time: exchange.time });
        }
        if counted.rows >= self.drift.rows.div_ceil(2) && counted.quiet == 0 {
            self.judge(exchange, reference, columns, counted, out);
        }
    }
}

impl MarginalDrift {
    fn judge(
        &self,
        exchange: &Exchange<'_>,
        reference: &Reference,
        columns: &[usize],
        counted: &mut Counted,
        out: &mut Findings,
    ) {
        let mut quiet = u32::MAX;
        let columns_counted = watched(reference.marginals()).zip(counted.counts.chunks_exact(CLASSES));
        let distances = columns_counted.map(|(marginal, counts)| {
            let distance = marginal.distance(counts);
            quiet = quiet.min(rows_until(self.drift.distance, distance, counts));
            (distance, marginal.column)
        });
        let largest = distances.max_by(|(one, _), (other, _)| one.total_cmp(other));
        counted.quiet = quiet;
        let Some((distance, column)) = largest.filter(|(distance, _)| *distance > self.drift.distance) else {
            return;
        };
        let field = columns.get(column).map(|column| exchange.question.name(*column));
        out.push(self.word(reference.trust, distance, field, counted.trail));
    }

    fn word(&self, trust: Trust, distance: f64, field: Option<String>, trail: Trail) -> Finding {
        Finding {
            tier: Tier::Two,
            statistic: distance,
            limit: self.drift.distance,
            trail,
            fields: field.into_iter().collect(),
            did: "asked about values that are spread otherwise than the reference's".to_owned(),
            rests_on: Some(trust),
        }
    }
}

impl Counted {
    /// Counts in classes of other marginals mean nothing.
    fn adopt(&mut self, marginals: &Marginals) {
        if self.basis != marginals.basis() {
            let counts = vec![0; watched(marginals).count() * CLASSES];
            *self = Self { basis: marginals.basis(), counts, ..Self::default() };
        }
    }

    fn add(&mut self, classes: impl Iterator<Item = Option<usize>>, origin: Origin) {
        if self.rows >= HALVED_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.rows /= 2;
            self.quiet = 0;
        }
        self.rows += 1;
        self.quiet = self.quiet.saturating_sub(1);
        self.trail.add(origin);
        for (counts, class) in self.counts.chunks_exact_mut(CLASSES).zip(classes) {
            if let Some(count) = class.and_then(|class| counts.get_mut(class)) {
                *count = count.saturating_add(1);
            }
        }
    }
}

/// How many rows may come before a column at `distance` can exceed `limit`. Of n rows and j new ones the new ones are a
/// share of j / (n + j), and no distance moves by more.
fn rows_until(limit: f64, distance: f64, counts: &[u8]) -> u32 {
    // A little less, for rounding.
    let room = limit - distance - 1e-9;
    let rows: u32 = counts.iter().map(|count| u32::from(*count)).sum();
    // Casting stops at zero.
    (f64::from(rows) * room / (1.0 - room)) as u32
}

fn watched(marginals: &Marginals) -> impl Iterator<Item = &Marginal> {
    let columns = marginals.columns();
    columns.iter().step_by(columns.len().div_ceil(COLUMNS_MAX).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn marginals() -> Marginals {
        Marginals::of(1500, 1, |row, _| Some(row as f64), |_, _| false)
    }

    proptest! {
        #[test]
        fn no_column_exceeds_the_limit_within_the_rows_that_it_is_said_to_take(
            before in vec(0..8_u8, CLASSES),
            // The worst that can come is one class only.
            class in 0..CLASSES,
            gap in 1..9_u32,
            limit in 0.01..0.99_f64,
        ) {
            let marginals = marginals();
            let column = &marginals.columns()[0];
            let distance = column.distance(&before);
            let rows = rows_until(limit, distance, &before);
            prop_assert!(rows == 0 || distance <= limit);
            let mut counts = before;
            // Some rows have no number in the column: they take from the rows and add nothing.
            for _ in (0..rows.min(240)).filter(|row| row % gap != 1) {
                counts[class] += 1;
                prop_assert!(column.distance(&counts) <= limit, "{counts:?}");
            }
        }
    }

    #[test]
    fn a_comparison_put_off_finds_the_same() {
        let (marginals, drift) = (marginals(), Drift::default());
        let (mut counted, mut each) = (Counted::default(), Vec::new());
        counted.adopt(&marginals);
        let column = &marginals.columns()[0];
        let mut compared = 0;
        for row in 0..1000_u32 {
            // Evenly at first, then from a few classes only.
            let class = if row < 300 { row * 7 % 15 } else { row % 4 } as usize;
            counted.add(std::iter::once(Some(class)), Origin::default());
            let distance = column.distance(&counted.counts);
            let due = counted.quiet == 0;
            assert!(due || distance <= drift.distance, "row {row} would have been told");
            if due {
                counted.quiet = rows_until(drift.distance, distance, &counted.counts);
                compared += 1;
            }
            each.push(distance > drift.distance);
        }
        assert!(each.iter().any(|exceeds| *exceeds) && !each.iter().all(|exceeds| *exceeds));
        assert!(compared < 900, "{compared} of 1000");
    }
}
