//! The thread's work: one task for each signal, so that a collector that hangs holds up no other.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use checkgate_config::settings;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until, timeout};

use super::back_off::BackOff;
use super::connect::Connector;
use super::deliver::{self, Courier, Kind, Taken, Undelivered};
use super::{FLUSH_MAX, numbers, resource};
use crate::metrics::Metrics;
use crate::metrics::labels::ExportOutcome;

/// What is exported, and where.
pub struct Exporters {
    settings: settings::Telemetry,
    metrics_road: Option<Connector>,
    shared: Shared,
}

/// What all signals share.
#[derive(Clone)]
pub(super) struct Shared {
    resource: Resource,
    metrics: Arc<Metrics>,
}

impl Exporters {
    /// The exporters that `settings` ask for.
    ///
    /// # Errors
    /// Authorities cannot be used.
    pub fn new(
        settings: &settings::Telemetry,
        resource: Resource,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            metrics_road: settings.metrics.as_ref().map(Connector::new).transpose()?,
            settings: settings.clone(),
            shared: Shared { resource, metrics },
        })
    }

    /// Exports until `stopped` turns true, then delivers what waits, within the bound.
    pub async fn run(self, stopped: watch::Receiver<bool>) {
        let Self { settings, metrics_road, shared } = self;
        let numbers = async {
            if let (Some(exporter), Some(road)) = (&settings.metrics, metrics_road) {
                match Courier::<deliver::Metrics>::new(exporter, road) {
                    Ok(courier) => {
                        let every = settings.metrics_every;
                        push_metrics(Post::new(courier, shared.clone()), every, stopped.clone()).await;
                    }
                    Err(error) => tracing::error!("metrics are not exported: {error:#}"),
                }
            }
        };
        numbers.await;
    }
}

/// Pushes the registry on an interval. What could not be delivered is not kept: the next push says more.
async fn push_metrics(mut post: Post<deliver::Metrics>, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut next = Instant::now() + every;
    loop {
        let stop = tokio::select! {
            () = sleep_until(next) => false,
            _ = stopped.wait_for(|stopped| *stopped) => true,
        };
        let message = post.shared.registry();
        if stop {
            drop(timeout(FLUSH_MAX, post.send(message)).await);
            return;
        }
        let sent = post.send(message).await;
        let regular = Instant::now() + every;
        next = sent.err().map_or(regular, |failed| failed.until.min(regular));
    }
}

impl Shared {
    fn registry(&self) -> ExportMetricsServiceRequest {
        let since = (self.metrics.start_time.get() * 1e9) as u64;
        let reading = numbers::Reading { since, now: unix_nanos() };
        let metrics = numbers::all(&self.metrics.gather(), reading);
        let scope = ScopeMetrics { scope: Some(resource::scope()), metrics, ..ScopeMetrics::default() };
        let resource = Some(self.resource.clone());
        let all = ResourceMetrics { resource, scope_metrics: vec![scope], ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![all] }
    }
}

/// The present moment as nanoseconds since 1970.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A courier with its patience, its counts, and one line in the log when it begins to fail and when it no longer does.
pub(super) struct Post<K> {
    courier: Courier<K>,
    pub(super) back_off: BackOff,
    pub(super) shared: Shared,
}

/// A message was not delivered.
pub(super) struct Failed {
    /// When the collector may be asked again.
    pub until: Instant,
}

impl<K: Kind> Post<K> {
    pub(super) fn new(courier: Courier<K>, shared: Shared) -> Self {
        Self { courier, back_off: BackOff::default(), shared }
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message: K::Request) -> Result<(), Failed> {
        match self.courier.deliver(message).await {
            Ok(taken) => {
                self.taken(&taken);
                Ok(())
            }
            Err(undelivered) => Err(self.failed(&undelivered)),
        }
    }

    fn taken(&mut self, taken: &Taken) {
        let counts = &self.shared.metrics.telemetry;
        counts.exported(K::SIGNAL, ExportOutcome::Delivered);
        counts.dropped.inc_by(K::SIGNAL, taken.rejected);
        if taken.rejected > 0 {
            tracing::debug!(signal = ?K::SIGNAL, rejected = taken.rejected, why = taken.why, "not all was taken");
        }
        if self.back_off.failures() > 0 {
            tracing::info!(signal = ?K::SIGNAL, "telemetry is delivered again");
        }
        self.back_off.succeeded();
    }

    fn failed(&mut self, undelivered: &Undelivered) -> Failed {
        let outcome = if undelivered.again { ExportOutcome::Failed } else { ExportOutcome::Refused };
        self.shared.metrics.telemetry.exported(K::SIGNAL, outcome);
        if self.back_off.failures() == 0 {
            tracing::warn!(
                signal = ?K::SIGNAL,
                error = %undelivered,
                "telemetry is not delivered; it is tried again, at most once a minute"
            );
        }
        let until = self.back_off.failed(Instant::now(), undelivered.after, share());
        Failed { until }
    }
}

/// A number from 0 to 1 that another process does not have as well.
fn share() -> f64 {
    let mut byte = [0; 1];
    // Without randomness everybody waits equally long.
    getrandom::fill(&mut byte).map_or(1.0, |()| f64::from(byte[0]) / 255.0)
}
