//! The one thread that waits for the ledger's disk.
//!
//! ```text
//! closed --open--> opening --it works--> open --a write fails--> failing --the same write works--> open
//!                  opening: tries again, after 0.1 s and then ever later up to 1 s; so does failing
//! open, opening, failing --close--> closed
//! ```
//! Whatever it finds in the inbox goes into one batch, one write and one sync. Batches are not waited for: while one is
//! synced, the next one gathers.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use checkgate_detectors::facts::Time;
use checkgate_detectors::identity::Identity;
use tokio::sync::oneshot;

use super::book::Book;
use super::entry::{By, Entry, What};
use super::reduce::{self, Reducer};
use super::store::{Batch, CHECKPOINT_ENTRIES, Recovered, Store};
use super::{EraseError, Inner, Kept, LedgerSettings, Opening, Order, Shared, Waiting, bytes_of};
use crate::clock::{self, Carried};

/// Bytes of a batch, a last entry aside.
const BATCH_BYTES: usize = 1024 * 1024;
/// How often the thread looks around when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Time between two tries, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The index is at most so far behind the log, where there is a quiet moment.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether the time of entries is over.
const REDUCE_EVERY: Duration = Duration::from_secs(60);

enum State {
    Closed,
    Opening(Opening),
    Open(Box<Store>),
}

/// The writer, apart from its thread: whoever has it says when it takes a turn.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    settings: LedgerSettings,
    state: State,
    /// Entries that are not written, in order.
    held: VecDeque<Waiting>,
    /// How many of them, from the front, were told to be in memory.
    told: usize,
    /// What the last write that failed tried to write.
    stuck: Option<Batch>,
    retry_at: Option<Instant>,
    pause: Duration,
    /// When this turn began.
    now: Instant,
    checkpointed: Instant,
    reduced: Instant,
    reducer: Reducer,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, settings: LedgerSettings, now: Instant) -> Self {
        Self {
            shared,
            settings,
            state: State::Closed,
            held: VecDeque::new(),
            told: 0,
            stuck: None,
            retry_at: None,
            pause: RETRY.0,
            checkpointed: now,
            reduced: now,
            now,
            reducer: Reducer::default(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            self.wait();
            if !self.turn(Instant::now()) {
                return;
            }
        }
    }

    /// Does what there is to do at `now`; false once it was told to stop.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        self.now = now;
        for order in self.collect() {
            match order {
                Order::Open { how, opened } => self.begin(how, &opened),
                Order::Close { closed } => {
                    self.close("another process has the log");
                    closed.send(()).ok();
                }
                Order::Erase { client, by, erased } => {
                    // Whoever asked may have gone.
                    erased.send(self.erase(client, by)).ok();
                }
                Order::Retain(retention) => self.settings.retention = retention,
                Order::Stop => {
                    self.close("the process ends");
                    return false;
                }
            }
        }
        self.work();
        self.tidy();
        true
    }

    /// Waits for something to do.
    fn wait(&self) {
        let mut inner = self.shared.inner.lock();
        if inner.inbox.is_empty() && inner.orders.is_empty() {
            let until_retry = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
            self.shared.wake.wait_for(&mut inner, until_retry.unwrap_or(TICK).min(TICK));
        }
    }

    fn collect(&mut self) -> Vec<Order> {
        let mut inner = self.shared.inner.lock();
        self.held.extend(inner.inbox.drain(..));
        inner.orders.drain(..).collect()
    }

    fn work(&mut self) {
        if self.retry_at.is_some_and(|at| self.now < at) {
            return self.tell_rest();
        }
        if let State::Opening(how) = self.state {
            self.open(how);
        }
        while let State::Open(store) = &mut self.state
            && !self.held.is_empty()
        {
            let waiting = self.held.iter().map(|waiting| &waiting.entry);
            let batch = self.stuck.take().unwrap_or_else(|| store.batch(waiting, BATCH_BYTES));
            let began = Instant::now();
            match store.write(&batch) {
                Ok(()) => self.wrote(batch.entries, began.elapsed()),
                Err(error) => {
                    self.stuck = Some(batch);
                    return self.failed(&error);
                }
            }
        }
        self.tell_rest();
    }

    fn wrote(&mut self, entries: usize, took: Duration) {
        self.works();
        for waiting in self.held.drain(..entries.min(self.held.len())) {
            if let State::Open(store) = &mut self.state {
                store.wrote(&waiting.entry);
            }
            self.shared.written.store(waiting.entry.number, Ordering::Release);
            let mut inner = self.shared.inner.lock();
            inner.waiting = inner.waiting.saturating_sub(1);
            inner.bytes = inner.bytes.saturating_sub(waiting.bytes);
            drop(inner);
            match self.told.checked_sub(1) {
                Some(rest) => self.told = rest,
                None => self.shared.tell(&waiting.entry, waiting.promise, Kept::Durable),
            }
        }
        if let Some(metrics) = &self.shared.metrics {
            metrics.ledger_entries.inc_by(entries as u64);
            metrics.ledger_sync.observe(took.as_secs_f64());
            metrics.ledger_waiting.set(i64::try_from(self.held.len()).unwrap_or(i64::MAX));
        }
    }

    /// The disk does what it should.
    fn works(&mut self) {
        (self.retry_at, self.pause) = (None, RETRY.0);
        if self.shared.trouble.write().take().is_some() {
            tracing::info!("the ledger is durable");
        }
        if let Some(metrics) = &self.shared.metrics {
            metrics.ledger_durable.set(1);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.retry_at = Some(self.now + self.pause);
        self.pause = (self.pause * 2).min(RETRY.1);
        let first = self.not_durable(&error.to_string());
        if first {
            tracing::error!(%error, "the ledger cannot be written: entries stay in memory until it can");
        }
        self.tell_rest();
    }

    /// Says why entries are not durable; whether they were before.
    fn not_durable(&self, why: &str) -> bool {
        let before = self.shared.trouble.write().replace(why.into());
        if let Some(metrics) = &self.shared.metrics {
            metrics.ledger_durable.set(0);
            metrics.ledger_waiting.set(i64::try_from(self.held.len()).unwrap_or(i64::MAX));
        }
        before.is_none()
    }

    /// Tells everybody who waits that an entry is in memory.
    fn tell_rest(&mut self) {
        for waiting in self.held.iter_mut().skip(self.told) {
            self.shared.tell(&waiting.entry, waiting.promise.take(), Kept::InMemory);
        }
        self.told = self.held.len();
    }

    fn begin(&mut self, how: Opening, opened: &mpsc::Sender<bool>) {
        (self.state, self.retry_at, self.pause) = (State::Opening(how), None, RETRY.0);
        self.work();
        opened.send(matches!(self.state, State::Open(_))).ok();
    }

    fn open(&mut self, how: Opening) {
        let LedgerSettings { disk, bounds, segment_bytes, .. } = &self.settings;
        match Store::open(disk, *bounds, *segment_bytes) {
            Ok((store, book, recovered)) => {
                self.shared.written.store(book.last(), Ordering::Release);
                self.report(recovered);
                self.go_on_behind(book, how);
                self.state = State::Open(Box::new(store));
                (self.stuck, self.checkpointed) = (None, self.now);
                if recovered.index_anew || recovered.lost > 0 || recovered.read > CHECKPOINT_ENTRIES {
                    // The next start reads less.
                    self.checkpointed = self.now.checked_sub(CHECKPOINT_EVERY).unwrap_or(self.now);
                }
                if self.held.is_empty() {
                    self.works();
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn report(&self, recovered: Recovered) {
        let Recovered { lost, torn, index_anew, read } = recovered;
        tracing::info!(read, torn, "the ledger was opened");
        if lost > 0 {
            tracing::error!(
                lost,
                "entries of the ledger were damaged and are lost; `checkgate audit verify` says where"
            );
        }
        if let Some(metrics) = &self.shared.metrics {
            metrics.ledger_lost.inc_by(lost);
            metrics.ledger_index_anew.inc_by(u64::from(index_anew));
        }
    }

    /// Takes `book` for what happened so far; what happened in this process comes behind it.
    fn go_on_behind(&mut self, book: Book, how: Opening) {
        let reading = (self.settings.clock)();
        let now = reading.time;
        let carried = match (how, book.clock()) {
            (Opening::Afresh | Opening::TakenOver, Some(before)) => clock::carry(before, &reading),
            _ => Carried::default(),
        };
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.inner.lock();
        self.held.extend(inner.inbox.drain(..));
        inner.next = book.last() + 1;
        *self.shared.book.write() = book;
        if how != Opening::Again {
            let version = env!("CARGO_PKG_VERSION").into();
            let what = What::Started { version, clock: reading, carried };
            let bytes = bytes_of(&what);
            let entry = Arc::new(Entry { number: 0, time: now, by: By::itself(), what });
            // First of all: it says what becomes of times before it. Where others were told already, it is not.
            self.held.push_front(Waiting { entry, promise: None, bytes });
            self.told += usize::from(self.told > 0);
            inner.waiting += 1;
            inner.bytes += bytes;
        }
        self.number_anew(&mut inner);
        drop(inner);
        if how == Opening::Afresh {
            (self.shared.hooks.opened)(&self.shared.book.read(), now);
        }
    }

    fn number_anew(&mut self, inner: &mut Inner) {
        let mut book = self.shared.book.write();
        for waiting in &mut self.held {
            let number = inner.next;
            inner.next += 1;
            if waiting.entry.number != number {
                waiting.entry = Arc::new(Entry { number, ..(*waiting.entry).clone() });
            }
            book.take(&waiting.entry);
        }
        // What found no room before has no number in this log.
        inner.unwritten = None;
    }

    fn close(&mut self, why: &str) {
        self.retry_at = None;
        self.collect_rest();
        if !matches!(self.state, State::Closed) {
            self.work();
            self.checkpoint();
        }
        self.state = State::Closed;
        self.stuck = None;
        self.not_durable(why);
        self.tell_rest();
    }

    fn collect_rest(&mut self) {
        self.held.extend(self.shared.inner.lock().inbox.drain(..));
    }

    fn tidy(&mut self) {
        if let Some(metrics) = &self.shared.metrics {
            metrics.clock_ahead.set(clock::ahead_of_wall());
        }
        let State::Open(store) = &self.state else { return };
        if self.retry_at.is_some() {
            return;
        }
        let due = self.now.duration_since(self.checkpointed) >= CHECKPOINT_EVERY && store.behind() > 0;
        if due || store.behind() >= CHECKPOINT_ENTRIES {
            self.checkpoint();
        }
        if self.now.duration_since(self.reduced) >= REDUCE_EVERY {
            self.reduced = self.now;
            self.reduce();
        }
    }

    /// Brings the index up, if nothing waits to be written at this moment.
    fn checkpoint(&mut self) {
        let State::Open(store) = &mut self.state else { return };
        if store.behind() == 0 {
            return;
        }
        let inner = self.shared.inner.lock();
        if !inner.inbox.is_empty() || !self.held.is_empty() {
            return;
        }
        let gone = self.shared.book.write().take_gone();
        let changes = store.changes(&self.shared.book.read(), gone);
        drop(inner);
        self.checkpointed = self.now;
        if let Some(changes) = changes {
            store.checkpoint(changes);
        }
    }

    /// Takes out of the log what is older than it is kept for.
    fn reduce(&mut self) {
        let retention = self.settings.retention;
        let now = (self.settings.clock)().time;
        let before =
            |span: Duration| Time(now.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)));
        let since = (before(retention.decisions_for), before(retention.findings_for));
        self.shared.book.write().forget_before(since.0, since.1);
        self.checkpoint();
        let State::Open(store) = &mut self.state else { return };
        if !store.may_rewrite() {
            return;
        }
        let open = reduce::open_decisions(&self.shared.book.read(), now);
        let current = store.log().end().segment;
        match self.reducer.step(&*self.settings.disk, current, retention, &open, now) {
            Ok(Some(removal)) => {
                let kept = self.shared.note_of_book(now, By::itself(), |book| removal.entry(book));
                // Only once the entry that says so is on the disk, the file goes.
                if self.write_and_hear(kept) == Kept::Durable {
                    removal.remove(&*self.settings.disk).ok();
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the ledger could not be reduced"),
        }
    }

    fn erase(&mut self, client: Identity, by: By) -> Result<u64, EraseError> {
        self.collect_rest();
        self.work();
        let shared = Arc::clone(&self.shared);
        let trouble = || shared.trouble.read().as_deref().unwrap_or("it is busy").to_owned();
        match &mut self.state {
            State::Open(store) if self.retry_at.is_none() => store.log_mut().roll()?,
            _ => return Err(EraseError::NotDurable(trouble())),
        }
        self.checkpoint_anyhow();
        let State::Open(store) = &mut self.state else { return Err(EraseError::NotDurable(trouble())) };
        store.forget_index_unless_up()?;
        let entries = reduce::erase(&*self.settings.disk, store.log().end().segment, &client.to_string())?;
        self.reducer.forget();
        let now = (self.settings.clock)().time;
        let kept = self.shared.note(now, by, What::Erased { client, entries });
        let kept = self.write_and_hear(kept);
        // Freed pages of the index still hold what they held: it is made anew.
        self.checkpoint_anyhow();
        match kept {
            Kept::Durable => Ok(entries),
            Kept::InMemory => Err(EraseError::NotDurable(trouble())),
        }
    }

    fn write_and_hear(&mut self, kept: oneshot::Receiver<Kept>) -> Kept {
        self.collect_rest();
        self.work();
        kept.blocking_recv().unwrap_or(Kept::InMemory)
    }

    /// Brings the index up even if the disk is busy, by writing what waits first; a few times.
    fn checkpoint_anyhow(&mut self) {
        for _ in 0..8 {
            self.collect_rest();
            self.work();
            self.checkpoint();
            if matches!(&self.state, State::Open(store) if store.behind() == 0) {
                return;
            }
        }
    }
}
