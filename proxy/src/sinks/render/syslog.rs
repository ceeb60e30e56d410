//! The head of a syslog message (RFC 5424) with the event as structured data, in front of any body.
//!
//! In values of structured data `"`, `\` and `]` are escaped; what steers is replaced. No byte order mark stands before
//! a body: readers of CEF and JSON take it for a part of that.

use checkgate_detectors::severity::Severity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bodies, cut, replaced, rfc3339};
use crate::sinks::event::Event;
use crate::sinks::render::{cef, leef};

/// The name of the structured data: 32473 is the number that RFC 5612 keeps for whoever has none.
const STRUCTURED: &str = "checkgate@32473";
/// Bytes of a value of structured data.
const VALUE_BYTES: usize = 255;

/// What a message is about, in the words of syslog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Facility {
    /// 0, `kern`.
    Kern,
    /// 1, `user`.
    User,
    /// 3, `daemon`.
    Daemon,
    /// 4, `auth`.
    Auth,
    /// 10, `authpriv`.
    Authpriv,
    /// 16, `local0`.
    #[default]
    Local0,
    /// 17, `local1`.
    Local1,
    /// 18, `local2`.
    Local2,
    /// 19, `local3`.
    Local3,
    /// 20, `local4`.
    Local4,
    /// 21, `local5`.
    Local5,
    /// 22, `local6`.
    Local6,
    /// 23, `local7`.
    Local7,
}

impl Facility {
    fn number(self) -> u8 {
        match self {
            Self::Kern => 0,
            Self::User => 1,
            Self::Daemon => 3,
            Self::Auth => 4,
            Self::Authpriv => 10,
            Self::Local0 => 16,
            Self::Local1 => 17,
            Self::Local2 => 18,
            Self::Local3 => 19,
            Self::Local4 => 20,
            Self::Local5 => 21,
            Self::Local6 => 22,
            Self::Local7 => 23,
        }
    }
}

/// The form of a message's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Common Event Format.
    #[default]
    Cef,
    /// Log Event Extended Format 2.0.
    Leef,
    /// JSON, as `GET /v1/events` shows it.
    Json,
    /// OCSF 1.8.0.
    Ocsf,
}

/// What stands in front of every message.
#[derive(Clone, Debug)]
pub struct Head {
    /// The facility.
    pub facility: Facility,
    /// Host, 1 to 255 visible ASCII characters, or `-`.
    pub host: String,
    /// Program, 1 to 48 visible ASCII characters.
    pub app: String,
}

/// An event as one message of at most `bytes_max` bytes, without framing. Where JSON would be longer, the record is left
/// out; where that is not enough, the end of the body is.
#[must_use]
pub fn message(head: &Head, format: Format, event: &Event, bytes_max: usize) -> String {
    let priority = u32::from(head.facility.number()) * 8 + severity(event.severity);
    let start = format!(
        "<{priority}>1 {} {} {} - {} {} ",
        rfc3339(event.time),
        head.host,
        head.app,
        event.kind.as_str(),
        structured(event),
    );
    let body = match format {
        Format::Cef => cef::line(event),
        Format::Leef => leef::line(event),
        Format::Json => json(bodies::Format::Json, event, bytes_max.saturating_sub(start.len())),
        Format::Ocsf => json(bodies::Format::Ocsf, event, bytes_max.saturating_sub(start.len())),
    };
    let room = bytes_max.saturating_sub(start.len());
    format!("{start}{}", cut(&body, room))
}

/// The event as JSON, in short where it would be longer than `bytes_max`.
fn json(format: bodies::Format, event: &Event, bytes_max: usize) -> String {
    bodies::item(event, format, bytes_max, |said| said)
}

/// Low is a notice, medium a warning, high is critical.
fn severity(severity: Severity) -> u32 {
    match severity {
        Severity::Low => 5,
        Severity::Medium => 4,
        Severity::High => 2,
    }
}

fn structured(event: &Event) -> String {
    let mut data = format!("[{STRUCTURED}");
    let decision = event.decision.map(|id| id.to_string());
    for (name, value) in [
        ("id", Some(&*event.id)),
        ("kind", Some(event.kind.as_str())),
        ("severity", Some(event.severity.as_str())),
        ("client", event.client.as_deref()),
        ("model", event.model.as_deref()),
        ("tenant", event.tenant.as_deref()),
        ("detector", event.detector.as_deref()),
        ("action", event.action.map(|action| action.as_str())),
        ("decision", decision.as_deref()),
    ] {
        if let Some(value) = value {
            data.push_str(&format!(" {name}=\"{}\"", escaped(value)));
        }
    }
    data + "]"
}

fn escaped(text: &str) -> String {
    let plain = replaced(cut(text, VALUE_BYTES));
    let mut escaped = String::with_capacity(plain.len());
    for letter in plain.chars() {
        if matches!(letter, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::sinks::render::is_risky;
    use crate::sinks::tests::{HOSTILE, events};

    fn head() -> Head {
        Head { facility: Facility::Local0, host: "gate-1".into(), app: "checkgate".into() }
    }

    /// Reads a message as RFC 5424 has it; gives its fields, its structured data and its body.
    fn read(message: &str) -> (Vec<String>, BTreeMap<String, String>, String) {
        let (fields, rest) = message.split_at(message.match_indices(' ').nth(5).unwrap().0);
        let mut letters = rest.trim_start().chars();
        let mut read = String::new();
        assert_eq!(letters.next(), Some('['));
        let (mut quoted, mut values, mut value) = (false, Vec::new(), String::new());
        while let Some(letter) = letters.next() {
            match (quoted, letter) {
                (false, ']') => break,
                (false, '"') => quoted = true,
                (false, letter) => read.push(letter),
                (true, '\\') => value.push(letters.next().unwrap()),
                (true, '"') => {
                    values.push(std::mem::take(&mut value));
                    quoted = false;
                }
                (true, letter) => value.push(letter),
            }
        }
        let names: Vec<_> = read.split([' ', '=']).filter(|name| !name.is_empty()).skip(1).collect();
        assert_eq!(names.len(), values.len(), "{message:?}");
        let data = names.into_iter().map(str::to_owned).zip(values).collect();
        let body: String = letters.collect();
        (fields.split(' ').map(str::to_owned).collect(), data, body.strip_prefix(' ').unwrap().to_owned())
    }

    fn comes_back(text: &str) {
        for event in events(text) {
            for format in [Format::Cef, Format::Leef, Format::Json, Format::Ocsf] {
                let message = message(&head(), format, &event, 8192);
                assert!(message.len() <= 8192, "{} bytes", message.len());
                assert!(!message.contains(|c: char| is_risky(c) && c != '\t'), "{message:?}");
                let (fields, data, body) = read(&message);
                assert_eq!(fields[2..], ["gate-1", "checkgate", "-", event.kind.as_str()]);
                assert_eq!(data["id"], *event.id);
                let expected = event.model.as_deref().map(|model| replaced(cut(model, VALUE_BYTES)));
                assert_eq!(data.get("model"), expected.as_ref(), "{:?}", event.kind);
                match format {
                    Format::Cef => assert!(body.starts_with("CEF:0|"), "{body}"),
                    Format::Leef => assert!(body.starts_with("LEEF:2.0|"), "{body}"),
                    Format::Ocsf => {
                        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
                        assert_eq!(read["metadata"]["uid"], *event.id);
                    }
                    Format::Json => {
                        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
                        assert_eq!(read["event_id"], *event.id);
                    }
                }
            }
        }
    }

    #[test]
    fn priorities_are_facility_and_severity() {
        let event = &events("x")[0];
        assert_eq!(event.severity, Severity::High);
        assert!(
            message(&head(), Format::Cef, event, 8192).starts_with("<130>1 2023-11-14T22:13:20.000000Z ")
        );
        let low = Event { severity: Severity::Low, ..event.clone() };
        let daemon = Head { facility: Facility::Daemon, ..head() };
        assert!(message(&daemon, Format::Cef, &low, 8192).starts_with("<29>1 "));
    }

    #[test]
    fn hostile_texts_stay_in_their_place() {
        HOSTILE.iter().for_each(|text| comes_back(text));
        comes_back(&"x=|\\\n\"]".repeat(10_000));
    }

    proptest! {
        #[test]
        fn any_text_stays_in_its_place(text in "\\PC{0,40}|[\\x00-\\x1f =|\\\\\\n\"\\]]{0,40}") {
            comes_back(&text);
        }
    }
}
