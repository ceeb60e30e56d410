//! A request's body as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::ledger::Ledger;
use super::turns::Turn;
use crate::wakes;

/// Bytes that are thrown away of a request that is answered unread, at most.
const DISCARDED_BYTES_MAX: u64 = 64 << 10;
/// How long their client may take to send them.
const DISCARDED_WITHIN: Duration = Duration::from_millis(250);

/// What a client sends after the head of its request.
#[derive(Debug)]
pub struct Received {
    incoming: Incoming,
    /// Where the stream of the connection does not measure the client's pace: in HTTP/2.
    turn: Option<Turn>,
    /// Where the connection ends with what is not read of it: in HTTP/1.1.
    ledger: Option<Arc<Ledger>>,
    /// Whether it was read to its end, or failed.
    ended: bool,
}

impl Received {
    pub(super) fn new(incoming: Incoming, turn: Option<Turn>) -> Self {
        Self { incoming, turn, ledger: None, ended: false }
    }

    /// The same body; where it is let go of before its end has come, `ledger` is told.
    pub(super) fn told_to(mut self, ledger: &Arc<Ledger>) -> Self {
        self.ledger = Some(Arc::clone(ledger));
        self
    }

    /// Reads what is left and throws it away, so that the connection can go on after an answer that does not depend on
    /// it: up to 64 KiB, and for 250 ms. Where that is not enough, the answer is the last one and says so. `expects`
    /// says that the client sends nothing before it is told to, which it shall not be.
    pub async fn discard(mut self, expects: bool) {
        let mut left = DISCARDED_BYTES_MAX;
        if expects || self.size_hint().lower() > left {
            return;
        }
        let all = async {
            while !self.is_end_stream()
                && let Some(Ok(frame)) = self.frame().await
            {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(rest) = left.checked_sub(length) else { return };
                left = rest;
            }
        };
        // Too slow or not, what there is to say has been said to the ledger.
        drop(timeout(DISCARDED_WITHIN, all).await);
    }

    /// Throws away what has come, and says whether that was the rest.
    fn has_come(&mut self) -> bool {
        let context = &mut Context::from_waker(Waker::noop());
        let mut left = DISCARDED_BYTES_MAX;
        while !self.ended && !self.is_end_stream() {
            let Poll::Ready(frame) = Pin::new(&mut *self).poll_frame(context) else { return false };
            let data = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
            let Some(rest) = left.checked_sub(data.map_or(0, |data| data.len() as u64)) else { return false };
            left = rest;
        }
        true
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.take()
            && !self.has_come()
        {
            ledger.leave_unread();
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let received = self.get_mut();
        let polled = wakes::piece(&mut received.incoming, context);
        received.ended |= match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        if let Some(turn) = &mut received.turn {
            match &polled {
                Poll::Pending => turn.begins(),
                Poll::Ready(Some(Ok(frame))) => turn.ends(frame.data_ref().map_or(0, Bytes::len)),
                Poll::Ready(_) => turn.ends(0),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Whether a stream may stand still by design, for as long as its exchange may: in gRPC either side may be silent
/// while the other speaks.
pub fn may_stand_still(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}
