//! Listening sockets, and the connections that come by them.

use std::io;
use std::net::{self, IpAddr};
use std::os::unix::net as unix;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;

use super::{App, Handler};
use crate::socket::Socket;

/// How long nothing is accepted after an attempt failed: the process or the system has run out of something, such as
/// open files, and would refuse the next attempt at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl TryFrom<net::TcpListener> for Listener {
    type Error = io::Error;

    fn try_from(listener: net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }
}

impl TryFrom<unix::UnixListener> for Listener {
    type Error = io::Error;

    fn try_from(listener: unix::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Self::Unix)
    }
}

impl Listener {
    /// Serves whoever connects, each in a task of its own, for as long as it is polled. What was accepted is served on
    /// when it is dropped.
    pub async fn serve<H: Handler>(self, app: Arc<App<H>>) {
        loop {
            match self.accept().await {
                Ok((stream, ip)) => {
                    let app = Arc::clone(&app);
                    tokio::spawn(async move { app.serve(stream, ip).await });
                }
                Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a client left early"),
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without it answers come later and are the same.
                drop(stream.set_nodelay(true));
                Ok((Socket::Tcp(stream), Some(address.ip().to_canonical())))
            }
            Self::Unix(listener) => Ok((Socket::Unix(listener.accept().await?.0), None)),
        }
    }
}

/// Whether an attempt failed by the connection that was to be accepted, and not by the socket.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
