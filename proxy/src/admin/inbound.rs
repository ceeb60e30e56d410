//! What other systems ask for: `POST /v1/inbound/NAME`, signed or with a secret. It needs no token of this API, and
//! reaches no further than its endpoint.

use std::net::SocketAddr;

use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::access::bearer;
use super::changed::durable;
use super::decisions::place;
use super::extract::Json;
use super::problem::Problem;
use crate::inbound::ask::Fault;
use crate::inbound::{Dealt, Desk, Endpoint, Letter, Outcome};
use crate::ledger::Kept;
use crate::metrics::labels::InboundOutcome;
use crate::metrics::unix_seconds;

/// Bytes of a body. Alertmanager's 64 alerts with long annotations need most of it.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Says that nothing was done, because all of it was done before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The paths of this resource. They need no token: a signature or a secret of their own stands for it.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(receive)).routes(routes!(receive_with_secret))
}

/// What became of what a body asked for.
#[derive(Debug, Serialize, ToSchema)]
struct Received {
    /// The endpoint.
    endpoint: String,
    /// What became of each thing, in the order of the body.
    outcomes: Vec<Answered>,
}

/// What became of one thing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Answered {
    /// It was done, or there was nothing to do.
    Done(Outcome),
    /// It was not done, and others of the body were.
    Not(NotDone),
}

/// Why one thing was not done.
#[derive(Debug, Serialize, ToSchema)]
struct NotDone {
    /// `refused`.
    outcome: &'static str,
    /// The status that it would have been answered with by itself.
    status: u16,
    /// What is wrong.
    detail: String,
    /// Where in the body, as a JSON pointer (RFC 6901).
    r#where: String,
    /// What mends it.
    mend: String,
}

/// Take what another system asks for, signed (Standard Webhooks) or with its secret as bearer key. The same thing
/// again changes nothing and is answered as before.
#[utoipa::path(post, path = "/v1/inbound/{name}", tag = "inbound", request_body = serde_json::Value,
    params(("name" = String, Path, description = "The endpoint, as the configuration names it")),
    responses((status = 200, description = "What became of it", body = Received)))]
async fn receive(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    let shown = shown.map(Bytes::copy_from_slice);
    taken(&state, &name, shown, request).await
}

/// The same for senders that cannot set a header: the secret is the end of the path.
#[utoipa::path(post, path = "/v1/inbound/{name}/{secret}", tag = "inbound", request_body = serde_json::Value,
    params(("name" = String, Path, description = "The endpoint, as the configuration names it"),
        ("secret" = String, Path, description = "A secret of the endpoint")),
    responses((status = 200, description = "What became of it", body = Received)))]
async fn receive_with_secret(
    State(state): State<AdminState>,
    Path((name, secret)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    taken(&state, &name, Some(secret.into()), request).await
}

async fn taken(
    state: &AdminState,
    name: &str,
    shown: Option<Bytes>,
    request: Request,
) -> Result<Response, Problem> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let now = (state.clock)();
    state.access.may_try(peer, now)?;
    let endpoint = state.inbound.find(name).ok_or_else(|| {
        state.inbound.count_unknown();
        Problem::new(
            StatusCode::NOT_FOUND,
            "no endpoint goes by this name",
            "add it to `inbound` in the configuration",
        )
    })?;
    if endpoint.wants_a_secret() && !shown.is_some_and(|shown| endpoint.knows(&shown)) {
        return Err(wrong_secret(state, &endpoint, peer));
    }
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        endpoint.count(InboundOutcome::Malformed);
        let mend = "the longest body that is taken here is 256 KiB";
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or did not come whole", mend)
    })?;
    let from = place(peer);
    let letter = Letter {
        headers: &head.headers,
        body: &body,
        wall: unix_seconds() as u64,
        began: state.inbound.began(),
        from: from.as_ref(),
    };
    let desk = Desk { control: &state.control, gate: &state.gate, ledger: &state.ledger };
    let dealt = endpoint.take(letter, &desk, (state.clock)()).map_err(|fault| {
        if fault.status == StatusCode::UNAUTHORIZED {
            state.access.note_wrong(peer, now);
        }
        Problem::from(fault)
    })?;
    answer(name, dealt).await
}

/// A wrong secret counts as a wrong token does. What was shown is told to nobody.
fn wrong_secret(state: &AdminState, endpoint: &Endpoint, peer: Option<std::net::IpAddr>) -> Problem {
    endpoint.count(InboundOutcome::Unauthorized);
    state.access.note_wrong(peer, (state.clock)());
    state.metrics.admin_refusals.inc();
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "the secret is missing or not the right one",
        "put the endpoint's secret at the end of the path, or send it as `Authorization: Bearer SECRET`",
    )
}

async fn answer(name: &str, dealt: Dealt) -> Result<Response, Problem> {
    let all_refused = dealt.outcomes.iter().all(Result::is_err);
    if let (true, Some(Err(first))) = (all_refused, dealt.outcomes.first()) {
        return Err(first.clone().into());
    }
    // Where nothing was changed there is nothing to say of how long it holds.
    let (changed, mut kept) = (!dealt.tickets.is_empty(), true);
    for ticket in dealt.tickets {
        kept &= ticket.kept().await == Kept::Durable;
    }
    let outcomes = dealt.outcomes.into_iter().map(|outcome| match outcome {
        Ok(outcome) => Answered::Done(outcome),
        Err(fault) => Answered::Not(fault.into()),
    });
    let received = Received { endpoint: name.to_owned(), outcomes: outcomes.collect() };
    let mut headers = HeaderMap::new();
    if dealt.repeated {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    let response = (headers, Json(received)).into_response();
    Ok(if changed { durable(kept, response) } else { response })
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::new(fault.status, fault.detail, fault.mend).at(fault.at)
    }
}

impl From<Fault> for NotDone {
    fn from(fault: Fault) -> Self {
        Self {
            outcome: "refused",
            status: fault.status.as_u16(),
            detail: fault.detail,
            r#where: fault.at,
            mend: fault.mend.into_owned(),
        }
    }
}
