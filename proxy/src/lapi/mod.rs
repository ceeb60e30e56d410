//! CrowdSec's Local API (LAPI) in both directions: decisions that act here are enforced elsewhere too, and what is
//! decided elsewhere is enforced here.
//!
//! ```text
//! gate -> board (what acts on addresses now) -> server -> bouncers: firewalls, web servers, another checkgate
//! another LAPI -> client -> source -> holdings (what stands from it) -> control -> gate
//! ```
//! The server speaks to unmodified bouncers, and the client is one itself, so that two instances share a ban by the
//! same protocol. [`wire`] is all that both know of it.

pub mod board;
pub mod client;
pub mod cursors;
pub mod filter;
pub mod go_time;
pub mod holdings;
pub mod keys;
pub mod server;
pub mod source;
#[cfg(test)]
mod tests;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use checkgate_config::Settings;
use checkgate_config::settings::{LapiSource, Mode};
use tokio::sync::watch;

use self::board::Board;
use self::cursors::Cursors;
use self::keys::Keys;
use self::server::ServerState;
use crate::clock;
use crate::gate::Gate;
use crate::ledger::Ledger;
use crate::metrics::Metrics;

/// The detector's name in what was decided by a source, and what stands before the source's own.
pub const CROWDSEC: &str = "crowdsec";

/// The name of a source as an actor, and as the detector of its decisions.
#[must_use]
pub fn actor(source: &str) -> String {
    format!("{CROWDSEC}:{source}")
}

/// The source whose decisions have this detector; nothing for all others.
#[must_use]
pub fn source_of(detector: &str) -> Option<&str> {
    detector.strip_prefix(CROWDSEC)?.strip_prefix(':')
}

/// Both directions of one process, as far as a reload changes them.
#[derive(Debug)]
pub struct Lapi {
    server: ServerState,
    sources: watch::Sender<Arc<[LapiSource]>>,
    /// Whether any model enforces.
    enforces: Arc<AtomicBool>,
}

impl Lapi {
    /// As `settings` say it.
    #[must_use]
    pub fn new(settings: &Settings, gate: &Arc<Gate>, ledger: &Arc<Ledger>, metrics: &Arc<Metrics>) -> Self {
        let enforces = Arc::new(AtomicBool::new(false));
        let looked_at = Arc::clone(&enforces);
        let board = Board::new(Arc::clone(gate), Arc::clone(ledger), Arc::clone(metrics), move || {
            looked_at.load(Ordering::Relaxed)
        });
        let server = ServerState {
            board: Arc::new(board),
            cursors: Arc::<Cursors>::default(),
            keys: Arc::<Keys>::default(),
            metrics: Arc::clone(metrics),
            clock: clock::now,
        };
        let lapi = Self { server, sources: watch::Sender::new(Arc::from([])), enforces };
        lapi.adopt(settings);
        lapi
    }

    /// Takes other settings while it runs; only its listener stays.
    pub fn adopt(&self, settings: &Settings) {
        let mut models = settings.models.iter().chain(&settings.unclaimed);
        self.enforces.store(models.any(|model| model.mode == Mode::Enforce), Ordering::Relaxed);
        let server = settings.crowdsec.serve.as_ref();
        let bouncers = server.map_or(&[][..], |server| &server.bouncers);
        self.server.keys.adopt(bouncers, &self.server.metrics);
        self.server.cursors.keep(|name| self.server.keys.knows(name));
        self.server.board.adopt(server);
        let pull = settings.crowdsec.pull.as_slice();
        self.sources.send_if_modified(|list| {
            let changed = **list != *pull;
            if changed {
                *list = pull.into();
            }
            changed
        });
    }

    /// The paths that bouncers ask for.
    pub fn router(&self) -> Router {
        server::router(self.server.clone())
    }

    /// The list of sources, now and after reloads.
    #[must_use]
    pub fn sources(&self) -> watch::Receiver<Arc<[LapiSource]>> {
        self.sources.subscribe()
    }
}
