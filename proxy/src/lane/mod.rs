//! Lanes: the one ordered path of a model's captures through its engine.
//!
//! A lane is one thread, one journal and one bound on memory. A model is pinned to one lane, so no lock guards its
//! state and a replay of the journal is the same function over the same entries. All discovered models share the
//! first lane.

mod clerk;
pub mod desk;
mod fair;
pub mod keeper;
mod open;
mod pulse;
pub mod queue;
pub mod roster;
mod watchdog;
mod yielding;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use checkgate_detectors::drift::room::view::View;
use checkgate_detectors::engine::Outbox;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{DecisionId, Kind, Mode, Record};
use parking_lot::Mutex;

use self::clerk::{Clerk, Seat};
use self::desk::{Desk, DeskError, Learned, SavedEngine, Step};
use self::keeper::Keeper;
use self::queue::{Offered, Parcel, Queue};
use self::roster::Roster;
use self::watchdog::{DEPOSED_MAX, STUCK_AFTER};
use crate::capture::{Approved, Entry, Lift, Rejected};
use crate::clock;
use crate::farthest::ModelClients;
use crate::gate::{Applied, Gate, Handed, Origin, Reason};
use crate::journal::{JournalError, JournalWriter};
use crate::ledger::Ledger;
use crate::ledger::entry::{By, Decided, Status, What};
use crate::metrics::Metrics;
use crate::plan::{Plan, in_base_64};
use crate::records::{self, Outlet};
use crate::state::State;
use crate::state::candidates::Candidate;
use crate::state::drift_memory::Memory;

/// How long a reload waits for a lane that is busy; one step takes milliseconds.
const ADOPTION_MAX: Duration = Duration::from_secs(10);

/// How long somebody who looks waits for a lane that is busy.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// How long a hand-over waits for a lane to judge what waits in front of it.
const YIELD_MAX: Duration = Duration::from_secs(30);

/// How often a stop looks whether a lane has ended.
const LOOKS_AT_THE_END_EVERY: Duration = Duration::from_millis(2);

/// What lanes hand their results to.
#[derive(Clone)]
pub struct Outlets {
    /// Puts blocks into force.
    pub gate: Arc<Gate>,
    /// Writes findings and decisions.
    pub records: Arc<Outlet>,
    /// Keeps them, and whatever else happens.
    pub ledger: Arc<Ledger>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Keeps learned references.
    pub state: Arc<State>,
    /// Shows operators where every model stands.
    pub roster: Arc<Roster>,
    /// Writes what drift remembers.
    pub keeper: Keeper,
}

/// How lanes are set up.
pub struct LaneSettings {
    /// Threads.
    pub lanes: usize,
    /// Bytes of captures that wait in front of one lane.
    pub bytes_max: usize,
    /// Share of them that one client may fill.
    pub share_per_client: f64,
    /// Where captures are recorded.
    pub record: Option<PathBuf>,
    /// Bytes of one recording.
    pub record_bytes_max: u64,
    /// Whether they begin to decide only when they are told: another process still does.
    pub await_ownership: bool,
}

/// All lanes, as request threads and operators see them.
pub struct Lanes {
    queues: Vec<Arc<Queue>>,
    /// Who serves each lane now.
    served: Mutex<Vec<Served>>,
    stopping: Arc<AtomicBool>,
    outlets: Outlets,
}

/// A lane and the thread that serves it.
struct Served {
    post: Post,
    seat: Seat,
    orders: Sender<Order>,
    thread: JoinHandle<()>,
    /// Threads that did not come back, so far.
    deposed: u32,
    /// What a thread that takes over goes by.
    plan: Arc<Plan>,
}

/// What a lane is told beside its captures. Orders do not queue behind them.
enum Order {
    /// Another plan holds from now on.
    Adopt { plan: Arc<Plan>, adopted: SyncSender<()> },
    /// Let decisions of a model rest on what it learned.
    Promote { model: String, promoted: SyncSender<Option<Learned>> },
    /// Let decisions of a model rest on what a maintenance window taught.
    Install { candidate: Arc<Candidate>, installed: SyncSender<bool> },
    /// Say how the drift of a model stands at a moment.
    Look { model: String, version: Option<String>, now: Time, seen: SyncSender<Option<View>> },
    /// Say whose clients ask most and cover most, of the models that the lane owns.
    Farthest { now: Time, most: usize, told: SyncSender<Vec<ModelClients>> },
    /// Go on with what drift remembered before a restart.
    Remember { model: String, bytes: Vec<u8> },
    /// Judge what waits, say what is remembered, and decide nothing more.
    Yield { saved: SyncSender<Vec<SavedEngine>> },
    /// Decide again: nobody else does.
    Resume,
    /// Decide from now on, beginning with what another process remembers.
    Begin { saved: Arc<Vec<SavedEngine>> },
}

/// Which models a lane judges.
#[derive(Clone, Copy)]
struct Post {
    lane: usize,
    lanes: usize,
}

impl Post {
    /// Whether this lane judges `model`; all discovered ones share the first.
    fn owns(self, model: Option<u16>) -> bool {
        self.lane == model.map_or(0, usize::from) % self.lanes
    }
}

/// Why lanes cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The plan does not hold.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The recording cannot be begun.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No thread could be started.
    #[error("cannot start a lane thread: {0}")]
    Thread(#[from] io::Error),
    /// A lane did not answer.
    #[error("a lane did not finish within {YIELD_MAX:?}")]
    Busy,
    /// It lost too many threads.
    #[error("a lane lost {DEPOSED_MAX} threads; restart the process, without the detector that is to blame")]
    Hopeless,
}

impl Lanes {
    /// Starts every lane.
    ///
    /// # Errors
    /// When the plan does not hold, the recording cannot be begun or a thread cannot be started.
    pub fn start(settings: &LaneSettings, plan: &Arc<Plan>, outlets: &Outlets) -> Result<Self, LaneError> {
        let mut lanes = Self {
            queues: Vec::new(),
            served: Mutex::default(),
            stopping: Arc::new(AtomicBool::new(false)),
            outlets: outlets.clone(),
        };
        for lane in 0..settings.lanes.max(1) {
            let queue = Arc::new(Queue::new(settings.bytes_max, settings.share_per_client));
            let journal = settings.record.as_deref().map(|path| {
                JournalWriter::create(&recording_path(path, lane), plan, settings.record_bytes_max)
            });
            let seat = Seat::behind(Arc::clone(&queue));
            let post = Post { lane, lanes: settings.lanes.max(1) };
            let desk = Desk::new(Arc::clone(plan))?;
            let (orders, thread) =
                lanes.seat(post, &seat, desk, (journal.transpose()?, settings.await_ownership))?;
            lanes.queues.push(queue);
            let served = Served { post, seat, orders, thread, deposed: 0, plan: Arc::clone(plan) };
            lanes.served.get_mut().push(served);
        }
        Ok(lanes)
    }

    /// Has a thread of its own serve a lane.
    fn seat(
        &self,
        post: Post,
        seat: &Seat,
        desk: Desk,
        (journal, awaits): (Option<JournalWriter>, bool),
    ) -> Result<(Sender<Order>, JoinHandle<()>), LaneError> {
        let (sender, receiver) = mpsc::channel();
        let (outlets, stopping) = (self.outlets.clone(), Arc::clone(&self.stopping));
        let clerk = Clerk::new(post, (seat.clone(), receiver), desk, journal, outlets, (stopping, awaits));
        let name = format!("lane-{}", post.lane);
        let thread = thread::Builder::new().name(name).spawn(move || clerk.run())?;
        seat.queue.serve_from(thread.thread().clone());
        Ok((sender, thread))
    }

    /// Gives a lane another thread, which begins afresh without the detector that the one before it was asking.
    fn replace(&self, lane: usize) -> Result<(), LaneError> {
        let mut served = self.served.lock();
        let Some(lane) = served.get_mut(lane).filter(|lane| lane.deposed < DEPOSED_MAX) else {
            return Err(LaneError::Hopeless);
        };
        let culprit = lane.seat.pulse.at_work.detector();
        let mut desk = Desk::new(Arc::clone(&lane.plan))?;
        if let Some(detector) = culprit {
            desk.quarantine(detector);
            self.outlets.metrics.quarantined(detector);
        }
        tracing::error!(
            lane = lane.post.lane,
            detector = culprit.unwrap_or("none"),
            "a lane did not move; another thread begins afresh without this detector; requests were not held up"
        );
        lane.seat.pulse.depose();
        lane.deposed += 1;
        self.outlets.metrics.lanes_replaced.inc();
        (lane.orders, lane.thread) = self.seat(lane.post, &lane.seat, desk, (None, false))?;
        Ok(())
    }

    /// Leaves a capture of `model` at its lane's door. Never waits.
    pub fn offer(&self, model: Option<u16>, parcel: Parcel) -> Offered {
        let lane = model.map_or(0, usize::from) % self.queues.len().max(1);
        self.queues.get(lane).map_or(Offered::Lost, |queue| queue.offer(parcel))
    }

    /// Tells every lane that an operator lifted a decision.
    pub fn lift(&self, decision: DecisionId) {
        self.enter(|time| Entry::Lift(Lift { time, decision }));
    }

    /// Tells every lane that an operator approved a proposal, which lasts until `until` now.
    pub fn approve(&self, decision: DecisionId, until: Time) {
        self.enter(|time| Entry::Approve(Approved { time, decision, until }));
    }

    /// Tells every lane that an operator turned a proposal down.
    pub fn reject(&self, decision: DecisionId) {
        self.enter(|time| Entry::Reject(Rejected { time, decision }));
    }

    fn enter(&self, entry: impl Fn(Time) -> Entry) {
        for queue in &self.queues {
            queue.offer(Parcel { entry: entry(clock::now()), client: 0, bell: None });
            queue.wake(true);
        }
    }

    /// Puts another plan into force in every lane, and returns once all of them go by it: captures that are taken
    /// under the new plan afterwards find it there. The plan must have been built before: a lane cannot refuse it.
    ///
    /// Returns how many lanes did not confirm it in time.
    pub fn adopt(&self, plan: &Arc<Plan>) -> usize {
        let adopt = |lane: &mut Served| {
            let (adopted, confirmed) = mpsc::sync_channel(1);
            lane.plan = Arc::clone(plan);
            lane.order(Order::Adopt { plan: Arc::clone(plan), adopted });
            confirmed
        };
        let confirmations: Vec<_> = self.served.lock().iter_mut().map(adopt).collect();
        confirmations.iter().filter(|confirmed| confirmed.recv_timeout(ADOPTION_MAX).is_err()).count()
    }

    /// Lets decisions of a model rest on what it learned, and gives that; nothing where it learned none, or where the
    /// configuration names one. The order of the lane's journal is that of its captures.
    ///
    /// # Errors
    /// The lane is too busy to confirm it in time; it may do it later.
    pub fn promote(&self, id: Option<u16>, model: &str) -> Result<Option<Learned>, LaneError> {
        let (promoted, answer) = mpsc::sync_channel(1);
        if let Some(lane) = self.served.lock().iter().find(|lane| lane.post.owns(id)) {
            lane.order(Order::Promote { model: model.to_owned(), promoted });
        }
        let learned = answer.recv_timeout(ADOPTION_MAX).map_err(|_| LaneError::Busy)?;
        if let Some(learned) = &learned {
            for lane in self.served.lock().iter_mut() {
                Arc::make_mut(&mut lane.plan).promoted.insert(model.to_owned(), Arc::clone(&learned.text));
            }
        }
        Ok(learned)
    }

    /// Lets decisions of a model rest on what a maintenance window taught, and says whether it did: not where the
    /// configuration names a reference, nor where there is no room for the model.
    ///
    /// # Errors
    /// The lane is too busy to confirm it in time; it may do it later.
    pub fn install(&self, id: Option<u16>, candidate: &Arc<Candidate>) -> Result<bool, LaneError> {
        let (installed, answer) = mpsc::sync_channel(1);
        if let Some(lane) = self.served.lock().iter().find(|lane| lane.post.owns(id)) {
            lane.order(Order::Install { candidate: Arc::clone(candidate), installed });
        }
        let installed = answer.recv_timeout(ADOPTION_MAX).map_err(|_| LaneError::Busy)?;
        if installed {
            let model = &candidate.summary.model;
            for lane in self.served.lock().iter_mut() {
                let plan = Arc::make_mut(&mut lane.plan);
                plan.promoted.extend(candidate.query.iter().map(|text| (model.clone(), Arc::clone(text))));
                let drift = candidate.drift.iter().map(|bytes| (model.clone(), Arc::clone(bytes)));
                plan.promoted_drifts.extend(in_base_64(drift.collect()));
            }
        }
        Ok(installed)
    }

    /// How the drift of a model stands at `now`, or that of a version that is watched apart; nothing where it is not
    /// watched, or nobody asked the model yet.
    ///
    /// # Errors
    /// The lane is too busy to say it in time.
    pub fn look(
        &self,
        id: Option<u16>,
        (model, version): (&str, Option<&str>),
        now: Time,
    ) -> Result<Option<View>, LaneError> {
        let (seen, answer) = mpsc::sync_channel(1);
        if let Some(lane) = self.served.lock().iter().find(|lane| lane.post.owns(id)) {
            let (model, version) = (model.to_owned(), version.map(str::to_owned));
            lane.order(Order::Look { model, version, now, seen });
        }
        answer.recv_timeout(LOOK_MAX).map_err(|_| LaneError::Busy)
    }

    /// Of every model, the clients that ask most and cover most at `now`: the first `most` by either.
    ///
    /// # Errors
    /// A lane is too busy to say it in time.
    pub fn farthest(&self, now: Time, most: usize) -> Result<Vec<ModelClients>, LaneError> {
        let ask = |lane: &Served| {
            let (told, answer) = mpsc::sync_channel(1);
            lane.order(Order::Farthest { now, most, told });
            answer
        };
        let answers: Vec<_> = self.served.lock().iter().map(ask).collect();
        let told = answers.iter().map(|answer| answer.recv_timeout(LOOK_MAX).map_err(|_| LaneError::Busy));
        let mut models: Vec<ModelClients> =
            told.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        models.sort_by(|one, other| one.model.cmp(&other.model));
        Ok(models)
    }

    /// Has models go on with what their drift remembered before a restart; to be told before any capture is left.
    pub fn remember(&self, memories: Vec<Memory>, plan: &Plan) {
        for Memory { model, bytes } in memories {
            let id = plan.models.iter().find(|(_, planned)| planned.name == model).map(|(id, _)| *id);
            if let Some(lane) = self.served.lock().iter().find(|lane| lane.post.owns(id)) {
                lane.order(Order::Remember { model, bytes });
            }
        }
    }

    /// Has every lane judge what waits, and gives what they remember. From then on they decide nothing.
    ///
    /// # Errors
    /// When a lane is gone or takes too long. The others wait; [`Lanes::resume`] has them go on.
    pub fn yield_ownership(&self) -> Result<Vec<SavedEngine>, LaneError> {
        let ask = |lane: &Served| {
            let (saved, answer) = mpsc::sync_channel(1);
            lane.order(Order::Yield { saved });
            answer
        };
        let answers: Vec<_> = self.served.lock().iter().map(ask).collect();
        let mut all = Vec::new();
        for answer in answers {
            all.extend(answer.recv_timeout(YIELD_MAX).map_err(|_| LaneError::Busy)?);
        }
        Ok(all)
    }

    /// Has lanes that yielded decide again, with what they remember.
    pub fn resume(&self) {
        self.tell(|| Order::Resume);
    }

    /// Has lanes that awaited ownership decide from now on, with what another process remembered.
    pub fn begin(&self, saved: Vec<SavedEngine>) {
        let saved = Arc::new(saved);
        self.tell(|| Order::Begin { saved: Arc::clone(&saved) });
    }

    fn tell(&self, order: impl Fn() -> Order) {
        self.served.lock().iter().for_each(|lane| lane.order(order()));
    }

    /// Lets every lane finish what waits, then ends it. One that does not move is left behind.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for queue in &self.queues {
            queue.wake(true);
        }
        let patience = Instant::now() + STUCK_AFTER;
        for lane in self.served.lock().drain(..) {
            while !lane.thread.is_finished() && Instant::now() < patience {
                thread::sleep(LOOKS_AT_THE_END_EVERY);
            }
            if lane.thread.is_finished() && lane.thread.join().is_err() {
                tracing::error!("a lane thread ended in a panic");
            }
        }
    }
}

impl Served {
    /// Gives the lane's thread an order. A lane that is gone obeys nobody.
    fn order(&self, order: Order) {
        self.orders.send(order).ok();
        self.seat.queue.wake(true);
    }
}

/// Hands on what a step decided, in replay: the same records in the same order as live.
pub fn hand_on(step: &Step, desk: &Desk, gate: &Gate, records: &Outlet) {
    let mode = desk.plan().model(step.model).map(|model| model.mode).unwrap_or_default();
    let handed = gate.apply_all(&step.outbox, Origin { model: step.model, mode }, desk.rules());
    for record in step.outbox.records.iter().chain(&handed.told) {
        records.count(step.model, record);
        let applied = handed.applied.iter().find(|(id, _)| record.decision_id == Some(*id));
        let held_back = match applied {
            Some((_, Applied::Observed(reason))) if record.kind == Kind::Decision => Some(*reason),
            _ => None,
        };
        records.print(record.kind, records::printed(&records::line(record).into(), held_back));
    }
    step.outbox.drifts.iter().for_each(|record| records.offer_drift(step.model, record));
}

/// Hands on what a step decided, live: blocks act at once, and every record goes through the ledger to the outlet.
pub fn hand_on_live(step: &Step, desk: &Desk, outlets: &Outlets) {
    let mode = desk.plan().model(step.model).map(|model| model.mode).unwrap_or_default();
    let outbox = &step.outbox;
    let handed = outlets.gate.apply_all(outbox, Origin { model: step.model, mode }, desk.rules());
    for record in outbox.records.iter().chain(&handed.told) {
        outlets.records.count(step.model, record);
        let what = what_of(record, outbox, &handed, mode);
        // Nobody waits for it: the ledger says by itself what is not durable.
        drop(outlets.ledger.note(record.time, By::itself(), what));
    }
    for record in &outbox.drifts {
        outlets.records.count_drift(step.model, record);
        let what = What::Drift { record: records::drift_line(record).into() };
        drop(outlets.ledger.note(record.time, By::itself(), what));
    }
}

/// A record as an entry of the ledger.
fn what_of(record: &Record, outbox: &Outbox, handed: &Handed, mode: Mode) -> What {
    let line: Arc<str> = records::line(record).into();
    let (Kind::Decision, Some(id)) = (record.kind, record.decision_id) else {
        return What::Finding { record: line };
    };
    let block = outbox.blocks.iter().find(|block| block.id == id);
    // The record of a proposal has no end yet; until its block's it can be approved.
    let until = block.map(|block| block.until).or(record.until).unwrap_or(record.time);
    let applied = handed.applied.iter().find(|(applied, _)| *applied == id).map(|(_, applied)| *applied);
    let (status, held_back) = match applied {
        Some(Applied::Enforced) => (Status::InForce, None),
        Some(Applied::Proposed) => (Status::Proposed, None),
        Some(Applied::Observed(reason)) => (Status::Observed, Some(reason)),
        // It is about what is asked, not about a client: it acts where its model does.
        None if mode == Mode::Enforce => (Status::InForce, None),
        None => (Status::Observed, Some(Reason::Mode)),
    };
    let approves_itself = block.map(|block| block.acts_from).filter(|from| *from < until);
    What::Decision(Box::new(Decided {
        id,
        client: record.client,
        model: Some(Arc::clone(&record.model)),
        scope: record.grounds.scope.unwrap_or_default(),
        detector: record.detector.into(),
        action: block.map_or(record.action, |block| block.action),
        time: record.time,
        until,
        lasts: block.map_or(until.since(record.time), |block| block.lasts),
        status,
        held_back,
        approves_itself: approves_itself.filter(|_| status == Status::Proposed),
        tenant: record.grounds.tenant.as_ref().map(|tenant| tenant.name.as_str().into()),
        requests: 0,
        asked: None,
        evidence: line,
    }))
}

/// The first lane records to the file that was named, further lanes beside it.
fn recording_path(path: &Path, lane: usize) -> PathBuf {
    if lane == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".lane-{lane}"));
    PathBuf::from(name)
}
