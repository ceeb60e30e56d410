//! The gate: everything that stands between a decision and a refusal.
//!
//! Request threads ask [`Gate::enter`] once, before the upstream is contacted; lanes hand over decisions with
//! [`Gate::apply`], operators and programs with [`Gate::impose_within`]. What beats what, strongest first: the never-block
//! list, the kill switch, the model's mode, the brake. None of them changes a decision: they only keep it from acting,
//! and that is counted with the reason. No decision lasts longer than the operator allows, whoever takes it.
//!
//! ```text
//! proposed --approve, or its own time comes--> in force --its end, or a lift--> gone
//!     |---- reject, or too late -------------------------------------------------^
//! ```

pub mod allowance;
pub mod brake;
pub mod by_hand;
pub mod kill_switch;
pub mod met;
mod proven;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use checkgate_config::settings::Settings;
use checkgate_detectors::engine::{Block, Outbox};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{
    ATLAS_VERSION, Action, DecisionId, FindingId, Grounds, Kind, Mode, Record, Tier, Window,
};
use checkgate_detectors::identity::{Address, Asker, Identity};
use checkgate_detectors::networks::Networks;
use ipnet::IpNet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::brake::{Brake, BrakeLimits, Rule, Trip, Verdict};
use self::kill_switch::KillSwitch;
use self::proven::ProvenKeys;
use self::table::{ActiveBlock, BlockTable, Ended, InForce};
use crate::ledger::entry::{Decided, Status};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::records;

/// The name under which the brake makes its finding.
pub const BRAKE: &str = "brake";
/// Under this name approvals have a brake of their own.
pub const APPROVAL: &str = "approval";
/// Sources of decisions that have a brake of their own; further ones share the last.
const SOURCES_MAX: usize = 256;
/// Somebody who makes a guard block its own users denies them the service.
const BRAKE_ATLAS: &str = "AML.T0029";
/// How often the watcher looks at the kill switch's file. Enforcement must be off within a second.
pub const WATCH_EVERY: Duration = Duration::from_millis(250);

/// What the gate is built from.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// Blocks and observations at once, over all models.
    pub blocks_max: usize,
    /// Proven keys that are remembered.
    pub proven_keys_max: usize,
    /// When the brake trips.
    pub brake: BrakeLimits,
    /// Addresses that no decision touches: the operator's list and the trusted proxies.
    pub never_block: Vec<IpNet>,
    /// The longest that any decision may last.
    pub at_most: Option<Duration>,
    /// Addresses behind which many people sit.
    pub shared_addresses: Vec<IpNet>,
    /// The kill switch's file.
    pub kill_switch: PathBuf,
}

impl GateSettings {
    /// What the operator's `settings` mean for the gate. Trusted proxies are spared too: a block on one of them is a
    /// block on everybody behind it.
    #[must_use]
    pub fn of(settings: &Settings, kill_switch: PathBuf) -> Self {
        let clients = &settings.clients;
        Self {
            blocks_max: settings.limits.blocks,
            proven_keys_max: clients.remembered,
            brake: BrakeLimits {
                blocks_per_minute: settings.brake.blocks_per_minute,
                share_of_clients: settings.brake.share_of_clients,
            },
            never_block: clients.never_block.iter().chain(&clients.trusted_proxies).copied().collect(),
            at_most: Some(settings.decisions.at_most),
            shared_addresses: clients.shared_addresses.clone(),
            kill_switch,
        }
    }
}

/// What the operator says about who may be blocked, and how many. A lane judges its blocks by the rules of its own
/// plan, so that a replay comes to the same.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Whom no decision touches.
    pub spared: Networks,
    /// On whom no more than a throttle acts.
    pub shared: Networks,
    /// When the brake trips.
    pub brake: BrakeLimits,
    /// The longest that any decision may last; without it, as long as it says.
    pub at_most: Option<Duration>,
}

impl Rules {
    /// The end of a decision that begins to act at `from` and wants to last until `until`.
    fn end(&self, from: Time, until: Time) -> Time {
        self.at_most.map_or(until, |at_most| until.min(from.plus(at_most)))
    }

    /// The rules of a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let brake = BrakeLimits {
            blocks_per_minute: plan.blocks_per_minute,
            share_of_clients: plan.share_of_clients,
        };
        Self {
            spared: Networks::new(plan.never_block.iter().copied()),
            shared: Networks::new(plan.shared_addresses.iter().copied()),
            brake,
            at_most: Some(plan.spans.at_most),
        }
    }
}

fn networks(named: &[IpNet]) -> Networks {
    Networks::new(named.iter().map(|network| (network.network(), network.prefix_len())))
}

/// What is in force at a gate, on its way to another process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedGate {
    blocks: Vec<ActiveBlock>,
    proven_keys: Vec<u64>,
    brakes: Vec<(String, Brake)>,
    source_brakes: Vec<(String, Brake)>,
}

/// Where a block comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The configured model by id; `None` for a discovered one.
    pub model: Option<u16>,
    /// The model's mode.
    pub mode: Mode,
}

/// What a request asks, as far as decisions depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Aim<'a> {
    /// The model by name; of a question of another proxy all that may be meant.
    pub models: &'a [&'a str],
    /// Whether decisions act there: the model is in `enforce`.
    pub acts: bool,
}

/// What a refused client is told: all that a refusal is made of. What was measured, by whom and when is not in here, so
/// neither the answer nor the time that it takes can depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The decision that refuses it.
    pub decision: DecisionId,
    /// Whether it is throttled, so that other requests pass; otherwise it is blocked.
    pub throttled: bool,
    /// How long it should stay away: the whole rung of its decision or the whole minute of a throttle, however much of
    /// it is left.
    pub retry_after: Duration,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It acts.
    Enforced,
    /// It waits for approval.
    Proposed,
    /// It does not, and why.
    Observed(Reason),
}

/// What became of all blocks of a step.
#[derive(Clone, Debug, Default)]
pub struct Handed {
    /// The decisions, with what became of each.
    pub applied: Vec<(DecisionId, Applied)>,
    /// What the brake tells.
    pub told: Vec<Record>,
}

impl Handed {
    /// The decisions that act.
    pub fn acting(&self) -> Vec<DecisionId> {
        let acting = self.applied.iter().filter(|(_, applied)| *applied == Applied::Enforced);
        acting.map(|(id, _)| *id).collect()
    }
}

/// What came of a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Proposals that approved themselves.
    pub approved: Vec<DecisionId>,
    /// Decisions that left the table, with the requests that they met.
    pub ended: Vec<Ended>,
}

/// Why a block does not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The model is in `observe`.
    Mode,
    /// The client's identity is not proven, or the decision rests on a provisional reference.
    Unproven,
    /// The client is on the never-block list.
    NeverBlock,
    /// The kill switch is on.
    KillSwitch,
    /// The brake is on.
    Brake,
    /// No record tells why: no evidence, no block.
    NoEvidence,
}

/// The gate of one instance, shared by all its threads.
#[derive(Debug)]
pub struct Gate {
    table: BlockTable,
    proven: ProvenKeys,
    /// Whom requests are spared by; what lanes decide rests on the rules that they bring.
    rules: ArcSwap<Rules>,
    /// Whom operators spared while the program ran; no reload takes that back.
    spared_by_hand: ArcSwap<Networks>,
    kill_switch: KillSwitch,
    /// One for each model, so that what it decides depends on that model's own order of decisions alone.
    brakes: Mutex<BTreeMap<Arc<str>, Brake>>,
    /// One for each source of decisions besides the lanes: what one program does too much of leaves the others alone.
    source_brakes: Mutex<BTreeMap<Arc<str>, Brake>>,
    changed: watch::Sender<u64>,
    /// Counts changes of whom decisions leave alone, each after it was made.
    revision: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// A gate with an empty table; the kill switch is read at once.
    #[must_use]
    pub fn new(settings: GateSettings, metrics: Arc<Metrics>) -> Self {
        let gate = Self {
            table: BlockTable::new(settings.blocks_max),
            proven: ProvenKeys::new(settings.proven_keys_max),
            rules: ArcSwap::from_pointee(Rules {
                spared: networks(&settings.never_block),
                shared: networks(&settings.shared_addresses),
                brake: settings.brake,
                at_most: settings.at_most,
            }),
            spared_by_hand: ArcSwap::default(),
            kill_switch: KillSwitch::open(settings.kill_switch),
            brakes: Mutex::default(),
            source_brakes: Mutex::default(),
            changed: watch::Sender::new(0),
            revision: AtomicU64::new(0),
            metrics,
        };
        gate.show_kill_switch();
        gate
    }

    /// The gate that a recording was made behind: it refuses nobody, but its brake speaks.
    #[must_use]
    pub fn for_replay(plan: &Plan, metrics: Arc<Metrics>) -> Self {
        let settings = GateSettings {
            blocks_max: plan.limits.blocks,
            proven_keys_max: plan.limits.blocks,
            brake: BrakeLimits::default(),
            never_block: Vec::new(),
            at_most: None,
            shared_addresses: Vec::new(),
            kill_switch: PathBuf::new(),
        };
        Self::new(settings, metrics)
    }

    /// Takes other settings while it runs. Blocks in force stay; a client that is spared now passes at once.
    pub fn adopt(&self, rules: Rules, blocks_max: usize) {
        self.rules.store(Arc::new(rules));
        self.table.set_blocks_max(blocks_max);
        self.note_change();
    }

    /// Another number after everything that changes [`Gate::on_addresses`], time aside.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.table.revision().wrapping_add(self.revision.load(Ordering::Acquire))
    }

    fn note_change(&self) {
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// What meets requests from each address on which a decision acts, in no order: nothing while the kill switch is on,
    /// nothing of spared addresses, nothing that holds at one model alone, and no more than a throttle of shared ones.
    #[must_use]
    pub fn on_addresses(&self, now: Time) -> Vec<(Address, ActiveBlock)> {
        if self.kill_switch.is_on() {
            return Vec::new();
        }
        let rules = self.rules.load();
        let mut acting = self.table.on_addresses(now);
        acting.retain(|(address, _)| !self.is_spared(*address));
        for (_, block) in acting.iter_mut().filter(|(address, _)| rules.shared.contains(*address)) {
            block.action = block.action.min(Action::Throttle);
        }
        acting
    }

    /// Decisions that act and of which no bouncer is told: those on addresses that hold at one model alone, and those on
    /// networks, in which there may be somebody who is spared.
    #[must_use]
    pub fn kept_from_bouncers(&self, now: Time) -> usize {
        if self.kill_switch.is_on() { 0 } else { self.table.kept_from_bouncers(now) }
    }

    /// Whether a request is refused that has just come: by a block, or by a throttle whose `per_minute` requests were
    /// sent already. Where its model is not in `enforce`, nobody is refused. To be asked once, for a throttle counts.
    ///
    /// While nothing acts and nothing is observed this reads two atomics; otherwise it takes at most five shard locks, two
    /// more for each length of networks that decisions are about, and never allocates.
    #[must_use]
    pub fn enter(&self, asker: &Asker, aim: Aim<'_>, per_minute: u32, now: Time) -> Option<Refusal> {
        let Some(decision) = self.in_force(asker, aim, now) else {
            self.table.observe(self.identities(asker), aim.models, now);
            return None;
        };
        decision.met.count();
        let throttled = decision.action == Action::Throttle;
        if throttled && !decision.allowance.take(per_minute, decision.time, now) {
            return Some(Refusal { decision: decision.id, throttled, retry_after: allowance::SPAN });
        }
        refusal(&decision)
    }

    /// Whether no decision acts and none is observed: then no request needs to enter.
    #[must_use]
    pub fn holds_nothing(&self) -> bool {
        self.table.is_idle() && !self.table.observes()
    }

    /// Whether no decision acts on anybody: then no request needs to ask.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.table.is_idle()
    }

    /// Whether a request that was let in is refused meanwhile: by a block.
    #[must_use]
    pub fn admit(&self, asker: &Asker, aim: Aim<'_>, now: Time) -> Option<Refusal> {
        refusal(&self.in_force(asker, aim, now)?)
    }

    /// Whether the answer to a request is degraded.
    #[must_use]
    pub fn degrades(&self, asker: &Asker, aim: Aim<'_>, now: Time) -> bool {
        self.in_force(asker, aim, now).is_some_and(|decision| decision.action == Action::Degrade)
    }

    /// The decision that the model server is told of with a request.
    #[must_use]
    pub fn tags(&self, asker: &Asker, aim: Aim<'_>, now: Time) -> Option<DecisionId> {
        let decision = self.in_force(asker, aim, now)?;
        (decision.action == Action::Tag).then_some(decision.id)
    }

    /// What is in force on whoever sent a request, unless something stronger than any decision holds it back.
    fn in_force(&self, asker: &Asker, aim: Aim<'_>, now: Time) -> Option<InForce> {
        if !aim.acts || self.table.is_idle() || self.kill_switch.is_on() {
            return None;
        }
        let decision = self.decision_on(asker, aim.models, now)?;
        (!self.is_spared(asker.address)).then_some(decision)
    }

    fn is_spared(&self, address: Address) -> bool {
        self.rules.load().spared.contains(address) || self.spared_by_hand.load().contains(address)
    }

    /// Whether a question is refused for what it holds, by `decision`: whoever asks, unless nothing is enforced or its
    /// asker is spared. It reads like a block that lasts `retry_after`.
    #[must_use]
    pub fn refuse_content(
        &self,
        asker: &Asker,
        decision: DecisionId,
        retry_after: Duration,
    ) -> Option<Refusal> {
        let passes = self.kill_switch.is_on() || self.is_spared(asker.address);
        (!passes).then_some(Refusal { decision, throttled: false, retry_after })
    }

    /// Whom a request may stand for: its key, and its address unless the key is proven.
    fn identities(&self, asker: &Asker) -> impl Iterator<Item = Identity> {
        let key = asker.key.map(Identity::Key);
        let address = Some(Identity::Address(asker.address));
        let by_key_alone = asker.key.is_some_and(|key| self.proven.contains(key));
        let around = self.table.networks_around(asker.address);
        key.into_iter().chain(address.into_iter().chain(around).filter(move |_| !by_key_alone))
    }

    /// The decision that meets a request. A proven key stands for itself: what is held against its address rests on
    /// others behind the same address, whose traffic has no key or an unproven one.
    fn decision_on(&self, asker: &Asker, models: &[&str], now: Time) -> Option<InForce> {
        let by_key = asker.key.and_then(|key| self.table.find(&Identity::Key(key), models, now));
        if asker.key.is_some_and(|key| self.proven.contains(key)) {
            return by_key;
        }
        let own = self.table.find(&Identity::Address(asker.address), models, now);
        let around = self.table.networks_around(asker.address);
        let around = around.filter_map(|network| self.table.find(&network, models, now));
        let mut by_address =
            own.into_iter().chain(around).max_by_key(|decision| (decision.action, decision.until));
        // It may be from before the operator said that the address is shared.
        if let Some(decision) = by_address.as_mut().filter(|decision| decision.action > Action::Throttle)
            && self.rules.load().shared.contains(asker.address)
        {
            decision.action = Action::Throttle;
        }
        by_key.into_iter().chain(by_address).max_by_key(|decision| (decision.action, decision.until))
    }

    /// Takes what one step of a lane gave: proven keys, and every block with the record that explains it.
    pub fn apply_all(&self, out: &Outbox, origin: Origin, rules: &Rules) -> Handed {
        out.proven_keys.iter().for_each(|key| self.note_proven(*key));
        let mut handed = Handed::default();
        for block in &out.blocks {
            let explains =
                |record: &&Record| record.kind == Kind::Decision && record.decision_id == Some(block.id);
            match out.records.iter().find(explains) {
                Some(why) => {
                    let applied = self.apply(block, why, (origin, rules), block.time, &mut handed.told);
                    handed.applied.push((block.id, applied));
                }
                None => self.observed(Reason::NoEvidence, origin),
            }
        }
        handed
    }

    /// Puts a block into the table, acting or as an observation, and counts which. `why` is its decision's record;
    /// what the brake has to say of it goes to `told`.
    pub fn apply(
        &self,
        block: &Block,
        why: &Record,
        (origin, rules): (Origin, &Rules),
        now: Time,
        told: &mut Vec<Record>,
    ) -> Applied {
        // What waits for an operator is judged by brake and kill switch when that operator approves it.
        let waits = block.acts_from >= block.until;
        let mut brakes = || self.brakes(block, why, (origin, rules), now, told);
        let reason = standing_reason(block, why, rules)
            // The brake judges in both modes and whatever the kill switch says: what it tells is part of the record.
            .or_else(|| (!waits && brakes()).then_some(Reason::Brake))
            // What operators spared while the program ran is no part of the plan, so it changes no record.
            .or_else(|| self.spares(&block.client).then_some(Reason::NeverBlock))
            .or_else(|| (origin.mode == Mode::Observe).then_some(Reason::Mode))
            .or_else(|| (!waits && self.kill_switch.is_on()).then_some(Reason::KillSwitch));
        self.put(block, why, reason, origin, rules, now)
    }

    /// Puts a decision of an operator or a program into the table, acting or as an observation. It goes through what a
    /// decision of a lane goes through, with a brake of its own for each `source`, which has another limit of blocks a
    /// minute than all others where one is given; mode and scope are those of `why`, its record. Models that observe let
    /// its client pass whatever comes of it.
    pub fn impose_within(
        &self,
        block: &Block,
        why: &Record,
        (source, blocks_per_minute): (&str, Option<u32>),
        now: Time,
    ) -> Applied {
        let rules = self.rules.load();
        let origin = Origin { model: None, mode: why.mode };
        let reason = standing_reason(block, why, &rules)
            .or_else(|| self.spares(&block.client).then_some(Reason::NeverBlock))
            .or_else(|| {
                let (limit, active) = (blocks_per_minute, block.clients_active);
                self.brakes_source(source, limit, active, now).then_some(Reason::Brake)
            })
            .or_else(|| (why.mode == Mode::Observe).then_some(Reason::Mode))
            .or_else(|| self.kill_switch.is_on().then_some(Reason::KillSwitch));
        self.put(block, why, reason, origin, &rules, now)
    }

    /// The same within the limit of all.
    #[cfg(test)]
    pub fn impose(&self, block: &Block, why: &Record, source: &str, now: Time) -> Applied {
        self.impose_within(block, why, (source, None), now)
    }

    fn put(
        &self,
        block: &Block,
        why: &Record,
        reason: Option<Reason>,
        origin: Origin,
        rules: &Rules,
        now: Time,
    ) -> Applied {
        let mut entry = ActiveBlock::new(block, reason.is_none(), records::line(why).into());
        entry.only = why.only();
        if block.acts_from < block.until {
            entry.until = rules.end(block.acts_from, block.until);
        }
        entry.lasts = rules.at_most.map_or(block.lasts, |at_most| block.lasts.min(at_most));
        self.metrics.blocks_evicted.inc_by(self.table.insert(entry, now) as u64);
        self.show_blocks();
        if let Some(reason) = reason {
            self.observed(reason, origin);
            return Applied::Observed(reason);
        }
        if block.is_proposed(now) {
            return Applied::Proposed;
        }
        self.tell_change();
        Applied::Enforced
    }

    /// Approves a proposal: it acts from `now` on and for as long as it was to last. Gives the decision as it stands
    /// then; it does not act where its client was put on the never-block list meanwhile, the kill switch is on, or
    /// approvals have tripped their brake, and neither does one of a model in `observe`. Gives nothing where no such
    /// proposal waits.
    pub fn approve(&self, id: DecisionId, now: Time) -> Option<ActiveBlock> {
        let rules = self.rules.load();
        let proposal = self.table.proposal(id, now)?;
        let spared = self.spares(&proposal.client);
        let braked = proposal.acts && !spared && self.brakes_source(APPROVAL, None, 0, now);
        let acts = proposal.acts && !spared && !braked && !self.kill_switch.is_on();
        let until = rules.end(now, now.plus(proposal.lasts));
        let approved = ActiveBlock { acts, acts_from: now, until, ..proposal };
        let taken = self.table.approve(approved.clone(), now);
        self.show_blocks();
        if taken && acts {
            self.tell_change();
        }
        taken.then_some(approved)
    }

    /// Turns a proposal down, and gives it. Gives nothing where no such proposal waits.
    pub fn reject(&self, id: DecisionId, now: Time) -> Option<ActiveBlock> {
        self.table.proposal(id, now)?;
        self.lift(id)
    }

    /// Whether one source of decisions has taken too many of late. Those who have no clients of a model to compare with
    /// are held to the rate alone.
    fn brakes_source(
        &self,
        source: &str,
        blocks_per_minute: Option<u32>,
        clients_active: usize,
        now: Time,
    ) -> bool {
        let mut limits = self.rules.load().brake;
        limits.blocks_per_minute = blocks_per_minute.unwrap_or(limits.blocks_per_minute);
        if clients_active == 0 {
            limits.share_of_clients = f64::INFINITY;
        }
        let mut brakes = self.source_brakes.lock();
        let shared = brakes.len() >= SOURCES_MAX && !brakes.contains_key(source);
        let brake = brakes.entry(Arc::from(if shared { "" } else { source })).or_default();
        let verdict = brake.judge(&limits, clients_active, now);
        drop(brakes);
        if let Verdict::Tripped(trip) = verdict {
            tracing::error!(source, blocks = trip.blocks, limit = trip.limit, "the brake of a source is on");
            self.metrics.brake_trips.inc();
            self.metrics.brake_engaged.set(1);
        }
        verdict != Verdict::Free
    }

    /// Requests that wait look again whether they are refused.
    fn tell_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn brakes(
        &self,
        block: &Block,
        why: &Record,
        (origin, rules): (Origin, &Rules),
        now: Time,
        told: &mut Vec<Record>,
    ) -> bool {
        let mut brakes = self.brakes.lock();
        let brake = brakes.entry(Arc::clone(&why.model)).or_default();
        let verdict = brake.judge(&rules.brake, block.clients_active, now);
        drop(brakes);
        match verdict {
            Verdict::Free => return false,
            Verdict::Tripped(trip) => told.push(self.trip(&trip, block, why, origin, now)),
            Verdict::Engaged => {}
        }
        true
    }

    fn trip(&self, trip: &Trip, block: &Block, why: &Record, origin: Origin, now: Time) -> Record {
        let finding = brake_finding(trip, block, why, origin.mode, now);
        tracing::error!(explanation = finding.explanation, "the brake is on");
        self.metrics.brake_trips.inc();
        self.metrics.brake_engaged.set(1);
        finding
    }

    fn observed(&self, reason: Reason, origin: Origin) {
        self.metrics.model(origin.model).would_block.inc(reason);
    }

    /// Remembers that a key is an identity of its own.
    pub fn note_proven(&self, key: u64) {
        self.metrics.proven_keys_evicted.inc_by(self.proven.insert(key) as u64);
        self.metrics.proven_keys.set(as_gauge(self.proven.count()));
    }

    /// Everything in force, for the process that comes after.
    #[must_use]
    pub fn save(&self, now: Time) -> SavedGate {
        SavedGate {
            blocks: self.table.list(now),
            proven_keys: self.proven.list(),
            brakes: saved_brakes(&self.brakes.lock()),
            source_brakes: saved_brakes(&self.source_brakes.lock()),
        }
    }

    /// Puts into force what another process had in force, and nothing else. No client passes meanwhile whom both
    /// states refuse.
    pub fn restore(&self, saved: SavedGate, now: Time) {
        let kept: BTreeSet<DecisionId> = saved.blocks.iter().map(|block| block.id).collect();
        for block in saved.blocks {
            self.metrics.blocks_evicted.inc_by(self.table.insert(block, now) as u64);
        }
        for gone in self.table.list(now).iter().filter(|block| !kept.contains(&block.id)) {
            self.table.lift(gone.id);
        }
        saved.proven_keys.iter().for_each(|key| self.note_proven(*key));
        *self.brakes.lock() = restored_brakes(saved.brakes);
        *self.source_brakes.lock() = restored_brakes(saved.source_brakes);
        self.show_blocks();
        self.tell_change();
    }

    /// Puts into force, or under observation, what an earlier process had decided and what is not over.
    pub fn resume<'a>(&self, decisions: impl Iterator<Item = &'a Decided>, now: Time) {
        for decided in decisions {
            let acts = match decided.status {
                Status::InForce | Status::Proposed => true,
                Status::Observed => false,
                Status::Rejected | Status::Lifted => continue,
            };
            if decided.action >= Action::Tag {
                let mut block = ActiveBlock::decided(decided, acts);
                if decided.status != Status::Proposed {
                    // After a wall clock that was set back its time may be one that is to come.
                    block.acts_from = block.acts_from.min(now);
                }
                let evicted = self.table.insert(block, now);
                self.metrics.blocks_evicted.inc_by(evicted as u64);
            }
        }
        self.show_blocks();
        self.tell_change();
    }

    /// Ends a decision before its time.
    pub fn lift(&self, id: DecisionId) -> Option<ActiveBlock> {
        let lifted = self.table.lift(id);
        self.show_blocks();
        lifted
    }

    /// Every block in force, every observation and every proposal, the last to end first.
    #[must_use]
    pub fn list(&self, now: Time) -> Vec<ActiveBlock> {
        self.table.list(now)
    }

    /// Counts up whenever a block begins to act: a request that waits asks [`Gate::admit`] again.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Switches enforcement off or back on. Blocks taken meanwhile stay observations.
    ///
    /// # Errors
    /// The switch holds but will not survive a restart.
    pub fn set_kill_switch(&self, on: bool) -> io::Result<()> {
        let durable = self.kill_switch.set(on);
        self.note_change();
        tracing::warn!(on, "kill switch");
        self.show_kill_switch();
        durable
    }

    /// Whether nothing is enforced.
    #[must_use]
    pub fn kill_switch_is_on(&self) -> bool {
        self.kill_switch.is_on()
    }

    /// Whether new blocks of any model or source are observations.
    #[must_use]
    pub fn brake_is_engaged(&self, now: Time) -> bool {
        let engaged = |brakes: &Mutex<BTreeMap<Arc<str>, Brake>>| {
            brakes.lock().values().any(|brake| brake.is_engaged(now))
        };
        engaged(&self.brakes) || engaged(&self.source_brakes)
    }

    /// What must be done again and again: follow the kill switch's file, forget what has expired, show where things
    /// stand.
    pub fn tick(&self, now: Time) -> Ticked {
        if let Some(on) = self.kill_switch.poll() {
            tracing::warn!(on, "kill switch, by its file");
            self.note_change();
        }
        let approved = self.table.sweep(now);
        if !approved.is_empty() {
            tracing::info!(decisions = ?approved, "proposals approved themselves");
            self.tell_change();
        }
        self.show_kill_switch();
        self.show_blocks();
        self.metrics.brake_engaged.set(i64::from(self.brake_is_engaged(now)));
        Ticked { approved, ended: self.table.ended() }
    }

    /// Starts the thread that ticks four times a second for as long as the gate lives. `hears` what came of each tick.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn watch(
        self: &Arc<Self>,
        clock: impl Fn() -> Time + Send + 'static,
        hears: impl Fn(&Self, &Ticked) + Send + 'static,
    ) -> io::Result<()> {
        let gate = Arc::downgrade(self);
        let tick = move || {
            while let Some(gate) = gate.upgrade() {
                hears(&gate, &gate.tick(clock()));
                drop(gate);
                thread::sleep(WATCH_EVERY);
            }
        };
        thread::Builder::new().name("gate".into()).spawn(tick).map(drop)
    }

    fn show_kill_switch(&self) {
        self.metrics.kill_switch.set(i64::from(self.kill_switch.is_on()));
    }

    fn show_blocks(&self) {
        let acting = |action| as_gauge(self.table.acting(action));
        self.metrics.proposals.set(as_gauge(self.table.waiting()));
        self.metrics.tags_active.set(acting(Action::Tag));
        self.metrics.throttles_active.set(acting(Action::Throttle));
        self.metrics.degrades_active.set(acting(Action::Degrade));
        self.metrics.blocks_active.set(acting(Action::Block));
    }
}

/// What a block tells the client; nothing weaker refuses by itself.
fn refusal(decision: &InForce) -> Option<Refusal> {
    let blocks = decision.action == Action::Block;
    blocks.then_some(Refusal { decision: decision.id, throttled: false, retry_after: decision.lasts })
}

/// What keeps the block from ever acting.
fn standing_reason(block: &Block, why: &Record, rules: &Rules) -> Option<Reason> {
    let reasons = [
        (why.decision_id != Some(block.id), Reason::NoEvidence),
        (is_spared(block.client, rules), Reason::NeverBlock),
        (!block.may_act, Reason::Unproven),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

/// Whether a client is on the never-block list, of a network all of it. Where the requests of a key or of a network come
/// from is seen when they come.
fn is_spared(client: Identity, rules: &Rules) -> bool {
    match client {
        Identity::Address(address) => rules.spared.contains(address),
        Identity::Network(network) => rules.spared.covers(network),
        Identity::Key(_) => false,
    }
}

fn saved_brakes(brakes: &BTreeMap<Arc<str>, Brake>) -> Vec<(String, Brake)> {
    brakes.iter().map(|(name, brake)| (name.to_string(), brake.clone())).collect()
}

fn restored_brakes(saved: Vec<(String, Brake)>) -> BTreeMap<Arc<str>, Brake> {
    saved.into_iter().map(|(name, brake)| (Arc::from(name), brake)).collect()
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn brake_finding(trip: &Trip, block: &Block, why: &Record, mode: Mode, now: Time) -> Record {
    let (span, measured) = match trip.rule {
        Rule::Rate => (brake::MINUTE, format!("{} new blocks within a minute", trip.blocks)),
        Rule::Share => (
            brake::ACTIVE,
            format!(
                "{} new blocks within ten minutes among {} active clients",
                trip.blocks, block.clients_active
            ),
        ),
    };
    let explanation = format!(
        "The brake is on: {measured} go over the limit of {}. For one minute new blocks are observations, {} on {} \
         being the first; blocks already in force stay. Look whether the findings before this one are attacks: if \
         honest clients are blocked, switch the kill switch on.",
        trip.limit, block.id, block.client
    );
    Record {
        // The finding beside it has the id itself; all bits turned over, it is as good as another draw.
        id: FindingId(!why.id.0),
        time: now,
        kind: Kind::Finding,
        client: block.client,
        model: Arc::clone(&why.model),
        detector: BRAKE,
        tier: Tier::Two,
        atlas: BRAKE_ATLAS,
        atlas_version: ATLAS_VERSION,
        owasp: None,
        statistic: trip.statistic,
        limit: trip.limit,
        window: Window { rows: 0, requests: 0, seconds: span.as_secs_f64(), observed: 1.0 },
        action: Action::Alert,
        mode,
        decision_id: None,
        until: None,
        fields: Vec::new(),
        campaign: None,
        grounds: Grounds::default(),
        requests: Vec::new(),
        explanation,
    }
}

#[cfg(test)]
mod tests;
