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
    /// From when on it acts: later than it was taken where it was proposed.
    pub acts_from: Time,
    /// When it ends, or when it is too late to approve it.
    pub until: Time,
    /// Whether it is but an observation, because of where the client's requests came from: once requests come that
    /// may be acted on, evidence counts again.
    pub only_observed: bool,
}

impl InForceDecision {
    /// Whether it waits for approval at `time`.
    #[must_use]
    pub fn is_proposed(&self, time: Time) -> bool {
        time < self.acts_from
    }
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

    /// The decision on `identity`, if there is one; `may_act` tells whether a decision on the request at hand may be
    /// acted on.
    pub fn on(&mut self, identity: Identity, may_act: bool, time: Time) -> Option<InForceDecision> {
        let decision = *self.decisions.get(&identity)?;
        let over = decision.until <= time || (decision.only_observed && may_act);
        if over {
            self.decisions.remove(&identity);
            return None;
        }
        Some(decision)
    }

    /// A proposal was approved: it acts from `time` on. Gives whom it is about, and the decision as it was.
    pub fn approve(
        &mut self,
        id: DecisionId,
        until: Time,
        time: Time,
    ) -> Option<(Identity, InForceDecision)> {
        let mut all = self.decisions.iter_mut();
        let (identity, decision) = all.find(|(_, decision)| decision.id == id)?;
        let before = *decision;
        (decision.acts_from, decision.until) = (time, until);
        Some((*identity, before))
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
        InForceDecision {
            id: DecisionId(until),
            action: Action::Block,
            acts_from: Time(0),
            until: Time(until),
            only_observed,
        }
    }

    fn on(in_force: &mut InForce, client: Identity, may_act: bool, time: Time) -> Option<Action> {
        in_force.on(client, may_act, time).map(|decision| decision.action)
    }

    #[test]
    fn a_proposal_waits_until_it_is_approved() {
        let client = Identity::Key(1);
        let mut in_force = InForce::new(9);
        in_force.enter(client, InForceDecision { acts_from: Time::NEVER, ..decision(10, false) }, Time(0));
        assert!(in_force.on(client, true, Time(5)).is_some_and(|decision| decision.is_proposed(Time(5))));
        let before = in_force.approve(DecisionId(10), Time(30), Time(6));
        assert_eq!(before.map(|(client, before)| (client, before.acts_from)), Some((client, Time::NEVER)));
        assert!(in_force.on(client, true, Time(29)).is_some_and(|decision| !decision.is_proposed(Time(29))));
        assert!(in_force.on(client, true, Time(30)).is_none());
        assert!(in_force.approve(DecisionId(7), Time(30), Time(6)).is_none(), "another decision");
    }

    #[test]
    fn a_decision_holds_until_it_ends_or_is_lifted() {
        let client = Identity::Key(1);
        let mut in_force = InForce::new(9);
        in_force.enter(client, decision(10, false), Time(0));
        assert_eq!(on(&mut in_force, client, true, Time(9)), Some(Action::Block));
        assert_eq!(on(&mut in_force, client, true, Time(10)), None);
        in_force.enter(client, decision(20, false), Time(10));
        in_force.lift(DecisionId(20));
        assert_eq!(on(&mut in_force, client, true, Time(11)), None);
    }

    #[test]
    fn an_observation_ends_once_the_client_may_be_blocked() {
        let client = Identity::Key(1);
        let mut in_force = InForce::new(9);
        in_force.enter(client, decision(10, true), Time(0));
        assert_eq!(on(&mut in_force, client, false, Time(5)), Some(Action::Block));
        assert_eq!(on(&mut in_force, client, true, Time(5)), None);
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
