//! Forms of events: pure functions from an event to the text that another program reads.

pub mod bodies;
pub mod cef;
pub mod ecs;
pub mod leef;
pub mod ocsf;
pub mod syslog;

use std::fmt::Write as _;

use checkgate_config::settings::EventKind;
use checkgate_detectors::facts::Time;
use serde_json::Value;

use super::Event;
use crate::told::steers;

/// A time as RFC 3339 in UTC, with microseconds.
#[must_use]
pub fn rfc3339(time: Time) -> String {
    let (seconds, micros) = (time.0 / 1_000_000, time.0 % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar. Years are counted from March
/// on, so that the day that is added every four years is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days of 400, of 100, of 4 years and of one; 719,468 from 0000-03-01 to 1970-01-01.
    const ERA: u64 = 146_097;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / ERA, shifted % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A value as JSON on one line. What could steer a terminal is escaped there as well, though JSON does not ask for it:
/// many tools show what they get.
#[must_use]
pub fn json_text(value: &Value) -> String {
    let plain = value.to_string();
    if !plain.contains(is_risky) {
        return plain;
    }
    let mut text = String::with_capacity(plain.len() + 64);
    let mut units = [0; 2];
    for letter in plain.chars() {
        if is_risky(letter) {
            // Outside of texts JSON has none of these.
            for unit in letter.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(letter);
        }
    }
    text
}

/// The text without anything that steers: each such character is replaced by U+FFFD.
#[must_use]
pub fn replaced(text: &str) -> String {
    text.chars().map(|letter| if is_risky(letter) { '\u{fffd}' } else { letter }).collect()
}

/// What kind of event it is, for programs that sort by one word: its kind, and the detector where there is one.
#[must_use]
pub fn signature(event: &Event) -> String {
    match &event.detector {
        Some(detector) => format!("{}.{}", event.kind.as_str(), cut(detector, 64)),
        None => event.kind.as_str().to_owned(),
    }
}

/// What happened in a few words, for headlines. Texts of clients do not stand in it.
#[must_use]
pub fn title(event: &Event) -> String {
    let detector = event.detector.as_deref().map_or("a detector", |detector| cut(detector, 64));
    let action = event.action.map_or("alert", |action| action.as_str());
    match event.kind {
        EventKind::Finding => format!("{detector} found something"),
        EventKind::Decision => format!("{action} decided by {detector}"),
        EventKind::Approved => format!("{action} approved"),
        EventKind::Rejected => format!("{action} rejected"),
        EventKind::Lifted => format!("{action} lifted"),
        EventKind::Extended => format!("{action} given another end"),
        EventKind::Met => format!("requests met a {action}"),
        EventKind::NeverBlock => "never-block list changed".to_owned(),
        EventKind::KillSwitch => "kill switch used".to_owned(),
        EventKind::Configuration => "configuration read".to_owned(),
        EventKind::Reference => "reference learned or trusted".to_owned(),
        EventKind::Started => "checkgate started".to_owned(),
        EventKind::Erased => "client erased".to_owned(),
        EventKind::Unwritten => "entries lost".to_owned(),
        EventKind::Removed => "old entries removed".to_owned(),
        EventKind::Drift => "traffic or predictions shifted".to_owned(),
        EventKind::Test => "test of a sink".to_owned(),
    }
}

/// What steers, and what ends a line for some readers (U+2028, U+2029) or is no character (U+FEFF, U+FFFE, U+FFFF).
#[must_use]
pub fn is_risky(letter: char) -> bool {
    steers(letter) || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The beginning of `text`: at most `bytes` bytes, whole letters only.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000Z"),
            (1_700_000_000, "2023-11-14T22:13:20.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(Time(seconds * 1_000_000)), expected);
        }
        assert_eq!(rfc3339(Time(1_700_000_000_250_001)), "2023-11-14T22:13:20.250001Z");
    }

    #[test]
    fn json_steers_nothing_and_reads_back_as_it_was() {
        for text in crate::sinks::tests::HOSTILE {
            let value = serde_json::json!({ text: [text] });
            let written = json_text(&value);
            assert!(!written.contains(is_risky), "{written:?}");
            assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }
    }

    #[test]
    fn every_form_is_as_committed() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/sinks"));
        let events: Vec<Event> = ["prices", "a|b=c\\d]e\"f\n"]
            .iter()
            .flat_map(|text| crate::sinks::tests::events(text))
            .map(|event| Event { id: "cg-0123456789abcdef-7-07070707".into(), ..event })
            .collect();
        let head =
            syslog::Head { facility: Default::default(), host: "gate-1".into(), app: "checkgate".into() };
        let form = |name: &str, event: &Event| match name {
            "cef" => cef::line(event),
            "leef" => leef::line(event),
            "syslog" => syslog::message(&head, syslog::Format::Json, event, 8192),
            _ => json_text(&event.plain()),
        };
        for name in ["cef", "leef", "syslog", "json"] {
            // The version of this program stands in some of them.
            let version = format!("|{}|", env!("CARGO_PKG_VERSION"));
            let lines: String =
                events.iter().map(|event| form(name, event).replace(&version, "|VERSION|") + "\n").collect();
            checkgate_config::golden::equals_committed(&folder.join(format!("{name}.expected")), &lines)
                .unwrap();
        }
    }

    #[test]
    fn a_cut_never_ends_within_a_letter() {
        for bytes in 0..8 {
            let short = cut("aä€😀", bytes);
            assert!(short.len() <= bytes && "aä€😀".starts_with(short), "{bytes}: {short}");
        }
    }
}
