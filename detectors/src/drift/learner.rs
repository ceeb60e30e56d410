//! The warm-up: a reference of drift is learned from the first rows that are asked for and answered, in quarantine.
//!
//! What was learned from a client is taken back once anything speaks against it, and it is not learned from again; one
//! client gives at most a third of the rows, and there are at least three. The rows are gone once the reference is
//! frozen. It is provisional: it says what the first traffic was like, not that it was right.
//!
//! A maintenance window learns in the same quarantine, but the latest rows ([`Learner::learn_latest`]): at its beginning
//! the model that goes may still answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::bins::Value;
use super::cells::{self, STATUS};
use super::reference::{Column, DriftReference, FEATURES_MAX, ROWS_MIN, Settings, Table};
use crate::facts::{Features, Time};
use crate::identity::Identity;
use crate::names::Names;

/// Most values that a warm-up holds, 16 bytes each.
pub const VALUES_MAX: usize = 1 << 18;
/// Fewest clients that a reference is made of.
pub const CLIENTS_MIN: usize = 3;
/// Most clients that are not learned from; once so many are known, no newcomer is learned from.
pub const SUSPECTS_MAX: usize = 4096;
/// So many rows with other columns than the first, beyond those that have them, begin a warm-up anew.
const OTHERS_MAX: usize = 200;

/// A warm-up under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Learner {
    question: Vec<String>,
    names: Vec<String>,
    rows: VecDeque<Learned>,
    /// Rows of each client.
    counts: BTreeMap<Identity, usize>,
    suspects: BTreeSet<Identity>,
    others: usize,
    /// Names of columns that are those of `question`: nearly every question gives its names like the one before.
    #[serde(skip)]
    known: Option<Names>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Learned {
    client: Identity,
    time: Time,
    values: Vec<Option<Value>>,
}

impl Learner {
    /// The names of the features, as far as bodies told them: those of questions first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(self.question.iter().filter(|_| self.names.is_empty())).map(String::as_str)
    }

    /// Takes the columns of the first question, and says whether it did.
    pub fn see_question(&mut self, question: &Features) -> bool {
        let first = self.question.is_empty();
        if first {
            self.question =
                (0..question.width.min(FEATURES_MAX)).map(|column| question.name(column)).collect();
        }
        first
    }

    /// Whether a question has the columns of the first.
    pub fn fits(&mut self, question: &Features) -> bool {
        if question.width.min(FEATURES_MAX) != self.question.len() {
            return false;
        }
        if self.known.as_ref() == Some(&question.names) {
            return true;
        }
        let fits = self.question.iter().enumerate().all(|(column, name)| question.name(column) == *name);
        if fits {
            self.known = Some(question.names.clone());
        }
        fits
    }

    /// Takes the columns of the first answer, and says whether it did.
    pub fn see_answer(&mut self, answer: &Features, leave_out: &[String]) -> bool {
        if !self.names.is_empty() || self.question.is_empty() {
            return false;
        }
        let predictions = (0..answer.width).map(|column| cells::answer_name(answer, column));
        let all = self.question.iter().cloned().chain(predictions).chain([STATUS.to_owned()]);
        self.names = all.filter(|name| !leave_out.contains(name)).take(FEATURES_MAX).collect();
        true
    }

    /// Most rows that it learns, where `wanted` are wanted.
    fn rows_max(&self, wanted: u32) -> usize {
        (wanted as usize).min(VALUES_MAX / self.names.len().max(1)).max(ROWS_MIN)
    }

    /// Takes a row of a client that nothing speaks against. Rows without a column of the first are left.
    pub fn learn(&mut self, client: Identity, time: Time, values: &[Option<Value>], wanted: u32) {
        let rows_max = self.rows_max(wanted);
        let Some(own) = self.rows_of(client, values) else { return };
        // A third each is the most that a reference may be made of; more would only delay it.
        if own <= rows_max / CLIENTS_MIN && self.rows.len() <= rows_max {
            self.push(client, time, values);
        }
    }

    /// The same of the latest rows: a client that has its third gives up its oldest row for a new one, and where all is
    /// full, the oldest of all goes. O(rows) where one goes, otherwise O(values).
    pub fn learn_latest(&mut self, client: Identity, time: Time, values: &[Option<Value>], wanted: u32) {
        let rows_max = self.rows_max(wanted);
        let Some(own) = self.rows_of(client, values) else { return };
        let gone = if own > rows_max / CLIENTS_MIN {
            self.rows.iter().position(|learned| learned.client == client)
        } else {
            (self.rows.len() > rows_max).then_some(0)
        };
        if let Some(gone) = gone.and_then(|place| self.rows.remove(place))
            && let Some(rows) = self.counts.get_mut(&gone.client)
        {
            *rows -= 1;
            if *rows == 0 {
                self.counts.remove(&gone.client);
            }
        }
        self.push(client, time, values);
    }

    /// Rows of a client that may give another one; nothing where it may not, or the row has other columns.
    fn rows_of(&self, client: Identity, values: &[Option<Value>]) -> Option<usize> {
        let own = self.counts.get(&client).copied().unwrap_or(0);
        let is_new_among_too_many = own == 0 && self.suspects.len() >= SUSPECTS_MAX;
        let is_refused = self.suspects.contains(&client) || is_new_among_too_many;
        (!is_refused && values.len() == self.names.len()).then_some(own)
    }

    fn push(&mut self, client: Identity, time: Time, values: &[Option<Value>]) {
        *self.counts.entry(client).or_default() += 1;
        self.rows.push_back(Learned { client, time, values: values.to_vec() });
    }

    /// Suspects whom `other` suspects, unless those are so many that nobody new could be learned from.
    pub fn suspect_as(&mut self, other: &Self) {
        if other.suspects.len() < SUSPECTS_MAX {
            self.suspects.clone_from(&other.suspects);
        }
    }

    /// Counts a row with other columns than the first; where most are like that, the first was the odd one.
    pub fn left_aside(&mut self) -> bool {
        self.others += 1;
        let anew = self.others > self.rows.len() + OTHERS_MAX;
        if anew {
            self.clear();
        }
        anew
    }

    /// Takes back what a client gave, and learns nothing from it again.
    pub fn suspect(&mut self, client: Identity) {
        if self.suspects.len() < SUSPECTS_MAX {
            self.suspects.insert(client);
        }
        if self.counts.remove(&client).is_some() {
            self.rows.retain(|learned| learned.client != client);
        }
    }

    /// Lets go of the rows and their names, and still knows whom it suspects.
    pub fn clear(&mut self) {
        *self = Self { suspects: std::mem::take(&mut self.suspects), ..Self::default() };
    }

    /// Whether anything speaks against a client.
    #[must_use]
    pub fn suspects(&self, client: Identity) -> bool {
        self.suspects.contains(&client)
    }

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

    /// The reference, once there are enough rows of enough clients, none of whom stands for more than a third.
    #[must_use]
    pub fn freeze(&mut self, wanted: u32, settings: &Settings) -> Option<DriftReference> {
        // Nobody gives more than a third and one row, so that many rows are those of at least three clients.
        let is_broad = self.rows.len() >= self.rows_max(wanted) && self.counts.len() >= CLIENTS_MIN;
        if !is_broad {
            return None;
        }
        DriftReference::of(&self.table(), settings).ok()
    }

    /// The reference of what is there, of fewer rows than were wanted as well; nothing of too few rows or clients. Whoever
    /// gave more than a third is cut back to that, to the latest rows. O(rows x log rows x features).
    #[must_use]
    pub fn conclude(&mut self, settings: &Settings) -> Option<DriftReference> {
        let most = most_each(&self.counts.values().copied().collect::<Vec<_>>());
        let over = |(client, rows): (&Identity, &usize)| Some((*client, rows.checked_sub(most)?));
        let mut over: BTreeMap<Identity, usize> = self.counts.iter().filter_map(over).collect();
        self.rows.retain(|learned| match over.get_mut(&learned.client) {
            Some(rows) if *rows > 0 => {
                *rows -= 1;
                false
            }
            _ => true,
        });
        self.counts.values_mut().for_each(|rows| *rows = (*rows).min(most));
        self.counts.retain(|_, rows| *rows > 0);
        if self.counts.len() < CLIENTS_MIN {
            return None;
        }
        DriftReference::of(&self.table(), settings).ok()
    }

    /// How many rows each client gave.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<Identity, usize> {
        &self.counts
    }

    /// When the first and the last row came.
    #[must_use]
    pub fn span(&self) -> Option<(Time, Time)> {
        Some((self.rows.front()?.time, self.rows.back()?.time))
    }

    /// The rows as columns. What an exchange did not tell is taken as in the row before: a value that belongs to a whole
    /// exchange comes once, with its first row.
    fn table(&self) -> Table {
        let column = |(place, name): (usize, &String)| {
            let mut last = Value::Missing;
            let value = |learned: &Learned| {
                last = learned.values.get(place).copied().flatten().unwrap_or(last);
                last
            };
            Column { name: name.clone(), values: self.rows.iter().map(value).collect() }
        };
        Table {
            columns: self.names.iter().enumerate().map(column).collect(),
            times: self.rows.iter().map(|learned| learned.time).collect(),
        }
    }
}

/// The most rows that each client may give so that nobody stands for more than a third of all.
fn most_each(counts: &[usize]) -> usize {
    let fits = |most: usize| {
        let all: usize = counts.iter().map(|rows| (*rows).min(most)).sum();
        most * CLIENTS_MIN <= all
    };
    // Once it no longer fits, more never does: the sum grows by less and less.
    let (mut fit, mut over) = (0, counts.iter().max().copied().unwrap_or(0) + 1);
    while fit + 1 < over {
        let middle = usize::midpoint(fit, over);
        if fits(middle) { fit = middle } else { over = middle }
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Cell;

    fn body(width: usize) -> Features {
        Features { width, cells: vec![Cell::Number(1.0); width], ..Features::default() }
    }

    fn learner() -> Learner {
        let mut learner = Learner::default();
        assert!(learner.see_question(&body(2)) && learner.see_answer(&body(1), &[]));
        learner
    }

    fn learn(learner: &mut Learner, client: u64, rows: u64) {
        for row in 0..rows {
            let number = Some(Value::Number(row as f64));
            learner.learn(Identity::Key(client), Time(row), &[number, number, number, None], 600);
        }
    }

    #[test]
    fn features_are_those_of_question_answer_and_exchange() {
        let names: Vec<String> = learner().names().map(str::to_owned).collect();
        assert_eq!(names, ["0", "1", "answer:0", "status"]);
        let mut some = Learner::default();
        some.see_question(&body(2));
        some.see_answer(&body(1), &["1".to_owned(), "status".to_owned()]);
        assert_eq!(some.names().collect::<Vec<_>>(), ["0", "answer:0"], "what is left out is not learned");
    }

    #[test]
    fn three_clients_make_a_reference_and_no_client_gives_more_than_a_third() {
        let freeze = |learner: &mut Learner| learner.freeze(600, &Settings::default());
        let mut two = learner();
        (1..=2).for_each(|client| learn(&mut two, client, 5000));
        assert_eq!((two.len(), freeze(&mut two).is_some()), (402, false), "two clients are never enough");
        learn(&mut two, 3, 198);
        let reference = freeze(&mut two).expect("a third is there");
        assert_eq!((reference.rows(), reference.features().len()), (600, 4));
    }

    #[test]
    fn the_latest_rows_are_kept_and_nobody_stands_for_more_than_a_third_of_what_is_concluded() {
        let mut learner = learner();
        let mut learn = |client: u64, rows: std::ops::Range<u64>| {
            for row in rows {
                let number = Some(Value::Number(row as f64));
                let values = [number, number, number, None];
                learner.learn_latest(Identity::Key(client), Time(row), &values, 900);
            }
        };
        learn(1, 0..5000);
        (2..=4).for_each(|client| learn(client, 5000..5000 + client * 60));
        learn(5, 6000..6100);
        assert_eq!(learner.len(), 901, "all that there is room for");
        let first = |client: u64| learner.rows.iter().find(|row| row.client == Identity::Key(client));
        assert_eq!(first(1).map(|row| row.time), Some(Time(4739)), "its oldest rows went");
        let reference = learner.conclude(&Settings::default()).expect("five clients gave enough");
        let most = learner.counts().values().max().copied().unwrap_or(0);
        assert_eq!(reference.rows(), learner.len() as u64);
        assert!(most * 3 <= learner.len(), "{:?}", learner.counts());
        learner.suspect(Identity::Key(4));
        assert_eq!(
            learner.conclude(&Settings::default()).map(|made| made.rows()),
            Some(600),
            "200 of the first"
        );
        learner.suspect(Identity::Key(3));
        assert!(learner.conclude(&Settings::default()).is_none(), "{} rows are too few", learner.len());
    }

    #[test]
    fn the_most_of_each_client_is_found_whatever_they_gave() {
        for (counts, most) in [
            (vec![], 0),
            (vec![9, 9], 0),
            (vec![5, 5, 5], 5),
            (vec![100, 4, 4], 4),
            (vec![100, 4, 4, 4], 6),
            (vec![100, 50, 10, 10, 10], 30),
        ] {
            assert_eq!(most_each(&counts), most, "{counts:?}");
        }
    }

    #[test]
    fn whoever_is_suspected_leaves_no_row_and_gives_none_later() {
        let mut learner = learner();
        learn(&mut learner, 1, 100);
        learn(&mut learner, 2, 10);
        learner.suspect(Identity::Key(1));
        learn(&mut learner, 1, 100);
        assert_eq!(learner.len(), 10);
        (10..10 + SUSPECTS_MAX as u64 + 5).for_each(|client| learner.suspect(Identity::Key(client)));
        assert!(learner.suspects.len() <= SUSPECTS_MAX, "bounded");
        learn(&mut learner, 3, 5);
        learn(&mut learner, 2, 5);
        assert_eq!(learner.len(), 15, "where too many are suspected, no newcomer is learned from");
    }

    #[test]
    fn odd_columns_of_the_first_row_do_not_last() {
        let mut learner = learner();
        learn(&mut learner, 1, 5);
        let anew = (0..300).position(|_| learner.left_aside());
        assert_eq!((anew, learner.len()), (Some(205), 0));
        assert!(learner.see_question(&body(3)), "other columns may come");
    }
}
