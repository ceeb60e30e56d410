//! Rows of any source, gathered column by column for a reference, with what was odd about them.

use ahash::{AHashMap, AHashSet};
use checkgate_detectors::drift::bins::Value;
use checkgate_detectors::drift::reference::{ANSWER, Column, FEATURES_MAX, Table};
use checkgate_detectors::facts::Time;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::file::{ColumnRead, LeftOut};

/// Values that are gathered at most: each takes 16 bytes of memory.
const VALUES_MAX: usize = 100_000_000;
/// Names of columns that are remembered, watched or not.
const NAMES_MAX: usize = 4096;
/// Different labels of a column that are counted.
const LABELS_MAX: usize = 10_000;
/// Labels of a column whose texts are remembered.
const TEXTS_MAX: usize = 1024;
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 40;

/// One value as a source gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Given<'a> {
    /// There is none.
    Missing,
    /// A number.
    Number(f64),
    /// A text.
    Text(&'a str),
}

/// Which columns are taken, and as what.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The column that says when a row came.
    pub time: Option<String>,
    /// The only columns that are watched; all where it is empty.
    pub only: Vec<String>,
    /// Columns that are not watched.
    pub leave_out: Vec<String>,
    /// Columns whose numbers are labels.
    pub text: Vec<String>,
    /// Columns of answers.
    pub answers: Vec<String>,
}

/// Why a value cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A row names a column twice.
    #[error("column {0:?} stands twice in this row; name each column once")]
    Twice(String),
    /// Too many columns.
    #[error("more than {NAMES_MAX} columns; name those that count with --columns")]
    TooManyColumns,
    /// Too many values.
    #[error(
        "more than {VALUES_MAX} values; a reference gains nothing beyond about 100,000 rows, so take a sample"
    )]
    TooManyValues,
    /// A time that is none.
    #[error("{0:?} is no time; give seconds since 1970, or a time such as 2026-11-28T12:00:00Z")]
    Time(String),
    /// A row without a time.
    #[error("the row has no time; every row needs one where --time is given")]
    NoTime,
}

/// What was gathered.
pub struct Rows {
    choice: Choice,
    key: [u64; 2],
    columns: Vec<Gathered>,
    /// Where each name's column is; nothing where it is not watched.
    places: AHashMap<String, Option<usize>>,
    times: Vec<Time>,
    count: usize,
    left_out: Vec<LeftOut>,
}

struct Gathered {
    name: String,
    is_text: bool,
    values: Vec<Value>,
    numbers: u64,
    labels: u64,
    /// The first number and the first text, with their places.
    first: [Option<String>; 2],
    /// What labels are called, by their hash.
    texts: AHashMap<u64, String>,
}

/// Where a column's values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To a column that is watched.
    Column(usize),
    /// It says when the row came.
    Time,
    /// Nowhere.
    Nowhere,
}

/// Everything that was gathered, ready to be frozen.
pub struct Gathering {
    /// The rows.
    pub table: Table,
    /// What was read of each column.
    pub columns: Vec<ColumnRead>,
    /// What labels of each column are called, by their hash.
    pub texts: Vec<AHashMap<u64, String>>,
    /// Columns that are not watched.
    pub left_out: Vec<LeftOut>,
    /// Rows that lack a value.
    pub rows_with_missing: u64,
    /// Whether rows had to be put in the order of their times.
    pub sorted: bool,
}

impl Rows {
    /// Nothing yet. Labels are hashed under `key`.
    #[must_use]
    pub fn new(choice: Choice, key: [u64; 2]) -> Self {
        Self {
            choice,
            key,
            columns: Vec::new(),
            places: AHashMap::new(),
            times: Vec::new(),
            count: 0,
            left_out: Vec::new(),
        }
    }

    /// Rows so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Where the values of a column go. `hint` is where it is likely to be watched: it saves a look-up.
    ///
    /// # Errors
    /// There are too many columns.
    pub fn place(&mut self, name: &str, hint: usize) -> Result<Place, RowError> {
        let near = self.columns.get(hint).is_some_and(|column| column.name == name);
        if near {
            return Ok(Place::Column(hint));
        }
        if self.choice.time.as_deref() == Some(name) {
            return Ok(Place::Time);
        }
        if let Some(place) = self.places.get(name) {
            return Ok(place.map_or(Place::Nowhere, Place::Column));
        }
        if self.places.len() >= NAMES_MAX {
            return Err(RowError::TooManyColumns);
        }
        let place = self.add(name);
        self.places.insert(name.to_owned(), place);
        Ok(place.map_or(Place::Nowhere, Place::Column))
    }

    fn add(&mut self, name: &str) -> Option<usize> {
        let named = |list: &[String]| list.iter().any(|listed| listed == name);
        let why = if named(&self.choice.leave_out)
            || !self.choice.only.is_empty() && !named(&self.choice.only)
        {
            Some("it was not asked for".to_owned())
        } else if self.columns.len() >= FEATURES_MAX {
            Some(format!("a reference watches {FEATURES_MAX} columns at most; choose them with --columns"))
        } else {
            None
        };
        if let Some(why) = why {
            self.left_out.push(LeftOut { name: name.to_owned(), why });
            return None;
        }
        let shown = if named(&self.choice.answers) { format!("{ANSWER}{name}") } else { name.to_owned() };
        self.columns.push(Gathered {
            name: shown,
            is_text: named(&self.choice.text),
            values: vec![Value::Missing; self.count],
            numbers: 0,
            labels: 0,
            first: [None, None],
            texts: AHashMap::new(),
        });
        Some(self.columns.len() - 1)
    }

    /// Takes a value of the row under way. `at` says where it stands, and is asked once for each kind of value.
    ///
    /// # Errors
    /// The row has the column already, or there are too many values.
    pub fn take(&mut self, column: usize, given: Given<'_>, at: impl Fn() -> String) -> Result<(), RowError> {
        self.take_in(column, self.count, given, at)
    }

    /// The same for a row that lies `ahead` of the row under way: sources that go column by column.
    ///
    /// # Errors
    /// As [`Rows::take`].
    pub fn take_ahead(
        &mut self,
        column: usize,
        ahead: usize,
        given: Given<'_>,
        at: impl Fn() -> String,
    ) -> Result<(), RowError> {
        self.take_in(column, self.count + ahead, given, at)
    }

    fn take_in(
        &mut self,
        column: usize,
        row: usize,
        given: Given<'_>,
        at: impl Fn() -> String,
    ) -> Result<(), RowError> {
        let (key, width) = (self.key, self.columns.len());
        let Some(column) = self.columns.get_mut(column) else { return Ok(()) };
        if column.values.len() > row {
            return Err(RowError::Twice(column.name.clone()));
        }
        if column.values.len().saturating_mul(width) > VALUES_MAX {
            return Err(RowError::TooManyValues);
        }
        let value = column.value(key, given, at);
        column.values.push(value);
        Ok(())
    }

    /// Ends `rows` rows; what they did not give is missing.
    pub fn end(&mut self, rows: usize) {
        self.count += rows;
        for column in self.columns.iter_mut().filter(|column| column.values.len() < self.count) {
            column.values.resize(self.count, Value::Missing);
        }
    }

    /// Takes the time of a row.
    ///
    /// # Errors
    /// It is none.
    pub fn time(&mut self, given: Given<'_>) -> Result<(), RowError> {
        self.times.push(time_of(given)?);
        Ok(())
    }

    /// Takes the time of a row that a recording knows.
    pub fn known_time(&mut self, time: Time) {
        self.times.push(time);
    }

    /// Whether rows must say when they came.
    #[must_use]
    pub fn wants_time(&self) -> bool {
        self.choice.time.is_some()
    }

    /// The column that says when.
    #[must_use]
    pub fn time_column(&self) -> Option<&str> {
        self.choice.time.as_deref()
    }

    /// Whether a column that the choice names was never met.
    #[must_use]
    pub fn unmet(&self) -> Option<&str> {
        let Choice { only, leave_out, text, answers, .. } = &self.choice;
        let mut named = [only, leave_out, text, answers].into_iter().flatten();
        named.find(|name| !self.places.contains_key(*name)).map(String::as_str)
    }

    /// Everything, in the order of time.
    #[must_use]
    pub fn finish(mut self) -> Gathering {
        let empty = |column: &Gathered| column.numbers == 0 && column.labels == 0;
        for column in self.columns.iter().filter(|column| empty(column)) {
            self.left_out.push(LeftOut { name: column.name.clone(), why: "it holds no value".to_owned() });
        }
        self.columns.retain(|column| !empty(column));
        if self.times.len() != self.count {
            // Only some of the files know when their rows came.
            self.times.clear();
        }
        let order = order(&self.times);
        if let Some(order) = &order {
            self.times = picked(&self.times, order);
            for column in &mut self.columns {
                column.values = picked(&column.values, order);
            }
        }
        let mut gap = vec![false; self.count];
        for column in &self.columns {
            gap.iter_mut().zip(&column.values).for_each(|(gap, value)| *gap |= *value == Value::Missing);
        }
        let columns = self.columns.iter().map(Gathered::read).collect();
        let texts = self.columns.iter_mut().map(|column| std::mem::take(&mut column.texts)).collect();
        let column = |column: Gathered| Column { name: column.name, values: column.values };
        Gathering {
            table: Table { columns: self.columns.into_iter().map(column).collect(), times: self.times },
            columns,
            texts,
            left_out: self.left_out,
            rows_with_missing: gap.iter().filter(|gap| **gap).count() as u64,
            sorted: order.is_some(),
        }
    }
}

impl Gathered {
    fn value(&mut self, key: [u64; 2], given: Given<'_>, at: impl Fn() -> String) -> Value {
        match given {
            Given::Missing => Value::Missing,
            Given::Number(number) if !self.is_text => {
                if self.numbers == 0 {
                    self.first[0] = Some(format!("{number} {}", at()));
                }
                self.numbers += 1;
                Value::Number(number)
            }
            Given::Number(number) => self.label(key, &number.to_string(), at),
            Given::Text(text) => self.label(key, text, at),
        }
    }

    fn label(&mut self, key: [u64; 2], text: &str, at: impl Fn() -> String) -> Value {
        let shown = || text.chars().take(SHOWN_MAX).collect::<String>();
        if self.labels == 0 {
            self.first[1] = Some(format!("{:?} {}", shown(), at()));
        }
        self.labels += 1;
        let value = Value::label(key, text);
        if let Value::Label(label) = value
            && (self.texts.len() < TEXTS_MAX && !self.texts.contains_key(&label))
        {
            self.texts.insert(label, shown());
        }
        value
    }

    fn read(&self) -> ColumnRead {
        let is_labels = self.labels > self.numbers;
        let wrong = if is_labels { (self.numbers, &self.first[0]) } else { (self.labels, &self.first[1]) };
        let mut different: AHashSet<u64> = AHashSet::new();
        let labels = self
            .values
            .iter()
            .filter_map(|value| if let Value::Label(label) = value { Some(label) } else { None });
        for label in labels.filter(|_| is_labels) {
            if different.len() < LABELS_MAX {
                different.insert(*label);
            }
        }
        let mut there = self.values.iter().filter(|value| **value != Value::Missing);
        let first = there.next();
        ColumnRead {
            name: self.name.clone(),
            kind: if is_labels { "labels" } else { "numbers" }.to_owned(),
            missing: self.values.len() as u64 - self.numbers - self.labels,
            wrong_type: wrong.0,
            first_wrong: wrong.1.clone().filter(|_| wrong.0 > 0),
            constant: there.all(|value| Some(value) == first),
            labels: different.len() as u64,
            as_labels: self.is_text,
            names: Vec::new(),
        }
    }
}

/// The order of rows by time; nothing where they are in it.
fn order(times: &[Time]) -> Option<Vec<usize>> {
    if times.is_sorted() {
        return None;
    }
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|row| times.get(*row));
    Some(order)
}

fn picked<T: Copy>(values: &[T], order: &[usize]) -> Vec<T> {
    order.iter().filter_map(|row| values.get(*row).copied()).collect()
}

/// When: a number of seconds, milliseconds, microseconds or nanoseconds since 1970, which is told from its size, or a
/// date, with a time and a zone where it has them.
fn time_of(given: Given<'_>) -> Result<Time, RowError> {
    match given {
        Given::Missing => Err(RowError::NoTime),
        Given::Number(number) => {
            let unit = match number.abs() {
                large if large >= 1e17 => 1e-3,
                large if large >= 1e14 => 1.0,
                large if large >= 1e11 => 1e3,
                _ => 1e6,
            };
            let whole = number * unit;
            let fits = (0.0..9.2e18).contains(&whole);
            if fits { Ok(Time(whole as u64)) } else { Err(RowError::Time(number.to_string())) }
        }
        Given::Text(text) => {
            let refused = || RowError::Time(text.chars().take(SHOWN_MAX).collect());
            let time = OffsetDateTime::parse(&full(text), &Rfc3339).map_err(|_| refused())?;
            let microseconds = time.unix_timestamp_nanos() / 1000;
            u64::try_from(microseconds).map(Time).map_err(|_| refused())
        }
    }
}

/// A date with the time and zone that it leaves out: midnight, and the prime meridian.
fn full(text: &str) -> String {
    let mut text = text.trim().replacen(' ', "T", 1);
    if text.len() == 10 {
        text.push_str("T00:00:00");
    }
    let clock = text.get(11..).unwrap_or_default();
    if clock.matches(':').count() == 1 && clock.len() == 5 {
        text.push_str(":00");
    }
    if !text.get(11..).unwrap_or_default().contains(['Z', 'z', '+', '-']) {
        text.push('Z');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rows: &mut Rows, name: &str, given: Given<'_>) {
        if let Place::Column(column) = rows.place(name, 0).unwrap() {
            rows.take(column, given, || "at here".into()).unwrap();
        }
    }

    #[test]
    fn columns_that_come_late_or_stay_away_are_missing_there() {
        let mut rows = Rows::new(Choice::default(), [1, 2]);
        taken(&mut rows, "a", Given::Number(1.0));
        rows.end(1);
        taken(&mut rows, "b", Given::Text("north"));
        rows.end(1);
        let gathering = rows.finish();
        let [a, b] = &gathering.table.columns[..] else { panic!("two columns") };
        assert_eq!(a.values, [Value::Number(1.0), Value::Missing]);
        assert_eq!(b.values, [Value::Missing, Value::label([1, 2], "north")]);
        assert_eq!(gathering.rows_with_missing, 2);
        assert_eq!((&*gathering.columns[0].kind, &*gathering.columns[1].kind), ("numbers", "labels"));
    }

    #[test]
    fn what_is_of_the_other_type_is_counted_and_the_first_one_is_shown() {
        let mut rows = Rows::new(Choice::default(), [1, 2]);
        for text in ["1", "2", "three", "four"] {
            let given = text.parse().map_or(Given::Text(text), Given::Number);
            taken(&mut rows, "a", given);
            rows.end(1);
        }
        taken(&mut rows, "a", Given::Number(5.0));
        rows.end(1);
        let read = &rows.finish().columns[0];
        assert_eq!((&*read.kind, read.wrong_type, read.missing), ("numbers", 2, 0));
        assert_eq!(read.first_wrong.as_deref(), Some("\"three\" at here"));
    }

    #[test]
    fn only_what_was_asked_for_is_watched_and_the_rest_is_told() {
        let choice = Choice {
            leave_out: vec!["id".into()],
            text: vec!["zip".into()],
            answers: vec!["price".into()],
            ..Choice::default()
        };
        let mut rows = Rows::new(choice, [1, 2]);
        for name in ["id", "zip", "price", "empty"] {
            let given = if name == "empty" { Given::Missing } else { Given::Number(7.0) };
            taken(&mut rows, name, given);
        }
        rows.end(1);
        assert_eq!(rows.unmet(), None, "every column that was named was met");
        let gathering = rows.finish();
        let names: Vec<_> = gathering.table.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["zip", "answer:price"]);
        assert_eq!(
            gathering.table.columns[0].values,
            [Value::label([1, 2], "7")],
            "a number that is a label"
        );
        let left: Vec<_> = gathering.left_out.iter().map(|left| left.name.as_str()).collect();
        assert_eq!(left, ["id", "empty"]);
    }

    #[test]
    fn rows_are_put_in_the_order_of_time() {
        let choice = Choice { time: Some("when".into()), ..Choice::default() };
        let mut rows = Rows::new(choice, [1, 2]);
        for second in [3.0, 1.0, 2.0] {
            rows.time(Given::Number(second)).unwrap();
            taken(&mut rows, "a", Given::Number(second));
            rows.end(1);
        }
        let gathering = rows.finish();
        assert!(gathering.sorted);
        assert_eq!(gathering.table.columns[0].values, [1.0, 2.0, 3.0].map(Value::Number));
        assert_eq!(gathering.table.times, [1, 2, 3].map(|second| Time(second * 1_000_000)));
    }

    #[test]
    fn a_column_that_a_row_names_twice_is_refused() {
        let mut rows = Rows::new(Choice::default(), [1, 2]);
        taken(&mut rows, "a", Given::Number(1.0));
        assert_eq!(rows.take(0, Given::Number(2.0), String::new), Err(RowError::Twice("a".into())));
    }

    #[test]
    fn times_are_read_as_people_and_programs_write_them() {
        let day = Time(1_357_016_400_000_000);
        for text in [
            "2013-01-01T05:00:00Z",
            "2013-01-01 05:00:00",
            "2013-01-01 05:00",
            "2013-01-01T07:00:00+02:00",
            "2013-01-01T00:00:00-05:00",
        ] {
            assert_eq!(time_of(Given::Text(text)), Ok(day), "{text}");
        }
        for number in [1_357_016_400.0, 1_357_016_400e3, 1_357_016_400e6, 1_357_016_400e9] {
            assert_eq!(time_of(Given::Number(number)), Ok(day), "{number}");
        }
        assert_eq!(time_of(Given::Text("2013-01-01")), Ok(Time(1_356_998_400_000_000)));
        for wrong in [Given::Text("yesterday"), Given::Number(f64::NAN), Given::Number(-1.0), Given::Missing]
        {
            assert!(time_of(wrong).is_err(), "{wrong:?}");
        }
    }
}
