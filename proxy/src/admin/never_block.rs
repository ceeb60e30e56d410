//! The never-block list: what the configuration says, and what operators add while the program runs.

use std::net::IpAddr;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use ipnet::IpNet;
use serde::Serialize;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, Schema, SchemaFormat};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::access::Actor;
use super::changed::{WhyParams, durable};
use super::extract::{Json, Params, Text};
use super::problem::Problem;
use crate::metrics::labels::ClientRefusal;

/// The paths of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(put, remove))
}

/// The network in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "only its description is used")]
struct NetworkParam {
    /// An address, or a network in CIDR notation.
    #[param(schema_with = network_schema)]
    network: String,
}

fn network_schema() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let format = |format: &str| text().format(Some(SchemaFormat::Custom(format.into())));
    let pattern = |pattern: &str| text().pattern(Some(pattern));
    OneOfBuilder::new()
        .item(format("ipv4"))
        .item(format("ipv6"))
        .item(pattern("^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])/([1-9]|[12][0-9]|3[0-2])$"))
        .item(pattern("^([0-9a-f]{1,4}:){1,7}:/([1-9][0-9]?|1[01][0-9]|12[0-8])$"))
        .build()
        .into()
}

/// Who put an entry on the list.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// `clients.never_block`, or `clients.trusted_proxies`.
    Configuration,
    /// An operator or a program, by this API.
    Operators,
}

/// An entry of the list.
#[derive(Debug, Serialize, ToSchema)]
struct Entry {
    /// A network; an address is one of a single address.
    network: String,
    /// Who put it there.
    source: Source,
}

/// The list.
#[derive(Debug, Serialize, ToSchema)]
struct NeverBlock {
    /// Its entries.
    entries: Vec<Entry>,
}

/// What was changed.
#[derive(Debug, Serialize, ToSchema)]
struct Spared {
    /// The network, as the list has it.
    network: String,
    /// Whether a restart leaves the change.
    durable: bool,
}

/// The whole list. No decision touches an address on it.
#[utoipa::path(get, path = "/v1/never-block", operation_id = "list_never_block", tag = "never-block",
    responses((status = 200, description = "The list", body = NeverBlock)))]
async fn list(State(state): State<AdminState>) -> Response {
    let entry = |network: IpNet, source| Entry { network: network.to_string(), source };
    let configured =
        state.control.configured().into_iter().map(|network| entry(network, Source::Configuration));
    let book = state.ledger.book();
    let by_hand = book.never_block().iter().map(|network| entry(*network, Source::Operators));
    Json(NeverBlock { entries: configured.chain(by_hand).collect() }).into_response()
}

/// Put an address or a network on the list: decisions on it cease to act at once. The slash is written %2F, as in
/// `10.0.0.0%2F8`. Doing it twice is doing it once.
#[utoipa::path(put, path = "/v1/never-block/{network}", tag = "never-block",
    params(NetworkParam, WhyParams),
    responses((status = 200, description = "It is on the list", body = Spared)))]
async fn put(
    State(state): State<AdminState>,
    actor: Actor,
    Text(text): Text,
    Params(params): Params<WhyParams>,
) -> Result<Response, Problem> {
    let changed = state.control.spare_network(network(&text)?, actor.by(&params.why), (state.clock)())?;
    let (network, kept) = changed.kept().await;
    let spared = Spared { network: network.to_string(), durable: kept };
    Ok(durable(kept, Json(spared).into_response()))
}

/// Take an address or a network off the list. Decisions that are still in force act again.
#[utoipa::path(delete, path = "/v1/never-block/{network}", tag = "never-block",
    params(NetworkParam, WhyParams),
    responses((status = 204, description = "It is off the list; the header Checkgate-Durable says whether a restart leaves that")))]
async fn remove(
    State(state): State<AdminState>,
    actor: Actor,
    Text(text): Text,
    Params(params): Params<WhyParams>,
) -> Result<Response, Problem> {
    let changed = state.control.unspare_network(network(&text)?, actor.by(&params.why), (state.clock)())?;
    let (_, kept) = changed.kept().await;
    Ok(durable(kept, StatusCode::NO_CONTENT.into_response()))
}

fn network(text: &str) -> Result<IpNet, Problem> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse().ok().or_else(address);
    network.filter(|network: &IpNet| network.prefix_len() > 0).ok_or_else(|| {
        let mend =
            "write an address, or a network such as 10.0.0.0%2F8; a list of everything is the kill switch";
        Problem::new(StatusCode::BAD_REQUEST, "this is no network", mend).refusing(ClientRefusal::Unreadable)
    })
}
