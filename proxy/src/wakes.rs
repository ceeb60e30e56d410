//! Wakes that would have a task polled for nothing.
//!
//! hyper wakes the writer of a body whenever its reader takes a piece, even where that was the last one and the writer
//! is gone. Reader and writer mostly run in one task here, which would be polled once more, down to every socket, to
//! find that there is nothing to do: once for the question and once for the answer.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use parking_lot::Mutex;

/// A task that is woken as often as there is reason to. It is known until another takes its place, so that one that
/// stays the same is not told at each turn.
#[derive(Debug)]
pub struct Sleeper(Mutex<Waker>);

impl Default for Sleeper {
    fn default() -> Self {
        Self(Mutex::new(Waker::noop().clone()))
    }
}

impl Sleeper {
    /// Wakes `task` from now on.
    pub fn is_now(&self, task: &Waker) {
        let before = std::mem::replace(&mut *self.0.lock(), task.clone());
        // What goes with it may have a lock of its own.
        drop(before);
    }

    /// Wakes the task.
    pub fn wake(&self) {
        self.0.lock().wake_by_ref();
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Sleeper::wake(self);
    }
}

/// A waker that stays the same while the task behind it changes. What was told once whom to wake, such as a socket or a
/// timer, need not be told anew.
#[derive(Debug)]
pub struct Standing {
    sleeper: Arc<Sleeper>,
    waker: Waker,
    task: Option<Waker>,
}

impl Default for Standing {
    fn default() -> Self {
        let sleeper = Arc::new(Sleeper::default());
        Self { waker: Waker::from(Arc::clone(&sleeper)), sleeper, task: None }
    }
}

impl Standing {
    /// The context of a task that goes by this waker from now on.
    pub fn before(&mut self, context: &Context<'_>) -> Context<'_> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            self.sleeper.is_now(context.waker());
            self.task = Some(context.waker().clone());
        }
        Context::from_waker(&self.waker)
    }
}

/// Stands between a task and whatever wakes it; [`piece`] can keep back a wake that it gives.
#[derive(Debug, Default)]
pub struct Relay {
    task: Sleeper,
}

impl Relay {
    /// A relay, and the waker that goes through it.
    #[must_use]
    pub fn new() -> (Arc<Self>, Waker) {
        let relay = Arc::new(Self::default());
        (Arc::clone(&relay), Waker::from(relay))
    }

    /// Passes wakes on to this task from now on; to be told whenever another task is polled.
    pub fn wakes(&self, task: &Waker) {
        self.task.is_now(task);
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !is_kept(self) {
            self.task.wake();
        }
    }
}

/// What becomes of wakes that this thread gives.
#[derive(Default)]
enum Wakes {
    /// They pass.
    #[default]
    Pass,
    /// The next one is kept back.
    NextKept,
    /// This one is kept back.
    Kept(Arc<Relay>),
}

thread_local! {
    static WAKES: Cell<Wakes> = const { Cell::new(Wakes::Pass) };
}

fn is_kept(relay: &Arc<Relay>) -> bool {
    let kept = WAKES.try_with(|wakes| match wakes.take() {
        Wakes::NextKept => {
            wakes.set(Wakes::Kept(Arc::clone(relay)));
            true
        }
        other => {
            wakes.set(other);
            false
        }
    });
    kept.unwrap_or(false)
}

/// Keeps back the next wake that this thread gives while it lives; what is still kept at its end is passed on.
struct Keeping;

impl Keeping {
    fn begin() -> Self {
        WAKES.set(Wakes::NextKept);
        Self
    }

    /// Forgets what is kept.
    fn forget(self) {
        WAKES.set(Wakes::Pass);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Wakes::Kept(relay) = WAKES.take() {
            relay.task.wake();
        }
    }
}

/// The next piece of a body. Where it is the last one, whoever wrote it is not woken: hyper has let go of its writer by
/// then, since it reads on at once, and the body ends by its length. Wakes by other threads always pass.
pub fn piece(
    body: &mut Incoming,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let keeping = Keeping::begin();
    let polled = Pin::new(&mut *body).poll_frame(context);
    if matches!(polled, Poll::Ready(Some(Ok(_)))) && body.is_end_stream() {
        keeping.forget();
    }
    polled
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A relay to a task, the waker through it, and how often the task was woken.
    fn relayed() -> (Arc<Relay>, Waker, Arc<Count>) {
        let count = Arc::new(Count::default());
        let (relay, waker) = Relay::new();
        relay.wakes(&Waker::from(Arc::clone(&count)));
        (relay, waker, count)
    }

    #[test]
    fn whoever_waits_last_is_woken_by_the_waker_that_stays() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let tasks = [&first, &second].map(|task| Waker::from(Arc::clone(task)));
        let mut standing = Standing::default();
        let told = standing.before(&Context::from_waker(&tasks[0])).waker().clone();
        told.wake_by_ref();
        let again = standing.before(&Context::from_waker(&tasks[1])).waker().clone();
        assert!(told.will_wake(&again), "it need not be told anew");
        told.wake_by_ref();
        told.wake();
        let counts = [first, second].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 2], "each of them as long as it waits");
    }

    #[test]
    fn a_wake_passes_where_none_is_kept() {
        let (_relay, waker, count) = relayed();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "nothing keeps it back");
    }

    #[test]
    fn a_kept_wake_is_passed_on_unless_it_is_forgotten() {
        let (relay, waker, count) = relayed();
        let keeping = Keeping::begin();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "it is kept");
        drop(keeping);
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "it is passed on");
        relay.wakes(&Waker::from(Arc::clone(&count)));
        let keeping = Keeping::begin();
        waker.wake_by_ref();
        keeping.forget();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "it is forgotten");
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "the next one passes");
    }

    #[test]
    fn only_the_first_wake_is_kept() {
        let (_first, held, kept) = relayed();
        let (_second, passing, passed) = relayed();
        let keeping = Keeping::begin();
        held.wake_by_ref();
        passing.wake_by_ref();
        keeping.forget();
        let counts = [&kept, &passed].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 1], "one piece wakes one writer; any other wake is somebody else's");
    }

    #[test]
    fn a_wake_by_another_thread_passes() {
        let (_relay, waker, count) = relayed();
        let keeping = Keeping::begin();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        keeping.forget();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "it tells of something else");
    }
}
