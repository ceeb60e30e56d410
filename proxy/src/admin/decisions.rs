//! Decisions: those of detectors and those that were taken by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Kind, Scope};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, Schema, SchemaFormat};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::access::Actor;
use super::changed::{Because, Seconds, Why, WhyParams, durable};
use super::extract::{Id, Json, Params};
use super::list::{ActionWord, Moment, Page, cursor_schema};
use super::problem::Problem;
use crate::control::{Order, kept_back, links::Proposal};
use crate::gate::table::ActiveBlock;
use crate::identity;
use crate::ledger::entry::{Decided, Status};
use crate::metrics::labels::ClientRefusal;
use crate::metrics::labels::Label;

/// How long a link may be followed where the request says nothing else, in seconds.
const LINK_SECONDS: u64 = 24 * 3600;

/// The paths of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, lift))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(extend))
        .routes(routes!(link))
}

/// Where a decision stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusWord {
    /// It waits for approval.
    Proposed,
    /// It is enforced.
    InForce,
    /// It is not: the mode, the never-block list, the kill switch, the brake or an unproven identity keeps it back.
    Observed,
    /// It was turned down.
    Rejected,
    /// It was ended before its time.
    Lifted,
    /// Its time is over.
    Ended,
}

impl StatusWord {
    fn of(decided: &Decided, now: Time) -> Self {
        match decided.status_at(now) {
            Status::Rejected => Self::Rejected,
            Status::Lifted => Self::Lifted,
            _ if decided.until <= now => Self::Ended,
            Status::Proposed => Self::Proposed,
            Status::InForce => Self::InForce,
            Status::Observed => Self::Observed,
        }
    }
}

/// Where a decision holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeWord {
    /// At its model, and at no other.
    Model,
    /// At every model in `enforce`.
    Everywhere,
}

impl From<ScopeWord> for Scope {
    fn from(word: ScopeWord) -> Self {
        match word {
            ScopeWord::Model => Self::Model,
            ScopeWord::Everywhere => Self::Everywhere,
        }
    }
}

/// Which decisions are listed; all of these must fit.
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
    /// Where it stands.
    #[param(inline)]
    status: Option<StatusWord>,
    /// Its client, as decisions write it.
    client: Option<String>,
    /// The model that was asked.
    model: Option<String>,
    /// Where it holds: at its model alone, or everywhere.
    #[param(inline)]
    scope: Option<ScopeWord>,
    /// The detector that found why, `operator`, or `crowdsec:` and the name of a source.
    detector: Option<String>,
    /// What is done to the client.
    #[param(inline)]
    action: Option<ActionWord>,
    /// Taken at or after this moment, in Unix seconds.
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1e12)]
    since: Option<Moment>,
}

impl Wanted {
    fn takes(&self, decided: &Decided, now: Time) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        self.status.is_none_or(|status| status == StatusWord::of(decided, now))
            && is(&self.client, &decided.client.to_string())
            && is(&self.model, decided.model.as_deref().unwrap_or_default())
            && self.scope.is_none_or(|scope| Scope::from(scope) == decided.scope)
            && is(&self.detector, &decided.detector)
            && self.action.is_none_or(|action| Action::from(action) == decided.action)
            && self.since.is_none_or(|Moment(since)| decided.time.seconds() >= since)
    }

    fn takes_active(&self, block: &ActiveBlock) -> bool {
        self.client.as_deref().is_none_or(|client| client == block.client.to_string())
            && self.action.is_none_or(|action| Action::from(action) == block.action)
    }
}

impl From<ActionWord> for Action {
    fn from(word: ActionWord) -> Self {
        match word {
            ActionWord::Tag => Self::Tag,
            ActionWord::Throttle => Self::Throttle,
            ActionWord::Degrade => Self::Degrade,
            ActionWord::Block => Self::Block,
        }
    }
}

/// A decision.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Decision {
    /// Its id.
    #[schema(pattern = "^d-[0-9a-f]{16}$")]
    pub id: String,
    /// Whom it is about: an address, a /64 or a wider network, or `key:` and the keyed hash of an API key.
    pub client: String,
    /// The model that was asked; absent where it was decided for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub model: Option<String>,
    /// Where it holds: `model`, at that model alone, or `everywhere`, at every model in `enforce`.
    #[schema(value_type = ScopeWord)]
    pub scope: &'static str,
    /// The detector that found why, `operator`, or `crowdsec:` and the name of a source.
    pub detector: String,
    /// What is done to the client.
    pub action: String,
    /// Where it stands.
    pub status: StatusWord,
    /// When it was taken, in Unix seconds.
    pub since: f64,
    /// What keeps it from acting, where it is observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub held_back: Option<&'static str>,
    /// When it ends, in Unix seconds.
    pub until: f64,
    /// Requests that came from the client while it stood, as far as they were noted.
    pub requests: u64,
    /// Its record: why. `checkgate explain` tells it as a page.
    #[schema(value_type = Option<Object>)]
    pub record: Value,
}

impl Decision {
    fn of(decided: &Decided, now: Time) -> Self {
        Self {
            id: decided.id.to_string(),
            client: decided.client.to_string(),
            model: decided.model.as_deref().map(str::to_owned),
            scope: decided.scope.as_str(),
            detector: decided.detector.to_string(),
            action: decided.action.as_str().to_owned(),
            status: StatusWord::of(decided, now),
            since: decided.time.seconds(),
            until: decided.until.seconds(),
            held_back: decided.held_back.map(Label::as_str),
            requests: decided.requests,
            record: serde_json::from_str(&decided.evidence).unwrap_or_default(),
        }
    }

    /// What stands at the gate. Its record says the rest.
    fn at_gate(block: &ActiveBlock, now: Time) -> Self {
        let record: Value = serde_json::from_str(&block.evidence).unwrap_or_default();
        let text = |key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
        let status = match block.acts {
            true if block.is_proposed(now) => StatusWord::Proposed,
            true => StatusWord::InForce,
            false => StatusWord::Observed,
        };
        Self {
            id: block.id.to_string(),
            client: block.client.to_string(),
            model: text("model"),
            scope: scope_of(block).as_str(),
            detector: text("detector").unwrap_or_default(),
            action: block.action.as_str().to_owned(),
            status: if block.until <= now { StatusWord::Ended } else { status },
            since: block.time.seconds(),
            until: block.until.seconds(),
            held_back: None,
            requests: block.met.requests(),
            record,
        }
    }
}

fn scope_of(block: &ActiveBlock) -> Scope {
    if block.only.is_some() { Scope::Model } else { Scope::Everywhere }
}

/// What stands at the gate.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Active {
    /// Its id.
    pub decision_id: String,
    /// Whom it is about.
    pub client: String,
    /// What is done to the client.
    pub action: String,
    /// Where it holds: `model`, at the model that its record names, or `everywhere`, at every model in `enforce`.
    #[schema(value_type = ScopeWord)]
    pub scope: &'static str,
    /// When it was taken, in Unix seconds.
    pub since: f64,
    /// When it ends, in Unix seconds.
    pub until: f64,
    /// Whether it acts; otherwise it is an observation or a proposal.
    pub acts: bool,
    /// Whether it waits for approval.
    pub proposed: bool,
    /// Requests that came from the client while it stood.
    pub requests: u64,
    /// Its record.
    #[schema(value_type = Option<Object>)]
    pub record: Value,
}

impl Active {
    fn of(block: &ActiveBlock, now: Time) -> Self {
        Self {
            decision_id: block.id.to_string(),
            client: block.client.to_string(),
            action: block.action.as_str().to_owned(),
            scope: scope_of(block).as_str(),
            since: block.time.seconds(),
            until: block.until.seconds(),
            acts: block.is_in_force(now),
            proposed: block.is_proposed(now),
            requests: block.met.requests(),
            record: serde_json::from_str(&block.evidence).unwrap_or_default(),
        }
    }
}

/// Decisions.
#[derive(Debug, Serialize, ToSchema)]
struct Decisions {
    /// How many stand at the gate.
    active_total: usize,
    /// What stands at the gate, the last to end first; of the filters, `client` and `action` hold.
    active: Vec<Active>,
    /// The latest records of decisions that detectors took, unfiltered.
    #[schema(value_type = Vec<Object>)]
    recent: Vec<Value>,
    /// What the ledger remembers, the newest first, by all filters.
    decisions: Vec<Decision>,
    /// Where `decisions` go on; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// Decisions: what stands at the gate, and what the ledger remembers.
#[utoipa::path(get, path = "/v1/decisions", operation_id = "list_decisions", tag = "decisions", params(Wanted),
    responses((status = 200, description = "Decisions", body = Decisions)))]
async fn list(State(state): State<AdminState>, Params(wanted): Params<Wanted>) -> Result<Response, Problem> {
    let page = Page::of(wanted.limit, wanted.cursor.as_deref())?;
    let now = (state.clock)();
    let (decided, next) = {
        let book = state.ledger.book();
        let all = book.decisions(page.before).map(|(number, decided)| (number, decided.clone()));
        page.fill(all, |decided| wanted.takes(decided, now))
    };
    let blocks = state.gate.list(now);
    let recent = state.outlet.recent(Kind::Decision);
    let list = Decisions {
        active_total: blocks.len(),
        active: blocks
            .iter()
            .filter(|block| wanted.takes_active(block))
            .take(page.limit)
            .map(|block| Active::of(block, now))
            .collect(),
        recent: recent.iter().take(page.limit).map(|line| parsed(line)).collect(),
        decisions: decided.iter().map(|decided| Decision::of(decided, now)).collect(),
        next,
    };
    Ok(Json(list).into_response())
}

/// A line of JSON as a value.
pub fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_default()
}

/// One decision.
#[utoipa::path(get, path = "/v1/decisions/{id}", operation_id = "show_decision", tag = "decisions",
    params(("id" = String, Path, pattern = "^d-[0-9a-f]{16}$", description = "Its id")),
    responses((status = 200, description = "The decision", body = Decision)))]
async fn show(State(state): State<AdminState>, Id(id): Id) -> Result<Json<Decision>, Problem> {
    find(&state, id).map(Json)
}

fn find(state: &AdminState, id: DecisionId) -> Result<Decision, Problem> {
    let now = (state.clock)();
    let remembered = state.ledger.book().decision(id).map(|decided| Decision::of(decided, now));
    let at_gate = || state.gate.standing(id).map(|block| Decision::at_gate(&block, now));
    remembered.or_else(at_gate).ok_or_else(|| {
        let mend = "GET /v1/decisions lists those that are remembered";
        Problem::new(StatusCode::NOT_FOUND, format!("no decision goes by {id}"), mend)
    })
}

/// A decision to take by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct New {
    /// On whom: an address, a /64 as decisions write it, a wider network by its first address as far as
    /// `decisions.widest_prefix` allows it, or `key:` and 16 hexadecimal digits.
    #[schema(schema_with = aim_schema)]
    client: String,
    /// What is done to the client.
    #[serde(default = "block")]
    action: ActionWord,
    /// For how long, in seconds.
    #[schema(value_type = u32, minimum = 1, maximum = 31622400)]
    seconds: Seconds,
    /// Why; it stands in the ledger and in the record.
    #[schema(schema_with = super::changed::why_schema)]
    why: Why,
    /// The model at which it holds; without it, every model that is in `enforce`.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "super::changed::given")]
    model: Option<String>,
}

fn block() -> ActionWord {
    ActionWord::Block
}

/// A client as records print it.
pub(super) fn client_schema() -> Schema {
    clients().build().into()
}

/// A client, or a network that ends where a part of an address ends; others are read as well.
fn aim_schema() -> Schema {
    let pattern = |pattern: &str| ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    clients()
        .item(pattern("^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}0/24$"))
        .item(pattern(
            "^([1-9]|[1-9][0-9]|1[0-9][0-9])[.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]0[.]0/16$",
        ))
        .item(pattern("^[1-9a-f][0-9a-f]{3}:[1-9a-f][0-9a-f]{0,3}:[1-9a-f][0-9a-f]{0,3}::/48$"))
        .build()
        .into()
}

fn clients() -> OneOfBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let format = |format: &str| text().format(Some(SchemaFormat::Custom(format.into())));
    OneOfBuilder::new()
        .item(format("ipv4"))
        .item(format("ipv6"))
        .item(text().pattern(Some("^key:[0-9a-f]{16}$")))
        .item(text().pattern(Some("^([0-9a-f]{1,4}:){4}:/64$")))
}

/// A decision that was changed.
#[derive(Debug, Serialize, ToSchema)]
struct Taken {
    /// The decision as it stands now.
    #[serde(flatten)]
    decision: Decision,
    /// Whether a restart leaves the change.
    durable: bool,
    /// Why it does not act, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kept_back: Option<&'static str>,
}

/// Take a decision by hand. Where it may not act, it stands as an observation, and `kept_back` says why.
#[utoipa::path(post, path = "/v1/decisions", tag = "decisions", request_body = New,
    params(super::idempotency::KeyParam),
    responses((status = 201, description = "The decision was taken", body = Taken)))]
async fn create(
    State(state): State<AdminState>,
    actor: Actor,
    Json(new): Json<New>,
) -> Result<Response, Problem> {
    let client = identity::written(&new.client).ok_or_else(|| {
        let mend = "write an address, a network by its first address such as 192.0.2.0/24, or key: and 16 hexadecimal digits";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "client is none", mend)
            .refusing(ClientRefusal::Unreadable)
    })?;
    let order = Order {
        client,
        action: new.action.into(),
        lasts: Duration::from_secs(new.seconds.0.into()),
        model: new.model,
    };
    let changed = state.control.decide(&order, actor.by(&new.why), (state.clock)())?;
    let ((block, applied), durable) = changed.kept().await;
    let mut taken = taken(&state, &block, durable)?;
    taken.kept_back = kept_back(applied);
    let place = HeaderValue::try_from(format!("/v1/decisions/{}", block.id));
    let mut response = answer(StatusCode::CREATED, &taken);
    if let Ok(place) = place {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

fn taken(state: &AdminState, block: &ActiveBlock, durable: bool) -> Result<Taken, Problem> {
    let decision = find(state, block.id).unwrap_or_else(|_| Decision::at_gate(block, (state.clock)()));
    Ok(Taken { decision, durable, kept_back: None })
}

fn answer(status: StatusCode, taken: &Taken) -> Response {
    durable(taken.durable, (status, Json(taken)).into_response())
}

/// Lift a decision: it ends now.
#[utoipa::path(delete, path = "/v1/decisions/{id}", tag = "decisions",
    params(("id" = String, Path, pattern = "^d-[0-9a-f]{16}$", description = "Its id"), WhyParams),
    responses((status = 204, description = "It was lifted; the header Checkgate-Durable says whether a restart leaves that")))]
async fn lift(
    State(state): State<AdminState>,
    actor: Actor,
    Id(id): Id,
    Params(params): Params<WhyParams>,
) -> Result<Response, Problem> {
    let changed = state.control.lift(id, actor.by(&params.why), (state.clock)())?;
    let (_, kept) = changed.kept().await;
    Ok(durable(kept, StatusCode::NO_CONTENT.into_response()))
}

/// Approve a proposed decision: it acts from now on, for as long as it was to.
#[utoipa::path(post, path = "/v1/decisions/{id}/approve", tag = "decisions", request_body = Because,
    params(("id" = String, Path, pattern = "^d-[0-9a-f]{16}$", description = "Its id"), super::idempotency::KeyParam),
    responses((status = 200, description = "It was approved", body = Taken)))]
async fn approve(
    State(state): State<AdminState>,
    actor: Actor,
    Id(id): Id,
    Json(because): Json<Because>,
) -> Result<Response, Problem> {
    let changed = state.control.approve(id, actor.by(&because.why), (state.clock)())?;
    let (block, kept) = changed.kept().await;
    Ok(answer(StatusCode::OK, &taken(&state, &block, kept)?))
}

/// Turn a proposed decision down.
#[utoipa::path(post, path = "/v1/decisions/{id}/reject", tag = "decisions", request_body = Because,
    params(("id" = String, Path, pattern = "^d-[0-9a-f]{16}$", description = "Its id"), super::idempotency::KeyParam),
    responses((status = 200, description = "It was turned down", body = Taken)))]
async fn reject(
    State(state): State<AdminState>,
    actor: Actor,
    Id(id): Id,
    Json(because): Json<Because>,
) -> Result<Response, Problem> {
    let changed = state.control.reject(id, actor.by(&because.why), (state.clock)())?;
    let (_, durable) = changed.kept().await;
    Ok(answer(StatusCode::OK, &Taken { decision: find(&state, id)?, durable, kept_back: None }))
}

/// How long a decision lasts from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Lasts {
    /// From now on, in seconds: longer or shorter than it was to.
    #[schema(value_type = u32, minimum = 1, maximum = 31622400)]
    seconds: Seconds,
    /// Why; it stands in the ledger.
    #[serde(default)]
    #[schema(schema_with = super::changed::why_schema)]
    why: Why,
}

/// Have a decision end at another time.
#[utoipa::path(post, path = "/v1/decisions/{id}/extend", tag = "decisions", request_body = Lasts,
    params(("id" = String, Path, pattern = "^d-[0-9a-f]{16}$", description = "Its id"), super::idempotency::KeyParam),
    responses((status = 200, description = "It ends at another time", body = Taken)))]
async fn extend(
    State(state): State<AdminState>,
    actor: Actor,
    Id(id): Id,
    Json(lasts): Json<Lasts>,
) -> Result<Response, Problem> {
    let span = Duration::from_secs(lasts.seconds.0.into());
    let changed = state.control.extend(id, span, actor.by(&lasts.why), (state.clock)())?;
    let (block, kept) = changed.kept().await;
    Ok(answer(StatusCode::OK, &taken(&state, &block, kept)?))
}

/// Until when links may be followed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LinkFor {
    /// For how long from now on, in seconds; a day where it is not said.
    #[schema(value_type = Option<u32>, minimum = 60, maximum = 604800, nullable = false)]
    #[serde(default, deserialize_with = "super::changed::given")]
    seconds: Option<Seconds>,
}

/// Two links that work once, together with when they expire.
#[derive(Debug, Serialize, ToSchema)]
struct LinkPair {
    /// The path of a page that approves the decision.
    approve: String,
    /// The path of a page that turns it down.
    reject: String,
    /// When both expire, in Unix seconds.
    expires: f64,
}

/// Make links by which whoever holds them answers a proposed decision once, without a token.
#[utoipa::path(post, path = "/v1/decisions/{id}/links", tag = "decisions", request_body = LinkFor,
    params(("id" = String, Path, pattern = "^d-[0-9a-f]{16}$", description = "Its id"), super::idempotency::KeyParam),
    responses((status = 201, description = "The links", body = LinkPair)))]
async fn link(
    State(state): State<AdminState>,
    Id(id): Id,
    Json(wanted): Json<LinkFor>,
) -> Result<Response, Problem> {
    let seconds = wanted.seconds.map_or(LINK_SECONDS, |seconds| seconds.0.into());
    if !(60..=604_800).contains(&seconds) {
        let mend = "links last 60 to 604800 seconds";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "seconds are out of range", mend));
    }
    let now = (state.clock)();
    let expires = now.plus(Duration::from_secs(seconds));
    let path = |answer| state.control.link(id, answer, expires, now);
    let pair = LinkPair {
        approve: path(Proposal::Approve)?,
        reject: path(Proposal::Reject)?,
        expires: expires.seconds(),
    };
    Ok((StatusCode::CREATED, Json(pair)).into_response())
}

/// Where a request came from, as the ledger says it.
pub fn place(peer: Option<std::net::IpAddr>) -> Option<Arc<str>> {
    peer.map(|peer| peer.to_string().into())
}
