//! The outlet of findings and decisions: JSON lines to a file or to standard output, and the latest of them in
//! memory for the admin API.
//!
//! A lane hands a record over and goes on. One thread writes; a disk that stands still costs records, which are
//! counted, and never a lane's time.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use checkgate_config::settings::Findings;
use checkgate_detectors::drift::record::DriftRecord;
use checkgate_detectors::finding::{Kind, Record};
use checkgate_detectors::identity::Identity;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;

use crate::gate::Reason;
use crate::metrics::Metrics;
use crate::metrics::labels::Label;
use crate::told::clean_json;

/// Lines that may wait for the writer.
const WAITING_MAX: usize = 8192;
/// Records of one kind that the admin API can show.
const RECENT_MAX: usize = 1000;
/// The writer gathers lines up to this size before it writes.
const BATCH_BYTES: usize = 64 * 1024;

/// A record as one line of JSON, without the line's end. Live and replay print by this function alone.
#[must_use]
pub fn line(record: &Record) -> String {
    // A record is made of strings and numbers, which always serialise; a number that is not finite becomes null.
    clean_json(serde_json::to_string(record).unwrap_or_default())
}

/// A change of drift as one line of JSON, as [`line`] does it.
#[must_use]
pub fn drift_line(record: &DriftRecord) -> String {
    clean_json(serde_json::to_string(record).unwrap_or_default())
}

/// A decision's line as it is printed: with the member `held_back` where something keeps it from acting of which the
/// line itself tells nothing. The mode stands in it, and what was doubtful from the beginning is an alert. Quotes inside
/// of texts are written with a backslash, so no text can hold what is looked for here.
#[must_use]
pub fn printed(line: &Arc<str>, held_back: Option<Reason>) -> Arc<str> {
    let untold = held_back.filter(|reason| *reason != Reason::Mode && !line.contains("\"action\":\"alert\""));
    match (untold, line.strip_suffix('}')) {
        (Some(reason), Some(members)) => format!("{members},\"held_back\":\"{}\"}}", reason.as_str()).into(),
        _ => Arc::clone(line),
    }
}

/// Takes records from all lanes.
#[derive(Debug)]
pub struct Outlet {
    /// Gone once the outlet has been stopped.
    sender: RwLock<Option<SyncSender<Arc<str>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    findings: Mutex<VecDeque<Arc<str>>>,
    decisions: Mutex<VecDeque<Arc<str>>>,
    metrics: Arc<Metrics>,
    patience: Patience,
}

/// Whether the outlet may wait for its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Live: a lane is never made to wait; a record without room is dropped and counted.
    Never,
    /// Replay: nobody waits for the lane, and no record may be missing.
    Always,
}

/// Why findings cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    /// The file cannot be appended to.
    #[error("findings cannot be written to {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("the writer of findings cannot start: {0}")]
    Thread(#[from] io::Error),
}

impl Outlet {
    /// Opens the place that the operator named and starts the writer.
    ///
    /// # Errors
    /// The file cannot be appended to, or no thread can be started.
    pub fn open(findings: &Findings, metrics: Arc<Metrics>) -> Result<Self, OutletError> {
        let target: Box<dyn Write + Send> = match findings {
            Findings::Stdout => Box::new(io::stdout()),
            Findings::File(path) => Box::new(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o600)
                    .open(path)
                    .map_err(|source| OutletError::Open { path: path.clone(), source })?,
            ),
        };
        Self::start(target, metrics, Patience::Never)
    }

    /// Starts the writer on any target.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        target: Box<dyn Write + Send>,
        metrics: Arc<Metrics>,
        patience: Patience,
    ) -> Result<Self, OutletError> {
        let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
        let writer = Writer { target, metrics: Arc::clone(&metrics), torn: false };
        let writer = thread::Builder::new().name("findings".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self {
            sender: RwLock::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            findings: Mutex::default(),
            decisions: Mutex::default(),
            metrics,
            patience,
        })
    }

    /// Takes a record about a configured model, or about a discovered one: counts it, keeps it for the admin API and
    /// gives it to the writer. Never waits; a record for which there is no room is counted as dropped.
    #[cfg(test)]
    pub fn offer(&self, model: Option<u16>, record: &Record) {
        self.count(model, record);
        self.print(record.kind, line(record).into());
    }

    /// Takes a change of drift, as [`Outlet::offer`] takes records.
    pub fn offer_drift(&self, model: Option<u16>, record: &DriftRecord) {
        self.metrics.model(model).drift.told(record.change);
        self.print(Kind::Drift, drift_line(record).into());
    }

    /// Counts a change of drift that is printed later.
    pub fn count_drift(&self, model: Option<u16>, record: &DriftRecord) {
        self.metrics.model(model).drift.told(record.change);
    }

    /// Counts a record that is printed later.
    pub fn count(&self, model: Option<u16>, record: &Record) {
        self.metrics.model(model).record(record);
    }

    /// The same of a decision that no lane took: it rests on no model's traffic.
    pub fn count_by_hand(&self, record: &Record) {
        self.metrics.unclaimed().record(record);
    }

    /// Keeps the line of a record for the admin API and gives it to the writer.
    pub fn print(&self, kind: Kind, line: Arc<str>) {
        remember(self.ring(kind), Arc::clone(&line));
        let sent = self.sender.read().as_ref().is_some_and(|sender| match self.patience {
            Patience::Never => sender.try_send(line).is_ok(),
            Patience::Always => sender.send(line).is_ok(),
        });
        if !sent {
            self.metrics.records_dropped.inc();
        }
    }

    /// The latest records of a kind as JSON, the newest first; at most 1,000.
    #[must_use]
    pub fn recent(&self, kind: Kind) -> Vec<Arc<str>> {
        self.ring(kind).lock().iter().rev().cloned().collect()
    }

    /// Forgets the latest records about a client; gives how many there were. What was written stays written.
    pub fn forget(&self, client: Identity) -> u64 {
        #[derive(Deserialize)]
        struct About {
            client: String,
        }
        let name = client.to_string();
        let about =
            |line: &Arc<str>| serde_json::from_str(line).is_ok_and(|about: About| about.client == name);
        let mut forgotten = 0;
        for ring in [&self.findings, &self.decisions] {
            let mut ring = ring.lock();
            let before = ring.len();
            ring.retain(|line| !about(line));
            forgotten += (before - ring.len()) as u64;
        }
        forgotten
    }

    /// Writes every record that was accepted, then stops. Later records are kept in memory and counted as dropped.
    pub fn flush_and_stop(&self) {
        drop(self.sender.write().take());
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of findings panicked");
        }
    }

    fn ring(&self, kind: Kind) -> &Mutex<VecDeque<Arc<str>>> {
        match kind {
            Kind::Finding | Kind::Note | Kind::Drift => &self.findings,
            Kind::Decision => &self.decisions,
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.flush_and_stop();
    }
}

fn remember(ring: &Mutex<VecDeque<Arc<str>>>, line: Arc<str>) {
    let mut ring = ring.lock();
    if ring.len() == RECENT_MAX {
        ring.pop_front();
    }
    ring.push_back(line);
}

/// The one thread that waits for the disk.
struct Writer {
    target: Box<dyn Write + Send>,
    metrics: Arc<Metrics>,
    /// Whether the last write failed, possibly in the middle of a line.
    torn: bool,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Arc<str>>) {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        while let Ok(first) = lines.recv() {
            let count = gather(&mut batch, first, lines);
            self.write(&batch, count);
        }
    }

    fn write(&mut self, batch: &[u8], count: u64) {
        // What follows a torn line must not become part of it.
        let separator: &[u8] = if self.torn { b"\n" } else { b"" };
        let written = self.target.write_all(separator).and_then(|()| self.target.write_all(batch));
        match written.and_then(|()| self.target.flush()) {
            Ok(()) => self.torn = false,
            Err(error) => self.lost(count, &error),
        }
    }

    fn lost(&mut self, count: u64, error: &io::Error) {
        if !self.torn {
            tracing::error!(%error, "findings cannot be written; they are counted in checkgate_records_dropped_total");
        }
        self.torn = true;
        self.metrics.records_dropped.inc_by(count);
    }
}

/// Fills `batch` with what waits, and says how many lines it holds.
fn gather(batch: &mut Vec<u8>, first: Arc<str>, lines: &Receiver<Arc<str>>) -> u64 {
    batch.clear();
    let mut count = 0;
    let mut next = Some(first);
    while let Some(line) = next {
        batch.extend_from_slice(line.as_bytes());
        batch.push(b'\n');
        count += 1;
        next = if batch.len() < BATCH_BYTES { lines.try_recv().ok() } else { None };
    }
    count
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use checkgate_detectors::facts::Time;
    use checkgate_detectors::finding::{
        ATLAS_VERSION, Action, DecisionId, FindingId, Grounds, Mode, Tier, Window,
    };
    use checkgate_detectors::identity::{Address, Identity};

    use super::*;

    #[test]
    fn what_is_held_back_for_a_reason_that_nothing_else_tells_says_so_when_it_is_printed() {
        let acts: Arc<str> = line(&record(Kind::Decision, 7)).into();
        assert_eq!(printed(&acts, None), acts);
        assert_eq!(printed(&acts, Some(Reason::Mode)), acts, "the mode stands in it");
        let held: serde_json::Value =
            serde_json::from_str(&printed(&acts, Some(Reason::KillSwitch))).unwrap();
        assert_eq!(held["held_back"], "kill_switch");
        let alert: Arc<str> = line(&Record { action: Action::Alert, ..record(Kind::Decision, 7) }).into();
        assert_eq!(printed(&alert, Some(Reason::Unproven)), alert, "an alert never acts");
        let explanation = "\",\"action\":\"alert\",\"x\":\"".to_owned();
        let hostile: Arc<str> = line(&Record { explanation, ..record(Kind::Decision, 7) }).into();
        assert!(printed(&hostile, Some(Reason::Brake)).contains("held_back"), "no text hides it");
    }

    #[test]
    fn every_naughty_string_reads_back_from_a_line_that_steers_nothing() {
        for text in naughty_strings::BLNS {
            let written = line(&Record {
                model: (*text).into(),
                fields: vec![(*text).into()],
                explanation: (*text).into(),
                ..record(Kind::Finding, 7)
            });
            assert!(!written.contains(crate::told::clean::steers), "{written:?}");
            let read: serde_json::Value = serde_json::from_str(&written).unwrap();
            let [model, field, told] = [&read["model"], &read["fields"][0], &read["explanation"]];
            assert_eq!([model, field, told], [*text; 3]);
        }
    }

    /// A record to test with.
    pub(crate) fn record(kind: Kind, id: u64) -> Record {
        Record {
            id: FindingId(id),
            time: Time(1_700_000_000_250_000),
            kind,
            client: Identity::Address(Address::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)))),
            model: "prices".into(),
            detector: "one_field_sweep",
            tier: Tier::One,
            atlas: "AML.T0024.002",
            atlas_version: ATLAS_VERSION,
            owasp: Some("ML05:2023"),
            statistic: 12.0,
            limit: 11.0,
            window: Window { rows: 12, requests: 12, seconds: 3.5, observed: 1.0 },
            action: Action::Block,
            mode: Mode::Enforce,
            decision_id: Some(DecisionId(id)),
            until: Some(Time(1_700_000_600_000_000)),
            fields: vec!["area".into()],
            campaign: None,
            grounds: Grounds::default(),
            requests: vec![],
            explanation: "it moved one field \"area\"\nand nothing else".into(),
        }
    }

    /// An outlet that writes nowhere.
    pub(crate) fn silent(metrics: &Arc<Metrics>) -> Outlet {
        Outlet::start(Box::new(io::sink()), Arc::clone(metrics), Patience::Never).unwrap()
    }

    fn metrics() -> Arc<Metrics> {
        Metrics::new(&[], &["one_field_sweep"]).unwrap()
    }

    #[test]
    fn everything_that_was_accepted_is_written_as_line_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("findings.jsonl");
        let metrics = metrics();
        let outlet = Outlet::open(&Findings::File(path.clone()), Arc::clone(&metrics)).unwrap();
        let records: Vec<_> = (0..5000).map(|id| record(Kind::Decision, id)).collect();
        records.iter().for_each(|record| outlet.offer(None, record));
        outlet.flush_and_stop();
        let expected: String = records.iter().map(|record| line(record) + "\n").collect();
        assert!(std::fs::read_to_string(&path).unwrap() == expected, "the file differs from the lines");
        assert_eq!(metrics.records_dropped.get(), 0);
    }

    #[test]
    fn a_client_that_is_forgotten_is_in_no_record_at_hand_and_others_stay() {
        let outlet = silent(&metrics());
        let other = Identity::Address(Address::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8))));
        for id in 0..6 {
            let kind = if id % 2 == 0 { Kind::Finding } else { Kind::Decision };
            let record = record(kind, id);
            let client = if id < 4 { record.client } else { other };
            outlet.offer(None, &Record { client, ..record });
        }
        assert_eq!(outlet.forget(record(Kind::Finding, 0).client), 4, "two of each kind");
        assert_eq!((outlet.recent(Kind::Finding).len(), outlet.recent(Kind::Decision).len()), (1, 1));
        assert_eq!(outlet.forget(record(Kind::Finding, 0).client), 0, "once is enough");
    }

    #[test]
    fn a_file_is_private_and_appended_to() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("findings.jsonl");
        for id in 0..2 {
            let outlet = Outlet::open(&Findings::File(path.clone()), metrics()).unwrap();
            outlet.offer(None, &record(Kind::Finding, id));
            outlet.flush_and_stop();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_line_is_one_line_and_reads_back_whatever_it_holds() {
        let mut record = record(Kind::Finding, 1);
        record.statistic = f64::NAN;
        record.explanation = "\u{202e}\r\n\u{0}\u{1b}[31m\"}".into();
        let line = line(&record);
        assert_eq!(line.lines().count(), 1, "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["explanation"], record.explanation);
        assert_eq!(read["statistic"], serde_json::Value::Null);
        assert_eq!(read["time"], 1_700_000_000.25);
        assert_eq!(read["client"], "192.0.2.7");
        assert_eq!(read["decision_id"], "d-0000000000000001");
    }

    #[test]
    fn the_latest_thousand_of_each_kind_are_kept_newest_first() {
        let metrics = metrics();
        let outlet = silent(&metrics);
        (0..1500).for_each(|id| outlet.offer(None, &record(Kind::Decision, id)));
        outlet.offer(None, &record(Kind::Finding, 7));
        let recent = outlet.recent(Kind::Decision);
        assert_eq!(recent.len(), 1000);
        assert_eq!(
            recent.first().map(|newest| &**newest),
            Some(line(&record(Kind::Decision, 1499)).as_str())
        );
        assert_eq!(outlet.recent(Kind::Finding).len(), 1);
    }

    /// Fails the first writes, each in the middle of a line.
    struct Failing {
        failures: usize,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.failures > 0 {
                self.failures -= 1;
                self.written.lock().extend_from_slice(&bytes[..bytes.len() / 2]);
                return Err(io::Error::other("no space left"));
            }
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_is_counted_and_spoils_no_other() {
        let (metrics, written) = (metrics(), Arc::<Mutex<Vec<u8>>>::default());
        let target = Failing { failures: 1, written: Arc::clone(&written) };
        let mut writer = Writer { target: Box::new(target), metrics: Arc::clone(&metrics), torn: false };
        writer.write(b"{\"a\":1}\n", 1);
        writer.write(b"{\"b\":2}\n", 1);
        writer.write(b"{\"c\":3}\n", 1);
        assert_eq!(String::from_utf8_lossy(&written.lock()), "{\"a\"\n{\"b\":2}\n{\"c\":3}\n");
        assert_eq!(metrics.records_dropped.get(), 1);
    }

    /// Blocks until it is let go.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_disk_costs_records_and_no_time() {
        let metrics = metrics();
        let (release, stuck) = mpsc::channel();
        let outlet = Outlet::start(Box::new(Stuck(stuck)), Arc::clone(&metrics), Patience::Never).unwrap();
        let offered = WAITING_MAX as u64 * 2;
        (0..offered).for_each(|id| outlet.offer(None, &record(Kind::Decision, id)));
        let dropped = metrics.records_dropped.get();
        let taken_by_the_writer = (BATCH_BYTES / line(&record(Kind::Decision, 0)).len()) as u64 + 1;
        assert!(
            dropped > 0 && dropped <= offered - WAITING_MAX as u64,
            "{dropped} of {offered} were dropped"
        );
        assert!(
            dropped + WAITING_MAX as u64 + taken_by_the_writer >= offered,
            "{dropped} of {offered} were dropped"
        );
        drop(release);
    }

    #[test]
    fn what_comes_after_the_stop_is_counted() {
        let metrics = metrics();
        let outlet = silent(&metrics);
        outlet.flush_and_stop();
        outlet.offer(None, &record(Kind::Finding, 1));
        outlet.flush_and_stop();
        assert_eq!(metrics.records_dropped.get(), 1);
    }
}
