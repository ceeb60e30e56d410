//! References: what normal looks like for each model.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Actor;
use super::changed::{Why, durable, why_schema};
use super::extract::{Json, Text};
use super::problem::Problem;
use super::{AdminState, ReferenceStatus};
use crate::state::candidates::Summary;

/// The paths of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(promote))
}

/// The reference of one model.
#[derive(Debug, Serialize, ToSchema)]
struct Reference {
    /// The model.
    model: String,
    /// Its reference.
    #[serde(flatten)]
    reference: ReferenceStatus,
}

/// References.
#[derive(Debug, Serialize, ToSchema)]
struct References {
    /// Of every model that has one.
    references: Vec<Reference>,
    /// What maintenance windows taught and no operator has promoted yet: one of a model, the latest.
    candidates: Vec<Summary>,
}

/// The references that models have, and those that wait for an operator.
#[utoipa::path(get, path = "/v1/references", operation_id = "list_references", tag = "references",
    responses((status = 200, description = "References", body = References)))]
async fn list(State(state): State<AdminState>) -> Response {
    let models = (state.models)();
    let with = |model: super::ModelStatus| {
        model.reference.map(|reference| Reference { model: model.name, reference })
    };
    let references = models.into_iter().filter_map(with).collect();
    Json(References { references, candidates: (state.candidates)() }).into_response()
}

/// A reference that decisions may rest on.
#[derive(Debug, Serialize, ToSchema)]
struct Promoted {
    /// The model.
    model: String,
    /// Rows of the reference that queries are held against.
    rows: u64,
    /// Rows of the reference that drift is measured by; absent where the model's drift goes on as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift_rows: Option<u64>,
    /// Whether a restart leaves the change.
    durable: bool,
}

/// What is promoted, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Promote {
    /// Why; it stands in the ledger.
    #[serde(default)]
    #[schema(schema_with = why_schema)]
    why: Why,
    /// Whether it is what a maintenance window taught, which `candidates` lists, and not what the model learned of its
    /// first traffic. It takes the place of the references at work, of queries and of drift.
    #[serde(default)]
    candidate: bool,
}

/// Trust the reference that a model has learned: findings that rest on it may block from now on. A reload, a restart and
/// a hand-over keep it. Nothing else ever promotes one. Where the configuration names a reference, that one counts.
#[utoipa::path(post, path = "/v1/references/{model}/promote", tag = "references", request_body = Promote,
    params(("model" = String, Path, description = "The model"), super::idempotency::KeyParam),
    responses((status = 200, description = "It is trusted", body = Promoted)))]
async fn promote(
    State(state): State<AdminState>,
    actor: Actor,
    Text(model): Text,
    Json(order): Json<Promote>,
) -> Result<Response, Problem> {
    // After a restart, a model that was discovered is known by what waits until it is asked again.
    let waits = order.candidate && (state.candidates)().iter().any(|waiting| waiting.model == model);
    if !waits && !(state.models)().iter().any(|known| known.name == model) {
        let mend = "GET /v1/status lists the models";
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such model", mend));
    }
    let (control, by, now, name) =
        (Arc::clone(&state.control), actor.by(&order.why), (state.clock)(), model.clone());
    let broke_off = |_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the change broke off", "look at the program's log")
    };
    // Both wait for the model's lane.
    let (rows, drift_rows, kept) = if order.candidate {
        let promoted = tokio::task::spawn_blocking(move || control.promote_candidate(&name, by, now)).await;
        let ((summary, kept), noted) = promoted.map_err(broke_off)??.kept().await;
        (summary.rows, Some(summary.drift_rows).filter(|rows| *rows > 0), noted && kept)
    } else {
        let promoted = tokio::task::spawn_blocking(move || control.promote(&name, by, now)).await;
        let (promotion, noted) = promoted.map_err(broke_off)??.kept().await;
        (promotion.rows, None, noted && promotion.kept)
    };
    let body = Promoted { model, rows, drift_rows, durable: kept };
    Ok(durable(kept, Json(body).into_response()))
}
