//! Decoders: bodies to rows. Adding one is a file in `decode/`, a `mod` line and an entry in [`DECODERS`].
//!
//! Model servers in Python accept more than strict JSON (NaN, a byte order mark, UTF-16), and a body that the
//! server reads but the inspector does not is the easiest evasion there is. So a decoder either reads a body or
//! says why not: never a crash, never a silent skip.

use checkgate_detectors::facts::{Features, NotInspected};
use http::HeaderMap;
use serde_json::Value;

/// Which part of an exchange a body belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The request body.
    Question,
    /// The response body.
    Answer,
}

/// What a decoder may look at besides the body.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Path of the request, without query.
    pub path: &'a str,
    /// Headers of the part that the body belongs to.
    pub headers: &'a HeaderMap,
    /// Which part it is.
    pub part: Part,
    /// Rows beyond this many are counted and not kept.
    pub rows_max: usize,
    /// A wider body is refused as [`NotInspected::TooWide`].
    pub columns_max: usize,
}

/// A protocol's claim to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The name that the path gives the model, where it gives one.
    pub model: Option<&'a str>,
}

/// Reads the bodies of one protocol.
pub trait Decoder: Send + Sync {
    /// Writes the rows of `body` into `out`, which the caller has cleared.
    ///
    /// # Errors
    /// Says why the body cannot be looked into; `out` then means nothing.
    fn decode(&self, head: &Head<'_>, body: &[u8], out: &mut Features) -> Result<(), NotInspected>;
}

/// An entry in the list of decoders.
pub struct DecoderSpec {
    /// The config value under `protocol`.
    pub name: &'static str,
    /// One line for help and reference page.
    pub summary: &'static str,
    /// JSON Schema of its parameters.
    pub schema: fn() -> schemars::Schema,
    /// Its parameters where the operator gives none.
    pub defaults: fn() -> Value,
    /// Whether a request belongs to this protocol, by method and path alone; `None` where it does not. A protocol
    /// that must be configured claims nothing.
    pub claim: for<'a> fn(method: &http::Method, path: &'a str) -> Option<Claim<'a>>,
    /// Builds it from checked parameters.
    pub build: fn(&Value) -> Result<Box<dyn Decoder>, ParameterError>,
}

/// Parameters that a decoder cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParameterError {
    /// Keys down to the offending value.
    pub path: Vec<String>,
    /// What is wrong, and the mend.
    pub message: String,
}

/// Every decoder, in the order in which they are asked to claim a request.
pub const DECODERS: &[DecoderSpec] = &[];
