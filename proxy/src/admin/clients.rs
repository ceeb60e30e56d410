//! Clients: what is known of one, and its end.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::access::Actor;
use super::changed::{Why, durable, why_schema};
use super::extract::Json;
use super::problem::Problem;
use crate::identity;
use crate::metrics::labels::ClientRefusal;

/// What an erasure does not reach, told with every one.
const NOT_REACHED: [&str; 7] = [
    "the findings file or standard output, and whatever collected it",
    "copies of the log, of the state folder and of /v1/events that others made, and damaged bytes that were set aside",
    "recordings made with --record",
    "what lanes remember of the client's rows, and decisions in force: they end with time, by lifting, or at a restart",
    "who sent the latest 2,048 rows of each model, in drift/ of the state folder: later rows take their place",
    "the eight largest shares of what a maintenance window taught, in references/ of the state folder",
    "answers to requests with an Idempotency-Key, for 24 h",
];

/// The paths of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(erase))
}

/// Whom to erase.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Erase {
    /// The client as records print it: an address, a /64 of IPv6, or `key:` and 16 hexadecimal digits.
    #[schema(schema_with = super::decisions::client_schema)]
    client: String,
    /// Why; it stands in the ledger.
    #[serde(default)]
    #[schema(schema_with = why_schema)]
    why: Why,
}

/// What was erased.
#[derive(Debug, Serialize, ToSchema)]
struct Erased {
    /// The client.
    client: String,
    /// Entries of the ledger whose content is gone; their lines and hashes stay.
    entries: u64,
    /// Records that the API had at hand.
    records: u64,
    /// Decisions on the client that stand: nothing is lifted by an erasure.
    standing: Vec<String>,
    /// Whether a restart leaves it.
    durable: bool,
    /// What an erasure does not reach.
    not_reached: Vec<&'static str>,
}

/// Take out what is known of a client, from the ledger and from the records at hand. It lifts nothing: lift the client's
/// decisions before, where they are not to act on. The ledger notes that the client was erased, at whose word and why.
#[utoipa::path(post, path = "/v1/clients/erase", tag = "clients", request_body = Erase,
    params(super::idempotency::KeyParam),
    responses((status = 200, description = "What was erased", body = Erased)))]
async fn erase(
    State(state): State<AdminState>,
    actor: Actor,
    Json(order): Json<Erase>,
) -> Result<Response, Problem> {
    let Some(client) = identity::written(&order.client) else {
        let mend =
            "write an address, a /64 of IPv6, or key: and 16 hexadecimal digits, as records print clients";
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "this is no client", mend);
        return Err(problem.refusing(ClientRefusal::Unreadable));
    };
    let erasing = state.control.erase(client, actor.by(&order.why), (state.clock)());
    let standing = erasing.standing.iter().map(ToString::to_string).collect();
    let erased = erasing.done().await.map_err(|error| {
        let mend = "ask again once GET /v1/status says that the ledger is durable";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), mend)
    })?;
    let body = Erased {
        client: client.to_string(),
        entries: erased.entries,
        records: erased.records,
        standing,
        durable: true,
        not_reached: NOT_REACHED.to_vec(),
    };
    Ok(durable(true, Json(body).into_response()))
}
