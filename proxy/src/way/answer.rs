//! The answer on its way: streamed to the client as it comes, with a copy for the lane.

use std::sync::Arc;

use checkgate_detectors::facts::NotInspected;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;

use super::body::{End, Kept, Tee, WayBody};
use super::exchange::{Answer, Exchange};
use super::headers::remove_hop_by_hop;
use crate::capture::{Body, Outcome};
use crate::decode::{KeptLines, Part, keep_headers};
use crate::moment;
use crate::upstream::answer::AnswerBody;

/// Streams the answer.
pub fn stream(
    exchange: &Arc<Exchange>,
    method: &Method,
    response: Response<AnswerBody>,
) -> Response<WayBody> {
    let way = exchange.way();
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    let predicts = exchange.route.inspected && carries_prediction(method, head.status);
    let kept_max = if predicts { way.limits.inspect_bytes } else { 0 };
    let headers = if predicts { keep_headers(&head.headers, Part::Answer) } else { KeptLines::default() };
    let (teller, status, first_byte) = (Arc::clone(exchange), head.status.as_u16(), moment::now());
    let mut tee = Tee::new(body, kept_max, way.timeouts.idle, move |kept: Kept, end| {
        teller.answered(Answer {
            status,
            headers,
            length: kept.length,
            body: if predicts { kept.into_body(end) } else { Body::Not(NotInspected::NoPrediction) },
            first_byte,
            judged: None,
            outcome: if end == End::Whole { Outcome::Answered } else { Outcome::Cut },
        });
        teller.finished(status);
    });
    tee.cut_at(exchange.deadline());
    Response::from_parts(head, tee.boxed_unsync())
}

/// Whether an answer carries a whole prediction: no body, an error or a part of one does not.
pub fn carries_prediction(method: &Method, status: StatusCode) -> bool {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT];
    *method != Method::HEAD && status.is_success() && !bodiless.contains(&status)
}
