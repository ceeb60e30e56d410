//! A model server whose every answer is scripted: content, framing, pauses, and the ways to break off.

use std::future::Future;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::{Body, whole};

/// A request as the model server got it.
#[derive(Clone, Debug)]
pub struct Question {
    /// Method.
    pub method: Method,
    /// Path with query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// A step of sending an answer's body.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes, as one chunk.
    Send(Bytes),
    /// Nothing for a while.
    Pause(Duration),
    /// Nothing until the test adds a permit.
    Await(Arc<Semaphore>),
    /// Trailers, and the end.
    Trailers(HeaderMap),
    /// The connection breaks.
    Break,
}

/// A scripted answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    before: Vec<Step>,
    steps: Vec<Step>,
}

impl Answer {
    /// 200 with a body of any type, sent whole with its length.
    #[must_use]
    pub fn whole(content: impl Into<Bytes>) -> Self {
        let steps = vec![Step::Send(content.into())];
        Self { status: StatusCode::OK, headers: HeaderMap::new(), before: Vec::new(), steps }
    }

    /// 200 with JSON text, which need not be valid.
    #[must_use]
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self::whole(text).header("content-type", "application/json")
    }

    /// 200 with a JSON value.
    #[must_use]
    pub fn value(value: &Value) -> Self {
        Self::json(value.to_string())
    }

    /// Server-sent events, each `data:` line a chunk of its own.
    #[must_use]
    pub fn events<'a>(data: impl IntoIterator<Item = &'a str>) -> Self {
        let steps = data.into_iter().map(|data| Step::Send(format!("data: {data}\n\n").into())).collect();
        Self::whole("").header("content-type", "text/event-stream").steps(steps)
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With one more header; one that HTTP does not allow is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(HeaderName::from_static(name), value);
        }
        self
    }

    /// Sent step by step instead, without a length unless a header says one.
    #[must_use]
    pub fn steps(mut self, steps: Vec<Step>) -> Self {
        self.steps = steps;
        self
    }

    /// The same body in chunks cut at `offsets`, which rise.
    #[must_use]
    pub fn cut_at(self, offsets: &[usize]) -> Self {
        let mut rest = self.content();
        let mut sent = 0;
        let mut steps = Vec::new();
        for offset in offsets {
            let piece = rest.split_to(offset.saturating_sub(sent).min(rest.len()));
            sent += piece.len();
            // The pause keeps the kernel from joining what the script cut.
            steps.extend([Step::Send(piece), Step::Pause(Duration::from_millis(2))]);
        }
        steps.push(Step::Send(rest));
        self.steps(steps)
    }

    /// The same body, compressed, with the header that says so.
    #[must_use]
    pub fn gzip(self) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory cannot fail.
        let packed = encoder.write_all(&self.content()).and_then(|()| encoder.finish()).unwrap_or_default();
        self.steps(vec![Step::Send(packed.into())]).header("content-encoding", "gzip")
    }

    /// With a trailer after the body.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &str) -> Self {
        let mut trailers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(value) {
            trailers.insert(HeaderName::from_static(name), value);
        }
        self.steps.push(Step::Trailers(trailers));
        self.header("trailer", name)
    }

    /// Not before this much time has passed.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        self.before.push(Step::Pause(pause));
        self
    }

    /// Not before the test adds a permit to `gate`.
    #[must_use]
    pub fn once(mut self, gate: &Arc<Semaphore>) -> Self {
        self.before.push(Step::Await(Arc::clone(gate)));
        self
    }

    /// All bytes that the script sends.
    #[must_use]
    pub fn content(&self) -> Bytes {
        let mut content = Vec::new();
        for step in &self.steps {
            if let Step::Send(piece) = step {
                content.extend_from_slice(piece);
            }
        }
        content.into()
    }

    async fn respond(self) -> Response<Body> {
        for step in &self.before {
            wait(step).await;
        }
        let body = match self.steps.as_slice() {
            [Step::Send(content)] => whole(content.clone()),
            _ => scripted(self.steps),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

async fn wait(step: &Step) {
    match step {
        Step::Pause(pause) => tokio::time::sleep(*pause).await,
        Step::Await(gate) => {
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
        }
        Step::Send(_) | Step::Trailers(_) | Step::Break => {}
    }
}

fn scripted(steps: Vec<Step>) -> Body {
    let (sender, channel) = Channel::new(1);
    tokio::spawn(send_steps(steps, sender));
    channel.boxed_unsync()
}

async fn send_steps(steps: Vec<Step>, mut sender: Sender<Bytes, io::Error>) {
    for step in steps {
        let sent = match step {
            Step::Send(piece) => sender.send_data(piece).await,
            Step::Trailers(trailers) => sender.send_trailers(trailers).await,
            Step::Break => return sender.abort(io::ErrorKind::ConnectionAborted.into()),
            Step::Pause(_) | Step::Await(_) => {
                wait(&step).await;
                Ok(())
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

type Responding = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Behaviour = Arc<dyn Fn(Request<Body>) -> Responding + Send + Sync>;

/// What a model server was asked so far.
#[derive(Debug, Default)]
pub struct Seen {
    heads: Mutex<Vec<(Method, String, HeaderMap)>>,
    open: AtomicUsize,
    bytes: AtomicUsize,
}

/// A model server on a free port of loopback; dropping it ends it.
#[derive(Debug)]
pub struct ModelServer {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

impl ModelServer {
    /// Answers each question, once it is whole, with what `script` makes of it.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn answering(script: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> io::Result<Self> {
        let script = Arc::new(script);
        let behaviour = move |request: Request<Body>| -> Responding {
            let script = Arc::clone(&script);
            Box::pin(async move {
                match whole_question(request).await {
                    Some(question) => script(&question).respond().await,
                    None => Answer::whole("").status(StatusCode::BAD_REQUEST).respond().await,
                }
            })
        };
        Self::start(Arc::new(behaviour)).await
    }

    /// Always the same answer.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn always(answer: Answer) -> io::Result<Self> {
        Self::answering(move |_| answer.clone()).await
    }

    /// Sends each request body back as it comes, with its content type.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn echo() -> io::Result<Self> {
        let behaviour = |request: Request<Body>| -> Responding {
            Box::pin(async move {
                let kind = request.headers().get(header::CONTENT_TYPE).cloned();
                let mut response = Response::new(request.into_body());
                response.headers_mut().extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
                response
            })
        };
        Self::start(Arc::new(behaviour)).await
    }

    async fn start(behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let accepting = tokio::spawn(accept(listener, behaviour, Arc::clone(&seen)));
        Ok(Self { address, seen, accepting })
    }

    /// Method, path and headers of every request so far, in order of arrival.
    #[must_use]
    pub fn heads(&self) -> Vec<(Method, String, HeaderMap)> {
        self.seen.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests came so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.seen.heads.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many bytes of request bodies came so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.seen.bytes.load(Ordering::SeqCst)
    }

    /// How many requests have no answer yet.
    #[must_use]
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn whole_question(request: Request<Body>) -> Option<Question> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let body = body.collect().await.ok()?.to_bytes();
    Some(Question { method: head.method, path, headers: head.headers, body })
}

async fn accept(listener: TcpListener, behaviour: Behaviour, seen: Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&behaviour), Arc::clone(&seen)));
    }
}

async fn serve(stream: TcpStream, behaviour: Behaviour, seen: Arc<Seen>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (behaviour, seen) = (Arc::clone(&behaviour), Arc::clone(&seen));
        async move {
            let head = (request.method().clone(), request.uri().to_string(), request.headers().clone());
            seen.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
            seen.open.fetch_add(1, Ordering::SeqCst);
            let response = behaviour(request.map(|body| counted(body, Arc::clone(&seen)))).await;
            seen.open.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    drop(stream.set_nodelay(true));
    // A peer that breaks off is part of what is tested; there is nobody to tell.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

fn counted(body: Incoming, seen: Arc<Seen>) -> Body {
    let count = move |frame: hyper::body::Frame<Bytes>| {
        seen.bytes.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::SeqCst);
        frame
    };
    body.map_frame(count).map_err(io::Error::other).boxed_unsync()
}

/// A server that answers whatever comes with the same raw bytes and closes: for answers that are no HTTP.
///
/// # Errors
/// Where no port is free.
pub async fn raw_server(answer: &'static [u8]) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let accepting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 65536];
                // One read is enough: the tests send small questions in one segment.
                drop(stream.read(&mut asked).await);
                drop(stream.write_all(answer).await);
                drop(stream.shutdown().await);
            });
        }
    });
    Ok((address, accepting))
}
