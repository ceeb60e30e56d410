//! A request's way through, one step a file.
//!
//! Who asks (`identity`), where it goes ([`route`]), whether it may ([`exchange`] asks the gate), the question
//! ([`question`]), the upstream ([`upstream`]), the answer ([`answer`], or held for its contract: [`hold`], event by
//! event: [`events`]). Outside of a hold no byte waits for analysis; whatever fails in analysis, the request flows.

pub mod answer;
pub mod body;
pub mod events;
pub mod exchange;
pub mod hold;
pub mod problem;
pub mod question;
pub mod route;
pub mod upstream;
pub mod verdict;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use checkgate_config::settings::{Limits, Timeouts};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use self::body::WayBody;
use self::exchange::{Answer, Exchange};
use self::problem::Problem;
use self::question::Asking;
use self::route::Routes;
use self::upstream::{Failure, Upstreams};
use crate::capture::Outcome;
use crate::decode::Decoder;
use crate::gate::{Gate, Refusal};
use crate::identity::Identify;
use crate::lane::Lanes;
use crate::metrics::Metrics;
use crate::metrics::labels::{CodeClass, UpstreamFailure};

/// What all requests share.
pub struct Way {
    /// Who asks.
    pub identify: Identify,
    /// Where requests go.
    pub routes: Routes,
    /// Decoders with default parameters, by position in the list of decoders.
    pub decoders: Vec<Option<Box<dyn Decoder>>>,
    /// The pooled client.
    pub upstreams: Upstreams,
    /// What is in force.
    pub gate: Arc<Gate>,
    /// Where captures go.
    pub lanes: Arc<Lanes>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Bounds.
    pub limits: Limits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Keys every hash.
    pub hash_key: [u64; 2],
    /// The next exchange's id; starts at a random number, so that ids of two runs do not meet.
    pub ids: AtomicU64,
}

impl Way {
    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// Takes one request to its answer.
pub async fn handle(way: Arc<Way>, peer: IpAddr, request: Request<Incoming>) -> Response<WayBody> {
    let Some(route) = way.routes.find(request.method(), request.uri().path()) else {
        way.metrics.unclaimed().requests.inc(CodeClass::ClientError);
        return Problem::NO_ROUTE.response();
    };
    let asker = way.identify.asker(peer, request.headers());
    let exchange = Exchange::begin(&way, asker, route, request.uri().path(), request.headers());
    if let Some(refusal) = exchange.refusal() {
        exchange.refused(&refusal);
        return refused(&refusal);
    }
    let (head, body) = request.into_parts();
    let method = head.method.clone();
    let body = match question::ask(&exchange, body).await {
        Asking::Goes(body) => body,
        Asking::Refused(refusal) => return blocked(&exchange, &refusal),
        Asking::Failed => return failed(&exchange, &Failure::Client),
    };
    let forwarded_for = way.identify.forwarded_for(peer, &head.headers);
    let request = upstream::forwarded(&exchange, head, forwarded_for, body);
    match upstream::ask(&exchange, request).await {
        Ok(answer) if exchange.route.inspected && exchange.route.guard.holds_answers() => {
            hold::answer(&exchange, &method, answer).await
        }
        Ok(answer) => answer::stream(&exchange, &method, answer),
        Err(Failure::Blocked(refusal)) => blocked(&exchange, &refusal),
        Err(failure) => failed(&exchange, &failure),
    }
}

fn refused(refusal: &Refusal) -> Response<WayBody> {
    Problem::blocked(refusal.decision, refusal.retry_after).response()
}

/// A decision came into force while the client waited for its answer.
fn blocked(exchange: &Exchange, refusal: &Refusal) -> Response<WayBody> {
    exchange.metrics().refused.inc();
    exchange.answered(Answer::none(Outcome::Blocked(refusal.decision)));
    exchange.finished(StatusCode::FORBIDDEN.as_u16());
    refused(refusal)
}

/// The upstream gave no answer. What the client hears names no host, port or cause.
fn failed(exchange: &Exchange, failure: &Failure) -> Response<WayBody> {
    let (problem, kind) = match failure {
        Failure::Connect => (Problem::BAD_GATEWAY, Some(UpstreamFailure::Connect)),
        Failure::Timeout => (Problem::GATEWAY_TIMEOUT, Some(UpstreamFailure::Timeout)),
        Failure::Broken | Failure::Blocked(_) => (Problem::BAD_GATEWAY, Some(UpstreamFailure::Protocol)),
        Failure::Client => (Problem::REQUEST_TIMEOUT, None),
    };
    if let Some(kind) = kind {
        exchange.metrics().upstream_errors.inc(kind);
    }
    exchange.answered(Answer::none(Outcome::UpstreamFailed));
    let response = problem.response();
    exchange.finished(response.status().as_u16());
    response
}
