//! The messages of the protocol, as far as bouncers and this program need them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

/// The path of a stream: everything at first, afterwards what changed.
pub const STREAM: &str = "/v1/decisions/stream";
/// The path at which one address is looked up.
pub const DECISIONS: &str = "/v1/decisions";
/// The path to which bouncers report what they did.
pub const USAGE: &str = "/v1/usage-metrics";
/// The header with a bouncer's key.
pub const API_KEY: &str = "x-api-key";
/// What this program calls itself in `Server` and `User-Agent`; a bouncer that reads it asks more often.
pub const SOFTWARE: &str = concat!("checkgate/", env!("CARGO_PKG_VERSION"));
/// How [`SOFTWARE`] begins, whatever the version.
pub const SOFTWARE_NAME: &str = "checkgate/";

/// One address, as a scope.
pub const IP: &str = "Ip";
/// A network, as a scope.
pub const RANGE: &str = "Range";
/// The type of a block.
pub const BAN: &str = "ban";

/// A decision of a Local API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision<'a> {
    /// Its number; below 2^53, which every reader of JSON can hold.
    #[serde(default)]
    pub id: i64,
    /// Who decided.
    #[serde(borrow, default)]
    pub origin: Cow<'a, str>,
    /// What is done: `ban`, or another word.
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    /// What `value` is: `Ip`, `Range`, or another word.
    #[serde(borrow, default)]
    pub scope: Cow<'a, str>,
    /// Whom it is about.
    #[serde(borrow, default)]
    pub value: Cow<'a, str>,
    /// What is left of it; negative where it has ended.
    #[serde(borrow, default)]
    pub duration: Cow<'a, str>,
    /// Why.
    #[serde(borrow, default)]
    pub scenario: Cow<'a, str>,
    /// Whether it is only told and not to be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<bool>,
}

/// An answer of a stream. A list without an entry is `null`; one that is missing makes it another message, which must
/// not pass for an empty list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta<'a> {
    /// Decisions that hold now.
    #[serde(borrow, deserialize_with = "stated")]
    pub new: Option<Vec<Decision<'a>>>,
    /// Decisions that no longer do.
    #[serde(borrow, deserialize_with = "stated")]
    pub deleted: Option<Vec<Decision<'a>>>,
}

fn stated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Decision<'de>>>, D::Error> {
    Option::deserialize(deserializer)
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message<'a> {
    /// What is wrong.
    pub message: &'a str,
}
