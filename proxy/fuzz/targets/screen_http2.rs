//! Any head of an HTTP/2 request: one that is accepted is clean HTTP/1.1 once it is written down.
//!
//! An input has a line for each field: method, target, authority, then `name=value`.

#![no_main]

use checkgate::screen::http1::{Bounds, Http1};
use checkgate::screen::http2;
use http::request::Parts;
use http::uri::{self, Scheme};
use http::{HeaderName, HeaderValue, Request, Uri};
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds = Bounds { head_bytes: 64 * 1024, header_lines: 4_096 };

fuzz_target!(|bytes: &[u8]| {
    let Some(head) = head(bytes) else { return };
    if http2::check(&head).is_ok() {
        let written = written(&head);
        let result = Http1::new(BOUNDS).read(&written);
        assert_eq!(result, Ok(()), "written down: {}", written.escape_ascii());
    }
});

/// The head, where the types of `http` have a place for all of it.
fn head(bytes: &[u8]) -> Option<Parts> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let method = lines.next()?.try_into().ok()?;
    let uri = uri(lines.next()?, lines.next()?)?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for line in lines {
        let equals = line.iter().position(|&byte| byte == b'=')?;
        let name = HeaderName::from_lowercase(&line[..equals]).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(&line[equals + 1..]).ok()?);
    }
    Some(request.into_parts().0)
}

fn uri(target: &[u8], authority: &[u8]) -> Option<Uri> {
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(target.try_into().ok()?);
    if !authority.is_empty() {
        parts.authority = Some(authority.try_into().ok()?);
        parts.scheme = Some(Scheme::HTTPS);
    }
    parts.try_into().ok()
}

fn written(head: &Parts) -> Vec<u8> {
    let mut written =
        format!("{} {} HTTP/1.1\r\n", head.method, head.uri.path_and_query().expect("a target"));
    if let Some(authority) = head.uri.authority().filter(|_| !head.headers.contains_key("host")) {
        written += &format!("Host: {authority}\r\n");
    }
    let mut written = written.into_bytes();
    for (name, value) in &head.headers {
        written.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    written.extend(b"\r\n");
    written
}
