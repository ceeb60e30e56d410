//! Equal amounts: fields of one client's rows move by amounts that come again, up or down.
//!
//! Tools that search or augment move values by a fixed step: Square paints patches lighter or darker by twice its bound,
//! Jacobian augmentation goes one step along the signs of a gradient, and whoever enlarges a training set adds or takes the
//! same part of each column's spread. Each column has its amount, and every row goes there by it or not at all. A row is
//! odd when it differs from the client's own row that lies nearest in four fields or more, and most of these moved by the
//! amount that most others of the row moved by, or that the same field moved by the last time.
//!
//! What honest clients do comes close. Values on a coarse grid move by equal amounts as a matter of course, so these do not
//! count, nor do changes that all go between the same two values, as in images of two tones, and rows are looked at only
//! where values are finer than the reference's steps. A finer sensor has steps of its own, by which noise moves it: changes
//! below the reference's step do not count. An explanation puts usual values, which may be finer, in the place of a case's,
//! or covers a part of an image with grey: there one of two values keeps the step. So changes count between two finer
//! values; from values that keep the step only where fields go both ways, as along a gradient's signs, or where a field
//! moves by what it moved by before, and not between the same two values. What is lit more brightly moves by one amount one
//! way: then a quarter of all fields must have stayed that could have moved. What drifts moves on and on: of fields that
//! move by what they moved by before, some must go on and some go back.
//!
//! Cost: nothing but for clients of whom some detector, such as [`off_grid`](super::off_grid), marked a row before:
//! O(width) for each of their rows, O(width log width) where it is finer than the reference. Without `off_grid` it sees
//! little. Rounded to the reference's steps, such a search is not seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::amounts::{ROUNDING, SAME, is_coarse, needed};
use crate::cumulative::{Evidence, Kept, Shares, Steps};
use crate::finding::Tier;
use crate::lines::Origin;
use crate::marginals::Marginal;
use crate::neighbours::WIDTH_MAX;
use crate::reference::{Reference, Trust};
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "equal_amounts",
    summary: "Fields of a client's rows move by amounts that come again, up or down",
    source: "patches of Andriushchenko et al., Square Attack, ECCV 2020, the augmentation of Papernot et al., AsiaCCS \
             2017, and a cumulative sum (Page, Biometrika 1954)",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::One,
    aspect: Aspect::Steps,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 96 + 8 * WIDTH_MAX,
    schema: super::schema_of::<Amounts>,
    defaults: super::defaults_of::<Amounts>,
    example: r#"{"share": 0.8, "fields": 6}"#,
    check: super::check_of::<Amounts>,
    build: |parameters| {
        super::build_with(parameters, |amounts: Amounts| EqualAmounts {
            steps: Steps::new(amounts.shares()),
            amounts,
        })
    },
};

/// When amounts count as equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Amounts {
    /// Share of a row's changed fields that moved by a known amount, above 0.5 and at most 1.
    pub share: f64,
    /// Fewest changed fields of a row that is judged: 4 to 256.
    #[schemars(range(min = 4, max = 256))]
    pub fields: usize,
    /// Share of an honest client's requests that may be odd, above 0 and below `attack_share`.
    pub honest_share: f64,
    /// Share of an attacker's requests that are, below 1.
    pub attack_share: f64,
    /// How likely an honest client's run of requests is taken for an attack, above 0 and below 0.1.
    pub false_alarms: f64,
}

impl Default for Amounts {
    fn default() -> Self {
        Self { share: 0.6, fields: 4, honest_share: 0.01, attack_share: 0.3, false_alarms: 1e-5 }
    }
}

impl Amounts {
    fn shares(&self) -> Shares {
        Shares { honest: self.honest_share, attack: self.attack_share, false_alarms: self.false_alarms }
    }
}

impl Parameters for Amounts {
    fn check(&self) -> Result<(), ParameterError> {
        if !(self.share > 0.5 && self.share <= 1.0) {
            return Err(ParameterError::at("share", "must lie above 0.5 and be at most 1"));
        }
        if !(4..=WIDTH_MAX).contains(&self.fields) {
            let message = format!("{} is out of range; give 4 to {WIDTH_MAX}", self.fields);
            return Err(ParameterError::at("fields", message));
        }
        self.shares().check()
    }
}

/// Part of the fields that must go the other way, where fields move by what they moved by before.
const TURNED_PART: usize = 8;
/// Part of all fields that must have stayed, where those that moved go one way.
const STAYED_PART: usize = 4;
/// Part of the fields that moved by one amount which must have gone between other values than most of them.
const OTHERS_PART: usize = 4;

struct EqualAmounts {
    steps: Steps,
    amounts: Amounts,
}

/// What is kept of a client that sent a row finer than the reference's steps.
type Slot = Option<Box<Held>>;

/// The sum of its odd requests, and how each numeric column of the reference last moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Held {
    sum: Kept,
    moved: Box<[Move]>,
}

/// How a column moved, in its own unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Move {
    /// By how much, up or down; 0 for not yet.
    by: f32,
    /// The middle between where it was and where it went.
    about: f32,
}

impl QueryDetector for EqualAmounts {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let rows = seen.rows().len();
        if rows == 0 || me.is_none() && !exchange.neighbours.has_marked(exchange.client) {
            return;
        }
        let finer = seen.rows().iter().enumerate().filter(|(_, row)| exchange.is_finer(row.index));
        let finer: Vec<usize> = finer.map(|(position, _)| position).collect();
        let held = me.get_or_insert_default();
        let is_odd = |position: &usize| self.is_odd(exchange, reference, *position, held);
        let odd: Vec<usize> = finer.iter().copied().filter(is_odd).collect();
        odd.iter().for_each(|position| out.mark(*position));
        if 2 * odd.len() > rows {
            let origin = Origin { request: exchange.id, time: exchange.time };
            if let Some(evidence) = self.steps.rise(&mut held.sum, origin, odd.len()) {
                out.push(self.word(reference.trust, evidence));
            }
            return;
        }
        self.steps.fall(&mut held.sum);
        if held.sum.is_none() && finer.is_empty() {
            *me = None;
        }
    }
}

impl EqualAmounts {
    /// Whether the new row at `position` moved by known amounts; what it moved by is remembered.
    fn is_odd(
        &self,
        exchange: &Exchange<'_>,
        reference: &Reference,
        position: usize,
        held: &mut Held,
    ) -> bool {
        let Some((before, row)) = exchange.neighbours.step(position) else { return false };
        let changes = Changes::of(reference, before, row);
        if held.moved.len() != row.len() {
            held.moved = vec![Move::default(); row.len()].into();
        }
        let Amounts { share, fields, .. } = self.amounts;
        let is_odd =
            changes.are_like_each_other(fields, share) || changes.are_like(&held.moved, fields, share);
        for change in &changes.counted {
            held.moved.get_mut(change.column).into_iter().for_each(|known| *known = change.moved());
        }
        is_odd
    }

    fn word(&self, trust: Trust, evidence: &Evidence) -> Finding {
        Finding {
            tier: Tier::One,
            statistic: evidence.sum,
            limit: self.steps.limit,
            trail: evidence.trail,
            fields: Vec::new(),
            did: "moved fields up and down by the same amounts again and again, and by steps that no usual value keeps"
                .to_owned(),
            rests_on: Some(trust),
        }
    }
}

/// How a row differs from the one nearest to it.
struct Changes {
    width: usize,
    /// Changed fields.
    fields: usize,
    /// Those of them that no grid and no noise explains.
    counted: Vec<Change>,
    /// Fields that stayed and lie above the least value of the row, and below the largest.
    could_fall: usize,
    could_rise: usize,
}

/// How one field changed, in its own unit.
#[derive(Clone, Copy, Debug)]
struct Change {
    column: usize,
    before: f64,
    now: f64,
    /// Whether both values are finer than the reference's steps.
    is_fine: bool,
}

impl Change {
    fn by(&self) -> f64 {
        self.now - self.before
    }

    fn size(&self) -> f64 {
        self.by().abs()
    }

    fn moved(&self) -> Move {
        Move { by: self.by() as f32, about: ((self.now + self.before) / 2.0) as f32 }
    }

    /// Whether it goes between the same two values as another.
    fn repeats(&self, other: Move) -> bool {
        f64::from(other.about - self.moved().about).abs() <= SAME * self.size()
    }
}

impl Changes {
    /// Between two scaled rows. O(width).
    fn of(reference: &Reference, before: &[f32], row: &[f32]) -> Self {
        let mut changes =
            Self { width: row.len(), fields: 0, counted: Vec::new(), could_fall: 0, could_rise: 0 };
        let Some(geometry) = reference.geometry() else { return changes };
        let in_units = |row: &[f32]| -> Vec<f64> {
            row.iter().zip(geometry.spreads()).map(|(value, spread)| f64::from(*value) * spread).collect()
        };
        let before = in_units(before);
        let least = before.iter().copied().fold(f64::INFINITY, f64::min);
        let most = before.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut known = reference.marginals().columns().iter().peekable();
        let fields = geometry.scales().zip(before.iter().copied().zip(in_units(row)));
        for (place, ((column, _), (before, now))) in fields.enumerate() {
            let mut change = Change { column: place, before, now, is_fine: false };
            if change.size() <= ROUNDING * before.abs().max(now.abs()) {
                changes.could_fall += usize::from(before > least);
                changes.could_rise += usize::from(before < most);
                continue;
            }
            changes.fields += 1;
            while known.next_if(|marginal| marginal.column < column).is_some() {}
            let marginal = known.peek().filter(|marginal| marginal.column == column);
            let grid = marginal.and_then(|marginal| marginal.grid());
            change.is_fine = grid.is_some_and(|grid| !grid.holds(before) && !grid.holds(now));
            if marginal.is_none_or(|marginal| !explains(marginal, &change)) {
                changes.counted.push(change);
            }
        }
        changes
    }

    /// Whether at least a `share` of those that changed, and `fields`, moved by one amount: of all that changed, some up and
    /// some down; or of those between finer values, both ways or beside enough that stayed. Not all between the same two values.
    fn are_like_each_other(&self, fields: usize, share: f64) -> bool {
        let all = equal(self.counted.iter(), fields.max(needed(share, self.fields)));
        let of_fine = self.counted.iter().filter(|change| change.is_fine);
        let fine = equal(of_fine.clone(), fields.max(needed(share, of_fine.count())));
        let up = |equal: &[&Change]| equal.iter().filter(|change| change.by() > 0.0).count();
        let stayed = if 2 * up(&fine) > fine.len() { self.could_rise } else { self.could_fall };
        turns(up(&all), all.len()) && have_others(&all)
            || (turns(up(&fine), fine.len()) || stayed * STAYED_PART >= self.width) && have_others(&fine)
    }

    /// Whether at least a `share`, and `fields`, of those that go between finer values or between others than the last
    /// time moved by what they are known to have moved by: some of them back and some on, and not all between the same two
    /// values.
    fn are_like(&self, known: &[Move], fields: usize, share: f64) -> bool {
        let known = self.counted.iter().filter_map(|change| Some((change, *known.get(change.column)?)));
        let told: Vec<(&Change, Move)> =
            known.filter(|(change, known)| change.is_fine || !change.repeats(*known)).collect();
        let repeated = self.counted.len() - told.len();
        let is_equal =
            |(change, known): &&(&Change, Move)| are_equal(change.size(), f64::from(known.by.abs()));
        let equal: Vec<&(&Change, Move)> = told.iter().filter(is_equal).collect();
        let on = equal.iter().filter(|(change, known)| (change.by() > 0.0) == (known.by > 0.0)).count();
        let changes: Vec<&Change> = equal.iter().map(|(change, _)| *change).collect();
        equal.len() >= fields.max(needed(share, self.fields - repeated))
            && turns(on, equal.len())
            && have_others(&changes)
    }
}

/// Whether there are changes, and enough of them go between other values than most do: between two values alone, as in
/// images of black and white, all changes are equal.
fn have_others(equal: &[&Change]) -> bool {
    let alike = |one: &&Change| equal.iter().filter(|other| one.repeats(other.moved())).count();
    let most = equal.iter().map(alike).max().unwrap_or(0);
    !equal.is_empty() && (equal.len() - most) * OTHERS_PART >= equal.len()
}

/// The changes by one amount that at least `needed` of `changes` share; none where there is no such amount.
fn equal<'a>(changes: impl Iterator<Item = &'a Change> + Clone, needed: usize) -> Vec<&'a Change> {
    let mut sizes: Vec<f64> = changes.clone().map(Change::size).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let is_equal = |sizes: &&[f64]| {
        sizes.first().zip(sizes.last()).is_some_and(|(least, most)| *most <= least * (1.0 + SAME))
    };
    let least = sizes.windows(needed.max(1)).find(is_equal).and_then(<[f64]>::first);
    least.map_or_else(Vec::new, |least| changes.filter(|change| are_equal(change.size(), *least)).collect())
}

/// Whether some of `all` are of one kind and some of the other.
fn turns(some: usize, all: usize) -> bool {
    some.min(all - some) * TURNED_PART >= all
}

/// Whether two numbers are alike but for rounding.
fn are_equal(one: f64, other: f64) -> bool {
    (one - other).abs() <= SAME * one.abs().max(other.abs())
}

/// Whether a change lies within one step of a grid, or goes between two of its values where it is so coarse that other changes
/// of the same size are no wonder.
fn explains(marginal: &Marginal, change: &Change) -> bool {
    marginal.grid().is_some_and(|grid| {
        let lies_on_it = || !change.is_fine && grid.holds(change.by());
        change.size() <= grid.step() || is_coarse(marginal, grid) && lies_on_it()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 12;

    /// Whole numbers from 0 to 60 in each column.
    fn reference() -> Reference {
        let names: Vec<String> = (0..WIDTH).map(|column| format!("c{column}")).collect();
        let mut text = serde_json::json!({"features": names}).to_string();
        for row in 0..200_usize {
            let x: Vec<usize> =
                (0..WIDTH).map(|column| (row * (2 * column + 3) + row / 7 * column) % 61).collect();
            text.push_str(&format!("\n{}", serde_json::json!({"x": x, "p": [1]})));
        }
        Reference::from_json_lines(&text, Trust::Trusted).unwrap()
    }

    fn scaled(reference: &Reference, row: &[f64]) -> Vec<f32> {
        let spreads = reference.geometry().unwrap().spreads();
        row.iter().zip(spreads).map(|(value, spread)| (value / spread) as f32).collect()
    }

    /// Whether each row is odd, beside the one nearest to it.
    fn odd_of(steps: &[[Vec<f64>; 2]]) -> Vec<bool> {
        let reference = reference();
        let mut moved = vec![Move::default(); WIDTH];
        let is_odd = |[before, row]: &[Vec<f64>; 2]| {
            let changes = Changes::of(&reference, &scaled(&reference, before), &scaled(&reference, row));
            let is_odd = changes.are_like_each_other(4, 0.6) || changes.are_like(&moved, 4, 0.6);
            changes.counted.iter().for_each(|change| moved[change.column] = change.moved());
            is_odd
        };
        steps.iter().map(is_odd).collect()
    }

    /// Whether each row after the first is odd, beside the one before it.
    fn odd(rows: &[Vec<f64>]) -> Vec<bool> {
        let steps: Vec<[Vec<f64>; 2]> =
            rows.windows(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect();
        odd_of(&steps)
    }

    fn case(number: usize) -> Vec<f64> {
        (0..WIDTH).map(|column| ((7 + 11 * column + 5 * number * (column + 1)) % 50 + 5) as f64).collect()
    }

    /// Each column goes up or down by an amount of its own, by the bits of `signs`.
    fn augmented(case: &[f64], signs: u32) -> Vec<f64> {
        let moved = |(column, value): (usize, &f64)| {
            let amount = 1.37 + 0.173 * column as f64;
            if signs >> column & 1 == 1 { value + amount } else { value - amount }
        };
        case.iter().enumerate().map(moved).collect()
    }

    #[test]
    fn patches_and_augmented_rows_are_odd() {
        let mut patched = case(1).iter().map(|value| value + 0.3).collect::<Vec<f64>>();
        let mut rows = vec![patched.clone()];
        for patch in [0..5, 3..8, 6..12] {
            patched[patch].iter_mut().for_each(|value| *value += 2.6);
            rows.push(patched.clone());
        }
        assert_eq!(odd(&rows), [true; 3], "patches of one amount between finer values");
        let signs = [(0x5a3, 0xa5c), (0x1c9, 0xe36), (0x72d, 0x8d6), (0x3b1, 0xc4e)];
        let both = |(number, (one, other)): (usize, (u32, u32))| {
            [augmented(&case(number), one), augmented(&case(number), other)]
        };
        let steps: Vec<[Vec<f64>; 2]> = signs.into_iter().enumerate().map(both).collect();
        assert_eq!(odd_of(&steps)[1..], [true; 3], "amounts known from the case before");
    }

    #[test]
    fn whole_steps_and_noise_of_a_finer_sensor_are_not() {
        let whole: Vec<Vec<f64>> = (0..4)
            .map(|row| {
                case(3)
                    .iter()
                    .enumerate()
                    .map(|(column, value)| value + f64::from((column + row) as u32 % 2))
                    .collect()
            })
            .collect();
        assert_eq!(odd(&whole), [false; 3], "whole steps");
        let noise = |row: usize| {
            let step =
                move |(column, value): (usize, &f64)| value + 0.25 * ((column * 7 + row * 5) % 3) as f64;
            case(4).iter().enumerate().map(step).collect::<Vec<f64>>()
        };
        assert_eq!(odd(&[noise(0), noise(1), noise(2), noise(3)]), [false; 3], "steps of its own");
    }

    #[test]
    fn images_of_two_tones_are_not() {
        let image = |bits: u32| (0..WIDTH).map(|at| if bits >> at & 1 == 1 { 50.37 } else { 3.21 }).collect();
        let images: Vec<Vec<f64>> = [0x5a3, 0x1c9, 0xe36, 0x72d, 0x2b4, 0x9f1].map(image).into();
        assert_eq!(odd(&images), [false; 5], "whatever the tones are");
    }

    #[test]
    fn explanations_and_brightness_are_not() {
        let usual = |signs: u32| -> Vec<f64> {
            let put = |(column, value): (usize, &f64)| if signs >> column & 1 == 1 { 23.37 } else { *value };
            case(5).iter().enumerate().map(put).collect()
        };
        let explained: Vec<Vec<f64>> = [0, 0x5a3, 0x1c9, 0xe36, 0x72d, 0x2b4].map(usual).into();
        assert_eq!(odd(&explained), [false; 5], "usual values in the place of a case's own");
        let covered = |patch: std::ops::Range<usize>| {
            let mut row = vec![0.0; WIDTH];
            row[patch].iter_mut().for_each(|value| *value = 17.5);
            row
        };
        assert_eq!(
            odd(&[covered(0..0), covered(0..5), covered(3..8), covered(6..12)]),
            [false; 3],
            "grey patches"
        );
        let brighter = |by: f64| case(6).iter().map(|value| value + by).collect::<Vec<f64>>();
        assert_eq!(odd(&[brighter(0.0), brighter(1.6), brighter(3.2), brighter(4.8)]), [false; 3], "a lamp");
    }

    proptest::proptest! {
        /// Chance values are never odd, whatever was known before.
        #[test]
        fn rows_by_chance_are_not_odd(
            rows in proptest::collection::vec(proptest::collection::vec(0.0..60.0_f64, WIDTH), 3..6),
        ) {
            proptest::prop_assert!(!odd(&rows).contains(&true), "{rows:?}");
        }
    }
}
