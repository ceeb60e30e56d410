//! However an address is written, it is one client or none: over a hundred thousand cases.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use checkgate_config::address::{hop, network};
use checkgate_detectors::networks::Networks;
use proptest::prelude::*;

use super::tests::{identify, peer_at};
use super::*;

/// Whom a request is from that a trusted proxy forwards for `text`; the proxy itself where that is no address.
fn client(identify: &Identify, text: &str) -> Option<Address> {
    let value = HeaderValue::try_from(text).ok()?;
    let headers = [(FORWARDED_FOR, value)].into_iter().collect();
    Some(identify.asker(&peer_at("10.0.0.1"), &headers, || Time(0)).address)
}

/// Where 10.0.0.0/8 are trusted proxies.
fn behind_proxies() -> &'static Identify {
    static MADE: LazyLock<Identify> = LazyLock::new(|| identify(&["10.0.0.0/8"], ClientIdentity::Assumed));
    &MADE
}

fn the_proxy() -> Address {
    Address::of(IpAddr::from([10, 0, 0, 1]))
}

/// Whether a never-block list of `text` alone spares `address`; nothing where it is no network.
fn spares(text: &str, address: Address) -> Option<bool> {
    let network = network(text)?;
    Some(Networks::new([(network.network(), network.prefix_len())]).contains(address))
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from_bits).prop_filter("a client's", |ip| {
        !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 10)
    })
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from_bits).prop_filter("a client's", |ip| {
        !(ip.is_multicast() || ip.to_bits() >> 32 == 0 || ip.to_ipv4_mapped().is_some())
    })
}

/// The same IPv4 address in a form that means it and nothing else.
fn sound_form(ip: Ipv4Addr, form: u8, port: u16) -> String {
    let [a, b, c, d] = ip.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match form % 9 {
        0 => ip.to_string(),
        1 => format!("{ip}:{port}"),
        2 => format!("::ffff:{ip}"),
        3 => format!("::FFFF:{high:X}:{low:x}"),
        4 => format!("0:0:0:0:0:ffff:{ip}"),
        5 => format!("[::ffff:{ip}]"),
        6 => format!("[::ffff:{high:x}:{low:04x}]:{port}"),
        7 => format!(" {ip}\t"),
        _ => format!("0000:0000:0000:0000:0000:ffff:{high:04x}:{low:04x}"),
    }
}

/// A form that one program reads as the address and another as something else.
fn odd_form(ip: Ipv4Addr, form: u8) -> String {
    let [a, b, c, d] = ip.octets();
    match form % 14 {
        0 => format!("0{a}.{b}.{c}.{d}"),
        1 => format!("{a}.{b}.{c}.0{d}"),
        2 => format!("0x{a:x}.{b}.{c}.{d}"),
        3 => format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        4 => format!("{}", ip.to_bits()),
        5 => format!("{:#x}", ip.to_bits()),
        6 => format!("{a}.{b}.{}", u16::from_be_bytes([c, d])),
        7 => format!("::{ip}"),
        8 => format!("::ffff:{ip}%1"),
        9 => format!("[::ffff:{ip}%eth0]:80"),
        10 => format!("{ip}:80:80"),
        11 => format!("{ip}/32"),
        12 => format!("[{ip}]"),
        _ => format!("{a}. {b}.{c}.{d}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(25_000) })]

    #[test]
    fn every_sound_form_is_the_one_client(ip in v4(), form: u8, port: u16) {
        let text = sound_form(ip, form, port);
        let identify = behind_proxies();
        let address = Address::of(ip.into());
        prop_assert_eq!(client(identify, &text), Some(address), "{:?}", text);
        prop_assert_eq!(identify.address(IpAddr::V6(ip.to_ipv6_mapped()), &HeaderMap::new()).0, address);
        // A list takes no port, no brackets and no spaces; what it takes means the same.
        let bare = sound_form(ip, [0, 2, 3, 4, 8][usize::from(form) % 5], port);
        prop_assert_eq!(spares(&bare, address), Some(true), "{:?}", bare);
        let neighbour = Address::of(Ipv4Addr::from_bits(ip.to_bits() ^ 1).into());
        prop_assert_eq!(spares(&bare, neighbour), Some(false), "{:?}", bare);
    }

    #[test]
    fn an_odd_form_is_nobody_and_the_proxy_stands(ip in v4(), form: u8) {
        let text = odd_form(ip, form);
        let identify = behind_proxies();
        prop_assert_eq!(client(identify, &text), Some(the_proxy()), "{:?}", text);
        // On a list, an odd form is refused or the same network; it never spares somebody else.
        if let Some(network) = network(&text).filter(|network| network.addr().is_ipv4()) {
            prop_assert_eq!(network.addr(), IpAddr::V4(ip), "{:?}", text);
        }
    }

    #[test]
    fn whoever_owns_a_64_is_one_client_however_it_turns_and_is_written(
        ip in v6(), host: u64, brackets: bool, port: Option<u16>, upper: bool,
    ) {
        let identify = behind_proxies();
        let turned = Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64 | u128::from(host));
        prop_assume!(!turned.is_multicast() && turned.to_ipv4_mapped().is_none());
        let text = if upper { turned.to_string().to_uppercase() } else { turned.to_string() };
        let text = match (brackets || port.is_some(), port) {
            (true, Some(port)) => format!("[{text}]:{port}"),
            (true, None) => format!("[{text}]"),
            (false, _) => text,
        };
        let address = Address::of(ip.into());
        prop_assert_eq!(client(identify, &text), Some(address), "{:?}", text);
        prop_assert_eq!(identify.address(turned.into(), &HeaderMap::new()).0, address);
        prop_assert_eq!(spares(&ip.to_string(), Address::of(turned.into())), Some(true), "the list spares the /64");
        let beyond = Ipv6Addr::from_bits(ip.to_bits() ^ 1 << 64);
        prop_assert_ne!(Address::of(beyond.into()), address, "the next /64 is another client");
    }

    #[test]
    fn whatever_is_written_names_what_it_is_read_as_or_nobody(text in "[0-9a-fA-FxX:.%/\\[\\] ]{0,24}") {
        let identify = behind_proxies();
        let Some(found) = client(identify, &text) else { return Ok(()) };
        match hop(&text) {
            None => prop_assert_eq!(found, the_proxy(), "{:?}", text),
            Some(ip) => {
                prop_assert_eq!(ip, ip.to_canonical(), "{:?} is canonical", text);
                let expected = if identify.trusts(ip) { the_proxy() } else { Address::of(ip) };
                prop_assert_eq!(found, expected, "{:?}", text);
                prop_assert_eq!(hop(&ip.to_string()), Some(ip), "what is printed is read back");
            }
        }
    }

    #[test]
    fn letters_and_digits_of_other_scripts_are_no_addresses(ip in v4(), place in 0_usize..15, digit in "[\\p{L}\\p{Nd}&&[^\\x00-\\x7F]]") {
        let mut text = ip.to_string();
        let place = place.min(text.len());
        text.replace_range(place..place.saturating_add(1).min(text.len()), &digit);
        prop_assert_eq!(hop(&text), None, "{:?}", text);
        prop_assert_eq!(network(&text), None, "{:?}", text);
        let identify = behind_proxies();
        prop_assert_eq!(client(identify, &text).unwrap_or_else(the_proxy), the_proxy(), "{:?}", text);
    }
}
