//! What tells one client from another, as typed in a mapping.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawHeader, RawIdentity};

/// Tokens that clients show and an issuer signed (JSON Web Token, RFC 7519). A client is what a claim of its token says.
/// A token that does not hold is none: its client is judged by its address, and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["jwks"]))]
pub struct RawToken {
    /// The issuer's public keys (JSON Web Key Set, RFC 7517): a file, or a URL that begins with `https://`, or with
    /// `http://` where its host is a loopback address. What a URL gives is read at start and every five minutes, and at
    /// most once a minute when a token names an unknown key. Required.
    #[serde(default)]
    pub jwks: Option<String>,
    /// File of authorities (PEM) to believe about that URL; by default those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<std::path::PathBuf>,
    /// Who must have issued a token (`iss`). Without it, whoever signs with one of the keys may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Whom a token must be for (`aud`). Without it, tokens for anybody count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The claim that names the client.
    #[serde(default = "subject")]
    pub claim: String,
    /// The header that holds the token, with or without `Bearer` in front of it.
    #[serde(default = "authorization")]
    pub header: String,
}

fn subject() -> String {
    "sub".into()
}

fn authorization() -> String {
    "authorization".into()
}

/// A client is what its token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping of settings")]
pub struct RawTokenForm {
    /// The tokens.
    pub token: RawToken,
}

/// Either mapping, before it is known which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping of settings")]
pub(super) struct Mapping {
    header: Option<String>,
    verified_by_upstream: Option<bool>,
    token: Option<RawToken>,
}

impl Mapping {
    /// The form that was meant.
    pub(super) fn form(self) -> Result<RawIdentity, &'static str> {
        match (self.header, self.verified_by_upstream, self.token) {
            (Some(header), verified, None) => {
                let verified_by_upstream = verified.unwrap_or_default();
                Ok(RawIdentity::Header(RawHeader { header, verified_by_upstream }))
            }
            (None, None, Some(token)) => Ok(RawIdentity::Token(Box::new(RawTokenForm { token }))),
            (None, _, None) => Err("a mapping needs a header or a token; add \"header: NAME\""),
            (_, _, Some(_)) => Err("a token stands alone; the header that holds it is named inside of token"),
        }
    }
}
