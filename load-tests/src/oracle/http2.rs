//! HTTP/2 by hand: frames as bytes, and header blocks of literals that no library would write.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::vectors::unescaped;
use super::wire::connect;

/// RFC 9113, 3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types of RFC 9113, 6.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// PRIORITY.
    pub const PRIORITY: u8 = 2;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PUSH_PROMISE.
    pub const PUSH_PROMISE: u8 = 5;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// The sender's last frame of the stream; of SETTINGS and PING, the acknowledgement.
    pub const END_STREAM: u8 = 0x1;
    /// The last frame of a header block.
    pub const END_HEADERS: u8 = 0x4;
    /// Padding follows.
    pub const PADDED: u8 = 0x8;
    /// Priority fields follow.
    pub const PRIORITY: u8 = 0x20;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    #[must_use]
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// As bytes: a length of 24 bits, type, flags, stream, payload.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let head = [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()].concat();
        [head, self.payload.clone()].concat()
    }

    /// The error code of RST_STREAM or GOAWAY.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }
}

/// A header block of literals without indexing and without Huffman coding (RFC 7541, 6.2.2).
#[must_use]
pub fn literals<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    fields.into_iter().flat_map(|(name, value)| literal(0x00, name, value)).collect()
}

/// One literal field; `form` is its first byte: 0x00 without indexing, 0x40 with.
#[must_use]
pub fn literal(form: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![form], length(name.len()), name.to_vec(), length(value.len()), value.to_vec()].concat()
}

/// The length of a string with a prefix of 7 bits (RFC 7541, 5.1).
#[allow(clippy::cast_possible_truncation, reason = "each byte is masked to its seven bits")]
fn length(length: usize) -> Vec<u8> {
    if length < 127 {
        return vec![length as u8];
    }
    let mut bytes = vec![127];
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// The block of an ordinary request.
#[must_use]
pub fn ordinary(method: &str, path: &str) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":authority", "oracle"), (":path", path)];
    literals(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

/// The frames that a vector's text stands for: `> TYPE flags stream=1`, then a line for each field (`name => value`)
/// or lines of payload.
///
/// # Errors
/// Shows the line that is no frame.
pub fn frames(text: &str) -> anyhow::Result<Vec<Frame>> {
    // Fields hold `=> `, but never at the beginning of a line.
    format!("\n{text}").split("\n> ").skip(1).map(frame).collect()
}

fn frame(block: &str) -> anyhow::Result<Frame> {
    let (line, content) = block.split_once('\n').unwrap_or((block, ""));
    let mut words = line.split_whitespace();
    let kind = kind_of(words.next().unwrap_or_default())?;
    let mut frame = Frame::new(kind, 0, 1, Vec::new());
    for word in words {
        match word {
            "end_stream" | "ack" => frame.flags |= flag::END_STREAM,
            "end_headers" => frame.flags |= flag::END_HEADERS,
            "padded" => frame.flags |= flag::PADDED,
            "priority" => frame.flags |= flag::PRIORITY,
            other => frame.stream = other.strip_prefix("stream=").context("no flag")?.parse()?,
        }
    }
    for line in content.lines() {
        frame.payload.extend(match line.split_once(" => ") {
            Some((name, value)) => literal(0x00, &unescaped(name)?, &unescaped(value)?),
            None => unescaped(line)?,
        });
    }
    Ok(frame)
}

fn kind_of(name: &str) -> anyhow::Result<u8> {
    Ok(match name {
        "DATA" => kind::DATA,
        "HEADERS" => kind::HEADERS,
        "PRIORITY" => kind::PRIORITY,
        "RST_STREAM" => kind::RST_STREAM,
        "SETTINGS" => kind::SETTINGS,
        "PUSH_PROMISE" => kind::PUSH_PROMISE,
        "PING" => kind::PING,
        "GOAWAY" => kind::GOAWAY,
        "WINDOW_UPDATE" => kind::WINDOW_UPDATE,
        "CONTINUATION" => kind::CONTINUATION,
        other => bail!("{other} is no type of frame"),
    })
}

/// The status in a header block as servers write it: `:status` from the static table, or a literal of its name.
#[must_use]
pub fn status(block: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match *block {
        // A change of the table's size comes first.
        [0x20..=0x3f, ..] => status(&block[1..]),
        [index @ 0x88..=0x8e, ..] => INDEXED.get(usize::from(index - 0x88)).copied(),
        [0x08 | 0x18 | 0x48, length, ..] => {
            let text = block.get(2..2 + usize::from(length & 0x7f))?;
            if length & 0x80 == 0 {
                std::str::from_utf8(text).ok()?.parse().ok()
            } else {
                huffman_digits(text)
            }
        }
        _ => None,
    }
}

/// Digits in the code of RFC 7541, appendix B: 0, 1, 2 have five bits, 3 to 9 have six.
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let bits: Vec<u16> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1))).collect();
    let (mut rest, mut number) = (bits.as_slice(), 0);
    for _ in 0..3 {
        let value =
            |count: usize| rest.get(..count).map(|bits| bits.iter().fold(0, |sum, bit| sum * 2 + bit));
        let (digit, used) = match value(5)? {
            short @ 0..=2 => (short, 5),
            _ => (value(6)?.checked_sub(0b01_0110)?, 6),
        };
        (number, rest) = (number * 10 + digit, &rest[used..]);
    }
    Some(number)
}

/// How one request, or a whole connection, ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The status that came.
    pub status: Option<u16>,
    /// The whole answer came.
    pub answered: bool,
    /// The stream was reset with this code.
    pub reset: Option<u32>,
    /// The connection ends with this code.
    pub goaway: Option<u32>,
    /// The connection is closed.
    pub closed: bool,
}

impl Ending {
    /// Takes one frame into account; `stream` is the one that is looked at.
    fn note(&mut self, frame: &Frame, stream: u32) {
        match frame.kind {
            kind::GOAWAY => self.goaway = frame.code(),
            kind::RST_STREAM if frame.stream == stream => self.reset = frame.code(),
            kind::HEADERS if frame.stream == stream => self.status = self.status.or(status(&frame.payload)),
            _ => {}
        }
        let carries = matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.stream == stream;
        self.answered |= carries && frame.flags & flag::END_STREAM != 0;
    }

    /// Nothing more is to be expected for the stream.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.answered || self.reset.is_some() || self.goaway.is_some() || self.closed
    }
}

/// Reads frames from a connection.
#[derive(Debug)]
pub struct Frames<R> {
    half: R,
    buffer: Vec<u8>,
}

impl<R: tokio::io::AsyncRead + Unpin> Frames<R> {
    /// From the beginning of what the server sends.
    pub fn new(half: R) -> Self {
        Self { half, buffer: Vec::new() }
    }

    /// The next frame; nothing once the connection is closed.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.whole() {
                return Some(frame);
            }
            let mut more = [0; 4096];
            match self.half.read(&mut more).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&more[..count]),
            }
        }
    }

    fn whole(&mut self) -> Option<Frame> {
        let head = self.buffer.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let (kind, flags) = (head[3], head[4]);
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }
}

/// A connection with prior knowledge whose preface is sent.
///
/// # Errors
/// Where the server does not accept.
pub async fn open(
    server: SocketAddr,
    source: Ipv4Addr,
    settings: &[(u16, u32)],
) -> anyhow::Result<(Frames<OwnedReadHalf>, OwnedWriteHalf)> {
    let stream: TcpStream = connect(server, source).await?;
    let (read, mut write) = stream.into_split();
    let pairs =
        settings.iter().flat_map(|(key, value)| [&key.to_be_bytes()[..], &value.to_be_bytes()].concat());
    let settings = Frame::new(kind::SETTINGS, 0, 0, pairs.collect::<Vec<u8>>());
    write.write_all(&[PREFACE, &settings.bytes()].concat()).await?;
    Ok((Frames::new(read), write))
}

/// Sends `frames` on a connection of its own and waits until stream 1 or the connection ends.
///
/// # Errors
/// Where the server does not accept.
pub async fn exchange(
    server: SocketAddr,
    source: Ipv4Addr,
    frames: &[Frame],
    patience: Duration,
) -> anyhow::Result<Ending> {
    let (mut incoming, mut outgoing) = open(server, source, &[]).await?;
    for frame in frames {
        // The server may end the connection before it has read everything.
        drop(outgoing.write_all(&frame.bytes()).await);
    }
    let mut ending = Ending::default();
    while !ending.is_over() {
        match tokio::time::timeout(patience, incoming.next()).await {
            Err(_) => return Ok(ending),
            Ok(None) => ending.closed = true,
            Ok(Some(frame)) => {
                if frame.kind == kind::SETTINGS && frame.flags & flag::END_STREAM == 0 {
                    let acknowledged = Frame::new(kind::SETTINGS, flag::END_STREAM, 0, Vec::new());
                    drop(outgoing.write_all(&acknowledged.bytes()).await);
                }
                ending.note(&frame, 1);
            }
        }
    }
    Ok(ending)
}

#[cfg(test)]
mod tests {
    use super::{Frame, flag, frames, huffman_digits, kind, length, literal, status};

    #[test]
    fn lengths_and_literals_are_written_as_the_rfc_shows() {
        assert_eq!(length(10), [10]);
        assert_eq!(length(127 + 1210), [127, 0xba, 0x09], "RFC 7541, C.1.2 with a prefix of seven bits");
        assert_eq!(literal(0x00, b"a", b"bc"), [0, 1, b'a', 2, b'b', b'c']);
    }

    #[test]
    fn statuses_are_read_in_every_form() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8c]), Some(400));
        assert_eq!(status(&[0x48, 3, b'4', b'3', b'1']), Some(431));
        assert_eq!(huffman_digits(&[0x64, 0x02]), Some(302), "RFC 7541, C.6.1");
        assert_eq!(huffman_digits(&[0x64, 0x0e, 0xff]), Some(307), "RFC 7541, C.6.2");
    }

    #[test]
    fn a_text_stands_for_frames() {
        let text =
            "> HEADERS end_headers\n:method => GET\nx => a => b\n> DATA end_stream stream=3\nab\\x00\n";
        let read = frames(text).expect("it follows the format");
        let block = [literal(0, b":method", b"GET"), literal(0, b"x", b"a => b")].concat();
        assert_eq!(read[0], Frame::new(kind::HEADERS, flag::END_HEADERS, 1, block));
        assert_eq!(read[1], Frame::new(kind::DATA, flag::END_STREAM, 3, *b"ab\0"));
    }
}
