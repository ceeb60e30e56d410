//! What every change has in common: the reason that is given, and whether a restart leaves it.

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer};
use utoipa::openapi::schema::{Object, Type};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use crate::control::Refused;
use crate::control::links::LinkError;
use crate::metrics::labels::{AdminBound, ClientRefusal};

/// Says whether a restart leaves a change.
const DURABLE: HeaderName = HeaderName::from_static("checkgate-durable");
/// Letters of a reason.
const WHY_MAX: usize = 500;

/// The reason that somebody gives, at most 500 letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why(pub String);

impl<'de> Deserialize<'de> for Why {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().count() > WHY_MAX {
            return Err(serde::de::Error::custom("why is longer than 500 letters"));
        }
        Ok(Self(text))
    }
}

/// Why something is changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// Why; it stands in the ledger.
    #[serde(default)]
    #[schema(schema_with = why_schema)]
    pub why: Why,
}

/// A whole number of seconds that a decision or a link may last, 1 to 31,622,400. In JSON `60.0` is one as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u32);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let whole = seconds.fract() == 0.0 && (1.0..=31_622_400.0).contains(&seconds);
        let refused = || serde::de::Error::custom("seconds are a whole number from 1 to 31622400");
        whole.then_some(Self(seconds as u32)).ok_or_else(refused)
    }
}

/// How a reason is written.
pub fn why_schema() -> Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(WHY_MAX))
        .description(Some("Why; it stands in the ledger."))
        .build()
}

/// A value that may be left out but is never null.
///
/// # Errors
/// It is something else.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The reason of a change that has no body.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhyParams {
    /// Why; it stands in the ledger.
    #[serde(default)]
    #[param(schema_with = why_schema, required = false)]
    pub why: Why,
}

/// The answer to a change, saying whether a restart leaves it.
pub fn durable(durable: bool, mut response: Response) -> Response {
    let said = HeaderValue::from_static(if durable { "true" } else { "false" });
    response.headers_mut().insert(DURABLE, said);
    response
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let (status, mend) = mend(&refused);
        let problem = Self::new(status, refused.to_string(), mend);
        match refused {
            Refused::Full => problem.bounded_by(AdminBound::NeverBlock),
            Refused::Link(LinkError::Full) => problem.bounded_by(AdminBound::Links),
            Refused::TooWide(..) => problem.refusing(ClientRefusal::TooWide),
            _ => problem,
        }
    }
}

/// The status of a change that was refused, and what mends it.
#[must_use]
pub fn mend(refused: &Refused) -> (StatusCode, &'static str) {
    match refused {
        Refused::NotInForce(_) => (StatusCode::NOT_FOUND, "GET /v1/decisions lists the decisions in force"),
        Refused::NotProposed(..) => {
            (StatusCode::CONFLICT, "GET /v1/decisions?status=proposed lists those that wait for approval")
        }
        Refused::Action(_) => (StatusCode::UNPROCESSABLE_ENTITY, "take tag, throttle, degrade or block"),
        Refused::TooWide(..) => (
            StatusCode::FORBIDDEN,
            "name a narrower network, or allow wider ones under decisions.widest_prefix",
        ),
        Refused::Lasts => (StatusCode::UNPROCESSABLE_ENTITY, "take 1 to 31622400 seconds"),
        Refused::Model(_) => {
            (StatusCode::NOT_FOUND, "GET /v1/status lists the models; leave it out to decide for all")
        }
        Refused::NoReference(_) => (StatusCode::NOT_FOUND, "GET /v1/references lists what was learned"),
        Refused::LaneBusy(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "GET /v1/references says whether it did; try again")
        }
        Refused::TooManyPromoted => (
            StatusCode::CONFLICT,
            "remove files of models that are gone from the state folder's references/promoted/ and restart",
        ),
        Refused::NoCandidate(_) => (
            StatusCode::NOT_FOUND,
            "GET /v1/references lists what waits; a window that taught too little is in checkgate_reference_candidates_total",
        ),
        Refused::ReferenceNamed(_) => (
            StatusCode::CONFLICT,
            "take reference and drift.reference of the model out of the configuration, reload, and promote then: the \
             candidate waits",
        ),
        Refused::Configured(_) => {
            (StatusCode::CONFLICT, "take it out of clients.never_block or clients.trusted_proxies")
        }
        Refused::NotListed(_) => (StatusCode::NOT_FOUND, "GET /v1/never-block lists the entries"),
        Refused::Full => (
            StatusCode::CONFLICT,
            "remove entries that are not needed, or write networks into the configuration",
        ),
        Refused::Link(LinkError::Forged) => (StatusCode::NOT_FOUND, "ask for a new link"),
        Refused::Link(LinkError::Full) => {
            (StatusCode::SERVICE_UNAVAILABLE, "use the API or the command line")
        }
        Refused::Link(_) => (StatusCode::GONE, "ask for a new link"),
        Refused::NoRandomness => (StatusCode::INTERNAL_SERVER_ERROR, "look at the system's log"),
    }
}
