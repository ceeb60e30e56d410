//! The page of a link that answers a proposed decision: looking changes nothing, the button does it once.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::decisions::place;
use super::extract::Text;
use super::problem::Problem;
use crate::control::links::Opened;
use crate::control::{Refused, links::LinkError};
use crate::rehearse::form::escape::Escaped;
use crate::told;

/// Nothing is loaded, and nobody frames the page.
const POLICY: &str = "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The path of this resource. It needs no token: the link is one.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(look, follow))
}

/// What a link would do, as a page with one button.
#[utoipa::path(get, path = "/v1/links/{token}", tag = "links",
    params(("token" = String, Path, description = "The link's end")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html; charset=utf-8")))]
async fn look(
    State(state): State<AdminState>,
    Text(token): Text,
    request: Request,
) -> Result<Response, Problem> {
    let now = (state.clock)();
    let opened = tried(&state, &request, || state.control.look_at(&token, now))?;
    let record = state.ledger.book().decision(opened.id).map(|decided| decided.evidence.clone());
    let told = record.and_then(|line| told::page(&line).ok()).unwrap_or_default();
    let button = format!(
        "<form method=\"post\"><button>{} {}</button></form>\n<p>Until {} this works once.</p>",
        opened.answer.as_str(),
        opened.id,
        told::moment(opened.expires.seconds()),
    );
    let lines: Vec<_> = told.lines().map(|line| Escaped(line).to_string()).collect();
    Ok(page(StatusCode::OK, &format!("<pre>{}</pre>\n{button}", lines.join("\n"))))
}

/// Do what a link is for. It works once.
#[utoipa::path(post, path = "/v1/links/{token}", tag = "links",
    params(("token" = String, Path, description = "The link's end")),
    responses((status = 200, description = "It is done", body = String, content_type = "text/html; charset=utf-8")))]
async fn follow(
    State(state): State<AdminState>,
    Text(token): Text,
    request: Request,
) -> Result<Response, Problem> {
    let now = (state.clock)();
    let from = place(peer(&request));
    let changed = tried(&state, &request, || state.control.follow(&token, from, now))?;
    let (opened, durable) = changed.kept().await;
    Ok(super::changed::durable(durable, page(StatusCode::OK, &done(opened))))
}

fn done(opened: Opened) -> String {
    let word = match opened.answer {
        crate::control::links::Proposal::Approve => "approved",
        crate::control::links::Proposal::Reject => "rejected",
    };
    format!("<p>{} is {word}.</p>", opened.id)
}

/// Tries a link; links that were not made here count as wrong tokens.
fn tried<T>(
    state: &AdminState,
    request: &Request,
    open: impl FnOnce() -> Result<T, Refused>,
) -> Result<T, Problem> {
    let (peer, now) = (peer(request), (state.clock)());
    state.access.may_try(peer, now)?;
    open().map_err(|refused| {
        if matches!(refused, Refused::Link(LinkError::Forged)) {
            state.access.note_wrong(peer, now);
            state.metrics.admin_refusals.inc();
        }
        refused.into()
    })
}

fn peer(request: &Request) -> Option<std::net::IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
}

fn page(status: StatusCode, body: &str) -> Response {
    let text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>checkgate</title></head>\n<body>\n{body}\n</body></html>\n"
    );
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (status, headers, text).into_response()
}
