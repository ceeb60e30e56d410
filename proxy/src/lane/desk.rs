//! The desk: one journal entry in, findings and decisions out. The same code runs live and in replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkgate_detectors::engine::{self, Build, BuildError, Engine, Outbox};
use checkgate_detectors::facts::{self, Features, NotInspected, Question};
use checkgate_detectors::policy::Policy;
use checkgate_detectors::reference::{Reference, Trust};

use super::open::{Open, OpenParts};
use crate::capture::{Admission, Answered, Asked, Body, Entry};
use crate::decode::{self, Decoder, Head, Part, kept_headers};
use crate::plan::{ModelPlan, Plan};

/// Rows of an answer that are judged where the model has a contract: far above any batch worth sending, since an
/// offending row must not hide behind the cap that bounds the detectors' work.
const CONTRACT_ROWS_MAX: usize = 100_000;

/// What one entry gave: cleared and reused by the caller.
#[derive(Default)]
pub struct Step {
    /// Findings, decisions, blocks, proven keys, a frozen reference.
    pub outbox: Outbox,
    /// The configured model it belongs to; `None` for a discovered one or none.
    pub model: Option<u16>,
    /// The model's name, once it has one.
    pub name: Option<Arc<str>>,
    /// Rows that were scored.
    pub rows: u64,
    /// Rows beyond the cap.
    pub rows_over: u64,
    /// Whether an answer broke its contract and went on, since nothing held it.
    pub observed_violation: bool,
    /// What was not looked into.
    pub not_inspected: Vec<(Part, NotInspected)>,
}

impl Step {
    fn clear(&mut self) {
        self.outbox.clear();
        self.model = None;
        self.name = None;
        self.rows = 0;
        self.rows_over = 0;
        self.observed_violation = false;
        self.not_inspected.clear();
    }
}

/// One model at the desk.
struct Seat {
    name: Arc<str>,
    engine: Engine,
    /// The configured decoder; without one, the decoder that claimed the request.
    decoder: Option<Box<dyn Decoder>>,
    answer_rows_max: usize,
}

/// All models of one lane.
pub struct Desk {
    plan: Arc<Plan>,
    seats: Vec<Seat>,
    discovered: BTreeMap<String, Seat>,
    open: OpenParts,
    reader: Reader,
}

/// Reads bodies into one reused memory.
struct Reader {
    /// Decoders with default parameters, by position in the list of decoders; `None` where one must be configured.
    defaults: Vec<Option<Box<dyn Decoder>>>,
    question_rows_max: usize,
    columns_max: usize,
    scratch: Features,
}

/// Why a desk cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// An engine refused its part of the plan.
    #[error("model {model:?}: {error}")]
    Engine {
        /// The model.
        model: String,
        /// Why.
        error: BuildError,
    },
    /// A reference cannot be read.
    #[error("the reference of model {model:?}: {message}")]
    Reference {
        /// The model.
        model: String,
        /// Why.
        message: String,
    },
    /// A decoder refused its parameters.
    #[error("protocol of model {model:?}: {message}")]
    Protocol {
        /// The model.
        model: String,
        /// Why.
        message: String,
    },
}

impl Desk {
    /// Sets up every configured model of `plan`.
    ///
    /// # Errors
    /// When a part refuses its parameters, or a reference cannot be read.
    pub fn new(plan: Arc<Plan>) -> Result<Self, DeskError> {
        let seats = plan.models.iter().map(|model| Seat::new(&plan, model)).collect::<Result<_, _>>()?;
        if let Some(unclaimed) = &plan.unclaimed {
            // Built once and thrown away: a discovered model must not be the first to find a mistake.
            Seat::new(&plan, unclaimed)?;
        }
        let open = OpenParts::new(plan.limits.open_questions, plan.limits.pending_bytes);
        let reader = Reader::new(&plan);
        Ok(Self { plan, seats, discovered: BTreeMap::new(), open, reader })
    }

    /// Takes one entry of the journal.
    pub fn step(&mut self, entry: Entry, step: &mut Step) {
        step.clear();
        match entry {
            Entry::Asked(asked) => self.asked(asked, step),
            Entry::Answered(answered) => self.answered(&answered, step),
            Entry::Lift(lift) => {
                for seat in self.seats.iter_mut().chain(self.discovered.values_mut()) {
                    seat.engine.lift(lift.decision, lift.time);
                }
            }
        }
    }

    /// Every model with its engine; the configured ones with their position.
    pub fn engines(&self) -> impl Iterator<Item = (Option<u16>, &str, &Engine)> {
        let configured =
            self.seats.iter().zip(0..).map(|(seat, index)| (Some(index), &*seat.name, &seat.engine));
        configured.chain(self.discovered.values().map(|seat| (None, &*seat.name, &seat.engine)))
    }

    /// Number of discovered models.
    pub fn discovered(&self) -> usize {
        self.discovered.len()
    }

    fn asked(&mut self, asked: Asked, step: &mut Step) {
        step.model = asked.model;
        if asked.model.is_none() && asked.protocol.is_none() {
            step.not_inspected.push((Part::Question, NotInspected::UnknownProtocol));
            return;
        }
        let open = asked.admission == Admission::Admitted;
        let mut entry = Open::new(&asked);
        match seat(&mut self.seats, &mut self.discovered, asked.model, &asked.name) {
            Some(seat) => seat.question(&asked, &mut self.reader, step),
            // The name is only a caller's claim until the upstream has answered to it.
            None => entry.pending = Some(asked),
        }
        if open {
            self.open.insert(entry);
        }
    }

    fn answered(&mut self, answered: &Answered, step: &mut Step) {
        let Some(open) = self.open.remove(answered.id) else {
            step.not_inspected.push((Part::Answer, NotInspected::Unanswered));
            return;
        };
        step.model = open.model;
        if open.pending.is_some() && !self.discover(&open, answered.status, step) {
            return;
        }
        let seat = seat(&mut self.seats, &mut self.discovered, open.model, &open.name);
        if let Some(seat) = seat {
            seat.answer(&open, answered, &mut self.reader, step);
        }
    }

    /// A model answered under a name not seen before: it gets a seat, and the questions that waited for it are
    /// taken in the order in which they came.
    fn discover(&mut self, open: &Open, status: u16, step: &mut Step) -> bool {
        if !(200..300).contains(&status) {
            return false;
        }
        if !self.discovered.contains_key(&open.name) {
            if self.discovered.len() >= self.plan.limits.discovered_models {
                step.not_inspected.push((Part::Question, NotInspected::TooManyModels));
                return false;
            }
            let Some(new) =
                self.plan.unclaimed.as_ref().and_then(|plan| discovered(&self.plan, plan, &open.name))
            else {
                return false;
            };
            self.discovered.insert(open.name.clone(), new);
        }
        let waiting = self.open.take_pending(&open.name);
        if let Some(seat) = self.discovered.get_mut(&open.name) {
            for asked in open.pending.iter().chain(&waiting) {
                seat.question(asked, &mut self.reader, step);
            }
        }
        true
    }
}

fn seat<'a>(
    seats: &'a mut [Seat],
    discovered: &'a mut BTreeMap<String, Seat>,
    model: Option<u16>,
    name: &str,
) -> Option<&'a mut Seat> {
    match model {
        Some(index) => seats.get_mut(usize::from(index)),
        None => discovered.get_mut(name),
    }
}

fn discovered(plan: &Plan, unclaimed: &ModelPlan, name: &str) -> Option<Seat> {
    Seat::new(plan, &ModelPlan { name: name.to_owned(), ..unclaimed.clone() }).ok()
}

impl Seat {
    fn new(plan: &Plan, model: &ModelPlan) -> Result<Self, DeskError> {
        let name: Arc<str> = model.name.as_str().into();
        Ok(Self {
            name: Arc::clone(&name),
            engine: Engine::new(build(plan, model, name)?)
                .map_err(|error| DeskError::Engine { model: model.name.clone(), error })?,
            decoder: decoder(model)?,
            answer_rows_max: if model.contract.rules.is_empty() {
                plan.limits.rows_per_exchange
            } else {
                CONTRACT_ROWS_MAX
            },
        })
    }

    fn question(&mut self, asked: &Asked, reader: &mut Reader, step: &mut Step) {
        step.name = Some(Arc::clone(&self.name));
        let question = match asked.admission {
            Admission::Refused(_) => Question::Refused,
            Admission::Admitted => {
                let read = reader.question(self.decoder.as_deref(), asked);
                step.count(Part::Question, read);
                read.map_or_else(Question::NotInspected, Question::Rows)
            }
        };
        let asked = facts::Asked {
            id: asked.id,
            time: asked.time,
            asker: asked.asker,
            bytes: asked.length,
            question,
        };
        self.engine.asked(&asked, &mut step.outbox);
    }

    fn answer(&mut self, open: &Open, answered: &Answered, reader: &mut Reader, step: &mut Step) {
        step.name = Some(Arc::clone(&self.name));
        let answer = reader.answer(self.decoder.as_deref(), open.protocol, answered, self.answer_rows_max);
        step.count(Part::Answer, answer);
        let answered = facts::Answered {
            id: answered.id,
            time: answered.time,
            asker: open.asker,
            status: answered.status,
            bytes: answered.length,
            latency: answered.latency,
            answer,
            judged: answered.judged.as_ref().map(|judged| judged.violations.as_slice()),
        };
        self.engine.answered(&answered, &mut step.outbox);
        step.observed_violation = step.outbox.broke_contract && answered.judged.is_none();
    }
}

impl Reader {
    fn new(plan: &Plan) -> Self {
        Self {
            defaults: decode::defaults(),
            question_rows_max: plan.limits.rows_per_exchange,
            columns_max: plan.limits.columns,
            scratch: Features::default(),
        }
    }

    fn question(
        &mut self,
        configured: Option<&dyn Decoder>,
        asked: &Asked,
    ) -> Result<&Features, NotInspected> {
        let rows_max = self.question_rows_max;
        self.read(configured, asked.protocol, Part::Question, &asked.headers, &asked.body, rows_max)
    }

    fn answer(
        &mut self,
        configured: Option<&dyn Decoder>,
        protocol: Option<u8>,
        answered: &Answered,
        rows_max: usize,
    ) -> Result<&Features, NotInspected> {
        if !(200..300).contains(&answered.status) {
            return Err(NotInspected::NoPrediction);
        }
        self.read(configured, protocol, Part::Answer, &answered.headers, &answered.body, rows_max)
    }

    /// Reads with the configured decoder, or else with the one that claimed the request.
    fn read(
        &mut self,
        configured: Option<&dyn Decoder>,
        protocol: Option<u8>,
        part: Part,
        headers: &[(String, String)],
        body: &Body,
        rows_max: usize,
    ) -> Result<&Features, NotInspected> {
        let decoder =
            decode::chosen(configured, &self.defaults, protocol).ok_or(NotInspected::UnknownProtocol)?;
        let bytes = match body {
            Body::Whole(bytes) => bytes,
            Body::Not(reason) => return Err(*reason),
        };
        let headers = kept_headers(headers);
        let head = Head { headers: &headers, part, rows_max, columns_max: self.columns_max };
        self.scratch.clear();
        decoder.decode(&head, bytes, &mut self.scratch)?;
        Ok(&self.scratch)
    }
}

impl Step {
    fn count(&mut self, part: Part, result: Result<&Features, NotInspected>) {
        match result {
            Ok(features) if part == Part::Question => {
                self.rows += features.rows() as u64;
                self.rows_over += features.rows_over;
            }
            // An answer without a prediction was not overlooked: there is nothing in it to look at.
            Ok(_) | Err(NotInspected::NoPrediction) => {}
            Err(reason) => self.not_inspected.push((part, reason)),
        }
    }
}

fn decoder(model: &ModelPlan) -> Result<Option<Box<dyn Decoder>>, DeskError> {
    let Some((name, parameters)) = &model.protocol else { return Ok(None) };
    let refused = |message: String| DeskError::Protocol { model: model.name.clone(), message };
    let spec = decode::spec(name).ok_or_else(|| refused(format!("there is no protocol {name:?}")))?;
    (spec.build)(parameters).map(Some).map_err(|error| refused(error.to_string()))
}

fn build(plan: &Plan, model: &ModelPlan, name: Arc<str>) -> Result<Build, DeskError> {
    let reference =
        model.reference.as_deref().map(|text| Reference::from_json_lines(text, Trust::Trusted)).transpose();
    let refused = |error| DeskError::Reference { model: model.name.clone(), message: format!("{error}") };
    Ok(Build {
        model: name,
        hash_key: plan.hash_key,
        detectors: model.detectors.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        contract: model.contract.clone(),
        contract_action: model.contract_action,
        policy: Policy {
            mode: model.mode,
            block_for: model.block_for,
            never_block: plan.never_block.clone(),
        },
        reference: reference.map_err(refused)?,
        limits: engine::Limits {
            clients: plan.limits.clients,
            open_questions: plan.limits.open_questions,
            new_keys_per_address: plan.limits.new_keys_per_address,
        },
    })
}

#[cfg(test)]
mod tests;
