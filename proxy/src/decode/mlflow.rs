//! The scoring protocol of MLflow model servers: `POST /invocations` with JSON.
//!
//! A question gives exactly one of `dataframe_split` (columns and data), `dataframe_records` (a list of objects),
//! `instances` (a list of rows) and `inputs` (a list of rows, or an object of named tensors whose first dimension
//! is the batch). An answer gives `predictions`: a list of numbers, labels, lists or objects, one to a row of the
//! question, or an object of named columns.

use std::borrow::Cow;

use checkgate_detectors::facts::{Features, NotInspected};
use checkgate_detectors::names::Names;
use serde_json::Value as Parameters;

use super::json::{Kind, Value};
use super::table::{self, Limits};
use super::tensor::{self, Tensor};
use super::{Claim, Decoder, DecoderSpec, Head, ParameterError, Part, read, segment_is, without_parameters};

/// The entry in the list of decoders.
pub const SPEC: DecoderSpec = DecoderSpec {
    name: "mlflow",
    summary: "MLflow scoring: POST /invocations with dataframe_split, dataframe_records, inputs or instances",
    schema: without_parameters::schema,
    defaults: without_parameters::defaults,
    claim,
    build,
};

struct Mlflow;

fn build(parameters: &Parameters) -> Result<Box<dyn Decoder>, ParameterError> {
    without_parameters::check(parameters)?;
    Ok(Box::new(Mlflow))
}

fn claim<'a>(method: &http::Method, path: &'a str) -> Option<Claim<'a>> {
    let claimed = method == http::Method::POST && segment_is(path.strip_prefix('/')?, "invocations");
    claimed.then_some(Claim { model: None })
}

impl Decoder for Mlflow {
    fn decode(&self, head: &Head<'_>, body: &[u8], out: &mut Features) -> Result<(), NotInspected> {
        read(head, body, |root, limits| match head.part {
            Part::Question => write_question(root, limits, out),
            Part::Answer => write_answer(root, limits, out),
        })
    }
}

fn write_question(root: Value<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    let forms = root.fields(["dataframe_split", "dataframe_records", "instances", "inputs"])?;
    match forms {
        [Some(split), None, None, None] => write_split(split, limits, out),
        [None, Some(rows), None, None] | [None, None, Some(rows), None] => write_list(rows, limits, out),
        [None, None, None, Some(inputs)] => write_columns_or_rows(inputs, limits, out),
        _ => Err(NotInspected::Shape),
    }
}

fn write_answer(root: Value<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    let [predictions] = root.fields(["predictions"])?;
    write_columns_or_rows(predictions.ok_or(NotInspected::Shape)?, limits, out)
}

fn write_list(rows: Value<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    if rows.kind() != Kind::Array {
        return Err(NotInspected::Shape);
    }
    table::write_rows(rows.elements(), limits, out)
}

fn write_columns_or_rows(value: Value<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    match value.kind() {
        Kind::Array => write_list(value, limits, out),
        Kind::Object => write_columns(value, limits, out),
        _ => table::write_rows(std::iter::once(value), limits, out),
    }
}

fn write_columns(columns: Value<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    let members = columns.members();
    let tensors = members.map(|(key, data)| Tensor::from_nested(key.text().unwrap_or_default(), data));
    tensor::join(tensors, limits, out)
}

fn write_split(split: Value<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    let [columns, data] = split.fields(["columns", "data"])?;
    let data = data.filter(|data| data.kind() == Kind::Array).ok_or(NotInspected::Shape)?;
    if data.elements().any(|row| row.kind() != Kind::Array) {
        return Err(NotInspected::Shape);
    }
    table::write_rows(data.elements(), limits, out)?;
    let Some(columns) = columns else { return Ok(()) };
    write_names(columns, limits, &mut out.names)?;
    if out.cells.is_empty() {
        out.width = out.names.len();
    }
    if out.width == out.names.len() { Ok(()) } else { Err(NotInspected::Shape) }
}

fn write_names(columns: Value<'_>, limits: Limits, out: &mut Names) -> Result<(), NotInspected> {
    let kept = columns.elements().take(limits.columns_max.saturating_add(1));
    let names: Vec<Cow<'_, str>> = kept.map(column_name).collect::<Result<_, _>>()?;
    if names.len() > limits.columns_max {
        return Err(NotInspected::TooWide);
    }
    names.iter().for_each(|name| out.push(name));
    if table::are_distinct(names) { Ok(()) } else { Err(NotInspected::DuplicateKey) }
}

/// A column may be called by a number too.
fn column_name(value: Value<'_>) -> Result<Cow<'_, str>, NotInspected> {
    if value.is_container() {
        return Err(NotInspected::Shape);
    }
    let name = value.text().unwrap_or(Cow::Borrowed(value.source()));
    table::check_name(&name)?;
    Ok(name)
}
