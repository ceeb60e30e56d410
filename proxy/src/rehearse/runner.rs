//! Journal entries through desk and gate, as they would have gone under a policy.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use checkgate_detectors::drift::record::DriftRecord;
use checkgate_detectors::engine::Engine;
use checkgate_detectors::facts::{NotInspected, Time};
use checkgate_detectors::finding::{DecisionId, Mode, Record};
use checkgate_detectors::identity::Asker;

use super::paces::Paces;
use crate::capture::{Admission, Asked, Body, Entry};
use crate::decode::Part;
use crate::farthest::{LISTED, ModelClients};
use crate::gate::{Aim, Gate, Origin};
use crate::lane::desk::{Desk, Step};
use crate::metrics::Metrics;
use crate::plan::Plan;

/// Refused questions whose answers may still stand in the recording. Far more than a proxy has open at once; the
/// oldest are let go first, and their answers then count as answers to nothing.
const REFUSED_MAX: usize = 65_536;

/// A desk and a gate under one plan.
pub struct Runner {
    desk: Desk,
    gate: Gate,
    paces: Paces,
    step: Step,
    refused: BTreeSet<u64>,
    /// Captures that made the desk panic.
    pub panics: u64,
}

/// What one entry led to.
pub struct Taken<'a> {
    /// When it happened.
    pub time: Time,
    /// What became of it, if it was a question.
    pub fate: Option<(Asker, Fate)>,
    /// Rows of a question that were scored.
    pub rows: u64,
    /// The model's name, once it has one.
    pub model: Option<&'a str>,
    /// What was told, in order.
    pub records: &'a [Record],
    /// How the drift of the model changed.
    pub drifts: &'a [DriftRecord],
    /// Whether the brake is on after a decision of this step.
    pub brake: bool,
    /// By how much the answer to a degraded question comes later, by the rows that were seen in the question.
    pub delay: Duration,
    /// Decisions of this step that act.
    pub acting: Vec<DecisionId>,
    /// What was not looked into.
    pub not_inspected: &'a [(Part, NotInspected)],
    /// Whether the answer broke its contract.
    pub broke_contract: bool,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The model was asked.
    Answered,
    /// The model was asked, and the answer came coarse and late.
    Degraded,
    /// It was refused.
    Refused,
    /// It was refused when it was recorded, so nobody knows what it asked.
    Unknown,
}

impl Runner {
    /// Builds everything that `plan` names.
    ///
    /// # Errors
    /// When a part refuses its parameters, or a reference cannot be read.
    pub fn new(plan: Arc<Plan>, paces: Paces) -> anyhow::Result<Self> {
        let desk = Desk::new(Arc::clone(&plan))?;
        let metrics = Metrics::new(&[], &[])?;
        let gate = Gate::for_replay(&plan, metrics);
        gate.adopt(desk.rules().clone(), plan.limits.blocks);
        Ok(Self { desk, gate, paces, step: Step::default(), refused: BTreeSet::new(), panics: 0 })
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        self.desk.plan()
    }

    /// Who asks most and covers most at `now`, of every model.
    pub fn farthest(&self, now: Time) -> Vec<ModelClients> {
        let of =
            |(_, name, engine): (Option<u16>, &str, &Engine)| ModelClients::of(name, engine, now, LISTED);
        let models = self.desk.engines().map(of);
        models.filter(|model| !model.farthest.is_empty()).collect()
    }

    /// Takes one entry. The answer to a question that was refused here is left out: it never came.
    pub fn take(&mut self, entry: Entry) -> Taken<'_> {
        let time = entry.time();
        let mut acting = Vec::new();
        let (mut fate, mut delay) = (None, Duration::ZERO);
        match entry {
            Entry::Asked(asked) => {
                let (asker, (became, later), acts) = self.ask(asked);
                (fate, delay, acting) = (Some((asker, became)), later, acts);
            }
            Entry::Answered(answered) if self.refused.remove(&answered.id) => self.step = Step::default(),
            other => acting = self.step(other),
        }
        let Step { rows, name, outbox, not_inspected, .. } = &self.step;
        Taken {
            time,
            fate,
            rows: *rows,
            delay,
            model: name.as_deref(),
            records: &outbox.records,
            drifts: &outbox.drifts,
            brake: !outbox.blocks.is_empty() && self.gate.brake_is_engaged(time),
            acting,
            not_inspected,
            broke_contract: outbox.broke_contract,
        }
    }

    fn step(&mut self, entry: Entry) -> Vec<DecisionId> {
        match &entry {
            Entry::Lift(lift) => _ = self.gate.lift(lift.decision),
            Entry::Approve(approved) => _ = self.gate.approve(approved.decision, approved.time),
            Entry::Reject(rejected) => _ = self.gate.reject(rejected.decision, rejected.time),
            Entry::Asked(_)
            | Entry::Answered(_)
            | Entry::Plan(_)
            | Entry::Promote(_)
            | Entry::Remember(_)
            | Entry::Settle(_)
            | Entry::Install(_) => {}
        }
        let replans = matches!(entry, Entry::Plan(_));
        let (desk, step) = (&mut self.desk, &mut self.step);
        // As in a lane: a decoder's panic costs this capture, a detector's is caught in the engine.
        if catch_unwind(AssertUnwindSafe(|| desk.step(entry, step))).is_err() {
            self.panics += 1;
            self.step = Step::default();
        }
        if replans {
            self.gate.adopt(self.desk.rules().clone(), self.desk.plan().limits.blocks);
        }
        let mode = self.desk.plan().model(self.step.model).map(|model| model.mode).unwrap_or_default();
        let origin = Origin { model: self.step.model, mode };
        self.gate.apply_all(&self.step.outbox, origin, self.desk.rules()).acting()
    }

    /// A question: refused before the model is asked, or judged; and held until it is judged where its model holds
    /// questions.
    fn ask(&mut self, mut asked: Asked) -> (Asker, (Fate, Duration), Vec<DecisionId>) {
        let (id, asker, time, model) = (asked.id, asked.asker, asked.time, asked.model);
        let plan = self.desk.plan().model(model);
        let configured = plan.map(|plan| plan.name.clone()).filter(|_| model.is_some());
        let name = configured.unwrap_or_else(|| asked.name.clone());
        let acts = plan.is_some_and(|model| model.mode == Mode::Enforce);
        let holds = acts && plan.is_some_and(|model| model.holds_questions);
        let was_refused = asked.admission != Admission::Admitted;
        let pace = self.paces.of(plan.map_or("", |model| model.name.as_str()));
        let models = [&*name];
        let aim = Aim { models: &models, acts };
        if let Some(refusal) = self.gate.enter(&asker, aim, pace.per_minute, time) {
            asked.admission = Admission::Refused(refusal.decision);
            asked.body = Body::Not(NotInspected::NoPrediction);
            self.remember_refused(id);
            let acting = self.step(Entry::Asked(asked));
            return (asker, (Fate::Refused, Duration::ZERO), acting);
        }
        let acting = self.step(Entry::Asked(asked));
        let fate = if was_refused {
            (Fate::Unknown, Duration::ZERO)
        } else if holds && self.refuses_held(&asker, aim, time) {
            self.remember_refused(id);
            (Fate::Refused, Duration::ZERO)
        } else if let Some(degraded) = self.gate.degrades(&asker, aim, time) {
            (Fate::Degraded, degraded.pace.patient_turn(&pace.ladder, self.step.rows, time).cost)
        } else {
            (Fate::Answered, Duration::ZERO)
        };
        (asker, fate, acting)
    }

    fn refuses_held(&self, asker: &Asker, aim: Aim<'_>, time: Time) -> bool {
        let by_content = || {
            let decision = self.step.outbox.refused_by?;
            self.gate.refuse_content(asker, decision, Duration::ZERO)
        };
        self.gate.admit(asker, aim, time).or_else(by_content).is_some()
    }

    fn remember_refused(&mut self, id: u64) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_first();
        }
        self.refused.insert(id);
    }
}
