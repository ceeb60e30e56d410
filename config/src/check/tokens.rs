//! Tokens as identities: whose keys, and what a token must say.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path as FilePath;

use super::{Check, TEXT_MAX};
use crate::files;
use crate::key_set::KeySet;
use crate::path::Path;
use crate::raw::RawToken;
use crate::settings::{ClientIdentity, KeySource, KeyUrl, TokenIdentity};

const EXAMPLE: &str = "write a file, or for example https://login.example/keys";
const HTTPS: u16 = 443;
const HTTP: u16 = 80;

impl Check<'_> {
    pub(super) fn token_identity(&mut self, scope: &Path, raw: &RawToken) -> Option<ClientIdentity> {
        let keys = self.key_source(scope, raw);
        let header = self.header_name(&scope.key("header"), &raw.header);
        let issuer = self.said(&scope.key("issuer"), raw.issuer.as_deref());
        let audience = self.said(&scope.key("audience"), raw.audience.as_deref());
        let claim = self.said(&scope.key("claim"), Some(&raw.claim));
        Some(ClientIdentity::Token(Box::new(TokenIdentity {
            keys: keys?,
            issuer: issuer?,
            audience: audience?,
            claim: claim??,
            header: header?,
        })))
    }

    /// What a token must say; `Some(None)` where the operator does not mind.
    fn said(&mut self, path: &Path, typed: Option<&str>) -> Option<Option<String>> {
        let Some(typed) = typed else { return Some(None) };
        if typed.is_empty() || typed.len() > TEXT_MAX {
            self.refuse(path, format!("1 to {TEXT_MAX} letters are expected"));
            return None;
        }
        Some(Some(typed.to_owned()))
    }

    fn key_source(&mut self, scope: &Path, raw: &RawToken) -> Option<KeySource> {
        let path = scope.key("jwks");
        let ca_path = scope.key("ca");
        let Some(jwks) = raw.jwks.as_deref() else {
            self.refuse_key(
                scope,
                "tokens need the keys that they are signed with; add \"jwks: FILE\" or \"jwks: https://...\"",
            );
            return None;
        };
        if !jwks.contains("://") {
            if raw.ca.is_some() {
                self.refuse_key(&ca_path, "of no effect: the keys are in a file; remove ca");
            }
            let file = self.resolve(&path, FilePath::new(jwks));
            let set = files::text(&file).and_then(|text| {
                KeySet::parse(&text).map_err(|what| format!("{} cannot be used: {what}", file.display()))
            });
            return self.or_refuse(&path, set).map(KeySource::File);
        }
        let ca = self.authorities(&ca_path, raw.ca.as_deref());
        let url = self.or_refuse(&path, key_url(jwks))?;
        if !url.tls && raw.ca.is_some() {
            self.refuse_key(&ca_path, "of no effect: the URL does not begin with https://; remove ca");
        }
        Some(KeySource::Url(KeyUrl { ca: ca?, ..url }))
    }
}

fn key_url(typed: &str) -> Result<KeyUrl, String> {
    let wanted = |what: &str| format!("{what}; {EXAMPLE}");
    if !typed.starts_with("https://") && !typed.starts_with("http://") {
        return Err(wanted("keys come by https://, or from a file"));
    }
    let url = http_url(typed).map_err(wanted)?;
    if !url.tls && !is_loopback(&url.host) {
        return Err(wanted("keys that come over plain http:// could be anybody's; use https://"));
    }
    Ok(url)
}

/// A URL with `http://` or `https://`, without a user or a fragment.
pub(super) fn http_url(typed: &str) -> Result<KeyUrl, &'static str> {
    let (rest, tls) = match (typed.strip_prefix("https://"), typed.strip_prefix("http://")) {
        (Some(rest), _) => (rest, true),
        (_, Some(rest)) => (rest, false),
        _ => return Err("a URL begins with http:// or https://"),
    };
    let visible = |c: char| c.is_ascii_graphic() && c != '#';
    if typed.len() > 8 * TEXT_MAX || !rest.chars().all(visible) {
        return Err("this is no URL");
    }
    let place = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(place).unwrap_or((rest, ""));
    let usual = if tls { HTTPS } else { HTTP };
    let (host, port) = host_and_port(authority, usual).ok_or("the URL names no host and port")?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(KeyUrl { host: host.to_owned(), port, path, tls, ca: None })
}

/// Host and port of an authority, without brackets.
pub(super) fn host_and_port(authority: &str, usual: u16) -> Option<(&str, u16)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => {
            let (host, rest) = authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?;
            let sound = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            (!host.is_empty() && host.len() <= TEXT_MAX && host.chars().all(sound)).then_some((host, rest))?
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => rest.is_empty().then_some(usual)?,
    };
    Some((host, port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_whole_and_plain_ones_stay_on_the_machine() {
        for (typed, expected) in [
            ("https://login.example/keys?v=1", Some(("login.example", 443, "/keys?v=1", true))),
            ("https://login.example", Some(("login.example", 443, "/", true))),
            ("https://[2001:db8::1]:8443/k", Some(("2001:db8::1", 8443, "/k", true))),
            ("http://127.0.0.1:81/k", Some(("127.0.0.1", 81, "/k", false))),
            ("http://[::1]/k", Some(("::1", 80, "/k", false))),
            ("http://login.example/keys", None),
            ("ftp://login.example/keys", None),
            ("https://user@login.example/keys", None),
            ("https://login.example:0/", None),
            ("https://login.example/a b", None),
            ("https:///keys", None),
            ("https://[::1/keys", None),
        ] {
            let read = key_url(typed);
            let read = read.as_ref().map(|url| (url.host.as_str(), url.port, url.path.as_str(), url.tls));
            assert_eq!(read.ok(), expected, "{typed}");
        }
    }
}
