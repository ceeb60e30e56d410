//! What an endpoint's drift is called from tick to tick: one finding for one change, a beginning and an end.

use serde::{Deserialize, Serialize};

use crate::facts::Time;

/// How things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Too few rows have come to say anything.
    #[default]
    Warming,
    /// As the reference.
    Stable,
    /// The early layer spoke; the paging layer has not.
    Warned {
        /// When.
        since: Time,
    },
    /// The paging layer spoke.
    Drifting {
        /// When.
        since: Time,
    },
    /// A drift is over.
    Recovered {
        /// Since when.
        since: Time,
    },
}

/// A drift is over where the effect is below this.
pub const EFFECT_OVER: f64 = 0.05;

/// How large a change is, whatever the certainty that there is one. The limits are those that are customary for the
/// population stability index, here on what exceeds its expectation without a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Extent {
    /// Below 0.02: real, and too small to matter to most models.
    Slight,
    /// Below 0.1.
    Small,
    /// Below 0.25.
    Medium,
    /// From 0.25 on.
    Large,
}

/// What holds for the condition of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Rows before anything is said.
    pub rows_min: u64,
    /// Rows without an alarm after which a warning is forgotten or a drift may be over.
    pub cool_down_rows: u64,
    /// A drift is over where the effect is below this.
    pub effect_over: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { rows_min: 250, cool_down_rows: 2000, effect_over: EFFECT_OVER }
    }
}

/// What the layers show at a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signs {
    /// The time of the tick.
    pub now: Time,
    /// Rows seen so far.
    pub rows: u64,
    /// The early layer's evidence reached its threshold.
    pub early: bool,
    /// The evidence of a layer that may page reached its threshold.
    pub paging: bool,
    /// The largest effect among the features, as [`Extent::of`] takes it.
    pub effect: f64,
}

/// What is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// An early warning.
    Warning,
    /// A drift has begun.
    Drift,
    /// It is over.
    Over,
    /// A rule of the operator's on a gauge is met.
    Met,
    /// It is no longer met.
    Unmet,
}

/// The condition of an endpoint, and when it was last in doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    condition: Condition,
    last_alarm: u64,
}

impl Extent {
    /// The extent of an effect: the population stability index less its expectation without a change.
    #[must_use]
    pub fn of(effect: f64) -> Self {
        match effect {
            effect if effect >= 0.25 => Self::Large,
            effect if effect >= 0.1 => Self::Medium,
            effect if effect >= 0.02 => Self::Small,
            _ => Self::Slight,
        }
    }
}

impl State {
    /// How things stand.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Takes a tick; gives what is to be told, at most once for each change.
    pub fn step(&mut self, rules: &Rules, signs: &Signs) -> Option<Change> {
        if signs.early || signs.paging {
            self.last_alarm = signs.rows;
        }
        let cooled = signs.rows.saturating_sub(self.last_alarm) >= rules.cool_down_rows;
        let since = signs.now;
        let (next, told) = match self.condition {
            Condition::Warming if signs.rows < rules.rows_min => (Condition::Warming, None),
            Condition::Drifting { .. } if cooled && signs.effect < rules.effect_over => {
                self.last_alarm = signs.rows;
                (Condition::Recovered { since }, Some(Change::Over))
            }
            Condition::Drifting { .. } => (self.condition, None),
            _ if signs.paging => (Condition::Drifting { since }, Some(Change::Drift)),
            Condition::Warned { .. } if cooled => (Condition::Stable, None),
            Condition::Warned { .. } => (self.condition, None),
            _ if signs.early => (Condition::Warned { since }, Some(Change::Warning)),
            Condition::Recovered { .. } if !cooled => (self.condition, None),
            Condition::Warming | Condition::Stable | Condition::Recovered { .. } => (Condition::Stable, None),
        };
        self.condition = next;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(rows: u64, early: bool, paging: bool, effect: f64) -> Signs {
        Signs { now: Time(rows), rows, early, paging, effect }
    }

    #[test]
    fn one_change_is_told_once_from_its_beginning_to_its_end() {
        let (rules, mut state) = (Rules::default(), State::default());
        let mut told = Vec::new();
        for tick in 0..1000_u64 {
            let rows = tick * 16;
            let drifts = (4000..9000).contains(&rows);
            let early = drifts && rows % 160 == 0;
            let paging = drifts && rows > 5000 && rows % 800 == 0;
            let effect = if drifts { 0.3 } else { 0.0 };
            told.extend(state.step(&rules, &signs(rows, early, paging, effect)).map(|change| (change, rows)));
        }
        let changes: Vec<Change> = told.iter().map(|(change, _)| *change).collect();
        assert_eq!(changes, [Change::Warning, Change::Drift, Change::Over], "{told:?}");
        assert_eq!(state.condition(), Condition::Stable, "recovered for a while, then stable");
    }

    #[test]
    fn nothing_is_said_before_enough_rows_have_come() {
        let (rules, mut state) = (Rules::default(), State::default());
        assert_eq!(state.step(&rules, &signs(249, true, true, 1.0)), None);
        assert_eq!(state.condition(), Condition::Warming);
        assert_eq!(state.step(&rules, &signs(250, true, true, 1.0)), Some(Change::Drift));
    }

    #[test]
    fn a_warning_that_nothing_follows_is_forgotten_and_a_drift_that_stays_is_not_over() {
        let (rules, mut state) = (Rules::default(), State::default());
        assert_eq!(state.step(&rules, &signs(1000, true, false, 0.0)), Some(Change::Warning));
        assert_eq!(state.step(&rules, &signs(2000, false, false, 0.0)), None);
        assert_eq!(state.condition(), Condition::Warned { since: Time(1000) });
        let _ = state.step(&rules, &signs(3000, false, false, 0.0));
        assert_eq!(state.condition(), Condition::Stable);
        let _ = state.step(&rules, &signs(4000, false, true, 0.5));
        let _ = state.step(&rules, &signs(40_000, false, false, 0.5));
        assert_eq!(state.condition(), Condition::Drifting { since: Time(4000) }, "the effect is still there");
    }

    #[test]
    fn extent_follows_the_effect() {
        let severities = [0.0, 0.02, 0.1, 0.25, 9.0, f64::NAN].map(Extent::of);
        use Extent::{Large, Medium, Slight, Small};
        assert_eq!(severities, [Slight, Small, Medium, Large, Large, Slight]);
    }
}
