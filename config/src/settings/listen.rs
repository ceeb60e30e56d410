//! Where requests are accepted, and by which certificates.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// None does.
    #[default]
    Off,
    /// Each does, and comes from a trusted proxy.
    Required,
}

/// One place where requests are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and port; port 0 takes any free port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// TLS 1.2 and 1.3 as a server. The files were readable, and held what they should, when they were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates; the name that a client asks for chooses, the first stands in where none fits. At least one.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities (PEM) whose certificates clients show; without it no client certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused. Of no effect without `client_ca`.
    pub client_certificate: ClientCertificate,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// A client without one is refused in the handshake.
    #[default]
    Required,
    /// A client may come without one; one that does not verify is refused all the same.
    Optional,
}
