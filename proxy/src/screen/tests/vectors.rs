use std::collections::BTreeSet;

use http::Request;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::super::http1::{Http1, Phase};
use super::super::{Refused, http2};
use super::BOUNDS;

/// A line of a file of vectors.
pub struct Vector {
    /// What must come of it.
    pub verdict: &'static str,
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

fn read(file: &'static str) -> Vec<Vector> {
    let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let columns: Vec<_> = line.splitn(3, " | ").collect();
            let [verdict, name, bytes] =
                columns.try_into().unwrap_or_else(|_| panic!("three columns: {line}"));
            Vector { verdict, name, bytes: unescape(bytes) }
        })
        .collect()
}

pub fn accepted() -> Vec<Vector> {
    read(include_str!("../vectors/accepted.txt"))
}

pub fn refused() -> Vec<Vector> {
    read(include_str!("../vectors/refused.txt"))
}

fn http2_heads() -> Vec<Vector> {
    read(include_str!("../vectors/http2.txt"))
}

/// The reasons that the vectors name.
pub fn reasons() -> BTreeSet<&'static str> {
    refused().iter().chain(&http2_heads()).map(|vector| vector.verdict).collect()
}

/// The bytes that a vector writes with escapes and repetitions.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (part, after) = escape(rest).or_else(|| repetition(rest)).unwrap_or_else(|| {
            let (plain, after) = rest.split_at(first.len_utf8());
            (plain.as_bytes().to_vec(), after)
        });
        bytes.extend(part);
        rest = after;
    }
    bytes
}

fn escape(text: &str) -> Option<(Vec<u8>, &str)> {
    let after = text.strip_prefix('\\')?;
    let byte = match after.as_bytes().first()? {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        b'\\' => b'\\',
        b'x' => return Some((vec![u8::from_str_radix(&after[1..3], 16).ok()?], &after[3..])),
        other => panic!("no such escape: {other}"),
    };
    Some((vec![byte], &after[1..]))
}

/// `{text*count}`.
fn repetition(text: &str) -> Option<(Vec<u8>, &str)> {
    let (inside, after) = text.strip_prefix('{')?.split_once('}')?;
    let (repeated, count) = inside.rsplit_once('*')?;
    Some((unescape(repeated).repeat(count.parse().ok()?), after))
}

#[test]
fn every_accepted_vector_passes_with_its_number_of_messages() {
    for Vector { verdict, name, bytes } in accepted() {
        let mut screen = Http1::new(BOUNDS);
        let result = screen.read(&bytes);
        assert_eq!(result, Ok(()), "{name}");
        assert_eq!(screen.heads().to_string(), verdict, "messages of: {name}");
        assert_eq!(screen.phase(), Phase::Idle, "behind: {name}");
    }
}

#[test]
fn every_refused_vector_is_refused_for_its_reason() {
    for Vector { verdict, name, bytes } in refused() {
        let bad = Http1::new(BOUNDS).read(&bytes).expect_err(name);
        assert_eq!(bad.reason.as_str(), verdict, "{name}");
    }
}

#[test]
fn what_comes_before_a_refused_head_may_go_on() {
    let first = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for Vector { name, bytes, .. } in refused() {
        let alone = Http1::new(BOUNDS).read(&bytes).expect_err(name);
        let behind = Http1::new(BOUNDS).read(&[first, bytes.as_slice()].concat()).expect_err(name);
        let expected = (alone.reason, alone.clean + first.len());
        assert_eq!((behind.reason, behind.clean), expected, "behind a clean message: {name}");
    }
}

#[test]
fn nothing_of_a_refused_head_and_all_of_a_body_before_its_fault_may_go_on() {
    let clean = |bytes: &[u8]| Http1::new(BOUNDS).read(bytes).expect_err("refused").clean;
    assert_eq!(clean(b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n"), 0, "the head's first byte");
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    assert_eq!(clean(&[head, b"3\r\nabcd"].concat()), head.len() + 6, "the byte behind the chunk");
    assert_eq!(
        clean(&[head, b"0\r\nX: a\r\nHost: b\r\n\r\n"].concat()),
        head.len() + 9,
        "the trailer's first byte"
    );
}

#[test]
fn a_head_may_fill_its_bounds_and_not_exceed_them() {
    let head = |padding: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(padding));
    let padding = BOUNDS.head_bytes - head(0).len();
    assert_eq!(Http1::new(BOUNDS).read(head(padding).as_bytes()), Ok(()), "as large as may be");
    let bad = Http1::new(BOUNDS).read(head(padding + 1).as_bytes()).expect_err("a byte more");
    assert_eq!(bad.reason, Refused::HeadTooLarge);
}

#[test]
fn phases_follow_a_message() {
    let mut screen = Http1::new(BOUNDS);
    let mut phase_after = |bytes: &[u8]| {
        screen.read(bytes).expect("clean");
        screen.phase()
    };
    assert_eq!(phase_after(b""), Phase::Idle, "nothing has come");
    assert_eq!(phase_after(b"\r\n"), Phase::Head, "an empty line may precede a head");
    assert_eq!(phase_after(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r"), Phase::Head);
    assert_eq!(phase_after(b"\n"), Phase::Body, "the head is whole");
    assert_eq!(phase_after(b"3\r\nabc\r\n0\r\n"), Phase::Body, "the trailers are open");
    assert_eq!(phase_after(b"X: a\r\n\r"), Phase::Body, "in trailers");
    assert_eq!(phase_after(b"\n"), Phase::Idle, "the message is whole");
    assert_eq!(phase_after(b"GET"), Phase::Head);
    assert_eq!(phase_after(b" / HTTP/1.1\r\nHost: a\r\n\r\n"), Phase::Idle, "no body follows");
}

#[test]
fn every_http2_vector_gets_its_verdict() {
    for Vector { verdict, name, bytes } in http2_heads() {
        let found = http2::check(&head(&bytes)).map_or_else(Refused::as_str, |()| "accepted");
        assert_eq!(found, verdict, "{name}");
    }
}

/// A head as the HTTP/2 server builds it from pseudo-fields and fields.
fn head(fields: &[u8]) -> Parts {
    let mut request = Request::new(());
    let mut uri = http::uri::Parts::default();
    for field in fields.split(|&byte| byte == b';').map(<[u8]>::trim_ascii_start) {
        let equals = field.iter().position(|&byte| byte == b'=').expect("name=value");
        let (name, value) = (&field[..equals], &field[equals + 1..]);
        match name {
            b":method" => *request.method_mut() = value.try_into().expect("a method"),
            b":scheme" => uri.scheme = Some(value.try_into().expect("a scheme")),
            b":authority" => uri.authority = Some(value.try_into().expect("an authority")),
            b":path" => uri.path_and_query = Some(value.try_into().expect("a path")),
            _ => {
                let name = HeaderName::from_lowercase(name).expect("a name");
                request.headers_mut().append(name, HeaderValue::from_bytes(value).expect("a value"));
            }
        }
    }
    // A URI has a scheme only together with an authority; the server drops it where there is none.
    uri.scheme = uri.scheme.filter(|_| uri.authority.is_some());
    *request.uri_mut() = uri.try_into().expect("a URI");
    request.into_parts().0
}

#[test]
fn trailers_of_http2_bring_no_field_of_framing_or_routing() {
    let trailers = |name: &'static str| {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("a"))])
    };
    assert_eq!(http2::check_trailers(&trailers("grpc-status")), Ok(()), "what gRPC sends");
    let quoted = HeaderName::from_lowercase(b"x\"y").expect("what HTTP/2 may bring");
    let quoted = HeaderMap::from_iter([(quoted, HeaderValue::from_static("a"))]);
    assert_eq!(http2::check_trailers(&quoted), Err(Refused::FieldName), "no token");
    for name in ["content-length", "host", "transfer-encoding", "authorization", "content_length", "te"] {
        assert_eq!(http2::check_trailers(&trailers(name)), Err(Refused::TrailerField), "{name}");
    }
}
