//! What follows from a finding, as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{OnTierOne, OnTierTwo};
use crate::units::Period;

/// What follows from a finding. A model's own policy replaces the one at the top level key by key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawPolicy {
    /// What follows from a finding of tier 1, which is precise enough to act on: `block` (403), `degrade` (the answer is
    /// coarsened and comes later), `throttle` (429 beyond so many requests a minute) or `alert` (it is told and nothing
    /// else).
    pub on_tier_one: Option<OnTierOne>,
    /// What follows where two different detectors of tier 2 tell of one client within an hour and it asks for more
    /// distinct rows than 95 % of at least twenty others: `alert`, `throttle` or `degrade`. It never blocks.
    pub on_tier_two: Option<OnTierTwo>,
    /// Significant digits that a degraded answer keeps of a number with a fraction.
    pub digits: Option<u8>,
    /// By how much a degraded answer comes later: always by the same time.
    pub delay: Option<Period>,
    /// Requests that a throttled client may send within a minute.
    pub requests_per_minute: Option<u32>,
}
