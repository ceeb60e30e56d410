//! The way by vectors.
//!
//! The numbers are told apart by their commas; then each lane of a vector holds the last eight bytes of one. All is done in
//! lanes that [`decimal`](crate::decode::decimal) does with one number, and what is not as most lists have it is left to it.

use std::arch::x86_64::__m256i;

use pulp::cast;
use pulp::x86::V3;

use super::{BEFORE, FOUR, Four, WINDOW};
use crate::eight::{self, EIGHT};

/// As [`super::Fours::four`].
#[inline(always)]
pub fn read<const SPACED: bool>(v3: V3, window: &[u8; WINDOW]) -> Option<Four> {
    let commas = places(v3, window, b',') & (u64::MAX << BEFORE);
    let (mut ends, mut further) = ([0; FOUR], commas);
    for end in &mut ends {
        *end = u64::from(further.trailing_zeros());
        further &= further.wrapping_sub(1);
    }
    let [one, two, three, four] = ends;
    let unspaced = || (commas ^ further) & !(places(v3, window, b' ') >> 1);
    if four >= WINDOW as u64 || (SPACED && unspaced() != 0) {
        return None;
    }
    let bytes = [before(window, one)?, before(window, two)?, before(window, three)?, before(window, four)?];
    let (lanes, ends) = (Lanes { v3 }, cast::<_, __m256i>(ends));
    let gap = if SPACED { 2 } else { 1 };
    let behind_gap =
        v3.avx2._mm256_add_epi64(v3.avx2._mm256_permute4x64_epi64::<0b10_01_00_00>(ends), lanes.all(gap));
    let starts = v3.avx2._mm256_blend_epi32::<0b11>(behind_gap, lanes.all(BEFORE as u64));
    let minus = lanes.all(places(v3, window, b'-'));
    let negative = v3.avx2._mm256_and_si256(v3.avx2._mm256_srlv_epi64(minus, starts), lanes.all(1));
    let count = v3.avx2._mm256_sub_epi64(v3.avx2._mm256_sub_epi64(ends, starts), negative);
    let (digits, decimals) = lanes.joined(cast(bytes), count)?;
    let values = lanes.quotients(lanes.numbers(digits), decimals, negative);
    Some(Four { values, starts: cast(starts), ends: cast(ends) })
}

/// A bit to each place that holds a byte.
#[inline(always)]
fn places(v3: V3, window: &[u8; WINDOW], byte: u8) -> u64 {
    let byte = v3.avx._mm256_set1_epi8(byte.cast_signed());
    let [low, high] = cast::<_, [__m256i; 2]>(*window).map(|half| {
        u64::from(v3.avx2._mm256_movemask_epi8(v3.avx2._mm256_cmpeq_epi8(half, byte)).cast_unsigned())
    });
    low | high << 32
}

/// The eight bytes before a place.
#[inline(always)]
fn before(window: &[u8; WINDOW], end: u64) -> Option<u64> {
    let start = (end as usize).checked_sub(EIGHT)?;
    window.get(start..)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

/// Powers of ten, which also single precision holds exactly.
const POWERS: [f32; EIGHT] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// What is done in each of four lanes.
#[derive(Clone, Copy)]
struct Lanes {
    v3: V3,
}

impl Lanes {
    #[inline(always)]
    fn all(self, number: u64) -> __m256i {
        cast([number; FOUR])
    }

    /// How many bytes of a mask are set.
    #[inline(always)]
    fn set_bytes(self, mask: __m256i) -> __m256i {
        let ones = self.v3.avx2._mm256_and_si256(mask, self.all(eight::all(1)));
        self.v3.avx2._mm256_sad_epu8(ones, self.all(0))
    }

    /// The digits of each number without its point, the last one in the last byte, and how many are decimals; nothing where
    /// any of the last `count` bytes are no decimal, or more than eight.
    #[inline(always)]
    fn joined(self, bytes: __m256i, count: __m256i) -> Option<(__m256i, __m256i)> {
        let Self { v3 } = self;
        let equal = |one, other| v3.avx2._mm256_cmpeq_epi64(one, other);
        // What stands before the number is shifted out.
        let shift = v3.avx2._mm256_sub_epi64(self.all(64), v3.avx2._mm256_slli_epi64::<3>(count));
        let digits = v3.avx2._mm256_xor_si256(bytes, self.all(eight::all(b'0')));
        let first_lowest = v3.avx2._mm256_srlv_epi64(digits, shift);
        let digits = v3.avx2._mm256_sllv_epi64(first_lowest, shift);
        let (ten, point) = (self.all(eight::all(10)), self.all(eight::all(b'.' ^ b'0')));
        let no_digits = v3.avx2._mm256_cmpeq_epi8(v3.avx2._mm256_max_epu8(digits, ten), digits);
        let points = v3.avx2._mm256_cmpeq_epi8(digits, point);
        let from_point =
            v3.avx2._mm256_sub_epi64(self.all(0), v3.avx2._mm256_and_si256(points, self.all(eight::all(1))));
        let behind_point = v3.avx2._mm256_xor_si256(from_point, points);
        let decimals = self.set_bytes(behind_point);
        let one_point =
            v3.avx2._mm256_and_si256(equal(no_digits, points), equal(self.set_bytes(points), self.all(1)));
        let first = v3.avx2._mm256_and_si256(first_lowest, self.all(0xff));
        let one_whole = equal(v3.avx2._mm256_sub_epi64(count, decimals), self.all(2));
        let leading_zero = v3.avx2._mm256_andnot_si256(one_whole, equal(first, self.all(0)));
        let no_whole = equal(first, self.all(u64::from(b'.' ^ b'0')));
        let bare = v3.avx2._mm256_or_si256(no_whole, equal(decimals, self.all(0)));
        let good = v3.avx2._mm256_andnot_si256(v3.avx2._mm256_or_si256(bare, leading_zero), one_point);
        if v3.avx2._mm256_movemask_epi8(good) != -1 {
            return None;
        }
        // The digits before the point move up into its place.
        let whole = v3.avx2._mm256_slli_epi64::<8>(v3.avx2._mm256_andnot_si256(from_point, digits));
        let joined = v3.avx2._mm256_or_si256(whole, v3.avx2._mm256_and_si256(digits, behind_point));
        Some((joined, decimals))
    }

    /// The number that eight digits make: neighbours are joined three times over.
    #[inline(always)]
    fn numbers(self, digits: __m256i) -> __m256i {
        let Self { v3 } = self;
        let pairs = v3.avx2._mm256_maddubs_epi16(digits, cast([[10_i8, 1]; 16]));
        let fours = v3.avx2._mm256_madd_epi16(pairs, cast([[100_i16, 1]; 8]));
        let high = v3.avx2._mm256_mul_epu32(fours, self.all(10_000));
        v3.avx2._mm256_add_epi64(high, v3.avx2._mm256_srli_epi64::<32>(fours))
    }

    /// The numbers divided by powers of ten, with their signs.
    #[inline(always)]
    fn quotients(self, numbers: __m256i, decimals: __m256i, negative: __m256i) -> [f64; FOUR] {
        let Self { v3 } = self;
        let even = cast([0_u32, 2, 4, 6, 0, 2, 4, 6]);
        let numbers = v3.avx2._mm256_permutevar8x32_epi32(numbers, even);
        let decimals = v3.avx2._mm256_permutevar8x32_epi32(decimals, even);
        let powers = v3.avx2._mm256_permutevar8x32_epi32(cast(POWERS), decimals);
        let numbers = v3.avx._mm256_cvtepi32_pd(v3.avx._mm256_castsi256_si128(numbers));
        let powers = v3.avx._mm256_cvtps_pd(cast(v3.avx._mm256_castsi256_si128(powers)));
        let signs = v3.avx2._mm256_slli_epi64::<63>(negative);
        cast(v3.avx._mm256_xor_pd(v3.avx._mm256_div_pd(numbers, powers), cast(signs)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::decimal;

    fn check<const SPACED: bool>(v3: V3, text: &str, must: bool) -> Result<(), TestCaseError> {
        let gap = if SPACED { ", " } else { "," };
        let before = "12345,7[";
        let window = format!(
            "{before}{text}{gap}0.5{gap}padding, of a window that is quite a bit longer, than that all"
        );
        let Some(window) = window.as_bytes().first_chunk() else { return Ok(()) };
        let Some(four) = read::<SPACED>(v3, window) else {
            prop_assert!(!must, "{} is left out", window.escape_ascii());
            return Ok(());
        };
        let mut at = BEFORE;
        for ((value, start), end) in four.values.into_iter().zip(four.starts).zip(four.ends) {
            let (expected, length) = decimal::read(&window[at..]).expect("only numbers are read");
            prop_assert_eq!(
                (value.to_bits(), start, end),
                (expected.to_bits(), at as u64, (at + length) as u64),
                "{}",
                window.escape_ascii()
            );
            prop_assert!(window[at + length..].starts_with(gap.as_bytes()), "{}", window.escape_ascii());
            at += length + gap.len();
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn four_decimals_are_read_as_one_by_one(
            texts in prop::array::uniform4(r"-?(0|[1-9][0-9]{0,2})\.[0-9]{1,4}|-?0\.[0-9]{1,6}"),
        ) {
            let Some(v3) = V3::try_new() else { return Ok(()) };
            check::<true>(v3, &texts.join(", "), true)?;
            check::<false>(v3, &texts.join(","), true)?;
        }

        #[test]
        fn what_is_no_decimal_is_never_read_as_one(
            texts in prop::array::uniform4(r"-?(0|[1-9][0-9]{0,2})\.[0-9]{1,4}|[-0-9.eE x\u{7f}]{0,9}|-?[0-9]{0,3}\.?[0-9]{0,4}"),
            spaced: bool,
        ) {
            let Some(v3) = V3::try_new() else { return Ok(()) };
            let text = texts.join(if spaced { ", " } else { "," });
            check::<true>(v3, &text, false)?;
            check::<false>(v3, &text, false)?;
        }
    }
}
