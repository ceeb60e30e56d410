//! HTTP/2: hyper within explicit bounds, each request held to the rules of HTTP/1.1.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::Handler;
use super::downstream::Downstream;
use super::draining::turned;
use super::framed::Framed;
use super::ledger::{AnswerBody, Exchange, Ledger};
use super::peer::Peer;
use super::received::{Received, may_stand_still};
use super::refusal;
use super::rejected::Rejected;
use super::rules::Rules;
use super::turns::{Streams, Turns};
use crate::screen::Refused;
use crate::screen::http1::Bounds;
use crate::screen::http2::check;

/// What a client may send on one stream before its bytes are read.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// What it may send on all streams: the most memory that one connection's unread bodies can hold.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What waits to be written on one stream.
const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Header lists up to so much above the bound get the screen's answer, which is counted; above, the library's.
const HEADER_LIST_SLACK_BYTES: usize = 16 << 10;
/// Streams that were reset before they were accepted, and that the library reset for the client's errors: more at
/// once end the connection.
const RESET_STREAMS_MAX: usize = 32;
/// How often a silent client is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
/// What each field of a header list counts beyond its bytes (RFC 9113, 6.5.2).
const FIELD_BYTES: usize = 32;

/// Serves one connection until it ends; [`Framed::end`] knows why, where the stream ended it.
pub async fn serve<H: Handler>(
    framed: &mut Framed,
    handler: Arc<H>,
    peer: Arc<Peer>,
    downstream: Arc<Downstream>,
    rules: Arc<Rules>,
    draining: watch::Receiver<bool>,
) {
    let ledger = Arc::clone(framed.ledger());
    let streams = Streams::new(Arc::clone(&downstream));
    let builder = builder(&rules, streams.clone());
    let exchanges = Arc::clone(&ledger);
    let service = service_fn(move |request| {
        let stream = Stream {
            exchange: exchanges.begin(),
            turns: streams.begin(),
            rules: Arc::clone(&rules),
            downstream: Arc::clone(&downstream),
        };
        let (handler, peer) = (Arc::clone(&handler), Arc::clone(&peer));
        async move { Ok::<_, Infallible>(stream.answer(&*handler, &peer, request).await) }
    });
    drive(builder.serve_connection(TokioIo::new(framed), service), &ledger, draining).await;
}

/// Polls the connection until it is done or its stream has stopped it; says GOAWAY once where it winds down.
async fn drive<S, B>(
    connection: http2::Connection<TokioIo<&mut Framed>, S, Streams>,
    ledger: &Ledger,
    mut draining: watch::Receiver<bool>,
) where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Streams: Http2ServerConnExec<S::Future, B>,
{
    let mut connection = pin!(connection);
    let mut drains = pin!(turned(&mut draining));
    let (mut drained, mut told) = (false, false);
    let result = poll_fn(|context| {
        if !drained && drains.as_mut().poll(context).is_ready() {
            drained = true;
            ledger.wind_down();
        }
        loop {
            match connection.as_mut().poll(context) {
                Poll::Pending if ledger.is_stopped() => return Poll::Ready(Ok(())),
                Poll::Pending if ledger.is_winding_down() && !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                polled => return polled,
            }
        }
    })
    .await;
    // The client's affair: it left, or broke the protocol.
    result.unwrap_or_else(|error| tracing::debug!(%error, "connection ended early"));
}

/// One stream, once its head has come.
struct Stream {
    exchange: Exchange,
    turns: Arc<Turns>,
    rules: Arc<Rules>,
    downstream: Arc<Downstream>,
}

impl Stream {
    async fn answer<H: Handler>(
        self,
        handler: &H,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Response<AnswerBody<H::Body>> {
        let (head, body) = request.into_parts();
        if let Err(refused) = checked(&head, self.rules.bounds) {
            let reason = Rejected::Screen(refused);
            self.downstream.reject(reason);
            return refusal::response(self.exchange, reason);
        }
        let still = may_stand_still(&head.headers);
        let turn = (!still).then(|| self.turns.request(self.rules.body_bytes_per_second));
        let request = Request::from_parts(head, Received::new(body, turn));
        let response = handler.handle(peer, request).await;
        let turn = self.turns.answer(self.rules.answer_bytes_per_second);
        response.map(|body| self.exchange.answer(body, Some(turn)))
    }
}

fn builder(rules: &Rules, streams: Streams) -> http2::Builder<Streams> {
    let header_list = rules.bounds.head_bytes.saturating_add(HEADER_LIST_SLACK_BYTES);
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(rules.http2_streams)
        .max_header_list_size(u32::try_from(header_list).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .auto_date_header(false);
    builder
}

/// Holds a request to the bounds on heads, then to the rules.
fn checked(head: &Parts, bounds: Bounds) -> Result<(), Refused> {
    if head.headers.len() > bounds.header_lines {
        return Err(Refused::TooManyLines);
    }
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    if fields.sum::<usize>() > bounds.head_bytes {
        return Err(Refused::HeadTooLarge);
    }
    check(head)
}
