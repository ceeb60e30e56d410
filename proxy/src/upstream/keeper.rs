//! What happens to servers while nobody asks for them: health checks, and the sweep of idle connections.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use checkgate_config::settings::HealthCheck;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Pool, health};

/// How often idle connections are looked through.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// A thread of its own, so that checks run while request threads are busy.
pub struct Keeper {
    /// `None` once it is stopped.
    runtime: Option<Runtime>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn start() -> anyhow::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("upstreams").enable_all().build();
        Ok(Self { runtime: Some(runtime.context("no thread for health checks")?) })
    }

    /// Keeps `pool` for as long as anybody else does.
    pub fn keep(&self, pool: &Arc<Pool>) {
        let Some(runtime) = &self.runtime else { return };
        runtime.spawn(sweep(Arc::downgrade(pool)));
        if let Some(check) = &pool.settings.health {
            for server in 0..pool.servers.len() {
                let first = health::first_after(check, server, pool.servers.len());
                runtime.spawn(watch(Arc::downgrade(pool), server, check.clone(), first));
            }
        }
    }
}

/// A runtime that is dropped where requests are served would block them.
impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn sweep(pool: Weak<Pool>) {
    let mut turns = interval(SWEPT_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep(Instant::now());
    }
}

async fn watch(pool: Weak<Pool>, server: usize, check: HealthCheck, first: Duration) {
    sleep(first).await;
    loop {
        let Some(pool) = pool.upgrade() else { return };
        pool.check(server, &check).await;
        drop(pool);
        sleep(check.every).await;
    }
}

impl Pool {
    async fn check(&self, server: usize, check: &HealthCheck) {
        let Some(server) = self.servers.get(server) else { return };
        let result = health::ask(server.connector(), check, self.settings.http).await;
        if !server.checked(result.is_ok(), check) {
            return;
        }
        match result {
            Ok(()) => tracing::info!(model = self.model, server = server.name, "server is healthy again"),
            Err(cause) => {
                tracing::warn!(model = self.model, server = server.name, cause, "server is unhealthy")
            }
        }
        self.show(Instant::now());
    }
}
