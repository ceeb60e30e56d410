//! Findings: what detectors said, and how the drift of models changed.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use checkgate_detectors::finding::Kind;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::decisions::parsed;
use super::extract::{Json, Params, Text};
use super::list::{Moment, Page, cursor_schema};
use super::problem::Problem;
use crate::told;

/// The paths of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// Which findings are listed; all of these must fit.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Entries at most.
    #[param(minimum = 0, maximum = 10000)]
    limit: Option<u32>,
    /// Where the list goes on: the `next` of the page before.
    #[param(schema_with = cursor_schema)]
    cursor: Option<String>,
    /// `finding`, or `drift` for changes of a model's drift.
    kind: Option<String>,
    /// Its client, as records write it.
    client: Option<String>,
    /// The model that was asked.
    model: Option<String>,
    /// The detector's name.
    detector: Option<String>,
    /// What was done about it.
    action: Option<String>,
    /// Found at or after this moment, in Unix seconds.
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1e12)]
    since: Option<Moment>,
}

impl Wanted {
    fn takes(&self, record: &Value) -> bool {
        let is = |wanted: &Option<String>, key: &str| {
            let found = record.get(key).and_then(Value::as_str);
            wanted.is_none() || found == wanted.as_deref()
        };
        let time = record.get("time").and_then(Value::as_f64).unwrap_or_default();
        is(&self.kind, "kind")
            && is(&self.client, "client")
            && is(&self.model, "model")
            && is(&self.detector, "detector")
            && is(&self.action, "action")
            && self.since.is_none_or(|Moment(since)| time >= since)
    }
}

/// Findings.
#[derive(Debug, Serialize, ToSchema)]
struct Findings {
    /// Records, the newest first.
    #[schema(value_type = Vec<Object>)]
    findings: Vec<Value>,
    /// Where they go on; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// The latest findings, changes of drift among them.
#[utoipa::path(get, path = "/v1/findings", operation_id = "list_findings", tag = "findings", params(Wanted),
    responses((status = 200, description = "Findings", body = Findings)))]
async fn list(State(state): State<AdminState>, Params(wanted): Params<Wanted>) -> Result<Response, Problem> {
    let page = Page::of(wanted.limit, wanted.cursor.as_deref())?;
    let remembered: Vec<_> = {
        let book = state.ledger.book();
        book.findings(page.before).map(|found| (found.number, found.record.clone())).collect()
    };
    // A ledger that begins after the first finding leaves the outlet's latest to be shown.
    let latest = if remembered.is_empty() && page.before.is_none() {
        state.outlet.recent(Kind::Finding)
    } else {
        Vec::new()
    };
    let count = latest.len() as u64;
    let numbered = latest.into_iter().enumerate().map(|(index, line)| (count - index as u64, line));
    let cursors = count == 0;
    let all = remembered.into_iter().chain(numbered).map(|(number, line)| (number, parsed(&line)));
    let (findings, next) = page.fill(all, |record| wanted.takes(record));
    Ok(Json(Findings { findings, next: next.filter(|_| cursors) }).into_response())
}

/// One finding, by its id or its decision's: the record, or with `Accept: text/plain` the page of `checkgate explain`.
/// It is known as long as it is among the latest or its decision is in force.
#[utoipa::path(get, path = "/v1/findings/{id}", operation_id = "show_finding", tag = "findings",
    params(("id" = String, Path, description = "Its id (f-...), or its decision's (d-...)")),
    responses((status = 200, description = "The record or its page", content(
        (Value = "application/json"), (String = "text/plain; charset=utf-8")))))]
async fn show(
    State(state): State<AdminState>,
    headers: HeaderMap,
    Text(id): Text,
) -> Result<Response, Problem> {
    let mend = "GET /v1/findings lists the latest; older ones are in the file of findings: checkgate explain ID \
                --findings FILE";
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "no finding goes by this id", mend);
    let line = find(&state, &id).ok_or_else(unknown)?;
    if headers.get(ACCEPT).is_none_or(|accept| !accept.as_bytes().starts_with(b"text/plain")) {
        return Ok(([(CONTENT_TYPE, "application/json")], line.to_string()).into_response());
    }
    let page = told::page(&line).map_err(|_| unknown())?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], page).into_response())
}

fn find(state: &AdminState, id: &str) -> Option<std::sync::Arc<str>> {
    let goes_by = |line: &std::sync::Arc<str>| line.contains(id) && told::goes_by(line, id);
    let recent = state.outlet.recent(Kind::Finding).into_iter().chain(state.outlet.recent(Kind::Decision));
    let in_force = state.gate.list((state.clock)()).into_iter().map(|block| block.evidence);
    recent.chain(in_force).find(goes_by).or_else(|| {
        let book = state.ledger.book();
        let decided =
            id.parse().ok().and_then(|id| book.decision(id).map(|decided| decided.evidence.clone()));
        decided.or_else(|| book.findings(None).map(|found| found.record.clone()).find(goes_by))
    })
}
