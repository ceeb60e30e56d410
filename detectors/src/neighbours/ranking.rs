//! Clients by how many rows they hold of some kind: who holds most is at hand, and a row more or less costs little.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::pages::Pages;
use crate::shelf::ClientIndex;

/// How many rows a client holds, and which client it is: of those that hold as many, the one with the higher index stands
/// higher.
type Rank = (u32, u32);

/// A heap whose first stands highest. What is written down are the ranks in order: the rest follows from them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeSet<Rank>", into = "BTreeSet<Rank>")]
pub struct Ranking {
    heap: Vec<Rank>,
    /// Where each client stands, counted from 1; 0 where it has no rank.
    seats: Pages<u32>,
}

impl Ranking {
    /// How many rows the client holds that holds most, and which one it is.
    #[must_use]
    pub fn most(&self) -> Option<(u32, ClientIndex)> {
        self.heap.first().map(|(held, client)| (*held, *client as ClientIndex))
    }

    /// All clients that have a rank, in no order.
    pub fn clients(&self) -> impl Iterator<Item = ClientIndex> {
        self.heap.iter().map(|(_, client)| *client as ClientIndex)
    }

    /// Ranks a client by so many rows, or takes it out.
    pub fn set(&mut self, client: ClientIndex, held: Option<u32>) {
        let seat = self.seats.get(client).and_then(|seat| (*seat as usize).checked_sub(1));
        match (seat, held) {
            (None, None) => {}
            (None, Some(held)) => {
                if self.heap.len() == self.heap.capacity() {
                    self.heap.reserve_exact(self.heap.len() / 8 + 8);
                }
                self.heap.push((held, client as u32));
                self.seats.entry(client);
                self.rise(self.heap.len() - 1);
            }
            (Some(at), Some(held)) => self.put(at, (held, client as u32)),
            (Some(at), None) => {
                self.seats.get_mut(client).into_iter().for_each(|seat| *seat = 0);
                let last = self.heap.pop();
                last.filter(|_| at < self.heap.len()).into_iter().for_each(|last| self.put(at, last));
            }
        }
    }

    /// Puts a rank in the place of another.
    fn put(&mut self, at: usize, rank: Rank) {
        let before = self.heap.get_mut(at).map(|place| std::mem::replace(place, rank));
        if before.is_none_or(|before| before < rank) { self.rise(at) } else { self.sink(at) }
    }

    fn rise(&mut self, mut at: usize) {
        let Some(&rank) = self.heap.get(at) else { return };
        while at > 0 {
            let above = (at - 1) / 2;
            let Some(&other) = self.heap.get(above).filter(|other| **other < rank) else { break };
            self.seat(at, other);
            at = above;
        }
        self.seat(at, rank);
    }

    fn sink(&mut self, mut at: usize) {
        let Some(&rank) = self.heap.get(at) else { return };
        loop {
            let below = 2 * at + 1;
            let both = self.heap.get(below..).unwrap_or_default().iter().take(2).copied();
            let highest =
                (below..).zip(both).max_by_key(|(_, other)| *other).filter(|(_, other)| *other > rank);
            let Some((highest, other)) = highest else { break };
            self.seat(at, other);
            at = highest;
        }
        self.seat(at, rank);
    }

    #[inline(always)]
    fn seat(&mut self, at: usize, rank: Rank) {
        self.heap.get_mut(at).into_iter().for_each(|place| *place = rank);
        self.seats.get_mut(rank.1 as ClientIndex).into_iter().for_each(|seat| *seat = at as u32 + 1);
    }
}

impl From<BTreeSet<Rank>> for Ranking {
    fn from(ranks: BTreeSet<Rank>) -> Self {
        let mut ranking = Self::default();
        ranks.into_iter().for_each(|(held, client)| ranking.set(client as ClientIndex, Some(held)));
        ranking
    }
}

impl From<Ranking> for BTreeSet<Rank> {
    fn from(ranking: Ranking) -> Self {
        ranking.heap.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn who_stands_highest_is_the_last_of_a_sorted_set(
            steps in prop::collection::vec((0..40_usize, prop::option::of(0..6_u32)), 0..120),
        ) {
            let mut ranking = Ranking::default();
            let mut known = BTreeMap::new();
            for (client, held) in steps {
                ranking.set(client, held);
                known.remove(&client);
                held.map(|held| known.insert(client, held));
                let ranks: BTreeSet<Rank> = known.iter().map(|(client, held)| (*held, *client as u32)).collect();
                prop_assert_eq!(ranking.most(), ranks.last().map(|(held, client)| (*held, *client as usize)));
                prop_assert_eq!(ranking.clients().collect::<BTreeSet<_>>(), known.keys().copied().collect());
                let bytes = postcard::to_stdvec(&ranking).unwrap();
                prop_assert_eq!(&bytes, &postcard::to_stdvec(&ranks).unwrap());
                if ranks.len().is_multiple_of(5) {
                    ranking = postcard::from_bytes(&bytes).unwrap();
                }
            }
        }
    }
}
