//! `checkgate doctor`: what is wrong with an installation, and the mend.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use checkgate_config::Raw;
use clap::{Args, ValueEnum};

use super::remote::Remote;
use super::{ConfigFile, print};
use crate::doctor::facts::{Running, look};
use crate::doctor::{Verdict, examine, json, text, worst};
use crate::serve::Source;

/// Arguments of `checkgate doctor`.
#[derive(Args, Debug)]
#[command(
    after_help = "The exit code is 0 where all is well, 1 where something deserves a look, 2 where something does not work.\n\n\
                  Examples:\n  checkgate doctor -c checkgate.yaml\n  checkgate doctor -c checkgate.yaml --format json"
)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// File that holds the token of the running checkgate [default: CHECKGATE_ADMIN_TOKEN, the configuration's, or that
    /// in the state folder].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Authorities (PEM) that its certificate is checked against, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How to say it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Looks at everything and says what is wrong.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let file = args.config.config.as_deref().context("which configuration? give -c FILE")?;
    let source = Source { file: Some(file.to_owned()), flags: Raw::default() };
    let facts = match source.read().settings {
        Ok(settings) => {
            let remote = Remote::of(file, args.token_file.clone(), args.ca.clone());
            let running = running(&remote);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(look(file, settings, running)))
        }
        Err(error) => Err(format!("{error:#}")),
    };
    let answers = examine(&facts);
    print(&match args.format {
        Format::Text => text(&answers),
        Format::Json => json(&answers),
    })?;
    Ok(match worst(&answers) {
        Verdict::Ok => ExitCode::SUCCESS,
        Verdict::Warn => ExitCode::from(1),
        Verdict::Fail => ExitCode::from(2),
    })
}

fn running(remote: &Remote) -> Running {
    // This path needs no token.
    if remote.text("/healthz").is_err() {
        return Running::Silent;
    }
    let told = || {
        let status = remote.get("/v1/status")?;
        let spared = remote.get("/v1/never-block")?;
        let entries = spared.get("entries").and_then(|entries| entries.as_array()).map_or(0, Vec::len);
        anyhow::Ok(Running::Answers { status, metrics: remote.text("/metrics")?, spared: entries })
    };
    told().unwrap_or_else(|error| Running::Refuses(format!("{error:#}")))
}
