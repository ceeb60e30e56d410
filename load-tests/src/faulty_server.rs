//! A server that breaks HTTP on purpose: what it sends and when is written out byte by byte, and everything that it was
//! asked is counted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A step of a faulty server.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes in one call.
    Send(Vec<u8>),
    /// Sends these bytes again and again, each time after this pause, until the other side is gone.
    Forever(String, Duration),
    /// Does nothing for a while.
    Pause(Duration),
    /// Does nothing until so many requests came, over all connections.
    Await(usize),
    /// Does nothing any more, and keeps the connection open.
    Hang,
    /// Closes the connection with a FIN.
    Close,
    /// Breaks the connection with a RST.
    Reset,
}

/// Sends `bytes`.
#[must_use]
pub fn send(bytes: impl Into<Vec<u8>>) -> Act {
    Act::Send(bytes.into())
}

/// What a faulty server does with one request.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// As soon as the request's head was read.
    pub on_head: Vec<Act>,
    /// Once its body was read as well; then the next request is read from the same connection.
    pub on_request: Vec<Act>,
}

impl Script {
    /// Acts once the whole request was read.
    #[must_use]
    pub fn after(acts: Vec<Act>) -> Self {
        Self { on_head: Vec::new(), on_request: acts }
    }

    /// Acts before the request's body was read.
    #[must_use]
    pub fn before_body(acts: Vec<Act>) -> Self {
        Self { on_head: acts, on_request: Vec::new() }
    }
}

/// What a faulty server was asked.
#[derive(Debug, Default)]
pub struct Asked {
    connections: AtomicUsize,
    closed: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl Asked {
    /// Notes a request; gives its number, counted from 0.
    fn note(&self, head: String) -> usize {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(head);
        requests.len() - 1
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A faulty server on a free port of loopback; dropping it ends it.
#[derive(Debug)]
pub struct FaultyServer {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Asked>,
    accepting: JoinHandle<()>,
}

type Chooses = Arc<dyn Fn(usize) -> Script + Send + Sync>;

impl FaultyServer {
    /// Follows, for each request, the script that `choose` gives for its number, counted from 0 over all connections.
    /// `on_accept` comes before anything is read from a connection, whose number it is given.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn start(
        on_accept: impl Fn(usize) -> Vec<Act> + Send + Sync + 'static,
        choose: impl Fn(usize) -> Script + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Asked::default());
        let seen = Arc::clone(&asked);
        let choose: Chooses = Arc::new(choose);
        let accepting = tokio::spawn(async move {
            // Connections end with the server.
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acts = on_accept(seen.connections.fetch_add(1, Ordering::SeqCst));
                open.spawn(serve(stream, acts, Arc::clone(&choose), Arc::clone(&seen)));
            }
        });
        Ok(Self { address, asked, accepting })
    }

    /// Always the same answer, as raw bytes.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn always(answer: String) -> io::Result<Self> {
        Self::start(|_| Vec::new(), move |_| Script::after(vec![send(answer.clone())])).await
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.asked.connections.load(Ordering::SeqCst)
    }

    /// How many connections it closed or reset by its script.
    #[must_use]
    pub fn closed(&self) -> usize {
        self.asked.closed.load(Ordering::SeqCst)
    }

    /// The heads of the requests that it read so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.asked.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests it read whose head contains `text`.
    #[must_use]
    pub fn requests_with(&self, text: &str) -> usize {
        self.requests().iter().filter(|head| head.contains(text)).count()
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Whether a connection goes on.
#[derive(PartialEq)]
enum Then {
    GoesOn,
    Ends,
}

async fn serve(mut stream: TcpStream, on_accept: Vec<Act>, choose: Chooses, asked: Arc<Asked>) {
    drop(stream.set_nodelay(true));
    let by_script = follow(&mut stream, on_accept, choose, &asked).await;
    drop(stream);
    if by_script == Then::Ends {
        asked.closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Says whether the script ended the connection, and not the other side.
async fn follow(stream: &mut TcpStream, on_accept: Vec<Act>, choose: Chooses, asked: &Asked) -> Then {
    let mut read = Vec::new();
    // The other side may be gone at any step; there is nobody to tell.
    if perform(stream, on_accept, asked).await == Then::Ends {
        return Then::Ends;
    }
    while let Some(head) = next_head(stream, &mut read).await {
        let length = content_length(&head);
        let script = choose(asked.note(head));
        if perform(stream, script.on_head, asked).await == Then::Ends
            || !skip(stream, &mut read, length).await
            || perform(stream, script.on_request, asked).await == Then::Ends
        {
            return Then::Ends;
        }
    }
    Then::GoesOn
}

async fn perform(stream: &mut TcpStream, acts: Vec<Act>, asked: &Asked) -> Then {
    for act in acts {
        let sent = match act {
            Act::Send(bytes) => stream.write_all(&bytes).await,
            Act::Forever(text, pause) => forever(stream, &text, pause).await,
            Act::Pause(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Act::Await(count) => {
                while asked.count() < count {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(())
            }
            Act::Hang => hang(stream).await,
            Act::Close => {
                drop(stream.shutdown().await);
                return Then::Ends;
            }
            Act::Reset => {
                drop(stream.set_zero_linger());
                return Then::Ends;
            }
        };
        if sent.is_err() {
            return Then::Ends;
        }
    }
    Then::GoesOn
}

async fn forever(stream: &mut TcpStream, text: &str, pause: Duration) -> io::Result<()> {
    loop {
        stream.write_all(text.as_bytes()).await?;
        tokio::time::sleep(pause).await;
    }
}

/// Reads, and thereby notices when the other side gives up.
async fn hang(stream: &mut TcpStream) -> io::Result<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Err(io::ErrorKind::ConnectionAborted.into())
}

async fn next_head(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    const END: &[u8] = b"\r\n\r\n";
    loop {
        if let Some(at) = read.windows(END.len()).position(|window| window == END) {
            let head: Vec<u8> = read.drain(..at + END.len()).collect();
            return Some(String::from_utf8_lossy(&head).into_owned());
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

/// Reads a body of this length; a chunked one is none to it.
async fn skip(stream: &mut TcpStream, read: &mut Vec<u8>, length: usize) -> bool {
    while read.len() < length {
        if !stream.read_buf(read).await.is_ok_and(|count| count > 0) {
            return false;
        }
    }
    read.drain(..length);
    true
}

fn content_length(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
