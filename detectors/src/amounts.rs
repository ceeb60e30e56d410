//! When fields moved by one and the same amount: what all detectors of equal steps mean by it.

use crate::marginals::{Grid, Marginal};

/// Differences up to this part of a value are rounding.
pub(crate) const ROUNDING: f64 = 1e-5;
/// By how much two equal amounts may differ, in parts of either: values are often cut to a few decimals.
pub(crate) const SAME: f64 = 0.01;
/// Steps of a grid to a standard deviation from which on two changes on the grid are seldom equal.
const FINE_STEPS: f64 = 100.0;

/// Whether the `grid` of a column is so coarse that changes of the same size on it are no wonder.
pub(crate) fn is_coarse(marginal: &Marginal, grid: Grid) -> bool {
    marginal.deviation < FINE_STEPS * grid.step()
}

/// How many of `fields` fields make up a `share`; a little less, for rounding.
pub(crate) fn needed(share: f64, fields: usize) -> usize {
    libm::ceil(share * fields as f64 - 1e-6) as usize
}
