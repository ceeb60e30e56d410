//! A prediction made coarse: what is left of it still serves its purpose, and tells an attacker little.
//!
//! Answers with fewer digits and with the best class alone cost an extraction many times the questions (Tramèr et al.,
//! USENIX Security 2016, section 7; Orekondy et al., ICLR 2020, as a baseline). Numbers are rewritten in place, so that
//! shape, names, order and every other byte stay, and a client library reads the body as before:
//!
//! - A number with a fraction or an exponent is rounded to so many significant digits and keeps a fraction. One without
//!   is a label, an identifier or a count, and stays.
//! - Scores of one tensor or list that add up to 1 keep the best class and its rounded score; the rest is shared evenly
//!   among the others, so that they still add up to 1. Where every column has a name of its own, a whole row is looked
//!   at like that, apart from its whole numbers.

use std::ops::Range;

use checkgate_detectors::facts::{Cell, Features, NotInspected, Span};
use http::HeaderMap;

use super::splice::spliced;
use crate::decode::{Decoder, Head, Part};

/// How far the sum of scores may be from 1: 32-bit servers add up to it no better.
const SUM_WITHIN: f64 = 1e-3;

/// Decimal digits that every double holds: a share is written with no more, so that 0.07 is not 0.06999999999999995.
const EXACT_DIGITS: u8 = 15;

/// How answers are made coarse.
#[derive(Clone, Copy)]
pub struct Coarse<'a> {
    /// Reads the body.
    pub decoder: &'a dyn Decoder,
    /// Columns of a row that are read.
    pub columns_max: usize,
}

/// What came of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Coarsened {
    /// This body goes out instead.
    Changed(Vec<u8>),
    /// There is nothing in it to round.
    Unchanged,
    /// It cannot be read, or not be changed in place.
    Unreadable(NotInspected),
}

/// A number that may be rewritten.
#[derive(Clone, Copy)]
struct Score {
    value: f64,
    span: Span,
}

impl Coarse<'_> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, headers: &HeaderMap, body: &[u8], out: &mut Features) -> Result<(), NotInspected> {
        let (rows_max, columns_max) = (usize::MAX, self.columns_max);
        self.decoder.decode(&Head { headers, part: Part::Answer, rows_max, columns_max }, body, out)
    }

    /// Makes a body coarse of which `features` were read: at least one significant digit is kept, and otherwise `digits`.
    pub fn coarsen(&self, features: &Features, body: &[u8], digits: u8) -> Coarsened {
        if features.spans.len() != features.cells.len() {
            // It was transcoded: no value has a place in the body as it stands.
            return Coarsened::Unreadable(NotInspected::Encoding);
        }
        let edits = edits(features, body, digits);
        if edits.is_empty() {
            return Coarsened::Unchanged;
        }
        spliced(body, edits).map_or(Coarsened::Unreadable(NotInspected::Shape), Coarsened::Changed)
    }
}

fn edits(features: &Features, body: &[u8], digits: u8) -> Vec<(Span, String)> {
    let (named, whole_row) = (groups(features), 0..features.width);
    let together = named.iter().any(|group| group.len() > 1);
    let groups = if together { named.as_slice() } else { std::slice::from_ref(&whole_row) };
    let mut edits = Vec::new();
    for row in 0..features.rows() {
        for group in groups {
            let mut scores = scores(features, body, row, group);
            if !together {
                scores.retain(|score| score.value.fract() != 0.0 || !is_share(score.value));
            }
            rewrite(&scores, digits, &mut edits);
        }
    }
    edits
}

fn rewrite(scores: &[Score], digits: u8, edits: &mut Vec<(Span, String)>) {
    let shares = if is_distribution(scores) { best_alone(scores, digits) } else { None };
    for (place, score) in scores.iter().enumerate() {
        let coarse = match shares {
            Some((best, share, rest)) => Some(if place == best { share } else { rest }),
            None => rounded(score.value, digits),
        };
        if let Some(coarse) = coarse.filter(|coarse| *coarse != score.value) {
            edits.push((score.span, written(coarse)));
        }
    }
}

/// Columns that belong together: those of one tensor, and those without a name.
fn groups(features: &Features) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = features.names.groups().collect();
    let named = groups.last().map_or(0, |group| group.end);
    if named < features.width {
        groups.push(named..features.width);
    }
    groups
}

/// The finite numbers of some columns of a row that are written with a fraction or an exponent.
fn scores(features: &Features, body: &[u8], row: usize, columns: &Range<usize>) -> Vec<Score> {
    let cells = row * features.width + columns.start..row * features.width + columns.end;
    let cells = cells.filter_map(|cell| Some((features.cells.get(cell)?, *features.spans.get(cell)?)));
    let score = |(cell, span): (&Cell, Span)| match *cell {
        Cell::Number(value) if value.is_finite() && is_fraction(body.get(span.start..span.end)?) => {
            Some(Score { value, span })
        }
        _ => None,
    };
    cells.filter_map(score).collect()
}

/// Whether a number's text has a fraction or an exponent. What is no plain number, such as a text that a server reads as
/// one, has none.
fn is_fraction(text: &[u8]) -> bool {
    let begins = text.first().is_some_and(|first| first.is_ascii_digit() || *first == b'-');
    begins && text.iter().any(|byte| b".eE".contains(byte))
}

fn is_share(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

fn is_distribution(scores: &[Score]) -> bool {
    let sum: f64 = scores.iter().map(|score| score.value).sum();
    scores.len() > 1 && scores.iter().all(|score| is_share(score.value)) && (sum - 1.0).abs() <= SUM_WITHIN
}

/// The place of the best class, its rounded share, and that of each other class.
fn best_alone(scores: &[Score], digits: u8) -> Option<(usize, f64, f64)> {
    let best = scores
        .iter()
        .enumerate()
        .reduce(|best, next| if next.1.value > best.1.value { next } else { best })?
        .0;
    let even = 1.0 / scores.len() as f64;
    let nearest = rounded(scores.get(best)?.value, digits)?;
    // Rounded down below an even share, the best class would no longer be the best.
    let share =
        if nearest < even { rounded(nearest + last_digit(nearest, digits), digits)? } else { nearest };
    let share = share.min(1.0);
    let rest = rounded((1.0 - share) / (scores.len() - 1) as f64, EXACT_DIGITS)?;
    Some((best, share, rest))
}

/// The nearest number of so many significant digits; nothing where it is not finite.
fn rounded(value: f64, digits: u8) -> Option<f64> {
    let behind_the_point = usize::from(digits.max(1)) - 1;
    format!("{value:.behind_the_point$e}").parse().ok().filter(|rounded: &f64| rounded.is_finite())
}

/// What the last of so many significant digits of `value` stands for.
fn last_digit(value: f64, digits: u8) -> f64 {
    10_f64.powi(value.abs().log10().floor() as i32 + 1 - i32::from(digits.max(1)))
}

/// A number as JSON that keeps its fraction, for the client's library may tell the types apart by it.
fn written(value: f64) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests;
