//! The trace that a caller says its request belongs to (W3C Trace Context).

use http::header::{HeaderMap, HeaderValue};

use crate::way::headers::{TRACEPARENT, TRACESTATE};

/// The id of a trace.
pub type TraceId = [u8; 16];
/// The id of a span.
pub type SpanId = [u8; 8];

/// How long a `traceparent` of version 00 is.
const LENGTH: usize = 55;
/// Stands for a letter that is no digit, where digits are below 16.
const NO_DIGIT: u8 = 16;
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
    /// Reads a `traceparent` (W3C Trace Context, 3.2): version, trace, parent and flags as lower-case hexadecimal digits,
    /// neither id all zero, no version 255. A later version than 00 may add to its end, and is read as far as 00 goes.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_first_chunk::<LENGTH>()?;
        let ([version], trace) = (digits(known.get(..2)?)?, digits(known.get(3..35)?)?);
        let (span, [flags]) = (digits(known.get(36..52)?)?, digits(known.get(53..)?)?);
        let parted = [2, 35, 52].iter().all(|position| known.get(*position) == Some(&b'-'));
        let added = version != 0 && rest.first() == Some(&b'-');
        let sound =
            parted && (rest.is_empty() || added) && version != u8::MAX && trace != [0; 16] && span != [0; 8];
        sound.then_some(Self { trace, span, flags: flags & KNOWN_FLAGS })
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
    let mut text = *b"00-                                -                -  ";
    write_digits(trace, text.get_mut(3..35)?);
    write_digits(&span, text.get_mut(36..52)?);
    write_digits(&[flags], text.get_mut(53..)?);
    HeaderValue::from_bytes(&text).ok()
}

/// The state that travels with the caller's trace, in one line; empty where there is none.
pub fn state(headers: &HeaderMap) -> String {
    let mut lines = headers.get_all(&TRACESTATE).iter().filter_map(|line| line.to_str().ok());
    let mut all = lines.next().map_or_else(String::new, str::to_owned);
    for line in lines {
        all.push(',');
        all.push_str(line);
    }
    all
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; 2 * bytes.len()];
    write_digits(bytes, &mut text);
    text.into_iter().map(char::from).collect()
}

fn write_digits(bytes: &[u8], text: &mut [u8]) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    for (byte, pair) in bytes.iter().zip(text.as_chunks_mut::<2>().0) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

/// The bytes behind lower-case hexadecimal digits, none where anything else stands there. Without a branch for each digit:
/// requests of traced callers pass here.
fn digits<const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    let nibble = |letter: u8| match letter {
        b'0'..=b'9' => letter - b'0',
        b'a'..=b'f' => letter - b'a' + 10,
        _ => NO_DIGIT,
    };
    let mut bytes = [0; BYTES];
    let mut seen = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(text.as_chunks::<2>().0) {
        let (high, low) = (nibble(*high), nibble(*low));
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen < NO_DIGIT).then_some(bytes)
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
