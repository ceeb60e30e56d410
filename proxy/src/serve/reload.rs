//! Reload: the configuration is read again while requests flow.
//!
//! ```text
//! in force --SIGHUP, or a file changed and has settled--> reading
//! reading  --anything does not hold--> in force (the old; the gauge is 0, log and admin API say why)
//! reading  --everything was built once--> swapping: metrics, lanes, gate, sinks, way; nothing here can fail
//! swapping --> in force (the new)
//! ```
//! Requests keep the way that they began with. Each lane takes the new plan as an entry of its journal, before the
//! first capture that was taken under it.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use checkgate_config::Settings;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::source::{self, Reading, Source};
use super::{Parts, Proxy, fixed, ground};
use crate::clock;
use crate::gate::Rules;
use crate::lane::desk::Desk;
use crate::ledger::entry::{By, What};
use crate::ledger::reduce::Retention;
use crate::metrics::labels::ReloadOutcome;
use crate::metrics::unix_seconds;
use crate::plan::{ModelIds, Plan, in_base_64};
use crate::sinks::office;

/// How often files are looked at. A change counts once it has stood still from one look to the next, so that a file
/// that is still being written is not read.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// The configuration as operators see it.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigStatus {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// When the settings in force were read, as Unix seconds.
    pub loaded: f64,
    /// When it was last read, as Unix seconds.
    pub read: f64,
    /// Why what was last read is not in force.
    pub error: Option<String>,
    /// Settings that were changed and wait for a restart.
    pub needs_restart: Vec<&'static str>,
}

impl ConfigStatus {
    /// The settings of `file` are in force since now.
    pub fn new(file: Option<PathBuf>) -> Self {
        let now = unix_seconds();
        Self { file, loaded: now, read: now, error: None, needs_restart: Vec::new() }
    }
}

/// Who reloads: one thread, so reloads never overlap.
pub struct Reloader {
    source: Source,
    /// What is in force.
    settings: Settings,
    plan: Arc<Plan>,
    ids: ModelIds,
    parts: Arc<Parts>,
    proxy: Arc<Proxy>,
    watch: Watch,
}

impl Reloader {
    /// Reloads what was started from `settings`, which came from `source` and depend on `files`.
    pub fn new(
        source: Source,
        files: Vec<PathBuf>,
        (settings, plan, ids): (Settings, Arc<Plan>, ModelIds),
        parts: Arc<Parts>,
        proxy: Arc<Proxy>,
    ) -> Self {
        Self { source, settings, plan, ids, parts, proxy, watch: Watch::new(files) }
    }

    /// Starts the thread. From here on SIGHUP no longer ends the process.
    ///
    /// # Errors
    /// No thread can be started, or the signal cannot be taken.
    pub fn start(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hangup = {
            let _inside = runtime.enter();
            signal(SignalKind::hangup())?
        };
        let run = move || runtime.block_on(self.run(hangup));
        thread::Builder::new().name("reload".into()).spawn(run).map(drop)
    }

    async fn run(mut self, mut hangup: Signal) {
        loop {
            let asked = tokio::select! {
                asked = hangup.recv() => asked.is_some(),
                () = sleep(WATCH_EVERY) => false,
            };
            if asked || self.watch.has_settled() {
                self.reload();
            }
        }
    }

    /// Reads everything again and puts it into force, or says why not.
    fn reload(&mut self) {
        self.watch.look();
        let Reading { files, settings } = self.source.read();
        let digest = source::digest(&files);
        self.watch.follow(files);
        let applied = settings.and_then(|settings| self.apply(settings));
        let refused = applied.as_ref().err().map(|error| format!("{error:#}").into());
        let what = What::Configuration { digest, refused };
        drop(self.parts.ledger.note(clock::now(), By::itself(), what));
        let metrics = &self.parts.metrics;
        let mut status = self.parts.config.write();
        status.read = unix_seconds();
        metrics.config_reload_success.set(i64::from(applied.is_ok()));
        match applied {
            Ok(needs_restart) => {
                metrics.config_reloads.inc(ReloadOutcome::Applied);
                metrics.config_time.set(status.read);
                (status.loaded, status.error) = (status.read, None);
                tracing::info!("configuration reloaded");
                if !needs_restart.is_empty() {
                    tracing::warn!(settings = ?needs_restart, "these settings changed and wait for a restart");
                }
                status.needs_restart = needs_restart;
            }
            Err(error) => {
                metrics.config_reloads.inc(ReloadOutcome::Refused);
                tracing::error!(
                    "the configuration was not reloaded, the one before stays in force: {error:#}"
                );
                status.error = Some(format!("{error:#}"));
            }
        }
    }

    /// Builds everything, then swaps everything. Gives the settings that wait for a restart.
    fn apply(&mut self, mut settings: Settings) -> anyhow::Result<Vec<&'static str>> {
        let needs_restart = fixed::keep(&self.settings, &mut settings);
        let mut ids = self.ids.clone();
        let plan = Plan::new(&settings, self.plan.hash_key, &mut ids)?;
        let plan = Arc::new(
            plan.trusting(self.parts.state.promoted(), in_base_64(self.parts.state.promoted_drifts())),
        );
        // Thrown away: what could be built once can be built again by every lane.
        Desk::new(Arc::clone(&plan))?;
        let way = self.parts.way(&settings, &ids, Some(&self.proxy.way.load()))?;
        let sinks = office::build(&settings, &ground(&self.parts.state.instance_id()))?;
        self.parts.downstream.adopt(&settings)?;
        // Nothing fails from here on.
        ids.all().for_each(|(name, id)| self.parts.metrics.add_model(id, name));
        if plan != self.plan {
            let late = self.parts.lanes.adopt(&plan);
            if late > 0 {
                tracing::error!(late, "lanes are too busy to take the new plan at once; they take it next");
            }
        }
        self.parts.gate.adopt(Rules::of(&plan), settings.limits.blocks);
        self.parts.access.adopt(&settings.admin);
        self.parts.inbound.adopt(&settings.inbound);
        self.parts.lapi.adopt(&settings);
        self.parts.in_flight.bound(settings.limits.in_flight);
        self.parts.degraded.bound(super::degraded_max(&settings));
        self.parts.ledger.retain(Retention::of(settings.ledger));
        self.parts.sinks.adopt(sinks);
        self.parts.settings.store(Arc::new(settings.clone()));
        self.proxy.way.store(way);
        (self.settings, self.plan, self.ids) = (settings, plan, ids);
        Ok(needs_restart)
    }
}

/// What tells one content of a file from another without reading it.
type Stamp = (i64, i64, i64, i64, u64, u64);

/// Files under watch.
struct Watch {
    /// As they were when the settings were read.
    read: Vec<(PathBuf, Option<Stamp>)>,
    /// As they were at the last look.
    seen: Vec<Option<Stamp>>,
}

impl Watch {
    fn new(files: Vec<PathBuf>) -> Self {
        let mut watch = Self { read: Vec::new(), seen: Vec::new() };
        watch.follow(files);
        watch
    }

    /// Watches `files` from here on, which were read after the last look: what changed since then has yet to be read.
    fn follow(&mut self, files: Vec<PathBuf>) {
        let known: HashMap<_, _> = std::mem::take(&mut self.read)
            .into_iter()
            .map(|(file, _)| file)
            .zip(self.seen.drain(..))
            .collect();
        let look = |file: PathBuf| {
            let stamp = known.get(&file).copied().unwrap_or_else(|| stamp(&file));
            (file, stamp)
        };
        self.read = files.into_iter().map(look).collect();
        self.seen = self.read.iter().map(|(_, stamp)| *stamp).collect();
    }

    /// Looks at every file; gives what the look before saw.
    fn look(&mut self) -> Vec<Option<Stamp>> {
        let now = self.read.iter().map(|(file, _)| stamp(file)).collect();
        std::mem::replace(&mut self.seen, now)
    }

    /// Whether files changed since they were read, and stood still since the last look.
    fn has_settled(&mut self) -> bool {
        let before = self.look();
        before == self.seen && self.read.iter().zip(&self.seen).any(|((_, read), now)| read != now)
    }
}

/// Times of change of content and inode, length and inode; nothing for a file that is not there.
fn stamp(file: &Path) -> Option<Stamp> {
    let of = std::fs::metadata(file).ok()?;
    Some((of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec(), of.len(), of.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_stands_still() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkgate.yaml");
        let mut watch = Watch::new(vec![file.clone()]);
        assert!(!watch.has_settled(), "nothing changed");
        std::fs::write(&file, "half").unwrap();
        assert!(!watch.has_settled(), "it has just changed and may still be written");
        std::fs::write(&file, "half and the rest").unwrap();
        assert!(!watch.has_settled(), "it was still being written");
        assert!(watch.has_settled(), "it stands still");
        watch.look();
        watch.follow(vec![file.clone()]);
        assert!(!watch.has_settled(), "it was read");
        std::fs::remove_file(&file).unwrap();
        assert!(!watch.has_settled());
        assert!(watch.has_settled(), "a file that is gone is a change");
    }
}
