//! The bytes beneath a connection to a server: a TCP or unix socket, with TLS or without.

use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// Interim answers (1xx) that a server may send before its answer.
pub const INTERIM_MAX: u32 = 16;

/// What the pool and the socket of one connection tell each other.
#[derive(Debug, Default)]
pub struct Watch {
    /// The next read asks the kernel, whatever the runtime knows.
    looks: AtomicBool,
    /// Interim answers to the request that is open.
    interim: AtomicU32,
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
        self.interim.store(0, Ordering::Relaxed);
    }

    /// Takes note of an interim answer.
    pub fn note_interim(&self) {
        self.interim.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether more interim answers came than may come.
    pub fn is_flooded(&self) -> bool {
        self.interim.load(Ordering::Relaxed) > INTERIM_MAX
    }
}

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A connected socket that can be looked at out of turn.
#[derive(Debug)]
pub struct Watched {
    socket: Socket,
    watch: Arc<Watch>,
}

impl Watched {
    /// Watches `socket`.
    pub fn new(socket: Socket, watch: Arc<Watch>) -> Self {
        Self { socket, watch }
    }

    /// Reads from the kernel; `None` where it has nothing.
    fn look(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        let socket = match &self.socket {
            Socket::Tcp(stream) => SockRef::from(stream),
            Socket::Unix(stream) => SockRef::from(stream),
        };
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
        if self.watch.is_flooded() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too many interim answers")));
        }
        if self.watch.looks.load(Ordering::Relaxed) {
            if let Some(seen) = self.look(buffer) {
                return Poll::Ready(seen);
            }
            self.watch.looks.store(false, Ordering::Relaxed);
        }
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

/// Hands every call of [`AsyncWrite`] on to whichever stream there is.
macro_rules! write_through {
    ($type:ty, $self:ident => $target:expr, { $($variant:path),+ }) => {
        impl AsyncWrite for $type {
            fn poll_write(
                mut $self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match $target { $($variant(stream) => Pin::new(stream).poll_write(context, bytes),)+ }
            }

            fn poll_write_vectored(
                mut $self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match $target { $($variant(stream) => Pin::new(stream).poll_write_vectored(context, slices),)+ }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(mut $self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match $target { $($variant(stream) => Pin::new(stream).poll_flush(context),)+ }
            }

            fn poll_shutdown(mut $self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match $target { $($variant(stream) => Pin::new(stream).poll_shutdown(context),)+ }
            }
        }
    };
}

write_through!(Watched, self => &mut self.socket, { Socket::Tcp, Socket::Unix });

/// What HTTP is spoken over.
#[derive(Debug)]
pub enum Stream {
    /// The socket itself.
    Plain(Watched),
    /// TLS over it.
    Tls(Box<TlsStream<Watched>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

write_through!(Stream, self => &mut *self, { Stream::Plain, Stream::Tls });
