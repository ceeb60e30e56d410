//! A request that has ended, as spans: one for the request, and one for what the upstream was asked.

use std::time::Instant;

use http::Version;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{self, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use super::names;
use super::resource::{text, whole};
use super::trace::{Ended, Event, Outcome, Traced};
use checkgate_detectors::finding::request_id;

/// The spans of one request, the request's own first. No path, query, header or body of a client is in them.
pub fn of(ended: &Ended) -> Vec<Span> {
    let (traced, outcome) = &*ended.0;
    let upstream = traced.asked_upstream.map(|asked| asking(traced, asked, outcome));
    std::iter::once(serving(traced, outcome)).chain(upstream).collect()
}

fn serving(traced: &Traced, outcome: &Outcome) -> Span {
    let method = method(traced);
    let mut attributes = vec![
        text(names::METHOD, method),
        text(names::SCHEME, if traced.tls { "https" } else { "http" }),
        text(names::VERSION, version(traced.version)),
        text(names::MODEL, &outcome.model),
        text(names::REQUEST, &request_id(traced.id)),
    ];
    attributes.extend(outcome.route.as_ref().map(|route| text(names::ROUTE, route)));
    let failed = match outcome.status {
        0 => Some("cancelled".to_owned()),
        500.. => Some(traced.failure.map_or_else(|| outcome.status.to_string(), str::to_owned)),
        _ => None,
    };
    let is_error = outcome.status >= 500;
    result(&mut attributes, outcome.status, failed);
    let name = outcome.route.as_ref().map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let remote = if traced.parent.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    Span {
        span_id: traced.span.to_vec(),
        parent_span_id: traced.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: flags(traced) | remote,
        name,
        kind: SpanKind::Server.into(),
        start_time_unix_nano: traced.began,
        end_time_unix_nano: at(traced, outcome.ended),
        attributes,
        events: traced.events.iter().map(|one| event(traced, one)).collect(),
        status: status(is_error),
        ..blank(traced)
    }
}

/// One span over all tries: they share the head that names it.
fn asking(traced: &Traced, asked: Instant, outcome: &Outcome) -> Span {
    let (ended, code) = traced.answered.unwrap_or((outcome.ended, 0));
    let method = method(traced);
    let mut attributes = vec![text(names::METHOD, method), text(names::MODEL, &outcome.model)];
    attributes.extend(traced.server.as_deref().map(server).into_iter().flatten());
    if traced.tries > 1 {
        attributes.push(whole(names::RESEND_COUNT, i64::from(traced.tries - 1)));
    }
    let failed = match code {
        0 => Some(traced.failure.unwrap_or("cancelled").to_owned()),
        400.. => Some(code.to_string()),
        _ => None,
    };
    let is_error = failed.is_some();
    result(&mut attributes, code, failed);
    Span {
        span_id: traced.upstream_span.to_vec(),
        parent_span_id: traced.span.to_vec(),
        flags: flags(traced),
        name: method.to_owned(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: at(traced, asked),
        end_time_unix_nano: at(traced, ended.max(asked)),
        attributes,
        status: status(is_error),
        ..blank(traced)
    }
}

fn blank(traced: &Traced) -> Span {
    Span { trace_id: traced.trace.to_vec(), trace_state: traced.state.clone(), ..Span::default() }
}

fn flags(traced: &Traced) -> u32 {
    u32::from(traced.flags) | SpanFlags::ContextHasIsRemoteMask as u32
}

fn method(traced: &Traced) -> &str {
    let known = names::METHODS.into_iter().find(|known| *known == traced.method.as_str());
    known.unwrap_or(names::OTHER_METHOD)
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

fn result(attributes: &mut Vec<KeyValue>, status: u16, failed: Option<String>) {
    if status != 0 {
        attributes.push(whole(names::STATUS, i64::from(status)));
    }
    attributes.extend(failed.map(|how| text(names::ERROR_TYPE, &how)));
}

fn status(is_error: bool) -> Option<Status> {
    is_error.then(|| Status { code: StatusCode::Error.into(), message: String::new() })
}

/// Host and port of a server's URL; a unix socket is an address without a port.
fn server(url: &str) -> Vec<KeyValue> {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    match place.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => {
            vec![text(names::SERVER_ADDRESS, host.trim_matches(['[', ']'])), whole(names::SERVER_PORT, port)]
        }
        None => vec![text(names::SERVER_ADDRESS, place)],
    }
}

fn event(traced: &Traced, event: &Event) -> span::Event {
    let decision = event
        .decision
        .map(|(id, effect)| vec![text(names::DECISION, &id.to_string()), text(names::EFFECT, effect)]);
    span::Event {
        time_unix_nano: at(traced, event.at),
        name: event.name.to_owned(),
        attributes: decision.unwrap_or_default(),
        ..span::Event::default()
    }
}

fn at(traced: &Traced, moment: Instant) -> u64 {
    let passed = moment.saturating_duration_since(traced.since).as_nanos();
    traced.began.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
}
