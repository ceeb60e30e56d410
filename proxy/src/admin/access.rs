//! Who may ask the admin API what.
//!
//! A request with the right bearer token may do everything. Without a token, reads are served on a loopback listener
//! for which the operator configured none, and only where the request cannot be the work of a web page: its `Host`
//! must be an address or `localhost`, for a page that had its own name resolved to this listener (DNS rebinding)
//! still sends that name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use checkgate_config::settings::Secret;
use checkgate_detectors::facts::Time;
use checkgate_detectors::identity::Address;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use siphasher::sip128::SipHasher24;
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Wrong tokens that one address may send in a [`SPAN`].
const FAILURES_MAX: u32 = 10;
/// How long wrong tokens are held against an address.
const SPAN: Duration = Duration::from_secs(60);
/// Addresses whose wrong tokens are remembered.
const ADDRESSES_MAX: usize = 1024;

/// The rules of one listener.
#[derive(Debug)]
pub struct Access {
    /// Tokens are compared by their keyed hashes: the time that it takes says nothing of content or length.
    hasher: SipHasher24,
    token: [u8; 16],
    reads_are_free: bool,
    failures: Mutex<HashMap<Option<Address>, Failures, ahash::RandomState>>,
}

/// Wrong tokens of one address.
#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Time,
    count: u32,
}

/// What is known of a request before it is served.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its method; all but GET and HEAD change something.
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Where it comes from, where that is known.
    pub peer: Option<IpAddr>,
}

impl Access {
    /// The rules of the listener at `listen`, whose `token` was `configured` by the operator or made at the start.
    /// `hash_key` is the instance's own.
    #[must_use]
    pub fn new(listen: SocketAddr, token: &Secret, configured: bool, hash_key: [u64; 2]) -> Self {
        let [first, second] = hash_key;
        let hasher = SipHasher24::new_with_keys(first, second);
        Self {
            token: hasher.hash(token.reveal().as_bytes()).as_bytes(),
            hasher,
            reads_are_free: listen.ip().is_loopback() && !configured,
            failures: Mutex::default(),
        }
    }

    /// Whether the caller may go on.
    ///
    /// # Errors
    /// The problem to answer with.
    pub fn check(&self, caller: &Caller<'_>, now: Time) -> Result<(), Problem> {
        let writes = !matches!(*caller.method, Method::GET | Method::HEAD);
        if writes && caller.headers.contains_key(ORIGIN) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "a web page may not change anything",
                "use curl or the CLI",
            ));
        }
        match caller.headers.get(AUTHORIZATION) {
            Some(given) => self.check_token(given.as_bytes(), caller.peer.map(Address::of), now),
            None if writes || !self.reads_are_free => {
                Err(Problem::unauthorized("this request needs a token"))
            }
            None => check_host(caller),
        }
    }

    fn check_token(&self, given: &[u8], peer: Option<Address>, now: Time) -> Result<(), Problem> {
        if let Some(wait) = self.must_wait(peer, now) {
            return Err(Problem::too_many_tries(wait.as_secs() + 1));
        }
        if bearer(given).is_some_and(|token| self.is_token(token)) {
            return Ok(());
        }
        self.note_failure(peer, now);
        Err(Problem::unauthorized("the token is not the right one"))
    }

    /// Nothing is never a token, whatever was configured.
    fn is_token(&self, given: &[u8]) -> bool {
        !given.is_empty() && bool::from(self.hasher.hash(given).as_bytes().ct_eq(&self.token))
    }

    fn must_wait(&self, peer: Option<Address>, now: Time) -> Option<Duration> {
        let failures = *self.failures.lock().get(&peer)?;
        (failures.count >= FAILURES_MAX && failures.are_held(now))
            .then(|| SPAN.saturating_sub(now.since(failures.since)))
    }

    fn note_failure(&self, peer: Option<Address>, now: Time) {
        let mut all = self.failures.lock();
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&peer) {
            all.retain(|_, failures| failures.are_held(now));
        }
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&peer) {
            let oldest = all.iter().min_by_key(|(_, failures)| failures.since).map(|(peer, _)| *peer);
            oldest.map(|oldest| all.remove(&oldest));
        }
        let failures = all.entry(peer).or_insert(Failures { since: now, count: 0 });
        if !failures.are_held(now) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count += 1;
    }
}

impl Failures {
    /// Whether they still count. A clock that was set back forgives them.
    fn are_held(self, now: Time) -> bool {
        self.since <= now && now.since(self.since) < SPAN
    }
}

/// The token of an `Authorization` header; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

fn check_host(caller: &Caller<'_>) -> Result<(), Problem> {
    let mut hosts = caller.headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        _ => None,
    };
    let target_is_safe = caller.uri.authority().is_none_or(is_address_or_localhost);
    if named.as_ref().is_some_and(is_address_or_localhost) && target_is_safe {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "the Host header is neither an address nor localhost",
        "ask by address, as in http://127.0.0.1:8766, or send the token",
    ))
}

fn is_address_or_localhost(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a token of some length";

    fn access(listen: &str, configured: bool) -> Access {
        Access::new(listen.parse().unwrap(), &Secret::new(TOKEN.into()), configured, [1, 2])
    }

    fn status(access: &Access, method: Method, headers: &[(&str, &str)]) -> u16 {
        status_at(access, method, headers, "192.0.2.1", Time(0))
    }

    fn status_at(access: &Access, method: Method, headers: &[(&str, &str)], peer: &str, now: Time) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let uri = Uri::from_static("/v1/decisions");
        let caller = Caller { method: &method, uri: &uri, headers: &map, peer: Some(peer.parse().unwrap()) };
        access.check(&caller, now).map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    #[test]
    fn reads_are_free_on_loopback_without_a_configured_token_and_nowhere_else() {
        let host = [("host", "127.0.0.1:8766")];
        for (listen, configured, expected) in [
            ("127.0.0.1:1", false, 200),
            ("[::1]:1", false, 200),
            ("127.0.0.1:1", true, 401),
            ("0.0.0.0:1", false, 401),
        ] {
            assert_eq!(
                status(&access(listen, configured), Method::GET, &host),
                expected,
                "{listen} {configured}"
            );
        }
    }

    #[test]
    fn writes_need_the_token_everywhere() {
        let access = access("127.0.0.1:1", false);
        let host = ("host", "localhost");
        let right = format!("Bearer {TOKEN}");
        for method in [Method::DELETE, Method::PUT, Method::POST, Method::PATCH] {
            assert_eq!(status(&access, method.clone(), &[host]), 401, "{method}");
            assert_eq!(status(&access, method.clone(), &[host, ("authorization", &right)]), 200, "{method}");
            let origin = ("origin", "http://127.0.0.1:8766");
            assert_eq!(
                status(&access, method.clone(), &[host, ("authorization", &right), origin]),
                403,
                "{method}"
            );
        }
    }

    #[test]
    fn only_the_whole_token_in_a_bearer_header_is_right() {
        let access = access("0.0.0.0:1", true);
        for (given, expected) in [
            (format!("Bearer {TOKEN}"), 200),
            (format!("bearer  {TOKEN}"), 200),
            (TOKEN.to_owned(), 401),
            (format!("Basic {TOKEN}"), 401),
            (format!("Bearer {TOKEN}x"), 401),
            (format!("Bearer {}", &TOKEN[..5]), 401),
            ("Bearer ".to_owned(), 401),
            ("B".to_owned(), 401),
        ] {
            assert_eq!(status(&access, Method::GET, &[("authorization", &given)]), expected, "{given:?}");
        }
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        let access = Access::new("0.0.0.0:1".parse().unwrap(), &Secret::new(String::new()), true, [1, 2]);
        for given in ["Bearer ", "Bearer  ", "Bearer"] {
            assert_eq!(status(&access, Method::PUT, &[("authorization", given)]), 401, "{given:?}");
        }
    }

    #[test]
    fn a_page_that_rebinds_its_name_reads_nothing() {
        let access = access("127.0.0.1:1", false);
        for (host, expected) in [
            ("127.0.0.1:8766", 200),
            ("[::1]:8766", 200),
            ("localhost", 200),
            ("LOCALHOST:8766", 200),
            ("evil.example", 403),
            ("evil.example:8766", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("127.0.0.1@evil.example", 403),
            ("", 403),
        ] {
            assert_eq!(status(&access, Method::GET, &[("host", host)]), expected, "{host:?}");
        }
        assert_eq!(status(&access, Method::GET, &[]), 403, "no Host at all");
        assert_eq!(
            status(&access, Method::GET, &[("host", "localhost"), ("host", "evil.example")]),
            403,
            "two"
        );
    }

    #[test]
    fn guessing_is_slowed_for_whoever_guesses_and_for_nobody_else() {
        let access = access("0.0.0.0:1", true);
        let (wrong, right) =
            ([("authorization", "Bearer x")], [("authorization", &*format!("Bearer {TOKEN}"))]);
        let later = Time(0).plus(SPAN);
        for _ in 0..FAILURES_MAX {
            assert_eq!(status(&access, Method::GET, &wrong), 401);
        }
        assert_eq!(status(&access, Method::GET, &wrong), 429);
        assert_eq!(status(&access, Method::GET, &right), 429, "a guess that is right must not be told apart");
        assert_eq!(status_at(&access, Method::GET, &right, "192.0.2.2", Time(0)), 200);
        assert_eq!(status_at(&access, Method::GET, &right, "192.0.2.1", later), 200);
    }

    #[test]
    fn a_thousand_addresses_are_remembered_and_no_more() {
        let access = access("0.0.0.0:1", true);
        for index in 0..5000_u32 {
            let peer = IpAddr::V4((0xC000_0200 + index).into()).to_string();
            status_at(&access, Method::GET, &[("authorization", "Bearer x")], &peer, Time(u64::from(index)));
        }
        assert_eq!(access.failures.lock().len(), ADDRESSES_MAX);
    }
}
