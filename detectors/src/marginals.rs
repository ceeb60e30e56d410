//! How the values of each column of a reference lie by themselves: their grid, their spread, their quantiles.
//!
//! A grid is a step that the values of a column are multiples of: 1 for whole numbers, 0.01 for prices, 1/16 or 1/255
//! for what was once an image. It follows from the values alone. Two limits keep it honest. A column needs ten
//! different values: fewer could share a coarser step by chance, as 0 and 8 sixteenths do. And no step is coarser than
//! 1: that incomes are written in hundreds is a habit, not a grid.

use std::collections::BTreeMap;
use std::hash::Hasher;

use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};

use crate::facts::{Cell, Features};

/// Fewest numbers of a column that say anything.
const ROWS_MIN: usize = 100;
/// Fewest different values that show a grid.
const DIFFERENT_MIN: usize = 10;
/// Share of the reference's rows that may lie off the grid in some column.
const OFF_SHARE: f64 = 0.01;
/// Grids that are looked for, from coarse to fine, by the steps to a unit.
const STEPS_TO_UNIT: [f64; 15] =
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0, 32.0, 64.0, 100.0, 255.0, 1e3, 1e4, 1e5];
/// How far from the grid a value on it may lie, in steps. A value drawn at random lies that near with 1 in 50.
const STEP_TOLERANCE: f64 = 0.01;
/// How far from it single precision moves a value, in parts of the value.
const VALUE_TOLERANCE: f64 = 1e-6;
/// Classes of a column: the values up to the smallest, and fourteen parts of about equal size.
pub const CLASSES: usize = 16;
/// Most columns that are split in halves for [`Marginals::cell`].
const HALVED_MAX: usize = 11;
/// Cells of feature space: a bit of a number for each halved column.
pub const CELLS: usize = 1 << HALVED_MAX;

/// The columns of a reference that hold numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Marginals {
    columns: Vec<Marginal>,
    /// Columns whose halves make up a cell, with the value that halves them.
    halved: Vec<(usize, f64)>,
    /// How many cells hold so many of the reference's rows: rows and cells, ascending.
    occupied: Vec<(u32, u32)>,
    basis: u64,
}

/// One column of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Marginal {
    /// Its position among the reference's columns.
    pub column: usize,
    /// Standard deviation of its values.
    pub deviation: f64,
    grid: Option<Grid>,
    /// Ascending: the value that ends a class, and the share of the reference's values up to it.
    ends: Vec<(f64, f64)>,
    /// The values alone, and infinity for classes that there are not.
    #[serde(skip)]
    bounds: [f64; CLASSES],
}

/// What is written down of a column.
#[derive(Deserialize)]
struct Stored {
    column: usize,
    deviation: f64,
    grid: Option<Grid>,
    ends: Vec<(f64, f64)>,
}

impl From<Stored> for Marginal {
    fn from(Stored { column, deviation, grid, ends }: Stored) -> Self {
        let mut bounds = [f64::INFINITY; CLASSES];
        bounds.iter_mut().zip(&ends).for_each(|(bound, (end, _))| *bound = *end);
        Self { column, deviation, grid, ends, bounds }
    }
}

/// A step that values are multiples of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    steps_to_unit: f64,
}

impl Grid {
    /// The step, above 0 and at most 1.
    #[must_use]
    pub fn step(self) -> f64 {
        1.0 / self.steps_to_unit
    }

    /// Whether a finite value is a multiple of the step, as far as single precision and a few decimals tell.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        let steps = value * self.steps_to_unit;
        // Where the cast would stop at the end of its range, the tolerance is larger than a step anyway.
        let nearest = (steps + 0.5_f64.copysign(steps)) as i64 as f64;
        (steps - nearest).abs() <= STEP_TOLERANCE + VALUE_TOLERANCE * steps.abs()
    }

    /// The coarsest grid that holds all of `values` but `strays`.
    fn of(values: &[f64], strays: usize) -> Option<Self> {
        let mut different = values.to_vec();
        different.dedup();
        if different.len() < DIFFERENT_MIN {
            return None;
        }
        // Where rounding alone moves a value across a good part of a step, a grid says nothing.
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let told = |grid: &Self| VALUE_TOLERANCE * largest * grid.steps_to_unit < 5.0 * STEP_TOLERANCE;
        let holds = |grid: &Self| values.iter().filter(|value| !grid.holds(**value)).count() <= strays;
        STEPS_TO_UNIT.into_iter().map(|steps_to_unit| Self { steps_to_unit }).take_while(told).find(holds)
    }
}

impl Marginal {
    fn of(column: usize, mut values: Vec<f64>, strays: usize) -> Option<Self> {
        if values.len() < ROWS_MIN {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (count, first) = (values.len() as f64, *values.first()?);
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        let quantile = |part: usize| values.get(part * values.len() / (CLASSES - 1)).copied();
        // What lies below everything is a class of its own, or nobody would see it in a column of equal values.
        let mut ends: Vec<f64> =
            std::iter::once(first.next_down()).chain((1..CLASSES - 1).filter_map(quantile)).collect();
        ends.dedup();
        let share = |end: f64| values.partition_point(|value| *value <= end) as f64 / count;
        let ends = ends.into_iter().map(|end| (end, share(end))).collect();
        let grid = Grid::of(&values, strays);
        Some(Stored { column, deviation: variance.sqrt(), grid, ends }.into())
    }

    /// The grid that its values show, if they show one.
    #[must_use]
    pub fn grid(&self) -> Option<Grid> {
        self.grid
    }

    /// The class that a value belongs to, below [`CLASSES`]; nothing for NaN.
    #[must_use]
    pub fn class(&self, value: f64) -> Option<usize> {
        // Half of the bounds that are left, and half of these again, without a branch.
        let below = |class: usize, step: usize| self.bounds[(class + step - 1) % CLASSES] < value;
        let class =
            [8, 4, 2, 1].into_iter().fold(0, |class, step| class + step * usize::from(below(class, step)));
        (!value.is_nan()).then_some(class)
    }

    /// The largest difference between the shares of values up to each class, here and in `counts`, one to a class: the
    /// statistic of Kolmogorov and Smirnov as far as the classes show it, 0 to 1. It never exceeds the exact one.
    #[must_use]
    pub fn distance(&self, counts: &[u8]) -> f64 {
        let total: u32 = counts.iter().map(|count| u32::from(*count)).sum();
        let (mut below, part) = (0, 1.0 / f64::from(total.max(1)));
        let differences = self.ends.iter().zip(counts).map(|((_, share), count)| {
            below += u32::from(*count);
            (f64::from(below) * part - share).abs()
        });
        let largest = differences.fold(0.0, f64::max);
        if total == 0 { 0.0 } else { largest }
    }

    fn median(&self) -> Option<f64> {
        self.ends.iter().find(|(_, share)| *share >= 0.5).map(|(end, _)| *end)
    }
}

impl Marginals {
    /// Measures rows of `width` values; `number` gives the value of a row and column where it is a number, `missing`
    /// says whether there is none at all. A column with any other value is left out. O(rows x width x log rows).
    pub fn of(
        rows: usize,
        width: usize,
        number: impl Fn(usize, usize) -> Option<f64> + Copy,
        missing: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let strays = (rows as f64 * OFF_SHARE / width.max(1) as f64) as usize;
        let numbers =
            |column: usize| (0..rows).filter_map(move |row| number(row, column)).collect::<Vec<_>>();
        let whole =
            |column: &usize| (0..rows).all(|row| number(row, *column).is_some() || missing(row, *column));
        let columns =
            (0..width).filter(whole).filter_map(|column| Marginal::of(column, numbers(column), strays));
        let columns: Vec<Marginal> = columns.collect();
        let mut marginals = Self { halved: halved(&columns), columns, occupied: Vec::new(), basis: 0 };
        marginals.occupied = marginals.occupied(rows, number);
        marginals.basis = marginals.fold();
        marginals
    }

    /// The columns, in the reference's order.
    #[must_use]
    pub fn columns(&self) -> &[Marginal] {
        &self.columns
    }

    /// The columns in which row `row` of `question` holds a finite number that is finer than the grid of the reference's
    /// values; `column_of` gives the question's column for one of the reference's. O(width).
    pub fn finer<'a>(
        &'a self,
        question: &'a Features,
        row: usize,
        column_of: &'a [usize],
    ) -> impl Iterator<Item = &'a Marginal> {
        let cells = question.row(row);
        let values = self.columns.iter().filter_map(move |marginal| {
            let grid = marginal.grid?;
            Some((marginal, grid, number(cells, column_of, marginal.column)?))
        });
        values.filter(|(_, grid, value)| !grid.holds(*value)).map(|(marginal, ..)| marginal)
    }

    /// The cell of feature space that a row lies in, below [`CELLS`]: for each of up to eleven columns, whether its
    /// value lies above the reference's median. Nothing where one of them holds no finite number.
    #[must_use]
    pub fn cell(&self, question: &Features, row: usize, column_of: &[usize]) -> Option<usize> {
        let cells = question.row(row);
        self.cell_of(|column| number(cells, column_of, column))
    }

    /// How many cells the reference's rows lie in.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.occupied.iter().map(|(_, cells)| *cells as usize).sum()
    }

    /// In how many cells `rows` rows would lie that come from where the reference's come from. Up to as many as it has, by
    /// rarefaction; beyond, by how many cells its rows have not met yet, which is a guess that holds to about twice as many
    /// (Chao and others, Rarefaction and extrapolation with Hill numbers, Ecological Monographs 2014).
    #[must_use]
    pub fn expected_cells(&self, rows: u32) -> f64 {
        let all: f64 = self.occupied.iter().map(|(rows, cells)| f64::from(*rows) * f64::from(*cells)).sum();
        let rows = f64::from(rows);
        if rows > all {
            return self.extrapolated(all, rows - all);
        }
        let met = |(held, cells): &(u32, u32)| {
            let held = f64::from(*held);
            f64::from(*cells) * (1.0 - missed(all, rows, held))
        };
        self.occupied.iter().map(met).sum()
    }

    /// The cells that `more` rows would lie in beside `all` that are known.
    fn extrapolated(&self, all: f64, more: f64) -> f64 {
        let with = |rows: u32| {
            let found = self.occupied.iter().find(|(held, _)| *held == rows);
            found.map_or(0.0, |(_, cells)| f64::from(*cells))
        };
        let (known, once, twice) = (self.cells() as f64, with(1), with(2));
        let not_met = if twice > 0.0 { once * once / (2.0 * twice) } else { once * (once - 1.0) / 2.0 };
        let not_met = (all - 1.0) / all * not_met;
        if all < 1.0 || not_met <= 0.0 {
            return known;
        }
        let share = once / (all * not_met + once);
        let met = not_met * (1.0 - libm::pow(1.0 - share, more));
        (known + met).min(libm::exp2(self.halved.len() as f64))
    }

    /// Tells these marginals from others: what was counted under others cannot be compared.
    #[must_use]
    pub fn basis(&self) -> u64 {
        self.basis
    }

    fn cell_of(&self, number: impl Fn(usize) -> Option<f64>) -> Option<usize> {
        self.halved.iter().try_fold(0, |cell, (column, median)| {
            number(*column).map(|value| cell << 1 | usize::from(value > *median))
        })
    }

    fn occupied(&self, rows: usize, number: impl Fn(usize, usize) -> Option<f64>) -> Vec<(u32, u32)> {
        let mut cells: Vec<usize> =
            (0..rows).filter_map(|row| self.cell_of(|column| number(row, column))).collect();
        cells.sort_unstable();
        let mut occupied = BTreeMap::new();
        for rows in cells.chunk_by(|one, other| one == other) {
            *occupied.entry(rows.len() as u32).or_default() += 1;
        }
        occupied.into_iter().collect()
    }

    fn fold(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for marginal in &self.columns {
            hasher.write_usize(marginal.column);
            marginal.ends.iter().for_each(|(end, _)| hasher.write_u64(end.to_bits()));
        }
        hasher.finish()
    }
}

/// How likely it is that none of `held` rows is among `rows` that are taken from `all` without being put back.
fn missed(all: f64, rows: f64, held: f64) -> f64 {
    if all - held < rows {
        return 0.0;
    }
    let log = |of: f64| libm::lgamma(of + 1.0);
    libm::exp(log(all - held) - log(all - held - rows) - log(all) + log(all - rows))
}

/// Up to eleven of the columns whose median splits the reference evenly enough, taken at even distances.
fn halved(columns: &[Marginal]) -> Vec<(usize, f64)> {
    let even = |marginal: &Marginal| {
        let median = marginal.median()?;
        let share = marginal.ends.iter().find(|(end, _)| *end == median)?.1;
        (share <= 0.75).then_some((marginal.column, median))
    };
    let even: Vec<(usize, f64)> = columns.iter().filter_map(even).collect();
    even.iter().step_by(even.len().div_ceil(HALVED_MAX).max(1)).copied().collect()
}

fn number(cells: &[Cell], column_of: &[usize], column: usize) -> Option<f64> {
    match cells.get(*column_of.get(column)?) {
        Some(Cell::Number(number)) if number.is_finite() => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marginals(rows: usize, width: usize, value: impl Fn(usize, usize) -> f64 + Copy) -> Marginals {
        Marginals::of(rows, width, |row, column| Some(value(row, column)), |_, _| false)
    }

    fn step_of(value: impl Fn(usize) -> f64 + Copy) -> Option<f64> {
        let found = marginals(400, 1, |row, _| value(row));
        found.columns().first().and_then(Marginal::grid).map(Grid::step)
    }

    /// A number below 1 without a pattern, the same on every run.
    fn odd(row: usize) -> f64 {
        (row as f64 * 0.754_877_666).fract()
    }

    #[test]
    fn the_grid_is_the_coarsest_that_holds_all_values() {
        assert_eq!(step_of(|row| (row % 70) as f64), Some(1.0));
        assert_eq!(step_of(|row| (row % 70) as f64 * 100.0), Some(1.0), "hundreds are a habit");
        assert_eq!(step_of(|row| (row % 37) as f64 / 16.0), Some(1.0 / 16.0));
        assert_eq!(step_of(|row| (row % 251) as f64 / 255.0), Some(1.0 / 255.0));
        assert_eq!(
            step_of(|row| f64::from((row % 251) as f32 / 255.0)),
            Some(1.0 / 255.0),
            "single precision"
        );
        assert_eq!(step_of(|row| (row % 300) as f64 / 100.0 + 7.0), Some(0.01));
        assert_eq!(step_of(odd), None);
        assert_eq!(step_of(|row| 1e9 + (row % 99) as f64 / 100.0), None, "finer than rounding tells");
    }

    #[test]
    fn a_grid_needs_ten_different_values_and_survives_a_stray() {
        assert_eq!(step_of(|row| (row % 9) as f64 / 2.0), None);
        assert_eq!(step_of(|row| if row == 7 { 0.3 } else { (row % 50) as f64 }), Some(1.0));
        let every_fifth = |row: usize| if row.is_multiple_of(5) { 0.3 } else { (row % 50) as f64 };
        assert_eq!(step_of(every_fifth), Some(0.1));
    }

    #[test]
    fn the_distance_is_that_of_kolmogorov_and_smirnov_by_classes() {
        let uniform = marginals(1500, 1, |row, _| row as f64);
        let column = &uniform.columns()[0];
        let counts_of = |value: &dyn Fn(usize) -> f64| {
            let mut counts = [0_u8; CLASSES];
            (0..150).for_each(|row| counts[column.class(value(row)).unwrap()] += 1);
            counts
        };
        assert!(column.distance(&counts_of(&|row| row as f64 * 10.0)) < 0.02, "the same distribution");
        let lower_half = column.distance(&counts_of(&|row| row as f64 * 5.0));
        assert!((lower_half - 0.5).abs() < 0.05, "{lower_half}");
        assert!(column.distance(&counts_of(&|_| -1.0)) > 0.99, "below everything");
        assert!(column.distance(&counts_of(&|_| 1e9)) > 0.9, "above everything");
        assert_eq!(column.distance(&[0; CLASSES]), 0.0, "nothing counted");
        assert_eq!(column.class(f64::NAN), None);
    }

    #[test]
    fn a_constant_column_tells_what_lies_on_either_side() {
        let constant = marginals(200, 1, |_, _| 3.0);
        let column = &constant.columns()[0];
        let classes = [2.0, 3.0, 4.0].map(|value| column.class(value).unwrap());
        assert!(classes[0] < classes[1] && classes[1] < classes[2], "{classes:?}");
        assert_eq!((column.grid(), column.deviation), (None, 0.0));
    }

    #[test]
    fn cells_are_halves_of_columns_that_have_halves() {
        let split = marginals(400, 3, |row, column| match column {
            0 => (row % 20) as f64,
            1 => 1.0,
            _ => (row / 20) as f64,
        });
        assert_eq!(split.cells(), 4, "the constant column splits nothing");
        let question = |first: f64, last: f64| Features {
            width: 3,
            cells: [first, 1.0, last].map(Cell::Number).to_vec(),
            ..Features::default()
        };
        let cell = |first, last| split.cell(&question(first, last), 0, &[0, 1, 2]);
        assert_ne!(cell(1.0, 1.0), cell(1.0, 19.0));
        assert_eq!(cell(1.0, 1.0), cell(2.0, 3.0));
        assert_eq!(cell(f64::NAN, 1.0), None);
        assert!(marginals(400, 40, |row, column| odd(row + 31 * column)).cells() <= CELLS);
    }

    #[test]
    fn expected_cells_are_those_of_as_many_rows_from_the_same_source() {
        // Two columns that lie together: cells are far from equally likely.
        let value = |row: usize, column: usize| odd(row * 7 + if column < 3 { 0 } else { column * 131 });
        let cells_of = |rows: std::ops::Range<usize>| {
            let first = rows.start;
            marginals(rows.len(), 9, move |row, column| value(first + row, column))
        };
        let reference = cells_of(0..600);
        assert_eq!(reference.expected_cells(0), 0.0);
        assert!((reference.expected_cells(600) - reference.cells() as f64).abs() < 1e-6);
        for rows in [100_u32, 300, 600, 1000] {
            let question = |row: usize| Features {
                width: 9,
                cells: (0..9).map(|column| Cell::Number(value(row, column))).collect(),
                ..Features::default()
            };
            let columns: Vec<usize> = (0..9).collect();
            let mut met: Vec<usize> = (0..rows as usize)
                .filter_map(|row| reference.cell(&question(100_000 + row), 0, &columns))
                .collect();
            met.sort_unstable();
            met.dedup();
            let expected = reference.expected_cells(rows);
            let ratio = met.len() as f64 / expected;
            assert!(
                (0.85..1.15).contains(&ratio),
                "{rows} rows lie in {} cells, expected {expected}",
                met.len()
            );
        }
    }

    #[test]
    fn a_column_with_texts_is_left_out_and_gaps_are_not() {
        let number = |row: usize, column: usize| (column == 0 && row.is_multiple_of(2)).then_some(row as f64);
        let found = Marginals::of(400, 2, number, |_, column| column == 0);
        let columns: Vec<usize> = found.columns().iter().map(|marginal| marginal.column).collect();
        assert_eq!(columns, [0]);
    }
}
