//! The thread's work: one task for each signal, so that a collector that hangs holds up no other.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use checkgate_config::settings::{self, Exporter};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::back_off::BackOff;
use super::connect::Connector;
use super::deliver::{Courier, Kind, Logs, Metrics as Numbers, Taken, Traces as Spans, Undelivered};
use super::logs::{Traces, log_record};
use super::{FLUSH_MAX, Waiting, numbers, resource, spans};
use crate::metrics::Metrics;
use crate::metrics::labels::{ExportOutcome, Signal};

/// How often it is looked whether something waits. Nobody who leaves something has to wake the thread.
const TICK: Duration = Duration::from_millis(200);
/// Requests, or log records, of one message.
const BATCH_MAX: usize = 512;
/// Data points of one message of metrics: below 4 MiB, which is what receivers of gRPC usually take.
const POINTS_MAX: usize = 4096;
/// How often the same message is sent before it is given up.
const TRIES_MAX: u32 = 4;

/// What is exported, and where.
pub struct Exporters {
    settings: settings::Telemetry,
    metrics: Option<Connector>,
    traces: Option<Connector>,
    logs: Option<Connector>,
    shared: Shared,
    waiting: Waiting,
}

/// What all signals share.
#[derive(Clone)]
struct Shared {
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
        waiting: Waiting,
    ) -> anyhow::Result<Self> {
        let connector = |exporter: &Option<Exporter>| exporter.as_ref().map(Connector::new).transpose();
        Ok(Self {
            metrics: connector(&settings.metrics)?,
            traces: connector(&settings.traces)?,
            logs: connector(&settings.logs)?,
            settings: settings.clone(),
            shared: Shared { resource, metrics },
            waiting,
        })
    }

    /// How often metrics are pushed.
    pub fn metrics_every(&self) -> Duration {
        self.settings.metrics_every
    }

    /// Exports until `stopped` turns true, then delivers what waits, within the bound.
    pub async fn run(self, mut stopped: watch::Receiver<bool>) {
        let Self { settings, metrics, traces, logs, shared, waiting } = self;
        let numbers = post::<Numbers>(settings.metrics.as_ref(), metrics, &shared);
        let spans = post::<Spans>(settings.traces.as_ref(), traces, &shared);
        let logs = post::<Logs>(settings.logs.as_ref(), logs, &shared);
        let (numbers_stop, spans_stop, logs_stop) = (stopped.clone(), stopped.clone(), stopped.clone());
        let (to_trace, to_log) = (waiting.clone(), waiting.clone());
        let all = async {
            tokio::join!(
                async {
                    if let Some(post) = numbers {
                        push_metrics(post, settings.metrics_every, numbers_stop).await;
                    }
                },
                async {
                    if let Some(post) = spans {
                        deliver_waiting(post, to_trace.spans(), spans_stop).await;
                    }
                },
                async {
                    if let Some(post) = logs {
                        deliver_waiting(post, to_log.records(), logs_stop).await;
                    }
                },
            )
        };
        let cut = async {
            // The sender lives as long as whoever stops.
            drop(stopped.wait_for(|stopped| *stopped).await);
            sleep(FLUSH_MAX).await;
        };
        tokio::select! {
            _ = all => {}
            () = cut => {}
        }
        waiting.give_up(&shared.metrics);
    }
}

fn post<K: Kind>(exporter: Option<&Exporter>, road: Option<Connector>, shared: &Shared) -> Option<Post<K>> {
    match Courier::new(exporter?, road?) {
        Ok(courier) => Some(Post { courier, back_off: BackOff::default(), shared: shared.clone() }),
        Err(error) => {
            tracing::error!(signal = ?K::SIGNAL, "this signal is not exported: {error:#}");
            None
        }
    }
}

/// Pushes the registry on an interval. What could not be delivered is not kept: the next push says more.
async fn push_metrics(mut post: Post<Numbers>, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut next = Instant::now() + every;
    loop {
        let stop = tokio::select! {
            () = sleep_until(next) => false,
            _ = stopped.wait_for(|stopped| *stopped) => true,
        };
        let mut sent = Ok(());
        for message in post.shared.registry() {
            if sent.is_ok() {
                sent = post.send(message).await;
            }
        }
        if stop {
            return;
        }
        let regular = Instant::now() + every;
        next = sent.err().map_or(regular, |failed| failed.until.min(regular));
    }
}

/// Delivers what waits, batch by batch. A batch that may be taken later is kept and sent again; meanwhile what comes
/// waits, up to the queue's bound.
async fn deliver_waiting<K: Kind>(
    mut post: Post<K>,
    mut source: impl Source<K::Request>,
    mut stopped: watch::Receiver<bool>,
) {
    let (mut kept, mut next) = (None, Instant::now());
    loop {
        let stop = tokio::select! {
            () = sleep_until(next) => false,
            _ = stopped.wait_for(|stopped| *stopped) => true,
        };
        post.dropped(source.dropped());
        next = Instant::now() + TICK;
        while let Some(batch) = kept.take().or_else(|| source.next(&post.shared)) {
            let Err(failed) = post.send(batch.message.clone()).await else { continue };
            next = failed.until;
            if failed.again && batch.tries < TRIES_MAX && !stop {
                kept = Some(Batch { tries: batch.tries + 1, ..batch });
            } else {
                post.dropped(batch.items);
            }
            break;
        }
        if stop {
            return;
        }
    }
}

/// A message, and how much is in it.
struct Batch<R> {
    message: R,
    items: u64,
    /// How often it was sent, this time included.
    tries: u32,
}

/// Where messages of one signal come from.
trait Source<R> {
    /// The next message, where something waits.
    fn next(&mut self, shared: &Shared) -> Option<Batch<R>>;

    /// What found no room since this was last asked.
    fn dropped(&self) -> u64;
}

struct WaitingSpans(Waiting);

struct WaitingRecords(Waiting, Traces);

impl Waiting {
    fn spans(self) -> WaitingSpans {
        WaitingSpans(self)
    }

    fn records(self) -> WaitingRecords {
        WaitingRecords(self, Traces::default())
    }

    /// Counts what will never be delivered, and says so.
    fn give_up(&self, metrics: &Metrics) {
        let requests = self.ended.as_ref().map_or(0, |queue| queue.take(usize::MAX).len());
        let records = self.told.as_ref().map_or(0, |queue| queue.take(usize::MAX).len());
        metrics.telemetry.dropped.inc_by(Signal::Traces, requests as u64);
        metrics.telemetry.dropped.inc_by(Signal::Logs, records as u64);
        if requests + records > 0 {
            tracing::warn!(requests, records, "telemetry of these could not be delivered before the end");
        }
    }
}

impl Source<ExportTraceServiceRequest> for WaitingSpans {
    fn next(&mut self, shared: &Shared) -> Option<Batch<ExportTraceServiceRequest>> {
        let ended = self.0.ended.as_ref()?.take(BATCH_MAX);
        let spans: Vec<_> = ended.iter().flat_map(spans::of).collect();
        let items = spans.len() as u64;
        let scope = ScopeSpans { scope: Some(resource::scope()), spans, ..ScopeSpans::default() };
        let resource = Some(shared.resource.clone());
        let all = ResourceSpans { resource, scope_spans: vec![scope], ..ResourceSpans::default() };
        let message = ExportTraceServiceRequest { resource_spans: vec![all] };
        (items > 0).then_some(Batch { message, items, tries: 1 })
    }

    fn dropped(&self) -> u64 {
        self.0.ended.as_ref().map_or(0, |queue| queue.dropped())
    }
}

impl Source<ExportLogsServiceRequest> for WaitingRecords {
    fn next(&mut self, shared: &Shared) -> Option<Batch<ExportLogsServiceRequest>> {
        let Self(waiting, traces) = self;
        // A request is known before anything can be found about it, so its trace comes first.
        let told = waiting.told.as_ref()?.take(BATCH_MAX);
        let known = waiting.known.as_ref().map(|known| std::iter::from_fn(|| known.pop()));
        known.into_iter().flatten().for_each(|known| traces.remember(known));
        let now = unix_nanos();
        let log_records: Vec<_> = told.iter().map(|told| log_record(told, traces, now)).collect();
        let items = log_records.len() as u64;
        let scope = ScopeLogs { scope: Some(resource::scope()), log_records, ..ScopeLogs::default() };
        let resource = Some(shared.resource.clone());
        let all = ResourceLogs { resource, scope_logs: vec![scope], ..ResourceLogs::default() };
        let message = ExportLogsServiceRequest { resource_logs: vec![all] };
        (items > 0).then_some(Batch { message, items, tries: 1 })
    }

    fn dropped(&self) -> u64 {
        self.0.told.as_ref().map_or(0, |queue| queue.dropped())
    }
}

impl Shared {
    fn registry(&self) -> Vec<ExportMetricsServiceRequest> {
        let since = (self.metrics.start_time.get() * 1e9) as u64;
        let reading = numbers::Reading { since, now: unix_nanos() };
        let metrics = numbers::all(&self.metrics.gather(), reading);
        let message = |metrics| {
            let scope = ScopeMetrics { scope: Some(resource::scope()), metrics, ..ScopeMetrics::default() };
            let resource = Some(self.resource.clone());
            let all = ResourceMetrics { resource, scope_metrics: vec![scope], ..ResourceMetrics::default() };
            ExportMetricsServiceRequest { resource_metrics: vec![all] }
        };
        numbers::messages(metrics, POINTS_MAX).into_iter().map(message).collect()
    }
}

/// Bytes of the messages that one export of all metrics is made of.
pub fn export_bytes(metrics: &Arc<Metrics>) -> usize {
    let shared = Shared { resource: Resource::default(), metrics: Arc::clone(metrics) };
    shared.registry().iter().map(|message| message.encode_to_vec().len()).sum()
}

/// The present moment as nanoseconds since 1970.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A courier with its patience, its counts, and one line in the log when it begins to fail and when it no longer does.
struct Post<K> {
    courier: Courier<K>,
    back_off: BackOff,
    shared: Shared,
}

/// A message was not delivered.
struct Failed {
    /// When the collector may be asked again.
    until: Instant,
    /// Whether the same message may be sent again.
    again: bool,
}

impl<K: Kind> Post<K> {
    /// Sends one message.
    async fn send(&mut self, message: K::Request) -> Result<(), Failed> {
        match self.courier.deliver(message).await {
            Ok(taken) => {
                self.taken(&taken);
                Ok(())
            }
            Err(undelivered) => Err(self.failed(&undelivered)),
        }
    }

    /// Counts what will not be delivered.
    fn dropped(&self, items: u64) {
        self.shared.metrics.telemetry.dropped.inc_by(K::SIGNAL, items);
    }

    fn taken(&mut self, taken: &Taken) {
        self.shared.metrics.telemetry.exported(K::SIGNAL, ExportOutcome::Delivered);
        self.dropped(taken.rejected);
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
        Failed { until, again: undelivered.again }
    }
}

/// A number from 0 to 1 that another process does not have as well.
fn share() -> f64 {
    let mut byte = [0; 1];
    // Without randomness everybody waits equally long.
    getrandom::fill(&mut byte).map_or(1.0, |()| f64::from(byte[0]) / 255.0)
}
