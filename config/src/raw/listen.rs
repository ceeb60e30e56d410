//! Where requests come in, and with which certificates.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::settings::ClientCertificate;

/// One listener or several, as typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RawListen {
    /// `IP:PORT` or `unix:PATH`.
    One(String),
    /// A list of these.
    Several(Vec<String>),
}

impl From<&str> for RawListen {
    fn from(typed: &str) -> Self {
        Self::One(typed.to_owned())
    }
}

impl<'de> Deserialize<'de> for RawListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawListen;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("IP:PORT, unix:PATH or a list of these")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawListen, E> {
                Ok(RawListen::One(text.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawListen, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(RawListen::Several)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for RawListen {
    fn schema_name() -> Cow<'static, str> {
        "RawListen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = json_schema!({"type": "string", "pattern": "^(unix:.+|.+:[0-9]+)$"});
        json_schema!({"oneOf": [one, {"type": "array", "items": one, "minItems": 1}]})
    }
}

/// TLS 1.2 and 1.3 on every TCP listener for requests. Changed files are read again without a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawTls {
    /// File (PEM) with the certificate chain, leaf first. This and `key` are the short form for one certificate.
    pub certificate: Option<PathBuf>,
    /// File (PEM) with the private key of `certificate`.
    pub key: Option<PathBuf>,
    /// Several certificates: the name that a client asks for (SNI) chooses, the first stands in where none fits.
    pub certificates: Option<Vec<RawCertificate>>,
    /// File (PEM) with the authorities whose certificates clients show (mutual TLS). Without it, clients are asked for
    /// none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may come without a certificate: `required` or `optional`. It needs `client_ca`.
    pub client_certificate: Option<ClientCertificate>,
}

/// A certificate chain and its private key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["certificate", "key"]))]
pub struct RawCertificate {
    /// File (PEM) with the chain, leaf first. Required.
    pub certificate: Option<PathBuf>,
    /// File (PEM) with the leaf's private key. Required.
    pub key: Option<PathBuf>,
}
