//! Any bytes behind the preface of HTTP/2: slices do not matter, and cheap frames end the connection in time.

#![no_main]

use std::time::Duration;

use checkgate::screen::frames::Frames;
use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A flood must end within so many frames; the shortest has nine bytes.
const FLOOD_FRAMES_MAX: usize = 10_000;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, usize::MAX);
    assert_eq!(read(bytes, 1), whole, "byte by byte");
    assert_eq!(read(bytes, 10), whole, "ten bytes at a time");
    assert_floods_end(bytes);
});

/// The reason for which the connection ends, if it does.
fn read(bytes: &[u8], slice: usize) -> Option<&'static str> {
    let mut frames = Frames::default();
    let mut slices = PREFACE.chunks(slice).chain(bytes.chunks(slice));
    slices.find_map(|slice| frames.read(slice, Duration::ZERO).err()).map(|reason| reason.as_str())
}

/// The input over and over, if it is one frame that brings neither data nor a request.
fn assert_floods_end(bytes: &[u8]) {
    let [0, 0, length, kind, flags, _, _, _, _, payload @ ..] = bytes else { return };
    let brings_something = matches!(kind, 0 if *length > 0 || flags & 1 == 1) || *kind == 1;
    let large_update = *kind == 8;
    if payload.len() != usize::from(*length) || brings_something || large_update {
        return;
    }
    let mut frames = Frames::default();
    frames.read(PREFACE, Duration::ZERO).expect("the preface");
    let ends = (0..FLOOD_FRAMES_MAX).any(|_| frames.read(bytes, Duration::ZERO).is_err());
    assert!(ends, "{FLOOD_FRAMES_MAX} frames of {bytes:?} pass");
}
