//! Spans of time as Go writes them, `3h59m0.5s`: the form of every duration in the protocol.

use std::time::Duration;

/// Nanoseconds of each unit, the longer names first where one begins with the other.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("h", 3.6e12),
    ("m", 6e10),
    ("s", 1e9),
];
/// Letters of a span; Go's longest has fewer than 30.
const LETTERS_MAX: usize = 64;

/// `span` in whole seconds, the last one begun counted as whole: what is left of a decision is never `0s` while it acts.
#[must_use]
pub fn written(span: Duration) -> String {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// A span that was written so: zero for a negative one, nothing where it is none.
#[must_use]
pub fn read(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() || rest.len() > LETTERS_MAX {
        return None;
    }
    let mut nanoseconds = if rest == "0" { return Some(Duration::ZERO) } else { 0.0 };
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let (unit, size) = UNITS.into_iter().find(|(unit, _)| behind.starts_with(unit))?;
        nanoseconds += number.parse::<f64>().ok()? * size;
        rest = behind.get(unit.len()..)?;
    }
    let span = Duration::try_from_secs_f64(nanoseconds / 1e9).ok()?;
    Some(if negative { Duration::ZERO } else { span })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_written_in_whole_seconds_rounded_up() {
        for (milliseconds, expected) in [
            (1, "1s"),
            (59_000, "59s"),
            (60_000, "1m0s"),
            (3_599_001, "1h0m0s"),
            (3_540_000, "59m0s"),
            (14_400_000, "4h0m0s"),
            (2_592_000_000, "720h0m0s"),
        ] {
            assert_eq!(written(Duration::from_millis(milliseconds)), expected, "{milliseconds} ms");
        }
    }

    #[test]
    fn spans_of_go_are_read_and_others_are_not() {
        for (text, expected) in [
            ("59m", Some(3540.0)),
            ("3h59m58.5s", Some(14398.5)),
            ("1h", Some(3600.0)),
            ("1m0.25s", Some(60.25)),
            ("150ms", Some(0.15)),
            ("2\u{b5}s", Some(0.000_002)),
            ("100us", Some(0.0001)),
            ("7ns", Some(0.000_000_007)),
            ("5000h0m0s", Some(18_000_000.0)),
            ("-12h3m", Some(0.0)),
            ("-1s", Some(0.0)),
            ("+4m", Some(240.0)),
            ("0", Some(0.0)),
            ("", None),
            ("-", None),
            ("4", None),
            ("4d", None),
            ("h", None),
            ("1h-2m", None),
            ("1..2s", None),
            ("1e3s", None),
            ("99999999999999999999999h", None),
        ] {
            let read = read(text).map(|span| span.as_secs_f64());
            let same = match (read, expected) {
                (Some(read), Some(expected)) => (read - expected).abs() < 1e-9,
                (read, expected) => read.is_none() && expected.is_none(),
            };
            assert!(same, "{text:?}: {read:?} instead of {expected:?}");
        }
    }

    #[test]
    fn what_was_written_reads_back() {
        for seconds in [1, 59, 60, 61, 3599, 3600, 86_399, 31_536_000] {
            let span = Duration::from_secs(seconds);
            assert_eq!(read(&written(span)), Some(span));
        }
    }
}
