//! What the transport itself says to a client: problem documents (RFC 9457), and the last frame of HTTP/2.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use super::ledger::{AnswerBody, Exchange};
use super::rejected::Rejected;
use crate::metrics::labels::Label;
use crate::way::problem::MEDIA_TYPE;

/// `ENHANCE_YOUR_CALM` (RFC 9113, 7).
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// The highest number that a stream can have.
const STREAM_MAX: u32 = (1 << 31) - 1;

#[derive(Serialize)]
struct Document {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    reason: &'static str,
}

impl Document {
    fn of(reason: Rejected) -> Self {
        let status = status(reason);
        let (kind, title) = match status {
            StatusCode::REQUEST_TIMEOUT => {
                ("urn:checkgate:request-timeout", "The request did not arrive in time")
            }
            _ => ("urn:checkgate:request", "The request breaks a rule of HTTP that is kept here"),
        };
        Self { kind, title, status: status.as_u16(), reason: reason.as_str() }
    }

    fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

fn status(reason: Rejected) -> StatusCode {
    match reason {
        Rejected::Screen(refused) => {
            StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST)
        }
        _ => StatusCode::REQUEST_TIMEOUT,
    }
}

/// The last message on an HTTP/1.1 connection, ready to be written.
#[must_use]
pub fn message(reason: Rejected) -> Vec<u8> {
    let (status, document) = (status(reason), Document::of(reason).bytes());
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        document.len(),
    );
    [head.as_bytes(), &document].concat()
}

/// The answer on an HTTP/2 stream.
#[must_use]
pub fn response<B>(exchange: Exchange, reason: Rejected) -> Response<AnswerBody<B>> {
    let mut response = Response::new(exchange.answer_itself(Document::of(reason).bytes()));
    *response.status_mut() = status(reason);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// The last frame on an HTTP/2 connection whose client spent a budget: GOAWAY `ENHANCE_YOUR_CALM` (RFC 9113, 6.8).
///
/// It names the highest stream there can be, so that no client sends anything again that was perhaps acted upon.
#[must_use]
pub fn calm_frame() -> [u8; 17] {
    let [s0, s1, s2, s3] = STREAM_MAX.to_be_bytes();
    let [c0, c1, c2, c3] = ENHANCE_YOUR_CALM.to_be_bytes();
    [0, 0, 8, 7, 0, 0, 0, 0, 0, s0, s1, s2, s3, c0, c1, c2, c3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::Refused;

    #[test]
    fn a_message_is_one_whole_answer_that_closes() {
        for (reason, line) in [
            (Rejected::Screen(Refused::TwoLengths), "HTTP/1.1 400 Bad Request\r\n"),
            (Rejected::Screen(Refused::HeadTooLarge), "HTTP/1.1 431 Request Header Fields Too Large\r\n"),
            (Rejected::HeadTimeout, "HTTP/1.1 408 Request Timeout\r\n"),
        ] {
            let message = String::from_utf8(message(reason)).unwrap();
            let (head, body) = message.split_once("\r\n\r\n").unwrap();
            assert!(message.starts_with(line), "{message}");
            assert!(head.contains("\r\nconnection: close"), "{head}");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{message}");
            let document: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(document["reason"], reason.as_str());
        }
    }

    #[test]
    fn the_last_frame_is_a_goaway_on_the_connection() {
        let frame = calm_frame();
        assert_eq!(frame[..9], [0, 0, 8, 7, 0, 0, 0, 0, 0], "length 8, type 7, no flags, stream 0");
        assert_eq!(frame[13..], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
    }
}
