//! PAIRS: two rows on opposite sides of a third, again and again.
//!
//! Who sees answers alone and wants to know which way they change asks about a row moved by some step, and about the same
//! row moved by the opposite: NES and ZOO estimate slopes so, SimBA tries the other side where one did not help. A new row
//! completes a pair where an earlier row of the client is its mirror image about a base that came before both: the row
//! before about any base, or any row about the client's own row that lies nearest, or about the base of the last pair.
//! Where values stop at the end of their range, one of the two moved and the other did not: half of the fields that moved
//! must be mirrored, and nine in ten of those that moved in both. Walks that go on and on are no pairs: there the row in
//! the middle is not the oldest.
//!
//! Honest clients ask on both sides, too. Charts move a few fields of a case up and down, tests of robustness ask about
//! each image a little brighter and darker. So pairs are counted by case: about one base, or about bases that follow each
//! other at less than three times the step or in a quarter of the fields. A pair counts where the row is finer than the
//! reference's steps and goes another way than the pair before; pairs that differ in one or two fields count one to a
//! field, and only once the base has moved, for a chart has one base. Rows that keep the reference's steps are counted
//! apart: they speak where one and the same amount moved six fields up and down, one at a time, about three bases of one
//! case or more. Charts take a part of each value.
//!
//! Cost: nothing but for clients of whom some detector, such as [`off_grid`](super::off_grid), marked a row before, and for
//! rows on a line; those are compared with the client's first 16 and latest 112 rows, O(128 x width). Without `off_grid`
//! mostly rows that differ from an earlier one in a single field are looked at. It is blind to searches that draw each
//! direction once, that never ask about their base, or that round, and to single fields that stop at the end of their range
//! on one side.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::amounts::SAME;
use crate::family::{FIRST_ROWS, ROUNDING_ERRORS, largest, squared};
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
use crate::neighbours::{ALL, Before, Glance, Neighbours, Range, RowId, Sketch, steps};
use crate::reference::{Reference, Trust};
use crate::seen::{Seen, SeenRow};
use crate::shelf::ClientIndex;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "mirror_pairs",
    summary: "Pairs of rows on opposite sides of an earlier one, again and again",
    source: "antithetic samples of Ilyas et al., Black-box Adversarial Attacks, ICML 2018, and both ways of SimBA \
             (Guo et al., ICML 2019)",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::One,
    aspect: Aspect::Steps,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 1024,
    schema: super::schema_of::<Pairs>,
    defaults: super::defaults_of::<Pairs>,
    example: r#"{"pairs": 6, "fields": 8}"#,
    check: super::check_of::<Pairs>,
    build: |parameters| super::build_with(parameters, |pairs: Pairs| MirrorPairs { pairs }),
};

/// When pairs count as a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pairs {
    /// Pairs about one case, each another way and finer than the reference's steps, at which the detector speaks: 3 to 16.
    /// They must have come in at least two requests.
    #[schemars(range(min = 3, max = 16))]
    pub pairs: usize,
    /// Fields of one case that one and the same amount moved up and down, one at a time and by whole steps of the reference,
    /// at which it speaks: 3 to 16. They must have been moved from three rows or more.
    #[schemars(range(min = 3, max = 16))]
    pub fields: usize,
}

impl Default for Pairs {
    fn default() -> Self {
        Self { pairs: 4, fields: 6 }
    }
}

impl Parameters for Pairs {
    fn check(&self) -> Result<(), ParameterError> {
        for (key, value) in [("pairs", self.pairs), ("fields", self.fields)] {
            if !(3..=FIELDS_MAX).contains(&value) {
                let message = format!("{value} is out of range; give 3 to {FIELDS_MAX}");
                return Err(ParameterError::at(key, message));
            }
        }
        Ok(())
    }
}

/// Most fields that are told apart.
const FIELDS_MAX: usize = 16;
/// Cases of one client that are held, the one longest not asked about is dropped.
const CASES: usize = 4;
/// Latest rows that are looked at: a sample of a slope and its mirror image come up to a hundred rows apart.
const LATEST_ROWS: usize = 112;
/// The rows that are looked at: so many of the first and so many of the latest.
const ROWS: (usize, usize) = (FIRST_ROWS, LATEST_ROWS);
/// Moves smaller than this part of the row's largest, in spreads, are none; and by how much of itself a move and its opposite
/// may differ: values are often cut to a few decimals.
const PART: f32 = 0.02;
/// Fewest moved fields of which some may have stopped at the end of their range.
const STOPPED_MIN: usize = 4;
/// Fewest fields of a pair that counts whatever fields they are.
const JOINTLY: usize = 3;
/// Fewest bases from which fields were moved by one amount, and from which one or two were by finer steps.
const BASES_MIN: u16 = 3;
const FINER_BASES_MIN: u16 = 2;
/// How far from the base before a base of the same case may lie, in parts of what the row moved by, squared; or in what part
/// of the fields it may differ.
const FOLLOWS: f32 = 9.0;
const FOLLOWS_PART: usize = 4;
/// Squared cosine of the angle between two pairs from which on they go one way.
const ONE_WAY: f32 = 0.9;

struct MirrorPairs {
    pairs: Pairs,
}

/// What is kept of a client that sent a pair.
type Slot = Option<Box<Cases>>;

/// The cases about which a client sent pairs, the latest last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cases(Vec<Case>);

impl Cases {
    fn last(&self) -> Option<&Case> {
        self.0.last()
    }

    /// The case that a pair is about, now the last of them: one whose base it follows, or a new one.
    fn about(&mut self, exchange: &Exchange<'_>, pair: &Pair) -> Option<&mut Case> {
        let Self(cases) = self;
        let (neighbours, client) = (exchange.neighbours, exchange.client);
        let case = match cases.iter().rposition(|case| follows(neighbours, client, case, pair)) {
            Some(known) => cases.remove(known),
            None => Case::default(),
        };
        if cases.len() >= CASES {
            cases.remove(0);
        }
        cases.push(case);
        cases.last_mut()
    }
}

/// The pairs about one case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Case {
    /// About which row the last pair lay, and the row that completed it.
    base: RowId,
    row: RowId,
    /// How many bases there were, one after the other.
    bases: u16,
    /// Pairs finer than the reference's steps that moved three fields or more.
    jointly: u16,
    /// Fields of the finer pairs that moved one or two.
    fields: Vec<u16>,
    finer: Trail,
    equal: Equal,
}

/// Fields that one amount moved up and down, one at a time and by whole steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Equal {
    amount: f64,
    fields: Vec<u16>,
    /// Pairs since by another amount.
    others: u16,
    trail: Trail,
}

impl Equal {
    /// Takes a pair; says whether it belongs to the amount that is counted, which another replaces once it is rarer.
    fn take(&mut self, field: u16, amount: f64, origin: Origin) -> bool {
        if (self.amount - amount).abs() > SAME * self.amount {
            self.others = self.others.saturating_add(1);
            if usize::from(self.others) <= self.fields.len() {
                return false;
            }
            *self = Self { amount, ..Self::default() };
        }
        let is_new = add(&mut self.fields, field);
        if is_new {
            self.trail.add(origin);
        }
        is_new
    }
}

/// Adds a field and says whether it was new.
fn add(fields: &mut Vec<u16>, field: u16) -> bool {
    let is_new = fields.len() < FIELDS_MAX && !fields.contains(&field);
    if is_new {
        fields.push(field);
    }
    is_new
}

/// A row and its mirror image about an earlier one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    base: RowId,
    row: RowId,
    /// Fields that moved in both.
    fields: usize,
    /// The first of them, among the reference's numeric columns, and by how many spreads it moved.
    field: u16,
    moved: f32,
}

impl QueryDetector for MirrorPairs {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let was_marked = exchange.neighbours.has_marked(exchange.client);
        let mut spoke = false;
        for (position, row) in seen.rows().iter().enumerate() {
            if !was_marked && seen.line_hits(row).is_empty() {
                continue;
            }
            let last = me.as_ref().and_then(|cases| cases.last()).map(|case| case.base);
            let Some(pair) = pair(exchange, position, last) else { continue };
            let cases = me.get_or_insert_default();
            let case = cases.about(exchange, &pair);
            if !case.is_some_and(|case| case.take(exchange, reference, row, &pair)) {
                continue;
            }
            out.mark(position);
            if let Some(case) = cases.last().filter(|_| !spoke) {
                spoke = self.speak(reference.trust, case, out);
            }
        }
    }
}

/// Whether the base of a pair is that of the case, lies near it beside how far the row moved, or differs in a few fields.
fn follows(neighbours: &Neighbours, client: ClientIndex, case: &Case, pair: &Pair) -> bool {
    let row = |id| neighbours.row(client, id);
    let is_near = |((before, base), row): ((&[f32], &[f32]), &[f32])| {
        let differing = before.iter().zip(base).filter(|(before, base)| before != base).count();
        differing * FOLLOWS_PART <= base.len() || squared(before, base) <= FOLLOWS * squared(base, row)
    };
    case.base == pair.base || row(case.base).zip(row(pair.base)).zip(row(pair.row)).is_some_and(is_near)
}

/// Whether a pair goes the way of the last one of its case, forth or back.
fn goes_one_way(neighbours: &Neighbours, client: ClientIndex, case: &Case, pair: &Pair) -> bool {
    let row = |id| neighbours.row(client, id);
    let (Some(base), Some(one)) = (row(pair.base), row(pair.row)) else { return false };
    let (Some(other_base), Some(other)) = (row(case.base), row(case.row)) else { return false };
    let ways = one.iter().zip(base).zip(other.iter().zip(other_base));
    let product: f32 =
        ways.map(|((one, base), (other, other_base))| (one - base) * (other - other_base)).sum();
    product * product > ONE_WAY * squared(one, base) * squared(other, other_base)
}

impl Case {
    /// Takes a pair that `row` of the question completes; says whether it counts.
    fn take(&mut self, exchange: &Exchange<'_>, reference: &Reference, row: &SeenRow, pair: &Pair) -> bool {
        let origin = Origin { request: exchange.id, time: exchange.time };
        let is_again = self.bases > 0 && goes_one_way(exchange.neighbours, exchange.client, self, pair);
        self.bases = self.bases.saturating_add(u16::from(self.bases == 0 || self.base != pair.base));
        (self.base, self.row) = (pair.base, pair.row);
        if !exchange.is_finer(row.index) {
            return pair.fields == 1 && self.equal.take(pair.field, amount(reference, pair), origin);
        }
        let counts = if pair.fields < JOINTLY { add(&mut self.fields, pair.field) } else { !is_again };
        if counts {
            self.jointly = self.jointly.saturating_add(u16::from(pair.fields >= JOINTLY));
            self.finer.add(origin);
        }
        counts
    }

    /// Pairs finer than the reference's steps: what charts one field after the other does not count.
    fn finer(&self) -> usize {
        let singly = if self.bases >= FINER_BASES_MIN { self.fields.len() } else { 0 };
        usize::from(self.jointly) + singly
    }
}

/// By how much the first field of a pair moved, in its own unit.
fn amount(reference: &Reference, pair: &Pair) -> f64 {
    let spreads = reference.geometry().map(|geometry| geometry.spreads()).unwrap_or_default();
    f64::from(pair.moved.abs()) * spreads.get(usize::from(pair.field)).copied().unwrap_or(1.0)
}

/// The pair that the new row at `position` completes with the row before it, about the client's nearest row, or about `last`.
fn pair(exchange: &Exchange<'_>, position: usize, last: Option<RowId>) -> Option<Pair> {
    let (neighbours, client) = (exchange.neighbours, exchange.client);
    let (_, row) = neighbours.step(position)?;
    let id = neighbours.first_row() + position as RowId;
    let before = neighbours.before(client, id)?;
    let to_one = exchange.reference?.geometry()?.steps() as f32;
    let latest = Latest { row, sketches: before.sketches()?, before, to_one };
    let about = |base: Option<RowId>| latest.about(base?, neighbours.row(client, base?)?);
    let pair = latest.with_the_row_before().or_else(|| about(neighbours.nearest(position)));
    pair.or_else(|| about(last)).map(|pair| Pair { row: id, ..pair })
}

/// A new row, and the rows before it.
struct Latest<'a> {
    row: &'a [f32],
    /// Of the row and of the one before it.
    sketches: [Sketch<'a>; 2],
    before: Before<'a>,
    /// Steps of a sketch to a scaled value of 1.
    to_one: f32,
}

impl Latest<'_> {
    /// The pair that the row makes with the row before it, about some row before both.
    fn with_the_row_before(&self) -> Option<Pair> {
        let Self { row, before, .. } = self;
        let floor = PART / 2.0 * farthest(row, before.values);
        let off = self.off(before.values, floor);
        let glance = Glance::new(self.sketches, unlike_max(row), |[row, other]| off.bases(row, other));
        let mirrored = |base: &[f32]| mirrored(row, base, before.values, floor);
        before.find(ROWS, None, &glance, mirrored).map(|(base, pair)| Pair { base, ..pair })
    }

    /// The pair that the row completes about the row `id` with the values `base`, one of the rows before it.
    fn about(&self, id: RowId, base: &[f32]) -> Option<Pair> {
        let Self { row, before, .. } = self;
        if !before.is_among(ROWS, id) {
            return None;
        }
        let floor = PART * farthest(row, base);
        let off = self.off(base, floor);
        let [of_row, _] = self.sketches;
        let sketches = [of_row, before.sketch(id)?];
        let glance = Glance::new(sketches, unlike_max(row), |[row, base]| off.images(row, base));
        let mirrored = |other: &[f32]| mirrored(row, base, other, floor);
        let found = before.find(ROWS, Some(id), &glance, mirrored).map(|(_, pair)| pair);
        found.or_else(|| mirrored(before.values)).map(|pair| Pair { base: id, ..pair })
    }

    fn off(&self, other: &[f32], floor: f32) -> Off {
        let rounding = ROUNDING_ERRORS * (largest(self.row) + largest(other) + floor);
        Off { still: steps((floor + rounding) * self.to_one + 1.0), rounding: steps(rounding * self.to_one) }
    }
}

/// How far off values may be, in steps of a sketch, bytes being rounded.
#[derive(Clone, Copy, Debug)]
struct Off {
    /// Of a field that did not move, from where it was.
    still: i16,
    /// Of any value, from what it was calculated to be.
    rounding: i16,
}

impl Off {
    /// Where the base lies about which `row` and `other` are mirrored in a field, and where it lies beside one of them that
    /// did not move.
    fn bases(self, row: i16, other: i16) -> [Range; 3] {
        let (both, off) = (row + other, 2 + tolerance(row - other) + 2 * self.rounding);
        [((both - off + 1) >> 1, (both + off) >> 1), self.beside(row), self.beside(other)]
    }

    /// Where a value lies that is mirrored to that of `row` about `base`, and where it did not move. Where the row may not
    /// have moved, any value will do.
    fn images(self, row: i16, base: i16) -> [Range; 2] {
        let (image, off) = (2 * base - row, 2 + tolerance(row - base) + self.rounding);
        let has_moved = (row - base).abs() > self.still;
        [if has_moved { (image - off, image + off) } else { ALL }, self.beside(base)]
    }

    fn beside(self, value: i16) -> Range {
        (value - self.still, value + self.still)
    }
}

/// By how much two values on either side of a base may differ where they lie so many steps apart: a little more than
/// [`PART`], and rounded up.
fn tolerance(apart: i16) -> i16 {
    (apart.abs() + 1) * 6 / 256 + 1
}

/// By how many spreads two rows differ in the field in which they differ most.
fn farthest(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

/// How many of the fields that moved in both rows of a pair may not be mirrored.
fn unlike_max(row: &[f32]) -> usize {
    row.len() / 10
}

/// Whether `row` and `other` lie on opposite sides of `base`, in fields that moved by more than `floor`.
fn mirrored(row: &[f32], base: &[f32], other: &[f32], floor: f32) -> Option<Pair> {
    let (mut most, mut theirs, mut both, mut opposite, mut first) = (0, 0, 0, 0, None);
    let unlike = unlike_max(row);
    for (field, ((row, base), other)) in (0_u16..).zip(row.iter().zip(base).zip(other)) {
        let (mine, other) = (row - base, other - base);
        let rounding = 4.0 * f32::EPSILON * base.abs();
        let moved = |by: f32| by.abs() > floor + rounding;
        most += usize::from(moved(mine));
        theirs += usize::from(moved(other));
        if moved(mine) && moved(other) {
            both += 1;
            opposite += usize::from((mine + other).abs() <= PART * mine.abs() + rounding);
            // Nearly all rows are told apart by their first fields.
            if both - opposite > unlike {
                return None;
            }
            first = first.or(Some((field, mine)));
        }
    }
    let (field, moved) = first?;
    let most = most.max(theirs);
    let whole = if most < STOPPED_MIN { both == most } else { 2 * both >= most };
    (whole && 10 * opposite >= 9 * both).then_some(Pair { base: 0, row: 0, fields: both, field, moved })
}

impl MirrorPairs {
    /// Speaks of a case about which there were pairs enough; says whether it did.
    fn speak(&self, trust: Trust, case: &Case, out: &mut Findings) -> bool {
        let equal = case.equal.fields.len();
        if case.finer() >= self.pairs.pairs && case.finer.requests > 1 {
            let did = "asked on both sides of one row again and again, each time another way and by steps finer than the \
                       reference's, as a search does that wants to know which way answers change";
            out.push(word(trust, (case.finer(), self.pairs.pairs), case.finer, did.to_owned()));
        } else if equal >= self.pairs.fields && case.bases >= BASES_MIN && case.equal.trail.requests > 1 {
            let did = format!(
                "moved {equal} fields up and down by one and the same amount, one at a time and from one row after the \
                 other, as a search does that keeps what helped"
            );
            out.push(word(trust, (equal, self.pairs.fields), case.equal.trail, did));
        } else {
            return false;
        }
        true
    }
}

fn word(trust: Trust, (measured, limit): (usize, usize), trail: Trail, did: String) -> Finding {
    Finding {
        tier: Tier::One,
        statistic: measured as f64,
        limit: limit as f64,
        trail,
        fields: Vec::new(),
        did,
        rests_on: Some(trust),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// A row and its mirror image, whatever moved; and never a row beyond the image.
        #[test]
        fn a_mirror_image_is_found_and_a_step_further_is_not(
            moves in proptest::collection::vec((-5.0..5.0_f32, 0.1..2.0_f32, proptest::bool::ANY), 1..80),
        ) {
            let base: Vec<f32> = moves.iter().map(|(value, _, _)| *value).collect();
            let at = |times: f32| -> Vec<f32> {
                let step = |(value, by, down): &(f32, f32, bool)| value + times * if *down { -by } else { *by };
                moves.iter().map(step).collect()
            };
            let floor = 0.001;
            let pair = mirrored(&at(1.0), &base, &at(-1.0), floor);
            proptest::prop_assert_eq!(pair.map(|pair| pair.fields), Some(moves.len()));
            proptest::prop_assert_eq!(mirrored(&at(1.0), &base, &at(-1.1), floor), None);
            proptest::prop_assert_eq!(mirrored(&at(1.0), &base, &at(2.0), floor), None);
        }

        /// What a glance rules out is no pair.
        #[test]
        fn no_pair_is_overlooked_at_a_glance(
            fields in proptest::collection::vec((-4.0..4.0_f32, 0.0..2.0_f32, 0.98..1.02_f32, 0..6_u8), 1..60),
            floor in 0.0..0.05_f32, to_one in 0.1..100.0_f32,
        ) {
            let base: Vec<f32> = fields.iter().map(|(value, ..)| *value).collect();
            let row: Vec<f32> = fields.iter().map(|(value, by, ..)| value + by).collect();
            let other = fields.iter().map(|(value, by, times, kind)| match kind {
                0 => *value,
                1 => value - by * times,
                _ => value - by,
            });
            let other: Vec<f32> = other.collect();
            let sketch = |row: &[f32]| {
                let mut bytes: Vec<u8> = row.iter().map(|value| (value * to_one + 128.0).round() as u8).collect();
                bytes.resize(64, 0);
                bytes.as_chunks::<16>().0.to_vec()
            };
            let sketches = [&row, &base, &other].map(|row| sketch(row));
            let [of_row, of_base, of_other] = sketches.each_ref().map(|sketch| sketch.as_slice());
            let rounding = ROUNDING_ERRORS * (largest(&row) + largest(&other) + floor);
            let off = Off { still: steps((floor + rounding) * to_one + 1.0), rounding: steps(rounding * to_one) };
            let bases = Glance::new([of_row, of_other], unlike_max(&row), |[row, other]| off.bases(row, other));
            let images = Glance::new([of_row, of_base], unlike_max(&row), |[row, base]| off.images(row, base));
            if mirrored(&row, &base, &other, floor).is_some() {
                proptest::prop_assert!(bases.may_be(of_base) && images.may_be(of_other));
            }
        }
    }

    #[test]
    fn fields_that_stopped_at_the_end_of_their_range_are_forgiven_up_to_a_half() {
        let base = [0.0_f32; 6];
        let up = [1.0, -1.0, 1.0, 0.5, 0.5, 0.5];
        assert!(
            mirrored(&up, &base, &[-1.0, 1.0, -1.0, 0.0, 0.0, 0.0], 0.01).is_some(),
            "three of six stopped"
        );
        assert!(mirrored(&up, &base, &[-1.0, 1.0, 0.0, 0.0, 0.0, 0.0], 0.01).is_none(), "four of six");
        assert!(mirrored(&up[..2], &base[..2], &[-1.0, 0.0], 0.01).is_none(), "of two fields both must be");
        assert!(
            mirrored(&up, &base, &[-1.0, 1.0, 1.0, 0.0, 0.0, 0.0], 0.01).is_none(),
            "one went the same way"
        );
    }

    #[test]
    fn the_amount_that_is_counted_is_the_commonest_and_fields_count_once() {
        let mut equal = Equal::default();
        let origin = Origin::default();
        assert!(equal.take(0, 0.5, origin), "the first");
        assert!(!equal.take(0, 0.5, origin), "the same field again");
        assert!(equal.take(1, 0.5, origin), "another one");
        assert!(!equal.take(2, 0.7, origin), "another amount");
        assert!(equal.take(3, 0.502, origin), "but for rounding");
        assert_eq!(equal.fields.len(), 3);
        let replaced = (4..8).filter(|field| equal.take(*field, 0.9, origin)).count();
        assert_eq!((replaced, equal.amount), (2, 0.9), "once it is commoner, the other amount is counted");
    }
}
