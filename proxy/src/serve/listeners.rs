//! The services behind listening sockets.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use checkgate_config::Settings;
use checkgate_config::settings::Listen;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;

use crate::transport::{App, Handler};

/// Who may connect to a unix socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// A service that accepts on all of `listen`.
pub fn service<H: Handler>(
    name: &str,
    listen: &[Listen],
    app: App<H>,
    threads: Option<usize>,
) -> Service<App<H>> {
    let mut service = Service::new(name.to_owned(), app);
    for listen in listen {
        service.add_listener(endpoint(listen));
    }
    service.threads = threads;
    service
}

/// Nothing is buffered between the socket and hyper or TLS, which have buffers of their own: an idle connection costs
/// 64 KiB less.
fn endpoint(listen: &Listen) -> ListenerConfig {
    let endpoint = match listen {
        Listen::Tcp(address) => ListenerConfig::tcp(address.to_string()),
        Listen::Unix(path) => {
            ListenerConfig::uds(path.display().to_string()).permissions(Permissions::from_mode(SOCKET_MODE))
        }
    };
    endpoint.l4_buffer(L4BufferSettings::unbuffered())
}

pub fn server_conf(settings: &Settings) -> ServerConf {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if settings.threads == 0 { cores() } else { settings.threads };
    ServerConf {
        threads,
        // A thread that is alone has nobody to take work from, and need not be ready for it.
        work_stealing: threads > 1,
        // pingora's own timers cost a thread that wakes 100 times a second, asked for or not.
        fast_timeout_to_tokio_threshold_seconds: Some(0),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}
