//! ArcSight's Common Event Format, version 0: `CEF:0|vendor|product|version|signature|name|severity|key=value ...`.
//!
//! A bar and a backslash are escaped in the head, an equals sign and a backslash in the extension, and an end of line
//! becomes `\n` or `\r` there. Of a value that was read so, other characters that steer stand as `\uXXXX`
//! ([`told::clean`](crate::told::clean)). An empty value is left out.

use std::net::IpAddr;

use checkgate_detectors::facts::Time;
use checkgate_detectors::severity::Severity;

use super::{fitting, signature, title, written};
use crate::sinks::event::{Event, mode_word};

/// An event as one line of CEF, without its end. Where it would be longer than `bytes_max`, its values are shorter.
#[must_use]
pub fn line(event: &Event, bytes_max: usize) -> String {
    fitting(bytes_max, |value_bytes| line_of(event, value_bytes))
}

fn line_of(event: &Event, value_bytes: usize) -> String {
    let head = ["checkgate", "checkgate", env!("CARGO_PKG_VERSION"), &signature(event), &title(event)];
    let mut line = "CEF:0".to_owned();
    for part in head {
        line.push('|');
        line.push_str(&written(part, in_head, value_bytes));
    }
    line.push_str(&format!("|{}|", severity(event.severity)));
    let pairs: Vec<String> = fields(event)
        .into_iter()
        .filter_map(|(key, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some(format!("{key}={}", written(&value, in_extension, value_bytes)))
        })
        .collect();
    line.push_str(&pairs.join(" "));
    line
}

/// Low is 3, medium 6, high 9: the middle bands of CEF's 0 to 10.
fn severity(severity: Severity) -> u8 {
    match severity {
        Severity::Low => 3,
        Severity::Medium => 6,
        Severity::High => 9,
    }
}

fn fields(event: &Event) -> Vec<(&'static str, Option<String>)> {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    let labelled = |key, label_key, label: &str, value: Option<String>| {
        let label = value.as_ref().map(|_| label.to_owned());
        [(label_key, label), (key, value)]
    };
    let address: Option<IpAddr> = event.client.as_deref().and_then(|client| client.parse().ok());
    let v4 = address.filter(IpAddr::is_ipv4).map(|address| address.to_string());
    let v6 = address.filter(IpAddr::is_ipv6).map(|address| address.to_string());
    let mut fields = vec![
        ("rt", Some(milliseconds(event.time))),
        ("externalId", Some(event.id.to_string())),
        ("cat", Some(event.kind.as_str().to_owned())),
        ("act", event.action.map(|action| action.as_str().to_owned())),
        ("outcome", event.status.map(|status| status.as_str().to_owned())),
        ("src", v4),
        ("suid", text(&event.client)),
        ("suser", Some(event.who.to_string())),
        ("reason", Some(event.why.to_string())),
        ("end", event.until.map(milliseconds)),
    ];
    fields.extend(labelled("c6a2", "c6a2Label", "Source IPv6 Address", v6));
    fields.extend(labelled("cs1", "cs1Label", "model", text(&event.model)));
    fields.extend(labelled("cs2", "cs2Label", "detector", text(&event.detector)));
    fields.extend(labelled("cs3", "cs3Label", "decision", event.decision.map(|id| id.to_string())));
    fields.extend(labelled("cs4", "cs4Label", "ATLAS technique", text(&event.atlas)));
    fields.extend(labelled("cs5", "cs5Label", "tenant", text(&event.tenant)));
    fields.extend(labelled("cs6", "cs6Label", "mode", event.mode.map(mode_word).map(str::to_owned)));
    fields.extend(labelled("cn1", "cn1Label", "entry", Some(event.number.to_string())));
    fields.push(("msg", Some(event.explanation.to_string())));
    fields
}

fn milliseconds(time: Time) -> String {
    (time.0 / 1000).to_string()
}

fn in_head(letter: char) -> Option<&'static str> {
    match letter {
        '\\' => Some("\\\\"),
        '|' => Some("\\|"),
        _ => None,
    }
}

fn in_extension(letter: char) -> Option<&'static str> {
    match letter {
        '\\' => Some("\\\\"),
        '=' => Some("\\="),
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::sinks::render::VALUE_BYTES;
    use crate::sinks::tests::{HOSTILE, events};
    use crate::told::clean::steers;
    use crate::told::clean::tests::read_back;

    /// Reads a line as a strict receiver does: seven bars, then pairs whose keys follow a blank.
    pub(crate) fn read(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
        let (mut head, mut part, mut letters) = (Vec::new(), String::new(), line.chars());
        while head.len() < 7 {
            match letters.next().expect("the head has seven bars") {
                '\\' => part.push(letters.next().unwrap()),
                '|' => head.push(std::mem::take(&mut part)),
                letter => part.push(letter),
            }
        }
        let extension: Vec<char> = letters.collect();
        let mut keys = Vec::new();
        let mut escaped = false;
        for (at, letter) in extension.iter().enumerate() {
            if *letter == '=' && !escaped {
                let start = extension[..at].iter().rposition(|c| *c == ' ').map_or(0, |blank| blank + 1);
                keys.push((start, at));
            }
            escaped = *letter == '\\' && !escaped;
        }
        let mut pairs = BTreeMap::new();
        for (nth, (start, at)) in keys.iter().enumerate() {
            let end = keys.get(nth + 1).map_or(extension.len(), |(next, _)| next - 1);
            let mut value = String::new();
            let mut rest = extension[at + 1..end].iter();
            while let Some(letter) = rest.next() {
                match (letter, *letter == '\\') {
                    (_, true) => match rest.next().unwrap() {
                        'n' => value.push('\n'),
                        'r' => value.push('\r'),
                        other => value.push(*other),
                    },
                    (letter, false) => value.push(*letter),
                }
            }
            let key: String = extension[*start..*at].iter().collect();
            assert!(pairs.insert(key.clone(), value).is_none(), "{key} stands twice in {line}");
        }
        (head, pairs)
    }

    fn comes_back(text: &str) {
        for event in events(text) {
            let line = line(&event, usize::MAX);
            assert!(!line.contains(steers), "{line:?}");
            let (head, pairs) = read(&line);
            assert_eq!(head[..3], ["CEF:0", "checkgate", "checkgate"]);
            assert_eq!(pairs["externalId"], *event.id);
            let explanation = Some(Arc::clone(&event.explanation));
            for (key, value) in [
                ("msg", &explanation),
                ("cs1", &event.model),
                ("cs5", &event.tenant),
                ("suid", &event.client),
            ] {
                let value = value.as_deref().unwrap_or_default();
                let got = pairs.get(key).map(|got| read_back(got)).unwrap_or_default();
                let whole = value.len() < VALUE_BYTES / 12;
                let holds = if whole { got == value } else { value.starts_with(&got) && !got.is_empty() };
                assert!(holds, "{key} of {:?} is {got:?}, not {value:?}", event.kind);
            }
        }
    }

    #[test]
    fn hostile_texts_stay_in_their_place() {
        HOSTILE.iter().for_each(|text| comes_back(text));
        comes_back(&"x=|\\\n".repeat(10_000));
    }

    proptest! {
        #[test]
        fn any_text_stays_in_its_place(text in "\\PC{0,40}|[\\x00-\\x1f =|\\\\\\n]{0,40}") {
            comes_back(&text);
        }
    }
}
