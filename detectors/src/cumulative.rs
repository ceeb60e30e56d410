//! Cumulative sums of evidence, request by request (Page, Continuous Inspection Schemes, Biometrika 1954).
//!
//! One odd request means nothing. A sum weighs "an attacker's share of requests is odd" against "an honest client's
//! share is": it rises with an odd request, falls with any other, never below zero, and speaks at a limit. A client
//! takes one step a request, however many rows it sends in it.

use serde::{Deserialize, Serialize};

use crate::lines::{Origin, Trail};
use crate::query::ParameterError;

/// Fewest rows of a client that an alarm rests on.
const ROWS_MIN: u32 = 3;

/// The shares that a sum tells apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Share of an honest client's requests that may be odd, above 0 and below `attack`.
    pub honest: f64,
    /// Share of an attacker's requests that is odd, below 1.
    pub attack: f64,
    /// How likely an honest client's run of requests is taken for an attack, above 0 and below 0.1.
    pub false_alarms: f64,
}

impl Shares {
    /// Says what is wrong with parameters named `honest_share`, `attack_share` and `false_alarms`.
    ///
    /// # Errors
    /// Names the one that is out of range.
    pub fn check(self) -> Result<(), ParameterError> {
        let wrong = |key, message: &str| Err(ParameterError::at(key, message));
        if !(self.honest > 0.0 && self.honest < self.attack) {
            return wrong("honest_share", "must lie above 0 and below attack_share");
        }
        if !(self.attack > 0.0 && self.attack < 1.0) {
            return wrong("attack_share", "must lie between 0 and 1");
        }
        if !(self.false_alarms > 0.0 && self.false_alarms < 0.1) {
            return wrong("false_alarms", "must lie between 0 and 0.1");
        }
        Ok(())
    }
}

/// The steps of a sum, and its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    up: f64,
    down: f64,
    /// The sum at which it speaks.
    pub limit: f64,
}

/// One client's sum, and the rows that raised it since it was last zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The sum.
    pub sum: f64,
    /// The rows.
    pub trail: Trail,
}

/// What a sum keeps of a client: nothing while it is zero.
pub type Kept = Option<Box<Evidence>>;

impl Steps {
    /// The steps that tell `shares` apart.
    #[must_use]
    pub fn new(shares: Shares) -> Self {
        Self {
            up: libm::log(shares.attack / shares.honest),
            down: libm::log((1.0 - shares.attack) / (1.0 - shares.honest)),
            // Wald's bound with one attack in a hundred missed.
            limit: libm::log(0.99 / shares.false_alarms),
        }
    }

    /// Takes a request that is not odd.
    pub fn fall(&self, kept: &mut Kept) {
        if let Some(evidence) = kept {
            evidence.sum += self.down;
            if evidence.sum <= 0.0 {
                *kept = None;
            }
        }
    }

    /// Takes an odd request with `rows` odd rows; gives the evidence where the sum has reached its limit.
    pub fn rise<'a>(&self, kept: &'a mut Kept, origin: Origin, rows: usize) -> Option<&'a Evidence> {
        let evidence = kept.get_or_insert_default();
        evidence.sum += self.up;
        (0..rows).for_each(|_| evidence.trail.add(origin));
        (evidence.sum >= self.limit && evidence.trail.rows >= ROWS_MIN).then_some(&**evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Time;

    fn alarms(odd: &[bool]) -> Option<usize> {
        let steps = Steps::new(Shares { honest: 0.03, attack: 0.4, false_alarms: 1e-4 });
        let mut kept = None;
        odd.iter().enumerate().position(|(request, &odd)| {
            let origin = Origin { request: request as u64, time: Time(request as u64) };
            if !odd {
                steps.fall(&mut kept);
                return false;
            }
            steps.rise(&mut kept, origin, 1).is_some()
        })
    }

    #[test]
    fn odd_requests_in_a_row_alarm_and_rare_ones_never_do() {
        assert_eq!(alarms(&[true; 9]), Some(3));
        let one_in_ten: Vec<bool> = (0..10_000).map(|request| request % 10 == 0).collect();
        assert_eq!(alarms(&one_in_ten), None);
    }

    #[test]
    fn nothing_is_kept_of_a_client_whose_sum_is_zero() {
        let steps = Steps::new(Shares { honest: 0.03, attack: 0.4, false_alarms: 1e-4 });
        let mut kept = None;
        let _ = steps.rise(&mut kept, Origin { request: 1, time: Time(1) }, 1);
        assert!(kept.is_some());
        (0..10).for_each(|_| steps.fall(&mut kept));
        assert!(kept.is_none());
    }
}
