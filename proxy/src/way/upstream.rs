//! Asking the upstream: how often, for how long, and what a failure is called.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version, request};

use super::body::WayBody;
use super::exchange::Exchange;
use crate::gate::Refusal;
use crate::identity::allowance;
use crate::transport::alarm::Alarm;
pub use crate::upstream::Upstreams;
use crate::upstream::answer::{AnswerBody, Came};
use crate::upstream::retry::{Outgoing, may_go_again};
use crate::upstream::{Cause, ClientFault, Missed, Overdue, Patience, Visit};

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
    let (mut answer, mut blocked) = (pin!(tried(exchange, outgoing)), pin!(exchange.blocked_meanwhile()));
    let came = poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Pending => blocked.as_mut().poll(context).map(|refusal| Err(Failure::Blocked(refusal))),
        answered => answered,
    });
    came.await?.response().ok_or(Failure::Broken)
}

/// The request as it is sent to its upstream.
pub fn addressed(exchange: &Exchange, mut head: request::Parts, body: WayBody) -> Outgoing {
    // Only the path is asked for; the host stands in its header, or did not stand anywhere.
    let path = head.uri.into_parts().path_and_query;
    head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    head.version = Version::HTTP_11;
    if exchange.route.inspected && (exchange.route.guard.holds_answers() || exchange.degraded().is_some()) {
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        head.headers.remove(GRPC_ACCEPT_ENCODING);
    }
    Outgoing::new(Request::from_parts(head, body), exchange.route.guard.upstream.retries() > 0)
}

/// Asks one server after the other, as often as the rules for sending again allow.
async fn tried(exchange: &Exchange, outgoing: &mut Outgoing) -> Result<Came, Failure> {
    let pool = &exchange.route.guard.upstream;
    let (mut tried, mut began) = (Vec::new(), exchange.first_try());
    let mut visit = visit(exchange, &[]).ok_or(Failure::Full)?;
    loop {
        let position = visit.position();
        let answer = pin!(one_try(exchange, visit, outgoing, began)).await;
        let missed = match answer {
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
        began = Instant::now();
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
    began: Instant,
) -> Result<Came, Missed> {
    if let Some(trace) = exchange.trace() {
        trace.asks_server(visit.server_name());
    }
    let timeouts = &exchange.way().timeouts;
    let patience = Patience { connect: timeouts.connect, stalled: timeouts.idle };
    let bell = pin!(exchange.question_complete());
    let mut overdue = TryEnds { exchange, began, bell };
    let mut answer = pin!(visit.ask(outgoing, patience, &mut overdue, began)).await?;
    if !exchange.is_asked() {
        answer.drive_apart();
    }
    Ok(answer)
}

/// When a try that began at `began` has lasted too long.
struct TryEnds<'a, B> {
    exchange: &'a Exchange,
    began: Instant,
    /// Resolves once the question is complete.
    bell: Pin<&'a mut B>,
}

impl<B: Future<Output = Instant>> TryEnds<'_, B> {
    /// As things stand: while the question is on its way only the end of the exchange counts.
    fn due(&self, asked: Option<Instant>) -> Instant {
        let Some(asked) = asked else { return self.exchange.deadline() };
        let this_try = asked.max(self.began) + self.exchange.way().timeouts.each_try;
        this_try.min(self.exchange.answer_due())
    }
}

impl<B: Future<Output = Instant>> Overdue for TryEnds<'_, B> {
    fn poll(&mut self, alarm: &mut Alarm, context: &mut Context<'_>) -> Poll<()> {
        let asked = self.exchange.asked_at().or_else(|| match self.bell.as_mut().poll(context) {
            Poll::Ready(asked) => Some(asked),
            Poll::Pending => None,
        });
        alarm.poll(self.due(asked).into(), context)
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
