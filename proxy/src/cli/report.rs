//! `checkgate report`: what was decided, and what `enforce` would have done.

use std::process::ExitCode;

use anyhow::Context;
use checkgate_config::units::Period;
use clap::{Args, ValueEnum};

use super::print;
use super::remote::{Remote, query};
use super::run::parse;
use super::table::pretty;
use crate::clock;
use crate::report::{self, Report};

const EXAMPLES: &str = "\
Examples:
  checkgate report                                 the last week, as text
  checkgate report --since 24h
  checkgate report --format html > report.html     a page to hand on
  checkgate report --format json                   for programs

In observe it says whom enforce would have met: read it before you enforce. `checkgate rehearse` says the same of a
recording, under any policy.";

/// Arguments of `checkgate report`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReportArgs {
    /// How far back to look, such as 24h or 30d.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse::<Period>)]
    since: Period,
    /// How to write it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a terminal.
    Text,
    /// For programs.
    Json,
    /// One self-contained page.
    Html,
}

/// Prints the report of the running instance.
pub fn report(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let since = clock::now().seconds() - args.since.0.as_secs_f64();
    let answer = args.remote.get(&format!("/v1/report{}", query(&[("since", Some(since.to_string()))])))?;
    if args.remote.json || args.format == Format::Json {
        return print(&pretty(&answer));
    }
    let report: Report = serde_json::from_value(answer).context("the answer is no report of this version")?;
    print(&match args.format {
        Format::Html => report::html(&report),
        Format::Text | Format::Json => report::text(&report),
    })
}
