//! A connected socket, to a client or to a server, and how what lies around one hands calls on to it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
#[cfg(test)]
use tokio::io::DuplexStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Slices of up to so many bytes together are joined: to copy them costs less than to have the kernel read a list of them,
/// a twentieth of a microsecond against a sixth.
const JOINED_MAX: usize = 2048;

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
    ($type:ty, $stream:ident in { $($pattern:pat),+ }) => {
        impl tokio::io::AsyncRead for $type {
            #[inline]
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $($pattern => std::pin::Pin::new($stream).poll_read(context, buffer),)+
                }
            }
        }
    };
}
pub(crate) use read_through;

/// Hands every call of `AsyncWrite` on to the stream that one of the patterns finds.
macro_rules! write_through {
    ($type:ty, $stream:ident in { $($pattern:pat),+ }) => {
        impl tokio::io::AsyncWrite for $type {
            #[inline]
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    $($pattern => std::pin::Pin::new($stream).poll_write(context, bytes),)+
                }
            }

            #[inline]
            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                slices: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    $($pattern => {
                        std::pin::Pin::new($stream).poll_write_vectored(context, slices)
                    })+
                }
            }

            #[inline]
            fn is_write_vectored(&self) -> bool {
                match self {
                    $($pattern => $stream.is_write_vectored(),)+
                }
            }

            #[inline]
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $($pattern => std::pin::Pin::new($stream).poll_flush(context),)+
                }
            }

            #[inline]
            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $($pattern => std::pin::Pin::new($stream).poll_shutdown(context),)+
                }
            }
        }
    };
}
pub(crate) use write_through;

/// Calls one method of whatever the socket is.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Self::Tcp($stream) => $call,
            Self::Unix($stream) => $call,
            #[cfg(test)]
            Self::Memory($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    /// A few short slices, as a head and a small body are, are written as one.
    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length > JOINED_MAX {
            return each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(context, slices));
        }
        let mut room = [MaybeUninit::uninit(); JOINED_MAX];
        let mut joined = ReadBuf::uninit(&mut room);
        slices.iter().for_each(|slice| joined.put_slice(slice));
        self.poll_write(context, joined.filled())
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn slices_arrive_in_order_whether_they_are_joined_or_not() {
        for body in [0, 1, JOINED_MAX - 5, JOINED_MAX - 4, 3 * JOINED_MAX] {
            let (near, mut far) = duplex(8 * JOINED_MAX);
            let mut socket = Socket::Memory(near);
            let body = vec![b'b'; body];
            let slices = [IoSlice::new(b"head "), IoSlice::new(&body)];
            let written = socket.write_vectored(&slices).await.unwrap();
            assert!(written >= 5 && written <= 5 + body.len(), "{written}");
            drop(socket);
            let mut came = Vec::new();
            far.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, [b"head ", &*body].concat()[..written]);
        }
    }
}
