//! Who may ask the admin API what.
//!
//! Whoever asks shows a bearer token, or a client certificate with a name that the operator wrote down; each has a
//! scope. Without either, reads are served on a loopback listener for which the operator configured neither, and only
//! where the request cannot be the work of a web page: its `Host` must be an address or `localhost`, for a page that
//! had its own name resolved to this listener (DNS rebinding) still sends that name.
//!
//! Of configured tokens only SHA-256 is known. They are 256 random bits, which nobody guesses from their hash; a salt
//! or a slow hash would protect what people choose, and people choose none of these.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::FromRequestParts;
use checkgate_config::settings::{Admin, Scope, Secret};
use checkgate_detectors::facts::Time;
use checkgate_detectors::identity::Address;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use super::changed::Why;
use super::problem::Problem;
use crate::ledger::entry::By;

/// Wrong tokens that one address may send in a [`SPAN`].
const FAILURES_MAX: u32 = 10;
/// How long wrong tokens are held against an address.
const SPAN: Duration = Duration::from_secs(60);
/// Addresses whose wrong tokens are remembered.
const ADDRESSES_MAX: usize = 1024;
/// The name of the one token that may do everything: where it is kept unless it was configured.
const THE_TOKEN: &str = "admin.token";
/// The name of whoever reads without a token.
const NOBODY: &str = "nobody";

/// Who asks, and how far that reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The name of the token or certificate.
    pub who: Arc<str>,
    /// Where the request comes from.
    pub from: Option<Arc<str>>,
    /// What may be done.
    pub scope: Scope,
}

impl Actor {
    /// At whose word a change happens.
    #[must_use]
    pub fn by(&self, why: &Why) -> By {
        By { who: Arc::clone(&self.who), from: self.from.clone(), why: why.0.as_str().into() }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        // The guard puts it there; a path that it does not guard has no actor.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::unauthorized("this request needs a token"))
    }
}

/// The names in the certificate that a peer showed, where it showed one that verified.
#[derive(Clone, Debug, Default)]
pub struct CertificateNames(pub Arc<[String]>);

/// The scope that a request needs; nothing where it is free to all. What changes something and is not named here needs
/// the strongest.
#[must_use]
pub fn needed(path: &str, method: &Method) -> Option<Scope> {
    let under =
        |prefix: &str| path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    if ["/healthz", "/readyz"].contains(&path) || under("/v1/links") || under("/v1/inbound") {
        return None;
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let decides = ["/v1/decisions", "/v1/never-block"].into_iter().any(under);
    Some(if reads {
        Scope::Read
    } else if decides {
        Scope::Decide
    } else {
        Scope::Admin
    })
}

/// The rules of one listener.
#[derive(Debug)]
pub struct Access {
    /// SHA-256 of the one token that may do everything.
    token: [u8; 32],
    loopback: bool,
    known: ArcSwap<Known>,
    failures: Mutex<HashMap<Option<Address>, Failures, ahash::RandomState>>,
}

/// Whom the operator wrote down.
#[derive(Debug, Default)]
struct Known {
    tokens: Vec<([u8; 32], Arc<str>, Scope)>,
    certificates: Vec<(Arc<str>, Scope)>,
    reads_are_free: bool,
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
    /// The names in the certificate that it showed.
    pub names: &'a [String],
}

impl Access {
    /// The rules of the listener at `listen`, where `token` may do everything, whether it was configured or made.
    #[must_use]
    pub fn new(listen: SocketAddr, token: &Secret, admin: &Admin) -> Self {
        let access = Self {
            token: hash(token.reveal().as_bytes()),
            loopback: listen.ip().is_loopback(),
            known: ArcSwap::default(),
            failures: Mutex::default(),
        };
        access.adopt(admin);
        access
    }

    /// Takes other tokens and certificates while it runs; the one token stays.
    pub fn adopt(&self, admin: &Admin) {
        let named = |name: &String| Arc::from(name.as_str());
        let configured = admin.token.is_some() || !admin.tokens.is_empty() || !admin.certificates.is_empty();
        self.known.store(Arc::new(Known {
            tokens: admin
                .tokens
                .iter()
                .map(|token| (token.sha256, named(&token.name), token.scope))
                .collect(),
            certificates: admin.certificates.iter().map(|one| (named(&one.name), one.scope)).collect(),
            reads_are_free: self.loopback && !configured,
        }));
    }

    /// Who the caller is, where it may do what it asks for.
    ///
    /// # Errors
    /// The problem to answer with.
    pub fn check(&self, caller: &Caller<'_>, now: Time) -> Result<Actor, Problem> {
        let writes = !matches!(*caller.method, Method::GET | Method::HEAD);
        if writes && caller.headers.contains_key(ORIGIN) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "a web page may not change anything",
                "use curl or the CLI",
            ));
        }
        let known = self.known.load();
        let (who, scope) = match (caller.headers.get(AUTHORIZATION), known.certificate(caller.names)) {
            (Some(given), _) => self.check_token(given.as_bytes(), caller.peer, now)?,
            (None, Some(certificate)) => certificate,
            (None, None) if writes || !known.reads_are_free => {
                return Err(Problem::unauthorized("this request needs a token"));
            }
            (None, None) => check_host(caller).map(|()| (NOBODY.into(), Scope::Read))?,
        };
        match needed(caller.uri.path(), caller.method) {
            Some(needed) if scope < needed => Err(Problem::out_of_scope(&who, needed)),
            _ => Ok(Actor { who, from: super::decisions::place(caller.peer), scope }),
        }
    }

    fn check_token(
        &self,
        given: &[u8],
        peer: Option<IpAddr>,
        now: Time,
    ) -> Result<(Arc<str>, Scope), Problem> {
        self.may_try(peer, now)?;
        bearer(given).and_then(|token| self.holder(token)).ok_or_else(|| {
            self.note_wrong(peer, now);
            Problem::unauthorized("the token is not the right one")
        })
    }

    /// Whose token it is. All are compared, so that the time tells nothing; nothing is never a token, whatever was
    /// configured.
    fn holder(&self, given: &[u8]) -> Option<(Arc<str>, Scope)> {
        let shown = hash(given);
        let is = |known: &[u8; 32]| bool::from(shown.ct_eq(known));
        let all = is(&self.token).then(|| (THE_TOKEN.into(), Scope::Admin));
        let mut holder = None;
        for (known, name, scope) in &self.known.load().tokens {
            if is(known) {
                holder = Some((Arc::clone(name), *scope));
            }
        }
        all.or(holder).filter(|_| !given.is_empty())
    }

    /// Whether somebody who guesses may try again.
    ///
    /// # Errors
    /// It has to wait first.
    pub fn may_try(&self, peer: Option<IpAddr>, now: Time) -> Result<(), Problem> {
        match self.must_wait(peer.map(Address::of), now) {
            Some(wait) => Err(Problem::too_many_tries(wait.as_secs() + 1)),
            None => Ok(()),
        }
    }

    /// Holds a wrong token or link against whoever sent it.
    pub fn note_wrong(&self, peer: Option<IpAddr>, now: Time) {
        self.note_failure(peer.map(Address::of), now);
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

impl Known {
    /// The strongest of the names that were written down.
    fn certificate(&self, names: &[String]) -> Option<(Arc<str>, Scope)> {
        let shown = |name: &str| names.iter().any(|shown| shown == name);
        let known = self.certificates.iter().filter(|(name, _)| shown(name));
        known.max_by_key(|(_, scope)| *scope).cloned()
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

impl Failures {
    /// Whether they still count. A clock that was set back forgives them.
    fn are_held(self, now: Time) -> bool {
        self.since <= now && now.since(self.since) < SPAN
    }
}

/// The token of an `Authorization` header; the scheme's case does not matter (RFC 9110, 11.1).
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
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
    use checkgate_config::settings::{CertificateName, Token};

    use super::*;

    const TOKEN: &str = "a token of some length";

    fn admin(listen: &str, token: Option<&str>) -> Admin {
        Admin {
            listen: listen.parse().unwrap(),
            token: token.map(|token| Secret::new(token.into())),
            tokens: Vec::new(),
            tls: None,
            certificates: Vec::new(),
        }
    }

    fn access(listen: &str, configured: bool) -> Access {
        let admin = admin(listen, configured.then_some(TOKEN));
        Access::new(admin.listen, &Secret::new(TOKEN.into()), &admin)
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
        let caller = Caller {
            method: &method,
            uri: &uri,
            headers: &map,
            peer: Some(peer.parse().unwrap()),
            names: &[],
        };
        access.check(&caller, now).map_or_else(|problem| problem.status().as_u16(), |_| 200)
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
        let admin = admin("0.0.0.0:1", Some(""));
        let access = Access::new(admin.listen, &Secret::new(String::new()), &admin);
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

    /// Who asks, and with which status.
    fn asks(access: &Access, token: Option<&str>, names: &[&str], method: Method) -> (String, u16) {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let uri = Uri::from_static("/v1/decisions");
        let caller = Caller { method: &method, uri: &uri, headers: &headers, peer: None, names: &names };
        match access.check(&caller, Time(0)) {
            Ok(actor) => (actor.who.to_string(), 200),
            Err(problem) => (String::new(), problem.status().as_u16()),
        }
    }

    #[test]
    fn tokens_and_certificates_are_known_by_name_and_keep_to_their_scope() {
        let mut admin = admin("0.0.0.0:1", None);
        let token = |name: &str, scope| Token {
            name: name.into(),
            sha256: hash(format!("the token of {name}").as_bytes()),
            scope,
        };
        admin.tokens = vec![token("watch", Scope::Read), token("soar", Scope::Decide)];
        admin.certificates = vec![CertificateName { name: "ops.example".into(), scope: Scope::Decide }];
        let access = Access::new(admin.listen, &Secret::new(TOKEN.into()), &admin);
        for (token, names, get, post) in [
            (Some("the token of watch"), &[][..], ("watch", 200), ("", 403)),
            (Some("the token of soar"), &[], ("soar", 200), ("soar", 200)),
            (Some("the token of nobody"), &["ops.example"], ("", 401), ("", 401)),
            (Some(TOKEN), &[], (THE_TOKEN, 200), (THE_TOKEN, 200)),
            (None, &["other", "ops.example"], ("ops.example", 200), ("ops.example", 200)),
            (None, &["other"], ("", 401), ("", 401)),
            (None, &[], ("", 401), ("", 401)),
        ] {
            for (method, (who, status)) in [(Method::GET, get), (Method::POST, post)] {
                assert_eq!(
                    asks(&access, token, names, method),
                    (who.to_owned(), status),
                    "{token:?} {names:?}"
                );
            }
        }
        admin.tokens.clear();
        access.adopt(&admin);
        assert_eq!(asks(&access, Some("the token of watch"), &[], Method::GET).1, 401, "it was taken back");
    }
}
