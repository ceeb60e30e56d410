//! The stream of an HTTP/2 connection: frames that cost a client nothing are counted against budgets, and an idle
//! connection ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::downstream::Downstream;
use super::ledger::Ledger;
use super::rejected::Rejected;
use super::rules::Rules;
use super::sent::{Sent, Sign};
use super::wire::{EARLY_BYTES, Wire};
use crate::screen::frames::Frames;

/// A connection has begun with its preface and the shortest SETTINGS frame (RFC 9113, 3.4).
const OPENING_BYTES: usize = EARLY_BYTES + 9;
/// How long a client that was told GOAWAY may take to close.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a parser of HTTP/2 reads from and writes to.
#[derive(Debug)]
pub struct Framed {
    wire: Wire,
    frames: Frames,
    sent: Sent,
    downstream: Arc<Downstream>,
    rules: Arc<Rules>,
    ledger: Arc<Ledger>,
    accepted: Instant,
    alarm: Alarm,
    received: usize,
    waiting: Option<Waiting>,
    end: Option<Rejected>,
}

/// The client is waited for while nothing is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    stage: Stage,
    due: Instant,
}

/// How far a connection is on which nothing is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Idle { begun: u32 },
    WindingDown,
}

impl Framed {
    /// Over a connection that was accepted at `accepted`.
    #[must_use]
    pub fn new(wire: Wire, rules: Arc<Rules>, accepted: Instant, downstream: Arc<Downstream>) -> Self {
        Self {
            wire,
            frames: Frames::default(),
            sent: Sent::default(),
            downstream,
            rules,
            ledger: Arc::default(),
            accepted,
            alarm: Alarm::default(),
            received: 0,
            waiting: None,
            end: None,
        }
    }

    /// What is open.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Why the stream ended the connection, if it did.
    pub fn end(&self) -> Option<Rejected> {
        self.end.or(self.wire.is_too_slow().then_some(Rejected::AnswerRate))
    }

    /// Its bytes, once no parser reads them any more.
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    fn count(&mut self, buffer: &mut ReadBuf<'_>, start: usize) -> Poll<io::Result<()>> {
        let bytes = buffer.filled().get(start..).unwrap_or_default();
        self.received = self.received.saturating_add(bytes.len());
        match self.frames.read(bytes, self.accepted.elapsed()) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(refused) => {
                buffer.set_filled(start);
                self.stop(Rejected::Screen(refused))
            }
        }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        let downstream = &self.downstream;
        self.sent.read(bytes, |sign| {
            downstream.reject(match sign {
                Sign::StreamRefused => Rejected::Http2Streams,
                Sign::Calm => Rejected::Http2Calm,
            });
        });
    }

    /// The connection ends here; its driver drops the parser.
    fn stop(&mut self, reason: Rejected) -> Poll<io::Result<()>> {
        self.end.get_or_insert(reason);
        self.wire.freeze();
        self.ledger.stop();
        Poll::Pending
    }

    /// Nothing came: waits for the client as long as it may be waited for.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(waiting) = self.waiting(context) {
            ready!(self.alarm.poll(waiting.due, context));
            match waiting.stage {
                Stage::Opening => return self.stop(Rejected::HeadTimeout),
                Stage::Idle { .. } => {
                    self.end = Some(Rejected::KeepAlive);
                    self.ledger.wind_down();
                }
                Stage::WindingDown => {
                    self.ledger.stop();
                    return Poll::Pending;
                }
            }
        }
        Poll::Pending
    }

    /// Until when the client is waited for; `None` while a stream is open.
    fn waiting(&mut self, context: &Context<'_>) -> Option<Waiting> {
        self.waiting =
            if self.ledger.is_open_or_wakes(context) { None } else { Some(self.wait_for(self.stage())) };
        self.waiting
    }

    fn wait_for(&self, stage: Stage) -> Waiting {
        let same = self.waiting.filter(|waiting| waiting.stage == stage);
        same.unwrap_or_else(|| Waiting {
            stage,
            due: match stage {
                Stage::Opening => self.accepted + self.rules.head,
                Stage::Idle { .. } => Instant::now() + self.rules.keep_alive,
                Stage::WindingDown => Instant::now() + GOODBYE,
            },
        })
    }

    fn stage(&self) -> Stage {
        if self.ledger.is_winding_down() {
            Stage::WindingDown
        } else if self.received < OPENING_BYTES {
            Stage::Opening
        } else {
            Stage::Idle { begun: self.ledger.begun() }
        }
    }
}

impl AsyncRead for Framed {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let framed = self.get_mut();
        let start = buffer.filled().len();
        match Pin::new(&mut framed.wire).poll_read(context, buffer) {
            Poll::Pending => framed.poll_deadline(context),
            Poll::Ready(Ok(())) if buffer.filled().len() > start => framed.count(buffer, start),
            ended => ended,
        }
    }
}

impl AsyncWrite for Framed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.wrote(bytes.get(..count).unwrap_or_default());
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(mut count)) = written {
            for slice in slices {
                let part = slice.get(..count).unwrap_or(slice);
                self.wrote(part);
                count -= part.len();
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}
