//! The messages of `inference.GRPCInferenceService`, as far as they are needed. Numbers and types are those of the Open
//! Inference Protocol's `grpc_predict_v2.proto`; what is not named here is skipped when it is read. Texts are read as
//! bytes, since one that is not UTF-8 would make the whole message unreadable.

use bytes::Bytes;
use prost::Message;

/// `ModelInferRequest`, and under other numbers `ModelInferResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct InferRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub model_name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub model_version: Bytes,
    #[prost(message, repeated, tag = "5")]
    pub inputs: Vec<WireTensor>,
    /// The tensors' values as they lie in memory, little-endian, one to a tensor.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub raw: Vec<Bytes>,
}

/// `ModelInferResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct InferResponse {
    #[prost(bytes = "bytes", tag = "2")]
    pub model_version: Bytes,
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<WireTensor>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub raw: Vec<Bytes>,
}

/// `InferInputTensor` and `InferOutputTensor`, which are alike.
#[derive(Clone, PartialEq, Message)]
pub struct WireTensor {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub datatype: Bytes,
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    pub contents: Option<Contents>,
}

/// `InferTensorContents`: one list for each kind of value.
#[derive(Clone, PartialEq, Message)]
pub struct Contents {
    #[prost(bool, repeated, tag = "1")]
    pub bools: Vec<bool>,
    #[prost(int32, repeated, tag = "2")]
    pub ints: Vec<i32>,
    #[prost(int64, repeated, tag = "3")]
    pub longs: Vec<i64>,
    #[prost(uint32, repeated, tag = "4")]
    pub unsigned_ints: Vec<u32>,
    #[prost(uint64, repeated, tag = "5")]
    pub unsigned_longs: Vec<u64>,
    #[prost(float, repeated, tag = "6")]
    pub floats: Vec<f32>,
    #[prost(double, repeated, tag = "7")]
    pub doubles: Vec<f64>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub texts: Vec<Bytes>,
}
