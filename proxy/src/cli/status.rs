//! `checkgate status`: where the running instance stands.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::print;
use super::remote::Remote;
use super::table::{items, pretty, table, text};
use crate::told::clean;

/// Arguments of `checkgate status`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  checkgate status\n  checkgate status --admin https://gate.example:8766 --json"
)]
pub struct StatusArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Prints where the instance stands.
pub fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status = args.remote.get("/v1/status")?;
    print(&if args.remote.json { pretty(&status) } else { page(&status) })
}

fn page(status: &Value) -> String {
    let at = |path: &str| status.pointer(path).cloned().unwrap_or_default();
    let on = |path: &str, yes: &'static str, no: &'static str| {
        if at(path) == Value::Bool(true) { yes } else { no }
    };
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(page, "checkgate {}, {}", text(status, "version"), text(status, "phase"));
    let _ = writeln!(page, "kill switch  {}", on("/kill_switch/on", "ON: nothing is enforced", "off"));
    let _ = writeln!(page, "brake        {}", on("/brake/engaged", "ON: new blocks are observations", "off"));
    let durable = on("/ledger/durable", "on the disk", "IN MEMORY ONLY: a restart forgets what happens now");
    let _ = writeln!(page, "ledger       {durable}");
    let trouble = text(&at("/ledger"), "trouble");
    if !trouble.is_empty() {
        let _ = writeln!(page, "             {}", clean(&trouble));
    }
    let state = at("/state");
    let _ = writeln!(page, "state        {}", clean(&text(&state, "directory")));
    for problem in items(&state, "problems").filter_map(Value::as_str) {
        let _ = writeln!(page, "             {}", clean(problem));
    }
    let error = text(&at("/config"), "error");
    if !error.is_empty() {
        let _ = writeln!(page, "config       NOT reloaded: {}", clean(&error));
    }
    for sink in items(status, "sinks").filter(|sink| text(sink, "state") != "works") {
        let [name, state, trouble] = ["name", "state", "trouble"].map(|key| clean(&text(sink, key)));
        let _ = writeln!(page, "sink         {name} {state}: {trouble}");
    }
    let row = |model| ["name", "mode", "hold", "protocol", "clients"].map(|key| text(model, key)).to_vec();
    let rows: Vec<_> = items(status, "models").map(row).collect();
    let _ = write!(page, "\n{}", table(&["MODEL", "MODE", "HOLD", "PROTOCOL", "CLIENTS"], &rows));
    page
}
