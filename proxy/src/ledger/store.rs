//! Log and index together: opened, brought to one state, and written.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use checkgate_detectors::identity::Identity;

use super::book::{Book, Bounds, Standing};
use super::disk::{Disk, Held};
use super::entry::{By, Entry, What};
use super::index::{Changes, Index, IndexError, Meta};
use super::line::{self, Hash, SALT_BYTES};
use super::log::{self, Log, Place, Scan};
use super::reduce;
use crate::clock::Carried;

/// Entries behind the index from which on it is brought up.
pub const CHECKPOINT_ENTRIES: u64 = 4096;

/// What came to light when a store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Entries that were lost.
    pub lost: u64,
    /// Bytes of an entry that was being written when the process ended. Nobody was told that it was durable.
    pub torn: u64,
    /// The index was of no use, and made anew from the log.
    pub index_anew: bool,
    /// Entries that were read from the log.
    pub read: u64,
}

/// Lines that are to be written, with what they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Entries in it.
    pub entries: usize,
    bytes: Vec<u8>,
    last: u64,
    head: Hash,
}

/// The ledger on disk. Dropping it gives up the claim on its folder.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    log: Log,
    index: Option<Index>,
    /// The last entry that the index holds.
    indexed: u64,
    /// Where that ends in the log.
    indexed_to: Place,
    /// Decisions that changed since.
    touched: BTreeSet<DecisionId>,
    _claim: Box<dyn Held>,
}

impl Store {
    /// Opens the store and gives the book that it holds.
    ///
    /// # Errors
    /// The disk cannot, or another process holds the folder. Damage is no error.
    pub fn open(
        disk: &Arc<dyn Disk>,
        bounds: Bounds,
        segment_bytes: u64,
    ) -> io::Result<(Self, Book, Recovered)> {
        let claim = disk.claim()?;
        let mut recovered = Recovered::default();
        let index = Index::open(&**disk);
        let loaded = index
            .as_ref()
            .map_err(ToString::to_string)
            .and_then(|index| index.load(bounds).map_err(|error| error.to_string()));
        recovered.index_anew = loaded.is_err();
        if let Err(error) = &loaded {
            tracing::error!(error, "the index of the ledger cannot be used; it is made anew from the log");
        }
        let (mut book, mut scan, indexed, touched) = match loaded.unwrap_or_default() {
            Some((book, meta)) => behind_index(&**disk, book, &meta)?,
            None => from_log(&**disk, bounds)?,
        };
        book.skip(scan.last);
        // The copy of what is damaged is for people; the ledger does without.
        scan.set_aside(&**disk).ok();
        (recovered.lost, recovered.torn, recovered.read) = (scan.lost(), scan.torn, scan.lines);
        let log = Log::open(disk, &scan, segment_bytes)?;
        book.take_gone();
        let index = index.ok().filter(|_| !recovered.index_anew);
        if index.is_none() {
            // Where it cannot be put aside, it is removed with the next one.
            Index::put_aside(&**disk).ok();
        }
        let disk = Arc::clone(disk);
        let indexed_to = Place::default();
        let mut store = Self { disk, log, index, indexed, indexed_to, touched, _claim: claim };
        if store.behind() == 0 && scan.lines == 0 && recovered.lost > 0 {
            // The index alone knows of what the log lost: it has to know where the log goes on before anything is
            // written there.
            let checkpoint = store.changes(&book, Vec::new()).ok_or(io::ErrorKind::InvalidData)?;
            store.save(checkpoint).map_err(io::Error::other)?;
        }
        Ok((store, book, recovered))
    }

    /// The lines of `entries`, which follow the last that was written.
    #[must_use]
    pub fn batch<'a>(&self, entries: impl Iterator<Item = &'a Arc<Entry>>, bytes_max: usize) -> Batch {
        let (last, head) = self.log.last();
        let mut batch = Batch { entries: 0, bytes: Vec::new(), last, head };
        for entry in entries {
            let mut salt = [0; SALT_BYTES];
            // Without randomness an erased body could be guessed at; its digest is no more than that.
            getrandom::fill(&mut salt).ok();
            if let Ok((line, head)) = line::write(entry, batch.head, salt) {
                batch.bytes.extend_from_slice(&line);
                (batch.last, batch.head) = (entry.number, head);
            }
            batch.entries += 1;
            if batch.bytes.len() >= bytes_max {
                break;
            }
        }
        batch
    }

    /// Writes and syncs a batch.
    ///
    /// # Errors
    /// The disk cannot; the same batch is to be written again.
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.log.append(&batch.bytes, batch.last, batch.head)
    }

    /// Remembers what an entry that was written changes in the index.
    pub fn wrote(&mut self, entry: &Entry) {
        self.touched.extend(entry.what.decision());
        if changes_many(&entry.what) {
            self.indexed = 0;
        }
    }

    /// Entries that are in the log and not in the index.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.log.last().0.saturating_sub(self.indexed)
    }

    /// What the index has to be told, besides decisions that are `gone`; nothing where `book` is not the sum of
    /// exactly the entries that were written.
    #[must_use]
    pub fn changes(&mut self, book: &Book, gone: Vec<DecisionId>) -> Option<Checkpoint> {
        self.touched.extend(gone);
        let (last, head) = self.log.last();
        let anew = self.indexed == 0 || self.index.is_none();
        let changes =
            || if anew { Changes::all(book) } else { Changes::of(book, &self.touched, self.indexed) };
        (book.last() == last).then(|| Checkpoint {
            changes: changes(),
            standing: book.standing(),
            head,
            end: self.log.end(),
            anew,
        })
    }

    /// Writes the index. Returns whether that worked; if not, everything is written anew the next time.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint) -> bool {
        match self.save(checkpoint) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the index of the ledger cannot be written; it will be made anew");
                self.index = None;
                false
            }
        }
    }

    fn save(&mut self, checkpoint: Checkpoint) -> Result<(), IndexError> {
        let last = checkpoint.standing.last;
        let stand = (checkpoint.head, checkpoint.end);
        if checkpoint.anew {
            // The one that there is stays until this one is complete.
            let index = Index::begin_anew(&*self.disk)?;
            index.save(&checkpoint.changes, checkpoint.standing, stand)?;
            Index::take_place(&*self.disk)?;
            self.index = Some(index);
        } else {
            let index = self.index.as_ref().ok_or(IndexError::Damaged)?;
            index.save(&checkpoint.changes, checkpoint.standing, stand)?;
        }
        (self.indexed, self.indexed_to) = (last, checkpoint.end);
        self.touched.clear();
        Ok(())
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The log, to begin another file.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Whether complete files of the log may be replaced: the index does not stand inside of one.
    #[must_use]
    pub fn may_rewrite(&self) -> bool {
        self.behind() == 0 && self.index.is_some() && self.indexed_to.segment == self.log.end().segment
    }

    /// Removes an index that stands inside of a complete file of the log.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn forget_index_unless_up(&mut self) -> io::Result<()> {
        if self.may_rewrite() {
            return Ok(());
        }
        (self.index, self.indexed) = (None, 0);
        Index::remove(&*self.disk)
    }
}

/// Takes out everything about `client` in a store that no process has open, and says out of how many entries.
///
/// # Errors
/// The disk cannot, or a process has it open.
pub fn erase_at_rest(disk: &Arc<dyn Disk>, client: Identity, by: By, now: Time) -> io::Result<u64> {
    let (mut store, mut book, _) = Store::open(disk, Bounds::default(), log::SEGMENT_BYTES)?;
    store.log.roll()?;
    store.forget_index_unless_up()?;
    let entries = reduce::erase(&**disk, store.log.end().segment, &client.to_string())?;
    let what = What::Erased { client, entries };
    let entry = Arc::new(Entry { number: store.log.last().0 + 1, time: now, by, what });
    let batch = store.batch([&entry].into_iter(), usize::MAX);
    store.write(&batch)?;
    book.take(&entry);
    store.wrote(&entry);
    if let Some(checkpoint) = store.changes(&book, Vec::new()) {
        store.checkpoint(checkpoint);
    }
    Ok(entries)
}

/// What is to be written to the index.
#[derive(Debug)]
pub struct Checkpoint {
    changes: Changes,
    standing: Standing,
    head: Hash,
    end: Place,
    anew: bool,
}

/// The book and the reader behind the last line, how far the index goes, and what changed since.
type Opened = (Book, Scan, u64, BTreeSet<DecisionId>);

/// Whether it changes decisions without naming them.
fn changes_many(what: &What) -> bool {
    match what {
        What::Started { carried, .. } => *carried != Carried::default(),
        What::Erased { .. } => true,
        _ => false,
    }
}

fn from_log(disk: &dyn Disk, bounds: Bounds) -> io::Result<Opened> {
    let (mut book, mut scan) = (Book::new(bounds), Scan::default());
    scan.read(disk, Place::default(), &mut |line, _| line.entry.iter().for_each(|entry| book.take(entry)))?;
    Ok((book, scan, 0, BTreeSet::new()))
}

/// The book of the index and what the log holds behind it. Where the log ends before, it lost entries that the index
/// still has the sum of.
fn behind_index(disk: &dyn Disk, mut book: Book, meta: &Meta) -> io::Result<Opened> {
    let (mut scan, mut touched) = (Scan::behind(book.last(), meta.head), BTreeSet::new());
    let mut indexed = book.last();
    if reaches(disk, meta.end)? {
        scan.read(disk, meta.end, &mut |line, _| {
            let Some(entry) = &line.entry else { return };
            book.take(entry);
            touched.extend(entry.what.decision());
            if changes_many(&entry.what) {
                indexed = 0;
            }
        })?;
        return Ok((book, scan, indexed, touched));
    }
    let mut left = Scan::default();
    left.read(disk, Place::default(), &mut |_, _| {})?;
    if left.last >= scan.last {
        // Lines stand elsewhere than they did: the log alone says what is.
        return from_log(disk, book.bounds());
    }
    scan.lost_behind(left.last);
    Ok((book, scan, indexed, touched))
}

fn reaches(disk: &dyn Disk, end: Place) -> io::Result<bool> {
    match disk.open(&log::segment_name(end.segment), false) {
        Ok(file) if end.offset == 0 => file.length().map(|_| true),
        Ok(file) => {
            let mut before = [0];
            let read = file.read_at(end.offset - 1, &mut before)?;
            Ok(read == 1 && before == *b"\n")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(end == Place::default()),
        Err(error) => Err(error),
    }
}
