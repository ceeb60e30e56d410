//! The Open Inference Protocol, version 2, over REST with JSON bodies.
//!
//! A question gives `inputs`, an answer `outputs`: tensors of name, datatype, shape and data, the data nested or
//! flat in row-major order. The first dimension is the batch, as the protocol has it: a tensor of shape `[n, m]`
//! is `n` rows of `m` columns, one of shape `[n]` is `n` rows of one column, one of shape `[]` is a single value.
//! So a question of tensors that all have shape `[1]` is one row with a column for each. Tensors are joined side
//! by side; where their first dimensions differ there is no row to speak of and the body is refused.
//!
//! The binary tensor extension (a header gives the length of the JSON part) is refused as a datatype, and so is a
//! tensor without `data`, which lies in binary parts or shared memory.

use checkgate_detectors::facts::{Features, NotInspected};
use http::HeaderName;
use serde_json::Value as Parameters;

use super::json::{Kind, Value};
use super::table::Limits;
use super::tensor::{self, Tensor};
use super::{Claim, Decoder, DecoderSpec, Head, ParameterError, Part, read, segment_is, without_parameters};

/// Length of the JSON part of a body with binary tensors.
pub const BINARY_HEADER: &str = "inference-header-content-length";

/// Where an answer says which version of the model gave it.
const VERSION: &str = "model_version";

/// The same as a name that is ready for look-ups.
static BINARY: HeaderName = HeaderName::from_static(BINARY_HEADER);

/// The entry in the list of decoders.
pub const SPEC: DecoderSpec = DecoderSpec {
    name: "oip_v2",
    summary: "Open Inference Protocol v2 (KServe, Triton, MLServer): POST /v2/models/{model}/infer, JSON tensors",
    schema: without_parameters::schema,
    defaults: without_parameters::defaults,
    claim,
    build,
};

struct OipV2;

fn build(parameters: &Parameters) -> Result<Box<dyn Decoder>, ParameterError> {
    without_parameters::check(parameters)?;
    Ok(Box::new(OipV2))
}

/// The version that the path of a question names.
pub fn version_in(path: &str) -> Option<&str> {
    let mut segments = path.strip_prefix('/')?.split('/').skip(3);
    let versions = segments.next().filter(|segment| segment_is(segment, "versions"));
    versions.and_then(|_| segments.next())
}

fn claim<'a>(method: &http::Method, path: &'a str) -> Option<Claim<'a>> {
    if method != http::Method::POST {
        return None;
    }
    let mut segments = path.strip_prefix('/')?.split('/');
    let mut next = || segments.next();
    if !segment_is(next()?, "v2") || !segment_is(next()?, "models") {
        return None;
    }
    let model = next()?;
    let infers = match [next(), next(), next(), next()] {
        [Some(infer), None, None, None] => segment_is(infer, "infer"),
        [Some(versions), Some(_), Some(infer), None] => {
            segment_is(versions, "versions") && segment_is(infer, "infer")
        }
        _ => false,
    };
    (infers && !model.is_empty()).then_some(Claim { model: Some(model) })
}

impl Decoder for OipV2 {
    fn decode(&self, head: &Head<'_>, body: &[u8], out: &mut Features) -> Result<(), NotInspected> {
        if head.headers.contains_key(&BINARY) {
            return Err(NotInspected::Datatype);
        }
        read(head, body, |root, limits| write_tensors(root, head.part, limits, out))
    }
}

fn write_tensors(
    root: Value<'_>,
    part: Part,
    limits: Limits,
    out: &mut Features,
) -> Result<(), NotInspected> {
    let key = match part {
        Part::Question => "inputs",
        Part::Answer => "outputs",
    };
    let [list, version] = root.fields([key, VERSION])?;
    // Of a question, it stands in the path.
    if let (Part::Answer, Some(version)) = (part, version.and_then(Value::text)) {
        out.version.push_str(&version);
    }
    let list = list.filter(|list| list.kind() == Kind::Array).ok_or(NotInspected::Shape)?;
    tensor::join(list.elements().map(tensor), limits, out)
}

fn tensor(value: Value<'_>) -> Result<Tensor<'_>, NotInspected> {
    let [name, shape, datatype, data] = value.fields(["name", "shape", "datatype", "data"])?;
    let name = name.and_then(Value::text).ok_or(NotInspected::Shape)?;
    let numeric = datatype.and_then(Value::text).and_then(|name| is_numeric(&name));
    let (rows, columns) = dimensions(shape.ok_or(NotInspected::Shape)?)?;
    let numeric = numeric.ok_or(NotInspected::Datatype)?;
    let data = data.ok_or(NotInspected::Datatype)?;
    if data.kind() != Kind::Array || Some(tensor::leaf_count(data)?) != rows.checked_mul(columns) {
        return Err(NotInspected::Shape);
    }
    Ok(Tensor { name, rows, columns, data, numeric })
}

/// Whether values of a datatype are numbers; `None` for a type that is not of the protocol.
fn is_numeric(datatype: &str) -> Option<bool> {
    match datatype {
        "BOOL" | "UINT8" | "UINT16" | "UINT32" | "UINT64" | "INT8" | "INT16" | "INT32" | "INT64" | "FP16"
        | "FP32" | "FP64" | "BF16" => Some(true),
        "BYTES" => Some(false),
        _ => None,
    }
}

/// Rows and columns of a shape.
fn dimensions(shape: Value<'_>) -> Result<(usize, usize), NotInspected> {
    if shape.kind() != Kind::Array {
        return Err(NotInspected::Shape);
    }
    let mut dimensions = shape.elements().map(dimension);
    let rows = dimensions.next().unwrap_or(Ok(1))?;
    let columns = dimensions
        .try_fold(1_usize, |product, dimension| product.checked_mul(dimension?).ok_or(NotInspected::Shape))?;
    Ok((rows, columns))
}

fn dimension(value: Value<'_>) -> Result<usize, NotInspected> {
    if value.kind() != Kind::Number {
        return Err(NotInspected::Shape);
    }
    value.source().parse().map_err(|_| NotInspected::Shape)
}
