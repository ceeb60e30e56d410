//! The desk: one journal entry in, findings and decisions out. The same code runs live and in replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use checkgate_detectors::at_work::AtWork;
use checkgate_detectors::drift::reference::DriftReference;
use checkgate_detectors::drift::room::Frozen;
use checkgate_detectors::drift::room::saved::SavedError;
use checkgate_detectors::engine::{self, Build, BuildError, Engine, Outbox};
use checkgate_detectors::facts::{self, Features, NotInspected, Question, Time};
use checkgate_detectors::ladder::Ladder;
use checkgate_detectors::networks::Networks;
use checkgate_detectors::policy::Policy;
use checkgate_detectors::reference::{Reference, Trust};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::open::{Open, OpenParts};
use crate::capture::{Admission, Answered, Asked, Body, Entry, Installed, Remembered};
use crate::decode::{self, Decoder, Head, KeptLine, Part, kept_headers};
use crate::gate::Rules;
use crate::plan::{DriftPlan, ModelPlan, Plan};

/// Rows of an answer that are judged where the model has a contract: far above any batch worth sending, since an
/// offending row must not hide behind the cap that bounds the detectors' work.
const CONTRACT_ROWS_MAX: usize = 100_000;

/// What one entry gave: cleared and reused by the caller.
#[derive(Default)]
pub struct Step {
    /// Findings, decisions, blocks, proven keys, a frozen reference.
    pub outbox: Outbox,
    /// The configured model it belongs to, by id; `None` for a discovered one or none.
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
    /// Models whose memory could not be carried into another plan.
    pub begun_afresh: Vec<Arc<str>>,
    /// The reference that decisions rest on from here on, at an operator's word.
    pub promoted: Option<Learned>,
    /// Whether what a maintenance window taught took the place of the references at work.
    pub installed: bool,
    /// Whether drift goes on with what it remembered before a restart.
    pub remembered: Option<Result<(), SavedError>>,
}

/// What a model learned of normal traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Rows of it.
    pub rows: u64,
    /// Its JSON lines.
    pub text: Arc<str>,
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
        self.begun_afresh.clear();
        self.promoted = None;
        self.installed = false;
        self.remembered = None;
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

/// What is remembered of one model, on its way to another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedEngine {
    /// The model's name.
    pub name: String,
    /// What its engine saved.
    pub bytes: Vec<u8>,
}

/// All models of one lane.
pub struct Desk {
    plan: Arc<Plan>,
    rules: Rules,
    /// The configured models by id.
    seats: BTreeMap<u16, Seat>,
    discovered: BTreeMap<String, Seat>,
    open: OpenParts,
    reader: Reader,
    house: House,
}

/// What holds for every engine of a desk, whichever model it is of.
#[derive(Default)]
struct House {
    /// Where engines write down which detector they ask.
    at_work: AtWork,
    /// Detectors that no engine asks: they did not come back once.
    quarantined: Vec<&'static str>,
}

impl House {
    fn receive(&self, seat: &mut Seat) {
        seat.engine.watched_by(&self.at_work);
        self.quarantined.iter().for_each(|detector| seat.engine.quarantine(detector));
    }
}

/// Reads bodies into one reused memory.
struct Reader {
    /// Decoders with default parameters, by position in the list of decoders; `None` where one must be configured.
    defaults: Vec<Option<Box<dyn Decoder>>>,
    question_rows_max: usize,
    columns_max: usize,
    heads: [LastHead; 2],
    scratch: Features,
}

/// The latest kept lines of one part of exchanges, ready for look-ups: those of nearly every next one are the same.
#[derive(Default)]
struct LastHead {
    lines: Vec<KeptLine>,
    headers: HeaderMap,
}

impl LastHead {
    fn of(&mut self, lines: &[KeptLine]) -> &HeaderMap {
        if self.lines != lines {
            (self.lines, self.headers) = (lines.to_vec(), kept_headers(lines));
        }
        &self.headers
    }
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
        let seat = |(id, model): (&u16, &ModelPlan)| Ok((*id, Seat::new(&plan, model)?));
        let seats = plan.models.iter().map(seat).collect::<Result<_, DeskError>>()?;
        if let Some(unclaimed) = &plan.unclaimed {
            // Built once and thrown away: a discovered model must not be the first to find a mistake.
            Seat::new(&plan, unclaimed)?;
        }
        let open = OpenParts::new(plan.limits.open_questions, plan.limits.pending_bytes);
        let reader = Reader::new(&plan);
        let rules = Rules::of(&plan);
        Ok(Self { plan, rules, seats, discovered: BTreeMap::new(), open, reader, house: House::default() })
    }

    /// Takes one entry of the journal.
    pub fn step(&mut self, entry: Entry, step: &mut Step) {
        step.clear();
        match entry {
            Entry::Asked(asked) => self.asked(asked, step),
            Entry::Answered(answered) => self.answered(&answered, step),
            Entry::Lift(lift) => {
                for seat in self.seats.values_mut().chain(self.discovered.values_mut()) {
                    seat.engine.lift(lift.decision, lift.time);
                }
            }
            Entry::Approve(approved) => {
                for seat in self.seats.values_mut().chain(self.discovered.values_mut()) {
                    seat.engine.approve(approved.decision, approved.until, approved.time);
                }
            }
            Entry::Reject(rejected) => {
                for seat in self.seats.values_mut().chain(self.discovered.values_mut()) {
                    seat.engine.reject(rejected.decision, rejected.time);
                }
            }
            Entry::Plan(replanned) => self.adopt(replanned.plan, step),
            Entry::Promote(promoted) => self.promote(&promoted.model, step),
            Entry::Remember(remembered) => self.remember(&remembered, step),
            Entry::Settle(settled) => {
                for seat in self.seats.values_mut().chain(self.discovered.values_mut()) {
                    seat.engine.settle(settled.time, &mut step.outbox);
                }
            }
            Entry::Install(installed) => self.install(&installed, step),
        }
    }

    /// Has a model's drift go on where it stopped before a restart. Of a model that was discovered then, that is where it
    /// begins now.
    fn remember(&mut self, remembered: &Remembered, step: &mut Step) {
        let seat = self.seat_of(&remembered.model);
        if let Some(seat) = seat.filter(|seat| seat.engine.drift_rooms().is_some()) {
            step.remembered = Some(seat.engine.restore_drift(&remembered.bytes));
        }
    }

    /// The seat of a model by its name, made where it was discovered before a restart.
    fn seat_of(&mut self, name: &str) -> Option<&mut Seat> {
        let id = self.plan.models.iter().find(|(_, plan)| plan.name == *name).map(|(id, _)| *id);
        if id.is_none() && !self.discovered.contains_key(name) {
            let mut new = self.empty_seat(None, name)?;
            self.house.receive(&mut new);
            self.discovered.insert(name.to_owned(), new);
        }
        seat(&mut self.seats, &mut self.discovered, id, name)
    }

    /// Has what a maintenance window taught take the place of a model's references; all stays where the configuration names
    /// one of them.
    fn install(&mut self, installed: &Installed, step: &mut Step) {
        let Installed { model, query, drift, .. } = installed;
        let id = self.plan.models.iter().find(|(_, plan)| plan.name == *model).map(|(id, _)| *id);
        let is_named = |plan: &ModelPlan| {
            query.is_some() && plan.reference.is_some()
                || drift.is_some() && plan.drift.as_ref().is_some_and(DriftPlan::is_named)
        };
        if self.plan.model(id).is_some_and(is_named) {
            return;
        }
        // Both were read when they were kept.
        let read = |text: &Arc<str>| Reference::from_json_lines(text, Trust::Trusted).ok();
        let of_query = query.as_ref().and_then(read);
        let of_drift = drift.as_ref().and_then(|bytes| DriftReference::from_bytes(bytes).ok());
        let is_whole = (of_query.is_some(), of_drift.is_some()) == (query.is_some(), drift.is_some());
        let Some(seat) = self.seat_of(model).filter(|_| is_whole) else { return };
        let frozen = of_drift.map(|reference| Frozen { trust: Trust::Trusted, reference });
        seat.engine.install(of_query, frozen);
        step.installed = true;
        // A seat that is made anew for this model begins with them.
        let plan = Arc::make_mut(&mut self.plan);
        plan.promoted.extend(query.iter().map(|text| (model.clone(), Arc::clone(text))));
        plan.promoted_drifts.extend(drift.iter().map(|bytes| (model.clone(), STANDARD.encode(bytes).into())));
    }

    /// Whether a maintenance window has ended whose lesson is still under way.
    pub fn is_lesson_over(&self, now: Time) -> bool {
        let mut seats = self.seats.values().chain(self.discovered.values());
        seats.any(|seat| seat.engine.is_lesson_over(now))
    }

    /// Lets decisions of a model rest on what it learned; one that the configuration names stays. What drift learns of
    /// a model joins here.
    fn promote(&mut self, model: &str, step: &mut Step) {
        let id = self.plan.models.iter().find(|(_, plan)| plan.name == model).map(|(id, _)| *id);
        if self.plan.model(id).is_some_and(|plan| plan.reference.is_some()) {
            return;
        }
        let seat = seat(&mut self.seats, &mut self.discovered, id, model);
        let Some(reference) = seat.and_then(|seat| seat.engine.promote()) else { return };
        let text: Arc<str> = reference.to_json_lines().into();
        step.promoted = Some(Learned { rows: reference.rows().len() as u64, text: Arc::clone(&text) });
        // A seat that is made anew for this model begins with it.
        Arc::make_mut(&mut self.plan).promoted.insert(model.to_owned(), text);
    }

    /// Has whoever holds the other end of `at_work` see which detector is asked.
    pub fn watched_by(&mut self, at_work: &AtWork) {
        self.house.at_work = at_work.clone();
        self.receive_all();
    }

    /// Never asks a detector again, for no model.
    pub fn quarantine(&mut self, detector: &'static str) {
        self.house.quarantined.push(detector);
        self.receive_all();
    }

    fn receive_all(&mut self) {
        let seats = self.seats.values_mut().chain(self.discovered.values_mut());
        seats.for_each(|seat| self.house.receive(seat));
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Every model with its engine; the configured ones with their id.
    pub fn engines(&self) -> impl Iterator<Item = (Option<u16>, &str, &Engine)> {
        let configured = self.seats.iter().map(|(id, seat)| (Some(*id), &*seat.name, &seat.engine));
        configured.chain(self.discovered.values().map(|seat| (None, &*seat.name, &seat.engine)))
    }

    /// What is remembered of every model that this lane `owns`.
    pub fn save(&self, owns: &dyn Fn(Option<u16>) -> bool) -> Vec<SavedEngine> {
        let owned = self.engines().filter(|(id, _, _)| owns(*id));
        owned.map(|(_, name, engine)| SavedEngine { name: name.to_owned(), bytes: engine.save() }).collect()
    }

    /// Goes on where other engines stopped, for every model that this lane `owns`. Gives the models of which nothing
    /// could be taken: their bounds are others, or another version saved them.
    pub fn restore(&mut self, saved: &[SavedEngine], owns: &dyn Fn(Option<u16>) -> bool) -> Vec<String> {
        let mut refused = Vec::new();
        for SavedEngine { name, bytes } in saved {
            let id = self.plan.models.iter().find(|(_, model)| model.name == *name).map(|(id, _)| *id);
            if !owns(id) {
                continue;
            }
            let Some(mut seat) = self.empty_seat(id, name) else { continue };
            if seat.engine.restore(bytes).is_err() {
                refused.push(name.clone());
            } else if let Some(id) = id {
                self.seats.insert(id, seat);
            } else {
                self.discovered.insert(name.clone(), seat);
            }
        }
        self.receive_all();
        refused
    }

    /// A seat for a model of the plan or, within the bound, for a discovered one.
    fn empty_seat(&self, id: Option<u16>, name: &str) -> Option<Seat> {
        match self.plan.model(id)? {
            model if id.is_some() => Seat::new(&self.plan, model).ok(),
            unclaimed => {
                let has_room = self.discovered.len() < self.plan.limits.discovered_models;
                discovered(&self.plan, unclaimed, name).filter(|_| has_room)
            }
        }
    }

    /// Number of discovered models.
    pub fn discovered(&self) -> usize {
        self.discovered.len()
    }

    /// Puts another plan into force. A model whose part is the same goes on untouched, one whose part changed keeps
    /// what it remembers, and one that was discovered and is configured now keeps it as well.
    fn adopt(&mut self, plan: Arc<Plan>, step: &mut Step) {
        let before = std::mem::replace(&mut self.plan, Arc::clone(&plan));
        let same_ground = plan.shares_ground_with(&before);
        let mut seats = std::mem::take(&mut self.seats);
        for (id, model) in &plan.models {
            let old = seats.remove(id).or_else(|| self.discovered.remove(&model.name));
            let is_same =
                same_ground && before.models.get(id) == Some(model) && plan.trusts_as(&before, &model.name);
            if let Some(seat) = succeed(&plan, model, old, is_same, step) {
                self.seats.insert(*id, seat);
            }
        }
        let is_same = same_ground && before.unclaimed == plan.unclaimed;
        for (name, old) in std::mem::take(&mut self.discovered) {
            let Some(unclaimed) = &plan.unclaimed else { continue };
            let model = ModelPlan { name: name.clone(), ..unclaimed.clone() };
            let is_same = is_same && plan.trusts_as(&before, &name);
            if let Some(seat) = succeed(&plan, &model, Some(old), is_same, step) {
                self.discovered.insert(name, seat);
            }
        }
        self.rules = Rules::of(&plan);
        self.reader = Reader::new(&plan);
        self.receive_all();
    }

    fn asked(&mut self, asked: Asked, step: &mut Step) {
        step.model = asked.model;
        if asked.model.is_some_and(|id| !self.seats.contains_key(&id)) {
            // A reload took the model away while its last captures were on their way.
            step.not_inspected.push((Part::Question, NotInspected::UnknownProtocol));
            return;
        }
        if asked.model.is_none() && asked.protocol.is_none() {
            step.not_inspected.push((Part::Question, NotInspected::UnknownProtocol));
            return;
        }
        let open = asked.admission == Admission::Admitted;
        let mut entry = Open::new(&asked);
        match seat(&mut self.seats, &mut self.discovered, asked.model, &asked.name) {
            Some(seat) => seat.question(&asked, &mut self.reader, step),
            // The name is only a caller's claim until the upstream has answered to it.
            None => entry.pending = Some(Box::new(asked)),
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
        if open.pending.is_some()
            && !self.discover(&open, self.reader.status(None, open.protocol, answered), step)
        {
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
            if self.plan.models.values().any(|model| model.name == open.name) {
                // It was configured while the question was open.
                return false;
            }
            if self.discovered.len() >= self.plan.limits.discovered_models {
                step.not_inspected.push((Part::Question, NotInspected::TooManyModels));
                return false;
            }
            let Some(mut new) =
                self.plan.unclaimed.as_ref().and_then(|plan| discovered(&self.plan, plan, &open.name))
            else {
                return false;
            };
            self.house.receive(&mut new);
            self.discovered.insert(open.name.clone(), new);
        }
        let waiting = self.open.take_pending(&open.name);
        if let Some(seat) = self.discovered.get_mut(&open.name) {
            for asked in open.pending.as_deref().into_iter().chain(&waiting) {
                seat.question(asked, &mut self.reader, step);
            }
        }
        true
    }
}

fn seat<'a>(
    seats: &'a mut BTreeMap<u16, Seat>,
    discovered: &'a mut BTreeMap<String, Seat>,
    model: Option<u16>,
    name: &str,
) -> Option<&'a mut Seat> {
    match model {
        Some(id) => seats.get_mut(&id),
        None => discovered.get_mut(name),
    }
}

/// The seat of `model` under `plan`, with what `old` remembers.
fn succeed(
    plan: &Plan,
    model: &ModelPlan,
    old: Option<Seat>,
    is_same: bool,
    step: &mut Step,
) -> Option<Seat> {
    if is_same && old.is_some() {
        return old;
    }
    // Whoever hands a desk a plan has built it before, so nothing of it fails here.
    let mut new = Seat::new(plan, model).ok()?;
    if let Some(old) = old
        && new.engine.inherit(old.engine).is_err()
    {
        step.begun_afresh.push(Arc::clone(&new.name));
        new = Seat::new(plan, model).ok()?;
    }
    Some(new)
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
        let status = reader.status(self.decoder.as_deref(), open.protocol, answered);
        let answer = reader.answer(self.decoder.as_deref(), open.protocol, answered, self.answer_rows_max);
        step.count(Part::Answer, answer);
        let answered = facts::Answered {
            id: answered.id,
            time: answered.time,
            asker: open.asker,
            status,
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
            heads: Default::default(),
            scratch: Features::default(),
        }
    }

    fn question(
        &mut self,
        configured: Option<&dyn Decoder>,
        asked: &Asked,
    ) -> Result<&Features, NotInspected> {
        let rows_max = self.question_rows_max;
        self.read(configured, asked.protocol, Part::Question, &asked.headers, &asked.body, rows_max)?;
        decode::note_version(&asked.path, &mut self.scratch);
        Ok(&self.scratch)
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

    /// The status of an answer as its protocol means it.
    fn status(&self, configured: Option<&dyn Decoder>, protocol: Option<u8>, answered: &Answered) -> u16 {
        let Some(decoder) = decode::chosen(configured, &self.defaults, protocol) else {
            return answered.status;
        };
        decoder.status(answered.status, &answered.headers, answered.length == 0)
    }

    /// Reads with the configured decoder, or else with the one that claimed the request.
    fn read(
        &mut self,
        configured: Option<&dyn Decoder>,
        protocol: Option<u8>,
        part: Part,
        headers: &[KeptLine],
        body: &Body,
        rows_max: usize,
    ) -> Result<&Features, NotInspected> {
        let decoder =
            decode::chosen(configured, &self.defaults, protocol).ok_or(NotInspected::UnknownProtocol)?;
        let bytes = match body {
            Body::Whole(bytes) => bytes,
            Body::Not(reason) => return Err(*reason),
        };
        let [question, answer] = &mut self.heads;
        let last = if part == Part::Question { question } else { answer };
        let head = Head { headers: last.of(headers), part, rows_max, columns_max: self.columns_max };
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

fn drift(plan: &Plan, model: &ModelPlan) -> Result<Option<engine::Drift>, DeskError> {
    let promoted = plan.promoted_drifts.get(&model.name).map(|content| &**content);
    let built = model.drift.as_ref().map(|drift| drift.engine(promoted)).transpose();
    built.map_err(|error| DeskError::Reference { model: model.name.clone(), message: format!("{error:#}") })
}

fn build(plan: &Plan, model: &ModelPlan, name: Arc<str>) -> Result<Build, DeskError> {
    let promoted = || plan.promoted.get(&model.name).map(|text| &**text);
    let named = model.reference.as_deref().or_else(promoted);
    let reference = named.map(|text| Reference::from_json_lines(text, Trust::Trusted)).transpose();
    let refused = |error| DeskError::Reference { model: model.name.clone(), message: format!("{error}") };
    Ok(Build {
        model: name,
        hash_key: plan.hash_key,
        detectors: model.detectors.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        contract: model.contract.clone(),
        contract_action: model.contract_action,
        policy: Policy {
            mode: model.mode,
            refuses_content: model.holds_questions,
            course: model.course.clone(),
            tiers: model.tiers.clone(),
            ladder: Ladder::new(model.block_for.clone()),
            spans: plan.spans,
            scope: plan.scope,
            tenants: Arc::clone(&plan.tenants),
            maintenance: model.maintenance.clone(),
            never_block: Networks::new(plan.never_block.iter().copied()),
            shared_addresses: Networks::new(plan.shared_addresses.iter().copied()),
        },
        reference: reference.map_err(refused)?,
        drift: drift(plan, model)?,
        limits: engine::Limits {
            clients: plan.limits.clients,
            open_questions: plan.limits.open_questions,
            new_keys_per_address: plan.limits.new_keys_per_address,
        },
    })
}

#[cfg(test)]
mod tests;
