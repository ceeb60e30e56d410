//! The rules for the parts of a request's head, whichever protocol it came by.
//!
//! Where RFC 9110 and RFC 9112 leave a choice, the narrower one is taken if no client in use needs the wider:
//!
//! - methods are words of upper-case letters and hyphens; CONNECT, TRACE, TRACK and PRI are not served;
//! - paths hold what RFC 3986 allows and the `[`, `]` and `|` that browsers leave as they are, with whole percent
//!   escapes, without an escaped NUL and without dot segments: what a server makes of those is not what the proxy
//!   routes by, and every client removes them itself; queries hold what the URL standard leaves as it is;
//! - values may hold bytes from 0x80 on: RFC 9110 (5.5) calls them opaque, clients write names and titles with them,
//!   and no field of framing or routing has them in its grammar;
//! - a length is a decimal number without leading zeros and of at most 18 digits.

use std::ops::RangeInclusive;

use super::Refused;
use crate::eight::{self, EIGHT};

/// Longest method, in bytes.
pub const METHOD_BYTES_MAX: usize = 20;
/// Longest target, in bytes.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Longest host, without its port, in bytes (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 255;
/// Most digits of a length: no number of so many overflows.
const LENGTH_DIGITS_MAX: usize = 18;

/// A set of bytes; sets are joined with `|`.
pub type Class = u8;
/// Bytes of a token (RFC 9110, 5.6.2).
pub const TOKEN: Class = 1;
/// Bytes of a field's value, the spaces around it included.
pub const VALUE: Class = 1 << 1;
/// Bytes of a method.
pub const METHOD: Class = 1 << 2;
/// Bytes of a target in any form: visible ASCII.
pub const VISIBLE: Class = 1 << 3;
/// Bytes of a path, `%` included.
const PATH: Class = 1 << 4;
/// Bytes of a query.
const QUERY: Class = 1 << 5;
/// Bytes of a host's name or IPv4 address.
const HOST: Class = 1 << 6;
/// Bytes of a path that mean nothing but themselves: without `%` and the dot.
const PLAIN: Class = 1 << 7;

/// The sets that each byte is in.
static CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [0; 256];
    let mut byte: u8 = 0;
    loop {
        classes[byte as usize] = classes_of(byte);
        if byte == u8::MAX {
            return classes;
        }
        byte += 1;
    }
}

const fn classes_of(byte: u8) -> Class {
    let alphanumeric = byte.is_ascii_alphanumeric();
    let visible = byte.is_ascii_graphic();
    let token = alphanumeric
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~');
    let path =
        visible && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'}');
    let query = visible && !matches!(byte, b'"' | b'#' | b'<' | b'>');
    when(token, TOKEN)
        | when(visible || byte >= 0x80 || matches!(byte, b' ' | b'\t'), VALUE)
        | when(byte.is_ascii_uppercase() || byte == b'-', METHOD)
        | when(visible, VISIBLE)
        | when(path, PATH)
        | when(path && !matches!(byte, b'%' | b'.'), PLAIN)
        | when(query, QUERY)
        | when(alphanumeric || matches!(byte, b'-' | b'.' | b'_'), HOST)
}

const fn when(member: bool, class: Class) -> Class {
    if member { class } else { 0 }
}

fn of(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

fn is(byte: u8, class: Class) -> bool {
    of(byte) & class != 0
}

/// How many bytes from the first on are in the set.
#[inline]
pub fn run(bytes: &[u8], class: Class) -> usize {
    // Of eight bytes each has a place that the compiler knows, so that looking at one takes no test for the end.
    let (eights, rest) = bytes.as_chunks::<EIGHT>();
    let mut length = 0;
    for eight in eights {
        match eight.iter().position(|&byte| !is(byte, class)) {
            Some(odd) => return length + odd,
            None => length += EIGHT,
        }
    }
    length + rest.iter().position(|&byte| !is(byte, class)).unwrap_or(rest.len())
}

/// The same for [`VALUE`], eight bytes at a time.
#[inline]
pub fn value_run(bytes: &[u8]) -> usize {
    let length =
        long_run(bytes, |eight| eight::below(eight, b' ') | eight::below(eight ^ eight::all(0x7f), 1));
    match bytes.get(length) {
        // The one control byte that may stand in a value.
        Some(b'\t') => length + run(bytes.get(length..).unwrap_or_default(), VALUE),
        _ => length,
    }
}

/// The same for [`VISIBLE`], eight bytes at a time.
#[inline]
pub fn visible_run(bytes: &[u8]) -> usize {
    long_run(bytes, |eight| eight::below(eight, b'!') | eight::above(eight, b'~'))
}

/// How many bytes stand before the first one that `odd` flags.
#[inline(always)]
fn long_run(bytes: &[u8], odd: impl Fn(u64) -> u64) -> usize {
    let mut rest = bytes;
    while let Some((eight, after)) = rest.split_first_chunk() {
        let flags = odd(u64::from_le_bytes(*eight));
        if flags != 0 {
            return bytes.len() - rest.len() + eight::first(flags);
        }
        rest = after;
    }
    // Looked at again are only bytes that were not flagged.
    if let Some(last) = bytes.last_chunk() {
        return bytes.len() - EIGHT + eight::first(odd(u64::from_le_bytes(*last)));
    }
    rest.iter().position(|&byte| odd(eight::all(byte)) != 0).unwrap_or(rest.len())
}

fn all(bytes: &[u8], class: Class) -> bool {
    run(bytes, class) == bytes.len()
}

/// Whether `name` is a token.
pub fn field_name(name: &[u8]) -> Result<(), Refused> {
    if !name.is_empty() && all(name, TOKEN) { Ok(()) } else { Err(Refused::FieldName) }
}

/// What a field of a request means for its framing and routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its host.
    Host,
    /// Its length.
    ContentLength,
    /// Its transfer coding.
    TransferEncoding,
    /// What concerns this connection only.
    Connection,
    /// Another protocol, wished for by `Upgrade` or `HTTP2-Settings`.
    Upgrade,
    /// What the client waits for.
    Expect,
    /// Nothing, but some servers take it for a field that does.
    Collides,
    /// Nothing.
    Other,
}

impl Field {
    /// What the field of that name means; names have no case.
    pub fn of(name: &[u8]) -> Self {
        match name.len() {
            4 if is_named(name, b"host") => Self::Host,
            6 if is_named(name, b"expect") => Self::Expect,
            7 if is_named(name, b"upgrade") => Self::Upgrade,
            10 if is_named(name, b"connection") => Self::Connection,
            14 if is_named(name, b"http2-settings") => Self::Upgrade,
            14 if is_named(name, b"content-length") => Self::ContentLength,
            17 if is_named(name, b"transfer-encoding") => Self::TransferEncoding,
            _ if collides(name) => Self::Collides,
            _ => Self::Other,
        }
    }
}

/// Whether `name`, which holds no control byte, is `known` in whatever case.
#[inline]
fn is_named(name: &[u8], known: &[u8]) -> bool {
    // The bit that tells upper from lower case is set in hyphens and digits already.
    name.len() == known.len() && name.iter().zip(known).all(|(byte, known)| byte | 0x20 == *known)
}

/// What the header line means that `bytes` begin with, its value, and how many bytes it takes; `None` where it is not
/// whole, not clean, or must not stand in a request.
#[inline]
pub fn whole_line(bytes: &[u8]) -> Option<(Field, &[u8], usize)> {
    let (name, after) = bytes.split_at_checked(run(bytes, TOKEN))?;
    let [b':', after @ ..] = after else { return None };
    let field = Field::of(name);
    if name.is_empty() || matches!(field, Field::Upgrade | Field::Collides) {
        return None;
    }
    let (value, after) = after.split_at_checked(value_run(after))?;
    let [b'\r', b'\n', after @ ..] = after else { return None };
    Some((field, value, bytes.len() - after.len()))
}

/// Names with a hyphen that an application behind CGI or WSGI cannot tell from the same with an underscore, and that
/// the proxy or the server decides by.
const HYPHENATED: [&str; 12] = [
    "content-encoding",
    "content-length",
    "content-type",
    "http2-settings",
    "proxy-authorization",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// How long they are, in bytes.
const HYPHENATED_BYTES: RangeInclusive<usize> = 9..=19;

/// Whether `name` has an underscore in place of a hyphen of one of them. Length and first letter tell of most names that
/// they have not.
#[inline]
fn collides(name: &[u8]) -> bool {
    let may = HYPHENATED_BYTES.contains(&name.len())
        && matches!(name.first(), Some(b'c' | b'C' | b'h' | b'H' | b'p' | b'P' | b't' | b'T' | b'x' | b'X'));
    may && is_hyphenated(name)
}

/// Whether `name` has an underscore and, with hyphens in their places, is one of them.
#[inline(never)]
fn is_hyphenated(name: &[u8]) -> bool {
    if long_run(name, |eight| eight::below(eight ^ eight::all(b'_'), 1)) == name.len() {
        return false;
    }
    let hyphen = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    HYPHENATED.iter().any(|known| known.bytes().eq(name.iter().copied().map(hyphen)))
}

/// Fields that a request needs or that the proxy writes: `Connection` may not have them removed, and no trailer may
/// bring them.
const ESSENTIAL: [&str; 17] = [
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "traceparent",
    "transfer-encoding",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// Fields that mean nothing, or something else, once the body has been read (RFC 9110, 6.5.1).
const BEFORE_THE_BODY: [&str; 18] = [
    "accept-encoding",
    "cache-control",
    "connection",
    "content-range",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "upgrade",
];

fn listed(name: &[u8], list: &[&str]) -> bool {
    list.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether a field of that name may stand in trailers.
pub fn trailer(name: &[u8]) -> Result<(), Refused> {
    let refused = listed(name, &ESSENTIAL) || listed(name, &BEFORE_THE_BODY) || collides(name);
    if refused { Err(Refused::TrailerField) } else { Ok(()) }
}

/// Whether the method is served.
pub fn method(method: &[u8]) -> Result<(), Refused> {
    // What nearly every request has.
    if matches!(method, b"GET" | b"POST") {
        return Ok(());
    }
    let word = !method.is_empty() && method.len() <= METHOD_BYTES_MAX && all(method, METHOD);
    let served = !matches!(method, b"CONNECT" | b"TRACE" | b"TRACK" | b"PRI");
    if word && served && method.first() != Some(&b'-') { Ok(()) } else { Err(Refused::Method) }
}

/// Whether the target is in one of the forms that are served, and the authority that an absolute one names.
pub fn target(target: &[u8], options: bool) -> Result<Option<&[u8]>, Refused> {
    if target.first() == Some(&b'/') {
        return path_and_query(target).map(|()| None);
    }
    if target == b"*" {
        return if options { Ok(None) } else { Err(Refused::Target) };
    }
    let rest = without_scheme(target).ok_or(Refused::Target)?;
    let slash = rest.iter().position(|&byte| byte == b'/').ok_or(Refused::Target)?;
    let (authority, path) = rest.split_at(slash);
    host(authority)?;
    path_and_query(path)?;
    Ok(Some(authority))
}

/// What follows `http://` or `https://`, in any case.
fn without_scheme(target: &[u8]) -> Option<&[u8]> {
    [b"http://".as_slice(), b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Whether a path that begins with a slash, and the query behind it, are clean.
fn path_and_query(bytes: &[u8]) -> Result<(), Refused> {
    if bytes.len() > TARGET_BYTES_MAX {
        return Err(Refused::TargetTooLong);
    }
    let plain = run(bytes, PLAIN);
    let (path, query) = match bytes.get(plain) {
        Some(b'%' | b'.') => bytes.split_at(run(bytes, PATH)),
        _ => bytes.split_at(plain),
    };
    let query_clean = query.is_empty() || (query.first() == Some(&b'?') && all(query, QUERY));
    let path_clean = path.len() == plain || (escapes_are_whole(path) && !has_dot_segment(path));
    if path.first() == Some(&b'/') && path_clean && query_clean { Ok(()) } else { Err(Refused::Target) }
}

/// Whether every `%` has two hexadecimal digits, and none stands for NUL.
fn escapes_are_whole(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'%').skip(1).all(|after| match after {
        [high, low, ..] => {
            high.is_ascii_hexdigit() && low.is_ascii_hexdigit() && (*high, *low) != (b'0', b'0')
        }
        _ => false,
    })
}

/// Whether a segment is `.` or `..`, escaped or not.
fn has_dot_segment(path: &[u8]) -> bool {
    let mut segments = path.split(|&byte| byte == b'/');
    segments.any(|segment| {
        let first = without_dot(segment);
        let second = first.and_then(without_dot);
        first.is_some_and(<[u8]>::is_empty) || second.is_some_and(<[u8]>::is_empty)
    })
}

/// What follows a dot, escaped or not.
fn without_dot(segment: &[u8]) -> Option<&[u8]> {
    match segment {
        [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Whether `host` is a name, an IPv4 address or an IPv6 address in brackets, with a port or without.
pub fn host(host: &[u8]) -> Result<(), Refused> {
    let clean = match host.strip_prefix(b"[") {
        Some(rest) => address_in_brackets(rest),
        None => {
            let (name, port) = host.split_at(run(host, HOST));
            !name.is_empty() && name.len() <= HOST_BYTES_MAX && port_is_clean(port)
        }
    };
    if clean { Ok(()) } else { Err(Refused::HostMalformed) }
}

fn address_in_brackets(rest: &[u8]) -> bool {
    let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
    let (address, port) = rest.split_at(end);
    let address = std::str::from_utf8(address).ok().and_then(|text| text.parse::<std::net::Ipv6Addr>().ok());
    address.is_some() && port_is_clean(port.get(1..).unwrap_or_default())
}

/// Nothing, or a colon and a number from 1 to 65535.
fn port_is_clean(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] if digits.len() <= 5 => {
            number(digits).is_ok_and(|port| (1..=65_535).contains(&port))
        }
        _ => false,
    }
}

/// The length that `Content-Length` says.
pub fn content_length(value: &[u8]) -> Result<u64, Refused> {
    number(value).map_err(|()| Refused::ContentLength)
}

/// A decimal number without sign and leading zeros.
fn number(digits: &[u8]) -> Result<u64, ()> {
    let leading_zero = digits.len() > 1 && digits.first() == Some(&b'0');
    if digits.is_empty() || digits.len() > LENGTH_DIGITS_MAX || leading_zero {
        return Err(());
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + u64::from(digit - b'0')),
        _ => Err(()),
    })
}

/// Whether `Transfer-Encoding` says `chunked` and nothing else.
pub fn transfer_encoding(value: &[u8]) -> Result<(), Refused> {
    if value.eq_ignore_ascii_case(b"chunked") { Ok(()) } else { Err(Refused::TransferEncoding) }
}

/// Whether `Expect` says `100-continue` and nothing else.
pub fn expect(value: &[u8]) -> Result<(), Refused> {
    if value.eq_ignore_ascii_case(b"100-continue") { Ok(()) } else { Err(Refused::Expect) }
}

/// Whether `Connection` is a list of tokens, empty places allowed, that asks for no other protocol and nominates no
/// field that the request needs.
pub fn connection(value: &[u8]) -> Result<(), Refused> {
    // What nearly every client says.
    if is_named(value, b"keep-alive") || is_named(value, b"close") {
        return Ok(());
    }
    value.split(|&byte| byte == b',').map(trim).try_for_each(|option| {
        if option.eq_ignore_ascii_case(b"upgrade") || option.eq_ignore_ascii_case(b"http2-settings") {
            return Err(Refused::Upgrade);
        }
        if !all(option, TOKEN) || listed(option, &ESSENTIAL) || collides(option) {
            return Err(Refused::Connection);
        }
        Ok(())
    })
}

/// `value` without the spaces and tabs around it.
pub fn trim(value: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !space(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of which most are plain, and the odd ones stand near the borders of the sets.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            8 => b'a'..=b'z',
            1 => Just(b'\t'),
            1 => 0x1e..=0x22_u8,
            1 => 0x7d..=0x81_u8,
            1 => any::<u8>()
        ];
        prop::collection::vec(byte, 0..40)
    }

    /// Names that are watched or collide, changed here and there, and others.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let watched = ["host", "expect", "upgrade", "connection", "content-length", "transfer-encoding"];
        let known = prop::sample::select([&watched[..], &HYPHENATED[..]].concat());
        let change =
            (any::<prop::sample::Index>(), prop_oneof![Just(b'_'), Just(b'-'), b'A'..=b'Z', Just(b'!')]);
        let changed = (known, prop::collection::vec(change, 0..4), any::<bool>()).prop_map(
            |(known, changes, upper)| {
                let mut name = known.as_bytes().to_vec();
                changes.into_iter().for_each(|(at, byte)| *at.get_mut(&mut name) = byte);
                if upper { name.to_ascii_uppercase() } else { name }
            },
        );
        prop_oneof![3 => changed, 1 => "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}".prop_map(String::into_bytes)]
    }

    /// What a field means by its name in lower case, without regard to speed.
    fn plainly(name: &[u8]) -> Field {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        match name.as_str() {
            "host" => Field::Host,
            "content-length" => Field::ContentLength,
            "transfer-encoding" => Field::TransferEncoding,
            "connection" => Field::Connection,
            "upgrade" | "http2-settings" => Field::Upgrade,
            "expect" => Field::Expect,
            _ if name.contains('_') && HYPHENATED.contains(&name.replace('_', "-").as_str()) => {
                Field::Collides
            }
            _ => Field::Other,
        }
    }

    proptest! {
        #[test]
        fn runs_end_where_one_byte_after_the_other_ends(bytes in bytes()) {
            for (length, class) in [
                (value_run(&bytes), VALUE),
                (visible_run(&bytes), VISIBLE),
                (run(&bytes, VALUE), VALUE),
                (run(&bytes, TOKEN), TOKEN),
            ] {
                prop_assert_eq!(length, bytes.iter().take_while(|byte| is(**byte, class)).count(), "class {}", class);
            }
        }

        #[test]
        fn a_field_means_what_its_name_says_in_any_case(name in name()) {
            prop_assert_eq!(Field::of(&name), plainly(&name), "{}", name.escape_ascii());
        }
    }
}
