//! Who is at the other end of a connection.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::HeaderValue;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address; a unix socket's other end is this machine's own.
    pub ip: IpAddr,
    /// Whether a trusted load balancer named that address when the connection began.
    pub is_named: bool,
    /// SHA-256 of the public key in the certificate that it showed, where it showed one that verified.
    pub certificate: Option<[u8; 32]>,
    /// The names in that certificate.
    pub names: Arc<[String]>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its address, as `X-Forwarded-For` names it. Written once a connection, told with each request.
    pub name: HeaderValue,
    /// Its address and protocol, as `Forwarded` names them (RFC 7239).
    pub element: HeaderValue,
}

impl Peer {
    /// A peer without TLS, of which nothing but its address is known.
    #[must_use]
    pub fn plain(ip: IpAddr) -> Self {
        Self::new(ip, false, None)
    }

    /// A peer after its TLS handshake.
    #[must_use]
    pub fn over_tls(ip: IpAddr, certificate: Option<[u8; 32]>) -> Self {
        Self::new(ip, true, certificate)
    }

    /// The same peer with the names in its certificate.
    #[must_use]
    pub fn named(self, names: Vec<String>) -> Self {
        Self { names: names.into(), ..self }
    }

    fn new(ip: IpAddr, tls: bool, certificate: Option<[u8; 32]>) -> Self {
        let shown = ip.to_canonical();
        let proto = if tls { "https" } else { "http" };
        // An IPv6 address stands in brackets and, for its colons, in quotes (RFC 7239, 6).
        let element = if shown.is_ipv6() {
            format!("for=\"[{shown}]\";proto={proto}")
        } else {
            format!("for={shown};proto={proto}")
        };
        Self {
            ip,
            is_named: false,
            certificate,
            names: Arc::default(),
            tls,
            name: value(shown.to_string()),
            element: value(element),
        }
    }
}

/// Addresses are visible ASCII, so the other case cannot come.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// The address by which a peer is known, where it has none of its own: this machine's.
pub(super) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
