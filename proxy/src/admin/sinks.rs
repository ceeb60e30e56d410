//! Where findings and decisions are sent, and how far each sink has come.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::extract::Json;
use crate::sinks::courier::Shown;

/// The path of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Sinks.
#[derive(Debug, Serialize, ToSchema)]
struct Sinks {
    /// Every sink that is configured, by name.
    sinks: Vec<Shown>,
}

/// Where findings and decisions are sent, and how far each sink has come.
#[utoipa::path(get, path = "/v1/sinks", operation_id = "list_sinks", tag = "sinks",
    responses((status = 200, description = "Sinks", body = Sinks)))]
async fn list(State(state): State<AdminState>) -> Response {
    Json(Sinks { sinks: (state.sinks)() }).into_response()
}
