//! The shadow report: what was decided in a span of time, and what `enforce` would have done.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::clients::farthest;
use super::extract::{Json, Params};
use super::list::Moment;
use crate::farthest::LISTED;
use crate::report::Report;

/// How far back a report looks that names no beginning.
const SPAN: Duration = Duration::from_secs(7 * 86_400);

/// The paths of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(report))
}

/// Of which time.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Decided at or after this moment, in Unix seconds; a week ago where it is left out.
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1e12)]
    since: Option<Moment>,
}

/// What was decided, counted by what became of it, by detector, model and tenant, with the clients; and who asks most and
/// covers most now.
#[utoipa::path(get, path = "/v1/report", tag = "decisions", params(Wanted),
    responses((status = 200, description = "The report", body = Report)))]
async fn report(State(state): State<AdminState>, Params(wanted): Params<Wanted>) -> Response {
    let now = (state.clock)();
    let since = wanted.since.map_or_else(
        || Time(now.0.saturating_sub(SPAN.as_micros() as u64)),
        |Moment(seconds)| Time((seconds * 1e6) as u64),
    );
    // What stands at the gate counts on; the ledger notes it when it ends.
    let met: BTreeMap<DecisionId, u64> =
        state.gate.list(now).iter().map(|block| (block.id, block.met.requests())).collect();
    // A report without them is better than none.
    let farthest = farthest(&state, LISTED).await.unwrap_or_default();
    let decided = Report::of(&state.ledger.book(), &met, since, now.plus(Duration::from_micros(1)));
    Json(Report { farthest, ..decided }).into_response()
}
