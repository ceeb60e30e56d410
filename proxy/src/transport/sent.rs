//! What the library says to an HTTP/2 client on its own account, read from the frames that it writes: hyper tells
//! nobody.

/// Bytes of a frame's head (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;
/// Types of frames (RFC 9113, 6).
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// Error codes (RFC 9113, 7).
const REFUSED_STREAM: u32 = 0x7;
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A frame that turns a client away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A stream beyond those that the client may have open was refused.
    StreamRefused,
    /// The connection ends for what the client made the library do.
    Calm,
}

/// The frames that one connection has written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    head: [u8; HEAD_BYTES],
    /// How many bytes of the head have been written.
    head_written: usize,
    /// How many bytes of the payload have been.
    payload_written: usize,
    /// The last four of them.
    code: u32,
}

impl Sent {
    /// Reads the next bytes that were written, and calls `on` for each sign in them.
    pub fn read(&mut self, mut bytes: &[u8], mut on: impl FnMut(Sign)) {
        while !bytes.is_empty() {
            bytes =
                if self.head_written < HEAD_BYTES { self.read_head(bytes) } else { self.read_payload(bytes) };
            if self.head_written == HEAD_BYTES && self.payload_written == self.length() {
                self.sign().into_iter().for_each(&mut on);
                *self = Self::default();
            }
        }
    }

    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let free = self.head.get_mut(self.head_written..).unwrap_or_default();
        let (taken, rest) = bytes.split_at(free.len().min(bytes.len()));
        free.iter_mut().zip(taken).for_each(|(place, byte)| *place = *byte);
        self.head_written += taken.len();
        rest
    }

    fn read_payload<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let left = self.length().saturating_sub(self.payload_written);
        let (taken, rest) = bytes.split_at(left.min(bytes.len()));
        if matches!(self.kind(), RST_STREAM | GOAWAY) {
            let code_end = if self.kind() == GOAWAY { 8 } else { 4 };
            let of_code = taken.iter().take(usize::saturating_sub(code_end, self.payload_written));
            self.code = of_code.fold(self.code, |code, byte| code << 8 | u32::from(*byte));
        }
        self.payload_written += taken.len();
        rest
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.head;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    fn kind(&self) -> u8 {
        let [_, _, _, kind, ..] = self.head;
        kind
    }

    fn sign(&self) -> Option<Sign> {
        match (self.kind(), self.code) {
            (RST_STREAM, REFUSED_STREAM) => Some(Sign::StreamRefused),
            (GOAWAY, ENHANCE_YOUR_CALM) => Some(Sign::Calm),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, 0, 0, 0, 0, 1][..], payload].concat()
    }

    #[test]
    fn signs_are_seen_however_the_writes_are_cut() {
        let written = [
            frame(4, &[]),
            frame(0, &[0, 0, 0, 7]),
            frame(RST_STREAM, &[0, 0, 0, 8]),
            frame(RST_STREAM, &[0, 0, 0, 7]),
            frame(GOAWAY, &[0, 0, 0, 0, 0, 0, 0, 0]),
            frame(GOAWAY, &[0, 0, 0, 7, 0, 0, 0, 11, b'a', b'b']),
            frame(6, &[11; 8]),
        ]
        .concat();
        for size in 1..written.len() {
            let (mut sent, mut signs) = (Sent::default(), Vec::new());
            for piece in written.chunks(size) {
                sent.read(piece, |sign| signs.push(sign));
            }
            assert_eq!(signs, [Sign::StreamRefused, Sign::Calm], "in pieces of {size} bytes");
        }
    }
}
