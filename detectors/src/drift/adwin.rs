//! ADWIN: a mean over a window that shrinks by itself when its older part differs from its newer one (Bifet and
//! Gavalda, Learning from Time-Changing Data with Adaptive Windowing, SDM 2007).
//!
//! Here to be compared with, not to alarm: on bursty or seasonal traffic it speaks all day. It forgets everything
//! after a change, as the implementation in river does, and gives the same alarms.

use serde::{Deserialize, Serialize};

/// Merged two by two, so many rows hold more values than any stream has.
const ROWS_MAX: usize = 48;

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How likely a comparison is wrong, 0 to 1.
    pub delta: f64,
    /// Values between two comparisons, at least 1.
    pub clock: u64,
    /// Buckets of one size before two are merged.
    pub buckets: usize,
    /// Fewest values on either side of a comparison.
    pub side_min: f64,
    /// Fewest values before any comparison.
    pub grace: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, buckets: 5, side_min: 5.0, grace: 10.0 }
    }
}

/// The window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    settings: Settings,
    /// By size: row r holds buckets of 2^r values, oldest first.
    rows: Vec<Vec<Bucket>>,
    width: f64,
    total: f64,
    /// Variance times width.
    spread: f64,
    tick: u64,
    changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    spread: f64,
}

/// One side of a cut: its values, their sum, and their variance times their number.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    width: f64,
    total: f64,
}

impl Adwin {
    /// An empty window.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            rows: vec![Vec::new()],
            width: 0.0,
            total: 0.0,
            spread: 0.0,
            tick: 0,
            changed: false,
        }
    }

    /// Takes a value; says whether the window shrank. One that is not finite is left out.
    pub fn take(&mut self, value: f64) -> bool {
        if !value.is_finite() {
            return false;
        }
        if self.changed {
            *self = Self::new(self.settings);
        }
        self.insert(value);
        self.compress();
        self.tick += 1;
        self.changed = self.tick.is_multiple_of(self.settings.clock.max(1))
            && self.width > self.settings.grace
            && self.shrink();
        self.changed
    }

    /// Values in the window.
    #[must_use]
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Their mean; 0 without any.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.width > 0.0 { self.total / self.width } else { 0.0 }
    }

    /// The sum of their squared differences from the mean.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.spread
    }

    fn insert(&mut self, value: f64) {
        self.width += 1.0;
        if self.width > 1.0 {
            let before = self.width - 1.0;
            let difference = value - self.total / before;
            self.spread += before * difference * difference / self.width;
        }
        self.total += value;
        if let Some(row) = self.rows.first_mut() {
            row.push(Bucket { total: value, spread: 0.0 });
        }
    }

    /// Merges the two oldest buckets of every row that has one too many.
    fn compress(&mut self) {
        let mut size = 1.0;
        for place in 0..ROWS_MAX {
            let Some(row) = self.rows.get_mut(place).filter(|row| row.len() > self.settings.buckets) else {
                return;
            };
            let mut oldest = row.drain(..2);
            let (Some(one), Some(other)) = (oldest.next(), oldest.next()) else { return };
            drop(oldest);
            let difference = (one.total - other.total) / size;
            let spread = one.spread + other.spread + difference * difference * size / 2.0;
            let merged = Bucket { total: one.total + other.total, spread };
            match self.rows.get_mut(place + 1) {
                Some(next) => next.push(merged),
                None => self.rows.push(vec![merged]),
            }
            size *= 2.0;
        }
    }

    /// Drops the oldest bucket as long as a cut shows a difference.
    fn shrink(&mut self) -> bool {
        let mut shrank = false;
        while self.width > self.settings.grace && self.finds_cut() {
            self.drop_oldest();
            shrank = true;
        }
        shrank
    }

    /// Whether the mean before one of the cuts between buckets differs from that behind it.
    fn finds_cut(&self) -> bool {
        let (mut old, mut new) = (Side::default(), Side { width: self.width, total: self.total });
        for (place, row) in self.rows.iter().enumerate().rev() {
            let size = libm::exp2(place as f64);
            for bucket in row {
                old = Side { width: old.width + size, total: old.total + bucket.total };
                new = Side { width: new.width - size, total: new.total - bucket.total };
                if self.differs(old, new) {
                    return true;
                }
            }
        }
        false
    }

    fn differs(&self, old: Side, new: Side) -> bool {
        let least = self.settings.side_min;
        if old.width < least || new.width < least {
            return false;
        }
        let delta = libm::log(2.0 * libm::log(self.width) / self.settings.delta);
        let weight = 1.0 / (old.width - least + 1.0) + 1.0 / (new.width - least + 1.0);
        let variance = self.spread / self.width;
        let cut = (2.0 * weight * variance * delta).sqrt() + 2.0 / 3.0 * delta * weight;
        (old.total / old.width - new.total / new.width).abs() > cut
    }

    fn drop_oldest(&mut self) {
        let Some(place) = self.rows.len().checked_sub(1) else { return };
        let Some(row) = self.rows.last_mut().filter(|row| !row.is_empty()) else { return };
        let (size, bucket) = (libm::exp2(place as f64), row.remove(0));
        if row.is_empty() && place > 0 {
            self.rows.pop();
        }
        self.width -= size;
        self.total -= bucket.total;
        let difference = bucket.total / size - self.mean();
        self.spread -= bucket.spread + size * self.width * difference * difference / (size + self.width);
    }
}
