//! Four decimals of a list at once, where the processor has AVX2.

#[cfg(target_arch = "x86_64")]
use checkgate_detectors::processor::Avx2;
use checkgate_detectors::processor::Basic;

use crate::eight::EIGHT;

#[cfg(target_arch = "x86_64")]
mod avx2;

/// Bytes that are looked at: eight, the first number from there on, and as much as four short ones take.
pub const WINDOW: usize = 64;
/// Where the first number begins.
pub const BEFORE: usize = EIGHT;
/// So many numbers are read.
pub const FOUR: usize = 4;

/// Four numbers, and where in the window each begins and ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Four {
    /// The nearest `f64` to each.
    pub values: [f64; FOUR],
    /// Their first bytes.
    pub starts: [u64; FOUR],
    /// What is behind their last bytes.
    pub ends: [u64; FOUR],
}

/// A way to read four numbers.
pub trait Fours: Copy {
    /// Reads four numbers that each have a sign or none, digits, a point and digits, of these at most seven, and a comma
    /// behind them, with a space behind that where `SPACED`. `None` where any is another.
    fn four<const SPACED: bool>(self, window: &[u8; WINDOW]) -> Option<Four>;
}

/// Leaves all numbers to whoever reads them one by one.
impl Fours for Basic {
    #[inline(always)]
    fn four<const SPACED: bool>(self, _: &[u8; WINDOW]) -> Option<Four> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
impl Fours for Avx2 {
    #[inline(always)]
    fn four<const SPACED: bool>(self, window: &[u8; WINDOW]) -> Option<Four> {
        avx2::read::<SPACED>(self, window)
    }
}
