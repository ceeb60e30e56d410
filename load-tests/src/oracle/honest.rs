//! A client that only wants to be served, while others attack.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinHandle;

use crate::client::Client;

/// Between two of its requests.
const PAUSE: Duration = Duration::from_millis(5);

/// How an honest client was served.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// Requests that were answered with 200; another answer is an error.
    pub requests: usize,
    /// The slowest of them.
    pub slowest: Duration,
}

/// An honest client that asks all the time.
#[derive(Debug)]
pub struct Honest {
    stopping: Arc<AtomicBool>,
    asking: JoinHandle<anyhow::Result<Served>>,
}

impl Honest {
    /// Begins to ask `proxy`.
    #[must_use]
    pub fn client_of(proxy: SocketAddr) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let asking = tokio::spawn(ask(proxy, Arc::clone(&stopping)));
        Self { stopping, asking }
    }

    /// Stops, and tells how it was served.
    ///
    /// # Errors
    /// Where it was not, once.
    pub async fn stop(self) -> anyhow::Result<Served> {
        self.stopping.store(true, Ordering::SeqCst);
        self.asking.await?
    }
}

async fn ask(proxy: SocketAddr, stopping: Arc<AtomicBool>) -> anyhow::Result<Served> {
    let (mut client, mut served) = (Client::to(proxy), Served::default());
    while !stopping.load(Ordering::SeqCst) {
        let asked = Instant::now();
        let status = client.get("/v1/ask").await?.status;
        ensure!(status == 200, "an honest client got {status}");
        served.requests += 1;
        served.slowest = served.slowest.max(asked.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(served)
}
