//! Where requests go, and how several servers are used.

use std::net::{IpAddr, SocketAddr};
use std::path::Path as FilePath;

use rustls::pki_types::ServerName;

use super::{Check, TEXT_MAX};
use crate::defaults;
use crate::path::Path;
use crate::raw::{RawEjection, RawHealthCheck, RawServer, RawUpstream, RawUpstreamSettings, RawUpstreamTls};
use crate::settings::{Ejection, HealthCheck, Listen, Server, ServerAddress, Upstream, UpstreamTls};

/// Servers of one upstream.
const SERVERS_MAX: usize = 256;

const SERVER_EXAMPLES: &str =
    "write for example http://127.0.0.1:8080, https://models.example:8443 or unix:/run/model.sock";

/// A server's URL with the setting that it was typed at.
type Typed<'a> = (Path, &'a str, u32);

impl Check<'_> {
    /// The upstream that was typed at `path`.
    pub(super) fn upstream(&mut self, path: &Path, typed: &RawUpstream) -> Option<Upstream> {
        match typed {
            RawUpstream::Server(url) => {
                let servers = self.servers(vec![(path.clone(), url.as_str(), 1)]);
                self.upstream_of(path, servers, &without_settings()?)
            }
            RawUpstream::Servers(list) => {
                let servers = self.server_list(path, list);
                self.upstream_of(path, servers, &without_settings()?)
            }
            RawUpstream::Settings(settings) => {
                let list = settings.servers.as_deref().unwrap_or_default();
                let servers = self.server_list(&path.key("servers"), list);
                self.upstream_of(path, servers, settings)
            }
        }
    }

    fn upstream_of(
        &mut self,
        scope: &Path,
        servers: Option<Vec<Server>>,
        settings: &RawUpstreamSettings,
    ) -> Option<Upstream> {
        let tls = self.upstream_tls(&scope.key("tls"), settings.tls.as_ref(), servers.as_deref());
        let health = self.health(&scope.key("health"), settings.health.as_ref());
        Some(Upstream {
            servers: servers?,
            balance: settings.balance?,
            http: settings.http?,
            tls: tls?,
            health: health?,
            ejection: ejection(settings.ejection.as_ref()?)?,
            retries: settings.retries?,
            in_flight_per_server: settings.in_flight_per_server?,
        })
    }

    fn server_list(&mut self, list: &Path, typed: &[RawServer]) -> Option<Vec<Server>> {
        let mut servers = Vec::new();
        for (index, server) in typed.iter().enumerate() {
            let path = list.index(index);
            match server {
                RawServer::Url(url) => servers.push((path, url.as_str(), 1)),
                RawServer::Weighted(server) => match server.url.as_deref() {
                    Some(url) => servers.push((path.key("url"), url, server.weight.unwrap_or(1))),
                    None => self.refuse(&path, format!("a server needs a url; {SERVER_EXAMPLES}")),
                },
            }
        }
        if typed.is_empty() || typed.len() > SERVERS_MAX {
            self.refuse_key(list, format!("an upstream has 1 to {SERVERS_MAX} servers; {SERVER_EXAMPLES}"));
            return None;
        }
        let complete = servers.len() == typed.len();
        self.servers(servers).filter(|_| complete)
    }

    fn servers(&mut self, typed: Vec<Typed<'_>>) -> Option<Vec<Server>> {
        let mut servers: Vec<Server> = Vec::new();
        let mut sound = true;
        for (path, url, weight) in typed {
            let Some((address, tls)) = self.server(&path, url) else {
                sound = false;
                continue;
            };
            if servers.iter().any(|server| server.address == address) {
                self.refuse(
                    &path,
                    "this server stands above already; give it a weight to send it more requests",
                );
            }
            servers.push(Server { address, tls, weight });
        }
        sound.then_some(servers)
    }

    /// Reads `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`; tells whether TLS is spoken.
    fn server(&mut self, path: &Path, url: &str) -> Option<(ServerAddress, bool)> {
        let address = if let Some(socket) = url.strip_prefix("unix:") {
            (ServerAddress::Unix(self.socket(path, socket)?), false)
        } else if let Some(authority) = url.strip_prefix("https://") {
            (self.or_refuse(path, host_and_port(authority))?, true)
        } else if let Some(authority) = url.strip_prefix("http://") {
            (self.or_refuse(path, host_and_port(authority))?, false)
        } else {
            self.refuse(
                path,
                format!("an upstream begins with http://, https:// or unix:; {SERVER_EXAMPLES}"),
            );
            return None;
        };
        self.no_loop(path, &address.0);
        Some(address)
    }

    /// Requests sent to checkgate's own listeners would come back for ever.
    fn no_loop(&mut self, path: &Path, server: &ServerAddress) {
        if self.listeners.iter().any(|listener| is_behind(listener, server)) {
            let shown = match server {
                ServerAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
                ServerAddress::Tcp { host, port } => format!("{host}:{port}"),
                ServerAddress::Unix(socket) => format!("unix:{}", socket.display()),
            };
            self.refuse(path, format!("checkgate itself listens on {shown}; name the model server here"));
        }
    }

    fn upstream_tls(
        &mut self,
        scope: &Path,
        raw: Option<&RawUpstreamTls>,
        servers: Option<&[Server]>,
    ) -> Option<UpstreamTls> {
        let Some(raw) = raw else { return Some(UpstreamTls::default()) };
        if servers.is_some_and(|servers| servers.iter().all(|server| !server.tls)) {
            self.refuse_key(
                scope,
                "of no effect: no server of this upstream begins with https://; write https:// or remove tls",
            );
        }
        let ca = self.authorities(&scope.key("ca"), raw.ca.as_deref());
        let certificate = self.own_certificate(scope, raw.certificate.as_deref(), raw.key.as_deref());
        self.server_name(&scope.key("server_name"), raw.server_name.as_deref());
        Some(UpstreamTls {
            ca: ca?,
            certificate: certificate?,
            server_name: raw.server_name.clone(),
            insecure: raw.insecure?,
        })
    }

    fn own_certificate(
        &mut self,
        scope: &Path,
        certificate: Option<&FilePath>,
        key: Option<&FilePath>,
    ) -> Option<Option<crate::settings::CertificateFiles>> {
        if certificate.is_none() && key.is_none() {
            return Some(None);
        }
        self.certificate_files(scope, certificate, key).map(Some)
    }

    fn server_name(&mut self, path: &Path, typed: Option<&str>) {
        if let Some(name) = typed
            && ServerName::try_from(name).is_err()
        {
            self.refuse(
                path,
                format!("\"{name}\" is no host name or IP address; write for example models.example"),
            );
        }
    }

    fn health(&mut self, scope: &Path, raw: Option<&RawHealthCheck>) -> Option<Option<HealthCheck>> {
        let Some(raw) = raw else { return Some(None) };
        let path = raw.path.as_deref()?;
        let sound = |c: char| c.is_ascii_graphic() && c != '#';
        if !path.starts_with('/') || path.len() > TEXT_MAX || !path.chars().all(sound) {
            self.refuse(
                &scope.key("path"),
                "a path begins with \"/\" and has no fragment; write for example /v2/health/ready",
            );
        }
        Some(Some(HealthCheck {
            path: path.to_owned(),
            every: raw.every?.0,
            timeout: raw.timeout?.0,
            healthy_after: raw.healthy_after?,
            unhealthy_after: raw.unhealthy_after?,
        }))
    }
}

fn ejection(raw: &RawEjection) -> Option<Ejection> {
    Some(Ejection { failures: raw.failures?, pause: raw.pause?.0 })
}

/// What holds for an upstream of which only the servers were typed.
fn without_settings() -> Option<RawUpstreamSettings> {
    serde_json::from_value(defaults::upstream()).ok()
}

/// Whether a request to `server` would reach `listener` on this machine.
fn is_behind(listener: &Listen, server: &ServerAddress) -> bool {
    match (listener, server) {
        (Listen::Unix(listener), ServerAddress::Unix(server)) => listener == server,
        (Listen::Tcp(listener), ServerAddress::Tcp { host, port }) => {
            let ip = host.parse::<IpAddr>();
            ip.is_ok_and(|ip| reaches(SocketAddr::new(ip, *port), *listener))
        }
        _ => false,
    }
}

/// Of a listener on all addresses only loopback is sure to be this machine; another host may well use the same port.
fn reaches(address: SocketAddr, listener: SocketAddr) -> bool {
    let is_here =
        listener.ip() == address.ip() || (listener.ip().is_unspecified() && address.ip().is_loopback());
    is_here && listener.port() == address.port()
}

/// Reads what stands behind `http://`: host and port.
fn host_and_port(rest: &str) -> Result<ServerAddress, String> {
    let wanted = |what: &str| format!("{what}; write for example http://127.0.0.1:8080");
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(wanted("an upstream has no path: requests keep the path that the client asked for"));
    }
    if authority.contains('@') {
        return Err(wanted("an upstream holds no user name or password"));
    }
    let (host, port) = parts(authority).ok_or_else(|| wanted("an upstream needs a host and a port"))?;
    match port.parse() {
        Ok(port) if port != 0 => Ok(ServerAddress::Tcp { host: host.to_owned(), port }),
        _ => Err(wanted("a port is a number from 1 to 65535")),
    }
}

fn parts(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok().then_some((inner, port));
    }
    let sound = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    (!host.is_empty() && host.len() <= TEXT_MAX && host.chars().all(sound)).then_some((host, port))
}
