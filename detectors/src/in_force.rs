//! Decisions in force: while one lasts after which nothing stronger could follow, its subject's evidence does not
//! count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::facts::Time;
use crate::finding::{Action, DecisionId};
use crate::identity::Identity;

/// The decisions of one model, at most one to a client: the latest, which is the strongest. Kept apart from the client
/// table: a blocked client that is forgotten there stays blocked here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InForce {
    decisions_max: usize,
    decisions: BTreeMap<Identity, InForceDecision>,
    evicted: u64,
}

/// A decision as long as it lasts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct InForceDecision {
    /// The decision.
    pub id: DecisionId,
    /// What is done to the client.
    pub action: Action,
    /// When it ends.
    pub until: Time,
    /// Whether it is but an observation, because of where the client's requests came from: once requests come that
    /// may be acted on, evidence counts again.
    pub only_observed: bool,
}

impl InForce {
    /// No decision; at most `decisions_max` at once, at least one.
    #[must_use]
    pub fn new(decisions_max: usize) -> Self {
        Self { decisions_max: decisions_max.max(1), decisions: BTreeMap::new(), evicted: 0 }
    }

    /// Enters a decision. Full, it lets go of what has ended, then of the decision that ends first.
    pub fn enter(&mut self, identity: Identity, decision: InForceDecision, time: Time) {
        if self.decisions.len() >= self.decisions_max {
            self.decisions.retain(|_, decision| decision.until > time);
        }
        if self.decisions.len() >= self.decisions_max {
            let ends_first = self.decisions.iter().min_by_key(|(_, decision)| decision.until);
            if let Some(identity) = ends_first.map(|(&identity, _)| identity) {
                self.decisions.remove(&identity);
                self.evicted += 1;
            }
        }
        self.decisions.insert(identity, decision);
    }

    /// Decisions that were let go of before their end, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What is done to `identity`, if anything; `may_act` tells whether a decision on the request at hand may be acted
    /// on.
    pub fn on(&mut self, identity: Identity, may_act: bool, time: Time) -> Option<Action> {
        let decision = self.decisions.get(&identity)?;
        let over = decision.until <= time || (decision.only_observed && may_act);
        if over {
            self.decisions.remove(&identity);
            return None;
        }
        Some(decision.action)
    }

    /// Ends a decision at an operator's word.
    pub fn lift(&mut self, id: DecisionId) {
        self.decisions.retain(|_, decision| decision.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(until: u64, only_observed: bool) -> InForceDecision {
        InForceDecision { id: DecisionId(until), action: Action::Block, until: Time(until), only_observed }
    }

    #[test]
    fn a_decision_holds_until_it_ends_or_is_lifted() {
        let client = Identity::Key(1);
        let mut in_force = InForce::new(9);
        in_force.enter(client, decision(10, false), Time(0));
        assert_eq!(in_force.on(client, true, Time(9)), Some(Action::Block));
        assert_eq!(in_force.on(client, true, Time(10)), None);
        in_force.enter(client, decision(20, false), Time(10));
        in_force.lift(DecisionId(20));
        assert_eq!(in_force.on(client, true, Time(11)), None);
    }

    #[test]
    fn an_observation_ends_once_the_client_may_be_blocked() {
        let client = Identity::Key(1);
        let mut in_force = InForce::new(9);
        in_force.enter(client, decision(10, true), Time(0));
        assert_eq!(in_force.on(client, false, Time(5)), Some(Action::Block));
        assert_eq!(in_force.on(client, true, Time(5)), None);
    }

    #[test]
    fn what_ends_first_makes_room() {
        let mut in_force = InForce::new(2);
        for (key, until) in [(1, 30), (2, 20), (3, 40)] {
            in_force.enter(Identity::Key(key), decision(until, false), Time(0));
        }
        let held = (1..=3).map(|key| in_force.on(Identity::Key(key), true, Time(1)).is_some());
        assert_eq!(held.collect::<Vec<_>>(), [true, false, true]);
    }
}
