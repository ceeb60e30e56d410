//! The head of a syslog message (RFC 5424) with the event as structured data, in front of any body.
//!
//! In values of structured data `"`, `\` and `]` are escaped; of a value that was read so, what steers stands as `\uXXXX`
//! ([`told::clean`](crate::told::clean)). No byte order mark stands before
//! a body: readers of CEF and JSON take it for a part of that.

use checkgate_detectors::severity::Severity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bodies, cut, fitting, rfc3339, written};
use crate::sinks::event::Event;
use crate::sinks::render::{cef, leef};

/// The name of the structured data: 32473 is the number that RFC 5612 keeps for whoever has none.
const STRUCTURED: &str = "checkgate@32473";
/// Of a message, the share that structured data may take: the shortest body of any form fits beside it.
const STRUCTURED_SHARE: usize = 4;

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
/// out; where a line would be, its values are cut.
#[must_use]
pub fn message(head: &Head, format: Format, event: &Event, bytes_max: usize) -> String {
    let priority = u32::from(head.facility.number()) * 8 + severity(event.severity);
    let start = format!(
        "<{priority}>1 {} {} {} - {} {} ",
        rfc3339(event.time),
        head.host,
        head.app,
        event.kind.as_str(),
        fitting(bytes_max / STRUCTURED_SHARE, |value_bytes| structured(event, value_bytes)),
    );
    let room = bytes_max.saturating_sub(start.len());
    let body = match format {
        Format::Cef => cef::line(event, room),
        Format::Leef => leef::line(event, room),
        Format::Json => json(bodies::Format::Json, event, room),
        Format::Ocsf => json(bodies::Format::Ocsf, event, room),
    };
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

fn structured(event: &Event, value_bytes: usize) -> String {
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
            data.push_str(&format!(" {name}=\"{}\"", written(value, in_quotes, value_bytes)));
        }
    }
    data + "]"
}

fn in_quotes(letter: char) -> Option<&'static str> {
    match letter {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        ']' => Some("\\]"),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::sinks::tests::{HOSTILE, events};
    use crate::told::clean::steers;
    use crate::told::clean::tests::read_back;

    fn head() -> Head {
        Head { facility: Facility::Local0, host: "gate-1".into(), app: "checkgate".into() }
    }

    /// Reads a message as RFC 5424 has it; gives its fields, its structured data and its body.
    pub(crate) fn read(message: &str) -> (Vec<String>, BTreeMap<String, String>, String) {
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
                assert!(!message.contains(|c: char| steers(c) && c != '\t'), "{message:?}");
                let (fields, data, body) = read(&message);
                assert_eq!(fields[2..], ["gate-1", "checkgate", "-", event.kind.as_str()]);
                assert_eq!(data["id"], *event.id);
                let model = event.model.as_deref().unwrap_or_default();
                let got = data.get("model").map(|got| read_back(got)).unwrap_or_default();
                let whole = model.len() <= 80;
                assert!(if whole { got == model } else { model.starts_with(&got) }, "{got:?}");
                match format {
                    Format::Cef => assert_eq!(cef::tests::read(&body).1["externalId"], *event.id),
                    Format::Leef => assert_eq!(leef::tests::read(&body).1["externalId"], *event.id),
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
        comes_back(&"\u{1b}".repeat(10_000));
    }

    proptest! {
        #[test]
        fn any_text_stays_in_its_place(text in "\\PC{0,40}|[\\x00-\\x1f =|\\\\\\n\"\\]]{0,40}") {
            comes_back(&text);
        }
    }
}
