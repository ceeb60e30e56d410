//! One world: clients, a process with the real gate, desk and ledger in it, an operator, and nothing that is not drawn
//! from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use checkgate_detectors::engine::Block;
use checkgate_detectors::facts::{NotInspected, Time};
use checkgate_detectors::finding::{DecisionId, FindingId, Kind, Mode, Record};
use checkgate_detectors::identity::{Asker, Identity};
use serde_json::json;

use super::clients::{self, Client, Habit};
use super::clock::{Clock, Start};
use super::dice::Dice;
use super::disk::{Lies, VirtualDisk};
use super::ends::End;
use super::expected::Expected;
use super::mutants::Mutant;
use super::plans::{self, Approval};
use super::process::{Process, Setting, told};
use crate::capture::{Admission, Answered, Asked, Body, Entry, Outcome};
use crate::gate::{Aim, Origin, Refusal};
use crate::identity::Identify;
use crate::lane::desk::Step;
use crate::ledger::Opening;
use crate::ledger::entry::{By, Decided, Entry as Noted, Status, What};
use crate::ledger::log::Scan;
use crate::records;

/// Requests a minute that pass a throttle.
const PER_MINUTE: u32 = 2;
/// Captures that wait in front of the lane.
const LANE_MAX: usize = 40;

/// What happened in a step, as invariants look at it.
pub enum Happening {
    /// A request stood at the gate.
    Met(Met),
    /// The desk took a capture.
    Stepped(Stepped),
    /// The ledger took an entry.
    Noted(Arc<Noted>),
    /// A listener of the ledger heard of an entry.
    Heard(Arc<Noted>),
    /// Somebody was told that an entry is durable.
    Durable(u64),
    /// A process ended; its journal is complete.
    Ended,
    /// Another one has begun, and this is in the log.
    Begun(Box<Scan>),
}

/// A request at the gate.
pub struct Met {
    /// Who asked.
    pub asker: Asker,
    /// Which model.
    pub model: String,
    /// Whether its model enforces.
    pub acts: bool,
    /// What it was told.
    pub refusal: Option<Refusal>,
    /// Whether something weaker was done to it.
    pub degraded: bool,
    /// The decision that the model server was told of.
    pub tagged: Option<DecisionId>,
}

/// What the desk made of a capture.
pub struct Stepped {
    /// What was told.
    pub records: Vec<Record>,
    /// What was decided.
    pub blocks: Vec<Block>,
    /// What acts of that.
    pub acting: Vec<DecisionId>,
    /// The mode of the model.
    pub mode: Mode,
}

/// A question that waits for its answer.
pub struct Open {
    id: u64,
    asker: Asker,
    client: usize,
    model: String,
    acts: bool,
    rows: usize,
    since: Time,
}

/// Everything there is.
pub struct World {
    pub dice: Dice,
    pub clock: Clock,
    pub clients: Vec<Client>,
    pub victims: BTreeSet<Identity>,
    /// What clients of an enterprise tenant are known by.
    pub enterprise: BTreeSet<Identity>,
    /// Findings that were told: of whom, at which model and when.
    pub findings: Vec<(Identity, Arc<str>, Time)>,
    pub process: Process,
    pub expected: Expected,
    /// How often each decision and finding was told.
    pub told: (BTreeMap<DecisionId, u32>, BTreeMap<FindingId, u32>),
    /// The number of the last entry that was looked at, noted and heard.
    pub noted_before: u64,
    pub heard_before: u64,
    /// Entries as they were noted last, with the process that did it.
    pub entries: BTreeMap<u64, (Arc<Noted>, Start)>,
    /// Up to this number entries were told to be durable.
    pub acknowledged: u64,
    /// What the file of the kill switch says.
    pub kill_switch_file: bool,
    /// What was in the log when the process began.
    pub left: Vec<Noted>,
    pub disk: VirtualDisk,
    /// Stands for the beginning of the world where real time is asked for.
    pub moment: Instant,
    /// How the process is about to end.
    pub ending: Option<End>,
    /// The largest bound that the table had since it shrank last.
    pub table_bound: usize,
    /// The decision that was told last.
    pub latest: Option<DecisionId>,
    /// Whether some table was so small that decisions made room.
    pub crowded: bool,
    pub setting: Setting,
    pub approval: Approval,
    pub mutant: Option<Mutant>,
    pub happened: Vec<Happening>,
    pub counts: Counts,
    /// What was done, where somebody wants to read it.
    pub trace: Option<Vec<String>>,
    /// Questions that wait for their answers.
    pub open: Vec<Open>,
    identify: Identify,
    requests: u64,
}

/// What a run saw: proof that it was no idle one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub refused: u64,
    pub decisions: u64,
    pub proposals: u64,
    pub operated: u64,
    pub ended: u64,
}

#[derive(Clone, Copy)]
enum Deed {
    Ask,
    Answer,
    Serve,
    Write,
    Operate,
    Wait,
    Trouble,
    End,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, setting: Setting) -> Self {
        let mut dice = Dice::new(seed);
        let clock = Clock::new();
        let clients = clients::population(&mut dice);
        let identify = clients::identify(&mut dice);
        let enterprise = clients::enterprise(&clients, &mut dice);
        let plan = Arc::new(plans::as_understood(plans::plan(&enterprise, &mut dice), mutant));
        let crowded = plan.limits.blocks < 1000;
        let victims = clients::victims(&clients);
        let lies = Lies { harsh: setting.harsh, ..mutant.map(Mutant::lies).unwrap_or_default() };
        let (disk, moment) = (VirtualDisk::new(seed, lies), Instant::now());
        let process = Process::new(clock.start(), plan, &setting, (&disk, moment));
        let mut world = Self {
            approval: approval(&mut dice),
            dice,
            clock,
            clients,
            victims,
            enterprise,
            findings: Vec::new(),
            process,
            expected: Expected::default(),
            told: Default::default(),
            noted_before: 0,
            heard_before: 0,
            entries: BTreeMap::new(),
            acknowledged: 0,
            kill_switch_file: false,
            left: Vec::new(),
            disk,
            moment,
            ending: None,
            table_bound: 0,
            latest: None,
            crowded,
            setting,
            mutant,
            happened: Vec::new(),
            counts: Counts::default(),
            trace: None,
            identify,
            open: Vec::new(),
            requests: 0,
        };
        world.process.open(Opening::Afresh, &world.clock);
        world.adopt_rules();
        world.go_on();
        world
    }

    /// Whether a bug was put in on purpose.
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub fn now(&self) -> Time {
        self.process.start.now(&self.clock)
    }

    /// Microseconds since the world began, as decisions are measured.
    pub fn passed(&self) -> i64 {
        self.clock.passed() as i64
    }

    pub fn say(&mut self, what: impl FnOnce() -> String) {
        let passed = self.clock.passed();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} s  {}", passed as f64 / 1e6, what()));
        }
    }

    /// One thing happens.
    pub fn step(&mut self) {
        if let Some(end) = self.ending.take() {
            return self.begin_again(end);
        }
        let deeds = [
            (60, Deed::Ask),
            (40, Deed::Answer),
            (160, Deed::Serve),
            (12, Deed::Operate),
            (8, Deed::Wait),
            (40, Deed::Write),
            (3, Deed::Trouble),
            (3, Deed::End),
        ];
        let moment = self.dice.below(400_000) as u64;
        self.clock.pass(Duration::from_micros(moment));
        match self.dice.weighted(&deeds) {
            Deed::Ask => self.ask(),
            Deed::Answer => self.answer(),
            Deed::Serve => self.serve(),
            Deed::Operate => self.operate(),
            Deed::Wait => self.wait(),
            Deed::Write => self.write(),
            Deed::Trouble => self.trouble(),
            Deed::End => {
                let ends = [(1, End::HandOver), (1, End::Stop), (2, End::Kill), (3, End::PowerOff)];
                let end = self.dice.weighted(&ends);
                self.end(end);
            }
        }
    }

    fn ask(&mut self) {
        let number = self.somebody();
        let (peer, headers) = self.clients[number].request(&mut self.dice);
        let mut asker = self.identify.asker(&peer, &headers, || self.now());
        if self.is(Mutant::BelievesTheFirstHop) {
            asker.address = clients::first_hop(&headers).unwrap_or(asker.address);
        }
        let model = self.dice.weighted(&[(6, Some(0)), (2, Some(1)), (1, None)]);
        let Some(planned) = self.process.plan.model(model) else { return };
        let acts = planned.mode == Mode::Enforce || self.is(Mutant::ActsInObserve);
        let now = self.now();
        let name = model.map_or_else(|| plans::DISCOVERED.to_owned(), |id| format!("model-{id}"));
        let aim = Aim { models: &[&name], acts };
        let refusal = self.process.gate.enter(&asker, aim, PER_MINUTE, now);
        self.meet(asker, aim, true, refusal);
        let rows = self.clients[number].rows(&mut self.dice);
        self.requests += 1;
        let id = self.requests;
        let refused_by = refusal.map(|refusal| refusal.decision);
        self.say(|| {
            format!("client {number} ({asker:?}) asks {model:?}, request {id}, refused by {refused_by:?}")
        });
        let body = match refused_by {
            Some(_) => Body::Whole(Default::default()),
            None if self.dice.chance(0.03) => Body::Not(NotInspected::Shed),
            None if self.dice.chance(0.02) => Body::Whole("{".into()),
            None => Body::Whole(json!({ "features": rows }).to_string().into_bytes().into()),
        };
        let asked = Asked {
            id,
            time: now,
            asker,
            model,
            protocol: Some(0),
            name: name.clone(),
            path: String::new(),
            headers: Default::default(),
            length: body.held() as u64,
            hash: 0,
            body,
            admission: refused_by.map_or(Admission::Admitted, Admission::Refused),
        };
        self.process.queue(number, Entry::Asked(asked), LANE_MAX);
        if refused_by.is_none() {
            self.open.push(Open {
                id,
                asker,
                client: number,
                model: name,
                acts,
                rows: rows.len(),
                since: now,
            });
        }
    }

    /// A client: an honest one, or as often one that is not.
    fn somebody(&mut self) -> usize {
        let honest = self.dice.chance(0.5);
        let of_kind = self.clients.iter().enumerate().filter(|(_, client)| client.is_honest() == honest);
        let numbers: Vec<usize> = of_kind.map(|(number, _)| number).collect();
        self.dice.pick(&numbers)
    }

    fn answer(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let place = self.dice.below(self.open.len());
        let open = self.open.swap_remove(place);
        let now = self.now();
        let aim = Aim { models: &[&open.model], acts: open.acts };
        let refusal = self.process.gate.admit(&open.asker, aim, now);
        self.meet(open.asker, aim, false, refusal);
        let client = &self.clients[open.client];
        let price = if client.habit == Habit::Breaks { -1.0 } else { 100.0 };
        let status = match refusal {
            Some(_) => 0,
            None if client.invents_keys => 401,
            None if self.dice.chance(0.02) => 500,
            None => 200,
        };
        let body = json!({ "predictions": vec![[price]; open.rows] }).to_string();
        let answered = Answered {
            id: open.id,
            time: now,
            status,
            headers: Default::default(),
            length: body.len() as u64,
            latency: now.since(open.since),
            body: Body::Whole(body.into_bytes().into()),
            judged: None,
            outcome: refusal.map_or(Outcome::Answered, |refusal| Outcome::Blocked(refusal.decision)),
        };
        self.say(|| format!("request {} is answered with {status}", answered.id));
        self.process.queue(open.client, Entry::Answered(answered), LANE_MAX);
    }

    fn meet(&mut self, asker: Asker, aim: Aim<'_>, enters: bool, refusal: Option<Refusal>) {
        let now = self.now();
        self.counts.requests += u64::from(enters);
        self.counts.refused += u64::from(refusal.is_some());
        let degraded = self.process.gate.degrades(&asker, aim, now).is_some();
        let tagged = self.process.gate.tags(&asker, aim, now);
        let acts = aim.acts && !self.is(Mutant::ActsInObserve);
        let model = aim.models.concat();
        self.happened.push(Happening::Met(Met { asker, model, acts, refusal, degraded, tagged }));
    }

    /// The lane takes a capture of one of the clients that wait.
    pub fn serve(&mut self) {
        if let Some(entry) = self.process.dequeue(&mut self.dice) {
            self.take(entry);
        }
    }

    /// What a lane's clerk does with an entry.
    pub fn take(&mut self, entry: Entry) {
        if !(self.is(Mutant::ForgetsToJournal) && self.dice.chance(0.05)) {
            self.process.journal.push(entry.clone());
        }
        let mut step = std::mem::take(&mut self.process.step);
        self.process.desk.step(entry, &mut step);
        self.publish(&mut step);
        self.process.step = step;
    }

    fn publish(&mut self, step: &mut Step) {
        self.process.lines.extend(told(step));
        self.process.proven.extend(&step.outbox.proven_keys);
        if self.is(Mutant::LosesEvidence) && !step.outbox.blocks.is_empty() {
            step.outbox.records.remove(0);
        }
        for record in &step.outbox.records {
            let line = records::line(record);
            self.note(By::itself(), What::Finding { record: line.into() }, None);
            if record.kind == Kind::Finding {
                *self.told.1.entry(record.id).or_default() += 1;
                self.findings.push((record.client, Arc::clone(&record.model), record.time));
            }
        }
        let mode = self.process.desk.plan().model(step.model).map(|model| model.mode).unwrap_or_default();
        let acts_in = if self.is(Mutant::ActsInObserve) { Mode::Enforce } else { mode };
        for block in &mut step.outbox.blocks {
            self.counts.decisions += 1;
            *self.told.0.entry(block.id).or_default() += 1;
            self.propose(block);
        }
        let origin = Origin { model: step.model, mode: acts_in };
        let records = step.outbox.records.clone();
        if self.is(Mutant::ForgetsTheScope) {
            step.outbox.records.iter_mut().for_each(|record| record.grounds.scope = None);
        }
        let acting = self.process.gate.apply_all(&step.outbox, origin, self.process.desk.rules()).acting();
        for block in step.outbox.blocks.clone() {
            self.enter_decision(&block, &records, &acting);
        }
        if !(step.outbox.records.is_empty() && step.outbox.blocks.is_empty()) {
            let blocks = step.outbox.blocks.clone();
            self.happened.push(Happening::Stepped(Stepped { records, blocks, acting, mode }));
        }
    }

    /// Makes a proposal of a decision, where the operator wants to be asked and the plan makes none.
    fn propose(&mut self, block: &mut Block) {
        if block.is_proposed(block.time) {
            return;
        }
        match self.approval {
            Approval::NotNeeded => {}
            Approval::ByAnOperator(within) => {
                (block.acts_from, block.until) = (Time::NEVER, block.time.plus(within));
            }
            Approval::ByItself(after) => {
                block.acts_from = block.time.plus(after);
                block.until = block.acts_from.plus(block.lasts);
            }
        }
    }

    fn enter_decision(&mut self, block: &Block, records: &[Record], acting: &[DecisionId]) {
        let now = self.now();
        let entered = self.process.gate.list(now).into_iter().find(|entered| entered.id == block.id);
        let waits = block.is_proposed(block.time);
        let proposed = waits && entered.as_ref().is_some_and(|it| it.acts);
        let status = match () {
            () if acting.contains(&block.id) => Status::InForce,
            () if proposed => Status::Proposed,
            () => Status::Observed,
        };
        self.counts.proposals += u64::from(status == Status::Proposed);
        let why = records.iter().find(|record| record.decision_id == Some(block.id));
        let by_itself = waits.then_some(block.acts_from).filter(|from| *from < block.until);
        if status == Status::Proposed && self.is(Mutant::ActsBeforeApproval) {
            self.process.gate.approve(block.id, now);
        }
        let decided = Decided {
            id: block.id,
            client: block.client,
            model: why.map(|why| Arc::clone(&why.model)),
            scope: why.and_then(|why| why.grounds.scope).unwrap_or_default(),
            detector: why.map_or("", |why| why.detector).into(),
            action: block.action,
            time: block.time,
            until: block.until,
            lasts: block.lasts,
            status,
            held_back: None,
            approves_itself: by_itself.filter(|_| status == Status::Proposed),
            tenant: None,
            requests: 0,
            asked: None,
            evidence: why.map(records::line).unwrap_or_default().into(),
        };
        self.say(|| format!("{} on {} is decided: {status:?}", decided.id, decided.client));
        self.note(By::itself(), What::Decision(Box::new(decided)), by_itself);
    }

    /// The ledger takes what happened, and so does what should be.
    pub fn note(&mut self, by: By, what: What, approves_itself: Option<Time>) {
        let now = self.now();
        let entry = self.process.note(now, by, what);
        self.expected.take(&entry, &self.process.start, approves_itself);
        self.entries.insert(entry.number, (Arc::clone(&entry), self.process.start.clone()));
        self.happened.push(Happening::Noted(entry));
    }

    /// Time passes, and what is to be done again and again is done.
    fn wait(&mut self) {
        let span = self.dice.span(Duration::from_secs(400));
        self.clock.pass(span);
        let now = self.now();
        self.process.gate.tick(now);
        let passed = self.passed();
        let due = self.expected.decisions.iter().filter(|(_, standing)| {
            standing.status == Status::Proposed && standing.itself_at.is_some_and(|at| at <= passed)
        });
        let due: Vec<(DecisionId, i64)> = due.map(|(id, standing)| (*id, standing.until)).collect();
        for (id, until) in due {
            let until = Time(self.process.start.time_at(until) as u64);
            self.note(By::itself(), What::Approved { id, until }, None);
        }
        if self.dice.chance(0.1) {
            let by = self.dice.pick(&[3_600_000_000, -3_600_000_000, 90_000_000, -86_400_000_000]);
            self.clock.set(by);
            self.say(|| format!("the wall clock is set by {by} us"));
        }
    }

    /// What invariants need to know of what they looked at before.
    pub fn looked_at(&mut self, happening: &Happening) {
        match happening {
            Happening::Noted(entry) => {
                self.noted_before = entry.number;
                self.latest = decision(&entry.what).or(self.latest);
            }
            Happening::Heard(entry) => self.heard_before = entry.number,
            _ => {}
        }
    }

    /// When the process began.
    pub fn start(&self) -> &Start {
        &self.process.start
    }
}

/// The decision that an entry is about.
pub fn decision(what: &What) -> Option<DecisionId> {
    match what {
        What::Decision(decided) => Some(decided.id),
        What::Approved { id, .. }
        | What::Rejected { id }
        | What::Lifted { id }
        | What::Extended { id, .. } => Some(*id),
        _ => None,
    }
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.decisions += other.decisions;
        self.proposals += other.proposals;
        self.operated += other.operated;
        self.ended += other.ended;
    }
}

fn approval(dice: &mut Dice) -> Approval {
    match dice.below(7) {
        0 => Approval::ByAnOperator(Duration::from_secs(120)),
        1 => Approval::ByItself(Duration::from_secs(10)),
        2 => Approval::ByItself(Duration::from_secs(120)),
        _ => Approval::NotNeeded,
    }
}
