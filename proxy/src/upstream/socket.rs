//! The bytes beneath a connection to a server, with TLS or without: when they are read, and what is counted of them.

use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::interim::Interim;
use crate::quiet::Quiet;
use crate::socket::{Socket, read_through, write_through};

/// What the pool and the socket of one connection tell each other.
#[derive(Debug, Default)]
pub struct Watch {
    /// The next read asks the kernel, whatever the runtime knows.
    looks: AtomicBool,
    /// A request was sent: what is read next begins an answer.
    begins: AtomicBool,
}

impl Watch {
    /// Makes the socket be looked at before the next request is written.
    ///
    /// The runtime hears of a closed connection when it next polls the kernel, which on a busy machine may be after
    /// the request was written. hyper reads before it writes, so a look at that moment finds what came before it, and
    /// the request is handed back unsent.
    pub fn look_first(&self) {
        self.looks.store(true, Ordering::Relaxed);
    }

    /// A request begins.
    pub fn begin(&self) {
        self.begins.store(true, Ordering::Relaxed);
    }
}

/// A connected socket that can be looked at out of turn.
#[derive(Debug)]
pub struct Watched {
    socket: Socket,
    watch: Arc<Watch>,
    quiet: Quiet,
}

impl Watched {
    /// Watches `socket`.
    pub fn new(socket: Socket, watch: Arc<Watch>) -> Self {
        Self { socket, watch, quiet: Quiet::default() }
    }

    /// Reads from the kernel; `None` where it has nothing.
    fn look(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        let socket = self.socket.in_kernel()?;
        // Mostly there is nothing, and the buffer need not be made ready for it.
        let nothing = matches!(socket.peek(&mut [MaybeUninit::uninit()]), Err(error) if is_blocked(&error));
        if nothing {
            return None;
        }
        match (&*socket).read(buffer.initialize_unfilled()) {
            Ok(length) => {
                buffer.advance(length);
                Some(Ok(()))
            }
            Err(error) if is_blocked(&error) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

fn is_blocked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.looks.load(Ordering::Relaxed) {
            if let Some(seen) = self.look(buffer) {
                return Poll::Ready(seen);
            }
            self.watch.looks.store(false, Ordering::Relaxed);
        }
        let Self { socket, quiet, .. } = &mut *self;
        quiet.poll(context, |context| Pin::new(socket).poll_read(context, buffer))
    }
}

write_through!(Watched, socket in { Self { socket, .. } });

/// What HTTP is spoken over.
#[derive(Debug)]
pub enum Stream {
    /// The socket itself.
    Plain(Watched),
    /// TLS over it.
    Tls(Box<TlsStream<Watched>>),
}

read_through!(Stream, stream in { Self::Plain(stream), Self::Tls(stream) });
write_through!(Stream, stream in { Self::Plain(stream), Self::Tls(stream) });

/// A stream of HTTP/1.1 whose interim answers are counted: a flood of them ends it.
#[derive(Debug)]
pub struct Counted {
    stream: Stream,
    watch: Arc<Watch>,
    interim: Interim,
}

impl Counted {
    /// Counts the interim answers of `stream`; `watch` knows where an answer begins.
    pub fn new(stream: Stream, watch: Arc<Watch>) -> Self {
        Self { stream, watch, interim: Interim::default() }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let counted = self.get_mut();
        let start = buffer.filled().len();
        ready!(Pin::new(&mut counted.stream).poll_read(context, buffer))?;
        if counted.watch.begins.load(Ordering::Relaxed) {
            counted.watch.begins.store(false, Ordering::Relaxed);
            counted.interim = Interim::begin();
        }
        if counted.interim.read(buffer.filled().get(start..).unwrap_or_default()) {
            let flood = "too many interim answers came before the answer";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, flood)));
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Counted, stream in { Self { stream, .. } });
