//! The frozen reference of drift detection: bins, bets, rates and calibration of every feature, with its provenance.
//!
//! Everything that a special function decides is computed once, here, and kept: a replay on another machine uses the
//! same numbers. A reference is exchanged as bytes with a version and a checksum.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::bins::{Bins, Value};
use super::counts::Counts;
use super::derived::{Hits, Memory, Rates};
use super::event::{Bank, Tolerance};
use super::feature::Feature;
use super::quality::{Held, Quality};
use super::strangers::as_others_see;
use super::stretch::{Calibration, STRETCHES_MAX, Worth};
use super::watch::TICK_ROWS;
use crate::facts::Time;

/// The version of the bytes that [`DriftReference::to_bytes`] writes.
pub const VERSION: u16 = 3;
/// Fewest rows of a reference.
pub const ROWS_MIN: usize = 500;
/// Most features that are watched; those beyond are left out and counted.
pub const FEATURES_MAX: usize = 256;
/// What the name of a column of answers begins with in a reference: that of a question stands there as it is.
pub const ANSWER: &str = "answer:";

/// How a reference is made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What the early layer tolerates.
    pub tolerance: Tolerance,
    /// Fewest rows of a stretch, at least 1.
    pub stretch_rows: u32,
    /// Shortest time of a stretch, in microseconds; 0 for none.
    pub stretch_microseconds: u64,
    /// Rows between two ticks of the replay of held-out rows, as those who go by the reference will look.
    pub tick_rows: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let tolerance = Tolerance { relative: 0.01, error: 0.01 };
        Self { tolerance, stretch_rows: 250, stretch_microseconds: 0, tick_rows: TICK_ROWS }
    }
}

/// A column of a reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its values, one to a row, in the order of time.
    pub values: Vec<Value>,
}

/// The rows that a reference is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The columns, all of one length.
    pub columns: Vec<Column>,
    /// When each row came, ascending; empty where that is not known.
    pub times: Vec<Time>,
}

/// A frozen reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftReference {
    features: Vec<Feature>,
    worth: Worth,
    cut: Cut,
    rows: u64,
    span: Option<(Time, Time)>,
    left_out: usize,
    quality: Quality,
    label_key: [u64; 2],
}

/// When a stretch ends: after so many rows and so much time, whichever is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    rows: u32,
    microseconds: u64,
}

/// The stretch under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    rows: u32,
    since: Option<Time>,
}

/// Why no reference can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Not enough rows to tell anything.
    #[error("{rows} rows are too few for a reference of drift: give at least {ROWS_MIN}")]
    TooFewRows {
        /// How many there are.
        rows: usize,
    },
    /// A column, or the times, of another length than the first column.
    #[error("{what} has {found} values where the first column has {expected}: give one to a row")]
    Ragged {
        /// The name of the column, or "times".
        what: String,
        /// Its length.
        found: usize,
        /// The length of the first column.
        expected: usize,
    },
}

/// Why bytes are no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// Another version wrote them.
    #[error(
        "version {found} of a reference of drift; this program reads {VERSION}: build the reference anew"
    )]
    Version {
        /// The version that they tell.
        found: u16,
    },
    /// They are cut, changed, or something else.
    #[error("these bytes are no whole reference of drift: their checksum differs; build the reference anew")]
    Damaged,
}

impl Cut {
    /// Fewest rows of a stretch.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows.max(1)
    }

    /// Shortest time of a stretch, in microseconds.
    #[must_use]
    pub fn microseconds(&self) -> u64 {
        self.microseconds
    }

    /// Whether `stretch` ends with a row at `now`, which is counted.
    pub fn ends(&self, stretch: &mut Stretch, now: Time) -> bool {
        let since = *stretch.since.get_or_insert(now);
        stretch.rows = stretch.rows.saturating_add(1);
        let ends = stretch.rows >= self.rows.max(1) && now.0.saturating_sub(since.0) >= self.microseconds;
        if ends {
            *stretch = Stretch::default();
        }
        ends
    }
}

impl DriftReference {
    /// Freezes a reference and replays a held-out third of it. O(rows x columns x log rows).
    ///
    /// # Errors
    /// Says which rows or values are missing.
    pub fn of(table: &Table, settings: &Settings) -> Result<Self, TableError> {
        let rows = check(table)?;
        let mut reference = Self::freeze(table, 0..rows, settings);
        let first = rows - rows / 3;
        if first >= ROWS_MIN {
            let held = Self::freeze(table, 0..first, settings);
            let (quality, features) = Quality::replay(&held, table, first..rows, settings.tick_rows);
            reference.quality = quality;
            reference.features.iter_mut().zip(features).for_each(|(feature, held)| feature.held = held);
        }
        Ok(reference)
    }

    fn freeze(table: &Table, rows: Range<usize>, settings: &Settings) -> Self {
        let per_stretch = rows.len().div_ceil(STRETCHES_MAX).max(settings.stretch_rows as usize);
        let cut = Cut {
            rows: u32::try_from(per_stretch).unwrap_or(u32::MAX),
            microseconds: settings.stretch_microseconds,
        };
        let times = table.times.get(rows.clone()).unwrap_or(&[]);
        let columns = table.columns.iter().take(FEATURES_MAX);
        let features: Vec<Feature> = columns
            .map(|column| {
                feature(column, column.values.get(rows.clone()).unwrap_or(&[]), times, cut, settings)
            })
            .collect();
        let stretches = features.first().map_or(0, |feature| feature.calibration.stretches());
        Self {
            worth: Worth::of(stretches, features.len()),
            features,
            cut,
            rows: rows.len() as u64,
            span: times.first().copied().zip(times.last().copied()),
            left_out: table.columns.len().saturating_sub(FEATURES_MAX),
            quality: Quality::default(),
            label_key: [0, 0],
        }
    }

    /// The same with the key that the labels of its table were hashed under.
    #[must_use]
    pub fn with_label_key(self, label_key: [u64; 2]) -> Self {
        Self { label_key, ..self }
    }

    /// The key of [`Value::label`] for its features.
    #[must_use]
    pub fn label_key(&self) -> [u64; 2] {
        self.label_key
    }

    /// The same without the features of some names.
    #[must_use]
    pub fn without(mut self, names: &[String]) -> Self {
        self.features.retain(|feature| !names.contains(&feature.name));
        self
    }

    /// The features, in the order of the columns.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// What ranks of stretches are worth.
    #[must_use]
    pub fn worth(&self) -> &Worth {
        &self.worth
    }

    /// When stretches end.
    #[must_use]
    pub fn cut(&self) -> Cut {
        self.cut
    }

    /// How many rows it was made of.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The times of its first and its last row, where they are known. Cycles longer than this look like drift.
    #[must_use]
    pub fn span(&self) -> Option<(Time, Time)> {
        self.span
    }

    /// Columns that are not watched because there are more than [`FEATURES_MAX`].
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// What the replay of its own held-out rows showed.
    #[must_use]
    pub fn quality(&self) -> &Quality {
        &self.quality
    }

    /// The checksum of the content: two references that differ have, in all likelihood, different ones. O(bytes).
    #[must_use]
    pub fn checksum(&self) -> u64 {
        SipHasher13::new().hash(&postcard::to_stdvec(self).unwrap_or_default())
    }

    /// Writes it: a version, a checksum, and the content.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain data of this crate's own types always serialises into memory.
        let content = postcard::to_stdvec(self).unwrap_or_default();
        let sum = SipHasher13::new().hash(&content).to_le_bytes();
        VERSION.to_le_bytes().into_iter().chain(sum).chain(content).collect()
    }

    /// Reads what [`DriftReference::to_bytes`] wrote.
    ///
    /// # Errors
    /// Refuses bytes of another version, and those whose checksum differs.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BytesError> {
        let (version, rest) = bytes.split_first_chunk::<2>().ok_or(BytesError::Damaged)?;
        let found = u16::from_le_bytes(*version);
        if found != VERSION {
            return Err(BytesError::Version { found });
        }
        let (sum, content) = rest.split_first_chunk::<8>().ok_or(BytesError::Damaged)?;
        if SipHasher13::new().hash(content).to_le_bytes() != *sum {
            return Err(BytesError::Damaged);
        }
        postcard::from_bytes(content).map_err(|_| BytesError::Damaged)
    }
}

fn check(table: &Table) -> Result<usize, TableError> {
    let rows = table.columns.first().map_or(0, |column| column.values.len());
    let uneven = |what: &str, found: usize| {
        (found != rows).then(|| TableError::Ragged { what: what.to_owned(), found, expected: rows })
    };
    let mut columns = table.columns.iter().filter_map(|column| uneven(&column.name, column.values.len()));
    let times = if table.times.is_empty() { None } else { uneven("times", table.times.len()) };
    match columns.next().or(times) {
        Some(error) => Err(error),
        None if rows < ROWS_MIN => Err(TableError::TooFewRows { rows }),
        None => Ok(rows),
    }
}

fn feature(column: &Column, values: &[Value], times: &[Time], cut: Cut, settings: &Settings) -> Feature {
    let bins = Bins::of(values);
    let mut counts = Counts::new(bins.slots());
    let (mut stretches, mut ends) = (Vec::new(), Vec::new());
    let (mut open, mut stretch) = (Counts::new(bins.slots()), Stretch::default());
    let (mut memory, mut hits) = (Memory::new(true), Hits::default());
    for (row, value) in values.iter().enumerate() {
        let slot = bins.slot(*value);
        open.add(slot);
        memory.look(&bins, *value, slot, &mut hits);
        if cut.ends(&mut stretch, times.get(row).copied().unwrap_or_default()) {
            counts.merge(&open);
            stretches.push(std::mem::replace(&mut open, Counts::new(bins.slots())));
            ends.push(row + 1);
        }
    }
    counts.merge(&open);
    let seen = as_others_see(&bins, values, &stretches, &ends);
    Feature {
        name: column.name.clone(),
        bank: Bank::new(&counts, bins.scale(), bumped(&bins), settings.tolerance),
        rates: Rates::of(&rates(&bins, values, &hits), settings.tolerance.error),
        calibration: Calibration::of(&stretches, &seen, &counts),
        held: Held::default(),
        bins,
        counts,
    }
}

/// The slots that the early layer bets on one by one: those that no derived feature watches.
fn bumped(bins: &Bins) -> Range<usize> {
    match bins {
        Bins::Numbers(_) => 1..bins.scale().saturating_sub(1).max(1),
        Bins::Labels(_) => 0..bins.scale(),
    }
}

/// How often the derived features held in a reference, and of how many values. Nothing lies outside of a range that it
/// made itself: what n independent values leave outside of their range is Beta(2, n - 1) distributed, whose quantiles are
/// Clopper and Pearson's bound of one such value (Wilks, Annals of Mathematical Statistics 1941). New labels
/// are those of the second half that the first half did not have.
fn rates(bins: &Bins, values: &[Value], hits: &Hits) -> [(u64, u64); 4] {
    let count = u64::from(hits.values);
    let [repeats, _, _, not_there] = hits.held.map(u64::from);
    match bins {
        Bins::Numbers(_) => [(repeats, count), (0, 0), (1.min(count), count), (not_there, count)],
        Bins::Labels(_) => {
            let (first, second) = values.split_at(values.len() / 2);
            let halved = Bins::of(first);
            let (mut memory, mut new) = (Memory::new(false), Hits::default());
            second.iter().for_each(|value| memory.look(&halved, *value, halved.slot(*value), &mut new));
            let [_, again, _, _] = new.held;
            [(0, 0), (u64::from(again), u64::from(new.values)), (0, 0), (not_there, count)]
        }
    }
}
