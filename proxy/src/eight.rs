//! Eight bytes of text at a time in one integer, the first in its lowest bits.
//!
//! A byte is *flagged* by its highest bit. Of the flags only the lowest is sure to be right: arithmetic carries from a
//! flagged byte into the next.

/// How many bytes these are.
pub const EIGHT: usize = 8;

/// `byte` eight times.
#[inline]
pub const fn all(byte: u8) -> u64 {
    u64::from_le_bytes([byte; EIGHT])
}

/// Flags bytes less than `limit`, which is at most 0x80.
#[inline]
pub const fn below(bytes: u64, limit: u8) -> u64 {
    bytes.wrapping_sub(all(limit)) & !bytes & all(0x80)
}

/// Flags bytes greater than `limit`, which is at most 0x7f.
#[inline]
pub const fn above(bytes: u64, limit: u8) -> u64 {
    (bytes.wrapping_add(all(0x7f - limit)) | bytes) & all(0x80)
}

/// How many bytes stand before the first flagged one; all where none is.
#[inline]
pub const fn first(flags: u64) -> usize {
    flags.trailing_zeros() as usize / EIGHT
}
