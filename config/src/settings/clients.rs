//! Who counts as a client.

use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key_set::KeySet;

/// Who counts as a client, and who is never blocked.
#[derive(Clone, Debug)]
pub struct Clients {
    /// What tells one client from another.
    pub identity: ClientIdentity,
    /// Peers that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// Where they say it.
    pub hops: HopHeader,
    /// Addresses that no decision ever touches.
    pub never_block: Vec<IpNet>,
    /// Addresses behind which many people sit: a decision on one of them is a throttle at most.
    pub shared_addresses: Vec<IpNet>,
    /// New keys that one address may bring in an hour before its keys stop counting as identities.
    pub new_keys_per_address: u32,
    /// Clients remembered for each model; the longest silent is forgotten first.
    pub remembered: usize,
}

/// Where trusted proxies write down the hops of a request, read from the right. One header is believed: the other one may
/// be the client's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HopHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What tells one client from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientIdentity {
    /// Nobody said: the address, as long as the traffic does not look like a shared hop.
    Assumed,
    /// The operator's word that an address is a client.
    Address,
    /// The certificate that the client showed in the TLS handshake (its public key, by hash).
    Certificate,
    /// A request header such as an API key.
    Header {
        /// Its name, in lower case.
        name: String,
        /// The operator's word that the upstream refuses keys it does not know.
        verified_by_upstream: bool,
    },
    /// A claim of a token that an issuer signed.
    Token(Box<TokenIdentity>),
}

/// Tokens as identities (JSON Web Token, RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    /// Where the issuer's keys are.
    pub keys: KeySource,
    /// Who must have issued a token, where the operator says so.
    pub issuer: Option<String>,
    /// Whom a token must be for, where the operator says so.
    pub audience: Option<String>,
    /// The claim that names the client.
    pub claim: String,
    /// The header that holds the token, in lower case.
    pub header: String,
}

/// Where the keys are that tokens are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a file: what was read from it when the settings were checked.
    File(KeySet),
    /// At a URL, to be read while the program runs.
    Url(KeyUrl),
}

/// A URL that gives keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUrl {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Whether TLS is spoken; without it, the host is a loopback address.
    pub tls: bool,
    /// Authorities (PEM) to believe; by default those of the system.
    pub ca: Option<PathBuf>,
}
