//! A door: one service that accepts on its listeners while it is open. It can be closed for a hand-over and opened
//! again where that fails, which pingora's own services cannot.

use std::sync::Arc;

use async_trait::async_trait;
use checkgate_config::settings::Listen;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::sync::watch;

use super::house::Levers;
use super::sockets::Sockets;

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

/// A service with a door in front.
pub struct Doorway {
    name: String,
    threads: Option<usize>,
    /// Makes the service behind: each serves from one opening to the next closing.
    make: Box<dyn Fn() -> Box<dyn Service> + Send + Sync>,
    sockets: Arc<Sockets>,
    listen: Vec<Listen>,
    door: watch::Receiver<Door>,
    until: Until,
    levers: Arc<Levers>,
}

impl Doorway {
    /// A doorway whose services `make` makes, which accept on `listen`.
    pub fn new(
        (name, threads): (&str, Option<usize>),
        (sockets, listen): (&Arc<Sockets>, &[Listen]),
        (levers, until): (&Arc<Levers>, Until),
        make: impl Fn() -> Box<dyn Service> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            threads,
            make: Box::new(make),
            sockets: Arc::clone(sockets),
            listen: listen.to_vec(),
            door: levers.doors.subscribe(),
            until,
            levers: Arc::clone(levers),
        }
    }

    /// Accepts until the door is no longer open.
    async fn accept(&mut self, sockets: ListenFds, listeners_per_socket: usize) {
        let (stop, stopping) = watch::channel(false);
        let mut service = (self.make)();
        self.levers.accepting.send_modify(|doors| *doors += 1);
        let (mut door, until) = (self.door.clone(), self.until);
        let accepts = service.start_service(Some(sockets), stopping, listeners_per_socket);
        let shuts = async move {
            // Without anybody who could move the door it stays as it is.
            if door.wait_for(|door| !until.is_open(*door)).await.is_err() {
                std::future::pending::<()>().await;
            }
            stop.send_replace(true);
            // The service ends by itself; until then it must not lose its signal.
            std::future::pending::<()>().await;
        };
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
        listeners_per_socket: usize,
    ) {
        loop {
            let until = self.until;
            let moved = self.door.wait_for(|door| *door != Door::Shut).await;
            if !moved.is_ok_and(|door| until.is_open(*door)) {
                return;
            }
            match self.sockets.table(&self.listen) {
                Ok(sockets) => self.accept(sockets, listeners_per_socket).await,
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
