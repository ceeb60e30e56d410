//! `checkgate never-block`: whom no decision touches.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;

use super::print;
use super::remote::{Remote, encoded, query};
use super::table::{items, pretty, table, text};

const EXAMPLES: &str = "\
Examples:
  checkgate never-block list
  checkgate never-block add 203.0.113.0/24 --why 'our load balancer'
  checkgate never-block remove 203.0.113.0/24

Entries of the configuration (clients.never_block, clients.trusted_proxies) are changed there.";

/// Arguments of `checkgate never-block`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct NeverBlockArgs {
    #[command(subcommand)]
    command: NeverBlockCommand,
}

#[derive(Debug, Subcommand)]
enum NeverBlockCommand {
    /// List all entries, with who put them there.
    List(Remote),
    /// Put an address or a network on the list; decisions on it cease to act at once.
    Add(Change),
    /// Take an address or a network off the list.
    Remove(Change),
}

#[derive(Args, Debug)]
struct Change {
    /// An address, or a network such as 10.0.0.0/8.
    network: String,
    /// Why; it stands in the ledger.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    remote: Remote,
}

/// Does what was asked.
pub fn never_block(args: &NeverBlockArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        NeverBlockCommand::List(remote) => {
            let list = remote.get("/v1/never-block")?;
            if remote.json {
                return print(&pretty(&list));
            }
            let row = |entry| vec![text(entry, "network"), text(entry, "source")];
            let rows: Vec<_> = items(&list, "entries").map(row).collect();
            print(&table(&["NETWORK", "SOURCE"], &rows))
        }
        NeverBlockCommand::Add(change) => change.run(Method::PUT, "is on the list"),
        NeverBlockCommand::Remove(change) => change.run(Method::DELETE, "is off the list"),
    }
}

impl Change {
    fn run(&self, method: Method, done: &str) -> anyhow::Result<ExitCode> {
        let why = query(&[("why", Some(self.why.clone()))]);
        let path = format!("/v1/never-block/{}{why}", encoded(&self.network));
        let answer = self.remote.ask(method, &path, None)?;
        print(&if self.remote.json { pretty(&answer) } else { format!("{} {done}\n", self.network) })
    }
}
