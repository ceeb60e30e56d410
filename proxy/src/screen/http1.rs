//! HTTP/1.1 on the byte level: where each message of a connection ends, and whether it is clean.
//!
//! One pass over the bytes as they come. A name or value that is cut by the end of what came is carried over, so that
//! the verdict never depends on how the bytes were sliced. hyper reads the same bytes afterwards, and a property test
//! holds that it sees every accepted message end at the same byte.
//!
//! Choices where the RFC leaves one, beside those in `rules`: one empty line before a request is skipped (RFC 9112,
//! 2.2, asks for it), a second is refused; chunk extensions are refused, since no client in use sends any and parsers
//! disagree about where they end; a chunk's size has at most 15 digits, leading zeros included.

use super::Refused;
use super::rules::{self, Field};

/// Largest trailers, their empty line included, in bytes; never more than a head may have.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Most lines of trailers; never more than a head may have.
const TRAILER_LINES_MAX: usize = 64;
/// Most digits of a chunk's size: no number of so many overflows.
const CHUNK_DIGITS_MAX: u8 = 15;
/// A buffer that grew beyond this many bytes is given back at the end of its message.
const CARRIED_BYTES_KEPT: usize = 512;
/// What a version begins with, up to the digit that tells the two apart.
const VERSION: &[u8] = b"HTTP/1.";
/// How nearly every request line ends.
const USUAL_END: &[u8] = b"HTTP/1.1\r\n";

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a head, its empty line included.
    pub head_bytes: usize,
    /// Header lines.
    pub header_lines: usize,
}

/// Where a connection stands after the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between two messages: nothing of the next one has come.
    Idle,
    /// In a head.
    Head,
    /// In a body or its trailers.
    Body,
}

/// What is refused, and what may still go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Why.
    pub reason: Refused,
    /// How many of the given bytes come before the fault and belong to messages that began clean: they may go on to
    /// the parser; what follows may not. A fault in a head counts from the head's first byte, one in a body from the
    /// token that it stands in; where that came with earlier bytes, this is 0.
    pub clean: usize,
}

/// The requests of one HTTP/1.1 connection.
#[derive(Clone, Debug)]
pub struct Http1 {
    bounds: Bounds,
    place: Place,
    head: Head,
    /// The part of a token that came with earlier bytes.
    carried: Vec<u8>,
    /// The authority that an absolute target names; empty for the other forms.
    authority: Vec<u8>,
    heads: u64,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    EmptyLineFeed,
    Method,
    Target,
    /// With how many of its bytes have come.
    Version(u8),
    RequestLineFeed,
    Line,
    Name,
    Value(Field),
    ValueLineFeed,
    LastLineFeed,
    /// A body with so many bytes left.
    Length(u64),
    ChunkSize {
        digits: u8,
        size: u64,
    },
    ChunkSizeLineFeed(u64),
    /// A chunk with so many bytes left.
    Chunk(u64),
    ChunkReturn,
    ChunkLineFeed,
}

/// What is known of the head that is being read, or was read last.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// Bytes of this head, or of these trailers, so far.
    bytes: usize,
    lines: usize,
    empty_line: bool,
    options: bool,
    version_1_0: bool,
    host: bool,
    expect: bool,
    length: Option<u64>,
    chunked: bool,
    /// The lines that are being read stand after a chunked body.
    trailers: bool,
}

impl Http1 {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            place: Place::Start,
            head: Head::default(),
            carried: Vec::new(),
            authority: Vec::new(),
            heads: 0,
        }
    }

    /// Reads the next bytes of the connection, in order and without gap. After an error it must not be called again.
    ///
    /// # Errors
    /// The bytes break a rule.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Bad> {
        let mut rest = bytes;
        let mut clean = 0;
        while !rest.is_empty() {
            let taken = self.step(rest).map_err(|reason| Bad { reason, clean })?;
            rest = rest.get(taken..).unwrap_or_default();
            if self.phase() != Phase::Head {
                clean = bytes.len() - rest.len();
            }
        }
        Ok(())
    }

    /// Where the connection stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.place {
            Place::Start if !self.head.empty_line => Phase::Idle,
            Place::Length(_) | Place::Chunk(_) | Place::ChunkReturn | Place::ChunkLineFeed => Phase::Body,
            Place::ChunkSize { .. } | Place::ChunkSizeLineFeed(_) => Phase::Body,
            _ if self.head.trailers => Phase::Body,
            _ => Phase::Head,
        }
    }

    /// How many heads have come whole; it tells pipelined messages apart.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Reads from a non-empty `rest` as far as the place goes, and says how many bytes that took.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        match self.place {
            Place::Length(left) => Ok(self.skip(rest, left, Place::Length, Place::Start)),
            Place::Chunk(left) => Ok(self.skip(rest, left, Place::Chunk, Place::ChunkReturn)),
            Place::ChunkSize { digits, size } => self.chunk_size(rest, digits, size),
            Place::ChunkSizeLineFeed(size) => self.chunk_size_end(rest, size),
            Place::ChunkReturn => self.expect(rest, b'\r', Refused::ChunkEnd, Place::ChunkLineFeed),
            Place::ChunkLineFeed => self.expect(rest, b'\n', Refused::ChunkEnd, CHUNK_START),
            _ => self.bounded(rest),
        }
    }

    /// Skips what is `left` of a stretch, as far as it has come.
    fn skip(&mut self, rest: &[u8], left: u64, stretch: fn(u64) -> Place, after: Place) -> usize {
        let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let left = left - taken as u64;
        if left > 0 {
            self.place = stretch(left);
        } else {
            self.enter(after);
        }
        taken
    }

    /// Goes on to `place`; a message that starts forgets the one before.
    fn enter(&mut self, place: Place) {
        self.place = place;
        if place == Place::Start {
            self.head = Head::default();
        }
    }

    /// Takes one byte, which must be `wanted`.
    fn expect(&mut self, rest: &[u8], wanted: u8, reason: Refused, after: Place) -> Result<usize, Refused> {
        if rest.first() != Some(&wanted) {
            return Err(reason);
        }
        self.enter(after);
        Ok(1)
    }

    fn chunk_size(&mut self, rest: &[u8], digits: u8, size: u64) -> Result<usize, Refused> {
        let byte = rest.first().copied().unwrap_or_default();
        self.place = match (byte, char::from(byte).to_digit(16)) {
            (_, Some(digit)) if digits < CHUNK_DIGITS_MAX => {
                Place::ChunkSize { digits: digits + 1, size: size << 4 | u64::from(digit) }
            }
            (b'\r', _) if digits > 0 => Place::ChunkSizeLineFeed(size),
            (b'\n', _) if digits > 0 => return Err(Refused::BareLineFeed),
            (b';', _) if digits > 0 => return Err(Refused::ChunkExtension),
            _ => return Err(Refused::ChunkSize),
        };
        Ok(1)
    }

    fn chunk_size_end(&mut self, rest: &[u8], size: u64) -> Result<usize, Refused> {
        if size > 0 {
            return self.expect(rest, b'\n', Refused::BareCarriageReturn, Place::Chunk(size));
        }
        self.head.trailers = true;
        self.head.bytes = 0;
        self.head.lines = 0;
        self.expect(rest, b'\n', Refused::BareCarriageReturn, Place::Line)
    }

    /// Reads a part of a head or of trailers, and no more of it than may still come.
    fn bounded(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let (bytes_max, reason) = match self.head.trailers {
            // hyper counts up to its bound and not the bound itself.
            true => {
                (TRAILER_BYTES_MAX.min(self.bounds.head_bytes).saturating_sub(1), Refused::TrailersTooLarge)
            }
            false => (self.bounds.head_bytes, Refused::HeadTooLarge),
        };
        let room = bytes_max.saturating_sub(self.head.bytes).min(rest.len());
        if room == 0 {
            return Err(reason);
        }
        let so_far = self.head.bytes;
        let taken = self.parts(rest.get(..room).unwrap_or_default())?;
        if self.place != Place::Start || self.head.empty_line {
            self.head.bytes = so_far + taken;
        }
        Ok(taken)
    }

    /// Reads one part, and in a head, where it makes no difference to `clean`, the parts after it too.
    fn parts(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let mut after = rest;
        loop {
            let taken = self.part(after)?;
            after = after.get(taken..).unwrap_or_default();
            if after.is_empty() || self.phase() != Phase::Head {
                return Ok(rest.len() - after.len());
            }
        }
    }

    fn part(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        match self.place {
            Place::Start => self.start(rest),
            Place::EmptyLineFeed => self.empty_line(rest),
            Place::Method => self.method(rest),
            Place::Target => self.target(rest),
            Place::Version(position) => self.version(rest, position),
            Place::RequestLineFeed | Place::ValueLineFeed => {
                self.expect(rest, b'\n', Refused::BareCarriageReturn, Place::Line)
            }
            Place::Line => self.line(rest),
            Place::Name => self.name(rest),
            Place::Value(field) => self.value(rest, field),
            _ => self.last_line(rest),
        }
    }

    fn start(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        match rest.first() {
            Some(b'\r') if self.head.empty_line => Err(Refused::EmptyLines),
            Some(b'\r') => {
                self.place = Place::EmptyLineFeed;
                Ok(1)
            }
            Some(b'\n') => Err(Refused::BareLineFeed),
            _ => self.method(rest),
        }
    }

    fn empty_line(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        self.head.empty_line = true;
        self.place = Place::Start;
        match rest.first() {
            Some(b'\n') => Ok(1),
            _ => Err(Refused::BareCarriageReturn),
        }
    }

    fn method(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let length =
            self.within(rules::run(rest, rules::METHOD), rules::METHOD_BYTES_MAX, Refused::Method)?;
        self.place = Place::Method;
        match rest.get(length) {
            None => return Ok(self.carry(rest)),
            Some(b' ') => (),
            Some(_) => return Err(Refused::Method),
        }
        let method = whole(&mut self.carried, rest, length);
        rules::method(method)?;
        self.head.options = method == b"OPTIONS";
        let taken = self.token_ends(length, Place::Target);
        match rest.get(taken..) {
            Some(target) if !target.is_empty() => Ok(taken + self.target(target)?),
            _ => Ok(taken),
        }
    }

    fn target(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let length =
            self.within(rules::visible_run(rest), rules::TARGET_BYTES_MAX, Refused::TargetTooLong)?;
        match rest.get(length) {
            None => return Ok(self.carry(rest)),
            Some(b' ') => (),
            Some(b'\r') => return Err(Refused::Version),
            Some(b'\n') => return Err(Refused::BareLineFeed),
            Some(_) => return Err(Refused::Target),
        }
        let target = whole(&mut self.carried, rest, length);
        self.authority.clear();
        if let Some(authority) = rules::target(target, self.head.options)? {
            self.authority.extend_from_slice(authority);
        }
        let taken = self.token_ends(length, Place::Version(0));
        match rest.get(taken..) {
            Some(version) if !version.is_empty() => Ok(taken + self.version(version, 0)?),
            _ => Ok(taken),
        }
    }

    fn version(&mut self, rest: &[u8], position: u8) -> Result<usize, Refused> {
        if position == 0 && rest.starts_with(USUAL_END) {
            self.place = Place::Line;
            return Ok(USUAL_END.len());
        }
        let byte = rest.first().copied().unwrap_or_default();
        let expected = VERSION.get(usize::from(position));
        let after = usize::from(position).checked_sub(VERSION.len());
        self.place = Place::Version(position + 1);
        match (expected, after, byte) {
            (Some(expected), ..) if *expected == byte => (),
            (_, Some(0), b'0') => self.head.version_1_0 = true,
            (_, Some(0), b'1') => self.head.version_1_0 = false,
            (_, Some(1), b'\r') => self.place = Place::RequestLineFeed,
            (_, Some(1), b'\n') => return Err(Refused::BareLineFeed),
            _ => return Err(Refused::Version),
        }
        Ok(1)
    }

    /// Reads the lines that have come whole and clean, as nearly all do, without a stop at each token; what is read so
    /// would be read alike token by token. Gives how many bytes that took: what is left is another kind of line, one
    /// that is cut, or one with a fault. Not for trailers, where `clean` counts from the token.
    fn whole_lines(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let mut after = rest;
        while self.head.lines < self.bounds.header_lines
            && let Some((field, value, length)) = rules::whole_line(after)
        {
            if field != Field::Other {
                self.head.note(field, rules::trim(value), &self.authority)?;
            }
            self.head.lines += 1;
            after = after.get(length..).unwrap_or_default();
        }
        Ok(rest.len() - after.len())
    }

    fn line(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let whole = if self.head.trailers { 0 } else { self.whole_lines(rest)? };
        if whole > 0 {
            return Ok(whole);
        }
        match rest.first() {
            Some(b'\r') => {
                self.place = Place::LastLineFeed;
                return Ok(1);
            }
            Some(b'\n') => return Err(Refused::BareLineFeed),
            Some(b' ' | b'\t') => return Err(Refused::LineFolding),
            _ => (),
        }
        self.head.lines += 1;
        if self.head.lines > self.lines_max() {
            return Err(Refused::TooManyLines);
        }
        self.name(rest)
    }

    fn lines_max(&self) -> usize {
        match self.head.trailers {
            true => TRAILER_LINES_MAX.min(self.bounds.header_lines),
            false => self.bounds.header_lines,
        }
    }

    fn name(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let length = rules::run(rest, rules::TOKEN);
        self.place = Place::Name;
        match rest.get(length) {
            None => return Ok(self.carry(rest)),
            Some(b':') => (),
            Some(b' ' | b'\t') => return Err(Refused::SpaceBeforeColon),
            Some(&byte) => return Err(odd_byte(byte).unwrap_or(Refused::FieldName)),
        }
        let name = whole(&mut self.carried, rest, length);
        if name.is_empty() {
            return Err(Refused::FieldName);
        }
        let field = match self.head.trailers {
            true => rules::trailer(name).map(|()| Field::Other)?,
            false => Field::of(name),
        };
        match field {
            Field::Collides => Err(Refused::FieldNameCollides),
            Field::Upgrade => Err(Refused::Upgrade),
            field => Ok(self.token_ends(length, Place::Value(field))),
        }
    }

    fn value(&mut self, rest: &[u8], field: Field) -> Result<usize, Refused> {
        let length = rules::value_run(rest);
        match rest.get(length) {
            None if field == Field::Other => return Ok(length),
            None => return Ok(self.carry(rest)),
            Some(b'\r') => (),
            Some(&byte) => return Err(odd_byte(byte).unwrap_or(Refused::ControlByte)),
        }
        if field != Field::Other {
            let value = rules::trim(whole(&mut self.carried, rest, length));
            self.head.note(field, value, &self.authority)?;
        }
        let taken = self.token_ends(length, Place::ValueLineFeed);
        if rest.get(taken) == Some(&b'\n') {
            self.place = Place::Line;
            return Ok(taken + 1);
        }
        Ok(taken)
    }

    /// The line feed behind the empty line: the head, or the message, is whole.
    fn last_line(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let after = self.head.followed_by();
        self.heads += u64::from(!self.head.trailers);
        self.forget();
        self.expect(rest, b'\n', Refused::BareCarriageReturn, after?)
    }

    /// Gives back buffers that an unusual message made large.
    fn forget(&mut self) {
        if self.carried.capacity() > CARRIED_BYTES_KEPT {
            self.carried = Vec::new();
        }
        if self.authority.capacity() > CARRIED_BYTES_KEPT {
            self.authority = Vec::new();
        }
    }

    /// The `length` of the part of a token that has come, if the token stays within `max` bytes.
    fn within(&self, length: usize, max: usize, reason: Refused) -> Result<usize, Refused> {
        if self.carried.len() + length > max { Err(reason) } else { Ok(length) }
    }

    /// Keeps the part of a token that has come.
    fn carry(&mut self, rest: &[u8]) -> usize {
        self.carried.extend_from_slice(rest);
        rest.len()
    }

    /// Leaves a token whose last part has `length` bytes, and the byte that ends it.
    fn token_ends(&mut self, length: usize, after: Place) -> usize {
        self.carried.clear();
        self.place = after;
        length + 1
    }
}

/// Before the first digit of a chunk's size.
const CHUNK_START: Place = Place::ChunkSize { digits: 0, size: 0 };

/// A token of which the last `length` bytes came first in `rest`.
fn whole<'a>(carried: &'a mut Vec<u8>, rest: &'a [u8], length: usize) -> &'a [u8] {
    let part = rest.get(..length).unwrap_or_default();
    if carried.is_empty() {
        return part;
    }
    carried.extend_from_slice(part);
    carried
}

/// Why a byte that ends no name and no value is refused, where it does not depend on the place.
fn odd_byte(byte: u8) -> Option<Refused> {
    match byte {
        b'\n' => Some(Refused::BareLineFeed),
        b'\r' => None,
        byte if byte.is_ascii_control() => Some(Refused::ControlByte),
        _ => None,
    }
}

impl Head {
    /// What follows the empty line.
    fn followed_by(&self) -> Result<Place, Refused> {
        match self {
            Self { trailers: true, .. } => Ok(Place::Start),
            Self { version_1_0: false, host: false, .. } => Err(Refused::HostMissing),
            Self { chunked: true, .. } => Ok(CHUNK_START),
            Self { length: None | Some(0), .. } => Ok(Place::Start),
            Self { length: Some(length), .. } => Ok(Place::Length(*length)),
        }
    }

    /// Takes in a field that framing or routing depends on.
    fn note(&mut self, field: Field, value: &[u8], authority: &[u8]) -> Result<(), Refused> {
        match field {
            Field::Host => self.note_host(value, authority),
            Field::ContentLength => self.note_length(value),
            Field::TransferEncoding => self.note_coding(value),
            Field::Connection => rules::connection(value),
            Field::Expect if std::mem::replace(&mut self.expect, true) => Err(Refused::Expect),
            Field::Expect => rules::expect(value),
            Field::Upgrade | Field::Collides | Field::Other => Ok(()),
        }
    }

    fn note_host(&mut self, value: &[u8], authority: &[u8]) -> Result<(), Refused> {
        if std::mem::replace(&mut self.host, true) {
            return Err(Refused::HostDoubled);
        }
        rules::host(value)?;
        let same = authority.is_empty() || authority.eq_ignore_ascii_case(value);
        if same { Ok(()) } else { Err(Refused::HostMismatch) }
    }

    fn note_length(&mut self, value: &[u8]) -> Result<(), Refused> {
        if self.chunked {
            return Err(Refused::TwoLengths);
        }
        if self.length.replace(rules::content_length(value)?).is_some() {
            return Err(Refused::ContentLengthDoubled);
        }
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8]) -> Result<(), Refused> {
        if self.version_1_0 {
            return Err(Refused::TransferEncodingUnexpected);
        }
        if self.length.is_some() {
            return Err(Refused::TwoLengths);
        }
        if std::mem::replace(&mut self.chunked, true) {
            return Err(Refused::TransferEncoding);
        }
        rules::transfer_encoding(value)
    }
}
