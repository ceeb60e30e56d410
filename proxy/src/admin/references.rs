//! References: what normal looks like for each model.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Actor;
use super::changed::{Because, durable};
use super::extract::{Json, Text};
use super::problem::Problem;
use super::{AdminState, ReferenceStatus};

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
}

/// The references that models have.
#[utoipa::path(get, path = "/v1/references", operation_id = "list_references", tag = "references",
    responses((status = 200, description = "References", body = References)))]
async fn list(State(state): State<AdminState>) -> Response {
    let models = (state.models)();
    let with = |model: super::ModelStatus| {
        model.reference.map(|reference| Reference { model: model.name, reference })
    };
    Json(References { references: models.into_iter().filter_map(with).collect() }).into_response()
}

/// A reference that decisions may rest on.
#[derive(Debug, Serialize, ToSchema)]
struct Promoted {
    /// The model.
    model: String,
    /// Rows of its reference.
    rows: u64,
    /// Whether a restart leaves the change.
    durable: bool,
}

/// Trust the reference that a model has learned: findings that rest on it may block from now on. A reload, a restart and
/// a hand-over keep it. Nothing else ever promotes one. Where the configuration names a reference, that one counts.
#[utoipa::path(post, path = "/v1/references/{model}/promote", tag = "references", request_body = Because,
    params(("model" = String, Path, description = "The model"), super::idempotency::KeyParam),
    responses((status = 200, description = "It is trusted", body = Promoted)))]
async fn promote(
    State(state): State<AdminState>,
    actor: Actor,
    Text(model): Text,
    Json(because): Json<Because>,
) -> Result<Response, Problem> {
    if !(state.models)().iter().any(|known| known.name == model) {
        let mend = "GET /v1/status lists the models";
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such model", mend));
    }
    let (control, by, now, name) =
        (Arc::clone(&state.control), actor.by(&because.why), (state.clock)(), model.clone());
    // It waits for the model's lane.
    let promoted = tokio::task::spawn_blocking(move || control.promote(&name, by, now)).await;
    let changed = promoted.map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the change broke off", "look at the program's log")
    })??;
    let (promotion, noted) = changed.kept().await;
    let kept = noted && promotion.kept;
    let body = Promoted { model, rows: promotion.rows, durable: kept };
    Ok(durable(kept, Json(body).into_response()))
}
