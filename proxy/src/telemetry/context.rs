//! The trace that a caller says its request belongs to (W3C Trace Context).

use http::header::{HeaderMap, HeaderValue};

use crate::way::headers::{TRACEPARENT, TRACESTATE, is_traceparent};

/// The id of a trace.
pub type TraceId = [u8; 16];
/// The id of a span.
pub type SpanId = [u8; 8];

/// The caller sampled the trace.
const SAMPLED: u8 = 0b01;
/// The flags that version 00 knows: sampled, and that the id is random (level 2).
const KNOWN_FLAGS: u8 = 0b11;

/// What a caller says.
#[derive(Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nothing.
    Silent,
    /// A trace that it did not sample, something that is no trace, or several: it passes as without tracing.
    Unsampled,
    /// Its trace, which it sampled.
    Says(Parent),
}

/// The caller's trace, and its own span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span.
    pub span: SpanId,
    /// Flags, as far as they are known.
    pub flags: u8,
}

impl Caller {
    /// What the headers of a request say.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(first) = headers.get(&TRACEPARENT) else { return Self::Silent };
        // Almost all parents are unsampled, and the last digit says so: the rest of them need not be read. Two parents
        // are none.
        if !may_be_sampled(first.as_bytes()) || headers.get_all(&TRACEPARENT).iter().nth(1).is_some() {
            return Self::Unsampled;
        }
        let parent = Parent::read(first.as_bytes()).filter(|parent| parent.flags & SAMPLED != 0);
        parent.map_or(Self::Unsampled, Self::Says)
    }
}

impl Parent {
    /// Reads version 00, and of later versions what version 00 knows.
    fn read(value: &[u8]) -> Option<Self> {
        if !is_traceparent(value) {
            return None;
        }
        let mut parent = Self { trace: [0; 16], span: [0; 8], flags: 0 };
        digits(value.get(3..35)?, &mut parent.trace)?;
        digits(value.get(36..52)?, &mut parent.span)?;
        let mut flags = [0];
        digits(value.get(53..55)?, &mut flags)?;
        parent.flags = flags[0] & KNOWN_FLAGS;
        Some(parent)
    }
}

/// Whether the last digit of the flags of version 00 is odd, whatever stands before it.
fn may_be_sampled(value: &[u8]) -> bool {
    value.get(54).and_then(|digit| char::from(*digit).to_digit(16)).is_some_and(|digit| digit % 2 == 1)
}

/// Flags of a trace that begins here.
pub const BEGUN_HERE: u8 = KNOWN_FLAGS;

/// What the next server is told: a child of `span`.
pub fn traceparent(trace: &TraceId, span: SpanId, flags: u8) -> Option<HeaderValue> {
    let mut text = String::with_capacity(55);
    for (before, bytes) in [("00-", &trace[..]), ("-", &span[..]), ("-", &[flags][..])] {
        text.push_str(before);
        push_hex(bytes, &mut text);
    }
    HeaderValue::try_from(text).ok()
}

/// The state that travels with the caller's trace, in one line; empty where there is none.
pub fn state(headers: &HeaderMap) -> String {
    let lines = headers.get_all(&TRACESTATE).iter().filter_map(|line| line.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(bytes, &mut text);
    text
}

fn push_hex(bytes: &[u8], text: &mut String) {
    for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
    }
}

fn digits(text: &[u8], bytes: &mut [u8]) -> Option<()> {
    let digit = |letter: &u8| char::from(*letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn caller(lines: &[&str]) -> Caller {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TRACEPARENT, HeaderValue::from_str(line).unwrap());
        }
        Caller::of(&headers)
    }

    #[test]
    fn a_sound_parent_is_read_and_written_again() {
        let Caller::Says(parent) = caller(&[PARENT]) else { panic!("it is sound") };
        assert_eq!(traceparent(&parent.trace, parent.span, parent.flags).unwrap(), PARENT);
    }

    #[test]
    fn the_callers_decision_is_kept_and_unknown_flags_are_not() {
        for (typed, kept) in [("00", None), ("01", Some(1)), ("02", None), ("ff", Some(3)), ("fe", None)] {
            let flags = match caller(&[&PARENT.replace("-01", &format!("-{typed}"))]) {
                Caller::Says(parent) => Some(parent.flags),
                Caller::Silent | Caller::Unsampled => None,
            };
            assert_eq!(flags, kept, "{typed}");
        }
        let later = format!("{}-more", PARENT.replacen("00-", "cc-", 1));
        assert!(
            matches!(caller(&[&later]), Caller::Says(_)),
            "a later version is read as far as it is known"
        );
    }

    #[test]
    fn what_is_no_trace_is_not_continued() {
        assert_eq!(caller(&[]), Caller::Silent);
        for unsound in
            ["", "00", &PARENT.to_uppercase(), &PARENT.replace('4', "g"), &format!("{PARENT}-more")]
        {
            assert_eq!(caller(&[unsound]), Caller::Unsampled, "{unsound}");
        }
        assert_eq!(caller(&[PARENT, PARENT]), Caller::Unsampled, "two parents are none");
    }
}
