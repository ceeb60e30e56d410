//! What a client is after, by the shape of its rows: a search for an evasion, a copy of the model, a row of a class, or
//! whether cases were trained on.
//!
//! A detector tells by which technique a client gave itself away; several purposes share one. Walking along a border is
//! part of an evasion, of an extraction by adaptive sampling, and of measuring how far a known case lies from the border.
//! What they are about differs: one case, all of the input space, no case at all, or many known cases. So rows are
//! joined into groups, and what the groups hold names the family. Where two fit, both are named, the likelier first.
//!
//! A row belongs to the group of an earlier one where it lies as close as half of the reference's rows lie to their
//! nearest, differs from it in one column alone, or lies in the middle between it and another, as a bisection does.

use crate::geometry::Geometry;
use crate::neighbours::{Glance, Sketch, steps};

/// Rows of a client that are looked at: its first ones, which show where it began, and its latest.
pub(crate) const FIRST_ROWS: usize = 16;
pub(crate) const LATEST_ROWS: usize = 48;
/// How far from the middle between two rows a row may lie, in parts of their distance.
const MIDDLE: f32 = 0.02;
/// What a limit is multiplied by that must not be missed by rounding.
const ROUNDING: f32 = 1.01;
/// By how much of itself a sum of a few numbers may be off, at most.
pub(crate) const ROUNDING_ERRORS: f32 = 16.0 * f32::EPSILON;
/// Fewest rows of a group that somebody worked on.
const WORKED_ROWS: usize = 5;
/// Fewest groups of known cases that mean a choice of cases rather than one case.
const MANY: usize = 4;
/// Fewest rows that are many.
const ROWS_MANY: usize = 12;

/// What a client may be after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A row near a case of its own that the model answers otherwise.
    Evasion,
    /// A copy of the model.
    Extraction,
    /// A row that stands for a class.
    Inversion,
    /// Whether cases that it holds were trained on.
    Membership,
}

impl Family {
    /// The technique of MITRE ATLAS.
    #[must_use]
    pub fn atlas(self) -> &'static str {
        match self {
            Self::Evasion => "AML.T0043.001",
            Self::Extraction => "AML.T0024.002",
            Self::Inversion => "AML.T0024.001",
            Self::Membership => "AML.T0024.000",
        }
    }

    /// The entry of the OWASP Machine Learning Security Top 10 (2023).
    #[must_use]
    pub fn owasp(self) -> &'static str {
        match self {
            Self::Evasion => "ML01:2023",
            Self::Extraction => "ML05:2023",
            Self::Inversion => "ML03:2023",
            Self::Membership => "ML04:2023",
        }
    }

    /// Its name in a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evasion => "evasion",
            Self::Extraction => "extraction",
            Self::Inversion => "inversion",
            Self::Membership => "membership inference",
        }
    }

    /// Whether an ATLAS technique says no more than how rows gave themselves away, so that their shape may name another.
    #[must_use]
    pub fn is_open(atlas: &str) -> bool {
        [Self::Evasion, Self::Extraction].iter().any(|family| family.atlas() == atlas)
    }
}

/// What a model answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Classes, or a score from 0 to 1: there is a border to cross.
    Classes,
    /// Numbers such as prices: there is none.
    Numbers,
}

/// How a client gave itself away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By fields that it moved one at a time.
    Fields,
    /// In any other way.
    Other,
}

/// The family that fits, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The likelier one.
    pub family: Family,
    /// Another one that fits.
    pub or: Option<Family>,
    /// Why, as the end of a sentence that begins with "because".
    because: &'static str,
}

impl Named {
    /// The sentence of a finding, with a space in front.
    #[must_use]
    pub fn sentence(&self) -> String {
        let or = self.or.map(|or| format!(", less likely {}", or.as_str())).unwrap_or_default();
        format!(" Named {}{or}: {}.", self.family.as_str(), self.because)
    }
}

/// The shape of a client's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Rows looked at.
    pub rows: usize,
    /// Rows of the largest group.
    pub largest: usize,
    /// Groups with a row that lies where the reference does: cases of its own.
    pub cases: usize,
    /// Those of them that have five rows or more.
    pub worked: usize,
    /// Whether the first row lies where the reference does.
    pub begins_at_case: bool,
}

impl Shape {
    /// The shape of `rows`, a client's scaled rows in order. O(rows^3), at most 64 of them.
    #[must_use]
    pub fn of(rows: &[&[f32]], geometry: &Geometry) -> Self {
        let rows = chosen(rows);
        let mut groups = Groups::new(rows.len());
        for (at, row) in rows.iter().enumerate() {
            join(&mut groups, &rows, at, row, geometry.usual_nearest());
        }
        let known: Vec<bool> = rows.iter().map(|row| geometry.knows(row)).collect();
        let begins_at_case = known.first() == Some(&true);
        let mut shape = Self { rows: rows.len(), begins_at_case, ..Self::default() };
        for group in groups.members() {
            shape.largest = shape.largest.max(group.len());
            if group.iter().any(|row| known.get(*row) == Some(&true)) {
                shape.cases += 1;
                shape.worked += usize::from(group.len() >= WORKED_ROWS);
            }
        }
        shape
    }

    /// The family that fits; nothing where there are no rows.
    #[must_use]
    pub fn name(&self, answers: Answers, way: Way) -> Option<Named> {
        let named = |family, or, because| Some(Named { family, or, because });
        let is_search = 2 * self.largest >= self.rows;
        if self.rows == 0 {
            return None;
        }
        if answers == Answers::Numbers {
            let or = is_search.then_some(Family::Evasion);
            return named(
                Family::Extraction,
                or,
                "the model answers with a number, so there is no class to escape from",
            );
        }
        if self.cases == 0 && 5 * self.largest >= 3 * self.rows {
            return named(
                Family::Inversion,
                Some(Family::Evasion),
                "it searches around one row, and began at none that the reference knows",
            );
        }
        if self.cases == 1 && self.begins_at_case {
            let or = (!is_search).then_some(Family::Extraction);
            return named(
                Family::Evasion,
                or,
                "it began at one case that the reference knows, and knows no other",
            );
        }
        if self.cases == 0
            || (self.rows >= ROWS_MANY && 4 * self.largest < self.rows && self.cases * 4 < self.rows)
        {
            let or = (self.cases > 0).then_some(Family::Evasion);
            return named(
                Family::Extraction,
                or,
                "its rows lie far from the reference, and apart from each other",
            );
        }
        if self.cases >= MANY && self.cases * 8 > self.rows {
            return named(Family::Extraction, None, "its rows lie around many cases, a few each");
        }
        if self.worked > 2 && way == Way::Other {
            return named(
                Family::Membership,
                Some(Family::Evasion),
                "it searches around several known cases, one after the other",
            );
        }
        let or = match (self.worked, way) {
            (2, Way::Other) => Some(Family::Membership),
            _ => (!is_search).then_some(Family::Extraction),
        };
        named(Family::Evasion, or, "it searches around one case that the reference knows, or a few")
    }
}

/// The first rows and the latest.
fn chosen<'a>(rows: &[&'a [f32]]) -> Vec<&'a [f32]> {
    let first = rows.iter().take(FIRST_ROWS);
    let latest = rows.iter().skip(FIRST_ROWS.max(rows.len().saturating_sub(LATEST_ROWS)));
    first.chain(latest).copied().collect()
}

/// Joins the row at `at` with earlier ones.
fn join(groups: &mut Groups, rows: &[&[f32]], at: usize, row: &[f32], near: f32) {
    let before = || rows.iter().take(at).enumerate();
    for (earlier, other) in before() {
        if squared(row, other) <= near || differing(row, other) <= 1 {
            groups.join(at, earlier);
        }
    }
    for (one, left) in before() {
        let mirror = Mirror::new(row, left);
        let middle = before().skip(one + 1).find(|(_, right)| mirror.is_middle(right));
        if let Some((other, _)) = middle {
            groups.join(at, one);
            groups.join(at, other);
            return;
        }
    }
}

/// The squared distance between two scaled rows.
pub(crate) fn squared(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| (left - right) * (left - right)).sum()
}

fn differing(left: &[f32], right: &[f32]) -> usize {
    left.iter().zip(right).filter(|(left, right)| left != right).take(2).count()
}

/// Whether `row` lies in the middle between `left` and `right`.
fn is_middle(row: &[f32], left: &[f32], right: &[f32]) -> bool {
    let within = MIDDLE * MIDDLE * squared(left, right);
    let mut sum = 0.0;
    within > 0.0
        && row.iter().zip(left.iter().zip(right)).all(|(row, (left, right))| {
            let off = row - (left + right) / 2.0;
            sum += off * off;
            sum <= within
        })
}

/// A row and the one that came before it, from which a third may lie on the other side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mirror<'a> {
    row: &'a [f32],
    left: &'a [f32],
    /// The first two columns of the left row's mirror image.
    first: [f32; 2],
    /// How far from the left row's mirror image the other end may lie at most, squared.
    within: f32,
}

impl<'a> Mirror<'a> {
    pub(crate) fn new(row: &'a [f32], left: &'a [f32]) -> Self {
        // An end lies twice as far from the image as the row lies from the middle, which is at most a part of the whole
        // way; and the whole way is at most twice the half that is known and twice what the row lies off.
        let part = 4.0 * MIDDLE / (1.0 - 2.0 * MIDDLE);
        let image =
            |column: usize| row.get(column).zip(left.get(column)).map_or(0.0, |(row, left)| 2.0 * row - left);
        let first = [image(0), image(1)];
        Self { row, left, first, within: part * part * squared(row, left) * ROUNDING }
    }

    /// What rules rows out that are no such end, by the sketches of the row and of the one before it. `to_one` is how many
    /// steps a scaled value of 1 is.
    pub(crate) fn glance(&self, [row, left]: [Sketch<'_>; 2], to_one: f32) -> Glance<1> {
        let rounding = ROUNDING_ERRORS * (largest(self.row) + largest(self.left));
        // The image is off by half a step for the left row and by a whole one for the row itself, an end by half of one.
        let reach = steps((ROUNDING * self.within.sqrt() + rounding) * to_one + 2.0);
        Glance::new([row, left], 0, |[row, left]| [(2 * row - left - reach, 2 * row - left + reach)])
    }

    /// The same as [`is_middle`]. Nearly all rows are told apart by the first two of their columns.
    #[inline(always)]
    pub(crate) fn is_middle(&self, right: &[f32]) -> bool {
        let ([first, second], off) = (self.first, |image: f32, end: f32| (image - end) * (image - end));
        let is_near = match right {
            [one, two, ..] => off(first, *one) + off(second, *two) <= self.within,
            [one] => off(first, *one) <= self.within,
            [] => false,
        };
        is_near && self.is_middle_of_all(right)
    }

    #[inline(never)]
    fn is_middle_of_all(&self, right: &[f32]) -> bool {
        let mut sum = 0.0;
        let near = self.row.iter().zip(self.left.iter().zip(right)).all(|(row, (left, right))| {
            let off = 2.0 * row - left - right;
            sum += off * off;
            sum <= self.within
        });
        near && is_middle(self.row, self.left, right)
    }
}

/// The largest value of a row, signs aside.
pub(crate) fn largest(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// Which rows belong together.
struct Groups(Vec<usize>);

impl Groups {
    fn new(rows: usize) -> Self {
        Self((0..rows).collect())
    }

    fn join(&mut self, one: usize, other: usize) {
        let (Some(&one), Some(&other)) = (self.0.get(one), self.0.get(other)) else { return };
        self.0.iter_mut().filter(|group| **group == other).for_each(|group| *group = one);
    }

    fn members(&self) -> Vec<Vec<usize>> {
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); self.0.len()];
        for (row, group) in self.0.iter().enumerate() {
            members.get_mut(*group).into_iter().for_each(|members| members.push(row));
        }
        members.retain(|members| !members.is_empty());
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Rows on the way between two, at the middle, near it and elsewhere.
        #[test]
        fn the_mirror_tells_the_same_rows_as_the_middle(
            ends in proptest::collection::vec((-5.0..5.0_f32, -5.0..5.0_f32), 1..40), at in 0.45..0.55_f32,
            off in proptest::collection::vec(-0.3..0.3_f32, 40),
        ) {
            let (left, right): (Vec<f32>, Vec<f32>) = ends.into_iter().unzip();
            for at in [at, 0.5, 0.48, 0.52, 0.0, 1.0] {
                let between = left.iter().zip(&right).map(|(left, right)| left + at * (right - left));
                let between: Vec<f32> = between.collect();
                let beside: Vec<f32> = between.iter().zip(&off).map(|(value, off)| value + off).collect();
                for row in [&between, &beside] {
                    let mirror = Mirror::new(row, &left);
                    proptest::prop_assert_eq!(mirror.is_middle(&right), is_middle(row, &left, &right));
                    let sketches = [row, &left, &right].map(|row| {
                        let mut bytes: Vec<u8> = row.iter().map(|value| (value * 9.0 + 128.0).round() as u8).collect();
                        bytes.resize(48, 0);
                        bytes.as_chunks::<16>().0.to_vec()
                    });
                    let [of_row, of_left, of_right] = &sketches;
                    let glance = mirror.glance([of_row, of_left], 9.0);
                    proptest::prop_assert!(!mirror.is_middle(&right) || glance.may_be(of_right));
                }
            }
        }
    }

    /// Four columns; reference rows stand on a lattice of steps of 1 from 0 to 3.
    fn geometry() -> Geometry {
        Geometry::of(256, 4, |row, column| Some((row >> (2 * column) & 3) as f64)).unwrap()
    }

    fn named(rows: &[[f64; 4]], answers: Answers, way: Way) -> Named {
        let geometry = geometry();
        let spreads: Vec<f64> = geometry.scales().map(|(_, spread)| spread).collect();
        let scaled = |row: &[f64; 4]| -> Vec<f32> {
            row.iter().zip(&spreads).map(|(value, spread)| (value / spread) as f32).collect()
        };
        let scaled: Vec<Vec<f32>> = rows.iter().map(scaled).collect();
        let rows: Vec<&[f32]> = scaled.iter().map(Vec::as_slice).collect();
        Shape::of(&rows, &geometry).name(answers, way).unwrap()
    }

    /// A case and small changes of it.
    fn around(case: [f64; 4], rows: usize) -> Vec<[f64; 4]> {
        (0..rows).map(|row| case.map(|value| value + 0.01 * row as f64)).collect()
    }

    /// Rows far apart from each other and from everything.
    fn apart(rows: usize) -> Vec<[f64; 4]> {
        (0..rows)
            .map(|row| [50.0 + 17.0 * row as f64, -90.0 - 31.0 * (row * row) as f64, 40.0, 7.0 * row as f64])
            .collect()
    }

    #[test]
    fn a_search_around_one_known_case_is_an_evasion() {
        let found = named(&around([1.0, 2.0, 0.0, 3.0], 20), Answers::Classes, Way::Other);
        assert_eq!((found.family, found.or), (Family::Evasion, None), "{found:?}");
    }

    #[test]
    fn halving_the_way_between_a_known_case_and_a_far_row_is_an_evasion() {
        let (case, far) = ([1.0, 1.0, 1.0, 1.0], [90.0, -70.0, 400.0, 33.0]);
        let mut rows = vec![case, far];
        let mut end = far;
        for _ in 0..8 {
            for (end, case) in end.iter_mut().zip(case) {
                *end = (*end + case) / 2.0;
            }
            rows.push(end);
        }
        let found = named(&rows, Answers::Classes, Way::Other);
        assert_eq!((found.family, found.or), (Family::Evasion, None), "{found:?}");
    }

    #[test]
    fn a_search_that_begins_at_no_known_case_is_an_inversion_and_perhaps_an_evasion() {
        let found = named(&around([50.0, 50.0, 50.0, 50.0], 9), Answers::Classes, Way::Fields);
        assert_eq!((found.family, found.or), (Family::Inversion, Some(Family::Evasion)), "{found:?}");
        assert!(
            found.sentence().starts_with(" Named inversion, less likely evasion: it searches"),
            "{found:?}"
        );
    }

    #[test]
    fn far_rows_after_one_known_case_are_an_evasion_or_perhaps_an_extraction() {
        let rows: Vec<[f64; 4]> = std::iter::once([1.0, 1.0, 1.0, 1.0]).chain(apart(20)).collect();
        let found = named(&rows, Answers::Classes, Way::Other);
        assert_eq!((found.family, found.or), (Family::Evasion, Some(Family::Extraction)), "{found:?}");
    }

    #[test]
    fn rows_far_apart_are_an_extraction() {
        let found = named(&apart(20), Answers::Classes, Way::Other);
        assert_eq!((found.family, found.or), (Family::Extraction, None), "{found:?}");
    }

    #[test]
    fn changes_of_many_known_cases_are_an_extraction() {
        let cases =
            (0..16).map(|case| [0, 1, 2, 3].map(|column| f64::from((case * 5 + column) >> (column / 2) & 3)));
        let rows: Vec<[f64; 4]> = cases.flat_map(|case| around(case, 2)).collect();
        let found = named(&rows, Answers::Classes, Way::Other);
        assert_eq!(found.family, Family::Extraction, "{found:?}");
    }

    #[test]
    fn several_known_cases_worked_on_in_turn_are_membership_and_perhaps_an_evasion() {
        let cases = [[0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 0.0, 3.0], [0.0, 3.0, 3.0, 0.0]];
        let rows: Vec<[f64; 4]> = cases.into_iter().flat_map(|case| around(case, 10)).collect();
        let found = named(&rows, Answers::Classes, Way::Other);
        assert_eq!((found.family, found.or), (Family::Membership, Some(Family::Evasion)), "{found:?}");
        let starred = named(&rows, Answers::Classes, Way::Fields);
        assert_eq!(starred.family, Family::Evasion, "fields moved one at a time measure no distance");
    }

    #[test]
    fn where_answers_are_numbers_there_is_nothing_to_escape_from() {
        let found = named(&around([1.0, 2.0, 0.0, 3.0], 20), Answers::Numbers, Way::Fields);
        assert_eq!((found.family, found.or), (Family::Extraction, Some(Family::Evasion)), "{found:?}");
    }

    #[test]
    fn the_first_rows_are_kept_however_many_follow() {
        let rows: Vec<Vec<f32>> = (0..1000).map(|row| vec![row as f32]).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let chosen = chosen(&rows);
        assert_eq!((chosen.len(), chosen[0][0], chosen[15][0], chosen[16][0]), (64, 0.0, 15.0, 952.0));
    }
}
