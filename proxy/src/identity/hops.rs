//! The hops that a chain of proxies wrote down, nearest first: what a trusted proxy adds stands on the right, and what a
//! client may have written on the left.

use std::net::IpAddr;

use checkgate_config::address;
use http::header::{FORWARDED, HeaderMap, HeaderName};

/// The header that most proxies write.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The hops of `X-Forwarded-For`; nothing in the place of one that is no address.
pub fn of_x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',')).map(address::hop)
}

/// The hops of `Forwarded` (RFC 7239, 4); nothing in the place of one that is no address, such as `unknown`.
pub fn of_forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all(FORWARDED).iter().rev();
    lines.flat_map(|line| FromRight::over(line.to_str().unwrap_or("?"), ',')).map(whom)
}

/// Whom an element is `for`. One that says it twice says nothing.
fn whom(element: &str) -> Option<IpAddr> {
    let mut found = FromRight::over(element, ';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let value = found.next().filter(|_| found.next().is_none())?;
    match value.strip_prefix('"') {
        Some(quoted) => address::hop(quoted.strip_suffix('"')?),
        None => address::hop(value),
    }
}

/// Pieces between separators that stand outside of quotes, from the right: a quote that a client left open on the left
/// does not reach what the proxy added.
struct FromRight<'a> {
    rest: Option<&'a str>,
    separator: char,
}

impl<'a> FromRight<'a> {
    fn over(text: &'a str, separator: char) -> Self {
        Self { rest: Some(text), separator }
    }
}

impl<'a> Iterator for FromRight<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.take()?;
        let mut quoted = false;
        let separates = |(_, letter): &(usize, char)| {
            quoted ^= *letter == '"';
            *letter == self.separator && !quoted
        };
        let Some((place, _)) = text.char_indices().rev().find(separates) else { return Some(text) };
        let (left, right) = text.split_at_checked(place)?;
        self.rest = Some(left);
        right.strip_prefix(self.separator)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn hops(lines: &[&str]) -> Vec<Option<String>> {
        let lines = lines.iter().map(|line| (FORWARDED, HeaderValue::try_from(*line).unwrap()));
        of_forwarded(&lines.collect()).map(|hop| hop.map(|ip| ip.to_string())).collect()
    }

    fn one(element: &str) -> Option<String> {
        let found = hops(&[element]);
        assert_eq!(found.len(), 1, "{element} is one hop");
        found.into_iter().next().flatten()
    }

    #[test]
    fn elements_are_read_as_the_standard_writes_them() {
        for (element, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", Some("192.0.2.60")),
            ("For=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17")),
            ("for=\"192.0.2.43:47011\"", Some("192.0.2.43")),
            (" proto=https ; FOR=\"[::ffff:192.0.2.43]\" ", Some("192.0.2.43")),
            ("by=\"a;for=192.0.2.66\";for=192.0.2.60", Some("192.0.2.60")),
            ("for=unknown", None),
            ("for=\"_gazonk\"", None),
            ("by=203.0.113.43", None),
            ("for=192.0.2.60;for=192.0.2.61", None),
            ("for=\"192.0.2.60", None),
            ("for=192.0.2.60\"", None),
            ("for=\"192.0.2.6\\0\"", None),
            ("for=010.0.0.1", None),
            ("192.0.2.60", None),
            ("", None),
        ] {
            assert_eq!(one(element).as_deref(), expected, "{element}");
        }
    }

    #[test]
    fn hops_come_from_the_right_over_all_lines() {
        let told = ["for=192.0.2.1, for=\"a, b\";by=c", "for=192.0.2.3"];
        let expected = [Some("192.0.2.3".to_owned()), None, Some("192.0.2.1".to_owned())];
        assert_eq!(hops(&told), expected);
    }

    proptest! {
        /// Whatever a client writes, open quotes included, the element that the proxy adds is read as it is.
        #[test]
        fn nothing_on_the_left_reaches_what_the_proxy_added(left in "[ -~]{0,80}") {
            prop_assume!(HeaderValue::try_from(&left).is_ok());
            let told = hops(&[&format!("{left}, for=\"[2001:db8::7]:1\";proto=https")]);
            prop_assert_eq!(told.first(), Some(&Some("2001:db8::7".to_owned())));
        }
    }
}
