//! The listener of bouncers: the part of the Local API that they use.
//!
//! Everything but a health check needs a key. An answer is made on the listener's own thread, and costs nothing where
//! nothing changed.

use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use checkgate_detectors::facts::Time;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, SERVER, USER_AGENT,
};
use http::{HeaderMap, Method, StatusCode};
use http_body::{Frame, SizeHint};
use serde::Serialize;

use super::board::{Board, Served};
use super::cursors::{Change, Cursor, Cursors, Place, change, everything};
use super::filter::Filter;
use super::keys::{Keys, Known, is_firewall};
use super::wire::{API_KEY, DECISIONS, Decision, Delta, Message, SOFTWARE, STREAM, USAGE};
use crate::metrics::Metrics;

/// Bytes of what a bouncer reports; nothing of it is looked at.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Answers from this size on are compressed for those who take that.
const COMPRESSED_FROM: usize = 1024;
/// Bytes of an answer that are handed on at once.
const PIECE_BYTES: usize = 64 * 1024;
/// The scopes of a stream where the bouncer names none.
const STREAM_SCOPES: &str = "ip,range";

/// What the listener asks.
#[derive(Clone)]
pub struct ServerState {
    /// What acts now.
    pub board: Arc<Board>,
    /// Who was told what.
    pub cursors: Arc<Cursors>,
    /// Who may pull.
    pub keys: Arc<Keys>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time now.
    pub clock: fn() -> Time,
}

impl std::fmt::Debug for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerState").finish_non_exhaustive()
    }
}

/// All paths.
pub fn router(state: ServerState) -> Router {
    Router::new()
        .route(STREAM, get(stream))
        .route(DECISIONS, get(decisions))
        .route(USAGE, post(usage))
        .route("/health", get(health))
        .fallback(any(nothing_here))
        .method_not_allowed_fallback(nothing_here)
        .layer(DefaultBodyLimit::max(REPORT_BYTES_MAX))
        .with_state(state)
}

/// Why a request is not served.
#[derive(Debug)]
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        answer(self.0, &HeaderMap::new(), &Message { message: &self.1 }, None)
    }
}

impl ServerState {
    fn bouncer(&self, headers: &HeaderMap) -> Result<Known, Refused> {
        let key = headers.get(API_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
        self.keys.holder(key).ok_or_else(|| {
            self.metrics.crowdsec_refusals.inc();
            Refused(StatusCode::FORBIDDEN, "access forbidden".to_owned())
        })
    }
}

fn filter(parameters: &[(String, String)]) -> Result<Filter, Refused> {
    Filter::of(parameters).map_err(|bad| Refused(StatusCode::BAD_REQUEST, bad.to_string()))
}

/// What changed since the bouncer pulled last, or everything.
async fn stream(
    State(state): State<ServerState>,
    Query(mut parameters): Query<Vec<(String, String)>>,
    head: Parts,
) -> Result<Response, Refused> {
    let bouncer = state.bouncer(&head.headers)?;
    if !parameters.iter().any(|(name, _)| name == "scopes" || name == "scope") {
        parameters.push(("scopes".to_owned(), STREAM_SCOPES.to_owned()));
    }
    let agent = head.headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    let asked = filter(&parameters)?;
    let filter = asked.of_bouncer(bouncer.takes_ranges(agent));
    // It has no body, so nobody was told anything.
    if head.method == Method::HEAD {
        return Ok(StatusCode::OK.into_response());
    }
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    let (now, place) = ((state.clock)(), peer.map(|ConnectInfo(peer)| peer.ip()));
    let pull = Pull { state: &state, bouncer: &bouncer, place, now, filter };
    // A firewall's bouncer that starts has emptied its sets itself.
    let holds_nothing = asked.startup && is_firewall(agent);
    Ok(pull.answer(&head.headers, asked.startup, holds_nothing))
}

/// One pull of a stream.
struct Pull<'a> {
    state: &'a ServerState,
    bouncer: &'a Known,
    place: Place,
    now: Time,
    filter: Filter,
}

impl Pull<'_> {
    fn answer(self, headers: &HeaderMap, startup: bool, holds_nothing: bool) -> Response {
        let current = self.state.board.at(self.now);
        let cursor = self.state.cursors.of(&self.bouncer.name, self.place).filter(|_| !startup);
        let gone = match &cursor {
            None if !holds_nothing => self.state.board.gone(&current, self.now),
            _ => Vec::new(),
        };
        let change = match &cursor {
            Some(cursor) => change(cursor, &current, &self.filter),
            None => everything(&current, &gone, &self.filter),
        };
        self.count(&change);
        let delta = Delta {
            new: listed(&change.new, false, self.now),
            deleted: listed(&change.deleted, true, self.now),
        };
        let cursors = Arc::clone(&self.state.cursors);
        let (name, place) = (Arc::clone(&self.bouncer.name), self.place);
        let cursor = Cursor { told: Arc::clone(&current), filter: self.filter.clone(), at: self.now };
        let told = move || cursors.moved(&name, place, cursor);
        answer(StatusCode::OK, headers, &delta, Some(Box::new(told)))
    }

    fn count(&self, change: &Change<'_>) {
        let metrics = &self.bouncer.metrics;
        metrics.pulls.inc();
        metrics.new.inc_by(change.new.len() as u64);
        metrics.deleted.inc_by(change.deleted.len() as u64);
        metrics.beyond.inc_by(change.beyond);
    }
}

fn listed<'a>(served: &[&'a Served], ended: bool, now: Time) -> Option<Vec<Decision<'a>>> {
    let listed = || served.iter().map(|one| one.on_the_wire(ended, now)).collect();
    (!served.is_empty()).then(listed)
}

/// The decisions on one address or network, or all of them; `null` where there are none.
async fn decisions(
    State(state): State<ServerState>,
    Query(parameters): Query<Vec<(String, String)>>,
    head: Parts,
) -> Result<Response, Refused> {
    let bouncer = state.bouncer(&head.headers)?;
    let filter = filter(&parameters)?;
    if head.method == Method::HEAD {
        return Ok(StatusCode::OK.into_response());
    }
    let now = (state.clock)();
    let current = state.board.at(now);
    let asked = current.all().iter().filter(|served| filter.asks_for(served));
    let found: Vec<Decision<'_>> = asked.map(|served| served.on_the_wire(false, now)).collect();
    bouncer.metrics.pulls.inc();
    bouncer.metrics.new.inc_by(found.len() as u64);
    let found = if found.is_empty() { None } else { Some(found) };
    Ok(answer(StatusCode::OK, &head.headers, &found, None))
}

/// Takes what a bouncer reports of itself, and keeps nothing of it.
async fn usage(State(state): State<ServerState>, head: HeaderMap, _: Bytes) -> Result<StatusCode, Refused> {
    state.bouncer(&head)?;
    Ok(StatusCode::CREATED)
}

async fn health() -> Response {
    #[derive(Serialize)]
    struct Up {
        status: &'static str,
    }
    answer(StatusCode::OK, &HeaderMap::new(), &Up { status: "up" }, None)
}

async fn nothing_here() -> Refused {
    Refused(StatusCode::NOT_FOUND, "page or method not found".to_owned())
}

/// What happens when an answer was taken.
type Taken = Box<dyn FnOnce() + Send>;

fn answer(status: StatusCode, asked: &HeaderMap, message: &impl Serialize, taken: Option<Taken>) -> Response {
    let mut json = serde_json::to_vec(message).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer to a bouncer cannot be written");
        Vec::new()
    });
    let mut packed = None;
    if json.len() >= COMPRESSED_FROM && takes_gzip(asked) {
        packed = gzip(&json).ok();
    }
    let compressed = packed.is_some();
    json = packed.unwrap_or(json);
    let mut response = Response::new(Body::new(Answer { rest: json.into(), taken }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(SERVER, HeaderValue::from_static(SOFTWARE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether `gzip` is among the codings that are taken, and not by a weight of zero (RFC 9110, 12.5.3).
fn takes_gzip(asked: &HeaderMap) -> bool {
    let listed = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|list| list.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
    })
}

fn gzip(json: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(json)?;
    packed.finish()
}

/// The body of an answer, which says when its last piece was taken.
struct Answer {
    rest: Bytes,
    taken: Option<Taken>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let size = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(size);
        if self.rest.is_empty()
            && let Some(taken) = self.taken.take()
        {
            taken();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests;
