//! Where checkgate listens, and who may ask it.

use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};

use super::Check;
use crate::files;
use crate::path::Path;
use crate::raw::{RawAdmin, RawListen};
use crate::settings::{Listen, ProxyProtocol, Secret};

/// Letters of the admin token, least and most.
const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

/// Listeners for requests of one process.
const LISTENERS_MAX: usize = 64;

/// Bytes of a unix socket's path: what `sun_path` holds on Linux (unix(7)), without the NUL behind it.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Check<'_> {
    /// The listeners for requests, each distinct from those before it.
    pub(super) fn listen(&mut self, typed: &RawListen) -> Option<Vec<Listen>> {
        self.listen_at(&Path::dotted("listen"), typed)
    }

    /// The listeners that were typed at `path`, each distinct from those before it.
    pub(super) fn listen_at(&mut self, path: &Path, typed: &RawListen) -> Option<Vec<Listen>> {
        let several = match typed {
            RawListen::One(one) => return Some(vec![self.listener(path, one)?]),
            RawListen::Several(several) => several,
        };
        if several.is_empty() || several.len() > LISTENERS_MAX {
            self.refuse_key(
                path,
                format!("expected 1 to {LISTENERS_MAX} listeners; write for example 127.0.0.1:8765"),
            );
            return None;
        }
        let listeners: Vec<Option<Listen>> =
            several.iter().enumerate().map(|(index, one)| self.listener(&path.index(index), one)).collect();
        let listeners: Vec<Listen> = listeners.into_iter().collect::<Option<_>>()?;
        self.distinct_listeners(path, &listeners);
        Some(listeners)
    }

    fn listener(&mut self, path: &Path, typed: &str) -> Option<Listen> {
        match typed.strip_prefix("unix:") {
            Some(socket) => self.socket(path, socket).map(Listen::Unix),
            None => self.address(path, typed, "127.0.0.1:8765, [::1]:8765 or unix:in.sock").map(Listen::Tcp),
        }
    }

    /// Whether connections begin with a header. It is believed from trusted proxies alone, so there must be one.
    pub(super) fn proxy_protocol(&mut self, typed: ProxyProtocol, trusts_nobody: bool) -> ProxyProtocol {
        if typed == ProxyProtocol::Required && trusts_nobody {
            self.refuse(
                &Path::dotted("proxy_protocol"),
                "nobody is believed who says whom a connection is from, so that nobody could connect; name your load balancers under clients.trusted_proxies",
            );
        }
        typed
    }

    /// An IP address with a port that was typed at `path`.
    pub(super) fn address(&mut self, path: &Path, typed: &str, examples: &str) -> Option<SocketAddr> {
        let address = typed.parse().ok();
        if address.is_none() {
            self.refuse(
                path,
                format!("\"{typed}\" is no IP address with a port; write for example {examples}"),
            );
        }
        address
    }

    /// The path of a unix socket that was typed at `path`.
    pub(super) fn socket(&mut self, path: &Path, typed: &str) -> Option<PathBuf> {
        if typed.is_empty() || typed.contains('\0') {
            self.refuse(path, "unix: needs the path of a socket; write for example unix:/run/model.sock");
            return None;
        }
        let socket = self.resolve(path, FilePath::new(typed));
        let bytes = socket.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            self.refuse(
                path,
                format!("the path of a unix socket has at most {SOCKET_PATH_BYTES_MAX} bytes, this one has {bytes}; choose a shorter folder"),
            );
            return None;
        }
        Some(socket)
    }

    fn distinct_listeners(&mut self, list: &Path, listeners: &[Listen]) {
        for (index, listener) in listeners.iter().enumerate() {
            let earlier = listeners.iter().take(index).position(|earlier| overlap(earlier, listener));
            if let Some(earlier) = earlier {
                let message = format!(
                    "{} listens here already; give each listener a place of its own",
                    list.index(earlier)
                );
                self.refuse(&list.index(index), message);
            }
        }
    }

    /// The one token that may do everything.
    pub(super) fn token(&mut self, raw: &RawAdmin) -> Option<Secret> {
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

    pub(super) fn expand(&mut self, path: &Path, typed: &str) -> Option<String> {
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

    pub(super) fn admin_apart(&mut self, listen: &[Listen], admin: SocketAddr) {
        let shared = listen.iter().find_map(|listener| match listener {
            Listen::Tcp(address) if overlap(listener, &Listen::Tcp(admin)) => Some(address),
            _ => None,
        });
        if let Some(address) = shared {
            self.refuse(
                &Path::dotted("admin.listen"),
                format!("the same port as listen ({address}); the operators' listener needs one of its own"),
            );
        }
    }
}

/// Whether two listeners cannot both be opened; port 0 is always a free one.
pub(super) fn overlap(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Unix(one), Listen::Unix(other)) => one == other,
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            let same_port = one.port() == other.port() && one.port() != 0;
            same_port && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
        }
        _ => false,
    }
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
