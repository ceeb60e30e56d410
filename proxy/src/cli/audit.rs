//! `checkgate audit`: what the ledger in a state folder says, and whether it is whole.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use checkgate_detectors::facts::Time;
use checkgate_detectors::identity::Identity;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::print;
use crate::ledger::disk::{Disk, Folder, ReadOnly};
use crate::ledger::entry::{By, Entry, What};
use crate::ledger::line::Line;
use crate::ledger::log::{Place, Scan, segment_name};
use crate::ledger::store;
use crate::{clock, identity, told};

/// Places that `verify` names at most.
const PLACES_MAX: usize = 20;

/// Arguments of `checkgate audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Audit,
    /// State folder.
    #[arg(long, value_name = "DIR", default_value = "checkgate-state", global = true)]
    state: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Audit {
    /// Say whether the chain of entries is whole; exits with 1 where it is not.
    Verify,
    /// Print entries, the oldest first.
    Show(ShowArgs),
    /// Take out everything about a client. Needs a stopped checkgate; a running one is asked by its API.
    Erase {
        /// The client, as records print it: an address, a /64 of IPv6, or `key:` and 16 hexadecimal digits.
        client: String,
        /// Why, for the entry that says so.
        #[arg(long, default_value = "")]
        why: String,
    },
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// Only entries of this kind, such as `decision`, `lifted` or `configuration`.
    #[arg(long)]
    kind: Option<String>,
    /// Only entries about this client.
    #[arg(long)]
    client: Option<String>,
    /// Only entries from this Unix time on, in seconds.
    #[arg(long, value_name = "SECONDS")]
    since: Option<f64>,
    /// One JSON object a line, with everything that the entry holds.
    #[arg(long)]
    json: bool,
}

/// Verifies, shows or erases.
pub fn audit(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let folder = args.state.join("ledger");
    let seen =
        || folder.metadata().with_context(|| format!("there is no ledger in {}", args.state.display()));
    match &args.command {
        Audit::Verify => {
            seen()?;
            verify(&ReadOnly(folder.clone()))
        }
        Audit::Show(show) => {
            seen()?;
            print(&shown(&ReadOnly(folder.clone()), show)?)
        }
        Audit::Erase { client, why } => {
            seen()?;
            let client = client_named(client)?;
            let disk: Arc<dyn Disk> = Arc::new(Folder(folder.clone()));
            let by = By { who: "command line".into(), from: None, why: why.as_str().into() };
            let entries = store::erase_at_rest(&disk, client, by, clock::now()).context(
                "nothing was erased; where a checkgate runs on this folder, ask it by POST /v1/clients/erase",
            )?;
            print(&format!("{entries} entries about {client} have no content any more\n"))
        }
    }
}

fn verify(disk: &dyn Disk) -> anyhow::Result<ExitCode> {
    let mut scan = Scan::default();
    let mut times: Option<(Time, Time)> = None;
    scan.read(disk, Place::default(), &mut |line, _| {
        let time = line.header.time;
        times = Some(times.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
    })
    .context("the ledger cannot be read")?;
    let mut said = String::new();
    say_extent(&mut said, &scan, times);
    say_damage(&mut said, &scan);
    print(&said)?;
    Ok(if scan.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writing to a string does not fail.
macro_rules! say {
    ($to:expr, $($what:tt)*) => { writeln!($to, $($what)*).ok() };
}

fn say_extent(said: &mut String, scan: &Scan, times: Option<(Time, Time)>) {
    let Some((first, last)) = times else {
        say!(said, "no entries");
        return;
    };
    say!(said, "{} entries from {} to {}", scan.lines, date(first), date(last));
    say!(said, "the last has number {} and hash {}", scan.last, scan.head.text());
    if scan.erased > 0 {
        say!(said, "{} of them have no content any more: erased, or kept for long enough", scan.erased);
    }
    if scan.torn > 0 {
        say!(
            said,
            "{} bytes at the end are an entry that is being written, or was when a process ended",
            scan.torn
        );
    }
}

fn say_damage(said: &mut String, scan: &Scan) {
    for number in scan.breaks.iter().take(PLACES_MAX) {
        say!(said, "BROKEN: entry {number} does not name the one before it");
    }
    for gap in scan.gaps.iter().take(PLACES_MAX) {
        say!(said, "MISSING: entries {} to {}, and no entry says why", gap.first, gap.last);
    }
    if scan.damaged > 0 {
        say!(said, "DAMAGED: the content of {} entries", scan.damaged);
    }
    if scan.at_the_end > 0 {
        say!(said, "DAMAGED: {} entries at the end", scan.at_the_end);
    }
    let found = if scan.is_whole() { "the chain is whole" } else { "the chain is NOT whole" };
    say!(said, "{found}");
}

fn shown(disk: &dyn Disk, show: &ShowArgs) -> anyhow::Result<String> {
    let client = show.client.as_deref().map(client_named).transpose()?.map(|client| client.to_string());
    let since = Time(show.since.map_or(0, |seconds| (seconds.max(0.0) * 1e6) as u64));
    let mut said = String::new();
    Scan::default()
        .read(disk, Place::default(), &mut |line, place| {
            let about = line.entry.as_ref().and_then(|entry| entry.what.client());
            let is_wanted = line.header.time >= since
                && show.kind.as_ref().is_none_or(|kind| *kind == line.header.kind)
                && client.as_ref().is_none_or(|client| about.as_ref() == Some(client));
            match (&line.entry, show.json) {
                _ if !is_wanted => {}
                (Some(entry), true) => _ = say!(said, "{}", json(entry)),
                (None, true) => _ = say!(said, "{}", json(&line.header)),
                (entry, false) => say_line(&mut said, line, entry.as_ref(), place),
            }
        })
        .context("the ledger cannot be read")?;
    Ok(said)
}

fn json(value: &impl Serialize) -> String {
    told::clean_json(serde_json::to_string(value).unwrap_or_default())
}

fn say_line(said: &mut String, line: &Line, entry: Option<&Entry>, place: Place) {
    let header = &line.header;
    let what = match entry {
        Some(entry) => told::clean(&summary(entry)),
        None => format!("(no content any more; {})", segment_name(place.segment)),
    };
    let who = told::clean(&header.by.who);
    say!(said, "{:>8}  {}  {:<13}  {who}  {what}", header.entry, date(header.time), header.kind);
}

/// What happened, in a few words.
fn summary(entry: &Entry) -> String {
    let mut said = match &entry.what {
        What::Drift { .. } => String::new(),
        What::Finding { .. } => format!("about {}", entry.what.client().unwrap_or_default()),
        What::Decision(decided) => format!(
            "{} {} {} for {} s, {}: {}",
            decided.id,
            decided.action.as_str(),
            decided.client,
            decided.lasts.as_secs(),
            decided.status.as_str(),
            decided.detector
        ),
        What::Approved { id, until } | What::Extended { id, until } => format!("{id} until {}", date(*until)),
        What::Met { id, requests } => format!("{id}: {requests} requests"),
        What::Rejected { id } | What::Lifted { id } => id.to_string(),
        What::NeverBlock { added, removed } => format!("added {added:?}, removed {removed:?}"),
        What::Configuration { digest, refused } => {
            format!("{digest} {}", refused.as_deref().map_or("in force", |_| "refused"))
        }
        What::Reference { model, rows, trusted, window } => {
            let word = if *trusted { "yes" } else { "no" };
            let of = window.as_ref().map_or_else(String::new, |window| {
                format!(", {} of drift, of a maintenance window {}", window.drift_rows, window.note)
            });
            format!("{model}: {rows} rows{of}, trusted: {word}")
        }
        What::KillSwitch { on } => format!("on {on}"),
        What::Erased { client, entries } => format!("{client}: {entries} entries"),
        What::Started { version, .. } => version.to_string(),
        What::Unwritten { first, last } => format!("entries {first} to {last} found no room"),
        What::Removed { last, .. } => format!("entries up to {last}"),
    };
    if !entry.by.why.is_empty() {
        said.push_str(" because: ");
        said.push_str(&entry.by.why);
    }
    said
}

fn date(time: Time) -> String {
    told::moment(time.seconds())
}

/// A client by what records print of it.
fn client_named(text: &str) -> anyhow::Result<Identity> {
    identity::written(text).with_context(|| {
        format!("{text} is no client: an address, a /64 of IPv6, or key: and 16 hexadecimal digits")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::book::Bounds;
    use crate::ledger::line::tests::entry;
    use crate::ledger::log::SEGMENT_BYTES;

    /// A state folder with a ledger of some entries.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(Folder(folder.path().join("ledger")));
        let (mut store, _, _) = store::Store::open(&disk, Bounds::default(), SEGMENT_BYTES).unwrap();
        let entries: Vec<_> = (1..=9).map(|number| Arc::new(entry(number))).collect();
        let batch = store.batch(entries.iter(), usize::MAX);
        store.write(&batch).unwrap();
        folder
    }

    fn run(folder: &tempfile::TempDir, command: Audit) -> anyhow::Result<ExitCode> {
        audit(&AuditArgs { command, state: folder.path().to_owned() })
    }

    #[test]
    fn a_whole_chain_is_whole_also_after_an_erasure_and_a_changed_byte_is_found() {
        let folder = folder();
        assert_eq!(run(&folder, Audit::Verify).unwrap(), ExitCode::SUCCESS);
        run(&folder, Audit::Erase { client: "10.0.0.4".into(), why: "she asked".into() }).unwrap();
        assert_eq!(run(&folder, Audit::Verify).unwrap(), ExitCode::SUCCESS, "after an erasure");
        let file = folder.path().join("ledger").join(segment_name(1));
        let mut log = std::fs::read(&file).unwrap();
        let middle = log.len() / 2;
        log[middle] ^= 1;
        std::fs::write(&file, log).unwrap();
        assert_eq!(run(&folder, Audit::Verify).unwrap(), ExitCode::FAILURE, "after a flipped bit");
    }

    #[test]
    fn entries_are_shown_by_kind_client_and_time() {
        let folder = folder();
        let disk = ReadOnly(folder.path().join("ledger"));
        let show = |kind: Option<&str>, client: Option<&str>, since, json| {
            let (kind, client) = (kind.map(Into::into), client.map(Into::into));
            shown(&disk, &ShowArgs { kind, client, since, json }).unwrap()
        };
        assert_eq!(show(None, None, None, false).lines().count(), 9);
        assert_eq!(show(Some("finding"), None, None, false).lines().count(), 3);
        assert_eq!(show(None, None, Some(8.0), true).lines().count(), 2);
        let one = show(None, Some("10.0.0.4"), None, false);
        assert!(one.contains("d-0000000000000004 block 10.0.0.4 for 900 s, in_force"), "{one}");
        let json: serde_json::Value =
            serde_json::from_str(&show(None, Some("10.0.0.4"), None, true)).unwrap();
        assert_eq!((&json["number"], &json["what"]["kind"]), (&4.into(), &"decision".into()));
    }

    #[test]
    fn a_client_is_named_as_records_print_it() {
        for name in ["192.0.2.7", "2001:db8::/64", "key:00000000000000ff"] {
            assert_eq!(identity::written(name).unwrap().to_string(), name);
        }
        assert!(identity::written("nobody").is_none() && identity::written("key:x").is_none());
    }

    #[test]
    fn a_folder_that_another_process_holds_is_not_erased_from() {
        let folder = folder();
        let held = Folder(folder.path().join("ledger")).claim().unwrap();
        let refused = run(&folder, Audit::Erase { client: "10.0.0.4".into(), why: String::new() });
        let refused = format!("{:#}", refused.unwrap_err());
        assert!(refused.contains("another process holds"), "{refused}");
        drop(held);
    }
}
