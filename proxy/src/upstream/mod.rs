//! The servers behind the models: which of them takes a request, on which connection, and what happens when it fails.
//!
//! [`Pool`] is one model's servers. It chooses among them ([`balance`]) with regard to health checks ([`health`]) and to
//! failed requests ([`ejection`]); a [`Visit`] is one request's place at a [`server`], whose connections are made by
//! [`connect`] and kept for reuse. What may be sent twice is decided in [`retry`], what is believed of an answer in
//! [`answer`].

pub mod answer;
mod balance;
mod connect;
mod connection;
mod ejection;
mod health;
mod interim;
mod keeper;
pub mod retry;
mod server;
mod socket;
pub mod tls;
mod visit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use checkgate_config::settings::{self, HttpVersion, Model, Settings};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use parking_lot::Mutex;
use rustls::ClientConfig;

use self::balance::Balancer;
use self::connect::Connector;
pub use self::connect::Patience;
pub use self::connection::Overdue;
use self::connection::Wanted;
pub use self::health::Looked;
use self::keeper::Keeper;
use self::server::Server;
pub use self::visit::{Cause, ClientFault, Missed, Visit};
use crate::metrics::labels::{Condition, Label};
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::plan::ModelIds;

/// Asks one server of an upstream for a path, on a connection of its own.
///
/// # Errors
/// Says why there is no answer.
pub async fn look_at(
    upstream: &settings::Upstream,
    server: &settings::Server,
    path: &str,
    patience: Duration,
) -> Result<Looked, String> {
    let tls = server.tls.then(|| tls::config(&upstream.tls, upstream.http)).transpose();
    let connector = tls.and_then(|tls| Connector::new(upstream, server, tls.as_ref()));
    let connector = connector.map_err(|error| format!("{error:#}"))?;
    let check = settings::HealthCheck {
        path: path.to_owned(),
        every: patience,
        timeout: patience,
        healthy_after: 1,
        unhealthy_after: 1,
    };
    health::look(&connector, &check, upstream.http).await
}

/// The URL of a server, without a path.
pub fn url(server: &settings::Server) -> String {
    let scheme = if server.tls { "https" } else { "http" };
    match &server.address {
        settings::ServerAddress::Unix(path) => format!("unix:{}", path.display()),
        settings::ServerAddress::Tcp { host, port } if host.contains(':') => {
            format!("{scheme}://[{host}]:{port}")
        }
        settings::ServerAddress::Tcp { host, port } => format!("{scheme}://{host}:{port}"),
    }
}

/// The servers of all models.
pub struct Upstreams {
    pools: Vec<Arc<Pool>>,
    /// `None` where the settings are only checked.
    keeper: Option<Arc<Keeper>>,
}

impl Upstreams {
    /// The servers that `settings` name. Of `previous`, those whose settings did not change are kept with their
    /// connections and with what is known of their health; only their certificates are read anew.
    ///
    /// # Errors
    /// Names a certificate file that cannot be used, or a server whose name is none.
    pub fn new(
        settings: &Settings,
        ids: &ModelIds,
        metrics: &Metrics,
        previous: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let keeper = match previous.and_then(|previous| previous.keeper.clone()) {
            Some(keeper) => keeper,
            None => Arc::new(Keeper::start()?),
        };
        Self::made(settings, ids, metrics, previous, Some(keeper))
    }

    /// The servers that `settings` name, without a watch over them: enough to see whether the settings hold.
    ///
    /// # Errors
    /// The same as [`Upstreams::new`].
    pub fn unwatched(settings: &Settings, ids: &ModelIds, metrics: &Metrics) -> anyhow::Result<Self> {
        Self::made(settings, ids, metrics, None, None)
    }

    fn made(
        settings: &Settings,
        ids: &ModelIds,
        metrics: &Metrics,
        previous: Option<&Self>,
        keeper: Option<Arc<Keeper>>,
    ) -> anyhow::Result<Self> {
        let pool = |model: &Model| {
            let id = ids.get(&model.name);
            if let Some(id) = id {
                metrics.add_model(id, &model.name);
            }
            let kept = previous.and_then(|previous| previous.same(model));
            Pool::kept_or_new(kept, model, &metrics.model(id).upstream, keeper.as_deref())
                .with_context(|| format!("upstream of model {:?}", model.name))
        };
        let pools = settings.models.iter().chain(&settings.unclaimed).map(pool);
        let pools = pools.collect::<anyhow::Result<Vec<_>>>()?;
        // Nothing is changed before everything is known to hold.
        pools.iter().for_each(|(pool, tls)| pool.renew(tls.as_ref()));
        Ok(Self { pools: pools.into_iter().map(|(pool, _)| pool).collect(), keeper })
    }

    /// The servers of `model`, which stands in the settings that these were made of.
    pub fn of(&self, model: &Model) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.model == model.name)
    }

    /// The servers of `model`, where they are asked as they were before.
    fn same(&self, model: &Model) -> Option<&Arc<Pool>> {
        self.of(model).filter(|pool| pool.settings == model.upstream)
    }
}

/// One model's servers.
pub struct Pool {
    model: String,
    settings: settings::Upstream,
    servers: Box<[Arc<Server>]>,
    balancer: Balancer,
    metrics: UpstreamMetrics,
    /// What the gauges were told, in the order of [`Condition::ALL`], and of idle connections.
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    servers: [i64; Condition::ALL.len()],
    idle: i64,
}

/// Pools are the same where they stand for the same servers.
impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Pool {
    /// The pool that is kept, or a new one; and its certificates, read anew.
    fn kept_or_new(
        kept: Option<&Arc<Self>>,
        model: &Model,
        metrics: &UpstreamMetrics,
        keeper: Option<&Keeper>,
    ) -> anyhow::Result<(Arc<Self>, Option<Arc<ClientConfig>>)> {
        let speaks_tls = model.upstream.servers.iter().any(|server| server.tls);
        let tls = speaks_tls.then(|| tls::config(&model.upstream.tls, model.upstream.http)).transpose()?;
        if let Some(kept) = kept {
            return Ok((Arc::clone(kept), tls));
        }
        let servers = model.upstream.servers.iter();
        let servers = servers.map(|server| Server::new(&model.upstream, server, tls.as_ref()).map(Arc::new));
        let pool = Arc::new(Self::new(model, servers.collect::<anyhow::Result<_>>()?, metrics.clone()));
        pool.show(Instant::now());
        if let Some(keeper) = keeper {
            keeper.keep(&pool);
        }
        Ok((pool, tls))
    }

    /// Uses certificates that were read anew for connections from now on.
    fn renew(&self, tls: Option<&Arc<ClientConfig>>) {
        if let Some(tls) = tls {
            self.servers.iter().for_each(|server| server.connector().renew(tls));
        }
    }

    fn new(model: &Model, servers: Box<[Arc<Server>]>, metrics: UpstreamMetrics) -> Self {
        let weights = model.upstream.servers.iter().map(|server| server.weight);
        let named = servers.iter().map(|server| server.name.as_str()).zip(weights);
        Self {
            balancer: Balancer::new(model.upstream.balance, named),
            model: model.name.clone(),
            settings: model.upstream.clone(),
            servers,
            metrics,
            shown: Mutex::default(),
        }
    }

    /// What is counted of these servers.
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Further tries after the first.
    pub fn retries(&self) -> u32 {
        self.settings.retries
    }

    /// A place at the server that a request of `client` goes to, other than those at `tried`; `None` where all others
    /// have as many requests open as they may.
    pub fn visit(self: &Arc<Self>, client: u64, tried: &[usize]) -> Option<Visit> {
        // A server may fill up between the choice and the entry.
        (0..=self.servers.len()).find_map(|_| {
            let position = self.choose(client, tried)?;
            let server = self.servers.get(position)?;
            server.enter(self.settings.in_flight_per_server).then(|| Visit::new(self, server, position))
        })
    }

    /// Where no server is available all of them count as available: a request that may fail is better than one that
    /// is not sent.
    fn choose(&self, client: u64, tried: &[usize]) -> Option<usize> {
        let open_max = self.settings.in_flight_per_server;
        if let [only] = &*self.servers {
            return (tried.is_empty() && only.open() < open_max).then_some(0);
        }
        let any_is_available = self.servers.iter().any(|server| server.is_available());
        let eligible = |position: usize| {
            let Some(server) = self.servers.get(position) else { return false };
            (!any_is_available || server.is_available())
                && server.open() < open_max
                && !tried.contains(&position)
        };
        let open = |position: usize| self.servers.get(position).map_or(usize::MAX, |server| server.open());
        self.balancer.choose(client, eligible, open)
    }

    /// What a request with these headers is sent to `server` by.
    fn wanted(&self, server: &Server, headers: &HeaderMap) -> Wanted {
        match self.settings.http {
            HttpVersion::Http1 => Wanted::Http1,
            HttpVersion::Http2 => Wanted::Http2,
            HttpVersion::Auto => match server.connector().usual() {
                Wanted::Http1 if is_grpc(headers) => Wanted::Http2,
                usual => usual,
            },
        }
    }

    /// A request to the server at `position` failed. The last server that is available is never ejected.
    fn failed(&self, position: usize, cause: &str) {
        let Some(server) = self.servers.get(position) else { return };
        let others = self.servers.iter().enumerate().filter(|(other, _)| *other != position);
        let others_are_there = others.map(|(_, other)| other).any(|other| other.is_available());
        let failed = server.failed(others_are_there.then_some(&self.settings.ejection), Instant::now());
        if let Some(pause) = failed.pause {
            self.metrics.ejections.inc();
            tracing::warn!(model = self.model, server = server.name, ?pause, cause, "server is left alone");
        } else if failed.is_news {
            tracing::warn!(model = self.model, server = server.name, cause, "a request to the server failed");
        }
    }

    fn succeeded(&self, server: &Server) {
        if server.succeeded() {
            tracing::info!(model = self.model, server = server.name, "server answers again");
        }
    }

    /// Drops what is idle for too long, and tells the gauges.
    fn sweep(&self, now: Instant) {
        self.servers.iter().for_each(|server| server.sweep(now));
        self.show(now);
    }

    /// The gauges are moved by what changed: two pools share them while a reload replaces one by the other.
    fn show(&self, now: Instant) {
        let mut servers = [0; Condition::ALL.len()];
        for server in &self.servers {
            if let Some(count) = servers.get_mut(server.condition(now).index()) {
                *count += 1;
            }
        }
        let idle = self.servers.iter().map(|server| server.idle_connections()).sum::<usize>();
        self.move_gauges(Shown { servers, idle: i64::try_from(idle).unwrap_or(i64::MAX) });
    }

    fn move_gauges(&self, to: Shown) {
        let mut shown = self.shown.lock();
        for ((condition, before), after) in Condition::ALL.iter().zip(shown.servers).zip(to.servers) {
            self.metrics.servers.add(*condition, after - before);
        }
        self.metrics.idle_connections.add(to.idle - shown.idle);
        *shown = to;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.move_gauges(Shown::default());
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    media_type.is_some_and(|media_type| media_type.starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests;
