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
    /// Approvals and rejections that were left out, for the same reason.
    approvals: u64,
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
        let plan = plan.trusting(recorded.promoted.clone(), recorded.promoted_drifts.clone());
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
            approvals: 0,
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
        if self.approvals > 0 {
            notes.push(format!(
                "{} proposals were approved or rejected by operators when this was recorded; here nobody does either.",
                self.approvals
            ));
        }
        if self.wants_keys() && !self.saw_key {
            notes.push(
                "The file tells clients apart by a header, token or certificate, but the recording holds none: it was made \
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
            Entry::Approve(_) | Entry::Reject(_) => {
                self.approvals += 1;
                None
            }
            // Trust in what was learned is no answer to a decision: it holds under another policy as well.
            Entry::Promote(promoted) => Some(Entry::Promote(promoted)),
            // A model that has another reference under the file does not take it.
            Entry::Remember(remembered) => Some(Entry::Remember(remembered)),
            entry @ (Entry::Settle(_) | Entry::Install(_)) => Some(entry),
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
            ClientIdentity::Certificate | ClientIdentity::Token(_) => Asker { keys_verified: true, ..asker },
            ClientIdentity::Header { verified_by_upstream, .. } => {
                Asker { keys_verified: *verified_by_upstream, ..asker }
            }
        }
    }

    /// Whether the configuration tells clients apart by something that only the traffic itself showed.
    fn wants_keys(&self) -> bool {
        !matches!(self.identity, ClientIdentity::Assumed | ClientIdentity::Address)
    }
}

/// Whether every recorded model has the same contract in both plans.
fn same_contracts(recorded: &Plan, plan: &Plan) -> bool {
    let twin = |model: &ModelPlan| plan.models.values().find(|other| other.name == model.name);
    recorded.models.values().all(|model| twin(model).is_some_and(|twin| twin.contract == model.contract))
        && recorded.unclaimed.as_ref().map(|model| &model.contract)
            == plan.unclaimed.as_ref().map(|model| &model.contract)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bytes::Bytes;
    use checkgate_detectors::facts::Time;
    use checkgate_detectors::finding::DecisionId;
    use checkgate_detectors::identity::Address;

    use super::*;
    use crate::capture::{Admission, Judged, Lift, Outcome, Replanned};
    use crate::parts;
    use crate::plan::tests::plan;

    fn translation(text: &str) -> Translation {
        let settings = checkgate_config::read(text, "checkgate.yaml", &parts::all()).unwrap();
        Translation::new(plan(), &settings).unwrap()
    }

    fn asked(model: Option<u16>, name: &str) -> Asked {
        let address = Address::of("192.0.2.7".parse::<IpAddr>().unwrap());
        Asked {
            id: 1,
            time: Time(1),
            asker: Asker { address, standing: Standing::Assumed, key: Some(7), keys_verified: false },
            model,
            protocol: Some(0),
            name: name.to_owned(),
            path: "/".to_owned(),
            headers: Default::default(),
            length: 2,
            hash: 0,
            body: Body::Whole(Bytes::from_static(b"{}")),
            admission: Admission::Admitted,
        }
    }

    fn carried(translation: &mut Translation, asked: Asked) -> Asked {
        match translation.entry(Entry::Asked(asked)) {
            Some(Entry::Asked(asked)) => asked,
            other => panic!("a question stays one: {other:?}"),
        }
    }

    const TWO: &str =
        "upstream: http://m:1\nclients: {identity: ip}\nmodels: [{name: renewals}, {name: pricing}]";

    #[test]
    fn a_model_is_matched_by_its_name_whatever_its_id_was() {
        let mut translation = translation(TWO);
        let ids: Vec<_> =
            translation.plan.models.iter().map(|(id, model)| (model.name.clone(), *id)).collect();
        let id = |name: &str| ids.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
        assert_eq!(
            carried(&mut translation, asked(Some(0), "")).model,
            id("pricing"),
            "by the recorded plan"
        );
        assert_eq!(carried(&mut translation, asked(None, "renewals")).model, id("renewals"), "by its path");
        assert_eq!(carried(&mut translation, asked(None, "other")).model, None);
        assert_eq!(translation.notes(), Vec::<String>::new(), "all are known, or discovered as before");
    }

    #[test]
    fn a_recorded_model_that_the_file_does_not_name_becomes_a_discovered_one_and_is_told() {
        let mut translation = translation("upstream: http://m:1\nmodels: [{name: renewals}]");
        let carried = carried(&mut translation, asked(Some(0), ""));
        assert_eq!((carried.model, carried.name.as_str()), (None, "pricing"));
        let notes = translation.notes().join("\n");
        assert!(notes.contains("names no model \"pricing\", which was asked 1 times"), "{notes}");
        assert!(notes.contains("asked \"renewals\""), "{notes}");
    }

    #[test]
    fn clients_are_what_the_file_takes_for_clients() {
        let by_address = carried(&mut translation(TWO), asked(Some(0), "")).asker;
        assert_eq!((by_address.key, by_address.standing), (None, Standing::Declared));
        let keyed =
            "upstream: http://m:1\nclients: {identity: {header: X-API-Key, verified_by_upstream: true}}";
        let mut translation = translation(keyed);
        let notes = translation.notes().join("\n");
        assert!(notes.contains("the recording holds none"), "{notes}");
        let by_key = carried(&mut translation, asked(Some(0), "")).asker;
        assert_eq!((by_key.key, by_key.keys_verified), (Some(7), true));
        assert!(!translation.notes().join("\n").contains("the recording holds none"), "one was seen");
    }

    #[test]
    fn lifts_and_reloads_are_left_out_and_told() {
        let mut translation = translation(TWO);
        let lift = Lift { time: Time(2), decision: DecisionId(3) };
        assert_eq!(translation.entry(Entry::Lift(lift)), None);
        let replanned = Replanned { time: Time(3), plan: Arc::new(plan()) };
        assert_eq!(translation.entry(Entry::Plan(replanned)), None);
        let notes = translation.notes().join("\n");
        assert!(notes.contains("1 decisions were lifted") && notes.contains("1 reloads"), "{notes}");
    }

    #[test]
    fn a_verdict_of_another_contract_is_not_kept() {
        let answered = || Answered {
            id: 1,
            time: Time(2),
            status: 200,
            headers: Default::default(),
            length: 2,
            latency: std::time::Duration::ZERO,
            body: Body::Whole(Bytes::from_static(b"{}")),
            judged: Some(Judged { rows: 1, violations: Vec::new() }),
            outcome: Outcome::Answered,
        };
        let judged = |translation: &mut Translation| match translation.entry(Entry::Answered(answered())) {
            Some(Entry::Answered(answered)) => answered.judged,
            other => panic!("an answer stays one: {other:?}"),
        };
        let same = "upstream: http://m:1\nmodels: [{name: pricing}]";
        assert!(judged(&mut translation(same)).is_some(), "the contracts are the same");
        let other = format!("{}, contract: {{rules: [{{minimum: 0}}]}}}}]", same.trim_end_matches("}]"));
        assert!(judged(&mut translation(&other)).is_none(), "it is judged anew");
    }
}
