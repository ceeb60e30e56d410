//! `checkgate drift`: what a budget of false alarms costs, and how other rows differ from a reference.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::print;
use super::reference::Form;
use super::rehearse::Bar;
use super::remote::{Remote, encoded};
use super::table::pretty;
use crate::admin::drift::ModelDrift;
use crate::clock;
use crate::reference::budget::Grant;
use crate::reference::build::table_of;
use crate::reference::compare::Comparison;
use crate::reference::source::Asked;
use crate::reference::{compare, file, live, plan, svg, words};

/// Seconds of a day.
const DAY: f64 = 86_400.0;
/// A shorter time says nothing of a day.
const MEASURED_MIN: f64 = 600.0;

const AFTER_HELP: &str = "\
Examples:
  checkgate drift plan --reference pricing.reference --rows-a-day 50000 --false-alarms '1 per week'
        how long shifts of 0.1, 0.3 and 0.5 standard deviations would stay unseen
  checkgate drift plan --reference pricing.reference --model pricing
        the same for the traffic that a running checkgate has had since it started
  checkgate drift show pricing
        how a model of a running checkgate stands: since when, what of the budget is used, and each feature
  checkgate drift show --reference pricing.reference --against today.csv --svg today.svg
        what moved, how far, and how far it would have without a change";

/// Arguments of `checkgate drift`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct DriftArgs {
    #[command(subcommand)]
    command: DriftCommand,
}

#[derive(Debug, Subcommand)]
enum DriftCommand {
    /// Say how long shifts stay unseen under a budget of false alarms, and which budgets are affordable.
    Plan(Box<Plan>),
    /// Say how the drift of a model stands, or compare other rows with a reference, feature by feature.
    Show(Box<Show>),
}

#[derive(Args, Debug)]
struct Plan {
    /// The reference.
    #[arg(long, value_name = "FILE")]
    reference: PathBuf,
    /// Public Ed25519 key (PEM) that its signature must hold by.
    #[arg(long, value_name = "FILE")]
    reference_key: Option<PathBuf>,
    /// Rows of a day [default: those of the reference, where its rows have times].
    #[arg(long, value_name = "ROWS", conflicts_with = "model")]
    rows_a_day: Option<f64>,
    /// A model of a running checkgate, whose traffic since the start is taken.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// False alarms that each layer may raise.
    #[arg(long, value_name = "BUDGET", default_value_t = Grant::default())]
    false_alarms: Grant,
    /// Form of what is printed.
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    format: Form,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
struct Show {
    /// A model of a running checkgate.
    #[arg(value_name = "MODEL", required_unless_present = "reference", conflicts_with = "reference")]
    watched: Option<String>,
    /// A version of the model that is watched apart; of a recording, the one whose rows count.
    #[arg(long, value_name = "VERSION")]
    model_version: Option<String>,
    /// The reference that rows are compared with.
    #[arg(long, value_name = "FILE", requires = "against")]
    reference: Option<PathBuf>,
    /// Public Ed25519 key (PEM) that its signature must hold by.
    #[arg(long, value_name = "FILE")]
    reference_key: Option<PathBuf>,
    /// Files with the rows to compare: CSV, JSON lines, Parquet or recordings.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "reference")]
    against: Vec<PathBuf>,
    /// The model whose questions and answers of a recording count.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Columns to show slot by slot.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    columns: Vec<String>,
    /// Also draw a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Form of what is printed.
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    format: Form,
    #[command(flatten)]
    remote: Remote,
}

/// Does what was asked.
pub fn drift(args: &DriftArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        DriftCommand::Plan(plan) => planned(plan),
        DriftCommand::Show(show) => shown(show),
    }
}

fn planned(args: &Plan) -> anyhow::Result<ExitCode> {
    let read = file::load(&args.reference, args.reference_key.as_deref())?;
    let traffic = traffic(args, &read)?;
    let plan = plan::plan(&read.header, &read.reference, &args.false_alarms, traffic);
    match args.format {
        Form::Text => print(&plan::page(&plan, &args.reference.display().to_string())),
        Form::Json => print(&pretty(&serde_json::to_value(&plan)?)),
    }
}

/// Rows of a day, and whence they are known.
fn traffic(args: &Plan, read: &file::ReferenceFile) -> anyhow::Result<(f64, &'static str)> {
    let (rows, whence) = match (args.rows_a_day, &args.model) {
        (Some(rows), _) => (rows, "told"),
        (None, Some(model)) => (measured(&args.remote, model)?, "measured since the start"),
        (None, None) => {
            let own = words::rows_a_day(&read.header);
            let mend = "the reference does not say when its rows came; give --rows-a-day, or --model of a running \
                        checkgate";
            (own.context(mend)?, "those of the reference")
        }
    };
    if !(rows > 0.0 && rows.is_finite()) {
        bail!("a plan needs traffic: give --rows-a-day above 0");
    }
    Ok((rows, whence))
}

fn measured(remote: &Remote, model: &str) -> anyhow::Result<f64> {
    let metrics = remote.read("/metrics")?;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|text| text.trim().parse::<f64>().ok())
    };
    let series =
        format!("checkgate_rows_total{{model=\"{}\"}}", model.replace('\\', "\\\\").replace('"', "\\\""));
    let rows = value(&series)
        .with_context(|| format!("there is no model {model:?}; `checkgate status` lists them"))?;
    let started = value("checkgate_start_time_seconds").context("the answer holds no start time")?;
    let lasted = clock::now().seconds() - started;
    if lasted < MEASURED_MIN {
        bail!("it started {lasted:.0} s ago, which tells nothing of a day; give --rows-a-day");
    }
    Ok(rows / lasted * DAY)
}

fn shown(args: &Show) -> anyhow::Result<ExitCode> {
    match (&args.watched, &args.reference) {
        (Some(model), _) => running(args, model),
        (None, Some(reference)) => beside(args, reference),
        (None, None) => bail!("name a model of a running checkgate, or --reference and --against"),
    }
}

/// How the drift of a model of a running checkgate stands.
fn running(args: &Show, model: &str) -> anyhow::Result<ExitCode> {
    let version = args.model_version.as_ref().map(|version| format!("?version={}", encoded(version)));
    let path = format!("/v1/models/{}/drift{}", encoded(model), version.unwrap_or_default());
    let told = args.remote.get(&path)?;
    let drift: ModelDrift =
        serde_json::from_value(told.clone()).context("the answer is of another version")?;
    if let Some(path) = &args.svg {
        let events = drift.features.iter().map(|feature| feature.events).max().unwrap_or(0);
        let comparison = Comparison {
            rows: [drift.reference.as_ref().map_or(0, |reference| reference.rows), events],
            columns: drift.features.iter().map(|feature| feature.compared.clone()).collect(),
            absent: Vec::new(),
        };
        let picture = svg::picture(&comparison, "the reference", &format!("{model} now"));
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.remote.json || args.format == Form::Json {
        return print(&pretty(&told));
    }
    print(&live::page(&drift, &args.columns))
}

fn beside(args: &Show, reference: &Path) -> anyhow::Result<ExitCode> {
    let read = file::load(reference, args.reference_key.as_deref())?;
    let bar = Bar::new();
    let key = read.reference.label_key();
    let choice = compare::choice(&read.header);
    let asked = Asked { model: args.model.as_deref(), version: args.model_version.as_deref() };
    let table = table_of(&args.against, asked, choice, key, &bar)?.table;
    drop(bar);
    let comparison = compare::compare(&read.header, &read.reference, &table);
    if comparison.columns.is_empty() {
        bail!("the rows have no column of the reference; `checkgate reference show` lists its columns");
    }
    let name = reference.display().to_string();
    let against: Vec<_> = args.against.iter().map(|path| path.display().to_string()).collect();
    let against = against.join(", ");
    if let Some(path) = &args.svg {
        let picture = svg::picture(&comparison, &name, &against);
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let form = if args.remote.json { Form::Json } else { args.format };
    match form {
        Form::Text => print(&compare::page(&comparison, &name, &against, &args.columns)),
        Form::Json => print(&pretty(&serde_json::to_value(&comparison)?)),
    }
}
