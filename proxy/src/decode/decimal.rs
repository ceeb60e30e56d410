//! Decimal numbers, read in one pass.
//!
//! The digits are gathered while the grammar is checked. A short decimal is then one division of two exact `f64`s,
//! whose rounding is the only one (Clinger, How to Read Floating Point Numbers Accurately, PLDI 1990, section 3). One
//! with up to 19 digits is one division of integers. All others, such as those with an exponent, go to the standard
//! library. All three give the nearest `f64`.

use crate::eight::{self, EIGHT};

/// Most digits that surely fit into 64 bits.
const DIGITS_MAX: usize = 19;

/// The powers of ten that so many decimals divide by: an `f64` holds them exactly.
const POWERS: [f64; DIGITS_MAX + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19,
];

/// What short numbers divide by, by how many bytes they have from the point on, and behind that the same with the sign
/// that the quotient takes on.
const SHORT_POWERS: [f64; 2 * EIGHT] =
    [1e0, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, -1e0, -1e0, -1e1, -1e2, -1e3, -1e4, -1e5, -1e6];

/// The same as integers; a number also grows by them when digits are appended.
const WHOLE_POWERS: [u64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut exponent = 1;
    while exponent <= DIGITS_MAX {
        powers[exponent] = 10 * powers[exponent - 1];
        exponent += 1;
    }
    powers
};

/// Up to here an `f64` holds every integer.
const EXACT_MAX: u64 = 1 << f64::MANTISSA_DIGITS;

/// Bytes that [`read_short`] looks at: a sign, eight bytes and what follows them.
pub const WINDOW: usize = 16;

/// Bits of a byte.
const BYTE: u32 = u8::BITS;

/// Reads the number of JSON (RFC 8259, section 6) that `text` begins with: the nearest `f64`, and how many bytes the
/// number has. An integer has no negative zero. `None` where there is no such number.
pub fn read(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let first = usize::from(negative);
    let (mut digits, mut end) = pass_digits(text, first, 0);
    if end == first || (text.get(first) == Some(&b'0') && end - first > 1) {
        return None;
    }
    let mut decimals = 0;
    if text.get(end) == Some(&b'.') {
        let point = end;
        (digits, end) = pass_decimals(text, point + 1, digits);
        decimals = end - point - 1;
        if decimals == 0 {
            return None;
        }
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        return standard(text, pass_exponent(text, end)?);
    }
    let digit_count = end - first - usize::from(decimals > 0);
    match quotient(digits, digit_count, decimals) {
        Some(magnitude) if negative && (digits > 0 || decimals > 0) => Some((-magnitude, end)),
        Some(magnitude) => Some((magnitude, end)),
        None => standard(text, end),
    }
}

/// Reads what [`read`] reads of the first bytes of a text, where it is a number as most lists hold them: an integer of
/// at most seven digits or a decimal of at most seven, with a comma behind it, and a space behind that where `SPACED`.
/// The digits then fit into one integer, and point and comma are its first flags. `None` for all others.
#[inline(always)]
pub fn read_short<const SPACED: bool>(window: &[u8; WINDOW]) -> Option<(f64, usize)> {
    let start = usize::from(window.first() == Some(&b'-'));
    // The sign is shifted out rather than skipped: the bytes are at hand before it is known. A zero takes the last place.
    let bytes = u64::from_le_bytes(*window.first_chunk()?) >> (EIGHT * start);
    let digits = bytes ^ eight::all(b'0');
    // Places are told in bits. A point carries nothing into the flags behind it, so that the next one is right too.
    let flags = eight::above(digits, 9) >> (BYTE - 1);
    let point = flags.trailing_zeros();
    if point != BYTE && (point == 0 || window.get(start) == Some(&b'0')) {
        return None;
    }
    if digits.wrapping_shr(point) as u8 != b'.' ^ b'0' {
        let count = (point / BYTE) as usize;
        let is_integer = count < EIGHT && ends::<SPACED>(window, start + count);
        return is_integer.then(|| (short_integer(digits, count, start > 0), start + count));
    }
    let end = (flags & flags.wrapping_sub(1)).trailing_zeros();
    let length = start + (end / BYTE) as usize;
    let behind = end - point;
    if behind == BYTE || !ends::<SPACED>(window, length) {
        return None;
    }
    // The digits before the point move up into its place, and the last digit takes the last place.
    let before_point = digits & (flags ^ flags.wrapping_sub(1));
    let behind_point = digits.wrapping_shr(point + BYTE).wrapping_shl(point + BYTE);
    let joined = (before_point << BYTE | behind_point).wrapping_shl(u64::BITS - end);
    // Signs are as random as coins: a branch would be guessed wrong every other time.
    let power = SHORT_POWERS[((behind / BYTE) as usize + EIGHT * start) % SHORT_POWERS.len()];
    Some((value_of(joined) as i64 as f64 / power, length))
}

/// Whether a number ends at a place, by what follows it.
#[inline(always)]
fn ends<const SPACED: bool>(window: &[u8; WINDOW], at: usize) -> bool {
    if SPACED { window.get(at..at + 2) == Some(b", ") } else { window.get(at) == Some(&b',') }
}

/// The number of the first `count` digits, from one to seven.
#[inline]
fn short_integer(digits: u64, count: usize, negative: bool) -> f64 {
    let number = value_of(digits << (EIGHT * (EIGHT - count))) as i64;
    (if negative { -number } else { number }) as f64
}

/// The number that eight digits make, each in a byte of its own, the first in the lowest: pairs of neighbours are
/// joined three times over.
#[inline]
const fn value_of(digits: u64) -> u64 {
    let pairs = (digits.wrapping_mul(10 * 0x100 + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 * 0x1_0000 + 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 * 0x1_0000_0000 + 1) >> 32
}

/// The nearest `f64` to `digits` with the point before the last `decimals` of them, where there are few enough of them
/// to tell it by one division.
fn quotient(digits: u64, digit_count: usize, decimals: usize) -> Option<f64> {
    if digit_count > DIGITS_MAX {
        None
    } else if digits <= EXACT_MAX {
        Some(digits as f64 / POWERS.get(decimals)?)
    } else {
        Some(divided(digits, *WHOLE_POWERS.get(decimals)?))
    }
}

/// The nearest `f64` to the quotient of two integers from 1 on. Shifted to their full width they have a quotient of 62
/// or 63 bits; whatever remains is told by its last bit, so that rounding it to the 53 bits of an `f64` is the only one.
#[inline(never)]
fn divided(dividend: u64, divisor: u64) -> f64 {
    let (wide, narrow) = (dividend.leading_zeros(), divisor.leading_zeros());
    let (dividend, divisor) = (u128::from(dividend << wide) << 62, u128::from(divisor << narrow));
    let quotient = (dividend / divisor) as i64 | i64::from(dividend % divisor != 0);
    // 2 to the power of what the shifts leave over, from the exponent's bits.
    let scale = f64::from_bits(u64::from(1023 + narrow - 62 - wide) << 52);
    quotient as f64 * scale
}

/// Appends the digits that stand from `at` on to `number`, and says where they end.
#[inline]
fn pass_digits(text: &[u8], mut at: usize, mut number: u64) -> (u64, usize) {
    while let Some(byte) = text.get(at) {
        let digit = u64::from(*byte).wrapping_sub(u64::from(b'0'));
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    (number, at)
}

/// The same for what mostly are many digits.
#[inline]
fn pass_decimals(text: &[u8], mut at: usize, mut number: u64) -> (u64, usize) {
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let digits = u64::from_le_bytes(*eight) ^ eight::all(b'0');
        let count = eight::first(eight::above(digits, 9));
        if count == EIGHT {
            number = number.wrapping_mul(100_000_000).wrapping_add(value_of(digits));
            at += EIGHT;
            continue;
        }
        // In two steps, as a shift by all 64 bits is none.
        let counted = digits << (EIGHT * (EIGHT - 1 - count)) << EIGHT;
        return (number.wrapping_mul(WHOLE_POWERS[count]).wrapping_add(value_of(counted)), at + count);
    }
    pass_digits(text, at, number)
}

/// Where the exponent ends whose letter stands at `at`; `None` where it has no digits.
#[cold]
fn pass_exponent(text: &[u8], at: usize) -> Option<usize> {
    let sign = matches!(text.get(at + 1), Some(b'+' | b'-'));
    let first = at + 1 + usize::from(sign);
    let (_, end) = pass_digits(text, first, 0);
    (end > first).then_some(end)
}

#[cold]
fn standard(text: &[u8], end: usize) -> Option<(f64, usize)> {
    let number = std::str::from_utf8(text.get(..end)?).ok()?;
    Some((number.parse().ok()?, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the standard library reads, an integer's negative zero aside.
    fn standard(text: &str) -> u64 {
        let value: f64 = text.parse().expect("the standard library reads every number of JSON");
        (if text == "-0" { 0.0 } else { value }).to_bits()
    }

    fn assert_nearest(text: &str) {
        let (value, end) = read(text.as_bytes()).unwrap_or_else(|| panic!("{text} is refused"));
        assert_eq!((value.to_bits(), end), (standard(text), text.len()), "{text}");
        assert_short_is_the_same(format!("{text}, and more than a window").as_bytes());
    }

    /// What is read as a short number is what is read as any number.
    fn assert_short_is_the_same(text: &[u8]) {
        let Some(window) = text.first_chunk() else { return };
        let plain = read(text).map(|(value, end)| (value.to_bits(), end));
        for (short, follows) in [(read_short::<false>(window), ","), (read_short::<true>(window), ", ")] {
            let Some((value, end)) = short else { continue };
            assert_eq!(Some((value.to_bits(), end)), plain, "{}", text.escape_ascii());
            assert!(text[end..].starts_with(follows.as_bytes()), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn numbers_at_the_edges_are_nearest() {
        for text in [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "-0e0",
            "0e5",
            "-0e-5",
            "1",
            "-1",
            "10",
            "0.1",
            "-0.1",
            "1e22",
            "1e23",
            "1e-22",
            "1e-23",
            "9007199254740992",
            "9007199254740993",
            "-9007199254740993e1",
            "9007199254740991e22",
            "9007199254740992e-22",
            "0.9007199254740993",
            "9999999999999999999",
            "99999999999999999999",
            "18446744073709551616",
            "0.00000000000000000001",
            "0.0000000000000000001",
            "1e308",
            "1e309",
            "-1e309",
            "5e-324",
            "2e-324",
            "1e9223372036854775807",
            "1e-9223372036854775808",
            "1e99999999999999999999999",
            "0e99999999999999999999999",
            "1.7976931348623157e308",
            "2.2250738585072011e-308",
            "1E+2",
            "1e-2",
            "123456789012345678901234567890.123456789012345678901234567890e-10",
        ] {
            assert_nearest(text);
        }
    }

    #[test]
    fn a_number_ends_where_its_grammar_ends() {
        for (text, end) in [("1,2", 1), ("-12.50]", 6), ("1e5x", 3), ("0 ", 1), ("1.5.5", 3)] {
            assert_eq!(read(text.as_bytes()).map(|(_, end)| end), Some(end), "{text}");
        }
        for text in
            ["", "-", "01", "-01", "00", "1.", "1.e5", "1e", "1e+", "1e-", ".5", "+1", "x", "e5", "-a"]
        {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn usual_numbers_are_short() {
        for text in [
            "0.5", "-0.5", "0.12345", "-12.5", "123.456", "12345.6", "1.234567", "-0.00000", "0", "-0",
            "255", "-1234567",
        ] {
            let read = |follows: &str, read: fn(&[u8; WINDOW]) -> Option<(f64, usize)>| {
                let padded = format!("{text}{follows}\"padding of a window\"");
                padded.as_bytes().first_chunk().and_then(read).map(|(value, end)| (value.to_bits(), end))
            };
            let expected = Some((standard(text), text.len()));
            assert_eq!(read(",", read_short::<false>), expected, "{text}");
            assert_eq!(read(", ", read_short::<true>), expected, "{text} and a space");
            assert_eq!(read(",", read_short::<true>), None, "{text} without the space");
        }
    }

    proptest! {
        #[test]
        fn short_numbers_are_read_like_any(text in "[-0-9.eE, x\u{7f}\u{80}\u{ff}]{0,9}[,0-9 \\]]{16}") {
            assert_short_is_the_same(text.as_bytes());
        }

        #[test]
        fn every_decimal_of_few_digits_is_nearest(text in r"-?(0|[1-9][0-9]{0,5})\.[0-9]{1,6}") {
            assert_nearest(&text);
        }

        #[test]
        fn every_decimal_of_many_digits_is_nearest(text in r"-?(0|[1-9][0-9]{0,8})\.[0-9]{7,18}") {
            assert_nearest(&text);
        }

        #[test]
        fn every_double_is_read_back(number in any::<f64>().prop_filter("JSON", |number| number.is_finite())) {
            assert_nearest(&format!("{number:e}"));
            assert_nearest(&format!("{number}"));
        }

        #[test]
        fn every_number_of_the_grammar_is_nearest(
            text in r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?",
        ) {
            assert_nearest(&text);
        }
    }
}
