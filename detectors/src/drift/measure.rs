//! What the detectors share: probabilities from counts, distances between them, and quantiles of distributions.

use statrs::distribution::{Beta, ChiSquared, ContinuousCDF, Normal};

/// Halvings of a search for a quantile: more than a number of 53 bits has.
const HALVINGS: u32 = 60;

/// Probabilities of counts, with half an event added to every slot so that none is impossible.
#[must_use]
pub fn smoothed(counts: &[u32]) -> Vec<f64> {
    let total: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    let whole = total + 0.5 * counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) + 0.5) / whole).collect()
}

/// Half the sum of the absolute differences, 0 to 1.
#[must_use]
pub fn total_variation(one: &[f64], other: &[f64]) -> f64 {
    0.5 * one.iter().zip(other).map(|(one, other)| (one - other).abs()).sum::<f64>()
}

/// Pearson's distance of `q` from `p`: the variance of `q/p` under `p`.
#[must_use]
pub fn chi_square(q: &[f64], p: &[f64]) -> f64 {
    q.iter().zip(p).filter(|(_, p)| **p > 0.0).map(|(q, p)| (q - p) * (q - p) / p).sum()
}

/// Kullback-Leibler divergence of `q` from `p`, in nats.
#[must_use]
pub fn divergence(q: &[f64], p: &[f64]) -> f64 {
    let parts = q.iter().zip(p).filter(|(q, p)| **q > 0.0 && **p > 0.0);
    parts.map(|(q, p)| q * libm::log(q / p)).sum()
}

/// `base` to the power of `times`, by multiplications alone: the same on every platform.
#[inline]
#[must_use]
pub fn power(base: f64, times: u32) -> f64 {
    let (mut result, mut base, mut times) = (1.0, base, times);
    while times > 0 {
        if times & 1 == 1 {
            result *= base;
        }
        base *= base;
        times >>= 1;
    }
    result
}

/// The value below which a standard normal number lies with `share`, which is kept within 1e-12 of 0 and 1.
#[must_use]
pub fn normal_quantile(share: f64) -> f64 {
    Normal::standard().inverse_cdf(share.clamp(1e-12, 1.0 - 1e-12))
}

/// The value that a sum of `degrees` squared normal numbers exceeds with probability `above`; 0 without any.
#[must_use]
pub fn chi_square_quantile(degrees: usize, above: f64) -> f64 {
    let share = (1.0 - above).clamp(0.0, 1.0 - 1e-12);
    ChiSquared::new(degrees as f64).map_or(0.0, |distribution| distribution.inverse_cdf(share))
}

/// The probability that chi-square with `degrees` exceeds `value`; 1 without degrees.
#[must_use]
pub fn chi_square_above(degrees: usize, value: f64) -> f64 {
    ChiSquared::new(degrees as f64).map_or(1.0, |distribution| distribution.sf(value))
}

/// The largest rate that `hits` of `events` do not contradict at error `above` (Clopper and Pearson, Biometrika 1934).
#[must_use]
pub fn rate_bound(hits: u64, events: u64, above: f64) -> f64 {
    if hits >= events {
        return 1.0;
    }
    let bound = Beta::new(hits as f64 + 1.0, (events - hits) as f64);
    bound.map_or(1.0, |bound| bound.inverse_cdf((1.0 - above).clamp(0.0, 1.0)).clamp(0.0, 1.0))
}

/// The value that a weighted mean of `values` exceeds with probability `above`, below a half, where all weights that sum
/// to 1 are equally likely: the bootstrap of Rubin (Annals of Statistics 1981). `values` are at least 0 and not all 0.
/// The probability is that of Lugannani and Rice's approximation (Advances in Applied Probability 1980), which is within
/// some hundredths of itself; nothing is drawn.
#[must_use]
pub fn random_mean_quantile(values: &[f64], above: f64) -> f64 {
    let highest = values.iter().copied().fold(0.0, f64::max);
    // A tilt weighs a value by 1 / (1 - tilt x value), and the mean that it gives rises with it from the plain one to
    // the highest value.
    let (mut low, mut high) = (0.0, 1.0 / highest);
    let mut mean = highest;
    for _ in 0..HALVINGS {
        let tilt = 0.5 * (low + high);
        // As far as numbers go: the mean is the highest value.
        if tilt * highest >= 1.0 {
            break;
        }
        mean = tilted_mean(values, tilt);
        if random_mean_above(values, tilt, mean) > above { low = tilt } else { high = tilt }
    }
    mean
}

fn tilted_mean(values: &[f64], tilt: f64) -> f64 {
    let (mut sum, mut whole) = (0.0, 0.0);
    for value in values {
        let weight = 1.0 / (1.0 - tilt * value);
        sum += weight * value;
        whole += weight;
    }
    sum / whole
}

/// How likely the weighted mean exceeds the one that `tilt` gives: that sum E (value - mean) > 0 for independent
/// exponential E, for weights are such E over their sum.
fn random_mean_above(values: &[f64], tilt: f64, mean: f64) -> f64 {
    let (mut logarithm, mut curvature) = (0.0, 0.0);
    for value in values {
        let part = (1.0 - tilt * mean) / (1.0 - tilt * value);
        logarithm += libm::log(part);
        curvature += (part - 1.0) * (part - 1.0);
    }
    let (root, slope) = ((-2.0 * logarithm).max(0.0).sqrt(), curvature.sqrt());
    // At the plain mean, where all values are alike, both are nothing.
    if root.min(slope) < 1e-6 {
        return 0.5;
    }
    let density = libm::exp(-0.5 * root * root) / std::f64::consts::TAU.sqrt();
    0.5 * libm::erfc(root * std::f64::consts::FRAC_1_SQRT_2) + density * (1.0 / slope - 1.0 / root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_under_random_weights_exceeds_its_quantile_as_often_as_it_should() {
        // Of two values the weight is uniform, of 0, 0 and 1 it is Beta(1, 2) distributed.
        let two = random_mean_quantile(&[0.0, 1.0], 0.05);
        assert!((two - 0.95).abs() < 0.005, "{two}");
        let three = random_mean_quantile(&[0.0, 0.0, 1.0], 0.01);
        assert!((three - 0.9).abs() < 0.01, "{three}");
        // Of 0 and 1 half and half it is Beta(200, 200) distributed, about normal.
        let many: Vec<f64> = (0..400).map(|place| f64::from(place % 2)).collect();
        let expected = 0.5 + normal_quantile(0.99) * (0.25 / 401.0_f64).sqrt();
        let found = random_mean_quantile(&many, 0.01);
        assert!((found - expected).abs() < 2e-4, "{found} where {expected} is right");
    }

    #[test]
    fn values_that_are_alike_have_their_mean_whatever_the_weights() {
        for values in [vec![2.0], vec![2.0; 400]] {
            assert!((random_mean_quantile(&values, 0.001) - 2.0).abs() < 1e-9, "{} values", values.len());
        }
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-7 * other.abs()
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        assert!(near(normal_quantile(0.975), 1.959_963_984_540_054), "{}", normal_quantile(0.975));
        assert!(near(normal_quantile(1e-6), -4.753_424_308_822_899), "{}", normal_quantile(1e-6));
        assert!(
            near(chi_square_quantile(20, 0.01), 37.566_234_786_625_05),
            "{}",
            chi_square_quantile(20, 0.01)
        );
        assert_eq!(chi_square_quantile(0, 0.01), 0.0);
    }

    #[test]
    fn the_bound_of_a_rate_is_that_of_clopper_and_pearson() {
        for events in [100, 10_000, 1_000_000_u64] {
            let none = 1.0 - libm::pow(0.01, 1.0 / events as f64);
            assert!(near(rate_bound(0, events, 0.01), none), "{events}: {}", rate_bound(0, events, 0.01));
        }
        assert!(near(rate_bound(10, 100, 0.025), 0.176_222_598), "{}", rate_bound(10, 100, 0.025));
        assert_eq!(rate_bound(5, 5, 0.01), 1.0);
        assert_eq!(rate_bound(0, 0, 0.01), 1.0);
        let bound = rate_bound(1000, 100_000, 0.001);
        assert!(bound > 0.0109 && bound < 0.0111, "{bound}");
    }

    #[test]
    fn powers_are_exact_where_they_can_be() {
        assert_eq!((power(3.0, 5), power(7.0, 0), power(0.5, 10)), (243.0, 1.0, 0.000_976_562_5));
    }
}
