//! The ledger: what was found and decided, at whose word, and what became of it.
//!
//! Whoever has something to remember hands it over with [`Ledger::note`] and goes on; nothing waits for a disk unless
//! it asks the [`Ticket`]. What the entries add up to is the [`Book`], which knows of an entry at once. One thread
//! ([`writer`]) writes entries to the log and syncs them, and only then are tickets answered, listeners told, and
//! records printed. While the disk fails, all of that happens at once, and entries wait in memory to be written.

pub mod book;
pub mod disk;
pub mod entry;
pub mod index;
pub mod line;
pub mod log;
pub mod reduce;
pub mod store;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use checkgate_detectors::facts::Time;
use checkgate_detectors::identity::Identity;
use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{broadcast, oneshot};

use self::book::{Book, Bounds};
use self::disk::Disk;
use self::entry::{By, Entry, What};
use self::reduce::Retention;
pub(crate) use self::writer::Writer;
use crate::clock::Reading;
use crate::metrics::Metrics;

/// Entries that a listener may lag behind before it loses the oldest.
const LISTENERS_LAG_MAX: usize = 4096;
/// Entries that wait for the disk, or for it to work again.
const WAITING_MAX: usize = 65_536;
/// Bytes of theirs.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an entry besides its texts.
const ENTRY_BYTES: usize = 320;

/// Everything that happened, as the threads of this process share it.
#[derive(Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Where an entry ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// On the disk, synced.
    Durable,
    /// In memory only; the ledger's health says why.
    InMemory,
}

/// The promise to say where an entry ended up.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Kept>);

impl Ticket {
    /// Waits until the entry is synced, or is known to stay in memory only.
    pub async fn kept(self) -> Kept {
        self.0.await.unwrap_or(Kept::InMemory)
    }

    /// Where the entry ended up, if that is known by now.
    #[cfg(test)]
    pub(crate) fn told(&mut self) -> Option<Kept> {
        self.0.try_recv().ok()
    }

    /// The same for a thread that may block.
    #[must_use]
    pub fn wait(self) -> Kept {
        self.0.blocking_recv().unwrap_or(Kept::InMemory)
    }
}

/// How a ledger is set up.
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// The folder that it stands in.
    pub disk: Arc<dyn Disk>,
    /// How much the book remembers.
    pub bounds: Bounds,
    /// Bytes of one file of the log.
    pub segment_bytes: u64,
    /// How long what is kept.
    pub retention: Retention,
    /// Reads the clocks.
    pub clock: fn() -> Reading,
}

/// Hears an entry.
type Told = Box<dyn Fn(&Entry) + Send + Sync>;
/// Hears what a book holds at a moment.
type Opened = Box<dyn Fn(&Book, Time) + Send + Sync>;

/// Whom the ledger tells, on its own thread.
pub struct Hooks {
    /// Hears each entry once, when it is synced or known to stay in memory.
    pub told: Told,
    /// Hears what an earlier process left behind, once it is known. Nobody else changes the book meanwhile.
    pub opened: Opened,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// Whose memory the process goes on with when it opens the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// That of an earlier process; what was in force has to be put into force.
    Afresh,
    /// That of the process that it took over from; what is in force is in force already.
    TakenOver,
    /// Its own: it had closed the log for another process that did not take it.
    Again,
}

/// Why a client could not be erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The log is not open: the disk fails, or another process has it.
    #[error("the ledger cannot be written now: {0}")]
    NotDurable(String),
    /// The disk failed on the way; what was erased so far stays erased, and the rest can be asked for again.
    #[error("not everything could be erased: {0}")]
    Disk(#[from] io::Error),
}

/// An entry on its way to the disk.
#[derive(Debug)]
struct Waiting {
    entry: Arc<Entry>,
    promise: Option<oneshot::Sender<Kept>>,
    bytes: usize,
}

#[derive(Debug)]
enum Order {
    Open { how: Opening, opened: mpsc::Sender<bool> },
    Close { closed: mpsc::Sender<()> },
    Erase { client: Identity, by: By, erased: oneshot::Sender<Result<u64, EraseError>> },
    Retain(Retention),
    Stop,
}

#[derive(Debug)]
struct Inner {
    /// The number of the next entry.
    next: u64,
    inbox: VecDeque<Waiting>,
    /// Entries that are not written, and their bytes: those of the inbox and those that the writer holds.
    waiting: usize,
    bytes: usize,
    orders: VecDeque<Order>,
    /// Entries that found no room since the last that did.
    unwritten: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    wake: Condvar,
    book: RwLock<Book>,
    heard: broadcast::Sender<Arc<Entry>>,
    /// The number of the last entry on the disk.
    written: AtomicU64,
    /// Why entries are not durable now.
    trouble: RwLock<Option<Arc<str>>>,
    hooks: Hooks,
    metrics: Option<Arc<Metrics>>,
    has_writer: bool,
}

impl Ledger {
    /// A ledger that a restart forgets.
    #[cfg(test)]
    pub fn in_memory(bounds: Bounds) -> Self {
        let hooks = Hooks { told: Box::new(|_| {}), opened: Box::new(|_, _| {}) };
        let shared = Shared::new(bounds, hooks, None, false);
        Self { shared: Arc::new(shared), writer: Mutex::default() }
    }

    /// A ledger on disk, with its thread. Until [`Ledger::open`] it is in memory.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(settings: LedgerSettings, hooks: Hooks, metrics: Option<Arc<Metrics>>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(settings.bounds, hooks, metrics, true));
        let writer = Writer::new(Arc::clone(&shared), settings, Instant::now());
        let writer = thread::Builder::new().name("ledger".into()).spawn(move || writer.run())?;
        Ok(Self { shared, writer: Mutex::new(Some(writer)) })
    }

    /// A ledger on disk whose writer takes its turns when a test says so.
    #[cfg(test)]
    pub(crate) fn by_turns(settings: LedgerSettings, hooks: Hooks, now: Instant) -> (Self, Writer) {
        let shared = Arc::new(Shared::new(settings.bounds, hooks, None, true));
        let writer = Writer::new(Arc::clone(&shared), settings, now);
        (Self { shared, writer: Mutex::default() }, writer)
    }

    /// Asks for the log to be opened, or closed with the writer's next turn.
    #[cfg(test)]
    pub(crate) fn ask(&self, open: Option<Opening>) {
        let order = match open {
            Some(how) => Order::Open { how, opened: mpsc::channel().0 },
            None => Order::Close { closed: mpsc::channel().0 },
        };
        self.shared.order(order);
    }

    /// Opens the log, and says whether that worked at once. If not, the ledger goes on in memory and tries again by
    /// itself.
    pub fn open(&self, how: Opening) -> bool {
        let (opened, answer) = mpsc::channel();
        self.shared.order(Order::Open { how, opened });
        answer.recv().unwrap_or(false)
    }

    /// Writes what waits and closes the log, so that another process can open it. What is noted afterwards stays in
    /// memory.
    pub fn close(&self) {
        let (closed, answer) = mpsc::channel();
        self.shared.order(Order::Close { closed });
        answer.recv().ok();
    }

    /// Writes what waits, closes the log and ends the thread.
    pub fn stop(&self) {
        self.shared.order(Order::Stop);
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the thread of the ledger panicked");
        }
    }

    /// Takes what happened. Never waits for a disk.
    pub fn note(&self, time: Time, by: By, what: What) -> Ticket {
        Ticket(self.shared.note(time, by, what))
    }

    /// Takes out everything that is known about a client, in the log and in memory. Whoever asks has to lift the
    /// client's decisions before, where they are not to act on.
    pub fn erase(&self, client: Identity, by: By) -> oneshot::Receiver<Result<u64, EraseError>> {
        let (erased, answer) = oneshot::channel();
        self.shared.order(Order::Erase { client, by, erased });
        answer
    }

    /// Keeps what is kept for as long as this says from now on.
    pub fn retain(&self, retention: Retention) {
        self.shared.order(Order::Retain(retention));
    }

    /// What the entries add up to. Hold it for a moment only: what happens meanwhile waits.
    pub fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.shared.book.read()
    }

    /// Hears every entry from now on, once it is synced or known to stay in memory.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.shared.heard.subscribe()
    }

    /// The number of the last entry on the disk; 0 until the log was opened.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.written.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Whether entry `number` is on the disk.
    #[cfg(test)]
    pub fn is_durable(&self, number: u64) -> bool {
        number <= self.written()
    }

    /// Why entries are not durable now; nothing while they are.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.shared.trouble.read().clone()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn new(bounds: Bounds, hooks: Hooks, metrics: Option<Arc<Metrics>>, has_writer: bool) -> Self {
        let inner = Inner {
            next: 1,
            inbox: VecDeque::new(),
            waiting: 0,
            bytes: 0,
            orders: VecDeque::new(),
            unwritten: None,
        };
        Self {
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            book: RwLock::new(Book::new(bounds)),
            heard: broadcast::Sender::new(LISTENERS_LAG_MAX),
            written: AtomicU64::new(0),
            trouble: RwLock::new(Some("the log was not opened".into())),
            hooks,
            metrics,
            has_writer,
        }
    }

    fn order(&self, order: Order) {
        if self.has_writer {
            self.inner.lock().orders.push_back(order);
            self.wake.notify_one();
        }
    }

    fn note(&self, time: Time, by: By, what: What) -> oneshot::Receiver<Kept> {
        let (promise, kept) = oneshot::channel();
        let mut inner = self.inner.lock();
        let bytes = bytes_of(&what);
        let fits = self.has_writer && inner.has_room(bytes);
        if fits && let Some((first, last)) = inner.unwritten.take() {
            let what = What::Unwritten { first, last };
            self.number(&mut inner, time, By::itself(), what, None);
        }
        if fits {
            self.number(&mut inner, time, by, what, Some(promise));
            drop(inner);
            self.wake.notify_one();
            return kept;
        }
        let entry = self.entry(&mut inner, time, by, what);
        if self.has_writer {
            let first = inner.unwritten.map_or(entry.number, |(first, _)| first);
            inner.unwritten = Some((first, entry.number));
        }
        drop(inner);
        if let Some(metrics) = self.metrics.as_ref().filter(|_| self.has_writer) {
            metrics.ledger_unwritten.inc();
        }
        self.tell(&entry, Some(promise), Kept::InMemory);
        kept
    }

    /// The same for what depends on the sum of all that was taken before.
    fn note_of_book(&self, time: Time, by: By, what: impl FnOnce(&Book) -> What) -> oneshot::Receiver<Kept> {
        let (promise, kept) = oneshot::channel();
        let mut inner = self.inner.lock();
        let what = what(&self.book.read());
        self.number(&mut inner, time, by, what, Some(promise));
        kept
    }

    /// Gives an entry its number and puts it into the inbox.
    fn number(
        &self,
        inner: &mut Inner,
        time: Time,
        by: By,
        what: What,
        promise: Option<oneshot::Sender<Kept>>,
    ) {
        let bytes = bytes_of(&what);
        let entry = self.entry(inner, time, by, what);
        inner.waiting += 1;
        inner.bytes += bytes;
        inner.inbox.push_back(Waiting { entry, promise, bytes });
    }

    fn entry(&self, inner: &mut Inner, time: Time, by: By, what: What) -> Arc<Entry> {
        let entry = Arc::new(Entry { number: inner.next, time, by, what });
        inner.next += 1;
        self.book.write().take(&entry);
        entry
    }

    fn tell(&self, entry: &Arc<Entry>, promise: Option<oneshot::Sender<Kept>>, kept: Kept) {
        if let Some(promise) = promise {
            // Whoever asked may have gone.
            promise.send(kept).ok();
        }
        // Nobody may be listening.
        self.heard.send(Arc::clone(entry)).ok();
        (self.hooks.told)(entry);
    }
}

impl Inner {
    fn has_room(&self, bytes: usize) -> bool {
        self.waiting < WAITING_MAX && self.bytes.saturating_add(bytes) <= WAITING_BYTES_MAX
    }
}

fn bytes_of(what: &What) -> usize {
    let texts = match what {
        What::Finding { record } | What::Drift { record } => record.len(),
        What::Decision(decided) => decided.evidence.len(),
        What::NeverBlock { added, removed } => 32 * (added.len() + removed.len()),
        What::Configuration { refused, .. } => refused.as_ref().map_or(0, |text| text.len()),
        _ => 0,
    };
    ENTRY_BYTES + texts
}

#[cfg(test)]
mod tests;
