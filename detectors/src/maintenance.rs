//! Maintenance windows: while one lasts, what the reference says of a model does not count.
//!
//! A model that is being exchanged gets other questions and gives other answers than the reference knows. What rests on
//! the reference is then told as muted and decides nothing, and nothing is counted for drift; what does not rest on it, such
//! as a sweep, counts as ever.

use serde::{Deserialize, Serialize};

use crate::facts::Time;

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
