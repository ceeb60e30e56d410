//! Fair queueing in front of a lane: whoever asks for much waits longest.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996): each item gets a virtual
//! start, the later of the queue's virtual time and the end of its client's previous item, and the item with the
//! earliest start goes first. Starts count in whole rounds: within a round, arrival decides, so that ordinary traffic
//! keeps its order and only a client that is more than a round ahead of the others gives way to them. One client's
//! parts stay in order in any case; a client that floods delays itself.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

/// Cost of one round, in the unit of [`FairQueue::push`]: the lane counts bytes, and an ordinary exchange has a few
/// thousand.
const ROUND: u64 = 64 * 1024;

/// Clients that are remembered before those are forgotten that are not ahead: a client is ahead only while it has
/// something waiting, so twice the number of items bounds them all.
const ENDS_MAX: usize = 4_096;

/// Items that the memory for the next round has room for, at most: a flood must not pin what it once took.
const SPARE_MAX: usize = 256;

/// Items of many clients, handed out fairly.
pub struct FairQueue<T> {
    /// By the round of the virtual start, each in order of arrival.
    waiting: BTreeMap<u64, VecDeque<T>>,
    /// Memory for the next round.
    spare: VecDeque<T>,
    held: usize,
    /// Virtual end of the last item of each client that is ahead of the virtual time.
    ends: FxHashMap<u64, u64>,
    virtual_time: u64,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            spare: VecDeque::new(),
            held: 0,
            ends: FxHashMap::default(),
            virtual_time: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Adds an item of `client` that will take about `cost` (any unit, the same for all).
    pub fn push(&mut self, client: u64, cost: u64, item: T) {
        let start = self.ends.get(&client).copied().unwrap_or(0).max(self.virtual_time);
        self.ends.insert(client, start.saturating_add(cost.max(1)));
        if self.ends.len() > ENDS_MAX.max(2 * self.held) {
            // Whoever is not ahead of the virtual time is owed nothing and needs no entry.
            let virtual_time = self.virtual_time;
            self.ends.retain(|_, end| *end > virtual_time);
        }
        let spare = &mut self.spare;
        self.waiting.entry(start / ROUND).or_insert_with(|| std::mem::take(spare)).push_back(item);
        self.held += 1;
    }

    /// The next item in fair order.
    pub fn pop(&mut self) -> Option<T> {
        let mut first = self.waiting.first_entry()?;
        let (round, item) = (*first.key(), first.get_mut().pop_front()?);
        self.held -= 1;
        if first.get().is_empty() {
            self.spare = first.remove();
            self.spare.shrink_to(SPARE_MAX);
        }
        self.virtual_time = round * ROUND;
        if self.waiting.is_empty() {
            // Nobody waits, so nobody is owed anything; this also keeps `ends` from growing.
            self.ends.clear();
        }
        Some(item)
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_waits_behind_the_others() {
        let mut queue = FairQueue::default();
        for part in 0..10 {
            queue.push(1, 8 * ROUND, ("flood", part));
        }
        for part in 0..3 {
            queue.push(2, 1, ("honest", part));
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let last_honest = order.iter().rposition(|(who, _)| *who == "honest").unwrap();
        assert!(last_honest <= 3, "an honest part waited behind {last_honest} others: {order:?}");
        assert!(queue.is_empty());
    }

    #[test]
    fn within_a_round_everything_keeps_its_order() {
        let mut queue = FairQueue::default();
        for part in 0..40_u64 {
            queue.push(part / 10, ROUND / 20, part);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert!(order.is_sorted(), "nobody was ahead, and yet some gave way: {order:?}");
    }

    #[test]
    fn the_parts_of_one_client_keep_their_order() {
        let mut queue = FairQueue::default();
        for part in 0..100_u64 {
            queue.push(part % 3, part % 7 * ROUND / 2, part);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order.len(), 100);
        for client in 0..3 {
            let own: Vec<_> = order.iter().filter(|part| *part % 3 == client).collect();
            assert!(own.is_sorted(), "client {client} was reordered: {own:?}");
        }
    }
}
