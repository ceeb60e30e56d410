//! A stream that knows whether everything written has left, and whose other end must take what is written to it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};

use super::alarm::Alarm;
use super::pace::Pace;
use super::stream::Stream;

/// How long a connection is read, and thrown away, after the last word was written to it, so that the client can
/// read that word: closing with unread bytes would reset the connection under it (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are thrown away at most.
const LINGER_BYTES_MAX: usize = 1 << 20;
/// Length of the preface of HTTP/2: what must be read to tell the protocols apart.
pub const EARLY_BYTES: usize = 24;

/// One connection's bytes in both directions.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    early: Early,
    pace: Pace,
    alarm: Alarm,
    at_rest: bool,
    too_slow: bool,
    frozen: bool,
}

/// The first bytes, read to tell the protocols apart and still to be read by the one chosen.
#[derive(Debug, Default)]
struct Early {
    bytes: [u8; EARLY_BYTES],
    read: usize,
    taken: usize,
}

impl Early {
    fn all(&self) -> &[u8] {
        self.bytes.get(..self.read).unwrap_or_default()
    }

    fn take_into(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = self.bytes.get(self.taken..self.read).unwrap_or_default();
        let fitting = rest.get(..buffer.remaining()).unwrap_or(rest);
        buffer.put_slice(fitting);
        self.taken += fitting.len();
    }
}

impl Wire {
    /// Over `stream`; the other end takes so many bytes a second, or is cut.
    #[must_use]
    pub fn new(stream: Stream, answer_bytes_per_second: usize) -> Self {
        Self {
            stream,
            early: Early::default(),
            pace: Pace::new(answer_bytes_per_second),
            alarm: Alarm::default(),
            at_rest: true,
            too_slow: false,
            frozen: false,
        }
    }

    /// Whether everything that was written has left: what is written next begins a message or a frame.
    pub fn is_at_rest(&self) -> bool {
        self.at_rest
    }

    /// Whether the other end took what was written too slowly; every further write fails.
    pub fn is_too_slow(&self) -> bool {
        self.too_slow
    }

    /// Lets the parser write nothing more: what it would say comes too late.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Waits for more first bytes and shows all of them so far, at most [`EARLY_BYTES`]; they stay to be read.
    /// The end of the stream adds none.
    pub async fn peek_more(&mut self) -> io::Result<&[u8]> {
        let free = self.early.bytes.get_mut(self.early.read..).unwrap_or_default();
        self.early.read += self.stream.read(free).await?;
        Ok(self.early.all())
    }

    /// Says that nothing more comes, to a client from which nothing more is expected.
    pub async fn hang_up(mut self) {
        drop(timeout(LINGER, self.stream.shutdown()).await);
    }

    /// Writes the last word, if any, says that nothing more comes, and lets the client read it.
    pub async fn close(mut self, last: &[u8]) {
        // Whatever fails here, the connection is over.
        drop(timeout(LINGER, self.say_and_drain(last)).await);
    }

    async fn say_and_drain(&mut self, last: &[u8]) -> io::Result<()> {
        self.stream.write_all(last).await?;
        self.stream.shutdown().await?;
        let mut thrown_away = 0;
        let mut bytes = [0; 1024];
        while thrown_away < LINGER_BYTES_MAX {
            match self.stream.read(&mut bytes).await? {
                0 => break,
                count => thrown_away += count,
            }
        }
        Ok(())
    }

    fn wrote(
        &mut self,
        result: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => self.stalled(context),
            Poll::Ready(Ok(count)) => {
                self.at_rest = false;
                self.pace.moved(count, Instant::now);
                Poll::Ready(Ok(count))
            }
            failed => failed,
        }
    }

    fn stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.at_rest = false;
        let Some(due) = self.pace.waits(Instant::now) else { return Poll::Pending };
        ready!(self.alarm.poll(due, context));
        self.too_slow = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.early.taken == wire.early.read {
            return Pin::new(&mut wire.stream).poll_read(context, buffer);
        }
        wire.early.take_into(buffer);
        if wire.early.taken == wire.early.read && buffer.remaining() > 0 {
            // What follows has mostly come as well; if not, the bytes in hand are enough for now.
            drop(Pin::new(&mut wire.stream).poll_read(context, buffer));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        if wire.frozen {
            return Poll::Pending;
        }
        let result = Pin::new(&mut wire.stream).poll_write(context, bytes);
        wire.wrote(result, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        if wire.frozen {
            return Poll::Pending;
        }
        let result = Pin::new(&mut wire.stream).poll_write_vectored(context, slices);
        wire.wrote(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        match Pin::new(&mut wire.stream).poll_flush(context) {
            Poll::Pending => wire.stalled(context),
            Poll::Ready(Ok(())) => {
                wire.at_rest = true;
                wire.pace.moved(0, Instant::now);
                Poll::Ready(Ok(()))
            }
            failed => failed,
        }
    }

    /// Only flushes: how a connection is closed is for its driver to say.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
