//! What every protocol over gRPC shares: messages in a body, and the status of a call in its head.
//!
//! "gRPC over HTTP2" (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md): a body is a row of messages, each behind a byte that
//! says whether it is compressed and four bytes with its length. A call that failed has status 200 all the same; its own
//! status stands in the trailers, or in the head where nothing else was sent.

use checkgate_detectors::facts::NotInspected;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use super::KeptLine;

/// Where the status of a call stands.
pub const STATUS_HEADER: &str = "grpc-status";

/// The flag and the length in front of a message.
const PREFIX: usize = 5;

/// The one message of a body: a call that is not a stream has exactly one each way.
///
/// # Errors
/// [`NotInspected::NoPrediction`] for an answer without a message or with the status of a failed call,
/// [`NotInspected::MediaType`] where the head does not speak of gRPC, [`NotInspected::Encoding`] for a compressed
/// message, [`NotInspected::Truncated`] for one that is cut, and [`NotInspected::Shape`] where more follows.
pub fn message<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<&'b [u8], NotInspected> {
    let failed =
        headers.get(STATUS_HEADER).and_then(|value| value.to_str().ok()).is_some_and(|text| code(text) != 0);
    if failed || body.is_empty() {
        return Err(NotInspected::NoPrediction);
    }
    if !headers.get_all(CONTENT_TYPE).iter().all(is_grpc) || !headers.contains_key(CONTENT_TYPE) {
        return Err(NotInspected::MediaType);
    }
    let (prefix, rest) = body.split_first_chunk::<PREFIX>().ok_or(NotInspected::Truncated)?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(NotInspected::Encoding);
    }
    let length = u32::from_be_bytes(length) as usize;
    match rest.split_at_checked(length) {
        Some((message, [])) => Ok(message),
        Some(_) => Err(NotInspected::Shape),
        None => Err(NotInspected::Truncated),
    }
}

/// The status of HTTP that says what a call's own status says, where `status` is a success and the call is none. An
/// answer that brought no message failed; how is in its trailers, which nobody keeps.
pub fn http_status(status: u16, kept: &[KeptLine], is_empty: bool) -> u16 {
    if !(200..300).contains(&status) {
        return status;
    }
    let own = kept.iter().find(|(name, _)| name == STATUS_HEADER).map(|(_, text)| code(text));
    match own.filter(|code| *code != 0) {
        Some(code) => as_http(code),
        None if is_empty => 500,
        None => status,
    }
}

fn is_grpc(media_type: &HeaderValue) -> bool {
    let essence = media_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii();
    essence.eq_ignore_ascii_case(b"application/grpc")
        || essence.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// The status of a call. What is no number is one that nobody knows.
fn code(text: &str) -> u16 {
    const UNKNOWN: u16 = 2;
    text.trim().parse().unwrap_or(UNKNOWN)
}

/// As `google.rpc.Code` maps its codes to HTTP.
fn as_http(code: u16) -> u16 {
    match code {
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| ((*name).parse().expect("a name"), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_body_holds_one_message_or_is_not_read() {
        let grpc = head(&[("content-type", "application/grpc+proto")]);
        assert_eq!(message(&grpc, &[0, 0, 0, 0, 2, 7, 8]), Ok(&[7, 8][..]));
        assert_eq!(message(&grpc, &[0, 0, 0, 0, 0]), Ok(&[][..]), "an empty message is a message");
        assert_eq!(message(&grpc, &[0, 0, 0, 0, 3, 7, 8]), Err(NotInspected::Truncated));
        assert_eq!(message(&grpc, &[0, 0, 0]), Err(NotInspected::Truncated));
        assert_eq!(message(&grpc, &[0, 0, 0, 0, 1, 7, 8]), Err(NotInspected::Shape), "more than one");
        assert_eq!(message(&grpc, &[1, 0, 0, 0, 2, 7, 8]), Err(NotInspected::Encoding));
        assert_eq!(message(&grpc, &[]), Err(NotInspected::NoPrediction));
        let json = head(&[("content-type", "application/json")]);
        assert_eq!(message(&json, &[0, 0, 0, 0, 0]), Err(NotInspected::MediaType));
        let web = head(&[("content-type", "application/grpc-web")]);
        assert_eq!(message(&web, &[0, 0, 0, 0, 0]), Err(NotInspected::MediaType));
    }

    #[test]
    fn a_call_that_failed_is_no_success() {
        let failed = head(&[("content-type", "application/grpc"), ("grpc-status", "3")]);
        assert_eq!(message(&failed, &[0, 0, 0, 0, 0]), Err(NotInspected::NoPrediction));
        let status = |text: &str| [(STATUS_HEADER.into(), text.to_owned())];
        assert_eq!(http_status(200, &status("3"), true), 400, "invalid argument");
        assert_eq!(http_status(200, &status("three"), false), 500);
        assert_eq!(http_status(200, &status("0"), false), 200);
        assert_eq!(http_status(200, &status("0"), true), 500, "a success brings a message");
        assert_eq!(http_status(200, &[], true), 500, "its status is in the trailers");
        assert_eq!(http_status(200, &[], false), 200);
        assert_eq!(http_status(502, &status("3"), true), 502, "what HTTP says comes first");
    }
}
