//! The gate: everything that stands between a decision and a refusal.
//!
//! Request threads ask [`Gate::enter`] once, before the upstream is contacted: that is this file. Lanes hand over
//! decisions with [`Gate::apply`], operators and programs with [`Gate::impose_within`] (`gate/taken.rs`). What beats what, strongest first: the never-block
//! list, the kill switch, the model's mode, the brake. None of them changes a decision: they only keep it from acting,
//! and that is counted with the reason. No decision lasts longer than the operator allows, whoever takes it.
//!
//! ```text
//! proposed --approve, or its own time comes--> in force --its end, or a lift--> gone
//!     |---- reject, or too late -------------------------------------------------^
//! ```

pub mod allowance;
pub mod brake;
mod brakes;
pub mod by_hand;
mod kept;
pub mod kill_switch;
pub mod met;
pub mod pace;
mod proven;
pub mod table;
mod taken;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use checkgate_config::settings::Settings;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId};
use checkgate_detectors::identity::{Address, Asker, Identity};
use checkgate_detectors::networks::Networks;
use ipnet::IpNet;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use self::brake::BrakeLimits;
pub use self::brakes::BRAKE;
use self::brakes::Brakes;
pub use self::kept::SavedGate;
use self::kill_switch::KillSwitch;
use self::pace::Pace;
use self::proven::ProvenKeys;
use self::table::{ActiveBlock, BlockTable, Ended, InForce};
pub use self::taken::{Applied, Handed, Origin, Reason};
use crate::metrics::Metrics;
use crate::plan::Plan;

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

/// What degrades the answers to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The decision.
    pub decision: DecisionId,
    /// Where the client stands on its ladder.
    pub pace: Pace,
}

/// What came of a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Proposals that approved themselves.
    pub approved: Vec<DecisionId>,
    /// Decisions that left the table, with the requests that they met.
    pub ended: Vec<Ended>,
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
    brakes: Brakes,
    changed: Notify,
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
            brakes: Brakes::default(),
            changed: Notify::new(),
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

    /// By what the answer to a request is degraded, if it is.
    #[must_use]
    pub fn degrades(&self, asker: &Asker, aim: Aim<'_>, now: Time) -> Option<Degraded> {
        let decision = self.in_force(asker, aim, now)?;
        let degrades = decision.action == Action::Degrade;
        degrades.then_some(Degraded { decision: decision.id, pace: decision.pace })
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

    /// Requests that wait look again whether they are refused.
    fn tell_change(&self) {
        self.changed.notify_waiters();
    }

    /// Remembers that a key is an identity of its own.
    pub fn note_proven(&self, key: u64) {
        self.metrics.proven_keys_evicted.inc_by(self.proven.insert(key) as u64);
        self.metrics.proven_keys.set(as_gauge(self.proven.count()));
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

    /// Resolves when a block begins to act after this call: a request that waits asks [`Gate::admit`] again.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
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
        self.brakes.are_engaged(now)
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

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
