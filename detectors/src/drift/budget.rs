//! From "at most so many false alarms a week" to thresholds, and from evidence to the names of features.
//!
//! Both layers promise a mean number of events, or stretches, before a false alarm. So the threshold is the number of
//! them that the operator's budget allows between two false alarms: no rate of errors per test, which nobody can
//! relate to a week, and no rate of false discoveries, which no detector with a finite run length can bound
//! (Dandapanthula and Ramdas, Multiple testing in multi-stream sequential change detection, 2025).

use serde::{Deserialize, Serialize};

use super::event::Bank;
use super::feature::Feature;
use super::stretch::Worth;

const SECONDS_A_WEEK: f64 = 7.0 * 24.0 * 3600.0;
/// No threshold lies lower, however slow the traffic: fewer events than this tell nothing.
const EVENTS_MIN: f64 = 1000.0;
/// The same for stretches.
const STRETCHES_MIN: f64 = 20.0;
/// No threshold lies higher: evidence is cut far above.
const THRESHOLD_MAX: f64 = 1e12;

/// Evidence that grows more slowly with a stretch, in nats, does not grow.
const GROWTH_MIN: f64 = 0.005;

/// What an operator grants and what traffic there is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// False alarms in a week that each layer may raise at one endpoint, above 0.
    pub false_alarms_a_week: f64,
    /// Rows in a second, on average.
    pub rows_a_second: f64,
    /// Rows of a stretch of the paging layer, on average.
    pub rows_a_stretch: f64,
}

/// When a layer speaks: evidence that is at least this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Of the early layer, in events: the mean run length without a change is at least this.
    pub early: f64,
    /// Of the paging layer, in stretches.
    pub paging: f64,
}

/// What a change of a size would cost in time before it is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The change, in standard deviations of the feature.
    pub shift: f64,
    /// Events until the early layer tells, about; nothing where it lies within what is tolerated.
    pub events: Option<f64>,
}

/// The sizes of change that a plan tells of, in standard deviations.
pub const SHIFTS: [f64; 3] = [0.1, 0.3, 0.5];

impl Budget {
    /// The thresholds that keep it.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        let events = self.rows_a_second * SECONDS_A_WEEK / self.false_alarms_a_week;
        let stretches = events / self.rows_a_stretch.max(1.0);
        Thresholds { early: within(events, EVENTS_MIN), paging: within(stretches, STRETCHES_MIN) }
    }
}

fn within(threshold: f64, least: f64) -> f64 {
    if threshold.is_nan() { THRESHOLD_MAX } else { threshold.clamp(least, THRESHOLD_MAX) }
}

/// The evidence of all features together: its expectation keeps the promise of each of them, however they depend on
/// one another, so the threshold is that of one feature.
#[must_use]
pub fn together(levels: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = levels.fold((0_u32, 0.0), |(count, sum), level| (count + 1, sum + level));
    sum / f64::from(count.max(1))
}

/// The features that may be named, most evidence first: the k largest, for the largest k whose least evidence is at
/// least threshold x features / k (e-d-BH, Dandapanthula and Ramdas 2025).
#[must_use]
pub fn named(levels: &[f64], threshold: f64) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> = levels.iter().copied().enumerate().collect();
    order.sort_by(|(one, high), (other, low)| low.total_cmp(high).then(one.cmp(other)));
    let features = levels.len() as f64;
    let enough = |(rank, (_, level)): (usize, &(usize, f64))| {
        (*level >= threshold * features / (rank + 1) as f64).then_some(rank + 1)
    };
    let count = order.iter().enumerate().filter_map(enough).max().unwrap_or(0);
    order.truncate(count);
    order.into_iter().map(|(feature, _)| feature).collect()
}

/// What the early layer would need for a change of one feature among `features`: the logarithm of what its best bet
/// must reach, over its speed.
#[must_use]
pub fn expected(bank: &Bank, share: f64, features: usize, thresholds: &Thresholds) -> [Expected; 3] {
    SHIFTS.map(|shift| {
        let level = thresholds.early * features.max(1) as f64 / share;
        Expected { shift, events: bank.events(shift, level) }
    })
}

/// The same for the paging layer, whose stretches have `rows_a_stretch` rows on average. Events are whole stretches.
#[must_use]
pub fn expected_by_stretches(
    feature: &Feature,
    worth: &Worth,
    rows_a_stretch: f64,
    features: usize,
    thresholds: &Thresholds,
) -> [Expected; 3] {
    SHIFTS.map(|shift| {
        let apart = 2.0 * rows_a_stretch * feature.bank.divergence(shift);
        let growth = feature.calibration.growth(worth, apart);
        let reach = thresholds.paging * features.max(1) as f64;
        // What a sum that begins anew with every stretch and grows by one factor needs to reach a level.
        let events = (growth > GROWTH_MIN).then(|| {
            let ratio = libm::exp(growth);
            let stretches = libm::log(1.0 + reach * (ratio - 1.0) / ratio) / growth;
            stretches.max(1.0).ceil() * rows_a_stretch
        });
        Expected { shift, events }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_says_how_many_events_must_pass_between_two_false_alarms() {
        let budget = Budget { false_alarms_a_week: 1.0, rows_a_second: 10.0, rows_a_stretch: 250.0 };
        let thresholds = budget.thresholds();
        assert_eq!(thresholds.early, 6_048_000.0);
        assert_eq!(thresholds.paging, 24_192.0);
        let twice = Budget { false_alarms_a_week: 2.0, ..budget }.thresholds();
        assert_eq!(twice.early * 2.0, thresholds.early);
        let idle = Budget { rows_a_second: 0.0, ..budget }.thresholds();
        assert_eq!(
            (idle.early, idle.paging),
            (EVENTS_MIN, STRETCHES_MIN),
            "no traffic is no reason to speak at once"
        );
        let absurd = Budget { false_alarms_a_week: 0.0, ..budget }.thresholds();
        assert_eq!(absurd.early, THRESHOLD_MAX, "no budget, no alarm");
    }

    #[test]
    fn names_are_those_of_the_known_example() {
        // Values and answer are those of tests/data/drift-gold.json: n / (alpha k) with n = 6 and alpha = 0.1.
        assert_eq!(named(&[200.0, 3.0, 55.0, 0.2, 21.0, 9.0], 10.0), [0, 2, 4]);
        assert!(named(&[9.0, 9.0], 10.0).is_empty());
        assert!(named(&[], 10.0).is_empty());
    }

    #[test]
    fn whoever_is_named_lifts_the_mean_over_the_threshold() {
        for levels in
            [vec![61.0, 0.0, 0.0, 0.0, 0.0, 0.0], vec![10.0; 6], vec![31.0, 31.0, 0.0, 0.0, 0.0, 0.0]]
        {
            assert!(!named(&levels, 10.0).is_empty(), "{levels:?}");
            assert!(together(levels.iter().copied()) >= 10.0, "{levels:?}");
        }
    }
}
