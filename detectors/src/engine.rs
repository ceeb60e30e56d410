//! The engine: all that is remembered of one model, and the order in which its detectors are asked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::lesson::{Beside, Lesson};
use crate::at_work::AtWork;
use crate::campaign::Campaigns;
use crate::clients::Clients;
use crate::columns::Columns;
use crate::contract::{Contract, Violation};
use crate::drift::record::DriftRecord;
use crate::drift::reference::DriftReference;
use crate::drift::room::saved::SavedError;
use crate::drift::room::versions::{self, KeptOfRooms, Rooms};
use crate::drift::room::{self, Frozen, Standing};
use crate::explain::Reservation;
use crate::facts::{Answered, Asked, Features, Question, Time};
use crate::finding::{Action, DecisionId, Record};
use crate::hashing::Hashing;
use crate::identity::{Address, Asker, Identity};
use crate::in_force::InForce;
use crate::keys::Keys;
use crate::lines::{Origin, Trail};
use crate::maintenance::Taught;
use crate::neighbours::{Neighbours, Place};
use crate::offences::Offences;
use crate::open::{OpenQuestion, OpenQuestions};
use crate::pages::Pages;
use crate::policy::Policy;
use crate::population::Population;
use crate::query::{self, Aspect, EarlierRows, ErasedDetector, Exchange, Findings, Needs, Purpose, Reply};
use crate::reference::{Learner, Reference, Trust};
use crate::seen::Seen;
use crate::shelf::ClientIndex;
use crate::standing::Recent;
use crate::volume::Volume;

mod agreement;
mod answers;
mod campaigns;
mod decisions;
mod drift;
mod judgement;
mod lesson;
mod notes;
pub mod reach;
#[cfg(test)]
mod tests;

/// Everything an engine is built from.
pub struct Build {
    /// The model's name, as records print it.
    pub model: Arc<str>,
    /// Secret of this instance: keys every hash, so that nobody outside can aim at a cell.
    pub hash_key: [u64; 2],
    /// Detector names with their checked parameters.
    pub detectors: Vec<(String, serde_json::Value)>,
    /// The output contract.
    pub contract: Contract,
    /// What an offending answer leads to, as records print it.
    pub contract_action: crate::finding::Action,
    /// From findings to decisions.
    pub policy: Policy,
    /// What normal looks like, if the operator named it; otherwise it is learned as provisional.
    pub reference: Option<Reference>,
    /// How drift is watched; nothing where it is not.
    pub drift: Option<Drift>,
    /// Bounds.
    pub limits: Limits,
}

/// How the drift of one model is watched.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    /// The settings.
    pub settings: room::Settings,
    /// The reference that the operator named, or that was learned before; otherwise one is learned as provisional.
    pub reference: Option<Frozen>,
    /// Versions of the model that are watched apart, each with its reference if the operator named one.
    pub versions: Vec<versions::Named>,
}

/// Bounds on what one engine remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Clients remembered.
    pub clients: usize,
    /// Questions whose answers are awaited.
    pub open_questions: usize,
    /// New keys that one address may bring in an hour.
    pub new_keys_per_address: u32,
}

/// A decision on a client to put into force.
#[derive(Clone, Debug)]
pub struct Block {
    /// The decision.
    pub id: DecisionId,
    /// Whom it is about.
    pub client: Identity,
    /// What is done to the client: tag, throttle, degrade or block.
    pub action: Action,
    /// When it was taken.
    pub time: Time,
    /// From when on it acts: at once; where it was proposed, from the moment at which it approves itself, or never.
    pub acts_from: Time,
    /// When it ends; where it was proposed and waits for an operator, when that is too late.
    pub until: Time,
    /// For how long it acts: a rung of the ladder, and what a refused client is told to wait.
    pub lasts: Duration,
    /// Whether the gate may act on it: the identity is proven, the client is not on the never-block list, and what
    /// it rests on is trusted. Otherwise it is an observation.
    pub may_act: bool,
    /// Clients active within the last ten minutes, for the brake.
    pub clients_active: usize,
}

/// What one step of the engine gives: cleared and reused by the caller.
#[derive(Default)]
pub struct Outbox {
    /// Findings and decisions, in order.
    pub records: Vec<Record>,
    /// Blocks to put into force; each also stands in `records`.
    pub blocks: Vec<Block>,
    /// Keys that this step proved to be identities.
    pub proven_keys: Vec<u64>,
    /// A reference that this step froze as provisional.
    pub frozen: Option<Reference>,
    /// Changes of the model's drift.
    pub drifts: Vec<DriftRecord>,
    /// A reference of drift that this step froze as provisional.
    pub frozen_drift: Option<DriftReference>,
    /// What maintenance windows taught that ended with this step.
    pub taught: Vec<Taught>,
    /// Detectors that this step quarantined, after a panic or because they kept more than they may.
    pub quarantined: Vec<&'static str>,
    /// The decision that refuses this question for what it holds: it lies in a campaign.
    pub refused_by: Option<DecisionId>,
    /// Whether the answer broke its contract; only a few such answers become records.
    pub broke_contract: bool,
}

impl Block {
    /// Whether it waits for approval at `now`.
    #[must_use]
    pub fn is_proposed(&self, now: Time) -> bool {
        now < self.acts_from
    }
}

impl Outbox {
    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.blocks.clear();
        self.proven_keys.clear();
        self.frozen = None;
        self.drifts.clear();
        self.frozen_drift = None;
        self.taught.clear();
        self.quarantined.clear();
        self.refused_by = None;
        self.broke_contract = false;
    }
}

/// Counts of bounds reached and sizes, read by the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Clients remembered now.
    pub clients: u64,
    /// Clients forgotten to make room, ever.
    pub clients_evicted: u64,
    /// Open questions now.
    pub open_questions: u64,
    /// Open questions given up to make room, ever.
    pub open_questions_evicted: u64,
    /// Rows remembered now.
    pub rows: u64,
    /// Rows forgotten to make room, ever.
    pub rows_evicted: u64,
    /// Rows that were exact repeats, ever.
    pub repeats: u64,
    /// Rows in the reference now.
    pub reference_rows: u64,
    /// Keys that did not become identities, or no longer are, for want of room or of an address's allowance, ever.
    pub keys_turned_away: u64,
    /// Decisions that stopped suspending evidence before their end, to make room, ever.
    pub decisions_evicted: u64,
    /// Clients whose past offences were forgotten to make room, ever.
    pub offences_evicted: u64,
}

/// One model's engine.
pub struct Engine {
    rules: Rules,
    detectors: Vec<Running>,
    memory: Memory,
    columns: Columns,
    drift: Option<Box<Rooms>>,
    /// What a lesson learns of drift, beside.
    drift_beside: Beside,
    /// Scratch, empty between two facts.
    findings: Findings,
    violations: Vec<Violation>,
}

/// What was decided at start-up and stays.
struct Rules {
    model: Arc<str>,
    hashing: Hashing,
    contract: Contract,
    contract_action: Action,
    policy: Policy,
    limits: Limits,
}

/// A detector at work; without one once it is quarantined.
struct Running {
    label: Label,
    detector: Option<Box<dyn ErasedDetector>>,
    /// Its place among all detectors.
    position: usize,
    /// Whether it needs no reference: what it says holds whichever model answers.
    by_itself: bool,
    /// Whether it is told of answers.
    hears_answers: bool,
    aspect: Aspect,
    tells_alone: bool,
    state_bytes_max: usize,
    at_work: AtWork,
}

/// Who speaks.
#[derive(Clone, Copy)]
struct Label {
    name: &'static str,
    atlas: &'static str,
    owasp: &'static str,
    purpose: Purpose,
}

/// All that is remembered, detectors' own memories aside: plain, bounded data.
#[derive(Serialize, Deserialize)]
struct Memory {
    clients: Clients,
    tallies: Pages<Tally>,
    seen: Seen,
    neighbours: Neighbours,
    campaigns: Campaigns,
    recent: Recent,
    keys: Keys,
    in_force: InForce,
    offences: Offences,
    open: OpenQuestions,
    learner: Learner,
    reference: Option<Reference>,
    /// What is learned while the model is being exchanged.
    lesson: Option<Lesson>,
    /// When the last lesson ended.
    lesson_over: Time,
    population: Population,
    /// Decisions and alerts so far: the source of decision ids.
    decisions: u64,
    /// Findings so far: the source of their ids.
    findings: u64,
}

/// What the engine itself counts of a client.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally {
    requests: u32,
    inspected: u32,
    /// Distinct rows within an hour.
    volume: Volume,
    /// What few clients have.
    spoken_of: Option<Box<SpokenOf>>,
}

/// What was said of a client.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct SpokenOf {
    violations: Trail,
    distinct_violations: u32,
    /// What each detector, in their order, told of the client last.
    told: Vec<Told>,
    /// What rules count.
    lately: judgement::Lately,
}

/// What one detector told of one client last.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Told {
    /// Until when it does not repeat an alert.
    quiet_until: Time,
    /// Until when it does not repeat a note.
    noted_until: Time,
    /// When it last found anything; at the beginning of time if it never did.
    found_at: Time,
    /// When it last told something that does not act by itself; at the beginning of time if it never did.
    agrees_since: Time,
}

/// Whose evidence a fact is.
#[derive(Clone, Copy)]
struct Subject {
    identity: Identity,
    reservation: Option<Reservation>,
}

impl Subject {
    fn may_be_blocked(&self) -> bool {
        self.reservation.is_none()
    }
}

/// The subject of a fact, its place in the client table, and when.
#[derive(Clone, Copy)]
struct Case {
    subject: Subject,
    client: ClientIndex,
    address: Address,
    request: u64,
    time: Time,
}

/// What detectors keep of a client is measured once in so many of its requests.
const MEASURED_EVERY: u32 = 64;

/// The version of the form that [`Engine::save`] writes.
const SNAPSHOT_VERSION: u16 = 12;

/// A snapshot: version, model, bounds, memory, name, quarantine and memory of each detector, and memories of drift: of the
/// room at work, and of the one that learns beside it.
type Snapshot<M, D> = (u16, Arc<str>, Limits, M, Vec<SavedDetector>, OfDrift<D>);

/// Memories of drift.
type OfDrift<D> = (Option<versions::Form<D>>, Option<D>);

/// Name, quarantine and memory of a detector.
type SavedDetector = (String, bool, Vec<u8>);

impl Engine {
    /// How long a client counts as active.
    pub const ACTIVE: Duration = Duration::from_secs(600);

    /// Builds the engine of one model.
    ///
    /// # Errors
    /// Names a detector that does not exist or parameters that it cannot take.
    pub fn new(build: Build) -> Result<Self, BuildError> {
        let detectors = build.detectors.iter().map(|(name, parameters)| Running::new(name, parameters));
        let hashing = Hashing::new(build.hash_key);
        Ok(Self {
            detectors: detectors.collect::<Result<_, _>>()?,
            memory: Memory::new(build.limits, build.reference),
            rules: Rules {
                model: build.model,
                hashing,
                contract: build.contract,
                contract_action: build.contract_action,
                policy: build.policy,
                limits: build.limits,
            },
            columns: Columns::default(),
            drift: build.drift.map(|Drift { settings, reference, versions }| {
                Box::new(Rooms::new(&settings, reference, versions, &hashing))
            }),
            drift_beside: None,
            findings: Findings::default(),
            violations: Vec::new(),
        })
    }

    /// Takes a question: repeats are removed, the detectors that need only the question judge it. O(rows x width).
    pub fn asked(&mut self, asked: &Asked<'_>, out: &mut Outbox) {
        self.attend(asked.time, out);
        self.memory.recent.count(asked.asker.address);
        let subject = self.subject(&asked.asker, asked.time, out);
        let address = asked.asker.address;
        if self.rests(subject, address, asked.time) {
            return;
        }
        let client = self.enter(subject.identity, asked.time);
        let case = Case { subject, client, address, request: asked.id, time: asked.time };
        if let Some(tally) = self.memory.tallies.entry(client) {
            tally.requests = tally.requests.saturating_add(1);
            let inspected = u32::from(matches!(asked.question, Question::Rows(_)));
            tally.inspected = tally.inspected.saturating_add(inspected);
        }
        match asked.question {
            Question::Rows(rows) => self.take(case, rows, out),
            Question::NotInspected(reason) => self.memory.open.open(
                case.request,
                OpenQuestion {
                    identity: subject.identity,
                    distinct_rows: Vec::new(),
                    first_row: 0,
                    not_inspected: Some(reason),
                    samples: Vec::new(),
                    kept: KeptOfRooms::default(),
                    aside: false,
                },
            ),
            Question::Refused => {}
        }
    }

    /// Takes an answer: it is joined to its question and the contract judges it. O(rows x width x rules).
    pub fn answered(&mut self, answered: &Answered<'_>, out: &mut Outbox) {
        self.attend(answered.time, out);
        let question = self.memory.open.close(answered.id);
        let mut subject = self.subject(&answered.asker, answered.time, out);
        if let Some(question) = &question {
            subject.identity = question.identity;
        }
        let address = answered.asker.address;
        if self.rests(subject, address, answered.time) {
            return;
        }
        self.memory.keys.answered(&answered.asker, answered.status, answered.time, &mut out.proven_keys);
        if let Some(client) = self.memory.clients.index_of(subject.identity) {
            let case = Case { subject, client, address, request: answered.id, time: answered.time };
            self.judge_answer(case, question.as_ref(), answered, out);
            // What the contract has just blocked needs no second decision.
            if let Some(question) = question.as_ref().filter(|_| out.blocks.is_empty()) {
                self.tell_detectors(case, answered, question, out);
            }
        }
        self.watch_drift(subject, question.as_ref(), answered, out);
        if let (Some(question), Ok(answer)) = (question, answered.answer) {
            self.learn(question, answered, answer, out);
        }
    }

    /// An operator lifted a decision: its client's evidence starts afresh.
    pub fn lift(&mut self, decision: DecisionId, _time: Time) {
        self.memory.in_force.lift(decision);
        self.memory.campaigns.lift(decision);
        self.memory.offences.lift(decision);
    }

    /// Sizes and bounds reached.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let (rows, rows_evicted) = self.memory.seen.held_and_evicted();
        let (measured, measured_evicted) = self.memory.neighbours.held_and_evicted();
        let running = self.detectors.iter().filter_map(|running| running.detector.as_ref());
        let prints_evicted: u64 = running.map(|detector| detector.evicted()).sum();
        let reference = self.memory.reference.as_ref();
        Gauges {
            clients: self.memory.clients.len() as u64,
            clients_evicted: self.memory.clients.evicted(),
            open_questions: self.memory.open.len() as u64,
            open_questions_evicted: self.memory.open.evicted(),
            rows: (rows + measured) as u64,
            rows_evicted: rows_evicted + measured_evicted + self.memory.campaigns.evicted() + prints_evicted,
            repeats: self.memory.seen.repeats(),
            reference_rows: reference.map_or(self.memory.learner.len(), |frozen| frozen.rows().len()) as u64,
            keys_turned_away: self.memory.keys.turned_away(),
            decisions_evicted: self.memory.in_force.evicted(),
            offences_evicted: self.memory.offences.evicted(),
        }
    }

    /// Bytes of the tables that grow with the clients. What a client's rows take has bounds of its own, and so has what
    /// is allocated with the first evidence; the allocator's own part is left out.
    #[must_use]
    pub fn client_bytes(&self) -> usize {
        let Memory { clients, tallies, seen, neighbours, keys, .. } = &self.memory;
        let running = self.detectors.iter().filter_map(|running| running.detector.as_ref());
        let detectors: usize = running.map(|detector| detector.client_bytes()).sum();
        let rows = seen.client_bytes() + neighbours.client_bytes();
        clients.bytes() + tallies.bytes() + keys.bytes() + rows + detectors
    }

    /// How far the reference can be relied upon, if there is one by now.
    #[must_use]
    pub fn reference_trust(&self) -> Option<Trust> {
        self.memory.reference.as_ref().map(|reference| reference.trust)
    }

    /// How the model's drift stands; nothing where it is not watched.
    #[must_use]
    pub fn drift(&self) -> Option<Standing> {
        let not_kept = self.memory.open.not_kept();
        self.drift.as_ref().map(|rooms| Standing { not_kept, ..rooms.standing() })
    }

    /// How the drift of its versions stands, of those that are watched apart.
    pub fn drift_of_versions(&self) -> impl Iterator<Item = (&str, Standing)> + '_ {
        self.drift.iter().flat_map(|rooms| rooms.standings())
    }

    /// What is watched of drift; nothing where it is not.
    #[must_use]
    pub fn drift_rooms(&self) -> Option<&Rooms> {
        self.drift.as_deref()
    }

    /// Goes on with what [`Rooms::save`] gave. Nothing happens where drift is not watched.
    ///
    /// # Errors
    /// What was saved is another version's or another reference's; the engine is as it was.
    pub fn restore_drift(&mut self, bytes: &[u8]) -> Result<(), SavedError> {
        self.drift.as_mut().map_or(Ok(()), |rooms| rooms.restore(bytes))
    }

    /// Lets decisions rest on the reference that was learned, at an operator's word; gives it. Nothing where none is
    /// learned yet. Saying it twice is saying it once.
    pub fn promote(&mut self) -> Option<&Reference> {
        let reference = self.memory.reference.as_mut()?;
        reference.trust = Trust::Trusted;
        // Columns that a trusted reference does not know count for nothing.
        self.columns.forget();
        Some(reference)
    }

    /// The detectors that run, and those that were switched off after a panic.
    pub fn detectors(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        self.detectors.iter().map(|running| (running.label.name, running.detector.is_some()))
    }

    /// Everything that is remembered, in a versioned byte form.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let snapshot: Snapshot<&Memory, &room::Memory> = (
            SNAPSHOT_VERSION,
            Arc::clone(&self.rules.model),
            self.rules.limits,
            &self.memory,
            self.saved_detectors(),
            (
                self.drift.as_ref().map(|rooms| rooms.memory()),
                self.drift_beside.as_ref().map(|room| room.memory()),
            ),
        );
        // Plain data of this crate's own types always serialises into memory.
        postcard::to_stdvec(&snapshot).unwrap_or_default()
    }

    /// Takes what [`Engine::save`] gave; a reference that the operator named stays. Detectors that the snapshot
    /// does not know start afresh. After an error, build the engine
    /// anew: some of its detectors may have taken their part already.
    ///
    /// # Errors
    /// Refuses another version, another model or other bounds, and bytes that are no snapshot.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let (version, _) = postcard::take_from_bytes::<u16>(bytes)?;
        if version != SNAPSHOT_VERSION {
            return Err(RestoreError::Version(version));
        }
        let (_, model, limits, memory, detectors, drift): Snapshot<Memory, room::Memory> =
            postcard::from_bytes(bytes)?;
        self.take_over((&model, limits), memory, &detectors, drift)
    }

    /// Goes on where `old` stops, an engine of the same model under other settings. A reference that the operator
    /// named stays, and one that is no longer named is forgotten; detectors that did not run start afresh.
    ///
    /// # Errors
    /// Refuses another model or other bounds; after an error, as with [`Engine::restore`].
    pub fn inherit(&mut self, old: Self) -> Result<(), RestoreError> {
        let detectors = old.saved_detectors();
        let beside = old.drift_beside.map(|room| room.into_memory());
        let drift = (old.drift.map(|rooms| rooms.into_memory()), beside);
        self.take_over((&old.rules.model, old.rules.limits), old.memory, &detectors, drift)
    }

    fn saved_detectors(&self) -> Vec<SavedDetector> {
        let save = |running: &Running| {
            let memory = running.detector.as_ref().map(|detector| detector.save());
            (running.label.name.to_owned(), running.detector.is_none(), memory.unwrap_or_default())
        };
        self.detectors.iter().map(save).collect()
    }

    fn take_over(
        &mut self,
        (model, limits): (&str, Limits),
        mut memory: Memory,
        detectors: &[SavedDetector],
        (drift, beside): OfDrift<room::Memory>,
    ) -> Result<(), RestoreError> {
        if model != &*self.rules.model || limits != self.rules.limits {
            return Err(RestoreError::Other);
        }
        for running in &mut self.detectors {
            running.restore(detectors.iter().find(|(name, _, _)| name == running.label.name))?;
        }
        self.reorder_told(&mut memory.tallies, detectors);
        let named = self.memory.reference.take().filter(|reference| reference.trust == Trust::Trusted);
        let learned = memory.reference.filter(|reference| reference.trust == Trust::Provisional);
        memory.reference = named.or(learned);
        self.memory = memory;
        self.columns.forget();
        if let (Some(rooms), Some(drift)) = (&mut self.drift, drift) {
            rooms.take_over(drift);
        }
        self.restore_beside(beside);
        Ok(())
    }

    /// What was told stands in the order of the detectors, which other settings may have changed.
    fn reorder_told(&self, tallies: &mut Pages<Tally>, before: &[SavedDetector]) {
        let place = |running: &Running| before.iter().position(|(name, _, _)| name == running.label.name);
        let places: Vec<_> = self.detectors.iter().map(place).collect();
        if before.len() == places.len() && places.iter().enumerate().all(|(now, was)| *was == Some(now)) {
            return;
        }
        let spoken_of = tallies.iter_mut().filter_map(|tally| tally.spoken_of.as_deref_mut());
        for spoken_of in spoken_of.filter(|spoken_of| !spoken_of.told.is_empty()) {
            let told = |place: &Option<usize>| place.and_then(|place| spoken_of.told.get(place).copied());
            spoken_of.told = places.iter().map(|place| told(place).unwrap_or_default()).collect();
        }
    }

    /// The narrowest proven identity of an asker; where none is proven, its address with a reservation.
    fn subject(&mut self, asker: &Asker, time: Time, out: &mut Outbox) -> Subject {
        let key = self.memory.keys.identity(asker, time, &mut out.proven_keys);
        let spared = self.rules.policy.never_block.contains(asker.address).then_some(Reservation::NeverBlock);
        match key {
            Some(identity) => Subject { identity, reservation: spared },
            None => {
                let doubt = || self.memory.recent.doubt(asker).map(Reservation::Unproven);
                Subject { identity: Identity::Address(asker.address), reservation: spared.or_else(doubt) }
            }
        }
    }

    /// Whether the subject's evidence does not count now, for a decision on it is in force.
    fn rests(&mut self, subject: Subject, address: Address, time: Time) -> bool {
        let decision = self.memory.in_force.on(subject.identity, subject.may_be_blocked(), time);
        decision.is_some_and(|decision| {
            let policy = &self.rules.policy;
            let suspends = || {
                policy.suspends(policy.tenant(subject.identity, address), decision.action, subject.identity)
            };
            decision.is_proposed(time) || suspends()
        })
    }

    /// Finds the client's place; whatever stands under a reused index is forgotten everywhere.
    fn enter(&mut self, identity: Identity, time: Time) -> ClientIndex {
        let place = self.memory.clients.touch(identity, time);
        if place.fresh && self.memory.clients.evicted() > 0 {
            self.forget(place.index);
            self.memory.neighbours.forget_wholly(place.index);
            self.memory.tallies.get_mut(place.index).map(std::mem::take);
        }
        place.index
    }

    fn take(&mut self, case: Case, rows: &Features, out: &mut Outbox) {
        let identity = case.subject.identity;
        let origin = Origin { request: case.request, time: case.time };
        let hashing = self.rules.hashing;
        self.columns.look_at(&hashing, rows, self.memory.reference.as_ref());
        let salt = hashing.salt(identity);
        self.memory.seen.take(&hashing, case.client, salt, origin, rows, &self.columns);
        self.count_volume(case);
        let place = Place { client: case.client, question: rows, columns: &self.columns };
        let Memory { seen, neighbours, reference, .. } = &mut self.memory;
        neighbours.take(place, seen.rows(), reference.as_ref());
        let samples = self.samples(identity, rows);
        let distinct_rows = self.memory.seen.rows().iter().map(|row| row.index as u32).collect();
        let first_row = self.memory.neighbours.first_row();
        let aside = self.memory.lesson.is_some();
        let kept = match (&mut self.drift, &mut self.drift_beside) {
            (Some(rooms), Some(beside)) if aside => rooms.question_beside(beside, rows),
            (Some(rooms), _) if !aside => rooms.question(rows),
            _ => KeptOfRooms::default(),
        };
        let question =
            OpenQuestion { identity, distinct_rows, first_row, not_inspected: None, samples, kept, aside };
        self.memory.open.open(case.request, question);
        self.link_rows(case, out);
        self.ask_detectors(case, rows, out);
    }

    /// Has whoever holds the other end of `at_work` see which detector is asked.
    pub fn watched_by(&mut self, at_work: &AtWork) {
        self.detectors.iter_mut().for_each(|running| running.at_work = at_work.clone());
    }

    /// Never asks a detector again.
    pub fn quarantine(&mut self, detector: &str) {
        let named = self.detectors.iter_mut().filter(|running| running.label.name == detector);
        named.for_each(|running| running.detector = None);
    }

    /// Now and then, looks whether each detector keeps no more of a client than it may.
    fn measure(&mut self, client: ClientIndex, out: &mut Outbox) {
        let requests = self.memory.tallies.get(client).map_or(0, |tally| tally.requests);
        if requests.is_multiple_of(MEASURED_EVERY) {
            self.detectors.iter_mut().for_each(|running| running.measure(client, out));
        }
    }

    /// Asks each detector in turn, until one leads to a decision after which the client's evidence rests.
    fn ask_detectors(&mut self, case: Case, rows: &Features, out: &mut Outbox) {
        let mut findings = std::mem::take(&mut self.findings);
        let (mut first, mut by_itself) = (0, false);
        while let Some(turn) = self.ask(first, case, rows, (&mut findings, &mut by_itself), out) {
            if self.report_all(turn, case, &mut findings, out) {
                break;
            }
            first = turn + 1;
        }
        findings.marked().iter().for_each(|&position| self.memory.neighbours.mark(position));
        if !findings.marked().is_empty() {
            self.marked(case.request, by_itself);
        }
        findings.clear();
        self.findings = findings;
        self.measure(case.client, out);
    }

    /// Reports what the detector told, up to a finding after which the client's evidence rests: then it is true.
    fn report_all(&mut self, turn: usize, case: Case, findings: &mut Findings, out: &mut Outbox) -> bool {
        let Some(label) = self.detectors.get(turn).map(|running| running.label) else { return false };
        findings.drain().any(|finding| self.report(turn, label, case, finding, out))
    }

    /// Tells each detector of an answer, until one finding leads to a block.
    fn tell_detectors(
        &mut self,
        case: Case,
        reply: &Answered<'_>,
        question: &OpenQuestion,
        out: &mut Outbox,
    ) {
        let mut findings = std::mem::take(&mut self.findings);
        let mut first = 0;
        while let Some(turn) = self.tell(first, case, reply, question, &mut findings, out) {
            if self.report_all(turn, case, &mut findings, out) {
                break;
            }
            first = turn + 1;
        }
        findings.clear();
        self.findings = findings;
    }

    /// Asks each detector that is not quarantined, from the one at `first` on, up to one that tells something: gives its
    /// turn. Notes whether one marked a row that needs no reference.
    fn ask(
        &mut self,
        first: usize,
        case: Case,
        rows: &Features,
        (findings, by_itself): (&mut Findings, &mut bool),
        out: &mut Outbox,
    ) -> Option<usize> {
        let Memory { seen, reference, neighbours, .. } = &self.memory;
        let exchange = Exchange {
            id: case.request,
            time: case.time,
            question: rows,
            client: case.client,
            columns: &self.columns,
            reference: reference.as_ref(),
            neighbours,
        };
        self.detectors.iter_mut().enumerate().skip(first).find_map(|(turn, running)| {
            let marked = findings.marked().len();
            let judge = |detector: &mut dyn ErasedDetector, findings: &mut Findings| {
                detector.observe(&exchange, seen, case.client, findings);
            };
            running.guarded(judge, findings, out);
            *by_itself |= running.by_itself && findings.marked().len() > marked;
            findings.has_told().then_some(turn)
        })
    }

    /// Tells of an answer each detector that hears answers and is not quarantined, from the one at `first` on, up to one
    /// that tells something: gives its turn.
    fn tell(
        &mut self,
        first: usize,
        case: Case,
        answered: &Answered<'_>,
        question: &OpenQuestion,
        findings: &mut Findings,
        out: &mut Outbox,
    ) -> Option<usize> {
        let Memory { neighbours, reference, .. } = &self.memory;
        let earlier = |distinct_rows| EarlierRows {
            distinct_rows,
            first_row: question.first_row,
            client: case.client,
            neighbours,
            reference: reference.as_ref(),
        };
        let reply = Reply {
            id: answered.id,
            time: answered.time,
            status: answered.status,
            answer: answered.answer,
            asked: question.not_inspected.map_or(Ok(earlier(&question.distinct_rows)), Err),
            reference: reference.as_ref(),
        };
        let hearing = self.detectors.iter_mut().enumerate().skip(first);
        hearing.filter(|(_, running)| running.hears_answers).find_map(|(turn, running)| {
            let judge = |detector: &mut dyn ErasedDetector, findings: &mut Findings| {
                detector.answered(&reply, case.client, findings);
            };
            running.guarded(judge, findings, out);
            findings.has_told().then_some(turn)
        })
    }
}

impl Memory {
    fn new(limits: Limits, reference: Option<Reference>) -> Self {
        Self {
            clients: Clients::new(limits.clients),
            tallies: Pages::default(),
            seen: Seen::default(),
            neighbours: Neighbours::default(),
            campaigns: Campaigns::default(),
            recent: Recent::default(),
            keys: Keys::new(limits.clients, limits.new_keys_per_address),
            in_force: InForce::new(limits.clients),
            offences: Offences::new(limits.clients),
            population: Population::default(),
            open: OpenQuestions::new(limits.open_questions),
            learner: Learner::default(),
            reference,
            lesson: None,
            lesson_over: Time(0),
            decisions: 0,
            findings: 0,
        }
    }
}

impl Running {
    fn new(name: &str, parameters: &serde_json::Value) -> Result<Self, BuildError> {
        let known = query::all().enumerate().find(|(_, spec)| spec.name == name);
        let (position, spec) = known.ok_or_else(|| BuildError::UnknownDetector(name.to_owned()))?;
        let detector = (spec.build)(parameters).map_err(|error| BuildError::Parameters {
            detector: name.to_owned(),
            message: error.to_string(),
        })?;
        Ok(Self {
            label: Label { name: spec.name, atlas: spec.atlas, owasp: spec.owasp, purpose: spec.purpose },
            hears_answers: detector.hears_answers(),
            detector: Some(detector),
            position,
            by_itself: spec.needs == Needs::Question,
            aspect: spec.aspect,
            tells_alone: spec.tells_alone,
            state_bytes_max: spec.state_bytes_max,
            at_work: AtWork::default(),
        })
    }

    /// Has the detector judge, if it is not quarantined; a panic costs nothing but that detector.
    fn guarded(
        &mut self,
        judge: impl FnOnce(&mut dyn ErasedDetector, &mut Findings),
        findings: &mut Findings,
        out: &mut Outbox,
    ) {
        let Some(detector) = &mut self.detector else { return };
        let marked = findings.marked().len();
        self.at_work.begin(self.position);
        let panicked = catch_unwind(AssertUnwindSafe(|| judge(detector.as_mut(), findings))).is_err();
        self.at_work.end();
        if panicked {
            findings.cut(marked);
            self.quarantine(out);
        }
    }

    fn quarantine(&mut self, out: &mut Outbox) {
        self.detector = None;
        out.quarantined.push(self.label.name);
    }

    /// Quarantines the detector where it keeps more of a client than it said.
    fn measure(&mut self, client: ClientIndex, out: &mut Outbox) {
        let kept = self.detector.as_ref().map_or(0, |detector| detector.bytes_of(client));
        if kept > self.state_bytes_max {
            self.quarantine(out);
        }
    }

    fn restore(&mut self, saved: Option<&SavedDetector>) -> Result<(), postcard::Error> {
        let Some((_, quarantined, memory)) = saved else { return Ok(()) };
        if *quarantined {
            self.detector = None;
        }
        self.detector.as_mut().map_or(Ok(()), |detector| detector.restore(memory))
    }
}

/// Why a snapshot cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Another version wrote it.
    #[error("the snapshot has version {0}, this program reads {SNAPSHOT_VERSION}")]
    Version(u16),
    /// It is another model's, or was written under other bounds.
    #[error("the snapshot belongs to another model or to other limits")]
    Other,
    /// It is damaged.
    #[error("the snapshot cannot be read: {0}")]
    Damaged(#[from] postcard::Error),
}

/// Why an engine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No detector of that name.
    #[error("there is no detector {0:?}; `checkgate detectors` lists them")]
    UnknownDetector(String),
    /// Parameters that the detector cannot take.
    #[error("detector {detector}: {message}")]
    Parameters {
        /// Its name.
        detector: String,
        /// What is wrong, and the mend.
        message: String,
    },
}
