//! The paging layer: stretches of traffic ranked among the reference's own stretches.
//!
//! A stretch scores by how far it lies from the reference, and so did each stretch of the reference from the rest of
//! it. Where a live stretch is exchangeable with those, its rank is uniform, whatever happens inside of stretches:
//! bursts, sessions, retries, customers with habits. p = (1 + scores of the reference at least as high) / (stretches +
//! 1), and the bet e(p), a mean of k p^(k-1) over five k, each scaled so that its mean over the possible p is exactly
//! 1 (Vovk and Wang, E-values: Calibration, Combination and Applications, 2021). The sum of Shiryaev and Roberts over
//! stretches then alarms at A no sooner than after A stretches on average. Dependence *between* stretches, such as
//! nights longer than a stretch, breaks that: the replay of the held-out reference shows whether it does.

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::event::raised;
use super::measure::{divergence, smoothed};

/// Most stretches that a calibration keeps.
pub const STRETCHES_MAX: usize = 400;
/// Exponents of the bets.
const EXPONENTS: [f64; 5] = [0.2, 0.35, 0.5, 0.7, 0.9];

/// The scores of the reference's own stretches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Ascending.
    scores: Vec<f32>,
}

/// What a rank among so many stretches is worth; shared by all features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// By the number of scores at least as high.
    values: Vec<f64>,
}

/// The evidence of one feature: the sum over stretches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    level: f64,
}

/// How far a stretch lies from the rest: 2 n times the divergence, about chi-square under independence.
#[must_use]
pub fn score(stretch: &Counts, rest: &[f64]) -> f32 {
    let events = stretch.total() as f64;
    let shares: Vec<f64> = stretch.slots().iter().map(|count| f64::from(*count) / events.max(1.0)).collect();
    (2.0 * events * divergence(&shares, rest)) as f32
}

impl Calibration {
    /// Scores each stretch of a reference against the other stretches.
    #[must_use]
    pub fn of(stretches: &[Counts], all: &Counts) -> Self {
        let own = |stretch: &Counts| {
            let mut rest = all.clone();
            rest.part_from(stretch);
            score(stretch, &smoothed(rest.slots()))
        };
        let mut scores: Vec<f32> = stretches.iter().take(STRETCHES_MAX).map(own).collect();
        scores.sort_by(f32::total_cmp);
        Self { scores }
    }

    /// How many of the reference's stretches scored at least as high.
    #[must_use]
    pub fn at_least(&self, score: f32) -> usize {
        self.scores.len() - self.scores.partition_point(|own| *own < score)
    }

    /// The share of the reference's stretches that scored at least as high, itself counted: above 0, at most 1.
    #[must_use]
    pub fn p(&self, score: f32) -> f64 {
        (self.at_least(score) + 1) as f64 / (self.scores.len() + 1) as f64
    }

    /// How much the logarithm of the evidence grows with a stretch whose distribution lies `apart` from the reference's,
    /// as [`score`] measures it, on average: every stretch of the reference stands for one that is moved so far. A
    /// moved score has the noise of its size, which three points of Gauss and Hermite stand for.
    #[must_use]
    pub fn growth(&self, worth: &Worth, apart: f64) -> f64 {
        let noise = 2.0 * apart.sqrt() * 3.0_f64.sqrt();
        let points = [(-noise, 1.0 / 6.0), (0.0, 2.0 / 3.0), (noise, 1.0 / 6.0)];
        let moved = |own: &f32| {
            let at = |(noise, weight): &(f64, f64)| {
                let score = (f64::from(*own) + apart + noise).max(0.0) as f32;
                weight * libm::log(worth.at(self.at_least(score)))
            };
            points.iter().map(at).sum::<f64>()
        };
        self.scores.iter().map(moved).sum::<f64>() / self.scores.len().max(1) as f64
    }

    /// The highest score of the reference.
    #[must_use]
    pub fn highest(&self) -> f32 {
        self.scores.last().copied().unwrap_or(f32::INFINITY)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.scores.capacity() * size_of::<f32>()
    }

    /// How many stretches it knows.
    #[must_use]
    pub fn stretches(&self) -> usize {
        self.scores.len()
    }
}

impl Worth {
    /// What ranks among `stretches` stretches are worth.
    #[must_use]
    pub fn of(stretches: usize) -> Self {
        let possible = stretches + 1;
        let p = |rank: usize| (rank + 1) as f64 / possible as f64;
        let bet = |exponent: f64, rank: usize| exponent * libm::pow(p(rank), exponent - 1.0);
        let mean = |exponent| (0..possible).map(|rank| bet(exponent, rank)).sum::<f64>() / possible as f64;
        let means = EXPONENTS.map(mean);
        let value = |rank| {
            let bets = EXPONENTS.iter().zip(means).map(|(exponent, mean)| bet(*exponent, rank) / mean);
            bets.sum::<f64>() / EXPONENTS.len() as f64
        };
        Self { values: (0..possible).map(value).collect() }
    }

    /// The worth of a stretch that so many of the reference's stretches score at least as high as.
    #[must_use]
    pub fn at(&self, rank: usize) -> f64 {
        self.values.get(rank).or(self.values.last()).copied().unwrap_or(1.0)
    }
}

impl Evidence {
    /// Takes a stretch; gives its p.
    pub fn take(&mut self, calibration: &Calibration, worth: &Worth, stretch: &Counts, rest: &[f64]) -> f64 {
        let score = score(stretch, rest);
        self.level = raised(self.level, 1, worth.at(calibration.at_least(score)));
        calibration.p(score)
    }

    /// The evidence: its expectation is at most the number of stretches since the last reset.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Forgets it.
    pub fn reset(&mut self) {
        self.level = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worth_of_a_rank_is_one_on_average_and_falls_with_it() {
        for stretches in [0, 1, 20, 100, 400] {
            let worth = Worth::of(stretches);
            let mean = worth.values.iter().sum::<f64>() / worth.values.len() as f64;
            assert!((mean - 1.0).abs() < 1e-12, "{stretches} stretches: {mean}");
            assert!(worth.values.is_sorted_by(|one, next| one >= next), "{stretches} stretches");
        }
        assert!(Worth::of(400).at(0) > 10.0, "three of the strangest stretches reach 1,000");
    }

    #[test]
    fn a_stretch_is_scored_against_the_others_without_itself() {
        let stretches = vec![Counts::from_slots(vec![10, 0]), Counts::from_slots(vec![0, 10])];
        let all = Counts::from_slots(vec![10, 10]);
        let calibration = Calibration::of(&stretches, &all);
        let expected = (2.0 * 10.0 * libm::log(1.0 / (0.5 / 11.0))) as f32;
        assert_eq!(calibration.scores, [expected, expected]);
        assert_eq!((calibration.at_least(0.0), calibration.at_least(expected + 1.0)), (2, 0));
        assert!((calibration.p(expected + 1.0) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn without_calibration_a_stretch_says_nothing() {
        let mut evidence = Evidence::default();
        let stretch = Counts::from_slots(vec![100, 0]);
        for stretches in 1..50 {
            let p = evidence.take(&Calibration::default(), &Worth::of(0), &stretch, &[0.5, 0.5]);
            assert_eq!((p, evidence.level()), (1.0, f64::from(stretches)), "never more than its number");
        }
    }
}
