//! References: what normal looks like for a model, frozen, with its provenance.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::facts::{Cell, Features, Time};
use crate::family::Answers;
use crate::geometry::Geometry;
use crate::identity::Identity;
use crate::marginals::Marginals;
use crate::margins::Margins;
use crate::names::{Name, Names};

/// How far a reference can be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Learned from traffic: what rests on it may alert, never block.
    Provisional,
    /// Named or promoted by the operator.
    Trusted,
}

/// Most different values of a single answer that may be the names of classes.
const CLASSES_MAX: usize = 20;

/// Rows that stand for normal traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// How far it can be relied upon.
    pub trust: Trust,
    features: Vec<String>,
    rows: Vec<ReferenceRow>,
    geometry: Option<Geometry>,
    margins: Option<Margins>,
    marginals: Marginals,
    span: Option<(f64, f64)>,
}

/// One row of a reference: a question and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRow {
    /// The values asked about.
    pub x: Vec<ReferenceValue>,
    /// The prediction.
    #[serde(default)]
    pub p: Vec<ReferenceValue>,
}

/// One value of a reference row: what a cell is, with its text by value. Only finite numbers are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum ReferenceValue {
    /// JSON `null`.
    Missing,
    /// A finite number.
    Number(f64),
    /// A category.
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct Head {
    features: Vec<String>,
}

/// Why a reference cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ReferenceError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl Reference {
    fn new(trust: Trust, features: Vec<String>, rows: Vec<ReferenceRow>) -> Self {
        let number = |row: usize, column: usize| match rows.get(row)?.x.get(column)? {
            ReferenceValue::Number(number) => Some(*number),
            ReferenceValue::Missing | ReferenceValue::Text(_) => None,
        };
        let value = |row: usize, column: usize| rows.get(row).and_then(|row| row.x.get(column));
        let missing = |row, column| matches!(value(row, column), None | Some(ReferenceValue::Missing));
        let geometry = Geometry::of(rows.len(), features.len(), number);
        let marginals = Marginals::of(rows.len(), features.len(), number, missing);
        let margins = Margins::of(&rows);
        let span = span(&rows);
        Self { trust, features, rows, geometry, marginals, margins, span }
    }

    /// Reads the JSON-lines form: first `{"features": [names]}`, then a row `{"x": [...], "p": [...]}` to a line.
    ///
    /// # Errors
    /// Names the first line that is not of that form, or a row whose width is not that of the names.
    pub fn from_json_lines(text: &str, trust: Trust) -> Result<Self, ReferenceError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (first, head) = lines.next().unwrap_or((0, ""));
        let head: Head = read_line(first, head)?;
        let rows = lines.map(|(index, line)| read_row(index, line, head.features.len()));
        let rows = rows.collect::<Result<_, _>>()?;
        Ok(Self::new(trust, head.features, rows))
    }

    /// Writes the form that [`Reference::from_json_lines`] reads.
    #[must_use]
    pub fn to_json_lines(&self) -> String {
        let head = serde_json::to_string(&Head { features: self.features.clone() }).unwrap_or_default();
        let rows = self.rows.iter().map(|row| serde_json::to_string(row).unwrap_or_default());
        std::iter::once(head).chain(rows).flat_map(|line| [line, "\n".to_owned()]).collect()
    }

    /// The names of a row's columns.
    #[must_use]
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// How far is far; nothing where the rows are too few or hold no numbers.
    #[must_use]
    pub fn geometry(&self) -> Option<&Geometry> {
        self.geometry.as_ref()
    }

    /// The lowest and the highest number of all columns together; nothing where there is none.
    #[must_use]
    pub fn span(&self) -> Option<(f64, f64)> {
        self.span
    }

    /// Whether it was answered with numbers that are no classes and no scores from 0 to 1: one each, of more than twenty
    /// different values. O(rows).
    #[must_use]
    pub fn answers(&self) -> Answers {
        let number = |row: &ReferenceRow| match row.p.as_slice() {
            [ReferenceValue::Number(number)] => Some(*number),
            _ => None,
        };
        let Some(numbers) = self.rows.iter().map(number).collect::<Option<Vec<f64>>>() else {
            return Answers::Classes;
        };
        let mut different: Vec<u64> = numbers.iter().map(|number| number.to_bits()).collect();
        different.sort_unstable();
        different.dedup();
        let is_score = numbers.iter().all(|number| (0.0..=1.0).contains(number));
        if is_score || different.len() <= CLASSES_MAX { Answers::Classes } else { Answers::Numbers }
    }

    /// How sure its answers are of their class; nothing where they are no probabilities.
    #[must_use]
    pub fn margins(&self) -> Option<&Margins> {
        self.margins.as_ref()
    }

    /// How the values of each column lie by themselves.
    #[must_use]
    pub fn marginals(&self) -> &Marginals {
        &self.marginals
    }

    /// The question's column for each column of the reference, by name; nothing where one is missing. Columns without
    /// names, or with names of which the reference knows none (`input[0]`, as the columns of one tensor are called),
    /// are found by position. O(columns): whoever chooses the names must not choose the cost.
    #[must_use]
    pub fn columns_of(&self, question: &Features) -> Option<Vec<usize>> {
        let by_position = || (question.width == self.features.len()).then(|| (0..question.width).collect());
        if question.names.is_empty() || self.is_named_as(&question.names) {
            return by_position();
        }
        let places: FxHashMap<Cow<'_, str>, usize> =
            question.names.iter().map(Name::text).zip(0..question.width).collect();
        let found = self.features.iter().map(|feature| places.get(feature.as_str()).copied());
        if found.clone().all(|place| place.is_none()) {
            return by_position();
        }
        found.collect()
    }

    fn is_named_as(&self, names: &Names) -> bool {
        let features = self.features.iter();
        names.len() == self.features.len()
            && names.iter().zip(features).all(|(name, feature)| name == **feature)
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[ReferenceRow] {
        &self.rows
    }
}

fn span(rows: &[ReferenceRow]) -> Option<(f64, f64)> {
    let numbers = rows.iter().flat_map(|row| &row.x).filter_map(|value| match value {
        ReferenceValue::Number(number) => Some(*number),
        ReferenceValue::Missing | ReferenceValue::Text(_) => None,
    });
    numbers.fold(None, |span: Option<(f64, f64)>, number| {
        let (lowest, highest) = span.unwrap_or((number, number));
        Some((lowest.min(number), highest.max(number)))
    })
}

fn read_line<T: serde::de::DeserializeOwned>(index: usize, line: &str) -> Result<T, ReferenceError> {
    // A position within the line is all that the reader adds; the line itself is told here.
    serde_json::from_str(line).map_err(|error| ReferenceError { line: index + 1, message: error.to_string() })
}

fn read_row(index: usize, line: &str, width: usize) -> Result<ReferenceRow, ReferenceError> {
    let row: ReferenceRow = read_line(index, line)?;
    if row.x.len() == width {
        return Ok(row);
    }
    let message = format!("the row has {} values where line 1 names {width} features", row.x.len());
    Err(ReferenceError { line: index + 1, message })
}

impl Serialize for ReferenceValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return match self {
                Self::Missing => (0_u8, 0.0, "").serialize(serializer),
                Self::Number(number) => (1_u8, *number, "").serialize(serializer),
                Self::Text(text) => (2_u8, 0.0, text.as_str()).serialize(serializer),
            };
        }
        match self {
            Self::Missing => serializer.serialize_unit(),
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for ReferenceValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let (kind, number, text) = <(u8, f64, String)>::deserialize(deserializer)?;
            return Ok(match kind {
                0 => Self::Missing,
                1 => Self::Number(number),
                _ => Self::Text(text),
            });
        }
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::Missing),
            Value::Bool(truth) => Ok(Self::Number(f64::from(u8::from(truth)))),
            Value::Number(number) => Ok(number.as_f64().map_or(Self::Missing, Self::Number)),
            Value::String(text) => Ok(Self::Text(text)),
            _ => Err(serde::de::Error::custom("a value must be a number, a text, true, false or null")),
        }
    }
}

/// The values of one row, or nothing where it holds a number that is not finite.
#[must_use]
pub fn values_of(features: &Features, row: usize) -> Option<Vec<ReferenceValue>> {
    let value = |cell: &Cell| match *cell {
        Cell::Missing => Some(ReferenceValue::Missing),
        Cell::Number(number) => Number::from_f64(number).map(|_| ReferenceValue::Number(number)),
        Cell::Text(start, end) => Some(ReferenceValue::Text(features.text_of(start, end).to_owned())),
    };
    features.row(row).iter().map(value).collect()
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Learned {
    client: Identity,
    time: Time,
    content: u64,
    row: ReferenceRow,
}

/// Learns a provisional reference from the first rows that are asked for and answered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Learner {
    features: Vec<String>,
    rows: VecDeque<Learned>,
    contents: BTreeSet<u64>,
    /// Names that give the columns of `features`: nearly every question gives its names like the one before.
    #[serde(skip)]
    names: Option<Names>,
    /// Whether nothing changed since there was too little for a reference.
    #[serde(skip)]
    too_little: bool,
    /// Rows with other columns, where the latest are learned.
    others: usize,
}

/// So many rows with other columns than the first, beyond those that have them, and the latest are learned anew.
const OTHERS_MAX: usize = 200;

impl Learner {
    /// Rows that freeze it.
    pub const ROWS_MIN: usize = 500;
    /// Most rows that it ever holds.
    pub const ROWS_MAX: usize = 1500;
    /// Fewest clients it is made of.
    pub const CLIENTS_MIN: usize = 3;
    /// Most rows of one client: more would only delay the day when nobody stands for more than a third.
    pub const ROWS_PER_CLIENT: usize = Self::ROWS_MIN / 3 + 1;

    /// Rows learned so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is learned yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many more rows of `client` it would take.
    #[must_use]
    pub fn room(&self, client: Identity) -> usize {
        let own = self.rows.iter().filter(|learned| learned.client == client).count();
        Self::ROWS_PER_CLIENT.saturating_sub(own).min(Self::ROWS_MAX - self.rows.len().min(Self::ROWS_MAX))
    }

    /// Takes a row with its answer; rows with other columns than the first, and rows known by `content`, are left.
    pub fn learn(
        &mut self,
        (client, time): (Identity, Time),
        content: u64,
        names: &Names,
        row: ReferenceRow,
    ) {
        if self.fits(names, row.x.len()) && self.room(client) > 0 && self.contents.insert(content) {
            self.rows.push_back(Learned { client, time, content, row });
            self.too_little = false;
        }
    }

    /// The same of the latest rows: a client that has as many as it may gives up its oldest for a new one, and where all
    /// is full, the oldest of all goes. Where many rows have other columns than the first, those are learned instead.
    pub fn learn_latest(
        &mut self,
        (client, time): (Identity, Time),
        content: u64,
        names: &Names,
        row: ReferenceRow,
    ) {
        if !self.fits(names, row.x.len()) {
            self.others += 1;
            if self.others > self.rows.len() + OTHERS_MAX {
                *self = Self::default();
            }
            return;
        }
        if !self.contents.insert(content) {
            return;
        }
        let own = self.rows.iter().filter(|learned| learned.client == client).count();
        let gone = if own >= Self::ROWS_PER_CLIENT {
            self.rows.iter().position(|learned| learned.client == client)
        } else {
            (self.rows.len() >= Self::ROWS_MAX).then_some(0)
        };
        if let Some(gone) = gone.and_then(|place| self.rows.remove(place)) {
            self.contents.remove(&gone.content);
        }
        self.rows.push_back(Learned { client, time, content, row });
        self.too_little = false;
    }

    /// Whether a row has the columns of the first, which it may be.
    fn fits(&mut self, names: &Names, width: usize) -> bool {
        if self.rows.is_empty() {
            self.features = column_names(names, width);
            self.names = Some(names.clone());
        }
        if width != self.features.len() {
            return false;
        }
        if self.names.as_ref() == Some(names) {
            return true;
        }
        let fits = column_names(names, width) == self.features;
        if fits {
            self.names = Some(names.clone());
        }
        fits
    }

    /// Takes back what a client contributed: suspected traffic never makes a reference.
    pub fn forget(&mut self, client: Identity) {
        self.too_little = false;
        self.rows.retain(|learned| learned.client != client);
        self.contents = self.rows.iter().map(|learned| learned.content).collect();
    }

    /// How many rows each client gave.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Identity, usize> {
        let mut counts = BTreeMap::new();
        for learned in &self.rows {
            *counts.entry(learned.client).or_default() += 1;
        }
        counts
    }

    /// When the first and the last row came.
    #[must_use]
    pub fn span(&self) -> Option<(Time, Time)> {
        Some((self.rows.front()?.time, self.rows.back()?.time))
    }

    /// The reference, once enough rows of enough clients are there and nobody stands for more than a third.
    #[must_use]
    pub fn freeze(&mut self) -> Option<Reference> {
        if self.rows.len() < Self::ROWS_MIN || self.too_little {
            return None;
        }
        let mut counts: FxHashMap<Identity, usize> = FxHashMap::default();
        let mut most = 0;
        for learned in &self.rows {
            let count = counts.entry(learned.client).or_default();
            *count += 1;
            most = most.max(*count);
        }
        let broad = counts.len() >= Self::CLIENTS_MIN && most * 3 <= self.rows.len();
        self.too_little = !broad;
        let rows = || self.rows.iter().map(|learned| learned.row.clone()).collect();
        broad.then(|| Reference::new(Trust::Provisional, self.features.clone(), rows()))
    }
}

fn column_names(names: &Names, width: usize) -> Vec<String> {
    let name = |column| names.get(column).map_or_else(|| format!("{column}"), |name| name.to_string());
    (0..width).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: f64) -> ReferenceRow {
        ReferenceRow { x: vec![ReferenceValue::Number(number)], p: vec![ReferenceValue::Number(1.0)] }
    }

    fn learn(learner: &mut Learner, client: u64, rows: std::ops::Range<u64>) {
        for content in rows {
            learner.learn(
                (Identity::Key(client), Time(content)),
                content,
                &Names::default(),
                row(content as f64),
            );
        }
    }

    #[test]
    fn a_reference_reads_back() {
        let text = "{\"features\":[\"age\",\"region\"]}\n{\"x\":[1.5,\"north\"],\"p\":[2.0]}\n{\"x\":[null,\"\"],\"p\":[]}\n";
        let reference = Reference::from_json_lines(text, Trust::Trusted).unwrap();
        assert_eq!(reference.rows().len(), 2);
        assert_eq!(reference.to_json_lines(), text);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [
            ("", 1),
            ("{\"x\":[1]}", 1),
            ("{\"features\":[\"a\"]}\n{\"x\":[1,2]}", 2),
            ("{\"features\":[\"a\"]}\n\n{\"x\":[{}]}", 3),
        ] {
            let error = Reference::from_json_lines(text, Trust::Trusted).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
    }

    #[test]
    fn the_latest_rows_of_each_client_are_kept_and_other_columns_take_over() {
        let mut learner = Learner::default();
        let mut learn = |client: u64, contents: std::ops::Range<u64>, width: usize| {
            for content in contents {
                let number = ReferenceValue::Number(content as f64);
                let row = ReferenceRow { x: vec![number.clone(); width], p: vec![number] };
                let who = (Identity::Key(client), Time(content));
                learner.learn_latest(who, content, &Names::default(), row);
            }
        };
        learn(1, 0..1000, 1);
        (2..=12).for_each(|client| learn(client, client * 1000..client * 1000 + 160, 1));
        assert_eq!(learner.len(), Learner::ROWS_MAX);
        assert_eq!(learner.contents.len(), learner.len(), "what went may come again");
        assert!(!learner.counts().contains_key(&Identity::Key(1)), "the oldest of all went");
        assert_eq!(learner.span().unwrap().1, Time(12_159));
        let reference = learner.freeze().unwrap();
        assert_eq!((reference.rows().len(), reference.features().len()), (1500, 1));
        let mut learn = |client: u64, contents: std::ops::Range<u64>| {
            for content in contents {
                let row = ReferenceRow { x: vec![ReferenceValue::Missing; 2], p: vec![] };
                learner.learn_latest((Identity::Key(client), Time(content)), content, &Names::default(), row);
            }
        };
        learn(1, 20_000..21_800);
        assert_eq!(learner.len(), 99, "the model that came asks for two columns");
    }

    #[test]
    fn one_or_two_clients_never_make_a_reference() {
        let mut learner = Learner::default();
        learn(&mut learner, 1, 0..5000);
        learn(&mut learner, 2, 5000..9000);
        assert_eq!(learner.len(), 2 * Learner::ROWS_PER_CLIENT);
        assert_eq!(learner.freeze(), None);
    }

    #[test]
    fn three_clients_with_a_third_each_are_enough() {
        let mut learner = Learner::default();
        learn(&mut learner, 1, 0..167);
        learn(&mut learner, 2, 1000..1167);
        learn(&mut learner, 3, 2000..2166);
        assert_eq!(learner.freeze(), None, "two of them stand for more than a third of 500");
        learn(&mut learner, 3, 2166..2167);
        let reference = learner.freeze().unwrap();
        assert_eq!((reference.trust, reference.rows().len()), (Trust::Provisional, 501));
    }

    #[test]
    fn repeats_and_forgotten_clients_do_not_count() {
        let mut learner = Learner::default();
        learn(&mut learner, 1, 0..10);
        learn(&mut learner, 2, 0..12);
        assert_eq!(learner.len(), 12);
        learner.forget(Identity::Key(1));
        assert_eq!(learner.len(), 2);
    }

    #[test]
    fn rows_with_other_columns_are_left_however_their_names_are_given() {
        let names = |given: &[&str]| given.iter().copied().collect::<Names>();
        let mut numbered = Names::default();
        numbered.push_numbered("a", 1);
        let mut learner = Learner::default();
        let given = [
            (names(&["a[0]"]), 1),
            (numbered, 2),
            (names(&["a[1]"]), 2),
            (names(&[]), 2),
            (names(&["a[0]"]), 3),
        ];
        for (content, (names, learned)) in (0..).zip(given) {
            learner.learn((Identity::Key(1), Time(content)), content, &names, row(1.0));
            assert_eq!(learner.len(), learned, "{names:?}");
        }
        learner.forget(Identity::Key(1));
        learner.learn((Identity::Key(1), Time(9)), 9, &Names::default(), row(1.0));
        assert_eq!(learner.len(), 1, "the first row says which columns there are");
    }

    #[test]
    fn a_reference_is_looked_for_anew_after_each_row() {
        let freezes = |learner: &mut Learner| learner.freeze().is_some();
        let mut lopsided = Learner::default();
        learn(&mut lopsided, 1, 0..167);
        (2..=3).for_each(|client| learn(&mut lopsided, client, client * 1000..client * 1000 + 166));
        assert_eq!((lopsided.len(), freezes(&mut lopsided)), (499, false), "one row short");
        learn(&mut lopsided, 4, 9000..9001);
        assert_eq!((lopsided.len(), freezes(&mut lopsided)), (500, false), "one holds more than a third");
        assert!(!freezes(&mut lopsided), "still");
        learn(&mut lopsided, 4, 9001..9010);
        assert!(freezes(&mut lopsided));
    }
}
