//! How long decisions last, as typed: one time, or one for each offence.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::units::Period;

/// Most rungs of a ladder.
pub const RUNGS_MAX: usize = 16;

/// The times, first offence first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RawLadder(pub Vec<Period>);

impl<'de> Deserialize<'de> for RawLadder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawLadder;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time with its unit, such as 15m, or a list of times, such as [15m, 2h, 24h]")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawLadder, E> {
                Period::deserialize(text.into_deserializer()).map(|period| RawLadder(vec![period]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, rungs: A) -> Result<RawLadder, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(rungs)).map(RawLadder)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for RawLadder {
    fn schema_name() -> Cow<'static, str> {
        "RawLadder".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let period = generator.subschema_for::<Period>();
        let list = json_schema!({"type": "array", "items": period, "minItems": 1, "maxItems": RUNGS_MAX});
        json_schema!({"oneOf": [period, list]})
    }
}
