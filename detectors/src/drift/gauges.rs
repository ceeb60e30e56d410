//! Distances between the reference and a window, to be shown: never what an alarm rests on.
//!
//! Each comes beside its expectation at that sample size where nothing changed, which most tools leave out: a
//! population stability index of 0.16 over 30 bins is what 200 rows of unchanged traffic give. Expectations are those
//! of large samples (multinomial counts, second order).

use serde::{Deserialize, Serialize};

use super::bins::Bins;
use super::counts::Counts;
use super::measure::{chi_square_above, divergence, smoothed, total_variation};

/// Fewest events of a window that a gauge is shown for.
pub const EVENTS_MIN: u64 = 100;
/// What a share of zero counts as in the index with a floor.
const FLOOR: f64 = 1e-4;
/// Most pairs of events for which the exact p of Kolmogorov and Smirnov is computed.
const PAIRS_MAX: u64 = 1 << 20;

/// A gauge at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The distance.
    pub value: f64,
    /// Its expectation at this sample size where nothing changed, about.
    pub expected: f64,
    /// How likely at least this much is where nothing changed and events are independent; nothing where the gauge
    /// has no such distribution.
    pub p: Option<f64>,
}

/// What a gauge compares.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Counts of the reference.
    pub reference: &'a Counts,
    /// Counts of the window, in the same slots.
    pub window: &'a Counts,
    /// The slots.
    pub bins: &'a Bins,
}

impl Pair<'_> {
    fn shares(&self) -> (Vec<f64>, Vec<f64>) {
        (shares(self.reference.slots()), shares(self.window.slots()))
    }

    /// 1/n + 1/m: how much sampling alone moves shares apart.
    fn noise(&self) -> f64 {
        let part = |counts: &Counts| 1.0 / counts.total().max(1) as f64;
        part(self.reference) + part(self.window)
    }

    /// Slots that the reference uses, less one.
    fn degrees(&self) -> f64 {
        let used = self.reference.slots().iter().filter(|count| **count > 0).count();
        used.saturating_sub(1) as f64
    }

    fn reading(value: f64, expected: f64) -> Reading {
        Reading { value, expected, p: None }
    }

    /// Population stability index, smoothed.
    #[must_use]
    pub fn psi(&self) -> Reading {
        let value = psi_smoothed(self.reference.slots(), self.window.slots());
        Self::reading(value, self.degrees() * self.noise())
    }

    /// What smoothing alone makes of the index at this sample size: that of a window with the reference's own shares. It
    /// matters where few events meet slots that the reference hardly uses.
    #[must_use]
    pub fn psi_of_smoothing(&self) -> f64 {
        let (events, slots) = (self.window.total() as f64, self.reference.slots().len() as f64);
        let same = shares(self.reference.slots()).into_iter().map(|share| share * events + 0.5);
        let same: Vec<f64> = same.map(|count| count / (events + 0.5 * slots)).collect();
        stability(&smoothed(self.reference.slots()), &same)
    }

    /// Kullback-Leibler divergence of the window from the reference, smoothed, in nats.
    #[must_use]
    pub fn kl(&self) -> Reading {
        let value = divergence(&smoothed(self.window.slots()), &smoothed(self.reference.slots()));
        Self::reading(value, 0.5 * self.degrees() * self.noise())
    }

    /// Jensen-Shannon distance, base 2, 0 to 1.
    #[must_use]
    pub fn jensen_shannon(&self) -> Reading {
        let (p, q) = self.shares();
        let expected = (self.degrees() * self.noise() / (8.0 * std::f64::consts::LN_2)).sqrt();
        Self::reading(jensen_shannon(&p, &q), expected)
    }

    /// Hellinger distance, 0 to 1.
    #[must_use]
    pub fn hellinger(&self) -> Reading {
        let (p, q) = self.shares();
        Self::reading(hellinger(&p, &q), (self.degrees() * self.noise() / 8.0).sqrt())
    }

    /// Total variation, 0 to 1.
    #[must_use]
    pub fn total_variation(&self) -> Reading {
        let (p, q) = self.shares();
        let spread: f64 = p.iter().map(|p| (p * (1.0 - p) * self.noise()).sqrt()).sum();
        Self::reading(total_variation(&p, &q), 0.5 * mean_of_half_normal() * spread)
    }

    /// Kolmogorov and Smirnov's largest difference of cumulative shares, at the edges of the bins: at most the exact
    /// one, so its p is at least the exact one. For labels, whose order means nothing, the same over their frequency.
    #[must_use]
    pub fn kolmogorov_smirnov(&self) -> Reading {
        let gap = self.largest_gap();
        let p = gap_probability(self.reference.total(), self.window.total(), gap.value);
        Reading { p: Some(p), ..gap }
    }

    /// The same without its p, which may take a million steps.
    #[must_use]
    pub fn largest_gap(&self) -> Reading {
        let (p, q) = self.shares();
        // The mean of Kolmogorov's distribution.
        Self::reading(largest_gap(&p, &q), 0.868_731_160_636_159_1 * self.noise().sqrt())
    }

    /// Wasserstein's distance in the unit of the feature, with all values of a slot at its middle and those outside of
    /// the reference's range at its end. Nothing for labels.
    #[must_use]
    pub fn wasserstein(&self) -> Option<Reading> {
        let positions = positions(self.bins)?;
        let (p, q) = self.shares();
        let noise = self.noise();
        let mut below = 0.0;
        let steps = positions.iter().zip(positions.iter().skip(1)).zip(&p).map(|((from, to), p)| {
            below += p;
            (to - from) * (below * (1.0 - below) * noise).max(0.0).sqrt()
        });
        let expected = mean_of_half_normal() * steps.sum::<f64>();
        Some(Self::reading(wasserstein(&positions, &p, &q), expected))
    }

    /// Pearson's chi-square of the table of both, whose expectation is its degrees of freedom.
    #[must_use]
    pub fn chi_square(&self) -> Reading {
        let table = contingency(self.reference.slots(), self.window.slots());
        Reading { value: table.pearson, expected: table.degrees as f64, p: Some(table.pearson_p()) }
    }
}

/// Two samples of counts as a table of two rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contingency {
    /// Pearson's statistic.
    pub pearson: f64,
    /// Twice the logarithm of the likelihood ratio.
    pub likelihood: f64,
    /// Degrees of freedom.
    pub degrees: usize,
}

impl Contingency {
    /// How likely at least this Pearson statistic is.
    #[must_use]
    pub fn pearson_p(&self) -> f64 {
        chi_square_above(self.degrees, self.pearson)
    }

    /// How likely at least this likelihood ratio is.
    #[must_use]
    pub fn likelihood_p(&self) -> f64 {
        chi_square_above(self.degrees, self.likelihood)
    }
}

fn mean_of_half_normal() -> f64 {
    std::f64::consts::FRAC_2_PI.sqrt()
}

/// Shares of counts; all 0 where nothing was counted.
#[must_use]
pub fn shares(counts: &[u32]) -> Vec<f64> {
    let total: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    counts.iter().map(|count| f64::from(*count) / total.max(1.0)).collect()
}

/// The population stability index of two sets of counts, each smoothed by half an event to a slot.
#[must_use]
pub fn psi_smoothed(reference: &[u32], window: &[u32]) -> f64 {
    stability(&smoothed(reference), &smoothed(window))
}

/// The same with shares of at least 0.0001, as other tools have it.
#[must_use]
pub fn psi_with_floor(reference: &[u32], window: &[u32]) -> f64 {
    let floored = |counts| shares(counts).into_iter().map(|share| share.max(FLOOR)).collect::<Vec<_>>();
    stability(&floored(reference), &floored(window))
}

fn stability(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| (q - p) * libm::log(q / p)).sum()
}

/// Jensen-Shannon distance of two distributions, base 2.
#[must_use]
pub fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    let middle: Vec<f64> = p.iter().zip(q).map(|(p, q)| 0.5 * (p + q)).collect();
    let nats = 0.5 * (divergence(p, &middle) + divergence(q, &middle));
    (nats / std::f64::consts::LN_2).max(0.0).sqrt()
}

/// Hellinger distance of two distributions.
#[must_use]
pub fn hellinger(p: &[f64], q: &[f64]) -> f64 {
    let common: f64 = p.iter().zip(q).map(|(p, q)| (p * q).sqrt()).sum();
    (1.0 - common).max(0.0).sqrt()
}

/// The largest difference of the cumulative shares.
#[must_use]
pub fn largest_gap(p: &[f64], q: &[f64]) -> f64 {
    let (mut gap, mut largest) = (0.0, 0.0_f64);
    for (p, q) in p.iter().zip(q) {
        gap += p - q;
        largest = largest.max(f64::abs(gap));
    }
    largest
}

/// How likely two samples of `one` and `other` independent values are at least `gap` apart: exact by counting lattice
/// paths (Hodges 1958) where they are few, otherwise by Kolmogorov's limit.
#[must_use]
pub fn gap_probability(one: u64, other: u64, gap: f64) -> f64 {
    if one == 0 || other == 0 {
        return 1.0;
    }
    if one.saturating_mul(other) <= PAIRS_MAX {
        return crossing_probability(one as usize, other as usize, gap);
    }
    let scaled = gap * gap * (one as f64 * other as f64 / (one as f64 + other as f64));
    let term = |k: i32| {
        let size = libm::exp(-2.0 * f64::from(k * k) * scaled);
        if k % 2 == 1 { size } else { -size }
    };
    if scaled < 0.04 { 1.0 } else { (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0) }
}

/// The probability that a random path from (0, 0) to (one, other) comes to a point where the shares passed on either
/// side differ by `gap`.
fn crossing_probability(one: usize, other: usize, gap: f64) -> f64 {
    // A point exactly at the gap counts, whatever the rounding of two divisions.
    let limit = gap - 1e-12;
    let apart = |i: usize, j: usize| (i as f64 / one as f64 - j as f64 / other as f64).abs() >= limit;
    let mut column = vec![0.0; other + 1];
    for i in 0..=one {
        let mut before = 0.0;
        for (j, here) in column.iter_mut().enumerate() {
            let (from_left, from_below) = (*here, before);
            *here = if apart(i, j) {
                1.0
            } else {
                (from_left * i as f64 + from_below * j as f64) / (i + j).max(1) as f64
            };
            before = *here;
        }
    }
    column.last().copied().unwrap_or(1.0)
}

/// Wasserstein's distance of two distributions over the same ascending positions.
#[must_use]
pub fn wasserstein(positions: &[f64], p: &[f64], q: &[f64]) -> f64 {
    let mut gap = 0.0;
    let steps = positions.iter().zip(positions.iter().skip(1)).zip(p.iter().zip(q));
    let parts = steps.map(|((from, to), (p, q))| {
        gap += p - q;
        (to - from) * f64::abs(gap)
    });
    parts.sum()
}

/// The middles of the slots on a scale of numbers; nothing for labels and where there is no edge.
fn positions(bins: &Bins) -> Option<Vec<f64>> {
    let first = bins.edge(1)?;
    let middle = |slot| match (bins.edge(slot), bins.edge(slot + 1)) {
        (Some(from), Some(to)) => 0.5 * (from + to),
        (Some(from), None) => from,
        (None, _) => first,
    };
    Some((0..bins.scale()).map(middle).collect())
}

/// The table of two sets of counts.
#[must_use]
pub fn contingency(reference: &[u32], window: &[u32]) -> Contingency {
    let sum = |counts: &[u32]| counts.iter().map(|count| f64::from(*count)).sum::<f64>();
    let (rows, whole) = ([sum(reference), sum(window)], sum(reference) + sum(window));
    let (mut pearson, mut likelihood, mut used) = (0.0, 0.0, 0_usize);
    for (one, other) in reference.iter().zip(window) {
        let column = f64::from(*one) + f64::from(*other);
        used += usize::from(column > 0.0);
        for (count, row) in [one, other].into_iter().zip(rows) {
            let (observed, expected) = (f64::from(*count), row * column / whole.max(1.0));
            if expected > 0.0 {
                pearson += (observed - expected) * (observed - expected) / expected;
            }
            if observed > 0.0 {
                likelihood += 2.0 * observed * libm::log(observed / expected);
            }
        }
    }
    Contingency { pearson, likelihood, degrees: used.saturating_sub(1) }
}
