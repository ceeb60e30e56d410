//! The gate: everything that stands between a decision and a refusal.
//!
//! Request threads ask [`Gate::admit`] once, before the upstream is contacted; lanes hand over blocks with
//! [`Gate::apply`]. What beats what, strongest first: the never-block list, the kill switch, the model's mode, the
//! brake. None of them changes a decision: they only keep it from acting, and that is counted with the reason.

pub mod brake;
pub mod kill_switch;
mod proven;
mod spared;
pub mod table;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use checkgate_config::settings::Settings;
use checkgate_detectors::engine::{Block, Outbox};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Kind, Mode, Record, Tier, Window};
use checkgate_detectors::identity::{Asker, Identity};
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::brake::{Brake, BrakeLimits, Rule, Trip, Verdict};
use self::kill_switch::KillSwitch;
use self::proven::ProvenKeys;
pub use self::spared::Spared;
use self::table::{ActiveBlock, BlockTable, InForce};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::records::{self, Outlet};

/// The name under which the brake makes its finding.
pub const BRAKE: &str = "brake";
/// Somebody who makes a guard block its own users denies them the service.
const BRAKE_ATLAS: &str = "AML.T0029";
/// How often the watcher looks at the kill switch's file. Enforcement must be off within a second.
pub const WATCH_EVERY: Duration = Duration::from_millis(250);

/// What a refused client is told to wait, so that it learns neither when its block was taken nor why.
const RETRY_LADDER: [Duration; 6] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

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
            kill_switch,
        }
    }
}

/// Where a block comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The configured model by position; `None` for a discovered one.
    pub model: Option<u16>,
    /// The model's mode.
    pub mode: Mode,
}

/// What a refused client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The decision that refuses it.
    pub decision: DecisionId,
    /// How long it should stay away: a step of a fixed ladder.
    pub retry_after: Duration,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It acts.
    Enforced,
    /// It does not, and why.
    Observed(Reason),
}

/// Why a block does not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    spared: Spared,
    kill_switch: KillSwitch,
    /// One for each model, so that what it decides depends on that model's own order of decisions alone.
    brakes: Mutex<BTreeMap<Arc<str>, Brake>>,
    brake_limits: BrakeLimits,
    changed: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    outlet: Arc<Outlet>,
}

impl Gate {
    /// A gate with an empty table; the kill switch is read at once.
    #[must_use]
    pub fn new(settings: GateSettings, metrics: Arc<Metrics>, outlet: Arc<Outlet>) -> Self {
        let gate = Self {
            table: BlockTable::new(settings.blocks_max),
            proven: ProvenKeys::new(settings.proven_keys_max),
            spared: Spared::new(&settings.never_block),
            kill_switch: KillSwitch::open(settings.kill_switch),
            brakes: Mutex::default(),
            brake_limits: settings.brake,
            changed: watch::Sender::new(0),
            metrics,
            outlet,
        };
        gate.show_kill_switch();
        gate
    }

    /// The gate that a recording was made behind: it refuses nobody, but its brake speaks.
    #[must_use]
    pub fn for_replay(plan: &Plan, metrics: Arc<Metrics>, outlet: Arc<Outlet>) -> Self {
        let network = |(ip, length): &(IpAddr, u8)| IpNet::new(*ip, *length).ok();
        let settings = GateSettings {
            blocks_max: plan.limits.blocks,
            proven_keys_max: plan.limits.blocks,
            brake: BrakeLimits {
                blocks_per_minute: plan.blocks_per_minute,
                share_of_clients: plan.share_of_clients,
            },
            never_block: plan.never_block.iter().filter_map(network).collect(),
            kill_switch: PathBuf::new(),
        };
        Self::new(settings, metrics, outlet)
    }

    /// Whether a request is refused. `acts` says that its model is in `enforce`; where it is not, nobody is refused.
    ///
    /// While no block acts this reads one atomic; otherwise it takes at most three shard locks and never allocates.
    #[must_use]
    pub fn admit(&self, asker: &Asker, acts: bool, now: Time) -> Option<Refusal> {
        if !acts || self.table.is_idle() || self.kill_switch.is_on() {
            return None;
        }
        let block = self.block_of(asker, now)?;
        if self.spared.contains(asker.address) {
            return None;
        }
        Some(Refusal { decision: block.id, retry_after: retry_after(block.until.since(now)) })
    }

    /// The block that meets a request. A proven key stands for itself: what is held against its address rests on
    /// others behind the same address, whose traffic has no key or an unproven one.
    fn block_of(&self, asker: &Asker, now: Time) -> Option<InForce> {
        let by_key = asker.key.and_then(|key| self.table.find(&Identity::Key(key), now));
        if asker.key.is_some_and(|key| self.proven.contains(key)) {
            return by_key;
        }
        let by_address = self.table.find(&Identity::Address(asker.address), now);
        by_key.into_iter().chain(by_address).max_by_key(|block| block.until)
    }

    /// Takes what one step of a lane gave: proven keys, and every block with the record that explains it.
    pub fn apply_all(&self, out: &Outbox, origin: Origin) {
        out.proven_keys.iter().for_each(|key| self.note_proven(*key));
        for block in &out.blocks {
            let explains =
                |record: &&Record| record.kind == Kind::Decision && record.decision_id == Some(block.id);
            match out.records.iter().find(explains) {
                Some(why) => _ = self.apply(block, why, origin, block.time),
                None => self.observed(Reason::NoEvidence, origin),
            }
        }
    }

    /// Puts a block into the table, acting or as an observation, and counts which. `why` is its decision's record.
    pub fn apply(&self, block: &Block, why: &Record, origin: Origin, now: Time) -> Applied {
        let reason = self
            .standing_reason(block, why)
            // The brake judges in both modes and whatever the kill switch says: what it tells is part of the record.
            .or_else(|| self.brakes(block, why, origin, now).then_some(Reason::Brake))
            .or_else(|| self.suspending_reason(origin));
        let applied = reason.map_or(Applied::Enforced, Applied::Observed);
        let acts = applied == Applied::Enforced;
        let evicted = self.table.insert(ActiveBlock::new(block, acts, records::line(why).into()), now);
        self.metrics.blocks_evicted.inc_by(evicted as u64);
        self.show_blocks();
        match applied {
            Applied::Enforced => self.changed.send_modify(|count| *count = count.wrapping_add(1)),
            Applied::Observed(reason) => self.observed(reason, origin),
        }
        applied
    }

    /// What keeps the block from ever acting.
    fn standing_reason(&self, block: &Block, why: &Record) -> Option<Reason> {
        let reasons = [
            (why.decision_id != Some(block.id), Reason::NoEvidence),
            (self.spares(block.client), Reason::NeverBlock),
            (!block.may_act, Reason::Unproven),
        ];
        reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
    }

    /// What keeps it from acting at this moment.
    fn suspending_reason(&self, origin: Origin) -> Option<Reason> {
        let reasons =
            [(origin.mode == Mode::Observe, Reason::Mode), (self.kill_switch.is_on(), Reason::KillSwitch)];
        reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
    }

    fn spares(&self, client: Identity) -> bool {
        match client {
            Identity::Address(address) => self.spared.contains(address),
            Identity::Key(_) => false,
        }
    }

    fn brakes(&self, block: &Block, why: &Record, origin: Origin, now: Time) -> bool {
        let mut brakes = self.brakes.lock();
        let brake = brakes.entry(Arc::clone(&why.model)).or_insert_with(|| Brake::new(self.brake_limits));
        let verdict = brake.judge(block.clients_active, now);
        drop(brakes);
        match verdict {
            Verdict::Free => return false,
            Verdict::Tripped(trip) => self.tell_trip(&trip, block, why, origin, now),
            Verdict::Engaged => {}
        }
        true
    }

    fn tell_trip(&self, trip: &Trip, block: &Block, why: &Record, origin: Origin, now: Time) {
        let finding = brake_finding(trip, block, why, origin.mode, now);
        tracing::error!(explanation = finding.explanation, "the brake is on");
        self.metrics.brake_trips.inc();
        self.metrics.brake_engaged.set(1);
        self.outlet.offer(origin.model, &finding);
    }

    fn observed(&self, reason: Reason, origin: Origin) {
        self.metrics.model(origin.model).would_block.inc(reason);
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

    /// Every block in force and every observation, the last to end first.
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
        tracing::warn!(on, "kill switch");
        self.show_kill_switch();
        durable
    }

    /// Whether nothing is enforced.
    #[must_use]
    pub fn kill_switch_is_on(&self) -> bool {
        self.kill_switch.is_on()
    }

    /// Whether new blocks of any model are observations.
    #[must_use]
    pub fn brake_is_engaged(&self, now: Time) -> bool {
        self.brakes.lock().values().any(|brake| brake.is_engaged(now))
    }

    /// What must be done again and again: follow the kill switch's file, forget what has expired, show where things
    /// stand.
    pub fn tick(&self, now: Time) {
        if let Some(on) = self.kill_switch.poll() {
            tracing::warn!(on, "kill switch, by its file");
        }
        self.table.sweep(now);
        self.show_kill_switch();
        self.show_blocks();
        self.metrics.brake_engaged.set(i64::from(self.brake_is_engaged(now)));
    }

    /// Starts the thread that ticks four times a second for as long as the gate lives.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn watch(self: &Arc<Self>, clock: impl Fn() -> Time + Send + 'static) -> io::Result<()> {
        let gate = Arc::downgrade(self);
        let tick = move || {
            while let Some(gate) = gate.upgrade() {
                gate.tick(clock());
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
        self.metrics.blocks_active.set(as_gauge(self.table.acting()));
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `left` rounded up to the ladder.
fn retry_after(left: Duration) -> Duration {
    let [.., last] = RETRY_LADDER;
    RETRY_LADDER.into_iter().find(|step| *step >= left).unwrap_or(last)
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
        time: now,
        kind: Kind::Finding,
        client: block.client,
        model: Arc::clone(&why.model),
        detector: BRAKE,
        tier: Tier::Two,
        atlas: BRAKE_ATLAS,
        statistic: trip.statistic,
        limit: trip.limit,
        window: Window { rows: 0, requests: 0, seconds: span.as_secs_f64(), observed: 1.0 },
        action: Action::Alert,
        mode,
        decision_id: None,
        until: None,
        fields: Vec::new(),
        requests: Vec::new(),
        explanation,
    }
}

#[cfg(test)]
mod tests;
