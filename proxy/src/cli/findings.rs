//! `checkgate findings`: what detectors said.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::print;
use super::remote::{Remote, query};
use super::table::{items, moment, pretty, table, text};

const EXAMPLES: &str = "\
Examples:
  checkgate findings list --client 203.0.113.7
  checkgate findings list --detector one_field_sweep --json
  checkgate explain f-00f3a2b1c4d5e6f7                    tell one of them in plain words";

/// Arguments of `checkgate findings`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct FindingsArgs {
    #[command(subcommand)]
    command: FindingsCommand,
}

#[derive(Debug, Subcommand)]
enum FindingsCommand {
    /// List findings, the newest first.
    List(List),
}

#[derive(Args, Debug)]
struct List {
    /// Its client, as records write it.
    #[arg(long)]
    client: Option<String>,
    /// The model that was asked.
    #[arg(long)]
    model: Option<String>,
    /// The detector's name.
    #[arg(long)]
    detector: Option<String>,
    /// Entries at most.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    remote: Remote,
}

/// Prints the latest findings.
pub fn findings(args: &FindingsArgs) -> anyhow::Result<ExitCode> {
    let FindingsCommand::List(list) = &args.command;
    let query = query(&[
        ("limit", Some(list.limit.to_string())),
        ("client", list.client.clone()),
        ("model", list.model.clone()),
        ("detector", list.detector.clone()),
    ]);
    let answer = list.remote.get(&format!("/v1/findings{query}"))?;
    if list.remote.json {
        return print(&pretty(&answer));
    }
    let row = |finding| {
        let mut row = vec![moment(finding, "time")];
        row.extend(
            ["id", "client", "model", "detector", "action", "decision_id"].map(|key| text(finding, key)),
        );
        row
    };
    let rows: Vec<_> = items(&answer, "findings").map(row).collect();
    print(&table(&["TIME", "ID", "CLIENT", "MODEL", "DETECTOR", "ACTION", "DECISION"], &rows))
}
