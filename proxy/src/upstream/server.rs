//! One server: its connections, the requests it has open, and whether it may be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use checkgate_config::settings::{self, HealthCheck};
use parking_lot::Mutex;
use rustls::ClientConfig;

use super::connect::{ConnectError, Connector, Patience};
use super::connection::{Connection, Exclusive, Shared, Wanted};
use super::ejection::Ejection;
use super::health::Health;
use crate::metrics::labels::{Condition, ConnectionUse};
use crate::moment;

/// Idle connections are dropped before any usual model server drops them (uvicorn after 5 s), so that hardly a request
/// is sent into a connection that is being closed.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Idle HTTP/1.1 connections that are kept.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// A connection that was idle for longer is looked at before it is used: the runtime may not have heard yet that it was
/// closed. Busy connections are not idle for so long and do not pay for it.
const LOOKED_AT_AFTER: Duration = Duration::from_millis(10);
/// HTTP/2 connections to one server; beyond it requests wait for room on one of them.
const SHARED_MAX: usize = 16;
/// An HTTP/2 connection without a request is dropped after this time.
const SHARED_IDLE_MAX: Duration = Duration::from_secs(60);
/// At most one failed request of a server in this time is worth a line in the log.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// One server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// Its URL without a path, for logs.
    pub name: String,
    connector: Connector,
    open: AtomicUsize,
    standing: Standing,
    /// The longest idle first.
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Busy>>,
    /// Held while an HTTP/2 connection is made, so that a burst does not make one for each of its requests.
    connecting: tokio::sync::Mutex<()>,
    /// Whether the last TLS handshake agreed upon HTTP/2.
    agrees_to_http2: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Exclusive>,
    since: Instant,
}

#[derive(Debug)]
struct Busy {
    connection: Arc<Shared>,
    /// When it last had a request, as far as a look a second can tell.
    last: Instant,
}

/// Whether a server may be asked, as requests and health checks left it.
#[derive(Debug, Default)]
struct Standing {
    /// Whether the state below has anything to say; spares requests the lock.
    is_marked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    health: Health,
    ejection: Ejection,
    /// When a failure was last worth a line in the log.
    said: Option<Instant>,
}

/// What a failed request leads to.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// Whether it is worth a line in the log.
    pub is_news: bool,
    /// For how long the server is left alone, where it is.
    pub pause: Option<Duration>,
}

impl Server {
    /// A server without a connection yet.
    ///
    /// # Errors
    /// Where its name is none.
    pub fn new(
        upstream: &settings::Upstream,
        server: &settings::Server,
        tls: Option<&Arc<ClientConfig>>,
    ) -> anyhow::Result<Self> {
        let connector = Connector::new(upstream, server, tls)?;
        Ok(Self {
            name: name(server, &connector),
            connector,
            open: AtomicUsize::new(0),
            standing: Standing::default(),
            idle: Mutex::default(),
            shared: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            agrees_to_http2: AtomicBool::new(false),
        })
    }

    /// How connections to it are made.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Requests that are open at it.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a request in, unless `open_max` are open.
    pub fn enter(&self, open_max: usize) -> bool {
        let fits = self.open.fetch_add(1, Ordering::Relaxed) < open_max;
        if !fits {
            self.leave();
        }
        fits
    }

    /// Counts a request out.
    pub fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A new connection for a request; or one with room that was made while this waited for its turn to make one.
    ///
    /// # Errors
    /// Where none can be made.
    pub async fn made(
        &self,
        wanted: Wanted,
        patience: Patience,
    ) -> Result<(Connection, ConnectionUse), ConnectError> {
        if wanted == Wanted::Http1 || !self.speaks_http2(wanted) {
            return Ok((self.connect(wanted, patience).await?, ConnectionUse::New));
        }
        let turn = tokio::time::timeout(patience.connect, self.connecting.lock()).await;
        let _turn = turn.map_err(|_| ConnectError::Late(patience.connect))?;
        // Whoever held the lock before may have made a connection with room.
        if let Some(kept) = self.kept(wanted, Instant::now()) {
            return Ok((kept, ConnectionUse::Reused));
        }
        Ok((self.connect(wanted, patience).await?, ConnectionUse::New))
    }

    fn speaks_http2(&self, wanted: Wanted) -> bool {
        wanted == Wanted::Http2 || self.agrees_to_http2.load(Ordering::Relaxed)
    }

    async fn connect(&self, wanted: Wanted, patience: Patience) -> Result<Connection, ConnectError> {
        let connection = self.connector.connect(wanted, patience).await?;
        self.agrees_to_http2.store(connection.is_shared(), Ordering::Relaxed);
        if let Connection::Shared(stream) = &connection {
            let mut shared = self.shared.lock();
            if shared.len() < SHARED_MAX {
                shared.push(Busy { connection: Arc::clone(stream.shared()), last: Instant::now() });
            }
        }
        Ok(connection)
    }

    /// A connection that is kept, for a request that is sent `now`.
    pub fn kept(&self, wanted: Wanted, now: Instant) -> Option<Connection> {
        let shared = (wanted != Wanted::Http1).then(|| self.kept_shared()).flatten();
        shared.or_else(|| {
            let idle = (wanted != Wanted::Http2).then(|| self.kept_idle(now)).flatten();
            idle.map(Connection::Exclusive)
        })
    }

    /// The first HTTP/2 connection with room; where none has and no more may be made, the one with the fewest requests.
    fn kept_shared(&self) -> Option<Connection> {
        let mut shared = self.shared.lock();
        shared.retain(|busy| busy.connection.is_usable());
        let with_room = shared.iter().find(|busy| busy.connection.has_room());
        let is_full = shared.len() >= SHARED_MAX;
        let least = || is_full.then(|| shared.iter().min_by_key(|busy| busy.connection.open())).flatten();
        with_room.or_else(least).map(|busy| Connection::Shared(Box::new(busy.connection.stream())))
    }

    /// The connection that was used last: the others may grow old and be dropped.
    fn kept_idle(&self, now: Instant) -> Option<Box<Exclusive>> {
        let mut idle = self.idle.lock();
        while let Some(Idle { connection, since }) = idle.pop() {
            let age = now.saturating_duration_since(since);
            if age > IDLE_MAX {
                // All that are left are older.
                idle.clear();
                return None;
            }
            if connection.is_ready() {
                if age > LOOKED_AT_AFTER {
                    connection.look_first();
                }
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection on which nothing is open any more.
    pub fn keep(&self, connection: Box<Exclusive>) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { connection, since: moment::now() });
        }
    }

    /// Drops connections that were idle for too long, and those that closed.
    pub fn sweep(&self, now: Instant) {
        self.idle.lock().retain_mut(|idle| {
            now.saturating_duration_since(idle.since) <= IDLE_MAX && idle.connection.settles()
        });
        self.shared.lock().retain_mut(|busy| {
            if busy.connection.open() > 0 {
                busy.last = now;
            }
            busy.connection.is_usable() && now.saturating_duration_since(busy.last) <= SHARED_IDLE_MAX
        });
    }

    /// How many idle connections are kept.
    pub fn idle_connections(&self) -> usize {
        self.idle.lock().len() + self.shared.lock().iter().filter(|busy| busy.connection.open() == 0).count()
    }

    /// Whether it may be asked.
    pub fn is_available(&self) -> bool {
        !self.standing.is_marked.load(Ordering::Relaxed)
            || self.condition(Instant::now()) == Condition::Available
    }

    /// What requests and health checks say of it.
    pub fn condition(&self, now: Instant) -> Condition {
        let state = self.standing.state.lock();
        if !state.health.is_healthy() {
            Condition::Unhealthy
        } else if state.ejection.is_out(now) {
            Condition::Ejected
        } else {
            Condition::Available
        }
    }

    /// A request failed. `ejection` says when that ejects the server; without it nothing does.
    pub fn failed(&self, ejection: Option<&settings::Ejection>, now: Instant) -> Failed {
        self.standing.change(|state| {
            let is_news = state.said.is_none_or(|said| now.saturating_duration_since(said) >= SAID_EVERY);
            if is_news {
                state.said = Some(now);
            }
            Failed { is_news, pause: ejection.and_then(|ejection| state.ejection.failed(ejection, now)) }
        })
    }

    /// A request succeeded; says whether that ends a row of ejections.
    pub fn succeeded(&self) -> bool {
        self.standing.is_marked.load(Ordering::Relaxed)
            && self.standing.change(|state| {
                let was_ejected = state.ejection.was_ejected();
                state.ejection.succeeded();
                was_ejected
            })
    }

    /// A health check was made; says whether the server's state changed.
    pub fn checked(&self, success: bool, check: &HealthCheck) -> bool {
        self.standing.change(|state| state.health.observe(success, check))
    }
}

impl Standing {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let is_marked = !state.health.is_healthy() || !state.ejection.is_spotless();
        self.is_marked.store(is_marked, Ordering::Relaxed);
        result
    }
}

fn name(server: &settings::Server, connector: &Connector) -> String {
    match &server.address {
        settings::ServerAddress::Unix(path) => format!("unix:{}", path.display()),
        settings::ServerAddress::Tcp { .. } => {
            format!("{}://{}", connector.origin().scheme, connector.origin().authority)
        }
    }
}
