//! From an accepted stream to a protocol: TLS where it is spoken, then which HTTP.

use std::io;

use super::introduced::Caller;
use super::peer::{LOCAL, Peer};
use super::rules::Rules;
use super::stream::Stream;
use super::tls::{ALPN_HTTP2, TlsHandle, certificate_names, public_key_hash};
use super::wire::Wire;
use crate::socket::Socket;

/// What a client sends first where it knows that HTTP/2 is spoken (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A client that said enough to be served.
#[derive(Debug)]
pub struct Greeted {
    /// Its bytes.
    pub wire: Wire,
    /// Who it is.
    pub peer: Peer,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Shakes hands and finds the protocol. Under no deadline of its own.
///
/// # Errors
/// The client left, or the handshake failed.
pub async fn greet(
    session: Socket,
    caller: Caller,
    tls: Option<&TlsHandle>,
    rules: &Rules,
) -> io::Result<Greeted> {
    let mut peer = Peer::plain(caller.ip.unwrap_or(LOCAL));
    let (stream, agreed) = match tls {
        Some(tls) => {
            let stream = tls.accept(session).await?;
            let (_, connection) = stream.get_ref();
            let shown = connection.peer_certificates().and_then(|chain| chain.first());
            let names = shown.map(certificate_names).unwrap_or_default();
            peer = Peer::over_tls(peer.ip, shown.and_then(public_key_hash)).named(names);
            let agreed = connection.alpn_protocol() == Some(ALPN_HTTP2);
            let protocol = if agreed { Protocol::Http2 } else { Protocol::Http1 };
            (Stream::Tls(Box::new(stream)), Some(protocol))
        }
        None => (Stream::Plain(session), None),
    };
    let mut wire = Wire::new(stream, rules.answer_bytes_per_second);
    let protocol = match agreed {
        Some(protocol) => protocol,
        None => detect(&mut wire).await?,
    };
    Ok(Greeted { wire, peer: Peer { is_named: caller.named, ..peer }, protocol })
}

/// Reads until the first bytes are the preface or cannot become it.
async fn detect(wire: &mut Wire) -> io::Result<Protocol> {
    let mut before = 0;
    loop {
        let early = wire.peek_more().await?;
        if early.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if early == PREFACE {
            return Ok(Protocol::Http2);
        }
        if !PREFACE.starts_with(early) || early.len() == before {
            return Ok(Protocol::Http1);
        }
        before = early.len();
    }
}
