//! The rules of HTTP/1.1 for a request that came by HTTP/2, before it becomes HTTP/1.1.
//!
//! What the types of [`http`] rule out is not looked at again: names are in lower case, and values hold no control byte
//! but the tab. Names may hold a `"` there, which is no byte of a token.

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::request::Parts;
use http::{Method, Uri};

use super::Refused;
use super::rules::{self, Field};

/// Looks at the head of a request as hyper's HTTP/2 server gives it.
///
/// # Errors
/// It breaks a rule; the client gets 400 on its stream.
pub fn check(head: &Parts) -> Result<(), Refused> {
    rules::method(head.method.as_str().as_bytes())?;
    check_target(&head.uri, &head.method)?;
    check_host(&head.uri, &head.headers)?;
    check_doubled(&head.headers)?;
    head.headers.iter().try_for_each(|(name, value)| check_field(name, value))
}

/// Looks at the trailers of a request that came by HTTP/2.
///
/// # Errors
/// One of them must not stand in trailers.
pub fn check_trailers(trailers: &HeaderMap) -> Result<(), Refused> {
    trailers.keys().map(|name| name.as_str().as_bytes()).try_for_each(|name| {
        rules::field_name(name)?;
        rules::trailer(name)
    })
}

fn check_target(uri: &Uri, method: &Method) -> Result<(), Refused> {
    let scheme_served = uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    let target = uri.path_and_query().ok_or(Refused::Target)?.as_str().as_bytes();
    let form_served = matches!(target.first(), Some(b'/' | b'*'));
    if scheme_served && form_served {
        rules::target(target, method == Method::OPTIONS).map(|_| ())
    } else {
        Err(Refused::Target)
    }
}

/// Whether there is one host, in `:authority` or `Host` or, the same, in both.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let mut lines = headers.get_all(HOST).iter();
    let line = lines.next().map(HeaderValue::as_bytes);
    if lines.next().is_some() {
        return Err(Refused::HostDoubled);
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, line) {
        (None, None) => Err(Refused::HostMissing),
        (Some(one), None) | (None, Some(one)) => rules::host(one),
        (Some(one), Some(other)) if one.eq_ignore_ascii_case(other) => rules::host(one),
        (Some(_), Some(_)) => Err(Refused::HostMismatch),
    }
}

fn check_doubled(headers: &HeaderMap) -> Result<(), Refused> {
    let doubled = |name: HeaderName| headers.get_all(name).iter().nth(1).is_some();
    if doubled(http::header::CONTENT_LENGTH) {
        return Err(Refused::ContentLengthDoubled);
    }
    if doubled(http::header::EXPECT) {
        return Err(Refused::Expect);
    }
    Ok(())
}

fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), Refused> {
    rules::field_name(name.as_str().as_bytes())?;
    match Field::of(name.as_str().as_bytes()) {
        Field::ContentLength => rules::content_length(value.as_bytes()).map(|_| ()),
        Field::Expect => rules::expect(value.as_bytes()),
        Field::TransferEncoding => Err(Refused::TransferEncodingUnexpected),
        Field::Upgrade => Err(Refused::Upgrade),
        Field::Connection => Err(Refused::ConnectionSpecific),
        Field::Collides => Err(Refused::FieldNameCollides),
        Field::Host => Ok(()),
        Field::Other => check_unwatched(name, value),
    }
}

fn check_unwatched(name: &HeaderName, value: &HeaderValue) -> Result<(), Refused> {
    let refused = match name.as_str() {
        "keep-alive" | "proxy-connection" => true,
        _ if name == TE => !value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        _ => false,
    };
    if refused { Err(Refused::ConnectionSpecific) } else { Ok(()) }
}
