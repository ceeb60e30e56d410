//! The keeper: a thread that writes what drift remembers to the state folder, so that no lane waits for a disk.
//!
//! A lane leaves what it saved, a model at a time. What is left again before it was written takes the place of the
//! earlier; what finds no room is not written this time. Nothing is written by a process that does not decide.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::metrics::Metrics;
use crate::metrics::labels::DriftMemoryOutcome;
use crate::state::drift_memory::{self, Memory};

/// Bytes that may wait for the disk.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Takes what lanes leave.
#[derive(Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

struct Shared {
    state: PathBuf,
    metrics: Arc<Metrics>,
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

#[derive(Default)]
struct Inbox {
    /// By model.
    waiting: BTreeMap<String, Vec<u8>>,
    bytes: usize,
    writing: bool,
}

impl Keeper {
    /// Starts the thread, which lives as long as the process.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(state: PathBuf, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state, metrics, inbox: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("drift-keeper".into()).spawn(move || {
            loop {
                writer.write_one();
            }
        })?;
        Ok(Self { shared })
    }

    /// Leaves what a model's drift remembers. Never waits for the disk.
    pub fn leave(&self, model: &str, bytes: Vec<u8>) {
        let mut inbox = self.shared.inbox.lock();
        let before = inbox.waiting.remove(model).map_or(0, |bytes| bytes.len());
        inbox.bytes -= before;
        if inbox.bytes + bytes.len() > WAITING_BYTES_MAX {
            self.shared.metrics.drift_memory.inc(DriftMemoryOutcome::NotWritten);
            return;
        }
        inbox.bytes += bytes.len();
        inbox.waiting.insert(model.to_owned(), bytes);
        self.shared.changed.notify_all();
    }

    /// Leaves unwritten what waits, and waits for what is being written: another process writes from here on.
    pub fn yield_ownership(&self, longest: Duration) {
        let mut inbox = self.shared.inbox.lock();
        inbox.waiting.clear();
        inbox.bytes = 0;
        drop(inbox);
        self.settle(longest);
    }

    /// Waits until everything is written, but no longer than `longest`; says whether it is.
    pub fn settle(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let mut inbox = self.shared.inbox.lock();
        while inbox.writing || !inbox.waiting.is_empty() {
            if self.shared.changed.wait_until(&mut inbox, deadline).timed_out() {
                return false;
            }
        }
        true
    }
}

impl Shared {
    fn write_one(&self) {
        let mut inbox = self.inbox.lock();
        let Some((model, bytes)) = inbox.waiting.pop_first() else {
            self.changed.wait(&mut inbox);
            return;
        };
        inbox.bytes -= bytes.len();
        inbox.writing = true;
        drop(inbox);
        let memory = Memory { model, bytes };
        let outcome = match drift_memory::write(&self.state, &memory) {
            Ok(()) => DriftMemoryOutcome::Written,
            Err(error) => {
                let model = &*memory.model;
                tracing::warn!(model, %error, "what drift remembers was not written; a restart begins with less");
                DriftMemoryOutcome::NotWritten
            }
        };
        self.metrics.drift_memory.inc(outcome);
        self.inbox.lock().writing = false;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_model_is_written_and_what_has_no_room_is_counted() {
        let state = tempfile::tempdir().unwrap();
        let metrics = Metrics::new(&[], &[]).unwrap();
        let keeper = Keeper::start(state.path().to_owned(), Arc::clone(&metrics)).unwrap();
        for turn in 0..50_u8 {
            keeper.leave("homes", vec![turn; 1000]);
            keeper.leave("fraud", vec![turn; 10]);
        }
        keeper.leave("fraud", vec![0; WAITING_BYTES_MAX + 1]);
        assert!(keeper.settle(Duration::from_secs(60)), "it comes to an end");
        let found = drift_memory::read(state.path()).memories;
        let homes = found.iter().find(|memory| memory.model == "homes").unwrap();
        assert_eq!(homes.bytes, [49; 1000]);
        assert_eq!(metrics.drift_memory.get(DriftMemoryOutcome::NotWritten), 1);
    }
}
