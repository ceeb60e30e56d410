//! The answer to a degraded client: coarse, and later than others get theirs.
//!
//! Only such answers are held, within a cap and a deadline; what is a stream, cannot be read or is too long comes later
//! and as it is. The delay is one fixed time from the configuration, so that it tells nothing of any score.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Method, Response, response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::{sleep, timeout_at};

use super::answer::carries_prediction;
use super::body::{BodyError, WayBody, prefixed, with_trailers};
use super::coarse::{Coarse, Coarsened};
use super::exchange::Exchange;
use super::hold;
use super::verdict::Verdict;
use crate::decode;
use crate::metrics::labels::DegradeOutcome;

/// A body of at least this size is read on a thread that may block.
const READ_INLINE_MAX: usize = 256 * 1024;

/// The answer as a degraded client gets it.
pub async fn answer(
    exchange: &Arc<Exchange>,
    method: &Method,
    response: Response<WayBody>,
) -> Response<WayBody> {
    let (response, outcome) = coarse(exchange, method, response).await;
    exchange.metrics().degraded_answers.inc(outcome);
    sleep(exchange.route.guard.policy.delay).await;
    response
}

async fn coarse(
    exchange: &Arc<Exchange>,
    method: &Method,
    response: Response<WayBody>,
) -> (Response<WayBody>, DegradeOutcome) {
    let (head, body) = response.into_parts();
    let predicts = exchange.route.inspected && carries_prediction(method, head.status);
    if !predicts || decode::judge_head(&head.headers).is_err() {
        return (Response::from_parts(head, body), DegradeOutcome::Delayed);
    }
    match collect(exchange, body).await {
        Ok(collected) => coarsened(exchange, head, collected).await,
        Err(as_it_came) => (Response::from_parts(head, as_it_came), DegradeOutcome::Delayed),
    }
}

/// A whole body.
struct Collected {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

/// Collects the body within the cap and the deadline; otherwise gives back what came of it and the rest. A body that was
/// cut stays one that was cut.
async fn collect(exchange: &Exchange, mut body: WayBody) -> Result<Collected, WayBody> {
    let way = exchange.way();
    let deadline = Instant::now() + way.timeouts.hold_answer;
    let (mut bytes, mut trailers) = (BytesMut::new(), None);
    loop {
        let frame = match timeout_at(deadline.into(), body.frame()).await {
            Err(_) => return Err(prefixed(bytes.freeze(), body)),
            Ok(None) => return Ok(Collected { bytes: bytes.freeze(), trailers }),
            Ok(Some(Err(error))) => return Err(cut(bytes.freeze(), error)),
            Ok(Some(Ok(frame))) => frame,
        };
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if bytes.len() > way.limits.hold_bytes {
            return Err(prefixed(bytes.freeze(), body));
        }
    }
}

fn cut(bytes: Bytes, error: BodyError) -> WayBody {
    StreamBody::new(stream::iter([Ok(Frame::data(bytes)), Err(error)])).boxed_unsync()
}

async fn coarsened(
    exchange: &Arc<Exchange>,
    mut head: response::Parts,
    collected: Collected,
) -> (Response<WayBody>, DegradeOutcome) {
    let Collected { bytes, trailers } = collected;
    let (changed, outcome) = changed(exchange, &head.headers, &bytes).await;
    let body = match (changed, trailers) {
        (Some(changed), _) => {
            // What described the body as the model sent it no longer fits.
            hold::remove_descriptions(&mut head.headers);
            full(changed.into())
        }
        (None, Some(trailers)) => with_trailers(bytes, trailers),
        (None, None) => full(bytes),
    };
    (Response::from_parts(head, body), outcome)
}

fn full(bytes: Bytes) -> WayBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The body made coarse, away from the request threads where it is large.
async fn changed(
    exchange: &Arc<Exchange>,
    headers: &HeaderMap,
    bytes: &Bytes,
) -> (Option<Vec<u8>>, DegradeOutcome) {
    if bytes.len() < READ_INLINE_MAX {
        return rewritten(exchange, headers, bytes);
    }
    let (exchange, headers, bytes) = (Arc::clone(exchange), headers.clone(), bytes.clone());
    let rewriting = tokio::task::spawn_blocking(move || rewritten(&exchange, &headers, &bytes));
    rewriting.await.unwrap_or((None, DegradeOutcome::Delayed))
}

fn rewritten(exchange: &Exchange, headers: &HeaderMap, body: &[u8]) -> (Option<Vec<u8>>, DegradeOutcome) {
    let (way, guard) = (exchange.way(), &exchange.route.guard);
    let Some(decoder) = exchange.route.decoder(&way.decoders) else { return (None, DegradeOutcome::Delayed) };
    let coarse = Coarse { decoder, digits: guard.policy.digits, columns_max: way.limits.columns };
    match coarse.coarsen(headers, body) {
        Coarsened::Changed(changed) if guard.holds_answers() && !keeps(exchange, headers, &changed) => {
            (None, DegradeOutcome::Contract)
        }
        Coarsened::Changed(changed) => (Some(changed), DegradeOutcome::Coarsened),
        Coarsened::Unchanged => (None, DegradeOutcome::Unchanged),
        Coarsened::Unreadable(_) => (None, DegradeOutcome::Delayed),
    }
}

/// Whether a body keeps the contract: rounding moves a number past a bound now and then.
fn keeps(exchange: &Exchange, headers: &HeaderMap, body: &[u8]) -> bool {
    matches!(hold::judge(exchange, headers, body), Verdict::Kept(_))
}
