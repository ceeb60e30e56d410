//! Where a sink may connect to. A name is resolved once for each connection, and what was checked is what is connected
//! to: a name that answers otherwise the second time gains nothing.
//!
//! Loopback and private addresses are allowed, because that is where collectors and SIEMs stand. What no collector
//! stands at is refused unless the operator names it: link-local addresses and what clouds answer credentials on,
//! multicast, broadcast and unspecified addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use checkgate_config::parts::PartError;
use checkgate_config::settings::CertificateFiles;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::SinkError;
use super::steps::step;

/// How long one address of several may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const TRIED_MAX: usize = 8;
/// Addresses at which clouds answer their machines, link-local ones aside: AWS over IPv6, Azure, Alibaba, Oracle.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// How the other side is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// File of authorities (PEM) to believe about the other side; by default those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// File of a certificate chain (PEM) to show to the other side, with `key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// File of the private key (PEM) of that certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Addresses or networks that may be connected to although they are link-local, multicast or where a cloud answers
    /// its machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_addresses: Vec<String>,
}

impl Connection {
    /// What is shown to the other side.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateFiles> {
        let (certificate, key) = self.certificate_file.clone().zip(self.key_file.clone())?;
        Some(CertificateFiles { certificate, key })
    }

    /// What may be connected to.
    ///
    /// # Errors
    /// A certificate stands without its key, or a text under `allow_addresses` is no address and no network.
    pub fn allowed(&self, key: &str) -> Result<Allowed, PartError> {
        if self.certificate_file.is_some() != self.key_file.is_some() {
            let message = "a certificate and its key go together; give both certificate_file and key_file";
            return Err(PartError::new(&[key], message));
        }
        let network = |(index, text): (usize, &String)| {
            text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                let message = format!("\"{text}\" is no address or network; write for example 169.254.7.7");
                PartError::new(&[key, "allow_addresses", &index.to_string()], message)
            })
        };
        self.allow_addresses.iter().enumerate().map(network).collect::<Result<_, _>>().map(Allowed)
    }
}

/// Addresses that the operator allows although they are special.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<IpNet>);

impl Allowed {
    /// Why `address` may not be connected to, if it may not.
    #[must_use]
    pub fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        let why = special(address)?;
        let plain = address.to_canonical();
        (!self.0.iter().any(|network| network.contains(&plain))).then_some(why)
    }

    /// Resolves `host` and connects to the first of its addresses that may be connected to and answers.
    ///
    /// # Errors
    /// No such name, no connection, or no address that may be connected to.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, SinkError> {
        let addresses = self.resolve(host, port).await?;
        let mut why = String::new();
        let last = addresses.last().copied();
        for address in addresses {
            // One that swallows everything must not use up the time of the others.
            let patience = if Some(address) == last { Duration::MAX } else { CONNECT_MAX };
            let connected = timeout(patience, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    step(|| format!("connected to {address}"));
                    // A batch is written at once; waiting for more would only delay it.
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Err(error) => {
                    why = format!("no connection to {address}: {error}");
                    step(|| why.clone());
                }
            }
        }
        Err(SinkError::later(why))
    }

    /// The addresses of `host` that may be connected to, at least one.
    ///
    /// # Errors
    /// No such name, or none of its addresses may be connected to.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, SinkError> {
        let found = lookup_host((host, port))
            .await
            .map_err(|error| SinkError::later(format!("the name {host} cannot be resolved: {error}")))?;
        let found: Vec<SocketAddr> = found.take(TRIED_MAX).collect();
        step(|| format!("{host} is {}", shown(&found)));
        let refused = found.iter().find_map(|address| Some((address.ip(), self.refuses(address.ip())?)));
        let allowed: Vec<_> =
            found.into_iter().filter(|address| self.refuses(address.ip()).is_none()).collect();
        match (allowed.as_slice(), refused) {
            ([], Some((address, why))) => Err(SinkError::refused(format!(
                "{host} leads to {why} ({address}); name it under connection.allow_addresses if it is meant"
            ))),
            ([], None) => Err(SinkError::later(format!("the name {host} has no address"))),
            _ => Ok(allowed),
        }
    }
}

fn shown(addresses: &[SocketAddr]) -> String {
    let mut shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    shown.dedup();
    if shown.is_empty() { "nowhere".to_owned() } else { shown.join(", ") }
}

/// What is special about an address, or about the IPv4 address inside of it.
fn special(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    if METADATA.contains(&address) {
        return Some("where a cloud answers its machines");
    }
    match address {
        IpAddr::V4(plain) => special_v4(plain),
        IpAddr::V6(wide) => special_v6(wide).or_else(|| {
            let inner = embedded(wide)?;
            if METADATA.contains(&IpAddr::V4(inner)) {
                Some("a way to a cloud's own")
            } else {
                special_v4(inner)
            }
        }),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("an unspecified address"),
        [169, 254, 169, 254] => Some("where clouds answer their machines"),
        _ if address.is_link_local() => Some("a link-local address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address.is_broadcast() => Some("the broadcast address"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        _ if address.is_unspecified() => Some("an unspecified address"),
        _ if address.is_multicast() => Some("a multicast address"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("a link-local address"),
        _ => None,
    }
}

/// The IPv4 address that a translator (RFC 6052, RFC 3056) would make of an IPv6 address.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            Some(of(high, low))
        }
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_an_address_leads_to_what_is_refused() {
        let allowed = Allowed::default();
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.100.100.200",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(allowed.refuses(refused.parse().unwrap()).is_some(), "{refused} was let through");
        }
        for fine in ["127.0.0.1", "::1", "10.0.0.7", "192.168.1.1", "fd12::1", "203.0.113.9", "2001:db8::1"] {
            assert_eq!(allowed.refuses(fine.parse().unwrap()), None, "{fine} was refused");
        }
    }

    #[test]
    fn what_the_operator_names_is_allowed_and_nothing_else() {
        let connection =
            |text: &str| Connection { allow_addresses: vec![text.into()], ..Connection::default() };
        let allowed = connection("169.254.7.0/24").allowed("connection").unwrap();
        assert_eq!(allowed.refuses("169.254.7.7".parse().unwrap()), None);
        assert_eq!(allowed.refuses("::ffff:169.254.7.7".parse().unwrap()), None, "the same in another form");
        assert!(allowed.refuses("169.254.8.7".parse().unwrap()).is_some());
        let error = connection("metadata").allowed("connection").unwrap_err();
        assert_eq!(error.path, ["connection", "allow_addresses", "0"]);
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_refused_address_is_not_connected_to() {
        let error = Allowed::default().connect("169.254.169.254", 80).await.unwrap_err();
        assert!(matches!(&error, SinkError::Refused { why } if why.contains("allow_addresses")), "{error}");
    }
}
