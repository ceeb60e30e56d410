//! What is forwarded of a head, in either direction, rule by rule.
//!
//! | header | rule |
//! |---|---|
//! | hop-by-hop fields and what `Connection` names | removed (RFC 9110, 7.6.1) |
//! | `Expect` | removed: this proxy has answered it |
//! | `Host` | the authority that the request line or HTTP/2 names, where it names one (RFC 9112, 3.2.2) |
//! | `Cookie` | one line, since HTTP/2 may cut it (RFC 9113, 8.2.3) |
//! | `X-Forwarded-For`, `Forwarded` (RFC 7239) | the peer is added to what a trusted proxy says; what others say is dropped |
//! | `X-Forwarded-Proto` | kept from a trusted proxy, otherwise written |
//! | other fields that name a client, a host or a target (`Met::CLAIM`) | kept from a trusted proxy, otherwise removed |
//! | `checkgate-decision` | removed, whoever sends it; written where a decision tags the client |
//! | `Via` | this hop is added (RFC 9110, 7.6.3) |
//! | `traceparent`, `tracestate` | one well-formed `traceparent` passes with its state, anything else is removed; where the request is traced, a child takes the place of `traceparent` (W3C Trace Context) |

use checkgate_detectors::finding::DecisionId;
use http::header::{
    CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{Version, request};

use crate::identity::appended;
use crate::telemetry::context::Parent;
use crate::transport::Peer;

/// Fields that concern one connection only.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a head bears that rules are about: a set of bits. Those of [`HOP_BY_HOP`] come first, by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Met(u16);

impl Met {
    const CONNECTION: Self = Self(1);
    const HOP_BY_HOP: Self = Self(0xff);
    const TE: Self = Self(1 << 5);
    const EXPECT: Self = Self(1 << 8);
    const DECISION: Self = Self(1 << 9);
    /// A client could claim by it to be another, to ask another host or to ask for another target.
    const CLAIM: Self = Self(1 << 10);
    /// It names hops.
    const HOPS: Self = Self(1 << 11);
    const TRACE: Self = Self(1 << 12);
    /// `Connection` says more than whether the connection stays, which almost none does.
    const NOMINATES: Self = Self(1 << 13);

    /// Few heads bear a field that a rule is about, so the lines are walked once, and only what was met is looked up.
    fn of(headers: &HeaderMap) -> Self {
        Self(headers.iter().fold(0, |met, (name, value)| met | Self::on(name, value).0))
    }

    fn on(name: &HeaderName, value: &HeaderValue) -> Self {
        match Self::by(name) {
            Self::CONNECTION if !is_persistence(value.as_bytes()) => {
                Self(Self::CONNECTION.0 | Self::NOMINATES.0)
            }
            met => met,
        }
    }

    fn by(name: &HeaderName) -> Self {
        match name.as_str() {
            "connection" => Self::CONNECTION,
            "keep-alive" => Self(1 << 1),
            "proxy-connection" => Self(1 << 2),
            "proxy-authenticate" => Self(1 << 3),
            "proxy-authorization" => Self(1 << 4),
            "te" => Self::TE,
            "transfer-encoding" => Self(1 << 6),
            "upgrade" => Self(1 << 7),
            "expect" => Self::EXPECT,
            "checkgate-decision" => Self::DECISION,
            "forwarded" => Self(Self::CLAIM.0 | Self::HOPS.0),
            "x-forwarded-for" => Self::HOPS,
            "x-forwarded-proto"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "true-client-ip"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-server"
            | "x-forwarded-prefix"
            | "x-original-url"
            | "x-rewrite-url" => Self::CLAIM,
            "traceparent" | "tracestate" => Self::TRACE,
            _ => Self::default(),
        }
    }

    fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

/// Names the decision that tags a client, to the model server and to nobody else.
const DECISION: HeaderName = HeaderName::from_static("checkgate-decision");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The caller's trace and span (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What else travels with the trace.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What the upstream is told of the hop before this one.
pub struct Hop<'a> {
    /// The hop itself.
    pub peer: &'a Peer,
    /// Whether what it says of the hops before it is believed.
    pub trusted: bool,
    /// The whole chain as this proxy believes it.
    pub forwarded_for: HeaderValue,
    /// The decision that tags the client.
    pub tagged_by: Option<DecisionId>,
    /// The `traceparent` of a request that is traced: a child of the caller's.
    pub traceparent: Option<HeaderValue>,
}

/// Makes the client's head the one that goes to the upstream. Says whether the peer named hops before it, and is not
/// trusted.
pub fn forward(head: &mut request::Parts, hop: Hop<'_>) -> bool {
    let headers = &mut head.headers;
    let mut met = Met::of(headers);
    if remove_met(headers, met) {
        met = Met::of(headers);
    }
    if met.any(Met::EXPECT) {
        headers.remove(EXPECT);
    }
    if let Some(authority) = head.uri.authority().and_then(|name| HeaderValue::try_from(name.as_str()).ok()) {
        headers.insert(HOST, authority);
    }
    if head.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    if met.any(Met::DECISION) {
        headers.remove(DECISION);
    }
    if let Some(value) = hop.tagged_by.and_then(|id| HeaderValue::try_from(id.to_string()).ok()) {
        headers.insert(DECISION, value);
    }
    if met.any(Met::CLAIM) && !hop.trusted {
        remove_claims(headers);
    }
    if met.any(Met::TRACE) {
        keep_sound_trace(headers);
    }
    if let Some(traceparent) = &hop.traceparent {
        headers.insert(TRACEPARENT, traceparent.clone());
    }
    let untrusted = met.any(Met::HOPS) && !hop.trusted;
    tell_hops(headers, hop, met);
    tell_via(headers, head.version);
    untrusted
}

/// Removes what concerns one connection only, and what `Connection` names besides.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_met(headers, Met::of(headers));
}

/// The same, where it is known what the head bears; says whether `Connection` named anything.
fn remove_met(headers: &mut HeaderMap, met: Met) -> bool {
    if !met.any(Met::HOP_BY_HOP) {
        return false;
    }
    let takes_trailers = met.any(Met::TE) && takes_trailers(headers);
    let nominated = if met.any(Met::NOMINATES) { nominated(headers) } else { Vec::new() };
    for name in &nominated {
        headers.remove(name);
    }
    for (position, name) in HOP_BY_HOP.iter().enumerate() {
        if met.any(Met(1 << position)) {
            headers.remove(name);
        }
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    !nominated.is_empty()
}

/// Whether a line of `Connection` says how long the connection stays, and no more.
fn is_persistence(line: &[u8]) -> bool {
    line.eq_ignore_ascii_case(b"keep-alive") || line.eq_ignore_ascii_case(b"close")
}

/// What `Connection` names.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| *name == TE && value.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

fn remove_claims(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| Met::by(name).any(Met::CLAIM)).cloned() {
        headers.remove(name);
    }
}

fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

fn tell_hops(headers: &mut HeaderMap, hop: Hop<'_>, met: Met) {
    let proto = if hop.peer.tls { "https" } else { "http" };
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(proto));
    let element = &hop.peer.element;
    let chain = if met.any(Met::HOPS) { appended(headers, &FORWARDED, element) } else { element.clone() };
    headers.insert(FORWARDED, chain);
    headers.insert(X_FORWARDED_FOR, hop.forwarded_for);
}

fn tell_via(headers: &mut HeaderMap, version: Version) {
    let received = match version {
        Version::HTTP_2 => "2.0 checkgate",
        Version::HTTP_10 => "1.0 checkgate",
        _ => "1.1 checkgate",
    };
    headers.append(VIA, HeaderValue::from_static(received));
}

/// A trace that is malformed or doubled would be joined to the wrong one, or break the reader behind.
fn keep_sound_trace(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let sound =
        lines.next().is_some_and(|line| Parent::read(line.as_bytes()).is_some()) && lines.next().is_none();
    if !sound {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn peer(ip: &str, tls: bool) -> Peer {
        let ip = ip.parse().unwrap();
        if tls { Peer::over_tls(ip, None) } else { Peer::plain(ip) }
    }

    /// The head that leaves, as sorted lines.
    fn forwarded_head(peer: &Peer, trusted: bool, uri: &str, lines: &[(&str, &str)]) -> Vec<String> {
        tagged_head(peer, trusted, None, uri, lines)
    }

    fn tagged_head(
        peer: &Peer,
        trusted: bool,
        tagged_by: Option<DecisionId>,
        uri: &str,
        lines: &[(&str, &str)],
    ) -> Vec<String> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let forwarded_for = HeaderValue::from_static("chain");
        forward(&mut head, Hop { peer, trusted, forwarded_for, tagged_by, traceparent: None });
        let mut left: Vec<_> =
            head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn what_concerns_one_connection_stays_on_it() {
        let lines = [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("x-kept", "1"),
        ];
        let mut headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-kept"]);
    }

    #[test]
    fn every_field_of_one_connection_has_its_bit() {
        for (position, name) in HOP_BY_HOP.iter().enumerate() {
            assert_eq!(Met::by(name), Met(1 << position), "{name}");
        }
        assert!(!Met::HOP_BY_HOP.any(Met::EXPECT), "the other bits come after them");
    }

    #[test]
    fn an_untrusted_peer_can_claim_nothing() {
        let claims = [
            ("host", "model"),
            ("forwarded", "for=192.0.2.1;host=admin"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "192.0.2.1"),
            ("x-original-url", "/admin"),
            ("x-api-key", "k"),
        ];
        let left = forwarded_head(&peer("203.0.113.9", false), false, "/infer", &claims);
        let expected = [
            "forwarded: for=203.0.113.9;proto=http",
            "host: model",
            "via: 1.1 checkgate",
            "x-api-key: k",
            "x-forwarded-for: chain",
            "x-forwarded-proto: http",
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn what_a_trusted_proxy_says_is_carried_on() {
        let said = [
            ("host", "model"),
            ("forwarded", "for=192.0.2.1"),
            ("via", "1.1 balancer"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "192.0.2.1"),
        ];
        let left = forwarded_head(&peer("::ffff:10.0.0.1", false), true, "/infer", &said);
        let expected = [
            "forwarded: for=192.0.2.1, for=10.0.0.1;proto=http",
            "host: model",
            "via: 1.1 balancer",
            "via: 1.1 checkgate",
            "x-forwarded-for: chain",
            "x-forwarded-proto: https",
            "x-real-ip: 192.0.2.1",
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn a_decision_is_named_by_this_proxy_alone() {
        let forged = [("checkgate-decision", "d-0000000000000001"), ("connection", "checkgate-decision")];
        for trusted in [false, true] {
            let named = |tagged_by| {
                let left = tagged_head(&peer("10.0.0.1", false), trusted, tagged_by, "/infer", &forged);
                let lines: Vec<_> = left.into_iter().filter(|line| line.contains("decision")).collect();
                lines
            };
            assert_eq!(named(None), Vec::<String>::new(), "a client named a decision");
            assert_eq!(named(Some(DecisionId(7))), ["checkgate-decision: d-0000000000000007"]);
        }
    }

    #[test]
    fn the_authority_of_the_request_is_the_host() {
        let left = forwarded_head(&peer("2001:db8::7", true), false, "https://model:9/infer", &[]);
        assert!(left.contains(&"host: model:9".to_owned()), "{left:?}");
        assert!(left.contains(&"forwarded: for=\"[2001:db8::7]\";proto=https".to_owned()), "{left:?}");
    }

    #[test]
    fn cookies_that_http2_cut_become_one_line() {
        let request =
            Request::builder().version(Version::HTTP_2).header("cookie", "a=1").header("cookie", "b=2");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let peer = peer("203.0.113.9", true);
        let forwarded_for = peer.name.clone();
        let hop = Hop { peer: &peer, trusted: false, forwarded_for, tagged_by: None, traceparent: None };
        forward(&mut head, hop);
        assert_eq!(head.headers[COOKIE], "a=1; b=2");
        assert_eq!(head.headers[VIA], "2.0 checkgate");
    }

    #[test]
    fn a_traced_request_names_the_child_and_keeps_the_state() {
        let child = TRACE.replace("00f067aa0ba902b7", "1111111111111111");
        for lines in [&[("traceparent", TRACE), ("tracestate", "a=1")][..], &[]] {
            let mut request = Request::builder().uri("/infer");
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            let (peer, forwarded_for) = (peer("203.0.113.9", false), HeaderValue::from_static("chain"));
            let traceparent = Some(HeaderValue::from_str(&child).unwrap());
            forward(
                &mut head,
                Hop { peer: &peer, trusted: false, forwarded_for, tagged_by: None, traceparent },
            );
            let all: Vec<_> = head.headers.get_all("traceparent").iter().collect();
            assert_eq!(all, [child.as_str()], "{lines:?}");
            assert_eq!(head.headers.get("tracestate").is_some(), !lines.is_empty(), "{lines:?}");
        }
    }

    #[test]
    fn only_a_sound_trace_passes() {
        let passes = |lines: &[(&str, &str)]| {
            let left = forwarded_head(&peer("203.0.113.9", false), false, "/infer", lines);
            left.iter().any(|line| line.starts_with("trace"))
        };
        assert!(passes(&[("traceparent", TRACE), ("tracestate", "a=1")]));
        assert!(passes(&[("traceparent", &TRACE.replacen("00-", "cc-", 1)), ("tracestate", "a=1")]));
        assert!(passes(&[("traceparent", &format!("{}-more", TRACE.replacen("00-", "cc-", 1)))]));
        for unsound in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert!(!passes(&[("traceparent", unsound), ("tracestate", "a=1")]), "{unsound}");
        }
        assert!(!passes(&[("traceparent", TRACE), ("traceparent", TRACE)]), "two parents are none");
        assert!(!passes(&[("tracestate", "a=1")]), "a state without its parent means nothing");
    }
}
