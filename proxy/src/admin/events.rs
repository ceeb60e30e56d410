//! What happens, as it happens: the ledger's entries as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::decisions::parsed;
use super::problem::Problem;
use super::readiness::{Phase, Readiness};
use crate::ledger::entry::{Decided, Entry, What};
use crate::metrics::labels::AdminBound;
use crate::told::clean_json;

/// Listeners at once.
const LISTENERS_MAX: usize = 32;
/// How often a silent stream shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a stream looks whether the process drains.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Room for listeners.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LISTENERS_MAX)))
    }
}

/// The path of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Everything that happens from now on, as server-sent events: `event` is its kind, `id` its number, `data` a JSON
/// object. A listener that lags behind is told with the event `lost` how many it missed. At most 32 listen at once.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    responses((status = 200, description = "Events until the client leaves or the process stops", body = String,
        content_type = "text/event-stream")))]
async fn events(State(state): State<AdminState>) -> Result<Response, Problem> {
    let Ok(place) = Arc::clone(&state.listeners.0).try_acquire_owned() else {
        let mend = "end another listener, or read GET /v1/decisions now and then";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "32 listen already", mend)
            .bounded_by(AdminBound::Listeners));
    };
    let listener =
        Listener { heard: state.ledger.listen(), readiness: Arc::clone(&state.readiness), _place: place };
    let events = stream::unfold(listener, |mut listener| async {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response())
}

struct Listener {
    heard: Receiver<Arc<Entry>>,
    readiness: Arc<Readiness>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The next event; nothing once the process drains, for a stream would hold it up.
    async fn next(&mut self) -> Option<Event> {
        loop {
            match timeout(LOOK_EVERY, self.heard.recv()).await {
                Ok(Ok(entry)) => return Some(event(&entry)),
                Ok(Err(RecvError::Lagged(lost))) => {
                    return Some(Event::default().event("lost").data(json!({ "lost": lost }).to_string()));
                }
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) if self.readiness.phase() == Phase::Draining => return None,
                Err(_) => {}
            }
        }
    }
}

fn event(entry: &Entry) -> Event {
    let told = view(entry);
    let kind = told.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    Event::default().id(entry.number.to_string()).event(kind).data(clean_json(told.to_string()))
}

/// An entry as programs read it: times in Unix seconds, clients and ids as everywhere else in this API.
#[must_use]
pub fn view(entry: &Entry) -> Value {
    let mut told = what(&entry.what);
    let common = json!({
        "number": entry.number,
        "time": entry.time.seconds(),
        "who": entry.by.who,
        "from": entry.by.from,
        "why": entry.by.why,
    });
    if let (Some(told), Value::Object(common)) = (told.as_object_mut(), common) {
        told.extend(common);
    }
    told
}

fn what(what: &What) -> Value {
    match what {
        What::Finding { record } => {
            let record = parsed(record);
            // A note says so; anything else that was found is a finding.
            let is_note = record.get("kind").and_then(Value::as_str) == Some("note");
            json!({ "kind": if is_note { "note" } else { "finding" }, "record": record })
        }
        What::Drift { record } => json!({ "kind": "drift", "record": parsed(record) }),
        What::Decision(decided) => decision(decided),
        What::Approved { id, until } => json!({ "kind": "approved", "id": id, "until": until.seconds() }),
        What::Rejected { id } => json!({ "kind": "rejected", "id": id }),
        What::Lifted { id } => json!({ "kind": "lifted", "id": id }),
        What::Extended { id, until } => json!({ "kind": "extended", "id": id, "until": until.seconds() }),
        What::NeverBlock { added, removed } => {
            json!({ "kind": "never_block", "added": added, "removed": removed })
        }
        What::Configuration { digest, refused } => {
            json!({ "kind": "configuration", "digest": digest, "refused": refused })
        }
        What::Reference { model, rows, trusted, window } => {
            let mut told = json!({ "kind": "reference", "model": model, "rows": rows, "trusted": trusted });
            if let (Some(window), Value::Object(told)) = (window, &mut told) {
                told.insert("window".to_owned(), json!(window));
            }
            told
        }
        What::KillSwitch { on } => json!({ "kind": "kill_switch", "on": on }),
        What::Erased { client, entries } => {
            json!({ "kind": "erased", "client": client.to_string(), "entries": entries })
        }
        What::Started { version, .. } => json!({ "kind": "started", "version": version }),
        What::Met { id, requests } => json!({ "kind": "met", "id": id, "requests": requests }),
        What::Unwritten { first, last } => json!({ "kind": "unwritten", "first": first, "last": last }),
        What::Removed { last, .. } => json!({ "kind": "removed", "last": last }),
    }
}

fn decision(decided: &Decided) -> Value {
    json!({
        "kind": "decision",
        "id": decided.id,
        "client": decided.client.to_string(),
        "model": decided.model,
        "detector": decided.detector,
        "action": decided.action.as_str(),
        "status": decided.status.as_str(),
        "since": decided.time.seconds(),
        "until": decided.until.seconds(),
        "record": parsed(&decided.evidence),
    })
}
