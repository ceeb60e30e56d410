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
use tokio::time::{Instant, Sleep, sleep_until};

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
    /// More came than may come.
    #[error("the body is too large")]
    TooLarge,
    /// The whole exchange took too long.
    #[error("the exchange took too long")]
    Late,
    /// The body was taken back, to be sent elsewhere.
    #[error("the body is sent elsewhere")]
    TakenBack,
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
pub fn prefixed<B>(collected: Bytes, rest: B) -> WayBody
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    let first = stream::once(async move { Ok(Frame::data(collected)) });
    let rest = BodyStream::new(rest.map_err(Into::into));
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
    length_max: u64,
    idle_max: Duration,
    /// When the exchange must be over, standing still or not.
    deadline: Option<Instant>,
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
        let mut tee = Self {
            inner,
            kept: Some(Kept::new(bytes_max)),
            on_end: Some(on_end),
            length_max: u64::MAX,
            idle_max,
            deadline: None,
            idle: None,
        };
        tee.end_if_empty();
        tee
    }

    /// Cuts the body as soon as more than `length_max` bytes have come.
    pub fn cut_beyond(&mut self, length_max: u64) {
        self.length_max = length_max;
    }

    /// Cuts the body where it has not ended at `deadline`.
    pub fn cut_at(&mut self, deadline: std::time::Instant) {
        self.deadline = Some(deadline.into());
    }

    fn is_too_long(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.length > self.length_max)
    }

    /// A transport does not ask again once it knows that nothing is left, or has the trailers, so the end must be seen
    /// here.
    fn end_if_empty(&mut self) {
        if self.inner.is_end_stream() {
            self.end(End::Whole);
        }
    }

    /// Whether the body has stood still for too long, or the exchange has lasted too long.
    fn stands_still(&mut self, context: &mut Context<'_>) -> bool {
        let end = self.idle_end();
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep_until(end)));
        idle.as_mut().poll(context).is_ready()
    }

    fn idle_end(&self) -> Instant {
        let end = Instant::now() + self.idle_max;
        self.deadline.map_or(end, |deadline| end.min(deadline))
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
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
                if this.is_too_long() {
                    this.end(End::Cut);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                // Kept for the next standstill, so that a streaming body sets up one timer, not one a chunk.
                if this.idle.is_some() {
                    let end = this.idle_end();
                    this.idle.iter_mut().for_each(|idle| idle.as_mut().reset(end));
                }
                if frame.is_trailers() {
                    this.end(End::Whole);
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
                Poll::Ready(Some(Err(if this.is_late() { BodyError::Late } else { BodyError::Idle })))
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
