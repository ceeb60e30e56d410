//! Powers and exponentials of several numbers at once. Multiplications and additions alone, so they are the same on
//! every platform, and without a branch between the numbers, so that one instruction works on several.

/// The bases to the power of `times`, each exactly as [`super::measure::power`] gives it.
#[inline(always)]
#[must_use]
pub fn powers<const N: usize>(mut bases: [f64; N], mut times: u32) -> [f64; N] {
    let mut results = [1.0; N];
    loop {
        if times & 1 == 1 {
            results.iter_mut().zip(&bases).for_each(|(result, base)| *result *= base);
        }
        times >>= 1;
        if times == 0 {
            return results;
        }
        bases.iter_mut().for_each(|base| *base *= *base);
    }
}

/// The products of two numbers each.
#[inline(always)]
#[must_use]
pub fn times<const N: usize>(mut these: [f64; N], those: &[f64; N]) -> [f64; N] {
    these.iter_mut().zip(those).for_each(|(this, that)| *this *= that);
    these
}

/// Below this an exponential is taken for 0.
const LOWEST: f64 = -708.0;
/// Above this it is taken for that of this.
const HIGHEST: f64 = 709.0;
/// Adding it to a number between -2^51 and 2^51 leaves the nearest whole one in the lowest bits.
const SHIFT: f64 = 6_755_399_441_055_744.0;
/// The logarithm of 2 in two parts: multiples of the first by whole numbers up to 2^20 are exact.
const LN_2: [f64; 2] = [f64::from_bits(0x3fe6_2e42_fee0_0000), 1.908_214_929_270_587_7e-10];
/// One over the factorials, from that of 12 down to that of 0.
const SERIES: [f64; 13] = {
    let (mut series, mut factorial, mut degree) = ([1.0; 13], 1.0, 1);
    while degree < 13 {
        factorial *= degree as f64;
        series[12 - degree] = 1.0 / factorial;
        degree += 1;
    }
    series
};

/// Puts the exponential of each number in its place, right to 1e-15 of itself: by the series of Taylor around the nearest
/// multiple of the logarithm of 2. Below e^-708 it is 0, and above e^709 that; NaN does not occur.
#[inline(always)]
pub fn exponentials<const N: usize>(numbers: &mut [f64; N]) {
    for number in numbers {
        let least = if *number < LOWEST { LOWEST } else { *number };
        let within = if least > HIGHEST { HIGHEST } else { least };
        let shifted = within * std::f64::consts::LOG2_E + SHIFT;
        let whole = shifted - SHIFT;
        let rest = (within - whole * LN_2[0]) - whole * LN_2[1];
        let [first, others @ ..] = SERIES;
        let series = others.iter().fold(first, |sum, part| sum * rest + part);
        // The exponent of a number stands above its 52 bits, 1023 too high.
        let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
        *number = if *number < LOWEST { 0.0 } else { series * scale };
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::power;
    use super::*;

    #[test]
    fn powers_are_those_of_each_base() {
        let bases = [0.0, 0.3, 1.000_1, 7.0, 1e150];
        for times in (0..70).chain([1000, u32::MAX]) {
            assert_eq!(powers(bases, times), bases.map(|base| power(base, times)), "{times} times");
        }
    }

    #[test]
    fn exponentials_are_right_to_the_last_digits() {
        let worst = (-7079..7090).fold(0.0_f64, |worst, step| {
            let number = f64::from(step) * 0.1 + 0.012_345;
            let mut found = [number];
            exponentials(&mut found);
            worst.max((found[0] / libm::exp(number) - 1.0).abs())
        });
        assert!(worst < 1e-15, "off by {worst:e}");
        let mut ends = [0.0, f64::NEG_INFINITY, -709.0, -1e300, 709.0, 710.0, f64::INFINITY];
        exponentials(&mut ends);
        assert_eq!(ends[..4], [1.0, 0.0, 0.0, 0.0]);
        assert!(ends[4] > 8e307 && ends[4..].iter().all(|end| *end == ends[4]), "{ends:?}");
    }
}
