//! Every choice of a run comes from here, so that a run follows from its seed.

use std::time::Duration;

use crate::demo::random::Random;

/// The choices of one run.
pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.0.between(0.0, end as f64) as usize).min(end.saturating_sub(1))
    }

    /// True with this probability.
    pub fn chance(&mut self, share: f64) -> bool {
        self.0.chance(share)
    }

    /// One of `choices`, of which there must be some.
    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// One of the choices by their weights.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(total as usize) as u32;
        for (weight, choice) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        choices[0].1
    }

    /// A number with four decimals, as bodies write them.
    pub fn value(&mut self, low: f64, high: f64) -> f64 {
        (self.0.between(low, high) * 1e4).round() / 1e4
    }

    /// A time below `end`, often a short one.
    pub fn span(&mut self, end: Duration) -> Duration {
        let share = self.0.between(0.0, 1.0);
        Duration::from_micros((end.as_micros() as f64 * share * share * share) as u64)
    }
}
