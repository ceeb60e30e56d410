//! The answer held, header and all, until its contract is judged.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use checkgate_config::settings::{OnError, OnViolation};
use checkgate_detectors::facts::NotInspected;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, LAST_MODIFIED, TRAILER,
};
use http::{Method, Response, StatusCode, response};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout_at;

use super::body::{Tee, WayBody, prefixed, with_trailers};
use super::exchange::{Answer, Exchange};
use super::headers::remove_hop_by_hop;
use super::problem::Problem;
use super::verdict::{Judge, Verdict};
use super::{answer, events};
use crate::capture::{Body, Judged, Outcome};
use crate::decode::{KeptLines, Part, keep_headers};
use crate::metrics::labels::ContractOutcome;
use crate::upstream::answer::AnswerBody;

/// A body of at least this size is judged on a thread that may block.
const JUDGED_INLINE_MAX: usize = 256 * 1024;

/// Judges the answer and sends it, what stands in for it, or a problem.
pub async fn answer(
    exchange: &Arc<Exchange>,
    method: &Method,
    response: Response<AnswerBody>,
) -> Response<WayBody> {
    if !is_judged(method, response.status()) {
        return answer::stream(exchange, method, response);
    }
    if events::is_stream(response.headers()) {
        return events::answer(exchange, response).await;
    }
    let first_byte = Instant::now();
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    let held = match unreadable_head(&head) {
        Some(reason) => Err(NotHeld { reason, rest: Some((Bytes::new(), body)) }),
        None => collect(exchange, body).await,
    };
    match held {
        Ok(held) => judged(exchange, head, held, first_byte).await,
        Err(not_held) => unjudged(exchange, head, not_held, first_byte),
    }
}

/// A held body.
struct Held {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

/// Whether the answer could carry a prediction at all. A part of one could, so 206 is judged (and refused).
fn is_judged(method: &Method, status: StatusCode) -> bool {
    answer::carries_prediction(method, status)
        || (status == StatusCode::PARTIAL_CONTENT && *method != Method::HEAD)
}

fn unreadable_head(head: &response::Parts) -> Option<NotInspected> {
    let encoding = head.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return Some(NotInspected::Encoding);
    }
    let partial = head.status == StatusCode::PARTIAL_CONTENT || head.headers.contains_key(CONTENT_RANGE);
    partial.then_some(NotInspected::NoPrediction)
}

/// Why a body is not held: what came of it and the rest of it, unless the upstream broke it off.
struct NotHeld {
    reason: NotInspected,
    rest: Option<(Bytes, AnswerBody)>,
}

/// Collects the body within the cap and the deadline.
async fn collect(exchange: &Exchange, mut body: AnswerBody) -> Result<Held, NotHeld> {
    let way = exchange.way();
    let deadline = Instant::now() + way.timeouts.hold_answer;
    let (mut bytes, mut trailers) = (BytesMut::new(), None);
    loop {
        let reason = match timeout_at(deadline.into(), body.frame()).await {
            Err(_) => NotInspected::TooLate,
            Ok(None) => return Ok(Held { bytes: bytes.freeze(), trailers }),
            Ok(Some(Err(_))) => return Err(NotHeld { reason: NotInspected::Truncated, rest: None }),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    bytes.extend_from_slice(&data);
                    if bytes.len() <= way.limits.hold_bytes {
                        continue;
                    }
                    NotInspected::TooLarge
                }
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            },
        };
        return Err(NotHeld { reason, rest: Some((bytes.freeze(), body)) });
    }
}

async fn judged(
    exchange: &Arc<Exchange>,
    head: response::Parts,
    held: Held,
    first_byte: Instant,
) -> Response<WayBody> {
    let verdict = verdict(exchange, &head.headers, &held.bytes).await;
    let reading =
        Reading { status: head.status, headers: keep_headers(&head.headers, Part::Answer), first_byte };
    if let Some(refusal) = exchange.refusal() {
        // Blocked while the answer was held: this client gets nothing more of the model.
        reading.tell(exchange, &held.bytes, None, Outcome::Blocked(refusal.decision));
        exchange.metrics().refused.inc();
        exchange.finished(StatusCode::FORBIDDEN.as_u16());
        return exchange.told(&Problem::refused(&refusal));
    }
    let (outcome, label, judged, response) = match verdict {
        Verdict::Kept(judged) => (
            Outcome::Answered,
            ContractOutcome::Passed,
            Some(judged),
            whole(head, held.bytes.clone(), held.trailers),
        ),
        Verdict::Mended(judged, mended) => {
            (Outcome::Replaced, mended_label(exchange), Some(judged), replaced(head, mended.into()))
        }
        Verdict::Broken(judged) => (
            Outcome::Replaced,
            ContractOutcome::Refused,
            Some(judged),
            exchange.told(&Problem::BROKEN_CONTRACT),
        ),
        Verdict::Unreadable(_) if exchange.route.guard.on_error == OnError::Pass => (
            Outcome::Answered,
            ContractOutcome::Unjudged,
            None,
            whole(head, held.bytes.clone(), held.trailers),
        ),
        Verdict::Unreadable(_) => {
            (Outcome::Unjudged, ContractOutcome::Unjudged, None, exchange.told(&Problem::UNJUDGED))
        }
    };
    exchange.metrics().contract_answers.inc(label);
    reading.tell(exchange, &held.bytes, judged, outcome);
    exchange.finished(response.status().as_u16());
    response
}

/// What an answer that was put right counts as.
pub fn mended_label(exchange: &Exchange) -> ContractOutcome {
    match exchange.route.guard.on_violation {
        OnViolation::Fallback(_) => ContractOutcome::Fallback,
        OnViolation::Clamp | OnViolation::Refuse => ContractOutcome::Clamped,
    }
}

/// Judges a body, away from the request threads where it is large.
async fn verdict(exchange: &Arc<Exchange>, headers: &HeaderMap, bytes: &Bytes) -> Verdict {
    if bytes.len() < JUDGED_INLINE_MAX {
        return judge(exchange, headers, bytes);
    }
    let (exchange, headers, bytes) = (Arc::clone(exchange), headers.clone(), bytes.clone());
    let judging = tokio::task::spawn_blocking(move || judge(&exchange, &headers, &bytes));
    judging.await.unwrap_or(Verdict::Unreadable(NotInspected::Unparsable))
}

/// Judges a body by the contract of its model.
pub fn judge(exchange: &Exchange, headers: &HeaderMap, body: &[u8]) -> Verdict {
    let (way, guard) = (exchange.way(), &exchange.route.guard);
    let Some(decoder) = exchange.route.decoder(&way.decoders) else {
        return Verdict::Unreadable(NotInspected::UnknownProtocol);
    };
    let judge = Judge {
        decoder,
        contract: &guard.contract,
        on_violation: &guard.on_violation,
        columns_max: way.limits.columns,
    };
    judge.judge(headers, body)
}

/// What the lane is told of a held answer.
struct Reading {
    status: StatusCode,
    headers: KeptLines,
    first_byte: Instant,
}

impl Reading {
    fn tell(self, exchange: &Exchange, bytes: &Bytes, judged: Option<Judged>, outcome: Outcome) {
        let too_large = bytes.len() > exchange.way().limits.inspect_bytes;
        exchange.answered(Answer {
            status: self.status.as_u16(),
            headers: self.headers,
            length: bytes.len() as u64,
            body: if too_large { Body::Not(NotInspected::TooLarge) } else { Body::Whole(bytes.clone()) },
            first_byte: self.first_byte,
            judged,
            outcome,
        });
    }
}

/// An answer that could not be held: refused, unless the operator lets such answers pass and it is still whole.
fn unjudged(
    exchange: &Exchange,
    head: response::Parts,
    not_held: NotHeld,
    first_byte: Instant,
) -> Response<WayBody> {
    let NotHeld { reason, rest } = not_held;
    let upstream_status = head.status.as_u16();
    let (outcome, response) = match rest {
        Some((collected, rest)) if exchange.route.guard.on_error == OnError::Pass => {
            let mut rest = Tee::new(rest, 0, exchange.way().timeouts.idle, |_, _| {});
            rest.cut_at(exchange.deadline());
            (Outcome::Answered, Response::from_parts(head, prefixed(collected, rest)))
        }
        _ => (Outcome::Unjudged, exchange.told(&Problem::UNJUDGED)),
    };
    exchange.metrics().contract_answers.inc(ContractOutcome::Unjudged);
    exchange.answered(Answer {
        status: upstream_status,
        headers: KeptLines::default(),
        length: 0,
        body: Body::Not(reason),
        first_byte,
        judged: None,
        outcome,
    });
    exchange.finished(response.status().as_u16());
    response
}

/// The answer as it came.
fn whole(head: response::Parts, bytes: Bytes, trailers: Option<HeaderMap>) -> Response<WayBody> {
    let body = match trailers {
        Some(trailers) => with_trailers(bytes, trailers),
        None => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
    };
    Response::from_parts(head, body)
}

/// An answer with another body: what described the old one no longer fits.
fn replaced(mut head: response::Parts, bytes: Bytes) -> Response<WayBody> {
    remove_descriptions(&mut head.headers);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(head, Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

/// Removes the headers that hold for one exact body only.
pub fn remove_descriptions(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, ACCEPT_RANGES, ETAG, LAST_MODIFIED, TRAILER]
    {
        headers.remove(name);
    }
    for name in ["content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input"] {
        headers.remove(name);
    }
}
