//! Addresses and networks as people, proxies and headers write them: the one reader of such text, so that a list, a hop
//! and a decision never mean two things by one address.
//!
//! What it reads comes out in the canonical form, IPv4-mapped IPv6 as IPv4. What other programs read in different ways
//! (leading zeros, hexadecimal and short forms, zones, IPv4-compatible IPv6) it refuses.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Bits in front of an IPv4 address that is written as IPv6.
const MAPPED_BITS: u8 = 96;

/// An address, and nothing else: `192.0.2.7`, `2001:db8::7`.
#[must_use]
pub fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical())
}

/// An address that a client can have, as a proxy tells it: bare, an IPv6 address also in brackets, and either with a
/// port behind it. Spaces and tabs around it do not matter.
#[must_use]
pub fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, port) = rest.split_once(']')?;
            let ip: Ipv6Addr = inner.parse().ok()?;
            (port.is_empty() || is_port(port.strip_prefix(':')?)).then_some(IpAddr::V6(ip).to_canonical())?
        }
        // An IPv6 address without brackets has no port: it has more than one colon.
        None => match text.split_once(':') {
            Some((v4, port)) if !port.contains(':') => address(v4).filter(|_| is_port(port))?,
            _ => address(text)?,
        },
    };
    belongs_to_a_client(address).then_some(address)
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Nobody sends from the unspecified address, a group or the broadcast address. IPv4-compatible addresses (`::7.7.7.7`)
/// are no longer given to anybody, and lie in the /64 of this machine's own `::1` (RFC 4291, 2.5.5.1).
fn belongs_to_a_client(address: IpAddr) -> bool {
    let unfit = address.is_unspecified() || address.is_multicast();
    !unfit
        && match address {
            IpAddr::V4(v4) => !v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.to_bits() >> 32 != 0,
        }
}

/// A network in CIDR form; a bare address is a network of one.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    // The library of networks would take leading zeros for decimal.
    let network = match text.split_once('/') {
        Some((ip, bits)) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
            IpNet::new(ip.parse().ok()?, bits.parse().ok()?).ok()?.trunc()
        }
        Some(_) => return None,
        None => IpNet::from(address(text)?),
    };
    Some(match network {
        IpNet::V6(v6) => mapped(v6).unwrap_or(network),
        IpNet::V4(_) => network,
    })
}

fn mapped(network: Ipv6Net) -> Option<IpNet> {
    let v4 = network.network().to_ipv4_mapped()?;
    let bits = network.prefix_len().checked_sub(MAPPED_BITS)?;
    Ipv4Net::new(v4, bits).ok().map(IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_have_one_form_or_none() {
        for (text, expected) in [
            ("203.0.113.9", Some("203.0.113.9")),
            (" \t203.0.113.9 ", Some("203.0.113.9")),
            ("203.0.113.9:4711", Some("203.0.113.9")),
            ("::ffff:203.0.113.9", Some("203.0.113.9")),
            ("::FFFF:CB00:7109", Some("203.0.113.9")),
            ("0:0:0:0:0:ffff:203.0.113.9", Some("203.0.113.9")),
            ("[::ffff:203.0.113.9]:80", Some("203.0.113.9")),
            ("2001:DB8::9", Some("2001:db8::9")),
            ("[2001:db8::9]", Some("2001:db8::9")),
            ("[2001:db8:0:0::9]:65535", Some("2001:db8::9")),
            ("::1", Some("::1")),
            ("010.0.0.1", None),
            ("203.0.113.09", None),
            ("0x7f.1", None),
            ("0x7f.0.0.1", None),
            ("127.1", None),
            ("2130706433", None),
            ("203.0.113.9.", None),
            ("203.0.113.256", None),
            ("203.0.113.9/32", None),
            ("203.0.113.9 10.0.0.1", None),
            ("203.0.113.9:", None),
            ("203.0.113.9:65536", None),
            ("203.0.113.9:+80", None),
            ("203.0.113.9:80:80", None),
            ("[203.0.113.9]", None),
            ("[2001:db8::9", None),
            ("2001:db8::9]", None),
            ("[2001:db8::9]80", None),
            ("[2001:db8::9]:", None),
            ("[[2001:db8::9]]", None),
            ("fe80::1%eth0", None),
            ("[fe80::1%3]:80", None),
            ("::203.0.113.9", None),
            ("::7f00:1", None),
            ("::", None),
            ("0.0.0.0", None),
            ("255.255.255.255", None),
            ("224.0.0.1", None),
            ("ff02::1", None),
            ("\u{0661}.0.0.1", None),
            ("203\u{3002}0\u{3002}113\u{3002}9", None),
            ("203.0.113.9\u{a0}", None),
            ("\"203.0.113.9\"", None),
            ("unknown", None),
            ("_hidden", None),
            ("", None),
        ] {
            let read = hop(text).map(|ip| ip.to_string());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn networks_have_one_form_or_none() {
        for (text, expected) in [
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:10.1.2.3", Some("10.1.2.3/32")),
            ("::ffff:0.0.0.0/96", Some("0.0.0.0/0")),
            ("2001:db8::1/32", Some("2001:db8::/32")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("010.0.0.0/8", None),
            ("10/8", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/255.0.0.0", None),
            ("fe80::1%eth0", None),
            ("", None),
        ] {
            assert_eq!(network(text).map(|network| network.to_string()).as_deref(), expected, "{text:?}");
        }
    }
}
