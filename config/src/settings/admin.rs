//! Where operators ask, and what each of them may.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, Tls};

/// The operators' listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address; loopback, unless a token or a certificate is needed there.
    pub listen: SocketAddr,
    /// The bearer token that the operator configured. Without one, a token is made in the state folder, writes
    /// need it, and reads on loopback need none.
    pub token: Option<Secret>,
    /// Further tokens, each with scopes of its own.
    pub tokens: Vec<Token>,
    /// TLS on this listener; without it, it is plain.
    pub tls: Option<Tls>,
    /// Names in client certificates that may ask without a token.
    pub certificates: Vec<CertificateName>,
}

/// A token of which only the hash is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who uses it.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// What it may do; each scope holds those before it.
    pub scope: Scope,
}

/// A name in client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// The name.
    pub name: String,
    /// What it may do; each scope holds those before it.
    pub scope: Scope,
}

/// What somebody may do at the operators' listener; each scope holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Change decisions and the never-block list.
    Decide,
    /// Everything: the kill switch and references as well.
    Admin,
}

impl Scope {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Decide => "decide",
            Self::Admin => "admin",
        }
    }
}
