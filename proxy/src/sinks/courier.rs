//! The one wrapper around every sink: it reads what waits, keeps what is wanted, sends it in batches, and moves the
//! position behind what was taken. What follows from a failure is decided by [`course`](super::course).
//!
//! What lies at the head of the spool and is not to be sent (filtered, erased, beyond the bounds) moves the position at
//! once; what lies behind an event moves it with that event. So everything is counted once, however often a batch is
//! tried: after a failure the same stretch is read again, and what has become too old meanwhile is left out.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::{self, EventKind};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use utoipa::ToSchema;

use super::course::{Course, Due, State, Then, Told};
use super::cursor::Cursor;
use super::dead::{DeadLetters, Letter};
use super::event::{Event, mode_word};
use super::spool::{Met, Spool, Stand};
use super::{Sink, SinkError};
use crate::ledger::entry::Decided;
use crate::metrics::SinkMetrics;
use crate::metrics::labels::{Label, SinkFailure, SinkLoss};
use crate::told;

/// Bytes of the log that are read at once.
const READ_BYTES: usize = 256 * 1024;
/// How often a sink that waits looks around: its backlog grows older.
const TICK: Duration = Duration::from_secs(1);
/// How often a position is written that moved past what is not sent: after a kill it is found again.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Letters of an error that operators are shown.
const ERROR_MAX: usize = 300;

/// A configured sink, built.
#[derive(Clone)]
pub struct Ready {
    /// What the operator said.
    pub settings: Arc<settings::Sink>,
    /// What sends.
    pub sink: Arc<dyn Sink>,
}

/// Looks a decision up in the ledger's book.
pub type LooksUp = Arc<dyn Fn(DecisionId) -> Option<Decided> + Send + Sync>;

/// Where events come from.
#[derive(Clone)]
pub struct Well {
    /// The log.
    pub spool: Spool,
    /// The number of the last entry on the disk; 0 until the log is open.
    pub written: watch::Receiver<u64>,
    /// Says what a decision is about.
    pub about: LooksUp,
    /// The id of this instance.
    pub instance: Arc<str>,
    /// Reads the clock.
    pub now: fn() -> Time,
}

/// What a courier is told to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Deliver.
    #[default]
    Go,
    /// Deliver what is there and end; end at the first failure.
    Finish,
    /// End when the batch under way has been answered.
    End,
}

/// How a sink stands until its courier knows its position: the ledger is not open yet, or is another process's.
pub const STARTING: &str = "starting";

/// A sink as operators see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// The part that sends.
    pub part: String,
    /// Where to, without paths and secrets.
    pub target: String,
    /// `starting`, `works`, `pausing`, `broken`, `refused` or `stopped`.
    pub state: &'static str,
    /// The number of the last entry of the ledger that is done with.
    pub position: u64,
    /// Entries of the ledger behind it.
    pub backlog_entries: u64,
    /// Age of the oldest event that waits, in seconds; 0 where none does.
    pub backlog_age_seconds: u64,
    /// Events that were taken since the process started.
    pub delivered: u64,
    /// When the last batch was taken, as Unix seconds.
    pub last_delivered: Option<f64>,
    /// Why the last batch that was not taken was not.
    pub last_error: Option<String>,
}

/// What is lost when the position moves, by reason.
#[derive(Clone, Debug, Default)]
struct Losses([u64; SinkLoss::ALL.len()]);

impl Losses {
    fn add(&mut self, loss: SinkLoss, entries: u64) {
        if let Some(count) = self.0.get_mut(loss.index()) {
            *count += entries;
        }
    }
}

/// The position behind an event and all that follows it and is not sent.
#[derive(Clone, Debug)]
struct Behind {
    bytes: usize,
    stand: Stand,
    losses: Losses,
}

/// Delivers the events of one sink.
pub struct Courier {
    ready: Ready,
    well: Well,
    cursor: Cursor,
    dead: DeadLetters,
    metrics: SinkMetrics,
    shown: Arc<Mutex<Shown>>,
    course: Course,
    began: Instant,
    /// Behind what is done with.
    position: Stand,
    saved: Option<Stand>,
    saved_at: Instant,
    /// The position could not be written the last time.
    unsaved: bool,
    /// Behind what was read.
    read_to: Stand,
    /// What was read and is to be sent, with the position behind each.
    events: VecDeque<Event>,
    behind: VecDeque<Behind>,
    /// Since when the first of them waits for others.
    waits_since: Option<Instant>,
    /// The last batch was not taken.
    again: bool,
}

/// What a turn led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    On,
    Over,
}

impl Courier {
    /// A courier of the sink `ready`, which keeps its files under the state folder.
    #[must_use]
    pub fn new(
        ready: Ready,
        well: Well,
        (cursor, dead): (Cursor, DeadLetters),
        metrics: SinkMetrics,
        shown: Arc<Mutex<Shown>>,
    ) -> Self {
        let full = ready.settings.batch.events.min(ready.sink.bounds().events);
        Self {
            ready,
            well,
            cursor,
            dead,
            metrics,
            shown,
            course: Course::new(full),
            began: Instant::now(),
            position: Stand::default(),
            saved: None,
            saved_at: Instant::now(),
            unsaved: false,
            read_to: Stand::default(),
            events: VecDeque::new(),
            behind: VecDeque::new(),
            waits_since: None,
            again: false,
        }
    }

    /// Delivers until it is told to end.
    pub async fn run(mut self, mut orders: watch::Receiver<Order>) {
        if self.begin(&mut orders).await == Turn::Over {
            return;
        }
        loop {
            let order = *orders.borrow_and_update();
            if order == Order::End {
                break;
            }
            self.show();
            let turn = match self.course.due(self.began.elapsed()) {
                _ if order == Order::Finish && self.course.state() != State::Works => Turn::Over,
                Due::Never => self.idle(&mut orders, TICK).await,
                Due::At(at) => {
                    let left = at.saturating_sub(self.began.elapsed());
                    self.idle_through(&mut orders, left.min(TICK)).await
                }
                Due::Now { most } => self.turn(most, &mut orders).await,
            };
            if turn == Turn::Over {
                break;
            }
        }
        self.save().await;
        self.show();
    }

    /// Finds out where to begin, once the log is open.
    async fn begin(&mut self, orders: &mut watch::Receiver<Order>) -> Turn {
        let cursor = self.cursor.clone();
        let kept = blocking(move || cursor.load()).await;
        while *self.well.written.borrow_and_update() == 0 {
            let changed = self.well.written.changed();
            tokio::select! {
                changed = changed => if changed.is_err() { return Turn::Over },
                ordered = orders.changed() => {
                    if ordered.is_err() || *orders.borrow_and_update() != Order::Go { return Turn::Over }
                }
            }
        }
        let written = *self.well.written.borrow();
        let name = &self.ready.settings.name;
        self.position = match kept {
            Ok(Some(stand)) if self.well.spool.knows(stand, written).unwrap_or(true) => stand,
            Ok(Some(_)) => {
                tracing::error!(sink = name, "the ledger was begun anew; this sink begins with it");
                Stand::default()
            }
            // It has never delivered anything: what happened before it was configured is not its business.
            Ok(None) => {
                let unknown = Stand { number: written, ..Stand::default() };
                self.well.spool.behind(written).unwrap_or(unknown)
            }
            Err(error) => {
                tracing::error!(sink = name, %error, "the position of this sink cannot be read; all that it keeps is sent again");
                Stand::default()
            }
        };
        self.read_to = self.position;
        self.save().await;
        Turn::On
    }

    /// Waits for an order, for a new entry, or for `longest`.
    async fn idle(&mut self, orders: &mut watch::Receiver<Order>, longest: Duration) -> Turn {
        tokio::select! {
            ordered = orders.changed() => if ordered.is_err() { return Turn::Over },
            changed = self.well.written.changed() => if changed.is_err() { return Turn::Over },
            () = sleep(longest) => {}
        }
        Turn::On
    }

    /// The same, whatever is written meanwhile.
    async fn idle_through(&mut self, orders: &mut watch::Receiver<Order>, longest: Duration) -> Turn {
        tokio::select! {
            ordered = orders.changed() => if ordered.is_err() { return Turn::Over },
            () = sleep(longest) => {}
        }
        Turn::On
    }

    async fn turn(&mut self, most: usize, orders: &mut watch::Receiver<Order>) -> Turn {
        let finishing = *orders.borrow() == Order::Finish;
        if self.again {
            // What has become too old meanwhile is left out.
            self.events.clear();
            self.behind.clear();
            self.read_to = self.position;
        }
        let limit = most.min(self.ready.settings.batch.events).min(self.ready.sink.bounds().events).max(1);
        if let Err(error) = self.fill(limit).await {
            self.failed(SinkFailure::Spool, &format!("the ledger cannot be read: {error}"));
            return self.idle_through(orders, TICK).await;
        }
        if self.events.is_empty() {
            self.waits_since = None;
            if finishing || self.saved_at.elapsed() >= SAVE_EVERY {
                self.save().await;
            }
            if finishing && self.read_to.number >= *self.well.written.borrow() {
                return Turn::Over;
            }
            return self.idle(orders, TICK).await;
        }
        let (count, is_full) = self.batch(limit);
        let wait = self.ready.settings.batch.wait;
        let waited = self.waits_since.get_or_insert_with(Instant::now).elapsed();
        if !is_full && !self.again && !finishing && waited < wait {
            return self.idle(orders, (wait - waited).min(TICK)).await;
        }
        self.deliver(count).await;
        Turn::On
    }

    /// Reads until `limit` events wait, or nothing more is there.
    async fn fill(&mut self, limit: usize) -> io::Result<()> {
        let bytes_max = self.ready.settings.batch.bytes.min(self.ready.sink.bounds().bytes);
        loop {
            let bytes: usize = self.behind.iter().map(|behind| behind.bytes).sum();
            if self.events.len() >= limit || bytes >= bytes_max {
                return Ok(());
            }
            let written = *self.well.written.borrow_and_update();
            let pieces = self.well.spool.read(self.read_to, written, READ_BYTES)?;
            if pieces.is_empty() {
                return Ok(());
            }
            let now = (self.well.now)();
            for piece in pieces {
                self.read_to = piece.stand;
                self.met(piece.met, piece.stand, now);
            }
            // A sink that wants little passes over much; the others have their turn meanwhile.
            tokio::task::yield_now().await;
        }
    }

    fn met(&mut self, met: Met, stand: Stand, now: Time) {
        let settings = Arc::clone(&self.ready.settings);
        let (loss, entries) = match met {
            Met::Entry { entry, behind } => {
                let about = entry.what.decision().and_then(|id| (self.well.about)(id));
                let event = Event::of(&entry, &stand.hash, &self.well.instance, about.as_ref());
                if event.is_note() || !wants(&settings.only, &event) || !self.ready.sink.takes(&event) {
                    return self.pass(stand, None);
                }
                if now.since(event.time) > settings.spool.age {
                    return self.pass(stand, Some((SinkLoss::Age, 1)));
                }
                if behind > settings.spool.bytes {
                    return self.pass(stand, Some((SinkLoss::Bytes, 1)));
                }
                let bytes = event.plain().to_string().len();
                self.events.push_back(event);
                self.behind.push_back(Behind { bytes, stand, losses: Losses::default() });
                return;
            }
            Met::Erased { kind } => {
                let is_wanted = |kinds: &Vec<EventKind>| kinds.iter().any(|wanted| wanted.as_str() == kind);
                let wanted = settings.only.kinds.as_ref().is_none_or(is_wanted);
                return self.pass(stand, wanted.then_some((SinkLoss::Erased, 1)));
            }
            Met::Damaged => (SinkLoss::Damaged, 1),
            Met::Removed { entries } => (SinkLoss::Removed, entries),
            Met::Missing { entries } => (SinkLoss::Missing, entries),
        };
        self.pass(stand, Some((loss, entries)));
    }

    /// Goes past what is not sent.
    fn pass(&mut self, stand: Stand, lost: Option<(SinkLoss, u64)>) {
        match self.behind.back_mut() {
            Some(behind) => {
                behind.stand = stand;
                lost.iter().for_each(|(loss, entries)| behind.losses.add(*loss, *entries));
            }
            None => {
                self.position = stand;
                lost.iter().for_each(|(loss, entries)| self.metrics.lost.inc_by(*loss, *entries));
            }
        }
    }

    /// How many of the waiting events make a batch, and whether it is as large as it may be.
    fn batch(&self, limit: usize) -> (usize, bool) {
        let bytes_max = self.ready.settings.batch.bytes.min(self.ready.sink.bounds().bytes);
        let (mut count, mut bytes) = (0, 0);
        for behind in self.behind.iter().take(limit) {
            bytes += behind.bytes;
            if count > 0 && bytes > bytes_max {
                return (count, true);
            }
            count += 1;
        }
        (count, count >= limit || bytes >= bytes_max)
    }

    async fn deliver(&mut self, count: usize) {
        let longest = self.ready.settings.timeout;
        self.events.make_contiguous();
        let sent = self.sent(count, longest).await;
        let (told, failure) = match &sent {
            Some(Ok(())) => (Told::Taken, None),
            Some(Err(error)) => (told_by(error), Some((failure_of(error), error.to_string()))),
            None => {
                let why = format!("no answer within {longest:?}");
                (Told::Later { wait: None }, Some((SinkFailure::Timeout, why)))
            }
        };
        let before = self.course.state();
        let then = self.course.hear(self.began.elapsed(), count, told, dice());
        let why = failure.map(|(failure, why)| {
            self.failed(failure, &why);
            why
        });
        self.say(before, why.as_deref());
        self.again = then == Then::Again;
        match then {
            Then::Advance => {
                self.metrics.delivered.inc_by(count as u64);
                self.show_delivered(count);
                self.advance(count);
                self.save().await;
            }
            Then::Bury => {
                self.bury(why.unwrap_or_default()).await;
                self.advance(count);
                self.save().await;
            }
            Then::Again => {}
        }
    }

    /// Sends the first events within `longest`; nothing where that was not enough.
    async fn sent(&self, count: usize, longest: Duration) -> Option<Result<(), SinkError>> {
        let batch = self.events.as_slices().0.get(..count).unwrap_or_default();
        let mut sending = pin!(timeout(longest, self.ready.sink.send(batch)));
        loop {
            // The backlog grows, and grows older, while the other side thinks.
            self.show();
            tokio::select! {
                sent = &mut sending => return sent.ok(),
                () = sleep(TICK) => {}
            }
        }
    }

    fn show_delivered(&self, count: usize) {
        let mut shown = self.shown.lock();
        shown.delivered += count as u64;
        shown.last_delivered = Some((self.well.now)().seconds());
    }

    fn advance(&mut self, count: usize) {
        self.events.drain(..count.min(self.events.len()));
        for behind in self.behind.drain(..count.min(self.behind.len())) {
            self.position = behind.stand;
            for loss in SinkLoss::ALL {
                let entries = behind.losses.0.get(loss.index()).copied().unwrap_or(0);
                self.metrics.lost.inc_by(*loss, entries);
            }
        }
        self.waits_since = None;
    }

    /// Puts the first event among the dead letters.
    async fn bury(&mut self, why: String) {
        let Some(event) = self.events.front().cloned() else { return };
        let letter = Letter { why: shortened(&why), given_up: (self.well.now)(), event };
        let dead = self.dead.clone();
        let number = letter.event.number;
        match blocking(move || dead.keep(&letter)).await {
            Ok(true) => self.metrics.dead_letters.inc(),
            kept => {
                let error =
                    kept.err().map_or_else(|| "the file is full".to_owned(), |error| error.to_string());
                let sink = &self.ready.settings.name;
                tracing::error!(
                    sink,
                    number,
                    error,
                    "an event that is not wanted finds no room among the dead letters"
                );
                self.metrics.lost.inc(SinkLoss::DeadLetters);
            }
        }
    }

    fn failed(&self, failure: SinkFailure, why: &str) {
        self.metrics.failures.inc(failure);
        self.shown.lock().last_error = Some(shortened(why));
    }

    /// Logs what changed; a refusal each time, for somebody has to mend it.
    fn say(&self, before: State, why: Option<&str>) {
        let (sink, now) = (&self.ready.settings.name, self.course.state());
        let why = why.map(shortened).unwrap_or_default();
        match now {
            State::Refused => {
                tracing::error!(sink, why, "a sink is refused: everything is kept, and tried now and then")
            }
            State::Stopped => {
                tracing::error!(sink, why, "a sink is stopped until the configuration is read again")
            }
            _ if now == before => {}
            State::Works => tracing::info!(sink, "a sink delivers again"),
            State::Pausing | State::Broken => {
                tracing::warn!(sink, why, "a sink does not deliver: everything is kept")
            }
        }
    }

    async fn save(&mut self) {
        if self.saved == Some(self.position) {
            return;
        }
        let (cursor, stand) = (self.cursor.clone(), self.position);
        match blocking(move || cursor.save(stand)).await {
            Ok(()) => (self.saved, self.saved_at, self.unsaved) = (Some(stand), Instant::now(), false),
            Err(error) => {
                if !std::mem::replace(&mut self.unsaved, true) {
                    let sink = &self.ready.settings.name;
                    tracing::error!(sink, %error, "the position of a sink cannot be written; a restart repeats what it sent");
                }
            }
        }
    }

    /// Brings metrics and the operators' view up.
    fn show(&self) {
        let written = *self.well.written.borrow();
        let entries = written.saturating_sub(self.position.number);
        let age = self.events.front().map_or(0, |event| (self.well.now)().since(event.time).as_secs());
        self.metrics.backlog_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.metrics.backlog_age.set(i64::try_from(age).unwrap_or(i64::MAX));
        self.metrics.states.set(self.course.state());
        let mut shown = self.shown.lock();
        shown.state = self.course.state().as_str();
        shown.position = self.position.number;
        shown.backlog_entries = entries;
        shown.backlog_age_seconds = age;
    }
}

/// Whether an event is to be sent.
#[must_use]
pub fn wants(only: &settings::Only, event: &Event) -> bool {
    use checkgate_detectors::severity::Severity;
    let one_of = |names: &Option<Vec<String>>, name: &Option<Arc<str>>| match (names, name) {
        (Some(names), Some(name)) => names.iter().any(|wanted| **wanted == **name),
        _ => true,
    };
    let least = only.severity.map(|severity| match severity {
        settings::Severity::Low => Severity::Low,
        settings::Severity::Medium => Severity::Medium,
        settings::Severity::High => Severity::High,
    });
    let mode = match (&only.modes, event.mode.map(mode_word)) {
        (Some(modes), Some(mode)) => modes.iter().any(|wanted| settings_mode_word(*wanted) == mode),
        _ => true,
    };
    only.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind))
        && least.is_none_or(|least| event.severity >= least)
        && one_of(&only.models, &event.model)
        && one_of(&only.detectors, &event.detector)
        && mode
}

fn settings_mode_word(mode: settings::Mode) -> &'static str {
    match mode {
        settings::Mode::Observe => "observe",
        settings::Mode::Enforce => "enforce",
    }
}

fn told_by(error: &SinkError) -> Told {
    match error {
        SinkError::Later { wait, .. } => Told::Later { wait: *wait },
        SinkError::Never { .. } => Told::Never,
        SinkError::Refused { .. } => Told::Refused,
        SinkError::Gone { .. } => Told::Gone,
    }
}

fn failure_of(error: &SinkError) -> SinkFailure {
    match error {
        SinkError::Later { .. } => SinkFailure::Later,
        SinkError::Never { .. } => SinkFailure::Never,
        SinkError::Refused { .. } => SinkFailure::Refused,
        SinkError::Gone { .. } => SinkFailure::Gone,
    }
}

fn shortened(why: &str) -> String {
    told::replaced(&why.chars().take(ERROR_MAX).collect::<String>())
}

/// A number from 0 to 1 that nobody can foresee; 1, the longest pause, where the system gives none.
fn dice() -> f64 {
    let mut bytes = [0xff; 4];
    getrandom::fill(&mut bytes).ok();
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// Does what waits for the disk where it holds up no other sink.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
