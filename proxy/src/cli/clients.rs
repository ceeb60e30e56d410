//! `checkgate clients`: who asks most and covers most.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::print;
use super::remote::{Remote, query};
use super::table::pretty;
use crate::farthest::{self, LISTED, ModelClients};

const EXAMPLES: &str = "\
Examples:
  checkgate clients list                        the first ten by rows and by coverage, of every model
  checkgate clients list --model prices --most 50
  checkgate clients list --json

Extraction with rows such as customers send cannot be told by what the rows hold; it takes many rows, from everywhere. The
list accuses nobody: large customers stand in it as well.";

/// Arguments of `checkgate clients`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ClientsArgs {
    #[command(subcommand)]
    command: ClientsCommand,
}

#[derive(Debug, Subcommand)]
enum ClientsCommand {
    /// List who asks most and covers most.
    List(List),
}

#[derive(Args, Debug)]
struct List {
    /// The model; all of them where it is left out.
    #[arg(long)]
    model: Option<String>,
    /// Clients at most by rows, and as many by cells: 1 to 100.
    #[arg(long, default_value_t = LISTED)]
    most: usize,
    #[command(flatten)]
    remote: Remote,
}

/// Prints the list.
pub fn clients(args: &ClientsArgs) -> anyhow::Result<ExitCode> {
    let ClientsCommand::List(list) = &args.command;
    let query = query(&[("model", list.model.clone()), ("most", Some(list.most.to_string()))]);
    let mut answer = list.remote.get(&format!("/v1/clients{query}"))?;
    if list.remote.json {
        return print(&pretty(&answer));
    }
    let models = answer.get_mut("models").map(serde_json::Value::take).unwrap_or_default();
    let models: Vec<ModelClients> =
        serde_json::from_value(models).context("the answer is no list of clients of this version")?;
    let text = farthest::text(&models);
    print(if text.is_empty() { "nobody asked for anything lately\n" } else { text.trim_start_matches('\n') })
}
