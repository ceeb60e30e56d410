//! Lanes: the one ordered path of a model's captures through its engine.
//!
//! A lane is one thread, one journal and one bound on memory. A model is pinned to one lane, so no lock guards its
//! state and a replay of the journal is the same function over the same entries. All discovered models share the
//! first lane.

mod clerk;
pub mod desk;
mod fair;
mod open;
pub mod queue;
pub mod roster;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use checkgate_detectors::finding::{DecisionId, Mode};
use parking_lot::Mutex;

use self::clerk::Clerk;
use self::desk::{Desk, DeskError, Step};
use self::queue::{Offered, Parcel, Queue};
use self::roster::Roster;
use crate::capture::{Entry, Lift};
use crate::clock;
use crate::gate::{Gate, Origin};
use crate::journal::{JournalError, JournalWriter};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::records::Outlet;
use crate::state::State;

/// What lanes hand their results to.
#[derive(Clone)]
pub struct Outlets {
    /// Puts blocks into force.
    pub gate: Arc<Gate>,
    /// Writes findings and decisions.
    pub records: Arc<Outlet>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Keeps learned references.
    pub state: Arc<State>,
    /// Shows operators where every model stands.
    pub roster: Arc<Roster>,
}

/// How lanes are set up.
pub struct LaneSettings {
    /// Threads.
    pub lanes: usize,
    /// Bytes of captures that wait in front of one lane.
    pub bytes_max: usize,
    /// Share of them that one client may fill.
    pub share_per_client: f64,
    /// Where captures are recorded.
    pub record: Option<PathBuf>,
    /// Bytes of one recording.
    pub record_bytes_max: u64,
}

/// All lanes, as request threads and operators see them.
pub struct Lanes {
    queues: Vec<Arc<Queue>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
}

/// Why lanes cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The plan does not hold.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The recording cannot be begun.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No thread could be started.
    #[error("cannot start a lane thread: {0}")]
    Thread(#[from] io::Error),
}

impl Lanes {
    /// Starts every lane.
    ///
    /// # Errors
    /// When the plan does not hold, the recording cannot be begun or a thread cannot be started.
    pub fn start(settings: &LaneSettings, plan: &Arc<Plan>, outlets: &Outlets) -> Result<Self, LaneError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for lane in 0..settings.lanes.max(1) {
            let queue = Arc::new(Queue::new(settings.bytes_max, settings.share_per_client));
            let desk = Desk::new(Arc::clone(plan))?;
            let journal = settings.record.as_deref().map(|path| {
                JournalWriter::create(&recording_path(path, lane), plan, settings.record_bytes_max)
            });
            let clerk = Clerk::new(
                lane,
                Arc::clone(&queue),
                desk,
                journal.transpose()?,
                Arc::clone(plan),
                outlets.clone(),
                Arc::clone(&stopping),
            );
            let thread = thread::Builder::new().name(format!("lane-{lane}")).spawn(move || clerk.run())?;
            queue.serve_from(thread.thread().clone());
            queues.push(queue);
            threads.push(thread);
        }
        Ok(Self { queues, threads: Mutex::new(threads), stopping })
    }

    /// Leaves a capture of `model` at its lane's door. Never waits.
    pub fn offer(&self, model: Option<u16>, parcel: Parcel) -> Offered {
        let lane = model.map_or(0, usize::from) % self.queues.len().max(1);
        self.queues.get(lane).map_or(Offered::Lost, |queue| queue.offer(parcel))
    }

    /// Tells every lane that an operator lifted a decision.
    pub fn lift(&self, decision: DecisionId) {
        for queue in &self.queues {
            let entry = Entry::Lift(Lift { time: clock::now(), decision });
            queue.offer(Parcel { entry, client: 0, bell: None });
            queue.wake(true);
        }
    }

    /// Lets every lane finish what waits, then ends it.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for queue in &self.queues {
            queue.wake(true);
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a lane thread ended in a panic");
            }
        }
    }
}

/// Hands on what a step decided, live and in replay alike: the words first, then the blocks they explain.
pub fn hand_on(step: &Step, plan: &Plan, gate: &Gate, records: &Outlet) {
    for record in &step.outbox.records {
        records.offer(step.model, record);
    }
    let mode = plan.model(step.model).map_or_else(Mode::default, |model| model.mode);
    gate.apply_all(&step.outbox, Origin { model: step.model, mode });
}

/// The first lane records to the file that was named, further lanes beside it.
fn recording_path(path: &Path, lane: usize) -> PathBuf {
    if lane == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".lane-{lane}"));
    PathBuf::from(name)
}
