//! The kill switch: enforcement off at once.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::access::Actor;
use super::changed::{WhyParams, durable};
use super::extract::{Json, Params};
use super::problem::Problem;

/// The paths of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(read, on, off))
}

/// How the switch stands.
#[derive(Debug, Serialize, ToSchema)]
struct KillSwitch {
    /// Whether nothing is enforced.
    on: bool,
}

/// How the switch stands.
#[utoipa::path(get, path = "/v1/kill-switch", tag = "kill-switch",
    responses((status = 200, description = "How it stands", body = KillSwitch)))]
async fn read(State(state): State<AdminState>) -> Response {
    position(state.gate.kill_switch_is_on())
}

fn position(on: bool) -> Response {
    Json(KillSwitch { on }).into_response()
}

/// Switch enforcement off. Doing it twice is doing it once. Where the switch's file cannot follow, it holds for this
/// process and the answer is 507.
#[utoipa::path(put, path = "/v1/kill-switch", tag = "kill-switch", params(WhyParams),
    responses((status = 200, description = "Nothing is enforced", body = KillSwitch)))]
async fn on(
    State(state): State<AdminState>,
    actor: Actor,
    Params(params): Params<WhyParams>,
) -> Result<Response, Problem> {
    switch(state, actor, params, true).await
}

/// Switch enforcement back on.
#[utoipa::path(delete, path = "/v1/kill-switch", tag = "kill-switch", params(WhyParams),
    responses((status = 200, description = "Decisions are enforced", body = KillSwitch)))]
async fn off(
    State(state): State<AdminState>,
    actor: Actor,
    Params(params): Params<WhyParams>,
) -> Result<Response, Problem> {
    switch(state, actor, params, false).await
}

/// Switches on a thread that may wait for the disk.
async fn switch(state: AdminState, actor: Actor, params: WhyParams, on: bool) -> Result<Response, Problem> {
    let control = Arc::clone(&state.control);
    let (by, now) = (actor.by(&params.why), (state.clock)());
    let switch = move || {
        let (changed, file) = control.switch(on, by, now);
        changed.wait();
        file
    };
    let Ok(file) = tokio::task::spawn_blocking(switch).await else {
        let detail = "the switch could not be set";
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail, "use its file"));
    };
    match file {
        // What a restart goes by is the switch's file.
        Ok(()) => Ok(durable(true, position(state.gate.kill_switch_is_on()))),
        Err(error) => {
            tracing::error!(%error, on, "the kill switch holds, but its file could not follow");
            let detail = format!(
                "the switch is set for this process but will not survive a restart: {}",
                error.kind()
            );
            Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail, "make the state folder writable"))
        }
    }
}
