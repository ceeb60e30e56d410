//! Between sockets and hyper's HTTP: one accepted stream is one hyper connection.
//!
//! A [`listener`] accepts; hyper owns HTTP, and this room is the only one that speaks it with clients. A stream passes,
//! in this order: the caps on connections ([`caps`]), the header by which a load balancer says whom it is from
//! ([`introduced`]), the handshake and the choice of the protocol ([`greet`]), the screen with its deadlines
//! ([`screened`], [`framed`]), and hyper ([`http1`], [`http2`]).

pub mod alarm;
pub mod caps;
pub mod downstream;
mod draining;
mod framed;
mod greet;
mod http1;
mod http2;
mod introduced;
mod ledger;
pub mod listener;
mod pace;
mod peer;
mod received;
mod refusal;
pub mod rejected;
pub mod rules;
mod screened;
mod sent;
mod stream;
pub mod tls;
mod turns;
mod wire;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use self::downstream::Downstream;
use self::draining::turned;
use self::framed::Framed;
use self::greet::{Greeted, Protocol, greet};
use self::introduced::{Unknown, introduced};
pub use self::peer::Peer;
pub use self::received::Received;
use self::rejected::Rejected;
use self::rules::Rules;
use self::screened::{End, Screened};
use crate::socket::Socket;

/// How long a client that has said nothing yet may still begin once the process drains: what it sent may be on its way.
const DRAINING_GREETING: Duration = Duration::from_millis(250);

/// Answers the requests of one listener.
pub trait Handler: Send + Sync + 'static {
    /// The answer's body.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request of `peer`.
    fn handle(
        &self,
        peer: &Peer,
        request: Request<Received>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Whether the process is about to end: clients shall send what comes next on another connection. HTTP/2 has a
    /// frame for that, which the drain sends.
    fn is_leaving(&self) -> bool {
        false
    }

    /// A connection was accepted (`true`) or closed.
    fn connection(&self, open: bool);
}

/// A listener's application: hands every stream to hyper.
pub struct App<H> {
    handler: Arc<H>,
    downstream: Arc<Downstream>,
    draining: watch::Receiver<bool>,
}

impl<H: Handler> App<H> {
    /// Serves `handler` until `draining` turns true; then open requests finish and connections close.
    pub fn new(handler: Arc<H>, downstream: Arc<Downstream>, draining: watch::Receiver<bool>) -> Self {
        Self { handler, downstream, draining }
    }

    async fn serve(&self, session: Socket, ip: Option<IpAddr>) {
        let (accepted, rules) = (Instant::now(), self.downstream.rules());
        let Ok(mut place) = self.downstream.admit(ip, &rules) else { return };
        let _open = Open::new(Arc::clone(&self.handler));
        // What comes by a unix socket never left the machine.
        let tls = ip.and_then(|_| self.downstream.tls());
        let greeting = async {
            let mut session = session;
            let caller = introduced(&mut session, ip, &rules).await?;
            if let Some(client) = caller.ip.filter(|client| caller.named && !rules.is_shared(*client)) {
                place.count_for(client, rules.caps).map_err(Unknown::Rejected)?;
            }
            greet(session, caller, tls, &rules).await.map_err(Unknown::Gone)
        };
        let greeted = tokio::select! {
            greeted = timeout_at(accepted + rules.head, Box::pin(greeting)) => greeted,
            () = self.drains() => return,
        };
        match greeted {
            Err(_) => self.downstream.reject(Rejected::HeadTimeout),
            Ok(Err(Unknown::Rejected(reason))) => self.downstream.reject(reason),
            Ok(Err(Unknown::Gone(error))) if tls::is_handshake_failure(&error) => {
                tracing::debug!(%error, "handshake failed");
                self.downstream.reject(Rejected::Handshake);
            }
            Ok(Err(Unknown::Gone(error))) => tracing::debug!(%error, "connection ended early"),
            Ok(Ok(greeted)) if greeted.protocol == Protocol::Http2 => {
                Box::pin(self.serve_http2(greeted, rules, accepted)).await;
            }
            Ok(Ok(greeted)) => self.serve_http1(greeted, rules, accepted).await,
        }
    }

    async fn serve_http1(&self, greeted: Greeted, rules: Arc<Rules>, accepted: Instant) {
        let mut screened = Screened::new(greeted.wire, Arc::clone(&rules), accepted);
        let idle =
            http1::serve(&mut screened, &*self.handler, &greeted.peer, &rules, self.draining.clone()).await;
        let (end, mid_message) = (screened.end(), screened.is_mid_message());
        if let Some(reason) = end.map(|end| end.reason).or(idle) {
            self.downstream.reject(reason);
        }
        match end {
            Some(End { says: false, .. }) => {}
            Some(End { reason, .. }) => {
                Box::pin(screened.into_wire().close(&refusal::message(reason))).await;
            }
            None if mid_message => Box::pin(screened.into_wire().close(&[])).await,
            None => screened.into_wire().hang_up().await,
        }
    }

    async fn serve_http2(&self, greeted: Greeted, rules: Arc<Rules>, accepted: Instant) {
        let mut framed =
            Framed::new(greeted.wire, Arc::clone(&rules), accepted, Arc::clone(&self.downstream));
        let (handler, downstream) = (Arc::clone(&self.handler), Arc::clone(&self.downstream));
        let peer = Arc::new(greeted.peer);
        http2::serve(&mut framed, handler, peer, downstream, rules, self.draining.clone()).await;
        let end = framed.end();
        if let Some(reason) = end {
            self.downstream.reject(reason);
        }
        let wire = framed.into_wire();
        match end {
            Some(Rejected::Screen(_)) if wire.is_at_rest() => wire.close(&refusal::calm_frame()).await,
            Some(Rejected::AnswerRate | Rejected::HeadTimeout) => {}
            _ => wire.hang_up().await,
        }
    }

    async fn drains(&self) {
        turned(&mut self.draining.clone()).await;
        sleep(DRAINING_GREETING).await;
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

#[cfg(test)]
mod tests;
