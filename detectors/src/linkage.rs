//! How much the columns of some rows hang together.
//!
//! In what customers send, columns hang together: large tumours have large areas, and neighbouring pixels are alike. The
//! mean square of the correlations between columns shows it, and neither units nor offsets change it: whoever sends
//! inches, cents or inverted images sends columns that hang together as before. Rows that somebody draws by chance,
//! column by column, have columns that do not.

/// Columns that must vary for correlations to mean anything.
const COLUMNS_MIN: usize = 8;
/// Fewest rows whose correlations are compared with the reference's.
pub const ROWS_MIN: usize = 12;
/// Standard deviations of the mean square under chance that the reference must lie away.
const CLEARANCE: f64 = 6.0;
/// Part of the reference's own linkage that independent columns may seem to have.
const INDEPENDENT: f64 = 1.0 / 3.0;

/// The correlations between the columns of some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linkage {
    /// Mean of their squares, 0 to 1.
    mean_square: f64,
    /// Rows that they were taken over, at least 2.
    rows: f64,
    /// Columns that vary.
    columns: f64,
}

impl Linkage {
    /// Measures `rows`, each with as many values as the others. Nothing where fewer than 12 rows or 8 columns that vary
    /// are there. O(rows x columns x the fewer of both).
    #[must_use]
    pub fn of(rows: &[Vec<f64>]) -> Option<Self> {
        let width = rows.first()?.len();
        let columns: Vec<Vec<f64>> = (0..width).filter_map(|column| standardised(rows, column)).collect();
        if rows.len() < ROWS_MIN || columns.len() < COLUMNS_MIN {
            return None;
        }
        let count = columns.len() as f64;
        // The squares of the products of all columns with each other add up to the same as those of all rows, which are
        // fewer. Each column's product with itself is 1.
        let by_rows: Vec<Vec<f64>> = (0..rows.len())
            .map(|row| columns.iter().filter_map(|column| column.get(row).copied()).collect())
            .collect();
        let squares = squares_of_products(if columns.len() < rows.len() { &columns } else { &by_rows });
        let pairs = count * (count - 1.0);
        Some(Self {
            mean_square: (squares - count).max(0.0) / pairs,
            rows: rows.len() as f64,
            columns: count,
        })
    }

    /// What is left of the mean square after what chance alone gives so many rows; not below 0.
    #[must_use]
    pub fn beyond_chance(&self) -> f64 {
        (self.mean_square - 1.0 / (self.rows - 1.0)).max(0.0)
    }

    /// Whether columns vary independently of each other, where those of the reference have a linkage of `usual`. Never
    /// where so few rows could not tell one from the other.
    #[must_use]
    pub fn is_by_chance(&self, usual: f64) -> bool {
        // The mean of p (p - 1) / 2 squares of about 1 / (n - 1), each with a variance of about 2 / (n - 1)^2.
        let spread = 2.0 / ((self.columns * (self.columns - 1.0)).sqrt() * (self.rows - 1.0));
        usual >= CLEARANCE * spread && self.beyond_chance() <= usual * INDEPENDENT
    }
}

/// The sum of the squares of the products of every vector with every vector.
fn squares_of_products(vectors: &[Vec<f64>]) -> f64 {
    let product =
        |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one * other).sum::<f64>();
    let mut squares = 0.0;
    for (at, one) in vectors.iter().enumerate() {
        squares += product(one, one).powi(2);
        squares += vectors.iter().skip(at + 1).map(|other| 2.0 * product(one, other).powi(2)).sum::<f64>();
    }
    squares
}

/// The values of a column less their mean, at length 1; nothing where they do not vary.
fn standardised(rows: &[Vec<f64>], column: usize) -> Option<Vec<f64>> {
    let values = || rows.iter().filter_map(|row| row.get(column).copied());
    let mean = values().sum::<f64>() / rows.len().max(1) as f64;
    let length = values().map(|value| (value - mean) * (value - mean)).sum::<f64>().sqrt();
    let varies = length.is_finite() && length > 1e-9 * mean.abs().max(1e-9);
    varies.then(|| values().map(|value| (value - mean) / length).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number below 1 without a pattern, the same on every run.
    fn odd(number: usize) -> f64 {
        let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn rows(count: usize, value: impl Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
        (0..count).map(|row| (0..20).map(|column| value(row, column)).collect()).collect()
    }

    /// Half of each value is the row's own, half the column's.
    fn linked(row: usize, column: usize) -> f64 {
        odd(row * 7919) + odd(row * 31 + column * 104_729 + 5)
    }

    fn by_chance(row: usize, column: usize) -> f64 {
        odd(row * 31 + column * 104_729 + 11)
    }

    fn usual() -> f64 {
        Linkage::of(&rows(500, linked)).unwrap().beyond_chance()
    }

    #[test]
    fn rows_by_chance_hang_together_by_chance_alone() {
        for count in [12, 16, 32, 64] {
            let drawn = Linkage::of(&rows(count, by_chance)).unwrap();
            assert!(drawn.is_by_chance(usual()), "{count} rows: {drawn:?} beside {}", usual());
        }
    }

    #[test]
    fn other_units_and_offsets_leave_what_hangs_together() {
        let units =
            |row, column: usize| 1e3 * column as f64 - linked(row, column) * [2.54, 100.0, 0.3][column % 3];
        for count in [12, 16, 32, 64] {
            let converted = Linkage::of(&rows(count, units)).unwrap();
            assert!(!converted.is_by_chance(usual()), "{count} rows: {converted:?} beside {}", usual());
        }
    }

    #[test]
    fn nothing_is_said_where_little_could_tell() {
        assert_eq!(Linkage::of(&rows(11, by_chance)), None, "few rows");
        let narrow: Vec<Vec<f64>> =
            (0..50).map(|row| (0..7).map(|column| by_chance(row, column)).collect()).collect();
        assert_eq!(Linkage::of(&narrow), None, "few columns");
        assert_eq!(Linkage::of(&rows(50, |row, _| row as f64 * 0.0)), None, "nothing varies");
        let drawn = Linkage::of(&rows(12, by_chance)).unwrap();
        assert!(!drawn.is_by_chance(0.001), "the reference's own columns hardly hang together");
    }
}
