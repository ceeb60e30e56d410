//! Sources: Local APIs whose decisions are enforced here, each pulled by a task of its own on one thread.
//!
//! ```text
//! waits --this process decides--> asks for everything --answered--> asks for changes, again and again
//! either --no answer--> waits, a second and then twice as long each time, and asks for everything
//! asks for changes --an hour has passed, or this process stopped deciding--> asks for everything
//! ```
//! A source that is away changes nothing: what it told stands until its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use checkgate_config::settings::LapiSource;
use checkgate_detectors::facts::Time;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::{Client, PullError, Pulled};
use super::holdings::{Hands, Holdings, lift_orphans};
use super::wire::Delta;
use crate::metrics::Metrics;
use crate::metrics::crowdsec::SourceMetrics;
use crate::metrics::labels;

/// How often a Local API is asked where nobody said.
const EVERY: Duration = Duration::from_secs(10);
/// The same where a checkgate answers: what one decides holds at the other within a second.
const EVERY_PEER: Duration = Duration::from_millis(500);
/// After a pull that failed it is asked again after this time, twice that, and so on.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The longest wait after pulls that failed, unless it is asked less often anyway.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often the whole list is asked for, which heals whatever went wrong.
const ALL_EVERY: Duration = Duration::from_secs(3600);
/// How often it is looked whether this process decides.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The share by which waits differ, so that many instances do not ask at once.
const JITTER: f64 = 0.1;

/// What sources are made of.
pub struct Room {
    /// The list, which a reload changes.
    pub list: watch::Receiver<Arc<[LapiSource]>>,
    /// What decisions are taken with, under the settings now.
    pub hands: Box<dyn Fn() -> Hands + Send + Sync>,
    /// Whether this process decides.
    pub decides: Box<dyn Fn() -> bool + Send + Sync>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time now.
    pub clock: fn() -> Time,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

/// Starts the thread of all sources. It ends when nobody can change their list any more.
///
/// # Errors
/// No thread can be started.
pub fn start(room: Room) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || runtime.block_on(keep(Arc::new(room)));
    std::thread::Builder::new().name("crowdsec".into()).spawn(run).map(drop)
}

/// Has a task for each source of the list, and no others.
async fn keep(room: Arc<Room>) {
    let mut list = room.list.clone();
    loop {
        let now: Arc<[LapiSource]> = Arc::clone(&list.borrow_and_update());
        let mut tasks = JoinSet::new();
        for source in now.iter() {
            tasks.spawn(pull(Arc::clone(&room), source.clone()));
        }
        tasks.spawn(forget_others(Arc::clone(&room), Arc::clone(&now)));
        if list.changed().await.is_err() {
            return;
        }
        // What was told stands; whoever is still on the list asks for everything.
        tasks.shutdown().await;
    }
}

/// What stands from sources that are no longer on the list is lifted.
async fn forget_others(room: Arc<Room>, list: Arc<[LapiSource]>) {
    room.until_it_decides().await;
    lift_orphans(|name| list.iter().any(|source| source.name == name), &(room.hands)(), (room.clock)());
}

async fn pull(room: Arc<Room>, source: LapiSource) {
    let metrics = room.metrics.source(&source.name);
    let mut client = match Client::new(&source) {
        Ok(client) => client,
        Err(error) => {
            metrics.up.set(0);
            return tracing::error!(source = source.name, "nothing is pulled from this source: {error:#}");
        }
    };
    let mut puller = Puller::new(source, metrics);
    loop {
        if !(room.decides)() {
            puller.all_at = None;
            room.until_it_decides().await;
        }
        let startup = puller.is_all_due(Instant::now());
        let pulled = client.pull(startup).await;
        let took = puller.take(pulled, startup, &(room.hands)(), (room.clock)());
        if took && startup {
            puller.all_at = Some(Instant::now());
        }
        sleep(puller.wait()).await;
    }
}

impl Room {
    async fn until_it_decides(&self) {
        while !(self.decides)() {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// The memory of one source's pulls.
#[derive(Debug)]
struct Puller {
    every: Option<Duration>,
    name: String,
    holdings: Holdings,
    metrics: SourceMetrics,
    by_checkgate: bool,
    failures: u32,
    /// When the whole list was taken last; nothing while it has to be asked for.
    all_at: Option<Instant>,
}

impl Puller {
    fn new(source: LapiSource, metrics: SourceMetrics) -> Self {
        Self {
            every: source.every,
            name: source.name.clone(),
            holdings: Holdings::new(source, metrics.clone()),
            metrics,
            by_checkgate: false,
            failures: 0,
            all_at: None,
        }
    }

    fn is_all_due(&self, now: Instant) -> bool {
        self.all_at.is_none_or(|at| now.duration_since(at) >= ALL_EVERY)
    }

    /// Takes what a pull gave; says whether it was an answer.
    fn take(&mut self, pulled: Result<Pulled, PullError>, all: bool, hands: &Hands, now: Time) -> bool {
        let taken =
            pulled.map_err(|error| (outcome(&error), anyhow::Error::from(error))).and_then(|pulled| {
                let delta =
                    serde_json::from_slice(&pulled.json).context("the answer is no list of decisions");
                let delta: Delta<'_> = delta.map_err(|error| (labels::Pulled::Failed, error))?;
                if all {
                    self.holdings.take_all(&delta, hands, now);
                } else {
                    self.holdings.take(&delta, hands, now);
                }
                self.by_checkgate = pulled.by_checkgate;
                Ok(())
            });
        match taken {
            Ok(()) => self.succeeded(),
            Err((outcome, error)) => self.failed(outcome, &error),
        }
        self.failures == 0
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!(source = self.name, "the source of decisions answers again");
        }
        self.failures = 0;
        self.metrics.up.set(1);
        self.metrics.pulls.inc(labels::Pulled::Answered);
    }

    fn failed(&mut self, outcome: labels::Pulled, error: &anyhow::Error) {
        if self.failures == 0 {
            tracing::warn!(
                source = self.name,
                "nothing comes from this source, what it told stands: {error:#}"
            );
        }
        self.failures = self.failures.saturating_add(1);
        self.metrics.up.set(0);
        self.metrics.pulls.inc(outcome);
        // Whatever it told meanwhile is not known.
        self.all_at = None;
    }

    /// How long until the next pull.
    fn wait(&self) -> Duration {
        let usual = self.every.unwrap_or(if self.by_checkgate { EVERY_PEER } else { EVERY });
        let wait = match self.failures {
            0 => usual,
            failures => AGAIN_AFTER.saturating_mul(2_u32.saturating_pow(failures.min(16) - 1)),
        };
        wait.min(WAIT_MAX.max(usual)).mul_f64(1.0 + JITTER * (2.0 * share() - 1.0))
    }
}

impl Drop for Puller {
    /// Nobody is away whom nobody asks.
    fn drop(&mut self) {
        self.metrics.up.set(1);
        self.metrics.standing.set(0);
    }
}

fn outcome(error: &PullError) -> labels::Pulled {
    match error {
        PullError::Refused => labels::Pulled::Refused,
        _ => labels::Pulled::Failed,
    }
}

/// A number from 0 to 1; half of it where the system gives no randomness.
fn share() -> f64 {
    getrandom::u32().map_or(0.5, |drawn| f64::from(drawn) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
