//! Maintenance windows: while one lasts, what the reference says of a model does not count.
//!
//! A model that is being exchanged gets other questions and gives other answers than the reference knows. What rests on
//! the reference is then told as muted and decides nothing, and nothing is counted for drift; what does not rest on it, such
//! as a sweep, counts as ever. What the model that comes is like is learned aside meanwhile.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::drift::reference::DriftReference;
use crate::facts::Time;
use crate::identity::Identity;
use crate::reference::Reference;

/// Clients whose shares are told.
pub const SHARES_SHOWN: usize = 8;

/// One window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// When it begins.
    pub from: Time,
    /// When it has ended.
    pub until: Time,
    /// What people are told of it; empty for nothing.
    pub note: String,
}

/// What was learned while a window lasted. References in it are provisional, and nothing rests on them yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Taught {
    /// The model.
    pub model: Arc<str>,
    /// The window; of several that overlapped, from the beginning of the first to the end of the last.
    pub window: Maintenance,
    /// Rows that were asked for and answered, repeats aside.
    pub seen: u64,
    /// Rows that were learned for a query reference.
    pub rows: u64,
    /// The same for one of drift, before those were cut back who gave most.
    pub drift_rows: u64,
    /// Clients of whom rows were learned.
    pub clients: u64,
    /// The clients that gave most, with their shares of what was learned, 0 to 1; at most [`SHARES_SHOWN`].
    pub shares: Vec<(Identity, f64)>,
    /// When the first and the last of the learned rows came.
    pub span: Option<(Time, Time)>,
    /// What queries are held against; nothing where too few rows or clients were there.
    pub query: Option<Reference>,
    /// What drift is measured by; nothing where too few rows or clients were there, or drift is not watched.
    pub drift: Option<DriftReference>,
}

impl Taught {
    /// The largest shares, the largest first.
    #[must_use]
    pub fn largest(counts: &BTreeMap<Identity, usize>) -> Vec<(Identity, f64)> {
        let all: usize = counts.values().sum();
        let mut shares: Vec<(Identity, usize)> =
            counts.iter().map(|(client, rows)| (*client, *rows)).collect();
        // The sort is stable, so that of equals the order of clients holds.
        shares.sort_by_key(|(_, rows)| Reverse(*rows));
        shares.truncate(SHARES_SHOWN);
        shares.into_iter().map(|(client, rows)| (client, rows as f64 / all.max(1) as f64)).collect()
    }

    /// Whether there is anything that an operator can promote.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.query.is_some() || self.drift.is_some()
    }
}

/// The window that holds at `time`, and of several the one that ends last.
#[must_use]
pub fn at(windows: &[Maintenance], time: Time) -> Option<&Maintenance> {
    let open = windows.iter().filter(|window| window.from <= time && time < window.until);
    open.max_by_key(|window| window.until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_from_its_beginning_to_its_end() {
        let window = |from, until| Maintenance { from: Time(from), until: Time(until), note: String::new() };
        let windows = [window(10, 20), window(15, 30)];
        let ends: Vec<_> = [9, 10, 15, 20, 29, 30]
            .map(|time| at(&windows, Time(time)).map(|window| window.until.0))
            .to_vec();
        assert_eq!(ends, [None, Some(20), Some(30), Some(30), Some(30), None]);
    }
}
