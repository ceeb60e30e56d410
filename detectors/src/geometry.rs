//! Distance to a reference: whether a row lies where the reference's rows lie.
//!
//! Every numeric column is divided by its own spread; the distance of two rows is the root mean square over the
//! columns. How far is far follows from the reference itself: from how far its rows lie from each other.

use serde::{Deserialize, Serialize};

use crate::facts::{Cell, Features};

/// Smallest part of the median spread that a column is divided by: a nearly constant column must not outweigh all.
const SPREAD_FLOOR: f64 = 0.25;
/// Largest part of its own range that a column's spread is raised to: columns of other units must not blind it.
const RANGE_CEILING: f64 = 1.0;
/// Rows whose nearest neighbours are looked for; more would only cost time at start-up.
const HELD_OUT: usize = 300;
/// Part of the held-out rows that lie within the limit.
const QUANTILE: f64 = 0.99;
/// How much farther than that a row may lie. At 1.05 an honest client whose data drift stood at the edge of a block:
/// half of the ceiling above would have blocked it. At 1.15 neither choice does, and noise, foreign and uniform
/// queries are blocked at the same row. Both figures were chosen on the recorded streams that the tests replay, so
/// those streams do not vouch for them; synthetic tariffs of other seeds do, a little.
const MARGIN: f64 = 1.15;
/// Fewest rows that say anything about distances.
const ROWS_MIN: usize = 100;

/// The numeric columns of a reference, scaled, and the distance at which a row is off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Positions of the numeric columns.
    columns: Vec<usize>,
    /// What each of them is divided by.
    spreads: Vec<f64>,
    /// The scaled rows, one after the other.
    rows: Vec<f64>,
    /// Largest sum of squares, over the columns, of a row that is near.
    limit_squared_sum: f64,
}

impl Geometry {
    /// Measures rows of `width` values; `number` gives the value of a row and column where it is a number. Nothing
    /// where there are too few rows or no column of numbers only. O(300 x rows x width).
    pub fn of(
        rows: usize,
        width: usize,
        number: impl Fn(usize, usize) -> Option<f64> + Copy,
    ) -> Option<Self> {
        let numeric = |column: &usize| (0..rows).all(|row| number(row, *column).is_some());
        let columns: Vec<usize> = (0..width).filter(numeric).collect();
        if rows < ROWS_MIN {
            return None;
        }
        let values_of = |column: usize| (0..rows).filter_map(move |row| number(row, column));
        let spreads = floored(columns.iter().map(|&column| Spread::of(values_of(column))).collect())?;
        let mut scaled = Vec::with_capacity(rows * columns.len());
        for row in 0..rows {
            let values = columns.iter().filter_map(|&column| number(row, column));
            scaled.extend(values.zip(&spreads).map(|(value, spread)| value / spread));
        }
        let mut geometry = Self { columns, spreads, rows: scaled, limit_squared_sum: 0.0 };
        geometry.limit_squared_sum = geometry.held_out_limit();
        Some(geometry)
    }

    /// Whether any reference row lies near a row of `question`; `column_of` gives the question's column for one of
    /// the reference's. A gap or a text in a numeric column is near nothing. `scratch` is overwritten.
    pub fn is_near(
        &self,
        question: &Features,
        row: usize,
        column_of: &[usize],
        scratch: &mut Vec<f64>,
    ) -> bool {
        let cells = question.row(row);
        scratch.clear();
        scratch.extend(self.columns.iter().zip(&self.spreads).map(|(&column, spread)| {
            match column_of.get(column).and_then(|&column| cells.get(column)) {
                Some(Cell::Number(number)) => number / spread,
                _ => f64::NAN,
            }
        }));
        self.scaled_rows().any(|other| squared_sum(scratch, other, self.limit_squared_sum).is_some())
    }

    fn scaled_rows(&self) -> impl Iterator<Item = &[f64]> {
        self.rows.chunks_exact(self.columns.len().max(1))
    }

    fn held_out_limit(&self) -> f64 {
        let count = self.rows.len() / self.columns.len().max(1);
        let step = count.div_ceil(HELD_OUT).max(1);
        let held_out = self.scaled_rows().enumerate().step_by(step);
        let mut nearest: Vec<f64> =
            held_out.map(|(index, row)| self.nearest_squared_sum(index, row)).collect();
        nearest.sort_by(f64::total_cmp);
        let at = libm::ceil(QUANTILE * nearest.len() as f64) as usize;
        nearest.get(at.saturating_sub(1)).map_or(0.0, |limit| limit * MARGIN * MARGIN)
    }

    fn nearest_squared_sum(&self, index: usize, row: &[f64]) -> f64 {
        let others = self.scaled_rows().enumerate().filter(|(other, _)| *other != index);
        others.fold(f64::INFINITY, |nearest, (_, other)| squared_sum(row, other, nearest).unwrap_or(nearest))
    }
}

/// The sum of the squared differences, or nothing as soon as it exceeds `limit`; NaN exceeds everything.
fn squared_sum(left: &[f64], right: &[f64], limit: f64) -> Option<f64> {
    let mut sum = 0.0;
    for (left, right) in left.iter().zip(right) {
        let difference = left - right;
        sum += difference * difference;
        if sum.is_nan() || sum > limit {
            return None;
        }
    }
    Some(sum)
}

/// How widely a column's values lie.
struct Spread {
    standard_deviation: f64,
    range: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let lowest = values.clone().fold(f64::INFINITY, f64::min);
        let highest = values.clone().fold(f64::NEG_INFINITY, f64::max);
        let variance = values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        Self { standard_deviation: variance.sqrt(), range: highest - lowest }
    }

    /// The spread, raised to `floor` as far as the column's own range allows; a constant column takes it whole.
    fn raised_to(&self, floor: f64) -> f64 {
        let own = if self.range > 0.0 { floor.min(self.range * RANGE_CEILING) } else { floor };
        self.standard_deviation.max(own)
    }
}

/// What each column is divided by; nothing where no column spreads at all.
fn floored(spreads: Vec<Spread>) -> Option<Vec<f64>> {
    let mut sorted: Vec<f64> = spreads.iter().map(|spread| spread.standard_deviation).collect();
    sorted.retain(|deviation| *deviation > 0.0);
    sorted.sort_by(f64::total_cmp);
    let floor = sorted.get(sorted.len() / 2)? * SPREAD_FLOOR;
    Some(spreads.iter().map(|spread| spread.raised_to(floor)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(values: &[Cell]) -> Features {
        Features { width: values.len(), cells: values.to_vec(), ..Features::default() }
    }

    /// A grid of 20 x 20 points one apart; the third column is text.
    fn grid() -> Geometry {
        let value = |row: usize, column: usize| match column {
            0 => Some((row % 20) as f64),
            1 => Some((row / 20) as f64 * 1000.0),
            _ => None,
        };
        Geometry::of(400, 3, value).unwrap()
    }

    #[test]
    fn a_row_is_near_where_the_reference_lies() {
        let mut scratch = Vec::new();
        let mut near = |first, second| {
            let row = question(&[Cell::Number(first), Cell::Number(second), Cell::Missing]);
            grid().is_near(&row, 0, &[0, 1, 2], &mut scratch)
        };
        assert!(near(3.2, 4100.0), "between grid points, whatever a column's unit");
        assert!(!near(-5.0, 4100.0));
        assert!(!near(3.2, 40_000.0));
        assert!(!near(f64::NAN, 0.0));
    }

    #[test]
    fn a_gap_in_a_numeric_column_is_near_nothing() {
        let row = question(&[Cell::Missing, Cell::Number(0.0), Cell::Missing]);
        assert!(!grid().is_near(&row, 0, &[0, 1, 2], &mut Vec::new()));
    }

    #[test]
    fn too_little_gives_no_geometry() {
        assert_eq!(Geometry::of(ROWS_MIN - 1, 1, |row, _| Some(row as f64)), None);
        assert_eq!(Geometry::of(500, 1, |_, _| None), None);
        assert_eq!(Geometry::of(500, 1, |_, _| Some(1.0)), None, "nothing spreads");
    }
}
