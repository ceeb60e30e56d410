//! A connected socket, to a client or to a server, and how what lies around one hands calls on to it.

use socket2::SockRef;
#[cfg(test)]
use tokio::io::DuplexStream;
use tokio::net::{TcpStream, UnixStream};

/// What both ends of a connection are connected by.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// Nothing but memory.
    #[cfg(test)]
    Memory(DuplexStream),
}

impl Socket {
    /// The socket as the kernel has it; memory is none.
    #[inline]
    pub fn in_kernel(&self) -> Option<SockRef<'_>> {
        match self {
            Self::Tcp(stream) => Some(SockRef::from(stream)),
            Self::Unix(stream) => Some(SockRef::from(stream)),
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }
}

/// Hands every call of `AsyncRead` on to the stream that one of the patterns finds.
macro_rules! read_through {
    ($type:ty, $stream:ident in { $($(#[$attribute:meta])* $pattern:pat),+ $(,)? }) => {
        impl tokio::io::AsyncRead for $type {
            #[inline]
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => std::pin::Pin::new($stream).poll_read(context, buffer),)+
                }
            }
        }
    };
}
pub(crate) use read_through;

/// Hands every call of `AsyncWrite` on to the stream that one of the patterns finds.
macro_rules! write_through {
    ($type:ty, $stream:ident in { $($(#[$attribute:meta])* $pattern:pat),+ $(,)? }) => {
        impl tokio::io::AsyncWrite for $type {
            #[inline]
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => std::pin::Pin::new($stream).poll_write(context, bytes),)+
                }
            }

            #[inline]
            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                slices: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => {
                        std::pin::Pin::new($stream).poll_write_vectored(context, slices)
                    })+
                }
            }

            #[inline]
            fn is_write_vectored(&self) -> bool {
                match self {
                    $($(#[$attribute])* $pattern => $stream.is_write_vectored(),)+
                }
            }

            #[inline]
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => std::pin::Pin::new($stream).poll_flush(context),)+
                }
            }

            #[inline]
            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => std::pin::Pin::new($stream).poll_shutdown(context),)+
                }
            }
        }
    };
}
pub(crate) use write_through;

read_through!(Socket, stream in {
    Self::Tcp(stream),
    Self::Unix(stream),
    #[cfg(test)]
    Self::Memory(stream),
});
write_through!(Socket, stream in {
    Self::Tcp(stream),
    Self::Unix(stream),
    #[cfg(test)]
    Self::Memory(stream),
});
