//! Quantities that carry their unit: `64KiB`, `15m`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Units of bytes, with the bytes of one.
const BYTE_UNITS: &[(&str, f64)] = &[
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
];

/// Units of time, with the seconds of one.
const TIME_UNITS: &[(&str, f64)] = &[("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];

const BYTES_WANTED: &str = "a number of bytes such as 65536, 64KiB or 1MiB";
const PERIOD_WANTED: &str = "a time with its unit, such as 500ms, 10s, 15m or 2h";

/// A number of bytes: an integer, or a number with its unit such as `64KiB` or `1.5GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A stretch of time: a number with its unit such as `500ms`, `10s`, `15m`, `2h` or `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// The size of a typed value in its base unit (bytes, seconds, or the number itself).
pub(crate) fn quantity(typed: &Value) -> Option<f64> {
    match typed {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => with_unit(text, BYTE_UNITS).or_else(|| with_unit(text, TIME_UNITS)),
        _ => None,
    }
}

/// Reads a plain decimal number followed by one of `units`; no sign, no exponent.
fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let end_of_number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end_of_number)?;
    let size = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    let number: f64 = number.parse().ok()?;
    let product = number * size;
    product.is_finite().then_some(product)
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(BYTES_WANTED)
            }
            fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                let bytes = with_unit(text, BYTE_UNITS)
                    .or_else(|| Some(text.parse::<u32>().ok()?.into()))
                    .ok_or_else(|| E::custom(format_args!("expected {BYTES_WANTED}, found \"{text}\"")))?;
                let whole = bytes.round() as u64;
                Ok(ByteSize(whole))
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Time;
        impl Visitor<'_> for Time {
            type Value = Period;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PERIOD_WANTED)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Period, E> {
                with_unit(text, TIME_UNITS)
                    .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                    .map(Period)
                    .ok_or_else(|| E::custom(format_args!("expected {PERIOD_WANTED}, found \"{text}\"")))
            }
        }
        deserializer.deserialize_any(Time)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}s", self.0.as_secs_f64()))
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": BYTES_WANTED,
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": r"^[0-9]+(\.[0-9]+)? *(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?$",
        })
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": PERIOD_WANTED,
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)? *(ms|s|m|h|d)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn sizes_are_read_with_and_without_unit() {
        for (typed, bytes) in [
            (json!(65536), 65536),
            (json!("64KiB"), 65536),
            (json!("1.5 kB"), 1500),
            (json!("1GiB"), 1 << 30),
            (json!("7"), 7),
        ] {
            assert_eq!(from_value::<ByteSize>(typed.clone()).unwrap(), ByteSize(bytes), "{typed}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit_only() {
        for (typed, milliseconds) in [("500ms", 500), ("10s", 10_000), ("1.5m", 90_000), ("2h", 7_200_000)] {
            let period: Period = from_value(json!(typed)).unwrap();
            assert_eq!(period.0, Duration::from_millis(milliseconds), "{typed}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for typed in [
            json!("10"),
            json!(10),
            json!("-1s"),
            json!("1e9s"),
            json!("s"),
            json!("1 hour"),
            json!("9999999999999999999999d"),
        ] {
            assert!(from_value::<Period>(typed.clone()).is_err(), "{typed}");
        }
        for typed in [json!(-1), json!("64Kib"), json!(""), json!("KiB"), json!("1e3"), json!(1.5)] {
            assert!(from_value::<ByteSize>(typed.clone()).is_err(), "{typed}");
        }
    }

    #[test]
    fn quantities_survive_being_written_and_read() {
        let period = Period(Duration::from_millis(1500));
        assert_eq!(from_value::<Period>(json!(period)).unwrap(), period);
        assert_eq!(quantity(&json!("1KiB")), Some(1024.0));
        assert_eq!(quantity(&json!("1m")), Some(60.0));
    }
}
