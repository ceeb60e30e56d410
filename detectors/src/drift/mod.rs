//! Drift: has the traffic shifted, or have the predictions, and in which features?
//!
//! A feature is a column of questions or answers, or a number made of them. Its values fall into fixed bins of a frozen
//! reference ([`mod@reference`]); that is all that happens for each event. At ticks, counts become evidence in two
//! layers:
//!
//! - the early layer ([`event`], with the yes-or-no features of [`derived`]) bets event by event. It is fast, and right
//!   where events do not depend on one another;
//! - the paging layer ([`stretch`]) ranks stretches of traffic among the reference's own stretches. It is slow, and
//!   right under bursts and habits.
//!
//! Both promise a mean run length without a change, so a threshold follows from a budget of false alarms a week
//! ([`budget`]), over any number of features. Gauges ([`gauges`]) are shown, each beside its expectation, and never
//! alarm. [`rules`] are an operator's own limits on them. [`watch`] puts it together for one endpoint, [`state`] says
//! what is told, [`attribution`] and [`burst`] who is behind a shift. [`room`] is what an engine keeps: it makes rows of exchanges by
//! the rule of [`cells`] (of very wide ones by [`projection`]), lets no client speak for everybody ([`shares`]), learns a
//! reference where none is named ([`learner`]), remembers who sent the latest rows ([`latest`]), shows how far traffic has
//! moved without an alarm ([`rolling`]) and writes what is told ([`record`]). Time is an argument, state is plain data of
//! bounded size, and the same rows give the same findings.
//!
//! [`DRIFT`] is the visible list. A gauge is one function and one entry.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::query::{ParameterError, Parameters, check_of, defaults_of, schema_of};
use gauges::{Pair, Reading};

mod adaptive;
pub mod adwin;
pub mod attribution;
pub mod bins;
pub mod budget;
pub mod burst;
pub mod cells;
pub mod counts;
pub mod derived;
pub mod event;
pub mod feature;
pub mod gauges;
pub mod lately;
pub mod latest;
pub mod learner;
pub mod measure;
pub mod parameters;
pub mod powers;
pub mod projection;
pub mod quality;
pub mod record;
pub mod reference;
pub mod rolling;
pub mod room;
pub mod rules;
pub mod senders;
pub mod shares;
pub mod space_saving;
pub mod state;
pub mod strangers;
pub mod stretch;
mod ticks;
pub mod watch;

/// What findings about whoever carries a drift are called, as a detector is.
pub const NAME: &str = "drift";
/// One line for people.
pub const SUMMARY: &str =
    "a client without whom the drift of its model would be gone; it behaves unlike before";
/// MITRE ATLAS technique.
pub const ATLAS: &str = "AML.T0043";
/// Entry of the OWASP Machine Learning Security Top 10 (2023).
pub const OWASP: &str = "ML01:2023";

/// Every detector and gauge of drift, in the order in which they are shown.
pub const DRIFT: &[DriftSpec] = &[
    DriftSpec {
        name: "early",
        summary: "bets event by event on how a feature's distribution could have moved",
        source: "Shin, Ramdas and Rinaldo, E-detectors (2023)",
        kind: Kind::Early,
        schema: schema_of::<Early>,
        defaults: defaults_of::<Early>,
        check: check_of::<Early>,
        example: r#"{"tolerance": 0.02}"#,
    },
    DriftSpec {
        name: "paging",
        summary: "ranks stretches of traffic among the reference's own stretches",
        source: "Vovk and Wang, E-values: Calibration, Combination and Applications (2021)",
        kind: Kind::Paging,
        schema: schema_of::<Paging>,
        defaults: defaults_of::<Paging>,
        check: check_of::<Paging>,
        example: r#"{"stretch_rows": 500, "stretch_seconds": 10}"#,
    },
    DriftSpec {
        name: "adwin",
        summary: "a mean over a window that shrinks when it changes; to compare with, not to alarm",
        source: "Bifet and Gavalda, Learning from Time-Changing Data with Adaptive Windowing (2007)",
        kind: Kind::Comparison,
        schema: schema_of::<AdwinParameters>,
        defaults: defaults_of::<AdwinParameters>,
        check: check_of::<AdwinParameters>,
        example: r#"{"delta": 0.00001}"#,
    },
    gauge("psi", "population stability index", "Lewis, An Introduction to Credit Scoring (1994)", |pair| {
        Some(pair.psi())
    }),
    gauge(
        "kl",
        "divergence in nats",
        "Kullback and Leibler, On Information and Sufficiency (1951)",
        |pair| Some(pair.kl()),
    ),
    gauge(
        "jensen_shannon",
        "Jensen-Shannon distance, 0 to 1",
        "Lin, Divergence Measures Based on the Shannon Entropy (1991)",
        |pair| Some(pair.jensen_shannon()),
    ),
    gauge("hellinger", "Hellinger distance, 0 to 1", "Hellinger (1909)", |pair| Some(pair.hellinger())),
    gauge("total_variation", "the share of events that fell elsewhere, 0 to 1", "Jordan (1881)", |pair| {
        Some(pair.total_variation())
    }),
    gauge(
        "kolmogorov_smirnov",
        "the largest difference of cumulative shares, at the edges of bins",
        "Smirnov, Table for Estimating the Goodness of Fit of Empirical Distributions (1948)",
        |pair| Some(pair.kolmogorov_smirnov()),
    ),
    gauge(
        "wasserstein",
        "how far values moved, in the feature's unit",
        "Vaserstein, Markov Processes over Denumerable Products of Spaces (1969)",
        |pair| pair.wasserstein(),
    ),
    gauge("chi_square", "Pearson's statistic of the counts", "Pearson (1900)", |pair| {
        Some(pair.chi_square())
    }),
];

/// One detector or gauge as the rest of the program knows it.
#[derive(Clone, Copy, Debug)]
pub struct DriftSpec {
    /// Config key and metric label.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Where the method comes from.
    pub source: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// JSON Schema of its parameters.
    pub schema: fn() -> Schema,
    /// Its parameters where the operator gives none.
    pub defaults: fn() -> Json,
    /// Says what is wrong with parameters.
    pub check: fn(&Json) -> Result<(), ParameterError>,
    /// Parameters as an operator might give them, as JSON.
    pub example: &'static str,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Warns early; pages where the reference's own replay is quiet.
    Early,
    /// Pages.
    Paging,
    /// Is computed to be compared with, and decides nothing.
    Comparison,
    /// Is shown: the distance of a window from the reference, nothing where the feature has none.
    Gauge(fn(&Pair<'_>) -> Option<Reading>),
}

const fn gauge(
    name: &'static str,
    summary: &'static str,
    source: &'static str,
    read: fn(&Pair<'_>) -> Option<Reading>,
) -> DriftSpec {
    DriftSpec {
        name,
        summary,
        source,
        kind: Kind::Gauge(read),
        schema: schema_of::<Shown>,
        defaults: defaults_of::<Shown>,
        check: check_of::<Shown>,
        example: r#"{"events_min": 500}"#,
    }
}

/// Parameters of the early layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Early {
    /// By what part of itself the share of each bin may differ without being a change.
    pub tolerance: f64,
    /// How likely the sampling error of the reference is larger than allowed for.
    pub reference_error: f64,
    /// Rows between two looks at the evidence; at least as many as there are features.
    pub tick_rows: u32,
}

impl Default for Early {
    fn default() -> Self {
        Self { tolerance: 0.01, reference_error: 0.01, tick_rows: watch::TICK_ROWS }
    }
}

impl Parameters for Early {
    fn check(&self) -> Result<(), ParameterError> {
        if !(0.0..=0.5).contains(&self.tolerance) {
            return Err(ParameterError::at("tolerance", "must lie between 0 and 0.5"));
        }
        if !(self.reference_error > 0.0 && self.reference_error <= 0.5) {
            return Err(ParameterError::at("reference_error", "must lie above 0 and at most at 0.5"));
        }
        if !(1..=1024).contains(&self.tick_rows) {
            return Err(ParameterError::at("tick_rows", "must be 1 to 1024"));
        }
        Ok(())
    }
}

/// Parameters of the paging layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Paging {
    /// Fewest rows of a stretch.
    pub stretch_rows: u32,
    /// Shortest time of a stretch, in seconds.
    pub stretch_seconds: f64,
}

impl Default for Paging {
    fn default() -> Self {
        Self { stretch_rows: 250, stretch_seconds: 1.0 }
    }
}

impl Parameters for Paging {
    fn check(&self) -> Result<(), ParameterError> {
        if !(50..=100_000).contains(&self.stretch_rows) {
            return Err(ParameterError::at("stretch_rows", "must be 50 to 100000"));
        }
        if !(0.0..=86_400.0).contains(&self.stretch_seconds) {
            return Err(ParameterError::at("stretch_seconds", "must lie between 0 and 86400"));
        }
        Ok(())
    }
}

/// Parameters of ADWIN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdwinParameters {
    /// How likely one comparison is wrong.
    pub delta: f64,
    /// Events between two comparisons.
    pub clock: u32,
}

impl Default for AdwinParameters {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32 }
    }
}

impl Parameters for AdwinParameters {
    fn check(&self) -> Result<(), ParameterError> {
        if !(self.delta > 0.0 && self.delta < 1.0) {
            return Err(ParameterError::at("delta", "must lie between 0 and 1"));
        }
        if self.clock == 0 {
            return Err(ParameterError::at("clock", "must be at least 1"));
        }
        Ok(())
    }
}

/// Parameters of a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shown {
    /// Fewest events of a window that it is shown for.
    pub events_min: u64,
}

impl Default for Shown {
    fn default() -> Self {
        Self { events_min: gauges::EVENTS_MIN }
    }
}

impl Parameters for Shown {
    fn check(&self) -> Result<(), ParameterError> {
        if self.events_min == 0 {
            return Err(ParameterError::at("events_min", "must be at least 1"));
        }
        Ok(())
    }
}

/// How a reference is made under these parameters.
#[must_use]
pub fn settings(early: &Early, paging: &Paging) -> reference::Settings {
    reference::Settings {
        tolerance: event::Tolerance { relative: early.tolerance, error: early.reference_error },
        stretch_rows: paging.stretch_rows,
        tick_rows: early.tick_rows,
        // In range, for the parameters are checked.
        stretch_microseconds: (paging.stretch_seconds * 1e6) as u64,
    }
}

/// What every gauge shows of a window with at least `events_min` events, by name.
#[must_use]
pub fn readings(pair: &Pair<'_>, events_min: u64) -> Vec<(&'static str, Reading)> {
    if pair.window.total() < events_min {
        return Vec::new();
    }
    let read = |spec: &DriftSpec| match spec.kind {
        Kind::Gauge(read) => Some((spec.name, read(pair)?)),
        Kind::Early | Kind::Paging | Kind::Comparison => None,
    };
    DRIFT.iter().filter_map(read).collect()
}

/// The entry of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static DriftSpec> {
    DRIFT.iter().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests;
