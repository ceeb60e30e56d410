//! Asking the upstream: what is forwarded of a request, for how long it may take, and what a failure is called.

use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::Timeouts;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::body::{BodyError, WayBody};
use super::exchange::Exchange;
use crate::gate::Refusal;

/// Idle connections are dropped before any usual model server drops them (uvicorn after 5 s), so that a request is
/// not sent into a connection that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The pooled client of all upstreams.
pub type Upstreams = Client<HttpConnector, WayBody>;

/// Why there is no answer.
pub enum Failure {
    /// No connection could be made.
    Connect,
    /// No first byte in time.
    Timeout,
    /// The connection broke, or what came is no HTTP.
    Broken,
    /// The client's own body stood still or was cut.
    Client,
    /// A decision came into force while the client waited.
    Blocked(Refusal),
}

/// A client for all upstreams.
pub fn client(timeouts: &Timeouts) -> Upstreams {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(timeouts.connect));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(connector)
}

/// Sends the request and waits for the head of the answer.
///
/// # Errors
/// Says why there is none.
pub async fn ask(exchange: &Arc<Exchange>, request: Request<WayBody>) -> Result<Response<Incoming>, Failure> {
    let way = exchange.way();
    let answer = tokio::select! {
        biased;
        answer = way.upstreams.request(request) => answer.map_err(|error| failure(&error)),
        refusal = exchange.blocked_meanwhile() => Err(Failure::Blocked(refusal)),
        () = exchange.unanswered_for(way.timeouts.first_byte) => Err(Failure::Timeout),
    };
    match answer {
        // Nobody asked for another protocol: an upstream that switches all the same is not understood.
        Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => Err(Failure::Broken),
        answer => answer,
    }
}

/// The request as the upstream gets it: the head cleaned, the body untouched.
pub fn forwarded(
    exchange: &Exchange,
    mut head: request::Parts,
    forwarded_for: Option<HeaderValue>,
    body: WayBody,
) -> Request<WayBody> {
    let mut uri = std::mem::take(&mut head.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(exchange.route.guard.upstream.clone());
    uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    head.uri = Uri::from_parts(uri).unwrap_or_default();
    head.version = Version::HTTP_11;
    remove_hop_by_hop(&mut head.headers);
    head.headers.remove(EXPECT);
    if let Some(value) = forwarded_for {
        head.headers.insert("x-forwarded-for", value);
    }
    if exchange.route.inspected && exchange.route.guard.holds_answers() {
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    Request::from_parts(head, body)
}

/// Removes what concerns one connection only (RFC 9110, 7.6.1), and what `Connection` names besides.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let takes_trailers =
        headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in nominated {
        headers.remove(name);
    }
    for name in [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn failure(error: &legacy::Error) -> Failure {
    if error.is_connect() {
        return Failure::Connect;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        match inner.downcast_ref::<BodyError>() {
            Some(BodyError::Idle | BodyError::Cut(_)) => return Failure::Client,
            None => cause = inner.source(),
        }
    }
    Failure::Broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_stays_on_it() {
        let lines = [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("x-kept", "1"),
        ];
        let mut headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-kept"]);
    }
}
