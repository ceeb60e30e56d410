//! A raw client: bytes out, bytes in, from a loopback address that names the exchange.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::readers::{End, STRICT, read};

/// After this much silence the client stops waiting for more and closes its side.
const QUIET: Duration = Duration::from_millis(400);
/// A proxy that has not closed this long after the client did hangs.
const HANG: Duration = Duration::from_secs(5);
/// Between two segments that must not be joined.
const PAUSE: Duration = Duration::from_millis(15);

/// An address of 127.64.0.0/10, another one with each call.
#[must_use]
pub fn source() -> Ipv4Addr {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    let call = CALLS.fetch_add(1, Ordering::Relaxed) & 0x003f_ffff;
    Ipv4Addr::from_bits(0x7f40_0000 | call)
}

/// Who closed the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The proxy, while the client would have gone on.
    ByProxy,
    /// The proxy, once the client had closed its side.
    AfterClient,
    /// Nobody: the proxy kept it open.
    Never,
}

/// What happened at the client's side.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The client's address.
    pub source: Ipv4Addr,
    /// What it sent.
    pub sent: Vec<u8>,
    /// What it got.
    pub received: Vec<u8>,
    /// How it ended.
    pub closed: Closed,
}

impl Exchange {
    /// The final status codes, in order.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        let mut statuses = Vec::new();
        for (at, window) in self.received.windows(9).enumerate() {
            if window.starts_with(b"HTTP/1.") && window[8] == b' ' {
                let code = self.received.get(at + 9..at + 12).and_then(|code| std::str::from_utf8(code).ok());
                statuses.extend(code.and_then(|code| code.parse::<u16>().ok()).filter(|code| *code >= 200));
            }
        }
        statuses
    }
}

/// Connects to `proxy` from an address of its own.
///
/// # Errors
/// Where the proxy does not accept.
pub async fn connect(proxy: SocketAddr, source: Ipv4Addr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.into(), 0))?;
    let stream = socket.connect(proxy).await.with_context(|| format!("{source} cannot reach {proxy}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends `segments` and reads whatever comes back until the proxy closes or hangs.
///
/// # Errors
/// Where the proxy does not accept the connection.
pub async fn exchange(proxy: SocketAddr, segments: &[Vec<u8>]) -> anyhow::Result<Exchange> {
    let source = source();
    let sent = segments.concat();
    let awaited = awaited(&sent);
    let mut client = Talk { stream: connect(proxy, source).await?, received: Vec::new(), ended: false };
    client.send(segments).await;
    client.listen(QUIET, awaited).await;
    let closed = client.close().await;
    Ok(Exchange { source, sent, received: client.received, closed })
}

/// How many answers end the wait: those to all requests of a clean input; more than ever come for any other.
fn awaited(sent: &[u8]) -> usize {
    let reading = read(sent, &STRICT);
    if reading.end == End::Clean { reading.messages.len() } else { usize::MAX }
}

struct Talk {
    stream: TcpStream,
    received: Vec<u8>,
    ended: bool,
}

impl Talk {
    async fn send(&mut self, segments: &[Vec<u8>]) {
        for (index, segment) in segments.iter().enumerate() {
            if index > 0 {
                self.listen(PAUSE, usize::MAX).await;
            }
            // The proxy may refuse before it has read everything; what it says is read all the same.
            if !segment.is_empty() && self.stream.write_all(segment).await.is_err() {
                return;
            }
        }
    }

    /// Reads until the end, until `awaited` answers are there, or until nothing comes for `quiet`.
    async fn listen(&mut self, quiet: Duration, awaited: usize) {
        let mut buffer = [0; 4096];
        while !self.ended && finished_answers(&self.received) < awaited {
            match tokio::time::timeout(quiet, self.stream.read(&mut buffer)).await {
                Err(_) => return,
                Ok(Ok(0) | Err(_)) => self.ended = true,
                Ok(Ok(count)) => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    async fn close(&mut self) -> Closed {
        if self.ended {
            return Closed::ByProxy;
        }
        drop(self.stream.shutdown().await);
        self.listen(HANG, usize::MAX).await;
        if self.ended { Closed::AfterClient } else { Closed::Never }
    }
}

/// Counts answers by the recorder's body, so that a head without its body does not count.
fn finished_answers(received: &[u8]) -> usize {
    received.windows(6).filter(|window| window == b"\r\n\r\nok").count()
}
