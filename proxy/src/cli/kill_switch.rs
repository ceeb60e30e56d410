//! `checkgate kill-switch`: enforcement off within a second, whatever else is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::print;
use crate::gate::kill_switch;
use crate::state;

/// Arguments of `checkgate kill-switch`.
#[derive(Args, Debug)]
pub struct KillSwitchArgs {
    /// `on` switches enforcement off, `off` switches it on again, `status` says how it stands.
    position: Position,
    /// State folder of the running checkgate.
    #[arg(long, value_name = "DIR", default_value = "checkgate-state")]
    state: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Position {
    On,
    Off,
    Status,
}

/// Touches or removes one file: it needs no running proxy, no network and no token.
pub fn kill_switch(args: &KillSwitchArgs) -> anyhow::Result<ExitCode> {
    let file = state::kill_switch_in(&args.state);
    match args.position {
        Position::Status => {}
        Position::On | Position::Off => {
            let on = matches!(args.position, Position::On);
            kill_switch::write(&file, on).with_context(|| {
                format!("cannot change {}; is --state the running checkgate's?", file.display())
            })?;
        }
    }
    print(if file.exists() {
        "kill switch on: nothing is blocked\n"
    } else {
        "kill switch off: decisions are acted on where the mode is enforce\n"
    })
}
