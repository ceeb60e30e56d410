//! What follows from a finding, as typed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RawLadder;
use crate::settings::{DecisionScope, OnTierOne, OnTierTwo, Severity, Subject, Word};
use crate::units::Period;

/// What follows from a finding. A model's own policy replaces the one at the top level key by key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawPolicy {
    /// What follows from a finding of tier 1, which is precise enough to act on: `block` (403), `degrade` (the answer is
    /// coarsened and comes later), `throttle` (429 beyond so many requests a minute), `tag` (requests go on and name
    /// the decision to the model server), `propose` (a block that waits for an operator's approval) or `alert` (it is
    /// told and nothing else).
    pub on_tier_one: Option<OnTierOne>,
    /// What follows where two different detectors of tier 2 tell of one client within an hour and it asks for more
    /// distinct rows than 95 % of at least twenty others: `alert`, `tag`, `throttle` or `degrade`. It never blocks.
    pub on_tier_two: Option<OnTierTwo>,
    /// Rules, in their order: the first that matches a finding says what follows from it, in place of `on_tier_one` and
    /// `on_tier_two`.
    pub rules: Option<Vec<RawRule>>,
    /// What follows from findings on the clients of tenants, by the tier of the tenant; what is left out comes from the
    /// policy around it.
    pub tiers: Option<BTreeMap<String, RawTierPolicy>>,
    /// Significant digits that a degraded answer keeps of a number with a fraction, on the first step; on each further
    /// step one fewer, but at least one.
    pub digits: Option<u8>,
    /// By how much a degraded answer of one row comes later, on the first step; on each further step twice as much. One of
    /// several rows comes later by the sum, and answers of one client come one after the other. With `0s` none comes
    /// later.
    pub delay: Option<Period>,
    /// The longest that one row delays, and that one answer is held for its rows; what they come to beyond it holds up the
    /// answers after it. A request that would have to wait longer than this for its turn gets 429 with this time in
    /// `Retry-After`. A `delay` that is longer counts instead.
    pub delay_max: Option<Period>,
    /// Rows that a degraded client is answered on each step. While it is answered none, it is taken back by one row in
    /// twice `delay_max`.
    pub step_rows: Option<u32>,
    /// Requests that a throttled client may send within a minute.
    pub requests_per_minute: Option<u32>,
}

/// What follows from findings on the clients of tenants of one tier.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawTierPolicy {
    /// What follows from a finding of tier 1, as under `policy`.
    pub on_tier_one: Option<OnTierOne>,
    /// What follows where two detectors of tier 2 agree, as under `policy`.
    pub on_tier_two: Option<OnTierTwo>,
    /// Rules that stand in place of those of the policy around it.
    pub rules: Option<Vec<RawRule>>,
}

/// One rule: what it asks for, and what follows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["then"]))]
pub struct RawRule {
    /// What it asks for; a rule without it matches every finding on a client.
    pub when: Option<RawWhen>,
    /// What follows: `alert`, `tag`, `propose`, `throttle`, `degrade` or `block`. Required.
    pub then: Option<Word>,
    /// What is proposed, with `then: propose`: `tag`, `throttle`, `degrade` or `block`; by default `block`.
    pub action: Option<Word>,
    /// After how long a proposal approves itself; without it, only an operator approves it.
    pub approves_after: Option<Period>,
    /// How long what follows lasts, as with `block_for`, which holds by default.
    #[serde(rename = "for")]
    pub lasts: Option<RawLadder>,
    /// The longest that it may last; never more than `decisions.at_most`.
    pub at_most: Option<Period>,
}

/// What a rule asks for; what is left out may be anything.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawWhen {
    /// Detectors, one of which made the finding; `output_contract`, `campaign` and `drift` may be named as well.
    pub detectors: Option<Vec<String>>,
    /// The finding's tier: 1 is precise enough to act on, 2 only tells.
    #[schemars(extend("enum" = [1, 2]))]
    pub tier: Option<u8>,
    /// Its severity, this or graver: `high` (tier 1, where `on_tier_one` blocks), `medium` (other findings of tier 1,
    /// and agreements that lead to a decision) or `low`.
    pub severity: Option<Severity>,
    /// Whom it is about: `key`, `address` or `campaign`. A rule that names no campaign is not asked about campaigns.
    pub subject: Option<Subject>,
    /// The tier of the tenant that the client belongs to.
    pub tenant_tier: Option<String>,
    /// Whether two detectors of tier 2 agree on a client of great volume, as with `on_tier_two`.
    pub agreed: Option<bool>,
    /// So many findings must have been told of the client within `within`, this one included: 2 to 64, of any of the
    /// named detectors.
    pub count: Option<u32>,
    /// The time in which they are counted, 1s to 30d.
    pub within: Option<Period>,
}

/// How long anything about decisions may last.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawDecisions {
    /// The longest that any decision may last, whoever takes it: a detector, an operator or a program.
    pub at_most: Option<Period>,
    /// Where what a detector decides holds: `model`, at the model whose traffic it rests on and at no other, or
    /// `everywhere`, at every model in `enforce`. What holds at one model is not told to firewalls and other bouncers,
    /// which would refuse the whole address.
    pub scope: Option<DecisionScope>,
    /// The widest network that a decision may be about. Detectors decide on one client, an IPv4 address or a /64 of IPv6;
    /// what people and other programs decide may be wider where this allows it.
    pub widest_prefix: Option<RawWidestPrefix>,
    /// How long a proposal waits for an operator; then it is gone, and counts as no offence.
    pub proposal_expires: Option<Period>,
    /// How long an offence counts after its decision has ended.
    pub offences_count_for: Option<Period>,
}

/// The fewest bits of an address that a decision may go by.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawWidestPrefix {
    /// Of an IPv4 address, 8 to 32; 32 is one address.
    pub ipv4: Option<u8>,
    /// Of an IPv6 address, 16 to 64; 64 is one customer line.
    pub ipv6: Option<u8>,
}

/// A customer of yours, and who belongs to it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["name", "tier", "clients"]))]
pub struct RawTenant {
    /// Its name in records: 1 to 64 letters, digits, `.`, `_` or `-`. Required.
    pub name: Option<String>,
    /// Its tier, by which policies differ; written like a name. Required.
    pub tier: Option<String>,
    /// Its clients: keys and certificates as records print them (`key:` and 16 digits), addresses or networks. The key
    /// counts before the address, and the narrowest network before the wider. Required.
    pub clients: Option<Vec<String>>,
}

/// A time in which what rests on the reference of a model does not count, because the model is being exchanged. What the
/// new one is like is learned meanwhile, and waits for an operator (`checkgate reference promote --candidate`).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["from"]))]
pub struct RawMaintenance {
    /// The model; every model without it.
    pub model: Option<String>,
    /// When it begins, such as `2026-11-28T14:00:00Z` (RFC 3339). Required.
    pub from: Option<String>,
    /// When it ends, written the same; or `for`.
    pub to: Option<String>,
    /// How long it lasts; or `to`.
    #[serde(rename = "for")]
    pub lasts: Option<Period>,
    /// What it is for, as records of muted findings and the list of candidates say.
    pub note: Option<String>,
}
