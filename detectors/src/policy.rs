//! Policy: from a finding to a decision.

use std::time::Duration;

use crate::finding::{Action, Mode, Tier};
use crate::identity::Identity;
use crate::ladder::Ladder;
use crate::networks::Networks;
use crate::reference::Trust;

/// What policy was told.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Stamped on every record; decides nothing else here, so that both modes give the same decisions.
    pub mode: Mode,
    /// Whether questions can be refused for what they hold: they are held for a verdict.
    pub refuses_content: bool,
    /// What follows from a finding that may act by itself: an alert, or what is done to a client.
    pub on_tier_one: Action,
    /// What follows where two detectors that only tell agree on a client of great volume; never a block.
    pub on_tier_two: Action,
    /// How long a decision lasts.
    pub ladder: Ladder,
    /// Addresses that no decision touches.
    pub never_block: Networks,
    /// Addresses behind which many people sit: nothing stronger than a throttle follows on one of them.
    pub shared_addresses: Networks,
}

impl Default for Policy {
    /// What the configuration has by default: it observes, blocks on tier one, alerts on tier two, and decisions last
    /// 15 minutes, 2 hours, a day.
    fn default() -> Self {
        let rungs = [900, 7200, 86_400].map(Duration::from_secs);
        Self {
            mode: Mode::Observe,
            on_tier_one: Action::Block,
            on_tier_two: Action::Alert,
            ladder: Ladder::new(rungs.to_vec()),
            refuses_content: false,
            never_block: Networks::default(),
            shared_addresses: Networks::default(),
        }
    }
}

impl Policy {
    /// What is done about a finding of this tier that rests on a reference of this trust, or on none. What rests on
    /// a provisional reference never leads to a decision, not even to an observed one: that would suspend the
    /// client's other evidence.
    #[must_use]
    pub fn action(&self, tier: Tier, rests_on: Option<Trust>) -> Action {
        match (tier, rests_on) {
            (Tier::One, None | Some(Trust::Trusted)) => self.on_tier_one,
            (Tier::One, Some(Trust::Provisional)) | (Tier::Two, _) => Action::Alert,
        }
    }

    /// What follows from several findings of tier two together. No setting makes it a block.
    #[must_use]
    pub fn together(&self) -> Action {
        self.on_tier_two.min(Action::Degrade)
    }

    /// What remains of `action` on a client: on an address that many people share, at most a throttle.
    #[must_use]
    pub fn held_back(&self, action: Action, identity: Identity) -> Action {
        match identity {
            Identity::Address(address) if self.shared_addresses.contains(address) => {
                action.min(Action::Throttle)
            }
            Identity::Address(_) | Identity::Key(_) => action,
        }
    }

    /// Whether a client's evidence rests while `action` is in force on it: nothing stronger could follow from it.
    /// Otherwise whoever gets itself throttled would be safe from a block.
    #[must_use]
    pub fn suspends(&self, action: Action, identity: Identity) -> bool {
        action >= self.held_back(self.on_tier_one, identity)
    }
}
