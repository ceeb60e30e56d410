//! The thread `sinks`: all couriers of this process, and who starts and ends them.
//!
//! ```text
//! resting    --deliver--> delivering: a courier for every configured sink
//! delivering --adopt--> delivering: of every name the old courier ends, then the new one begins where that stood
//! delivering --rest, or stop--> resting: what can be delivered at once is, within a bound
//! ```
//! Only the process that owns the ledger delivers: in a hand-over the old one rests before it closes the log, and the
//! new one delivers once it has opened it.

use std::collections::BTreeMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use checkgate_config::parts::PartError;
use checkgate_config::settings::{self, Settings};
use futures_util::FutureExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::task;
use tokio::time::{sleep, timeout};

use super::courier::{Courier, Order, Ready, STARTING, Shown, Well};
use super::cursor::Cursor;
use super::dead::DeadLetters;
use super::spool::Spool;
use super::{Ground, spec};
use crate::clock;
use crate::ledger::Ledger;
use crate::ledger::disk::ReadOnly;
use crate::metrics::Metrics;
use crate::metrics::labels::SinkFailure;

/// How long a courier may still take for its batch when another one takes its place.
const CHANGE_MAX: Duration = Duration::from_secs(1);
/// How long after their grace couriers may take to be gone.
const REST_MAX: Duration = Duration::from_secs(2);
/// How often it is looked how far the log is written, where nobody tells.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after a panic a courier begins again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A sink that cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("the sink \"{name}\" cannot be used: {}{}", place(.error), .error.message)]
pub struct Unusable {
    name: String,
    error: PartError,
}

fn place(error: &PartError) -> String {
    if error.path.is_empty() { String::new() } else { format!("{}: ", error.path.join(".")) }
}

/// Builds every sink of `settings`.
///
/// # Errors
/// Names the first that cannot be built, and why.
pub fn build(settings: &Settings, ground: &Ground<'_>) -> Result<Vec<Ready>, Unusable> {
    settings.sinks.iter().map(|sink| build_one(sink, ground)).collect()
}

/// Builds one sink.
///
/// # Errors
/// Why it cannot be built.
pub fn build_one(sink: &settings::Sink, ground: &Ground<'_>) -> Result<Ready, Unusable> {
    let unusable = |error| Unusable { name: sink.name.clone(), error };
    let spec = spec(&sink.part.name)
        .ok_or_else(|| unusable(PartError::new(&[], format!("there is no part {}", sink.part.name))))?;
    let built = (spec.build)(&sink.part.parameters, ground).map_err(unusable)?;
    Ok(Ready { settings: Arc::new(sink.clone()), sink: built.into() })
}

/// What couriers are made of besides their sinks.
#[derive(Clone)]
pub struct Premises {
    /// The state folder.
    pub state: PathBuf,
    /// The id of this instance.
    pub instance: Arc<str>,
    /// What happens.
    pub ledger: Arc<Ledger>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

enum Call {
    Adopt(Vec<Ready>),
    Deliver,
    Rest { grace: Duration, rested: std_mpsc::Sender<()> },
}

type Board = Arc<RwLock<BTreeMap<String, Arc<Mutex<Shown>>>>>;

/// The thread's handle.
pub struct Office {
    calls: mpsc::UnboundedSender<Call>,
    thread: Mutex<Option<JoinHandle<()>>>,
    board: Board,
}

impl Office {
    /// Starts the thread, which rests.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(premises: Premises) -> io::Result<Self> {
        let (calls, called) = mpsc::unbounded_channel();
        let board = Board::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let head = Head {
            premises,
            board: Arc::clone(&board),
            configured: Vec::new(),
            running: BTreeMap::new(),
            written: None,
            delivering: false,
        };
        let work = move || {
            runtime.block_on(head.run(called));
            // A batch may still be on its way to a disk or a resolver that stands still.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("sinks".into()).spawn(work)?;
        Ok(Self { calls, thread: Mutex::new(Some(thread)), board })
    }

    /// Delivers to these sinks from now on, and to no others.
    pub fn adopt(&self, sinks: Vec<Ready>) {
        self.call(Call::Adopt(sinks));
    }

    /// Begins to deliver: the ledger is this process's.
    pub fn deliver(&self) {
        self.call(Call::Deliver);
    }

    /// Ends to deliver; within `grace`, what can be delivered is. Waits until no courier is left, but not for a thread that
    /// waits for a disk: nothing waits for a sink.
    pub fn rest(&self, grace: Duration) {
        let (rested, waits) = std_mpsc::channel();
        self.call(Call::Rest { grace, rested });
        if waits.recv_timeout(grace + REST_MAX).is_err() {
            tracing::warn!("the sinks do not come to rest; what they are sending may arrive twice");
        }
    }

    /// The same, and the thread ends.
    pub fn stop(&self, grace: Duration) {
        self.rest(grace);
        // The thread ends with the last handle; this one goes with the process.
        drop(self.thread.lock().take());
    }

    /// The sinks as operators see them, by name.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        self.board.read().values().map(|shown| shown.lock().clone()).collect()
    }

    fn call(&self, call: Call) {
        if self.calls.send(call).is_err() {
            tracing::error!("the thread of the sinks is gone; nothing is delivered until a restart");
        }
    }
}

/// A courier at work.
struct Running {
    orders: watch::Sender<Order>,
    task: task::JoinHandle<()>,
}

struct Head {
    premises: Premises,
    board: Board,
    configured: Vec<Ready>,
    running: BTreeMap<String, Running>,
    /// Hears how far the log is written, as long as there are couriers.
    written: Option<(watch::Receiver<u64>, task::JoinHandle<()>)>,
    delivering: bool,
}

impl Head {
    async fn run(mut self, mut calls: mpsc::UnboundedReceiver<Call>) {
        while let Some(call) = calls.recv().await {
            match call {
                Call::Adopt(sinks) => {
                    self.configured = sinks;
                    self.exchange();
                }
                Call::Deliver => {
                    self.delivering = true;
                    self.exchange();
                }
                Call::Rest { grace, rested } => {
                    self.rest(grace).await;
                    // Whoever asked may have gone.
                    rested.send(()).ok();
                }
            }
        }
    }

    /// Has couriers run for what is configured, and for nothing else.
    fn exchange(&mut self) {
        let names: Vec<_> = self.configured.iter().map(|ready| ready.settings.name.clone()).collect();
        self.board.write().retain(|name, _| names.contains(name));
        let mut before = std::mem::take(&mut self.running);
        for ready in self.configured.clone() {
            let name = ready.settings.name.clone();
            let old = before.remove(&name);
            let shown = self.put_up(&ready);
            if self.delivering {
                let running = self.begin(ready, shown, old);
                self.running.insert(name, running);
            }
        }
        for (name, old) in before {
            let metrics = self.premises.metrics.sink(&name);
            task::spawn(async move {
                old.end(CHANGE_MAX).await;
                metrics.gone();
            });
        }
        if self.running.is_empty()
            && let Some((_, listener)) = self.written.take()
        {
            listener.abort();
        }
    }

    /// A new place where a sink is shown: the courier before may still write to the old one. What was counted goes on.
    fn put_up(&self, ready: &Ready) -> Arc<Mutex<Shown>> {
        let settings = &ready.settings;
        let mut board = self.board.write();
        let before = board.get(&settings.name).map(|shown| shown.lock().clone());
        let shown = Shown {
            name: settings.name.clone(),
            part: settings.part.name.clone(),
            target: ready.sink.target(),
            state: STARTING,
            position: before.as_ref().map_or(0, |before| before.position),
            backlog_entries: before.as_ref().map_or(0, |before| before.backlog_entries),
            backlog_age_seconds: before.as_ref().map_or(0, |before| before.backlog_age_seconds),
            delivered: before.as_ref().map_or(0, |before| before.delivered),
            last_delivered: before.as_ref().and_then(|before| before.last_delivered),
            last_error: before.and_then(|before| before.last_error),
        };
        let shown = Arc::new(Mutex::new(shown));
        board.insert(settings.name.clone(), Arc::clone(&shown));
        shown
    }

    fn begin(&mut self, ready: Ready, shown: Arc<Mutex<Shown>>, old: Option<Running>) -> Running {
        let (orders, ordered) = watch::channel(Order::Go);
        let well = self.well();
        let premises = self.premises.clone();
        let task = task::spawn(async move {
            if let Some(old) = old {
                old.end(CHANGE_MAX).await;
            }
            keep(ready, well, premises, shown, ordered).await;
        });
        Running { orders, task }
    }

    fn well(&mut self) -> Well {
        let ledger = Arc::clone(&self.premises.ledger);
        let written = match &self.written {
            Some((written, _)) => written.clone(),
            None => {
                let (written, listener) = listen(Arc::clone(&ledger));
                self.written = Some((written.clone(), listener));
                written
            }
        };
        Well {
            spool: Spool::new(Arc::new(ReadOnly(self.premises.state.join("ledger")))),
            written,
            about: Arc::new(move |id| ledger.book().decision(id).cloned()),
            instance: Arc::clone(&self.premises.instance),
            now: clock::now,
        }
    }

    async fn rest(&mut self, grace: Duration) {
        self.delivering = false;
        let running = std::mem::take(&mut self.running);
        for courier in running.values() {
            courier.orders.send_replace(Order::Finish);
        }
        let ends = running.into_values().map(|courier| courier.finish(grace));
        futures_util::future::join_all(ends).await;
        if let Some((_, listener)) = self.written.take() {
            listener.abort();
        }
    }
}

impl Running {
    /// Ends it as soon as its batch is answered, after `longest` in any case.
    async fn end(self, longest: Duration) {
        self.orders.send_replace(Order::End);
        self.finish(longest).await;
    }

    async fn finish(mut self, longest: Duration) {
        if timeout(longest, &mut self.task).await.is_err() {
            // What is under way may arrive all the same: it is sent again, under the same id.
            self.task.abort();
            self.task.await.ok();
        }
    }
}

/// Follows how far the log is written.
fn listen(ledger: Arc<Ledger>) -> (watch::Receiver<u64>, task::JoinHandle<()>) {
    let mut heard = ledger.listen();
    let (written, followed) = watch::channel(ledger.written());
    let listener = task::spawn(async move {
        loop {
            // How many were missed does not matter: what counts is how far the log goes.
            // A log that is opened is not told of.
            let alive = !matches!(timeout(LOOK_EVERY, heard.recv()).await, Ok(Err(RecvError::Closed)));
            let last = ledger.written();
            written.send_if_modified(|known| std::mem::replace(known, last) != last);
            if !alive {
                return;
            }
        }
    });
    (followed, listener)
}

/// Has a courier run until it is told to end; one that panics begins again.
pub(super) async fn keep(
    ready: Ready,
    well: Well,
    premises: Premises,
    shown: Arc<Mutex<Shown>>,
    orders: watch::Receiver<Order>,
) {
    let name = ready.settings.name.clone();
    let metrics = premises.metrics.sink(&name);
    loop {
        let files = (Cursor::new(&premises.state, &name), DeadLetters::new(&premises.state, &name));
        let courier = Courier::new(ready.clone(), well.clone(), files, metrics.clone(), Arc::clone(&shown));
        if AssertUnwindSafe(courier.run(orders.clone())).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(sink = name, "a sink panicked; it begins again where its last batch was taken");
        metrics.failures.inc(SinkFailure::Panic);
        sleep(AGAIN_AFTER).await;
        if *orders.borrow() != Order::Go {
            return;
        }
    }
}
