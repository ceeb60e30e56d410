//! Which values of an exchange belong to which feature: names of features, and values from cells.
//!
//! A feature is called like the question's column: by the name that the body gives, or by its position. An answer's
//! column has [`ANSWER`] in front. [`LATENCY`] and [`STATUS`] belong to the exchange as a whole; a question's column of
//! that name goes before them. Whoever makes a reference goes by the same rule.

use std::borrow::Cow;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::bins::Value;
use super::reference::ANSWER;
use crate::facts::{Cell, Features};
use crate::names::Names;

/// The feature of the time from the end of a question to the first byte of its answer, in seconds.
pub const LATENCY: &str = "latency";
/// The feature of the model server's status, a number.
pub const STATUS: &str = "status";

/// The value of a cell, labels under the key of the reference.
#[inline]
#[must_use]
pub fn value(cell: Cell, features: &Features, label_key: [u64; 2]) -> Value {
    match cell {
        Cell::Missing => Value::Missing,
        Cell::Number(number) => Value::Number(number),
        Cell::Text(start, end) => label(start, end, features, label_key),
    }
}

/// Out of line, so that what is done for a number stays short.
#[inline(never)]
fn label(start: u32, end: u32, features: &Features, label_key: [u64; 2]) -> Value {
    Value::label(label_key, features.text_of(start, end))
}

/// The feature that an answer's column is.
#[must_use]
pub fn answer_name(features: &Features, column: usize) -> String {
    format!("{ANSWER}{}", features.name(column))
}

/// The value of an exchange as a whole that a feature is, if it is one.
#[must_use]
pub fn of_exchange(name: &str, status: u16, latency: Duration) -> Option<Value> {
    match name {
        LATENCY => Some(Value::Number(latency.as_secs_f64())),
        STATUS => Some(Value::Number(f64::from(status))),
        _ => None,
    }
}

/// Where the features stand among the columns of a body: kept until a body with other columns comes.
#[derive(Debug, Default)]
pub struct Mapping {
    known: Option<(Names, usize)>,
    places: Vec<Option<u32>>,
    /// So many of the first names are called like the column at their own position.
    in_order: usize,
    found: bool,
}

/// The part of an exchange that a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What was asked.
    Question,
    /// What was answered.
    Answer,
}

impl Mapping {
    /// Looks where `names` stand among the columns of `body`. O(names of the body) where its columns are those of the
    /// last one, otherwise O(columns + names). The names must be those of the last call, unless [`Mapping::forget`] was
    /// called in between.
    pub fn look_at<'n>(
        &mut self,
        names: impl Iterator<Item = &'n str>,
        body: &Features,
        part: Part,
    ) -> &[Option<u32>] {
        let same = |(known, width): &(Names, usize)| *width == body.width && *known == body.names;
        if !self.known.as_ref().is_some_and(same) {
            self.known = Some((body.names.clone(), body.width));
            let columns: FxHashMap<Cow<'_, str>, u32> = (0..body.width)
                .map(|column| {
                    body.names.get(column).map_or(Cow::Owned(column.to_string()), |name| name.text())
                })
                .zip(0..)
                .collect();
            let bare = |name: &'n str| match part {
                Part::Question => Some(name),
                Part::Answer => name.strip_prefix(ANSWER),
            };
            let place = |name: &'n str| columns.get(bare(name)?).copied();
            self.places = names.map(place).collect();
            let own = |(name, place): (u32, &Option<u32>)| *place == Some(name);
            self.in_order = (0..).zip(&self.places).take_while(|pair| own(*pair)).count();
            self.found = self.places.iter().any(Option::is_some);
        }
        &self.places
    }

    /// The values of a row of the last body: one to a name, in their order. O(names).
    pub fn pick(
        &self,
        row: &[Cell],
        features: &Features,
        label_key: [u64; 2],
        values: &mut Vec<Option<Value>>,
    ) {
        // Nearly always all columns are known and in order.
        let in_order = row.iter().take(self.in_order);
        let other = self.places.get(in_order.len()..).unwrap_or_default();
        values.extend(in_order.map(|cell| Some(value(*cell, features, label_key))));
        let cell = |place: &Option<u32>| row.get(place.map(|place| place as usize)?).copied();
        values.extend(other.iter().map(|place| cell(place).map(|cell| value(cell, features, label_key))));
    }

    /// Whether the last body has a column of any of the names.
    #[must_use]
    pub fn found(&self) -> bool {
        self.found
    }

    /// Forgets the columns, because the names change.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(names: &[&str], cells: Vec<Cell>) -> Features {
        Features { names: names.iter().copied().collect(), width: cells.len(), cells, ..Features::default() }
    }

    #[test]
    fn features_are_found_by_name_or_position_and_an_answer_may_share_a_name() {
        let names = ["age", "0", "answer:age", "answer:0"];
        let named = body(&["age"], vec![Cell::Missing]);
        let bare = body(&[], vec![Cell::Missing]);
        let look = |body: &Features, part| Mapping::default().look_at(names.into_iter(), body, part).to_vec();
        assert_eq!(look(&named, Part::Question), [Some(0), None, None, None]);
        assert_eq!(look(&bare, Part::Question), [None, Some(0), None, None]);
        assert_eq!(look(&named, Part::Answer), [None, None, Some(0), None]);
        assert_eq!(look(&bare, Part::Answer), [None, None, None, Some(0)]);
        assert_eq!((answer_name(&named, 0), answer_name(&bare, 0)), ("answer:age".into(), "answer:0".into()));
    }

    #[test]
    fn a_row_is_picked_by_name_whatever_the_order_of_its_columns() {
        let numbers = |numbers: &[f64]| numbers.iter().map(|number| Cell::Number(*number)).collect();
        let picked = |names: &[&str], cells| {
            let (body, mut mapping, mut values) = (body(names, cells), Mapping::default(), Vec::new());
            mapping.look_at(["a", "b", "c"].into_iter(), &body, Part::Question);
            mapping.pick(body.row(0), &body, [1, 2], &mut values);
            values
        };
        let number = |number| Some(Value::Number(number));
        let all = [number(1.0), number(2.0), number(3.0)];
        assert_eq!(picked(&["a", "b", "c"], numbers(&[1.0, 2.0, 3.0])), all);
        assert_eq!(picked(&["c", "b", "a"], numbers(&[3.0, 2.0, 1.0])), all);
        assert_eq!(picked(&["a", "c", "b", "d"], numbers(&[1.0, 3.0, 2.0, 9.0])), all);
        assert_eq!(
            picked(&["a", "b"], vec![Cell::Missing, Cell::Number(2.0)]),
            [Some(Value::Missing), all[1], None]
        );
        assert_eq!(picked(&["x"], numbers(&[1.0])), [None; 3]);
    }

    #[test]
    fn other_columns_are_looked_at_anew() {
        let mut mapping = Mapping::default();
        let cells = || vec![Cell::Missing, Cell::Missing];
        for (names, places) in [
            (["a", "b"], [Some(0), Some(1)]),
            (["b", "a"], [Some(1), Some(0)]),
            (["b", "c"], [None, Some(0)]),
        ] {
            let found = mapping.look_at(["a", "b"].into_iter(), &body(&names, cells()), Part::Question);
            assert_eq!(found, places, "{names:?}");
        }
        assert!(mapping.found());
    }

    #[test]
    fn a_text_is_a_label_under_the_key_of_its_reference() {
        let features = Features { text: "north".into(), ..Features::default() };
        let label = |key| value(Cell::Text(0, 5), &features, key);
        assert_eq!(label([1, 2]), Value::label([1, 2], "north"));
        assert_ne!(label([1, 2]), label([1, 3]));
    }
}
