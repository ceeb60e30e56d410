//! A request's way through, one step a file.
//!
//! Who asks (`identity`), where it goes ([`route`]), whether it may ([`exchange`] asks the gate), the question
//! ([`question`]), the upstream ([`upstream`]), the answer ([`answer`], or held for its contract: [`hold`], event by
//! event: [`events`]; to a degraded client coarse and in its turn: [`degrade`]). Outside of these no byte waits for analysis;
//! whatever fails in analysis, the request flows.

pub mod answer;
pub mod body;
pub mod coarse;
pub mod degrade;
pub mod events;
pub mod exchange;
pub mod headers;
pub mod hold;
pub mod in_flight;
pub mod problem;
pub mod question;
pub mod route;
pub mod splice;
pub mod upstream;
pub mod verdict;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use checkgate_config::settings::{Limits, Timeouts};
use http::header::EXPECT;
use http::{Request, Response, StatusCode};

use self::body::WayBody;
use self::exchange::{Answer, Exchange};
use self::headers::Hop;
use self::in_flight::{InFlight, Permit};
use self::problem::{Form, Problem};
use self::question::Asking;
use self::route::{Route, Routes};
use self::upstream::{Failure, Upstreams};
use crate::capture::Outcome;
use crate::clock;
use crate::decode::Decoder;
use crate::gate::{Gate, Refusal};
use crate::identity::Identify;
use crate::lane::Lanes;
use crate::metrics::Metrics;
use crate::metrics::labels::{CodeClass, Label, UpstreamFailure};
use crate::telemetry::trace::{Trace, Tracing};
use crate::transport::rejected::Rejected;
use crate::transport::{Peer, Received};

/// What all requests share.
pub struct Way {
    /// Who asks.
    pub identify: Identify,
    /// Where requests go.
    pub routes: Routes,
    /// Decoders with default parameters, by position in the list of decoders.
    pub decoders: Vec<Option<Box<dyn Decoder>>>,
    /// The servers behind the models.
    pub upstreams: Upstreams,
    /// What is in force.
    pub gate: Arc<Gate>,
    /// Where captures go.
    pub lanes: Arc<Lanes>,
    /// The requests that are open.
    pub in_flight: Arc<InFlight>,
    /// Those of them that are of degraded clients.
    pub degraded: Arc<InFlight>,
    /// Who traces requests, where traces are exported.
    pub tracing: Option<Arc<Tracing>>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Bounds.
    pub limits: Limits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Hashes bodies for a recording, keyed; `None` where nothing is recorded, for nothing else reads what it gives.
    pub body_hasher: Option<ahash::RandomState>,
    /// The next exchange's id; starts at a random number, so that ids of two runs do not meet.
    pub ids: AtomicU64,
}

impl Way {
    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// Takes one request to its answer.
pub async fn handle(way: Arc<Way>, peer: &Peer, request: Request<Received>) -> Response<WayBody> {
    let Some(permit) = way.in_flight.enter() else {
        way.metrics.rejected.inc(Rejected::InFlight);
        return unread(request, |request| unrouted(&way, request, &Problem::OVERLOADED)).await;
    };
    match way.routes.find(request.method(), request.uri().path()) {
        Some(route) => pin!(routed(&way, permit, peer, route, request)).await,
        None => unread(request, |request| unrouted(&way, request, &Problem::NO_ROUTE)).await,
    }
}

/// Takes a request to its answer, now that it is known where it goes. What few requests go through is boxed: the others
/// do not carry the room for it.
async fn routed(
    way: &Arc<Way>,
    permit: Permit,
    peer: &Peer,
    route: Route,
    request: Request<Received>,
) -> Response<WayBody> {
    let asker = way.identify.asker(peer, request.headers(), clock::now);
    let exchange = Exchange::begin(way, permit, asker, route, &request, peer.tls);
    if let Some(refusal) = exchange.entry_refusal() {
        exchange.refused(&refusal);
        return unread(request, |_| refused(&exchange, &refusal)).await;
    }
    let (mut head, body) = request.into_parts();
    let method = head.method.clone();
    let body = match question::ask(&exchange, body).await {
        Asking::Goes(body) => body,
        Asking::Refused(refusal) => return blocked(&exchange, &refusal),
        Asking::TooLarge => return failed(&exchange, &Failure::TooLarge),
        Asking::Failed => return failed(&exchange, &Failure::Client),
    };
    let hop = Hop {
        peer,
        trusted: way.identify.trusts(peer.ip),
        forwarded_for: way.identify.forwarded_for(peer, &head.headers),
        tagged_by: exchange.tagged_by(),
        traceparent: exchange.trace().and_then(Trace::header),
    };
    if headers::forward(&mut head, hop) {
        way.metrics.untrusted_hops.inc();
    }
    let mut outgoing = upstream::addressed(&exchange, head, body);
    if let Some(trace) = exchange.trace() {
        trace.asks_upstream();
    }
    let answer = pin!(upstream::ask(&exchange, &mut outgoing)).await;
    let answer = match answer {
        Ok(answer) if exchange.route.inspected && exchange.route.guard.holds_answers() => {
            Box::pin(hold::answer(&exchange, &method, answer)).await
        }
        Ok(answer) => answer::stream(&exchange, &method, answer),
        Err(Failure::Blocked(refusal)) => return blocked(&exchange, &refusal),
        Err(failure) => failed(&exchange, &failure),
    };
    match exchange.degraded() {
        Some(degraded) => Box::pin(degrade::answer(&exchange, degraded, &method, answer)).await,
        None => answer,
    }
}

/// The answer to a request whose body nobody wants. Few requests have one, so that the others carry no room for it.
async fn unread(
    request: Request<Received>,
    answer: impl FnOnce(&Request<Received>) -> Response<WayBody>,
) -> Response<WayBody> {
    let answer = answer(&request);
    let expects = request.headers().contains_key(EXPECT);
    Box::pin(request.into_body().discard(expects)).await;
    answer
}

/// The answer to a request that never was an exchange.
fn unrouted(way: &Way, request: &Request<Received>, problem: &Problem) -> Response<WayBody> {
    way.metrics.unclaimed().requests.inc(CodeClass::of(problem.status()));
    problem.response(Form::of(request.headers()))
}

fn refused(exchange: &Exchange, refusal: &Refusal) -> Response<WayBody> {
    exchange.told(&Problem::refused(refusal))
}

/// A decision came into force while the client waited for its answer.
fn blocked(exchange: &Exchange, refusal: &Refusal) -> Response<WayBody> {
    exchange.metrics().refused.inc();
    exchange.answered(Answer::none(Outcome::Blocked(refusal.decision)));
    exchange.finished(StatusCode::FORBIDDEN.as_u16());
    refused(exchange, refusal)
}

/// The upstream gave no answer. What the client hears names no host, port or cause.
fn failed(exchange: &Exchange, failure: &Failure) -> Response<WayBody> {
    let (problem, kind) = match failure {
        Failure::Connect => (Problem::BAD_GATEWAY, Some(UpstreamFailure::Connect)),
        Failure::Timeout => (Problem::GATEWAY_TIMEOUT, Some(UpstreamFailure::Timeout)),
        Failure::Broken | Failure::Blocked(_) => (Problem::BAD_GATEWAY, Some(UpstreamFailure::Protocol)),
        Failure::Full => (Problem::OVERLOADED, None),
        Failure::Client => (Problem::REQUEST_TIMEOUT, None),
        Failure::TooLarge => (Problem::BODY_TOO_LARGE, None),
    };
    if let (Some(trace), Some(kind)) = (exchange.trace(), kind) {
        trace.failed(kind.as_str());
    }
    match kind {
        Some(kind) => exchange.metrics().upstream_errors.inc(kind),
        None if matches!(failure, Failure::TooLarge) => {
            exchange.way().metrics.rejected.inc(Rejected::BodyTooLarge)
        }
        None => {}
    }
    exchange.answered(Answer::none(Outcome::UpstreamFailed));
    exchange.finished(problem.status());
    exchange.told(&problem)
}
