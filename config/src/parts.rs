//! The parts that the binary hands in: what config must know of them to check and to document their parameters.

use schemars::Schema;
use serde_json::Value;

/// One detector, protocol or other part with parameters of its own.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The config key, also the metric label.
    pub name: &'static str,
    /// One line for help and reference page.
    pub summary: &'static str,
    /// JSON Schema of the parameters.
    pub schema: fn() -> Schema,
    /// The parameters where the operator gives none.
    pub defaults: fn() -> Value,
    /// Says what is wrong with `parameters`.
    pub check: fn(parameters: &Value) -> Result<(), PartError>,
}

/// What a part says of parameters it cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartError {
    /// Keys from the part's own object down to the offending value; empty for the object itself.
    pub path: Vec<String>,
    /// What is wrong, and the mend.
    pub message: String,
}

/// All lists of parts of a binary.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Query detectors, under `detectors`.
    pub detectors: &'a [Part],
    /// Decoders, under `protocol`.
    pub protocols: &'a [Part],
    /// The output contract, under `contract`.
    pub contract: Part,
}
