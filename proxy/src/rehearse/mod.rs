//! The rehearsal: what a policy would have done to recorded clients and to recorded attackers.
//!
//! Nothing here decides anything: recorded captures go through the lane's own desk and the gate's own table, at the
//! times that they carry, and a question that the gate would have refused reaches the desk as a refused one. What came
//! of it is counted and becomes a [`Report`], which the files in `form/` write.

mod attack;
mod candidate;
mod clients;
mod compare;
pub mod form;
mod histogram;
mod paces;
mod pack;
mod recording;
pub mod report;
mod runner;
mod shift;
mod stream;
mod translation;

use std::path::PathBuf;

use checkgate_config::Settings;
use checkgate_detectors::finding::Mode;
pub use checkgate_detectors::severity::Severity;

pub use self::attack::Attacks;
pub use self::candidate::Ask;
pub use self::pack::NOTICE;
pub use self::report::Report;

use self::candidate::Candidate;
use self::compare::Comparison;
use self::paces::Paces;
use self::recording::{Recordings, Rehearsal, Rehearsed, in_mode};
use self::report::AttackRun;
use self::translation::Translation;
use crate::plan::{ModelIds, Plan};

/// A policy to rehearse.
pub struct Policy {
    /// What it is called in the report: its file.
    pub name: String,
    /// What the file says.
    pub settings: Settings,
}

/// What is to be rehearsed.
pub struct Order {
    /// The recordings of one instance; there may be none.
    pub recordings: Vec<PathBuf>,
    /// The policy; without one, what was recorded.
    pub policy: Option<Policy>,
    /// The mode of every model, where another one is wanted than the policy's.
    pub mode: Option<Mode>,
    /// The attacks.
    pub attacks: Attacks,
    /// Another policy to compare with.
    pub compare: Option<Policy>,
    /// A candidate model to compare with.
    pub candidate: Option<Ask>,
}

/// Who wants to know how far it is.
pub trait Progress: Sync {
    /// Something of `length` steps begins.
    fn begin(&self, what: &str, length: u64);
    /// So many steps of it are done.
    fn at(&self, position: u64);
    /// One more is.
    fn step(&self);
}

/// What one policy did.
struct Run {
    rehearsed: Option<Rehearsed>,
    attacks: Vec<AttackRun>,
}

/// Rehearses what `order` says.
///
/// # Errors
/// When a recording, a stream or a reference cannot be read, or a policy cannot be built.
pub fn rehearse(order: &Order, progress: &dyn Progress) -> anyhow::Result<Report> {
    let run = order.under(order.policy.as_ref(), "", progress)?;
    let comparison = order.compare.as_ref().map(|other| {
        let second = order.under(Some(other), &other.name, progress)?;
        anyhow::Ok(Comparison::of(&other.name, &run, &second))
    });
    let comparison = comparison.transpose()?;
    let candidate = order.candidate.as_ref().map(|ask| order.ask(ask, progress)).transpose()?;
    let (traffic, notes) = match run.rehearsed {
        Some(rehearsed) => (Some(rehearsed.traffic), rehearsed.notes),
        None => (None, Vec::new()),
    };
    let severity = traffic.iter().flat_map(|traffic| traffic.findings_by_severity.keys()).max().copied();
    let severity = severity.max(candidate.as_ref().and_then(Candidate::severity));
    Ok(Report {
        version: report::VERSION,
        checkgate: env!("CARGO_PKG_VERSION"),
        policy: order.policy.as_ref().map(|policy| policy.name.clone()),
        severity,
        notes,
        traffic,
        attacks: run.attacks,
        comparison,
        candidate,
    })
}

impl Order {
    /// Asks a candidate what was recorded.
    fn ask(&self, ask: &Ask, progress: &dyn Progress) -> anyhow::Result<Candidate> {
        let (recordings, recorded) = Recordings::open(&self.recordings)?;
        let settings = self.policy.as_ref().map(|policy| &policy.settings);
        let translation =
            settings.map(|settings| Translation::new(recorded.clone(), settings)).transpose()?;
        let plan = translation.as_ref().map_or(recorded, |translation| Plan::clone(translation.plan()));
        candidate::compare(ask, recordings, &plan, translation, progress)
    }

    fn under(&self, policy: Option<&Policy>, whose: &str, progress: &dyn Progress) -> anyhow::Result<Run> {
        let settings = policy.map(|policy| &policy.settings);
        let said = |what: &str| if whose.is_empty() { what.to_owned() } else { format!("{what}, {whose}") };
        let (rehearsed, recorded) = if self.recordings.is_empty() {
            (None, None)
        } else {
            let (recordings, recorded) = Recordings::open(&self.recordings)?;
            progress.begin(&said("recording"), recordings.length());
            let rehearsal = Rehearsal::new(recorded.clone(), settings, self.mode)?;
            let rehearsed = rehearsal.run(recordings, &|position| progress.at(position))?;
            (Some(rehearsed), Some(recorded))
        };
        let plan = match settings {
            // No key of a client is hashed here, and attacks must give the same wherever they are rehearsed.
            Some(settings) => Some(Plan::new(settings, [0, 0], &mut ModelIds::default())?),
            None => recorded,
        };
        let Some(plan) = plan.map(|plan| in_mode(plan, self.mode)) else {
            return Ok(Run { rehearsed, attacks: Vec::new() });
        };
        progress.begin(&said("attacks"), self.attacks.runs(&plan));
        let paces = settings.map(Paces::of_settings).unwrap_or_default();
        let attacks = self.attacks.run(&plan, &paces, &|| progress.step())?;
        Ok(Run { rehearsed, attacks })
    }
}
