//! Tenants: which of the operator's customers a client belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::identity::{Address, Identity};

/// Bits that tell one client of IPv6 from another.
const CLIENT_BITS: u8 = 64;
/// Bits in front of an IPv4 address that is written as IPv6.
const MAPPED_BITS: u8 = 96;

/// A customer and who belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// What records say of its clients.
    pub tag: TenantTag,
    /// Keyed hashes of keys, as records print them.
    pub keys: Vec<u64>,
    /// Networks as first address and prefix length.
    pub networks: Vec<(IpAddr, u8)>,
}

/// A customer as records name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantTag {
    /// Its name.
    pub name: String,
    /// Its tier, by which policies differ.
    pub tier: String,
}

/// All tenants, for look-ups by client: one by key, and at most one for each length of prefix by address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Tenant>", into = "Vec<Tenant>")]
pub struct Tenants {
    list: Vec<Tenant>,
    keys: BTreeMap<u64, usize>,
    networks: BTreeMap<Prefix, usize>,
    lengths: BTreeSet<(bool, u8)>,
}

/// A network in the form in which addresses are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    is_v6: bool,
    length: u8,
    bits: u128,
}

impl Prefix {
    /// The network of that length around an address; one that is longer than its address is that address.
    fn around(ip: IpAddr, length: u8) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::cut(false, u128::from(v4.to_bits()), length.min(32), 32),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if length >= MAPPED_BITS => Self::around(IpAddr::V4(v4), length - MAPPED_BITS),
                _ => Self::cut(true, v6.to_bits(), length.min(CLIENT_BITS), 128),
            },
        }
    }

    fn cut(is_v6: bool, bits: u128, length: u8, width: u32) -> Self {
        let rest = width - u32::from(length);
        Self { is_v6, length, bits: bits.checked_shr(rest).unwrap_or(0) }
    }
}

impl Tenants {
    /// The tenants of a list. Who stands in several belongs to the first.
    #[must_use]
    pub fn new(list: Vec<Tenant>) -> Self {
        let mut tenants = Self::default();
        for (index, tenant) in list.iter().enumerate() {
            for key in &tenant.keys {
                tenants.keys.entry(*key).or_insert(index);
            }
            for (ip, length) in &tenant.networks {
                let prefix = Prefix::around(*ip, *length);
                tenants.networks.entry(prefix).or_insert(index);
                tenants.lengths.insert((prefix.is_v6, prefix.length));
            }
        }
        tenants.list = list;
        tenants
    }

    /// Whose client this is: by its key where that is known, otherwise by the narrowest network around its address.
    #[must_use]
    pub fn of(&self, identity: Identity, address: Address) -> Option<&TenantTag> {
        let by_key = match identity {
            Identity::Key(key) => self.keys.get(&key),
            Identity::Address(_) | Identity::Network(_) => None,
        };
        let index = by_key.or_else(|| self.by_address(address))?;
        self.list.get(*index).map(|tenant| &tenant.tag)
    }

    fn by_address(&self, address: Address) -> Option<&usize> {
        let ip = address.ip();
        let lengths = self.lengths.iter().rev().filter(|(is_v6, _)| *is_v6 == ip.is_ipv6());
        lengths.map(|(_, length)| Prefix::around(ip, *length)).find_map(|prefix| self.networks.get(&prefix))
    }
}

impl From<Vec<Tenant>> for Tenants {
    fn from(list: Vec<Tenant>) -> Self {
        Self::new(list)
    }
}

impl From<Tenants> for Vec<Tenant> {
    fn from(tenants: Tenants) -> Self {
        tenants.list
    }
}

/// The list says everything.
impl PartialEq for Tenants {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, keys: &[u64], networks: &[(&str, u8)]) -> Tenant {
        Tenant {
            tag: TenantTag { name: name.to_owned(), tier: "enterprise".to_owned() },
            keys: keys.to_vec(),
            networks: networks.iter().map(|(ip, length)| (ip.parse().unwrap(), *length)).collect(),
        }
    }

    #[test]
    fn a_client_belongs_to_the_tenant_of_its_key_or_of_its_narrowest_network() {
        let tenants = Tenants::new(vec![
            tenant("acme", &[7], &[("10.0.0.0", 8), ("2001:db8::", 32)]),
            tenant("bolt", &[8], &[("10.1.0.0", 16), ("10.2.3.4", 32), ("2001:db8:1::5", 128)]),
            tenant("cube", &[], &[("::ffff:192.0.2.0", 120), ("0.0.0.0", 0)]),
        ]);
        let of = |key: Option<u64>, ip: &str| {
            let address = Address::of(ip.parse().unwrap());
            let identity = key.map_or(Identity::Address(address), Identity::Key);
            tenants.of(identity, address).map(|tag| tag.name.as_str())
        };
        for (key, ip, expected) in [
            (Some(7), "203.0.113.9", Some("acme")),
            (Some(8), "10.0.0.1", Some("bolt")),
            (Some(9), "10.0.0.1", Some("acme")),
            (None, "10.9.0.1", Some("acme")),
            (None, "10.1.2.3", Some("bolt")),
            (None, "10.2.3.4", Some("bolt")),
            (None, "10.2.3.5", Some("acme")),
            (None, "192.0.2.9", Some("cube")),
            (None, "198.51.100.1", Some("cube")),
            (None, "2001:db8:2::1", Some("acme")),
            (None, "2001:db8:1::9", Some("bolt")),
            (None, "2001:db9::1", None),
        ] {
            assert_eq!(of(key, ip), expected, "{key:?} from {ip}");
        }
        assert_eq!(Tenants::default().of(Identity::Key(7), Address::of("10.0.0.1".parse().unwrap())), None);
    }
}
