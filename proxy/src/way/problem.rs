//! Answers of the proxy's own: problem documents (RFC 9457) that name no internals.

use std::time::Duration;

use bytes::Bytes;
use checkgate_detectors::finding::DecisionId;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde::Serialize;

use super::body::WayBody;

/// The media type of every answer made here.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A problem document.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<DecisionId>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

impl Problem {
    const fn new(status: StatusCode, kind: &'static str, title: &'static str) -> Self {
        Self { kind, title, status: status.as_u16(), decision_id: None, retry_after: None }
    }

    /// A decision refuses this client. The answer names the decision and nothing else: what was found, and by
    /// which detector, is the operator's to know.
    pub fn blocked(decision: DecisionId, retry_after: Duration) -> Self {
        Self {
            decision_id: Some(decision),
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::FORBIDDEN, "urn:checkgate:blocked", "This client is blocked")
        }
    }

    /// The answer broke its contract.
    pub const BROKEN_CONTRACT: Self = Self::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "urn:checkgate:contract",
        "The model's answer was withheld",
    );

    /// The answer could not be checked against its contract.
    pub const UNJUDGED: Self = Self::new(
        StatusCode::BAD_GATEWAY,
        "urn:checkgate:unchecked",
        "The model's answer could not be checked",
    );

    /// The upstream cannot be reached, or its answer is no HTTP.
    pub const BAD_GATEWAY: Self =
        Self::new(StatusCode::BAD_GATEWAY, "urn:checkgate:upstream", "The model server could not be reached");

    /// The upstream did not answer in time.
    pub const GATEWAY_TIMEOUT: Self = Self::new(
        StatusCode::GATEWAY_TIMEOUT,
        "urn:checkgate:upstream-timeout",
        "The model server did not answer in time",
    );

    /// The client did not send its body in time.
    pub const REQUEST_TIMEOUT: Self = Self::new(
        StatusCode::REQUEST_TIMEOUT,
        "urn:checkgate:request-timeout",
        "The request body did not arrive in time",
    );

    /// No model claims the request and there is no upstream for the rest.
    pub const NO_ROUTE: Self =
        Self::new(StatusCode::NOT_FOUND, "urn:checkgate:no-route", "No model is served at this path");

    /// The document as bytes.
    pub fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The document as a response.
    pub fn response(&self) -> Response<WayBody> {
        let body = Full::new(self.bytes()).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_its_decision_and_nothing_else() {
        let problem = Problem::blocked(DecisionId(7), Duration::from_secs(900));
        let document: serde_json::Value = serde_json::from_slice(&problem.bytes()).unwrap();
        let keys: Vec<_> = document.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["decision_id", "status", "title", "type"]);
        let response = problem.response();
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()[RETRY_AFTER], "900");
    }
}
