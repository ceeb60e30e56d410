//! How many requests a minute a throttled client may send, by model: the one part of a policy that a plan does not hold.

use std::collections::BTreeMap;

use checkgate_config::Settings;

/// What the configuration has by default.
const PER_MINUTE: u32 = 60;

/// Requests a minute of a throttled client.
#[derive(Clone, Debug)]
pub struct Paces {
    by_model: BTreeMap<String, u32>,
    unclaimed: u32,
}

impl Default for Paces {
    fn default() -> Self {
        Self { by_model: BTreeMap::new(), unclaimed: PER_MINUTE }
    }
}

impl Paces {
    /// Those of `settings`.
    pub fn of_settings(settings: &Settings) -> Self {
        let pace = |model: &checkgate_config::settings::Model| model.policy.requests_per_minute;
        Self {
            by_model: settings.models.iter().map(|model| (model.name.clone(), pace(model))).collect(),
            unclaimed: settings.unclaimed.as_ref().map_or(PER_MINUTE, pace),
        }
    }

    /// One pace for every model.
    pub fn always(pace: u32) -> Self {
        Self { by_model: BTreeMap::new(), unclaimed: pace }
    }

    /// The pace at the model of that name; the empty name is that of discovered ones.
    pub fn of(&self, model: &str) -> u32 {
        self.by_model.get(model).copied().unwrap_or(self.unclaimed)
    }
}
