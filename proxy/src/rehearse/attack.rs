//! Recorded attacks in front of a policy: what each would have got away with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, ensure};
use checkgate_detectors::contract::Contract;
use checkgate_detectors::finding::{Action, Kind, Record};
use parking_lot::Mutex;
use serde::Serialize;

use super::paces::{ModelPace, Paces};
use super::pack::{ATTACKS, Packed};
use super::report::AttackRun;
use super::runner::{Fate, Runner};
use super::stream::Stream;
use crate::plan::{ModelPlan, Plan};

/// Streams of the operator's own folder.
const OWN_MAX: usize = 1000;

/// Where an attack comes from.
enum Source {
    /// From the pack, in front of the pack's own reference.
    Pack(&'static Packed),
    /// From the operator's folder, in front of the configured model itself.
    Own {
        name: String,
        /// The model that it is meant for; every model where there is none.
        model: Option<String>,
        file: PathBuf,
    },
}

/// The attacks to run.
#[derive(Default)]
pub struct Attacks {
    sources: Vec<Source>,
}

/// What one attack would have got away with.
#[derive(Clone, Debug, Serialize)]
pub struct AttackVerdict {
    /// Its name.
    pub name: String,
    /// What it is after; empty for the operator's own.
    pub aim: &'static str,
    /// The model in front of which it ran.
    pub model: String,
    /// Whether it ran in front of a model of the pack.
    pub from_pack: bool,
    /// Its rows.
    pub rows: u64,
    /// Its requests.
    pub requests: u64,
    /// The first finding.
    pub first_finding: Option<Moment>,
    /// The first decision to throttle, degrade or block.
    pub first_decision: Option<Moment>,
    /// The first block.
    pub block: Option<Moment>,
    /// Requests that were answered.
    pub requests_answered: u64,
    /// Rows that were answered: what the attacker got.
    pub rows_answered: u64,
    /// Rows that were answered coarse and late.
    pub rows_degraded: u64,
    /// By how many seconds answers came later together, to an attacker that asks as before.
    pub seconds_later: f64,
    /// The share of its rows that were answered, 0 to 1.
    pub share_answered: f64,
}

/// Where in an attack something was told or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Rows asked so far, those of the request that led to it included.
    pub row: u64,
    /// Requests so far, that one included.
    pub request: u64,
    /// Rows answered before: those of requests that were answered, that one included if it was.
    pub rows_answered: u64,
    /// The detector.
    pub detector: String,
    /// What is done.
    pub action: Action,
    /// Whether it acts.
    pub acts: bool,
}

impl Attacks {
    /// The attacks of the pack where `with_pack` says so, and those in the operator's `folder`: files directly in it
    /// run in front of every model, those in a folder of a model's name in front of that model.
    ///
    /// # Errors
    /// Where the folder cannot be read or holds no stream.
    pub fn gather(with_pack: bool, folder: Option<&Path>) -> anyhow::Result<Self> {
        let pack = ATTACKS.iter().filter(|_| with_pack).map(Source::Pack);
        let mut sources: Vec<Source> = pack.collect();
        if let Some(folder) = folder {
            let own = own(folder)?;
            ensure!(!own.is_empty(), "{} holds no *.jsonl and no *.jsonl.gz", folder.display());
            sources.extend(own);
        }
        Ok(Self { sources })
    }

    /// How many runs they come to in front of the policies of `plan`.
    pub fn runs(&self, plan: &Plan) -> u64 {
        let runs =
            |policy: &Shared| self.sources.iter().map(|source| source.targets(policy).len()).sum::<usize>();
        policies(plan).iter().map(runs).sum::<usize>() as u64
    }

    /// Runs them in front of every policy of `plan`; `step` is told after each.
    ///
    /// # Errors
    /// Where a stream cannot be read or a policy not be built.
    pub fn run(
        &self,
        plan: &Plan,
        paces: &Paces,
        step: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Vec<AttackRun>> {
        let ground = Plan { models: BTreeMap::new(), unclaimed: None, ..plan.clone() };
        let mut runs = Vec::new();
        for policy in policies(plan) {
            let jobs: Vec<Job<'_>> = self.sources.iter().flat_map(|source| source.jobs(&policy)).collect();
            let pace = paces.of(&policy.plan.name);
            let attacks = side_by_side(&jobs, |job| {
                let verdict = job.run(&ground, pace);
                step();
                verdict
            })?;
            runs.push(AttackRun { models: policy.names(), mode: policy.plan.mode, attacks });
        }
        Ok(runs)
    }
}

/// A policy, and the models that have it.
struct Shared {
    plan: ModelPlan,
    models: Vec<ModelPlan>,
}

impl Shared {
    fn names(&self) -> Vec<String> {
        self.models.iter().map(|model| model.name.clone()).collect()
    }
}

/// The policies of a plan, each once: models that differ in contract, protocol and reference only share one. A plan
/// that names no model has the policy of those that it would discover.
fn policies(plan: &Plan) -> Vec<Shared> {
    let mut policies: Vec<Shared> = Vec::new();
    let discovered = plan.unclaimed.iter().filter(|_| plan.models.is_empty());
    for model in plan.models.values().chain(discovered) {
        let bare = bare(model);
        let known = policies
            .iter_mut()
            .find(|shared| ModelPlan { name: String::new(), ..shared.plan.clone() } == bare);
        match known {
            Some(shared) => shared.models.push(model.clone()),
            None => {
                let plan = ModelPlan { name: model.name.clone(), ..bare };
                policies.push(Shared { plan, models: vec![model.clone()] });
            }
        }
    }
    policies
}

/// A model's policy without what belongs to its own traffic.
fn bare(model: &ModelPlan) -> ModelPlan {
    ModelPlan {
        name: String::new(),
        protocol: None,
        contract: Contract::default(),
        contract_action: Action::Alert,
        reference: None,
        drift: None,
        ..model.clone()
    }
}

impl Source {
    /// The models of `policy` in front of which it runs, as they are built for it.
    fn targets<'a>(&self, policy: &'a Shared) -> Vec<&'a ModelPlan> {
        match self {
            Self::Pack(_) => vec![&policy.plan],
            Self::Own { model: Some(wanted), .. } => {
                policy.models.iter().filter(|model| model.name == *wanted).collect()
            }
            Self::Own { model: None, .. } => policy.models.iter().collect(),
        }
    }

    fn jobs<'a>(&'a self, policy: &'a Shared) -> Vec<Job<'a>> {
        self.targets(policy).into_iter().map(|model| Job { source: self, model }).collect()
    }
}

struct Job<'a> {
    source: &'a Source,
    model: &'a ModelPlan,
}

impl Job<'_> {
    fn run(&self, ground: &Plan, pace: ModelPace) -> anyhow::Result<AttackVerdict> {
        let (stream, model) = match self.source {
            Source::Pack(packed) => {
                let reference = Some(packed.reference()?);
                let model = ModelPlan { name: packed.model.to_owned(), reference, ..self.model.clone() };
                (packed.stream()?, model)
            }
            // Its bodies are written in a protocol of the stream's own.
            Source::Own { file, .. } => {
                (Stream::open(file)?, ModelPlan { protocol: None, ..self.model.clone() })
            }
        };
        let shown = model.name.clone();
        let plan = Plan { models: [(0, model)].into(), ..ground.clone() };
        let mut verdict = self.empty(shown, &stream);
        verdict.play(&stream, Runner::new(Arc::new(plan), Paces::always(pace))?);
        Ok(verdict)
    }

    fn empty(&self, model: String, stream: &Stream) -> AttackVerdict {
        let (name, aim, from_pack) = match self.source {
            Source::Pack(packed) => (packed.name.to_owned(), packed.aim(), true),
            Source::Own { name, .. } => (name.clone(), "", false),
        };
        AttackVerdict {
            name,
            aim,
            model,
            from_pack,
            rows: stream.rows(),
            requests: stream.requests() as u64,
            first_finding: None,
            first_decision: None,
            block: None,
            requests_answered: 0,
            rows_answered: 0,
            rows_degraded: 0,
            seconds_later: 0.0,
            share_answered: 0.0,
        }
    }
}

impl AttackVerdict {
    fn play(&mut self, stream: &Stream, mut runner: Runner) {
        let (mut row, mut request) = (0, 0);
        for ((asked, answered), rows) in stream.captures(0).zip(stream.row_counts()) {
            request += 1;
            row += rows;
            let taken = runner.take(asked);
            let fate = taken.fate.map_or(Fate::Unknown, |(_, fate)| fate);
            if matches!(fate, Fate::Answered | Fate::Degraded) {
                self.requests_answered += 1;
                self.rows_answered += rows;
                self.rows_degraded += if fate == Fate::Degraded { rows } else { 0 };
                self.seconds_later += taken.delay.as_secs_f64();
            }
            let (told, acting) = (taken.records.to_vec(), taken.acting);
            let mut records: Vec<(Record, bool)> =
                told.into_iter().map(|record| acts(record, &acting)).collect();
            let taken = runner.take(answered);
            records.extend(taken.records.iter().cloned().map(|record| acts(record, &taken.acting)));
            records.iter().for_each(|(record, acts)| self.note(record, *acts, row, request));
        }
        self.share_answered = self.rows_answered as f64 / self.rows.max(1) as f64;
    }

    fn note(&mut self, record: &Record, acts: bool, row: u64, request: u64) {
        let moment = Moment {
            row,
            request,
            rows_answered: self.rows_answered,
            detector: record.detector.to_owned(),
            action: record.action,
            acts,
        };
        if record.kind == Kind::Decision && record.action >= Action::Throttle {
            self.first_decision.get_or_insert_with(|| moment.clone());
        }
        if record.kind == Kind::Decision && record.action == Action::Block {
            self.block.get_or_insert_with(|| moment.clone());
        }
        if record.kind != Kind::Note {
            self.first_finding.get_or_insert(moment);
        }
    }
}

fn acts(record: Record, acting: &[checkgate_detectors::finding::DecisionId]) -> (Record, bool) {
    let acts = record.decision_id.is_some_and(|id| acting.contains(&id));
    (record, acts)
}

/// The streams of the operator's folder, by name.
fn own(folder: &Path) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for entry in entries(folder)? {
        if entry.is_dir() {
            let model = entry.file_name().map(|name| name.to_string_lossy().into_owned());
            sources.extend(entries(&entry)?.into_iter().filter_map(|file| own_file(file, model.clone())));
        } else {
            sources.extend(own_file(entry, None));
        }
    }
    ensure!(sources.len() <= OWN_MAX, "{} holds more than {OWN_MAX} streams", folder.display());
    Ok(sources)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn own_file(file: PathBuf, model: Option<String>) -> Option<Source> {
    let whole = file.file_name()?.to_string_lossy().into_owned();
    let name = whole.strip_suffix(".gz").unwrap_or(&whole).strip_suffix(".jsonl")?.to_owned();
    Some(Source::Own { name, model, file })
}

/// Runs the jobs on all cores; the results come in the order of the jobs.
fn side_by_side<J: Sync, R: Send>(
    jobs: &[J],
    run: impl Fn(&J) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, anyhow::Result<R>)>> = Mutex::default();
    let cores = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((number, job)) = take(jobs, &next) {
                    let result = run(job);
                    done.lock().push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, J>(jobs: &'a [J], next: &AtomicUsize) -> Option<(usize, &'a J)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(number).map(|job| (number, job))
}
