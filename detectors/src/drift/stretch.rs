//! The paging layer: stretches of traffic ranked among the reference's own stretches.
//!
//! A stretch scores by how far it lies from the reference, and so did each stretch of the reference from the rest of
//! it. Where a live stretch is exchangeable with those, its rank is uniform, whatever happens inside of stretches:
//! bursts, sessions, retries, customers with habits. p = (1 + scores of the reference at least as high) / (stretches +
//! 1), and the bet is e(p) = 1 / (2 sqrt p), scaled so that its mean over the possible p is exactly 1 (Vovk and Wang,
//! E-values: Calibration, Combination and Applications, 2021).
//!
//! But all stretches of a watch are ranked among the *same* scores. Given these, rank r has not the probability 1 /
//! (stretches + 1) but the length of the gap between two scores, and the gaps of m scores are as likely as any m + 1
//! lengths that sum to 1. Under an unlucky reference the bet grows by its mean over these lengths, stretch after stretch:
//! the promise of a mean run length fails for that reference altogether, and so does the mean over references. So the
//! bet is divided by what that mean exceeds with a probability of [`REFERENCE_ERROR`] over the draw of the reference, for
//! all its features together. With the rest of the probability, given the reference, the sum of Shiryaev and Roberts
//! over stretches alarms at A no sooner than after A stretches on average. That is the condition on the calibration set
//! of Vovk (Conditional Validity of Inductive Conformal Predictors, 2012) and of Bates, Candes, Lei, Romano and Sesia
//! (Testing for Outliers with Conformal p-Values, 2023), asked of one mean and not of every p, which costs less.
//!
//! Dependence *between* stretches, such as nights longer than a stretch, breaks all of it: the replay of the held-out
//! reference shows whether it does.

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::event::raised;
use super::measure::{divergence, random_mean_quantile, smoothed};

/// Most stretches that a calibration keeps.
pub const STRETCHES_MAX: usize = 400;
/// How likely it may be that the scores that happened to be in a reference break the promise of one of its features. Of
/// independent references one in twenty has runs that are shorter than promised, by the little that its bet is still too
/// large; a fifth of that would have a shift of a tenth of a deviation take four tenths longer.
pub const REFERENCE_ERROR: f64 = 0.05;

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
    /// Scores each stretch of a reference against the other stretches: `seen` is each as these see it
    /// ([`super::strangers`]).
    #[must_use]
    pub fn of(stretches: &[Counts], seen: &[Counts], all: &Counts) -> Self {
        let own = |(stretch, seen): (&Counts, &Counts)| {
            let mut rest = all.clone();
            rest.part_from(stretch);
            score(seen, &smoothed(rest.slots()))
        };
        let mut scores: Vec<f32> = stretches.iter().zip(seen).take(STRETCHES_MAX).map(own).collect();
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
    /// What ranks among `stretches` stretches are worth in a reference of so many features.
    #[must_use]
    pub fn of(stretches: usize, features: usize) -> Self {
        let possible = stretches + 1;
        let bet = |rank: usize| (possible as f64 / (rank + 1) as f64).sqrt();
        let mean = (0..possible).map(bet).sum::<f64>() / possible as f64;
        let bets: Vec<f64> = (0..possible).map(|rank| bet(rank) / mean).collect();
        let margin = random_mean_quantile(&bets, REFERENCE_ERROR / features.max(1) as f64);
        Self { values: bets.iter().map(|bet| bet / margin).collect() }
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
    fn the_worth_of_a_rank_is_at_most_one_on_average_and_falls_with_it() {
        for stretches in [0, 1, 20, 100, 400] {
            let worth = Worth::of(stretches, 1);
            let mean = worth.values.iter().sum::<f64>() / worth.values.len() as f64;
            assert!(mean <= 1.0 + 1e-9 && mean > 0.75, "{stretches} stretches: {mean}");
            assert!(worth.values.is_sorted_by(|one, next| one >= next), "{stretches} stretches");
        }
        assert!(Worth::of(400, 1).at(0) > 9.0, "four of the strangest stretches reach 5,000");
        assert!(Worth::of(400, 50).at(0) < Worth::of(400, 1).at(0), "many features ask for more room");
    }

    /// Given a reference, a quiet stretch falls into one of the gaps between its scores by their lengths.
    #[test]
    fn of_twenty_references_nineteen_keep_the_promise_each_for_itself() {
        const REFERENCES: u32 = 2000;
        let mut bits = 1_u64;
        // Knuth's linear congruential generator: any will do.
        let mut exponential = || {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            -libm::log(((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64)
        };
        for stretches in [5, 20, 400] {
            let worth = Worth::of(stretches, 1);
            let mut breaks = || {
                let gaps: Vec<f64> = worth.values.iter().map(|_| exponential()).collect();
                let mean: f64 = gaps.iter().zip(&worth.values).map(|(gap, worth)| gap * worth).sum();
                mean > gaps.iter().sum()
            };
            let broken = (0..REFERENCES).filter(|_| breaks()).count();
            // 100 are allowed; four standard errors are 39.
            assert!((61..=139).contains(&broken), "{stretches} stretches: {broken} of {REFERENCES}");
        }
    }

    #[test]
    fn a_stretch_is_scored_against_the_others_without_itself() {
        let stretches = vec![Counts::from_slots(vec![10, 0]), Counts::from_slots(vec![0, 10])];
        let all = Counts::from_slots(vec![10, 10]);
        let calibration = Calibration::of(&stretches, &stretches, &all);
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
            let p = evidence.take(&Calibration::default(), &Worth::of(0, 1), &stretch, &[0.5, 0.5]);
            assert_eq!((p, evidence.level()), (1.0, f64::from(stretches)), "never more than its number");
        }
    }
}
