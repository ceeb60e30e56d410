//! Reads that would find nothing.
//!
//! hyper reads a connection whenever it moves it along, four to six times for each message, and almost always nothing
//! has come: each such read goes through the runtime's locks to be told so. A socket that had nothing, and has told
//! nobody since that there is something, still has nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::wakes::Sleeper;

/// What a socket tells: that there is something to read, and by that its task to come and read it.
#[derive(Debug, Default)]
struct News {
    has_come: AtomicBool,
    task: Sleeper,
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_come.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Stands before the reads of one socket.
#[derive(Debug)]
pub struct Quiet {
    news: Arc<News>,
    /// Has the socket tell news.
    waker: Waker,
    /// The socket had nothing and will tell.
    is_quiet: bool,
    /// The task that hears of news.
    hears: Option<Waker>,
}

impl Default for Quiet {
    fn default() -> Self {
        let news = Arc::new(News::default());
        Self { waker: Waker::from(Arc::clone(&news)), news, is_quiet: false, hears: None }
    }
}

impl Quiet {
    /// Reads by `read`, which asks the socket, unless the socket had nothing before and has not told news since.
    pub fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        read: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.is_quiet || self.take_news() {
            let found = read(&mut Context::from_waker(&self.waker));
            self.is_quiet = found.is_pending();
            if !self.is_quiet {
                return found;
            }
        }
        if !self.hears.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            self.news.task.is_now(context.waker());
            self.hears = Some(context.waker().clone());
            // What came before the task was known woke another.
            if self.news.has_come.load(Ordering::Acquire) {
                context.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn take_news(&self) -> bool {
        let has_come = self.news.has_come.load(Ordering::Acquire);
        if has_come {
            self.news.has_come.store(false, Ordering::Relaxed);
        }
        has_come
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A socket that keeps whom it tells, and how often it was asked.
    #[derive(Default)]
    struct Socket {
        asked: usize,
        tells: Option<Waker>,
    }

    impl Socket {
        fn nothing(&mut self, context: &mut Context<'_>) -> Poll<()> {
            self.asked += 1;
            self.tells = Some(context.waker().clone());
            Poll::Pending
        }

        fn tell(&mut self) {
            self.tells.take().unwrap().wake();
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn a_socket_that_had_nothing_is_asked_again_once_it_has_told_news() {
        let ((woken, waker), mut quiet, mut socket) = (task(), Quiet::default(), Socket::default());
        let context = &mut Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(quiet.poll(context, |context| socket.nothing(context)).is_pending());
        }
        assert_eq!((socket.asked, woken.get()), (1, 0), "it had nothing, and told nothing");
        socket.tell();
        assert_eq!(woken.get(), 1, "the task hears of news");
        assert_eq!(quiet.poll(context, |_| Poll::Ready(7)), Poll::Ready(7));
        assert_eq!(quiet.poll(context, |_| Poll::Ready(8)), Poll::Ready(8), "there may be more");
        assert!(quiet.poll(context, |context| socket.nothing(context)).is_pending());
        assert!(quiet.poll(context, |context| socket.nothing(context)).is_pending());
        assert_eq!(socket.asked, 2, "there is no more");
        socket.tell();
        assert_eq!(woken.get(), 2, "nor is anything lost");
    }

    #[test]
    fn whoever_reads_last_hears_of_news_though_the_socket_was_not_asked() {
        let ((first, one), (second, other)) = (task(), task());
        let (mut quiet, mut socket) = (Quiet::default(), Socket::default());
        for waker in [&one, &other] {
            let context = &mut Context::from_waker(waker);
            assert!(quiet.poll(context, |context| socket.nothing(context)).is_pending());
        }
        socket.tell();
        assert_eq!((socket.asked, first.get(), second.get()), (1, 0, 1));
    }

    #[test]
    fn news_that_come_while_nobody_is_known_are_not_lost() {
        let ((woken, waker), mut quiet) = (task(), Quiet::default());
        let context = &mut Context::from_waker(&waker);
        for times in 1..=2 {
            let told_at_once = quiet.poll(context, |context| {
                // A task that has read for too long is put off by its runtime like that.
                context.waker().wake_by_ref();
                Poll::<()>::Pending
            });
            assert!(told_at_once.is_pending() && woken.get() >= times, "it comes back, and not in a circle");
        }
        assert_eq!(quiet.poll(context, |_| Poll::Ready(7)), Poll::Ready(7));
    }
}
