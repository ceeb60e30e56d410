//! When a request may be sent again, and what of it is kept for that.
//!
//! A request that is not idempotent is never sent twice: it goes again only where nothing of it was written, or where
//! the server itself said that it did not look at it.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use parking_lot::Mutex;

use crate::way::body::{BodyError, WayBody};

/// Bytes of a body that are kept for a second try on HTTP/2.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of it was written.
    Unsent,
    /// It was written, and the server said that it did not process it (RFC 9113, 8.7).
    Unprocessed,
    /// It may have been processed.
    Sent,
}

/// Whether a request of this method that came this far may be sent again (RFC 9110, 9.2.2).
pub fn may_go_again(stage: Stage, method: &Method) -> bool {
    stage != Stage::Sent || is_idempotent(method)
}

fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}

/// What an error of hyper's says of how far its request came.
pub fn stage(error: &hyper::Error) -> Stage {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    let refused = cause.is_some_and(|cause| {
        let is_refused = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        // h2 gives this error to the streams above the last one that the server says it looks at, and to no other.
        cause.is_remote() && (is_refused || cause.is_go_away())
    });
    if refused { Stage::Unprocessed } else { Stage::Sent }
}

/// A request on its way out, with what is needed to send it again.
pub struct Outgoing {
    request: Option<Request<WayBody>>,
    spare: Option<Spare>,
    /// Whether it shall ever be sent again.
    is_kept: bool,
    method: Method,
}

/// The copy of a request.
struct Spare {
    head: request::Parts,
    /// `None` where the body is empty.
    body: Option<Arc<Mutex<Source>>>,
}

impl Outgoing {
    /// A request that `is_kept` for further tries as far as the rules allow them.
    pub fn new(request: Request<WayBody>, is_kept: bool) -> Self {
        let method = request.method().clone();
        let spare = (is_kept && is_idempotent(&method) && request.body().is_end_stream())
            .then(|| Spare { head: head_of(&request), body: None });
        Self { request: Some(request), spare, is_kept, method }
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        let spare = || self.spare.as_ref().map(|spare| &spare.head.headers);
        self.request.as_ref().map(Request::headers).or_else(spare).unwrap_or(&NONE)
    }

    /// The request for the next try; `None` where nothing is left of it.
    ///
    /// `shared` says that it goes out on HTTP/2, where a server can say that it did not look at it: then its body is
    /// kept as well.
    pub fn take(&mut self, shared: bool) -> Option<Request<WayBody>> {
        if self.spare.is_none() && !(shared && self.is_kept) {
            return self.request.take();
        }
        let request = self.request.take().or_else(|| self.spare.as_ref().and_then(Spare::request))?;
        if !shared || !self.is_kept || self.spare.is_some() {
            return Some(request);
        }
        let head = head_of(&request);
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            self.spare = Some(Spare { head, body: None });
            return Some(Request::from_parts(parts, body));
        }
        let source = Arc::new(Mutex::new(Source::new(body)));
        self.spare = Some(Spare { head, body: Some(Arc::clone(&source)) });
        Some(Request::from_parts(parts, Recorded { source, reader: 0, next: 0 }.boxed_unsync()))
    }

    /// Takes back a request of which nothing was written.
    pub fn put_back(&mut self, request: Request<WayBody>) {
        self.request = Some(request);
    }

    /// Whether there is anything to send again.
    pub fn is_there(&self) -> bool {
        self.request.is_some() || self.spare.as_ref().is_some_and(Spare::is_whole)
    }

    /// The answer is there: what comes of the body from now on need not be kept.
    pub fn answered(&mut self) {
        if let Some(source) = self.spare.take().and_then(|spare| spare.body) {
            source.lock().forget();
        }
    }
}

fn head_of(request: &Request<WayBody>) -> request::Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head
}

impl Spare {
    fn is_whole(&self) -> bool {
        self.body.as_ref().is_none_or(|source| !source.lock().is_lost)
    }

    fn request(&self) -> Option<Request<WayBody>> {
        let body = match &self.body {
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Some(source) => Recorded::again(source)?.boxed_unsync(),
        };
        Some(Request::from_parts(self.head.clone(), body))
    }
}

/// A body and its beginning, as far as it was read and kept.
struct Source {
    inner: WayBody,
    given: Vec<Bytes>,
    given_bytes: usize,
    /// Who reads: a second try takes the body from the first.
    reader: u32,
    /// Whether the beginning is no longer kept.
    is_lost: bool,
}

impl Source {
    fn new(inner: WayBody) -> Self {
        Self { inner, given: Vec::new(), given_bytes: 0, reader: 0, is_lost: false }
    }

    fn keep(&mut self, data: &Bytes) {
        self.given_bytes = self.given_bytes.saturating_add(data.len());
        if self.given_bytes > KEPT_BYTES_MAX {
            self.forget();
        }
        if !self.is_lost {
            self.given.push(data.clone());
        }
    }

    fn forget(&mut self) {
        self.is_lost = true;
        self.given = Vec::new();
    }
}

/// A body that keeps what it gives, so that it can be given again.
struct Recorded {
    source: Arc<Mutex<Source>>,
    reader: u32,
    /// How many of the kept pieces were given.
    next: usize,
}

impl Recorded {
    /// The same body from its beginning; whoever read it before reads no more. `None` where the beginning is lost.
    fn again(source: &Arc<Mutex<Source>>) -> Option<Self> {
        let mut locked = source.lock();
        if locked.is_lost {
            return None;
        }
        locked.reader += 1;
        Some(Self { source: Arc::clone(source), reader: locked.reader, next: 0 })
    }
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut source = this.source.lock();
        if source.reader != this.reader {
            return Poll::Ready(Some(Err(BodyError::TakenBack)));
        }
        if let Some(data) = source.given.get(this.next).cloned() {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let polled = Pin::new(&mut source.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            match frame.data_ref() {
                Some(data) => {
                    source.keep(data);
                    this.next += 1;
                }
                // Trailers end the body and are not kept.
                None => source.forget(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.lock();
        self.next >= source.given.len() && source.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let source = self.source.lock();
        let kept = source.given.iter().skip(self.next).map(Bytes::len).sum::<usize>() as u64;
        let rest = source.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + kept);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + kept);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::Full;

    use super::*;

    fn post(body: &'static [u8]) -> Request<WayBody> {
        let body = Full::new(Bytes::from_static(body)).map_err(|never| match never {}).boxed_unsync();
        Request::post("/infer").body(body).unwrap()
    }

    fn read(request: Request<WayBody>) -> Bytes {
        request.into_body().collect().now_or_never().unwrap().unwrap().to_bytes()
    }

    #[test]
    fn only_what_is_harmless_goes_again() {
        for (stage, method, again) in [
            (Stage::Unsent, Method::POST, true),
            (Stage::Unprocessed, Method::POST, true),
            (Stage::Sent, Method::POST, false),
            (Stage::Sent, Method::PATCH, false),
            (Stage::Sent, Method::from_bytes(b"REPORT").unwrap(), false),
            (Stage::Sent, Method::GET, true),
            (Stage::Sent, Method::HEAD, true),
            (Stage::Sent, Method::PUT, true),
            (Stage::Sent, Method::DELETE, true),
        ] {
            assert_eq!(may_go_again(stage, &method), again, "{stage:?} {method}");
        }
    }

    #[test]
    fn a_body_on_http1_is_given_once() {
        let mut outgoing = Outgoing::new(post(b"question"), true);
        let request = outgoing.take(false).unwrap();
        assert!(!outgoing.is_there(), "nothing of it is kept");
        outgoing.put_back(request);
        assert!(outgoing.is_there(), "it came back unsent");
        assert_eq!(read(outgoing.take(false).unwrap()), "question");
    }

    #[test]
    fn a_body_on_http2_is_given_again_from_its_beginning() {
        let mut outgoing = Outgoing::new(post(b"question"), true);
        let mut first = outgoing.take(true).unwrap();
        let frame = first.body_mut().frame().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "question");
        let second = outgoing.take(true).unwrap();
        assert_eq!(second.body().size_hint().exact(), Some(8), "its length is announced again");
        assert_eq!(read(second), "question");
        let stolen = first.body_mut().frame().now_or_never().unwrap().unwrap();
        assert!(matches!(stolen, Err(BodyError::TakenBack)), "the first try reads no more");
    }

    #[test]
    fn a_long_body_is_not_kept() {
        static LONG: [u8; KEPT_BYTES_MAX + 1] = [b'x'; KEPT_BYTES_MAX + 1];
        let mut outgoing = Outgoing::new(post(&LONG), true);
        assert_eq!(read(outgoing.take(true).unwrap()).len(), LONG.len());
        assert!(!outgoing.is_there());
        assert!(outgoing.take(true).is_none());
    }

    #[test]
    fn nothing_is_kept_where_nothing_goes_again() {
        let mut outgoing =
            Outgoing::new(Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync()), false);
        outgoing.take(true).unwrap();
        assert!(!outgoing.is_there());
    }
}
