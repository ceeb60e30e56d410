//! Recordings, read as one and rehearsed.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use checkgate_config::Settings;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Kind, Mode};

use super::clients::{Clients, Findings};
use super::histogram::Histogram;
use super::paces::Paces;
use super::report::Traffic;
use super::runner::{Fate, Runner, Taken};
use super::translation::Translation;
use crate::capture::{Entry, Replanned};
use crate::journal::JournalReader;
use crate::plan::Plan;

/// The lanes of one instance, merged by the time of their entries: what they share, the block table, met them in
/// about that order.
pub struct Recordings {
    lanes: Vec<Lane>,
}

struct Lane {
    path: PathBuf,
    journal: JournalReader,
    next: Option<Entry>,
}

impl Recordings {
    /// Opens the recordings of one instance and gives the plan that the first was made under.
    ///
    /// # Errors
    /// When a file is no recording, or they are not of one instance.
    pub fn open(paths: &[PathBuf]) -> anyhow::Result<(Self, Plan)> {
        let mut lanes = Vec::new();
        let mut first: Option<Plan> = None;
        for path in paths {
            let (mut journal, plan) = JournalReader::open(path)?;
            let same = first.as_ref().is_none_or(|first| first.hash_key == plan.hash_key);
            ensure!(
                same,
                "{} was recorded by another instance than {}; rehearse them one by one",
                path.display(),
                paths.first().map_or("", |path| path.to_str().unwrap_or("the first"))
            );
            let next = journal.next_entry()?;
            first.get_or_insert(plan);
            lanes.push(Lane { path: path.clone(), journal, next });
        }
        Ok((Self { lanes }, first.context("no recording was named")?))
    }

    /// The earliest entry that is left.
    ///
    /// # Errors
    /// When an entry does not read back.
    pub fn next_entry(&mut self) -> anyhow::Result<Option<Entry>> {
        let waiting = self.lanes.iter_mut().filter(|lane| lane.next.is_some());
        let earliest = waiting.min_by_key(|lane| lane.next.as_ref().map(Entry::time));
        let Some(lane) = earliest else { return Ok(None) };
        let next = lane.journal.next_entry()?;
        Ok(std::mem::replace(&mut lane.next, next))
    }

    /// Bytes of all files.
    pub fn length(&self) -> u64 {
        self.lanes.iter().filter_map(|lane| Some(std::fs::metadata(&lane.path).ok()?.len())).sum()
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.journal.position()).sum()
    }

    fn torn(&self) -> bool {
        self.lanes.iter().any(|lane| lane.journal.torn())
    }
}

/// Changes of drift that a report shows; those beyond are counted.
const DRIFT_SHOWN: usize = 1000;

/// Under which policy a recording is rehearsed.
pub struct Rehearsal {
    runner: Runner,
    translation: Option<Translation>,
    mode: Option<Mode>,
    clients: Clients,
    findings: Findings,
    traffic: Traffic,
}

impl Rehearsal {
    /// Of recordings that were made under `recorded`, under `settings` or, without them, as they were recorded; in
    /// `mode` where one is given.
    ///
    /// # Errors
    /// When the settings cannot be built.
    pub fn new(recorded: Plan, settings: Option<&Settings>, mode: Option<Mode>) -> anyhow::Result<Self> {
        let translation =
            settings.map(|settings| Translation::new(recorded.clone(), settings)).transpose()?;
        let plan = translation.as_ref().map_or(recorded, |translation| Plan::clone(translation.plan()));
        let plan = in_mode(plan, mode);
        let paces = settings.map(Paces::of_settings).unwrap_or_default();
        Ok(Self {
            runner: Runner::new(plan.into(), paces)?,
            translation,
            mode,
            clients: Clients::default(),
            findings: Findings::default(),
            traffic: Traffic::default(),
        })
    }

    /// Takes everything that the recordings hold; `progress` is told the bytes read.
    ///
    /// # Errors
    /// When an entry does not read back.
    pub fn run(mut self, mut recordings: Recordings, progress: &dyn Fn(u64)) -> anyhow::Result<Rehearsed> {
        while let Some(entry) = recordings.next_entry()? {
            self.take(entry);
            if self.traffic.entries.is_multiple_of(256) {
                progress(recordings.position());
            }
        }
        self.traffic.torn = recordings.torn();
        self.traffic.recordings =
            recordings.lanes.iter().map(|lane| lane.path.display().to_string()).collect();
        Ok(self.finish())
    }

    fn take(&mut self, entry: Entry) {
        self.count_entry(&entry);
        let entry = match &mut self.translation {
            Some(translation) => translation.entry(entry),
            None => Some(replanned_in(entry, self.mode)),
        };
        let Some(entry) = entry else { return };
        let taken = self.runner.take(entry);
        count(&mut self.traffic, &taken);
        self.clients.count(&taken);
        self.findings.take(taken.records, &taken.acting);
    }

    fn count_entry(&mut self, entry: &Entry) {
        let seconds = entry.time().seconds();
        if self.traffic.entries == 0 {
            (self.traffic.from, self.traffic.until) = (seconds, seconds);
        }
        self.traffic.entries += 1;
        self.traffic.from = self.traffic.from.min(seconds);
        self.traffic.until = self.traffic.until.max(seconds);
    }

    fn finish(self) -> Rehearsed {
        let Self { runner, translation, clients, findings, mut traffic, .. } = self;
        let mut notes = notes(translation.as_ref(), &traffic);
        if runner.panics > 0 {
            notes.push(format!("{} captures made a decoder panic and were skipped.", runner.panics));
        }
        for (name, sum) in &mut traffic.models {
            let plan = runner.plan();
            let configured = plan.models.values().find(|model| model.name == *name);
            sum.mode = configured.or(plan.unclaimed.as_ref()).map(|model| model.mode).unwrap_or_default();
        }
        traffic.clients = clients.count_of_clients();
        traffic.requests_of_uncounted_clients = clients.uncounted;
        traffic.verdicts = clients.verdicts();
        traffic.farthest = runner.farthest(Time((traffic.until * 1e6) as u64));
        traffic.findings_by_severity = findings.by_severity;
        traffic.findings_not_shown = findings.over;
        traffic.findings = findings.kept;
        Rehearsed { traffic, notes }
    }
}

/// What came of recordings.
pub struct Rehearsed {
    /// The sums and the clients.
    pub traffic: Traffic,
    /// What should be known before they are believed.
    pub notes: Vec<String>,
}

fn count(traffic: &mut Traffic, taken: &Taken<'_>) {
    if let Some((_, fate)) = taken.fate {
        traffic.requests += 1;
        traffic.rows += taken.rows;
        traffic.refused += u64::from(fate == Fate::Refused);
        traffic.refused_when_recorded += u64::from(fate == Fate::Unknown);
        traffic.over_time.get_or_insert_with(|| Histogram::new(taken.time.0)).add(taken.time.0);
    }
    traffic.brake |= taken.brake;
    for record in taken.drifts {
        if traffic.drift.len() < DRIFT_SHOWN {
            traffic.drift.push(record.clone());
        } else {
            traffic.drift_not_shown += 1;
        }
    }
    traffic.answers_that_break_their_contract += u64::from(taken.broke_contract);
    for (_, reason) in taken.not_inspected {
        *traffic.not_inspected.entry(reason.as_str()).or_default() += 1;
    }
    if let Some(name) = taken.model {
        let sum = traffic.models.entry(name.to_owned()).or_default();
        sum.requests += u64::from(taken.fate.is_some());
        sum.rows += taken.rows;
        sum.findings += taken.records.iter().filter(|record| record.kind != Kind::Note).count() as u64;
    }
}

/// `plan` with every model in `mode`, where one is given.
pub fn in_mode(plan: Plan, mode: Option<Mode>) -> Plan {
    match mode {
        Some(mode) => plan.in_mode(mode),
        None => plan,
    }
}

fn replanned_in(entry: Entry, mode: Option<Mode>) -> Entry {
    match entry {
        Entry::Plan(replanned) if mode.is_some() => {
            let plan = in_mode(Plan::clone(&replanned.plan), mode);
            Entry::Plan(Replanned { plan: plan.into(), ..replanned })
        }
        entry => entry,
    }
}

fn notes(translation: Option<&Translation>, traffic: &Traffic) -> Vec<String> {
    let mut notes = Vec::new();
    if traffic.torn {
        notes.push("The recording ends in the middle of an entry; everything before it counts.".to_owned());
    }
    if traffic.refused_when_recorded > 0 {
        notes.push(format!(
            "{} requests were refused when they were recorded, and a recording holds nothing of what they asked: what \
             their clients would have done here is not known.",
            traffic.refused_when_recorded
        ));
    }
    if traffic.brake {
        notes.push("The brake came on: blocks were observations for a minute.".to_owned());
    }
    notes.extend(translation.into_iter().flat_map(Translation::notes));
    notes
}

#[cfg(test)]
mod tests {
    use checkgate_detectors::facts::Time;
    use checkgate_detectors::finding::DecisionId;

    use super::*;
    use crate::capture::Lift;
    use crate::journal::JournalWriter;
    use crate::plan::tests::plan;

    fn lane(folder: &tempfile::TempDir, name: &str, plan: &Plan, times: &[u64]) -> PathBuf {
        let path = folder.path().join(name);
        let mut writer = JournalWriter::create(&path, plan, u64::MAX).unwrap();
        for time in times {
            let lift = Lift { time: Time(*time), decision: DecisionId(*time) };
            writer.append(&Entry::Lift(lift)).unwrap();
        }
        writer.flush().unwrap();
        path
    }

    #[test]
    fn the_lanes_of_one_instance_are_merged_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let lanes = [
            lane(&folder, "one", &plan(), &[1, 4, 5, 9]),
            lane(&folder, "two", &plan(), &[2, 3, 7]),
            lane(&folder, "none", &plan(), &[]),
        ];
        let (mut recordings, read) = Recordings::open(&lanes).unwrap();
        assert_eq!(read, plan());
        let mut times = Vec::new();
        while let Some(entry) = recordings.next_entry().unwrap() {
            times.push(entry.time().0);
        }
        assert_eq!(times, [1, 2, 3, 4, 5, 7, 9]);
        assert_eq!(recordings.position(), recordings.length(), "everything was read");
    }

    #[test]
    fn recordings_of_two_instances_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other = Plan { hash_key: [3, 4], ..plan() };
        let lanes = [lane(&folder, "one", &plan(), &[1]), lane(&folder, "two", &other, &[2])];
        let error = Recordings::open(&lanes).err().unwrap().to_string();
        assert!(error.contains("another instance"), "{error}");
        assert!(Recordings::open(&[]).is_err());
    }
}
