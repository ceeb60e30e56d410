//! Screen and hyper are two parsers of the same bytes: they must see the same messages.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use proptest::prelude::*;

use super::super::http1::{Http1, Phase};
use super::{BOUNDS, generated, vectors};

/// A message as hyper saw it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    body: Vec<u8>,
    /// How many bytes of the connection had come when it was whole.
    end: usize,
}

/// A connection of which the test says what has come.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<Vec<u8>>>);

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut come = self.0.borrow_mut();
        if come.is_empty() {
            return Poll::Pending;
        }
        let taken = come.len().min(buffer.remaining());
        buffer.put_slice(&come[..taken]);
        come.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Reads a request to its end; `None` where hyper finds a fault in its body.
async fn seen(request: Request<Incoming>, come: &Cell<usize>) -> Option<Seen> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes().to_vec();
    let target = head.uri.to_string();
    Some(Seen { method: head.method.to_string(), target, body, end: come.get() })
}

/// The messages that hyper sees when it is given `bytes` one by one.
fn hyper_sees(bytes: &[u8]) -> Vec<Seen> {
    let wire = Wire::default();
    let come = Rc::new(Cell::new(0));
    let messages = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request| {
        let (come, messages) = (Rc::clone(&come), Rc::clone(&messages));
        async move {
            let message = seen(request, &come).await;
            messages.borrow_mut().extend(message);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .max_headers(BOUNDS.header_lines)
            .max_header_size(BOUNDS.head_bytes)
            .serve_connection(wire.clone(), service)
    );
    let mut context = Context::from_waker(Waker::noop());
    for byte in bytes {
        wire.0.borrow_mut().push(*byte);
        come.set(come.get() + 1);
        // hyper gives up its turn now and then; nothing is left to do after a few.
        if (0..4).any(|_| connection.as_mut().poll(&mut context).is_ready()) {
            break;
        }
    }
    messages.take()
}

/// Where the screen sees messages end, and how many bytes may go on.
fn screen_sees(bytes: &[u8]) -> (Vec<usize>, usize) {
    let clean = Http1::new(BOUNDS).read(bytes).map_or_else(|bad| bad.clean, |()| bytes.len());
    let mut screen = Http1::new(BOUNDS);
    let mut ends = Vec::new();
    for (position, byte) in bytes[..clean].iter().enumerate() {
        let before = screen.phase();
        screen.read(&[*byte]).expect("what may go on is clean");
        if screen.phase() == Phase::Idle && before != Phase::Idle {
            ends.push(position + 1);
        }
    }
    (ends, clean)
}

/// How many of the messages in `bytes` that end at `ends` are read on one connection: the last is the first that
/// closes it.
fn until_closed(bytes: &[u8], ends: &[usize]) -> usize {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let closes = |(start, end): (usize, &usize)| closes(&bytes[start..*end]);
    starts.zip(ends).position(closes).map_or(ends.len(), |closing| closing + 1)
}

/// Whether a message closes its connection, as httparse reads its head.
fn closes(message: &[u8]) -> bool {
    let mut lines = [httparse::EMPTY_HEADER; 256];
    let mut head = httparse::Request::new(&mut lines);
    head.parse(message).expect("httparse reads what the screen accepts");
    let says = |wanted: &str| {
        let connection = head.headers.iter().filter(|line| line.name.eq_ignore_ascii_case("connection"));
        let mut options = connection.flat_map(|line| line.value.split(|&byte| byte == b','));
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    says("close") || (head.version == Some(0) && !says("keep-alive"))
}

/// Asserts that hyper sees the messages that the screen lets on, each ending at the same byte, and no other.
fn assert_agreement(bytes: &[u8]) {
    let (ends, clean) = screen_sees(bytes);
    let messages = hyper_sees(&bytes[..clean]);
    let seen: Vec<_> = messages.iter().map(|message| message.end).collect();
    let read = until_closed(bytes, &ends);
    assert_eq!(seen, ends[..read], "ends of the messages in {}", bytes.escape_ascii());
    let mut start = 0;
    for message in &messages {
        assert_same_head(&bytes[start..message.end], message);
        start = message.end;
    }
}

/// Asserts that httparse and hyper read the same method and target, and that the head's end leaves the body's bytes.
fn assert_same_head(message: &[u8], seen: &Seen) {
    let mut lines = [httparse::EMPTY_HEADER; 256];
    let mut head = httparse::Request::new(&mut lines);
    let end = head.parse(message).expect("httparse reads what the screen accepts").unwrap();
    assert_eq!(head.method, Some(seen.method.as_str()));
    let target = head.path.expect("a target");
    assert!(target.eq_ignore_ascii_case(&seen.target), "{target} became {}", seen.target);
    let chunked = head.headers.iter().any(|line| line.name.eq_ignore_ascii_case("transfer-encoding"));
    if !chunked {
        assert_eq!(&message[end..], seen.body, "the body is what follows the head");
    }
}

#[test]
fn hyper_sees_what_the_screen_sees_of_every_vector() {
    let small = |vector: &vectors::Vector| vector.bytes.len() < 2_000;
    for vector in vectors::accepted().into_iter().chain(vectors::refused()).filter(small) {
        assert_agreement(&vector.bytes);
    }
}

#[test]
fn hyper_takes_heads_and_trailers_as_large_as_the_screen_does() {
    let large = vectors::accepted().into_iter().filter(|vector| vector.bytes.len() >= 2_000);
    for vector in large {
        let seen = hyper_sees_at_once(&vector.bytes);
        assert_eq!(seen, 1, "{}", vector.name);
    }
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let with = |padding: usize| format!("{head}X: {}\r\n\r\n", "a".repeat(padding));
    let accepted = |padding: &usize| Http1::new(BOUNDS).read(with(*padding).as_bytes()).is_ok();
    let largest = (8_000..8_400).take_while(accepted).last().expect("trailers of 8,000 bytes");
    assert_eq!(hyper_sees_at_once(with(largest).as_bytes()), 1, "the largest trailers");
}

/// How many messages hyper sees when all of `bytes` come at once.
fn hyper_sees_at_once(bytes: &[u8]) -> usize {
    let wire = Wire::default();
    wire.0.borrow_mut().extend(bytes);
    let messages = Cell::new(0);
    let come = Cell::new(0);
    let service = service_fn(|request| async {
        let whole = seen(request, &come).await.is_some();
        messages.set(messages.get() + usize::from(whole));
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .max_headers(BOUNDS.header_lines)
            .max_header_size(BOUNDS.head_bytes)
            .serve_connection(wire, service)
    );
    let mut context = Context::from_waker(Waker::noop());
    let _ = (0..100).any(|_| connection.as_mut().poll(&mut context).is_ready());
    messages.get()
}

proptest! {
    #[test]
    fn hyper_sees_what_the_screen_sees(bytes in generated::mutated()) {
        assert_agreement(&bytes);
    }
}
