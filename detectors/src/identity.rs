//! Who asks: the canonical form of a client, used by decisions, lists and exports alike.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The narrowest identity of a client that evidence can rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Identity {
    /// A peer address: IPv4 whole, IPv6 by /64.
    Address(Address),
    /// The keyed hash of an API key; the key itself is never kept.
    Key(u64),
    /// A network of several clients. No evidence leads to a decision on one; people and other programs may decide so.
    Network(Network),
}

/// A network of several clients in its one canonical form: its first address, and how many bits count, of IPv4 fewer
/// than 32 and of IPv6 fewer than 64. What is no wider than one client is an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Network {
    first: Address,
    length: u8,
}

impl Network {
    /// The network of so many bits around `ip`; nothing where that is one client or less.
    #[must_use]
    pub fn around(ip: IpAddr, length: u8) -> Option<Self> {
        let first = match ip.to_canonical() {
            IpAddr::V4(v4) if length < 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) if length < 64 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
            _ => return None,
        };
        Some(Self { first: Address::of(first), length })
    }

    /// Its first client.
    #[must_use]
    pub fn first(self) -> Address {
        self.first
    }

    /// How many bits of its addresses count.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether a client is in it.
    #[must_use]
    pub fn contains(self, address: Address) -> bool {
        Self::around(address.ip(), self.length) == Some(self)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first.ip(), self.length)
    }
}

/// A client address in its one canonical form: IPv4-mapped IPv6 is IPv4, and IPv6 is cut to its /64, because one
/// customer line owns all 2^64 addresses of it (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "IpAddr", into = "IpAddr")]
pub struct Address(Bytes);

/// The bytes that count, so that an identity takes 16 bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Bytes {
    V4([u8; 4]),
    /// The first half of an IPv6 address.
    V6([u8; 8]),
}

impl Address {
    /// The canonical form of `ip`.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(Bytes::V4(v4.octets())),
            IpAddr::V6(v6) => Self(Bytes::V6(((v6.to_bits() >> 64) as u64).to_be_bytes())),
        }
    }

    /// The address itself; for IPv6 the first of its /64.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        match self.0 {
            Bytes::V4(v4) => IpAddr::V4(v4.into()),
            Bytes::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(v6)) << 64)),
        }
    }

    /// Whether the address is this machine's own: such a peer may be any process or a local proxy.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        match self.ip() {
            IpAddr::V4(v4) => v4.is_loopback(),
            // ::1 is cut to ::/64, which holds nothing else that can be a peer.
            IpAddr::V6(v6) => v6.is_unspecified(),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self::of(ip)
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        address.ip()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Key(hash) => write!(f, "key:{hash:016x}"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// What is known of an address before any traffic is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// The operator said that addresses are clients (`--client ip`), or a trusted proxy named this one.
    Declared,
    /// Nobody said anything: the address counts as long as the traffic does not look like a shared hop.
    Assumed,
}

/// Everything the request's way knows of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// The client's address.
    pub address: Address,
    /// What the address is worth as an identity.
    pub standing: Standing,
    /// The keyed hash of the API key, where the operator named a header and the request has it.
    pub key: Option<u64>,
    /// Whether the operator says that the upstream verifies keys; otherwise the engine watches for proof.
    pub keys_verified: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Address::of(text.parse().unwrap()).to_string()
    }

    #[test]
    fn a_network_has_one_form_and_holds_its_clients_alone() {
        for (text, length, expected) in [
            ("192.0.2.9", 24, Some("192.0.2.0/24")),
            ("::ffff:192.0.2.9", 24, Some("192.0.2.0/24")),
            ("255.255.255.255", 0, Some("0.0.0.0/0")),
            ("192.0.2.9", 32, None),
            ("2001:db8:1:2::9", 48, Some("2001:db8:1::/48")),
            ("2001:db8:1:2::9", 0, Some("::/0")),
            ("2001:db8:1:2::9", 64, None),
        ] {
            let network = Network::around(text.parse().unwrap(), length);
            assert_eq!(network.map(|it| it.to_string()).as_deref(), expected, "{text}/{length}");
        }
        let network = Network::around("192.0.2.9".parse().unwrap(), 24).unwrap();
        let holds = |text: &str| network.contains(Address::of(text.parse().unwrap()));
        assert!(holds("192.0.2.0") && holds("192.0.2.255") && !holds("192.0.3.0") && !holds("2001:db8::1"));
        assert_eq!(size_of::<Identity>(), 16, "every table of clients holds them");
    }

    #[test]
    fn one_client_has_one_form() {
        assert_eq!(canonical("203.0.113.9"), "203.0.113.9");
        assert_eq!(canonical("::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(canonical("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(canonical("2001:db8:1:2::1"), canonical("2001:db8:1:2:ffff::9"));
        assert!(Address::of("::1".parse().unwrap()).is_loopback());
        assert!(Address::of("127.9.9.9".parse().unwrap()).is_loopback());
        assert_eq!(Identity::Key(0xab).to_string(), "key:00000000000000ab");
    }
}
