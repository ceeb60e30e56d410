//! Export: metrics, traces and logs, pushed to a collector by OTLP, and metrics to an agent by DogStatsD.
//!
//! ```text
//! registry --------------------------every interval--> dogstatsd (UDP, unix socket)
//! registry --------------------------every interval--> numbers --+
//! request's way --ended exchange--> queue --> spans -------------+--> deliver (http/protobuf or gRPC)
//! ledger, own log --record, line--> queue --> records, own_log --+
//! ```
//! One thread of its own does all of it. Whoever has something to tell leaves it in a bounded queue and goes on; what
//! finds no room, or cannot be delivered, is dropped and counted.

mod back_off;
mod connect;
pub mod context;
mod deliver;
mod dogstatsd;
mod exporter;
pub mod logs;
mod names;
mod numbers;
pub mod own_log;
pub mod queue;
mod resource;
mod spans;
#[cfg(test)]
mod tests;
pub mod trace;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use checkgate_config::settings;
use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::dogstatsd::Pusher;
use self::exporter::Exporters;
use self::logs::Told;
use self::own_log::OwnLog;
use self::queue::Queue;
use self::trace::{Ended, Known, Tracing};
use crate::metrics::Metrics;

/// Traced requests that may wait for delivery.
const SPANS_WAITING_MAX: usize = 8192;
/// Log records that may wait for delivery.
const LOGS_WAITING_MAX: usize = 2048;
/// Traced requests that began since log records were last made.
const KNOWN_WAITING_MAX: usize = 4096;

/// How long what waits may still be delivered once the process stops.
const FLUSH_MAX: Duration = Duration::from_secs(3);
/// How much longer the thread may take to end.
const END_MAX: Duration = Duration::from_secs(1);

/// Bytes of the messages that one export of all metrics is made of.
pub fn export_bytes(metrics: &Arc<Metrics>) -> usize {
    exporter::export_bytes(metrics)
}

/// Pushes to an agent until `stopped` turns true, where there is one. An agent that takes nothing ends with the rest.
async fn run_agent(agent: Option<Pusher>, every: Duration, mut stopped: watch::Receiver<bool>) {
    let Some(agent) = agent else { return };
    let pushing = agent.run(every, stopped.clone());
    let cut = async {
        // The sender lives as long as whoever stops.
        drop(stopped.wait_for(|stopped| *stopped).await);
        tokio::time::sleep(FLUSH_MAX).await;
    };
    tokio::select! {
        () = pushing => {}
        () = cut => {}
    }
}

/// What waits for delivery. It is made first of all, so that nothing is told too early.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// Traced requests that have ended, where traces are exported.
    pub ended: Option<Arc<Queue<Ended>>>,
    /// Records and log lines, where logs are exported.
    pub told: Option<Arc<Queue<Told>>>,
    /// Traces of recent requests, where both are.
    known: Option<Arc<ArrayQueue<Known>>>,
}

impl Waiting {
    /// What `settings` ask for.
    pub fn of(settings: &settings::Telemetry) -> Self {
        let (traces, logs) = (settings.traces.is_some(), settings.logs.is_some());
        Self {
            ended: traces.then(|| Arc::new(Queue::new(SPANS_WAITING_MAX))),
            told: logs.then(|| Arc::new(Queue::new(LOGS_WAITING_MAX))),
            known: (traces && logs).then(|| Arc::new(ArrayQueue::new(KNOWN_WAITING_MAX))),
        }
    }

    /// What exports the program's own log.
    pub fn own_log(&self) -> Option<OwnLog> {
        self.told.clone().map(OwnLog::new)
    }
}

/// The thread that exports, as whoever stops it sees it.
#[derive(Debug)]
pub struct Telemetry {
    tracing: Option<Arc<Tracing>>,
    stop: watch::Sender<bool>,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Telemetry {
    /// Starts the thread where `settings` ask for any export.
    ///
    /// # Errors
    /// A file of authorities cannot be used, or no thread can be started.
    pub fn start(
        settings: &settings::Telemetry,
        instance_key: &[u8],
        metrics: &Arc<Metrics>,
        waiting: &Waiting,
    ) -> anyhow::Result<Option<Self>> {
        for sentence in &settings.passed_over {
            tracing::warn!("{sentence}");
        }
        if !settings.is_on() {
            return Ok(None);
        }
        let place = |exporter: &Option<settings::Exporter>| {
            exporter.as_ref().map_or_else(|| "-".to_owned(), settings::Exporter::authority)
        };
        tracing::info!(
            metrics = place(&settings.metrics),
            traces = place(&settings.traces),
            logs = place(&settings.logs),
            dogstatsd = settings.dogstatsd.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            "telemetry is exported"
        );
        let instance = resource::instance(instance_key);
        let resource = resource::of(settings, &instance);
        let agent = Pusher::new(settings, &instance, Arc::clone(metrics));
        let exporters = Exporters::new(settings, resource, Arc::clone(metrics), waiting.clone())?;
        let Waiting { ended: queue, known, .. } = waiting.clone();
        let tracing = queue.map(|queue| Arc::new(Tracing::new(settings.trace_ratio, queue, known)));
        let (stop, stopped) = watch::channel(false);
        let (ending, ended) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            let every = exporters.metrics_every();
            let to_agent = run_agent(agent, every, stopped.clone());
            runtime.block_on(async { tokio::join!(exporters.run(stopped), to_agent) });
            // A name that is still being looked up must not hold up the end.
            runtime.shutdown_background();
            drop(ending);
        };
        drop(thread::Builder::new().name("telemetry".into()).spawn(run)?);
        Ok(Some(Self { tracing, stop, ended: Mutex::new(ended) }))
    }

    /// Who traces requests.
    pub fn tracing(&self) -> Option<Arc<Tracing>> {
        self.tracing.clone()
    }

    /// Delivers what waits, within a bound of a few seconds, and ends the thread.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        // The sender is dropped when the thread ends; nothing is ever sent.
        if self.ended.lock().recv_timeout(FLUSH_MAX + END_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("telemetry did not end in time; what waited is lost");
        }
    }
}
