//! `checkgate rehearse`: what a policy would have done, to customers and to attackers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use checkgate_config::Raw;
use checkgate_detectors::finding::Mode;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::print;
use crate::rehearse::form::Form;
use crate::rehearse::{self, Ask, Attacks, NOTICE, Order, Policy, Progress, Report, Severity};
use crate::serve::Source;

/// Findings as grave as asked for, or graver.
const FINDINGS: u8 = 1;
/// It could not be rehearsed.
const FAILED: u8 = 2;

const AFTER_HELP: &str = "\
Examples:
  checkgate rehearse -c checkgate.yaml
        run the attack pack against a policy: what each attack would have got away with
  checkgate rehearse recording -c checkgate.yaml --mode enforce
        whom that policy would have blocked in recorded traffic, when and why
  checkgate rehearse recording -c checkgate.yaml --compare stricter.yaml --write html=report.html
        what another policy would have done differently, as a page to pass on
  checkgate rehearse recording -c checkgate.yaml --no-pack --upstream http://127.0.0.1:9000
        what a candidate model answers to recorded questions: contracts, labels, scores
  checkgate rehearse recording -c checkgate.yaml --fail-on-severity high
        a gate for a pipeline: exit code 0 without such findings, 1 with some, 2 for an error

A recording is made by `checkgate run --record FILE`.

Severities:
  high    a client is blocked in `enforce`, or a candidate breaks its contract
  medium  a finding of tier 1 without such a block, or something weaker is done
  low     something is told";

/// Arguments of `checkgate rehearse`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct RehearseArgs {
    /// Recordings that `checkgate run --record FILE` made; several are the lanes of one instance.
    recordings: Vec<PathBuf>,
    /// Configuration file with the policy to rehearse [default: what was recorded].
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Rehearse every model in this mode instead of the policy's: observe or enforce.
    #[arg(long, value_name = "MODE", value_parser = super::run::parse::<Mode>)]
    mode: Option<Mode>,
    /// Another configuration file: say what it would have done differently.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Folder with attack streams of your own (*.jsonl, *.jsonl.gz), in it or in folders named after models.
    #[arg(long, value_name = "FOLDER")]
    attacks: Option<PathBuf>,
    /// Leave out the attack pack that ships with the program.
    #[arg(long)]
    no_pack: bool,
    /// A candidate model (http://HOST:PORT): send it the recorded questions and compare its answers with the recorded.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Questions that a candidate is asked at most.
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "upstream")]
    limit: u64,
    /// Form of the report on standard output.
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    format: Form,
    /// Also write the report in that form to a file, its folder included; may be given several times.
    #[arg(long, value_name = "FORM=FILE", value_parser = form_and_file)]
    write: Vec<(Form, PathBuf)>,
    /// End with exit code 1 where the recorded traffic gives findings as grave as this: low, medium or high.
    #[arg(long, value_name = "SEVERITY", value_parser = super::run::parse::<Severity>)]
    fail_on_severity: Option<Severity>,
    /// Print where the rows of the attack pack come from, and under which licences.
    #[arg(long)]
    notice: bool,
}

/// Rehearses and reports. It never fails with an error: that would read as findings.
pub fn rehearse(args: &RehearseArgs) -> anyhow::Result<ExitCode> {
    match report(args) {
        Ok(code) => Ok(code),
        Err(error) => {
            super::tell(&error);
            Ok(ExitCode::from(FAILED))
        }
    }
}

fn report(args: &RehearseArgs) -> anyhow::Result<ExitCode> {
    if args.notice {
        return print(NOTICE);
    }
    let bar = Bar::new();
    let report = rehearse::rehearse(&order(args)?, &bar)?;
    drop(bar);
    for (form, file) in &args.write {
        let written = form.write(&report, args.fail_on_severity)?;
        write(file, written.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    print(&args.format.write(&report, args.fail_on_severity)?)?;
    Ok(code(&report, args.fail_on_severity))
}

/// Writes a file, and the folder that it lies in where that is missing.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, bytes)
}

fn code(report: &Report, fail_on: Option<Severity>) -> ExitCode {
    let found = fail_on.is_some_and(|severity| report.findings_from(severity) > 0);
    if found { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

fn order(args: &RehearseArgs) -> anyhow::Result<Order> {
    if args.recordings.is_empty() && args.config.is_none() {
        bail!("nothing to rehearse; name a recording, or a policy with -c FILE, or both");
    }
    if args.recordings.is_empty() && args.upstream.is_some() {
        bail!("a candidate is asked what was recorded; name a recording");
    }
    Ok(Order {
        recordings: args.recordings.clone(),
        policy: args.config.as_deref().map(policy).transpose()?,
        mode: args.mode,
        attacks: Attacks::gather(!args.no_pack, args.attacks.as_deref())?,
        compare: args.compare.as_deref().map(policy).transpose()?,
        candidate: args.upstream.as_deref().map(|url| Ask::new(url, args.limit)).transpose()?,
    })
}

fn policy(file: &Path) -> anyhow::Result<Policy> {
    let source = Source { file: Some(file.to_owned()), flags: Raw::default() };
    let settings = source.read().settings.with_context(|| file.display().to_string())?;
    Ok(Policy { name: file.display().to_string(), settings })
}

fn form_and_file(text: &str) -> Result<(Form, PathBuf), String> {
    let (form, file) = text.split_once('=').ok_or("expected FORM=FILE, as in json=report.json")?;
    Ok((<Form as clap::ValueEnum>::from_str(form, false)?, file.into()))
}

/// A bar on standard error; where that is no terminal, nothing is drawn.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Nothing drawn yet.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        // A template that does not parse leaves the plain bar.
        if let Ok(style) = ProgressStyle::with_template("{msg:24!} {bar:40} {percent:>3} %  {eta}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, length: u64) {
        self.0.set_message(what.to_owned());
        self.0.set_position(0);
        self.0.set_length(length);
        self.0.reset_eta();
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    fn at(&self, position: u64) {
        self.0.set_position(position);
    }

    fn step(&self) {
        self.0.inc(1);
    }
}
