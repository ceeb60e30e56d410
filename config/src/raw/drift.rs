//! How drift is watched, as typed: a switch, or a mapping whose keys are the part's own but for the reference.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// What may be written.
const WANTED: &str = "on, off or a mapping of parameters";

/// How drift is watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawDrift {
    /// Whether it is watched, where that was said by a word.
    pub on: Option<bool>,
    /// The file of a reference of drift.
    pub reference: Option<PathBuf>,
    /// The file of the public key that must have signed it.
    pub reference_key: Option<PathBuf>,
    /// Versions of the model that are watched apart.
    pub versions: Option<BTreeMap<String, RawDriftVersion>>,
    /// The part's own parameters.
    pub parameters: Map<String, Value>,
}

/// How drift is watched: whether the traffic of a model, or its predictions, differ from what they were.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct RawDriftSettings {
    /// What normal looks like for this model: a file that `checkgate reference build` made. Without it, a provisional
    /// reference is learned from the first rows. It belongs to a model, not to the top level.
    reference: Option<PathBuf>,
    /// Public key (Ed25519, PEM) that references must be signed with, as `checkgate reference build --sign-with` does it.
    /// Without it, a signature is not asked for.
    reference_key: Option<PathBuf>,
    /// Versions of this model that are watched apart, each with a reference of its own; at most 8. A version is what the
    /// Open Inference Protocol calls one: in the path, or else in the answer (`model_version`). Rows of other versions
    /// count as the model's. Versions belong to a model, not to the top level.
    versions: Option<BTreeMap<String, RawDriftVersion>>,
}

/// A version of a model that is watched apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawDriftVersion {
    /// What normal looks like for this version, as `checkgate reference build --model-version` makes it of a recording. Without
    /// it, a provisional reference is learned from the first rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<PathBuf>,
}

impl<'de> Deserialize<'de> for RawDrift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawDrift;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(WANTED)
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<RawDrift, E> {
                Ok(RawDrift { on: Some(on), ..RawDrift::default() })
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<RawDrift, E> {
                match word {
                    "on" => self.visit_bool(true),
                    "off" => self.visit_bool(false),
                    _ => Err(E::custom(format_args!("expected {WANTED}, found \"{word}\""))),
                }
            }
            fn visit_unit<E: Error>(self) -> Result<RawDrift, E> {
                Ok(RawDrift::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawDrift, A::Error> {
                let mut drift = RawDrift { on: Some(true), ..RawDrift::default() };
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "reference" => drift.reference = map.next_value()?,
                        "reference_key" => drift.reference_key = map.next_value()?,
                        "versions" => drift.versions = map.next_value()?,
                        _ => drop(drift.parameters.insert(key, map.next_value()?)),
                    }
                }
                Ok(drift)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl Serialize for RawDrift {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { reference, reference_key, versions, parameters, .. } = self;
        if reference.is_none() && reference_key.is_none() && versions.is_none() && parameters.is_empty() {
            return self.on.serialize(serializer);
        }
        let mut all = self.parameters.clone();
        for (key, file) in [("reference", reference), ("reference_key", reference_key)] {
            let file = file.as_ref().and_then(|file| serde_json::to_value(file).ok());
            all.extend(file.map(|file| (key.to_owned(), file)));
        }
        let versions = versions.as_ref().and_then(|versions| serde_json::to_value(versions).ok());
        all.extend(versions.map(|versions| ("versions".to_owned(), versions)));
        all.serialize(serializer)
    }
}

impl JsonSchema for RawDrift {
    fn schema_name() -> Cow<'static, str> {
        "RawDrift".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mapping = generator.subschema_for::<RawDriftSettings>();
        json_schema!({"oneOf": [{"enum": ["on", "off", true, false]}, mapping]})
    }
}
