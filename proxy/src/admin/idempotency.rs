//! Requests that are sent again: the same `Idempotency-Key` gives the same answer and does nothing twice.
//!
//! Whoever gets no answer does not know whether the request was taken. With a key it may simply ask again, for a day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use checkgate_detectors::facts::Time;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use utoipa::IntoParams;

use super::AdminState;
use super::access::Actor;
use super::extract::{BODY_BYTES_MAX, too_large};
use super::problem::Problem;
use crate::metrics::labels::AdminBound;

/// The header with the key.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How long answers are remembered.
const SPAN: Duration = Duration::from_secs(24 * 3600);
/// Answers that are remembered.
const ANSWERS_MAX: usize = 1000;
/// Bytes of an answer that is remembered; a longer one is not, and its request may be done again.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Letters of a key.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 1..=255;

/// The key of a request that may be sent again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its description is used")]
pub struct KeyParam {
    /// The same key within 24 hours gives the same answer and does nothing twice; with another body it is 422, and 409
    /// while the first is still at work.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]{1,255}$")]
    key: Option<String>,
}

/// Answers by who asked and with which key.
#[derive(Debug, Default)]
pub struct Answers(Mutex<HashMap<Asked, Remembered, ahash::RandomState>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    who: Arc<str>,
    key: Bytes,
}

#[derive(Clone, Debug)]
struct Remembered {
    since: Time,
    /// What was asked, by hash.
    request: [u8; 32],
    /// Nothing while the request is at work.
    answer: Option<Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answers {
    /// Takes a request in hand; gives the answer where it was given before.
    fn begin(&self, asked: &Asked, request: [u8; 32], now: Time) -> Result<Option<Answer>, Problem> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(asked).filter(|known| now.since(known.since) < SPAN) {
            return known.again(request);
        }
        if all.len() >= ANSWERS_MAX {
            all.retain(|_, known| known.answer.is_none() || now.since(known.since) < SPAN);
        }
        if all.len() >= ANSWERS_MAX {
            let answered = all.iter().filter(|(_, known)| known.answer.is_some());
            let oldest = answered.min_by_key(|(_, known)| known.since).map(|(asked, _)| asked.clone());
            let mend = "send it again in a moment, or without a key";
            let full = || {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are at work", mend)
                    .bounded_by(AdminBound::Answers)
            };
            all.remove(&oldest.ok_or_else(full)?);
        }
        all.insert(asked.clone(), Remembered { since: now, request, answer: None });
        Ok(None)
    }

    fn finish(&self, asked: &Asked, answer: Answer) {
        if let Some(known) = self.0.lock().get_mut(asked) {
            known.answer = Some(answer);
        }
    }

    /// Forgets a request that has no answer worth keeping.
    fn give_up(&self, asked: &Asked) {
        let mut all = self.0.lock();
        if all.get(asked).is_some_and(|known| known.answer.is_none()) {
            all.remove(asked);
        }
    }
}

impl Remembered {
    fn again(&self, request: [u8; 32]) -> Result<Option<Answer>, Problem> {
        if self.request != request {
            let detail = "this Idempotency-Key came with another request";
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                detail,
                "use a new key for a new request",
            ));
        }
        let busy = || {
            let detail = "the first request with this Idempotency-Key is still at work";
            Problem::new(StatusCode::CONFLICT, detail, "send it again in a moment")
        };
        self.answer.clone().map(Some).ok_or_else(busy)
    }
}

/// Forgets a request whose client left before the answer.
struct InHand<'a> {
    answers: &'a Answers,
    asked: &'a Asked,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.answers.give_up(self.asked);
    }
}

/// Answers a POST with a key as it was answered before, if it was.
pub async fn again(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(key) = request.headers().get(KEY).filter(|_| request.method() == Method::POST).cloned() else {
        return Ok(next.run(request).await);
    };
    let Some(actor) = request.extensions().get::<Actor>().cloned() else {
        return Ok(next.run(request).await);
    };
    let key = Bytes::copy_from_slice(key.as_bytes());
    if !KEY_LENGTH.contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        let mend = "a key is 1 to 255 visible ASCII characters";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "this Idempotency-Key is none", mend));
    }
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| too_large())?;
    let mut hash = Context::new(&SHA256);
    hash.update(head.uri.path().as_bytes());
    hash.update(b"\0");
    hash.update(&body);
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    let asked = Asked { who: actor.who, key };
    if let Some(answer) = state.answers.begin(&asked, digest, (state.clock)())? {
        return Ok(replayed(answer));
    }
    let in_hand = InHand { answers: &state.answers, asked: &asked };
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    keep(&in_hand, response).await
}

async fn keep(in_hand: &InHand<'_>, response: Response) -> Result<Response, Problem> {
    if response.status().is_server_error() {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let lost =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too long", "ask without a key");
    let body = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(lost)?;
    let answer = Answer { status: head.status, headers: head.headers.clone(), body: body.clone() };
    in_hand.answers.finish(in_hand.asked, answer);
    Ok(Response::from_parts(head, Body::from(body)))
}

fn replayed(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(key: usize) -> Asked {
        Asked { who: "ci".into(), key: Bytes::from(key.to_string()) }
    }

    fn answer() -> Answer {
        Answer { status: StatusCode::CREATED, headers: HeaderMap::new(), body: Bytes::from_static(b"{}") }
    }

    #[test]
    fn a_request_is_done_once_within_a_day() {
        let (answers, now) = (Answers::default(), Time(0));
        assert!(answers.begin(&asked(1), [1; 32], now).unwrap().is_none(), "it is new");
        let busy = answers.begin(&asked(1), [1; 32], now).unwrap_err();
        assert_eq!(busy.status(), StatusCode::CONFLICT, "it is at work");
        answers.finish(&asked(1), answer());
        assert!(answers.begin(&asked(1), [1; 32], now).unwrap().is_some(), "it was answered");
        let other = answers.begin(&asked(1), [2; 32], now).unwrap_err();
        assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY, "another body");
        let who = Asked { who: "ops".into(), ..asked(1) };
        assert!(answers.begin(&who, [2; 32], now).unwrap().is_none(), "somebody else's key");
        assert!(answers.begin(&asked(1), [2; 32], now.plus(SPAN)).unwrap().is_none(), "a day later");
    }

    #[test]
    fn answers_are_bounded_and_those_at_work_stay() {
        let answers = Answers::default();
        for key in 0..3 * ANSWERS_MAX {
            answers.begin(&asked(key), [0; 32], Time(key as u64)).unwrap();
            answers.finish(&asked(key), answer());
        }
        assert_eq!(answers.0.lock().len(), ANSWERS_MAX);
        let answers = Answers::default();
        for key in 0..ANSWERS_MAX {
            answers.begin(&asked(key), [0; 32], Time(0)).unwrap();
        }
        let full = answers.begin(&asked(ANSWERS_MAX), [0; 32], Time(0)).unwrap_err();
        assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
        answers.give_up(&asked(0));
        assert!(answers.begin(&asked(ANSWERS_MAX), [0; 32], Time(0)).is_ok(), "one was given up");
    }
}
