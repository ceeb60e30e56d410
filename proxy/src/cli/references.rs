//! `checkgate references`: what normal looks like for each model.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::print;
use super::remote::{Remote, encoded};
use super::table::{items, pretty, table, text};

/// Arguments of `checkgate references`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  checkgate references list\n  checkgate references promote pricing --why 'looked through'"
)]
pub struct ReferencesArgs {
    #[command(subcommand)]
    command: ReferencesCommand,
}

#[derive(Debug, Subcommand)]
enum ReferencesCommand {
    /// List the references that models have, and whether decisions may rest on them.
    List(Remote),
    /// Trust the reference that a model has learned.
    Promote(Promote),
}

#[derive(Args, Debug)]
struct Promote {
    /// The model.
    model: String,
    /// Why; it stands in the ledger.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    remote: Remote,
}

/// Does what was asked.
pub fn references(args: &ReferencesArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        ReferencesCommand::List(remote) => {
            let list = remote.get("/v1/references")?;
            if remote.json {
                return print(&pretty(&list));
            }
            let row = |reference| ["model", "rows", "trust"].map(|key| text(reference, key)).to_vec();
            let rows: Vec<_> = items(&list, "references").map(row).collect();
            print(&table(&["MODEL", "ROWS", "TRUST"], &rows))
        }
        ReferencesCommand::Promote(promote) => {
            let path = format!("/v1/references/{}/promote", encoded(&promote.model));
            let answer = promote.remote.ask(Method::POST, &path, Some(&json!({ "why": promote.why })))?;
            let line =
                format!("the reference of {} is trusted: {} rows\n", promote.model, text(&answer, "rows"));
            print(&if promote.remote.json { pretty(&answer) } else { line })
        }
    }
}
