//! The parts that the binary hands in: what config must know of them to check and to document their parameters.

use schemars::Schema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::path::{Path, Step};
use crate::words;

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
    /// Whether it runs unless it is switched off; otherwise it must be switched on.
    pub runs: bool,
    /// Says what is wrong with `parameters`; gets its own name back, so that one function can serve a whole list.
    pub check: fn(name: &str, parameters: &Value) -> Result<(), PartError>,
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
    /// Where findings and decisions are sent, under `sinks`.
    pub sinks: &'a [Part],
    /// The output contract, under `contract`.
    pub contract: Part,
    /// How drift is watched, under `drift`.
    pub drift: Part,
}

impl PartError {
    /// What is wrong with the parameter at `path`.
    #[must_use]
    pub fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self { path: path.iter().map(|&key| key.to_owned()).collect(), message: message.into() }
    }
}

/// Reads `parameters` as a part's own type: the first half of every [`Part::check`], with unknown keys and wrong
/// kinds said in plain words.
///
/// # Errors
/// What serde refuses, with the keys that lead to it.
pub fn parameters_as<T: DeserializeOwned>(parameters: &Value) -> Result<T, PartError> {
    serde_path_to_error::deserialize(parameters).map_err(|error| PartError {
        path: Path::from(error.path()).0.into_iter().map(name_of).collect(),
        message: words::plain(&error.inner().to_string()),
    })
}

fn name_of(step: Step) -> String {
    match step {
        Step::Key(key) => key,
        Step::Index(index) => index.to_string(),
    }
}
