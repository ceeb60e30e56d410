//! Every metric, declared once: name, labels and help on one list.
//!
//! Handles are resolved when the program starts and only bumped afterwards. Label values come from the config and
//! from closed sets, so the number of series is known at start-up and no traffic can change it.

pub mod crowdsec;
mod drift;
mod families;
mod labelled;
pub mod labels;
mod model;
mod names;
#[cfg(test)]
mod page;
mod sink;
mod telemetry;
mod text;
mod upstream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::MetricFamily;
use prometheus::{Error, Gauge, Histogram, IntCounter, IntGauge, Registry};

use self::crowdsec::{BouncerMetrics, SourceMetrics};
use self::families::families;
use self::labelled::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec};
use self::labels::{
    AdminBound, AuthzOutcome, CandidateOutcome, ClientRefusal, DriftMemoryOutcome, HeldOutcome,
    InboundOutcome, PerLabel, ReloadOutcome, TokenOutcome,
};
pub use self::model::ModelMetrics;
use self::names::Names;
pub use self::sink::SinkMetrics;
pub use self::telemetry::TelemetryMetrics;
pub use self::upstream::UpstreamMetrics;
use crate::transport::rejected::Rejected;

/// Configured models at most, those included that a reload took away: a series never ends while the process lives.
pub const MODELS_MAX: usize = 4096;
/// Label of models that were discovered in unclaimed traffic.
pub const DISCOVERED: &str = "discovered";
/// Label of traffic that belongs to no model at all.
pub const NONE: &str = "none";
/// Label of what a detector says that nobody registered.
pub const OTHER: &str = "other";
/// Detectors outside the lanes whose findings are counted all the same.
pub const GATE_DETECTORS: [&str; 1] = [crate::gate::BRAKE];

/// From half a millisecond to a minute, in seconds.
const LATENCY: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// From a tenth of a millisecond to ten seconds, in seconds: a decision is due within a tenth of a second.
const LAG: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];

families! {
    // Traffic.

    /// Requests that were answered, by class of the status the client got.
    requests: IntCounterVec = "checkgate_requests_total", ["model", "code_class"];
    /// Time from the head of a request to the end of its answer.
    request_duration: HistogramVec = "checkgate_request_duration_seconds", ["model"], LATENCY;
    /// Time from the end of a question to the first byte of the upstream's answer.
    upstream_duration: HistogramVec = "checkgate_upstream_duration_seconds", ["model"], LATENCY;
    /// Bytes of request bodies.
    request_bytes: IntCounterVec = "checkgate_request_bytes_total", ["model"];
    /// Bytes of answer bodies that clients got.
    response_bytes: IntCounterVec = "checkgate_response_bytes_total", ["model"];
    /// Requests to an upstream that failed, by how.
    upstream_errors: IntCounterVec = "checkgate_upstream_errors_total", ["model", "kind"];
    /// Connections and requests that were turned away before anything looked at what they ask, by why.
    rejected: IntCounterVec = "checkgate_rejected_total", ["reason"];
    /// Servers, by what requests and health checks say of them.
    upstream_servers: IntGaugeVec = "checkgate_upstream_servers", ["model", "state"];
    /// Requests that were sent to a server, by where their connection came from.
    upstream_connections: IntCounterVec = "checkgate_upstream_connections_total", ["model", "use"];
    /// Idle connections to servers.
    upstream_idle_connections: IntGaugeVec = "checkgate_upstream_idle_connections", ["model"];
    /// Further tries of requests that failed.
    upstream_retries: IntCounterVec = "checkgate_upstream_retries_total", ["model"];
    /// Times a server was left alone for a while, because requests to it failed.
    upstream_ejections: IntCounterVec = "checkgate_upstream_ejections_total", ["model"];
    /// Requests that were turned away because every server had as many open as it may.
    upstream_full: IntCounterVec = "checkgate_upstream_full_total", ["model"];
    /// Requests whose peer names hops before it and is no trusted proxy; what it names is dropped.
    pub untrusted_hops: IntCounter = "checkgate_untrusted_hops_total", [];
    /// Requests where tokens are identities, by what their token was worth.
    tokens: IntCounterVec = "checkgate_tokens_total", ["outcome"];
    /// Verified tokens forgotten to make room: their signatures are checked again.
    pub tokens_evicted: IntCounter = "checkgate_tokens_evicted_total", [];
    /// Keys that tokens are verified with.
    pub token_keys: IntGauge = "checkgate_token_keys", [];
    /// Whether the last reading of the keys of tokens succeeded; 0 while there was none or those before it stay in force.
    pub token_keys_read_success: IntGauge = "checkgate_token_keys_read_success", [];
    /// Open client connections.
    pub connections: IntGauge = "checkgate_connections", [];
    /// Requests that are open.
    pub in_flight: IntGauge = "checkgate_in_flight", [];
    /// Requests of degraded clients that are open; most of them wait for their turn.
    pub degraded_in_flight: IntGauge = "checkgate_degraded_in_flight", [];

    // What was seen and said.

    /// Rows of questions that were scored.
    rows: IntCounterVec = "checkgate_rows_total", ["model"];
    /// Rows that were not scored, for their body held more than the cap.
    rows_over_cap: IntCounterVec = "checkgate_rows_over_cap_total", ["model"];
    /// Rows that a client had sent before and that count once.
    repeats: IntCounterVec = "checkgate_repeats_total", ["model"];
    /// Findings, by the detector that made them.
    findings: IntCounterVec = "checkgate_findings_total", ["model", "detector"];
    /// Findings that were noted and told to nobody, by the detector that made them.
    notes: IntCounterVec = "checkgate_notes_total", ["model", "detector"];
    /// Findings that a maintenance window kept from counting.
    muted: IntCounterVec = "checkgate_findings_muted_total", ["model"];
    /// Decisions, acted on or not, by the detector they rest on.
    decisions: IntCounterVec = "checkgate_decisions_total", ["model", "detector"];
    /// Decisions, acted on or not, by what is done about the client.
    decisions_by_action: IntCounterVec = "checkgate_decisions_by_action_total", ["model", "action"];
    /// Decisions on a client that were not acted on, by why not.
    would_block: IntCounterVec = "checkgate_would_block_total", ["model", "reason"];
    /// Requests that a throttle refused, or that a degraded client sent beyond its turn.
    throttled: IntCounterVec = "checkgate_throttled_total", ["model"];
    /// Answers to degraded clients, by what became of them.
    degraded_answers: IntCounterVec = "checkgate_degraded_answers_total", ["model", "outcome"];
    /// Requests that a block refused.
    refused: IntCounterVec = "checkgate_refused_total", ["model"];
    /// Answers that have a contract, by what became of them.
    contract_answers: IntCounterVec = "checkgate_contract_answers_total", ["model", "outcome"];
    /// Questions that waited for a verdict, by what became of them.
    held_questions: IntCounterVec = "checkgate_held_questions_total", ["outcome"];

    // Drift.

    /// Models by how their drift stands: learning (there is no reference yet), warming, stable, warned, drifting, recovered.
    drift_state: IntGaugeVec = "checkgate_drift_state", ["model", "state"];
    /// Changes of drift that were told.
    drift_changes: IntCounterVec = "checkgate_drift_changes_total", ["model", "change"];
    /// The evidence of each layer that a model drifts, as a share of its threshold.
    drift_evidence: GaugeVec = "checkgate_drift_evidence_ratio", ["model", "layer"];
    /// How far a feature moved: its population stability index less what chance gives. The largest, and each where an operator named the reference.
    drift_feature_effect: GaugeVec = "checkgate_drift_feature_effect", ["model", "feature"];
    /// The evidence that a feature moved, as a share of the threshold. The largest, and each where an operator named the reference.
    drift_feature_evidence: GaugeVec = "checkgate_drift_feature_evidence_ratio", ["model", "feature"];
    /// How far clean traffic has moved from the reference by now: the Jensen-Shannon distance of the rolling reference, 0 to 1. The largest, and each where an operator named the reference.
    drift_reference_gap: GaugeVec = "checkgate_drift_reference_gap_ratio", ["model", "feature"];
    /// The population stability index of a feature, as it is. Of the feature that moved most, and of each where an operator named the reference.
    drift_feature_index: GaugeVec = "checkgate_drift_feature_stability_index", ["model", "feature"];
    /// What that index would be about by chance alone, at so few rows.
    drift_feature_expected: GaugeVec = "checkgate_drift_feature_stability_index_expected", ["model", "feature"];
    /// False alarms in a week that an operator grants each layer of drift.
    drift_granted: GaugeVec = "checkgate_drift_false_alarms_granted", ["model"];
    /// When the last row of the reference of drift was seen, as Unix seconds; 0 while there is none, or its rows have no times.
    drift_reference_until: GaugeVec = "checkgate_drift_reference_timestamp_seconds", ["model"];
    /// Rows that were counted for drift.
    drift_rows: IntCounterVec = "checkgate_drift_rows_total", ["model"];
    /// Rows, and questions for want of room, that were not counted for drift, by why not.
    drift_rows_not_counted: IntCounterVec = "checkgate_drift_rows_not_counted_total", ["model", "reason"];
    /// Rows of versions that are not watched apart, counted with their model's, where others of it are.
    drift_rows_of_other_versions: IntCounterVec = "checkgate_drift_rows_of_other_versions_total", ["model"];
    /// What drift remembers of a model, over a restart, by what became of it.
    drift_memory: IntCounterVec = "checkgate_drift_memory_total", ["outcome"];
    /// References that maintenance windows taught, by what became of them.
    reference_candidates: IntCounterVec = "checkgate_reference_candidates_total", ["outcome"];
    /// Rows that the reference of drift is made of, or that were learned so far.
    drift_reference_rows: IntGaugeVec = "checkgate_drift_reference_rows", ["model"];

    // What was not seen.

    /// Bodies that were not looked into, by why not.
    not_inspected: IntCounterVec = "checkgate_not_inspected_total", ["model", "part", "reason"];
    /// Parts of exchanges whose bodies were dropped because a lane was full.
    shed: IntCounterVec = "checkgate_shed_total", ["model"];
    /// Detectors that were switched off: they panicked, did not come back, or kept more than they may.
    detectors_quarantined: IntCounterVec = "checkgate_detectors_quarantined_total", ["detector"];
    /// Captures of which not even the head found room in front of a lane.
    pub captures_lost: IntCounter = "checkgate_captures_lost_total", [];
    /// Captures that were skipped, for looking at them made a lane panic.
    pub lane_panics: IntCounter = "checkgate_lane_panics_total", [];
    /// Lanes that do not move, for what they look at takes longer than anything should, and that get no other thread.
    pub lanes_stuck: IntGauge = "checkgate_lanes_stuck", [];
    /// Threads of lanes that did not come back and were replaced; what they remembered is lost.
    pub lanes_replaced: IntCounter = "checkgate_lanes_replaced_total", [];
    /// Findings and decisions that never reached the log of findings.
    pub records_dropped: IntCounter = "checkgate_records_dropped_total", [];
    /// Size of the recording.
    pub recording_bytes: IntGauge = "checkgate_recording_bytes", [];
    /// Entries that are missing from the recording.
    pub recording_dropped: IntCounter = "checkgate_recording_dropped_total", [];

    // The ledger.

    /// Whether entries of the ledger are synced to disk: 0 while they are in memory only.
    pub ledger_durable: IntGauge = "checkgate_ledger_durable", [];
    /// Entries that were synced to disk.
    pub ledger_entries: IntCounter = "checkgate_ledger_entries_total", [];
    /// Entries that wait for the disk.
    pub ledger_waiting: IntGauge = "checkgate_ledger_waiting", [];
    /// Entries that found no room while they waited for the disk, and are in no file.
    pub ledger_unwritten: IntCounter = "checkgate_ledger_unwritten_total", [];
    /// Entries that were found damaged, or missing, when the ledger was opened.
    pub ledger_lost: IntCounter = "checkgate_ledger_lost_total", [];
    /// Times that the index of the ledger was of no use and made anew.
    pub ledger_index_anew: IntCounter = "checkgate_ledger_index_anew_total", [];
    /// Time that a batch of entries took to be written and synced.
    pub ledger_sync: Histogram = "checkgate_ledger_sync_seconds", [], LAG;
    /// How far the process's time is ahead of the wall clock, in seconds; negative where it is behind.
    pub clock_ahead: Gauge = "checkgate_clock_ahead_seconds", [];

    // Sinks: what is delivered to other programs.

    /// Events that a sink delivered.
    sink_delivered: IntCounterVec = "checkgate_sink_delivered_total", ["sink"];
    /// Batches of a sink that were not taken, by why not.
    sink_failures: IntCounterVec = "checkgate_sink_failures_total", ["sink", "reason"];
    /// Events that the other side will never take, kept among the dead letters.
    sink_dead_letters: IntCounterVec = "checkgate_sink_dead_letters_total", ["sink"];
    /// Events that a sink will never send, by why not.
    sink_lost: IntCounterVec = "checkgate_sink_lost_total", ["sink", "reason"];
    /// Entries of the ledger that a sink has not done with.
    sink_backlog_entries: IntGaugeVec = "checkgate_sink_backlog_entries", ["sink"];
    /// Age of the oldest event that waits for a sink, in seconds.
    sink_backlog_age: IntGaugeVec = "checkgate_sink_backlog_age_seconds", ["sink"];
    /// How a sink stands: 1 for the state that holds.
    sink_state: IntGaugeVec = "checkgate_sink_state", ["sink", "state"];

    // Lanes: what they remember and how far behind they are.

    /// Time from a capture's hand-over until its lane has judged it.
    pub lane_lag: Histogram = "checkgate_lane_lag_seconds", [], LAG;
    /// Bytes of captures that wait in front of lanes.
    pub lane_waiting_bytes: IntGauge = "checkgate_lane_waiting_bytes", [];
    /// Captures that wait in front of lanes.
    pub lane_waiting_parts: IntGauge = "checkgate_lane_waiting_parts", [];
    /// Models discovered in unclaimed traffic.
    pub models_discovered: IntGauge = "checkgate_models_discovered", [];
    /// Requests whose model name is beyond the bound on discovered models.
    pub models_over_limit: IntCounter = "checkgate_models_over_limit_total", [];
    /// Clients remembered.
    clients: IntGaugeVec = "checkgate_clients", ["model"];
    /// Clients forgotten to make room.
    clients_evicted: IntCounterVec = "checkgate_clients_evicted_total", ["model"];
    /// Questions whose answers are awaited.
    open_questions: IntGaugeVec = "checkgate_open_questions", ["model"];
    /// Open questions given up to make room.
    open_questions_evicted: IntCounterVec = "checkgate_open_questions_evicted_total", ["model"];
    /// Keys that did not become identities, or no longer are, for want of room or of an address's allowance.
    keys_turned_away: IntCounterVec = "checkgate_keys_turned_away_total", ["model"];
    /// Decisions whose clients' evidence counts again before their end, to make room.
    decisions_evicted: IntCounterVec = "checkgate_decisions_evicted_total", ["model"];
    /// Clients whose past offences were forgotten while they counted, to make room.
    offences_evicted: IntCounterVec = "checkgate_offences_evicted_total", ["model"];
    /// Rows remembered.
    rows_remembered: IntGaugeVec = "checkgate_rows_remembered", ["model"];
    /// Rows forgotten to make room.
    rows_evicted: IntCounterVec = "checkgate_rows_evicted_total", ["model"];
    /// Rows in the reference.
    reference_rows: IntGaugeVec = "checkgate_reference_rows", ["model"];

    // Enforcement.

    /// Whether this process decides: 0 while another one still does, or does already.
    pub deciding: IntGauge = "checkgate_deciding", [];
    /// Throttles that act.
    pub throttles_active: IntGauge = "checkgate_throttles_active", [];
    /// Tags that act.
    pub tags_active: IntGauge = "checkgate_tags_active", [];
    /// Proposed decisions that wait for approval.
    pub proposals: IntGauge = "checkgate_proposals", [];
    /// Degrades that act.
    pub degrades_active: IntGauge = "checkgate_degrades_active", [];
    /// Blocks that act.
    pub blocks_active: IntGauge = "checkgate_blocks_active", [];
    /// Decisions and observations that made room for others.
    pub blocks_evicted: IntCounter = "checkgate_blocks_evicted_total", [];
    /// API keys that are known to be identities.
    pub proven_keys: IntGauge = "checkgate_proven_keys", [];
    /// Proven API keys forgotten to make room.
    pub proven_keys_evicted: IntCounter = "checkgate_proven_keys_evicted_total", [];
    /// Whether the kill switch is on: 1 while nothing is enforced.
    pub kill_switch: IntGauge = "checkgate_kill_switch", [];
    /// Whether the brake is on: 1 while new blocks are observations.
    pub brake_engaged: IntGauge = "checkgate_brake_engaged", [];
    /// Times the brake tripped.
    pub brake_trips: IntCounter = "checkgate_brake_trips_total", [];
    /// Requests to the admin API with a wrong token.
    pub admin_refusals: IntCounter = "checkgate_admin_refusals_total", [];
    /// Clients and networks that the admin API, and with it the command line, did not take, by why not.
    admin_clients_refused: IntCounterVec = "checkgate_admin_clients_refused_total", ["reason"];
    /// Times that a bound of the admin API was reached, by which.
    admin_bounds: IntCounterVec = "checkgate_admin_bounds_reached_total", ["bound"];
    /// What other systems asked for, by endpoint and what came of it.
    inbound: IntCounterVec = "checkgate_inbound_total", ["endpoint", "outcome"];
    /// Ids of what other systems asked for that were forgotten to make room.
    pub inbound_forgotten: IntCounter = "checkgate_inbound_forgotten_total", [];
    /// What other proxies asked of requests, by protocol and answer.
    authz: IntCounterVec = "checkgate_authz_total", ["protocol", "outcome"];
    /// Questions of proxies that are not trusted, whose own address was then judged.
    pub authz_untrusted: IntCounter = "checkgate_authz_untrusted_total", [];

    // Export.

    /// Deliveries of telemetry to a collector, by what came of them.
    telemetry_exports: IntCounterVec = "checkgate_telemetry_exports_total", ["signal", "outcome"];
    /// Spans, log records and data points that no collector took; a traced request that found no room counts once.
    telemetry_dropped: IntCounterVec = "checkgate_telemetry_dropped_total", ["signal"];

    // Decisions enforced elsewhere, and taken from elsewhere.

    /// Pulls of bouncers that were answered.
    crowdsec_pulls: IntCounterVec = "checkgate_crowdsec_pulls_total", ["bouncer"];
    /// Decisions that bouncers were told of (new), of whose end they were told (deleted), and that they were not told of because they cannot enforce networks (beyond).
    crowdsec_told: IntCounterVec = "checkgate_crowdsec_decisions_total", ["bouncer", "change"];
    /// Requests of bouncers with a wrong key.
    pub crowdsec_refusals: IntCounter = "checkgate_crowdsec_refusals_total", [];
    /// Decisions that act and of which no bouncer is told, since they hold at one model alone or on a network, as of the last look.
    pub crowdsec_kept_back: IntGauge = "checkgate_crowdsec_kept_back", [];
    /// Decisions on addresses that act, as bouncers saw them last.
    pub crowdsec_served: IntGauge = "checkgate_crowdsec_served", [];
    /// Whether the last pull from a source succeeded; 0 while its decisions stay as they were.
    crowdsec_source_up: IntGaugeVec = "checkgate_crowdsec_source_up", ["source"];
    /// Clients on whom decisions of a source stand.
    crowdsec_source_standing: IntGaugeVec = "checkgate_crowdsec_source_standing", ["source"];
    /// Pulls from a source, by what came of them.
    crowdsec_source_pulls: IntCounterVec = "checkgate_crowdsec_source_pulls_total", ["source", "outcome"];
    /// Decisions of a source, by what was done about them.
    crowdsec_source_taken: IntCounterVec = "checkgate_crowdsec_source_decisions_total", ["source", "outcome"];
    /// Decisions of a source that were not taken, by why not; once for each time that they are read.
    crowdsec_source_not_taken: IntCounterVec = "checkgate_crowdsec_source_not_taken_total", ["source", "reason"];

    // The process.

    /// Always 1; the version is the label.
    build_info: IntGaugeVec = "checkgate_build_info", ["version"];
    /// Whether the last reading of the configuration succeeded; 0 while the settings before it stay in force.
    pub config_reload_success: IntGauge = "checkgate_config_reload_success", [];
    /// Times that the configuration was read again, by what came of it.
    config_reloads: IntCounterVec = "checkgate_config_reloads_total", ["outcome"];
    /// When the settings in force were read, as Unix seconds.
    pub config_time: Gauge = "checkgate_config_last_reload_success_timestamp_seconds", [];
    /// When the process started, as Unix seconds.
    pub start_time: Gauge = "checkgate_start_time_seconds", [];
}

/// Resolved handles of everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// By id. Filled as models are configured, never emptied, and read without a lock.
    models: Vec<OnceLock<Box<ModelMetrics>>>,
    discovered: ModelMetrics,
    none: ModelMetrics,
    detectors: Vec<&'static str>,
    families: Families,
    /// Bytes to make room for in a page of a scrape.
    page_bytes: AtomicUsize,
    sinks: Names,
    bouncers: Names,
    sources: Names,
    /// What was turned away before anything looked at what it asks.
    pub rejected: PerLabel<Rejected>,
    /// Tokens, by what they were worth.
    pub tokens: PerLabel<TokenOutcome>,
    /// Questions that waited, by what became of them.
    pub held_questions: PerLabel<HeldOutcome>,
    /// Reloads, by what came of them.
    pub config_reloads: PerLabel<ReloadOutcome>,
    /// What drift remembers, by what became of it.
    pub drift_memory: PerLabel<DriftMemoryOutcome>,
    /// Clients and networks that the admin API did not take.
    pub clients_refused: PerLabel<ClientRefusal>,
    /// What maintenance windows taught, by what became of it.
    pub candidates: PerLabel<CandidateOutcome>,
    /// Bounds of the admin API that were reached.
    pub admin_bounds: PerLabel<AdminBound>,
    /// What other proxies asked over HTTP.
    pub authz_http: PerLabel<AuthzOutcome>,
    /// What other proxies asked over gRPC.
    pub authz_grpc: PerLabel<AuthzOutcome>,
    /// What was asked for at an endpoint that is none.
    pub inbound_unknown: PerLabel<InboundOutcome>,
    endpoints: Names,
    /// What is exported.
    pub telemetry: TelemetryMetrics,
}

impl Metrics {
    /// Declares everything, with one series for every value that a label can take.
    ///
    /// `models` are the configured names in the order of their ids, `detectors` every detector of the lanes.
    ///
    /// # Errors
    /// Only where the list above declares a name twice or ill-formed: a mistake of the build.
    pub fn new(models: &[String], detectors: &[&'static str]) -> Result<Arc<Self>, Error> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        let detectors: Vec<&'static str> = detectors.iter().chain(&GATE_DETECTORS).copied().collect();
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        families.start_time.set(unix_seconds());
        families.config_time.set(unix_seconds());
        families.config_reload_success.set(1);
        crowdsec::declare(&families);
        for detector in detectors.iter().chain([&OTHER]) {
            families.detectors_quarantined.with_label_values(&[detector]);
        }
        let model = |name: &str| ModelMetrics::resolve(&families, name, &detectors);
        let metrics = Self {
            models: (0..MODELS_MAX).map(|_| OnceLock::new()).collect(),
            discovered: model(DISCOVERED),
            none: model(NONE),
            rejected: PerLabel::resolve(|reason| families.rejected.with_label_values(&[reason])),
            tokens: PerLabel::resolve(|outcome| families.tokens.with_label_values(&[outcome])),
            held_questions: PerLabel::resolve(|outcome| {
                families.held_questions.with_label_values(&[outcome])
            }),
            config_reloads: PerLabel::resolve(|outcome| {
                families.config_reloads.with_label_values(&[outcome])
            }),
            drift_memory: PerLabel::resolve(|outcome| families.drift_memory.with_label_values(&[outcome])),
            clients_refused: PerLabel::resolve(|reason| {
                families.admin_clients_refused.with_label_values(&[reason])
            }),
            candidates: PerLabel::resolve(|outcome| {
                families.reference_candidates.with_label_values(&[outcome])
            }),
            admin_bounds: PerLabel::resolve(|bound| families.admin_bounds.with_label_values(&[bound])),
            authz_http: authz(&families, "http"),
            authz_grpc: authz(&families, "grpc"),
            inbound_unknown: inbound(&families, NONE),
            endpoints: Names::default(),
            telemetry: TelemetryMetrics::resolve(&families),
            detectors,
            registry,
            families,
            page_bytes: AtomicUsize::default(),
            sinks: Names::default(),
            bouncers: Names::default(),
            sources: Names::default(),
        };
        for (name, id) in models.iter().zip(0..) {
            metrics.add_model(id, name);
        }
        Ok(Arc::new(metrics))
    }

    /// Declares the series of a configured model, once for every id.
    pub fn add_model(&self, id: u16, name: &str) {
        if let Some(place) = self.models.get(usize::from(id)) {
            place.get_or_init(|| Box::new(ModelMetrics::resolve(&self.families, name, &self.detectors)));
        }
    }

    /// The handles of a configured model by its id; `None` for models that were discovered.
    #[must_use]
    pub fn model(&self, id: Option<u16>) -> &ModelMetrics {
        match id {
            Some(id) => {
                self.models.get(usize::from(id)).and_then(OnceLock::get).map_or(&self.none, |model| &**model)
            }
            None => &self.discovered,
        }
    }

    /// The handles of an endpoint for other systems.
    #[must_use]
    pub fn inbound(&self, name: &str) -> PerLabel<InboundOutcome> {
        inbound(&self.families, self.endpoints.label(name))
    }

    /// The handles of a bouncer.
    #[must_use]
    pub fn bouncer(&self, name: &str) -> BouncerMetrics {
        BouncerMetrics::resolve(&self.families, self.bouncers.label(name))
    }

    /// The handles of a source of decisions.
    #[must_use]
    pub fn source(&self, name: &str) -> SourceMetrics {
        SourceMetrics::resolve(&self.families, self.sources.label(name))
    }

    /// The handles of traffic that belongs to no model.
    #[must_use]
    pub fn unclaimed(&self) -> &ModelMetrics {
        &self.none
    }

    /// The handles of a configured sink, declared once for every name.
    #[must_use]
    pub fn sink(&self, name: &str) -> SinkMetrics {
        SinkMetrics::resolve(&self.families, self.sinks.label(name))
    }

    /// Counts a detector that was switched off.
    pub fn quarantined(&self, detector: &str) {
        let detector = self.none.known(detector);
        self.families.detectors_quarantined.with_label_values(&[detector]).inc();
    }

    /// Everything as it stands at this moment, for whoever exports it.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn encode(&self) -> String {
        // A page is about as long as the one before.
        let mut page = text::Page::with_room(self.page_bytes.load(Ordering::Relaxed));
        self.families.show(&mut page);
        let text = page.into_text();
        self.page_bytes.store(text.len() + text.len() / 16, Ordering::Relaxed);
        text
    }
}

fn inbound(families: &Families, name: &str) -> PerLabel<InboundOutcome> {
    PerLabel::resolve(|outcome| families.inbound.with_label_values(&[name, outcome]))
}

fn authz(families: &Families, protocol: &str) -> PerLabel<AuthzOutcome> {
    PerLabel::resolve(|outcome| families.authz.with_label_values(&[protocol, outcome]))
}

/// The metrics without labels can be bumped directly: each is one handle.
impl std::ops::Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.families
    }
}

/// The unit of a metric, which its name says: seconds, bytes, or a plain number (as UCUM writes them).
#[must_use]
pub fn unit(name: &str) -> &'static str {
    let base = name.strip_suffix("_total").unwrap_or(name);
    match base.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "1",
    }
}

/// The present moment, as metrics show it.
#[must_use]
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
