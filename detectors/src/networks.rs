//! Lists of networks, held against the canonical form of an address: one comparison for every list there is.

use std::net::IpAddr;

use crate::identity::{self, Address};

/// Bits of an IPv6 address that tell one client from another.
const CLIENT_BITS: u8 = 64;
/// Bits in front of an IPv4 address that is written as IPv6.
const MAPPED_BITS: u8 = 96;

/// Networks in the form in which clients are compared. An IPv4-mapped network is an IPv4 network; a prefix longer than
/// a /64 is that /64, since its addresses cannot be told from their neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    V4(u32, u8),
    /// The first half of the addresses, and how many of its bits count.
    V6(u64, u8),
}

impl Networks {
    /// The list of `networks`, as (an address of the network, prefix length).
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = (IpAddr, u8)>) -> Self {
        Self(networks.into_iter().map(canonical).collect())
    }

    /// Whether one of them holds the whole of a network.
    #[must_use]
    pub fn covers(&self, network: identity::Network) -> bool {
        let as_wide = |own: &&Network| match **own {
            Network::V4(_, length) | Network::V6(_, length) => length <= network.length(),
        };
        let wide = self.0.iter().filter(as_wide).copied().collect();
        Self(wide).contains(network.first())
    }

    /// Whether the address is in one of them.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        self.0.iter().any(|network| match (*network, address.ip()) {
            (Network::V4(bits, length), IpAddr::V4(ip)) => {
                (bits ^ ip.to_bits()).checked_shr(32 - u32::from(length)).unwrap_or(0) == 0
            }
            (Network::V6(half, length), IpAddr::V6(ip)) => {
                (half ^ first_half(ip.to_bits())).checked_shr(64 - u32::from(length)).unwrap_or(0) == 0
            }
            _ => false,
        })
    }
}

fn canonical((prefix, length): (IpAddr, u8)) -> Network {
    match prefix {
        IpAddr::V4(v4) => Network::V4(v4.to_bits(), length.min(32)),
        IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), length.checked_sub(MAPPED_BITS)) {
            (Some(v4), Some(length)) => Network::V4(v4.to_bits(), length.min(32)),
            _ => Network::V6(first_half(v6.to_bits()), length.min(CLIENT_BITS)),
        },
    }
}

fn first_half(bits: u128) -> u64 {
    (bits >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_covers_its_prefixes_and_no_more() {
        for (prefix, length, address, expected) in [
            ("192.0.2.0", 24, "192.0.2.255", true),
            ("192.0.2.0", 24, "192.0.3.0", false),
            ("192.0.2.7", 32, "192.0.2.7", true),
            ("192.0.2.7", 32, "192.0.2.6", false),
            ("192.0.2.9", 24, "192.0.2.1", true),
            ("0.0.0.0", 0, "203.0.113.1", true),
            ("192.0.2.7", 32, "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.0", 120, "192.0.2.9", true),
            ("::ffff:192.0.2.0", 120, "192.0.3.9", false),
            ("::ffff:0.0.0.0", 96, "192.0.3.9", true),
            ("2001:db8::", 32, "2001:db8:9::1", true),
            ("2001:db8::", 32, "2001:db9::1", false),
            ("2001:db8::1", 128, "2001:db8::2", true),
            ("2001:db8::1", 128, "2001:db8:0:1::1", false),
            ("::1", 128, "::1", true),
            ("::", 0, "2001:db8::2", true),
            ("::", 0, "192.0.2.1", false),
            ("0.0.0.0", 0, "2001:db8::1", false),
            ("192.0.2.0", 24, "2001:db8::1", false),
        ] {
            let networks = Networks::new([(prefix.parse().unwrap(), length)]);
            let found = networks.contains(Address::of(address.parse().unwrap()));
            assert_eq!(found, expected, "{prefix}/{length} and {address}");
        }
        assert!(!Networks::default().contains(Address::of("10.0.0.1".parse().unwrap())));
    }
}
