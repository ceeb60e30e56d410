//! Confidence bounds of a rate.

/// The upper bound of a rate at one-sided confidence `1 - alpha`, after `hits` of `trials` (Clopper and Pearson,
/// Biometrika 1934): the rate at which so few hits would have had probability `alpha`. 1 without trials. By bisection,
/// to an absolute 1e-9; O(hits).
pub fn upper(hits: u64, trials: u64, alpha: f64) -> f64 {
    if hits >= trials {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(hits, trials, middle) > alpha { low = middle } else { high = middle }
    }
    high
}

/// The probability of at most `hits` of `trials` at this rate, above 0 and below 1.
fn at_most(hits: u64, trials: u64, rate: f64) -> f64 {
    let (hit, miss) = (libm::log(rate), libm::log1p(-rate));
    let mut choices = 0.0;
    let mut sum = 0.0;
    for count in 0..=hits {
        if count > 0 {
            choices += libm::log((trials - count + 1) as f64) - libm::log(count as f64);
        }
        sum += libm::exp(choices + count as f64 * hit + (trials - count) as f64 * miss);
    }
    sum
}
