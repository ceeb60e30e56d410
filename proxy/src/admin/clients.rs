//! Clients: who asks most and covers most, and the end of what is known of one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::access::Actor;
use super::changed::{Why, durable, why_schema};
use super::extract::{Json, Params};
use super::problem::Problem;
use crate::farthest::{CAVEAT, LISTED, LISTED_MAX, ModelClients};
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
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(erase))
}

/// Which clients are listed.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// The model; all of them where it is left out.
    model: Option<String>,
    /// Clients at most by rows, and as many by cells; 10 where it is left out.
    #[param(minimum = 1, maximum = 100)]
    most: Option<usize>,
}

/// Who asks most and covers most.
#[derive(Debug, Serialize, ToSchema)]
struct Listed {
    /// What must be known of the list.
    caveat: &'static str,
    /// Every model, by name.
    models: Vec<ModelClients>,
}

/// Who asks a model most, and whose rows lie in most of its feature space: what extraction with rows such as customers send
/// shows in, and what large customers do as well. Nothing is found by it.
#[utoipa::path(get, path = "/v1/clients", tag = "clients", params(Wanted),
    responses((status = 200, description = "The first by rows and by cells", body = Listed)))]
async fn list(State(state): State<AdminState>, Params(wanted): Params<Wanted>) -> Result<Response, Problem> {
    let most = wanted.most.unwrap_or(LISTED);
    if !(1..=LISTED_MAX).contains(&most) {
        let mend = format!("most is a whole number, 1 to {LISTED_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, format!("most {most} is out of range"), mend));
    }
    let mut models = farthest(&state, most).await?;
    if let Some(model) = &wanted.model {
        if !(state.models)().iter().any(|known| known.name == *model) {
            let mend = "GET /v1/status lists the models";
            return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such model", mend));
        }
        models.retain(|listed| listed.model == *model);
    }
    Ok(Json(Listed { caveat: CAVEAT, models }).into_response())
}

/// Who asks most and covers most, of every model.
pub async fn farthest(state: &AdminState, most: usize) -> Result<Vec<ModelClients>, Problem> {
    let asks = Arc::clone(&state.farthest);
    // It waits for the lanes.
    let told = tokio::task::spawn_blocking(move || asks(most)).await;
    let broke_off = |_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the look broke off", "look at the program's log")
    };
    let busy = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "a lane is too busy to say it", "try again");
    told.map_err(broke_off)?.map_err(busy)
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
