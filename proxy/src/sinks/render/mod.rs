//! Forms of events: pure functions from an event to the text that another program reads.

pub mod bodies;
pub mod cef;
pub mod ecs;
pub mod leef;
pub mod ocsf;
pub mod syslog;

use checkgate_config::settings::EventKind;
use checkgate_detectors::facts::Time;
use serde_json::Value;

use super::Event;
use crate::told::clean::{letters, write_escape};
use crate::told::clean_json;

/// Bytes of a value in a form of one line, as it is written. Dictionaries of such forms give 1023 to 4000 letters; who
/// keeps less cuts for himself.
pub const VALUE_BYTES: usize = 2048;
/// Bytes of a value where the line would be too long, and where even that is.
const SHORTER_VALUE_BYTES: usize = 256;
const SHORTEST_VALUE_BYTES: usize = 64;

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

/// A value as JSON on one line, in which nothing steers a terminal.
#[must_use]
pub fn json_text(value: &Value) -> String {
    clean_json(value.to_string())
}

/// A text as a value of a form of one line: in at most `bytes_max` bytes, whole letters only. `own` is how the form writes
/// a letter that has a meaning in it, a backslash among them; the rest of what steers is escaped as everywhere
/// ([`told::clean`](crate::told::clean)), and so is a blank at either end, which readers may trim.
#[must_use]
pub fn written(text: &str, own: fn(char) -> Option<&'static str>, bytes_max: usize) -> String {
    let backslash = own('\\').unwrap_or("\\");
    let (mut written, mut at) = (String::with_capacity(text.len()), 0);
    for (letter, escape) in letters(text) {
        let at_an_end = at == 0 || at + letter.len_utf8() == text.len();
        at += letter.len_utf8();
        let before = written.len();
        match own(letter) {
            // A backslash that would read as the beginning of an escape.
            Some(_) if escape && letter == '\\' => write_escape(letter, backslash, &mut written),
            Some(own) => written.push_str(own),
            None if escape || at_an_end && letter.is_whitespace() => {
                write_escape(letter, backslash, &mut written);
            }
            None => written.push(letter),
        }
        if written.len() > bytes_max {
            written.truncate(before);
            break;
        }
    }
    written
}

/// The first of the texts that `form` makes of events with values of at most so many bytes which is no longer than
/// `bytes_max`; where none is, the shortest.
#[must_use]
pub fn fitting(bytes_max: usize, form: impl Fn(usize) -> String) -> String {
    let whole = form(VALUE_BYTES);
    if whole.len() <= bytes_max {
        return whole;
    }
    let shorter = form(SHORTER_VALUE_BYTES);
    if shorter.len() <= bytes_max { shorter } else { form(SHORTEST_VALUE_BYTES) }
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
    use crate::told::clean::steers;

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
            assert!(!written.contains(steers), "{written:?}");
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
            "cef" => cef::line(event, usize::MAX),
            "leef" => leef::line(event, usize::MAX),
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
