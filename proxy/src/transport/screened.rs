//! The stream of an HTTP/1.1 connection behind the screen: nothing unclean reaches the parser, and nobody is waited
//! for beyond the deadlines.
//!
//! These deadlines are looked at only while the parser waits for the client, that is where a read finds nothing in the
//! middle of a head or a body. Between two requests the parser may not read at all, so that deadline is the driver's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::ledger::Ledger;
use super::pace::Pace;
use super::rejected::Rejected;
use super::rules::Rules;
use super::wire::Wire;
use crate::screen::Refused;
use crate::screen::http1::{Http1, Phase};

/// What a parser of HTTP/1.1 reads from and writes to.
#[derive(Debug)]
pub struct Screened {
    wire: Wire,
    screen: Http1,
    rules: Arc<Rules>,
    ledger: Arc<Ledger>,
    accepted: Instant,
    alarm: Alarm,
    head: Option<HeadWait>,
    body_pace: Pace,
    /// After how many heads the body comes that the pace is measured for.
    body_after: u64,
    /// The bytes after those that the parser got are refused.
    fault: Option<Refused>,
    end: Option<End>,
}

/// Why the connection ends, where the stream ends it.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// What is counted.
    pub reason: Rejected,
    /// Whether the client is told: no answer has begun that this one would run into.
    pub says: bool,
}

/// The rest of a head is waited for.
#[derive(Clone, Copy, Debug)]
struct HeadWait {
    /// How many heads came whole before it.
    after: u64,
    due: Instant,
}

impl Screened {
    /// Over a connection that was accepted at `accepted`.
    #[must_use]
    pub fn new(wire: Wire, rules: Arc<Rules>, accepted: Instant) -> Self {
        Self {
            wire,
            screen: Http1::new(rules.bounds),
            body_pace: Pace::new(rules.body_bytes_per_second),
            rules,
            ledger: Arc::default(),
            accepted,
            alarm: Alarm::default(),
            head: None,
            body_after: 0,
            fault: None,
            end: None,
        }
    }

    /// What is open.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Why the stream ended the connection, if it did.
    pub fn end(&self) -> Option<End> {
        let too_slow = End { reason: Rejected::AnswerRate, says: false };
        self.end.or(self.wire.is_too_slow().then_some(too_slow))
    }

    /// When the first request must have begun.
    pub fn first_due(&self) -> Instant {
        self.accepted + self.rules.head
    }

    /// Whether the client may still be sending.
    pub fn is_mid_message(&self) -> bool {
        self.fault.is_some() || self.screen.phase() != Phase::Idle
    }

    /// Its bytes, once no parser reads them any more.
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// The parser gets what is clean of the bytes from `start` on.
    fn screen(&mut self, buffer: &mut ReadBuf<'_>, start: usize) -> Poll<io::Result<()>> {
        let bytes = buffer.filled().get(start..).unwrap_or_default();
        if self.screen.phase() == Phase::Body {
            self.body_pace.moved(bytes.len(), Instant::now);
        }
        let read = self.screen.read(bytes);
        self.ledger.set_mid_message(read.is_err() || self.screen.phase() != Phase::Idle);
        let Err(bad) = read else { return Poll::Ready(Ok(())) };
        self.fault = Some(bad.reason);
        let clean = bad.clean.min(bytes.len());
        buffer.set_filled(start + clean);
        if clean > 0 { Poll::Ready(Ok(())) } else { self.poll_fault(bad.reason) }
    }

    /// A fault in a body ends its exchange. One in a head waits until the exchange before it is answered, whose end
    /// has the parser read again.
    fn poll_fault(&mut self, fault: Refused) -> Poll<io::Result<()>> {
        let in_body = self.screen.phase() == Phase::Body;
        if in_body || (!self.ledger.is_open() && self.wire.is_at_rest()) {
            return self.stop(Rejected::Screen(fault));
        }
        Poll::Pending
    }

    /// Nothing came: waits for the client as long as it may be waited for.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(due) = self.due() else { return Poll::Pending };
        ready!(self.alarm.poll(due, context));
        self.stop(match self.screen.phase() {
            Phase::Body => Rejected::BodyRate,
            Phase::Head | Phase::Idle => Rejected::HeadTimeout,
        })
    }

    /// Until when the client is waited for; `None` where the rest of a message is not what is waited for.
    fn due(&mut self) -> Option<Instant> {
        match self.screen.phase() {
            Phase::Idle => None,
            Phase::Head => self.head_due(),
            Phase::Body => self.body_due(),
        }
    }

    /// The clock of a head stands while an exchange before it is open.
    fn head_due(&mut self) -> Option<Instant> {
        let heads = self.screen.heads();
        self.head = if self.ledger.is_open() {
            None
        } else {
            let same = self.head.filter(|head| head.after == heads);
            same.or_else(|| Some(HeadWait { after: heads, due: self.new_head_due() }))
        };
        self.head.map(|head| head.due)
    }

    fn new_head_due(&self) -> Instant {
        let since = if self.screen.heads() == 0 { self.accepted } else { Instant::now() };
        since + self.rules.head
    }

    fn body_due(&mut self) -> Option<Instant> {
        let heads = self.screen.heads();
        if self.body_after != heads {
            self.body_after = heads;
            self.body_pace.restart();
        }
        self.body_pace.waits(Instant::now)
    }

    /// The connection ends here, for a reason that the client hears where it still can. The parser hears nothing of it:
    /// its driver drops it, and with it whatever is open, so that nobody takes what came for whole.
    fn stop(&mut self, reason: Rejected) -> Poll<io::Result<()>> {
        let says = !self.ledger.is_answering() && self.wire.is_at_rest();
        self.end = Some(End { reason, says });
        self.wire.freeze();
        self.ledger.stop();
        Poll::Pending
    }
}

impl AsyncRead for Screened {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let screened = self.get_mut();
        if let Some(fault) = screened.fault {
            return screened.poll_fault(fault);
        }
        let start = buffer.filled().len();
        match Pin::new(&mut screened.wire).poll_read(context, buffer) {
            Poll::Pending => screened.poll_deadline(context),
            Poll::Ready(Ok(())) if buffer.filled().len() > start => screened.screen(buffer, start),
            ended => ended,
        }
    }
}

impl AsyncWrite for Screened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waited = !self.wire.is_at_rest();
        let flushed = Pin::new(&mut self.wire).poll_flush(context);
        if waited && flushed.is_ready() && self.fault.is_some() {
            // A fault waits for this answer to have left, and nothing else would wake the reader.
            context.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}
