//! Parts for the tests of this crate: the same names and parameters as the binary's, and nothing behind them.

use checkgate_config::parts::{Part, PartError, Parts, parameters_as};
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that the examples name.
pub const PARTS: Parts<'_> =
    Parts { detectors: DETECTORS, protocols: PROTOCOLS, sinks: &[], contract: CONTRACT, drift: DRIFT };

const DETECTORS: &[Part] = &[
    Part {
        name: "one_field_sweep",
        summary: "one field takes many values while all others stay",
        schema: || schema_for!(Sweep),
        defaults: defaults::<Sweep>,
        runs: true,
        check: |_, parameters| {
            let sweep: Sweep = parameters_as(parameters)?;
            at_least(sweep.values, 3, "values")
        },
    },
    Part {
        name: "field_by_field",
        summary: "many fields are changed one after the other around one row",
        schema: || schema_for!(Star),
        defaults: defaults::<Star>,
        runs: true,
        check: |_, parameters| {
            let star: Star = parameters_as(parameters)?;
            at_least(star.fields, 2, "fields")
        },
    },
    Part {
        name: "client_volume",
        summary: "a client asks for far more distinct rows than the others",
        schema: || schema_for!(Volume),
        defaults: defaults::<Volume>,
        runs: true,
        check: |_, parameters| parameters_as::<Volume>(parameters).map(drop),
    },
];

const PROTOCOLS: &[Part] = &[
    Part {
        name: "oip_v2",
        summary: "Open Inference Protocol v2",
        schema: || schema_for!(Nothing),
        defaults: defaults::<Nothing>,
        runs: true,
        check: |_, parameters| parameters_as::<Nothing>(parameters).map(drop),
    },
    Part {
        name: "mlflow",
        summary: "MLflow scoring",
        schema: || schema_for!(Nothing),
        defaults: defaults::<Nothing>,
        runs: true,
        check: |_, parameters| parameters_as::<Nothing>(parameters).map(drop),
    },
    Part {
        name: "generic",
        summary: "any JSON, by pointers",
        schema: || schema_for!(Pointers),
        defaults: defaults::<Pointers>,
        runs: true,
        check: |_, parameters| {
            let pointers: Pointers = parameters_as(parameters)?;
            match pointers.features.starts_with('/') {
                true => Ok(()),
                false => Err(PartError::new(&["features"], "a pointer begins with \"/\"")),
            }
        },
    },
];

const DRIFT: Part = Part {
    name: "drift",
    summary: "whether the traffic or the predictions of a model have moved",
    schema: || schema_for!(Drift),
    defaults: defaults::<Drift>,
    runs: true,
    check: |_, parameters| parameters_as::<Drift>(parameters).map(drop),
};

/// As far as the examples name them.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Drift {
    /// How often it may be wrong.
    false_alarms: String,
    /// Features that are not watched.
    leave_out: Vec<String>,
    /// Rows that a reference is learned from.
    warm_up_rows: u32,
    /// Share of the rows that one client may have.
    share_per_client: f64,
    /// Rows after which a drift may be over.
    cool_down_rows: u64,
    /// Of the early layer.
    early: Value,
    /// Of the paging layer.
    paging: Value,
}

const CONTRACT: Part = Part {
    name: "contract",
    summary: "what answers must keep",
    schema: || schema_for!(Contract),
    defaults: defaults::<Contract>,
    runs: true,
    check: |_, parameters| {
        let contract: Contract = parameters_as(parameters)?;
        for (index, rule) in contract.rules.iter().enumerate() {
            if rule.minimum > rule.maximum && rule.maximum.is_some() {
                let path = ["rules", &index.to_string(), "maximum"];
                return Err(PartError::new(&path, "must not be below minimum"));
            }
        }
        Ok(())
    },
};

/// Changes of one field.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Sweep {
    /// Distinct values of one field that make a sweep.
    values: u32,
    /// Fields that may change freely.
    free_fields: Vec<String>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { values: 12, free_fields: Vec::new() }
    }
}

/// Changes of many fields.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Star {
    /// Fields changed around one row that make a star.
    fields: u32,
    /// Fields that may change freely.
    free_fields: Vec<String>,
}

impl Default for Star {
    fn default() -> Self {
        Self { fields: 6, free_fields: Vec::new() }
    }
}

/// When a volume is out of proportion.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Volume {
    /// Seconds of a window.
    window_seconds: u64,
    /// Times the quantile.
    times: f64,
    /// The quantile that counts as usual.
    quantile: f64,
    /// Fewest rows worth a word.
    rows_min: u64,
    /// Fewest other clients.
    clients_min: u64,
}

impl Default for Volume {
    fn default() -> Self {
        Self { window_seconds: 3600, times: 10.0, quantile: 0.9, rows_min: 500, clients_min: 20 }
    }
}

/// A protocol without parameters.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Nothing {}

/// Where rows stand in a body.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Pointers {
    /// Pointer to the rows of a question.
    features: String,
    /// Pointer to the predictions of an answer.
    predictions: String,
}

impl Default for Pointers {
    fn default() -> Self {
        Self { features: "/features".into(), predictions: "/predictions".into() }
    }
}

/// What answers must keep.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Contract {
    /// The rules.
    rules: Vec<Rule>,
    /// Whether NaN and infinities are allowed.
    allow_non_finite: bool,
    /// Violations after which a client is blocked.
    block_after: u32,
}

/// One rule.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Rule {
    /// Column by name or position.
    output: Option<String>,
    /// Smallest allowed number.
    minimum: Option<f64>,
    /// Largest allowed number.
    maximum: Option<f64>,
    /// Allowed labels.
    labels: Option<Vec<String>>,
    /// What all columns add up to.
    sum: Option<f64>,
    /// How far the sum may be off.
    sum_within: Option<f64>,
}

fn defaults<T: Default + Serialize>() -> Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}

fn at_least(found: u32, least: u32, key: &str) -> Result<(), PartError> {
    if found >= least { Ok(()) } else { Err(PartError::new(&[key], format!("must be {least} or more"))) }
}
