//! Bodies on their way: passed on chunk by chunk as they come, with a bounded copy for the lane.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use checkgate_detectors::facts::NotInspected;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::capture::Body;

/// What the request's way sends in either direction.
pub type WayBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection it came on failed.
    #[error("the body was cut: {0}")]
    Cut(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("the body stood still for too long")]
    Idle,
}

/// The copy of a body, as far as it is kept.
#[derive(Debug)]
pub struct Kept {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Bytes that went past.
    pub length: u64,
}

impl Kept {
    /// Keeps up to `bytes_max`; a longer body is not kept at all.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, length: 0 }
    }

    /// Takes note of a chunk. Copies: a clone of the chunk would pin the whole read buffer behind it.
    pub fn add(&mut self, chunk: &[u8]) {
        self.length += chunk.len() as u64;
        if self.length <= self.bytes_max as u64 {
            self.bytes.extend_from_slice(chunk);
        } else {
            self.bytes = Vec::new();
        }
    }

    /// The beginning of the body that is still there: all of it or nothing.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The copy as a capture carries it.
    pub fn into_body(self, end: End) -> Body {
        if self.length > self.bytes_max as u64 {
            Body::Not(NotInspected::TooLarge)
        } else if end == End::Cut {
            Body::Not(NotInspected::Truncated)
        } else {
            Body::Whole(self.bytes.into())
        }
    }
}

/// What was collected of a body, then the rest as it comes.
pub fn prefixed(collected: Bytes, rest: Incoming) -> WayBody {
    let first = stream::once(async move { Ok(Frame::data(collected)) });
    let rest = BodyStream::new(rest.map_err(BodyError::from));
    StreamBody::new(first.chain(rest)).boxed_unsync()
}

/// A whole body with its trailers. Its length is not announced: trailers travel with chunks only (RFC 9112, 7.1.2).
pub fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> WayBody {
    let frames = [Ok(Frame::data(bytes)), Ok(Frame::trailers(trailers))];
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It came whole.
    Whole,
    /// It was cut, or nobody wanted the rest.
    Cut,
}

/// A body that passes on what comes, keeps a copy, and says once how it ended.
pub struct Tee<B, F: FnOnce(Kept, End)> {
    inner: B,
    kept: Option<Kept>,
    on_end: Option<F>,
    idle_max: Duration,
    /// Set while the body stands still.
    idle: Option<Pin<Box<Sleep>>>,
}

impl<B, F> Tee<B, F>
where
    B: HttpBody<Data = Bytes, Error = hyper::Error> + Unpin,
    F: FnOnce(Kept, End),
{
    /// Wraps `inner`; calls `on_end` when it ends, which may be at once.
    pub fn new(inner: B, bytes_max: usize, idle_max: Duration, on_end: F) -> Self {
        let mut tee =
            Self { inner, kept: Some(Kept::new(bytes_max)), on_end: Some(on_end), idle_max, idle: None };
        tee.end_if_empty();
        tee
    }

    /// A transport does not ask again once it knows that nothing is left, so the end must be seen here.
    fn end_if_empty(&mut self) {
        if self.inner.is_end_stream() {
            self.end(End::Whole);
        }
    }

    fn stands_still(&mut self, context: &mut Context<'_>) -> bool {
        let limit = self.idle_max;
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(limit)));
        idle.as_mut().poll(context).is_ready()
    }
}

impl<B, F: FnOnce(Kept, End)> Tee<B, F> {
    fn end(&mut self, end: End) {
        if let (Some(kept), Some(on_end)) = (self.kept.take(), self.on_end.take()) {
            on_end(kept, end);
        }
    }
}

impl<B, F: FnOnce(Kept, End)> Drop for Tee<B, F> {
    fn drop(&mut self) {
        self.end(End::Cut);
    }
}

impl<B, F> HttpBody for Tee<B, F>
where
    B: HttpBody<Data = Bytes, Error = hyper::Error> + Unpin,
    F: FnOnce(Kept, End) + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(kept), Some(data)) = (&mut this.kept, frame.data_ref()) {
                    kept.add(data.chunk());
                }
                // Kept for the next standstill, so that a streaming body sets up one timer, not one a chunk.
                if let Some(idle) = &mut this.idle {
                    idle.as_mut().reset(Instant::now() + this.idle_max);
                }
                this.end_if_empty();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.end(End::Cut);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                this.end(End::Whole);
                Poll::Ready(None)
            }
            Poll::Pending if this.stands_still(context) => {
                this.end(End::Cut);
                Poll::Ready(Some(Err(BodyError::Idle)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
