//! Asking the upstream: how often, for how long, and what a failure is called.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version, request};
use tokio::time::{sleep_until, timeout_at};

use super::body::WayBody;
use super::exchange::Exchange;
use crate::gate::Refusal;
use crate::identity::allowance;
pub use crate::upstream::Upstreams;
use crate::upstream::answer::AnswerBody;
use crate::upstream::retry::{Outgoing, may_go_again};
use crate::upstream::{Cause, ClientFault, Missed, Patience, Visit};

/// The encodings of messages that a gRPC client takes; without it, none.
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Why there is no answer.
pub enum Failure {
    /// No connection could be made.
    Connect,
    /// No first byte in time.
    Timeout,
    /// The connection broke, or what came is no HTTP.
    Broken,
    /// Every server has as many requests open as it may.
    Full,
    /// The client's own body stood still or was cut.
    Client,
    /// The client's own body is longer than its model takes.
    TooLarge,
    /// A decision came into force while the client waited.
    Blocked(Refusal),
}

/// Sends the request and waits for the head of the answer.
///
/// # Errors
/// Says why there is none.
pub async fn ask(exchange: &Arc<Exchange>, outgoing: &mut Outgoing) -> Result<Response<AnswerBody>, Failure> {
    tokio::select! {
        biased;
        answer = tried(exchange, outgoing) => answer,
        refusal = exchange.blocked_meanwhile() => Err(Failure::Blocked(refusal)),
    }
}

/// The request as it is sent to its upstream.
pub fn addressed(exchange: &Exchange, mut head: request::Parts, body: WayBody) -> Outgoing {
    // Only the path is asked for; the host stands in its header, or did not stand anywhere.
    let path = head.uri.into_parts().path_and_query;
    head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    head.version = Version::HTTP_11;
    if exchange.route.inspected && (exchange.route.guard.holds_answers() || exchange.is_degraded()) {
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        head.headers.remove(GRPC_ACCEPT_ENCODING);
    }
    Outgoing::new(Request::from_parts(head, body), exchange.route.guard.upstream.retries() > 0)
}

/// Asks one server after the other, as often as the rules for sending again allow.
async fn tried(exchange: &Exchange, outgoing: &mut Outgoing) -> Result<Response<AnswerBody>, Failure> {
    let pool = &exchange.route.guard.upstream;
    let mut tried = Vec::new();
    let mut visit = visit(exchange, &[]).ok_or(Failure::Full)?;
    loop {
        let position = visit.position();
        let missed = match one_try(exchange, visit, outgoing).await {
            Ok(answer) => {
                outgoing.answered();
                return Ok(answer);
            }
            Err(missed) => missed,
        };
        tried.push(position);
        let again = tried.len() <= pool.retries() as usize
            && missed.cause.is_the_servers()
            && may_go_again(missed.stage, outgoing.method())
            && outgoing.is_there()
            && Instant::now() < exchange.answer_due();
        let next = if again { next_visit(exchange, &tried, &missed) } else { None };
        visit = next.ok_or_else(|| failure(&missed.cause))?;
        pool.metrics().retries.inc();
    }
}

/// A place at a server for the first try, counted where there is none.
fn visit(exchange: &Exchange, tried: &[usize]) -> Option<Visit> {
    let pool = &exchange.route.guard.upstream;
    let visit = pool.visit(allowance(&exchange.asker), tried);
    if visit.is_none() {
        pool.metrics().full.inc();
    }
    visit
}

/// A place at another server; where there is none the same again, unless it did not even accept a connection.
fn next_visit(exchange: &Exchange, tried: &[usize], missed: &Missed) -> Option<Visit> {
    let (pool, client) = (&exchange.route.guard.upstream, allowance(&exchange.asker));
    let same = || missed.cause.was_connected().then(|| pool.visit(client, &[])).flatten();
    pool.visit(client, tried).or_else(same)
}

async fn one_try(
    exchange: &Exchange,
    visit: Visit,
    outgoing: &mut Outgoing,
) -> Result<Response<AnswerBody>, Missed> {
    if let Some(trace) = exchange.trace() {
        trace.asks_server(visit.server_name());
    }
    let timeouts = &exchange.way().timeouts;
    let patience = Patience { connect: timeouts.connect, stalled: timeouts.idle };
    let overdue = pin!(overdue(exchange, Instant::now()));
    let mut answer = visit.ask(outgoing, patience, overdue).await?;
    if !exchange.is_asked() {
        answer.body_mut().drive_apart();
    }
    Ok(answer)
}

/// Resolves when a try that began at `began` has lasted too long.
async fn overdue(exchange: &Exchange, began: Instant) {
    if let Ok(asked) = timeout_at(exchange.deadline().into(), exchange.question_complete()).await {
        let this_try = asked.max(began) + exchange.way().timeouts.each_try;
        sleep_until(this_try.min(exchange.answer_due()).into()).await;
    }
}

fn failure(cause: &Cause) -> Failure {
    match cause {
        Cause::Connect(_) => Failure::Connect,
        Cause::Late => Failure::Timeout,
        Cause::Http(_) | Cause::Unsound(_) | Cause::Gone => Failure::Broken,
        Cause::Question(ClientFault::Incomplete) => Failure::Client,
        Cause::Question(ClientFault::TooLarge) => Failure::TooLarge,
    }
}
