//! Which clients offended before, and how often: what their next decision's length depends on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::Time;
use crate::finding::DecisionId;
use crate::identity::Identity;

/// Past offences of one model's clients, one entry to a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offences {
    clients_max: usize,
    past: BTreeMap<Identity, Past>,
    evicted: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Past {
    offences: u32,
    last: DecisionId,
    counts_until: Time,
}

impl Offences {
    /// Nobody offended; at most `clients_max` clients are remembered, at least one.
    #[must_use]
    pub fn new(clients_max: usize) -> Self {
        Self { clients_max: clients_max.max(1), past: BTreeMap::new(), evicted: 0 }
    }

    /// How often `identity` offended before `time`, as far as it still counts.
    #[must_use]
    pub fn of(&self, identity: Identity, time: Time) -> u32 {
        let past = self.past.get(&identity).filter(|past| time < past.counts_until);
        past.map_or(0, |past| past.offences)
    }

    /// Notes the offence that led to a decision until `until`, and counts for so long after it. Full, the memory lets go of what no longer counts,
    /// then of the client whose offences would have counted for the shortest time.
    pub fn note(
        &mut self,
        identity: Identity,
        decision: DecisionId,
        until: Time,
        counts_for: Duration,
        time: Time,
    ) {
        let offences = self.of(identity, time).saturating_add(1);
        if !self.past.contains_key(&identity) {
            self.make_room(time);
        }
        self.past.insert(identity, Past { offences, last: decision, counts_until: until.plus(counts_for) });
    }

    /// An operator lifted a decision: it was no offence.
    pub fn lift(&mut self, decision: DecisionId) {
        self.past.retain(|_, past| {
            past.offences -= u32::from(past.last == decision && past.offences > 0);
            past.offences > 0
        });
    }

    /// Clients that were forgotten while their offences counted, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn make_room(&mut self, time: Time) {
        if self.past.len() >= self.clients_max {
            self.past.retain(|_, past| time < past.counts_until);
        }
        if self.past.len() >= self.clients_max {
            let first_over = self.past.iter().min_by_key(|(_, past)| past.counts_until);
            if let Some(identity) = first_over.map(|(&identity, _)| identity) {
                self.past.remove(&identity);
                self.evicted += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Identity = Identity::Key(1);
    const COUNTS_FOR: Duration = Duration::from_secs(7 * 86_400);

    fn day(day: u64) -> Time {
        Time(day * 86_400_000_000)
    }

    #[test]
    fn offences_add_up_until_a_week_after_the_last_decision_ended() {
        let mut offences = Offences::new(9);
        assert_eq!(offences.of(CLIENT, day(0)), 0);
        offences.note(CLIENT, DecisionId(1), day(1), COUNTS_FOR, day(0));
        offences.note(CLIENT, DecisionId(2), day(3), COUNTS_FOR, day(2));
        assert_eq!(offences.of(CLIENT, Time(day(10).0 - 1)), 2);
        assert_eq!(offences.of(CLIENT, day(10)), 0, "a week has passed");
        offences.note(CLIENT, DecisionId(3), day(11), COUNTS_FOR, day(10));
        assert_eq!(offences.of(CLIENT, day(11)), 1, "what no longer counts is not added to");
    }

    #[test]
    fn a_lifted_decision_was_no_offence() {
        let mut offences = Offences::new(9);
        offences.note(CLIENT, DecisionId(1), day(1), COUNTS_FOR, day(0));
        offences.note(CLIENT, DecisionId(2), day(2), COUNTS_FOR, day(1));
        offences.lift(DecisionId(2));
        assert_eq!(offences.of(CLIENT, day(2)), 1);
        offences.lift(DecisionId(7));
        assert_eq!(offences.of(CLIENT, day(2)), 1, "another decision");
    }

    #[test]
    fn what_counts_shortest_makes_room_and_is_counted() {
        let mut offences = Offences::new(2);
        for (key, until) in [(1, 9), (2, 5), (3, 7)] {
            offences.note(Identity::Key(key), DecisionId(key), day(until), COUNTS_FOR, day(0));
        }
        let known: Vec<u32> = (1..=3).map(|key| offences.of(Identity::Key(key), day(1))).collect();
        assert_eq!((known, offences.evicted()), (vec![1, 0, 1], 1));
    }
}
