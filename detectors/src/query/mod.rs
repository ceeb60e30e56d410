//! The query detectors: who is attacking the model through its API?
//!
//! [`QUERY`] is the visible list. A detector is one file, one `mod` and one entry; its config key, JSON Schema,
//! defaults, documentation, metric label and the rule tests follow from the entry.

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::columns::Columns;
use crate::engine::reach::Covers;
use crate::facts::{Features, NotInspected, Time};
use crate::finding::Tier;
use crate::lines::Trail;
use crate::marginals::Marginal;
use crate::neighbours::{Neighbours, RowId};
use crate::pages::Pages;
use crate::reference::{Reference, Trust};
use crate::seen::Seen;
use crate::shelf::ClientIndex;

pub mod bisection;
pub mod boundary_walk;
pub mod chaos;
pub mod client_volume;
pub mod constant_step;
pub mod coverage_growth;
pub mod equal_amounts;
pub mod error_probing;
pub mod field_by_field;
pub mod fingerprints;
pub mod marginal_drift;
pub mod mirror_pairs;
pub mod near_density;
pub mod near_duplicates;
pub mod off_distribution;
pub mod off_grid;
pub mod one_field_sweep;
pub mod sign_step;

/// Every query detector, in the order in which they are asked.
pub const QUERY: &[QuerySpec] = &[
    one_field_sweep::SPEC,
    field_by_field::SPEC,
    near_duplicates::SPEC,
    bisection::SPEC,
    boundary_walk::SPEC,
    fingerprints::SPEC,
    off_distribution::SPEC,
    near_density::SPEC,
    client_volume::SPEC,
    off_grid::SPEC,
    mirror_pairs::SPEC,
    equal_amounts::SPEC,
    marginal_drift::SPEC,
    sign_step::SPEC,
    constant_step::SPEC,
    coverage_growth::SPEC,
    error_probing::SPEC,
];

/// Detectors that run only where they are named: they find nothing, they try what surrounds them.
pub const DRILLS: &[QuerySpec] = &[chaos::SPEC];

/// Every detector that can run, the drills last.
pub fn all() -> impl Iterator<Item = &'static QuerySpec> {
    QUERY.iter().chain(DRILLS)
}

/// The detector of this name.
#[must_use]
pub fn spec(name: &str) -> Option<&'static QuerySpec> {
    all().find(|spec| spec.name == name)
}

/// One detector as the rest of the program knows it.
#[derive(Clone, Copy, Debug)]
pub struct QuerySpec {
    /// Config key, metric label and the `detector` of its findings.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Where the method comes from.
    pub source: &'static str,
    /// MITRE ATLAS technique that it points to.
    pub atlas: &'static str,
    /// Entry of the OWASP Machine Learning Security Top 10 (2023).
    pub owasp: &'static str,
    /// The strongest tier that its findings can have.
    pub tier: Tier,
    /// What it looks at.
    pub aspect: Aspect,
    /// Whether its alerts are told by themselves. Otherwise one is a note until a detector of another aspect speaks of the
    /// same client.
    pub tells_alone: bool,
    /// How it is known what the client is after.
    pub purpose: Purpose,
    /// What it must be given.
    pub needs: Needs,
    /// Most bytes that it keeps of one client, beyond the model's shared memory of rows.
    pub state_bytes_max: usize,
    /// JSON Schema of its parameters.
    pub schema: fn() -> Schema,
    /// Its parameters where the operator gives none.
    pub defaults: fn() -> Value,
    /// Parameters as an operator might give them, as JSON.
    pub example: &'static str,
    /// Says what is wrong with parameters.
    pub check: fn(&Value) -> Result<(), ParameterError>,
    /// Builds it; parameters left out take their defaults.
    pub build: fn(&Value) -> Result<Box<dyn ErasedDetector>, ParameterError>,
}

/// What a detector looks at. Two that look at the same thing say little more together than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Rows of one client that lie close together or differ in single fields: one case from many sides.
    Case,
    /// How precise values are.
    Values,
    /// Where rows lie beside the reference.
    Place,
    /// How the values of a column are spread.
    Spread,
    /// Changes of equal size in many fields.
    Steps,
    /// How sure the model is of its answers.
    Answers,
    /// How much is asked for.
    Volume,
    /// Questions that the model cannot answer.
    Errors,
}

/// How it is known what a client is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The detector's technique says it.
    Technique,
    /// The shape of the client's rows says it, where one was measured.
    Rows,
    /// The same, of a client that moved fields one at a time.
    Fields,
}

/// What a detector must be given before it can say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The question alone: it judges before the answer is there.
    Question,
    /// The question and a reference; it is silent until there is one.
    QuestionAndReference,
    /// The answer and a reference with answers; it is silent until there is one.
    AnswerAndReference,
}

/// Parameters that a part cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", path.iter().map(|key| format!("{key}: ")).collect::<String>())]
pub struct ParameterError {
    /// Keys from the part's own object down to the offending value; empty for the object itself.
    pub path: Vec<String>,
    /// What is wrong, and the mend.
    pub message: String,
}

impl ParameterError {
    /// An error at one key of the part's own object.
    #[must_use]
    pub fn at(key: &str, message: impl Into<String>) -> Self {
        Self { path: vec![key.to_owned()], message: message.into() }
    }
}

/// The parameters of a detector: a struct whose fields all have defaults.
pub trait Parameters: Default + Serialize + DeserializeOwned + JsonSchema {
    /// Says what no type can: ranges, and values that contradict each other.
    ///
    /// # Errors
    /// Names the offending key.
    fn check(&self) -> Result<(), ParameterError>;
}

/// A question as a detector gets it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The request.
    pub id: u64,
    /// When it was complete.
    pub time: Time,
    /// Its rows, repeats included; [`Seen::rows`] tells which ones are new.
    pub question: &'a Features,
    /// Whose it is.
    pub client: ClientIndex,
    /// Its columns, and where the reference's columns are among them.
    pub columns: &'a Columns,
    /// What normal looks like, if that is known by now.
    pub reference: Option<&'a Reference>,
    /// How near its new rows lie to earlier ones, by their position in [`Seen::rows`].
    pub neighbours: &'a Neighbours,
}

impl<'a> Exchange<'a> {
    /// The reference's columns in which row `row` of the question is finer than the steps that the reference's values keep;
    /// nothing where there is no reference that has the question's columns. O(width).
    pub(crate) fn finer(&self, row: usize) -> Option<impl Iterator<Item = &'a Marginal>> {
        Some(self.reference?.marginals().finer(self.question, row, self.columns.of_reference()?))
    }

    /// Whether a value of row `row` of the question is finer than the steps that the reference's values keep. O(width).
    pub(crate) fn is_finer(&self, row: usize) -> bool {
        self.finer(row).is_some_and(|mut finer| finer.next().is_some())
    }

    /// The reference, if an operator named it: what was learned from traffic may have been taught by an attacker.
    #[must_use]
    pub fn trusted(&self) -> Option<&'a Reference> {
        self.reference.filter(|reference| reference.trust == Trust::Trusted)
    }
}

/// An answer as a detector gets it.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The request.
    pub id: u64,
    /// When the answer was complete.
    pub time: Time,
    /// The upstream's status; 0 where it gave none.
    pub status: u16,
    /// The predictions, one row to a row of the question.
    pub answer: Result<&'a Features, NotInspected>,
    /// The rows of the question that were new, or why it was not looked into.
    pub asked: Result<EarlierRows<'a>, NotInspected>,
    /// What normal looks like, if that is known by now.
    pub reference: Option<&'a Reference>,
}

/// The new rows of a question, when its answer comes.
#[derive(Clone, Copy, Debug)]
pub struct EarlierRows<'a> {
    /// Their positions in the question, ascending.
    pub distinct_rows: &'a [u32],
    pub(crate) first_row: RowId,
    pub(crate) client: ClientIndex,
    pub(crate) neighbours: &'a Neighbours,
    pub(crate) reference: Option<&'a Reference>,
}

impl EarlierRows<'_> {
    /// Whether the new row at `position` of `distinct_rows` is known to lie apart from where the reference's rows
    /// lie densely. A row that was pushed out of memory since is not known.
    #[must_use]
    pub fn lies_apart(&self, position: usize) -> bool {
        let row = self.first_row + position as RowId;
        let reference = self.reference;
        reference.is_some_and(|reference| self.neighbours.lay_apart(self.client, row, reference))
    }
}

/// What a detector says of a client; the engine adds who, which model and what is done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How far it may go.
    pub tier: Tier,
    /// The measured value.
    pub statistic: f64,
    /// The value at which the detector speaks.
    pub limit: f64,
    /// The rows and requests it rests on.
    pub trail: Trail,
    /// The columns that gave it away.
    pub fields: Vec<String>,
    /// What the client did, as the end of a sentence that begins with the client: "tried 12 values of ...".
    pub did: String,
    /// The trust of the reference that it rests on, if it rests on one.
    pub rests_on: Option<Trust>,
}

/// Where a detector puts what it found.
#[derive(Debug, Default)]
pub struct Findings {
    told: Vec<Finding>,
    marked: Vec<usize>,
}

impl Findings {
    /// Tells a finding.
    pub fn push(&mut self, finding: Finding) {
        self.told.push(finding);
    }

    /// Marks the new row at `position` of [`Seen::rows`] as suspicious: it is remembered for days, however busy
    /// the model is.
    pub fn mark(&mut self, position: usize) {
        self.marked.push(position);
    }

    /// Whether anything was told.
    #[must_use]
    pub fn has_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// Takes out what was told, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Finding> + '_ {
        self.told.drain(..)
    }

    /// Positions of the rows that were marked, in no order, some perhaps twice.
    #[must_use]
    pub fn marked(&self) -> &[usize] {
        &self.marked
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.told.clear();
        self.marked.clear();
    }

    /// Forgets what one detector added after `marked` marks: it panicked.
    pub(crate) fn cut(&mut self, marked: usize) {
        self.told.clear();
        self.marked.truncate(marked);
    }
}

/// A query detector of one model. It is its parameters: all that it remembers is typed, bounded and serialisable.
pub trait QueryDetector: Send {
    /// What it remembers of one client, of bounded size. The default costs nothing: it is not kept.
    type Slot: Default + PartialEq + Clone + Send + Serialize + DeserializeOwned;
    /// What it remembers of all clients together, of bounded size; `()` for nothing.
    type Population: Default + Send + Serialize + DeserializeOwned;
    /// Whether it is told of answers. A detector that leaves [`QueryDetector::answered`] as it is may say no, which
    /// saves the lane some time for each answer.
    const HEARS_ANSWERS: bool = true;

    /// Judges a question of the client whose slot is `me`.
    fn observe(
        &self,
        exchange: &Exchange<'_>,
        seen: &Seen,
        population: &mut Self::Population,
        me: &mut Self::Slot,
        out: &mut Findings,
    );

    /// Judges the answer to a question of the client whose slot is `me`, also where the question was not looked into.
    fn answered(
        &self,
        _reply: &Reply<'_>,
        _population: &mut Self::Population,
        _me: &mut Self::Slot,
        _out: &mut Findings,
    ) {
    }

    /// What it counted of the client whose slot is `me`, where it counts rows and cells.
    fn covers(&self, _me: &Self::Slot) -> Option<Covers> {
        None
    }

    /// Entries of what it remembers of all clients that were dropped to make room, ever.
    fn evicted(&self, _population: &Self::Population) -> u64 {
        0
    }
}

/// A detector together with what it remembers, its types hidden from the engine.
pub trait ErasedDetector: Send {
    /// Judges a question of a client.
    fn observe(&mut self, exchange: &Exchange<'_>, seen: &Seen, client: ClientIndex, out: &mut Findings);
    /// Whether answers mean anything to it.
    fn hears_answers(&self) -> bool;
    /// Judges the answer to a question of a client.
    fn answered(&mut self, reply: &Reply<'_>, client: ClientIndex, out: &mut Findings);
    /// What it counted of one client, where it counts rows and cells.
    fn covers(&self, _client: ClientIndex) -> Option<Covers> {
        None
    }
    /// Entries of what it remembers of all clients that were dropped to make room, ever.
    fn evicted(&self) -> u64;
    /// Bytes that it keeps for clients of whom there is no evidence.
    fn client_bytes(&self) -> usize;
    /// Bytes that it keeps of one client, as they are saved.
    fn bytes_of(&self, client: ClientIndex) -> usize;
    /// Forgets one client.
    fn forget(&mut self, client: ClientIndex);
    /// All that it remembers.
    fn save(&self) -> Vec<u8>;
    /// Takes what [`ErasedDetector::save`] gave.
    ///
    /// # Errors
    /// Refuses bytes that another version or another detector wrote.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), postcard::Error>;
}

/// A detector's column of the client table: one slot to a client, under the client's index.
struct Column<D: QueryDetector> {
    detector: D,
    population: D::Population,
    slots: Pages<D::Slot>,
}

impl<D: QueryDetector> ErasedDetector for Column<D> {
    fn observe(&mut self, exchange: &Exchange<'_>, seen: &Seen, client: ClientIndex, out: &mut Findings) {
        let Self { detector, population, slots } = self;
        slots.change(client, |me| detector.observe(exchange, seen, population, me, out));
    }

    fn hears_answers(&self) -> bool {
        D::HEARS_ANSWERS
    }

    fn answered(&mut self, reply: &Reply<'_>, client: ClientIndex, out: &mut Findings) {
        let Self { detector, population, slots } = self;
        slots.change(client, |me| detector.answered(reply, population, me, out));
    }

    fn covers(&self, client: ClientIndex) -> Option<Covers> {
        self.slots.get(client).and_then(|me| self.detector.covers(me))
    }

    fn evicted(&self) -> u64 {
        self.detector.evicted(&self.population)
    }

    fn client_bytes(&self) -> usize {
        self.slots.bytes()
    }

    fn bytes_of(&self, client: ClientIndex) -> usize {
        let measured = self.slots.get(client).map(postcard::experimental::serialized_size);
        measured.and_then(Result::ok).unwrap_or_default()
    }

    fn forget(&mut self, client: ClientIndex) {
        if let Some(slot) = self.slots.get_mut(client) {
            *slot = D::Slot::default();
        }
    }

    fn save(&self) -> Vec<u8> {
        // Plain data of this crate's own types always serialises into memory.
        postcard::to_stdvec(&(&self.population, &self.slots)).unwrap_or_default()
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), postcard::Error> {
        (self.population, self.slots) = postcard::from_bytes(bytes)?;
        Ok(())
    }
}

/// Builds a detector from its parameters: the `build` of a spec, once its own constructor is given.
///
/// # Errors
/// Names the key that is unknown or out of range.
pub fn build_with<P: Parameters, D: QueryDetector + 'static>(
    parameters: &Value,
    new: fn(P) -> D,
) -> Result<Box<dyn ErasedDetector>, ParameterError> {
    let detector = new(read::<P>(parameters)?);
    Ok(Box::new(Column { detector, population: D::Population::default(), slots: Pages::default() }))
}

/// The `schema` of a spec.
#[must_use]
pub fn schema_of<P: Parameters>() -> Schema {
    schemars::schema_for!(P)
}

/// The `defaults` of a spec.
#[must_use]
pub fn defaults_of<P: Parameters>() -> Value {
    serde_json::to_value(P::default()).unwrap_or_default()
}

/// The `check` of a spec.
///
/// # Errors
/// Names the key that is unknown or out of range.
pub fn check_of<P: Parameters>(parameters: &Value) -> Result<(), ParameterError> {
    read::<P>(parameters).map(drop)
}

fn read<P: Parameters>(parameters: &Value) -> Result<P, ParameterError> {
    let parameters: P = serde_path_to_error::deserialize(parameters).map_err(|error| ParameterError {
        path: keys_of(error.path()),
        message: error.inner().to_string(),
    })?;
    parameters.check()?;
    Ok(parameters)
}

fn keys_of(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter(|segment| !matches!(segment, serde_path_to_error::Segment::Unknown))
        .map(ToString::to_string)
        .collect()
}

/// What sweeps leave in a client's slot: a sweep within one request may be a data sheet, with marked rows in a
/// second request it is a habit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Habit {
    last_marked: Option<u64>,
}

impl Habit {
    /// The tier of a mark that `request` completes and that rests on the rows of `trail`.
    pub fn tier(&mut self, request: u64, trail: &Trail) -> Tier {
        let before = self.last_marked.replace(request).is_some_and(|last| last != request);
        if before || trail.requests > 1 { Tier::One } else { Tier::Two }
    }
}

/// Adds to `out` the first finding of each tier, and nothing after one of tier 1: a large batch of marked rows is
/// one statement. `marks` gives the tier and the means to word the finding.
pub fn tell_first<'a, M: 'a>(
    marks: impl Iterator<Item = (Tier, M)> + 'a,
    out: &mut Findings,
    word: impl Fn(Tier, M) -> Finding,
) {
    let mut alerted = false;
    for (tier, mark) in marks {
        match tier {
            Tier::One => return out.push(word(tier, mark)),
            Tier::Two if !alerted => out.push(word(tier, mark)),
            Tier::Two => {}
        }
        alerted = true;
    }
}

/// Whether `column` of `question` is one of `fields`, given by name or by position.
#[must_use]
pub fn is_one_of(fields: &[String], question: &Features, column: usize) -> bool {
    !fields.is_empty() && {
        let (name, position) = (question.name(column), column.to_string());
        fields.iter().any(|field| *field == name || *field == position)
    }
}

#[cfg(test)]
mod tests;
