//! A server's answer: checked before it is believed, and the connection that it came on, kept or dropped by how it ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::Visit;
use super::connection::{Connection, Exclusive};
use crate::wakes;

/// How long a connection may still be busy with a request whose answer was read to its end.
const LINGER_MAX: Duration = Duration::from_secs(4);

/// An answer whose head has come.
pub struct Came(Held);

impl Came {
    /// The answer to the request of `visit`, which `connection` keeps.
    pub fn new(visit: Visit, connection: Connection) -> Self {
        Self(Held { visit, connection })
    }

    /// The rest of the question goes on by itself: from now on either may stand still while the other goes on.
    pub fn drive_apart(&mut self) {
        self.0.connection.drive_apart();
    }

    /// The answer; `None` where there is none after all.
    pub fn response(self) -> Option<Response<AnswerBody>> {
        let Self(mut held) = self;
        let (head, incoming) = held.connection.answer().take()?.into_parts();
        Some(Response::from_parts(head, AnswerBody::new(incoming, held)))
    }
}

/// An answer's body. It holds its place at the server until it ends.
pub struct AnswerBody {
    incoming: Incoming,
    held: Option<Held>,
}

/// What an answer holds while it lasts.
struct Held {
    visit: Visit,
    connection: Connection,
}

impl AnswerBody {
    fn new(incoming: Incoming, held: Held) -> Self {
        let mut body = Self { incoming, held: Some(held) };
        body.end_if_empty();
        body
    }

    /// Asks for more, and where there is none yet, moves the connection along.
    fn poll_incoming(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(Held { connection: Connection::Exclusive(connection), .. }) = &mut self.held else {
            return Pin::new(&mut self.incoming).poll_frame(context);
        };
        let polled = wakes::piece(&mut self.incoming, &mut connection.told_by(context));
        if polled.is_ready() || !connection.is_driven_here() {
            return polled;
        }
        connection.drive(context);
        wakes::piece(&mut self.incoming, &mut connection.told_by(context))
    }

    fn end_if_empty(&mut self) {
        if self.incoming.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(held) = self.held.take() {
            held.visit.succeeded();
            if let Connection::Exclusive(connection) = held.connection {
                keep(held.visit, connection);
            }
        }
    }

    /// The connection goes with what held it.
    fn break_off(&mut self, error: &hyper::Error) {
        if let Some(held) = self.held.take() {
            held.visit.failed(&format!("the answer was cut: {error}"));
        }
    }
}

/// Keeps a connection for the next request, as soon as this one is written to its end.
fn keep(visit: Visit, mut connection: Box<Exclusive>) {
    if connection.is_ready() || connection.settles() {
        visit.server().keep(connection);
    } else if !connection.is_closed() {
        tokio::spawn(async move {
            if timeout(LINGER_MAX, connection.becomes_ready()).await == Ok(true) {
                visit.server().keep(connection);
            }
        });
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = self.poll_incoming(context);
        match &polled {
            // Trailers are the end; a transport does not ask for more after them.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => self.end(),
            Poll::Ready(Some(Ok(_))) => self.end_if_empty(),
            Poll::Ready(Some(Err(error))) => self.break_off(error),
            Poll::Ready(None) => self.end(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Says why an answer is not believed, where it is not: its end is not certain, or nobody asked for what it says.
pub fn unsound<B>(answer: &Response<B>) -> Option<&'static str> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Some("it switches to a protocol that nobody asked for");
    }
    if !(200..=599).contains(&answer.status().as_u16()) {
        return Some("its status is outside of 200 to 599");
    }
    // One walk along the few lines of an answer costs less than looking each of the two names up.
    let (mut lengths, mut codings) = (0_u32, 0_u32);
    let (mut digits, mut chunked) = (true, true);
    for (name, value) in answer.headers() {
        if *name == CONTENT_LENGTH {
            lengths += 1;
            digits &= value.as_bytes().iter().all(u8::is_ascii_digit);
        } else if *name == TRANSFER_ENCODING {
            codings += 1;
            chunked &= value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        }
    }
    if lengths > 1 || !digits {
        return Some("it does not announce its length as one number");
    }
    let is_plain = lengths == 0 && codings == 1 && chunked && answer.version() != Version::HTTP_10;
    (codings > 0 && !is_plain).then_some("its framing is ambiguous")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, version: Version, headers: &[(&str, &str)]) -> Response<()> {
        let mut answer = Response::builder().status(status).version(version);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(()).unwrap()
    }

    #[test]
    fn an_answer_whose_end_is_uncertain_is_not_believed() {
        let (one, zero) = (Version::HTTP_11, Version::HTTP_10);
        for (status, version, headers, sound) in [
            (200, one, &[("content-length", "5")][..], true),
            (200, one, &[("transfer-encoding", "Chunked ")], true),
            (404, one, &[], true),
            (101, one, &[("upgrade", "websocket")], false),
            (700, one, &[], false),
            (200, one, &[("content-length", "5"), ("content-length", "5")], false),
            (200, one, &[("content-length", "5, 5")], false),
            (200, one, &[("content-length", "5"), ("transfer-encoding", "chunked")], false),
            (200, one, &[("transfer-encoding", "gzip, chunked")], false),
            (200, one, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
            (200, zero, &[("transfer-encoding", "chunked")], false),
        ] {
            let said = unsound(&answer(status, version, headers));
            assert_eq!(said.is_none(), sound, "{status} {headers:?}: {said:?}");
        }
    }
}
