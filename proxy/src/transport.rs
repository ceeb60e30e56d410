//! Between pingora's sockets and hyper's HTTP: one accepted stream is one hyper connection.
//!
//! pingora owns the process, the listeners and the threads; hyper owns HTTP. This file is the only one that knows
//! both.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use http_body::Body;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use tokio::sync::watch;

/// From one byte of a head to the next, and between two requests of a kept connection.
const HEAD_IDLE: Duration = Duration::from_secs(60);
/// Longest head that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header lines that are read.
const HEADERS_MAX: usize = 256;

/// Answers the requests of one listener.
pub trait Handler: Send + Sync + 'static {
    /// The answer's body.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    /// Answers one request of `peer`.
    fn handle(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// A connection was accepted (`true`) or closed.
    fn connection(&self, open: bool);
}

/// A listener's application: hands every stream to hyper.
pub struct App<H> {
    handler: Arc<H>,
    draining: watch::Receiver<bool>,
}

impl<H: Handler> App<H> {
    /// Serves `handler` until `draining` turns true; then open requests finish and connections close.
    pub fn new(handler: Arc<H>, draining: watch::Receiver<bool>) -> Self {
        Self { handler, draining }
    }
}

#[async_trait]
impl<H: Handler> ServerApp for App<H> {
    async fn process_new(self: &Arc<Self>, session: Stream, _shutdown: &ShutdownWatch) -> Option<Stream> {
        let open = Open::new(Arc::clone(&self.handler));
        let peer = peer(&session);
        let service = service_fn(move |request| {
            let handler = Arc::clone(&open.0);
            async move { Ok::<_, Infallible>(handler.handle(peer, request).await) }
        });
        let mut draining = self.draining.clone();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_IDLE)
            .max_header_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .auto_date_header(false)
            .keep_alive(!*draining.borrow())
            .serve_connection(TokioIo::new(session), service);
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = turned(&mut draining) => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = result {
            // The client's affair: it left, or what it sent is no HTTP.
            tracing::debug!(%error, "connection ended early");
        }
        None
    }
}

/// Resolves once the drain begins.
async fn turned(draining: &mut watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        // Whoever could begin a drain is gone.
        std::future::pending::<()>().await;
    }
}

/// Counts a connection while it lives.
struct Open<H: Handler>(Arc<H>);

impl<H: Handler> Open<H> {
    fn new(handler: Arc<H>) -> Self {
        handler.connection(true);
        Self(handler)
    }
}

impl<H: Handler> Drop for Open<H> {
    fn drop(&mut self) {
        self.0.connection(false);
    }
}

/// The peer's address; a stream without one (a unix socket) is this machine's own.
fn peer(session: &Stream) -> IpAddr {
    let digest = session.get_socket_digest();
    let address = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet().copied());
    address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
