//! Distance to a reference: whether a row lies where the reference's rows lie.
//!
//! Every numeric column is divided by its own spread; the distance of two rows is the root mean square over the
//! columns. How far is far follows from the reference itself: from how far its rows lie from each other.

use std::hash::Hasher;
use std::sync::OnceLock;

use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};

use crate::facts::{Cell, Features};
use crate::linkage::Linkage;
use crate::neighbours::{NEAREST_MAX, STEPS_TO_CLOSE, WIDTH_MAX, insert};
use crate::processor::{Processor, Work};

/// Smallest part of the median spread that a column is divided by: a nearly constant column must not outweigh all.
const SPREAD_FLOOR: f64 = 0.25;
/// Largest part of its own range that a column's spread is raised to: columns of other units must not blind it.
const RANGE_CEILING: f64 = 1.0;
/// Rows whose nearest neighbours are looked for; more would only cost time at start-up.
const HELD_OUT: usize = 300;
/// Part of the held-out rows that lie within the limit.
const QUANTILE: f64 = 0.99;
/// How much farther than that a row may lie. At 1.05 an honest client whose data drift stood at the edge of a block:
/// half of the ceiling above would have blocked it. At 1.15 neither choice does, and noise, foreign and uniform
/// queries are blocked at the same row. Both figures were chosen on the recorded streams that the tests replay, so
/// those streams do not vouch for them; synthetic tariffs of other seeds do, a little.
const MARGIN: f64 = 1.15;
/// How much farther than the far limit's quantile, beyond [`MARGIN`], a row must lie that is far in many columns: images
/// shifted by a pixel lie up to 1.08, rows by chance from 1.3 on.
const FAR_MARGIN: f64 = 1.2;
/// Columns of a row in which it may be however far, without being far in many: units are converted in one or two.
const FAR_LEFT_OUT: usize = 2;
/// Fewest columns that are not nearly constant, for a row to be far in many.
const FAR_COLUMNS_MIN: f64 = 8.0;
/// Reference rows over which the linkage of columns is measured.
const LINKED_ROWS: usize = 800;
/// Fewest rows that say anything about distances.
const ROWS_MIN: usize = 100;

/// Reference rows whose tenth nearest among each other are looked for.
const CLOSE_ROWS: usize = 800;
/// The numeric columns of a reference, scaled, and the distance at which a row is off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Positions of the numeric columns.
    columns: Vec<usize>,
    /// What each of them is divided by.
    spreads: Vec<f64>,
    /// The scaled rows, one after the other, from the middle outwards: whoever looks for any row that is near then mostly
    /// looks at few.
    rows: Vec<f64>,
    /// Largest sum of squares, over the columns, of a row that is near.
    limit_squared_sum: f64,
    /// Sum of squares of two rows that are close: as the tenth nearest of the row that has it nearest. Zero where
    /// nothing can be said.
    close_squared_sum: f64,
    /// Median of the sums of squares between a row and its nearest.
    dense_squared_sum: f64,
    /// Means of the scaled columns.
    centers: Vec<f64>,
    /// What is far in many columns; nothing where there are too few columns.
    far: Option<Far>,
    /// Tells this geometry from others.
    basis: u64,
    #[serde(skip)]
    fours: Fours,
}

/// The rows once more, where they are narrow, four at a time with their values of one column side by side. This follows
/// from the rows, and is there once it is asked for.
#[derive(Clone, Debug, Default)]
struct Fours(OnceLock<Vec<[f64; 4]>>);

impl PartialEq for Fours {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Fours {
    /// The last four are filled up with rows that are near nothing.
    fn of(&self, rows: &[f64], width: usize) -> &[[f64; 4]] {
        let four = |rows: &[f64]| -> Vec<[f64; 4]> {
            let value =
                |column: usize, row: usize| rows.get(row * width + column).copied().unwrap_or(f64::NAN);
            (0..width).map(|column| std::array::from_fn(|row| value(column, row))).collect()
        };
        self.0.get_or_init(|| rows.chunks(4 * width.max(1)).flat_map(four).collect())
    }
}

/// What is far in many columns at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Far {
    /// 1 for each scaled column that counts, which are those that are not nearly constant; 0 for the others.
    counts: Vec<f64>,
    /// Largest sum of squares over these, the two largest left out, of a row that is not far.
    limit_squared_sum: f64,
    /// How much these columns hang together.
    linkage: f64,
}

impl Geometry {
    /// Measures rows of `width` values; `number` gives the value of a row and column where it is a number. Nothing
    /// where there are too few rows or no column of numbers only. O(300 x rows x width).
    pub fn of(
        rows: usize,
        width: usize,
        number: impl Fn(usize, usize) -> Option<f64> + Copy,
    ) -> Option<Self> {
        let numeric = |column: &usize| (0..rows).all(|row| number(row, *column).is_some());
        let columns: Vec<usize> = (0..width).filter(numeric).collect();
        if rows < ROWS_MIN {
            return None;
        }
        let values_of = |column: usize| (0..rows).filter_map(move |row| number(row, column));
        let own: Vec<Spread> = columns.iter().map(|&column| Spread::of(values_of(column))).collect();
        let spreads = floored(&own)?;
        let counts = own
            .iter()
            .zip(&spreads)
            .map(|(own, spread)| f64::from(own.standard_deviation >= *spread))
            .collect();
        let mut scaled = Vec::with_capacity(rows * columns.len());
        for row in 0..rows {
            let values = columns.iter().filter_map(|&column| number(row, column));
            scaled.extend(values.zip(&spreads).map(|(value, spread)| value / spread));
        }
        let mut geometry = Self {
            centers: centers(&scaled, columns.len()),
            columns,
            spreads,
            rows: scaled,
            limit_squared_sum: 0.0,
            close_squared_sum: 0.0,
            dense_squared_sum: 0.0,
            far: None,
            basis: 0,
            fours: Fours::default(),
        };
        let nearest = geometry.held_out_nearest();
        geometry.limit_squared_sum = quantile(&nearest, QUANTILE) * MARGIN * MARGIN;
        geometry.dense_squared_sum = quantile(&nearest, 0.5);
        geometry.close_squared_sum = geometry.closest_tenth();
        geometry.far = geometry.far_of(counts);
        geometry.sort_outwards();
        geometry.basis = geometry.fold();
        Some(geometry)
    }

    /// Whether distances between rows can be told as ratios to what is close: the rows differ, and are not too wide.
    #[must_use]
    pub fn is_measure(&self) -> bool {
        self.close_squared_sum > 0.0 && self.width() <= WIDTH_MAX
    }

    /// Tells this geometry from others: what was measured under another cannot be compared.
    #[must_use]
    pub fn basis(&self) -> u64 {
        self.basis
    }

    /// Number of numeric columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// The sum of squares, over the columns, that counts as a ratio of 1.
    #[must_use]
    pub fn close(&self) -> f32 {
        self.close_squared_sum as f32
    }

    /// Fills `out` with the scaled numeric columns of a row, NaN for those that hold no number. `column_of` gives the
    /// question's column for one of the reference's.
    pub fn scale(&self, question: &Features, row: usize, column_of: &[usize], out: &mut Vec<f64>) {
        let cells = question.row(row);
        out.clear();
        out.extend(self.columns.iter().zip(&self.spreads).map(|(&column, spread)| {
            match column_of.get(column).and_then(|&column| cells.get(column)) {
                Some(Cell::Number(number)) => number / spread,
                _ => f64::NAN,
            }
        }));
    }

    /// What each scaled value was divided by.
    #[must_use]
    pub fn spreads(&self) -> &[f64] {
        &self.spreads
    }

    /// The reference's column of each scaled value, and what it was divided by.
    pub fn scales(&self) -> impl Iterator<Item = (usize, f64)> {
        self.columns.iter().copied().zip(self.spreads.iter().copied())
    }

    /// Fills `out` with a byte to a scaled value: its distance from the column's mean in sixteenths of what is close.
    pub fn coarsen(&self, scaled: &[f32], out: &mut [u8]) {
        let coarsen = Coarsen { scaled, centers: &self.centers, steps: self.steps(), out };
        Processor::default().run(coarsen);
    }

    /// How many steps of those bytes a scaled value of 1 is.
    #[must_use]
    pub fn steps(&self) -> f64 {
        STEPS_TO_CLOSE / (self.close_squared_sum / self.width().max(1) as f64).sqrt()
    }

    /// Whether a scaled row lies as close to a reference row as half of the reference rows do to theirs.
    #[must_use]
    pub fn is_dense(&self, scaled: &[f32]) -> bool {
        let row: Vec<f64> = scaled.iter().map(|value| f64::from(*value)).collect();
        self.has_row_within(&row, self.dense_squared_sum)
    }

    /// Whether any reference row lies near a row of `question`; `column_of` gives the question's column for one of
    /// the reference's. A gap or a text in a numeric column is near nothing. `scratch` is overwritten.
    pub fn is_near(
        &self,
        question: &Features,
        row: usize,
        column_of: &[usize],
        scratch: &mut Vec<f64>,
    ) -> bool {
        self.scale(question, row, column_of, scratch);
        self.has_near(scratch)
    }

    /// Whether any reference row lies near a row that [`Geometry::scale`] gave.
    #[must_use]
    pub fn has_near(&self, scaled: &[f64]) -> bool {
        self.has_row_within(scaled, self.limit_squared_sum)
    }

    /// Whether a row that [`Geometry::scale`] gave lies far from every reference row in many columns: also where nearly
    /// constant columns do not count, and for each reference row the two in which it differs most from it. Never where too
    /// few columns are there.
    #[must_use]
    pub fn is_far(&self, scaled: &[f64]) -> bool {
        let Some(far) = &self.far else { return false };
        // As precise as rows are remembered.
        let row: Vec<f64> = scaled.iter().map(|value| f64::from(*value as f32)).collect();
        row.iter().all(|value| value.is_finite()) && !self.has_row(WithinTrimmed { row: &row, far })
    }

    /// Whether the columns of these scaled rows vary independently of each other, where the reference's hang together.
    /// O(rows x width x width).
    #[must_use]
    pub fn vary_by_chance<'a>(&self, rows: impl Iterator<Item = &'a [f32]>) -> bool {
        let Some(far) = &self.far else { return false };
        let rows: Vec<Vec<f64>> =
            rows.map(|row| far.counted(row.iter().map(|value| f64::from(*value)))).collect();
        Linkage::of(&rows).is_some_and(|linkage| linkage.is_by_chance(far.linkage))
    }

    /// Whether a scaled row lies near any reference row.
    #[must_use]
    pub fn knows(&self, scaled: &[f32]) -> bool {
        let row: Vec<f64> = scaled.iter().map(|value| f64::from(*value)).collect();
        self.has_near(&row)
    }

    /// Sum of squares, over the columns, as half of the reference's rows have it to their nearest.
    #[must_use]
    pub fn usual_nearest(&self) -> f32 {
        self.dense_squared_sum as f32
    }

    fn far_of(&self, counts: Vec<f64>) -> Option<Far> {
        if counts.iter().sum::<f64>() < FAR_COLUMNS_MIN {
            return None;
        }
        let mut far = Far { counts, limit_squared_sum: 0.0, linkage: 0.0 };
        let mut nearest: Vec<f64> =
            self.held_out().map(|(index, row)| self.nearest_trimmed(&far, index, row)).collect();
        nearest.sort_by(f64::total_cmp);
        far.limit_squared_sum = quantile(&nearest, QUANTILE) * (MARGIN * FAR_MARGIN).powi(2);
        let count = self.rows.len() / self.columns.len().max(1);
        let some = self.scaled_rows().step_by(count.div_ceil(LINKED_ROWS).max(1));
        let some: Vec<Vec<f64>> = some.map(|row| far.counted(row.iter().copied())).collect();
        far.linkage = Linkage::of(&some).map_or(0.0, |linkage| linkage.beyond_chance());
        Some(far)
    }

    /// Puts rows in the order of their distance from the middle: those that lie there are near most others.
    fn sort_outwards(&mut self) {
        let from_middle =
            |row: &[f64]| squared_sum(row, &self.centers, f64::INFINITY).unwrap_or(f64::INFINITY);
        let mut rows: Vec<(f64, &[f64])> = self.scaled_rows().map(|row| (from_middle(row), row)).collect();
        rows.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        self.rows = rows.into_iter().flat_map(|(_, row)| row).copied().collect();
    }

    fn nearest_trimmed(&self, far: &Far, index: usize, row: &[f64]) -> f64 {
        let others = self.scaled_rows().enumerate().filter(|(other, _)| *other != index);
        others.fold(f64::INFINITY, |nearest, (_, other)| far.trimmed(row, other, nearest).unwrap_or(nearest))
    }

    /// Whether the sum of squares to any row of the reference is at most `limit`.
    fn has_row_within(&self, row: &[f64], limit: f64) -> bool {
        let width = self.width();
        if width >= LANES || row.len() != width {
            return self.has_row(Within { row, limit });
        }
        let look = LookByFours { fours: self.fours.of(&self.rows, width), row, limit };
        Processor::default().run(look)
    }

    /// Whether any row of the reference passes.
    fn has_row(&self, test: impl Test) -> bool {
        Processor::default().run(Look { rows: &self.rows, width: self.columns.len(), test })
    }

    fn scaled_rows(&self) -> impl Iterator<Item = &[f64]> {
        self.rows.chunks_exact(self.columns.len().max(1))
    }

    /// Some rows at even distances, with their positions.
    fn held_out(&self) -> impl Iterator<Item = (usize, &[f64])> {
        let count = self.rows.len() / self.columns.len().max(1);
        self.scaled_rows().enumerate().step_by(count.div_ceil(HELD_OUT).max(1))
    }

    /// Sums of squares between held-out rows and their nearest, ascending.
    fn held_out_nearest(&self) -> Vec<f64> {
        let mut nearest: Vec<f64> =
            self.held_out().map(|(index, row)| self.nearest_squared_sum(index, row)).collect();
        nearest.sort_by(f64::total_cmp);
        nearest
    }

    /// The smallest distance of a row to its tenth nearest, among at most 800 different rows: as close as honest rows
    /// come. O(800 x 800 x width).
    fn closest_tenth(&self) -> f64 {
        let mut rows: Vec<&[f64]> = self.scaled_rows().collect();
        rows.sort_by(|one, two| {
            one.iter().map(|value| value.to_bits()).cmp(two.iter().map(|value| value.to_bits()))
        });
        rows.dedup();
        let step = rows.len().div_ceil(CLOSE_ROWS).max(1);
        let rows: Vec<&[f64]> = rows.into_iter().step_by(step).collect();
        let closest = (0..rows.len()).fold(f64::INFINITY, |closest, row| tenth_nearest(&rows, row, closest));
        if closest.is_finite() { closest } else { 0.0 }
    }

    fn fold(&self) -> u64 {
        let scales = self.spreads.iter().chain(&self.centers).chain([&self.close_squared_sum]);
        let mut hasher = FxHasher::default();
        scales.for_each(|scale| hasher.write_u64(scale.to_bits()));
        self.columns.iter().for_each(|column| hasher.write_usize(*column));
        hasher.finish()
    }

    fn nearest_squared_sum(&self, index: usize, row: &[f64]) -> f64 {
        let others = self.scaled_rows().enumerate().filter(|(other, _)| *other != index);
        others.fold(f64::INFINITY, |nearest, (_, other)| squared_sum(row, other, nearest).unwrap_or(nearest))
    }
}

/// What is asked of every row of a reference.
trait Test: Copy {
    fn passes(self, other: &[f64]) -> bool;
}

/// Whether the sum of squares is at most a limit.
#[derive(Clone, Copy)]
struct Within<'a> {
    row: &'a [f64],
    limit: f64,
}

impl Test for Within<'_> {
    #[inline(always)]
    fn passes(self, other: &[f64]) -> bool {
        squared_sum(self.row, other, self.limit).is_some()
    }
}

/// Whether the sum of squares is, without the two largest, where columns count.
#[derive(Clone, Copy)]
struct WithinTrimmed<'a> {
    row: &'a [f64],
    far: &'a Far,
}

impl Test for WithinTrimmed<'_> {
    #[inline(always)]
    fn passes(self, other: &[f64]) -> bool {
        self.far.trimmed(self.row, other, self.far.limit_squared_sum).is_some()
    }
}

/// A look at every row until one passes: compiled once more for processors with AVX2.
struct Look<'a, T> {
    rows: &'a [f64],
    width: usize,
    test: T,
}

impl<T: Test, By> Work<By> for Look<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn by(self, _: By) -> bool {
        for other in self.rows.chunks_exact(self.width.max(1)) {
            if self.test.passes(other) {
                return true;
            }
        }
        false
    }
}

/// What rounds scaled values to bytes, compiled once more for processors with AVX2.
struct Coarsen<'a> {
    scaled: &'a [f32],
    centers: &'a [f64],
    steps: f64,
    out: &'a mut [u8],
}

impl<By> Work<By> for Coarsen<'_> {
    type Output = ();

    #[inline(always)]
    fn by(self, _: By) {
        let Self { scaled, centers, steps, out } = self;
        for (byte, (value, center)) in out.iter_mut().zip(scaled.iter().zip(centers)) {
            *byte = nearest_byte((f64::from(*value) - center) * steps + 128.0);
        }
    }
}

/// A look for any row of a narrow reference whose sum of squares, column by column, is at most `limit`: a branch for each
/// row would be taken now and then, and one for four is taken seldom.
struct LookByFours<'a> {
    fours: &'a [[f64; 4]],
    row: &'a [f64],
    limit: f64,
}

impl<By> Work<By> for LookByFours<'_> {
    type Output = bool;

    #[inline(always)]
    fn by(self, _: By) -> bool {
        let Self { fours, row, limit } = self;
        // Two columns at a time, for one costs no more than the loop around it.
        let (pairs, last) = row.as_chunks();
        for four in fours.chunks_exact(row.len().max(1)) {
            let (four, last_of_four) = four.as_chunks();
            let mut sums = [0.0; 4];
            for ([one, two], [value, other]) in four.iter().zip(pairs) {
                add_squares(&mut sums, one, *value);
                add_squares(&mut sums, two, *other);
            }
            for (one, value) in last_of_four.iter().zip(last) {
                add_squares(&mut sums, one, *value);
            }
            if sums.iter().fold(false, |any, sum| any | (*sum <= limit)) {
                return true;
            }
        }
        false
    }
}

#[inline(always)]
fn add_squares(sums: &mut [f64; 4], values: &[f64; 4], value: f64) {
    for (sum, other) in sums.iter_mut().zip(values) {
        *sum += (value - other) * (value - other);
    }
}

impl Far {
    /// The sum of squares over the columns that count, the two largest left out; nothing where it exceeds `limit`.
    #[inline(always)]
    fn trimmed(&self, left: &[f64], right: &[f64], limit: f64) -> Option<f64> {
        // Of wide rows most are told by a look that needs no order among squares; narrow ones are soon at an end.
        if left.len() > WIDE && self.trimmed_least(left, right) > limit * (1.0 + ROUNDING) {
            return None;
        }
        let mut sum = 0.0;
        let mut largest = [0.0; FAR_LEFT_OUT];
        for ((left, right), counts) in left.iter().zip(right).zip(&self.counts) {
            let mut square = (left - right) * (left - right) * counts;
            for known in &mut largest {
                if square > *known {
                    std::mem::swap(&mut square, known);
                }
            }
            sum += square;
            if sum.is_nan() || sum > limit {
                return None;
            }
        }
        Some(sum)
    }

    /// What that sum is at least: that of all squares less the largest, as often as squares are left out.
    #[inline(always)]
    fn trimmed_least(&self, left: &[f64], right: &[f64]) -> f64 {
        let (left, left_rest) = left.as_chunks::<TRIMMED_LANES>();
        let (right, right_rest) = right.as_chunks::<TRIMMED_LANES>();
        let (counts, counts_rest) = self.counts.as_chunks::<TRIMMED_LANES>();
        let (mut sums, mut largest) = ([0.0; TRIMMED_LANES], [0.0; TRIMMED_LANES]);
        for ((left, right), counts) in left.iter().zip(right).zip(counts) {
            let lanes = sums.iter_mut().zip(&mut largest);
            for ((sum, largest), ((left, right), counts)) in lanes.zip(left.iter().zip(right).zip(counts)) {
                let square = (left - right) * (left - right) * counts;
                *sum += square;
                *largest = larger(square, *largest);
            }
        }
        let mut sum: f64 = sums.iter().sum();
        let mut largest = largest.iter().fold(0.0, |largest, square| larger(*square, largest));
        for ((left, right), counts) in left_rest.iter().zip(right_rest).zip(counts_rest) {
            let square = (left - right) * (left - right) * counts;
            sum += square;
            largest = larger(square, largest);
        }
        sum - largest * FAR_LEFT_OUT as f64
    }

    fn counted(&self, row: impl Iterator<Item = f64>) -> Vec<f64> {
        row.zip(&self.counts).filter_map(|(value, counts)| (*counts > 0.0).then_some(value)).collect()
    }
}

/// Columns beyond which a trimmed sum is worth a first look.
const WIDE: usize = 16;
/// Lanes of that look.
const TRIMMED_LANES: usize = 8;
/// How much of a sum its order may change, by far.
const ROUNDING: f64 = 1e-9;

/// As `f64::max` has it of numbers, in one instruction.
#[inline(always)]
fn larger(one: f64, other: f64) -> f64 {
    if one > other { one } else { other }
}

/// The sum of squares between the row at `index` and its tenth nearest, or `limit` where that is less.
fn tenth_nearest(rows: &[&[f64]], index: usize, limit: f64) -> f64 {
    let Some(row) = rows.get(index) else { return limit };
    let mut nearest = [limit; NEAREST_MAX];
    for (_, other) in rows.iter().enumerate().filter(|(other, _)| *other != index) {
        let [.., last] = nearest;
        if let Some(sum) = squared_sum(row, other, last) {
            let at = nearest.partition_point(|known| *known <= sum);
            insert(&mut nearest, at, sum);
        }
    }
    let [.., last] = nearest;
    last
}

/// Adding it to a number from 0 to 255 leaves the nearest whole one in the lowest bits: they count in ones from there.
const ONES: f64 = 4_503_599_627_370_496.0;

/// The number rounded to the nearest byte, halves to the even one; what lies beyond stops at either end. As `libm::rint`
/// has it, without a call or a branch.
#[inline(always)]
fn nearest_byte(number: f64) -> u8 {
    let least = if number > 0.0 { number } else { 0.0 };
    let within = if least < 255.0 { least } else { 255.0 };
    (within + ONES).to_bits() as u8
}

/// The value below which a `share` of the ascending `values` lies; 0 where there are none.
fn quantile(values: &[f64], share: f64) -> f64 {
    let at = libm::ceil(share * values.len() as f64) as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The mean of each column of `rows`.
fn centers(rows: &[f64], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in rows.chunks_exact(width.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let count = (rows.len() / width.max(1)).max(1) as f64;
    sums.iter().map(|sum| sum / count).collect()
}

/// Columns after which a sum is compared with its limit, each in a lane of its own, so that one need not wait for the
/// other.
const LANES: usize = 16;
/// Columns of the rest after which it is compared.
const STRIDE: usize = 4;

/// The sum of the squared differences, or nothing as soon as it is seen to exceed `limit`; NaN exceeds everything.
#[inline(always)]
fn squared_sum(left: &[f64], right: &[f64], limit: f64) -> Option<f64> {
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    let mut sum = 0.0;
    for (left, right) in left.iter().zip(right) {
        let mut lanes = [0.0; LANES];
        for (lane, (left, right)) in lanes.iter_mut().zip(left.iter().zip(right)) {
            *lane = (left - right) * (left - right);
        }
        sum += total(lanes);
        if sum.is_nan() || sum > limit {
            return None;
        }
    }
    rest_of_squared_sum(sum, left_rest, right_rest, limit)
}

/// Adds the squares of the last columns one by one. Of narrow rows these are all, and most of those are far: so some
/// are looked at before others.
#[inline(always)]
fn rest_of_squared_sum(mut sum: f64, left: &[f64], right: &[f64], limit: f64) -> Option<f64> {
    let (left, left_last) = left.as_chunks::<STRIDE>();
    let (right, right_last) = right.as_chunks::<STRIDE>();
    let square = |(left, right): (&f64, &f64)| (left - right) * (left - right);
    for (left, right) in left.iter().zip(right) {
        sum = left.iter().zip(right).map(square).fold(sum, |sum, square| sum + square);
        if sum > limit {
            return None;
        }
    }
    let sum = left_last.iter().zip(right_last).map(square).fold(sum, |sum, square| sum + square);
    (sum <= limit).then_some(sum)
}

/// Halves the lanes until one is left.
#[inline(always)]
fn total(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = lanes.split_at_mut(width);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        width /= 2;
    }
    let [first, ..] = lanes;
    first
}

/// How widely a column's values lie.
struct Spread {
    standard_deviation: f64,
    range: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let lowest = values.clone().fold(f64::INFINITY, f64::min);
        let highest = values.clone().fold(f64::NEG_INFINITY, f64::max);
        let variance = values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        Self { standard_deviation: variance.sqrt(), range: highest - lowest }
    }

    /// The spread, raised to `floor` as far as the column's own range allows; a constant column takes it whole.
    fn raised_to(&self, floor: f64) -> f64 {
        let own = if self.range > 0.0 { floor.min(self.range * RANGE_CEILING) } else { floor };
        self.standard_deviation.max(own)
    }
}

/// What each column is divided by; nothing where no column spreads at all.
fn floored(spreads: &[Spread]) -> Option<Vec<f64>> {
    let mut sorted: Vec<f64> = spreads.iter().map(|spread| spread.standard_deviation).collect();
    sorted.retain(|deviation| *deviation > 0.0);
    sorted.sort_by(f64::total_cmp);
    let floor = sorted.get(sorted.len() / 2)? * SPREAD_FLOOR;
    Some(spreads.iter().map(|spread| spread.raised_to(floor)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(values: &[Cell]) -> Features {
        Features { width: values.len(), cells: values.to_vec(), ..Features::default() }
    }

    /// A grid of 20 x 20 points one apart; the third column is text.
    fn grid() -> Geometry {
        let value = |row: usize, column: usize| match column {
            0 => Some((row % 20) as f64),
            1 => Some((row / 20) as f64 * 1000.0),
            _ => None,
        };
        Geometry::of(400, 3, value).unwrap()
    }

    #[test]
    fn a_row_is_near_where_the_reference_lies() {
        let mut scratch = Vec::new();
        let mut near = |first, second| {
            let row = question(&[Cell::Number(first), Cell::Number(second), Cell::Missing]);
            grid().is_near(&row, 0, &[0, 1, 2], &mut scratch)
        };
        assert!(near(3.2, 4100.0), "between grid points, whatever a column's unit");
        assert!(!near(-5.0, 4100.0));
        assert!(!near(3.2, 40_000.0));
        assert!(!near(f64::NAN, 0.0));
    }

    #[test]
    fn a_gap_in_a_numeric_column_is_near_nothing() {
        let row = question(&[Cell::Missing, Cell::Number(0.0), Cell::Missing]);
        assert!(!grid().is_near(&row, 0, &[0, 1, 2], &mut Vec::new()));
    }

    /// As the sum is defined: the lanes of sixteen columns first, the rest one by one.
    fn whole_sum(left: &[f64], right: &[f64], limit: f64) -> Option<f64> {
        let squares: Vec<f64> =
            left.iter().zip(right).map(|(one, other)| (one - other) * (one - other)).collect();
        let (lanes, rest) = squares.as_chunks::<LANES>();
        let sum = lanes.iter().fold(0.0, |sum, lanes| sum + total(*lanes));
        let sum = rest.iter().fold(sum, |sum, square| sum + square);
        (sum <= limit).then_some(sum)
    }

    proptest! {
        #[test]
        fn sums_of_squares_are_the_same_to_the_last_bit(
            pairs in proptest::collection::vec((-9.0..9.0_f64, -9.0..9.0_f64), 0..40),
            part in 0.0..2.0_f64,
            gap in proptest::option::of(0..40_usize),
        ) {
            let (mut left, right): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let sum = whole_sum(&left, &right, f64::INFINITY).unwrap();
            for limit in [sum, sum.next_down(), sum * part, f64::INFINITY] {
                prop_assert_eq!(squared_sum(&left, &right, limit), whole_sum(&left, &right, limit));
            }
            if let Some(value) = gap.and_then(|gap| left.get_mut(gap)) {
                *value = f64::NAN;
                prop_assert_eq!(squared_sum(&left, &right, f64::INFINITY), None);
            }
        }

        #[test]
        fn four_rows_at_a_time_give_what_each_gives(
            width in 1..20_usize,
            values in proptest::collection::vec(-9.0..9.0_f64, 100 * 20..120 * 20),
            row in proptest::collection::vec(-9.0..9.0_f64, 20),
            gap in proptest::option::of(0..40_usize),
        ) {
            let geometry = Geometry::of(values.len() / width, width, |row, column| {
                values.get(row * width + column).copied()
            }).unwrap();
            let mut row = row[..width].to_vec();
            if let Some(value) = gap.and_then(|gap| row.get_mut(gap)) {
                *value = f64::NAN;
            }
            let sums = geometry.scaled_rows().map(|other| whole_sum(&row, other, f64::INFINITY));
            let least = sums.flatten().fold(f64::INFINITY, f64::min);
            for limit in [least, least.next_down(), 0.0, f64::MAX] {
                let expected = least.is_finite() && least <= limit;
                prop_assert_eq!(geometry.has_row_within(&row, limit), expected);
                prop_assert_eq!(geometry.has_row(Within { row: &row, limit }), expected);
            }
        }

        #[test]
        fn trimmed_sums_leave_out_the_two_largest(
            cells in proptest::collection::vec((-9.0..9.0_f64, -9.0..9.0_f64, any::<bool>()), 0..40),
        ) {
            let of = |cell: &(f64, f64, bool)| cell.2.then_some((cell.0 - cell.1) * (cell.0 - cell.1));
            let mut squares: Vec<f64> = cells.iter().filter_map(of).collect();
            squares.sort_by(|one, other| other.total_cmp(one));
            let expected: f64 = squares.iter().skip(FAR_LEFT_OUT).sum();
            let (left, right): (Vec<f64>, Vec<f64>) = cells.iter().map(|cell| (cell.0, cell.1)).unzip();
            let counts = cells.iter().map(|cell| f64::from(cell.2)).collect();
            let far = Far { counts, limit_squared_sum: 0.0, linkage: 0.0 };
            let sum = far.trimmed(&left, &right, f64::INFINITY).unwrap();
            prop_assert!((sum - expected).abs() <= 1e-12 * expected.max(1.0), "{} instead of {}", sum, expected);
            prop_assert_eq!(far.trimmed(&left, &right, sum), Some(sum));
            prop_assert!(sum == 0.0 || far.trimmed(&left, &right, sum.next_down()).is_none());
        }

        #[test]
        fn bytes_are_rounded_as_by_libm(number: f64, near in -10.0..300.0_f64, half in -3..300_i32) {
            let half = f64::from(half) + 0.5;
            for number in [number, near, half, half.next_down(), half.next_up(), 0.5_f64.next_down()] {
                prop_assert_eq!(nearest_byte(number), libm::rint(number) as u8, "{}", number);
            }
        }
    }

    /// Ten columns that follow a row's own size, each with a little of its own.
    fn linked(row: usize, column: usize) -> f64 {
        (row * 37 % 101) as f64 + (row * (column + 3) * 7 % 13) as f64
    }

    #[test]
    fn a_row_is_far_where_it_is_in_more_columns_than_two() {
        let geometry = Geometry::of(400, 10, |row, column| Some(linked(row, column))).unwrap();
        let columns: Vec<usize> = (0..10).collect();
        let far = |moved: usize| {
            let cells: Vec<Cell> = (0..10)
                .map(|column| linked(7, column) + if column < moved { 2000.0 } else { 0.0 })
                .map(Cell::Number)
                .collect();
            let mut scaled = Vec::new();
            geometry.scale(&question(&cells), 0, &columns, &mut scaled);
            geometry.is_far(&scaled)
        };
        assert_eq!([0, 1, 2, 3, 10].map(far), [false, false, false, true, true]);
    }

    #[test]
    fn columns_by_chance_are_told_from_converted_ones() {
        let geometry = Geometry::of(400, 10, |row, column| Some(linked(row, column))).unwrap();
        let scaled = |value: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f32>> {
            (0..30).map(|row| (0..10).map(|column| value(row, column) as f32).collect()).collect()
        };
        let by_chance = |rows: &[Vec<f32>]| geometry.vary_by_chance(rows.iter().map(Vec::as_slice));
        let converted = scaled(&|row, column| 500.0 - 2.54 * linked(row, column));
        let drawn = scaled(&|row, column| ((row * 7919 + column * 104_729) * 31 % 997) as f64);
        assert!(!by_chance(&converted), "inverted and in other units");
        assert!(by_chance(&drawn), "drawn column by column");
    }

    #[test]
    fn too_little_gives_no_geometry() {
        assert_eq!(Geometry::of(ROWS_MIN - 1, 1, |row, _| Some(row as f64)), None);
        assert_eq!(Geometry::of(500, 1, |_, _| None), None);
        assert_eq!(Geometry::of(500, 1, |_, _| Some(1.0)), None, "nothing spreads");
    }
}
