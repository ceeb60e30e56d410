//! HTTP/2 clients: a whole one on any stream, and one that writes frames as it likes.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Reply;
use crate::{Body, within};

/// What a client that knows of HTTP/2 sends first (RFC 9113, 3.4), with an empty SETTINGS frame.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Speaks HTTP/2 on `stream`.
///
/// # Errors
/// Where the connection ends at once.
pub async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> anyhow::Result<http2::SendRequest<Body>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // The connection's own error also reaches the sender, which reports it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Speaks HTTP/1.1 on `stream`.
///
/// # Errors
/// Where the connection ends at once.
pub async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> anyhow::Result<http1::SendRequest<Body>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Reads a whole answer.
///
/// # Errors
/// Where it is not whole in time.
pub async fn whole_reply(
    answer: impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>>,
) -> anyhow::Result<Reply> {
    let (head, body) = within("the head of an answer", answer).await??.into_parts();
    let collected = within("the end of an answer", body.collect()).await?;
    let collected = collected.with_context(|| format!("{} without its body", head.status))?;
    let trailers = collected.trailers().cloned();
    Ok(Reply { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers })
}

/// A POST of JSON to `path` on the host `models.test`.
///
/// # Errors
/// Where the path is no path.
pub fn post(path: &str, body: Body) -> http::Result<Request<Body>> {
    Request::post(format!("http://models.test{path}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
}

/// A frame as bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let [_, high, middle, low] = length;
    [&[high, middle, low, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A HEADERS frame that asks for `/` with POST; `flags` say what it ends.
#[must_use]
pub fn headers(flags: u8, stream: u32) -> Vec<u8> {
    // From the static table: POST, http, `/`; then `:authority` with the value `m` (RFC 7541, 6.1 and 6.2.1).
    frame(1, flags, stream, &[0x83, 0x86, 0x84, 0x41, 1, b'm'])
}

/// Frames that [`flood`] writes at once.
const FRAMES_AT_ONCE: u32 = 256;

/// A client that opens a connection, writes what `frames` gives for each number until the server hangs up, and says
/// what the server wrote.
///
/// # Errors
/// Where the server does not hang up in time.
pub async fn flood(
    server: SocketAddr,
    frames: impl Fn(u32) -> Vec<u8> + Send + 'static,
) -> anyhow::Result<Vec<u8>> {
    let (mut reader, mut writer) = TcpStream::connect(server).await?.into_split();
    let writing = tokio::spawn(async move {
        writer.write_all(OPENING).await?;
        // Many at once: a server that answers one by one may close the stream under a client that trickles.
        for first in (0..).step_by(FRAMES_AT_ONCE as usize) {
            let many: Vec<u8> = (first..first + FRAMES_AT_ONCE).flat_map(&frames).collect();
            writer.write_all(&many).await?;
        }
        io::Result::Ok(writer)
    });
    let mut written = Vec::new();
    // A reset after the last frame is how a flooded server may end.
    drop(within("the end of a flooded connection", reader.read_to_end(&mut written)).await?);
    writing.abort();
    Ok(written)
}
