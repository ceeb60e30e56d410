//! The thread of a lane: takes captures from the door, journals them, puts them on the desk, hands on the results.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use checkgate_detectors::drift::room::Standing;
use checkgate_detectors::drift::room::saved::SavedError;
use checkgate_detectors::drift::room::versions::Stage;
use checkgate_detectors::engine::Gauges;
use checkgate_detectors::facts::NotInspected;
use checkgate_detectors::finding::{DecisionId, Record};
use checkgate_detectors::maintenance::Taught;
use checkgate_detectors::reference::Trust;
use parking_lot::Mutex;

use super::desk::{Desk, SavedEngine, Step};
use super::fair::FairQueue;
use super::pulse::Pulse;
use super::queue::{Parcel, Queue};
use super::yielding::give_way;
use super::{Order, Outlets, Post, hand_on_live};
use crate::capture::{Entry, Installed, Promoted, Remembered, Replanned, Settled};
use crate::clock;
use crate::farthest::ModelClients;
use crate::journal::{Appended, JournalWriter};
use crate::ledger::entry::{By, OfWindow, What};
use crate::metrics::labels::{CandidateOutcome, ContractOutcome, DriftMemoryOutcome};
use crate::state::candidates::Candidate;
use crate::state::{Waiting, drift_memory};

/// An idle lane looks again this often for a while: steady traffic then pays for no wake-ups.
const TICK: Duration = Duration::from_millis(1);
/// After this long without work it sleeps until it is woken, so that an idle proxy costs nothing.
const LINGER: Duration = Duration::from_millis(50);
/// Even asleep it looks this often, to flush and to refresh the gauges.
const DOZE: Duration = Duration::from_millis(500);
/// Gauges and roster are refreshed this often while there is work.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// What a model's drift remembers is left with the keeper this often: so much a kill costs. Of several models that are
/// due, one at a time.
const KEPT_EVERY: Duration = Duration::from_secs(60);

/// Everything that one lane thread owns.
pub(super) struct Clerk {
    post: Post,
    duty: Duty,
    seat: Seat,
    /// Which of the threads that serve this lane one after the other this one is.
    term: u64,
    orders: Receiver<Order>,
    desk: Desk,
    step: Step,
    journal: Option<JournalWriter>,
    outlets: Outlets,
    stopping: Arc<AtomicBool>,
    /// When it last took something.
    took: Instant,
    refreshed: Instant,
    /// By model, when its drift was left with the keeper and how far it was.
    kept: BTreeMap<(Option<u16>, String), Kept>,
    warned: bool,
}

/// What the keeper got of one model's drift last.
#[derive(Default)]
struct Kept {
    at: Option<Instant>,
    progress: Stage,
}

/// What stays of a lane when another thread takes over from one that does not come back.
#[derive(Clone)]
pub(super) struct Seat {
    /// The door.
    pub queue: Arc<Queue>,
    /// What was taken from the door and not dealt with yet. One thread uses it; another only after that one's term.
    fair: Arc<Mutex<FairQueue<Parcel>>>,
    /// How the lane is.
    pub pulse: Arc<Pulse>,
    /// What the gauges show of it.
    shown: Arc<Mutex<Shown>>,
}

impl Seat {
    /// A lane behind this door, before any thread serves it.
    pub(super) fn behind(queue: Arc<Queue>) -> Self {
        Self { queue, fair: Arc::default(), pulse: Arc::default(), shown: Arc::default() }
    }
}

/// Whether this lane decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// Another process still does; captures wait at the door.
    Awaits,
    /// It does.
    Decides,
    /// Another process does now; what still comes is counted as lost.
    Yielded,
}

/// What the gauges show of this lane: several lanes share them, so each adds its own change.
#[derive(Default)]
struct Shown {
    bytes: usize,
    parts: usize,
    models: usize,
    engines: BTreeMap<(Option<u16>, String), Gauges>,
    /// By model, its name, and the version that is watched apart, if it is one.
    drift: BTreeMap<(Option<u16>, String, String), Standing>,
}

impl Clerk {
    pub(super) fn new(
        post: Post,
        (seat, orders): (Seat, Receiver<Order>),
        mut desk: Desk,
        journal: Option<JournalWriter>,
        outlets: Outlets,
        (stopping, awaits): (Arc<AtomicBool>, bool),
    ) -> Self {
        desk.watched_by(&seat.pulse.at_work);
        Self {
            post,
            duty: if awaits { Duty::Awaits } else { Duty::Decides },
            term: seat.pulse.term(),
            seat,
            orders,
            desk,
            step: Step::default(),
            journal,
            outlets,
            stopping,
            took: Instant::now(),
            refreshed: Instant::now(),
            kept: BTreeMap::new(),
            warned: false,
        }
    }

    /// Serves until told to stop and nothing waits.
    pub(super) fn run(mut self) {
        let mut idle_since = None;
        give_way();
        self.refresh_gauges();
        loop {
            self.obey();
            if self.duty != Duty::Awaits {
                self.receive();
            }
            let parcel = self.seat.fair.lock().pop();
            if let Some(parcel) = parcel {
                self.serve(parcel);
                if self.is_deposed() {
                    return;
                }
                idle_since = None;
            } else if self.stopping.load(Ordering::SeqCst) {
                break;
            } else {
                self.rest(idle_since.get_or_insert_with(Instant::now).elapsed());
            }
        }
        self.flush();
        self.refresh_gauges();
        self.keep_drift(true);
    }

    fn obey(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Adopt { plan, adopted } => {
                    self.take(Entry::Plan(Replanned { time: clock::now(), plan }));
                    self.refresh_gauges();
                    // Whoever no longer waits was told that the lane is late.
                    adopted.send(()).ok();
                }
                Order::Promote { model, promoted } => {
                    self.take(Entry::Promote(Promoted { time: clock::now(), model }));
                    self.refresh_gauges();
                    // Whoever no longer waits was told that the lane is late.
                    promoted.send(self.step.promoted.take()).ok();
                }
                Order::Install { candidate, installed } => {
                    let Candidate { summary, query, drift } = &*candidate;
                    self.take(Entry::Install(Installed {
                        time: clock::now(),
                        model: summary.model.clone(),
                        query: query.clone(),
                        drift: drift.clone(),
                    }));
                    self.refresh_gauges();
                    // Whoever no longer waits was told that the lane is late.
                    installed.send(self.step.installed).ok();
                }
                Order::Look { model, version, now, seen } => {
                    let mut engines = self.desk.engines();
                    let engine = engines.find(|(_, name, _)| **name == *model).map(|(_, _, engine)| engine);
                    let rooms = engine.and_then(checkgate_detectors::engine::Engine::drift_rooms);
                    // Whoever no longer waits was told that the lane is busy.
                    seen.send(rooms.and_then(|rooms| rooms.look(version.as_deref(), now))).ok();
                }
                Order::Farthest { now, most, told } => {
                    let owned = self.desk.engines().filter(|(id, _, _)| self.post.owns(*id));
                    let models = owned.map(|(_, name, engine)| ModelClients::of(name, engine, now, most));
                    // Whoever no longer waits was told that a lane is busy.
                    told.send(models.collect()).ok();
                }
                Order::Remember { model, bytes } => self.remember(model, bytes),
                Order::Yield { saved } => {
                    self.judge_what_waits();
                    self.duty = Duty::Yielded;
                    self.flush();
                    let post = self.post;
                    saved.send(self.desk.save(&|model| post.owns(model))).ok();
                }
                Order::Resume => self.duty = Duty::Decides,
                Order::Begin { saved } => self.begin(&saved),
            }
        }
    }

    /// An entry of the journal, so that a replay begins with it as well.
    fn remember(&mut self, model: String, bytes: Vec<u8>) {
        let remembered = Remembered { time: clock::now(), model: model.clone(), bytes };
        self.take(Entry::Remember(remembered));
        let outcome = match self.step.remembered.take() {
            // The model is not watched any more, or there is no room for it.
            None => return,
            Some(Ok(())) => DriftMemoryOutcome::Restored,
            Some(Err(SavedError::OtherReference)) => {
                tracing::info!(model, "drift is watched afresh: the model's reference is another one by now");
                DriftMemoryOutcome::OtherReference
            }
            Some(Err(error)) => {
                tracing::warn!(model, %error, "what drift remembered is set aside; it is watched afresh");
                drift_memory::set_aside(self.outlets.state.directory(), &model);
                DriftMemoryOutcome::SetAside
            }
        };
        self.outlets.metrics.drift_memory.inc(outcome);
        self.refresh_gauges();
    }

    /// Leaves what drift remembers with the keeper: of one model that is due, or of all that have seen something since.
    fn keep_drift(&mut self, all: bool) {
        if self.duty != Duty::Decides || self.is_deposed() {
            return;
        }
        let post = self.post;
        for (model, name, engine) in self.desk.engines().filter(|(model, _, _)| post.owns(*model)) {
            let Some(rooms) = engine.drift_rooms() else { continue };
            let kept = self.kept.entry((model, name.to_owned())).or_default();
            if kept.progress == rooms.progress()
                || !all && kept.at.is_some_and(|at| at.elapsed() < KEPT_EVERY)
            {
                continue;
            }
            // The first minute of a process is not worth a write for each model at once.
            let is_due = kept.at.replace(Instant::now()).is_some();
            if all || is_due {
                kept.progress = rooms.progress();
                // A discovered model has its learned reference nowhere else.
                self.outlets.keeper.leave(name, rooms.save(model.is_none()));
            }
            if is_due && !all {
                return;
            }
        }
    }

    /// Maintenance windows end by the clock, whether or not anybody asks the model.
    fn end_lessons(&mut self) {
        let now = clock::now();
        if self.duty == Duty::Decides && !self.is_deposed() && self.desk.is_lesson_over(now) {
            self.take(Entry::Settle(Settled { time: now }));
        }
    }

    /// Keeps what a maintenance window taught until an operator promotes it, and says that it waits.
    fn offer(&self, taught: &Taught) {
        let Taught { model, window, rows, drift_rows, clients, .. } = taught;
        let count = |outcome| self.outlets.metrics.candidates.inc(outcome);
        let Some(candidate) = Candidate::of(taught) else {
            count(CandidateOutcome::TooFew);
            tracing::warn!(
                %model, note = window.note, rows, drift_rows, clients,
                "a maintenance window has ended with too few rows or clients for a reference; it offers none, and the \
                 references before stay"
            );
            return;
        };
        let summary = candidate.summary.clone();
        let waiting = self.outlets.state.keep_candidate(candidate);
        if waiting == Waiting::NoRoom {
            count(CandidateOutcome::NotKept);
            tracing::error!(%model, "what a maintenance window taught is not kept: too many models have a candidate");
            return;
        }
        let replaces = waiting == Waiting::Replaces;
        count(if replaces { CandidateOutcome::Replaced } else { CandidateOutcome::Waits });
        tracing::info!(
            %model, note = window.note, rows = summary.rows, drift_rows = summary.drift_rows, clients, replaces,
            "a maintenance window has ended; what it taught waits for an operator: `checkgate reference list`"
        );
        let what = What::Reference {
            model: Arc::clone(model),
            rows: summary.rows,
            trusted: false,
            window: Some(Box::new(OfWindow::new(&summary, replaces))),
        };
        drop(self.outlets.ledger.note(clock::now(), By::itself(), what));
    }

    fn judge_what_waits(&mut self) {
        loop {
            self.receive();
            let parcel = self.seat.fair.lock().pop();
            match parcel {
                Some(parcel) if !self.is_deposed() => self.serve(parcel),
                _ => return,
            }
        }
    }

    /// Whether another thread serves this lane by now.
    fn is_deposed(&self) -> bool {
        self.seat.pulse.term() != self.term
    }

    fn begin(&mut self, saved: &[SavedEngine]) {
        let post = self.post;
        for model in self.desk.restore(saved, &|model| post.owns(model)) {
            tracing::warn!(
                model,
                "what the process before remembered of this model does not fit; it begins afresh"
            );
        }
        self.duty = Duty::Decides;
        self.refresh_gauges();
    }

    fn receive(&mut self) {
        let mut fair = self.seat.fair.lock();
        while let Some(parcel) = self.seat.queue.take() {
            let cost = parcel.cost() as u64;
            fair.push(parcel.client, cost, parcel);
        }
    }

    fn rest(&mut self, idle: Duration) {
        if idle < LINGER {
            // Parked, not asleep: whoever holds a question for our verdict rings.
            thread::park_timeout(TICK);
            return;
        }
        self.flush();
        self.end_lessons();
        self.refresh_gauges();
        self.keep_drift(false);
        self.seat.queue.set_parked(true);
        if (self.seat.queue.is_empty() || self.duty == Duty::Awaits) && !self.stopping.load(Ordering::SeqCst)
        {
            thread::park_timeout(DOZE);
        }
        self.seat.queue.set_parked(false);
    }

    fn serve(&mut self, parcel: Parcel) {
        let (client, cost, bell) = (parcel.client, parcel.cost(), parcel.bell);
        let lag = clock::now().since(parcel.entry.time());
        self.outlets.metrics.lane_lag.observe(lag.as_secs_f64());
        let refused_by = if self.duty == Duty::Decides {
            self.take(parcel.entry)
        } else {
            self.took = Instant::now();
            self.outlets.metrics.captures_lost.inc();
            None
        };
        if let Some(bell) = bell {
            // Nobody may be listening any more; the verdict stands all the same.
            bell.send(refused_by).ok();
        }
        self.seat.queue.done(client, cost);
        if self.took.duration_since(self.refreshed) >= REFRESH_EVERY && !self.is_deposed() {
            self.end_lessons();
            self.refresh_gauges();
            self.keep_drift(false);
        }
    }

    /// Journals an entry, puts it on the desk and hands on what comes of it. Gives the decision that refuses a question
    /// for what it holds.
    fn take(&mut self, entry: Entry) -> Option<DecisionId> {
        self.record(&entry);
        let (desk, step) = (&mut self.desk, &mut self.step);
        // A decoder's panic costs this capture, not the lane; detectors are caught one by one in the engine.
        self.took = Instant::now();
        self.seat.pulse.begin(self.took);
        let panicked = catch_unwind(AssertUnwindSafe(|| desk.step(entry, step))).is_err();
        if self.is_deposed() {
            // Whoever took over began afresh; what this thread thinks it found is nobody's business any more.
            return None;
        }
        self.seat.pulse.end();
        if panicked {
            self.outlets.metrics.lane_panics.inc();
            tracing::error!("a capture made the lane panic; it was skipped");
            return None;
        }
        self.publish();
        self.step.outbox.refused_by
    }

    fn record(&mut self, entry: &Entry) {
        let Some(journal) = &mut self.journal else { return };
        let ended = match journal.append(entry) {
            Ok(Appended::Yes) => None,
            Ok(Appended::Full) => {
                Some("the recording has reached limits.record_bytes and ends here".to_owned())
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = ended {
            tracing::error!(reason, "recording stopped; traffic and decisions go on");
            self.outlets.metrics.recording_dropped.inc();
            self.flush();
            self.journal = None;
        }
    }

    fn publish(&mut self) {
        hand_on_live(&self.step, &self.desk, &self.outlets);
        let metrics = &self.outlets.metrics;
        for detector in &self.step.outbox.quarantined {
            tracing::error!(detector, "a detector panicked and is switched off for this model");
            metrics.quarantined(detector);
        }
        for model in &self.step.begun_afresh {
            tracing::warn!(%model, "what was remembered of this model does not fit its new settings; it begins afresh");
        }
        if let (Some(reference), Some(name)) = (&self.step.outbox.frozen, &self.step.name) {
            self.outlets.state.save_reference(name, &reference.to_json_lines());
            let what = What::Reference {
                model: Arc::clone(name),
                rows: reference.rows().len() as u64,
                trusted: reference.trust == Trust::Trusted,
                window: None,
            };
            drop(self.outlets.ledger.note(clock::now(), By::itself(), what));
        }
        if let (Some(reference), Some(name)) = (&self.step.outbox.frozen_drift, &self.step.name) {
            self.outlets.state.save_drift(name, &reference.to_bytes());
        }
        self.step.outbox.taught.iter().for_each(|taught| self.offer(taught));
        let model = metrics.model(self.step.model);
        model.rows.inc_by(self.step.rows);
        model.rows_over_cap.inc_by(self.step.rows_over);
        model.contract_answers.inc_by(ContractOutcome::Observed, u64::from(self.step.observed_violation));
        for (part, reason) in &self.step.not_inspected {
            model.not_inspected(*part, *reason);
            if *reason == NotInspected::TooManyModels {
                metrics.models_over_limit.inc();
            }
        }
        self.warn_of_doubt();
    }

    /// The first block that may not act says why, once, with the setting that mends it: that is the record's own
    /// explanation.
    fn warn_of_doubt(&mut self) {
        let outbox = &self.step.outbox;
        let doubtful = outbox.blocks.iter().find(|block| !block.may_act);
        if let Some(block) = doubtful.filter(|_| !self.warned) {
            let explains = |record: &&Record| record.decision_id == Some(block.id);
            let why = outbox.records.iter().find(explains).map_or("", |record| record.explanation.as_str());
            tracing::warn!(client = %block.client, why, "a block stays an observation; more like it are not logged");
            self.warned = true;
        }
    }

    fn refresh_gauges(&mut self) {
        self.refreshed = Instant::now();
        let metrics = &self.outlets.metrics;
        let mut shown = self.seat.shown.lock();
        let (bytes, parts, models) =
            (self.seat.queue.waiting_bytes(), self.seat.queue.waiting_parts(), self.desk.discovered());
        metrics.lane_waiting_bytes.add(difference(shown.bytes, bytes));
        metrics.lane_waiting_parts.add(difference(shown.parts, parts));
        metrics.models_discovered.add(difference(shown.models, models));
        (shown.bytes, shown.parts, shown.models) = (bytes, parts, models);
        let mut gone = std::mem::take(&mut shown.engines);
        for (model, name, engine) in self.desk.engines() {
            let (key, gauges) = ((model, name.to_owned()), engine.gauges());
            metrics.model(model).sizes(&gone.remove(&key).unwrap_or_default(), &gauges);
            shown.engines.insert(key, gauges);
        }
        for ((model, _), gauges) in gone {
            metrics.model(model).sizes(&gauges, &Gauges::default());
        }
        self.show_drift(&mut shown.drift);
        self.outlets.roster.update(self.post.lane, &self.desk);
        if let Some(journal) = &self.journal {
            metrics.recording_bytes.set(i64::try_from(journal.written()).unwrap_or(i64::MAX));
        }
    }

    /// Shows the drift of the models that this lane judges.
    fn show_drift(&self, shown: &mut BTreeMap<(Option<u16>, String, String), Standing>) {
        let metrics = &self.outlets.metrics;
        let mut gone = std::mem::take(shown);
        let owned = self.desk.engines().filter(|(model, _, _)| self.post.owns(*model));
        for (model, name, engine) in owned {
            let own = engine.drift().map(|standing| (String::new(), standing));
            let versions = engine.drift_of_versions();
            let versions = versions.map(|(version, standing)| (version.to_owned(), standing));
            for (version, standing) in own.into_iter().chain(versions) {
                let key = (model, name.to_owned(), version);
                metrics.model(model).drift.shift(gone.remove(&key).as_ref(), Some(&standing));
                shown.insert(key, standing);
            }
        }
        for ((model, ..), standing) in &gone {
            metrics.model(*model).drift.shift(Some(standing), None);
        }
        let models: BTreeSet<Option<u16>> =
            shown.keys().chain(gone.keys()).map(|(model, ..)| *model).collect();
        for model in models {
            let same = shown.iter().filter(|((of, ..), _)| *of == model).map(|(_, standing)| standing);
            metrics.model(model).drift.show(&same.collect::<Vec<_>>());
        }
    }

    fn flush(&mut self) {
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.flush()
        {
            tracing::error!(%error, "the recording could not be flushed");
        }
    }
}

fn difference(before: usize, after: usize) -> i64 {
    let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
    count(after) - count(before)
}
