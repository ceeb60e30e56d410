//! Decoders: bodies to rows. Adding one is a file in `decode/`, a `mod` line and an entry in [`DECODERS`].
//!
//! Model servers in Python accept more than strict JSON (NaN, a byte order mark, UTF-16), and a body that the
//! server reads but the inspector does not is the easiest evasion there is. So a decoder either reads a body or
//! says why not: never a crash, never a silent skip.

mod decimal;
mod generic;
mod grpc;
pub(crate) mod json;
mod mlflow;
mod oip_grpc;
mod oip_v2;
mod table;
mod tensor;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use checkgate_detectors::facts::{Features, NotInspected};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::text::judge_head;

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

    /// What the status of HTTP would be, were it to say what the protocol's own status says.
    fn status(&self, status: u16, _kept: &[KeptLine], _is_empty: bool) -> u16 {
        status
    }

    /// Whether an answer may be put right: its values have places in the body, and a JSON document may stand in for it.
    fn is_rewritable(&self) -> bool {
        true
    }
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

/// Every decoder, in the order in which they are asked to claim a request. A recording knows them by their positions, so
/// a new one goes to the end.
pub const DECODERS: &[DecoderSpec] = &[oip_v2::SPEC, mlflow::SPEC, generic::SPEC, oip_grpc::SPEC];

/// Headers that decoders look at, in lower case: a capture keeps every line of these and needs no others.
pub static KEPT_HEADERS: [HeaderName; 4] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    HeaderName::from_static(oip_v2::BINARY_HEADER),
    HeaderName::from_static(grpc::STATUS_HEADER),
];

/// One line of them: name and value.
pub type KeptLine = (Cow<'static, str>, String);

/// The lines that one part of an exchange has of them. Nearly all parts have the same, and share them.
pub type KeptLines = Arc<[KeptLine]>;

/// Bytes of values up to which lines are remembered for the parts that come after.
const SHARED_BYTES_MAX: usize = 256;
/// Notes the version that the path of a question names, where its body says none. Only one that is of the Open Inference
/// Protocol has such a path.
pub fn note_version(path: &str, question: &mut Features) {
    if let Some(version) = oip_v2::version_in(path).filter(|_| question.version.is_empty()) {
        question.version = decoded(version);
    }
}

/// The decoder of that name.
pub fn spec(name: &str) -> Option<&'static DecoderSpec> {
    DECODERS.iter().find(|spec| spec.name == name)
}

/// Every line of the [`KEPT_HEADERS`] of `headers`, for a capture. One walk over the head: hardly any line is kept, and
/// those are mostly the ones that this thread met last.
pub fn keep_headers(headers: &HeaderMap, part: Part) -> KeptLines {
    MET.with_borrow_mut(|met| {
        let [question, answer] = met;
        let last = if part == Part::Question { question } else { answer };
        let same = last.iter().map(|(name, value)| (&**name, value.as_bytes()));
        if kept_of(headers).map(|(name, value)| (name, value.as_bytes())).eq(same) {
            return Arc::clone(last);
        }
        let lines: KeptLines = kept_of(headers).map(line).collect();
        if lines.iter().map(|(_, value)| value.len()).sum::<usize>() <= SHARED_BYTES_MAX {
            *last = Arc::clone(&lines);
        }
        lines
    })
}

thread_local! {
    /// What the last question and the last answer had.
    static MET: RefCell<[KeptLines; 2]> = RefCell::default();
}

fn kept_of(headers: &HeaderMap) -> impl Iterator<Item = (&'static str, &HeaderValue)> {
    headers.iter().filter_map(|(name, value)| Some((kept_name(name)?, value)))
}

/// The names of the [`KEPT_HEADERS`].
const KEPT_NAMES: [&str; 4] =
    ["content-type", "content-encoding", oip_v2::BINARY_HEADER, grpc::STATUS_HEADER];

/// Its name where it is one of them. Every name of a head is asked for this, and the lengths say it of nearly all.
#[inline]
fn kept_name(name: &HeaderName) -> Option<&'static str> {
    let name = name.as_str();
    KEPT_NAMES.into_iter().find(|known| known.len() == name.len() && *known == name)
}

fn line((name, value): (&'static str, &HeaderValue)) -> KeptLine {
    let lossy = |_| String::from_utf8_lossy(value.as_bytes()).into_owned();
    // What is ASCII, as nearly every value is, need not be looked through for what it is not.
    (Cow::Borrowed(name), value.to_str().map_or_else(lossy, str::to_owned))
}

/// The headers that [`keep_headers`] kept, as a [`Head`] takes them.
pub fn kept_headers(lines: &[KeptLine]) -> HeaderMap {
    let header = |(name, value): &KeptLine| {
        let known = KEPT_HEADERS.iter().find(|known| known.as_str() == name)?;
        Some((known.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?))
    };
    lines.iter().filter_map(header).fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value);
        headers
    })
}

/// Every decoder with its default parameters, by position in [`DECODERS`]; `None` where one must be configured.
pub fn defaults() -> Vec<Option<Box<dyn Decoder>>> {
    DECODERS.iter().map(|spec| (spec.build)(&(spec.defaults)()).ok()).collect()
}

/// The decoder of a body: the configured one, or else the one of `defaults` that claimed the request. What holds an
/// answer and what looks at it later must choose alike.
pub fn chosen<'a>(
    configured: Option<&'a dyn Decoder>,
    defaults: &'a [Option<Box<dyn Decoder>>],
    protocol: Option<u8>,
) -> Option<&'a dyn Decoder> {
    let claimed = || defaults.get(usize::from(protocol?))?.as_deref();
    configured.or_else(claimed)
}

/// The first decoder that claims a request, by position in [`DECODERS`].
pub fn claim<'a>(method: &http::Method, path: &'a str) -> Option<(u8, Claim<'a>)> {
    DECODERS.iter().zip(0..).find_map(|(spec, position)| Some((position, (spec.claim)(method, path)?)))
}

/// Reads a body as JSON and hands its outermost value to `write`, which every decoder of JSON brings.
fn read(
    head: &Head<'_>,
    body: &[u8],
    write: impl FnOnce(json::Value<'_>, table::Limits) -> Result<(), NotInspected>,
) -> Result<(), NotInspected> {
    let text = text::read(head.headers, body)?;
    let mut index = INDEX.take();
    let result = json::Document::scan(&text.characters, text.start, &mut index).and_then(|document| {
        let root = document.root().ok_or(NotInspected::Unparsable)?;
        write(root, table::Limits::new(head, text.in_place))
    });
    INDEX.set(index.kept());
    result
}

thread_local! {
    /// Memory for the index of the next body. It says nothing of the last one.
    static INDEX: Cell<json::Index> = Cell::default();
}

/// Whether a raw segment of a path means `name`: servers route by the percent-decoded path.
fn segment_is(raw: &str, name: &str) -> bool {
    let mut rest = raw.as_bytes();
    let same = name.bytes().all(|wanted| {
        let (byte, after) = first_decoded(rest);
        rest = after;
        byte == Some(wanted)
    });
    same && rest.is_empty()
}

/// A segment of a path as servers read it.
fn decoded(segment: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), segment.as_bytes());
    while let (Some(byte), after) = first_decoded(rest) {
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first byte of a percent-encoded text, and what follows it.
fn first_decoded(raw: &[u8]) -> (Option<u8>, &[u8]) {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match raw {
        [b'%', high, low, after @ ..] => match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => (Some(high << 4 | low), after),
            _ => (Some(b'%'), raw.get(1..).unwrap_or(&[])),
        },
        [first, after @ ..] => (Some(*first), after),
        [] => (None, raw),
    }
}

fn parameters<P: DeserializeOwned>(value: &Value) -> Result<P, ParameterError> {
    P::deserialize(value).map_err(|error| ParameterError { path: Vec::new(), message: error.to_string() })
}

/// What decoders without parameters put into their entry.
mod without_parameters {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::Value;

    use super::{ParameterError, parameters};

    /// This protocol has no parameters.
    #[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Nothing)
    }

    pub fn defaults() -> Value {
        Value::Object(serde_json::Map::new())
    }

    pub fn check(value: &Value) -> Result<(), ParameterError> {
        parameters::<Nothing>(value).map(|_| ())
    }
}
