//! A door: one service that accepts on its listeners while it is open. It can be closed for a hand-over and opened
//! again where that fails.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use checkgate_config::settings::Listen;
use futures_util::FutureExt;
use futures_util::future::join_all;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::sync::watch;

use super::house::Levers;
use super::sockets::Sockets;
use crate::transport::listener::Listener;

/// Whether connections are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// They are.
    Open,
    /// For the moment they are not; they wait in the kernel, or another process accepts them.
    Shut,
    /// No more: the process stops.
    Closed,
}

/// How long a door stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until the process is about to stop.
    Stop,
    /// To the end: whoever asks whether the process is ready hears that it is not.
    End,
}

impl Until {
    fn is_open(self, door: Door) -> bool {
        match door {
            Door::Open => true,
            Door::Shut => false,
            Door::Closed => self == Self::End,
        }
    }
}

/// Accepts on a listener for as long as it is polled.
type Accepting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A service with a door in front.
pub struct Doorway {
    name: String,
    threads: Option<usize>,
    /// Serves whoever comes by a listener, from one opening to the next closing.
    serve: Box<dyn Fn(Listener) -> Accepting + Send + Sync>,
    sockets: Arc<Sockets>,
    listen: Vec<Listen>,
    door: watch::Receiver<Door>,
    until: Until,
    levers: Arc<Levers>,
}

impl Doorway {
    /// A doorway to what `serve` serves, which accepts on `listen`.
    pub fn new(
        (name, threads): (&str, Option<usize>),
        (sockets, listen): (&Arc<Sockets>, &[Listen]),
        (levers, until): (&Arc<Levers>, Until),
        serve: impl Fn(Listener) -> Accepting + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            threads,
            serve: Box::new(serve),
            sockets: Arc::clone(sockets),
            listen: listen.to_vec(),
            door: levers.doors.subscribe(),
            until,
            levers: Arc::clone(levers),
        }
    }

    /// Accepts until the door is no longer open.
    async fn accept(&mut self, listeners: Vec<Listener>) {
        let accepts = join_all(listeners.into_iter().map(&self.serve)).then(|_| pending::<()>());
        self.levers.accepting.send_modify(|doors| *doors += 1);
        let until = self.until;
        let shuts = async {
            // Without anybody who could move the door it stays as it is.
            if self.door.wait_for(|door| !until.is_open(*door)).await.is_err() {
                pending::<()>().await;
            }
        };
        // The listeners are let go of here.
        tokio::select! {
            () = accepts => {}
            () = shuts => {}
        }
        self.levers.accepting.send_modify(|doors| *doors -= 1);
    }
}

#[async_trait]
impl Service for Doorway {
    async fn start_service(
        &mut self,
        _own: Option<ListenFds>,
        _stop: ShutdownWatch,
        _listeners_per_socket: usize,
    ) {
        loop {
            let until = self.until;
            let moved = self.door.wait_for(|door| *door != Door::Shut).await;
            if !moved.is_ok_and(|door| until.is_open(*door)) {
                return;
            }
            match self.sockets.listeners(&self.listen) {
                Ok(listeners) => self.accept(listeners).await,
                Err(error) => {
                    return tracing::error!(%error, "no descriptors left to accept connections with");
                }
            }
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> Option<usize> {
        self.threads
    }
}
