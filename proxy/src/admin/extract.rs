//! What handlers take from a request, with a problem document for everything that cannot be taken.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use checkgate_detectors::finding::DecisionId;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::told::clean_json;

/// Bytes of a request body.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// A JSON body. An empty one of a request stands for an empty object; in one of an answer nothing steers a terminal.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = request.headers().get(CONTENT_TYPE).map(|value| is_json(value.as_bytes()));
        let body = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        if !body.is_empty() && is_json != Some(true) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body is not said to be JSON",
                "send `Content-Type: application/json`",
            ));
        }
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text).map(Self).map_err(|error| unreadable(&error))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        // What this API answers with is made of texts, numbers and their lists, which always serialise.
        let text = clean_json(serde_json::to_string(&self.0).unwrap_or_default());
        ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
    }
}

fn is_json(value: &[u8]) -> bool {
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// A body that did not come whole or is too long.
pub fn unread(error: &BytesRejection) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE { too_large() } else { cut() }
}

/// A body that is too long.
pub fn too_large() -> Problem {
    let mend = "the longest body that this API takes is 64 KiB";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long", mend)
}

fn cut() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "the body did not come whole", "send it again")
}

fn unreadable(error: &serde_json::Error) -> Problem {
    let mend = "/openapi.json describes the body";
    match error.classify() {
        serde_json::error::Category::Data => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), mend)
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}"), mend),
    }
}

/// Parameters in the query.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        let bad = |rejection: QueryRejection| {
            let mend = "/openapi.json lists the parameters of this path; limit is at most 10000";
            Problem::new(StatusCode::BAD_REQUEST, rejection.body_text(), mend)
        };
        read.map(|Query(params)| Self(params)).map_err(bad)
    }
}

/// The id of a decision in the path.
#[derive(Clone, Copy, Debug)]
pub struct Id(pub DecisionId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Text(text) = Text::from_request_parts(parts, state).await?;
        let written = text.parse().ok().filter(|id: &DecisionId| id.to_string() == text);
        written.map(Self).ok_or_else(|| {
            let detail = "a decision id is \"d-\" and 16 hexadecimal digits in lower case";
            Problem::new(StatusCode::BAD_REQUEST, detail, "GET /v1/decisions lists the decisions in force")
        })
    }
}

/// The one variable part of the path.
#[derive(Clone, Debug)]
pub struct Text(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Text {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        read.map(|Path(text)| Self(text)).map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                error.body_text(),
                "write the path in UTF-8, percent-encoded",
            )
        })
    }
}
