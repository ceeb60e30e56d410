//! What is open on one connection: shared by its stream, its driver and its exchanges, which run in one task or in
//! several.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};

use super::turns::Turn;

/// Counts of one connection. Relaxed: whoever reads them was woken by the one who wrote them.
#[derive(Debug, Default)]
pub struct Ledger {
    begun: AtomicU32,
    open: AtomicU32,
    answering: AtomicU32,
    mid_message: AtomicBool,
    winding_down: AtomicBool,
    stopped: AtomicBool,
    /// A question was let go of before its end had come.
    unread: AtomicBool,
    idle: AtomicWaker,
}

impl Ledger {
    /// A request's head is whole.
    pub fn begin(self: &Arc<Self>) -> Exchange {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Exchange { ledger: Arc::clone(self), answering: false }
    }

    /// Exchanges begun so far; it may wrap.
    pub fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether an exchange is open.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Whether an exchange is open; if so, the task is woken when the last one has ended.
    pub fn is_open_or_wakes(&self, context: &Context<'_>) -> bool {
        if self.is_open() {
            self.idle.register(context.waker());
        }
        // It may have ended between the look and the registration.
        self.is_open()
    }

    /// Says whether a request has begun to come and is not whole.
    pub fn set_mid_message(&self, mid_message: bool) {
        self.mid_message.store(mid_message, Ordering::Relaxed);
    }

    /// Whether no exchange is open and none has begun to come.
    pub fn is_idle(&self) -> bool {
        !self.is_open() && !self.mid_message.load(Ordering::Relaxed)
    }

    /// Whether the answer of an open exchange has begun.
    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed) > 0
    }

    /// The connection takes no further exchange; those that are open go on.
    pub fn wind_down(&self) {
        self.winding_down.store(true, Ordering::Relaxed);
    }

    /// Whether it takes no further exchange.
    pub fn is_winding_down(&self) -> bool {
        self.winding_down.load(Ordering::Relaxed)
    }

    /// A question was let go of before its end had come: the connection cannot go on after its answer.
    pub fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether one was.
    pub fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// The connection goes no further, whatever its parser would still do.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it goes no further.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// One request, from the end of its head to the end of its answer.
#[derive(Debug)]
pub struct Exchange {
    ledger: Arc<Ledger>,
    answering: bool,
}

impl Exchange {
    /// The answer begins: its body carries the exchange to the end. With a turn, the client must take it.
    pub fn answer<B>(self, body: B, turn: Option<Turn>) -> AnswerBody<B> {
        AnswerBody { body: Content::Handler(body), turn, given: 0, _exchange: self.answering() }
    }

    /// The transport itself answers.
    pub fn answer_itself<B>(self, body: Bytes) -> AnswerBody<B> {
        AnswerBody { body: Content::Own(Some(body)), turn: None, given: 0, _exchange: self.answering() }
    }

    fn answering(mut self) -> Self {
        self.answering = true;
        self.ledger.answering.fetch_add(1, Ordering::Relaxed);
        self
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.answering {
            self.ledger.answering.fetch_sub(1, Ordering::Relaxed);
        }
        // Release and acquire within the waker order this before the look of whoever it wakes.
        if self.ledger.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.ledger.idle.wake();
        }
    }
}

/// An answer's body, while whose life its exchange is open.
#[derive(Debug)]
pub struct AnswerBody<B> {
    body: Content<B>,
    turn: Option<Turn>,
    /// Bytes of the last frame.
    given: usize,
    _exchange: Exchange,
}

#[derive(Debug)]
enum Content<B> {
    Handler(B),
    Own(Option<Bytes>),
}

impl<B: Body<Data = Bytes> + Unpin> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let answer = self.get_mut();
        let polled = match &mut answer.body {
            Content::Handler(body) => Pin::new(body).poll_frame(context),
            Content::Own(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
        };
        if let Some(turn) = &mut answer.turn {
            // What was given before has been taken, or this would not be asked for.
            turn.ends(std::mem::take(&mut answer.given));
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                answer.given = frame.data_ref().map_or(0, Bytes::len);
                turn.begins();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Content::Handler(body) => body.is_end_stream(),
            Content::Own(content) => content.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Handler(body) => body.size_hint(),
            Content::Own(content) => SizeHint::with_exact(content.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}
