//! The program's own log.

use std::io::IsTerminal;

use checkgate_config::settings::LogFormat;

/// The program's own log, on standard error: standard output belongs to findings.
pub fn start(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHECKGATE_LOG")
        .unwrap_or_else(|_| "info,pingora_core=warn,pingora=warn".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
