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
    /// Something that is no trace, or several; it is treated as if there were no tracing.
    Unsound,
    /// Its trace.
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
        // Two parents are none.
        if headers.get_all(&TRACEPARENT).iter().nth(1).is_some() {
            return Self::Unsound;
        }
        Parent::read(first.as_bytes()).map_or(Self::Unsound, Self::Says)
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

    /// Whether the caller wants to see the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Flags of a trace that begins here.
pub const BEGUN_HERE: u8 = KNOWN_FLAGS;

/// What the next server is told: a child of `span`.
pub fn traceparent(trace: &TraceId, span: SpanId, flags: u8) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("00-{}-{}-{flags:02x}", hex(trace), hex(&span))).ok()
}

/// The state that travels with the caller's trace, in one line; empty where there is none.
pub fn state(headers: &HeaderMap) -> String {
    let lines = headers.get_all(&TRACESTATE).iter().filter_map(|line| line.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digits(text: &[u8], bytes: &mut [u8]) -> Option<()> {
    for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
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
        assert!(parent.is_sampled());
        assert_eq!(traceparent(&parent.trace, parent.span, parent.flags).unwrap(), PARENT);
    }

    #[test]
    fn the_callers_decision_is_kept_and_unknown_flags_are_not() {
        for (typed, kept, sampled) in
            [("00", 0, false), ("01", 1, true), ("02", 2, false), ("ff", 3, true), ("fe", 2, false)]
        {
            let Caller::Says(parent) = caller(&[&PARENT.replace("-01", &format!("-{typed}"))]) else {
                panic!("{typed} is sound")
            };
            assert_eq!((parent.flags, parent.is_sampled()), (kept, sampled), "{typed}");
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
            assert_eq!(caller(&[unsound]), Caller::Unsound, "{unsound}");
        }
        assert_eq!(caller(&[PARENT, PARENT]), Caller::Unsound, "two parents are none");
    }
}
