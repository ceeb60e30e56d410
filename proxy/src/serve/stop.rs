//! How a run ends: open requests finish, then the process does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use checkgate_config::Settings;
use checkgate_config::settings::Mode;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::doors::Door;
use super::house::Levers;
use super::sockets::Sockets;
use super::{Parts, Proxy, notify};

/// How often a drain looks whether the last request has been answered.
const DRAIN_TICK: Duration = Duration::from_millis(10);
/// How long connections without an open request may still take: to read the end of an answer, or to send a request
/// that was on its way.
const QUIET: Duration = Duration::from_millis(300);

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has not ended, or as it was asked to.
    Asked,
    /// Another process took over.
    HandedOver,
    /// The process that was to be taken over goes on.
    Refused,
}

/// Waits for a signal, then lets open requests finish before pingora takes the threads away.
pub struct Stop {
    /// What load balancers are told, and the requests that are open.
    pub parts: Arc<Parts>,
    /// Whose connections must close.
    pub proxy: Arc<Proxy>,
    /// The listening sockets.
    pub sockets: Arc<Sockets>,
    /// What is moved.
    pub levers: Arc<Levers>,
    /// What the operator asked for.
    pub settings: Settings,
}

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        self.announce().await;
        tokio::select! {
            () = asked_to_stop() => {
                notify::stopping();
                tracing::info!("stopping: open requests finish first");
            }
            () = self.ended_otherwise() => {}
        }
        self.parts.readiness.set_draining();
        // After a hand-over every door stays shut: behind the operators' stands the new process.
        self.levers.doors.send_replace(self.last_door());
        self.sockets.close();
        self.levers.drain.send_replace(true);
        tokio::select! {
            () = self.drained() => {}
            () = asked_to_stop() => tracing::warn!("asked twice: open requests are cut"),
        }
        // Everything is drained already; pingora's own grace period is an unconditional sleep.
        ShutdownSignal::FastShutdown
    }
}

impl Stop {
    /// Says that the proxy is up once connections are accepted everywhere.
    async fn announce(&self) {
        let mut accepting = self.levers.accepting.subscribe();
        let wanted = self.levers.wanted;
        if accepting.wait_for(|doors| *doors == wanted).await.is_err() {
            return;
        }
        self.parts.readiness.set_ready();
        notify::ready();
        let enforcing =
            self.settings.models.iter().chain(&self.settings.unclaimed).any(|m| m.mode == Mode::Enforce);
        tracing::info!(
            listen = ?self.settings.listen,
            admin = %self.settings.admin.listen,
            authz = ?self.settings.authz.listen,
            mode = if enforcing { "enforce" } else { "observe" },
            state = %self.settings.state.display(),
            "ready"
        );
    }

    fn last_door(&self) -> Door {
        match *self.levers.ending.borrow() {
            Ending::HandedOver => Door::Shut,
            Ending::Asked | Ending::Refused => Door::Closed,
        }
    }

    async fn ended_otherwise(&self) {
        let mut ending = self.levers.ending.subscribe();
        if ending.wait_for(|ending| *ending != Ending::Asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves once no connection is left, or none has a request open, or the time is up.
    async fn drained(&self) {
        let deadline = Instant::now() + self.parts.settings.load().timeouts.drain;
        let mut busy = Instant::now();
        while self.proxy.connections.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            if self.parts.in_flight.count() > 0 {
                busy = Instant::now();
            } else if busy.elapsed() >= QUIET {
                return;
            }
            sleep(DRAIN_TICK).await;
        }
    }
}

async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without signals only a kill ends the process, which is what is left.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
