//! How grave a finding is, by one rule: a pipeline may stop at it, and a rule of the policy may ask for it.

use serde::{Deserialize, Serialize};

use crate::finding::{Action, Mode, Record, Tier};

/// From weak to grave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It tells something.
    Low,
    /// It is precise enough to act on, or something weaker than a block is done.
    Medium,
    /// A client is blocked.
    High,
}

impl Severity {
    /// Every severity, the gravest first.
    pub const ALL: [Self; 3] = [Self::High, Self::Medium, Self::Low];

    /// The severity of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self::judged(record.mode, record.action, record.tier)
    }

    /// High where a block is decided in `enforce`; medium where the finding is of tier one, or where something weaker
    /// than a block is done; low where it only tells.
    #[must_use]
    pub fn judged(mode: Mode, action: Action, tier: Tier) -> Self {
        if action == Action::Block && mode == Mode::Enforce {
            Self::High
        } else if tier == Tier::One || action > Action::Alert {
            Self::Medium
        } else {
            Self::Low
        }
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_follows_from_mode_action_and_tier() {
        let of = Severity::judged;
        assert_eq!(of(Mode::Enforce, Action::Block, Tier::One), Severity::High);
        assert_eq!(
            of(Mode::Observe, Action::Block, Tier::One),
            Severity::Medium,
            "nobody is blocked in observe"
        );
        assert_eq!(of(Mode::Enforce, Action::Degrade, Tier::Two), Severity::Medium, "something is done");
        assert_eq!(of(Mode::Enforce, Action::Alert, Tier::One), Severity::Medium, "precise enough to act on");
        assert_eq!(of(Mode::Enforce, Action::Alert, Tier::Two), Severity::Low);
    }
}
