//! IBM's Log Event Extended Format, version 2.0: `LEEF:2.0|vendor|product|version|event|delimiter|key=value...`, here with
//! a tab (`x09`) between pairs.
//!
//! The format knows no escapes: tabs, ends of lines and all else that steers stand as `\uXXXX` in values
//! ([`told::clean`](crate::told::clean)), and so do bars in the head. An empty value is left out.

use std::net::IpAddr;

use checkgate_detectors::severity::Severity;

use super::{fitting, rfc3339, signature, title, written};
use crate::sinks::event::{Event, mode_word};

/// An event as one line of LEEF, without its end. Where it would be longer than `bytes_max`, its values are shorter.
#[must_use]
pub fn line(event: &Event, bytes_max: usize) -> String {
    fitting(bytes_max, |value_bytes| line_of(event, value_bytes))
}

fn line_of(event: &Event, value_bytes: usize) -> String {
    let signature = written(&signature(event), in_head, value_bytes);
    let head = format!("LEEF:2.0|checkgate|checkgate|{}|{signature}|x09|", env!("CARGO_PKG_VERSION"));
    let pairs: Vec<String> = fields(event)
        .into_iter()
        .filter_map(|(key, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some(format!("{key}={}", written(&value, |_| None, value_bytes)))
        })
        .collect();
    head + &pairs.join("\t")
}

fn in_head(letter: char) -> Option<&'static str> {
    (letter == '|').then_some("\\u007c")
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
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::sinks::render::VALUE_BYTES;
    use crate::sinks::tests::{HOSTILE, events};
    use crate::told::clean::steers;
    use crate::told::clean::tests::read_back;

    /// Reads a line: six bars, then pairs with a tab between.
    pub(crate) fn read(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
        let mut head: Vec<_> = line.splitn(7, '|').map(str::to_owned).collect();
        let pairs = head.pop().unwrap();
        let count = pairs.split('\t').count();
        let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        let pairs: BTreeMap<_, _> =
            pairs.split('\t').map(|text| pair(text).expect("a key and a value")).collect();
        assert_eq!(pairs.len(), count, "a key stands twice: {line:?}");
        (head, pairs)
    }

    fn comes_back(text: &str) {
        for event in events(text) {
            let line = line(&event, usize::MAX);
            assert!(!line.contains(|c: char| steers(c) && c != '\t'), "{line:?}");
            let (head, pairs) = read(&line);
            assert_eq!((&*head[0], &*head[5]), ("LEEF:2.0", "x09"), "{line:?}");
            assert_eq!(pairs["externalId"], &*event.id);
            assert_eq!(pairs["cat"], event.kind.as_str());
            let got = pairs.get("msg").map(|got| read_back(got)).unwrap_or_default();
            let whole = event.explanation.len() < VALUE_BYTES / 12;
            let holds = if whole { got == *event.explanation } else { event.explanation.starts_with(&got) };
            assert!(holds, "{got:?} is not {:?}", event.explanation);
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
