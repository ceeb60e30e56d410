//! What the detectors share: probabilities from counts, distances between them, and quantiles of distributions.

use statrs::distribution::{Beta, ChiSquared, ContinuousCDF, Normal};

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

#[cfg(test)]
mod tests {
    use super::*;

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
