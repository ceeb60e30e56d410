//! Whose turn it is on one HTTP/2 stream, where hyper tells nobody: a client that sends its request too slowly, or
//! gives no room for its answer, holds the stream as it holds a connection of HTTP/1.1.
//!
//! The two bodies of an exchange note until when the client may take its turn; the task that serves the stream looks
//! once in a while. Dropping what it serves resets the stream.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::downstream::Downstream;
use super::pace::{GRACE, Pace};
use super::rejected::Rejected;

/// Stands for no turn of the client's.
const NONE: u64 = u64::MAX;

/// Until when the client may take its turns on one stream.
#[derive(Debug)]
pub struct Turns {
    epoch: Instant,
    /// Milliseconds from the epoch.
    request_due: AtomicU64,
    answer_due: AtomicU64,
}

impl Turns {
    /// Nothing is waited for yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let (request_due, answer_due) = (AtomicU64::new(NONE), AtomicU64::new(NONE));
        Arc::new(Self { epoch: Instant::now(), request_due, answer_due })
    }

    /// The pace of the request's body.
    pub fn request(self: &Arc<Self>, bytes_per_second: usize) -> Turn {
        Turn { turns: Arc::clone(self), due: |turns| &turns.request_due, pace: Pace::new(bytes_per_second) }
    }

    /// The pace at which the answer is taken.
    pub fn answer(self: &Arc<Self>, bytes_per_second: usize) -> Turn {
        Turn { turns: Arc::clone(self), due: |turns| &turns.answer_due, pace: Pace::new(bytes_per_second) }
    }

    /// What the client was too slow at.
    fn late(&self, now: Instant) -> Option<Rejected> {
        let now = self.milliseconds(now);
        let passed = |due: &AtomicU64| due.load(Ordering::Relaxed) <= now;
        if passed(&self.request_due) {
            Some(Rejected::BodyRate)
        } else {
            passed(&self.answer_due).then_some(Rejected::AnswerRate)
        }
    }

    /// When to look again: as soon as a turn that has begun may be over.
    fn next_look(&self, now: Instant) -> Instant {
        let due = self.request_due.load(Ordering::Relaxed).min(self.answer_due.load(Ordering::Relaxed));
        let due = self.epoch.checked_add(Duration::from_millis(due.saturating_add(1)));
        due.filter(|due| *due > now).map_or(now + GRACE, |due| due.min(now + GRACE))
    }

    fn milliseconds(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.epoch).as_millis()).unwrap_or(NONE)
    }
}

/// The client's part in one direction of a stream.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    due: fn(&Turns) -> &AtomicU64,
    pace: Pace,
}

impl Turn {
    /// It is the client's turn.
    pub fn begins(&mut self) {
        if let Some(due) = self.pace.waits(Instant::now) {
            (self.due)(&self.turns).store(self.turns.milliseconds(due), Ordering::Relaxed);
        }
    }

    /// The client moved `bytes`; it is not its turn.
    pub fn ends(&mut self, bytes: usize) {
        self.pace.moved(bytes, Instant::now);
        (self.due)(&self.turns).store(NONE, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        (self.due)(&self.turns).store(NONE, Ordering::Relaxed);
    }
}

/// Serves each stream of one connection in a task of its own, as long as its client takes its turns.
#[derive(Clone, Debug)]
pub struct Streams {
    downstream: Arc<Downstream>,
    /// The turns of the stream that is about to be served. hyper calls the service and, at once and in the same task,
    /// the executor: what the one leaves here, the other takes.
    next: Arc<Mutex<Option<Arc<Turns>>>>,
}

impl Streams {
    /// None yet.
    #[must_use]
    pub fn new(downstream: Arc<Downstream>) -> Self {
        Self { downstream, next: Arc::default() }
    }

    /// The turns of the stream that is served next.
    pub fn begin(&self) -> Arc<Turns> {
        let turns = Turns::new();
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&turns));
        turns
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        match self.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => drop(tokio::spawn(stream)),
            Some(turns) => drop(tokio::spawn(Served {
                stream: Box::pin(stream),
                turns,
                alarm: Alarm::default(),
                look: Instant::now() + GRACE,
                downstream: Arc::clone(&self.downstream),
            })),
        }
    }
}

/// One stream that is served.
struct Served<F> {
    stream: Pin<Box<F>>,
    turns: Arc<Turns>,
    alarm: Alarm,
    /// When the turns are looked at next: a client may be late by a grace more than it is granted.
    look: Instant,
    downstream: Arc<Downstream>,
}

impl<F: Future<Output = ()>> Future for Served<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let served = self.get_mut();
        if served.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            ready!(served.alarm.poll(served.look, context));
            if let Some(reason) = served.turns.late(served.look) {
                served.downstream.reject(reason);
                return Poll::Ready(());
            }
            served.look = served.turns.next_look(served.look);
        }
    }
}
