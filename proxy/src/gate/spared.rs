//! The never-block list as the gate applies it: it beats every decision.

use checkgate_detectors::identity::Address;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Bits of an IPv6 address that tell one client from another.
const CLIENT_BITS: u8 = 64;
/// Bits in front of an IPv4 address that is written as IPv6.
const MAPPED_BITS: u8 = 96;

/// Addresses that no decision ever touches, in the canonical form of [`Address`].
#[derive(Clone, Debug, Default)]
pub struct Spared {
    networks: Vec<IpNet>,
}

impl Spared {
    /// The list of `networks`, each brought to the form in which clients are compared.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self { networks: networks.iter().copied().map(canonical).collect() }
    }

    /// Whether the address is on the list.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        self.networks.iter().any(|network| network.contains(&address.ip()))
    }
}

/// IPv4-mapped networks become IPv4. A prefix longer than a /64 becomes that /64: its addresses cannot be told from
/// their neighbours, and sparing one too many is the smaller harm.
fn canonical(network: IpNet) -> IpNet {
    match network.trunc() {
        IpNet::V6(v6) => mapped(v6).unwrap_or_else(|| shortened(v6)),
        v4 => v4,
    }
}

fn mapped(network: Ipv6Net) -> Option<IpNet> {
    let v4 = network.network().to_ipv4_mapped()?;
    let bits = network.prefix_len().checked_sub(MAPPED_BITS)?;
    Some(IpNet::V4(Ipv4Net::new(v4, bits).ok()?))
}

fn shortened(network: Ipv6Net) -> IpNet {
    let bits = network.prefix_len().min(CLIENT_BITS);
    IpNet::V6(Ipv6Net::new(network.network(), bits).unwrap_or(network).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spares(network: &str, address: &str) -> bool {
        Spared::new(&[network.parse().unwrap()]).contains(Address::of(address.parse().unwrap()))
    }

    #[test]
    fn addresses_are_compared_in_their_canonical_form() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.4", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("2001:db8::/32", "2001:db8:5::1", true),
            ("2001:db8::5/128", "2001:db8::5", true),
            ("2001:db8::5/128", "2001:db8::6", true),
            ("2001:db8::5/128", "2001:db8:0:1::5", false),
            ("::1/128", "::1", true),
            ("127.0.0.0/8", "127.0.0.1", true),
        ] {
            assert_eq!(spares(network, address), expected, "{network} against {address}");
        }
        assert!(!Spared::default().contains(Address::of("10.0.0.1".parse().unwrap())));
    }
}
