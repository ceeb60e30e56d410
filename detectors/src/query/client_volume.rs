//! A client that asks for far more distinct rows than the others of its model.
//!
//! What looks natural row by row, such as extraction with in-distribution queries or scraping, shows in nothing but
//! its volume. The population's own quantile is the measure, so that a busy model needs no other limit than a quiet
//! one; it is no proof of anything, hence it only alerts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
use crate::population::Population;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "client_volume",
    summary: "One client asks for many times more distinct rows than nearly all others",
    source: "counts against a quantile of the population; compare Kesarwani et al., ACSAC 2018",
    atlas: "AML.T0024.002",
    owasp: "ML05:2023",
    tier: Tier::Two,
    aspect: Aspect::Volume,
    tells_alone: true,
    purpose: Purpose::Technique,
    needs: Needs::Question,
    state_bytes_max: 96,
    schema: super::schema_of::<Volume>,
    defaults: super::defaults_of::<Volume>,
    example: r#"{"times": 20.0, "window_seconds": 86400}"#,
    check: super::check_of::<Volume>,
    build: |parameters| super::build_with(parameters, |volume: Volume| ClientVolume { volume }),
};

/// When a volume counts as out of proportion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Volume {
    /// Length of a window in seconds, at least 60. Windows follow each other without overlap.
    #[schemars(range(min = 60))]
    pub window_seconds: u64,
    /// How many times the population's quantile a client must ask for, above 1.
    pub times: f64,
    /// The quantile of the clients' distinct rows that counts as usual, above 0 and below 1.
    pub quantile: f64,
    /// Fewest distinct rows of a client in a window worth a word.
    pub rows_min: u64,
    /// Fewest other clients in the window, or the one before, that make a population.
    pub clients_min: u64,
}

impl Default for Volume {
    fn default() -> Self {
        Self { window_seconds: 3600, times: 10.0, quantile: 0.9, rows_min: 500, clients_min: 20 }
    }
}

impl Parameters for Volume {
    fn check(&self) -> Result<(), ParameterError> {
        let wrong = |key, message: &str| Err(ParameterError::at(key, message));
        if self.window_seconds < 60 {
            return wrong("window_seconds", "too short; give 60 or more");
        }
        if !(self.times > 1.0 && self.times.is_finite()) {
            return wrong("times", "must be a number above 1");
        }
        if !(self.quantile > 0.0 && self.quantile < 1.0) {
            return wrong("quantile", "must lie between 0 and 1, as 0.9 does");
        }
        if self.clients_min == 0 {
            return wrong("clients_min", "without other clients there is no measure; give 1 or more");
        }
        Ok(())
    }
}

struct ClientVolume {
    volume: Volume,
}

/// One client's window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    window: u32,
    alerted: bool,
    trail: Trail,
}

impl QueryDetector for ClientVolume {
    type Slot = Slot;
    type Population = Population;
    const HEARS_ANSWERS: bool = false;

    fn observe(
        &self,
        exchange: &Exchange<'_>,
        seen: &Seen,
        population: &mut Population,
        me: &mut Slot,
        out: &mut Findings,
    ) {
        if seen.rows().is_empty() {
            return;
        }
        self.turn(exchange, population, me);
        let before = (me.trail.rows > 0).then_some(me.trail.rows);
        for _ in seen.rows() {
            me.trail.add(Origin { request: exchange.id, time: exchange.time });
        }
        population.move_client(before, me.trail.rows);
        if !me.alerted && u64::from(me.trail.rows) >= self.volume.rows_min {
            self.judge(population, me, out);
        }
    }
}

impl ClientVolume {
    /// Begins a new window where it is time to.
    fn turn(&self, exchange: &Exchange<'_>, population: &mut Population, me: &mut Slot) {
        let window = population.turn(exchange.time, self.volume.window_seconds) as u32;
        if me.window != window {
            *me = Slot { window, ..Slot::default() };
        }
    }

    fn judge(&self, population: &Population, me: &mut Slot, out: &mut Findings) {
        let Volume { quantile, clients_min, times, .. } = self.volume;
        let Some(usual) = population.quantile(quantile, me.trail.rows, clients_min) else { return };
        let limit = (usual * times).max(self.volume.rows_min as f64);
        let statistic = f64::from(me.trail.rows);
        if statistic < limit {
            return;
        }
        me.alerted = true;
        out.push(Finding {
            tier: Tier::Two,
            statistic,
            limit,
            trail: me.trail,
            fields: Vec::new(),
            did: format!(
                "asked for {statistic} distinct rows within a window of {} s, where {} % of the clients stay within {usual}",
                self.volume.window_seconds,
                quantile * 100.0
            ),
            rests_on: None,
        });
    }
}
