//! Who may decide or ask from outside, as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RawListen;
use crate::secret::SecretSource;
use crate::settings::{InboundAction, InboundShape};
use crate::units::Period;

/// An endpoint at which another system decides: `POST /v1/inbound/NAME` of the operators' listener.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["name", "shape", "secrets"]))]
pub struct RawInbound {
    /// Its name in the path, in metrics and, behind `inbound:`, in the ledger: 1 to 64 letters, digits, `.`, `_` or
    /// `-`. Required.
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,64}$"))]
    pub name: Option<String>,
    /// What is sent: `splunk` (the webhook of an alert), `alertmanager` (its webhook, version 4), `sentinel` (the HTTP
    /// action of a playbook) or `webhook` (Standard Webhooks, signed). Required.
    pub shape: Option<InboundShape>,
    /// What the sender proves itself by, 1 to 4, each as `${NAME}` for the environment variable NAME or as `{file: PATH}`,
    /// so that one can be exchanged while the other still holds. Required. For `webhook` a signing secret, `whsec_` and the Base64 of 24 to
    /// 64 bytes; otherwise 24 to 256 letters, digits, `.`, `_`, `-` or `~`, which the sender puts at the end of the
    /// path or into `Authorization: Bearer`.
    pub secrets: Option<Vec<SecretSource>>,
    /// What may be asked for: `ban`, `lift`, `approve`, `reject`. The first stands where a body asks for nothing.
    /// Whoever may `ban` may also lift what it banned itself.
    pub actions: Option<Vec<InboundAction>>,
    /// Models whose decisions may be touched, and that a ban may name. Without it, all.
    pub models: Option<Vec<String>>,
    /// How long a ban lasts where the body does not say.
    pub lasts: Option<Period>,
    /// The longest ban; a longer one is shortened, and the answer says so.
    pub at_most: Option<Period>,
    /// Where a body says what, as JSON pointers (RFC 6901), in place of those of its shape. For `alertmanager` they
    /// count from the alert.
    pub fields: Option<RawInboundFields>,
}

/// JSON pointers into a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawInboundFields {
    /// The client, as records print it: an address, a /64 or `key:` and 16 hexadecimal digits.
    pub client: Option<String>,
    /// The id of a decision.
    pub decision_id: Option<String>,
    /// One of the allowed `actions`.
    pub action: Option<String>,
    /// How long a ban lasts, in seconds: a number, or a text that is one.
    pub seconds: Option<String>,
    /// The model that a ban is about.
    pub model: Option<String>,
    /// Why; it stands in the ledger.
    pub why: Option<String>,
}

/// Where other proxies ask whether a request may pass.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["listen"]))]
pub struct RawAuthz {
    /// Where they ask, over HTTP or gRPC, in the clear: an IP address and port, `unix:PATH`, or a list of these. The
    /// proxies that ask must stand under `clients.trusted_proxies`. Required.
    pub listen: Option<RawListen>,
}
