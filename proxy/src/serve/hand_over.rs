//! Hand-over: a new process takes the place of this one, and no request notices.
//!
//! ```text
//! old                                   new (`checkgate run --take-over`)
//! serves and decides  <---- connects -- reads its configuration
//!     -- hello, listening sockets, what is in force -->
//!                                       binds what is missing, starts; enforces, does not decide
//!     <----------------- serving ------
//! shuts its doors, sends its clients
//! away, judges what waits, writes
//! its ledger and closes it
//!     -- ownership: what is in force, what is remembered -->
//!                                       opens the ledger
//!     <----------------- taken --------  decides, beginning with what waited
//! finishes what is open, ends
//! ```
//! Up to `taken`, whatever fails leaves the old process as it was: it opens its doors and its ledger and decides again,
//! and the new one ends. The ledger's folder is claimed by one process: where both believe that it is theirs, the
//! second one keeps its entries in memory and tries again. Both go by one clock, the old process's. If the old one dies after `serving`, the new one begins to decide with what it has.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::doors::Door;
use super::house::Levers;
use super::link::{Link, LinkError, Message, VERSION};
use super::sockets::{Named, Sockets, replace_path};
use super::stop::Ending;
use super::{Parts, Proxy, SINKS_GRACE, notify};
use crate::admin::readiness::Phase;
use crate::clock;
use crate::gate::SavedGate;
use crate::ledger::Opening;

/// How long a step of the other process may take that needs no more than its attention.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long the new process may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How long the old process may take to give up ownership, and the new one to take it.
const OWNERSHIP_MAX: Duration = Duration::from_secs(120);
/// How long kept connections live on after the doors were shut. Each is told with its next answer to close; one on
/// which nothing is asked meanwhile is closed.
const LINGER: Duration = Duration::from_secs(1);
/// How long open requests may take before ownership goes on without their answers.
const SETTLE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(5);

/// Where a process that may be taken over listens, in the state folder.
fn meeting_point(state: &Path) -> PathBuf {
    state.join("hand-over.sock")
}

/// The side of a process that serves: it can be taken over.
pub struct Giver {
    /// What is handed over.
    pub parts: Arc<Parts>,
    /// Whose connections must go.
    pub proxy: Arc<Proxy>,
    /// Where connections are accepted.
    pub sockets: Arc<Sockets>,
    /// What is moved.
    pub levers: Arc<Levers>,
    /// The state folder.
    pub state: PathBuf,
}

impl Giver {
    /// Waits for a process that takes over, on a thread of its own. Where that is impossible, the process serves all
    /// the same and can only be restarted.
    pub fn start(self) {
        let started = self.listen().and_then(|listener| {
            thread::Builder::new().name("hand-over".into()).spawn(move || self.run(&listener))?;
            Ok(())
        });
        if let Err(error) = started {
            tracing::warn!("this process cannot be taken over, only restarted: {error:#}");
        }
    }

    fn listen(&self) -> anyhow::Result<UnixListener> {
        let path = meeting_point(&self.state);
        // Whoever listens there was taken over, or serves on other addresses and shares a folder that it should not.
        let listener = replace_path(&path).with_context(|| path.display().to_string())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    fn run(self, listener: &UnixListener) {
        loop {
            let called =
                listener.accept().map_err(LinkError::from).and_then(|(stream, _)| Link::over(stream));
            match called.map_err(anyhow::Error::from).and_then(|mut link| self.give(&mut link)) {
                Ok(()) => {
                    tracing::info!(
                        "handed over: open requests finish here, all others go to the new process"
                    );
                    self.levers.ending.send_replace(Ending::HandedOver);
                    return;
                }
                Err(error) => tracing::error!("there was no hand-over, this process goes on: {error:#}"),
            }
        }
    }

    fn give(&self, link: &mut Link) -> anyhow::Result<()> {
        if self.parts.readiness.phase() != Phase::Ready {
            link.send(&Message::Refused("it is not serving, or about to stop".to_owned()))?;
            bail!("this process is not serving, or about to stop");
        }
        let sockets = self.sockets.copies()?;
        let names = sockets.iter().map(|named| named.name.clone()).collect();
        link.send(&Message::Hello { version: VERSION, sockets: names, clock: clock::reading() })?;
        link.send_sockets(&sockets)?;
        link.send(&Message::InForce(self.parts.gate.save(clock::now())))?;
        let Message::Serving = link.receive(START_MAX).context("the new process did not start")? else {
            bail!(LinkError::Garbled);
        };
        self.withdraw();
        let passed = self.pass_ownership(link);
        if let Err(error) = &passed {
            // Where the new process is gone, there is nobody to tell.
            link.send(&Message::Refused(format!("{error:#}"))).ok();
            self.return_to_service();
        }
        passed
    }

    /// Accepts nothing more, and sends away whoever is connected and asks for nothing.
    fn withdraw(&self) {
        self.levers.doors.send_replace(Door::Shut);
        // Whoever came in behind the drain would be sent away unheard.
        wait(SETTLE, || *self.levers.accepting.borrow() == 0);
        self.proxy.leaving.store(true, Ordering::Relaxed);
        wait(LINGER, || self.proxy.connections.load(Ordering::Relaxed) == 0);
        self.levers.drain.send_replace(true);
        self.levers.operators_drain.send_replace(true);
        wait(SETTLE, || self.parts.in_flight.count() == 0);
    }

    fn pass_ownership(&self, link: &mut Link) -> anyhow::Result<()> {
        let engines = self.parts.lanes.yield_ownership()?;
        self.parts.keeper.yield_ownership(ANSWER_MAX);
        self.parts.metrics.deciding.set(0);
        self.parts.sinks.rest(SINKS_GRACE);
        self.parts.ledger.close();
        let gate = self.parts.gate.save(clock::now());
        link.send(&Message::Ownership { gate, engines })?;
        match link.receive(OWNERSHIP_MAX).context("the new process did not take ownership")? {
            Message::Taken => Ok(()),
            _ => bail!(LinkError::Garbled),
        }
    }

    fn return_to_service(&self) {
        self.parts.ledger.open(Opening::Again);
        self.parts.sinks.deliver();
        self.parts.lanes.resume();
        self.parts.metrics.deciding.set(1);
        self.proxy.leaving.store(false, Ordering::Relaxed);
        self.levers.drain.send_replace(false);
        self.levers.operators_drain.send_replace(false);
        self.levers.doors.send_replace(Door::Open);
        notify::ready();
    }
}

/// The side of a process that takes over.
pub struct Taker {
    link: Link,
}

/// What a process takes over before it starts.
#[derive(Default)]
pub struct Inherited {
    /// Listening sockets.
    pub sockets: Vec<Named>,
    /// What is in force.
    pub gate: SavedGate,
}

impl Taker {
    /// Calls the process that serves from the state folder `state`.
    ///
    /// # Errors
    /// There is none, or it does not hand over; it goes on in any case.
    pub fn call(state: &Path) -> anyhow::Result<(Self, Inherited)> {
        let path = meeting_point(state);
        let mut link = Link::connect(&path).with_context(|| {
            format!(
                "no checkgate that could be taken over answers at {}; start without --take-over, or name its state \
                 folder",
                path.display()
            )
        })?;
        let names = match link.receive(ANSWER_MAX)? {
            Message::Hello { version: VERSION, sockets, clock } => {
                clock::continue_from(&clock);
                sockets
            }
            Message::Hello { version, .. } => bail!(
                "the running checkgate hands over by version {version}, this one by {VERSION}; restart instead"
            ),
            Message::Refused(reason) => bail!("the running checkgate does not hand over: {reason}"),
            _ => bail!(LinkError::Garbled),
        };
        let named = |(name, socket)| Named { name, socket };
        let sockets = names.into_iter().zip(link.receive_sockets()?).map(named).collect();
        let Message::InForce(gate) = link.receive(ANSWER_MAX)? else { bail!(LinkError::Garbled) };
        Ok((Self { link }, Inherited { sockets, gate }))
    }

    /// Takes ownership on a thread of its own, as soon as connections are accepted at all doors. Afterwards this
    /// process can be taken over in its turn.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(mut self, giver: Giver) -> io::Result<()> {
        let run = move || match self.take(&giver) {
            Ok(()) => giver.start(),
            Err(reason) => {
                tracing::error!(reason, "the running checkgate did not hand over and goes on; this one ends");
                giver.levers.ending.send_replace(Ending::Refused);
            }
        };
        thread::Builder::new().name("take-over".into()).spawn(run).map(drop)
    }

    /// Takes ownership. Gives the reason where the old process goes on instead.
    fn take(&mut self, giver: &Giver) -> Result<(), String> {
        let parts = &giver.parts;
        if !wait(START_MAX, || *giver.levers.accepting.borrow() == giver.levers.wanted) {
            return Err("this process did not come to accept connections".to_owned());
        }
        let heard = self.link.send(&Message::Serving).and_then(|()| self.link.receive(OWNERSHIP_MAX));
        match heard {
            Ok(Message::Ownership { gate, engines }) => {
                let (pid, models) = (std::process::id(), engines.len());
                parts.gate.restore(gate, clock::now());
                parts.ledger.open(Opening::TakenOver);
                parts.state.look_for_candidates();
                parts.lanes.begin(engines);
                tracing::info!(pid, models, "took over: this process decides from here on");
            }
            Ok(Message::Refused(reason)) => return Err(reason),
            Ok(_) => return Err(LinkError::Garbled.to_string()),
            Err(error) => {
                tracing::error!(
                    %error,
                    "the process before did not pass on what it remembers; this one decides from here on, with the \
                     blocks in force and without memory"
                );
                parts.ledger.open(Opening::TakenOver);
                parts.state.look_for_candidates();
                parts.lanes.begin(Vec::new());
            }
        }
        parts.sinks.deliver();
        parts.metrics.deciding.set(1);
        // The old process only waits for this to end; if it is gone, so much the better.
        self.link.send(&Message::Taken).ok();
        Ok(())
    }
}

/// Waits until `done`, but no longer than `longest`; says whether it is.
fn wait(longest: Duration, done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + longest;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(TICK);
    }
    true
}
