//! `checkgate events`: what happens, as it happens.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;

use super::print;
use super::remote::Remote;
use super::table::{moment, text};
use crate::told::{clean, clean_json};

/// Bytes of one event.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Arguments of `checkgate events`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  checkgate events\n  checkgate events --json | jq 'select(.kind == \"decision\")'"
)]
pub struct EventsArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Prints events until it is stopped or the instance ends.
pub fn events(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let found = args.remote.find()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut body = found.open(Method::GET, "/v1/events", None).await?.into_body();
        let mut waiting = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            waiting.extend_from_slice(&data);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                told(&String::from_utf8_lossy(&line), args.remote.json)?;
            }
            if waiting.len() > EVENT_BYTES_MAX {
                bail!("an event is longer than any of checkgate's");
            }
        }
        bail!("the instance ended the stream: it stops, or another process takes over")
    })
}

/// Prints the line of an event that holds its data.
fn told(line: &str, json: bool) -> anyhow::Result<()> {
    let Some(data) = line.strip_prefix("data:") else { return Ok(()) };
    let data = data.trim();
    if json {
        return print(&(clean_json(data.to_owned()) + "\n")).map(drop);
    }
    print(&(clean(&words(&serde_json::from_str(data)?)) + "\n")).map(drop)
}

fn words(event: &Value) -> String {
    if let Some(lost) = event.get("lost") {
        return format!("{lost} events were lost: this listener was too slow");
    }
    let what = match &*text(event, "kind") {
        "finding" => event.get("record").map(|record| text(record, "explanation")).unwrap_or_default(),
        "decision" => ["id", "action", "client", "status"].map(|key| text(event, key)).join(" "),
        "never_block" => format!("added {} removed {}", text(event, "added"), text(event, "removed")),
        "kill_switch" => format!("on: {}", text(event, "on")),
        "reference" => format!("{} trusted: {}", text(event, "model"), text(event, "trusted")),
        _ => text(event, "id"),
    };
    let (kind, who, why) = (text(event, "kind"), text(event, "who"), text(event, "why"));
    let why = if why.is_empty() { why } else { format!(" ({why})") };
    format!("{}  {kind:<12} {what}  by {who}{why}", moment(event, "time"))
}
