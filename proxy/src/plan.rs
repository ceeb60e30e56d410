//! The plan of a lane: all that its decisions depend on besides the journal, in one serialisable value.
//!
//! A recording begins with the plan it was made under, so a replay needs nothing but the recording.

mod course;
mod drift;
mod ids;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use checkgate_config::settings::{self, OnViolation, Settings};
use checkgate_detectors::contract::Contract;
use checkgate_detectors::finding::{Action, Mode, Scope};
use checkgate_detectors::maintenance::Maintenance;
use checkgate_detectors::policy::Spans;
use checkgate_detectors::rules::Course;
use checkgate_detectors::tenants::Tenants;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::drift::{DriftPlan, in_base_64};
pub use self::ids::ModelIds;
use crate::decode::DECODERS;

/// What lanes are built from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Secret of this instance; keys every hash.
    pub hash_key: [u64; 2],
    /// Names of the decoders; captures refer to them by position.
    pub protocols: Vec<String>,
    /// The configured models; captures refer to them by id.
    pub models: BTreeMap<u16, ModelPlan>,
    /// What a discovered model is built from.
    pub unclaimed: Option<ModelPlan>,
    /// Addresses that no decision touches.
    pub never_block: Vec<(IpAddr, u8)>,
    /// Addresses behind which many people sit; none in recordings of before.
    #[serde(default)]
    pub shared_addresses: Vec<(IpAddr, u8)>,
    /// New blocks a minute above which they become observations.
    pub blocks_per_minute: u32,
    /// Share of the recently active clients above which they do.
    pub share_of_clients: f64,
    /// How long decisions, offences and proposals last at most.
    pub spans: Spans,
    /// Where decisions of detectors hold; everywhere in recordings of before.
    #[serde(default)]
    pub scope: Scope,
    /// The operator's customers.
    pub tenants: Arc<Tenants>,
    /// Bounds.
    pub limits: Limits,
    /// References that models learned and operators promoted, by the model's name, as their JSON lines. One that the
    /// configuration names counts before it. None in recordings of before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promoted: BTreeMap<String, Arc<str>>,
    /// References of drift that maintenance windows taught and operators promoted, by the model's name, in base 64. One
    /// that the configuration names counts before it. None in recordings of before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promoted_drifts: BTreeMap<String, Arc<str>>,
}

/// Bounds of the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Rows of one exchange that are scored.
    pub rows_per_exchange: usize,
    /// Columns of a row that are read.
    pub columns: usize,
    /// Clients remembered for each model.
    pub clients: usize,
    /// Questions whose answers are awaited, for each model.
    pub open_questions: usize,
    /// New keys that one address may bring in an hour.
    pub new_keys_per_address: u32,
    /// Model names discovered.
    pub discovered_models: usize,
    /// Bytes of questions kept until their model's name is known.
    pub pending_bytes: usize,
    /// Blocks in force at once.
    pub blocks: usize,
}

/// One model's part of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Its name; empty for what discovered models are built from.
    pub name: String,
    /// Whether decisions are acted on.
    pub mode: Mode,
    /// The decoder and its parameters; `None` to take the one that claimed the request.
    pub protocol: Option<(String, Value)>,
    /// The output contract.
    pub contract: Contract,
    /// What a broken contract leads to.
    pub contract_action: Action,
    /// The detectors and their parameters.
    pub detectors: BTreeMap<String, Value>,
    /// The reference that the operator named, as its JSON lines.
    pub reference: Option<String>,
    /// How its drift is watched; not at all in recordings of before.
    #[serde(default)]
    pub drift: Option<DriftPlan>,
    /// Whether questions wait for a verdict.
    pub holds_questions: bool,
    /// What follows from a finding.
    pub course: Course,
    /// The same for the clients of tenants, by their tier.
    pub tiers: BTreeMap<String, Course>,
    /// When what rests on its reference does not count.
    pub maintenance: Vec<Maintenance>,
    /// How long a decision lasts, by how often its client offended before.
    pub block_for: Vec<Duration>,
}

impl Plan {
    /// The plan that `settings` ask for. Models without an id get one.
    ///
    /// # Errors
    /// When a reference file cannot be read, or there are no ids left.
    pub fn new(settings: &Settings, hash_key: [u64; 2], ids: &mut ModelIds) -> anyhow::Result<Self> {
        let model = |model: &settings::Model| ModelPlan::new(model, settings);
        let mut planned = |settings: &settings::Model| Ok((ids.assign(&settings.name)?, model(settings)?));
        let models = settings.models.iter().map(&mut planned).collect::<anyhow::Result<_>>()?;
        let unclaimed = settings.unclaimed.as_ref().map(model).transpose()?;
        Ok(Self {
            hash_key,
            protocols: DECODERS.iter().map(|spec| spec.name.to_owned()).collect(),
            models,
            unclaimed,
            never_block: never_block(settings),
            shared_addresses: pairs(&settings.clients.shared_addresses),
            blocks_per_minute: settings.brake.blocks_per_minute,
            share_of_clients: settings.brake.share_of_clients,
            spans: course::spans(&settings.decisions),
            scope: course::scope(settings.decisions.scope),
            tenants: Arc::new(course::tenants(settings)),
            limits: Limits::new(settings),
            promoted: BTreeMap::new(),
            promoted_drifts: BTreeMap::new(),
        })
    }

    /// The same plan with what operators promoted.
    #[must_use]
    pub fn trusting(
        self,
        promoted: BTreeMap<String, Arc<str>>,
        promoted_drifts: BTreeMap<String, Arc<str>>,
    ) -> Self {
        Self { promoted, promoted_drifts, ..self }
    }

    /// Whether both plans trust the same reference that `model` learned, or none.
    #[must_use]
    pub fn trusts_as(&self, other: &Self, model: &str) -> bool {
        self.promoted.get(model) == other.promoted.get(model)
            && self.promoted_drifts.get(model) == other.promoted_drifts.get(model)
    }

    /// The same plan with every model in `mode`.
    #[must_use]
    pub fn in_mode(mut self, mode: Mode) -> Self {
        for model in self.models.values_mut().chain(self.unclaimed.as_mut()) {
            model.mode = mode;
        }
        self
    }

    /// The part that a capture refers to; `None` is unclaimed traffic.
    pub fn model(&self, id: Option<u16>) -> Option<&ModelPlan> {
        match id {
            Some(id) => self.models.get(&id),
            None => self.unclaimed.as_ref(),
        }
    }

    /// Whether what all engines are built from is the same in both plans, their own parts aside.
    #[must_use]
    pub fn shares_ground_with(&self, other: &Self) -> bool {
        self.hash_key == other.hash_key
            && self.never_block == other.never_block
            && self.shared_addresses == other.shared_addresses
            && self.spans == other.spans
            && self.scope == other.scope
            && self.tenants == other.tenants
            && self.limits == other.limits
    }
}

/// A plan as JSON text inside of a byte form that cannot hold free values.
pub mod as_json {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    use super::Plan;

    /// Writes the plan.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(plan: &Plan, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(plan).map_err(ser::Error::custom)?)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Text that is no plan.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Plan>, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map(Arc::new).map_err(de::Error::custom)
    }
}

impl Limits {
    fn new(settings: &Settings) -> Self {
        Self {
            rows_per_exchange: settings.limits.rows_per_exchange,
            columns: settings.limits.columns,
            clients: settings.clients.remembered,
            open_questions: settings.limits.open_questions,
            new_keys_per_address: settings.clients.new_keys_per_address,
            discovered_models: settings.limits.discovered_models,
            pending_bytes: settings.limits.lane_bytes,
            blocks: settings.limits.blocks,
        }
    }
}

impl ModelPlan {
    fn new(model: &settings::Model, all: &Settings) -> anyhow::Result<Self> {
        let drift = |drift| DriftPlan::new(&model.name, drift, &all.state);
        let contract = serde_json::from_value(model.contract.parameters.clone())
            .with_context(|| format!("contract of model {:?}", model.name))?;
        Ok(Self {
            name: model.name.clone(),
            mode: mode(model.mode),
            protocol: model.protocol.as_ref().map(|chosen| (chosen.name.clone(), chosen.parameters.clone())),
            contract,
            contract_action: contract_action(model),
            detectors: model.detectors.iter().map(|d| (d.name.clone(), d.parameters.clone())).collect(),
            reference: model.reference.as_ref().map(read_reference).transpose()?,
            drift: model.drift.as_ref().map(drift).transpose()?,
            holds_questions: model.hold == settings::Hold::Question,
            course: course::course(&model.policy),
            tiers: course::tiers(&model.policy),
            maintenance: course::maintenance(&all.maintenance, &model.name),
            block_for: model.block_for.clone(),
        })
    }
}

/// The same mode, in the core's words.
#[must_use]
pub fn mode(mode: settings::Mode) -> Mode {
    match mode {
        settings::Mode::Observe => Mode::Observe,
        settings::Mode::Enforce => Mode::Enforce,
    }
}

/// What an offending answer leads to: without a held answer there is nothing left to replace.
fn contract_action(model: &settings::Model) -> Action {
    match (model.hold, &model.contract.on_violation) {
        (settings::Hold::None | settings::Hold::Question, _) => Action::Alert,
        (settings::Hold::Answer, OnViolation::Refuse) => Action::Refuse,
        (settings::Hold::Answer, OnViolation::Clamp) => Action::Clamp,
        (settings::Hold::Answer, OnViolation::Fallback(_)) => Action::Fallback,
    }
}

fn read_reference(path: &PathBuf) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read the reference {}", path.display()))
}

/// The operator's list and the trusted proxies: a hop that speaks for others is never a client to block.
fn never_block(settings: &Settings) -> Vec<(IpAddr, u8)> {
    pairs(settings.clients.never_block.iter().chain(&settings.clients.trusted_proxies))
}

fn pairs<'a>(networks: impl IntoIterator<Item = &'a IpNet>) -> Vec<(IpAddr, u8)> {
    networks.into_iter().map(|network| (network.network(), network.prefix_len())).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plan with one configured model and discovery, all detectors off.
    pub(crate) fn plan() -> Plan {
        let unclaimed = ModelPlan {
            name: String::new(),
            mode: Mode::Observe,
            protocol: None,
            contract: Contract::default(),
            contract_action: Action::Alert,
            detectors: BTreeMap::new(),
            reference: None,
            drift: None,
            holds_questions: false,
            course: Course::default(),
            tiers: BTreeMap::new(),
            maintenance: Vec::new(),
            block_for: vec![Duration::from_secs(900)],
        };
        Plan {
            hash_key: [1, 2],
            protocols: DECODERS.iter().map(|spec| spec.name.to_owned()).collect(),
            models: [(0, ModelPlan { name: "pricing".into(), ..unclaimed.clone() })].into(),
            unclaimed: Some(unclaimed),
            shared_addresses: Vec::new(),
            never_block: vec![("192.0.2.0".parse().unwrap(), 24)],
            blocks_per_minute: 30,
            share_of_clients: 0.2,
            spans: Spans::default(),
            scope: Scope::Everywhere,
            tenants: Arc::default(),
            limits: Limits {
                rows_per_exchange: 256,
                columns: 4096,
                clients: 1000,
                open_questions: 8,
                new_keys_per_address: 20,
                discovered_models: 2,
                pending_bytes: 1000,
                blocks: 100,
            },
            promoted: BTreeMap::new(),
            promoted_drifts: BTreeMap::new(),
        }
    }
}
