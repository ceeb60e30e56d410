//! IBM's Log Event Extended Format, version 2.0: `LEEF:2.0|vendor|product|version|event|delimiter|key=value...`, here with
//! a tab (`x09`) between pairs.
//!
//! The format knows no escapes: tabs and ends of lines in values become blanks, bars in the head become dashes.

use std::net::IpAddr;

use checkgate_detectors::severity::Severity;

use super::{cut, replaced, rfc3339, signature, title};
use crate::sinks::event::{Event, mode_word};

/// Bytes of a value.
const VALUE_BYTES: usize = 1023;

/// An event as one line of LEEF, without its end.
#[must_use]
pub fn line(event: &Event) -> String {
    let signature = replaced(&signature(event).replace('|', "-"));
    let head = format!("LEEF:2.0|checkgate|checkgate|{}|{signature}|x09|", env!("CARGO_PKG_VERSION"));
    let pairs: Vec<String> = fields(event)
        .into_iter()
        .filter_map(|(key, value)| {
            Some(format!("{key}={}", plain(&value.filter(|value| !value.is_empty())?)))
        })
        .collect();
    head + &pairs.join("\t")
}

fn plain(text: &str) -> String {
    replaced(&cut(text, VALUE_BYTES).replace(['\t', '\r', '\n'], " "))
}

/// Of LEEF's 1 to 10.
fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "3",
        Severity::Medium => "6",
        Severity::High => "9",
    }
}

fn fields(event: &Event) -> Vec<(&'static str, Option<String>)> {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    let address = event.client.as_deref().filter(|client| client.parse::<IpAddr>().is_ok());
    vec![
        ("devTime", Some(rfc3339(event.time))),
        ("devTimeFormat", Some("yyyy-MM-dd'T'HH:mm:ss.SSSSSSX".to_owned())),
        ("sev", Some(severity(event.severity).to_owned())),
        ("cat", Some(event.kind.as_str().to_owned())),
        ("src", address.map(str::to_owned)),
        ("identClient", text(&event.client)),
        ("usrName", Some(event.who.to_string())),
        ("externalId", Some(event.id.to_string())),
        ("entry", Some(event.number.to_string())),
        ("name", Some(title(event))),
        ("model", text(&event.model)),
        ("tenant", text(&event.tenant)),
        ("detector", text(&event.detector)),
        ("action", event.action.map(|action| action.as_str().to_owned())),
        ("status", event.status.map(|status| status.as_str().to_owned())),
        ("until", event.until.map(rfc3339)),
        ("mode", event.mode.map(mode_word).map(str::to_owned)),
        ("decision", event.decision.map(|id| id.to_string())),
        ("atlas", text(&event.atlas)),
        ("reason", Some(event.why.to_string())),
        ("msg", Some(event.explanation.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::sinks::render::is_risky;
    use crate::sinks::tests::{HOSTILE, events};

    fn comes_back(text: &str) {
        for event in events(text) {
            let line = line(&event);
            assert!(!line.contains(|c: char| is_risky(c) && c != '\t'), "{line:?}");
            let parts: Vec<_> = line.splitn(7, '|').collect();
            assert_eq!((parts[0], parts[5]), ("LEEF:2.0", "x09"), "{line:?}");
            let pairs: BTreeMap<_, _> =
                parts[6].split('\t').map(|pair| pair.split_once('=').expect("a key and a value")).collect();
            assert_eq!(pairs.len(), parts[6].split('\t').count(), "a key stands twice: {line:?}");
            assert_eq!(pairs["externalId"], &*event.id);
            assert_eq!(pairs["cat"], event.kind.as_str());
            assert_eq!(pairs.get("msg").copied().unwrap_or_default(), plain(&event.explanation));
        }
    }

    #[test]
    fn hostile_texts_stay_in_their_place() {
        HOSTILE.iter().for_each(|text| comes_back(text));
        comes_back(&"x=|\\\n\t".repeat(10_000));
    }

    proptest! {
        #[test]
        fn any_text_stays_in_its_place(text in "\\PC{0,40}|[\\x00-\\x1f =|\\\\\\n\\t]{0,40}") {
            comes_back(&text);
        }
    }
}
