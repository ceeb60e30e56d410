//! `checkgate replay`: a recording through the same engine.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use checkgate_detectors::finding::Mode;
use clap::Args;

use crate::capture::{Entry, Replanned};
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
    let plan = Arc::new(match args.mode {
        Some(mode) => plan.in_mode(mode),
        None => plan,
    });
    let mut desk = Desk::new(Arc::clone(&plan))?;
    let metrics = Metrics::new(&[], &[])?;
    let records = Arc::new(Outlet::start(output(args)?, Arc::clone(&metrics), Patience::Always)?);
    let gate = Gate::for_replay(&plan, metrics);
    let mut step = Step::default();
    while let Some(entry) = journal.next_entry()? {
        desk.step(in_mode(entry, args.mode), &mut step);
        hand_on(&step, &desk, &gate, &records);
    }
    records.flush_and_stop();
    if journal.torn() {
        anstream::eprintln!(
            "note: the recording ends in the middle of an entry; everything before it was replayed"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The entry with `mode` in place of the recorded one.
fn in_mode(entry: Entry, mode: Option<Mode>) -> Entry {
    match (entry, mode) {
        (Entry::Plan(replanned), Some(mode)) => {
            let plan = Arc::unwrap_or_clone(replanned.plan).in_mode(mode);
            Entry::Plan(Replanned { plan: Arc::new(plan), ..replanned })
        }
        (entry, _) => entry,
    }
}

fn output(args: &ReplayArgs) -> anyhow::Result<Box<dyn Write + Send>> {
    Ok(match &args.findings {
        Some(path) => {
            Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => Box::new(io::stdout()),
    })
}
