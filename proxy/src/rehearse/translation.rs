//! A recording under another configuration: what its captures mean there.
//!
//! Captures name models by an id of the process that recorded them. They are matched by the model's name, which a
//! recording holds in its plan or, for discovered models, in the capture.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use checkgate_config::Settings;
use checkgate_config::settings::ClientIdentity;
use checkgate_detectors::identity::{Asker, Standing};

use crate::capture::{Answered, Asked, Body, Entry};
use crate::plan::{ModelIds, ModelPlan, Plan};

/// Names of models that are told of; a plan holds no more.
const TOLD_MAX: usize = 1000;

/// From the recorded plan to another one.
pub struct Translation {
    recorded: Arc<Plan>,
    plan: Arc<Plan>,
    identity: ClientIdentity,
    ids: BTreeMap<String, u16>,
    keeps_verdicts: bool,
    saw_key: bool,
    /// Recorded models that the configuration does not name, with their questions.
    unnamed: BTreeMap<String, u64>,
    /// Models of the configuration that nobody asked.
    unasked: BTreeSet<String>,
    /// Lifts that were left out: what they lifted was decided under another policy.
    lifts: u64,
    /// Reloads that were left out.
    reloads: u64,
}

impl Translation {
    /// From `recorded` to what `settings` ask for.
    ///
    /// # Errors
    /// When a reference cannot be read, or there are more models than ids.
    pub fn new(recorded: Plan, settings: &Settings) -> anyhow::Result<Self> {
        let mut ids = ModelIds::default();
        let plan = Plan::new(settings, recorded.hash_key, &mut ids)?;
        let keeps_verdicts = same_contracts(&recorded, &plan);
        Ok(Self {
            ids: plan.models.iter().map(|(id, model)| (model.name.clone(), *id)).collect(),
            unasked: plan.models.values().map(|model| model.name.clone()).collect(),
            recorded: Arc::new(recorded),
            plan: Arc::new(plan),
            identity: settings.clients.identity.clone(),
            keeps_verdicts,
            saw_key: false,
            unnamed: BTreeMap::new(),
            lifts: 0,
            reloads: 0,
        })
    }

    /// The plan that the configuration makes.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What could not be carried over.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (name, questions) in &self.unnamed {
            let judged = if self.plan.unclaimed.is_some() {
                "they are judged by what the file says of models that it does not name"
            } else {
                "nothing judges them"
            };
            notes.push(format!(
                "The file names no model {name:?}, which was asked {questions} times in the recording; {judged}. Name \
                 it under `models:` to try another policy on it."
            ));
        }
        if !self.unasked.is_empty() {
            let names: Vec<String> = self.unasked.iter().map(|name| format!("{name:?}")).collect();
            notes.push(format!("Nobody in the recording asked {}, which the file names.", names.join(", ")));
        }
        if self.reloads > 0 {
            notes.push(format!(
                "The recording holds {} reloads; the file was taken from beginning to end.",
                self.reloads
            ));
        }
        if self.lifts > 0 {
            notes.push(format!(
                "{} decisions were lifted by operators when this was recorded; here nobody lifts any.",
                self.lifts
            ));
        }
        if self.wants_keys() && !self.saw_key {
            notes.push(
                "The file tells clients apart by a header or certificate, but the recording holds none: it was made \
                 under settings that did not look at one. Clients are told apart by address."
                    .to_owned(),
            );
        }
        notes
    }

    /// The entry as the other configuration would have it; nothing where it has none of that kind.
    pub fn entry(&mut self, entry: Entry) -> Option<Entry> {
        match entry {
            Entry::Asked(asked) => Some(Entry::Asked(self.asked(asked))),
            Entry::Answered(answered) => Some(Entry::Answered(self.answered(answered))),
            Entry::Lift(_) => {
                self.lifts += 1;
                None
            }
            Entry::Plan(replanned) => {
                self.reloads += 1;
                self.keeps_verdicts &= same_contracts(&replanned.plan, &self.plan);
                self.recorded = replanned.plan;
                None
            }
        }
    }

    fn asked(&mut self, mut asked: Asked) -> Asked {
        let configured = asked.model.and_then(|id| self.recorded.models.get(&id));
        if let Some(model) = configured {
            asked.name.clone_from(&model.name);
        }
        let was_configured = configured.is_some();
        asked.model = self.ids.get(&asked.name).copied();
        if asked.model.is_some() {
            self.unasked.remove(&asked.name);
        } else if was_configured || (self.plan.unclaimed.is_none() && !asked.name.is_empty()) {
            self.tell_unnamed(&asked.name);
        }
        self.saw_key |= asked.asker.key.is_some();
        asked.asker = self.asker(asked.asker);
        asked
    }

    fn tell_unnamed(&mut self, name: &str) {
        if let Some(questions) = self.unnamed.get_mut(name) {
            *questions += 1;
        } else if self.unnamed.len() < TOLD_MAX {
            self.unnamed.insert(name.to_owned(), 1);
        }
    }

    /// A verdict that another contract gave says nothing here: the body, where it was kept, is judged anew.
    fn answered(&self, mut answered: Answered) -> Answered {
        if !self.keeps_verdicts && matches!(answered.body, Body::Whole(_)) {
            answered.judged = None;
        }
        answered
    }

    /// Who asked, by what the configuration takes for a client. A header that nobody looked at is not in a recording.
    fn asker(&self, asker: Asker) -> Asker {
        match &self.identity {
            ClientIdentity::Assumed => Asker { key: None, ..asker },
            ClientIdentity::Address => Asker { key: None, standing: Standing::Declared, ..asker },
            ClientIdentity::Certificate => Asker { keys_verified: true, ..asker },
            ClientIdentity::Header { verified_by_upstream, .. } => {
                Asker { keys_verified: *verified_by_upstream, ..asker }
            }
        }
    }

    /// Whether the configuration tells clients apart by something that only the traffic itself showed.
    fn wants_keys(&self) -> bool {
        matches!(self.identity, ClientIdentity::Certificate | ClientIdentity::Header { .. })
    }
}

/// Whether every recorded model has the same contract in both plans.
fn same_contracts(recorded: &Plan, plan: &Plan) -> bool {
    let twin = |model: &ModelPlan| plan.models.values().find(|other| other.name == model.name);
    recorded.models.values().all(|model| twin(model).is_some_and(|twin| twin.contract == model.contract))
        && recorded.unclaimed.as_ref().map(|model| &model.contract)
            == plan.unclaimed.as_ref().map(|model| &model.contract)
}
