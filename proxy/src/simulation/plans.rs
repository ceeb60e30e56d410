//! Small plans: few detectors with low limits, short ladders, tight bounds, so that much happens within a hundred
//! requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use checkgate_detectors::contract::Contract;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, Mode, Scope};
use checkgate_detectors::identity::Identity;
use checkgate_detectors::maintenance::Maintenance;
use checkgate_detectors::policy::Spans;
use checkgate_detectors::rules::{self, Count, Course, Rule, Then, When};
use checkgate_detectors::tenants::{Tenant, TenantTag, Tenants};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::clients::{COLUMNS, HASH_KEY, anything};
use super::clock::BEGINNING;
use super::dice::Dice;
use super::mutants::Mutant;
use crate::decode::DECODERS;
use crate::plan::{Limits, ModelPlan, Plan};

/// What happens to a decision before it acts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Approval {
    /// Nothing.
    NotNeeded,
    /// An operator must approve it within this time.
    ByAnOperator(Duration),
    /// It waits for so long, and then approves itself.
    ByItself(Duration),
}

/// The configured models.
pub const MODELS: u16 = 2;
/// The name of the model that no configuration names.
pub const DISCOVERED: &str = "found";

/// The tier of tenants on whose clients nothing is decided without approval.
pub const ENTERPRISE: &str = "enterprise";
/// Where rules that count are written.
pub const COUNTED: &str = "counted";
/// Findings that such a rule asks for.
pub const COUNTED_MIN: u32 = 2;
/// The time in which it counts them.
pub const COUNTED_WITHIN: Duration = Duration::from_secs(300);

/// The first plan of a world, in which clients belong to an enterprise tenant.
pub fn plan(enterprise: &BTreeSet<Identity>, dice: &mut Dice) -> Plan {
    let models = (0..MODELS).map(|id| (id, model(&format!("model-{id}"), dice))).collect();
    Plan {
        hash_key: HASH_KEY,
        protocols: DECODERS.iter().map(|spec| spec.name.to_owned()).collect(),
        models,
        unclaimed: dice.chance(0.5).then(|| model("", dice)),
        never_block: Vec::new(),
        shared_addresses: Vec::new(),
        spans: Spans::default(),
        scope: dice.pick(&[Scope::Model, Scope::Everywhere]),
        tenants: Arc::new(tenants(enterprise)),
        blocks_per_minute: dice.pick(&[2, 30, 30]),
        share_of_clients: dice.pick(&[0.2, 1.0, 1.0]),
        limits: limits(dice),
        promoted: std::collections::BTreeMap::new(),
        promoted_drifts: std::collections::BTreeMap::new(),
    }
}

/// Another plan, for a reload.
pub fn another(plan: &Plan, dice: &mut Dice) -> Plan {
    let mut plan = plan.clone();
    match dice.below(5) {
        0 => plan.limits = limits(dice),
        4 => plan.scope = dice.pick(&[Scope::Model, Scope::Everywhere]),
        1 => plan.blocks_per_minute = dice.pick(&[2, 30]),
        _ => {
            let id = dice.below(usize::from(MODELS)) as u16;
            plan.models.insert(id, model(&format!("model-{id}"), dice));
        }
    }
    plan
}

fn tenants(enterprise: &BTreeSet<Identity>) -> Tenants {
    let tag = TenantTag { name: "acme".to_owned(), tier: ENTERPRISE.to_owned() };
    let mut tenant = Tenant { tag, keys: Vec::new(), networks: Vec::new() };
    for client in enterprise {
        match client {
            Identity::Key(key) => tenant.keys.push(*key),
            Identity::Address(address) => {
                let length = if address.ip().is_ipv4() { 32 } else { 64 };
                tenant.networks.push((address.ip(), length));
            }
            Identity::Network(network) => tenant.networks.push((network.first().ip(), network.length())),
        }
    }
    Tenants::new(vec![tenant])
}

/// The plan as a bug has it.
pub fn as_understood(mut plan: Plan, mutant: Option<Mutant>) -> Plan {
    if mutant == Some(Mutant::ForgetsTheTenants) {
        plan.tenants = Arc::default();
    }
    if mutant == Some(Mutant::CountsWhatIsLongOver) {
        let rules = plan.models.values_mut().chain(plan.unclaimed.as_mut());
        for count in
            rules.flat_map(|model| &mut model.course.rules).filter_map(|rule| rule.when.count.as_mut())
        {
            count.within = COUNTED_WITHIN * 1000;
        }
    }
    plan
}

/// The never-block list as plans write it.
pub fn as_prefixes<'a>(networks: impl IntoIterator<Item = &'a IpNet>) -> Vec<(std::net::IpAddr, u8)> {
    networks.into_iter().map(|network| (network.network(), network.prefix_len())).collect()
}

fn limits(dice: &mut Dice) -> Limits {
    Limits {
        rows_per_exchange: dice.pick(&[2, 64]),
        columns: 16,
        clients: dice.pick(&[3, 50, 50, 50]),
        open_questions: dice.pick(&[3, 16]),
        new_keys_per_address: dice.pick(&[1, 20]),
        discovered_models: 1,
        pending_bytes: 1000,
        blocks: dice.pick(&[2, 1000, 1000, 1000]),
    }
}

fn model(name: &str, dice: &mut Dice) -> ModelPlan {
    let seconds = |seconds: &[u64]| seconds.iter().copied().map(Duration::from_secs).collect();
    let crowds = dice.chance(0.15);
    ModelPlan {
        name: name.to_owned(),
        mode: dice.weighted(&[(4, Mode::Enforce), (1, Mode::Observe)]),
        protocol: Some(("generic".to_owned(), json!({}))),
        contract: contract(dice),
        contract_action: Action::Alert,
        detectors: detectors(crowds, dice),
        reference: crowds.then(|| reference().to_owned()),
        drift: None,
        holds_questions: dice.chance(0.2),
        course: if dice.chance(0.2) { counting() } else { course(dice) },
        tiers: [(ENTERPRISE.to_owned(), only_with_approval())].into(),
        maintenance: maintenance(dice),
        block_for: dice.pick(&[seconds(&[30, 120, 600]), seconds(&[900]), seconds(&[900]), seconds(&[5])]),
    }
}

/// Now and then the model is exchanged, for some minutes of the first hour.
fn maintenance(dice: &mut Dice) -> Vec<Maintenance> {
    if !dice.chance(0.2) {
        return Vec::new();
    }
    let from = Time(BEGINNING).plus(Duration::from_secs(dice.below(1800) as u64));
    let lasts = dice.pick(&[60, 600, 3600]);
    vec![Maintenance { from, until: from.plus(Duration::from_secs(lasts)), note: String::new() }]
}

fn course(dice: &mut Dice) -> Course {
    let on_tier_one = [(6, Action::Block), (1, Action::Degrade), (1, Action::Throttle), (1, Action::Alert)];
    Course {
        on_tier_one: dice.weighted(&on_tier_one).into(),
        on_tier_two: dice.pick(&[Action::Alert, Action::Throttle]),
        ..Course::default()
    }
}

/// Nothing follows from one finding, a block from the second.
fn counting() -> Course {
    let count = Count { findings: COUNTED_MIN, within: COUNTED_WITHIN };
    let when = When { count: Some(count), ..When::default() };
    Course {
        on_tier_one: Action::Alert.into(),
        rules: vec![Rule { when, then: Action::Block.into(), lasts: None, at_most: None }],
        place: COUNTED.to_owned(),
        ..Course::default()
    }
}

fn only_with_approval() -> Course {
    let approval = Some(rules::Approval { after: None });
    Course { on_tier_one: Then { action: Action::Block, approval }, ..Course::default() }
}

fn contract(dice: &mut Dice) -> Contract {
    let rules = if dice.chance(0.7) { json!({"rules": [{"minimum": 0.0}]}) } else { json!({}) };
    serde_json::from_value(rules).unwrap()
}

fn detectors(crowds: bool, dice: &mut Dice) -> BTreeMap<String, Value> {
    let mut detectors = BTreeMap::new();
    if crowds {
        detectors.insert("near_duplicates".to_owned(), json!({}));
    }
    if dice.chance(0.9) {
        let values = dice.pick(&[4, 8]);
        detectors.insert("one_field_sweep".to_owned(), json!({"values": values, "alone": values}));
    }
    if dice.chance(0.8) {
        detectors.insert("field_by_field".to_owned(), json!({"fields": 4}));
    }
    if dice.chance(0.3) {
        detectors.insert("error_probing".to_owned(), json!({}));
    }
    detectors
}

/// Rows as honest clients ask them.
fn reference() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut dice = Dice::new(1);
        let names: Vec<String> = (0..COLUMNS).map(|column| column.to_string()).collect();
        let rows = (0..60).map(|_| json!({"x": anything(&mut dice), "p": [100.0]}).to_string());
        let head = json!({"features": names}).to_string();
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
    })
}
