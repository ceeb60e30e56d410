//! The admin API: what an operator and a monitoring system ask, on a listener of its own.
//!
//! ```text
//! GET    /healthz             the process answers
//! GET    /readyz              503 until the listeners are up, and while draining
//! GET    /metrics             Prometheus' text format
//! GET    /v1/status           version, configuration, models, references, kill switch, brake, state folder
//! GET    /v1/decisions        blocks in force with their evidence, and the latest decisions
//! GET    /v1/findings         the latest findings
//! GET    /v1/findings/{id}    one finding, by its id or its decision's: the record, or `Accept: text/plain` the page of
//!                             `checkgate explain`
//! DELETE /v1/decisions/{id}   lift a decision
//! GET    /v1/kill-switch      {"on": false}
//! PUT    /v1/kill-switch      enforcement off; no body, and doing it twice is doing it once
//! DELETE /v1/kill-switch      enforcement back on
//! ```
//!
//! [`access`] says who may do what; the two health checks say nothing and are free to all. GET changes nothing.

pub mod access;
pub mod problem;
pub mod readiness;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use checkgate_config::settings::Hold;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{DecisionId, Kind, Mode};
use http::HeaderMap;
use http::StatusCode;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde::{Deserialize, Serialize};

use self::access::{Access, Caller};
use self::problem::Problem;
use self::readiness::{Phase, Readiness};
use crate::gate::Gate;
use crate::gate::table::ActiveBlock;
use crate::ledger::Ledger;
use crate::ledger::entry::{By, What};
use crate::metrics::Metrics;
use crate::records::Outlet;
use crate::serve::ConfigStatus;
use crate::told;

/// Entries of a list where the request names no other number.
const LIMIT: usize = 1000;
/// Entries of a list at most.
const LIMIT_MAX: usize = 10_000;

/// What the API asks and tells.
#[derive(Clone)]
pub struct AdminState {
    /// Blocks, kill switch and brake.
    pub gate: Arc<Gate>,
    /// What happened, and at whose word.
    pub ledger: Arc<Ledger>,
    /// What `/metrics` prints.
    pub metrics: Arc<Metrics>,
    /// The latest records.
    pub outlet: Arc<Outlet>,
    /// Where the instance stands.
    pub readiness: Arc<Readiness>,
    /// Who may ask.
    pub access: Arc<Access>,
    /// Tells the lanes that a decision was lifted, so that its client's evidence starts afresh.
    pub lift: Arc<dyn Fn(DecisionId) + Send + Sync>,
    /// What is known of every model now.
    pub models: Arc<dyn Fn() -> Vec<ModelStatus> + Send + Sync>,
    /// Where the configuration stands.
    pub config: Arc<dyn Fn() -> ConfigStatus + Send + Sync>,
    /// The state folder and what is wrong with it.
    pub directory: Arc<StateStatus>,
    /// The time now.
    pub clock: Arc<dyn Fn() -> Time + Send + Sync>,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").finish_non_exhaustive()
    }
}

/// The state folder as `/v1/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct StateStatus {
    /// Where it is.
    pub directory: String,
    /// What is wrong with it; empty where everything in it is durable.
    pub problems: Vec<String>,
}

impl From<&crate::state::State> for StateStatus {
    fn from(state: &crate::state::State) -> Self {
        Self { directory: state.directory().display().to_string(), problems: state.problems().to_vec() }
    }
}

/// A model as `/v1/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStatus {
    /// Its name, configured or discovered.
    pub name: String,
    /// Whether it was found in unclaimed traffic.
    pub discovered: bool,
    /// Whether decisions are acted on.
    pub mode: Mode,
    /// What waits for a verdict.
    pub hold: Hold,
    /// Its protocol, as soon as it is known.
    pub protocol: Option<String>,
    /// Detectors that run.
    pub detectors: Vec<String>,
    /// Detectors that were switched off after a panic.
    pub quarantined: Vec<String>,
    /// What normal looks like, as soon as that is known.
    pub reference: Option<ReferenceStatus>,
    /// Clients remembered.
    pub clients: u64,
}

/// A reference as `/v1/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ReferenceStatus {
    /// Rows that it holds.
    pub rows: u64,
    /// `provisional` where it was learned, `trusted` where the operator named it.
    pub trust: &'static str,
}

/// The whole API.
pub fn router(state: AdminState) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/decisions", get(decisions))
        .route("/v1/decisions/{id}", delete(lift))
        .route("/v1/findings", get(findings))
        .route("/v1/findings/{id}", get(finding))
        .route("/v1/kill-switch", get(kill_switch).put(kill_switch_on).delete(kill_switch_off))
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(state.clone(), guard));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(no_such_method)
        .merge(guarded)
        .fallback(no_such_path)
        .layer(middleware::map_response(harden))
        .with_state(state)
}

async fn guard(State(state): State<AdminState>, request: Request, next: Next) -> Result<Response, Problem> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let caller = Caller { method: request.method(), uri: request.uri(), headers: request.headers(), peer };
    state.access.check(&caller, (state.clock)()).inspect_err(|problem| {
        state.metrics.admin_refusals.inc();
        tracing::warn!(?peer, method = %request.method(), status = problem.status().as_u16(), "admin request refused");
    })?;
    Ok(next.run(request).await)
}

/// No answer is kept by a cache or taken for something else by a browser.
async fn harden(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path", "GET /v1/status is a good start")
}

async fn no_such_method() -> Problem {
    let mend = "the Allow header lists the methods of this path";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method", mend)
}

async fn ready(State(state): State<AdminState>) -> (StatusCode, String) {
    let phase = state.readiness.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", phase.as_str()))
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.encode())
}

async fn status(State(state): State<AdminState>) -> impl IntoResponse {
    axum::Json(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": state.readiness.phase().as_str(),
        "kill_switch": { "on": state.gate.kill_switch_is_on() },
        "brake": { "engaged": state.gate.brake_is_engaged((state.clock)()) },
        "config": (state.config)(),
        "state": &*state.directory,
        "ledger": { "durable": state.ledger.trouble().is_none(), "trouble": state.ledger.trouble() },
        "models": (state.models)(),
    }))
}

/// How much of a list is asked for.
#[derive(Debug, Deserialize)]
struct Page {
    limit: Option<usize>,
}

fn limit(page: Result<Query<Page>, QueryRejection>) -> Result<usize, Problem> {
    let mend = "limit is a whole number, at most 10000";
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail, mend);
    let Query(page) = page.map_err(|rejection| bad(rejection.body_text()))?;
    match page.limit.unwrap_or(LIMIT) {
        limit if limit <= LIMIT_MAX => Ok(limit),
        limit => Err(bad(format!("limit {limit} is too large"))),
    }
}

async fn decisions(
    State(state): State<AdminState>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let limit = limit(page)?;
    let now = (state.clock)();
    let blocks = state.gate.list(now);
    let active = array(blocks.iter().take(limit).map(|block| active_block(block, now)));
    let recent = array(state.outlet.recent(Kind::Decision).iter().take(limit));
    Ok(json(format!(r#"{{"active_total":{},"active":{active},"recent":{recent}}}"#, blocks.len())))
}

async fn findings(
    State(state): State<AdminState>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let recent = array(state.outlet.recent(Kind::Finding).iter().take(limit(page)?));
    Ok(json(format!(r#"{{"findings":{recent}}}"#)))
}

/// One finding, as long as it is among the latest or its decision is in force.
async fn finding(
    State(state): State<AdminState>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let mend = "GET /v1/findings lists the latest; older ones are in the file of findings: checkgate explain ID \
                --findings FILE";
    let Path(id) = id.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text(), mend))?;
    let recent = state.outlet.recent(Kind::Finding).into_iter().chain(state.outlet.recent(Kind::Decision));
    let in_force = state.gate.list((state.clock)()).into_iter().map(|block| block.evidence);
    let line = recent.chain(in_force).find(|line| line.contains(&id) && told::goes_by(line, &id));
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "no finding goes by this id", mend);
    let line = line.ok_or_else(unknown)?;
    if headers.get(ACCEPT).is_none_or(|accept| !accept.as_bytes().starts_with(b"text/plain")) {
        return Ok(json(line.to_string()));
    }
    let page = told::page(&line).map_err(|_| unknown())?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], page).into_response())
}

/// A block in force, an observation or a proposal, with the record that explains it. The record is JSON already.
fn active_block(block: &ActiveBlock, now: Time) -> String {
    format!(
        r#"{{"decision_id":"{}","client":"{}","action":"{}","since":{},"until":{},"acts":{},"proposed":{},"record":{}}}"#,
        block.id,
        block.client,
        block.action.as_str(),
        block.time.seconds(),
        block.until.seconds(),
        block.is_in_force(now),
        block.is_proposed(now),
        if block.evidence.is_empty() { "null" } else { &block.evidence },
    )
}

/// A JSON array of what is JSON already.
fn array(items: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut array = String::from("[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            array.push(',');
        }
        array.push_str(item.as_ref());
    }
    array.push(']');
    array
}

fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn lift(
    State(state): State<AdminState>,
    id: Result<Path<DecisionId>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let mend = "GET /v1/decisions lists the decisions in force";
    let Path(id) = id.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text(), mend))?;
    let Some(block) = state.gate.lift(id) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("{id} is not in force"), mend));
    };
    (state.lift)(id);
    drop(state.ledger.note((state.clock)(), by_api(), What::Lifted { id }));
    tracing::info!(decision = %id, client = %block.client, "an operator lifted a decision");
    Ok(StatusCode::NO_CONTENT)
}

async fn kill_switch(State(state): State<AdminState>) -> impl IntoResponse {
    axum::Json(serde_json::json!({ "on": state.gate.kill_switch_is_on() }))
}

async fn kill_switch_on(State(state): State<AdminState>) -> Result<Response, Problem> {
    switch(state, true).await
}

async fn kill_switch_off(State(state): State<AdminState>) -> Result<Response, Problem> {
    switch(state, false).await
}

/// Switches on a thread that may wait for the disk.
async fn switch(state: AdminState, on: bool) -> Result<Response, Problem> {
    let gate = Arc::clone(&state.gate);
    drop(state.ledger.note((state.clock)(), by_api(), What::KillSwitch { on }));
    match tokio::task::spawn_blocking(move || gate.set_kill_switch(on)).await {
        Ok(Ok(())) => Ok(kill_switch(State(state)).await.into_response()),
        Ok(Err(error)) => {
            tracing::error!(%error, on, "the kill switch holds, but its file could not follow");
            let detail = format!(
                "the switch is set for this process but will not survive a restart: {}",
                error.kind()
            );
            Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail, "make the state folder writable"))
        }
        Err(_) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the switch could not be set",
            "use its file",
        )),
    }
}

/// Whoever has the token.
fn by_api() -> By {
    By { who: "admin token".into(), ..By::default() }
}

#[cfg(test)]
mod tests;
