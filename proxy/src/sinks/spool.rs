//! Reads the ledger's log from a position on: what a sink has not delivered yet.
//!
//! The log belongs to the ledger's writer. Files roll, the oldest are removed, and an erasure puts a shorter file in the
//! place of one; so a place in a file is only a hint, which is believed where exactly the next entry stands there. What
//! counts is the entry's number.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ledger::disk::{self, Disk, DiskFile};
use crate::ledger::entry::Entry;
use crate::ledger::line::{self, Broken, Hash};
use crate::ledger::log::{self, Place};

/// Bytes that are read at once, where a line is not longer.
const CHUNK_BYTES: usize = 256 * 1024;

/// A position behind an entry of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// The number of the entry; 0 before the first.
    pub number: u64,
    /// The hash of its line.
    pub hash: Hash,
    /// Where the next line was to stand.
    pub place: Place,
}

/// What the reader met behind a position.
#[derive(Clone, Debug, PartialEq)]
pub enum Met {
    /// An entry; `behind` are the bytes of the log behind its line.
    Entry {
        /// The entry.
        entry: Box<Entry>,
        /// Bytes.
        behind: u64,
    },
    /// An entry whose content was erased, or is older than it is kept for.
    Erased {
        /// What kind of thing it was.
        kind: String,
    },
    /// An entry whose content is damaged.
    Damaged,
    /// Entries that were removed before anybody read them here.
    Removed {
        /// How many.
        entries: u64,
    },
    /// Entries that are in no file: their lines are damaged, or they found no room while the disk failed.
    Missing {
        /// How many.
        entries: u64,
    },
}

/// What was met, and the position behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// What was met.
    pub met: Met,
    /// The position behind it.
    pub stand: Stand,
}

/// Reads the log in a folder.
#[derive(Clone, Debug)]
pub struct Spool {
    disk: Arc<dyn Disk>,
}

impl Spool {
    /// The log in `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// What stands behind `from`, up to entry `up_to`, until about `bytes_max` bytes are read. Nothing where there is
    /// nothing new.
    ///
    /// # Errors
    /// The disk cannot read.
    pub fn read(&self, from: Stand, up_to: u64, bytes_max: usize) -> io::Result<Vec<Piece>> {
        if from.number >= up_to {
            return Ok(Vec::new());
        }
        let segments = log::segments(&*self.disk)?;
        let mut walk = Walk { from, up_to, bytes_max, pieces: Vec::new(), first_of_all: false };
        if self.follow_hint(&segments, &mut walk)? {
            return Ok(walk.pieces);
        }
        walk.first_of_all = true;
        let mut begin = segments.first().copied();
        for segment in segments.iter().rev() {
            let first = self.first_number(*segment)?;
            if first.is_some_and(|first| first <= from.number.saturating_add(1)) {
                walk.first_of_all = segments.first() == Some(segment);
                begin = Some(*segment);
                break;
            }
        }
        if let Some(segment) = begin {
            self.walk(&segments, Place { segment, offset: 0 }, &mut walk)?;
        }
        Ok(walk.pieces)
    }

    /// Whether the log holds the very entry that `stand` is behind, or may have held it: not where it was begun anew.
    ///
    /// # Errors
    /// The disk cannot read.
    pub fn knows(&self, stand: Stand, last: u64) -> io::Result<bool> {
        if stand.number == 0 || stand.number > last {
            return Ok(stand.number == 0);
        }
        if stand.hash == Hash::default() {
            // Nobody knew the line when the position was taken.
            return Ok(true);
        }
        let before = Stand { number: stand.number - 1, ..Stand::default() };
        let met = self.read(before, stand.number, 1)?;
        let same = met.iter().find(|piece| piece.stand.number == stand.number);
        // What was removed or damaged cannot be compared.
        Ok(same.is_none_or(|piece| match piece.met {
            Met::Entry { .. } | Met::Erased { .. } => piece.stand.hash == stand.hash,
            Met::Damaged | Met::Removed { .. } | Met::Missing { .. } => true,
        }))
    }

    /// The position behind entry `number`, whose line is not known where it is in no file.
    ///
    /// # Errors
    /// The disk cannot read.
    pub fn behind(&self, number: u64) -> io::Result<Stand> {
        let unknown = Stand { number, ..Stand::default() };
        let before = Stand { number: number.saturating_sub(1), ..Stand::default() };
        let met = self.read(before, number, 1)?;
        Ok(met.last().map_or(unknown, |piece| piece.stand))
    }

    /// Bytes of the log behind `place`.
    ///
    /// # Errors
    /// The disk cannot say.
    pub fn bytes_behind(&self, place: Place) -> io::Result<u64> {
        let mut bytes = 0;
        for segment in log::segments(&*self.disk)?.into_iter().filter(|segment| *segment >= place.segment) {
            let length = self.open(segment)?.map_or(Ok(0), |file| file.length())?;
            bytes += if segment == place.segment { length.saturating_sub(place.offset) } else { length };
        }
        Ok(bytes)
    }

    /// Goes on where the last read ended, if exactly the next entry stands there.
    fn follow_hint(&self, segments: &[u32], walk: &mut Walk) -> io::Result<bool> {
        let place = walk.from.place;
        let Some(file) = self.open(place.segment)? else { return Ok(false) };
        let length = file.length()?;
        let next = match length.checked_sub(place.offset) {
            None => return Ok(false),
            Some(0) => {
                let later = segments.iter().find(|segment| **segment > place.segment);
                let Some(segment) = later else { return Ok(false) };
                Place { segment: *segment, offset: 0 }
            }
            Some(_) => place,
        };
        let Some(file) = self.open(next.segment)? else { return Ok(false) };
        let chunk = whole_lines(&*file, next.offset, CHUNK_BYTES)?;
        let first = chunk.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let number = number_of(first);
        if number != Some(walk.from.number + 1) {
            return Ok(false);
        }
        self.walk(segments, next, walk)?;
        Ok(true)
    }

    fn walk(&self, segments: &[u32], from: Place, walk: &mut Walk) -> io::Result<()> {
        let mut behind = self.bytes_behind(from)?;
        let mut read = 0;
        for segment in segments.iter().copied().filter(|segment| *segment >= from.segment) {
            let mut offset = if segment == from.segment { from.offset } else { 0 };
            // One that was removed meanwhile is seen as a gap next time.
            let Some(file) = self.open(segment)? else { continue };
            loop {
                let chunk = whole_lines(&*file, offset, CHUNK_BYTES)?;
                if chunk.is_empty() {
                    break;
                }
                for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                    offset += piece.len() as u64;
                    behind = behind.saturating_sub(piece.len() as u64);
                    let place = Place { segment, offset };
                    if walk.line(piece.strip_suffix(b"\n").unwrap_or(piece), place, behind) {
                        return Ok(());
                    }
                    read += if walk.pieces.is_empty() { 0 } else { piece.len() };
                    if read >= walk.bytes_max {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn first_number(&self, segment: u32) -> io::Result<Option<u64>> {
        let Some(file) = self.open(segment)? else { return Ok(None) };
        let chunk = whole_lines(&*file, 0, CHUNK_BYTES)?;
        Ok(chunk.split(|byte| *byte == b'\n').find_map(number_of))
    }

    /// A file of the log; nothing where it was removed.
    fn open(&self, segment: u32) -> io::Result<Option<Arc<dyn DiskFile>>> {
        match self.disk.open(&log::segment_name(segment), false) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A walk along lines.
struct Walk {
    from: Stand,
    up_to: u64,
    bytes_max: usize,
    pieces: Vec<Piece>,
    /// No line of the log stood before those that are read now.
    first_of_all: bool,
}

impl Walk {
    /// Takes a line whose end is at `place`; whether the walk ends here.
    fn line(&mut self, bytes: &[u8], place: Place, behind: u64) -> bool {
        let (number, hash, met) = match line::read(bytes) {
            Ok(line) => {
                let met = match line.entry {
                    Some(entry) => Met::Entry { entry: Box::new(entry), behind },
                    None => Met::Erased { kind: line.header.kind },
                };
                (line.header.entry, line.hash, met)
            }
            Err(Broken::Body(header, hash)) => (header.entry, hash, Met::Damaged),
            Err(Broken::Whole) => return false,
        };
        let last = self.pieces.last().map_or(self.from.number, |piece| piece.stand.number);
        if number <= last {
            self.first_of_all = false;
            return false;
        }
        if number > self.up_to {
            return true;
        }
        if number > last + 1 {
            let entries = number - last - 1;
            let met = if self.first_of_all { Met::Removed { entries } } else { Met::Missing { entries } };
            // The hash of what is missing is unknown; the line behind it says what stood before.
            let stand = Stand { number: number - 1, hash: Hash::default(), place: Place::default() };
            self.pieces.push(Piece { met, stand });
        }
        self.first_of_all = false;
        self.pieces.push(Piece { met, stand: Stand { number, hash, place } });
        number == self.up_to
    }
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    match line::read(bytes) {
        Ok(line) => Some(line.header.entry),
        Err(Broken::Body(header, _)) => Some(header.entry),
        Err(Broken::Whole) => None,
    }
}

/// Whole lines from `offset` on: about `bytes` of them, more where the first is longer. What is left behind the last
/// end of a line is being written.
fn whole_lines(file: &dyn DiskFile, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let left = usize::try_from(file.length()?.saturating_sub(offset)).map_err(io::Error::other)?;
    let mut size = bytes.min(left);
    loop {
        let mut chunk = vec![0; size];
        match disk::read_exactly(file, offset, &mut chunk) {
            // It was cut meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Vec::new()),
            other => other?,
        }
        if let Some(end) = chunk.iter().rposition(|byte| *byte == b'\n') {
            chunk.truncate(end + 1);
            return Ok(chunk);
        }
        if size == left {
            return Ok(Vec::new());
        }
        size = size.saturating_mul(2).min(left);
    }
}
