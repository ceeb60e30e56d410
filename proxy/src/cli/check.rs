//! `checkgate check`: whether a configuration holds.

use std::process::ExitCode;

use anyhow::Context;
use checkgate_config::{Raw, Settings};
use clap::Args;

use super::{ConfigFile, print, run};
use crate::lane::desk::Desk;
use crate::plan::Plan;
use crate::way::route::Routes;

/// Arguments of `checkgate check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigFile,
}

/// Reads the file and builds all that `run` would build, short of opening a socket.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let file = args.config.config.as_deref().context("which file? give -c FILE")?;
    let settings = run::settings(Some(file), &Raw::default())?;
    let plan = Plan::new(&settings, [0, 0])?;
    Desk::new(plan.into())?;
    Routes::new(&settings)?;
    print(&format!("{}: ok, {}\n", file.display(), summary(&settings)))
}

fn summary(settings: &Settings) -> String {
    let models: Vec<_> =
        settings.models.iter().map(|model| format!("{} ({:?})", model.name, model.mode)).collect();
    let models = if models.is_empty() { "models are discovered".to_owned() } else { models.join(", ") };
    format!("listens on {}, admin on {}; {}", settings.listen, settings.admin.listen, models.to_lowercase())
}
