//! The Open Inference Protocol, version 2, over gRPC: calls of `ModelInfer`.
//!
//! Tensors stand in the message either as lists of values (`contents`) or, all of them, as their bytes in memory
//! (`raw_input_contents`, `raw_output_contents`); a message that has both is refused, since servers differ on which one
//! counts. Rows and columns follow from the shape as in the protocol over REST (`oip_v2.rs`). A tensor in shared memory
//! has no values here and is refused as a datatype.
//!
//! The name of the model stands in the message and not in the path. So one model, configured or discovered, takes all
//! calls, or those that name the model of its parameter `model`.
//!
//! A message cannot be changed in place: where it breaks its contract, it is refused.

use std::borrow::Cow;

use bytes::Bytes;
use checkgate_detectors::facts::{Cell, Features, NotInspected, Span};
use half::{bf16, f16};
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::messages::{Contents, InferRequest, InferResponse, WireTensor};
use super::table::{self, Limits, Place};
use super::{Claim, Decoder, DecoderSpec, Head, KeptLine, ParameterError, Part, grpc, parameters};

mod messages;

/// The path of the call, whose case counts.
const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A message with more fields is refused: a tensor takes two bytes in the message, and a hundred once it is read.
const FIELDS_MAX: usize = 16_384;

/// The entry in the list of decoders.
pub const SPEC: DecoderSpec = DecoderSpec {
    name: "oip_grpc",
    summary: "Open Inference Protocol v2 over gRPC (KServe, Triton, MLServer): ModelInfer, one message each way",
    schema,
    defaults,
    claim,
    build,
};

/// Which of the server's models is meant.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Parameters {
    /// Calls that name another model are counted as not inspected (`other_model`). Without it all calls are of this
    /// model, whatever they name.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
}

struct OipGrpc {
    model: Option<String>,
}

fn schema() -> schemars::Schema {
    schemars::schema_for!(Parameters)
}

fn defaults() -> Value {
    Value::Object(serde_json::Map::new())
}

fn build(value: &Value) -> Result<Box<dyn Decoder>, ParameterError> {
    let Parameters { model } = parameters(value)?;
    if model.as_ref().is_some_and(String::is_empty) {
        let message = "a model has a name; leave the key out for all models".to_owned();
        return Err(ParameterError { path: vec!["model".to_owned()], message });
    }
    Ok(Box::new(OipGrpc { model }))
}

fn claim<'a>(method: &http::Method, path: &'a str) -> Option<Claim<'a>> {
    (*method == http::Method::POST && path == MODEL_INFER).then_some(Claim { model: None })
}

impl Decoder for OipGrpc {
    fn decode(&self, head: &Head<'_>, body: &[u8], out: &mut Features) -> Result<(), NotInspected> {
        let message = grpc::message(head.headers, body)?;
        let limits = Limits { rows_max: head.rows_max, columns_max: head.columns_max, in_place: false };
        let (tensors, raw, version) = match head.part {
            Part::Question => {
                let asked: InferRequest = read(message)?;
                if self.model.as_ref().is_some_and(|model| asked.model_name != model.as_bytes()) {
                    return Err(NotInspected::OtherModel);
                }
                (asked.inputs, asked.raw, asked.model_version)
            }
            Part::Answer => {
                let answered: InferResponse = read(message)?;
                (answered.outputs, answered.raw, answered.model_version)
            }
        };
        out.version.push_str(std::str::from_utf8(&version).unwrap_or_default());
        join(&tensors, &raw, limits, out)
    }

    fn status(&self, status: u16, kept: &[KeptLine], is_empty: bool) -> u16 {
        grpc::http_status(status, kept, is_empty)
    }

    fn is_rewritable(&self) -> bool {
        false
    }
}

fn read<M: Message + Default>(message: &[u8]) -> Result<M, NotInspected> {
    if fields(message).map_err(|_| NotInspected::Unparsable)? > FIELDS_MAX {
        return Err(NotInspected::TooWide);
    }
    M::decode(message).map_err(|_| NotInspected::Unparsable)
}

/// How many fields the message has, repeated ones counted each. Nothing is kept of them.
fn fields(mut message: &[u8]) -> Result<usize, DecodeError> {
    let mut fields = 0;
    while !message.is_empty() {
        let (number, kind) = decode_key(&mut message)?;
        skip_field(kind, number, &mut message, DecodeContext::default())?;
        fields += 1;
    }
    Ok(fields)
}

/// A tensor with its place in the table.
struct Tensor<'m> {
    name: Cow<'m, str>,
    rows: usize,
    columns: usize,
    values: Values<'m>,
}

/// Where the values of a tensor stand.
enum Values<'m> {
    Listed(&'m Contents, Datatype),
    Raw(&'m [u8], Datatype),
}

/// The protocol's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Datatype {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"BOOL" => Self::Bool,
            b"INT8" => Self::Int8,
            b"INT16" => Self::Int16,
            b"INT32" => Self::Int32,
            b"INT64" => Self::Int64,
            b"UINT8" => Self::Uint8,
            b"UINT16" => Self::Uint16,
            b"UINT32" => Self::Uint32,
            b"UINT64" => Self::Uint64,
            b"FP16" => Self::Fp16,
            b"BF16" => Self::Bf16,
            b"FP32" => Self::Fp32,
            b"FP64" => Self::Fp64,
            b"BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    /// Bytes of a value in memory; `None` where each has a length of its own.
    fn width(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Int8 | Self::Uint8 => Some(1),
            Self::Int16 | Self::Uint16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Int32 | Self::Uint32 | Self::Fp32 => Some(4),
            Self::Int64 | Self::Uint64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// One value out of its bytes in memory, which are as many as it is wide.
    fn number(self, bytes: &[u8]) -> Option<f64> {
        fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
            bytes.try_into().ok()
        }
        Some(match self {
            Self::Bool => f64::from(u8::from(u8::from_le_bytes(array(bytes)?) != 0)),
            Self::Int8 => i8::from_le_bytes(array(bytes)?).into(),
            Self::Int16 => i16::from_le_bytes(array(bytes)?).into(),
            Self::Int32 => i32::from_le_bytes(array(bytes)?).into(),
            Self::Int64 => i64::from_le_bytes(array(bytes)?) as f64,
            Self::Uint8 => u8::from_le_bytes(array(bytes)?).into(),
            Self::Uint16 => u16::from_le_bytes(array(bytes)?).into(),
            Self::Uint32 => u32::from_le_bytes(array(bytes)?).into(),
            Self::Uint64 => u64::from_le_bytes(array(bytes)?) as f64,
            Self::Fp16 => f16::from_le_bytes(array(bytes)?).to_f64(),
            Self::Bf16 => bf16::from_le_bytes(array(bytes)?).to_f64(),
            Self::Fp32 => f32::from_le_bytes(array(bytes)?).into(),
            Self::Fp64 => f64::from_le_bytes(array(bytes)?),
            Self::Bytes => return None,
        })
    }
}

fn join(
    tensors: &[WireTensor],
    raw: &[Bytes],
    limits: Limits,
    out: &mut Features,
) -> Result<(), NotInspected> {
    if tensors.len() > limits.columns_max {
        return Err(NotInspected::TooWide);
    }
    if !raw.is_empty() && raw.len() != tensors.len() {
        // One to a tensor; fewer where some lie in shared memory.
        return Err(NotInspected::Datatype);
    }
    let read = |(position, tensor)| Tensor::read(tensor, raw.get(position));
    let tensors: Vec<Tensor<'_>> = tensors.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    if !table::are_distinct(tensors.iter().map(|tensor| &*tensor.name).collect()) {
        return Err(NotInspected::DuplicateKey);
    }
    let rows = tensors.first().ok_or(NotInspected::Shape)?.rows;
    let width = tensors.iter().fold(0, |width: usize, tensor| width.saturating_add(tensor.columns));
    if tensors.iter().any(|tensor| tensor.rows != rows) || (width == 0 && rows > 0) {
        return Err(NotInspected::Shape);
    }
    if width > limits.columns_max {
        return Err(NotInspected::TooWide);
    }
    let kept = rows.min(limits.rows_max);
    table::make_room(kept, width, limits, out)?;
    let mut first_column = 0;
    for tensor in &tensors {
        table::write_names(&tensor.name, tensor.columns, &mut out.names)?;
        tensor.write(first_column, kept, out)?;
        first_column += tensor.columns;
    }
    out.rows_over = (rows - kept) as u64;
    Ok(())
}

impl<'m> Tensor<'m> {
    fn read(wire: &'m WireTensor, raw: Option<&'m Bytes>) -> Result<Self, NotInspected> {
        let datatype = Datatype::of(&wire.datatype).ok_or(NotInspected::Datatype)?;
        let (rows, columns) = dimensions(&wire.shape)?;
        let values = match (&wire.contents, raw) {
            (None, Some(bytes)) => Values::Raw(bytes, datatype),
            (Some(listed), None) => Values::Listed(listed, datatype),
            (Some(listed), Some(bytes)) if *listed == Contents::default() => Values::Raw(bytes, datatype),
            (Some(_), Some(_)) => return Err(NotInspected::Shape),
            (None, None) => return Err(NotInspected::Datatype),
        };
        if values.count() != rows.checked_mul(columns) {
            return Err(NotInspected::Shape);
        }
        Ok(Self { name: String::from_utf8_lossy(&wire.name), rows, columns, values })
    }

    /// Writes the first `rows` rows to the columns from `first_column` on.
    fn write(&self, first_column: usize, rows: usize, out: &mut Features) -> Result<(), NotInspected> {
        let mut place = Place::new(first_column, self.columns, rows);
        let mut write = |cell: Cell, out: &mut Features| {
            place.write(cell, Span { start: 0, end: 0 }, out);
            !place.is_full()
        };
        match self.values {
            Values::Listed(listed, datatype) => write_listed(listed, datatype, &mut write, out),
            Values::Raw(bytes, datatype) => write_raw(bytes, datatype, &mut write, out),
        }
    }
}

/// Writes a cell and says whether there is room for another.
type Write<'w> = &'w mut dyn FnMut(Cell, &mut Features) -> bool;

fn write_listed(
    listed: &Contents,
    datatype: Datatype,
    write: Write<'_>,
    out: &mut Features,
) -> Result<(), NotInspected> {
    fn all<N: Copy>(list: &[N], number: impl Fn(N) -> f64, write: Write<'_>, out: &mut Features) {
        let _ = list.iter().all(|value| write(Cell::Number(number(*value)), out));
    }
    match datatype {
        Datatype::Bool => all(&listed.bools, |value| f64::from(u8::from(value)), write, out),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => all(&listed.ints, f64::from, write, out),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => {
            all(&listed.unsigned_ints, f64::from, write, out);
        }
        Datatype::Int64 => all(&listed.longs, |value| value as f64, write, out),
        Datatype::Uint64 => all(&listed.unsigned_longs, |value| value as f64, write, out),
        Datatype::Fp32 => all(&listed.floats, f64::from, write, out),
        Datatype::Fp64 => all(&listed.doubles, |value| value, write, out),
        Datatype::Bytes => {
            for text in &listed.texts {
                let cell = text_cell(text, out)?;
                if !write(cell, out) {
                    break;
                }
            }
        }
        // The protocol has no list for them.
        Datatype::Fp16 | Datatype::Bf16 => return Err(NotInspected::Datatype),
    }
    Ok(())
}

fn write_raw(
    bytes: &[u8],
    datatype: Datatype,
    write: Write<'_>,
    out: &mut Features,
) -> Result<(), NotInspected> {
    let Some(width) = datatype.width() else {
        for text in texts(bytes) {
            let cell = text_cell(text?, out)?;
            if !write(cell, out) {
                break;
            }
        }
        return Ok(());
    };
    for value in bytes.chunks_exact(width) {
        let number = datatype.number(value).ok_or(NotInspected::Datatype)?;
        if !write(Cell::Number(number), out) {
            break;
        }
    }
    Ok(())
}

impl Values<'_> {
    /// How many there are; `None` where the bytes are no whole number of values.
    fn count(&self) -> Option<usize> {
        match *self {
            Self::Listed(listed, datatype) => Some(match datatype {
                Datatype::Bool => listed.bools.len(),
                Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => listed.ints.len(),
                Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => listed.unsigned_ints.len(),
                Datatype::Int64 => listed.longs.len(),
                Datatype::Uint64 => listed.unsigned_longs.len(),
                Datatype::Fp32 => listed.floats.len(),
                Datatype::Fp64 => listed.doubles.len(),
                Datatype::Bytes => listed.texts.len(),
                Datatype::Fp16 | Datatype::Bf16 => return None,
            }),
            Self::Raw(bytes, datatype) => match datatype.width() {
                Some(width) => (bytes.len() % width == 0).then_some(bytes.len() / width),
                None => texts(bytes).try_fold(0, |count: usize, text| text.ok().map(|_| count + 1)),
            },
        }
    }
}

/// Texts in memory: each behind its length in four bytes, little-endian.
fn texts(mut bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], NotInspected>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let text = bytes.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let Some((text, rest)) = text else {
            bytes = &[];
            return Some(Err(NotInspected::Shape));
        };
        bytes = rest;
        Some(Ok(text))
    })
}

fn text_cell(text: &[u8], out: &mut Features) -> Result<Cell, NotInspected> {
    let place = |length: usize| u32::try_from(length).map_err(|_| NotInspected::TooLarge);
    let start = place(out.text.len())?;
    out.text.push_str(&String::from_utf8_lossy(text));
    Ok(Cell::Text(start, place(out.text.len())?))
}

/// Rows and columns of a shape.
fn dimensions(shape: &[i64]) -> Result<(usize, usize), NotInspected> {
    let mut dimensions = shape.iter().map(|size| usize::try_from(*size).map_err(|_| NotInspected::Shape));
    let rows = dimensions.next().unwrap_or(Ok(1))?;
    let columns = dimensions
        .try_fold(1_usize, |product, size| product.checked_mul(size?).ok_or(NotInspected::Shape))?;
    Ok((rows, columns))
}

#[cfg(test)]
mod tests;
