//! The question on its way: passed on as it comes, or held until the lane has judged it.

use std::sync::Arc;

use bytes::BytesMut;
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::body::{End, Kept, Tee, WayBody, prefixed};
use super::exchange::Exchange;
use crate::gate::Refusal;
use crate::metrics::labels::HeldOutcome;
use crate::transport::Received;

/// What becomes of a question.
pub enum Asking {
    /// It goes to the upstream with this body.
    Goes(WayBody),
    /// The lane's verdict refuses it.
    Refused(Refusal),
    /// It is longer than its model takes.
    TooLarge,
    /// It never became complete.
    Failed,
}

/// Passes the question on, with a copy for the lane.
pub async fn ask(exchange: &Arc<Exchange>, body: Received) -> Asking {
    // Where the length is announced, nothing of a body that is too long is read at all.
    if body.size_hint().lower() > exchange.route.guard.body_bytes_max {
        return Asking::TooLarge;
    }
    if !exchange.route.guard.holds_questions() || !exchange.route.inspected {
        return Asking::Goes(teed(exchange, body));
    }
    Box::pin(held(exchange, body)).await
}

fn teed(exchange: &Arc<Exchange>, body: Received) -> WayBody {
    let way = exchange.way();
    let kept_max = if exchange.route.inspected { way.limits.inspect_bytes } else { 0 };
    let teller = Arc::clone(exchange);
    let mut tee = Tee::new(body, kept_max, way.timeouts.idle, move |kept, end| teller.asked(kept, end));
    tee.cut_beyond(exchange.route.guard.body_bytes_max);
    tee.boxed_unsync()
}

/// Collects the question, hands it to the lane and waits for the verdict, within bounds: a question that is longer
/// than what is looked into, or a lane that takes too long, lets it go on.
async fn held(exchange: &Arc<Exchange>, mut body: Received) -> Asking {
    let way = exchange.way();
    let mut kept = Kept::new(way.limits.inspect_bytes);
    let mut collected = BytesMut::new();
    while !body.is_end_stream() {
        let frame = match timeout(way.timeouts.idle, body.frame()).await {
            Err(_) | Ok(Some(Err(_))) => return Asking::Failed,
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
        };
        let Ok(data) = frame.into_data() else { continue };
        kept.add(&data);
        collected.extend_from_slice(&data);
        if collected.len() > way.limits.inspect_bytes {
            way.metrics.held_questions.inc(HeldOutcome::TooLarge);
            let left_max = exchange.route.guard.body_bytes_max.saturating_sub(kept.length);
            exchange.asked(kept, End::Whole);
            let mut rest = Tee::new(body, 0, way.timeouts.idle, |_, _| {});
            rest.cut_beyond(left_max);
            return Asking::Goes(prefixed(collected.freeze(), rest));
        }
    }
    let (bell, verdict) = oneshot::channel();
    exchange.asked_and_held(kept, bell);
    let verdict = timeout(way.timeouts.hold_question, verdict).await;
    if let Some(refusal) = exchange.refusal() {
        way.metrics.held_questions.inc(HeldOutcome::Blocked);
        return Asking::Refused(refusal);
    }
    let refused_by = verdict.as_ref().ok().and_then(|told| told.as_ref().ok().copied().flatten());
    if let Some(refusal) = refused_by.and_then(|decision| exchange.refusal_of_content(decision)) {
        way.metrics.held_questions.inc(HeldOutcome::Campaign);
        return Asking::Refused(refusal);
    }
    way.metrics.held_questions.inc(if verdict.is_ok() { HeldOutcome::Passed } else { HeldOutcome::Deadline });
    Asking::Goes(Full::new(collected.freeze()).map_err(|never| match never {}).boxed_unsync())
}
