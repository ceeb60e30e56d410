//! A connection to a server, and one request on it.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::future::Either;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;

use super::connect::Origin;
use super::socket::{Counted, Watch};
use crate::transport::alarm::Alarm;
use crate::wakes::Standing;
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

/// A connection that can take a request. It is small, and keeps the head of an answer, because both are handed through
/// many hands.
#[derive(Debug)]
pub enum Connection {
    /// HTTP/1.1: one request at a time.
    Exclusive(Box<Exclusive>),
    /// A place for one request on an HTTP/2 connection.
    Shared(Box<Stream>),
}

/// Why a request that was sent has no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// What went wrong.
    pub error: hyper::Error,
    /// The request itself, where nothing of it was written.
    pub unsent: Option<Box<Request<WayBody>>>,
}

impl From<TrySendError<Request<WayBody>>> for Unanswered {
    fn from(mut error: TrySendError<Request<WayBody>>) -> Self {
        Self { unsent: error.take_message().map(Box::new), error: error.into_error() }
    }
}

/// Until when a try may last.
pub trait Overdue {
    /// Ready once it has lasted too long; otherwise the task is woken when it may have. It may use `alarm` for that,
    /// which outlives the try.
    fn poll(&mut self, alarm: &mut Alarm, context: &mut Context<'_>) -> Poll<()>;
}

/// A try that somebody else ends.
#[derive(Debug)]
pub struct Unbounded;

impl Overdue for Unbounded {
    fn poll(&mut self, _alarm: &mut Alarm, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Connection {
    /// Sends a request and waits for the head of its answer, which [`Connection::answer`] gives; `None` where it is
    /// overdue.
    ///
    /// # Errors
    /// Where there is none; with the request, where nothing of it was written.
    pub fn send<'a, O: Overdue>(
        &'a mut self,
        mut request: Request<WayBody>,
        origin: &Origin,
        overdue: &'a mut O,
    ) -> impl Future<Output = Option<Result<(), Unanswered>>> + use<'a, O> {
        // The request is handed over before the first poll: a future that held it would be copied along with it.
        match self {
            Self::Exclusive(exclusive) => {
                address_http1(&mut request, origin);
                Either::Left(exclusive.send(request, overdue))
            }
            Self::Shared(stream) => {
                address_http2(&mut request, origin);
                let answer = stream.shared.sender.clone().try_send_request(request);
                Either::Right(async move {
                    let (mut answer, mut alarm) = (pin!(answer), Alarm::default());
                    poll_fn(|context| match answer.as_mut().poll(context) {
                        Poll::Pending => overdue.poll(&mut alarm, context).map(|()| None),
                        Poll::Ready(answer) => Poll::Ready(Some(came(&mut stream.answer, answer))),
                    })
                    .await
                })
            }
        }
    }

    /// The answer to the request that was sent on it, once its head has come and until somebody takes it.
    pub fn answer(&mut self) -> &mut Option<Response<Incoming>> {
        match self {
            Self::Exclusive(exclusive) => &mut exclusive.answer,
            Self::Shared(stream) => &mut stream.answer,
        }
    }

    /// Whether requests of others travel on it as well.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Gives it a task of its own, for whoever does not move it along.
    pub fn drive_apart(&mut self) {
        if let Self::Exclusive(exclusive) = self {
            exclusive.drive_apart();
        }
    }

    /// No further request shall be sent on it.
    pub fn retire(&self) {
        if let Self::Shared(stream) = self {
            stream.shared.is_retired.store(true, Ordering::Relaxed);
        }
    }
}

/// Keeps the answer that came.
fn came(
    kept: &mut Option<Response<Incoming>>,
    answer: Result<Response<Incoming>, TrySendError<Request<WayBody>>>,
) -> Result<(), Unanswered> {
    *kept = Some(answer?);
    Ok(())
}

/// What reads from and writes to the socket of an HTTP/1.1 connection.
pub type Driver = http1::Connection<TokioIo<Counted>, WayBody>;

/// An HTTP/1.1 connection in the hands of one request.
///
/// Whoever waits for its answer moves it along, in the same task: a task of its own would be woken and scheduled three
/// times a request. Only where an answer comes before its question is whole does it get one, since from then on either
/// may stand still while the other goes on.
pub struct Exclusive {
    sender: http1::SendRequest<WayBody>,
    /// `None` once a task of its own moves it.
    driver: Option<Driver>,
    watch: Arc<Watch>,
    /// The answer to the request that is open, as far as nobody has taken it.
    answer: Option<Response<Incoming>>,
    /// Rings when a try on it is overdue. Deadlines of later tries are later, so that a busy connection hardly ever
    /// touches the timers.
    alarm: Alarm,
    /// Wakes whoever moves it along.
    mover: Standing,
}

impl fmt::Debug for Exclusive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exclusive").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl Exclusive {
    /// A new connection.
    pub fn new(sender: http1::SendRequest<WayBody>, driver: Driver, watch: Arc<Watch>) -> Self {
        let (alarm, mover) = (Alarm::default(), Standing::default());
        Self { sender, driver: Some(driver), watch, answer: None, alarm, mover }
    }

    /// Whether it can take a request at once, as far as it was moved along: the last one was written and its answer
    /// read to the end.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Moves it along while nobody waits for it, and says whether it can take a request at once.
    pub fn settles(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.is_ready()
    }

    /// Waits until it can take a request; says whether it ever can.
    pub async fn becomes_ready(&mut self) -> bool {
        poll_fn(|context| {
            self.drive(context);
            self.sender.poll_ready(context)
        })
        .await
        .is_ok()
    }

    /// Whether it can never take a request again.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Makes the socket be looked at before the next request is written.
    pub fn look_first(&self) {
        self.watch.look_first();
    }

    /// Reads and writes what can be read and written, and has the task woken when there is more.
    pub fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(&mut self.mover.before(context)).is_ready()
        {
            // Its end, and its error as well, reaches the request that is open on it.
            self.driver = None;
        }
    }

    /// Gives it a task of its own.
    fn drive_apart(&mut self) {
        if let Some(driver) = self.driver.take() {
            tokio::spawn(async move { drop(driver.await) });
        }
    }

    /// Whether whoever waits for something on it must move it along.
    pub fn is_driven_here(&self) -> bool {
        self.driver.is_some()
    }

    /// How whoever waits for something on it is woken. While the connection is moved along in the same task, whatever
    /// comes of that is looked at right afterwards, and a wake would only have the task polled once more for nothing.
    pub fn told_by<'a>(&self, context: &mut Context<'a>) -> Context<'a> {
        Context::from_waker(if self.is_driven_here() { Waker::noop() } else { context.waker() })
    }

    fn send<'a, O: Overdue>(
        &'a mut self,
        request: Request<WayBody>,
        overdue: &'a mut O,
    ) -> impl Future<Output = Option<Result<(), Unanswered>>> + use<'a, O> {
        self.watch.begin();
        let answer = self.sender.try_send_request(request);
        async move {
            let mut answer = pin!(answer);
            poll_fn(|context| {
                self.drive(context);
                match answer.as_mut().poll(&mut self.told_by(context)) {
                    Poll::Pending => {
                        overdue.poll(&mut self.alarm, &mut self.mover.before(context)).map(|()| None)
                    }
                    Poll::Ready(answer) => Poll::Ready(Some(came(&mut self.answer, answer))),
                }
            })
            .await
        }
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
        Stream { shared: Arc::clone(self), answer: None }
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
    /// The answer to the request, as far as nobody has taken it.
    answer: Option<Response<Incoming>>,
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
