//! Budgets for the HTTP/2 frames that cost a client next to nothing.
//!
//! The parser behind answers or remembers each of these frames, so a client that sends nothing else has the proxy work
//! for it. What honest clients need sets the budgets. gRPC clients send a PING for each round trip in which they
//! measured bandwidth, a WINDOW_UPDATE for every few frames of data, SETTINGS once or twice and again when they grow
//! their windows, and RST_STREAM whenever a caller gives up. Browsers send PRIORITY or PRIORITY_UPDATE with every
//! request. A budget that is spent ends the connection; no setting raises or removes one.

use std::time::Duration;

use super::Refused;

/// How long a window of the budgets lasts; the next one begins with the first bytes after its end.
const WINDOW: Duration = Duration::from_secs(10);
/// A stream that is reset within this time of its opening, and at most twice as late, was reset rapidly.
const RAPID: Duration = Duration::from_secs(1);
/// Largest payload of a frame, in bytes: what HTTP/2 begins with (RFC 9113, 4.2); the server offers no more.
pub const FRAME_BYTES_MAX: u32 = 16_384;
/// Most CONTINUATION frames of one header block.
const CONTINUATIONS_PER_BLOCK_MAX: u16 = 16;
/// A WINDOW_UPDATE by fewer bytes counts as a small one.
const INCREMENT_BYTES_SMALL: u32 = 1_024;
/// For each so many streams that a client opens, one more may be reset.
const OPENED_PER_RESET: u32 = 2;
/// For each stream that a client opens, so many more windows may be updated: gRPC clients give back the room of every
/// answer, however small.
const UPDATES_PER_OPENED: u32 = 8;

/// A kind of frame that is cheap to send.
#[derive(Clone, Copy, Debug)]
enum Cost {
    Reset,
    RapidReset,
    Ping,
    Settings,
    EmptyData,
    Continuation,
    WindowUpdate,
    SmallWindowUpdate,
    Priority,
    Odd,
}

/// How many kinds there are.
const COSTS: usize = 10;

/// What may be spent in one window, and in the life of a connection where a number that only grows has no honest use.
struct Budget {
    in_window: u32,
    in_life: u32,
    reason: Refused,
}

/// Every budget.
const fn budget(cost: Cost) -> Budget {
    use Cost as C;
    use Refused as R;
    match cost {
        C::Reset => Budget { in_window: 256, in_life: u32::MAX, reason: R::Resets },
        C::RapidReset => Budget { in_window: 32, in_life: 1_000, reason: R::RapidResets },
        C::Ping => Budget { in_window: 4_500, in_life: u32::MAX, reason: R::Pings },
        C::Settings => Budget { in_window: 100, in_life: 2_000, reason: R::Settings },
        C::EmptyData => Budget { in_window: 200, in_life: 10_000, reason: R::EmptyData },
        C::Continuation => Budget { in_window: 1_000, in_life: u32::MAX, reason: R::Continuations },
        C::WindowUpdate => Budget { in_window: 50_000, in_life: u32::MAX, reason: R::WindowUpdates },
        C::SmallWindowUpdate => Budget { in_window: 4_500, in_life: u32::MAX, reason: R::WindowUpdates },
        C::Priority => Budget { in_window: 1_000, in_life: u32::MAX, reason: R::Priorities },
        C::Odd => Budget { in_window: 50, in_life: 1_000, reason: R::OddFrames },
    }
}

/// What a connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113, 6; RFC 9218, 7.1).
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    pub const PRIORITY_UPDATE: u8 = 16;
}

const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;
/// The bits of a stream's number, or of an increment.
const NUMBER: u32 = 0x7fff_ffff;
/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;

/// The frames that one client sends on one HTTP/2 connection, preface included.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    place: Place,
    /// The head of the frame that is being read.
    head: [u8; HEAD_BYTES],
    spent: Spent,
    streams: Streams,
    /// CONTINUATION frames of the block that was begun last.
    continuations: u16,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The preface, of which so many bytes have come.
    Preface(usize),
    /// The head of a frame, of which so many bytes have come.
    Head(usize),
    /// The first bytes of a payload, where the verdict depends on them.
    Start(Frame, Start),
    /// The rest of a payload, of so many bytes.
    Payload(u32),
}

impl Default for Place {
    fn default() -> Self {
        Self::Preface(0)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// The first bytes of a payload: `left` are still to come, and those that came make up `number`.
#[derive(Clone, Copy, Debug)]
struct Start {
    left: u32,
    number: u32,
}

impl Frames {
    /// Reads the next bytes of the connection, in order and without gap; `now` counts from any fixed moment. After an
    /// error it must not be called again.
    ///
    /// # Errors
    /// A budget is spent: the connection ends with GOAWAY `ENHANCE_YOUR_CALM`.
    pub fn read(&mut self, bytes: &[u8], now: Duration) -> Result<(), Refused> {
        self.spent.turn(now);
        self.streams.turn(now);
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = match self.place {
                Place::Preface(come) => self.preface(rest, come)?,
                Place::Head(come) => self.head(rest, come)?,
                Place::Start(frame, start) => self.start(rest, frame, start)?,
                Place::Payload(left) => self.payload(rest, left),
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn preface(&mut self, rest: &[u8], come: usize) -> Result<usize, Refused> {
        if rest.first() != PREFACE.get(come) {
            return Err(Refused::Preface);
        }
        self.place = if come + 1 < PREFACE.len() { Place::Preface(come + 1) } else { Place::Head(0) };
        Ok(1)
    }

    fn head(&mut self, rest: &[u8], come: usize) -> Result<usize, Refused> {
        let taken = rest.len().min(HEAD_BYTES - come);
        for (place, byte) in self.head.iter_mut().skip(come).zip(rest) {
            *place = *byte;
        }
        self.place = Place::Head(come + taken);
        if come + taken == HEAD_BYTES {
            self.frame(Frame::of(self.head))?;
        }
        Ok(taken)
    }

    /// Counts a frame whose head has come, unless that takes the first bytes of its payload too.
    fn frame(&mut self, frame: Frame) -> Result<(), Refused> {
        if frame.length > FRAME_BYTES_MAX {
            return Err(Refused::FrameTooLarge);
        }
        let left = frame.telling_bytes();
        if left > 0 {
            self.place = Place::Start(frame, Start { left, number: 0 });
            return Ok(());
        }
        self.place = payload(frame.length);
        self.count(frame, 0)
    }

    fn start(&mut self, rest: &[u8], frame: Frame, start: Start) -> Result<usize, Refused> {
        let byte = rest.first().copied().unwrap_or_default();
        let number = start.number << 8 | u32::from(byte);
        if start.left > 1 {
            self.place = Place::Start(frame, Start { left: start.left - 1, number });
            return Ok(1);
        }
        self.place = payload(frame.length - frame.telling_bytes());
        self.count(frame, number)?;
        Ok(1)
    }

    fn payload(&mut self, rest: &[u8], left: u32) -> usize {
        let taken = u32::try_from(rest.len()).map_or(left, |come| come.min(left));
        self.place = payload(left - taken);
        taken as usize
    }

    /// Counts a frame; `number` is made of the bytes of its payload that tell what it does.
    fn count(&mut self, frame: Frame, number: u32) -> Result<(), Refused> {
        match frame.kind {
            kind::DATA if frame.carries_nothing(number) => self.spent.spend(Cost::EmptyData),
            kind::DATA => Ok(()),
            kind::HEADERS => {
                self.begin(frame.stream);
                Ok(())
            }
            kind::CONTINUATION => self.continuation(),
            kind::RST_STREAM => self.reset(frame.stream),
            kind::SETTINGS => self.spent.spend(Cost::Settings),
            kind::PING => self.spent.spend(Cost::Ping),
            kind::PRIORITY if frame.length == 5 => self.spent.spend(Cost::Priority),
            kind::PRIORITY_UPDATE => self.spent.spend(Cost::Priority),
            kind::WINDOW_UPDATE => self.window_update(number & NUMBER),
            _ => self.spent.spend(Cost::Odd),
        }
    }

    /// A header block begins, and perhaps a stream.
    fn begin(&mut self, stream: u32) {
        self.continuations = 0;
        if self.streams.open(stream) {
            self.spent.stream_opened();
        }
    }

    fn continuation(&mut self) -> Result<(), Refused> {
        self.continuations += 1;
        if self.continuations > CONTINUATIONS_PER_BLOCK_MAX {
            return Err(Refused::Continuations);
        }
        self.spent.spend(Cost::Continuation)
    }

    fn reset(&mut self, stream: u32) -> Result<(), Refused> {
        if self.streams.is_young(stream) {
            self.spent.spend(Cost::RapidReset)?;
        }
        self.spent.spend(Cost::Reset)
    }

    fn window_update(&mut self, increment: u32) -> Result<(), Refused> {
        match increment {
            // It has the server reset the stream (CVE-2025-8671), and so does a wrong length, which reads as 0.
            0 => self.spent.spend(Cost::Odd)?,
            1..INCREMENT_BYTES_SMALL => self.spent.spend(Cost::SmallWindowUpdate)?,
            _ => (),
        }
        self.spent.spend(Cost::WindowUpdate)
    }
}

/// Before what is left of a payload, or before the next frame.
fn payload(left: u32) -> Place {
    if left > 0 { Place::Payload(left) } else { Place::Head(0) }
}

impl Frame {
    fn of(head: [u8; HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        Self { length, kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) & NUMBER }
    }

    /// How many bytes of its payload tell what it does: the increment of a WINDOW_UPDATE, the padding of DATA.
    fn telling_bytes(self) -> u32 {
        match self.kind {
            kind::WINDOW_UPDATE if self.length == 4 => 4,
            kind::DATA if self.flags & PADDED != 0 => self.length.min(1),
            _ => 0,
        }
    }

    /// Whether DATA with so much padding brings no byte and ends nothing.
    fn carries_nothing(self, padding: u32) -> bool {
        let data = self.length.saturating_sub(self.telling_bytes()).saturating_sub(padding);
        data == 0 && self.flags & END_STREAM == 0
    }
}

/// What was spent so far.
#[derive(Clone, Debug, Default)]
struct Spent {
    window_began: Duration,
    in_window: [u32; COSTS],
    in_life: [u32; COSTS],
    opened_in_window: u32,
    opened_in_life: u32,
}

impl Spent {
    /// Begins a new window where the last one is over.
    fn turn(&mut self, now: Duration) {
        if now.saturating_sub(self.window_began) >= WINDOW {
            self.window_began = now;
            self.in_window = [0; COSTS];
            self.opened_in_window = 0;
        }
    }

    fn stream_opened(&mut self) {
        self.opened_in_window = self.opened_in_window.saturating_add(1);
        self.opened_in_life = self.opened_in_life.saturating_add(1);
    }

    fn spend(&mut self, cost: Cost) -> Result<(), Refused> {
        let Budget { in_window, in_life, reason } = budget(cost);
        let earned = |opened: u32| match cost {
            Cost::Reset | Cost::RapidReset => opened / OPENED_PER_RESET,
            Cost::WindowUpdate | Cost::SmallWindowUpdate => opened.saturating_mul(UPDATES_PER_OPENED),
            _ => 0,
        };
        let window_over =
            add(&mut self.in_window, cost) > in_window.saturating_add(earned(self.opened_in_window));
        let life_over = add(&mut self.in_life, cost) > in_life.saturating_add(earned(self.opened_in_life));
        if window_over || life_over { Err(reason) } else { Ok(()) }
    }
}

/// One more of a kind; how many that makes.
fn add(numbers: &mut [u32; COSTS], cost: Cost) -> u32 {
    numbers.get_mut(cost as usize).map_or(u32::MAX, |number| {
        *number = number.saturating_add(1);
        *number
    })
}

/// How old the streams are, told by their numbers alone: those of a client only grow.
#[derive(Clone, Debug, Default)]
struct Streams {
    highest: u32,
    span_began: Duration,
    /// The highest number when this span of [`RAPID`] began, and when the one before it did.
    at_span: u32,
    at_span_before: u32,
}

impl Streams {
    /// Begins a new span where the last one is over.
    fn turn(&mut self, now: Duration) {
        let age = now.saturating_sub(self.span_began);
        if age >= RAPID {
            self.at_span_before = if age < 2 * RAPID { self.at_span } else { self.highest };
            self.at_span = self.highest;
            self.span_began = now;
        }
    }

    /// Whether a stream of that number is new.
    fn open(&mut self, stream: u32) -> bool {
        let new = stream > self.highest;
        self.highest = self.highest.max(stream);
        new
    }

    fn is_young(&self, stream: u32) -> bool {
        stream > self.at_span_before
    }
}
