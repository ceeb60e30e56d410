//! `checkgate replay`: a recording through the same engine.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use checkgate_detectors::finding::Mode;
use clap::Args;

use crate::gate::Gate;
use crate::journal::JournalReader;
use crate::lane::desk::{Desk, Step};
use crate::lane::hand_on;
use crate::metrics::Metrics;
use crate::records::{Outlet, Patience};

/// Arguments of `checkgate replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// A recording that `checkgate run --record FILE` made.
    recording: PathBuf,
    /// Replay in this mode instead of the recorded one: observe or enforce.
    #[arg(long, value_name = "MODE", value_parser = super::run::parse::<Mode>)]
    mode: Option<Mode>,
    /// File for findings and decisions [default: standard output].
    #[arg(long, value_name = "FILE")]
    findings: Option<PathBuf>,
}

/// Prints the findings and decisions that the recording gives.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let (mut journal, plan) = JournalReader::open(&args.recording)?;
    let plan = match args.mode {
        Some(mode) => plan.in_mode(mode),
        None => plan,
    };
    let plan = Arc::new(plan);
    let mut desk = Desk::new(Arc::clone(&plan))?;
    let names: Vec<_> = plan.models.iter().map(|model| model.name.clone()).collect();
    let metrics = Metrics::new(&names, &[])?;
    let records = Arc::new(Outlet::start(output(args)?, Arc::clone(&metrics), Patience::Always)?);
    let gate = Gate::for_replay(&plan, metrics, Arc::clone(&records));
    let mut step = Step::default();
    while let Some(entry) = journal.next_entry()? {
        desk.step(entry, &mut step);
        hand_on(&step, &plan, &gate, &records);
    }
    records.flush_and_stop();
    if journal.torn() {
        anstream::eprintln!(
            "note: the recording ends in the middle of an entry; everything before it was replayed"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn output(args: &ReplayArgs) -> anyhow::Result<Box<dyn Write + Send>> {
    Ok(match &args.findings {
        Some(path) => {
            Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => Box::new(io::stdout()),
    })
}
