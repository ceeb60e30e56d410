//! The program's own log.

use std::io::IsTerminal;

use checkgate_config::settings::LogFormat;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::telemetry::own_log::OwnLog;

/// The program's own log, on standard error: standard output belongs to findings. Warnings and errors are exported
/// besides, where the operator asked for that.
pub fn start(format: LogFormat, exported: Option<OwnLog>) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHECKGATE_LOG")
        .unwrap_or_else(|_| "info,pingora_core=warn,pingora=warn".into());
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let log = match format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(log).with(exported).init();
}
