//! Where checkgate listens, and who may ask it.

use std::net::SocketAddr;

use super::Check;
use crate::files;
use crate::path::Path;
use crate::raw::RawAdmin;
use crate::settings::{Admin, Secret};

/// Letters of the admin token, least and most.
const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

impl Check<'_> {
    pub(super) fn address(&mut self, path: &Path, typed: &str) -> Option<SocketAddr> {
        let address = typed.parse().ok();
        if address.is_none() {
            self.refuse(
                path,
                format!(
                    "\"{typed}\" is no IP address with a port; write for example 127.0.0.1:8765 or [::1]:8765"
                ),
            );
        }
        address
    }

    pub(super) fn admin(&mut self, raw: &RawAdmin) -> Option<Admin> {
        let path = Path::dotted("admin.listen");
        let token_given = raw.token.is_some() || raw.token_file.is_some();
        let token = self.token(raw);
        let listen = self.address(&path, raw.listen.as_deref()?)?;
        if !listen.ip().is_loopback() && !token_given {
            self.refuse(
                &path,
                "other machines reach this address, so it needs a token; add admin.token or admin.token_file, or listen on 127.0.0.1",
            );
        }
        Some(Admin { listen, token })
    }

    fn token(&mut self, raw: &RawAdmin) -> Option<Secret> {
        let (path, file_path) = (Path::dotted("admin.token"), Path::dotted("admin.token_file"));
        match (&raw.token, &raw.token_file) {
            (Some(_), Some(_)) => {
                self.refuse_key(&file_path, "give either token or token_file, not both");
                None
            }
            (Some(typed), None) => {
                self.expand(&path, &typed.0).and_then(|token| self.sound_token(&path, token))
            }
            (None, Some(file)) => {
                let file = self.resolve(&file_path, file);
                let text = self.or_refuse(&file_path, files::text(&file))?;
                self.sound_token(&file_path, text.trim().to_owned())
            }
            (None, None) => None,
        }
    }

    fn expand(&mut self, path: &Path, typed: &str) -> Option<String> {
        self.or_refuse(path, expand(typed, self.environment))
    }

    fn sound_token(&mut self, path: &Path, token: String) -> Option<Secret> {
        let sound = TOKEN_LENGTH.contains(&token.len()) && token.chars().all(|c| c.is_ascii_graphic());
        if !sound {
            self.refuse(path, "a token is 16 to 256 visible ASCII characters without spaces; `openssl rand -hex 32` makes one");
            return None;
        }
        Some(Secret::new(token))
    }

    pub(super) fn distinct_listeners(&mut self, listen: Option<SocketAddr>, admin: Option<&Admin>) {
        if let (Some(listen), Some(admin)) = (listen, admin)
            && overlap(listen, admin.listen)
        {
            self.refuse(
                &Path::dotted("admin.listen"),
                format!("the same port as listen ({listen}); the operators' listener needs one of its own"),
            );
        }
    }
}

/// Whether two listeners cannot both be opened; port 0 is always a free one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_port = one.port() == other.port() && one.port() != 0;
    same_port && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Replaces each `${NAME}` by the environment variable NAME.
fn expand(typed: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = typed;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').ok_or("\"${\" has no closing \"}\"")?;
        let value = environment(name).ok_or_else(|| {
            format!("the environment variable {name} is not set; export it before the start")
        })?;
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}
