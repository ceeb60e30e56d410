//! The answer to a degraded client: coarse, and when its turn has come.
//!
//! How coarse and how late follows from the rows that its client was answered under its decision and from the ladder of
//! the configuration (`gate/pace.rs`), so that neither tells of any score. A request takes one of few places before its
//! model is asked, and goes without an answer where its turn is too far off. Only such answers are held, within a cap and
//! a deadline; what is a stream, cannot be read or is too long comes in its turn and as it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use checkgate_detectors::facts::Features;
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
use super::in_flight::Permit;
use super::problem::Problem;
use super::verdict::Verdict;
use crate::clock;
use crate::decode;
use crate::gate::pace::{Ladder, Place, Turn};
use crate::gate::{Degraded, Refusal};
use crate::metrics::labels::DegradeOutcome;

/// A body of at least this size is read on a thread that may block.
const READ_INLINE_MAX: usize = 256 * 1024;

/// Bytes that count as a row where nobody can say how many rows there are.
const BYTES_OF_A_ROW: usize = 256;

/// How often a held answer looks whether its client is still degraded, or blocked by now.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The place of a degraded client's request, until it is answered.
#[derive(Debug)]
pub struct Admitted {
    place: Place,
    /// One of the places of all degraded clients.
    _permit: Permit,
}

/// A place for the request of a degraded client, or what it is told where there is none.
///
/// # Errors
/// The client has as many requests open as it may, its turn is too far off, or all degraded clients together have as many
/// open as they may.
pub fn admit(exchange: &Exchange, degraded: &Degraded) -> Result<Admitted, Refusal> {
    let ladder = Ladder::of(&exchange.route.guard.policy);
    let place = degraded.pace.enter(&ladder, clock::now());
    match place.zip(exchange.way().degraded.enter()) {
        Some((place, permit)) => Ok(Admitted { place, _permit: permit }),
        None => Err(later(degraded, &ladder)),
    }
}

/// What a client is told whose turn is too far off. It depends on the configuration alone.
fn later(degraded: &Degraded, ladder: &Ladder) -> Refusal {
    Refusal { decision: degraded.decision, throttled: true, retry_after: ladder.retry_after() }
}

/// The answer as a degraded client gets it, or the refusal of a client that was blocked while it waited.
pub async fn answer(
    exchange: &Arc<Exchange>,
    degraded: Degraded,
    method: &Method,
    response: Response<WayBody>,
) -> Response<WayBody> {
    let ladder = Ladder::of(&exchange.route.guard.policy);
    if !exchange.route.inspected {
        // What is no question of a model uses up nobody's turn.
        exchange.metrics().degraded_answers.inc(DegradeOutcome::Delayed);
        sleep(ladder.first()).await;
        return response;
    }
    // Where the decision came while the model was asked, the place is taken now.
    let admitted = exchange.take_admitted().filter(|admitted| admitted.place.is_of(&degraded.pace));
    let admitted = admitted.map_or_else(|| admit(exchange, &degraded), Ok);
    let given = match admitted {
        Ok(admitted) => {
            let degrading = Degrading { exchange: Arc::clone(exchange), degraded: degraded.clone(), ladder };
            degrading.coarse(method, response).await.map(|given| (given, admitted))
        }
        Err(_) => None,
    };
    let Some((Given { response, outcome, held }, _admitted)) = given else {
        exchange.metrics().degraded_answers.inc(DegradeOutcome::Refused);
        return exchange.told(&Problem::refused(&later(&degraded, &ladder)));
    };
    exchange.metrics().degraded_answers.inc(outcome);
    match blocked_while_held(exchange, held).await {
        Some(refusal) => {
            exchange.metrics().refused.inc();
            exchange.told(&Problem::refused(&refusal))
        }
        None => response,
    }
}

/// Waits for the turn of an answer, and no longer than its client is degraded; gives the block that came meanwhile.
async fn blocked_while_held(exchange: &Exchange, held: Duration) -> Option<Refusal> {
    let due = Instant::now() + held;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return exchange.refusal();
        }
        sleep(left.min(LOOK_EVERY)).await;
        if let Some(refusal) = exchange.refusal() {
            return Some(refusal);
        }
        exchange.degraded()?;
    }
}

/// What a degraded client gets.
struct Given {
    response: Response<WayBody>,
    outcome: DegradeOutcome,
    held: Duration,
}

/// Makes one answer coarse and gives it its turn.
#[derive(Clone)]
struct Degrading {
    exchange: Arc<Exchange>,
    degraded: Degraded,
    ladder: Ladder,
}

/// A whole body.
struct Collected {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

/// What came of a body that was not collected, and how much of it.
struct AsItCame {
    body: WayBody,
    length: usize,
}

/// What becomes of a body that was collected.
struct Written {
    changed: Option<Vec<u8>>,
    outcome: DegradeOutcome,
    held: Duration,
}

impl Degrading {
    /// The turn of an answer; nothing where that is too far off.
    fn turn(&self, rows: usize) -> Option<Turn> {
        self.degraded.pace.turn(&self.ladder, rows as u64, clock::now())
    }

    async fn coarse(&self, method: &Method, response: Response<WayBody>) -> Option<Given> {
        let (head, body) = response.into_parts();
        let as_it_came = |head, AsItCame { body, length }| {
            let held = self.turn(length.div_ceil(BYTES_OF_A_ROW))?.held;
            Some(Given { response: Response::from_parts(head, body), outcome: DegradeOutcome::Delayed, held })
        };
        if !carries_prediction(method, head.status) || decode::judge_head(&head.headers).is_err() {
            return as_it_came(head, AsItCame { body, length: 0 });
        }
        match self.collect(body).await {
            Ok(collected) => self.coarsened(head, collected).await,
            Err(rest) => as_it_came(head, rest),
        }
    }

    /// Collects the body within the cap and the deadline; otherwise gives back what came of it and the rest. A body that
    /// was cut stays one that was cut.
    async fn collect(&self, mut body: WayBody) -> Result<Collected, AsItCame> {
        let way = self.exchange.way();
        let deadline = Instant::now() + way.timeouts.hold_answer;
        let (mut bytes, mut trailers) = (BytesMut::new(), None);
        loop {
            let length = bytes.len();
            let frame = match timeout_at(deadline.into(), body.frame()).await {
                Err(_) => return Err(AsItCame { body: prefixed(bytes.freeze(), body), length }),
                Ok(None) => return Ok(Collected { bytes: bytes.freeze(), trailers }),
                Ok(Some(Err(error))) => return Err(AsItCame { body: cut(bytes.freeze(), error), length }),
                Ok(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
            let length = bytes.len();
            if length > way.limits.hold_bytes {
                return Err(AsItCame { body: prefixed(bytes.freeze(), body), length });
            }
        }
    }

    async fn coarsened(&self, mut head: response::Parts, collected: Collected) -> Option<Given> {
        let Collected { bytes, trailers } = collected;
        let Written { changed, outcome, held } = self.written(&head.headers, &bytes).await?;
        let body = match (changed, trailers) {
            (Some(changed), _) => {
                // What described the body as the model sent it no longer fits.
                hold::remove_descriptions(&mut head.headers);
                full(changed.into())
            }
            (None, Some(trailers)) => with_trailers(bytes, trailers),
            (None, None) => full(bytes),
        };
        Some(Given { response: Response::from_parts(head, body), outcome, held })
    }

    /// The body made coarse, away from the request threads where it is large.
    async fn written(&self, headers: &HeaderMap, bytes: &Bytes) -> Option<Written> {
        if bytes.len() < READ_INLINE_MAX {
            return self.rewritten(headers, bytes);
        }
        let (degrading, headers, body) = (self.clone(), headers.clone(), bytes.clone());
        let rewriting = tokio::task::spawn_blocking(move || degrading.rewritten(&headers, &body));
        // The rewriting has panicked: what becomes of the body then is what becomes of one that cannot be read.
        rewriting.await.unwrap_or_else(|_| self.unread(bytes))
    }

    fn rewritten(&self, headers: &HeaderMap, body: &[u8]) -> Option<Written> {
        let (way, guard) = (self.exchange.way(), &self.exchange.route.guard);
        let Some(decoder) = self.exchange.route.decoder(&way.decoders) else { return self.unread(body) };
        let coarse = Coarse { decoder, columns_max: way.limits.columns };
        let mut features = Features::default();
        if coarse.read(headers, body, &mut features).is_err() {
            return self.unread(body);
        }
        let Turn { held, digits, .. } = self.turn(features.rows())?;
        let (changed, outcome) = match coarse.coarsen(&features, body, digits) {
            Coarsened::Changed(changed) if guard.holds_answers() && !self.keeps(headers, &changed) => {
                (None, DegradeOutcome::Contract)
            }
            Coarsened::Changed(changed) => (Some(changed), DegradeOutcome::Coarsened),
            Coarsened::Unchanged => (None, DegradeOutcome::Unchanged),
            Coarsened::Unreadable(_) => (None, DegradeOutcome::Delayed),
        };
        Some(Written { changed, outcome, held })
    }

    /// A body in which nobody sees rows counts as what it is long.
    fn unread(&self, body: &[u8]) -> Option<Written> {
        let held = self.turn(body.len().div_ceil(BYTES_OF_A_ROW))?.held;
        Some(Written { changed: None, outcome: DegradeOutcome::Delayed, held })
    }

    /// Whether a body keeps the contract: rounding moves a number past a bound now and then.
    fn keeps(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        matches!(hold::judge(&self.exchange, headers, body), Verdict::Kept(_))
    }
}

fn cut(bytes: Bytes, error: BodyError) -> WayBody {
    StreamBody::new(stream::iter([Ok(Frame::data(bytes)), Err(error)])).boxed_unsync()
}

fn full(bytes: Bytes) -> WayBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
