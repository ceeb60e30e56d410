//! Whom honest clients ask about: recorded rows that are not in the reference, and new ones made from them.

use std::collections::{BTreeMap, BTreeSet};

use super::numbers::Numbers;
use super::surrogate::Surrogate;
use crate::support::{model_of, reference, streams};
use checkgate_detectors::reference::ReferenceValue;

/// Profiles whose recorded rows are single honest cases, unchanged.
const PLAIN: [&str; 5] = ["plain", "batch", "heavy", "narrow", "natgw"];
/// Recorded rows that a generated row's answer is made of.
const NEAREST: usize = 5;

/// Smallest part of the median spread that a column is measured by.
const FLOOR: f64 = 0.25;

/// One recorded case and its answer.
struct Case {
    x: Vec<f64>,
    p: Vec<f64>,
}

/// The cases of one model.
pub struct People {
    /// The model.
    pub model: &'static str,
    cases: Vec<Case>,
    /// The step that values of a column keep; 0 where they keep none.
    pub steps: Vec<f64>,
    /// Standard deviation of each column.
    pub spreads: Vec<f64>,
    /// Smallest and largest value of each column.
    pub ranges: Vec<(f64, f64)>,
    known: BTreeMap<Vec<u64>, usize>,
    /// Fitted to the reference and the cases; none where answers are prices.
    surrogate: Option<Surrogate>,
}

fn bits(x: &[f64]) -> Vec<u64> {
    x.iter().map(|value| (value + 0.0).to_bits()).collect()
}

fn number(value: &ReferenceValue) -> f64 {
    if let ReferenceValue::Number(number) = value { *number } else { 0.0 }
}

impl People {
    /// The recorded cases of `model` that its reference does not hold.
    pub fn of(model: &'static str) -> Self {
        let reference = reference(model);
        let normal: Vec<Vec<f64>> =
            reference.rows().iter().map(|row| row.x.iter().map(number).collect()).collect();
        let mut taken: BTreeSet<_> = normal.iter().map(|x| bits(x)).collect();
        let mut cases = Vec::new();
        for stream in streams("benign") {
            let plain = PLAIN.iter().any(|profile| stream.name.starts_with(profile));
            if !plain || model_of(&stream.name) != model {
                continue;
            }
            for request in stream.requests {
                for (x, p) in request.rows.into_iter().zip(request.predictions) {
                    if taken.insert(bits(&x)) {
                        cases.push(Case { x, p });
                    }
                }
            }
        }
        let columns = reference.marginals().columns();
        let spreads = spreads(&normal, columns.len());
        let answered = reference.rows().iter().map(|row| row.p.iter().map(number).collect());
        let fitted: Vec<(Vec<f64>, Vec<f64>)> = normal.iter().cloned().zip(answered).collect();
        let of_cases = cases.iter().map(|case: &Case| (case.x.clone(), case.p.clone()));
        let fitted: Vec<_> = fitted.into_iter().chain(of_cases).collect();
        Self {
            model,
            steps: columns.iter().map(|column| column.grid().map_or(0.0, |grid| grid.step())).collect(),
            ranges: (0..columns.len()).map(|column| range(&normal, column)).collect(),
            known: cases.iter().enumerate().map(|(index, case)| (bits(&case.x), index)).collect(),
            surrogate: (cases[0].p.len() > 1).then(|| Surrogate::fit(&fitted, &spreads)),
            spreads,
            cases,
        }
    }

    /// A case: half of them as recorded, half new.
    pub fn case(&self, numbers: &mut Numbers) -> Vec<f64> {
        let first = numbers.whole(0, self.cases.len() - 1);
        if numbers.chance(0.5) {
            return self.cases[first].x.clone();
        }
        if self.model == "pricing" { self.mixed(first, numbers) } else { self.between(first, numbers) }
    }

    /// A recorded case with this best class.
    pub fn case_of(&self, label: usize, numbers: &mut Numbers) -> Vec<f64> {
        loop {
            let case = numbers.pick(&self.cases);
            if super::label(&case.p) == Some(label) {
                return case.x.clone();
            }
        }
    }

    /// A person of one recorded case with the contract of another.
    fn mixed(&self, first: usize, numbers: &mut Numbers) -> Vec<f64> {
        let mut x = self.cases[first].x.clone();
        let other = &numbers.pick(&self.cases).x;
        x[7..].copy_from_slice(&other[7..]);
        if numbers.chance(0.5) {
            let other = &numbers.pick(&self.cases).x;
            x[2..5].copy_from_slice(&other[2..5]);
        }
        x
    }

    /// A case on the way from a recorded one to a similar one of its class.
    fn between(&self, first: usize, numbers: &mut Numbers) -> Vec<f64> {
        let from = &self.cases[first];
        let candidates: Vec<&Case> = (0..40).map(|_| numbers.pick(&self.cases)).collect();
        let alike = candidates.into_iter().filter(|case| super::label(&case.p) == super::label(&from.p));
        let nearest = alike
            .filter(|case| case.x != from.x)
            .min_by(|left, right| self.apart(&left.x, &from.x).total_cmp(&self.apart(&right.x, &from.x)));
        let Some(nearest) = nearest else { return from.x.clone() };
        let share = numbers.between(0.2, 0.6);
        let x = from.x.iter().zip(&nearest.x);
        self.on_grid(x.map(|(from, to)| from + share * (to - from)).collect())
    }

    /// Values rounded to their columns' steps.
    pub fn on_grid(&self, x: Vec<f64>) -> Vec<f64> {
        let rounded = |(value, step): (f64, &f64)| {
            // Dividing by a whole number is exact where multiplying by a decimal fraction is not.
            let parts = (1.0 / step).round();
            match *step {
                0.0 => value,
                step if step >= 1.0 => (value / step).round() * step,
                _ => (value * parts).round() / parts,
            }
        };
        x.into_iter().zip(&self.steps).map(rounded).collect()
    }

    /// Squared distance of two rows, in standard deviations.
    fn apart(&self, left: &[f64], right: &[f64]) -> f64 {
        let pairs = left.iter().zip(right).zip(&self.spreads);
        pairs.map(|((left, right), spread)| ((left - right) / spread).powi(2)).sum()
    }

    /// What the model is taken to answer: as recorded, or what the nearest recorded rows were answered, by the inverse
    /// fourth power of the distance. Prices of new rows are a stand-in that no detector looks at.
    pub fn answer(&self, x: &[f64]) -> Vec<f64> {
        if let Some(&known) = self.known.get(&bits(x)) {
            return self.cases[known].p.clone();
        }
        if self.surrogate.is_none() {
            return vec![300.0 + 0.01 * x[2] + 0.01 * x[5] + 50.0 * x[6]];
        }
        let mut nearest: Vec<(f64, usize)> =
            self.cases.iter().enumerate().map(|(index, case)| (self.apart(&case.x, x), index)).collect();
        nearest.select_nth_unstable_by(NEAREST, |left, right| left.0.total_cmp(&right.0));
        let mut answer = vec![0.0; self.cases[0].p.len()];
        let mut total = 0.0;
        for &(apart, index) in &nearest[..NEAREST] {
            let weight = 1.0 / (apart * apart + 1e-9);
            total += weight;
            for (sum, p) in answer.iter_mut().zip(&self.cases[index].p) {
                *sum += weight * p;
            }
        }
        answer.iter().map(|sum| (sum / total * 1e4).round() / 1e4).collect()
    }

    /// What the model is taken to answer by another stand-in: as recorded, or by a fitted model.
    pub fn fitted_answer(&self, x: &[f64]) -> Vec<f64> {
        match &self.surrogate {
            Some(surrogate) if !self.knows(x) => surrogate.answer(x),
            _ => self.answer(x),
        }
    }

    /// Whether a row is one of the recorded cases.
    pub fn knows(&self, x: &[f64]) -> bool {
        self.known.contains_key(&bits(x))
    }
}

/// Standard deviations, each at least a quarter of their median, as the engine scales columns.
fn spreads(rows: &[Vec<f64>], columns: usize) -> Vec<f64> {
    let all: Vec<f64> = (0..columns).map(|column| spread(rows, column)).collect();
    let mut sorted = all.clone();
    sorted.sort_by(f64::total_cmp);
    let least = FLOOR * sorted[columns / 2];
    all.into_iter().map(|spread| spread.max(least).max(f64::MIN_POSITIVE)).collect()
}

fn spread(rows: &[Vec<f64>], column: usize) -> f64 {
    let count = rows.len() as f64;
    let mean = rows.iter().map(|x| x[column]).sum::<f64>() / count;
    let variance = rows.iter().map(|x| (x[column] - mean).powi(2)).sum::<f64>() / count;
    variance.sqrt()
}

fn range(rows: &[Vec<f64>], column: usize) -> (f64, f64) {
    let values = rows.iter().map(|x| x[column]);
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}
