//! Decisions enforced elsewhere, and taken from elsewhere, as typed.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RawTls;
use crate::secret::SecretSource;
use crate::units::Period;

/// CrowdSec: bouncers that enforce what is decided here, and sources whose decisions are enforced here. Both speak the
/// Local API (LAPI), so that another checkgate can stand at either end as well.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawCrowdsec {
    /// A listener at which bouncers pull decisions. Off where it is left out.
    pub serve: Option<RawLapiServer>,
    /// Local APIs whose decisions on addresses are enforced here, at most 16.
    pub pull: Option<Vec<RawLapiSource>>,
}

/// The listener at which bouncers pull decisions. They are told of those that act, on addresses; keys, tokens and
/// certificates mean nothing to a firewall.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["bouncers"]))]
pub struct RawLapiServer {
    /// IP address and port.
    pub listen: Option<String>,
    /// TLS on this listener, written like the top-level `tls`.
    pub tls: Option<RawTls>,
    /// Who may pull, 1 to 64. Required.
    pub bouncers: Option<Vec<RawBouncer>>,
    /// What bouncers are told a throttle is, such as `captcha` or `throttle`: lower-case letters and `-`. Without it they
    /// are not told of throttles.
    pub throttle_as: Option<String>,
    /// What bouncers are told a degrade is. Without it they are not told of degrades.
    pub degrade_as: Option<String>,
    /// Whether decisions that came from a source are told to bouncers as well. Never let two instances pull from one
    /// another with this on: neither could lift what the other holds.
    pub relay: Option<bool>,
}

/// A bouncer, with either `sha256` or `key`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["name"]))]
pub struct RawBouncer {
    /// Who it is, as metrics name it: 1 to 64 letters, digits, `.`, `_` or `-`. Required.
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,64}$"))]
    pub name: Option<String>,
    /// SHA-256 of its API key, 64 hexadecimal digits.
    #[schemars(extend("pattern" = "^[0-9A-Fa-f]{64}$"))]
    pub sha256: Option<String>,
    /// Its API key, 16 to 256 visible ASCII characters: `${NAME}` for the environment variable NAME, or `{file: PATH}`.
    pub key: Option<SecretSource>,
    /// Whether it can enforce networks: decisions on IPv6 clients are about a /64. Without it, firewall bouncers get none
    /// and all others do.
    pub ranges: Option<bool>,
}

/// A Local API whose decisions are enforced here.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["name", "url", "key"]))]
pub struct RawLapiSource {
    /// Its name: 1 to 64 letters, digits, `.`, `_` or `-`. The ledger knows it as the actor `crowdsec:NAME`. Required.
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,64}$"))]
    pub name: Option<String>,
    /// Where it is: `http://HOST:PORT` or `https://HOST:PORT`, with a path where it stands behind one. Required.
    pub url: Option<String>,
    /// The API key that was made for this instance over there: `${NAME}` for the environment variable NAME, or
    /// `{file: PATH}`. Required.
    pub key: Option<SecretSource>,
    /// File (PEM) with the authorities to believe, for `https://`. Without it, those of the operating system are.
    pub ca: Option<PathBuf>,
    /// How often it is asked, 500ms to 1h. Without it, every 500ms where a checkgate answers and every 10s otherwise.
    pub every: Option<Period>,
    /// Origins of decisions that are taken, such as `crowdsec` and `cscli`. Without it, all.
    pub origins: Option<Vec<String>>,
    /// Words of which a decision's scenario must hold one. Without it, all scenarios are taken.
    pub scenarios_containing: Option<Vec<String>>,
    /// Words of which a decision's scenario must hold none.
    pub scenarios_not_containing: Option<Vec<String>>,
    /// Clients on whom decisions of this source stand at once; further ones are counted and not taken.
    pub decisions_max: Option<usize>,
    /// New blocks a minute, 1 to 1000000; those beyond it are observations. Raise it for a long list. Without it,
    /// `brake.blocks_per_minute` holds.
    pub blocks_per_minute: Option<u32>,
}
