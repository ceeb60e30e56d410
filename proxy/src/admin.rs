//! The admin API: what an operator and a monitoring system ask, on a listener of its own.
//!
//! Each resource is a file of this room: [`decisions`], [`drift`], [`inbound`], [`findings`], [`never_block`], [`references`],
//! [`kill_switch`], [`events`], [`links`], [`report`], [`sinks`], [`status`]. What a handler takes and gives is described beside it, and [`openapi`] makes
//! `/openapi.json` of that. Changes go through [`Control`]; [`access`] says who may do what, and [`idempotency`] lets
//! a request be sent again. GET changes nothing.

pub mod access;
mod changed;
mod clients;
mod decisions;
pub mod drift;
pub mod events;
mod extract;
mod findings;
pub mod idempotency;
pub mod inbound;
mod kill_switch;
mod links;
mod list;
mod never_block;
pub mod openapi;
pub mod problem;
pub mod readiness;
mod references;
mod report;
mod sinks;
mod status;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use checkgate_config::settings::Hold;
use checkgate_detectors::drift::room::view::View;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::Mode;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use self::access::{Access, Caller, CertificateNames};
pub use self::changed::mend;
use self::events::Room;
use self::extract::BODY_BYTES_MAX;
use self::idempotency::Answers;
use self::problem::Problem;
use self::readiness::Readiness;
use crate::control::Control;
use crate::farthest::ModelClients;
use crate::gate::Gate;
use crate::inbound::Inbound;
use crate::lane::LaneError;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::metrics::labels::{AdminBound, ClientRefusal};
use crate::records::Outlet;
use crate::serve::ConfigStatus;
use crate::sinks::courier::Shown;
use crate::state::candidates::Summary;

/// How somebody looks at the drift of a model by its name, or at that of one of its versions.
pub type Looks = dyn Fn(&str, Option<&str>) -> Result<Option<View>, LaneError> + Send + Sync;

/// How somebody asks who asks most and covers most, of every model: the first so many by either.
pub type AsksWho = dyn Fn(usize) -> Result<Vec<ModelClients>, LaneError> + Send + Sync;

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
    /// The one door to changes.
    pub control: Arc<Control>,
    /// Where other systems decide.
    pub inbound: Arc<Inbound>,
    /// Answers to requests that may be sent again.
    pub answers: Arc<Answers>,
    /// Room for those who listen to events.
    pub listeners: Room,
    /// What is known of every model now.
    pub models: Arc<dyn Fn() -> Vec<ModelStatus> + Send + Sync>,
    /// What maintenance windows taught that waits for an operator.
    pub candidates: Arc<dyn Fn() -> Vec<Summary> + Send + Sync>,
    /// How the drift of a model stands; nothing where it is not watched. It waits for the model's lane.
    pub drift: Arc<Looks>,
    /// Who asks most and covers most. It waits for the lanes.
    pub farthest: Arc<AsksWho>,
    /// How far every sink has come.
    pub sinks: Arc<dyn Fn() -> Vec<Shown> + Send + Sync>,
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
#[derive(Clone, Debug, Serialize, ToSchema)]
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
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelStatus {
    /// Its name, configured or discovered.
    pub name: String,
    /// Whether it was found in unclaimed traffic.
    pub discovered: bool,
    /// Whether decisions are acted on.
    #[schema(value_type = String)]
    pub mode: Mode,
    /// What waits for a verdict.
    #[schema(value_type = String)]
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
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReferenceStatus {
    /// Rows that it holds.
    pub rows: u64,
    /// `provisional` where it was learned, `trusted` where the operator named it.
    pub trust: &'static str,
}

/// The whole API.
pub fn router(state: AdminState) -> Router {
    let guarded: Router<AdminState> = guarded_routes().into();
    let free: Router<AdminState> = free_routes().into();
    let guarded = guarded
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(state.clone(), idempotency::again))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), guard));
    free.method_not_allowed_fallback(no_such_method)
        .merge(guarded)
        .fallback(no_such_path)
        .layer(middleware::map_response_with_state(state.clone(), count_bounds))
        .layer(middleware::map_response(harden))
        .with_state(state)
}

/// Every path with what it takes and gives.
fn routes() -> OpenApiRouter<AdminState> {
    free_routes().merge(guarded_routes())
}

/// Paths that need no token: they say nothing, or are a token themselves.
fn free_routes() -> OpenApiRouter<AdminState> {
    status::health().merge(links::router()).merge(inbound::router())
}

fn guarded_routes() -> OpenApiRouter<AdminState> {
    status::router()
        .merge(decisions::router())
        .merge(findings::router())
        .merge(report::router())
        .merge(never_block::router())
        .merge(clients::router())
        .merge(references::router())
        .merge(drift::router())
        .merge(kill_switch::router())
        .merge(events::router())
        .merge(sinks::router())
        .merge(openapi::router())
}

async fn guard(
    State(state): State<AdminState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let shown = request.extensions().get::<CertificateNames>().cloned().unwrap_or_default();
    let caller = Caller {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        peer,
        names: &shown.0,
    };
    let actor = state.access.check(&caller, (state.clock)()).inspect_err(|problem| {
        state.metrics.admin_refusals.inc();
        tracing::warn!(?peer, method = %request.method(), status = problem.status().as_u16(), "admin request refused");
    })?;
    request.extensions_mut().insert(actor);
    Ok(next.run(request).await)
}

/// Counts the bound that an answer tells of, and the client that was not taken.
async fn count_bounds(State(state): State<AdminState>, response: Response) -> Response {
    if let Some(bound) = response.extensions().get::<AdminBound>() {
        state.metrics.admin_bounds.inc(*bound);
    }
    if let Some(why) = response.extensions().get::<ClientRefusal>() {
        state.metrics.clients_refused.inc(*why);
    }
    response
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

#[cfg(test)]
mod tests;
