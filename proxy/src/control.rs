//! The one door by which operators and programs change anything: decisions, the never-block list, the kill switch,
//! references. Every change carries at whose word it happens, is noted in the ledger, and is told with whether the
//! ledger keeps it over a restart.
//!
//! A change holds as soon as it is made. One that the disk could not follow is not taken back: it is told as not
//! durable, because a block that an operator asked for at night matters more than its copy.

pub mod links;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use checkgate_config::settings::WidestPrefix;
use checkgate_detectors::engine::Block;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{
    Action, DecisionId, FindingId, Grounds, Kind, Mode, Record, Scope, Tier, Window,
};
use checkgate_detectors::identity::{Identity, Network};
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::links::{LinkError, Links, Opened, Proposal};
use crate::gate::table::ActiveBlock;
use crate::gate::{Applied, Gate, Reason, WATCH_EVERY};
use crate::lapi::{CROWDSEC, source_of};
use crate::ledger::entry::{Asked, By, Decided, OfWindow, Status, What};
use crate::ledger::{EraseError, Kept, Ledger, Ticket};
use crate::records::{self, Outlet};
use crate::state::candidates::Summary;
use crate::told;

/// The detector's name in what was decided by hand.
pub const OPERATOR: &str = "operator";
/// What stands for the model of a decision on all of them.
const ALL_MODELS: &str = "all";
/// Shortest and longest decision by hand.
pub const LASTS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600);
/// Entries of the never-block list that operators keep while the program runs.
const NEVER_BLOCK_MAX: usize = 1000;

/// What lanes hear of changes.
pub trait Hears: Send + Sync {
    /// A decision was lifted: its client's evidence starts afresh.
    fn lift(&self, id: DecisionId);

    /// A proposed decision was approved, and acts until `until`.
    fn approve(&self, id: DecisionId, until: Time);

    /// A proposed decision was turned down: its client's evidence starts afresh as well.
    fn reject(&self, id: DecisionId);

    /// Decisions of `model` may rest on the reference that it learned, from now on. Gives the rows that it holds.
    ///
    /// # Errors
    /// There is no such reference, or lanes cannot do that.
    fn promote(&self, model: &str) -> Result<Promotion, NotPromoted>;

    /// Decisions of `model` may rest on what a maintenance window taught, from now on. Gives that, and whether the state
    /// folder keeps it.
    ///
    /// # Errors
    /// Nothing waits, the configuration names a reference, or lanes cannot do that.
    fn promote_candidate(&self, model: &str) -> Result<(Summary, bool), NotPromoted>;
}

/// A reference that was promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// Rows of it.
    pub rows: u64,
    /// Whether the state folder keeps it.
    pub kept: bool,
}

/// Why a reference was not promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPromoted {
    /// The model has learned none.
    Nothing,
    /// The model's lane did not confirm it in time.
    Busy,
    /// As many are promoted as are kept.
    Full,
    /// The configuration names one.
    Named,
}

/// The modes in which models are, for decisions that no lane takes.
#[derive(Clone, Debug, Default)]
pub struct Modes {
    /// Of each model that is known by name.
    pub named: Vec<(String, Mode)>,
    /// Of all others, where others are served.
    pub others: Option<Mode>,
}

/// What an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// On whom.
    pub client: Identity,
    /// What is done to the client: tag, throttle, degrade or block.
    pub action: Action,
    /// For how long, within [`LASTS`].
    pub lasts: Duration,
    /// The model at which it holds; without it, every model that is in `enforce`.
    pub model: Option<String>,
}

impl Order {
    fn scope(&self) -> Scope {
        if self.model.is_some() { Scope::Model } else { Scope::Everywhere }
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No decision goes by this id, or it has ended.
    #[error("{0} is not in force")]
    NotInForce(DecisionId),
    /// A decision that does not wait for approval.
    #[error("{} is {}, so there is nothing to approve or reject", .0, .1.as_str())]
    NotProposed(DecisionId, Status),
    /// An action that nobody can decide by hand.
    #[error("{} cannot be decided on a client", .0.as_str())]
    Action(Action),
    /// A network that is wider than decisions may be.
    #[error("{0} is wider than a decision may be, which is a /{1} at most (decisions.widest_prefix)")]
    TooWide(Network, u8),
    /// A time out of range.
    #[error("a decision lasts 1 s to 366 days")]
    Lasts,
    /// No such model.
    #[error("there is no model {0:?}")]
    Model(String),
    /// A model without a reference of its own.
    #[error("{0:?} has learned no reference yet")]
    NoReference(String),
    /// A lane did not confirm it.
    #[error("the lane of {0:?} is busy and did not confirm it in time; it may do it later")]
    LaneBusy(String),
    /// Too many references are promoted.
    #[error("as many references are promoted as the state folder keeps")]
    TooManyPromoted,
    /// No maintenance window left one waiting.
    #[error("no maintenance window left a reference of {0:?} that waits")]
    NoCandidate(String),
    /// The configuration names one, and what it names counts.
    #[error("the configuration names a reference of {0:?}, which would still count")]
    ReferenceNamed(String),
    /// The configuration has it on the list.
    #[error("{0} stands in the configuration")]
    Configured(IpNet),
    /// It is not on the list.
    #[error("{0} is not on the never-block list")]
    NotListed(IpNet),
    /// The never-block list is full.
    #[error("the never-block list holds {NEVER_BLOCK_MAX} entries")]
    Full,
    /// The link opens nothing.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The operating system gives no random bytes.
    #[error("the system gives no randomness")]
    NoRandomness,
}

impl Refused {
    fn of(why: NotPromoted, model: &str) -> Self {
        match why {
            NotPromoted::Nothing => Self::NoCandidate(model.to_owned()),
            NotPromoted::Busy => Self::LaneBusy(model.to_owned()),
            NotPromoted::Full => Self::TooManyPromoted,
            NotPromoted::Named => Self::ReferenceNamed(model.to_owned()),
        }
    }
}

/// A change that was made, before the ledger kept it.
#[derive(Debug)]
pub struct Changed<T> {
    /// What there is now.
    pub now: T,
    ticket: Ticket,
}

impl<T> Changed<T> {
    /// Waits for the ledger. Gives what there is now, and whether a restart leaves it.
    pub async fn kept(self) -> (T, bool) {
        let kept = self.ticket.kept().await;
        (self.now, kept == Kept::Durable)
    }

    /// What there is now, and what the ledger has yet to keep.
    pub fn parted(self) -> (T, Ticket) {
        (self.now, self.ticket)
    }

    /// The same on a thread that may block.
    pub fn wait(self) -> (T, bool) {
        let kept = self.ticket.wait();
        (self.now, kept == Kept::Durable)
    }
}

/// A client that is being erased.
pub struct Erasing {
    /// Decisions on the client that act on, or wait for approval.
    pub standing: Vec<DecisionId>,
    client: Identity,
    entries: oneshot::Receiver<Result<u64, EraseError>>,
    outlet: Arc<Outlet>,
}

/// What was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Entries of the ledger whose content is gone.
    pub entries: u64,
    /// Records that the admin API had at hand.
    pub records: u64,
}

impl Erasing {
    /// Waits for the ledger, and gives what was erased.
    ///
    /// # Errors
    /// The disk fails, or another process has the log.
    pub async fn done(self) -> Result<Erasure, EraseError> {
        let gone = || EraseError::NotDurable("it stops".to_owned());
        let entries = self.entries.await.map_err(|_| gone())??;
        // Only now: what was still on its way to the ledger has been told to the outlet before.
        Ok(Erasure { entries, records: self.outlet.forget(self.client) })
    }
}

/// The door.
pub struct Control {
    gate: Arc<Gate>,
    ledger: Arc<Ledger>,
    outlet: Arc<Outlet>,
    lanes: Arc<dyn Hears>,
    modes: Box<dyn Fn() -> Modes + Send + Sync>,
    configured: Box<dyn Fn() -> Vec<IpNet> + Send + Sync>,
    widest: Box<dyn Fn() -> WidestPrefix + Send + Sync>,
    links: Links,
    /// One change after the other, so that what was looked at still holds when it is changed.
    turn: Mutex<()>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// What a door is made of.
pub struct Rooms {
    /// What decisions act by.
    pub gate: Arc<Gate>,
    /// Where changes are noted.
    pub ledger: Arc<Ledger>,
    /// Where records go.
    pub outlet: Arc<Outlet>,
    /// What lanes hear.
    pub lanes: Arc<dyn Hears>,
    /// The modes of models now.
    pub modes: Box<dyn Fn() -> Modes + Send + Sync>,
    /// The never-block list of the configuration now, trusted proxies included.
    pub configured: Box<dyn Fn() -> Vec<IpNet> + Send + Sync>,
    /// The widest network that a decision may be about now.
    pub widest: Box<dyn Fn() -> WidestPrefix + Send + Sync>,
    /// The key of this instance, from which that of links is derived.
    pub instance_key: [u8; 16],
}

impl Control {
    /// The door to `rooms`. What the ledger remembers of the never-block list is in force from here on.
    #[must_use]
    pub fn new(rooms: Rooms) -> Self {
        let Rooms { gate, ledger, outlet, lanes, modes, configured, widest, instance_key } = rooms;
        let links = Links::new(&instance_key);
        let turn = Mutex::default();
        let control = Self { gate, ledger, outlet, lanes, modes, configured, widest, links, turn };
        control.spare();
        control
    }

    /// Ends a decision before its time, in force or proposed.
    ///
    /// # Errors
    /// No such decision is open.
    pub fn lift(&self, id: DecisionId, by: By, now: Time) -> Result<Changed<DecisionId>, Refused> {
        let _turn = self.turn.lock();
        let remembered = self.ledger.book().decision(id).is_some_and(|decided| decided.is_open(now));
        if self.gate.lift(id).is_none() && !remembered {
            return Err(Refused::NotInForce(id));
        }
        self.lanes.lift(id);
        Ok(self.note(id, by, now, What::Lifted { id }))
    }

    /// Has a proposed decision act.
    ///
    /// # Errors
    /// It does not wait for approval.
    pub fn approve(&self, id: DecisionId, by: By, now: Time) -> Result<Changed<ActiveBlock>, Refused> {
        let _turn = self.turn.lock();
        self.approve_in_turn(id, by, now)
    }

    fn approve_in_turn(&self, id: DecisionId, by: By, now: Time) -> Result<Changed<ActiveBlock>, Refused> {
        self.proposed(id, now)?;
        let block = self.gate.approve(id, now).ok_or(Refused::NotInForce(id))?;
        let until = block.until;
        self.lanes.approve(id, until);
        Ok(self.note(block, by, now, What::Approved { id, until }))
    }

    /// Turns a proposed decision down.
    ///
    /// # Errors
    /// It does not wait for approval.
    pub fn reject(&self, id: DecisionId, by: By, now: Time) -> Result<Changed<DecisionId>, Refused> {
        let _turn = self.turn.lock();
        self.reject_in_turn(id, by, now)
    }

    fn reject_in_turn(&self, id: DecisionId, by: By, now: Time) -> Result<Changed<DecisionId>, Refused> {
        self.proposed(id, now)?;
        self.gate.reject(id, now);
        self.lanes.reject(id);
        Ok(self.note(id, by, now, What::Rejected { id }))
    }

    /// Whether a decision waits for approval.
    fn proposed(&self, id: DecisionId, now: Time) -> Result<(), Refused> {
        let book = self.ledger.book();
        let decided = book.decision(id).filter(|decided| now < decided.until);
        match decided.map(|decided| decided.status) {
            Some(Status::Proposed) => Ok(()),
            Some(status) => Err(Refused::NotProposed(id, status)),
            None => Err(Refused::NotInForce(id)),
        }
    }

    /// Has a decision end `lasts` from now, sooner or later than it was to.
    ///
    /// # Errors
    /// It has ended, or the time is out of range.
    pub fn extend(
        &self,
        id: DecisionId,
        lasts: Duration,
        by: By,
        now: Time,
    ) -> Result<Changed<ActiveBlock>, Refused> {
        if !LASTS.contains(&lasts) {
            return Err(Refused::Lasts);
        }
        let _turn = self.turn.lock();
        let block = self.gate.extend(id, now.plus(lasts), now).ok_or(Refused::NotInForce(id))?;
        let until = block.until;
        Ok(self.note(block, by, now, What::Extended { id, until }))
    }

    /// Takes a decision by hand. Where it may not act it stands as an observation, and [`Applied`] says why.
    ///
    /// # Errors
    /// The order asks for what cannot be.
    pub fn decide(
        &self,
        order: &Order,
        by: By,
        now: Time,
    ) -> Result<Changed<(ActiveBlock, Applied)>, Refused> {
        self.decide_for(order, None, by, now)
    }

    /// The same for another system, whose own id of it is kept with the decision.
    ///
    /// # Errors
    /// As [`Control::decide`].
    pub fn decide_for(
        &self,
        order: &Order,
        asked: Option<Asked>,
        by: By,
        now: Time,
    ) -> Result<Changed<(ActiveBlock, Applied)>, Refused> {
        self.decide_on(order, Ground { detector: OPERATOR, blocks_per_minute: None, asked }, by, now)
    }

    /// Takes a decision that a source beside this program took. The source has a brake of its own, with another limit
    /// where `blocks_per_minute` gives one, and its decisions can be told from all others by the actor's name.
    ///
    /// # Errors
    /// As [`Control::decide`].
    pub fn decide_elsewhere(
        &self,
        order: &Order,
        blocks_per_minute: Option<u32>,
        by: By,
        now: Time,
    ) -> Result<Changed<(ActiveBlock, Applied)>, Refused> {
        self.decide_on(order, Ground { detector: CROWDSEC, blocks_per_minute, asked: None }, by, now)
    }

    fn decide_on(
        &self,
        order: &Order,
        ground: Ground,
        by: By,
        now: Time,
    ) -> Result<Changed<(ActiveBlock, Applied)>, Refused> {
        if order.action < Action::Tag {
            return Err(Refused::Action(order.action));
        }
        if !LASTS.contains(&order.lasts) {
            return Err(Refused::Lasts);
        }
        self.check_width(order.client)?;
        let mode = self.mode(order.model.as_deref())?;
        let block = block(order, now)?;
        let why = record(&block, order, (&by, &ground), mode);
        let _turn = self.turn.lock();
        self.outlet.count_by_hand(&why);
        let applied = self.gate.impose_within(&block, &why, (&by.who, ground.blocks_per_minute), now);
        let evidence: Arc<str> = records::line(&why).into();
        let detector = if ground.is_elsewhere() { Arc::clone(&by.who) } else { OPERATOR.into() };
        let asked = ground.asked;
        let decided = Decided { detector, asked, ..decided(&block, order, applied, Arc::clone(&evidence)) };
        let mut active = ActiveBlock::new(&block, applied == Applied::Enforced, evidence);
        active.only = why.only();
        Ok(self.note((active, applied), by, now, What::Decision(Box::new(decided))))
    }

    /// Whether a decision may be about so many clients at once.
    ///
    /// # Errors
    /// It is a network that is wider than the operator allows.
    pub fn check_width(&self, client: Identity) -> Result<(), Refused> {
        let Identity::Network(network) = client else { return Ok(()) };
        let WidestPrefix { ipv4, ipv6 } = (self.widest)();
        let widest = if network.first().ip().is_ipv4() { ipv4 } else { ipv6 };
        if network.length() < widest { Err(Refused::TooWide(network, widest)) } else { Ok(()) }
    }

    /// The mode of a model, or the strongest of all.
    fn mode(&self, model: Option<&str>) -> Result<Mode, Refused> {
        let modes = (self.modes)();
        let Some(model) = model else {
            let mut all = modes.named.iter().map(|(_, mode)| *mode).chain(modes.others);
            return Ok(if all.any(|mode| mode == Mode::Enforce) { Mode::Enforce } else { Mode::Observe });
        };
        let named = modes.named.iter().find(|(name, _)| name == model).map(|(_, mode)| *mode);
        named.ok_or_else(|| Refused::Model(model.to_owned()))
    }

    /// Puts a network on the never-block list of operators.
    ///
    /// # Errors
    /// The list is full.
    pub fn spare_network(&self, network: IpNet, by: By, now: Time) -> Result<Changed<IpNet>, Refused> {
        let network = network.trunc();
        let _turn = self.turn.lock();
        let listed = self.ledger.book().never_block().clone();
        if listed.len() >= NEVER_BLOCK_MAX && !listed.contains(&network) {
            return Err(Refused::Full);
        }
        let noted = self.note(network, by, now, What::NeverBlock { added: vec![network], removed: vec![] });
        self.spare();
        Ok(noted)
    }

    /// Takes a network off that list.
    ///
    /// # Errors
    /// It is not on it, or the configuration has it.
    pub fn unspare_network(&self, network: IpNet, by: By, now: Time) -> Result<Changed<IpNet>, Refused> {
        let network = network.trunc();
        let _turn = self.turn.lock();
        if !self.ledger.book().never_block().contains(&network) {
            let configured = self.configured().contains(&network);
            return Err(if configured { Refused::Configured(network) } else { Refused::NotListed(network) });
        }
        let noted = self.note(network, by, now, What::NeverBlock { added: vec![], removed: vec![network] });
        self.spare();
        Ok(noted)
    }

    /// The never-block list of the configuration.
    #[must_use]
    pub fn configured(&self) -> Vec<IpNet> {
        (self.configured)().iter().map(IpNet::trunc).collect()
    }

    fn spare(&self) {
        let networks: Vec<IpNet> = self.ledger.book().never_block().iter().copied().collect();
        self.gate.spare(&networks);
    }

    /// Switches enforcement off or back on. Waits for the disk. The second result says whether the switch's file
    /// could follow.
    pub fn switch(&self, on: bool, by: By, now: Time) -> (Changed<bool>, std::io::Result<()>) {
        let _turn = self.turn.lock();
        let durable = self.gate.set_kill_switch(on);
        (self.note(on, by, now, What::KillSwitch { on }), durable)
    }

    /// Notes that the kill switch was moved by its file, if it was.
    pub fn follow_file(&self, now: Time) {
        let _turn = self.turn.lock();
        let on = self.gate.kill_switch_is_on();
        let noted = self.ledger.book().kill_switch();
        if on != noted {
            let by = By { from: Some("file".into()), ..By::itself() };
            drop(self.note(on, by, now, What::KillSwitch { on }));
        }
    }

    /// Starts the thread that looks after the kill switch's file for as long as the door is there.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn watch(self: &Arc<Self>, clock: impl Fn() -> Time + Send + 'static) -> std::io::Result<()> {
        let control = Arc::downgrade(self);
        let look = move || {
            while let Some(control) = control.upgrade() {
                control.follow_file(clock());
                drop(control);
                thread::sleep(WATCH_EVERY);
            }
        };
        thread::Builder::new().name("control".into()).spawn(look).map(drop)
    }

    /// Has decisions of a model rest on the reference that it learned.
    ///
    /// # Errors
    /// There is no such model, or it has learned nothing yet.
    pub fn promote(&self, model: &str, by: By, now: Time) -> Result<Changed<Promotion>, Refused> {
        let _turn = self.turn.lock();
        let promotion = self.lanes.promote(model).map_err(|why| match why {
            NotPromoted::Nothing => Refused::NoReference(model.to_owned()),
            why => Refused::of(why, model),
        })?;
        let what = What::Reference { model: model.into(), rows: promotion.rows, trusted: true, window: None };
        Ok(self.note(promotion, by, now, what))
    }

    /// Has decisions and drift of a model rest on what a maintenance window taught. Gives that, and whether the state
    /// folder keeps it.
    ///
    /// # Errors
    /// Nothing waits, or the configuration names a reference.
    pub fn promote_candidate(
        &self,
        model: &str,
        by: By,
        now: Time,
    ) -> Result<Changed<(Summary, bool)>, Refused> {
        let _turn = self.turn.lock();
        let promoted = self.lanes.promote_candidate(model).map_err(|why| Refused::of(why, model))?;
        let what = What::Reference {
            model: model.into(),
            rows: promoted.0.rows,
            trusted: true,
            window: Some(Box::new(OfWindow::new(&promoted.0, false))),
        };
        Ok(self.note(promoted, by, now, what))
    }

    /// Takes out what is known of a client: in the ledger, and among the latest records. Lifts nothing: decisions on the
    /// client act on, and are given.
    pub fn erase(&self, client: Identity, by: By, now: Time) -> Erasing {
        let _turn = self.turn.lock();
        tracing::info!(who = %by.who, from = by.from.as_deref(), why = %by.why, "an operator has a client erased");
        let standing = self.gate.list(now).into_iter().filter(|block| block.client == client);
        Erasing {
            standing: standing.map(|block| block.id).collect(),
            entries: self.ledger.erase(client, by),
            outlet: Arc::clone(&self.outlet),
            client,
        }
    }

    /// The path of a page that approves or rejects a proposed decision once, until `expires`.
    ///
    /// # Errors
    /// The decision does not wait for approval.
    pub fn link(
        &self,
        id: DecisionId,
        answer: Proposal,
        expires: Time,
        now: Time,
    ) -> Result<String, Refused> {
        self.proposed(id, now)?;
        Ok(self.links.path(id, answer, expires))
    }

    /// What a link would do. Changes nothing.
    ///
    /// # Errors
    /// The link was not made here, has expired or was used.
    pub fn look_at(&self, token: &str, now: Time) -> Result<Opened, Refused> {
        Ok(self.links.open(token, now)?)
    }

    /// Does what a link is for.
    ///
    /// # Errors
    /// The link opens nothing, or its decision no longer waits for approval.
    pub fn follow(&self, token: &str, from: Option<Arc<str>>, now: Time) -> Result<Changed<Opened>, Refused> {
        let _turn = self.turn.lock();
        let opened = self.links.open(token, now)?;
        let by = By { who: "link".into(), from, why: "a link was followed".into() };
        let ticket = match opened.answer {
            Proposal::Approve => self.approve_in_turn(opened.id, by, now)?.ticket,
            Proposal::Reject => self.reject_in_turn(opened.id, by, now)?.ticket,
        };
        self.links.spend(opened);
        Ok(Changed { now: opened, ticket })
    }

    fn note<T>(&self, changed: T, by: By, now: Time, what: What) -> Changed<T> {
        // A source may take thousands of decisions at once; the ledger has them all.
        if source_of(&by.who).is_some() {
            tracing::debug!(who = %by.who, why = %by.why, ?what, "a source's change");
        } else {
            tracing::info!(who = %by.who, from = by.from.as_deref(), why = %by.why, ?what, "an operator's change");
        }
        let ticket = self.ledger.note(now, by, what);
        Changed { now: changed, ticket }
    }
}

/// What a decision rests on that no detector here took.
struct Ground {
    /// The word that records say it by.
    detector: &'static str,
    /// The limit of the source's brake, where it is another than that of all.
    blocks_per_minute: Option<u32>,
    /// What another system asked for it by, where one did.
    asked: Option<Asked>,
}

impl Ground {
    fn is_elsewhere(&self) -> bool {
        self.detector == CROWDSEC
    }
}

fn block(order: &Order, now: Time) -> Result<Block, Refused> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|_| Refused::NoRandomness)?;
    Ok(Block {
        id: DecisionId(u64::from_le_bytes(id)),
        client: order.client,
        action: order.action,
        time: now,
        acts_from: now,
        until: now.plus(order.lasts),
        lasts: order.lasts,
        may_act: true,
        clients_active: 0,
    })
}

fn record(block: &Block, order: &Order, (by, ground): (&By, &Ground), mode: Mode) -> Record {
    let model = order.model.as_deref().unwrap_or(ALL_MODELS);
    let alone = if order.model.is_some() { " alone" } else { "" };
    let why = if by.why.is_empty() { String::new() } else { format!(": {}", by.why) };
    let explanation = format!(
        "{} decided {} to {} client {} (model: {model}{alone}) until {}{why}",
        by.who,
        if ground.is_elsewhere() { "elsewhere" } else { "by hand" },
        block.action.as_str(),
        block.client,
        told::moment(block.until.seconds()),
    );
    Record {
        id: FindingId(block.id.0),
        time: block.time,
        kind: Kind::Decision,
        client: block.client,
        model: model.into(),
        detector: ground.detector,
        tier: Tier::One,
        atlas: "",
        atlas_version: "",
        owasp: None,
        statistic: 0.0,
        limit: 0.0,
        window: Window::default(),
        action: block.action,
        mode,
        decision_id: Some(block.id),
        until: Some(block.until),
        fields: Vec::new(),
        campaign: None,
        requests: Vec::new(),
        grounds: Grounds { scope: Some(order.scope()), ..Grounds::default() },
        explanation,
    }
}

fn decided(block: &Block, order: &Order, applied: Applied, evidence: Arc<str>) -> Decided {
    Decided {
        id: block.id,
        client: block.client,
        model: order.model.as_deref().map(Into::into),
        scope: order.scope(),
        detector: OPERATOR.into(),
        action: block.action,
        time: block.time,
        until: block.until,
        lasts: block.lasts,
        status: if applied == Applied::Enforced { Status::InForce } else { Status::Observed },
        held_back: if let Applied::Observed(reason) = applied { Some(reason) } else { None },
        approves_itself: None,
        tenant: None,
        requests: 0,
        asked: None,
        evidence,
    }
}

/// Why a decision does not act, in words; nothing where it does.
#[must_use]
pub fn kept_back(applied: Applied) -> Option<&'static str> {
    let Applied::Observed(reason) = applied else { return None };
    Some(match reason {
        Reason::Mode => "the model is in observe",
        Reason::NeverBlock => "the client is on the never-block list",
        Reason::KillSwitch => "the kill switch is on",
        Reason::Unproven => "the client's identity is not proven",
        Reason::Brake => "the brake is on",
        Reason::NoEvidence => "no record tells why",
    })
}

#[cfg(test)]
mod tests;
