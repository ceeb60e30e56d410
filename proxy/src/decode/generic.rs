//! Any JSON body, configured by pointers to its rows.
//!
//! A pointer (RFC 6901) leads to a row (a list, or an object of named values), to a list of rows, or to a single
//! value. A flat list is one row; where each of its elements is a row of its own, as in a list of one score per
//! row, the pointer ends in `/*`. The segment `*` stands for each element of a list, once in a pointer:
//! `/items/*/features` reads one row from each item.

use checkgate_detectors::facts::{Features, NotInspected};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Parameters;

use super::json::{Kind, Value};
use super::table::{self, Limits};
use super::{Decoder, DecoderSpec, Head, ParameterError, Part, parameters, read};

/// The entry in the list of decoders.
pub const SPEC: DecoderSpec = DecoderSpec {
    name: "generic",
    summary: "Any JSON protocol, by pointers to the rows of questions and answers",
    schema: || schemars::schema_for!(Pointers),
    defaults: || serde_json::to_value(Pointers::default()).unwrap_or_default(),
    claim: |_, _| None,
    build,
};

/// Where the rows stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Pointers {
    /// Pointer (RFC 6901) to a row of features, to a list of rows or to an object of named features, in the request
    /// body; `*` as a segment stands for each element of a list.
    features: String,
    /// Pointer (RFC 6901) to the predictions in the response body, likewise; a list of one prediction per row ends
    /// in `/*`.
    predictions: String,
}

impl Default for Pointers {
    fn default() -> Self {
        Self { features: "/features".to_owned(), predictions: "/predictions".to_owned() }
    }
}

struct Generic {
    features: Pointer,
    predictions: Pointer,
}

fn build(value: &Parameters) -> Result<Box<dyn Decoder>, ParameterError> {
    let pointers: Pointers = parameters(value)?;
    let features = Pointer::parse("features", &pointers.features)?;
    let predictions = Pointer::parse("predictions", &pointers.predictions)?;
    Ok(Box::new(Generic { features, predictions }))
}

impl Decoder for Generic {
    fn decode(&self, head: &Head<'_>, body: &[u8], out: &mut Features) -> Result<(), NotInspected> {
        let pointer = match head.part {
            Part::Question => &self.features,
            Part::Answer => &self.predictions,
        };
        read(head, body, |root, limits| pointer.write_rows(root, limits, out))
    }
}

/// A checked pointer.
#[derive(Debug, PartialEq, Eq)]
struct Pointer {
    /// Unescaped keys and positions down to the rows or to the list whose elements give one row each.
    outer: Vec<String>,
    /// Keys and positions from such an element down to its row, where `*` stood in the pointer.
    inner: Option<Vec<String>>,
}

impl Pointer {
    fn parse(key: &str, pointer: &str) -> Result<Self, ParameterError> {
        let refuse = |message: String| ParameterError { path: vec![key.to_owned()], message };
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(refuse(format!("the pointer {pointer:?} must be empty or begin with a slash")));
        }
        let segments: Option<Vec<Segment>> = pointer.split('/').skip(1).map(Segment::parse).collect();
        let segments = segments.ok_or_else(|| {
            refuse(format!(
                "in the pointer {pointer:?} a tilde must be written `~0`, and a slash in a key `~1`"
            ))
        })?;
        let mut parts = segments.split(|segment| *segment == Segment::Each).map(keys);
        let (outer, inner) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            return Err(refuse(format!("the pointer {pointer:?} may hold `*` once")));
        }
        Ok(Self { outer, inner })
    }

    fn write_rows(&self, root: Value<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
        let target = descend(root, &self.outer)?;
        match &self.inner {
            Some(inner) => write_each(target, inner, limits, out),
            None if is_list_of_rows(target) => table::write_rows(target.elements(), limits, out),
            None => table::write_rows(std::iter::once(target), limits, out),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Each,
    Key(String),
}

impl Segment {
    fn parse(raw: &str) -> Option<Self> {
        if raw == "*" {
            return Some(Self::Each);
        }
        let well_escaped = raw.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        well_escaped.then(|| Self::Key(raw.replace("~1", "/").replace("~0", "~")))
    }
}

fn keys(segments: &[Segment]) -> Vec<String> {
    let key = |segment: &Segment| match segment {
        Segment::Each => None,
        Segment::Key(key) => Some(key.clone()),
    };
    segments.iter().filter_map(key).collect()
}

fn descend<'d>(from: Value<'d>, keys: &[String]) -> Result<Value<'d>, NotInspected> {
    keys.iter().try_fold(from, |value, key| step(value, key)?.ok_or(NotInspected::Shape))
}

fn step<'d>(value: Value<'d>, key: &str) -> Result<Option<Value<'d>>, NotInspected> {
    if value.kind() == Kind::Array {
        return Ok(position(key).and_then(|index| value.elements().nth(index)));
    }
    let [found] = value.fields([key])?;
    Ok(found)
}

/// A position as RFC 6901 writes it: digits without leading zeros.
fn position(key: &str) -> Option<usize> {
    let well_written = key == "0" || !key.starts_with(['0', '+']);
    if well_written { key.parse().ok() } else { None }
}

fn is_list_of_rows(target: Value<'_>) -> bool {
    target.elements().next().is_some_and(Value::is_container)
}

fn write_each(
    list: Value<'_>,
    inner: &[String],
    limits: Limits,
    out: &mut Features,
) -> Result<(), NotInspected> {
    if list.kind() != Kind::Array {
        return Err(NotInspected::Shape);
    }
    let rows = list.elements().take(limits.rows_max).map(|item| descend(item, inner));
    let rows: Vec<Value<'_>> = rows.collect::<Result<_, _>>()?;
    table::write_rows(rows.into_iter(), limits, out)?;
    out.rows_over = list.elements().skip(limits.rows_max).count() as u64;
    Ok(())
}
