//! What follows from a finding: for whom, how strongly, for how long, and what holds it back.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When enforcement holds itself back.
#[derive(Clone, Copy, Debug)]
pub struct Brake {
    /// More new blocks a minute than this become observations.
    pub blocks_per_minute: u32,
    /// So do blocks beyond this share of the clients seen in the last ten minutes, 0 to 1.
    pub share_of_clients: f64,
}

/// How long decisions, proposals and offences last, and where decisions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decisions {
    /// Where what a detector decides holds.
    pub scope: DecisionScope,
    /// The longest that any decision may last, whoever takes it.
    pub at_most: Duration,
    /// The widest network that a decision may be about.
    pub widest_prefix: WidestPrefix,
    /// How long a proposal waits for an operator.
    pub proposal_expires: Duration,
    /// How long an offence counts after its decision has ended.
    pub offences_count_for: Duration,
}

/// The fewest bits of an address that a decision may go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WidestPrefix {
    /// Of an IPv4 address.
    pub ipv4: u8,
    /// Of an IPv6 address.
    pub ipv6: u8,
}

impl Default for WidestPrefix {
    /// One client.
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

/// A customer of the operator, and who belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: String,
    /// Its clients.
    pub clients: Vec<Member>,
}

/// A client or several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The keyed hash of a key or certificate, as records print it.
    Key(u64),
    /// An address or a network.
    Network(IpNet),
}

/// A time in which what rests on a model's reference does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// The model; every model without it.
    pub model: Option<String>,
    /// When it begins.
    pub from: SystemTime,
    /// When it has ended; at most 30 days later.
    pub until: SystemTime,
    /// What it is for; may be empty.
    pub note: String,
}

/// What follows from a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// From one that is precise enough to act on.
    pub on_tier_one: OnTierOne,
    /// From two that only tell, where they agree on a client of great volume.
    pub on_tier_two: OnTierTwo,
    /// What comes before either, where it matches.
    pub rules: Rules,
    /// What holds for the clients of tenants, by their tier.
    pub tiers: BTreeMap<String, TierPolicy>,
    /// Significant digits that a degraded answer keeps on the first step, 1 to 15.
    pub digits: u8,
    /// By how much each row of a degraded answer comes later on the first step; zero for not at all.
    pub delay: Duration,
    /// The longest that a row delays; a longer `delay` is its own.
    pub delay_max: Duration,
    /// Rows of a step, at least one.
    pub step_rows: u32,
    /// Requests that a throttled client may send within a minute, at least one.
    pub requests_per_minute: u32,
}

/// What follows from a finding on a client of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierPolicy {
    /// From one that is precise enough to act on.
    pub on_tier_one: OnTierOne,
    /// From two that only tell.
    pub on_tier_two: OnTierTwo,
    /// What comes before either.
    pub rules: Rules,
}

/// Rules in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Where they stand, such as `policy.rules`.
    pub place: String,
    /// The rules; the first that matches counts.
    pub list: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it asks for.
    pub when: When,
    /// What follows.
    pub then: Then,
    /// How long that lasts, first offence first; as long as the model's decisions do without it.
    pub lasts: Option<Vec<Duration>>,
    /// The longest that it may last.
    pub at_most: Option<Duration>,
}

/// What a rule asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Detectors, one of which made the finding; empty for any.
    pub detectors: Vec<String>,
    /// Its tier, 1 or 2.
    pub tier: Option<u8>,
    /// Its severity or a graver one.
    pub severity: Option<Severity>,
    /// Whom it is about.
    pub subject: Option<Subject>,
    /// The tier of the client's tenant.
    pub tenant_tier: Option<String>,
    /// Whether two detectors agree.
    pub agreed: Option<bool>,
    /// How many findings there must be.
    pub count: Option<Count>,
}

/// So many findings within so long a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Findings, 2 to 64.
    pub findings: u32,
    /// The time.
    pub within: Duration,
}

/// What follows from a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is done at once.
    Now(Word),
    /// It waits for approval.
    Proposed {
        /// What is done then.
        action: Word,
        /// After how long it approves itself.
        approves_after: Option<Duration>,
    },
}

/// What a rule may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// It is told and nothing else.
    Alert,
    /// The client's requests go on and name the decision to the model server.
    Tag,
    /// The decision waits for approval.
    Propose,
    /// The client's requests are refused beyond so many a minute.
    Throttle,
    /// The client's answers are coarsened and delayed.
    Degrade,
    /// The client's requests are refused.
    Block,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It tells something.
    Low,
    /// It is precise enough to act on, or detectors agree.
    Medium,
    /// It would block.
    High,
}

/// Whom a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A client that is known by its key.
    Key,
    /// A client that is known by its address.
    Address,
    /// Several clients together.
    Campaign,
}

/// What follows from a finding that is precise enough to act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTierOne {
    /// The client's requests are refused.
    #[default]
    Block,
    /// The client's answers are coarsened and delayed.
    Degrade,
    /// The client's requests are refused beyond so many a minute.
    Throttle,
    /// The client's requests go on and name the decision to the model server.
    Tag,
    /// A block that waits for an operator's approval.
    Propose,
    /// It is told and nothing else.
    Alert,
}

/// Where a decision holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionScope {
    /// At the model whose traffic it rests on.
    #[default]
    Model,
    /// At every model in `enforce`.
    Everywhere,
}

/// What follows from findings that only tell, where they agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTierTwo {
    /// It is told and nothing else.
    #[default]
    Alert,
    /// The client's requests go on and name the decision to the model server.
    Tag,
    /// The client's requests are refused beyond so many a minute.
    Throttle,
    /// The client's answers are coarsened and delayed.
    Degrade,
}
