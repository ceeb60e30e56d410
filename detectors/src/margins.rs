//! How sure a model's answers are of their class, where they are probabilities.
//!
//! The margin of an answer is the difference of its two largest class probabilities, 0 to 1. What is narrow follows
//! from the reference: as narrow as the narrowest twentieth of its answers, and never above 0.2.

use serde::{Deserialize, Serialize};

use crate::facts::{Cell, Features};
use crate::reference::{ReferenceRow, ReferenceValue};

/// Widest margin that counts as narrow.
const NARROW_MAX: f64 = 0.2;
/// Part of the reference's answers that may be narrow.
const NARROW_SHARE: f64 = 0.05;
/// Fewest answers that say anything.
const ROWS_MIN: usize = 100;
/// How far the sum of rounded probabilities may lie from 1.
const SUM_TOLERANCE: f64 = 0.02;

/// The columns of an answer that are class probabilities, and the margin that is narrow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Margins {
    width: usize,
    columns: Vec<usize>,
    narrow: f64,
}

impl Margins {
    /// Measures the answers of `rows`. Nothing where there are fewer than 100, or where no two columns are
    /// probabilities: numbers from 0 to 1, not all of them whole, whose sum is 1 in every row. O(rows x width).
    #[must_use]
    pub fn of(rows: &[ReferenceRow]) -> Option<Self> {
        let width = rows.first()?.p.len();
        if rows.len() < ROWS_MIN || rows.iter().any(|row| row.p.len() != width) {
            return None;
        }
        let columns: Vec<usize> = (0..width).filter(|column| is_share(rows, *column)).collect();
        let shares = |row: &ReferenceRow| columns.iter().filter_map(|&column| number(row, column)).collect();
        let margins = rows.iter().map(|row| margin_of_shares(shares(row)));
        let mut margins = margins.collect::<Option<Vec<f64>>>()?;
        margins.sort_by(f64::total_cmp);
        let narrow = *margins.get((margins.len() as f64 * NARROW_SHARE) as usize)?;
        Some(Self { width, columns, narrow: narrow.min(NARROW_MAX) })
    }

    /// The margin of one row of an answer; nothing where it holds no probabilities.
    #[must_use]
    pub fn of_answer(&self, answer: &Features, row: usize) -> Option<f64> {
        let cells = answer.row(row);
        if answer.width != self.width {
            return None;
        }
        let share = |column: &usize| match cells.get(*column) {
            Some(Cell::Number(number)) => Some(*number),
            _ => None,
        };
        margin_of_shares(self.columns.iter().map(share).collect::<Option<_>>()?)
    }

    /// The margin below which an answer is unsure of its class: above 0 and at most 0.2, or 0 where many of the
    /// reference's answers are ties.
    #[must_use]
    pub fn narrow(&self) -> f64 {
        self.narrow
    }
}

fn number(row: &ReferenceRow, column: usize) -> Option<f64> {
    match row.p.get(column)? {
        ReferenceValue::Number(number) => Some(*number),
        ReferenceValue::Missing | ReferenceValue::Text(_) => None,
    }
}

/// Whether a column holds nothing but numbers from 0 to 1, and not a label: some are no whole numbers.
fn is_share(rows: &[ReferenceRow], column: usize) -> bool {
    let mut numbers = rows.iter().map(|row| number(row, column));
    numbers.clone().all(|number| number.is_some_and(|number| (0.0..=1.0).contains(&number)))
        && numbers.any(|number| number.is_some_and(|number| number > 0.0 && number < 1.0))
}

/// The difference of the two largest, where they are shares of one whole.
fn margin_of_shares(shares: Vec<f64>) -> Option<f64> {
    let (mut first, mut second, mut sum) = (f64::NEG_INFINITY, f64::NEG_INFINITY, 0.0);
    for &share in &shares {
        sum += share;
        (first, second) = if share > first { (share, first) } else { (first, second.max(share)) };
    }
    (shares.len() > 1 && (sum - 1.0).abs() <= SUM_TOLERANCE).then_some(first - second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(answer: impl Fn(usize) -> Vec<f64>) -> Vec<ReferenceRow> {
        let row = |row| ReferenceRow {
            x: Vec::new(),
            p: answer(row).into_iter().map(ReferenceValue::Number).collect(),
        };
        (0..200).map(row).collect()
    }

    fn answer(values: &[f64]) -> Features {
        let cells = values.iter().map(|&value| Cell::Number(value)).collect();
        Features { width: values.len(), cells, ..Features::default() }
    }

    #[test]
    fn what_is_narrow_follows_from_the_reference() {
        let sure = Margins::of(&rows(|_| vec![0.9, 0.05, 0.05])).unwrap();
        assert_eq!(sure.narrow(), 0.2);
        let unsure = rows(|row| {
            let margin = row as f64 / 1000.0;
            vec![0.5 + margin / 2.0, 0.5 - margin / 2.0]
        });
        let narrow = Margins::of(&unsure).unwrap().narrow();
        assert!((narrow - 0.01).abs() < 1e-9, "{narrow}");
    }

    #[test]
    fn a_label_beside_the_probabilities_is_left_out() {
        let margins = Margins::of(&rows(|row| vec![(row % 2) as f64, 0.7, 0.3])).unwrap();
        let margin = margins.of_answer(&answer(&[1.0, 0.45, 0.55]), 0).unwrap();
        assert!((margin - 0.1).abs() < 1e-9, "{margin}");
        assert_eq!(margins.of_answer(&answer(&[0.45, 0.55]), 0), None, "another shape");
        assert_eq!(margins.of_answer(&answer(&[1.0, 0.45, 5.5]), 0), None, "no shares of one whole");
    }

    #[test]
    fn prices_scores_and_few_rows_have_no_margin() {
        assert_eq!(Margins::of(&rows(|row| vec![row as f64])), None);
        assert_eq!(Margins::of(&rows(|row| vec![row as f64 / 200.0])), None, "one share has no second");
        assert_eq!(Margins::of(&rows(|_| vec![0.9, 0.8])), None);
        assert_eq!(Margins::of(&rows(|_| vec![0.9, 0.1])[..99]), None);
    }
}
