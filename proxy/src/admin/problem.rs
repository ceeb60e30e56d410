//! Errors of the admin API as problem documents (RFC 9457), each with what mends it.

use std::borrow::Cow;

use axum::response::{AppendHeaders, IntoResponse, Response};
use checkgate_config::settings::Scope;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::metrics::labels::{AdminBound, ClientRefusal};

/// Why a request to the admin API was not served.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    mend: Cow<'static, str>,
    /// Where in the body, as a JSON pointer.
    place: Option<String>,
    /// Boxed, so that what may fail stays small.
    header: Option<Box<(HeaderName, HeaderValue)>>,
    bound: Option<AdminBound>,
    client: Option<ClientRefusal>,
}

impl Problem {
    /// A problem with what is wrong and what mends it.
    pub fn new(status: StatusCode, detail: impl Into<String>, mend: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            mend: mend.into(),
            place: None,
            header: None,
            bound: None,
            client: None,
        }
    }

    /// The same, with its place in the body as a JSON pointer (RFC 6901).
    #[must_use]
    pub fn at(self, place: String) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The same problem, which is that a bound was reached; that is counted.
    #[must_use]
    pub fn bounded_by(self, bound: AdminBound) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// The same problem, which is that somebody named whom no decision can be about; that is counted.
    #[must_use]
    pub fn refusing(self, why: ClientRefusal) -> Self {
        Self { client: Some(why), ..self }
    }

    /// No token, or a wrong one.
    pub fn unauthorized(detail: &'static str) -> Self {
        let mend = "send `Authorization: Bearer TOKEN`, with the configured token or the one in the file admin.token \
                    of the state folder";
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, detail, mend);
        problem.header = Some(Box::new((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))));
        problem
    }

    /// A token that may not do that.
    pub fn out_of_scope(who: &str, needed: Scope) -> Self {
        let mend = "ask the operator for a token with that scope: `checkgate token new NAME --scopes SCOPE` makes one";
        let detail = format!("{who} may not do that: it needs the scope {}", needed.as_str());
        Self::new(StatusCode::FORBIDDEN, detail, mend)
    }

    /// Too many wrong tokens.
    pub fn too_many_tries(seconds: u64) -> Self {
        let mend = "wait, then send the right token; the kill switch also works by its file";
        let mut problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from here", mend);
        problem.header = Some(Box::new((RETRY_AFTER, HeaderValue::from(seconds))));
        problem
    }

    /// The status that the problem is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "mend": self.mend,
        });
        if let (Some(place), Some(body)) = (self.place, body.as_object_mut()) {
            body.insert("where".to_owned(), place.into());
        }
        let content_type = [(CONTENT_TYPE, "application/problem+json")];
        let header = AppendHeaders(self.header.map(|header| *header));
        let mut response = (self.status, header, content_type, body.to_string()).into_response();
        if let Some(bound) = self.bound {
            response.extensions_mut().insert(bound);
        }
        if let Some(client) = self.client {
            response.extensions_mut().insert(client);
        }
        response
    }
}
