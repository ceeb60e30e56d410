//! Differences between two rows of bytes.
//!
//! Said in vector instructions on x86-64 (SSE2, which every such processor has): compilers find them in plain loops as
//! well, but not in every build, and without them a row takes six times the instructions. Elsewhere the plain loops
//! stand; a test holds that both give the same numbers.

/// So many bytes are compared at a time.
pub const BLOCK: usize = 16;
/// Bytes of a part of a row.
pub type Block = [u8; BLOCK];

#[cfg(not(target_arch = "x86_64"))]
pub use self::plain::{differences, squares};
#[cfg(target_arch = "x86_64")]
pub use self::vectors::{differences, squares};

#[cfg(target_arch = "x86_64")]
mod vectors {
    use safe_arch::{
        add_i32_m128i, add_i64_m128i, load_unaligned_m128i, m128i, mul_i16_horizontal_add_m128i,
        sub_i16_m128i, sum_of_u8_abs_diff_m128i, unpack_high_i8_m128i, unpack_low_i8_m128i, zeroed_m128i,
    };

    use super::Block;

    /// The sum of the differences between the bytes at the same places.
    #[inline(always)]
    pub fn differences(one: &[Block], two: &[Block]) -> u32 {
        let mut sum = zeroed_m128i();
        for (one, two) in one.iter().zip(two) {
            let blocks = sum_of_u8_abs_diff_m128i(load_unaligned_m128i(one), load_unaligned_m128i(two));
            sum = add_i64_m128i(sum, blocks);
        }
        let [low, high] = <[u64; 2]>::from(sum);
        (low + high) as u32
    }

    /// The sum of the squares of the differences between the bytes at the same places.
    #[inline(always)]
    pub fn squares(one: &[Block], two: &[Block]) -> u32 {
        let zero = zeroed_m128i();
        let square = |one: m128i, two: m128i| {
            let difference = sub_i16_m128i(one, two);
            mul_i16_horizontal_add_m128i(difference, difference)
        };
        let mut sum = zero;
        for (one, two) in one.iter().zip(two) {
            let (one, two) = (load_unaligned_m128i(one), load_unaligned_m128i(two));
            let low = square(unpack_low_i8_m128i(one, zero), unpack_low_i8_m128i(two, zero));
            let high = square(unpack_high_i8_m128i(one, zero), unpack_high_i8_m128i(two, zero));
            sum = add_i32_m128i(sum, add_i32_m128i(low, high));
        }
        <[u32; 4]>::from(sum).iter().sum()
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod plain {
    use super::Block;

    /// The sum of the differences between the bytes at the same places.
    #[inline(always)]
    pub fn differences(one: &[Block], two: &[Block]) -> u32 {
        let difference = |(one, two): (&u8, &u8)| (i32::from(*one) - i32::from(*two)).unsigned_abs();
        one.iter().zip(two).map(|(one, two)| one.iter().zip(two).map(difference).sum::<u32>()).sum()
    }

    /// The sum of the squares of the differences between the bytes at the same places.
    #[inline(always)]
    pub fn squares(one: &[Block], two: &[Block]) -> u32 {
        let square = |(one, two): (&u8, &u8)| i32::from(i16::from(*one) - i16::from(*two)).pow(2) as u32;
        one.iter().zip(two).map(|(one, two)| one.iter().zip(two).map(square).sum::<u32>()).sum()
    }
}

#[cfg(test)]
mod tests {
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
            prop_assert_eq!(squares(&one, &two), plain::squares(&one, &two));
        }
    }

    #[test]
    fn the_farthest_rows_do_not_overflow() {
        let (low, high) = ([[0; BLOCK]; 16], [[255; BLOCK]; 16]);
        assert_eq!(differences(&low, &high), 255 * 256);
        assert_eq!(squares(&high, &low), 255 * 255 * 256);
    }
}
