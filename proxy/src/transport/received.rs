//! A request's body as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::turns::Turn;
use crate::wakes;

/// What a client sends after the head of its request.
#[derive(Debug)]
pub struct Received {
    incoming: Incoming,
    /// Where the stream of the connection does not measure the client's pace: in HTTP/2.
    turn: Option<Turn>,
}

impl Received {
    pub(super) fn new(incoming: Incoming, turn: Option<Turn>) -> Self {
        Self { incoming, turn }
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
