//! The block table: on whom a decision is in force, asked once for every request.
//!
//! Readers take one shard lock of a hash map and nothing else; while no block acts they read one atomic. Writers
//! (lanes, the admin API, the sweep) are rare and queue behind one mutex that keeps the order of expiry.
//!
//! A proposed decision stands in the table as well and says from when on it acts, so that it approves itself without a
//! timer: a look-up compares one more time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use checkgate_detectors::engine::Block;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId};
use checkgate_detectors::identity::{Address, Identity, Network};
use dashmap::DashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::allowance::Allowance;
use super::met::Met;
use super::pace::Pace;
use crate::ledger::entry::Decided;

/// A decision on a client that has not expired: a block, or something weaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveBlock {
    /// The decision.
    pub id: DecisionId,
    /// Whom it is about.
    pub client: Identity,
    /// The one model at which it holds; everywhere without it.
    pub only: Option<Arc<str>>,
    /// What is done to the client: tag, throttle, degrade or block.
    pub action: Action,
    /// When it was taken.
    pub time: Time,
    /// From when on it acts; a proposal that only an operator approves never does.
    pub acts_from: Time,
    /// When it ends; while it is a proposal that only an operator approves, when that is too late.
    pub until: Time,
    /// For how long it acts: the rung of the ladder.
    pub lasts: Duration,
    /// Whether it acts; otherwise it is an observation.
    pub acts: bool,
    /// The decision's record as JSON: why.
    pub evidence: Arc<str>,
    /// Requests of the client that came while it stood.
    pub met: Met,
    /// What a throttled client used of its minute; another process begins a new one.
    #[serde(skip)]
    pub allowance: Allowance,
    /// Where a degraded client stands on its ladder; another process begins a new one.
    #[serde(skip)]
    pub pace: Pace,
}

/// The part of a decision that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// What is done to the client.
    pub action: Action,
    /// When it was taken.
    pub time: Time,
    /// When it ends.
    pub until: Time,
    /// How long it lasts as a whole.
    pub lasts: Duration,
    /// The decision.
    pub id: DecisionId,
    /// What a throttled client used of its minute.
    pub allowance: Allowance,
    /// Where a degraded client stands on its ladder.
    pub pace: Pace,
    /// Requests of the client that came while it stood.
    pub met: Met,
}

/// What became of a decision that is no longer in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The decision.
    pub id: DecisionId,
    /// Requests of its client that came while it stood.
    pub requests: u64,
}

impl ActiveBlock {
    /// The block of `block`, which `evidence` explains. It holds everywhere.
    #[must_use]
    pub fn new(block: &Block, acts: bool, evidence: Arc<str>) -> Self {
        Self {
            id: block.id,
            client: block.client,
            only: None,
            action: block.action,
            time: block.time,
            acts_from: block.acts_from,
            until: block.until,
            lasts: block.lasts,
            acts,
            evidence,
            met: Met::default(),
            allowance: Allowance::default(),
            pace: Pace::default(),
        }
    }

    /// What stands in the ledger of a decision.
    #[must_use]
    pub fn decided(decided: &Decided, acts: bool) -> Self {
        Self {
            id: decided.id,
            client: decided.client,
            only: decided.only(),
            action: decided.action,
            time: decided.time,
            acts_from: decided.acts_from(),
            until: decided.until,
            lasts: decided.lasts,
            acts,
            evidence: Arc::clone(&decided.evidence),
            met: Met::of(decided.requests),
            allowance: Allowance::default(),
            pace: Pace::default(),
        }
    }

    /// Whether it holds at one of `models`.
    fn reaches(&self, models: &[&str]) -> bool {
        self.only.as_deref().is_none_or(|only| models.contains(&only))
    }

    /// Whether it waits for approval at `now`.
    #[must_use]
    pub fn is_proposed(&self, now: Time) -> bool {
        now < self.acts_from
    }

    /// Whether it acts at `now`.
    #[must_use]
    pub fn is_in_force(&self, now: Time) -> bool {
        self.acts && self.acts_from <= now && now < self.until
    }

    /// Whether it comes into force without anybody's word, or is in force already.
    fn acts_of_itself(&self) -> bool {
        self.acts && self.acts_from < self.until
    }

    fn in_force(&self) -> InForce {
        InForce {
            action: self.action,
            time: self.time,
            until: self.until,
            lasts: self.lasts,
            id: self.id,
            allowance: self.allowance.clone(),
            pace: self.pace.clone(),
            met: self.met.clone(),
        }
    }

    /// Room is made from the front: observations before blocks that act, then what expires first.
    fn rank(&self) -> Rank {
        Rank { acts: self.acts, until: self.until, id: self.id }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    acts: bool,
    until: Time,
    id: DecisionId,
}

/// What writers keep in step: every block by rank and by id.
#[derive(Debug, Default)]
struct Order {
    by_rank: BTreeMap<Rank, Identity>,
    by_id: HashMap<DecisionId, Rank, ahash::RandomState>,
    /// Proposals by when they approve themselves, as far as the sweep has seen them wait.
    proposed: BTreeSet<(Time, DecisionId)>,
    /// How many decisions there are on networks of each length, IPv6 apart.
    lengths: BTreeMap<(bool, u8), usize>,
    /// What was removed and met requests, until somebody asks. Bounded by the table's own bound.
    ended: Vec<Ended>,
}

/// All blocks of all models.
#[derive(Debug)]
pub struct BlockTable {
    /// A client may be blocked by several models at once, so that lifting one decision leaves the others in force.
    by_client: DashMap<Identity, Vec<ActiveBlock>, ahash::RandomState>,
    /// Decisions that act, or will of themselves, and were not removed yet: the way past the table while there are none.
    acting: AtomicUsize,
    /// Those of them that act already, by what they do.
    by_action: [AtomicUsize; 4],
    /// Proposals that could act once they are approved.
    waiting: AtomicUsize,
    /// Decisions that do not act, proposals that could aside.
    observed: AtomicUsize,
    order: Mutex<Order>,
    /// The lengths of IPv4 networks on which there are decisions, a bit for each.
    lengths_v4: AtomicU64,
    /// The same of IPv6.
    lengths_v6: AtomicU64,
    blocks_max: AtomicUsize,
    /// Counts changes, each after it was made.
    revision: AtomicU64,
}

impl BlockTable {
    /// An empty table for at most `blocks_max` blocks and observations.
    #[must_use]
    pub fn new(blocks_max: usize) -> Self {
        Self {
            by_client: DashMap::with_hasher(ahash::RandomState::new()),
            acting: AtomicUsize::new(0),
            by_action: Default::default(),
            waiting: AtomicUsize::new(0),
            observed: AtomicUsize::new(0),
            order: Mutex::default(),
            lengths_v4: AtomicU64::new(0),
            lengths_v6: AtomicU64::new(0),
            blocks_max: AtomicUsize::new(blocks_max),
            revision: AtomicU64::new(0),
        }
    }

    /// Sets another bound; a table that is over it shrinks with the next block.
    pub fn set_blocks_max(&self, blocks_max: usize) {
        self.blocks_max.store(blocks_max, Ordering::Relaxed);
    }

    /// Puts `block` in. A full table first loses what has expired by `now`, then what matters least: an observation,
    /// or the block that would have ended first. Returns how many blocks and observations made room.
    pub fn insert(&self, block: ActiveBlock, now: Time) -> usize {
        let (id, rank, client) = (block.id, block.rank(), block.client);
        let mut order = self.order.lock();
        self.remove(&mut order, id);
        self.remove_expired(&mut order, now);
        order.by_id.insert(id, rank);
        order.by_rank.insert(rank, client);
        let waits = block.is_proposed(now) && order.proposed.insert((block.acts_from, id));
        self.count(&block, waits, AtomicUsize::fetch_add);
        self.by_client.entry(client).or_default().push(block);
        self.count_length(&mut order, client, |count| count + 1);
        let over = order.by_id.len().saturating_sub(self.blocks_max.load(Ordering::Relaxed));
        let evicted = (0..over).map_while(|_| self.remove_least(&mut order)).count();
        self.note_change();
        evicted
    }

    /// Notes that there is one decision more, or less, on a network of that length.
    fn count_length(&self, order: &mut Order, client: Identity, change: impl Fn(usize) -> usize) {
        let Identity::Network(network) = client else { return };
        let is_v6 = network.first().ip().is_ipv6();
        let count = order.lengths.entry((is_v6, network.length())).or_default();
        *count = change(*count);
        let bit = 1_u64.checked_shl(network.length().into()).unwrap_or(0);
        let lengths = if is_v6 { &self.lengths_v6 } else { &self.lengths_v4 };
        if *count > 0 {
            lengths.fetch_or(bit, Ordering::Release);
        } else {
            lengths.fetch_and(!bit, Ordering::Release);
        }
    }

    /// The networks around an address on which there may be a decision: one for each length that is in use, so at most
    /// 32 of IPv4 and 64 of IPv6, and as a rule none.
    pub fn networks_around(&self, address: Address) -> impl Iterator<Item = Identity> + use<> {
        let ip = address.ip();
        let mut lengths = match ip {
            IpAddr::V4(_) => self.lengths_v4.load(Ordering::Acquire),
            IpAddr::V6(_) => self.lengths_v6.load(Ordering::Acquire),
        };
        std::iter::from_fn(move || {
            let length = u8::try_from(lengths.trailing_zeros()).ok().filter(|length| *length < 64)?;
            lengths &= lengths - 1;
            Network::around(ip, length).map(Identity::Network)
        })
    }

    /// Another number after every change of what acts.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    fn note_change(&self) {
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// The strongest decision that acts on each address at `now`, whichever model is asked, in no order.
    #[must_use]
    pub fn on_addresses(&self, now: Time) -> Vec<(Address, ActiveBlock)> {
        let strongest = |blocks: &[ActiveBlock]| {
            let in_force = blocks.iter().filter(|block| block.only.is_none() && block.is_in_force(now));
            in_force.max_by_key(|block| (block.action, block.until)).cloned()
        };
        let acting = self.by_client.iter().filter_map(|entry| match entry.key() {
            Identity::Address(address) => Some((*address, strongest(entry.value())?)),
            Identity::Key(_) | Identity::Network(_) => None,
        });
        acting.collect()
    }

    /// Decisions on addresses that act at `now` at one model alone, and all on networks that act.
    #[must_use]
    pub fn kept_from_bouncers(&self, now: Time) -> usize {
        let kept = |client: &Identity, block: &&ActiveBlock| match client {
            Identity::Address(_) => block.only.is_some() && block.is_in_force(now),
            Identity::Network(_) => block.is_in_force(now),
            Identity::Key(_) => false,
        };
        let count = |(client, blocks): (&Identity, &Vec<ActiveBlock>)| {
            blocks.iter().filter(|block| kept(client, block)).count()
        };
        self.by_client.iter().map(|entry| count(entry.pair())).sum()
    }

    /// Whether no block acts: then nobody needs to be looked up.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.acting.load(Ordering::Acquire) == 0
    }

    /// The strongest decision that acts on `client` now at one of `models`, and of several the one that does so for
    /// longest.
    #[must_use]
    pub fn find(&self, client: &Identity, models: &[&str], now: Time) -> Option<InForce> {
        if self.is_idle() {
            return None;
        }
        let blocks = self.by_client.get(client)?;
        let in_force = blocks.iter().filter(|block| block.is_in_force(now) && block.reaches(models));
        in_force.max_by_key(|block| (block.action, block.until)).map(ActiveBlock::in_force)
    }

    /// Whether any decision is but an observation.
    #[must_use]
    pub fn observes(&self) -> bool {
        self.observed.load(Ordering::Relaxed) > 0
    }

    /// Counts a request to one of `models` that nothing acts on, for the strongest observation on its client, if there is
    /// one. While there are no observations this reads one atomic.
    pub fn observe(&self, clients: impl IntoIterator<Item = Identity>, models: &[&str], now: Time) {
        if !self.observes() {
            return;
        }
        let observed = |client: Identity| {
            let blocks = self.by_client.get(&client)?;
            let standing =
                blocks.iter().filter(|block| !block.acts && now < block.until && block.reaches(models));
            let strongest = standing.max_by_key(|block| (block.action, block.until))?;
            Some((strongest.action, strongest.until, strongest.met.clone()))
        };
        let of_all = clients.into_iter().filter_map(observed);
        if let Some((_, _, met)) = of_all.max_by_key(|(action, until, _)| (*action, *until)) {
            met.count();
        }
    }

    /// What left the table since the last call, as far as it met requests.
    #[must_use]
    pub fn ended(&self) -> Vec<Ended> {
        std::mem::take(&mut self.order.lock().ended)
    }

    /// The block or observation of one decision, expired or not.
    #[must_use]
    pub fn get(&self, id: DecisionId) -> Option<ActiveBlock> {
        let order = self.order.lock();
        let client = order.by_rank.get(order.by_id.get(&id)?)?;
        self.by_client.get(client)?.iter().find(|block| block.id == id).cloned()
    }

    /// Everything on `client` that has not expired by `now`.
    #[must_use]
    pub fn on(&self, client: &Identity, now: Time) -> Vec<ActiveBlock> {
        let blocks = self.by_client.get(client);
        let standing =
            |blocks: &Vec<ActiveBlock>| blocks.iter().filter(|block| now < block.until).cloned().collect();
        blocks.map_or_else(Vec::new, |blocks| standing(&blocks))
    }

    /// Removes the block of one decision and gives it back.
    pub fn lift(&self, id: DecisionId) -> Option<ActiveBlock> {
        self.remove(&mut self.order.lock(), id)
    }

    /// The decision of that id that waits for approval at `now`, if it does.
    #[must_use]
    pub fn proposal(&self, id: DecisionId, now: Time) -> Option<ActiveBlock> {
        self.get(id).filter(|block| block.is_proposed(now) && now < block.until)
    }

    /// Puts `approved` in the place of the proposal of its id; false where that is gone meanwhile.
    pub fn approve(&self, approved: ActiveBlock, now: Time) -> bool {
        // Who took the proposal away first has decided.
        let taken = self.lift(approved.id).is_some_and(|block| block.is_proposed(now));
        if taken {
            self.insert(approved, now);
        }
        taken
    }

    /// Every block in force, every observation and every proposal, the last to end first.
    #[must_use]
    pub fn list(&self, now: Time) -> Vec<ActiveBlock> {
        let mut blocks: Vec<ActiveBlock> =
            self.by_client.iter().flat_map(|entry| entry.value().clone()).collect();
        blocks.retain(|block| now < block.until);
        blocks.sort_unstable_by_key(|block| std::cmp::Reverse((block.until, block.id)));
        blocks
    }

    /// Removes what has expired, and gives the decisions that approved themselves since the last time.
    pub fn sweep(&self, now: Time) -> Vec<DecisionId> {
        let mut order = self.order.lock();
        self.remove_expired(&mut order, now);
        let later = order.proposed.split_off(&(now, DecisionId(u64::MAX)));
        let due = std::mem::replace(&mut order.proposed, later);
        due.into_iter().map(|(_, id)| id).filter(|id| self.approved_itself(&order, *id)).collect()
    }

    /// Counts a decision as one that acts; whether it does.
    fn approved_itself(&self, order: &Order, id: DecisionId) -> bool {
        let client = order.by_id.get(&id).and_then(|rank| order.by_rank.get(rank));
        let Some(blocks) = client.and_then(|client| self.by_client.get(client)) else { return false };
        let Some(block) = blocks.iter().find(|block| block.id == id) else { return false };
        self.count(block, true, AtomicUsize::fetch_sub);
        self.count(block, false, AtomicUsize::fetch_add);
        self.note_change();
        block.acts
    }

    /// Decisions of an action that act, those included whose end was not swept yet.
    #[must_use]
    pub fn acting(&self, action: Action) -> usize {
        self.by_action.get(place(action)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Proposals that could act once they are approved.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn count(
        &self,
        block: &ActiveBlock,
        waits: bool,
        move_by: impl Fn(&AtomicUsize, usize, Ordering) -> usize,
    ) {
        if !block.acts {
            move_by(&self.observed, 1, Ordering::Relaxed);
            return;
        }
        let of_its_kind = if waits { Some(&self.waiting) } else { self.by_action.get(place(block.action)) };
        of_its_kind.map(|count| move_by(count, 1, Ordering::Relaxed));
        if block.acts_of_itself() {
            move_by(&self.acting, 1, Ordering::Release);
        }
    }

    fn remove_expired(&self, order: &mut Order, now: Time) {
        for acts in [false, true] {
            let first = Rank { acts, until: Time(0), id: DecisionId(0) };
            let over = Rank { until: now, id: DecisionId(u64::MAX), ..first };
            while let Some(id) = order.by_rank.range(first..=over).next().map(|(rank, _)| rank.id) {
                self.remove(order, id);
            }
        }
    }

    fn remove_least(&self, order: &mut Order) -> Option<ActiveBlock> {
        let id = order.by_rank.first_key_value()?.0.id;
        self.remove(order, id)
    }

    fn remove(&self, order: &mut Order, id: DecisionId) -> Option<ActiveBlock> {
        let rank = order.by_id.remove(&id)?;
        let client = order.by_rank.remove(&rank)?;
        let mut blocks = self.by_client.get_mut(&client)?;
        let position = blocks.iter().position(|block| block.id == id)?;
        let block = blocks.swap_remove(position);
        let was_last = blocks.is_empty();
        drop(blocks);
        if was_last {
            self.by_client.remove_if(&client, |_, blocks| blocks.is_empty());
        }
        self.count_length(order, client, |count| count.saturating_sub(1));
        let waits = order.proposed.remove(&(block.acts_from, id));
        self.count(&block, waits, AtomicUsize::fetch_sub);
        self.note_change();
        let requests = block.met.requests();
        if requests > 0 && order.ended.len() < self.blocks_max.load(Ordering::Relaxed) {
            order.ended.push(Ended { id, requests });
        }
        Some(block)
    }
}

/// The place of an action among the counts.
fn place(action: Action) -> usize {
    match action {
        Action::Tag => 0,
        Action::Throttle => 1,
        Action::Degrade => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(id: u64, client: u64, until: u64) -> Block {
        Block {
            id: DecisionId(id),
            client: Identity::Key(client),
            action: Action::Block,
            time: Time(0),
            acts_from: Time(0),
            until: Time(until),
            lasts: Duration::from_micros(until),
            may_act: true,
            clients_active: 100,
        }
    }

    fn insert(table: &BlockTable, block: &Block, acts: bool) -> usize {
        table.insert(ActiveBlock::new(block, acts, "{}".into()), block.time)
    }

    fn found(table: &BlockTable, client: u64, now: u64) -> Option<u64> {
        table.find(&Identity::Key(client), &["prices"], Time(now)).map(|block| block.id.0)
    }

    #[test]
    fn a_block_holds_until_its_end_and_not_at_it() {
        let table = BlockTable::new(10);
        insert(&table, &block(1, 7, 100), true);
        assert_eq!(found(&table, 7, 99), Some(1));
        assert_eq!(found(&table, 7, 100), None);
        assert_eq!(found(&table, 8, 50), None, "another client");
        table.sweep(Time(100));
        assert!(table.is_idle());
        assert!(
            table.by_client.is_empty() && table.order.lock().by_rank.is_empty(),
            "the sweep left something"
        );
    }

    #[test]
    fn an_observation_is_listed_and_refuses_nobody() {
        let table = BlockTable::new(10);
        insert(&table, &block(1, 7, 100), false);
        assert!(table.is_idle());
        insert(&table, &block(2, 8, 100), true);
        assert_eq!(found(&table, 7, 0), None);
        assert_eq!(table.list(Time(0)).len(), 2);
    }

    #[test]
    fn lifting_one_decision_leaves_the_other_in_force() {
        let table = BlockTable::new(10);
        insert(&table, &block(1, 7, 200), true);
        insert(&table, &block(2, 7, 100), true);
        insert(&table, &block(3, 7, 300), false);
        assert_eq!(found(&table, 7, 0), Some(1), "the longest of those that act");
        assert_eq!(table.lift(DecisionId(1)).map(|block| block.id), Some(DecisionId(1)));
        assert_eq!(table.lift(DecisionId(1)), None, "it is lifted already");
        assert_eq!(found(&table, 7, 0), Some(2));
    }

    #[test]
    fn the_strongest_decision_acts_and_then_the_longest() {
        let table = BlockTable::new(10);
        for (id, action, until) in [
            (1, Action::Throttle, 900),
            (2, Action::Block, 100),
            (3, Action::Degrade, 300),
            (4, Action::Degrade, 400),
            (5, Action::Tag, 950),
        ] {
            insert(&table, &Block { action, ..block(id, 7, until) }, true);
        }
        let actions = [Action::Tag, Action::Throttle, Action::Degrade, Action::Block];
        assert_eq!(actions.map(|action| table.acting(action)), [1, 1, 2, 1]);
        assert_eq!([0, 100, 400, 900].map(|now| found(&table, 7, now)), [Some(2), Some(4), Some(1), Some(5)]);
        table.sweep(Time(500));
        assert_eq!(actions.map(|action| table.acting(action)), [1, 1, 0, 0]);
    }

    #[test]
    fn a_proposal_acts_from_its_own_approval_on() {
        let table = BlockTable::new(10);
        insert(&table, &Block { acts_from: Time(50), ..block(1, 7, 100) }, true);
        assert_eq!(
            [0, 49, 50, 99, 100].map(|now| found(&table, 7, now)),
            [None, None, Some(1), Some(1), None]
        );
        assert_eq!((table.waiting(), table.acting(Action::Block)), (1, 0));
        assert_eq!(table.sweep(Time(49)), []);
        assert_eq!(table.sweep(Time(50)), [DecisionId(1)], "it is told once");
        assert_eq!(table.sweep(Time(51)), []);
        assert_eq!((table.waiting(), table.acting(Action::Block)), (0, 1));
        table.sweep(Time(100));
        assert_eq!((table.waiting(), table.acting(Action::Block), table.is_idle()), (0, 0, true));
    }

    #[test]
    fn a_proposal_that_waits_for_an_operator_acts_once_it_is_approved() {
        let table = BlockTable::new(10);
        insert(&table, &Block { acts_from: Time::NEVER, ..block(1, 7, 100) }, true);
        assert!(table.is_idle(), "nobody is looked up for it");
        assert_eq!(found(&table, 7, 99), None);
        assert_eq!(table.proposal(DecisionId(1), Time(100)), None, "it has expired");
        let proposal = table.proposal(DecisionId(1), Time(60)).unwrap();
        let approved = ActiveBlock { acts_from: Time(60), until: Time(300), ..proposal };
        assert!(table.approve(approved.clone(), Time(60)));
        assert_eq!([60, 299, 300].map(|now| found(&table, 7, now)), [Some(1), Some(1), None]);
        assert_eq!(table.proposal(DecisionId(1), Time(60)), None, "it is approved already");
        table.lift(DecisionId(1));
        assert!(!table.approve(approved, Time(61)), "it was lifted meanwhile");
        assert_eq!(found(&table, 7, 61), None);
    }

    #[test]
    fn a_decision_that_comes_again_replaces_itself() {
        let table = BlockTable::new(10);
        insert(&table, &block(1, 7, 100), true);
        insert(&table, &block(1, 7, 200), true);
        assert_eq!(table.acting(Action::Block), 1);
        assert_eq!(found(&table, 7, 150), Some(1));
    }

    #[test]
    fn a_full_table_gives_up_observations_first_and_then_what_ends_first() {
        let table = BlockTable::new(2);
        assert_eq!(insert(&table, &block(1, 1, 100), true), 0);
        assert_eq!(insert(&table, &block(2, 2, 900), false), 0);
        assert_eq!(insert(&table, &block(3, 3, 200), true), 1);
        assert_eq!((found(&table, 1, 0), found(&table, 3, 0)), (Some(1), Some(3)));
        insert(&table, &block(4, 4, 900), false);
        assert_eq!(
            (found(&table, 1, 0), found(&table, 3, 0)),
            (Some(1), Some(3)),
            "no observation ends a block"
        );
        insert(&table, &block(5, 5, 300), true);
        assert_eq!((found(&table, 1, 0), found(&table, 3, 0), found(&table, 5, 0)), (None, Some(3), Some(5)));
    }

    #[test]
    fn a_full_table_of_expired_blocks_evicts_nothing() {
        let table = BlockTable::new(2);
        insert(&table, &block(1, 1, 100), true);
        insert(&table, &block(2, 2, 100), true);
        let evicted = insert(&table, &Block { time: Time(100), ..block(3, 3, 200) }, true);
        assert_eq!(evicted, 0);
        assert_eq!(found(&table, 3, 100), Some(3));
    }

    proptest! {
        #[test]
        fn the_parts_stay_in_step(
            steps in prop::collection::vec(
                (0..40_u64, 0..12_u64, (1..100_u64, 0..120_u64), any::<bool>(), any::<bool>()),
                0..200,
            )
        ) {
            let table = BlockTable::new(16);
            for (now, (id, client, (until, acts_from), acts, lifts)) in steps.into_iter().enumerate() {
                let time = Time(now as u64 / 4);
                if lifts {
                    table.lift(DecisionId(id));
                    table.sweep(time);
                } else {
                    insert(&table, &Block { time, acts_from: Time(acts_from), ..block(id, client, until) }, acts);
                }
                let listed = table.list(Time(0));
                let order = table.order.lock();
                prop_assert!(listed.len() <= 16);
                prop_assert_eq!(listed.len(), order.by_id.len());
                prop_assert_eq!(order.by_id.len(), order.by_rank.len());
                let acting = listed.iter().filter(|block| block.acts);
                prop_assert_eq!(acting.clone().count(), table.acting(Action::Block) + table.waiting());
                prop_assert_eq!(acting.filter(|block| block.acts_of_itself()).count() == 0, table.is_idle());
            }
        }
    }
}
