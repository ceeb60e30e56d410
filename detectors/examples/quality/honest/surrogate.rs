//! A stand-in for a recorded model: what it may answer to rows that nobody recorded.

/// Passes over all rows when one is fitted.
const PASSES: usize = 250;
/// Length of a step along the gradient, and the part of the last step that is kept.
const STEP: f64 = 0.5;
const MOMENTUM: f64 = 0.9;

/// Softmax regression on standardised columns, fitted to recorded probabilities.
pub struct Surrogate {
    means: Vec<f64>,
    spreads: Vec<f64>,
    /// Of each class: a weight for each column, and the constant last.
    weights: Vec<Vec<f64>>,
}

impl Surrogate {
    /// Fits one to rows and the probabilities that were answered.
    pub fn fit(rows: &[(Vec<f64>, Vec<f64>)], spreads: &[f64]) -> Self {
        let (width, classes) = (spreads.len(), rows[0].1.len());
        let count = rows.len() as f64;
        let mean = |column: usize| rows.iter().map(|(x, _)| x[column]).sum::<f64>() / count;
        let mut fitted = Self {
            means: (0..width).map(mean).collect(),
            spreads: spreads.to_vec(),
            weights: vec![vec![0.0; width + 1]; classes],
        };
        let inputs: Vec<Vec<f64>> = rows.iter().map(|(x, _)| fitted.standardised(x)).collect();
        let mut moves = vec![vec![0.0; width + 1]; classes];
        for _ in 0..PASSES {
            let mut gradient = vec![vec![0.0; width + 1]; classes];
            for (input, (_, answered)) in inputs.iter().zip(rows) {
                for (class, guessed) in fitted.softmax(input).into_iter().enumerate() {
                    let error = guessed - answered[class];
                    gradient[class].iter_mut().zip(input).for_each(|(sum, value)| *sum += error * value);
                }
            }
            let all = fitted.weights.iter_mut().zip(&mut moves).zip(&gradient);
            for ((weights, moves), gradient) in all {
                for ((weight, step), slope) in weights.iter_mut().zip(moves).zip(gradient) {
                    *step = MOMENTUM * *step - STEP / width as f64 * slope / count;
                    *weight += *step;
                }
            }
        }
        fitted
    }

    /// The row in standard deviations from the mean, and a 1 for the constant.
    fn standardised(&self, x: &[f64]) -> Vec<f64> {
        let columns = x.iter().zip(&self.means).zip(&self.spreads);
        let values = columns.map(|((value, mean), spread)| (value - mean) / spread);
        values.chain(std::iter::once(1.0)).collect()
    }

    fn softmax(&self, input: &[f64]) -> Vec<f64> {
        let dot = |weights: &Vec<f64>| weights.iter().zip(input).map(|(weight, value)| weight * value).sum();
        let scores: Vec<f64> = self.weights.iter().map(dot).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let parts: Vec<f64> = scores.iter().map(|score| libm::exp(score - largest)).collect();
        let sum: f64 = parts.iter().sum();
        parts.iter().map(|part| part / sum).collect()
    }

    /// The probabilities that it answers.
    pub fn answer(&self, x: &[f64]) -> Vec<f64> {
        self.softmax(&self.standardised(x)).iter().map(|p| (p * 1e4).round() / 1e4).collect()
    }
}
