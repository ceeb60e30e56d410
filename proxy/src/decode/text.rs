//! From a body to text: its head is judged, then its bytes are decoded as Python's `json.loads` decodes bytes.

use std::borrow::Cow;

use checkgate_detectors::facts::NotInspected;
use http::header::{AsHeaderName, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// The text of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Text<'b> {
    /// The characters, a byte order mark of UTF-8 included.
    pub characters: Cow<'b, str>,
    /// Where the document begins: behind a byte order mark.
    pub start: usize,
    /// Whether a byte offset into `characters` is one into the body too.
    pub in_place: bool,
}

/// Judges the head of a body, then decodes its bytes.
///
/// # Errors
/// [`NotInspected::Encoding`] for any content encoding but `identity`, [`NotInspected::MediaType`] for a media type
/// that is not JSON, [`NotInspected::Unparsable`] for bytes that are no text.
pub fn read<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Text<'b>, NotInspected> {
    judge_head(headers)?;
    decode(body)
}

/// Judges the head of a body alone.
///
/// # Errors
/// [`NotInspected::Encoding`] and [`NotInspected::MediaType`], as [`read`] gives them.
pub fn judge_head(headers: &HeaderMap) -> Result<(), NotInspected> {
    judge_encoding(headers)?;
    judge_media_type(headers)
}

fn judge_encoding(headers: &HeaderMap) -> Result<(), NotInspected> {
    let identity = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    if every_value(headers, &CONTENT_ENCODING, |value| value.split(',').map(str::trim).all(identity)) {
        Ok(())
    } else {
        Err(NotInspected::Encoding)
    }
}

/// A repeated `Content-Type` is read by one server from its first line and by another from its last: each must do.
/// The charset is not looked at, because `json.loads` detects the encoding from the bytes alone.
fn judge_media_type(headers: &HeaderMap) -> Result<(), NotInspected> {
    if every_value(headers, &CONTENT_TYPE, is_json) { Ok(()) } else { Err(NotInspected::MediaType) }
}

fn every_value(headers: &HeaderMap, name: impl AsHeaderName, holds: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().map(HeaderValue::to_str).all(|value| value.is_ok_and(&holds))
}

fn is_json(content_type: &str) -> bool {
    if content_type == "application/json" {
        return true;
    }
    let essence = content_type.split(';').next().unwrap_or("").trim();
    let Some((_, subtype)) = essence.split_once('/') else { return essence.is_empty() };
    let suffix = subtype.rsplit('+').next().unwrap_or(subtype);
    suffix.eq_ignore_ascii_case("json")
}

/// An encoding that `json.loads` detects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16(Order),
    Utf32(Order),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

/// The encoding of `body` and the length of its byte order mark. Without a mark, the zero bytes around the first
/// characters tell, since a JSON document begins with ASCII (RFC 4627, section 3; `json.detect_encoding` of
/// CPython).
fn detect(body: &[u8]) -> (Encoding, usize) {
    match body {
        [0x00, 0x00, 0xFE, 0xFF, ..] => (Encoding::Utf32(Order::Big), 4),
        [0xFF, 0xFE, 0x00, 0x00, ..] => (Encoding::Utf32(Order::Little), 4),
        [0xFE, 0xFF, ..] => (Encoding::Utf16(Order::Big), 2),
        [0xFF, 0xFE, ..] => (Encoding::Utf16(Order::Little), 2),
        [0xEF, 0xBB, 0xBF, ..] => (Encoding::Utf8, 3),
        [0, 0, _, _, ..] => (Encoding::Utf32(Order::Big), 0),
        [0, _, _, _, ..] | [0, _] => (Encoding::Utf16(Order::Big), 0),
        [_, 0, 0, 0, ..] => (Encoding::Utf32(Order::Little), 0),
        [_, 0, _, _, ..] | [_, 0] => (Encoding::Utf16(Order::Little), 0),
        _ => (Encoding::Utf8, 0),
    }
}

fn decode(body: &[u8]) -> Result<Text<'_>, NotInspected> {
    let (encoding, mark) = detect(body);
    let marked = body.get(mark..).unwrap_or(&[]);
    match encoding {
        Encoding::Utf8 => Ok(Text { characters: from_utf8(body)?, start: mark, in_place: true }),
        Encoding::Utf16(order) => from_utf16(marked, order).map(transcoded),
        Encoding::Utf32(order) => from_utf32(marked, order).map(transcoded),
    }
}

fn transcoded(characters: String) -> Text<'static> {
    Text { characters: Cow::Owned(characters), start: 0, in_place: false }
}

/// Python lets surrogates through that stand encoded in UTF-8. Each becomes U+FFFD, which is as long: offsets stay.
fn from_utf8(body: &[u8]) -> Result<Cow<'_, str>, NotInspected> {
    match std::str::from_utf8(body) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(error) => replace_surrogates(body, error.valid_up_to()).map(Cow::Owned),
    }
}

fn replace_surrogates(body: &[u8], valid: usize) -> Result<String, NotInspected> {
    let (head, mut rest) = body.split_at_checked(valid).ok_or(NotInspected::Unparsable)?;
    let mut text = String::from_utf8_lossy(head).into_owned();
    while let [0xED, 0xA0..=0xBF, 0x80..=0xBF, after @ ..] = rest {
        text.push(char::REPLACEMENT_CHARACTER);
        let (run, others) = valid_prefix(after);
        text.push_str(run);
        rest = others;
    }
    if rest.is_empty() { Ok(text) } else { Err(NotInspected::Unparsable) }
}

/// The longest valid beginning of `bytes`, and what follows it.
fn valid_prefix(bytes: &[u8]) -> (&str, &[u8]) {
    let mut chunks = bytes.utf8_chunks();
    let valid = chunks.next().map_or("", |chunk| chunk.valid());
    (valid, bytes.get(valid.len()..).unwrap_or(&[]))
}

fn from_utf16(bytes: &[u8], order: Order) -> Result<String, NotInspected> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return Err(NotInspected::Unparsable) };
    let units = pairs.iter().map(|pair| match order {
        Order::Big => u16::from_be_bytes(*pair),
        Order::Little => u16::from_le_bytes(*pair),
    });
    Ok(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

fn from_utf32(bytes: &[u8], order: Order) -> Result<String, NotInspected> {
    let (quads, []) = bytes.as_chunks::<4>() else { return Err(NotInspected::Unparsable) };
    let scalar = |quad: &[u8; 4]| match order {
        Order::Big => u32::from_be_bytes(*quad),
        Order::Little => u32::from_le_bytes(*quad),
    };
    quads.iter().map(scalar).map(character).collect::<Option<String>>().ok_or(NotInspected::Unparsable)
}

fn character(scalar: u32) -> Option<char> {
    match scalar {
        0xD800..=0xDFFF => Some(char::REPLACEMENT_CHARACTER),
        _ => char::from_u32(scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_media_type_decides_first() {
        let cases = [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/json", true),
            ("", true),
            ("text/plain", false),
            ("application/jsonl", false),
            ("application/octet-stream", false),
            ("json", false),
        ];
        for (content_type, expected) in cases {
            let read = read(&headers(&[("content-type", content_type)]), b"1").is_ok();
            assert_eq!(read, expected, "{content_type:?}");
        }
        assert!(read(&HeaderMap::new(), b"1").is_ok(), "an absent media type is read");
    }

    #[test]
    fn every_line_of_a_repeated_header_counts() {
        let types = headers(&[("content-type", "application/json"), ("content-type", "text/csv")]);
        assert_eq!(read(&types, b"1"), Err(NotInspected::MediaType));
        let codings = headers(&[("content-encoding", "identity"), ("content-encoding", "gzip")]);
        assert_eq!(read(&codings, b"1"), Err(NotInspected::Encoding));
        let listed = headers(&[("content-encoding", "identity, br")]);
        assert_eq!(read(&listed, b"1"), Err(NotInspected::Encoding));
        assert!(read(&headers(&[("content-encoding", "Identity")]), b"1").is_ok());
    }

    #[test]
    fn an_encoding_is_judged_before_the_media_type() {
        let both = headers(&[("content-encoding", "gzip"), ("content-type", "text/csv")]);
        assert_eq!(read(&both, b"1"), Err(NotInspected::Encoding));
    }

    #[test]
    fn surrogates_in_utf_8_keep_their_length() {
        let body = b"[\"\xED\xA0\x80x\xED\xBF\xBF\", 1]";
        let text = decode(body).expect("surrogates pass");
        assert_eq!(text.characters, "[\"\u{FFFD}x\u{FFFD}\", 1]");
        assert_eq!(text.characters.len(), body.len());
        assert_eq!(decode(b"\"\xED\xA0\x80\xFF\""), Err(NotInspected::Unparsable));
        assert_eq!(decode(b"\"\xC0\xAF\""), Err(NotInspected::Unparsable), "overlong forms are refused");
    }

    #[test]
    fn wide_encodings_are_detected_with_and_without_a_mark() {
        let wide = |bytes: &[u8]| decode(bytes).map(|text| (text.characters.into_owned(), text.in_place));
        let expected = Ok(("[1]".to_owned(), false));
        assert_eq!(wide(b"\xFF\xFE[\x001\x00]\x00"), expected);
        assert_eq!(wide(b"\xFE\xFF\x00[\x001\x00]"), expected);
        assert_eq!(wide(b"[\x001\x00]\x00"), expected);
        assert_eq!(wide(b"\x00[\x001\x00]"), expected);
        assert_eq!(wide(b"\xFF\xFE\0\0[\0\0\x001\0\0\0]\0\0\0"), expected);
        assert_eq!(wide(b"\0\0\xFE\xFF\0\0\0[\0\0\x001\0\0\0]"), expected);
        assert_eq!(wide(b"[\0\0\x001\0\0\0]\0\0\0"), expected);
        assert_eq!(wide(b"\0\0\0[\0\0\x001\0\0\0]"), expected);
        assert_eq!(wide(b"1\0"), Ok(("1".to_owned(), false)), "two bytes suffice");
        assert_eq!(wide(b"[\x001\x00]"), Err(NotInspected::Unparsable), "half a unit is left over");
        assert_eq!(wide(b"\0\0\0\x22\0\x11\0\0"), Err(NotInspected::Unparsable), "beyond Unicode");
    }
}
