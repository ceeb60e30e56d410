//! The index: what the entries add up to, on disk, so that a start reads the end of the log and not all of it.
//!
//! It lies in a redb file and is only ever a copy: it may be behind the log, and whatever is wrong with it, it is put
//! aside and made anew. Values verify themselves; redb verifies its pages when it opens.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use checkgate_detectors::finding::DecisionId;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::book::{Book, Bounds, Found, Standing};
use super::disk::{self, Disk, DiskFile};
use super::entry::Decided;
use super::line::Hash;
use super::log::Place;

/// Its file.
pub const NAME: &str = "index.redb";
/// What a file that could not be used is renamed to; the last one is kept.
pub const ASIDE: &str = "index.redb.damaged";
/// Where one that is made anew stands until it is complete.
const DRAFT: &str = "index.draft";
/// Bytes of pages that redb keeps in memory.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
const FORMAT: u32 = 1;
const META_KEY: &str = "meta";

const DECISIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("decisions");
const FINDINGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("findings");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Why the index is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// redb cannot.
    #[error("{0}")]
    Redb(#[from] Box<redb::Error>),
    /// The disk cannot.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// A value does not verify, or is missing.
    #[error("a value of the index is damaged")]
    Damaged,
    /// redb panicked.
    #[error("the index made its library panic")]
    Panicked,
}

macro_rules! from_redb {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for IndexError {
            fn from(error: redb::$error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        })+
    };
}

from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError);

/// Where the index stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    format: u32,
    /// The hash of the last entry that it holds; its number is in `standing`.
    pub head: Hash,
    /// Where that ends in the log.
    pub end: Place,
    /// What there is besides decisions and findings.
    pub standing: Standing,
    decisions: u64,
    findings: u64,
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Changes {
    /// Decisions as they are now, with the numbers of their entries.
    pub decisions: Vec<(u64, Decided)>,
    /// Decisions that are no longer remembered.
    pub gone: Vec<DecisionId>,
    /// Findings that are new.
    pub findings: Vec<Found>,
    /// Findings before this number are no longer remembered.
    pub findings_from: u64,
}

/// The index.
#[derive(Debug)]
pub struct Index {
    database: Option<Database>,
}

impl Index {
    /// Opens the index, or makes an empty one.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(disk: &dyn Disk) -> Result<Self, IndexError> {
        Self::open_as(disk, NAME)
    }

    fn open_as(disk: &dyn Disk, name: &str) -> Result<Self, IndexError> {
        let file = disk.open(name, true)?;
        guarded(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
            Ok(Self { database: Some(builder.create_with_backend(Backend(file))?) })
        })
    }

    /// Puts a file that cannot be used aside, for whoever wants to know why.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn put_aside(disk: &dyn Disk) -> io::Result<()> {
        disk.rename(NAME, ASIDE)
    }

    /// Begins an empty index beside the one that there is; [`Index::take_place`] puts it there.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn begin_anew(disk: &dyn Disk) -> Result<Self, IndexError> {
        // What is left of a try that failed may be anything.
        disk.open(DRAFT, true)?.set_length(0)?;
        Self::open_as(disk, DRAFT)
    }

    /// Puts an index that was begun anew, and has been written, in its place.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn take_place(disk: &dyn Disk) -> io::Result<()> {
        disk.rename(DRAFT, NAME)?;
        disk.sync_names()
    }

    /// Removes the index.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn remove(disk: &dyn Disk) -> io::Result<()> {
        match disk.remove(NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => disk.sync_names(),
        }
    }

    /// The book that it holds, and how far that goes; nothing where nothing was ever written.
    ///
    /// # Errors
    /// It is damaged, or the disk cannot read.
    pub fn load(&self, bounds: Bounds) -> Result<Option<(Book, Meta)>, IndexError> {
        guarded(|| {
            let reading = self.database()?.begin_read()?;
            let meta: Meta = match reading.open_table(META) {
                Ok(table) => match table.get(META_KEY)? {
                    Some(value) => unsealed(value.value())?,
                    None => return Ok(None),
                },
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let mut decisions: Vec<(u64, Decided)> = Vec::new();
            for row in reading.open_table(DECISIONS)?.iter()? {
                decisions.push(unsealed(row?.1.value())?);
            }
            let mut findings: Vec<Found> = Vec::new();
            for row in reading.open_table(FINDINGS)?.iter()? {
                findings.push(unsealed(row?.1.value())?);
            }
            let counts = (decisions.len() as u64, findings.len() as u64);
            if meta.format != FORMAT || counts != (meta.decisions, meta.findings) {
                return Err(IndexError::Damaged);
            }
            decisions.sort_unstable_by_key(|(number, _)| *number);
            let standing = meta.standing.clone();
            Ok(Some((Book::of(bounds, standing, decisions, findings), meta)))
        })
    }

    /// Writes what changed, all of it or nothing.
    ///
    /// # Errors
    /// The disk cannot. The index is then to be begun anew.
    pub fn save(
        &self,
        changes: &Changes,
        standing: Standing,
        (head, end): (Hash, Place),
    ) -> Result<(), IndexError> {
        guarded(|| {
            let writing = self.database()?.begin_write()?;
            {
                let mut decisions = writing.open_table(DECISIONS)?;
                for id in &changes.gone {
                    decisions.remove(id.0)?;
                }
                for numbered in &changes.decisions {
                    decisions.insert(numbered.1.id.0, sealed(numbered)?.as_slice())?;
                }
                let mut findings = writing.open_table(FINDINGS)?;
                for found in &changes.findings {
                    findings.insert(found.number, sealed(found)?.as_slice())?;
                }
                findings.retain(|number, _| number >= changes.findings_from)?;
                let meta = Meta {
                    format: FORMAT,
                    head,
                    end,
                    standing,
                    decisions: redb::ReadableTableMetadata::len(&decisions)?,
                    findings: redb::ReadableTableMetadata::len(&findings)?,
                };
                writing.open_table(META)?.insert(META_KEY, sealed(&meta)?.as_slice())?;
            }
            Ok(writing.commit()?)
        })
    }

    fn database(&self) -> Result<&Database, IndexError> {
        self.database.as_ref().ok_or(IndexError::Damaged)
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let database = self.database.take();
        // What is not closed properly is checked when it is opened.
        guarded(|| {
            drop(database);
            Ok(())
        })
        .ok();
    }
}

impl Changes {
    /// Everything that a book holds.
    #[must_use]
    pub fn all(book: &Book) -> Self {
        Self {
            decisions: book.decisions(None).map(|(number, decided)| (number, decided.clone())).collect(),
            findings: book.findings(None).cloned().collect(),
            ..Self::default()
        }
    }

    /// What a book holds of `touched` decisions, and its findings from `since` on.
    #[must_use]
    pub fn of(book: &Book, touched: &BTreeSet<DecisionId>, since: u64) -> Self {
        let held = touched.iter().filter_map(|id| book.numbered(*id));
        Self {
            decisions: held.map(|(number, decided)| (number, decided.clone())).collect(),
            gone: touched.iter().copied().filter(|id| book.decision(*id).is_none()).collect(),
            findings: book.findings(None).take_while(|found| found.number >= since).cloned().collect(),
            findings_from: book.findings(None).last().map_or(0, |found| found.number),
        }
    }
}

/// What redb reads and writes through.
#[derive(Debug)]
struct Backend(Arc<dyn DiskFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        disk::read_exactly(&*self.0, offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        disk::write_all(&*self.0, offset, data)
    }
}

/// A damaged file may make redb panic; that is no more than a damaged file.
fn guarded<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(IndexError::Panicked))
}

/// A value as JSON behind its checksum.
fn sealed(value: &impl Serialize) -> Result<Vec<u8>, IndexError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value).map_err(|_| IndexError::Damaged)?;
    if let Some((sum, json)) = bytes.split_first_chunk_mut::<4>() {
        *sum = crc32fast::hash(json).to_le_bytes();
    }
    Ok(bytes)
}

fn unsealed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, IndexError> {
    let (sum, json) = bytes.split_first_chunk::<4>().ok_or(IndexError::Damaged)?;
    if crc32fast::hash(json).to_le_bytes() != *sum {
        return Err(IndexError::Damaged);
    }
    serde_json::from_slice(json).map_err(|_| IndexError::Damaged)
}
