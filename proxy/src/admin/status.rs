//! Where the instance stands.

use axum::extract;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Json;
use super::readiness::Phase;
use super::{AdminState, ModelStatus, StateStatus};
use crate::sinks::courier::Shown;
use crate::sinks::course::State;

/// The paths that need leave.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(metrics))
}

/// The health checks, which say nothing and are free to all.
pub fn health() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready))
}

/// A switch that stands one way or the other.
#[derive(Debug, Serialize, ToSchema)]
struct On {
    /// Whether nothing is enforced.
    on: bool,
}

/// Whether the brake is on.
#[derive(Debug, Serialize, ToSchema)]
struct Brake {
    /// Whether new blocks of some model are observations.
    engaged: bool,
}

/// The ledger.
#[derive(Debug, Serialize, ToSchema)]
struct LedgerStatus {
    /// Whether entries are synced to the disk.
    durable: bool,
    /// Why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    trouble: Option<String>,
    /// Decisions that can still change something.
    open_decisions: usize,
    /// Decisions that were forgotten for want of room.
    evicted: u64,
}

/// A sink, in short; `GET /v1/sinks` says more.
#[derive(Debug, Serialize, ToSchema)]
struct SinkStatus {
    /// Its name.
    name: String,
    /// `starting`, `works`, `pausing`, `broken`, `refused` or `stopped`.
    state: &'static str,
    /// Why the last batch that was not taken was not; absent while it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    trouble: Option<String>,
}

impl From<Shown> for SinkStatus {
    fn from(shown: Shown) -> Self {
        let trouble = shown.last_error.filter(|_| shown.state != State::Works.as_str());
        Self { name: shown.name, state: shown.state, trouble }
    }
}

/// Where the instance stands.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// Version of the program.
    version: &'static str,
    /// `starting`, `ready` or `draining`.
    phase: &'static str,
    /// The kill switch.
    kill_switch: On,
    /// The brake.
    brake: Brake,
    /// The configuration: its file, when it was read, and why what was last read is not in force.
    #[schema(value_type = Object)]
    config: Value,
    /// The state folder.
    state: StateStatus,
    /// The ledger.
    ledger: LedgerStatus,
    /// Where findings and decisions are sent.
    sinks: Vec<SinkStatus>,
    /// Every model.
    models: Vec<ModelStatus>,
}

/// Version, configuration, models, references, kill switch, brake, state folder, ledger, sinks.
#[utoipa::path(get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "Where things stand", body = Status)))]
async fn status(extract::State(state): extract::State<AdminState>) -> Response {
    let now = (state.clock)();
    let ledger = {
        let trouble = state.ledger.trouble().map(|trouble| trouble.to_string());
        let book = state.ledger.book();
        LedgerStatus {
            durable: trouble.is_none(),
            trouble,
            open_decisions: book.open(now).count(),
            evicted: book.evicted(),
        }
    };
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        phase: state.readiness.phase().as_str(),
        kill_switch: On { on: state.gate.kill_switch_is_on() },
        brake: Brake { engaged: state.gate.brake_is_engaged(now) },
        config: serde_json::to_value((state.config)()).unwrap_or_default(),
        state: (*state.directory).clone(),
        ledger,
        sinks: (state.sinks)().into_iter().map(SinkStatus::from).collect(),
        models: (state.models)(),
    };
    Json(status).into_response()
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, description = "All metrics", body = String,
        content_type = "text/plain; version=0.0.4; charset=utf-8")))]
async fn metrics(extract::State(state): extract::State<AdminState>) -> Response {
    let content_type = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, state.metrics.encode()).into_response()
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain; charset=utf-8")))]
async fn alive() -> &'static str {
    "ok\n"
}

/// Whether requests should be sent here: 503 until the listeners are up, and while draining.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "They should", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 503, description = "They should not", body = String, content_type = "text/plain; charset=utf-8")))]
async fn ready(extract::State(state): extract::State<AdminState>) -> (StatusCode, String) {
    let phase = state.readiness.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", phase.as_str()))
}
