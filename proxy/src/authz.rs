//! What other proxies ask: may this request pass? nginx (`auth_request`), Traefik (`forwardAuth`) and Envoy
//! (`ext_authz`, over HTTP or gRPC) keep the traffic, and the gate's table answers.
//!
//! Whatever is asked on this listener is a question; nothing but a decision in force is answered with a refusal. A
//! question that cannot be read passes and is counted. Nothing is waited for, and nothing of it reaches a lane.

mod grpc;
mod messages;
mod subject;

use std::sync::Arc;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};

use self::subject::Subject;
use crate::clock;
use crate::gate::{Aim, Refusal};
use crate::metrics::Metrics;
use crate::metrics::labels::AuthzOutcome;
use crate::transport::{Handler, Peer, Received};
use crate::way::Way;
use crate::way::body::WayBody;
use crate::way::problem::{Form, Problem};

/// Names the decision that refuses a request, or that tags it.
const DECISION: HeaderName = HeaderName::from_static("x-checkgate-decision");
/// What a refusal means, where the asking proxy understands one status only.
const STATUS: HeaderName = HeaderName::from_static("x-checkgate-status");
/// With the value 403, throttled requests are answered so: `auth_request` takes any other refusal for a failure.
const THROTTLE_AS: &str = "x-checkgate-throttle-as";

/// What holds for requests that no model claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether decisions act.
    pub enforces: bool,
    /// Requests that a throttled client may send within a minute.
    pub per_minute: u32,
}

impl Terms {
    /// The stricter of both: a client that names a second model gains nothing by it.
    fn and(self, other: Self) -> Self {
        match (self.enforces, other.enforces) {
            (true, true) => Self { per_minute: self.per_minute.min(other.per_minute), ..self },
            (true, false) => self,
            (false, _) => other,
        }
    }
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Passes,
    /// It may pass, and the decision tags it.
    Tagged(DecisionId),
    /// It may not.
    Refused(Refusal),
}

impl Verdict {
    fn outcome(self) -> AuthzOutcome {
        match self {
            Self::Passes => AuthzOutcome::Passed,
            Self::Tagged(_) => AuthzOutcome::Tagged,
            Self::Refused(refusal) if refusal.throttled => AuthzOutcome::Throttled,
            Self::Refused(_) => AuthzOutcome::Blocked,
        }
    }
}

/// The listener's application.
pub struct Authz {
    /// The way that requests go now.
    pub way: Box<dyn Fn() -> Arc<Way> + Send + Sync>,
    /// What holds for requests that no model claims, now.
    pub terms: Box<dyn Fn() -> Terms + Send + Sync>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Handler for Authz {
    type Body = WayBody;

    async fn handle(&self, peer: &Peer, request: Request<Received>) -> Response<WayBody> {
        // By its path as well: a proxy may pass on the content type of the request that it holds.
        if grpc::is_call(&request) {
            return grpc::answer(self, peer, request).await;
        }
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        let subject = || Subject::of_request(method, path, headers);
        let verdict = self.judge(peer, headers, subject, clock::now());
        self.metrics.authz_http.inc(verdict.outcome());
        let as_forbidden = request.headers().get(THROTTLE_AS).is_some_and(|value| value == "403");
        answer(verdict, as_forbidden)
    }

    fn connection(&self, _open: bool) {}
}

impl Authz {
    /// Whether a request of whoever `headers` speak for may pass. It counts as met, and a throttled one uses its minute.
    /// What it is about is asked only where something is in force.
    fn judge(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        subject: impl FnOnce() -> Subject,
        now: Time,
    ) -> Verdict {
        let way = (self.way)();
        if !way.identify.trusts(peer.ip) {
            self.metrics.authz_untrusted.inc();
        }
        if way.gate.holds_nothing() {
            return Verdict::Passes;
        }
        let asker = way.identify.asker(peer, headers, || now);
        let (Terms { enforces, per_minute }, named) = subject().terms(&way.routes, (self.terms)());
        let models: Vec<&str> = named.iter().map(|name| &**name).collect();
        let aim = Aim { models: &models, acts: enforces };
        if let Some(refusal) = way.gate.enter(&asker, aim, per_minute, now) {
            return Verdict::Refused(refusal);
        }
        way.gate.tags(&asker, aim, now).map_or(Verdict::Passes, Verdict::Tagged)
    }
}

fn answer(verdict: Verdict, as_forbidden: bool) -> Response<WayBody> {
    let mut response = match verdict {
        Verdict::Passes | Verdict::Tagged(_) => {
            Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync())
        }
        Verdict::Refused(refusal) => Problem::refused(&refusal).response(Form::Document),
    };
    let status = response.status();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let decision = match verdict {
        Verdict::Passes => None,
        Verdict::Tagged(decision) => Some(decision),
        Verdict::Refused(refusal) => {
            headers.insert(STATUS, HeaderValue::from(status.as_u16()));
            Some(refusal.decision)
        }
    };
    if let Some(decision) = decision.and_then(|id| HeaderValue::try_from(id.to_string()).ok()) {
        headers.insert(DECISION, decision);
    }
    if as_forbidden && status == StatusCode::TOO_MANY_REQUESTS {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response
}

#[cfg(test)]
mod tests;
