//! One request at one server.

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::Version;

use super::Pool;
use super::answer::{Came, unsound};
use super::connect::{ConnectError, Patience};
use super::connection::{Connection, Overdue, Unanswered, Wanted};
use super::retry::{self, Outgoing, Stage};
use super::server::Server;
use crate::metrics::labels::ConnectionUse;
use crate::transport::alarm::Alarm;
use crate::way::body::BodyError;

/// A request's place at a server; while it lives the request counts as open there.
pub struct Visit {
    pool: Arc<Pool>,
    server: Arc<Server>,
    position: usize,
}

/// Why a server gave no answer, and how far the request came.
#[derive(Debug)]
pub struct Missed {
    /// How far the request came.
    pub stage: Stage,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke, or what came is no HTTP.
    #[error("no answer: {0}")]
    Http(hyper::Error),
    /// The client's body failed.
    #[error("no question: {0}")]
    Question(ClientFault),
    /// The answer is not believed.
    #[error("the answer is refused: {0}")]
    Unsound(&'static str),
    /// It took too long.
    #[error("no answer in time")]
    Late,
    /// Nothing is left of the request to send.
    #[error("nothing to send")]
    Gone,
}

/// How a client's body failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    /// It was cut or stood still.
    #[error("the body never became complete")]
    Incomplete,
    /// It is longer than its model takes.
    #[error("the body is too large")]
    TooLarge,
}

impl Cause {
    fn of(error: hyper::Error) -> Self {
        client_fault(&error).map_or(Self::Http(error), Self::Question)
    }

    /// Whether the server failed, and not the client.
    pub fn is_the_servers(&self) -> bool {
        !matches!(self, Self::Question(_) | Self::Gone)
    }

    /// Whether the server accepted a connection.
    pub fn was_connected(&self) -> bool {
        !matches!(self, Self::Connect(_))
    }
}

impl Visit {
    /// Takes the place that was counted in.
    pub(super) fn new(pool: &Arc<Pool>, server: &Arc<Server>, position: usize) -> Self {
        Self { pool: Arc::clone(pool), server: Arc::clone(server), position }
    }

    /// The server's position in its pool.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The server's URL without a path.
    pub fn server_name(&self) -> &str {
        &self.server.name
    }

    /// The server.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Sends the request, at `now`, and waits for the head of its answer, until `overdue`.
    ///
    /// # Errors
    /// Says why there is no answer; what can still be sent of the request is in `outgoing`.
    pub async fn ask(
        self,
        outgoing: &mut Outgoing,
        patience: Patience,
        overdue: &mut impl Overdue,
        now: Instant,
    ) -> Result<Came, Missed> {
        let answered = pin!(self.answered(outgoing, patience, overdue, now)).await;
        match answered.and_then(believed) {
            Ok(connection) => Ok(Came::new(self, connection)),
            Err(missed) => {
                if missed.cause.is_the_servers() {
                    self.failed(&missed.cause.to_string());
                }
                Err(missed)
            }
        }
    }

    async fn answered(
        &self,
        outgoing: &mut Outgoing,
        patience: Patience,
        overdue: &mut impl Overdue,
        now: Instant,
    ) -> Result<Connection, Missed> {
        let wanted = self.pool.wanted(&self.server, outgoing.headers());
        let mut kept = self.server.kept(wanted, now);
        loop {
            let fresh = kept.is_none();
            let (connection, used) = match kept.take() {
                Some(kept) => (kept, ConnectionUse::Reused),
                // Few requests make a connection; the others do not carry the room for that.
                None => Box::pin(self.made(wanted, patience, overdue)).await?,
            };
            self.pool.metrics.connections.inc(used);
            let answered = pin!(self.sent(connection, outgoing, overdue)).await;
            match answered {
                // A connection that went stale while it was idle; nothing of the request was written.
                Err(missed) if missed.stage == Stage::Unsent && !fresh => {}
                answered => return answered,
            }
        }
    }

    async fn made(
        &self,
        wanted: Wanted,
        patience: Patience,
        overdue: &mut impl Overdue,
    ) -> Result<(Connection, ConnectionUse), Missed> {
        let (mut made, mut alarm) = (pin!(self.server.made(wanted, patience)), Alarm::default());
        let made = poll_fn(|context| match made.as_mut().poll(context) {
            Poll::Pending => overdue.poll(&mut alarm, context).map(|()| Err(Cause::Late)),
            Poll::Ready(made) => Poll::Ready(made.map_err(Cause::from)),
        });
        made.await.map_err(|cause| Missed { stage: Stage::Unsent, cause })
    }

    async fn sent(
        &self,
        mut connection: Connection,
        outgoing: &mut Outgoing,
        overdue: &mut impl Overdue,
    ) -> Result<Connection, Missed> {
        let Some(request) = outgoing.take(connection.is_shared()) else {
            return Err(Missed { stage: Stage::Sent, cause: Cause::Gone });
        };
        let sent = pin!(connection.send(request, self.server.connector().origin(), overdue)).await;
        match sent {
            Some(Ok(())) => Ok(connection),
            Some(Err(unanswered)) => Err(missed(unanswered, outgoing)),
            None => {
                // Whatever is wrong with an HTTP/2 connection would befall the next request as well.
                connection.retire();
                Err(Missed { stage: Stage::Sent, cause: Cause::Late })
            }
        }
    }

    /// The request failed by the server's doing.
    pub(super) fn failed(&self, cause: &str) {
        self.pool.failed(self.position, cause);
    }

    /// The request was answered to the end.
    pub(super) fn succeeded(&self) {
        self.pool.succeeded(&self.server);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.server.leave();
    }
}

/// The connection with its answer, unless there is a reason not to believe that.
fn believed(mut connection: Connection) -> Result<Connection, Missed> {
    if let Some(answer) = connection.answer() {
        if let Some(reason) = unsound(answer) {
            return Err(Missed { stage: Stage::Sent, cause: Cause::Unsound(reason) });
        }
        // The version is that of one hop.
        *answer.version_mut() = Version::HTTP_11;
    }
    Ok(connection)
}

/// The client's own failure, where that is the root of an error.
fn client_fault(error: &hyper::Error) -> Option<ClientFault> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        match inner.downcast_ref::<BodyError>() {
            Some(BodyError::TooLarge) => return Some(ClientFault::TooLarge),
            Some(_) => return Some(ClientFault::Incomplete),
            None => cause = inner.source(),
        }
    }
    None
}

fn missed(unanswered: Unanswered, outgoing: &mut Outgoing) -> Missed {
    let Unanswered { error, unsent } = unanswered;
    let stage = match unsent {
        Some(request) => {
            outgoing.put_back(*request);
            Stage::Unsent
        }
        None => retry::stage(&error),
    };
    Missed { stage, cause: Cause::of(error) }
}
