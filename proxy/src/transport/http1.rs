//! HTTP/1.1: hyper behind the screen.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Handler;
use super::alarm::Alarm;
use super::draining::turned;
use super::ledger::Ledger;
use super::peer::Peer;
use super::received::Received;
use super::rejected::Rejected;
use super::rules::Rules;
use super::screened::Screened;
use crate::moment;
use crate::wakes::Relay;

type Io<'a> = TokioIo<&'a mut Screened>;

/// Serves one connection until it ends, and says why where nothing was asked for too long; where the stream ended it,
/// [`Screened::end`] knows why.
pub async fn serve<H: Handler>(
    screened: &mut Screened,
    handler: &H,
    peer: &Peer,
    rules: &Rules,
    draining: watch::Receiver<bool>,
) -> Option<Rejected> {
    let ledger = &Arc::clone(screened.ledger());
    let idle = Idle::new(rules.keep_alive, screened.first_due());
    let service = service_fn(move |request: Request<Incoming>| {
        let exchange = ledger.begin();
        async move {
            // Pinned where it is made: what is awaited by value is moved first, with all the room that it may need.
            let request = request.map(|body| Received::new(body, None).told_to(ledger));
            let mut response: Response<H::Body> = pin!(handler.handle(peer, request)).await;
            if ledger.has_unread() || handler.is_leaving() {
                // The client would send its next request into a connection that is being closed.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| exchange.answer(body, None)))
        }
    });
    let connection = builder(rules).serve_connection(TokioIo::new(screened), service);
    drive(connection, ledger, idle, draining).await
}

/// The least that the library takes as the size of its buffers.
const BUFFER_BYTES_MIN: usize = 8192;

/// The screen holds heads to the bounds and the deadlines; the parser's own bounds are the same or lie just above, and it
/// has no deadline. The library would buffer 400 KiB each way for a client that does not read; a head is all that must fit.
fn builder(rules: &Rules) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_buf_size((rules.bounds.head_bytes + 1).max(BUFFER_BYTES_MIN))
        .max_header_size(rules.bounds.head_bytes + 1)
        .max_headers(rules.bounds.header_lines)
        .auto_date_header(false);
    builder
}

/// Polls the connection until it is done, or its stream has stopped it, or nothing was asked for too long.
async fn drive<S, B>(
    connection: http1::Connection<Io<'_>, S>,
    ledger: &Ledger,
    mut idle: Idle,
    mut draining: watch::Receiver<bool>,
) -> Option<Rejected>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    let turns = draining.clone();
    let mut drains = pin!(turned(&mut draining));
    let (mut drained, mut waits) = (false, false);
    let ((relay, waker), mut task) = (Relay::new(), None::<Waker>);
    poll_fn(|context| {
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            relay.wakes(context.waker());
            task = Some(context.waker().clone());
        }
        let context = &mut Context::from_waker(&waker);
        // Whoever waits is woken by the same waker however often it asks, so it need not ask before there is news.
        if !drained && (!waits || !matches!(turns.has_changed(), Ok(false))) {
            waits = true;
            drained = drains.as_mut().poll(context).is_ready();
            if drained {
                connection.as_mut().graceful_shutdown();
            }
        }
        if let Poll::Ready(result) = moment::at_one_go(|| connection.as_mut().poll(context)) {
            // An error is the client's affair: it left in the middle of something.
            result.unwrap_or_else(|error| tracing::debug!(%error, "connection ended early"));
            return Poll::Ready(None);
        }
        if ledger.is_stopped() { Poll::Ready(None) } else { idle.poll(ledger, context).map(Some) }
    })
    .await
}

/// How long nothing may be asked. Once an answer has left, the parser is not polled before more comes, so that this is
/// looked at beside it.
struct Idle {
    keep_alive: Duration,
    alarm: Alarm,
    /// Exchanges begun before this pause.
    after: u32,
    due: Instant,
}

impl Idle {
    /// `first_due` is when the first request must have begun.
    fn new(keep_alive: Duration, first_due: Instant) -> Self {
        Self { keep_alive, alarm: Alarm::default(), after: 0, due: first_due }
    }

    fn poll(&mut self, ledger: &Ledger, context: &mut Context<'_>) -> Poll<Rejected> {
        if !ledger.is_idle() {
            return Poll::Pending;
        }
        let begun = ledger.begun();
        if self.after != begun {
            (self.after, self.due) = (begun, Instant::now() + self.keep_alive);
        }
        ready!(self.alarm.poll(self.due, context));
        Poll::Ready(if begun == 0 { Rejected::HeadTimeout } else { Rejected::KeepAlive })
    }
}
