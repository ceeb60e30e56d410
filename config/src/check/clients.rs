//! Who counts as a client, who is believed and who is spared.

use ipnet::IpNet;

use super::{Check, TEXT_MAX};
use crate::address;
use crate::path::Path;
use crate::raw::{RawClients, RawIdentity};
use crate::settings::{ClientIdentity, Clients};

impl Check<'_> {
    pub(super) fn clients(&mut self, raw: &RawClients) -> Option<Clients> {
        let identity = self.identity(raw.identity.as_ref());
        let trusted_proxies = self.networks("clients.trusted_proxies", raw.trusted_proxies.as_deref());
        let never_block = self.networks("clients.never_block", raw.never_block.as_deref());
        let shared_addresses = self.networks("clients.shared_addresses", raw.shared_addresses.as_deref());
        if let Some(index) = trusted_proxies.iter().position(|network| network.prefix_len() == 0) {
            self.refuse(
                &Path::dotted("clients.trusted_proxies").index(index),
                "this would let every client choose its own address; name the load balancers only",
            );
        }
        Some(Clients {
            identity: identity?,
            trusted_proxies,
            hops: raw.hops?,
            never_block,
            shared_addresses,
            new_keys_per_address: raw.new_keys_per_address?,
            remembered: raw.remembered?,
        })
    }

    fn identity(&mut self, typed: Option<&RawIdentity>) -> Option<ClientIdentity> {
        let path = Path::dotted("clients.identity");
        match typed {
            None => Some(ClientIdentity::Assumed),
            Some(RawIdentity::Header(raw)) => {
                self.header(&path.key("header"), &raw.header, raw.verified_by_upstream)
            }
            Some(RawIdentity::Token(raw)) => self.token_identity(&path.key("token"), &raw.token),
            Some(RawIdentity::Word(word)) if word == "ip" => Some(ClientIdentity::Address),
            Some(RawIdentity::Word(word)) if word == "certificate" => self.certificate_identity(&path),
            Some(RawIdentity::Word(word)) => match word.strip_prefix("header:") {
                Some(name) => self.header(&path, name.trim(), false),
                None => {
                    self.refuse(
                        &path,
                        format!("unknown identity \"{word}\"; write ip, certificate, header:NAME or {{token: {{jwks: FILE}}}}"),
                    );
                    None
                }
            },
        }
    }

    fn certificate_identity(&mut self, path: &Path) -> Option<ClientIdentity> {
        if !self.was_typed(&Path::dotted("tls.client_ca")) {
            self.refuse(
                path,
                "clients show a certificate only where they are asked for one; add tls.client_ca, the authorities that issue them",
            );
        }
        Some(ClientIdentity::Certificate)
    }

    fn header(&mut self, path: &Path, name: &str, verified_by_upstream: bool) -> Option<ClientIdentity> {
        let name = self.header_name(path, name)?;
        Some(ClientIdentity::Header { name, verified_by_upstream })
    }

    /// The name of a header that says who a client is, in lower case.
    pub(super) fn header_name(&mut self, path: &Path, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        if !is_header_name(&name) {
            self.refuse(path, format!("\"{name}\" is no header name; write for example X-API-Key"));
            return None;
        }
        if ["forwarded", "x-forwarded-for", "x-real-ip"].contains(&name.as_str()) {
            self.refuse(
                path,
                format!(
                    "any client can write {name}; name your load balancers under trusted_proxies instead"
                ),
            );
            return None;
        }
        Some(name)
    }

    fn networks(&mut self, list: &str, typed: Option<&[String]>) -> Vec<IpNet> {
        let path = Path::dotted(list);
        let mut networks = Vec::new();
        for (index, text) in typed.unwrap_or_default().iter().enumerate() {
            match address::network(text) {
                Some(network) => networks.push(network),
                None => self.refuse(
                    &path.index(index),
                    format!("\"{text}\" is no address or network; write for example 10.0.0.0/8 or 192.0.2.7"),
                ),
            }
        }
        networks
    }
}

/// A token of RFC 9110, section 5.6.2.
fn is_header_name(name: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.len() <= TEXT_MAX && name.chars().all(token)
}
