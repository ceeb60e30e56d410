//! Ridge regression on quadratic terms: the pricing model that the demo protects.
//!
//! Hoerl and Kennard, "Ridge regression" (Technometrics, 1970): weights that minimise the squared error plus a
//! penalty on their own squares, from the normal equations by Cholesky's decomposition. Inside of the data it
//! prices well; far outside of it nothing holds a polynomial above zero, and that is what attackers look for.

use super::tariff::{FIELDS, Portfolio, Quote};

/// Terms of a quote: 1, each field, and each product of two fields.
const TERMS: usize = 1 + FIELDS + FIELDS * (FIELDS + 1) / 2;

/// Keeps the normal equations solvable; small beside the number of rows.
const PENALTY: f64 = 1.0;

/// A fitted model.
#[derive(Clone, Debug)]
pub struct Regression {
    scales: [Scale; FIELDS],
    weights: Vec<f64>,
}

/// What brings a field to mean 0 and deviation 1.
#[derive(Clone, Copy, Debug, Default)]
struct Scale {
    mean: f64,
    deviation: f64,
}

impl Regression {
    /// Learns the prices of `portfolio`; `None` where it holds too little to solve for the weights.
    #[must_use]
    pub fn fit(portfolio: &Portfolio) -> Option<Self> {
        let scales = std::array::from_fn(|field| Scale::of(&portfolio.quotes, field));
        let mut normal = vec![vec![0.0; TERMS]; TERMS];
        let mut target = vec![0.0; TERMS];
        for (quote, price) in portfolio.quotes.iter().zip(&portfolio.prices) {
            let terms = terms(quote, &scales);
            accumulate(&mut normal, &mut target, &terms, *price);
        }
        for (position, row) in normal.iter_mut().enumerate().skip(1) {
            row[position] += PENALTY;
        }
        decompose(&mut normal)?;
        Some(Self { scales, weights: solve(&normal, target) })
    }

    /// The price of a quote, in euros a year. Not bounded: that is the point.
    #[must_use]
    pub fn price(&self, quote: &Quote) -> f64 {
        dot(&terms(quote, &self.scales), &self.weights)
    }

    /// Share of the variance of the portfolio's prices that the model explains; 1 is all of it.
    #[must_use]
    pub fn explained(&self, portfolio: &Portfolio) -> f64 {
        let mean = portfolio.prices.iter().sum::<f64>() / portfolio.prices.len().max(1) as f64;
        let total: f64 = portfolio.prices.iter().map(|price| (price - mean).powi(2)).sum();
        let pairs = portfolio.quotes.iter().zip(&portfolio.prices);
        let missed: f64 = pairs.map(|(quote, price)| (price - self.price(quote)).powi(2)).sum();
        1.0 - missed / total
    }
}

impl Scale {
    fn of(quotes: &[Quote], field: usize) -> Self {
        let count = quotes.len().max(1) as f64;
        let values = || quotes.iter().map(|quote| quote[field]);
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        Self { mean, deviation: variance.sqrt().max(f64::EPSILON) }
    }

    fn apply(self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }
}

fn terms(quote: &Quote, scales: &[Scale; FIELDS]) -> Vec<f64> {
    let fields: Vec<f64> = quote.iter().zip(scales).map(|(value, scale)| scale.apply(*value)).collect();
    let mut terms = Vec::with_capacity(TERMS);
    terms.push(1.0);
    terms.extend(&fields);
    for (position, left) in fields.iter().enumerate() {
        terms.extend(fields.iter().skip(position).map(|right| left * right));
    }
    terms
}

/// Adds one row to the normal equations; only the lower triangle is kept.
fn accumulate(normal: &mut [Vec<f64>], target: &mut [f64], terms: &[f64], price: f64) {
    for ((row, sum), left) in normal.iter_mut().zip(target).zip(terms) {
        *sum += left * price;
        // The zip ends with the terms; entries right of the diagonal are written and never read.
        row.iter_mut().zip(terms).for_each(|(entry, right)| *entry += left * right);
    }
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor; `None` where it has none.
fn decompose(matrix: &mut [Vec<f64>]) -> Option<()> {
    for row in 0..matrix.len() {
        let (above, rest) = matrix.split_at_mut(row);
        let current = rest.first_mut()?;
        for (column, factor) in above.iter().enumerate() {
            current[column] = (current[column] - dot(&current[..column], &factor[..column])) / factor[column];
        }
        let square = current[row] - dot(&current[..row], &current[..row]);
        if square.is_nan() || square <= 0.0 {
            return None;
        }
        current[row] = square.sqrt();
    }
    Some(())
}

/// Solves for the weights, given the Cholesky factor: forwards through it, then backwards through its transpose.
fn solve(factor: &[Vec<f64>], mut target: Vec<f64>) -> Vec<f64> {
    for row in 0..factor.len() {
        target[row] = (target[row] - dot(&factor[row][..row], &target[..row])) / factor[row][row];
    }
    for row in (0..factor.len()).rev() {
        let below: f64 = (row + 1..factor.len()).map(|other| factor[other][row] * target[other]).sum();
        target[row] = (target[row] - below) / factor[row][row];
    }
    target
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn cholesky_solves_a_known_system() {
        // 4x + 2y = 10 and 2x + 3y = 9 meet in x = 1.5, y = 2.
        let mut matrix = vec![vec![4.0, 2.0], vec![2.0, 3.0]];
        decompose(&mut matrix).unwrap();
        let solution = solve(&matrix, vec![10.0, 9.0]);
        assert!((solution[0] - 1.5).abs() < 1e-12 && (solution[1] - 2.0).abs() < 1e-12, "{solution:?}");
        assert!(decompose(&mut [vec![-1.0]]).is_none(), "a negative square has no root");
    }

    #[test]
    fn held_out_prices_are_explained() {
        let mut random = Random::new(11);
        let model = Regression::fit(&Portfolio::draw(3_000, &mut random)).unwrap();
        let explained = model.explained(&Portfolio::draw(1_000, &mut random));
        assert!(explained > 0.94, "only {explained} of the variance is explained");
    }

    #[test]
    fn an_empty_portfolio_teaches_nothing() {
        assert!(Regression::fit(&Portfolio::default()).is_none());
    }
}
