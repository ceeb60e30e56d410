//! What a connection must keep: bounds, deadlines and paces.

use std::net::IpAddr;
use std::time::Duration;

use checkgate_config::Settings;
use checkgate_config::settings::ProxyProtocol;
use ipnet::IpNet;

use super::caps::{Caps, connections_max};
use crate::screen::http1::Bounds;

/// Connections of operators, over all and of one address.
const ADMIN_CAPS: Caps = Caps { total: 256, per_address: 64 };
/// Connections of proxies that ask, over all and of one address; trusted proxies are exempt from the latter.
const PROXIES_CAPS: Caps = Caps { total: 1024, per_address: 64 };
/// Heads of operators' requests.
const ADMIN_BOUNDS: Bounds = Bounds { head_bytes: 16 << 10, header_lines: 64 };
/// HTTP/2 streams that one operator's connection may have open.
const ADMIN_STREAMS_MAX: u32 = 16;

/// The rules of one kind of listener.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Open connections.
    pub caps: Caps,
    /// Peers that many clients come through: no cap on their address.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether TCP connections begin with a header of the PROXY protocol.
    pub proxy_header: bool,
    /// Size of a head.
    pub bounds: Bounds,
    /// From the first byte of a head, or from the accept, to its end.
    pub head: Duration,
    /// A connection on which nothing is open.
    pub keep_alive: Duration,
    /// Least pace of a request body, in bytes a second.
    pub body_bytes_per_second: usize,
    /// Least pace at which an answer is taken, in bytes a second.
    pub answer_bytes_per_second: usize,
    /// Streams that one HTTP/2 connection may have open.
    pub http2_streams: u32,
}

impl Rules {
    /// For requests. Raises the limit on open files, and keeps connections below it.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let total = connections_max(settings.limits.connections);
        let caps = Caps { total, per_address: settings.limits.connections_per_address };
        let proxy_header = settings.proxy_protocol == ProxyProtocol::Required;
        Self { proxy_header, ..Self::within(settings, caps) }
    }

    fn within(settings: &Settings, caps: Caps) -> Self {
        let limits = &settings.limits;
        Self {
            caps,
            trusted_proxies: settings.clients.trusted_proxies.clone(),
            proxy_header: false,
            bounds: Bounds { head_bytes: limits.head_bytes, header_lines: limits.header_lines },
            head: settings.timeouts.head,
            keep_alive: settings.timeouts.keep_alive,
            body_bytes_per_second: limits.body_bytes_per_second,
            answer_bytes_per_second: limits.answer_bytes_per_second,
            http2_streams: limits.http2_streams,
        }
    }

    /// For operators: the same deadlines and paces, and small bounds of its own.
    #[must_use]
    pub fn of_admin(settings: &Settings) -> Self {
        Self {
            trusted_proxies: Vec::new(),
            bounds: ADMIN_BOUNDS,
            http2_streams: ADMIN_STREAMS_MAX,
            ..Self::within(settings, ADMIN_CAPS)
        }
    }

    /// For other proxies that ask: the rules of requests, with room of its own.
    #[must_use]
    pub fn of_proxies(settings: &Settings) -> Self {
        Self::within(settings, PROXIES_CAPS)
    }

    /// Whether many clients may stand behind `ip`.
    pub(super) fn is_shared(&self, ip: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&ip))
    }
}
