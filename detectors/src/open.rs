//! Questions whose answers are awaited: what joins the two parts of an exchange.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::drift::room::versions::KeptOfRooms;
use crate::facts::NotInspected;
use crate::identity::Identity;
use crate::names::Names;
use crate::neighbours::RowId;
use crate::reference::ReferenceValue;

/// Rows of all open questions together; about 4 bytes each.
const ROWS_MAX: usize = 1 << 20;
/// Values of all open questions together that wait to be counted for drift, 16 bytes each.
const VALUES_MAX: usize = 1 << 18;

/// Places of closed questions are swept once there are so many, and as many as of open ones.
const SWEPT_FROM: usize = 64;

/// What is kept of a question until its answer comes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenQuestion {
    /// Whose evidence its answer is.
    pub identity: Identity,
    /// Positions of the rows that were not repeats, ascending; none where the question was not looked into.
    pub distinct_rows: Vec<u32>,
    /// What the memory of rows calls the first of them; the others follow in order.
    pub first_row: RowId,
    /// Why the question was not looked into, if it was not.
    pub not_inspected: Option<NotInspected>,
    /// Rows that may become part of a learned reference.
    pub samples: Vec<Sample>,
    /// Values that are counted for drift once the answer has come.
    pub kept: KeptOfRooms,
    /// Whether samples and values are for what a maintenance window learns, and not for what is at work.
    pub aside: bool,
}

/// A row that waits for its prediction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Its position in the question.
    pub row: u32,
    /// Its hash, the same for every client.
    pub content: u64,
    /// Its values.
    pub values: Vec<ReferenceValue>,
    /// Names of its columns, where the body gave them.
    pub names: Names,
}

/// The open questions of one model, the oldest given up first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct OpenQuestions {
    questions_max: usize,
    opened: u64,
    evicted: u64,
    rows: usize,
    values: usize,
    /// Questions whose values found no room, ever.
    not_kept: u64,
    /// By id, with the turn at which each was opened.
    questions: FxHashMap<u64, (u64, OpenQuestion)>,
    /// Turn and id, the oldest first. Closed questions leave theirs behind for a while.
    order: VecDeque<(u64, u64)>,
}

/// What is written down: the questions by turn, with their ids.
#[derive(Serialize, Deserialize)]
struct Stored {
    questions_max: usize,
    opened: u64,
    evicted: u64,
    not_kept: u64,
    questions: BTreeMap<u64, (u64, OpenQuestion)>,
}

impl OpenQuestions {
    /// Nothing open; keeps at most `questions_max`, at least one.
    #[must_use]
    pub fn new(questions_max: usize) -> Self {
        Self {
            questions_max: questions_max.max(1),
            opened: 0,
            evicted: 0,
            rows: 0,
            values: 0,
            not_kept: 0,
            questions: FxHashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Opens a question under the id of its exchange.
    pub fn open(&mut self, id: u64, mut question: OpenQuestion) {
        self.close(id);
        if self.values + question.kept.len() > VALUES_MAX {
            question.kept = KeptOfRooms::default();
            self.not_kept += 1;
        }
        self.values += question.kept.len();
        let rows = question.distinct_rows.len();
        while self.questions.len() >= self.questions_max || (self.rows + rows > ROWS_MAX && self.rows > 0) {
            self.give_up_oldest();
        }
        self.opened += 1;
        self.rows += rows;
        self.questions.insert(id, (self.opened, question));
        self.order.push_back((self.opened, id));
        if self.order.len() > SWEPT_FROM.max(2 * self.questions.len()) {
            let Self { questions, order, .. } = self;
            order.retain(|place| is_open(questions, *place));
        }
    }

    /// Has `let_go` give up values that were kept of a question.
    pub fn let_go(&mut self, id: u64, let_go: impl FnOnce(&mut KeptOfRooms)) {
        if let Some((_, question)) = self.questions.get_mut(&id) {
            self.values -= question.kept.len();
            let_go(&mut question.kept);
            self.values += question.kept.len();
        }
    }

    /// The same of all that a maintenance window would learn from a question.
    pub fn let_go_aside(&mut self, id: u64) {
        self.let_go(id, |kept| *kept = KeptOfRooms::default());
        if let Some((_, question)) = self.questions.get_mut(&id) {
            question.samples = Vec::new();
        }
    }

    /// Takes out the question of an exchange.
    pub fn close(&mut self, id: u64) -> Option<OpenQuestion> {
        let (_, question) = self.questions.remove(&id)?;
        self.rows -= question.distinct_rows.len();
        self.values -= question.kept.len();
        Some(question)
    }

    /// Questions open now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Questions whose values found no room and are not counted for drift, ever.
    #[must_use]
    pub fn not_kept(&self) -> u64 {
        self.not_kept
    }

    /// Questions given up to make room, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn give_up_oldest(&mut self) {
        while let Some(place) = self.order.pop_front() {
            if is_open(&self.questions, place) && self.close(place.1).is_some() {
                self.evicted += 1;
                return;
            }
        }
    }
}

/// Whether the question that was opened at a turn is still open.
fn is_open(questions: &FxHashMap<u64, (u64, OpenQuestion)>, (turn, id): (u64, u64)) -> bool {
    questions.get(&id).is_some_and(|(opened, _)| *opened == turn)
}

impl From<Stored> for OpenQuestions {
    fn from(stored: Stored) -> Self {
        let Stored { questions_max, opened, evicted, not_kept, questions } = stored;
        let rows = questions.values().map(|(_, question)| question.distinct_rows.len()).sum();
        let values = questions.values().map(|(_, question)| question.kept.len()).sum();
        let order = questions.iter().map(|(&turn, &(id, _))| (turn, id)).collect();
        let questions = questions.into_iter().map(|(turn, (id, question))| (id, (turn, question))).collect();
        Self { questions_max, opened, evicted, rows, values, not_kept, questions, order }
    }
}

impl From<OpenQuestions> for Stored {
    fn from(open: OpenQuestions) -> Self {
        let OpenQuestions { questions_max, opened, evicted, not_kept, questions, .. } = open;
        let questions = questions.into_iter().map(|(id, (turn, question))| (turn, (id, question))).collect();
        Self { questions_max, opened, evicted, not_kept, questions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(rows: u32) -> OpenQuestion {
        OpenQuestion {
            identity: Identity::Key(1),
            distinct_rows: (0..rows).collect(),
            first_row: 0,
            not_inspected: None,
            samples: Vec::new(),
            kept: KeptOfRooms::default(),
            aside: false,
        }
    }

    #[test]
    fn the_oldest_question_is_given_up_and_counted() {
        let mut open = OpenQuestions::new(2);
        (1..=3).for_each(|id| open.open(id, question(4)));
        assert!(open.close(1).is_none());
        assert!(open.close(3).is_some());
        assert_eq!((open.len(), open.evicted(), open.rows), (1, 1, 4));
    }

    #[test]
    fn places_of_closed_questions_are_swept_and_the_oldest_is_given_up_after_a_restart_as_well() {
        let mut open = OpenQuestions::new(3);
        (1..=2).for_each(|id| open.open(id, question(1)));
        for id in 3..1000 {
            open.open(id, question(1));
            open.close(id);
            assert!(open.order.len() <= SWEPT_FROM + 1, "{} places", open.order.len());
        }
        let mut open: OpenQuestions = postcard::from_bytes(&postcard::to_stdvec(&open).unwrap()).unwrap();
        open.open(2, question(1));
        (1000..1002).for_each(|id| open.open(id, question(1)));
        assert!(open.close(1).is_none(), "the oldest made room");
        assert!(open.close(2).is_some(), "one that was opened anew is younger");
    }

    #[test]
    fn the_rows_of_all_questions_are_bounded() {
        let mut open = OpenQuestions::new(1000);
        (0..40).for_each(|id| open.open(id, question(100_000)));
        assert!(open.rows <= ROWS_MAX, "{} rows", open.rows);
        assert_eq!(open.len() as u64 + open.evicted(), 40);
    }
}
