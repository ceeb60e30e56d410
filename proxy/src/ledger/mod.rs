//! The ledger: what was found and decided, at whose word, and what became of it.
//!
//! Whoever has something to remember hands it over with [`Ledger::note`] and goes on; nothing waits for a disk unless
//! it asks the [`Ticket`]. What the entries add up to is the [`Book`].

pub mod book;
pub mod entry;

use std::sync::Arc;

use checkgate_detectors::facts::Time;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::{broadcast, oneshot};

use self::book::{Book, Bounds};
use self::entry::{By, Entry, What};

/// Entries that a listener may lag behind before it loses the oldest.
const LISTENERS_LAG_MAX: usize = 4096;

/// Everything that happened, as the threads of this process share it.
#[derive(Debug)]
pub struct Ledger {
    book: RwLock<Book>,
    heard: broadcast::Sender<Arc<Entry>>,
    next: parking_lot::Mutex<u64>,
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

    /// The same for a thread that may block.
    #[must_use]
    pub fn wait(self) -> Kept {
        self.0.blocking_recv().unwrap_or(Kept::InMemory)
    }
}

impl Ledger {
    /// A ledger that a restart forgets.
    #[must_use]
    pub fn in_memory(bounds: Bounds) -> Self {
        Self {
            book: RwLock::new(Book::new(bounds)),
            heard: broadcast::Sender::new(LISTENERS_LAG_MAX),
            next: parking_lot::Mutex::new(1),
        }
    }

    /// Takes what happened. Never waits for a disk.
    pub fn note(&self, time: Time, by: By, what: What) -> Ticket {
        let (promise, ticket) = oneshot::channel();
        let mut next = self.next.lock();
        let entry = Arc::new(Entry { number: *next, time, by, what });
        *next += 1;
        self.book.write().take(&entry);
        // Nobody may be listening.
        self.heard.send(entry).ok();
        drop(next);
        promise.send(Kept::InMemory).ok();
        Ticket(ticket)
    }

    /// What the entries add up to. Hold it for a moment only: what happens meanwhile waits.
    pub fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read()
    }

    /// Hears every entry from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.heard.subscribe()
    }
}
