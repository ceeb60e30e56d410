//! One timer a connection, moved only when it must be.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings at a moment that may move with every poll.
///
/// The timer behind it is registered for the earliest moment asked for and stays there while the moment moves on:
/// a busy connection touches the timer wheel once in a keep-alive time and not once a request.
#[derive(Debug, Default)]
pub struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes.
    wakes: Option<Waker>,
}

impl Alarm {
    /// Ready once `due` has passed; otherwise the task is woken when it has, or earlier.
    pub fn poll(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        } else if !sleep.is_elapsed()
            && self.wakes.as_ref().is_some_and(|wakes| wakes.will_wake(context.waker()))
        {
            // It was told so before, and has not rung since.
            return Poll::Pending;
        }
        self.wakes.get_or_insert_with(|| context.waker().clone()).clone_from(context.waker());
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn rings(alarm: &mut Alarm, due: Instant) -> Instant {
        poll_fn(|context| alarm.poll(due, context)).await;
        Instant::now()
    }

    fn polled(alarm: &mut Alarm, due: Instant) -> bool {
        alarm.poll(due, &mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_when_the_moment_has_passed_and_never_before() {
        let (start, mut alarm) = (Instant::now(), Alarm::default());
        assert_eq!(rings(&mut alarm, start + 3 * SECOND).await, start + 3 * SECOND);
        assert_eq!(rings(&mut alarm, start + 5 * SECOND).await, start + 5 * SECOND, "it rings again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_may_move_either_way() {
        let (start, mut alarm) = (Instant::now(), Alarm::default());
        assert!(!polled(&mut alarm, start + 10 * SECOND));
        assert!(!polled(&mut alarm, start + 60 * SECOND));
        assert_eq!(rings(&mut alarm, start + 60 * SECOND).await, start + 60 * SECOND, "moved on");
        assert!(!polled(&mut alarm, start + 120 * SECOND));
        assert_eq!(rings(&mut alarm, start + 61 * SECOND).await, start + 61 * SECOND, "moved back");
    }
}
