//! Answers of the proxy's own that name no internals: problem documents (RFC 9457), or for gRPC a status.

use std::time::Duration;

use bytes::Bytes;
use checkgate_detectors::finding::DecisionId;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use serde::Serialize;

use super::body::WayBody;
use crate::gate::Refusal;

/// The media type of every answer made here.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The media type of gRPC; what follows it names the encoding of messages.
const GRPC: &str = "application/grpc";

/// How a client understands a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A status of HTTP and a document.
    Document,
    /// A status of gRPC.
    Grpc,
}

impl Form {
    /// The form for whoever sent these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if media_type.starts_with(GRPC.as_bytes()) { Self::Grpc } else { Self::Document }
    }
}

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

    /// A throttle refuses this request; others of its client pass.
    pub fn throttled(decision: DecisionId, retry_after: Duration) -> Self {
        Self {
            decision_id: Some(decision),
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "urn:checkgate:throttled",
                "This client may send fewer requests a minute",
            )
        }
    }

    /// What a refused client is told.
    pub fn refused(refusal: &Refusal) -> Self {
        let Refusal { decision, throttled, retry_after } = *refusal;
        if throttled { Self::throttled(decision, retry_after) } else { Self::blocked(decision, retry_after) }
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

    /// The request's body is longer than its model takes.
    pub const BODY_TOO_LARGE: Self = Self::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "urn:checkgate:body-too-large",
        "The request body is larger than this model takes",
    );

    /// As many requests are open as may be.
    pub const OVERLOADED: Self = Self {
        retry_after: Some(Duration::from_secs(1)),
        ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "urn:checkgate:overloaded", "Too many requests are open")
    };

    /// No model claims the request and there is no upstream for the rest.
    pub const NO_ROUTE: Self =
        Self::new(StatusCode::NOT_FOUND, "urn:checkgate:no-route", "No model is served at this path");

    /// The document as bytes.
    pub fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The problem as the client understands it.
    pub fn response(&self, form: Form) -> Response<WayBody> {
        match form {
            Form::Document => self.document(),
            Form::Grpc => self.trailers_only(),
        }
    }

    /// The class that the answer is counted under: what its status says, or would say were it not gRPC.
    pub fn status(&self) -> u16 {
        self.status
    }

    fn document(&self) -> Response<WayBody> {
        let body = Full::new(self.bytes()).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response
    }

    /// A gRPC answer without a message: status and text stand in the head ("Trailers-Only" in gRPC over HTTP/2).
    fn trailers_only(&self) -> Response<WayBody> {
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
        headers.insert("grpc-status", HeaderValue::from(grpc_status(self.status)));
        let told = match self.decision_id {
            Some(decision) => format!("{} (decision {decision})", self.title),
            None => self.title.to_owned(),
        };
        if let Ok(told) = HeaderValue::try_from(told) {
            headers.insert("grpc-message", told);
        }
        if let Some(after) = self.retry_after {
            // The client libraries wait this long before they try again; a negative number would forbid it.
            headers.insert("grpc-retry-pushback-ms", HeaderValue::from(after.as_millis() as u64));
        }
        response
    }
}

/// The status code of gRPC that says what the status of HTTP says.
fn grpc_status(status: u16) -> u16 {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::BAD_REQUEST) => 13,
        Ok(StatusCode::FORBIDDEN) => 7,
        Ok(StatusCode::NOT_FOUND) => 12,
        Ok(StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS) => 8,
        Ok(StatusCode::UNPROCESSABLE_ENTITY) => 9,
        Ok(StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT) => 4,
        Ok(StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE) => 14,
        _ => 2,
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
        let response = problem.response(Form::Document);
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()[RETRY_AFTER], "900");
    }

    #[test]
    fn a_throttle_says_so_in_the_words_of_either_protocol() {
        let problem = Problem::throttled(DecisionId(7), Duration::from_secs(60));
        let response = problem.response(Form::Document);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (429, &HeaderValue::from(60))
        );
        let response = problem.response(Form::Grpc);
        assert_eq!(response.headers()["grpc-status"], "8", "resource exhausted");
    }

    #[test]
    fn a_grpc_client_is_told_in_its_own_words() {
        let problem = Problem::blocked(DecisionId(7), Duration::from_secs(60));
        let response = problem.response(Form::Grpc);
        assert_eq!(response.status(), 200, "gRPC knows no other");
        assert_eq!(response.headers()["grpc-status"], "7", "permission denied");
        assert_eq!(
            response.headers()["grpc-message"],
            format!("This client is blocked (decision {})", DecisionId(7))
        );
        assert_eq!(response.headers()["grpc-retry-pushback-ms"], "60000");
    }

    #[test]
    fn every_problem_has_a_grpc_status_of_its_own_kind() {
        let problems = [
            Problem::BROKEN_CONTRACT,
            Problem::UNJUDGED,
            Problem::BAD_GATEWAY,
            Problem::GATEWAY_TIMEOUT,
            Problem::REQUEST_TIMEOUT,
            Problem::BODY_TOO_LARGE,
            Problem::OVERLOADED,
            Problem::NO_ROUTE,
        ];
        let told: Vec<_> = problems.iter().map(|problem| grpc_status(problem.status())).collect();
        assert_eq!(told, [9, 14, 14, 4, 4, 8, 14, 12]);
    }
}
