//! Whom a connection is from where a load balancer says it first, by the PROXY protocol.
//!
//! A header is read from trusted peers alone, exactly to its last byte, within the time for a head. Where it is asked
//! for, nobody is served without one: a connection that could do with and without a header could be taken for two
//! clients.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::rejected::Rejected;
use super::rules::Rules;
use crate::screen::proxy_header::{self, Need, Told};
use crate::socket::Socket;

/// Whom a connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its address; a unix socket has none.
    pub ip: Option<IpAddr>,
    /// Whether a trusted balancer said so.
    pub named: bool,
}

/// Why a connection is not served.
#[derive(Debug)]
pub enum Unknown {
    /// For a reason that is counted.
    Rejected(Rejected),
    /// The other end left.
    Gone(io::Error),
}

/// Finds out whom a connection is from that `ip` opened, which a unix socket has not. Under no deadline of its own.
///
/// # Errors
/// A header is asked for and there is none, or it comes from somebody who is not trusted.
pub async fn introduced(session: &mut Socket, ip: Option<IpAddr>, rules: &Rules) -> Result<Caller, Unknown> {
    let itself = Caller { ip, named: false };
    let Some(peer) = ip.filter(|_| rules.proxy_header) else { return Ok(itself) };
    if !rules.is_shared(peer) {
        return Err(Unknown::Rejected(Rejected::UntrustedProxy));
    }
    match read_header(session).await? {
        Told::From(client) => Ok(Caller { ip: Some(client.to_canonical()), named: true }),
        Told::Itself => Ok(itself),
    }
}

/// Reads a header and not a byte more.
async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Told, Unknown> {
    let no_header = |_| Unknown::Rejected(Rejected::ProxyHeader);
    let mut header = Vec::with_capacity(proxy_header::LINE_BYTES_MAX);
    while let Need::More(length) = proxy_header::need(&header).map_err(no_header)? {
        let before = header.len();
        header.resize(length, 0);
        let rest = header.get_mut(before..).unwrap_or_default();
        stream.read_exact(rest).await.map_err(|error| match (error.kind(), before) {
            // Whoever begins and leaves has sent half a header.
            (io::ErrorKind::UnexpectedEof, 1..) => Unknown::Rejected(Rejected::ProxyHeader),
            _ => Unknown::Gone(error),
        })?;
    }
    proxy_header::read(&header).map_err(no_header)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(bytes: &[u8]) -> (Option<Told>, Vec<u8>) {
        let mut stream = bytes;
        let told = read_header(&mut stream).await.ok();
        (told, stream.to_vec())
    }

    #[tokio::test]
    async fn what_follows_a_header_is_left_for_whoever_reads_next() {
        let block = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x0a\0\0\x01\0\x01\0\x02".as_slice();
        for header in [b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n".as_slice(), block] {
            let (heard, left) = told(&[header, b"GET / HTTP/1.1\r\n"].concat()).await;
            assert_eq!(heard, Some(Told::From("203.0.113.9".parse().unwrap())));
            assert_eq!(left, b"GET / HTTP/1.1\r\n", "{header:?}");
        }
        assert_eq!(told(b"GET / HTTP/1.1\r\n\r\n").await.0, None);
        assert_eq!(told(b"PROXY TCP4").await.0, None, "half a header");
    }
}
