//! Fingerprints of wide rows, such as images: what they have in common where distances say little.
//!
//! A row is cut into windows over neighbouring columns, each value rounded to coarse steps, so that small changes leave
//! most windows as they are. Every window has a keyed hash; the space of hashes is divided into 64 parts, and of each
//! part the smallest hash is kept. The share of parts that two rows agree on estimates the windows they have in common
//! among all that either has (one permutation hashing: Li, Owen and Zhang, NIPS 2012). Windows of one even colour say
//! nothing and are left out.
//!
//! Windows, steps and the number of hashes are Blacklight's (Li et al., USENIX Security 2022). Its 50 smallest hashes
//! of all windows must be sorted and looked up one by one; parts are found in one pass and compared all at once.
//!
//! Where the steps begin differs from column to column and follows from the instance's secret: whoever does not know it
//! cannot aim at the edges.

use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::facts::{Cell, Features};
use crate::hashing::Field;
use crate::neighbours::WIDTH_MAX;
use crate::reference::{Reference, ReferenceRow, ReferenceValue};

/// Columns of a window.
const WINDOW: usize = 20;
/// Steps from the lowest to the highest value of the reference: steps of 50 from 0 to 255.
const STEPS: f64 = 255.0 / 50.0;
/// Parts of the space of hashes; a power of two.
const PARTS: usize = 2 * HALF;
const HALF: usize = 32;
/// Fewest parts with a hash in them: with fewer windows there is nothing to tell rows by.
const FILLED_MIN: u16 = 20;
/// Reference rows that are fingerprinted.
const REFERENCE_ROWS: usize = 500;
/// Fewest fingerprints that say whether rows can be told apart by them.
const REFERENCE_ROWS_MIN: usize = 50;
/// Largest share of the reference's rows that may be like another of them: one in so many.
const ALIKE_MAX: usize = 5;

/// The fingerprint of a row: 16 bits of the smallest hash of each part, 0 where no window falls into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print([[u16; HALF]; 2]);

impl Print {
    /// Whether half of either row's windows are the other's: then a third of all that either has is common to both, and
    /// so many parts agree.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let (mut common, mut filled) = (0_u16, 0_u16);
        for (one, two) in self.0.as_flattened().iter().zip(other.0.as_flattened()) {
            filled += u16::from((one | two) != 0);
            common += u16::from((one == two) & (*one != 0));
        }
        common * 3 >= filled
    }

    fn of(least: &[u64; PARTS]) -> Option<Self> {
        let mut print = Self([[0; HALF]; 2]);
        let mut filled = 0;
        for (part, least) in print.0.as_flattened_mut().iter_mut().zip(least) {
            if *least != u64::MAX {
                *part = (*least as u16).max(1);
                filled += 1;
            }
        }
        (filled >= FILLED_MIN).then_some(print)
    }
}

/// The fingerprints of a reference.
#[derive(Debug, Default)]
pub struct ReferencePrints {
    basis: Option<u64>,
    prints: Vec<Print>,
    tells: bool,
}

impl ReferencePrints {
    /// Takes the rows of the printer's reference where they are not known yet; says whether fingerprints tell rows of
    /// this reference apart: at most a fifth of them are like another. O(500 x width) for another reference.
    pub fn adopt(&mut self, printer: &Printer<'_>) -> bool {
        if self.basis != Some(printer.basis) {
            let rows = printer.reference.rows().iter().take(REFERENCE_ROWS);
            let prints: Vec<Print> = rows.filter_map(|row| printer.reference_row(row)).collect();
            let has_twin = |(place, print): &(usize, &Print)| {
                let mut others = prints.iter().enumerate().filter(|(other, _)| other != place);
                others.any(|(_, other)| print.is_like(other))
            };
            let alike = prints.iter().enumerate().filter(has_twin).count();
            self.tells = prints.len() >= REFERENCE_ROWS_MIN && alike * ALIKE_MAX <= prints.len();
            self.prints = prints;
            self.basis = Some(printer.basis);
        }
        self.tells
    }

    /// Whether a row of the reference is like this one.
    #[must_use]
    pub fn has_like(&self, print: &Print) -> bool {
        self.prints.iter().any(|known| known.is_like(print))
    }
}

/// Makes fingerprints of the rows of one question.
pub struct Printer<'a> {
    reference: &'a Reference,
    basis: u64,
    lowest: f64,
    steps_to_one: f64,
    /// The question's column for each of the reference's.
    places: &'a [usize],
    fields: &'a [Field],
    /// Where the steps begin by which even windows are known.
    offset: f64,
}

impl<'a> Printer<'a> {
    /// Nothing where rows are narrow, where columns are missing, or where the reference's values do not spread.
    #[must_use]
    pub fn of(reference: &'a Reference, columns: &'a Columns) -> Option<Self> {
        let places = columns.of_reference().filter(|places| places.len() > WIDTH_MAX)?;
        let (lowest, highest) = reference.span().filter(|(lowest, highest)| lowest < highest)?;
        let fields = columns.fields_of_reference();
        Some(Self {
            reference,
            basis: reference.geometry()?.basis(),
            lowest,
            steps_to_one: STEPS / (highest - lowest),
            places,
            fields,
            offset: fields.first()?.offset(),
        })
    }

    /// The fingerprint of row `index` of a question; nothing where too few of its windows say anything. O(width).
    #[must_use]
    pub fn question(&self, question: &Features, index: usize) -> Option<Print> {
        let cells = question.row(index);
        self.print(self.places.iter().map(|place| match cells.get(*place) {
            Some(Cell::Number(number)) => *number,
            _ => f64::NAN,
        }))
    }

    fn reference_row(&self, row: &ReferenceRow) -> Option<Print> {
        self.print(row.x.iter().map(|value| match value {
            ReferenceValue::Number(number) => *number,
            ReferenceValue::Missing | ReferenceValue::Text(_) => f64::NAN,
        }))
    }

    fn print(&self, values: impl Iterator<Item = f64>) -> Option<Print> {
        let mut least = [u64::MAX; PARTS];
        let mut window = Window::default();
        for (value, field) in values.zip(self.fields) {
            let steps = (value - self.lowest) * self.steps_to_one;
            // Casting stops at either end of the byte, and makes NaN 0.
            let hash = field.of_code((steps + field.offset()) as u8);
            if let Some(hash) = window.push((steps + self.offset) as u8, hash)
                && let Some(least) = least.get_mut((hash >> (u64::BITS - PARTS.ilog2())) as usize)
            {
                *least = hash.min(*least);
            }
        }
        Print::of(&least)
    }
}

/// The latest columns of a row on its way through.
#[derive(Default)]
struct Window {
    hashes: [u64; WINDOW],
    sum: u64,
    columns: usize,
    code: u8,
    even: usize,
}

impl Window {
    /// Moves on by a column; gives the hash of a window that is full and holds more than one code.
    #[inline]
    fn push(&mut self, code: u8, hash: u64) -> Option<u64> {
        if let Some(oldest) = self.hashes.get_mut(self.columns % WINDOW) {
            self.sum = self.sum.wrapping_add(hash).wrapping_sub(*oldest);
            *oldest = hash;
        }
        self.columns += 1;
        self.even = if code == self.code { self.even + 1 } else { 1 };
        self.code = code;
        (self.columns >= WINDOW && self.even < WINDOW).then_some(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hashing::Hashing;
    use crate::reference::Trust;

    const WIDTH: usize = 600;

    /// A small generator of numbers, the same on every run (Knuth's MMIX constants).
    struct Numbers(u64);

    impl Numbers {
        /// Evenly from 0 to 1.
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn row(&mut self) -> Vec<f64> {
            (0..WIDTH).map(|_| self.next()).collect()
        }
    }

    fn reference(row: impl Fn(&mut Numbers) -> Vec<f64>) -> Reference {
        let features: Vec<String> = (0..WIDTH).map(|column| format!("p{column}")).collect();
        let mut text = serde_json::json!({ "features": features }).to_string();
        let mut numbers = Numbers(5);
        for _ in 0..120 {
            text.push_str(&format!("\n{}", serde_json::json!({"x": row(&mut numbers)})));
        }
        Reference::from_json_lines(&text, Trust::Trusted).unwrap()
    }

    fn question(row: &[f64]) -> Features {
        let cells = row.iter().map(|value| Cell::Number(*value)).collect();
        Features { width: row.len(), cells, ..Features::default() }
    }

    fn columns(reference: &Reference, width: usize) -> Columns {
        let mut columns = Columns::default();
        columns.look_at(&Hashing::new([1, 2]), &question(&vec![0.0; width]), Some(reference));
        columns
    }

    fn print(reference: &Reference, row: &[f64]) -> Option<Print> {
        let columns = columns(reference, row.len());
        Printer::of(reference, &columns).unwrap().question(&question(row), 0)
    }

    /// The row with the values of `columns` moved by half of the span.
    fn changed(row: &[f64], columns: std::ops::Range<usize>) -> Vec<f64> {
        let value = |(column, value): (usize, &f64)| {
            if columns.contains(&column) { (value + 0.5) % 1.0 } else { *value }
        };
        row.iter().enumerate().map(value).collect()
    }

    #[test]
    fn rows_are_alike_while_half_of_their_windows_are_the_same() {
        let reference = reference(Numbers::row);
        let row = Numbers(1).row();
        let first = print(&reference, &row).unwrap();
        for (columns, like) in [(0..100, true), (0..200, true), (0..450, false), (0..WIDTH, false)] {
            let second = print(&reference, &changed(&row, columns.clone())).unwrap();
            assert_eq!(first.is_like(&second), like, "{columns:?} changed");
        }
        assert!(!first.is_like(&print(&reference, &Numbers(2).row()).unwrap()), "another row");
    }

    #[test]
    fn a_small_fingerprint_is_like_its_own_and_not_like_one_that_holds_it() {
        let reference = reference(Numbers::row);
        let full = Numbers(1).row();
        let mut part = vec![0.5; WIDTH];
        part[..120].copy_from_slice(&full[..120]);
        let (small, large) = (print(&reference, &part).unwrap(), print(&reference, &full).unwrap());
        assert!(small.is_like(&small));
        assert!(!small.is_like(&large) && !large.is_like(&small), "a fifth of the larger row is no half");
    }

    #[test]
    fn even_rows_and_gaps_have_no_fingerprint() {
        let reference = reference(Numbers::row);
        assert_eq!(print(&reference, &[0.3; WIDTH]), None);
        assert_eq!(print(&reference, &[f64::NAN; WIDTH]), None);
        assert!(print(&reference, &vec![1e300; WIDTH]).is_none(), "beyond the last step");
    }

    #[test]
    fn steps_begin_where_the_secret_says() {
        let reference = reference(Numbers::row);
        let row = Numbers(1).row();
        let with_key = |key| {
            let mut columns = Columns::default();
            columns.look_at(&Hashing::new(key), &question(&row), Some(&reference));
            Printer::of(&reference, &columns).unwrap().question(&question(&row), 0).unwrap()
        };
        assert!(!with_key([1, 2]).is_like(&with_key([1, 3])));
    }

    #[test]
    fn names_make_no_difference() {
        let reference = reference(Numbers::row);
        let row = Numbers(1).row();
        let mut named = question(&row);
        named.names = (0..WIDTH)
            .map(|column| format!("input[{column}]"))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect();
        let mut columns = Columns::default();
        columns.look_at(&Hashing::new([1, 2]), &named, Some(&reference));
        let print_of_named = Printer::of(&reference, &columns).unwrap().question(&named, 0);
        assert_eq!(print_of_named, print(&reference, &row));
    }

    #[test]
    fn narrow_rows_are_left_to_distances() {
        let reference = reference(|numbers| numbers.row());
        assert!(Printer::of(&reference, &columns(&reference, 100)).is_none(), "other columns");
        let text = r#"{"features":["a","b"]}"#;
        let narrow = Reference::from_json_lines(text, Trust::Trusted).unwrap();
        assert!(Printer::of(&narrow, &columns(&narrow, 2)).is_none());
    }

    #[test]
    fn a_reference_whose_rows_are_alike_tells_nothing() {
        let alike = |numbers: &mut Numbers| {
            let mut row = Numbers(9).row();
            row.truncate(WIDTH - 100);
            row.extend((0..100).map(|_| numbers.next()));
            row
        };
        for (reference, tells) in [(reference(Numbers::row), true), (reference(alike), false)] {
            let columns = columns(&reference, WIDTH);
            let printer = Printer::of(&reference, &columns).unwrap();
            let mut prints = ReferencePrints::default();
            assert_eq!(prints.adopt(&printer), tells);
            let row = printer.reference_row(&reference.rows()[7]).unwrap();
            assert!(prints.has_like(&row));
        }
    }
}
