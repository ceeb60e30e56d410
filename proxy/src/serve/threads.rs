//! How the threads are set up.

use checkgate_config::Settings;
use pingora_core::server::configuration::ServerConf;

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
