//! How fast clients are answered that are throttled or degraded, by model: the one part of a policy that a plan does not
//! hold.

use std::collections::BTreeMap;

use checkgate_config::Settings;
use checkgate_config::settings::Model;

use crate::gate::pace::Ladder;

/// What a policy says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelPace {
    /// Requests a minute of a throttled client.
    pub per_minute: u32,
    /// What the rows of a degraded client cost.
    pub ladder: Ladder,
}

impl Default for ModelPace {
    /// As the configuration has it by default.
    fn default() -> Self {
        Self { per_minute: 60, ladder: Ladder::default() }
    }
}

impl ModelPace {
    fn of(model: &Model) -> Self {
        Self { per_minute: model.policy.requests_per_minute, ladder: Ladder::of(&model.policy) }
    }
}

/// The paces of all models.
#[derive(Clone, Debug, Default)]
pub struct Paces {
    by_model: BTreeMap<String, ModelPace>,
    unclaimed: ModelPace,
}

impl Paces {
    /// Those of `settings`.
    pub fn of_settings(settings: &Settings) -> Self {
        let by_model = settings.models.iter().map(|model| (model.name.clone(), ModelPace::of(model)));
        Self {
            by_model: by_model.collect(),
            unclaimed: settings.unclaimed.as_ref().map(ModelPace::of).unwrap_or_default(),
        }
    }

    /// One pace for every model.
    pub fn always(pace: ModelPace) -> Self {
        Self { by_model: BTreeMap::new(), unclaimed: pace }
    }

    /// The pace at the model of that name; the empty name is that of discovered ones.
    pub fn of(&self, model: &str) -> ModelPace {
        self.by_model.get(model).copied().unwrap_or(self.unclaimed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_paces_are_those_of_the_configuration() {
        let text = "upstream: http://127.0.0.1:1\nmodels: [{name: prices}]\n";
        let settings = checkgate_config::read(text, "checkgate.yaml", &crate::parts::all()).unwrap();
        assert_eq!(Paces::of_settings(&settings).of("prices"), ModelPace::default());
    }
}
