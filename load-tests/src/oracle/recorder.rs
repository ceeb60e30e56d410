//! A raw TCP upstream that keeps every byte and answers whole requests only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::readers::{End, STRICT, read};

/// A connection that says nothing for this long is closed, so that a proxy that waits is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const BODILESS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What came over all connections so far, in the order of their arrival.
#[derive(Debug, Default)]
struct Tape {
    connections: Mutex<Vec<Vec<u8>>>,
    open: AtomicUsize,
    answered: AtomicUsize,
}

impl Tape {
    fn begin(&self) -> usize {
        self.open.fetch_add(1, Ordering::SeqCst);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.push(Vec::new());
        connections.len() - 1
    }

    fn append(&self, connection: usize, bytes: &[u8]) -> Vec<u8> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tape) = connections.get_mut(connection) else { return Vec::new() };
        tape.extend_from_slice(bytes);
        tape.clone()
    }
}

/// The recording upstream; dropping it ends it.
#[derive(Debug)]
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    tape: Arc<Tape>,
    accepting: JoinHandle<()>,
}

impl Recorder {
    /// Starts on a free port of loopback.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn start() -> std::io::Result<Self> {
        Self::on((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts at a given address.
    ///
    /// # Errors
    /// Where it is not free.
    pub async fn on(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let tape = Arc::new(Tape::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&tape)));
        Ok(Self { address, tape, accepting })
    }

    /// The bytes of each connection since the last call. Connections must be [`settled`](Self::settled).
    #[must_use]
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.tape.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many requests were answered with 200.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.tape.answered.load(Ordering::SeqCst)
    }

    /// Waits until the proxy has closed its connections, so that nothing more comes.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn settled(&self) -> anyhow::Result<()> {
        // The proxy may still be about to connect for the last exchange.
        tokio::time::sleep(Duration::from_millis(50)).await;
        crate::until("the end of all upstream connections", || self.tape.open.load(Ordering::SeqCst) == 0)
            .await
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, tape: Arc<Tape>) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = tape.begin();
        let tape = Arc::clone(&tape);
        tokio::spawn(async move {
            // A proxy that breaks off is part of what is tested.
            drop(record(stream, connection, &tape).await);
            tape.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Keeps what comes until the proxy closes; the first whole request is answered, what follows it is only kept.
async fn record(mut stream: TcpStream, connection: usize, tape: &Tape) -> std::io::Result<()> {
    let mut buffer = vec![0; 65536];
    let mut answered = false;
    loop {
        let Ok(count) = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await else { return Ok(()) };
        let count = count?;
        if count == 0 {
            return Ok(());
        }
        let so_far = tape.append(connection, &buffer[..count]);
        if !answered && let Some(answer) = answer(&so_far, tape) {
            answered = true;
            stream.write_all(answer).await?;
            stream.shutdown().await?;
        }
    }
}

fn answer(bytes: &[u8], tape: &Tape) -> Option<&'static [u8]> {
    let reading = read(bytes, &STRICT);
    match (reading.messages.first(), reading.end) {
        (Some(first), _) => {
            tape.answered.fetch_add(1, Ordering::SeqCst);
            Some(if first.method == b"HEAD" { BODILESS } else { ANSWER })
        }
        (None, End::Refused(_)) => Some(REFUSAL),
        (None, _) => None,
    }
}
