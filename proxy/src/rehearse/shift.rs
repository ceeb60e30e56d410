//! How the answers of two models to the same questions differ: labels that agree, and numbers that moved.

use std::collections::BTreeSet;

use checkgate_detectors::facts::{Cell, Features};
use serde::Serialize;

use super::candidate::ModelShift;

/// Outputs of a model that are compared; further ones are left out.
const OUTPUTS_MAX: usize = 32;
/// Pairs of values of one output that its distance is measured on; what comes later moves the means only.
const PAIRS_MAX: usize = 20_000;
/// More different whole numbers than this are no labels.
const LABELS_MAX: usize = 50;
/// How far scores may add up to something else than 1.
const SCORES_WITHIN: f64 = 0.01;
/// Points of a curve.
const POINTS: usize = 48;

/// How often two models say the same label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Rows with a label.
    pub rows: u64,
    /// Those on which both agree.
    pub agree: u64,
    /// Their share, 0 to 1.
    pub share: f64,
}

/// How one numeric output moved.
#[derive(Clone, Debug, Serialize)]
pub struct OutputShift {
    /// Its name or position.
    pub output: String,
    /// Rows compared.
    pub rows: u64,
    /// Mean of candidate minus recorded.
    pub mean_difference: f64,
    /// Mean of the difference's size.
    pub mean_absolute_difference: f64,
    /// The largest.
    pub largest_absolute_difference: f64,
    /// Kolmogorov-Smirnov distance of the two distributions, 0 to 1: the largest gap between the shares of values below
    /// any number.
    pub ks_distance: f64,
    /// Share of values up to a number: the number, recorded, candidate.
    pub curve: Vec<[f64; 3]>,
}

/// What is gathered while answers come.
#[derive(Debug, Default)]
pub struct Shift {
    questions: u64,
    rows: u64,
    other_row_counts: u64,
    labels: Labels,
    outputs: Vec<Output>,
}

#[derive(Debug, Default)]
struct Labels {
    rows: u64,
    agree: u64,
    numbers: BTreeSet<i64>,
    /// Whether something was said that is no label.
    ruled_out: bool,
}

#[derive(Debug, Default)]
struct Output {
    name: String,
    rows: u64,
    sum: f64,
    sum_of_sizes: f64,
    largest: f64,
    recorded: Vec<f64>,
    candidate: Vec<f64>,
}

#[derive(Debug, PartialEq)]
enum Label<'a> {
    Text(&'a str),
    Best(usize),
    Whole(i64),
}

impl Shift {
    /// Takes the answers to one question.
    pub fn take(&mut self, recorded: &Features, candidate: &Features) {
        self.questions += 1;
        if recorded.rows() != candidate.rows() {
            self.other_row_counts += 1;
            return;
        }
        for row in 0..recorded.rows() {
            self.rows += 1;
            self.labels.take(label(recorded, row), label(candidate, row));
            self.take_numbers(recorded, candidate, row);
        }
    }

    fn take_numbers(&mut self, recorded: &Features, candidate: &Features, row: usize) {
        let cells = recorded.row(row).iter().zip(candidate.row(row)).take(OUTPUTS_MAX);
        for (column, (was, is)) in cells.enumerate() {
            let (Cell::Number(was), Cell::Number(is)) = (was, is) else { continue };
            if !was.is_finite() || !is.is_finite() {
                continue;
            }
            while self.outputs.len() <= column {
                let name = recorded.name(self.outputs.len());
                self.outputs.push(Output { name, ..Output::default() });
            }
            if let Some(output) = self.outputs.get_mut(column) {
                output.take(*was, *is);
            }
        }
    }

    /// What came of it.
    pub fn finish(self) -> ModelShift {
        ModelShift {
            questions: self.questions,
            rows: self.rows,
            other_row_counts: self.other_row_counts,
            labels: self.labels.agreement(),
            outputs: self.outputs.into_iter().filter(|output| output.rows > 0).map(Output::shift).collect(),
        }
    }
}

impl Labels {
    fn take(&mut self, recorded: Option<Label<'_>>, candidate: Option<Label<'_>>) {
        let Some(recorded) = recorded else {
            self.ruled_out = true;
            return;
        };
        if let Label::Whole(number) = recorded
            && self.numbers.len() <= LABELS_MAX
        {
            self.numbers.insert(number);
        }
        self.rows += 1;
        self.agree += u64::from(candidate == Some(recorded));
    }

    fn agreement(&self) -> Option<Agreement> {
        let are_labels = !self.ruled_out && self.rows > 0 && self.numbers.len() <= LABELS_MAX;
        let share = self.agree as f64 / self.rows.max(1) as f64;
        are_labels.then_some(Agreement { rows: self.rows, agree: self.agree, share })
    }
}

/// What a row says: a text, the best of scores that add up to 1, or a whole number that stands alone.
fn label(answer: &Features, row: usize) -> Option<Label<'_>> {
    let cells = answer.row(row);
    let text = cells.iter().find_map(|cell| match cell {
        Cell::Text(start, end) => Some(Label::Text(answer.text_of(*start, *end))),
        Cell::Number(_) | Cell::Missing => None,
    });
    if text.is_some() {
        return text;
    }
    let numbers: Vec<f64> =
        cells.iter().map(|cell| if let Cell::Number(number) = cell { *number } else { f64::NAN }).collect();
    match numbers.as_slice() {
        [number] if number.fract() == 0.0 && number.abs() < 1e15 => Some(Label::Whole(*number as i64)),
        [_, _, ..] if (numbers.iter().sum::<f64>() - 1.0).abs() <= SCORES_WITHIN => {
            let best = numbers.iter().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other));
            best.map(|(position, _)| Label::Best(position))
        }
        _ => None,
    }
}

impl Output {
    fn take(&mut self, was: f64, is: f64) {
        self.rows += 1;
        self.sum += is - was;
        self.sum_of_sizes += (is - was).abs();
        self.largest = self.largest.max((is - was).abs());
        if self.recorded.len() < PAIRS_MAX {
            self.recorded.push(was);
            self.candidate.push(is);
        }
    }

    fn shift(mut self) -> OutputShift {
        self.recorded.sort_by(f64::total_cmp);
        self.candidate.sort_by(f64::total_cmp);
        let rows = self.rows.max(1) as f64;
        OutputShift {
            output: self.name,
            rows: self.rows,
            mean_difference: self.sum / rows,
            mean_absolute_difference: self.sum_of_sizes / rows,
            largest_absolute_difference: self.largest,
            ks_distance: ks_distance(&self.recorded, &self.candidate),
            curve: curve(&self.recorded, &self.candidate),
        }
    }
}

/// Share of the `sorted` values that are at most `value`.
fn share_up_to(sorted: &[f64], value: f64) -> f64 {
    sorted.partition_point(|other| *other <= value) as f64 / sorted.len().max(1) as f64
}

/// The largest gap between the shares of two sorted lists (Smirnov 1948).
fn ks_distance(one: &[f64], other: &[f64]) -> f64 {
    let gap = |value: &f64| (share_up_to(one, *value) - share_up_to(other, *value)).abs();
    one.iter().chain(other).map(gap).fold(0.0, f64::max)
}

fn curve(recorded: &[f64], candidate: &[f64]) -> Vec<[f64; 3]> {
    let all = || recorded.iter().chain(candidate).copied();
    let (lowest, highest) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    if !(lowest.is_finite() && highest.is_finite()) {
        return Vec::new();
    }
    let value = |point: usize| lowest + (highest - lowest) * point as f64 / (POINTS - 1) as f64;
    (0..POINTS)
        .map(value)
        .map(|value| [value, share_up_to(recorded, value), share_up_to(candidate, value)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rows: &[&[f64]]) -> Features {
        let cells = rows.iter().flat_map(|row| row.iter().map(|value| Cell::Number(*value)));
        Features { width: rows[0].len(), cells: cells.collect(), ..Features::default() }
    }

    fn shift(recorded: &[&[f64]], candidate: &[&[f64]]) -> ModelShift {
        let mut shift = Shift::default();
        shift.take(&answer(recorded), &answer(candidate));
        shift.finish()
    }

    #[test]
    fn the_distance_is_the_largest_gap() {
        assert_eq!(ks_distance(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]), 0.0);
        assert_eq!(ks_distance(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        assert_eq!(ks_distance(&[1.0, 2.0, 3.0, 4.0], &[2.5, 3.0, 4.0, 5.0]), 0.5);
    }

    #[test]
    fn scores_agree_by_their_best_class() {
        let shift = shift(&[&[0.7, 0.3], &[0.2, 0.8]], &[&[0.6, 0.4], &[0.55, 0.45]]);
        assert_eq!(shift.labels, Some(Agreement { rows: 2, agree: 1, share: 0.5 }));
        let [first, _] = shift.outputs.as_slice() else { panic!("two outputs: {:?}", shift.outputs) };
        assert!((first.mean_difference - 0.125).abs() < 1e-12, "{first:?}");
        assert!((first.largest_absolute_difference - 0.35).abs() < 1e-12, "{first:?}");
    }

    #[test]
    fn prices_are_no_labels_and_classes_are() {
        assert_eq!(shift(&[&[99.5], &[100.0]], &[&[99.5], &[101.0]]).labels, None);
        let classes = shift(&[&[1.0], &[2.0]], &[&[1.0], &[1.0]]);
        assert_eq!(classes.labels.map(|labels| labels.agree), Some(1));
    }

    #[test]
    fn an_answer_with_other_rows_is_counted_and_not_compared() {
        let shift = shift(&[&[1.0], &[2.0]], &[&[1.0]]);
        assert_eq!((shift.other_row_counts, shift.rows), (1, 0));
        assert!(shift.outputs.is_empty() && shift.labels.is_none());
    }
}
