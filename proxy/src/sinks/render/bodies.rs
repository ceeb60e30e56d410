//! Bodies of requests that hold many events: each event as JSON, put together so that no body is larger than the other
//! side takes.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{json_text, ocsf};
use crate::sinks::{Bounds, Event};

/// What an event looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As `GET /v1/events` shows it.
    #[default]
    Json,
    /// OCSF 1.8.0.
    Ocsf,
}

impl Format {
    /// The event in this format.
    #[must_use]
    pub fn value(self, event: &Event) -> Value {
        match self {
            Self::Json => event.plain(),
            Self::Ocsf => ocsf::event(event, true),
        }
    }

    /// The same in at most 8 KiB, whatever the event holds.
    #[must_use]
    pub fn short(self, event: &Event) -> Value {
        match self {
            Self::Json => event.short(),
            Self::Ocsf => ocsf::event(event, false),
        }
    }
}

/// What stands around and between items.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    open: &'static str,
    between: &'static str,
    close: &'static str,
}

/// A JSON array.
pub const ARRAY: Around = Around { open: "[", between: ",", close: "]" };
/// One item a line.
pub const LINES: Around = Around { open: "", between: "\n", close: "\n" };
/// One object after the other, with nothing between.
pub const JOINED: Around = Around { open: "", between: "", close: "" };

/// Items put together into bodies that keep `bounds`, in their order. An item that is longer by itself makes a body of its
/// own.
#[must_use]
pub fn packed(items: impl IntoIterator<Item = String>, around: Around, bounds: Bounds) -> Vec<String> {
    let mut bodies: Vec<String> = Vec::new();
    let mut count = 0;
    for item in items {
        let grown = |body: &String| body.len() + around.between.len() + item.len() + around.close.len();
        match bodies.last_mut().filter(|body| count < bounds.events && grown(body) <= bounds.bytes) {
            Some(body) => {
                body.push_str(around.between);
                body.push_str(&item);
                count += 1;
            }
            None => {
                bodies.push(format!("{}{item}", around.open));
                count = 1;
            }
        }
    }
    bodies.iter_mut().for_each(|body| body.push_str(around.close));
    bodies
}

/// An event as one item: `form` makes it of the event, in full or, where that is longer than `bytes_max`, in short.
#[must_use]
pub fn item(event: &Event, format: Format, bytes_max: usize, form: impl Fn(Value) -> Value) -> String {
    let whole = json_text(&form(format.value(event)));
    if whole.len() <= bytes_max { whole } else { json_text(&form(format.short(event))) }
}

/// The body as it is sent, compressed where that is wanted, with the header that says so.
#[must_use]
pub fn encoded(body: String, compress: bool) -> (Option<(HeaderName, HeaderValue)>, Bytes) {
    // Writing to memory cannot fail; if it did, the body would go as it is.
    match compress.then(|| gzipped(body.as_bytes())) {
        Some(Ok(small)) => (Some((CONTENT_ENCODING, HeaderValue::from_static("gzip"))), small.into()),
        _ => (None, body.into()),
    }
}

/// The same with a sink's `own` headers beside the one that says so.
#[must_use]
pub fn encoded_with(
    own: &HeaderMap,
    body: String,
    compress: bool,
) -> (Vec<(HeaderName, HeaderValue)>, Bytes) {
    let (encoding, body) = encoded(body, compress);
    let own = own.iter().map(|(name, value)| (name.clone(), value.clone()));
    (own.chain(encoding).collect(), body)
}

fn gzipped(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        "[a-z]{0,30}".prop_map(|text| Value::from(text).to_string())
    }

    proptest! {
        #[test]
        fn every_item_stands_in_one_body_in_order_and_no_body_is_too_large(
            items in prop::collection::vec(text(), 0..60), events in 1_usize..10, bytes in 40_usize..200,
        ) {
            let bodies = packed(items.clone(), ARRAY, Bounds { events, bytes });
            let mut read = Vec::new();
            for body in &bodies {
                let values: Vec<Value> = serde_json::from_str(body).unwrap();
                prop_assert!((1..=events).contains(&values.len()));
                prop_assert!(body.len() <= bytes, "{} bytes", body.len());
                read.extend(values.iter().map(Value::to_string));
            }
            prop_assert_eq!(&read, &items);
            prop_assert_eq!(packed(items.clone(), JOINED, Bounds { events, bytes }).concat(), items.concat());
        }
    }

    #[test]
    fn an_item_that_is_too_long_stands_alone() {
        let items = ["1".repeat(5), "2".repeat(50), "3".repeat(5)];
        let bodies = packed(items, ARRAY, Bounds { events: 10, bytes: 20 });
        assert_eq!(bodies.iter().map(String::len).collect::<Vec<_>>(), [7, 52, 7]);
    }
}
