//! A connection to a server, and one request on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use super::connect::Origin;
use super::socket::Watch;
use crate::way::body::WayBody;

/// Requests that one HTTP/2 connection carries at once, where the server allows as many.
const STREAMS_MAX: usize = 100;

/// What a request wants to be sent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever the TLS handshake agrees upon.
    Agreed,
}

/// A connection that can take a request.
#[derive(Debug)]
pub enum Connection {
    /// HTTP/1.1: one request at a time.
    Exclusive(Exclusive),
    /// A place for one request on an HTTP/2 connection.
    Shared(Stream),
}

/// Why a request that was sent has no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// What went wrong.
    pub error: hyper::Error,
    /// The request itself, where nothing of it was written.
    pub unsent: Option<Request<WayBody>>,
}

impl From<TrySendError<Request<WayBody>>> for Unanswered {
    fn from(mut error: TrySendError<Request<WayBody>>) -> Self {
        Self { unsent: error.take_message(), error: error.into_error() }
    }
}

impl Connection {
    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Where there is none; with the request, where nothing of it was written.
    pub async fn send(
        &mut self,
        mut request: Request<WayBody>,
        origin: &Origin,
    ) -> Result<Response<Incoming>, Unanswered> {
        match self {
            Self::Exclusive(exclusive) => {
                address_http1(&mut request, origin);
                exclusive.send(request).await
            }
            Self::Shared(stream) => {
                address_http2(&mut request, origin);
                Ok(stream.shared.sender.clone().try_send_request(request).await?)
            }
        }
    }

    /// Whether requests of others travel on it as well.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Whether more interim answers came than may come. On HTTP/2 they are not counted: there they pass one by one and
    /// only the deadlines end them.
    pub fn is_flooded(&self) -> bool {
        matches!(self, Self::Exclusive(exclusive) if exclusive.watch.is_flooded())
    }

    /// No further request shall be sent on it.
    pub fn retire(&self) {
        if let Self::Shared(stream) = self {
            stream.shared.is_retired.store(true, Ordering::Relaxed);
        }
    }
}

/// An HTTP/1.1 connection in the hands of one request.
#[derive(Debug)]
pub struct Exclusive {
    sender: http1::SendRequest<WayBody>,
    watch: Arc<Watch>,
}

impl Exclusive {
    /// A new connection.
    pub fn new(sender: http1::SendRequest<WayBody>, watch: Arc<Watch>) -> Self {
        Self { sender, watch }
    }

    /// Whether it can take a request at once: the last one was written and its answer read to the end.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it can never take a request again.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until it can take a request; says whether it ever can.
    pub async fn becomes_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Makes the socket be looked at before the next request is written.
    pub fn look_first(&self) {
        self.watch.look_first();
    }

    async fn send(&mut self, mut request: Request<WayBody>) -> Result<Response<Incoming>, Unanswered> {
        self.watch.begin();
        let watch = Arc::clone(&self.watch);
        hyper::ext::on_informational(&mut request, move |_| watch.note_interim());
        Ok(self.sender.try_send_request(request).await?)
    }
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub struct Shared {
    sender: http2::SendRequest<WayBody>,
    open: AtomicUsize,
    /// Requests that the server allows at once, as far as it has said so.
    open_max: Arc<AtomicUsize>,
    is_retired: AtomicBool,
}

impl Shared {
    /// A new connection; `open_max` is where its task writes how many requests the server allows at once.
    pub fn new(sender: http2::SendRequest<WayBody>, open_max: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { sender, open: AtomicUsize::new(0), open_max, is_retired: AtomicBool::new(false) })
    }

    /// A place for one more request, whether or not there is room.
    pub fn stream(self: &Arc<Self>) -> Stream {
        self.open.fetch_add(1, Ordering::Relaxed);
        Stream { shared: Arc::clone(self) }
    }

    /// Whether it takes requests at all.
    pub fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.is_retired.load(Ordering::Relaxed)
    }

    /// Whether one more request can be sent at once.
    pub fn has_room(&self) -> bool {
        self.open() < STREAMS_MAX.min(self.open_max.load(Ordering::Relaxed))
    }

    /// Requests that are open on it.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// The place of one request on an HTTP/2 connection.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
}

impl Stream {
    /// The connection that it belongs to.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// HTTP/1.1 takes the path alone and names the host in a field (RFC 9112, 3.2.1).
fn address_http1(request: &mut Request<WayBody>, origin: &Origin) {
    *request.version_mut() = Version::HTTP_11;
    let named = request.uri().authority().and_then(|authority| authority.as_str().parse().ok());
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, named.unwrap_or_else(|| origin.host()));
    }
    if request.uri().authority().is_some() {
        *request.uri_mut() = Uri::from(path(request.uri()));
    }
    frame_http1(request);
}

/// The parser takes it for granted that a GET or HEAD of unknown length has no body, and would send the head alone:
/// its body would be lost, and one that was cut would look whole.
fn frame_http1(request: &mut Request<WayBody>) {
    let body = request.body();
    let has_length = body.size_hint().exact().is_some() || request.headers().contains_key(CONTENT_LENGTH);
    if !body.is_end_stream() && !has_length {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// HTTP/2 names scheme and host beside the path (RFC 9113, 8.3.1); there is no `Host` field then.
fn address_http2(request: &mut Request<WayBody>, origin: &Origin) {
    *request.version_mut() = Version::HTTP_2;
    let field = request.headers_mut().remove(HOST);
    let named = field.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority =
        named.or_else(|| request.uri().authority().cloned()).unwrap_or_else(|| origin.authority.clone());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(origin.scheme.clone());
    parts.authority = Some(authority);
    parts.path_and_query = Some(path(request.uri()));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}
