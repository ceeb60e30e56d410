//! The least client: bytes out, one answer of known length back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Header lines of an answer.
const HEADERS_MAX: usize = 64;

/// The status and the length of an answer, head included, once its head is whole.
///
/// # Errors
/// Where it is no HTTP, or does not tell its length.
pub fn answer_of(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(bytes)? else { return Ok(None) };
    let status = answer.code.context("no status")?;
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("an answer without Content-Length")?.value;
    let length: usize = std::str::from_utf8(length)?.trim().parse()?;
    Ok(Some((status, head + length)))
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Opens a connection.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn to(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends one request and waits for its answer, which must be a 200.
    ///
    /// # Errors
    /// Where it is not.
    pub fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let mut chunk = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut chunk)?;
            ensure!(read > 0, "closed in the middle of an answer");
            self.buffer.extend(chunk.iter().take(read));
            match answer_of(&self.buffer)? {
                Some((200, length)) if self.buffer.len() == length => return Ok(()),
                Some((200, length)) if self.buffer.len() < length => {}
                None => {}
                _ => bail!("not a 200 of known length: {}", String::from_utf8_lossy(&self.buffer)),
            }
        }
    }
}

/// GET of a path that is read to the end of the connection.
///
/// # Errors
/// Where nobody listens.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The sum of the series of a metric on the operators' listener.
///
/// # Errors
/// Where it cannot be read.
pub fn metric(admin: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let page = get(admin, "/metrics")?;
    let value = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit(' ').next()?.trim().parse::<f64>().ok()
    };
    Ok(page.lines().filter_map(value).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_length_says_so() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(answer_of(&head[..10]).unwrap(), None);
        assert_eq!(answer_of(head).unwrap(), Some((200, head.len() + 3)));
        assert!(answer_of(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "a length has to be told");
    }
}
