//! Rows of a recording: the questions of one model with what was answered to them, read by the decoders that the lane
//! uses. Exchanges without a successful answer teach nothing of the model and are left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use checkgate_detectors::drift::projection;
use checkgate_detectors::drift::reference::ANSWER;
use checkgate_detectors::facts::{Cell, Features, Time};
use checkgate_detectors::names::Names;

use super::rows::{Given, Place, Rows};
use super::source::{self, Source, SourceError};
use crate::capture::{Answered, Asked, Body, Entry};
use crate::decode::{self, Decoder, Head, KeptLine, Part, kept_headers};
use crate::journal::JournalReader;
use crate::plan::Plan;
use crate::rehearse::Progress;

/// Questions whose answers are awaited; the oldest gives way.
const OPEN_MAX: usize = 4096;
/// Models that a message names.
const NAMED_MAX: usize = 8;

/// Gathers the rows of one model, or of one version of it.
///
/// # Errors
/// The recording does not read back, holds several models and none was named, or no row of the version.
pub fn read(
    source: &Source,
    path: &Path,
    source::Asked { model, version }: source::Asked<'_>,
    rows: &mut Rows,
    progress: &dyn Progress,
) -> Result<(), SourceError> {
    let path: PathBuf = path.to_owned();
    let (mut journal, plan) = JournalReader::open(&path).map_err(|error| source.whole(error.to_string()))?;
    let mut reader = Reader::new(plan).map_err(|message| source.whole(message))?;
    let mut entries = 0_u64;
    while let Some(entry) = journal.next_entry().map_err(|error| source.whole(error.to_string()))? {
        entries += 1;
        match entry {
            Entry::Asked(asked) => reader.asked(asked, model),
            Entry::Answered(answered) => {
                let taken = reader.answered(&answered, version, rows);
                taken.map_err(|message| source.at(entries, message))?;
            }
            Entry::Plan(replanned) => {
                reader.adopt(Plan::clone(&replanned.plan)).map_err(|message| source.whole(message))?;
            }
            _ => {}
        }
        if entries.is_multiple_of(256) {
            progress.at(journal.position());
        }
    }
    reader.check(model, version).map_err(|message| source.whole(message))
}

struct Reader {
    plan: Plan,
    /// The configured decoders by model.
    configured: BTreeMap<u16, Box<dyn Decoder>>,
    defaults: Vec<Option<Box<dyn Decoder>>>,
    open: BTreeMap<u64, Asked>,
    /// Models that were asked, with their questions.
    models: BTreeMap<String, u64>,
    /// Answers of the version that was asked for.
    of_version: u64,
    question: Features,
    answer: Features,
}

impl Reader {
    fn new(plan: Plan) -> Result<Self, String> {
        let mut reader = Self {
            plan: plan.clone(),
            configured: BTreeMap::new(),
            defaults: decode::defaults(),
            open: BTreeMap::new(),
            models: BTreeMap::new(),
            of_version: 0,
            question: Features::default(),
            answer: Features::default(),
        };
        reader.adopt(plan)?;
        Ok(reader)
    }

    fn adopt(&mut self, plan: Plan) -> Result<(), String> {
        self.configured.clear();
        for (id, model) in &plan.models {
            let Some((name, parameters)) = &model.protocol else { continue };
            let spec = decode::spec(name).ok_or_else(|| format!("there is no protocol {name:?}"))?;
            let decoder = (spec.build)(parameters).map_err(|error| format!("protocol {name:?}: {error}"))?;
            self.configured.insert(*id, decoder);
        }
        self.plan = plan;
        Ok(())
    }

    fn asked(&mut self, asked: Asked, model: Option<&str>) {
        let configured = asked.model.and_then(|id| self.plan.models.get(&id));
        let name = configured.map_or(&asked.name, |configured| &configured.name);
        if self.models.len() < self.plan.limits.discovered_models + self.plan.models.len()
            || self.models.contains_key(name)
        {
            *self.models.entry(name.clone()).or_default() += 1;
        }
        if model.is_some_and(|model| model != name) {
            return;
        }
        self.open.insert(asked.id, asked);
        if self.open.len() > OPEN_MAX {
            self.open.pop_first();
        }
    }

    fn answered(
        &mut self,
        answered: &Answered,
        version: Option<&str>,
        rows: &mut Rows,
    ) -> Result<(), String> {
        let Some(asked) = self.open.remove(&answered.id) else { return Ok(()) };
        if !(200..300).contains(&answered.status) {
            return Ok(());
        }
        let (rows_max, columns_max) = (self.plan.limits.rows_per_exchange, self.plan.limits.columns);
        let configured = asked.model.and_then(|id| self.configured.get(&id)).map(AsRef::as_ref);
        let Some(decoder) = decode::chosen(configured, &self.defaults, asked.protocol) else { return Ok(()) };
        let read = |part, headers: &[KeptLine], body: &Body, out: &mut Features| {
            out.clear();
            let Body::Whole(bytes) = body else { return false };
            let headers = kept_headers(headers);
            decoder.decode(&Head { headers: &headers, part, rows_max, columns_max }, bytes, out).is_ok()
        };
        if !read(Part::Question, &asked.headers, &asked.body, &mut self.question) {
            return Ok(());
        }
        let has_answer = read(Part::Answer, &answered.headers, &answered.body, &mut self.answer);
        decode::note_version(&asked.path, &mut self.question);
        // As the lane does it: the answer says it where the question does not.
        let said = Some(&self.question.version).filter(|said| !said.is_empty() || !has_answer);
        if version.is_some_and(|version| *version != **said.unwrap_or(&self.answer.version)) {
            return Ok(());
        }
        self.of_version += 1;
        let has_answer = has_answer && self.answer.rows() == self.question.rows();
        let answer = Some(&self.answer).filter(|_| has_answer);
        write(&self.question, answer, answered.time, rows)
    }

    fn check(&self, model: Option<&str>, version: Option<&str>) -> Result<(), String> {
        if let Some(version) = version.filter(|_| self.of_version == 0) {
            return Err(format!("it holds no answered question of version {version:?}"));
        }
        let names = || {
            let names: Vec<_> = self.models.keys().take(NAMED_MAX).map(|name| format!("{name:?}")).collect();
            names.join(", ")
        };
        match model {
            Some(model) if !self.models.contains_key(model) => {
                Err(format!("it holds no question of model {model:?}; it holds {}", names()))
            }
            None if self.models.len() > 1 => {
                Err(format!("it holds several models; name one with --model: {}", names()))
            }
            _ => Ok(()),
        }
    }
}

/// Writes the rows of an exchange, the columns of the answer after those of the question.
fn write(question: &Features, answer: Option<&Features>, time: Time, rows: &mut Rows) -> Result<(), String> {
    // What is too wide is projected as the lane does it, so that both have the same columns.
    let (asked, answered) = (projection::of(question), answer.and_then(projection::of));
    let (question, answer) = (asked.as_ref().unwrap_or(question), answered.as_ref().or(answer));
    let columns = places(question, "", rows)?;
    let answers = answer.map(|answer| places(answer, ANSWER, rows)).transpose()?;
    for row in 0..question.rows() {
        cells(question, row, &columns, rows)?;
        if let (Some(answer), Some(places)) = (answer, &answers) {
            cells(answer, row, places, rows)?;
        }
        rows.known_time(time);
        rows.end(1);
    }
    Ok(())
}

fn places(features: &Features, prefix: &str, rows: &mut Rows) -> Result<Vec<Place>, String> {
    let place = |column: usize| {
        let name = column_name(&features.names, column);
        rows.place(&format!("{prefix}{name}"), usize::MAX).map_err(|error| error.to_string())
    };
    (0..features.width).map(place).collect()
}

/// What a column is called: by the body, or by its position.
fn column_name(names: &Names, column: usize) -> String {
    names.get(column).map_or_else(|| column.to_string(), |name| name.to_string())
}

fn cells(features: &Features, row: usize, places: &[Place], rows: &mut Rows) -> Result<(), String> {
    for (cell, place) in features.row(row).iter().zip(places) {
        let Place::Column(column) = place else { continue };
        let given = match *cell {
            Cell::Missing => Given::Missing,
            Cell::Number(number) => Given::Number(number),
            Cell::Text(start, end) => Given::Text(features.text_of(start, end)),
        };
        rows.take(*column, given, || "in the recording".to_owned()).map_err(|error| error.to_string())?;
    }
    Ok(())
}
