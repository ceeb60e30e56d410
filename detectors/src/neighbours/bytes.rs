//! Differences between rows of bytes.
//!
//! Said in vector instructions on x86-64: compilers find them in plain loops as well, but not in every build, and
//! without them a row takes six times the instructions. Every such processor has SSE2; nearly all that run today have
//! AVX2 as well, by which it takes about half of it ([`Sizes`]). Elsewhere the plain loops stand. All are sums of whole
//! numbers: tests hold that each gives the same.

#[cfg(target_arch = "x86_64")]
use crate::processor::Avx2;
use crate::processor::Basic;

/// So many bytes are compared at a time.
pub const BLOCK: usize = 16;
/// Bytes of a part of a row.
pub type Block = [u8; BLOCK];
/// So many rows are compared at a time.
pub const EIGHT: usize = 8;

#[cfg(not(target_arch = "x86_64"))]
pub use self::plain::{Eight, differences, outside, squares};
#[cfg(target_arch = "x86_64")]
pub use self::vectors::{Eight, differences, outside, squares};

/// A block with room for differences: its lower and its upper half.
#[derive(Clone, Copy, Debug)]
pub struct Wide([[i16; BLOCK / 2]; 2]);

/// For each byte of a block, where a span of bytes begins and how much farther it goes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub low: Block,
    pub length: Block,
}

/// The block with room for differences.
pub fn widened(block: &Block) -> Wide {
    let mut wide = [[0; BLOCK / 2]; 2];
    wide.as_flattened_mut().iter_mut().zip(block).for_each(|(wide, byte)| *wide = i16::from(*byte));
    Wide(wide)
}

/// A way to add up differences and their squares, by what the processor has.
pub trait Sizes: Copy {
    /// The sums of the differences between `from` and each of eight rows.
    fn differences<const BLOCKS: usize>(
        self,
        rows: &[[Block; BLOCKS]; EIGHT],
        from: &[Block; BLOCKS],
    ) -> Eight;

    /// The sum of the squares of the differences between the bytes at the same places.
    fn squares(self, one: &[Block], two: &[Wide]) -> u32;
}

impl Sizes for Basic {
    #[inline(always)]
    fn differences<const BLOCKS: usize>(
        self,
        rows: &[[Block; BLOCKS]; EIGHT],
        from: &[Block; BLOCKS],
    ) -> Eight {
        Eight::differences(rows.each_ref().map(<[Block; BLOCKS]>::as_slice), from)
    }

    #[inline(always)]
    fn squares(self, one: &[Block], two: &[Wide]) -> u32 {
        squares(one, two)
    }
}

#[cfg(target_arch = "x86_64")]
impl Sizes for Avx2 {
    /// Two blocks at a time: two rows of one block, or two blocks of a row.
    #[inline(always)]
    fn differences<const BLOCKS: usize>(
        self,
        rows: &[[Block; BLOCKS]; EIGHT],
        from: &[Block; BLOCKS],
    ) -> Eight {
        if BLOCKS == 1 {
            let from = from.first().copied().unwrap_or_default();
            avx2::of_narrow(self, rows.as_flattened(), [from; 2])
        } else if BLOCKS.is_multiple_of(2) {
            avx2::of_even(self, rows.each_ref().map(<[Block; BLOCKS]>::as_slice), from)
        } else {
            Basic.differences(rows, from)
        }
    }

    #[inline(always)]
    fn squares(self, one: &[Block], two: &[Wide]) -> u32 {
        let mut sum = pulp::cast([0_u32; 8]);
        for (one, two) in one.iter().zip(two) {
            let one = self.avx2._mm256_cvtepu8_epi16(pulp::cast(*one));
            let difference = self.avx2._mm256_sub_epi16(one, pulp::cast(two.0));
            let square = self.avx2._mm256_madd_epi16(difference, difference);
            sum = self.avx2._mm256_add_epi32(sum, square);
        }
        pulp::cast::<_, [u32; 8]>(sum).iter().sum()
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::__m256i;

    use pulp::cast;
    use pulp::x86::V3;

    use super::{Block, EIGHT, Eight};

    /// The sums of eight rows of one block.
    #[inline(always)]
    pub fn of_narrow(v3: V3, rows: &[Block], from: [Block; 2]) -> Eight {
        let mut sums = [cast([0_u64; 4]); EIGHT / 2];
        for (sums, two) in sums.iter_mut().zip(rows.as_chunks::<2>().0) {
            *sums = v3.avx2._mm256_sad_epu8(cast(*two), cast(from));
        }
        let sums = interleave(v3, sums);
        // Each half has the sums of every other row, of its first and its last bytes apart.
        let swapped = v3.avx2._mm256_shuffle_epi32::<0b01_00_11_10>(sums);
        let sums = v3.avx2._mm256_add_epi16(sums, swapped);
        let (even, odd) = (v3.avx._mm256_castsi256_si128(sums), v3.avx2._mm256_extracti128_si256::<1>(sums));
        Eight::from_numbers(cast(v3.sse2._mm_unpacklo_epi16(even, odd)))
    }

    /// The sums of eight rows of an even number of blocks.
    #[inline(always)]
    pub fn of_even(v3: V3, rows: [&[Block]; EIGHT], from: &[Block]) -> Eight {
        let quarters = |row: &[Block]| {
            let mut sum = cast([0_u64; 4]);
            for (one, two) in row.as_chunks::<2>().0.iter().zip(from.as_chunks::<2>().0) {
                sum = v3.avx2._mm256_add_epi64(sum, v3.avx2._mm256_sad_epu8(cast(*one), cast(*two)));
            }
            sum
        };
        let [one, two, three, four, five, six, seven, eight] = rows.map(quarters);
        let first = interleave(v3, [one, two, three, four]);
        let last = interleave(v3, [five, six, seven, eight]);
        let (low, high) =
            (v3.avx2._mm256_unpacklo_epi64(first, last), v3.avx2._mm256_unpackhi_epi64(first, last));
        let sums = v3.avx2._mm256_add_epi16(low, high);
        let (low, high) = (v3.avx._mm256_castsi256_si128(sums), v3.avx2._mm256_extracti128_si256::<1>(sums));
        Eight::from_numbers(cast(v3.sse2._mm_add_epi16(low, high)))
    }

    /// Four sums to each quarter: each number of 64 bits lies below 2 to the 16.
    #[inline(always)]
    fn interleave(v3: V3, sums: [__m256i; 4]) -> __m256i {
        let [one, two, three, four] = sums;
        let low = v3.avx2._mm256_or_si256(one, v3.avx2._mm256_slli_epi64::<16>(two));
        let (three, four) = (v3.avx2._mm256_slli_epi64::<32>(three), v3.avx2._mm256_slli_epi64::<48>(four));
        v3.avx2._mm256_or_si256(low, v3.avx2._mm256_or_si256(three, four))
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use safe_arch::{
        add_i16_m128i, add_i32_m128i, add_i64_m128i, bitor_m128i, cmp_eq_mask_i8_m128i,
        cmp_eq_mask_i16_m128i, load_unaligned_m128i, m128i, min_u8_m128i, move_mask_i8_m128i,
        mul_i16_horizontal_add_m128i, pack_i16_to_i8_m128i, set_splat_i16_m128i, shl_imm_u64_m128i,
        sub_i8_m128i, sub_i16_m128i, sub_saturating_u16_m128i, sum_of_u8_abs_diff_m128i,
        unpack_high_i8_m128i, unpack_high_i64_m128i, unpack_low_i8_m128i, unpack_low_i64_m128i, zeroed_m128i,
    };

    use super::{Block, EIGHT, Span, Wide};

    /// A bit to each byte of a block that lies in none of the spans.
    #[inline(always)]
    pub fn outside(spans: &[Span], block: &Block) -> u32 {
        let block = load_unaligned_m128i(block);
        let inside = spans.iter().fold(zeroed_m128i(), |inside, span| {
            let (low, length) = (load_unaligned_m128i(&span.low), load_unaligned_m128i(&span.length));
            let above = sub_i8_m128i(block, low);
            bitor_m128i(inside, cmp_eq_mask_i8_m128i(min_u8_m128i(above, length), above))
        });
        !move_mask_i8_m128i(inside).cast_unsigned() & u32::from(u16::MAX)
    }

    /// The sum of the differences between the bytes at the same places.
    #[inline(always)]
    pub fn differences(one: &[Block], two: &[Block]) -> u32 {
        let [low, high] = <[u64; 2]>::from(halves(one, two));
        (low + high) as u32
    }

    /// The sum of the squares of the differences between the bytes at the same places.
    #[inline(always)]
    pub fn squares(one: &[Block], two: &[Wide]) -> u32 {
        let square = |one: m128i, two: [i16; 8]| {
            let difference = sub_i16_m128i(one, two.into());
            mul_i16_horizontal_add_m128i(difference, difference)
        };
        let (mut sum, zero) = (zeroed_m128i(), zeroed_m128i());
        for (one, Wide([low, high])) in one.iter().zip(two) {
            let one = load_unaligned_m128i(one);
            let (one_low, one_high) = (unpack_low_i8_m128i(one, zero), unpack_high_i8_m128i(one, zero));
            sum = add_i32_m128i(sum, add_i32_m128i(square(one_low, *low), square(one_high, *high)));
        }
        <[u32; 4]>::from(sum).iter().sum()
    }

    /// The sums of differences of the first and the last eight bytes of all blocks.
    #[inline(always)]
    fn halves(one: &[Block], two: &[Block]) -> m128i {
        let mut sum = zeroed_m128i();
        for (one, two) in one.iter().zip(two) {
            let blocks = sum_of_u8_abs_diff_m128i(load_unaligned_m128i(one), load_unaligned_m128i(two));
            sum = add_i64_m128i(sum, blocks);
        }
        sum
    }

    /// Eight numbers of 16 bits.
    #[derive(Clone, Copy, Debug)]
    pub struct Eight(m128i);

    impl Eight {
        /// Eight times the same.
        #[inline(always)]
        pub fn all(number: u16) -> Self {
            Self(set_splat_i16_m128i(number.cast_signed()))
        }

        /// The sum of the differences between `from`, of at most 16 blocks, and each of eight rows.
        #[inline(always)]
        pub fn differences(rows: [&[Block]; EIGHT], from: &[Block]) -> Self {
            let sums = rows.map(|row| halves(row, from));
            let [one, two, three, four, five, six, seven, eight] = sums;
            let first = interleave([one, two, three, four]);
            let last = interleave([five, six, seven, eight]);
            Self(add_i16_m128i(unpack_low_i64_m128i(first, last), unpack_high_i64_m128i(first, last)))
        }

        /// The sums of both.
        #[inline(always)]
        pub fn plus(self, other: Self) -> Self {
            Self(add_i16_m128i(self.0, other.0))
        }

        /// A bit to each number that is at most the other, the first one lowest.
        #[inline(always)]
        pub fn at_most(self, other: Self) -> u8 {
            let above = sub_saturating_u16_m128i(self.0, other.0);
            let within = cmp_eq_mask_i16_m128i(above, zeroed_m128i());
            // One bit to a byte of the lower half, so the cast drops nothing.
            move_mask_i8_m128i(pack_i16_to_i8_m128i(within, zeroed_m128i())) as u8
        }

        /// Whether any number is at most the other.
        #[inline(always)]
        pub fn any_at_most(self, other: Self) -> bool {
            let above = sub_saturating_u16_m128i(self.0, other.0);
            move_mask_i8_m128i(cmp_eq_mask_i16_m128i(above, zeroed_m128i())) != 0
        }

        /// Eight numbers.
        #[inline(always)]
        pub fn from_numbers(numbers: [u16; EIGHT]) -> Self {
            Self(numbers.into())
        }

        /// The numbers.
        #[inline(always)]
        pub fn numbers(self) -> [u16; EIGHT] {
            self.0.into()
        }
    }

    /// Four sums to each half: each number of 64 bits lies below 2 to the 16.
    #[inline(always)]
    fn interleave(sums: [m128i; 4]) -> m128i {
        let [one, two, three, four] = sums;
        let low = bitor_m128i(one, shl_imm_u64_m128i::<16>(two));
        let high = bitor_m128i(shl_imm_u64_m128i::<32>(three), shl_imm_u64_m128i::<48>(four));
        bitor_m128i(low, high)
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod plain {
    use super::{Block, EIGHT, Span, Wide};

    /// A bit to each byte of a block that lies in none of the spans.
    pub fn outside(spans: &[Span], block: &Block) -> u32 {
        let is_outside = |(place, byte): (usize, &u8)| {
            spans.iter().all(|Span { low, length }| byte.wrapping_sub(low[place]) > length[place])
        };
        let bits =
            block.iter().enumerate().map(|(place, byte)| u32::from(is_outside((place, byte))) << place);
        bits.sum()
    }

    /// The sum of the differences between the bytes at the same places.
    #[inline(always)]
    pub fn differences(one: &[Block], two: &[Block]) -> u32 {
        let difference = |(one, two): (&u8, &u8)| (i32::from(*one) - i32::from(*two)).unsigned_abs();
        one.iter().zip(two).map(|(one, two)| one.iter().zip(two).map(difference).sum::<u32>()).sum()
    }

    /// The sum of the squares of the differences between the bytes at the same places.
    #[inline(always)]
    pub fn squares(one: &[Block], two: &[Wide]) -> u32 {
        let square = |(one, two): (&u8, &i16)| i32::from(i16::from(*one) - two).pow(2) as u32;
        one.iter()
            .zip(two)
            .map(|(one, two)| one.iter().zip(two.0.as_flattened()).map(square).sum::<u32>())
            .sum()
    }

    /// Eight numbers of 16 bits.
    #[derive(Clone, Copy, Debug)]
    pub struct Eight([u16; EIGHT]);

    impl Eight {
        /// Eight times the same.
        pub fn all(number: u16) -> Self {
            Self([number; EIGHT])
        }

        /// The sum of the differences between `from`, of at most 16 blocks, and each of eight rows.
        pub fn differences(rows: [&[Block]; EIGHT], from: &[Block]) -> Self {
            Self(rows.map(|row| differences(row, from) as u16))
        }

        /// The sums of both.
        pub fn plus(self, other: Self) -> Self {
            let mut sums = self.0;
            sums.iter_mut().zip(other.0).for_each(|(sum, other)| *sum = sum.wrapping_add(other));
            Self(sums)
        }

        /// A bit to each number that is at most the other, the first one lowest.
        pub fn at_most(self, other: Self) -> u8 {
            let bits = self.0.iter().zip(other.0).map(|(one, other)| u8::from(*one <= other));
            bits.rev().fold(0, |bits, bit| bits << 1 | bit)
        }

        /// Whether any number is at most the other.
        pub fn any_at_most(self, other: Self) -> bool {
            self.at_most(other) != 0
        }

        /// The numbers.
        pub fn numbers(self) -> [u16; EIGHT] {
            self.0
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::array::uniform8;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn vectors_and_plain_loops_give_the_same_numbers(
            rows in vec((any::<Block>(), any::<Block>()), 0..17),
        ) {
            let (one, two): (Vec<Block>, Vec<Block>) = rows.into_iter().unzip();
            prop_assert_eq!(differences(&one, &two), plain::differences(&one, &two));
            prop_assert_eq!(squares(&one, &wide(&two)), plain::squares(&one, &wide(&two)));
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = Avx2::try_new() {
                prop_assert_eq!(simd.squares(&one, &wide(&two)), plain::squares(&one, &wide(&two)));
            }
        }

        #[test]
        fn eight_rows_together_give_what_each_gives(
            rows in uniform8(vec(any::<Block>(), 16)),
            from in vec(any::<Block>(), 0..17),
            limit: u16,
        ) {
            let blocks: [[Block; 16]; EIGHT] =
                rows.each_ref().map(|row| *row.first_chunk().expect("sixteen blocks"));
            check_blocks::<1>(&blocks);
            check_blocks::<2>(&blocks);
            check_blocks::<3>(&blocks);
            check_blocks::<4>(&blocks);
            check_blocks::<16>(&blocks);
            let together = Eight::differences(rows.each_ref().map(Vec::as_slice), &from);
            let plain = plain::Eight::differences(rows.each_ref().map(Vec::as_slice), &from);
            let each = rows.each_ref().map(|row| plain::differences(row, &from) as u16);
            prop_assert_eq!((together.numbers(), plain.numbers()), (each, each));
            let bits = together.at_most(Eight::all(limit));
            let plain_limit = plain::Eight::all(limit);
            prop_assert_eq!((bits, bits != 0), (plain.at_most(plain_limit), plain.any_at_most(plain_limit)));
            prop_assert_eq!(bits != 0, together.any_at_most(Eight::all(limit)));
            for (place, sum) in each.iter().enumerate() {
                prop_assert_eq!(bits >> place & 1 == 1, *sum <= limit);
            }
        }

        #[test]
        fn bytes_outside_of_all_spans_are_told(spans: [[[u8; 4]; 2]; 3], block: [u8; 4]) {
            // Few different bytes, so that some lie at the ends.
            let of_block = |bytes: [u8; 4]| std::array::from_fn(|place| bytes[place % 4] % 8);
            let spans = spans.map(|[low, length]| Span { low: of_block(low), length: of_block(length) });
            let block = of_block(block);
            prop_assert_eq!(outside(&spans, &block), plain::outside(&spans, &block));
            prop_assert_eq!(outside(&[], &block), u32::from(u16::MAX));
        }

        #[test]
        fn sums_of_parts_add_up(
            one in uniform8(any::<Block>()),
            two in uniform8(any::<Block>()),
            from: Block,
        ) {
            let rows = one.iter().zip(&two).map(|(one, two)| differences(&[*one, *two], &[from, from]));
            let each: Vec<u32> = rows.collect();
            let part =
                |rows: &[Block; 8]| Eight::differences(rows.each_ref().map(std::slice::from_ref), &[from]);
            prop_assert_eq!(part(&one).plus(part(&two)).numbers().map(u32::from).to_vec(), each.clone());
            let part = |rows: &[Block; 8]| {
                plain::Eight::differences(rows.each_ref().map(std::slice::from_ref), &[from])
            };
            prop_assert_eq!(part(&one).plus(part(&two)).numbers().map(u32::from).to_vec(), each);
        }
    }

    /// The first blocks of eight rows, from those of the last of them.
    fn check_blocks<const BLOCKS: usize>(rows: &[[Block; 16]; EIGHT]) {
        let rows: [[Block; BLOCKS]; EIGHT] = rows.map(|row| std::array::from_fn(|at| row[at]));
        let from = rows[7].map(|block| block.map(|byte| byte.rotate_left(3)));
        let each = rows.map(|row| plain::differences(&row, &from) as u16);
        assert_eq!(Basic.differences(&rows, &from).numbers(), each);
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = Avx2::try_new() {
            assert_eq!(simd.differences(&rows, &from).numbers(), each, "{BLOCKS}");
        }
    }

    fn wide(blocks: &[Block]) -> Vec<Wide> {
        blocks.iter().map(widened).collect()
    }

    #[test]
    fn the_farthest_rows_do_not_overflow() {
        let (low, high) = ([[0; BLOCK]; 16], [[255; BLOCK]; 16]);
        assert_eq!(differences(&low, &high), 255 * 256);
        assert_eq!(squares(&high, &wide(&low)), 255 * 255 * 256);
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = Avx2::try_new() {
            assert_eq!(simd.squares(&high, &wide(&low)), 255 * 255 * 256);
        }
        let eight = Eight::differences([&low; EIGHT], &high);
        assert_eq!(eight.numbers(), [255 * 256; EIGHT]);
        assert_eq!(eight.at_most(Eight::all(u16::MAX)), u8::MAX);
    }
}
