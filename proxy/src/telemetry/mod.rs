//! OpenTelemetry export: metrics, traces and logs, pushed to a collector by OTLP.
//!
//! ```text
//! registry --------------------------every interval--> numbers --+
//! request's way --ended exchange--> queue --> spans -------------+--> deliver (http/protobuf or gRPC)
//! ledger, own log --record, line--> queue --> records, own_log --+
//! ```
//! One thread of its own does all of it. Whoever has something to tell leaves it in a bounded queue and goes on; what
//! finds no room, or cannot be delivered, is dropped and counted.

mod back_off;
mod connect;
mod deliver;
mod exporter;
mod numbers;
mod resource;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use checkgate_config::settings;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::exporter::Exporters;
use crate::metrics::Metrics;

/// How long what waits may still be delivered once the process stops.
const FLUSH_MAX: Duration = Duration::from_secs(3);
/// How much longer the thread may take to end.
const END_MAX: Duration = Duration::from_secs(1);

/// The thread that exports, as whoever stops it sees it.
#[derive(Debug)]
pub struct Telemetry {
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
    ) -> anyhow::Result<Option<Self>> {
        for sentence in &settings.passed_over {
            tracing::warn!("{sentence}");
        }
        if !settings.is_on() {
            return Ok(None);
        }
        let resource = resource::of(settings, &resource::instance(instance_key));
        let exporters = Exporters::new(settings, resource, Arc::clone(metrics))?;
        let (stop, stopped) = watch::channel(false);
        let (ending, ended) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.block_on(exporters.run(stopped));
            // A name that is still being looked up must not hold up the end.
            runtime.shutdown_background();
            drop(ending);
        };
        drop(thread::Builder::new().name("telemetry".into()).spawn(run)?);
        Ok(Some(Self { stop, ended: Mutex::new(ended) }))
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
