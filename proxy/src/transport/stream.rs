//! A client's stream of bytes, in the clear or out of TLS.

use tokio_rustls::server::TlsStream;

use crate::socket::{Socket, read_through, write_through};

/// What a connection is read from and written to.
#[derive(Debug)]
pub enum Stream {
    /// The socket itself.
    Plain(Socket),
    /// Through TLS.
    Tls(Box<TlsStream<Socket>>),
}

read_through!(Stream, stream in { Self::Plain(stream), Self::Tls(stream) });
write_through!(Stream, stream in { Self::Plain(stream), Self::Tls(stream) });
