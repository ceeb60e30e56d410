//! `checkgate reference`: what normal looks like, as files for drift and as what running models have learned.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use checkgate_detectors::drift::{Early, Paging};
use checkgate_detectors::facts::Time;
use checkgate_detectors::query::{ParameterError, Parameters};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::print;
use super::rehearse::Bar;
use super::remote::{Remote, encoded};
use super::table::{items, pretty, table, text};
use crate::clock;
use crate::reference::budget::Grant;
use crate::reference::build::{Order, build};
use crate::reference::file::{self, FileError, ReferenceFile};
use crate::reference::keys::SigningKey;
use crate::reference::rows::Choice;
use crate::reference::words::{self, Terms};
use crate::told;

const AFTER_HELP: &str = "\
Examples:
  checkgate reference build --from train.csv -o pricing.reference
        freeze what drift of pricing is measured by, and say what it is worth
  checkgate reference build --from recording --model pricing --sign-with key.pem -o pricing.reference
        the same from recorded traffic, questions and answers, signed
  checkgate reference show pricing.reference --rows-a-day 50000 --false-alarms '1 per month'
        where it comes from, what is odd about it, whether the early layer may page
  checkgate reference verify pricing.reference --key public.pem
        whether it is whole, and signed by the owner of that key
  checkgate reference list
        what the models of a running checkgate have learned of questions
  checkgate reference promote pricing --why 'looked through'
        let decisions rest on it
  checkgate reference promote pricing --candidate --why 'v2 is out'
        let decisions and drift rest on what a maintenance window taught";

/// Arguments of `checkgate reference`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ReferenceArgs {
    #[command(subcommand)]
    command: ReferenceCommand,
}

#[derive(Debug, Subcommand)]
enum ReferenceCommand {
    /// Freeze a reference of drift from tables or recordings.
    Build(Box<Build>),
    /// Say where a reference of drift comes from and what it is worth.
    Show(Show),
    /// Say whether a reference of drift is whole, and who signed it.
    Verify(Verify),
    /// List the references that models of a running checkgate have, whether decisions may rest on them, and what waits.
    List(Remote),
    /// Trust the reference that a model of a running checkgate has learned, or that a maintenance window taught.
    Promote(Promote),
}

#[derive(Args, Debug)]
struct Build {
    /// Files with rows: CSV, JSON lines, Parquet, or recordings of `checkgate run --record`; in the order of time.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    from: Vec<PathBuf>,
    /// Where the reference goes.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    output: PathBuf,
    /// Replace the file where it exists.
    #[arg(long)]
    force: bool,
    /// The model whose questions and answers of a recording count.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The version of it whose questions and answers of a recording count, as their paths or their answers say it.
    #[arg(long, value_name = "VERSION")]
    model_version: Option<String>,
    /// Column that says when a row came, in seconds since 1970 or as 2026-11-28T12:00:00Z.
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// Watch these columns only.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    columns: Vec<String>,
    /// Watch all columns but these.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    leave_out: Vec<String>,
    /// Columns whose numbers are labels, such as codes.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    labels: Vec<String>,
    /// Columns that hold what the model answers; they are watched as `answer:COLUMN`.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    answers: Vec<String>,
    /// By what part of itself the share of each bin may differ without being drift.
    #[arg(long, value_name = "PART", default_value_t = Early::default().tolerance)]
    tolerance: f64,
    /// Fewest rows of a stretch of the paging layer.
    #[arg(long, value_name = "ROWS", default_value_t = Paging::default().stretch_rows)]
    stretch_rows: u32,
    /// Shortest time of a stretch, in seconds, where rows have times.
    #[arg(long, value_name = "SECONDS", default_value_t = Paging::default().stretch_seconds)]
    stretch_seconds: f64,
    /// Private Ed25519 key (PKCS#8, PEM) to sign the file with.
    #[arg(long, value_name = "KEYFILE")]
    sign_with: Option<PathBuf>,
    /// Who makes it, for the provenance [default: the user].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    said: Said,
}

/// How something is said, and on which terms.
#[derive(Args, Debug)]
struct Said {
    /// Rows of a day that the model will see [default: those of the reference, where its rows have times].
    #[arg(long, value_name = "ROWS")]
    rows_a_day: Option<f64>,
    /// False alarms that each layer may raise.
    #[arg(long, value_name = "BUDGET", default_value_t = Grant::default())]
    false_alarms: Grant,
    /// Form of what is printed.
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    format: Form,
}

/// Forms of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Args, Debug)]
struct Show {
    /// The reference.
    file: PathBuf,
    /// Public Ed25519 key (PEM) that its signature must hold by.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    said: Said,
}

#[derive(Args, Debug)]
struct Verify {
    /// The reference.
    file: PathBuf,
    /// Public Ed25519 key (PEM) that its signature must hold by.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Promote {
    /// The model.
    model: String,
    /// Why; it stands in the ledger.
    #[arg(long, default_value = "")]
    why: String,
    /// What a maintenance window taught, in the place of the references at work.
    #[arg(long)]
    candidate: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Does what was asked.
pub fn reference(args: &ReferenceArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        ReferenceCommand::Build(args) => made(args),
        ReferenceCommand::Show(show) => {
            said(&file::load(&show.file, show.key.as_deref())?, &show.file, &show.said)
        }
        ReferenceCommand::Verify(verify) => {
            let read = file::load(&verify.file, verify.key.as_deref())?;
            let line =
                format!("whole, sha256 {}; signature: {}\n", read.sha256, words::signature(&read.signed));
            print(&line)
        }
        ReferenceCommand::List(remote) => list(remote),
        ReferenceCommand::Promote(args) => promote(args),
    }
}

fn made(args: &Build) -> anyhow::Result<ExitCode> {
    if !args.force && args.output.exists() {
        return Err(FileError::Exists(args.output.clone()).into());
    }
    // A key that cannot be read is told before the work, not after it.
    let key = args.sign_with.as_deref().map(SigningKey::read).transpose()?;
    let (early, paging) = parameters(args)?;
    let order = Order {
        from: args.from.clone(),
        model: args.model.clone(),
        version: args.model_version.clone(),
        choice: Choice {
            time: args.time.clone(),
            only: args.columns.clone(),
            leave_out: args.leave_out.clone(),
            text: args.labels.clone(),
            answers: args.answers.clone(),
        },
        early,
        paging,
        by: args.by.clone().unwrap_or_else(user),
        at: now(),
    };
    let bar = Bar::new();
    let (header, reference) = build(&order, &bar)?;
    drop(bar);
    let bytes = file::write(header, &reference, key.as_ref())?;
    file::put(&args.output, &bytes, args.force)?;
    let verifying = key.as_ref().map(SigningKey::verifying);
    said(&file::parse(&args.output, &bytes, verifying.as_ref())?, &args.output, &args.said)
}

fn parameters(args: &Build) -> anyhow::Result<(Early, Paging)> {
    let early = Early { tolerance: args.tolerance, ..Early::default() };
    let paging = Paging { stretch_rows: args.stretch_rows, stretch_seconds: args.stretch_seconds };
    let option = |error: ParameterError| {
        let name = error.path.join("-").replace('_', "-");
        anyhow::anyhow!("--{name} {}", error.message)
    };
    early.check().map_err(option)?;
    paging.check().map_err(option)?;
    Ok((early, paging))
}

fn said(file: &ReferenceFile, path: &Path, said: &Said) -> anyhow::Result<ExitCode> {
    let terms = Terms { grant: said.false_alarms.clone(), rows_a_day: said.rows_a_day };
    match said.format {
        Form::Text => print(&words::page(file, &path.display().to_string(), &terms)),
        Form::Json => print(&pretty(&words::as_json(file, &terms))),
    }
}

fn user() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The time, or what reproducible builds give for it (<https://reproducible-builds.org/specs/source-date-epoch/>).
fn now() -> Time {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    told.map_or_else(clock::now, |seconds| Time(seconds.saturating_mul(1_000_000)))
}

fn list(remote: &Remote) -> anyhow::Result<ExitCode> {
    let list = remote.get("/v1/references")?;
    if remote.json {
        return print(&pretty(&list));
    }
    let row = |reference| ["model", "rows", "trust"].map(|key| text(reference, key)).to_vec();
    let rows: Vec<_> = items(&list, "references").map(row).collect();
    let mut said = table(&["MODEL", "ROWS", "TRUST"], &rows);
    for waiting in items(&list, "candidates") {
        said.push_str(&of_candidate(waiting));
    }
    print(&said)
}

/// What waits for an operator, in words.
fn of_candidate(waiting: &Value) -> String {
    let moment = |key| told::moment(waiting.get(key).and_then(Value::as_f64).unwrap_or_default());
    let percent = |of: &Value| of.get("share").and_then(Value::as_f64).unwrap_or_default() * 100.0;
    // The model's name came from traffic.
    let said = |key| told::clean(&text(waiting, key));
    let share = |of: &Value| format!("{} {:.0} %", told::clean(&text(of, "client")), percent(of));
    let shares: Vec<String> = items(waiting, "shares").map(share).collect();
    let held_out = waiting.get("quality").map_or_else(String::new, |quality| {
        let of = |key| quality.get(key).and_then(Value::as_f64).unwrap_or_default();
        format!(
            "\n  held out:  evidence up to {:.0} in {:.0} rows (early), {:.1} in {:.0} stretches (paging)",
            of("early"),
            of("rows"),
            of("paging"),
            of("stretches")
        )
    });
    format!(
        "\nA candidate for {} waits, of the maintenance window \"{}\" from {} to {}:\n  rows:      {} of queries, {} of \
         drift, of {} that were seen; from {} to {}\n  clients:   {}: {}{held_out}\n  promote:   checkgate reference \
         promote {} --candidate\n",
        said("model"),
        said("note"),
        moment("from"),
        moment("until"),
        said("rows"),
        said("drift_rows"),
        said("seen"),
        moment("first"),
        moment("last"),
        said("clients"),
        shares.join(", "),
        said("model"),
    )
}

fn promote(promote: &Promote) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/references/{}/promote", encoded(&promote.model));
    let answer = promote.remote.ask(
        Method::POST,
        &path,
        Some(&json!({ "why": promote.why, "candidate": promote.candidate })),
    );
    let answer = answer.context("the reference was not promoted")?;
    let drift = answer.get("drift_rows").map_or_else(String::new, |rows| format!(", {rows} of drift"));
    let line =
        format!("the reference of {} is trusted: {} rows{drift}\n", promote.model, text(&answer, "rows"));
    print(&if promote.remote.json { pretty(&answer) } else { line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::candidates::tests::candidate;
    use crate::told::clean::steers;

    #[test]
    fn what_waits_is_told_with_what_an_operator_decides_by_and_steers_no_terminal() {
        let said = of_candidate(&json!(candidate("homes").summary));
        for part in
            ["homes waits", "\"v2\"", "1 of queries, 0 of drift, of 900", "12: 192.0.2.7 25 %", "--candidate"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = of_candidate(&json!(candidate("a\u{1b}[2J").summary));
        assert!(!said.lines().any(|line| line.chars().any(steers)), "{said}");
    }
}
