//! Decimal numbers, read in one pass.
//!
//! The digits are gathered while the grammar is checked. A short decimal is then one division of two exact `f64`s,
//! whose rounding is the only one (Clinger, How to Read Floating Point Numbers Accurately, PLDI 1990, section 3). All
//! others, such as those with an exponent, go to the standard library. Both give the nearest `f64`.

/// Most digits that surely fit into 64 bits.
const DIGITS_MAX: usize = 19;

/// The powers of ten that so many decimals divide by: an `f64` holds them exactly.
const POWERS: [f64; DIGITS_MAX + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19,
];

/// Up to here an `f64` holds every integer.
const EXACT_MAX: u64 = 1 << f64::MANTISSA_DIGITS;

/// Reads the number of JSON (RFC 8259, section 6) that begins at the byte `start` of `text`: the nearest `f64`, and
/// where the number ends. An integer has no negative zero. `None` where there is no such number.
#[inline]
pub fn read(text: &str, start: usize) -> Option<(f64, usize)> {
    let bytes = text.as_bytes();
    let negative = bytes.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let (mut digits, mut end) = pass_digits(bytes, first, 0);
    if end == first || (bytes.get(first) == Some(&b'0') && end - first > 1) {
        return None;
    }
    let mut decimals = 0;
    if bytes.get(end) == Some(&b'.') {
        let point = end;
        (digits, end) = pass_digits(bytes, point + 1, digits);
        decimals = end - point - 1;
        if decimals == 0 {
            return None;
        }
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        return standard(text, start, pass_exponent(bytes, end)?);
    }
    let digit_count = end - first - usize::from(decimals > 0);
    match quotient(digits, digit_count, decimals) {
        Some(magnitude) if negative && (digits > 0 || decimals > 0) => Some((-magnitude, end)),
        Some(magnitude) => Some((magnitude, end)),
        None => standard(text, start, end),
    }
}

/// The nearest `f64` to `digits` with the point before the last `decimals` of them, where these numbers are small
/// enough to tell it by one division.
fn quotient(digits: u64, digit_count: usize, decimals: usize) -> Option<f64> {
    let is_exact = digit_count <= DIGITS_MAX && digits <= EXACT_MAX;
    if is_exact { Some(digits as f64 / POWERS.get(decimals)?) } else { None }
}

/// Appends the digits that stand from `at` on to `number`, and says where they end.
fn pass_digits(bytes: &[u8], mut at: usize, mut number: u64) -> (u64, usize) {
    while let Some(byte) = bytes.get(at) {
        let digit = u64::from(*byte).wrapping_sub(u64::from(b'0'));
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    (number, at)
}

/// Where the exponent ends whose letter stands at `at`; `None` where it has no digits.
#[cold]
fn pass_exponent(bytes: &[u8], at: usize) -> Option<usize> {
    let sign = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
    let first = at + 1 + usize::from(sign);
    let (_, end) = pass_digits(bytes, first, 0);
    (end > first).then_some(end)
}

#[cold]
fn standard(text: &str, start: usize, end: usize) -> Option<(f64, usize)> {
    Some((text.get(start..end)?.parse().ok()?, end))
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
        let (value, end) = read(text, 0).unwrap_or_else(|| panic!("{text} is refused"));
        assert_eq!((value.to_bits(), end), (standard(text), text.len()), "{text}");
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
            assert_eq!(read(text, 0).map(|(_, end)| end), Some(end), "{text}");
        }
        for text in
            ["", "-", "01", "-01", "00", "1.", "1.e5", "1e", "1e+", "1e-", ".5", "+1", "x", "e5", "-a"]
        {
            assert_eq!(read(text, 0), None, "{text}");
        }
    }

    proptest! {
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
