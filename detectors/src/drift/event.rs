//! The early layer: a bank of bets on how the bins of one feature could have shifted, settled at ticks.
//!
//! Every bet is a likelihood ratio q/p0 over the feature's slots, divided by a margin c so that its expectation is at
//! most 1 wherever the true probabilities lie within the tolerance of the reference and the reference has its sampling
//! error: c = 1 + 2 tol TV(q, p0) + z sqrt(chi2(q, p0) / n_ref). Shiryaev and Roberts' sum M <- (M + n) x product of
//! the ratios over the n events of a tick then never exceeds the number of events on average, so that an alarm at A
//! comes no sooner than after A events on average, whatever the dependence between events, as long as each event's
//! conditional probabilities stay in that set (Shin, Ramdas and Rinaldo, E-detectors, 2023). The same holds for a
//! weighted mean of bets. Clients with habits of their own leave that set: see `stretch.rs`.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::adaptive::{Adaptive, Margins};
use super::bins::SLOTS;
use super::counts::{Counts, Tick};
use super::measure::{
    chi_square, chi_square_quantile, divergence, normal_quantile, rate_bound, smoothed, total_variation,
};
use super::powers::{exponentials, powers, times};

/// Bets along a score function of the slots: its number, and the exponent of one unit of the score.
const TILTS: [(usize, f64); 20] = [
    // Location, by normal scores.
    (0, 0.1),
    (0, -0.1),
    (0, 0.22),
    (0, -0.22),
    (0, 0.5),
    (0, -0.5),
    // Scale, by their squares.
    (1, 0.08),
    (1, 0.25),
    (1, -0.1),
    (1, -0.4),
    // Skew and humps, by polynomials of the rank as in Neyman's smooth test (1937).
    (2, 0.25),
    (2, -0.25),
    (2, 0.6),
    (2, -0.6),
    (3, 0.25),
    (3, -0.25),
    (3, 0.6),
    (3, -0.6),
    // Two populations in place of one: the score is the whole logarithm of the ratio.
    (4, 1.0),
    (5, 1.0),
];
/// Score functions.
const SCORES: usize = 6;
/// Where among [`TILTS`] the bets on location end, those on scale, and those on skew and humps.
const LOCATION: usize = 6;
const SCALE: usize = 10;
const SHAPE: usize = 18;
/// How far from the middle the two populations lie, in standard deviations of both together; mean and deviation stay.
const APART: [f64; 2] = [0.7, 0.87];
/// What a bump adds to one slot, as a share of all events.
const HEIGHTS: [f64; 2] = [0.02, 0.15];
/// What each location bet has of their share, in the order of [`TILTS`]. The one between has less, for the others see its
/// shifts as well.
const LOCATION_WEIGHTS: [f64; LOCATION] = [0.2, 0.2, 0.1, 0.1, 0.2, 0.2];
/// The part of the reference's error that the location bets have, since a nat costs hundreds of events where a shift is
/// small: the fewer share it, the smaller the margin of each.
const LOCATION_ERROR: f64 = 0.5;
/// Shares of the bank: location, scale, skew and humps, two populations, bumps of one slot, adaptive.
const SHARES: [f64; 6] = [0.4, 0.12, 0.05, 0.2, 0.13, 0.1];
/// Normal scores are cut here: a slot that the reference hardly knows must not outweigh all others.
const SCORE_MAX: f64 = 4.0;
/// A bet with a smaller margin says nothing, as all do of a feature that hardly varies: its sum would merely count
/// events, and reach any threshold in the end.
pub(super) const MARGIN_MIN: f64 = 1e-4;
/// Slots that are reckoned together, so that one instruction works on several.
const BLOCK: usize = 4;
/// Evidence is cut here, far above any threshold, so that it stays a number.
const LEVEL_MAX: f64 = 1e200;

/// What is tolerated, and how sure the reference is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// By how much of itself each slot's probability may differ without being a change, 0 to 1.
    pub relative: f64,
    /// How likely the sampling error of the reference is larger than allowed for, 0 to 1.
    pub error: f64,
}

/// The bets of one feature, settled when its reference is frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bank {
    p0: Vec<f64>,
    /// For each slot: its scores.
    scores: Vec<[f32; SCORES]>,
    /// The logarithm of what each tilt is divided by.
    levels: [f64; TILTS.len()],
    /// The first slot that may be bumped.
    first: usize,
    /// For each slot that may be bumped: what its bumps are multiplied by, at most 1.
    bumps: Vec<[f64; HEIGHTS.len()]>,
    tolerance: f64,
    /// Standard errors of the reference that an adaptive bet must allow for, in units of the root of chi-square.
    adaptive_error: f64,
}

/// The evidence of one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    tilts: [f64; TILTS.len()],
    bumps: Vec<[f64; HEIGHTS.len()]>,
    adaptive: Adaptive,
}

impl Bank {
    /// Settles the bets against the counts of a reference. The first `scale`
    /// slots stand in order, and those of `bumped` may gain by themselves.
    #[must_use]
    pub fn new(counts: &Counts, scale: usize, bumped: Range<usize>, tolerance: Tolerance) -> Self {
        let (p0, events) = (smoothed(counts.slots()), counts.total());
        let others = (TILTS.len() - LOCATION + bumped.len() * HEIGHTS.len()) as f64;
        let root = (events.max(1) as f64).sqrt();
        let location_error = LOCATION_ERROR * tolerance.error / (2.0 * LOCATION as f64);
        let one_error = (1.0 - LOCATION_ERROR) * tolerance.error / (2.0 * others);
        let errors = [location_error, one_error].map(|error| normal_quantile(1.0 - error) / root);
        let degrees = p0.len().saturating_sub(1);
        let adaptive_error = chi_square_quantile(degrees, tolerance.error).sqrt() / root;
        let scores = scores(&p0, scale);
        let margin = |score: usize, q: &[f64]| {
            let error = errors.get(usize::from(score > 0)).copied().unwrap_or(f64::INFINITY);
            1.0 + 2.0 * tolerance.relative * total_variation(q, &p0) + error * chi_square(q, &p0).sqrt()
        };
        let levels = TILTS.map(|(score, slope)| {
            let (q, level) = tilted(score, slope, &scores, &p0);
            let margin = margin(score, &q);
            if margin < 1.0 + MARGIN_MIN { f64::INFINITY } else { level + libm::log(margin) }
        });
        let first = bumped.start;
        // What one slot gains has an exact bound, which also holds where the reference met the slot a few times only.
        let most =
            |slot| rate_bound(u64::from(counts.at(slot)), events, one_error) * (1.0 + tolerance.relative);
        let ratio = |slot: usize| p0.get(slot).map_or(1.0, |p| (most(slot) / p).max(1.0));
        let bump = |ratio: f64| {
            HEIGHTS.map(|height| match 1.0 - height + height * ratio {
                margin if margin < 1.0 + MARGIN_MIN => 0.0,
                margin => 1.0 / margin,
            })
        };
        let bumps = bumped.map(|slot| bump(ratio(slot))).collect();
        Self { p0, scores, levels, first, bumps, tolerance: tolerance.relative, adaptive_error }
    }

    /// The probabilities of the reference, one to a slot.
    #[must_use]
    pub fn p0(&self) -> &[f64] {
        &self.p0
    }

    /// Events until the bank alone reaches `level`, about, where the feature moved by `shift` of its standard deviations:
    /// what the logarithm of its part takes at its speed, for the location bet that is first. Nothing where none grows.
    #[must_use]
    pub fn events(&self, shift: f64, level: f64) -> Option<f64> {
        let q = tilted(0, shift, &self.scores, &self.p0).0;
        let bets = TILTS.iter().zip(&self.levels).zip(LOCATION_WEIGHTS);
        let events = bets.filter_map(|(((score, slope), divisor), weight)| {
            let parts = q.iter().zip(&self.scores);
            let speed = parts.map(|(q, scores)| q * slope * score_of(scores, *score)).sum::<f64>() - divisor;
            // A sum over all beginnings starts with about one event in each e-fold ahead of a single product.
            let ahead = libm::log(1.0 / speed).max(0.0);
            let reach = libm::log(level / (weight * SHARES[0]));
            (speed > 0.0).then(|| (reach - ahead).max(1.0) / speed)
        });
        events.min_by(f64::total_cmp)
    }

    /// How far the slots' probabilities would lie from those of the reference, in nats, where the feature moved by
    /// `shift` of its standard deviations. No detector of independent events is faster than the logarithm of its run
    /// length over this (Lorden 1971).
    #[must_use]
    pub fn divergence(&self, shift: f64) -> f64 {
        divergence(&tilted(0, shift, &self.scores, &self.p0).0, &self.p0)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.p0.capacity() * size_of::<f64>()
            + self.scores.capacity() * size_of::<[f32; SCORES]>()
            + self.bumps.capacity() * size_of::<[f64; HEIGHTS.len()]>()
    }
}

/// Scores of the middle of each slot; 0 for slots off the scale.
fn scores(p0: &[f64], scale: usize) -> Vec<[f32; SCORES]> {
    let on_scale: f64 = p0.iter().take(scale).sum();
    let mut below = 0.0;
    let score = |(slot, p): (usize, &f64)| {
        if slot >= scale || on_scale <= 0.0 {
            return [0.0_f32; SCORES];
        }
        let middle = (below + 0.5 * p) / on_scale;
        below += p;
        let normal = normal_quantile(middle).clamp(-SCORE_MAX, SCORE_MAX);
        let (rank, square) = (2.0 * middle - 1.0, (2.0 * middle - 1.0) * (2.0 * middle - 1.0));
        // Legendre polynomials of the third and fourth degree, scaled to a variance of 1 over uniform ranks.
        let skew = 7.0_f64.sqrt() * 0.5 * (5.0 * square - 3.0) * rank;
        let humps = 3.0 * 0.125 * (35.0 * square * square - 30.0 * square + 3.0);
        let [near, far] = APART.map(|place| parted(normal, place));
        [normal, normal * normal, skew, humps, near, far].map(|score| score as f32)
    };
    p0.iter().enumerate().map(score).collect()
}

/// The logarithm of how much more likely a normal score is where there are two populations, at `place` on either side,
/// than where there is one of the same mean and deviation.
fn parted(normal: f64, place: f64) -> f64 {
    let width = (1.0 - place * place).sqrt();
    let density = |middle: f64| {
        let away = (normal - middle) / width;
        libm::exp(0.5 * (normal * normal - away * away)) / width
    };
    libm::log(0.5 * (density(place) + density(-place)))
}

/// What each score counts for, to each tilt along it: written out, for a look-up at every tilt costs as much as the rest.
#[inline(always)]
fn to_each_tilt([location, scale, skew, humps, near, far]: [f64; SCORES]) -> [f64; TILTS.len()] {
    let [l, s, k, h] = [location, scale, skew, humps];
    [l, l, l, l, l, l, s, s, s, s, k, k, k, k, h, h, h, h, near, far]
}

fn score_of(scores: &[f32; SCORES], number: usize) -> f64 {
    scores.get(number).copied().map_or(0.0, f64::from)
}

/// `p0` tilted along a score, and the logarithm of what it had to be divided by.
fn tilted(score: usize, slope: f64, scores: &[[f32; SCORES]], p0: &[f64]) -> (Vec<f64>, f64) {
    let raw = scores.iter().zip(p0);
    let raw: Vec<f64> = raw.map(|(scores, p)| p * libm::exp(slope * score_of(scores, score))).collect();
    let whole: f64 = raw.iter().sum();
    (raw.iter().map(|part| part / whole).collect(), libm::log(whole))
}

impl Evidence {
    /// No evidence yet.
    #[must_use]
    pub fn new(bank: &Bank) -> Self {
        Self {
            tilts: [0.0; TILTS.len()],
            bumps: vec![[0.0; HEIGHTS.len()]; bank.bumps.len()],
            adaptive: Adaptive::new(bank.p0.len()),
        }
    }

    /// Settles a tick.
    #[inline(always)]
    pub fn take(&mut self, bank: &Bank, tick: &Tick<'_>) {
        if tick.events() > 0 {
            self.take_tilts(bank, tick);
            self.take_bumps(bank, tick);
            let margins = Margins { tolerance: bank.tolerance, error: bank.adaptive_error };
            self.adaptive.take(&bank.p0, margins, tick);
        }
    }

    #[inline(always)]
    fn take_tilts(&mut self, bank: &Bank, tick: &Tick<'_>) {
        let mut sums = [0.0_f64; SCORES];
        for (slot, count) in tick.met() {
            let (Some(scores), count) = (bank.scores.get(slot), f64::from(count)) else { continue };
            sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += f64::from(*score) * count);
        }
        let all = f64::from(tick.events());
        let mut factors = to_each_tilt(sums);
        for ((factor, (_, slope)), divisor) in factors.iter_mut().zip(&TILTS).zip(&bank.levels) {
            *factor = slope * *factor - divisor * all;
        }
        exponentials(&mut factors);
        let pairs = self.tilts.iter_mut().zip(factors);
        pairs.for_each(|(level, factor)| *level = raised(*level, tick.events(), factor));
    }

    #[inline(always)]
    fn take_bumps(&mut self, bank: &Bank, tick: &Tick<'_>) {
        let events = tick.events();
        let misses = |divisors| times(HEIGHTS.map(|height| 1.0 - height), divisors);
        // As if no slot was met, then those that were.
        let mut factors = [[0.0; HEIGHTS.len() * BLOCK]; SLOTS.div_ceil(BLOCK)];
        let slots = by_slot(&mut factors).iter_mut().zip(&bank.bumps);
        slots.for_each(|(factors, divisors)| *factors = misses(divisors));
        let blocks = factors.iter_mut().take(bank.bumps.len().div_ceil(BLOCK));
        blocks.for_each(|block| *block = powers(*block, events));
        let factors = by_slot(&mut factors);
        for (slot, inside) in tick.met() {
            let place = slot.wrapping_sub(bank.first);
            let (Some(factors), Some(divisors)) = (factors.get_mut(place), bank.bumps.get(place)) else {
                continue;
            };
            let Some(p) = bank.p0.get(slot) else { continue };
            let hits = times(HEIGHTS.map(|height| 1.0 - height + height / p), divisors);
            *factors = times(powers(misses(divisors), events - inside), &powers(hits, inside));
        }
        let pairs = self.bumps.as_flattened_mut().iter_mut().zip(factors.as_flattened());
        pairs.for_each(|(level, factor)| *level = raised(*level, events, *factor));
    }

    /// The evidence: the weighted mean of the bets. Where nothing changed its expectation is at most the number of
    /// events since the last reset.
    #[must_use]
    pub fn level(&self) -> f64 {
        let tilts = |from: usize, to: usize| mean(self.tilts.iter().skip(from).take(to - from).copied());
        let location = self.tilts.iter().zip(LOCATION_WEIGHTS);
        let groups = [
            location.map(|(level, weight)| level * weight).sum(),
            tilts(LOCATION, SCALE),
            tilts(SCALE, SHAPE),
            tilts(SHAPE, TILTS.len()),
            mean(self.bumps.as_flattened().iter().copied()),
            mean(self.adaptive.levels()),
        ];
        SHARES.iter().zip(groups).map(|(share, level)| share * level).sum()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bumps.capacity() * size_of::<[f64; HEIGHTS.len()]>() + self.adaptive.bytes()
    }

    /// Forgets the evidence; what the adaptive bets learned goes as well, for it is what changed.
    pub fn reset(&mut self, bank: &Bank) {
        *self = Self::new(bank);
    }
}

/// The numbers of each slot that stand in blocks.
#[inline(always)]
fn by_slot<const N: usize>(blocks: &mut [[f64; N]]) -> &mut [[f64; HEIGHTS.len()]] {
    blocks.as_flattened_mut().as_chunks_mut().0
}

/// The sum of Shiryaev and Roberts after `events` that multiply to `factor`: an e-process begins with every event, and
/// those of one tick begin with it.
#[inline(always)]
#[must_use]
pub fn raised(level: f64, events: u32, factor: f64) -> f64 {
    let next = (level + f64::from(events)) * factor;
    // A product that overflowed, or met 0 times infinity on the way, is as large as evidence gets or no evidence.
    if next.is_nan() { 0.0 } else { next.min(LEVEL_MAX) }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::measure::power;
    use super::*;

    #[test]
    fn each_tilt_has_the_score_that_it_is_along() {
        let numbers = std::array::from_fn(|score| score as f64);
        assert_eq!(to_each_tilt(numbers), TILTS.map(|(score, _)| score as f64));
    }

    #[test]
    fn a_tick_is_worth_what_its_events_multiply_to() {
        let tolerance = Tolerance { relative: 0.01, error: 0.01 };
        let reference = Counts::from_slots(vec![0, 700, 900, 1000, 1100, 900, 400, 0, 10, 0]);
        let bank = Bank::new(&reference, 8, 1..7, tolerance);
        let mut evidence = Evidence::new(&bank);
        let tick = Counts::from_slots(vec![1, 0, 2, 0, 3, 1, 7, 0, 2, 0]);
        let near = |found: f64, expected: f64| (found - expected).abs() <= 1e-12 * expected.abs();
        for _ in 0..50 {
            let before = evidence.clone();
            evidence.take(&bank, &Tick::of(&tick, &mut Tick::room()));
            let slots = || tick.slots().iter().map(|count| f64::from(*count)).enumerate();
            for (place, ((score, slope), divisor)) in TILTS.iter().zip(&bank.levels).enumerate() {
                let ratio = |slot: usize| slope * score_of(&bank.scores[slot], *score) - divisor;
                let all: f64 = slots().map(|(slot, count)| count * ratio(slot)).sum();
                let expected = raised(before.tilts[place], 16, libm::exp(all));
                assert!(near(evidence.tilts[place], expected), "tilt {place}: {expected}");
            }
            for (place, divisors) in bank.bumps.iter().enumerate() {
                let (p, inside) = (bank.p0[bank.first + place], tick.at(bank.first + place));
                for (number, height) in HEIGHTS.iter().enumerate() {
                    let [hit, miss] =
                        [1.0 - height + height / p, 1.0 - height].map(|part| part * divisors[number]);
                    let factor = power(hit, inside) * power(miss, 16 - inside);
                    let expected = raised(before.bumps[place][number], 16, factor);
                    assert_eq!(evidence.bumps[place][number], expected, "bump {place}, {height}");
                }
            }
        }
        assert!(evidence.level() > 1e6, "it differs much from the reference: {}", evidence.level());
    }
}
