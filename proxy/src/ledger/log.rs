//! The log: all entries in their order, one line each, in files of a bounded size. It is the truth; everything else
//! can be made from it.
//!
//! A reader never gives up. What does not verify is set aside, and reading goes on with the next line that does; how
//! many entries were lost is told by the numbers of their neighbours.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{self, Disk, DiskFile};
use super::entry::What;
use super::line::{self, Broken, Hash, Line};

/// Bytes of a file, a last batch aside; the next entry then begins another.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Gaps between numbers that are remembered, to be explained by a later entry; what comes beyond is only counted.
const GAPS_MAX: usize = 4096;
/// Bytes that are set aside for one file of the log.
const ASIDE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A place between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The number of the file.
    pub segment: u32,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// The name of a file of the log.
#[must_use]
pub fn segment_name(segment: u32) -> String {
    format!("audit-{segment:06}.jsonl")
}

fn aside_name(segment: u32) -> String {
    format!("damaged-{segment:06}.bin")
}

/// The files of the log, the oldest first.
///
/// # Errors
/// The folder cannot be read.
pub fn segments(disk: &dyn Disk) -> io::Result<Vec<u32>> {
    let number = |name: String| name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok();
    let mut numbers: Vec<u32> = disk.list()?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Entries that are in no line, between two that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// The hash that the line behind them names.
    pub prev: Hash,
}

/// Where a reader of the log stands, and what it met.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The number of the last entry.
    pub last: u64,
    /// Its hash.
    pub head: Hash,
    /// Lines that were whole, repeats aside.
    pub lines: u64,
    /// Those of them whose content was erased.
    pub erased: u64,
    /// Lines whose content is damaged.
    pub damaged: u64,
    /// Numbers behind which the chain does not go on as it should; at most as many as are remembered.
    pub breaks: Vec<u64>,
    /// Entries that are missing in between.
    pub gaps: Vec<Gap>,
    /// Damaged lines behind the last that is whole: no number tells of them.
    pub at_the_end: u64,
    /// Bytes of a line that was being written when the process ended.
    pub torn: u64,
    /// Where the last whole line ends, if nothing stands behind it.
    pub clean_end: Option<Place>,
    /// What did not verify, with the number of its file.
    aside: Vec<(u32, Vec<u8>)>,
    /// Entries in gaps that are not remembered.
    beyond: u64,
    began: bool,
    /// Of the last line, only the content is damaged.
    damaged_last: bool,
}

impl Scan {
    /// A reader that stands behind entry `last`.
    #[must_use]
    pub fn behind(last: u64, head: Hash) -> Self {
        Self { last, head, began: last > 0, ..Self::default() }
    }

    /// Entries that were lost: those that are missing, and those whose content is damaged.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let missing: u64 = self.gaps.iter().map(|gap| gap.last - gap.first + 1).sum();
        missing + self.beyond + self.damaged + self.at_the_end
    }

    /// Whether every line that is left names the one before it, and nothing is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.breaks.is_empty() && self.lost() == 0
    }

    /// The log ends with entry `last`, before where this reader stands.
    pub fn lost_behind(&mut self, last: u64) {
        self.gap(Gap { first: last + 1, last: self.last, prev: Hash::default() });
    }

    /// Reads everything from `from` on and gives each entry to `each`.
    ///
    /// # Errors
    /// The disk cannot read.
    pub fn read(
        &mut self,
        disk: &dyn Disk,
        from: Place,
        each: &mut dyn FnMut(&Line, Place),
    ) -> io::Result<()> {
        for segment in segments(disk)?.into_iter().filter(|segment| *segment >= from.segment) {
            let bytes = disk::read_whole(&*disk.open(&segment_name(segment), false)?)?;
            let offset = if segment == from.segment { from.offset } else { 0 };
            let start = usize::try_from(offset).map_err(io::Error::other)?.min(bytes.len());
            self.segment(&bytes, Place { segment, offset: start as u64 }, each);
        }
        Ok(())
    }

    /// Reads the bytes of one file from `from` on.
    pub fn segment(&mut self, bytes: &[u8], from: Place, each: &mut dyn FnMut(&Line, Place)) {
        let mut at = usize::try_from(from.offset).unwrap_or(usize::MAX);
        self.clean_end = Some(from);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            let place = Place { segment: from.segment, offset: at as u64 };
            at += piece.len() + usize::from(end.is_some());
            match line::read(piece) {
                Ok(line) if end.is_some() => {
                    self.line(&line, place, each);
                    self.clean_end = Some(Place { offset: at as u64, ..place });
                }
                _ => {
                    // No file that was left in good order ends within a line, the last one or an earlier one.
                    let (lines, torn) = (self.lines, self.torn);
                    self.pieces(piece, place, end.is_none(), each);
                    let only_torn = self.torn > torn && self.lines == lines;
                    self.clean_end = only_torn.then_some(place);
                }
            }
        }
    }

    /// Several lines, or parts of them, where one should be: the byte that ended one was damaged, or more.
    fn pieces(&mut self, bytes: &[u8], place: Place, may_be_torn: bool, each: &mut dyn FnMut(&Line, Place)) {
        let mut starts = vec![0];
        while let Some(next) = starts
            .last()
            .map(|last| last + 1)
            .and_then(|from| line::find(bytes.get(from..)?, line::PREFIX).map(|at| from + at))
        {
            starts.push(next);
        }
        let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
        for (start, end) in starts.iter().copied().zip(ends) {
            let piece = bytes.get(start..end).unwrap_or_default();
            let place = Place { offset: place.offset + start as u64, ..place };
            // What is left of a damaged end of line is one byte.
            let shorter = piece.split_last().map_or(piece, |(_, shorter)| shorter);
            let torn = may_be_torn && end == bytes.len();
            let whole = [piece, shorter].into_iter().map(line::read).find(|read| *read != Err(Broken::Whole));
            match whole {
                Some(Ok(line)) => self.line(&line, place, each),
                Some(Err(Broken::Body(header, hash))) if !torn => {
                    let line = Line { header: *header, hash, entry: None };
                    if self.follows(&line) {
                        self.damaged += 1;
                        self.damaged_last = true;
                        self.put_aside(place.segment, piece);
                    }
                }
                Some(Err(_)) | None => self.broken(place.segment, piece, torn),
            }
        }
    }

    fn broken(&mut self, segment: u32, piece: &[u8], torn: bool) {
        if torn {
            self.torn += piece.len() as u64;
            return;
        }
        if !piece.is_empty() {
            self.put_aside(segment, piece);
            self.at_the_end += u64::from(piece.starts_with(line::PREFIX) || self.at_the_end == 0);
        }
    }

    fn put_aside(&mut self, segment: u32, piece: &[u8]) {
        self.aside.push((segment, piece.to_vec()));
    }

    fn line(&mut self, line: &Line, place: Place, each: &mut dyn FnMut(&Line, Place)) {
        if !self.follows(line) {
            return;
        }
        self.lines += 1;
        self.erased += u64::from(line.entry.is_none());
        if let Some(entry) = &line.entry {
            self.explained(&entry.what);
        }
        each(line, place);
    }

    /// Steps on to a line; not to one that was read before, which a write that failed may have left.
    fn follows(&mut self, line: &Line) -> bool {
        let (number, prev) = (line.header.entry, line.header.prev);
        if number == self.last && self.damaged_last && line.entry.is_some() {
            // A write that failed had left a part of it, and was done again elsewhere.
            (self.damaged, self.damaged_last) = (self.damaged - 1, false);
            return true;
        }
        if number <= self.last {
            return false;
        }
        self.damaged_last = false;
        self.at_the_end = 0;
        if number > self.last + 1 {
            self.gap(Gap { first: self.last + 1, last: number - 1, prev });
        } else if self.began && prev != self.head && self.breaks.len() < GAPS_MAX {
            self.breaks.push(number);
        }
        (self.last, self.head, self.began) = (number, line.hash, true);
        true
    }

    fn gap(&mut self, gap: Gap) {
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(gap);
        } else {
            self.beyond += gap.last - gap.first + 1;
        }
    }

    /// Entries that say what is missing, and why.
    fn explained(&mut self, what: &What) {
        match what {
            What::Unwritten { first, last } => {
                self.gaps.retain(|gap| !(*first <= gap.first && gap.last <= *last));
            }
            What::Removed { last, hash, .. } => {
                let removed = |gap: &Gap| gap.first == 1 && gap.last <= *last;
                let goes_on = |gap: &Gap| gap.last < *last || gap.prev.text() == **hash;
                self.gaps.retain(|gap| !(removed(gap) && goes_on(gap)));
            }
            _ => {}
        }
    }

    /// Writes what did not verify beside the log, each piece once.
    ///
    /// # Errors
    /// The disk cannot; nothing depends on it.
    pub fn set_aside(&mut self, disk: &dyn Disk) -> io::Result<()> {
        for (segment, piece) in std::mem::take(&mut self.aside) {
            let file = disk.open(&aside_name(segment), true)?;
            let length = file.length()?;
            let fits = length + (piece.len() as u64) < ASIDE_BYTES_MAX;
            if fits && line::find(&disk::read_whole(&*file)?, &piece).is_none() {
                disk::write_all(&*file, length, &[piece.as_slice(), b"\n"].concat())?;
            }
        }
        Ok(())
    }
}

/// The end of the log, where entries are written.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    /// Where the last line that is synced ends.
    end: Place,
    /// The last entry that is synced.
    last: u64,
    head: Hash,
    segment_bytes: u64,
    /// A write failed: something may stand behind the end.
    unsure: bool,
}

impl Log {
    /// Goes on behind what `scan` read, in the same file where that ends cleanly.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn open(disk: &Arc<dyn Disk>, scan: &Scan, segment_bytes: u64) -> io::Result<Self> {
        let all = segments(&**disk)?;
        // What was read may come from a process that could not sync it, in the last file or in one that it gave up; nor
        // need the names be durable. From here on all of it counts as written.
        for segment in &all {
            disk.open(&segment_name(*segment), false)?.sync()?;
        }
        disk.sync_names()?;
        let last_segment = all.last().copied();
        let end = scan.clean_end.filter(|end| Some(end.segment) == last_segment);
        let cut = end.and_then(|end| Some((cut(&**disk, end).ok()?, end)));
        let (file, end) = match cut {
            Some(there) => there,
            None => begin(&**disk, last_segment.unwrap_or(0) + 1)?,
        };
        let (last, head) = (scan.last, scan.head);
        Ok(Self { disk: Arc::clone(disk), file, end, last, head, segment_bytes, unsure: false })
    }

    /// Where the last line ends.
    #[must_use]
    pub fn end(&self) -> Place {
        self.end
    }

    /// The number and the hash of the last entry.
    #[must_use]
    pub fn last(&self) -> (u64, Hash) {
        (self.last, self.head)
    }

    /// Writes whole lines and syncs them; `last` and `head` are those of the last of them.
    ///
    /// # Errors
    /// The disk cannot. Then nothing counts as written, and the same lines may be written again.
    pub fn append(&mut self, lines: &[u8], last: u64, head: Hash) -> io::Result<()> {
        if self.unsure {
            self.mend()?;
        }
        if self.end.offset > 0 && self.end.offset + lines.len() as u64 > self.segment_bytes {
            self.roll()?;
        }
        self.unsure = true;
        disk::write_all(&*self.file, self.end.offset, lines)?;
        self.file.sync()?;
        self.unsure = false;
        self.end.offset += lines.len() as u64;
        (self.last, self.head) = (last, head);
        Ok(())
    }

    /// Begins another file.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn roll(&mut self) -> io::Result<()> {
        (self.file, self.end) = begin(&*self.disk, self.end.segment + 1)?;
        self.unsure = false;
        Ok(())
    }

    /// Takes away what a failed write may have left; where that cannot be, what follows stands in another file, whose
    /// lines a reader prefers to none.
    fn mend(&mut self) -> io::Result<()> {
        match cut(&*self.disk, self.end) {
            Ok(file) => {
                (self.file, self.unsure) = (file, false);
                Ok(())
            }
            Err(_) => self.roll(),
        }
    }
}

/// Opens a file that ends at `end`, and takes away what stands behind it.
fn cut(disk: &dyn Disk, end: Place) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&segment_name(end.segment), false)?;
    let length = file.length()?;
    if length < end.offset {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if length > end.offset {
        file.set_length(end.offset)?;
    }
    // What was read may come from a process that could not sync it: from here on it counts as written.
    file.sync()?;
    Ok(file)
}

fn begin(disk: &dyn Disk, segment: u32) -> io::Result<(Arc<dyn DiskFile>, Place)> {
    let file = disk.open(&segment_name(segment), true)?;
    // It may be left from a try that failed.
    file.set_length(0)?;
    disk.sync_names()?;
    Ok((file, Place { segment, offset: 0 }))
}
