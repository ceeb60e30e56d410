//! Who asks, by one function: the peer, what trusted proxies say of it, and the key or token it shows.

mod hops;
mod keys;
mod remembered;
mod signatures;
mod tokens;

use std::hash::Hasher;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use checkgate_config::address::address;
use checkgate_config::settings::{ClientIdentity, Clients, HopHeader};
use checkgate_detectors::facts::Time;
use checkgate_detectors::identity::{Address, Asker, Identity, Network, Standing};
use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use self::hops::FORWARDED_FOR;
use self::tokens::Tokens;
use crate::metrics::Metrics;
use crate::transport::Peer;

/// Hops that are looked at; nobody honest has more.
const HOPS_MAX: usize = 32;

/// How clients are told apart.
pub struct Identify {
    trusted_proxies: Vec<IpNet>,
    hops: HopHeader,
    key_header: Option<HeaderName>,
    by_certificate: bool,
    tokens: Option<Arc<Tokens>>,
    keys_verified: bool,
    addresses_declared: bool,
    hash_key: [u64; 2],
}

impl Identify {
    /// The way that the operator chose. What `previous` knows of tokens stays, as far as it still holds.
    ///
    /// # Errors
    /// When nothing can read the keys that tokens are signed with.
    pub fn new(
        clients: &Clients,
        hash_key: [u64; 2],
        metrics: &Arc<Metrics>,
        previous: Option<&Self>,
    ) -> io::Result<Self> {
        let known = previous.and_then(|previous| previous.tokens.as_ref());
        let tokens = match &clients.identity {
            ClientIdentity::Token(settings) => {
                Some(Tokens::new(settings, clients, hash_key, metrics, known)?)
            }
            _ => None,
        };
        let (key_header, keys_verified) = match &clients.identity {
            ClientIdentity::Header { name, verified_by_upstream } => {
                (HeaderName::from_bytes(name.as_bytes()).ok(), *verified_by_upstream)
            }
            // The handshake proved that the client holds the key, or the issuer's signature whom the token names.
            ClientIdentity::Certificate | ClientIdentity::Token(_) => (None, true),
            ClientIdentity::Assumed | ClientIdentity::Address => (None, false),
        };
        Ok(Self {
            trusted_proxies: clients.trusted_proxies.clone(),
            hops: clients.hops,
            key_header,
            by_certificate: clients.identity == ClientIdentity::Certificate,
            tokens,
            keys_verified,
            addresses_declared: clients.identity == ClientIdentity::Address,
            hash_key,
        })
    }

    /// Who asks, given the peer of the connection and the head of the request; `now` is read where tokens are, which
    /// end.
    pub fn asker(&self, peer: &Peer, headers: &HeaderMap, now: impl FnOnce() -> Time) -> Asker {
        let (address, forwarded) = self.address(peer.ip, headers);
        let by_balancer = peer.is_named && !self.trusts(peer.ip);
        let declared = self.addresses_declared || forwarded || by_balancer;
        Asker {
            address,
            standing: if declared { Standing::Declared } else { Standing::Assumed },
            key: self.key(peer, headers, now),
            keys_verified: self.keys_verified,
        }
    }

    /// Adds the hop that a proxy names beside the headers, as the nearest one.
    pub fn add_hop(&self, headers: &mut HeaderMap, ip: IpAddr) {
        let peer = Peer::plain(ip);
        match self.hops {
            HopHeader::XForwardedFor => headers.append(FORWARDED_FOR, peer.name),
            HopHeader::Forwarded => headers.append(FORWARDED, peer.element),
        };
    }

    /// What the upstream is told of the chain: never more than this proxy believes itself.
    pub fn forwarded_for(&self, peer: &Peer, headers: &HeaderMap) -> HeaderValue {
        match self.hops {
            _ if !self.trusts(peer.ip) => peer.name.clone(),
            HopHeader::XForwardedFor => appended(headers, &FORWARDED_FOR, &peer.name),
            // The client may have written it, for the proxies write the other one.
            HopHeader::Forwarded => match self.named(headers) {
                Some(client) => chain(client, &peer.name),
                None => peer.name.clone(),
            },
        }
    }

    /// The peer, or the last hop that no trusted proxy vouches for; and whether a trusted proxy named it.
    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> (Address, bool) {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return (Address::of(peer), false);
        }
        self.named(headers).map_or((Address::of(peer), false), |client| (Address::of(client), true))
    }

    /// The last hop that no trusted proxy vouches for, as trusted proxies name it. A hop that is no address cannot be a
    /// client, and nothing on its left counts.
    fn named(&self, headers: &HeaderMap) -> Option<IpAddr> {
        match self.hops {
            HopHeader::XForwardedFor => self.first_untrusted(hops::of_x_forwarded_for(headers)),
            HopHeader::Forwarded => self.first_untrusted(hops::of_forwarded(headers)),
        }
    }

    fn first_untrusted(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        hops.take(HOPS_MAX).find(|hop| hop.is_none_or(|ip| !self.trusts(ip))).flatten()
    }

    /// Whether a peer of this address is believed when it speaks for others.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted_proxies.iter().any(|net| net.contains(&ip))
    }

    fn key(&self, peer: &Peer, headers: &HeaderMap, now: impl FnOnce() -> Time) -> Option<u64> {
        if let Some(tokens) = &self.tokens {
            return tokens.client(headers, now());
        }
        if self.by_certificate {
            return Some(keyed_hash(self.hash_key, &peer.certificate?));
        }
        let value = headers.get(self.key_header.as_ref()?)?;
        Some(keyed_hash(self.hash_key, value.as_bytes()))
    }
}

/// A client and the proxy that named it.
fn chain(client: IpAddr, proxy: &HeaderValue) -> HeaderValue {
    let told = [client.to_string().as_bytes(), proxy.as_bytes()].join(&b", "[..]);
    HeaderValue::from_bytes(&told).unwrap_or_else(|_| proxy.clone())
}

/// What the lines of `name` say, and `last` behind it. Some proxies add to the line that came, others add a line of
/// their own: all of them are the chain.
pub fn appended(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    if !headers.contains_key(name) {
        return last.clone();
    }
    let lines = headers.get_all(name).iter().chain([last]).map(HeaderValue::as_bytes);
    HeaderValue::from_bytes(&lines.collect::<Vec<_>>().join(&b", "[..])).unwrap_or_else(|_| last.clone())
}

/// Whom a decision is about, as decisions write it: an address, a network, or `key:` and 16 hexadecimal digits. A network
/// of several clients is written by its first address, so that nobody means one address and takes 256.
#[must_use]
pub fn written(text: &str) -> Option<Identity> {
    if let Some(digits) = text.strip_prefix("key:") {
        let sound = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return sound.then(|| u64::from_str_radix(digits, 16).ok().map(Identity::Key)).flatten();
    }
    let Some((ip, length)) = text.split_once('/') else {
        return address(text).map(Address::of).map(Identity::Address);
    };
    let ip = address(ip)?;
    let sound = length.len() <= 2 && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = sound.then(|| length.parse::<u8>().ok()).flatten()?;
    match (ip, length) {
        (IpAddr::V4(_), 32) | (IpAddr::V6(_), 64) => Some(Identity::Address(Address::of(ip))),
        _ => Network::around(ip, length).filter(|network| network.first().ip() == ip).map(Identity::Network),
    }
}

/// SipHash-1-3 under the secret of this instance: nobody outside can aim at a value.
pub fn keyed_hash(key: [u64; 2], bytes: &[u8]) -> u64 {
    let [k0, k1] = key;
    let mut hasher = SipHasher13::new_with_keys(k0, k1);
    hasher.write(bytes);
    hasher.finish()
}

/// The allowance of the lane's door that an asker uses.
pub fn allowance(asker: &Asker) -> u64 {
    match (asker.key, asker.address.ip()) {
        (Some(hash), _) => hash,
        // Spread over the slots; the door needs no secret, since sharing a slot costs the sharer only.
        (None, IpAddr::V4(v4)) => u64::from(u32::from(v4)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20,
        (None, IpAddr::V6(v6)) => ((u128::from(v6) >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20,
    }
}

#[cfg(test)]
mod forms;
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time(1_764_000_000_000_000);

    pub(super) fn identify(trusted: &[&str], identity: ClientIdentity) -> Identify {
        let clients = Clients {
            identity,
            trusted_proxies: trusted.iter().map(|net| net.parse().unwrap()).collect(),
            never_block: Vec::new(),
            shared_addresses: Vec::new(),
            hops: HopHeader::XForwardedFor,
            new_keys_per_address: 20,
            remembered: 100,
        };
        let metrics = Metrics::new(&[], &[]).unwrap();
        Identify::new(&clients, [1, 2], &metrics, None).unwrap()
    }

    pub(super) fn peer_at(ip: &str) -> Peer {
        Peer::plain(ip.parse().unwrap())
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        lines.fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    fn client_of(peer: &str, forwarded: &[&str]) -> String {
        let lines: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
        let identify = identify(&["10.0.0.0/8", "fd00::/8"], ClientIdentity::Assumed);
        identify.asker(&peer_at(peer), &headers(&lines), || NOW).address.to_string()
    }

    #[test]
    fn a_forwarded_address_counts_only_from_a_trusted_proxy_and_from_the_right() {
        assert_eq!(client_of("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client_of("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client_of("10.0.0.1", &["192.0.2.66, 198.51.100.1, 10.0.0.7"]), "198.51.100.1");
        assert_eq!(client_of("10.0.0.1", &["192.0.2.66", "198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(client_of("::ffff:10.0.0.1", &["[2001:db8:0:7::9]"]), "2001:db8:0:7::/64");
        assert_eq!(client_of("10.0.0.1", &["192.0.2.66, unknown, 10.0.0.7"]), "10.0.0.1");
        assert_eq!(client_of("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn proxies_that_write_forwarded_are_read_there_and_nowhere_else() {
        let mut identify = identify(&["10.0.0.0/8"], ClientIdentity::Assumed);
        identify.hops = HopHeader::Forwarded;
        let both = [
            ("x-forwarded-for", "192.0.2.66"),
            ("forwarded", "for=192.0.2.66, for=\"[2001:db8:0:7::9]:1\";proto=https, for=10.0.0.7"),
        ];
        let asker = identify.asker(&peer_at("10.0.0.1"), &headers(&both), || NOW);
        assert_eq!(
            (asker.address.to_string().as_str(), asker.standing),
            ("2001:db8:0:7::/64", Standing::Declared)
        );
        let told = identify.forwarded_for(&peer_at("10.0.0.1"), &headers(&both));
        assert_eq!(told, "2001:db8:0:7::9, 10.0.0.1", "the upstream hears what is believed");
        let of = |peer: &str, lines: &[(&'static str, &str)]| {
            identify.asker(&peer_at(peer), &headers(lines), || NOW).address.to_string()
        };
        assert_eq!(of("203.0.113.9", &both), "203.0.113.9", "nobody else is believed");
        assert_eq!(of("10.0.0.1", &both[..1]), "10.0.0.1", "the other header says nothing");
        assert_eq!(of("10.0.0.1", &[("forwarded", "for=192.0.2.66, for=unknown, for=10.0.0.7")]), "10.0.0.1");
        let bare = identify.forwarded_for(&peer_at("10.0.0.1"), &headers(&both[..1]));
        assert_eq!(bare, "10.0.0.1", "what a client may have written goes no further");
    }

    #[test]
    fn a_named_client_stands_declared_and_a_bare_hop_does_not() {
        let identify = identify(&["10.0.0.0/8"], ClientIdentity::Assumed);
        let named =
            identify.asker(&peer_at("10.0.0.1"), &headers(&[("x-forwarded-for", "192.0.2.1")]), || NOW);
        assert_eq!(named.standing, Standing::Declared);
        let bare = identify.asker(&peer_at("10.0.0.1"), &headers(&[]), || NOW);
        assert_eq!(bare.standing, Standing::Assumed, "the proxy itself is no client");
    }

    #[test]
    fn whom_a_balancer_names_stands_declared_and_what_it_writes_counts_no_more_than_a_clients() {
        let identify = identify(&["10.0.0.0/8"], ClientIdentity::Assumed);
        let forged = headers(&[("x-forwarded-for", "192.0.2.66")]);
        let named = |ip: &str| Peer { is_named: true, ..peer_at(ip) };
        let asker = identify.asker(&named("203.0.113.9"), &forged, || NOW);
        assert_eq!((asker.address.to_string().as_str(), asker.standing), ("203.0.113.9", Standing::Declared));
        assert_eq!(identify.forwarded_for(&named("203.0.113.9"), &forged), "203.0.113.9");
        let behind = identify.asker(&named("10.0.0.7"), &forged, || NOW);
        assert_eq!(behind.address.to_string(), "192.0.2.66", "it named a proxy that is trusted as well");
        let bare = identify.asker(&named("10.0.0.7"), &headers(&[]), || NOW);
        assert_eq!(bare.standing, Standing::Assumed, "the proxy itself is no client");
    }

    #[test]
    fn the_upstream_hears_no_forged_chain() {
        let identify = identify(&["10.0.0.0/8"], ClientIdentity::Address);
        let forged = headers(&[("x-forwarded-for", "192.0.2.1")]);
        let told = |peer: &str| identify.forwarded_for(&peer_at(peer), &forged);
        assert_eq!(told("203.0.113.9"), "203.0.113.9");
        assert_eq!(told("10.0.0.1"), "192.0.2.1, 10.0.0.1");
        let two_lines = headers(&[("x-forwarded-for", "192.0.2.66"), ("x-forwarded-for", "198.51.100.1")]);
        let told = identify.forwarded_for(&peer_at("10.0.0.1"), &two_lines);
        assert_eq!(
            told, "192.0.2.66, 198.51.100.1, 10.0.0.1",
            "the hop that the proxy saw must not get lost"
        );
    }

    #[test]
    fn whom_a_decision_is_about_is_written_in_one_way() {
        for (text, expected) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7/32", Some("192.0.2.7")),
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("192.0.2.7/24", None),
            ("192.0.2.0/024", None),
            ("192.0.2.0/+4", None),
            ("192.0.2.0/33", None),
            ("2001:db8:1:2::/64", Some("2001:db8:1:2::/64")),
            ("2001:db8:1::/48", Some("2001:db8:1::/48")),
            ("2001:db8:1:2::/48", None),
            ("2001:db8::1/128", None),
            ("key:00000000000000ab", Some("key:00000000000000ab")),
            ("key:ab", None),
            ("nobody", None),
        ] {
            let read = written(text);
            assert_eq!(read.map(|it| it.to_string()).as_deref(), expected, "{text}");
            assert_eq!(read.and_then(|it| written(&it.to_string())), read, "{text} reads back");
        }
    }

    #[test]
    fn a_key_is_kept_as_a_hash_only() {
        let header = ClientIdentity::Header { name: "x-api-key".into(), verified_by_upstream: true };
        let identify = identify(&[], header);
        let peer = &peer_at("203.0.113.9");
        let asker = identify.asker(peer, &headers(&[("x-api-key", "secret")]), || NOW);
        assert_eq!(asker.key, Some(keyed_hash([1, 2], b"secret")));
        assert!(asker.keys_verified);
        assert_eq!(identify.asker(peer, &headers(&[]), || NOW).key, None);
    }

    #[test]
    fn a_certificate_is_an_identity_and_its_absence_is_none() {
        let identify = identify(&[], ClientIdentity::Certificate);
        let shown = |certificate| Peer { certificate, tls: true, ..peer_at("203.0.113.9") };
        let asker = identify.asker(&shown(Some([7; 32])), &headers(&[]), || NOW);
        assert_eq!(asker.key, Some(keyed_hash([1, 2], &[7; 32])));
        assert!(asker.keys_verified, "the handshake verified it");
        assert_ne!(identify.asker(&shown(Some([8; 32])), &headers(&[]), || NOW).key, asker.key);
        assert_eq!(identify.asker(&shown(None), &headers(&[]), || NOW).key, None);
    }

    proptest! {
        /// Whatever an untrusted peer writes into the header, it stays who it is.
        #[test]
        fn no_header_moves_an_untrusted_peer(chain in "[ -~]{0,200}") {
            prop_assume!(HeaderValue::try_from(&chain).is_ok());
            prop_assert_eq!(client_of("203.0.113.9", &[&chain]), "203.0.113.9");
        }

        /// Whatever stands left of the hop that the trusted proxy saw changes nothing.
        #[test]
        fn nothing_left_of_the_last_untrusted_hop_counts(chain in "[ -+--~]{0,200}") {
            let chain = format!("{chain}, 198.51.100.1, 10.0.0.2");
            prop_assume!(HeaderValue::try_from(&chain).is_ok());
            prop_assert_eq!(client_of("10.0.0.1", &[&chain]), "198.51.100.1");
        }
    }
}
