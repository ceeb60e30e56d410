//! Tensors that are too wide to be counted column by column, such as images and embeddings: sixteen fixed random
//! projections and the length of each row are counted in their place.
//!
//! A projection is the sum of all columns, each with a sign that chance gave it once and for all, over the root of their
//! number. A shift of many columns by a little moves some of sixteen sums by much more than their noise, and one of a
//! single column by a large amount too; which columns it was, projections do not tell (Johnson and Lindenstrauss 1984,
//! with the signs of Achlioptas, Database-friendly random projections, 2003). The signs follow from a constant, so that
//! references agree between instances: what an attacker gains by knowing them is to hide a shift from the sums, which the
//! detectors of query patterns look at in their own way.

use crate::facts::{Cell, Features};
use crate::names::Names;

use super::reference::FEATURES_MAX;

/// Rows with more columns are projected, where no column has a name of its own.
pub const WIDE: usize = FEATURES_MAX;
/// Projections of a row.
pub const PROJECTIONS: usize = 16;
/// What the projections are called, each with its number.
const STEM: &str = "embedding";
/// What the length of a row is called.
const LENGTH: &str = "embedding_norm";
/// Most columns that are added up; of a wider row every second, every third and so on.
const COLUMNS_MAX: usize = 16_384;
/// What all signs follow from.
const SEED: u64 = 0x6368_6563_6b67_6174;

/// The numbers that stand for a row: its projections, then its length.
pub type Projected = [f64; PROJECTIONS + 1];

/// The names of what stands for a row.
#[must_use]
pub fn names() -> Names {
    let mut names = Names::default();
    names.push_numbered(STEM, PROJECTIONS);
    names.push(LENGTH);
    names
}

/// The same rows by their projections, where they are too wide; nothing where they are not, or name their columns.
/// O(rows x columns), of at most 16,384 columns.
#[must_use]
pub fn of(features: &Features) -> Option<Features> {
    if features.width <= WIDE || !features.names.are_of_tensors() {
        return None;
    }
    let mut cells = Vec::with_capacity(features.rows() * (PROJECTIONS + 1));
    for row in 0..features.rows() {
        let numbers = features.row(row).iter().map(|cell| match cell {
            Cell::Number(number) => Some(*number),
            Cell::Missing | Cell::Text(..) => None,
        });
        match project(numbers, features.width) {
            Some(projected) => cells.extend(projected.map(Cell::Number)),
            None => cells.extend([Cell::Missing; PROJECTIONS + 1]),
        }
    }
    Some(Features { names: names(), width: PROJECTIONS + 1, cells, ..Features::default() })
}

/// Projects one row of `width` columns. What is no number adds nothing; nothing comes of a row without any.
#[must_use]
pub fn project(row: impl Iterator<Item = Option<f64>>, width: usize) -> Option<Projected> {
    let (mut sums, mut squares, mut numbers) = ([0.0_f64; PROJECTIONS], 0.0, 0_u32);
    let step = width.div_ceil(COLUMNS_MAX).max(1);
    for (column, value) in (0_u64..).zip(row).step_by(step) {
        let Some(value) = value else { continue };
        let signs = signs(column);
        for (place, sum) in sums.iter_mut().enumerate() {
            let sign = f64::from((signs >> place & 1) as u32 * 2) - 1.0;
            *sum += sign * value;
        }
        squares += value * value;
        numbers += 1;
    }
    let root = f64::from(numbers).sqrt();
    let mut projected = [squares.sqrt(); PROJECTIONS + 1];
    projected.iter_mut().zip(sums).for_each(|(place, sum)| *place = sum / root);
    (numbers > 0).then_some(projected)
}

/// A column's signs, a bit each (the finaliser of Steele, Lea and Flood's SplitMix, 2014).
fn signs(column: u64) -> u64 {
    let mut bits = SEED.wrapping_add(column.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(width: usize, value: impl Fn(usize) -> f64) -> Features {
        let cells = (0..2 * width).map(|cell| Cell::Number(value(cell))).collect();
        Features { width, cells, ..Features::default() }
    }

    #[test]
    fn wide_rows_become_seventeen_numbers_and_others_stay() {
        assert_eq!(of(&tensor(WIDE, |_| 1.0)), None, "as wide as can be counted column by column");
        let wide = tensor(768, |cell| cell as f64);
        let projected = of(&wide).expect("too wide");
        assert_eq!((projected.width, projected.rows()), (17, 2));
        let names: Vec<String> = (0..17).map(|column| projected.name(column)).collect();
        assert_eq!(
            (names[0].as_str(), names[15].as_str(), names[16].as_str()),
            ("embedding[0]", "embedding[15]", LENGTH)
        );
        assert_eq!(of(&projected), None, "once is enough");
        let mut named = wide.clone();
        (0..768).for_each(|column| named.names.push(&column.to_string()));
        assert_eq!(of(&named), None, "columns with names of their own are a table");
        let mut numbered = wide;
        numbered.names.push_numbered("pixels", 768);
        assert_eq!(
            of(&numbered).map(|other| other.cells),
            Some(projected.cells),
            "one name of a tensor is none of its columns"
        );
    }

    #[test]
    fn the_signs_are_the_same_everywhere_and_even() {
        let known = [0, 1, 767].map(|column| signs(column) & 0xffff);
        assert_eq!(known, [54_467, 8874, 18_126], "references that were made before would no longer fit");
        for place in 0..PROJECTIONS {
            let plus = (0..10_000).filter(|column| signs(*column) >> place & 1 == 1).count();
            assert!((4800..=5200).contains(&plus), "projection {place}: {plus} of 10,000");
        }
    }

    #[test]
    fn a_row_without_numbers_is_missing_and_a_very_wide_one_costs_no_more() {
        let empty = Features { width: 300, cells: vec![Cell::Missing; 300], ..Features::default() };
        assert_eq!(of(&empty).map(|of| of.cells), Some(vec![Cell::Missing; 17]));
        let wide = (0..150_000).map(|column| Some(f64::from(column % 3)));
        let length = project(wide, 150_000).map(|projected| projected[PROJECTIONS] * projected[PROJECTIONS]);
        let most = 4.0 * COLUMNS_MAX as f64;
        assert!(length.is_some_and(|squares| squares > 0.0 && squares <= most), "{length:?}");
        let broken = project([Some(f64::NAN), Some(1.0)].into_iter(), 2);
        assert!(
            broken.is_some_and(|all| all.iter().all(|value| value.is_nan())),
            "one NaN is seen in every number"
        );
    }

    #[test]
    fn a_shift_of_every_column_by_a_tenth_of_its_deviation_moves_a_projection() {
        let mut state = 1_u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64 / (1_u64 << 31) as f64 * 3.46 - 1.73
        };
        let mut mean = |shift: f64| {
            let mut sums = [0.0; PROJECTIONS + 1];
            for _ in 0..400 {
                let row: Vec<Option<f64>> = (0..768).map(|_| Some(uniform() + shift)).collect();
                let projected = project(row.into_iter(), 768).unwrap();
                sums.iter_mut().zip(projected).for_each(|(sum, value)| *sum += value / 400.0);
            }
            sums
        };
        let (calm, moved) = (mean(0.0), mean(0.1));
        let most = (0..PROJECTIONS).map(|place| (moved[place] - calm[place]).abs()).fold(0.0, f64::max);
        assert!(most > 0.1, "in deviations of a projection: {most}");
    }
}
