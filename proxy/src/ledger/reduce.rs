//! How the log grows smaller: contents go, lines stay; and the oldest files go once an entry says what they held.
//!
//! Only files that are complete are touched, and each is replaced as a whole. Decisions that are open keep their
//! lines' content for as long as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use checkgate_config::settings;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;

use super::book::Book;
use super::disk::{self, Disk};
use super::entry::What;
use super::line::{self, Hash, Line};
use super::log::{self, segment_name};

/// The draft of a file that is about to be replaced.
const DRAFT: &str = "audit.draft";

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The content of findings.
    pub findings_for: Duration,
    /// Everything else.
    pub decisions_for: Duration,
    /// Bytes of all files of the log; beyond it the oldest go first, whatever their age.
    pub bytes_max: u64,
}

impl Retention {
    /// What the operator's settings mean.
    #[must_use]
    pub fn of(settings: settings::Ledger) -> Self {
        let settings::Ledger { findings_for, decisions_for, bytes_max } = settings;
        Self { findings_for, decisions_for, bytes_max }
    }
}

#[cfg(test)]
impl Default for Retention {
    fn default() -> Self {
        Self {
            findings_for: Duration::from_secs(90 * 86_400),
            decisions_for: Duration::from_secs(400 * 86_400),
            bytes_max: 1024 * 1024 * 1024,
        }
    }
}

/// What a complete file holds.
#[derive(Clone, Debug, Default)]
struct Summary {
    bytes: u64,
    /// When its last entry was made.
    newest: Time,
    /// Its last entry.
    last: (u64, Hash),
    findings: u64,
    /// Contents that are about a decision.
    decisions: BTreeSet<DecisionId>,
}

/// The oldest file, which may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    segment: u32,
    last: u64,
    hash: Hash,
}

impl Removal {
    /// The entry that says so. `book` is the sum of everything before it.
    #[must_use]
    pub fn entry(&self, book: &Book) -> What {
        What::Removed {
            last: self.last,
            hash: self.hash.text().into(),
            never_block: book.never_block().iter().copied().collect(),
            kill_switch: book.kill_switch(),
        }
    }

    /// Removes the file.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn remove(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.remove(&segment_name(self.segment))?;
        disk.sync_names()
    }
}

/// Looks at one file at a time, so that no step takes long.
#[derive(Debug, Default)]
pub struct Reducer {
    known: BTreeMap<u32, Summary>,
}

impl Reducer {
    /// Does one step: reads a file that it does not know, takes contents out of one, or names one to be removed.
    /// `open` are the decisions that can still change something, `current` is the file that is being written.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn step(
        &mut self,
        disk: &dyn Disk,
        current: u32,
        retention: Retention,
        open: &BTreeSet<DecisionId>,
        now: Time,
    ) -> io::Result<Option<Removal>> {
        let all: Vec<u32> = log::segments(disk)?.into_iter().filter(|segment| *segment < current).collect();
        self.known.retain(|segment, _| all.contains(segment));
        if let Some(unknown) = all.iter().find(|segment| !self.known.contains_key(segment)) {
            self.known.insert(*unknown, summary_of(disk, *unknown)?);
            return Ok(None);
        }
        let bytes: u64 = self.known.values().map(|summary| summary.bytes).sum();
        let is_over = |summary: &Summary, span| now.since(summary.newest) > span;
        let crowded = bytes > retention.bytes_max;
        for (place, (segment, summary)) in self.known.iter().enumerate() {
            let goes = is_over(summary, retention.decisions_for) || (crowded && place == 0);
            if goes && place == 0 && summary.decisions.is_disjoint(open) {
                let (last, hash) = summary.last;
                return Ok(Some(Removal { segment: *segment, last, hash }));
            }
            let loses_decisions = goes || crowded;
            let closed = summary.decisions.iter().any(|id| !open.contains(id));
            let shrinks = (loses_decisions && (closed || summary.findings > 0))
                || (is_over(summary, retention.findings_for) && summary.findings > 0);
            if shrinks {
                let segment = *segment;
                let goes = |line: &Line| match (line.header.kind.as_str(), line.header.decision) {
                    ("finding" | "drift", _) => true,
                    (_, Some(id)) => loses_decisions && !open.contains(&id),
                    _ => false,
                };
                rewrite(disk, segment, &goes)?;
                self.known.insert(segment, summary_of(disk, segment)?);
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Forgets what it knows: files were changed.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

/// The decisions of a book that can still change something.
#[must_use]
pub fn open_decisions(book: &Book, now: Time) -> BTreeSet<DecisionId> {
    book.open(now).map(|decided| decided.id).collect()
}

/// Takes the content out of every entry about `client`, in all files before `current`, and says out of how many.
///
/// # Errors
/// The disk cannot.
pub fn erase(disk: &dyn Disk, current: u32, client: &str) -> io::Result<u64> {
    let segments: Vec<u32> = log::segments(disk)?.into_iter().filter(|segment| *segment < current).collect();
    let is_about = |what: &What| what.names(client);
    let mut about = BTreeSet::new();
    for segment in &segments {
        let lines = lines(disk, *segment)?;
        let entries = lines.iter().filter_map(|line| line.entry.as_ref());
        about.extend(entries.filter(|entry| is_about(&entry.what)).filter_map(|entry| entry.what.decision()));
    }
    let mut erased = 0;
    for segment in segments {
        let goes = |line: &Line| {
            let by_decision = line.header.decision.is_some_and(|id| about.contains(&id));
            by_decision || line.entry.as_ref().is_some_and(|entry| is_about(&entry.what))
        };
        erased += rewrite(disk, segment, &goes)?;
    }
    // Copies of what was damaged may hold anything.
    let is_copy = |name: &String| name.starts_with("damaged-") || name == super::index::ASIDE;
    for name in disk.list()?.into_iter().filter(is_copy) {
        disk.remove(&name)?;
    }
    disk.sync_names()?;
    Ok(erased)
}

/// Replaces a file by one in which the lines that `goes` names have no content; says how many lost theirs.
fn rewrite(disk: &dyn Disk, segment: u32, goes: &dyn Fn(&Line) -> bool) -> io::Result<u64> {
    let name = segment_name(segment);
    let before = disk::read_whole(&*disk.open(&name, false)?)?;
    let (mut after, mut erased) = (Vec::with_capacity(before.len()), 0);
    for piece in before.split_inclusive(|byte| *byte == b'\n') {
        let line = line::read(piece.strip_suffix(b"\n").unwrap_or(piece));
        let loses = line.is_ok_and(|line| line.entry.is_some() && goes(&line));
        match line::erased(piece).filter(|_| loses) {
            Some(short) => {
                erased += 1;
                after.extend_from_slice(&short);
            }
            None => after.extend_from_slice(piece),
        }
    }
    if erased > 0 {
        let draft = disk.open(DRAFT, true)?;
        draft.set_length(0)?;
        disk::write_all(&*draft, 0, &after)?;
        draft.sync()?;
        disk.rename(DRAFT, &name)?;
        disk.sync_names()?;
    }
    Ok(erased)
}

fn lines(disk: &dyn Disk, segment: u32) -> io::Result<Vec<Line>> {
    let bytes = disk::read_whole(&*disk.open(&segment_name(segment), false)?)?;
    let read = bytes.split(|byte| *byte == b'\n').filter_map(|piece| line::read(piece).ok());
    Ok(read.collect())
}

fn summary_of(disk: &dyn Disk, segment: u32) -> io::Result<Summary> {
    let bytes = disk.open(&segment_name(segment), false)?.length()?;
    Ok(Summary { bytes, ..summary(&lines(disk, segment)?) })
}

fn summary(lines: &[Line]) -> Summary {
    let mut summary = Summary::default();
    for line in lines {
        let header = &line.header;
        summary.newest = summary.newest.max(header.time);
        summary.last = (header.entry, line.hash);
        if let Some(entry) = &line.entry {
            summary.findings += u64::from(matches!(&*header.kind, "finding" | "drift"));
            summary.decisions.extend(entry.what.decision());
        }
    }
    summary
}
