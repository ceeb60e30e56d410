//! Any bytes on an HTTP/1.1 connection: slices do not matter, and hyper and httparse see the accepted messages alike.

#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use checkgate::screen::http1::{Bad, Bounds, Http1, Phase};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;

/// Small, so that a short input can pass them.
const BOUNDS: Bounds = Bounds { head_bytes: 512, header_lines: 16 };

fuzz_target!(|bytes: &[u8]| {
    let whole = Http1::new(BOUNDS).read(bytes);
    let ends = assert_slices_do_not_matter(bytes, whole);
    assert_same_heads(bytes, &ends);
    assert_hyper_agrees(bytes, &ends);
});

/// Reads byte by byte. Where messages ended.
fn assert_slices_do_not_matter(bytes: &[u8], whole: Result<(), Bad>) -> Vec<usize> {
    let mut screen = Http1::new(BOUNDS);
    let mut ends = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        let before = screen.phase();
        if let Err(bad) = screen.read(&[*byte]) {
            let whole = whole.expect_err("whole, it was accepted");
            assert_eq!((bad.reason, bad.clean + at), (whole.reason, whole.clean.max(at)));
            assert!(whole.clean <= at, "what may go on ends before the fault");
            return ends;
        }
        if screen.phase() == Phase::Idle && before != Phase::Idle {
            ends.push(at + 1);
        }
    }
    assert_eq!(whole, Ok(()), "byte by byte, it was accepted");
    ends
}

/// httparse reads each accepted head, and what it leaves of the message is the body.
fn assert_same_heads(bytes: &[u8], ends: &[usize]) {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    for (start, end) in starts.zip(ends) {
        let mut lines = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Request::new(&mut lines);
        let length = head.parse(&bytes[start..*end]).expect("accepted").unwrap();
        let says = |name: &str| head.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name));
        let announced = says("content-length").map(|line| std::str::from_utf8(line.value).expect("digits"));
        if says("transfer-encoding").is_none() {
            assert_eq!(announced.map_or(0, |length| length.parse().expect("a length")), end - start - length);
        }
    }
}

/// hyper sees each message when its last byte has come, and not before; one that closes the connection is the last.
fn assert_hyper_agrees(bytes: &[u8], ends: &[usize]) {
    let mut before = 0;
    for end in ends {
        let (seen, closed) = hyper_sees(&bytes[..*end]);
        assert_eq!(seen, before + 1, "messages that end within {end} bytes");
        assert_eq!(
            hyper_sees(&bytes[..*end - 1]).0,
            before,
            "messages that end before the last of {end} bytes"
        );
        before = seen;
        if closed {
            return;
        }
    }
}

/// How many messages hyper sees, and whether it closes the connection behind them.
fn hyper_sees(bytes: &[u8]) -> (usize, bool) {
    let messages = RefCell::new(0);
    let service = service_fn(|request: Request<Incoming>| async {
        if request.into_body().collect().await.is_ok() {
            *messages.borrow_mut() += 1;
        }
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .max_headers(BOUNDS.header_lines)
            .max_header_size(BOUNDS.head_bytes)
            .serve_connection(Wire(bytes), service)
    );
    let mut context = Context::from_waker(Waker::noop());
    let closed = (0..16).any(|_| Future::poll(connection.as_mut(), &mut context).is_ready());
    (messages.take(), closed)
}

/// A connection on which all of its bytes have come, and nothing follows.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let (taken, rest) = self.0.split_at(self.0.len().min(buffer.remaining()));
        buffer.put_slice(taken);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
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
