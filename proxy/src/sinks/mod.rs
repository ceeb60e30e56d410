//! Sinks: findings, decisions and what operators do, delivered to the tools that a security team has. Adding one is a
//! file in `sinks/`, a `mod` line and an entry in [`SINKS`].
//!
//! The ledger's log is the spool: a sink is a durable position in it ([`cursor`]), and what lies behind that position is
//! read from the log's files ([`spool`]) when the other side takes it. So nobody who notes an entry waits for a sink or
//! knows of one, and a restart goes on where the last batch was taken: every event is delivered at least once, under an
//! id that repeats share. [`courier`] is the one wrapper around every sink; it filters, batches, waits and counts, by
//! the decisions of [`course`], a pure state machine. All of it runs on one thread ([`office`]).

pub mod address;
mod cloudevents;
pub mod courier;
pub mod course;
mod crowdsec;
pub mod cursor;
mod datadog;
pub mod dead;
mod elastic;
pub mod event;
pub mod http;
mod ocsf;
pub mod office;
pub mod render;
mod sentinel;
mod splunk_hec;
pub mod spool;
pub mod steps;
mod syslog;
mod webhook;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderValue;
use checkgate_config::parts::{PartError, parameters_as};
use checkgate_config::secret::SecretSource;
use checkgate_config::settings::Secret;
use futures_util::future::BoxFuture;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::event::Event;

/// Every sink.
pub const SINKS: &[SinkSpec] = &[
    webhook::SPEC,
    cloudevents::SPEC,
    syslog::SPEC,
    splunk_hec::SPEC,
    ocsf::SPEC,
    sentinel::SPEC,
    datadog::SPEC,
    elastic::SPEC,
    crowdsec::SPEC,
];

/// The sink of that name.
#[must_use]
pub fn spec(name: &str) -> Option<&'static SinkSpec> {
    SINKS.iter().find(|spec| spec.name == name)
}

/// An entry in the list of sinks.
pub struct SinkSpec {
    /// Its key under an entry of `sinks`.
    pub name: &'static str,
    /// One line for help and reference page.
    pub summary: &'static str,
    /// JSON Schema of its parameters.
    pub schema: fn() -> Schema,
    /// Its parameters where the operator gives none.
    pub defaults: fn() -> Value,
    /// Says what is wrong with parameters, without looking for secrets or files.
    pub check: fn(&Value) -> Result<(), PartError>,
    /// Parameters as an operator might write them, in YAML.
    pub example: &'static str,
    /// Builds it from checked parameters.
    pub build: Build,
}

/// Builds a sink from checked parameters.
pub type Build = fn(&Value, &Ground<'_>) -> Result<Box<dyn Sink>, PartError>;

/// Sends events to another program, in that program's own form.
///
/// A sink sends and says what came of it. What to send, when to try again and what to give up is not its business.
pub trait Sink: Send + Sync {
    /// Sends all of `batch`, in order; it holds at least one event and no more than [`Sink::bounds`] says. On any error
    /// the whole batch counts as not taken, so what was sent before the error may be sent again. The future is dropped
    /// when it takes too long: it must not hold what the next call needs.
    ///
    /// # Errors
    /// Says whether trying again helps.
    fn send<'a>(&'a self, batch: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>>;

    /// Whether an event means anything to the other side; those that do not are passed over.
    fn takes(&self, _event: &Event) -> bool {
        true
    }

    /// How much it takes at once, where that is less than the operator may configure.
    fn bounds(&self) -> Bounds {
        Bounds::default()
    }

    /// Where it sends to, for people; no secrets.
    fn target(&self) -> String;
}

/// How much a sink takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events, at least one.
    pub events: usize,
    /// Bytes of their plain JSON; a single event may be longer.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { events: usize::MAX, bytes: usize::MAX }
    }
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Trying again later helps.
    #[error("{why}")]
    Later {
        /// What happened.
        why: String,
        /// How long the other side asks to be left alone.
        wait: Option<Duration>,
    },
    /// One of these events will never be taken, whenever it is sent.
    #[error("{why}")]
    Never {
        /// What the other side says.
        why: String,
    },
    /// Nothing is taken until somebody mends something: a wrong token, a redirect, a path that is not there.
    #[error("{why}")]
    Refused {
        /// What the other side says, and the mend.
        why: String,
    },
    /// The other side wants nothing more from this sink, until the configuration is read again.
    #[error("{why}")]
    Gone {
        /// What the other side says.
        why: String,
    },
}

impl SinkError {
    /// An error that trying again may mend.
    #[must_use]
    pub fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), wait: None }
    }

    /// An error that somebody has to mend.
    #[must_use]
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }

    /// An event that is not wanted.
    #[must_use]
    pub fn never(why: impl Into<String>) -> Self {
        Self::Never { why: why.into() }
    }
}

/// What a sink is built on besides its parameters.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Reads environment variables.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The id of this instance: stable over restarts, and no secret.
    pub instance: &'a Arc<str>,
}

impl Ground<'_> {
    /// The secret of the parameter at `key`.
    ///
    /// # Errors
    /// It cannot be read, or nothing is in it.
    pub fn reveal(&self, key: &str, source: &SecretSource) -> Result<Secret, PartError> {
        source.reveal(self.environment).map_err(|message| PartError::new(&[key], message))
    }

    /// The secret of the parameter at `key` as a header that no log shows, behind `scheme` (`Bearer `, or nothing).
    ///
    /// # Errors
    /// It cannot be read, or no header may hold it.
    pub fn header(&self, key: &str, scheme: &str, source: &SecretSource) -> Result<HeaderValue, PartError> {
        let secret = self.reveal(key, source)?;
        let mut value = HeaderValue::from_str(&format!("{scheme}{}", secret.reveal())).map_err(|_| {
            let word = key.rsplit('_').next().unwrap_or(key);
            PartError::new(&[key], format!("the {word} holds characters that no header may"))
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The URL of the parameter at `key`: as it stands, or from the environment where it is written `${NAME}`.
    ///
    /// # Errors
    /// The variable is not set.
    pub fn url(&self, key: &str, text: &str) -> Result<String, PartError> {
        match SecretSource::variable(text) {
            Some(name) => {
                Ok(self.reveal(key, &SecretSource::Environment(name.to_owned()))?.reveal().to_owned())
            }
            None => Ok(text.to_owned()),
        }
    }
}

/// Parameters of a sink: a plain struct with `#[serde(deny_unknown_fields, default)]`. An empty text or list and an
/// absent value stand for what has no default.
pub trait Parameters: Default + Serialize + DeserializeOwned + JsonSchema {
    /// What no type can say, such as ranges and what is required.
    ///
    /// # Errors
    /// What is wrong, and the mend.
    fn check(&self) -> Result<(), PartError>;
}

/// The schema of parameters, for a [`SinkSpec`].
pub fn schema_of<P: Parameters>() -> Schema {
    schemars::schema_for!(P)
}

/// The defaults of parameters, for a [`SinkSpec`].
pub fn defaults_of<P: Parameters>() -> Value {
    let mut defaults = serde_json::to_value(P::default()).unwrap_or_default();
    if let Value::Object(keys) = &mut defaults {
        let says_nothing = |value: &Value| match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(keys) => keys.is_empty(),
            _ => false,
        };
        keys.retain(|_, value| !says_nothing(value));
    }
    defaults
}

/// The check of parameters, for a [`SinkSpec`].
///
/// # Errors
/// What is wrong with them.
pub fn check_of<P: Parameters>(parameters: &Value) -> Result<(), PartError> {
    read::<P>(parameters).map(drop)
}

/// Builds a sink from parameters, for a [`SinkSpec`].
///
/// # Errors
/// What is wrong with them, or what `build` says.
pub fn build_with<P: Parameters, S: Sink + 'static>(
    parameters: &Value,
    ground: &Ground<'_>,
    build: impl FnOnce(P, &Ground<'_>) -> Result<S, PartError>,
) -> Result<Box<dyn Sink>, PartError> {
    build(read::<P>(parameters)?, ground).map(|sink| Box::new(sink) as Box<dyn Sink>)
}

fn read<P: Parameters>(parameters: &Value) -> Result<P, PartError> {
    let parameters: P = parameters_as(parameters)?;
    parameters.check()?;
    Ok(parameters)
}
