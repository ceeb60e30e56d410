//! Interim answers (1xx), counted in the bytes of a connection before its parser sees them.
//!
//! The parser passes over them in silence, however many come. It can be asked to tell of each, at the price of a table
//! of extensions in every request; almost no answer has an interim one before it, and a look at one byte says so.

/// Interim answers that a server may send before its answer.
const INTERIM_MAX: u32 = 16;

/// The answer to one request, as far as it has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interim {
    place: Place,
    count: u32,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The answer itself, or nothing that was asked for.
    #[default]
    Answer,
    /// The status line of the next answer, after so many of its bytes.
    Start(u8),
    /// The status, which begins with 1, after so many of its digits; `switches` as long as it may be 101.
    Status { digits: u8, switches: bool },
    /// The head of an interim answer; whether the line so far is empty.
    Head { empty: bool },
}

/// What a status line begins with, up to the status: `HTTP/1.1` and a space.
const VERSION_BYTES: u8 = 9;

impl Interim {
    /// A request was sent; what comes next is the beginning of an answer.
    pub fn begin() -> Self {
        Self { place: Place::Start(0), count: 0 }
    }

    /// Reads the next bytes of the connection, and says whether more interim answers came than may come.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        if self.place == Place::Start(0)
            && bytes.first() == Some(&b'H')
            && bytes.get(usize::from(VERSION_BYTES)).is_some_and(|digit| *digit != b'1')
        {
            self.place = Place::Answer;
        }
        for byte in bytes {
            if self.place == Place::Answer {
                break;
            }
            self.take(*byte);
        }
        self.count > INTERIM_MAX
    }

    fn take(&mut self, byte: u8) {
        self.place = match self.place {
            Place::Answer => Place::Answer,
            // The parser passes over empty lines before a status line.
            Place::Start(0) if matches!(byte, b'\r' | b'\n') => Place::Start(0),
            Place::Start(VERSION_BYTES) if byte == b'1' => Place::Status { digits: 1, switches: true },
            Place::Start(VERSION_BYTES) => Place::Answer,
            Place::Start(read) => Place::Start(read + 1),
            Place::Status { digits: 1, .. } => Place::Status { digits: 2, switches: byte == b'0' },
            // 101 is the last word of HTTP on its connection, and no interim answer (RFC 9110, 15.2.2).
            Place::Status { switches: true, .. } if byte == b'1' => Place::Answer,
            Place::Status { .. } => {
                self.count += 1;
                Place::Head { empty: false }
            }
            Place::Head { empty: true } if byte == b'\n' => Place::Start(0),
            Place::Head { empty } => Place::Head { empty: byte == b'\n' || (empty && byte == b'\r') },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `bytes` are a flood, read in pieces of `size`.
    fn floods(bytes: &[u8], size: usize) -> bool {
        let mut interim = Interim::begin();
        bytes.chunks(size).any(|piece| interim.read(piece))
    }

    fn after(head: &str, count: usize) -> Vec<u8> {
        (head.repeat(count) + "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nHTTP/1.1 100 is text").into()
    }

    #[test]
    fn sixteen_may_come_and_no_more_however_they_are_cut() {
        for head in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 102 Processing\r\nx: y\r\nz:\r\n\r\n",
            "\r\nHTTP/1.0 103 Early Hints\nlink: </>\n\n",
            "HTTP/1.1 199\r\n\r\n",
        ] {
            for size in 1..80 {
                assert!(!floods(&after(head, 0), size), "none, in pieces of {size}");
                assert!(!floods(&after(head, 16), size), "16 of {head:?} in pieces of {size}");
                assert!(floods(&after(head, 17), size), "17 of {head:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_comes_after_the_answer_is_not_looked_at() {
        let mut interim = Interim::begin();
        assert!(!interim.read(b"HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!interim.read("HTTP/1.1 100 Continue\r\n\r\n".repeat(40).as_bytes()), "this is a body");
        let switched = "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned();
        assert!(!floods((switched + &"HTTP/1.1 100 \r\n\r\n".repeat(40)).as_bytes(), 7), "this is no HTTP");
        assert!(!Interim::default().read("HTTP/1.1 100 \r\n\r\n".repeat(40).as_bytes()), "nobody asked");
    }
}
