//! Signed steps: many fields of a row moved by one and the same amount, up or down.
//!
//! Extraction with Jacobian-based augmentation (JbDA) asks about a known row moved by a fixed step along the sign of a
//! substitute model's gradient, and attacks by the sign of a gradient do the same. A row is marked when it differs
//! from the client's own row that lies nearest in at least four fields, and most of these changes have the same size.
//! Where a column's grid is coarse, equal changes are common, so that changes on the grid count as different there.
//!
//! Cost: a comparison for each value of a new row, and sorting the changes that no grid explains.
//!
//! It is blind to steps that are as long as the spread of each column, since nobody knows the attacker's spreads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::amounts::{ROUNDING, SAME, is_coarse, needed};
use crate::finding::Tier;
use crate::geometry::Geometry;
use crate::lines::{Origin, Trail};
use crate::marginals::{Marginal, Marginals};
use crate::reference::Trust;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "sign_step",
    summary: "Most changed fields of a client's rows moved by the same amount",
    source: "the augmentation of Papernot et al., Practical Black-Box Attacks, AsiaCCS 2017",
    atlas: "AML.T0024.002",
    owasp: "ML05:2023",
    tier: Tier::Two,
    aspect: Aspect::Steps,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 64,
    schema: super::schema_of::<Signs>,
    defaults: super::defaults_of::<Signs>,
    example: r#"{"share": 0.8, "rows": 12}"#,
    check: super::check_of::<Signs>,
    build: |parameters| super::build_with(parameters, |signs: Signs| SignStep { signs }),
};

/// When steps count as signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Signs {
    /// Share of a row's changed fields that moved by the same amount, above 0.5 and at most 1.
    pub share: f64,
    /// Fewest changed fields of a row that is judged: 4 to 256.
    #[schemars(range(min = 4, max = 256))]
    pub fields: usize,
    /// Such rows at which the detector speaks: 3 to 1000.
    #[schemars(range(min = 3, max = 1000))]
    pub rows: u32,
}

impl Default for Signs {
    fn default() -> Self {
        Self { share: 0.6, fields: 4, rows: 8 }
    }
}

impl Parameters for Signs {
    fn check(&self) -> Result<(), ParameterError> {
        if !(self.share > 0.5 && self.share <= 1.0) {
            return Err(ParameterError::at("share", "must lie above 0.5 and be at most 1"));
        }
        if !(4..=256).contains(&self.fields) {
            return Err(ParameterError::at(
                "fields",
                format!("{} is out of range; give 4 to 256", self.fields),
            ));
        }
        if !(3..=1000).contains(&self.rows) {
            return Err(ParameterError::at("rows", format!("{} is out of range; give 3 to 1000", self.rows)));
        }
        Ok(())
    }
}

struct SignStep {
    signs: Signs,
}

/// The marked rows of a client that has any.
type Slot = Option<Box<Trail>>;

impl QueryDetector for SignStep {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let Some(geometry) = reference.geometry() else { return };
        let mut spoke = false;
        let mut changes = Changes::default();
        for position in 0..seen.rows().len() {
            let Some((before, row)) = exchange.neighbours.step(position) else { continue };
            if !may_be_alike(geometry.spreads(), before, row, self.signs.share) {
                continue;
            }
            changes.take(geometry, reference.marginals(), before, row);
            if changes.fields >= self.signs.fields && changes.reach(self.signs.share) {
                out.mark(position);
                me.get_or_insert_default().add(Origin { request: exchange.id, time: exchange.time });
                spoke = true;
            }
        }
        if let Some(trail) = me.as_deref().filter(|trail| spoke && trail.rows >= self.signs.rows) {
            out.push(self.word(reference.trust, *trail));
        }
    }
}

impl SignStep {
    fn word(&self, trust: Trust, trail: Trail) -> Finding {
        Finding {
            tier: Tier::Two,
            statistic: f64::from(trail.rows),
            limit: f64::from(self.signs.rows),
            trail,
            fields: Vec::new(),
            did: "moved many fields of a row by one and the same amount, row after row".to_owned(),
            rests_on: Some(trust),
        }
    }
}

/// How the fields of one row changed.
#[derive(Default)]
struct Changes {
    /// Changed fields.
    fields: usize,
    /// Sizes of the changes that no grid explains.
    sizes: Vec<f64>,
}

impl Changes {
    /// Takes two scaled rows. O(width).
    fn take(&mut self, geometry: &Geometry, marginals: &Marginals, before: &[f32], row: &[f32]) {
        self.fields = 0;
        self.sizes.clear();
        self.sizes.reserve(row.len());
        let mut known = marginals.columns();
        for ((column, spread), (before, now)) in geometry.scales().zip(before.iter().zip(row)) {
            let (change, changed) = changed(spread, *before, *now);
            if !changed {
                continue;
            }
            self.fields += 1;
            while let [first, rest @ ..] = known
                && first.column < column
            {
                known = rest;
            }
            let marginal = known.first().filter(|marginal| marginal.column == column);
            if marginal.is_some_and(|marginal| !explains(marginal, change)) {
                self.sizes.push(change.abs());
            }
        }
    }

    /// Whether the same amount moved at least a `share`, above a half, of the changed fields. O(width), but for rows of
    /// which that may be true.
    fn reach(&mut self, share: f64) -> bool {
        self.may_reach(share) && self.share_about_the_median() >= share && self.same_share() >= share
    }

    /// Whether enough pairs of neighbouring sizes are alike: where more than half of all sizes are alike, both of a pair
    /// are now and then. Cheap, and seldom true of honest rows.
    fn may_reach(&self, share: f64) -> bool {
        let (pairs, rest) = self.sizes.as_chunks::<2>();
        let alike = pairs.iter().filter(|[one, other]| are_alike(*one, *other)).count();
        alike + pairs.len() + rest.len() >= needed(share, self.fields)
    }

    /// The share of the changed fields whose change is about the median of all. More than half of them lie next to
    /// each other in order only where the median is among them.
    fn share_about_the_median(&mut self) -> f64 {
        let middle = self.sizes.len() / 2;
        if self.sizes.is_empty() {
            return 0.0;
        }
        let (_, &mut median, _) = self.sizes.select_nth_unstable_by(middle, f64::total_cmp);
        // A little more than the tolerance, since the median may stand at either end of it.
        let about = median / (1.0 + 1.1 * SAME)..=median * (1.0 + 1.1 * SAME);
        let alike = self.sizes.iter().filter(|size| about.contains(size)).count();
        alike as f64 / self.fields.max(1) as f64
    }

    /// The largest share of the changed fields that moved by the same amount.
    fn same_share(&mut self) -> f64 {
        self.sizes.sort_unstable_by(f64::total_cmp);
        most_alike(&self.sizes) as f64 / self.fields.max(1) as f64
    }
}

/// Whether a `share` of the changed fields may have moved by the same amount, whatever grids explain: of fields in pairs,
/// as many as make up that share leave some pair alike. Seldom true of honest rows, and told without a branch.
fn may_be_alike(spreads: &[f64], before: &[f32], row: &[f32], share: f64) -> bool {
    let half = spreads.len().min(before.len()).min(row.len()) / 2;
    let size = |((spread, before), now): ((&f64, &f32), &f32)| {
        let (change, changed) = changed(*spread, *before, *now);
        (change.abs(), changed)
    };
    let ((spreads, more), (before, before_more), (row, row_more)) =
        (spreads.split_at(half), before.split_at(half), row.split_at(half));
    let one = spreads.iter().zip(before).zip(row).map(size);
    let other = more.iter().zip(before_more).zip(row_more).map(size);
    let (mut changed, mut whole, mut alike) = (0, 0, 0);
    for ((one, one_changed), (other, other_changed)) in one.zip(other.clone()) {
        let both = one_changed & other_changed;
        changed += usize::from(one_changed) + usize::from(other_changed);
        whole += usize::from(both);
        alike += usize::from(both & are_alike(one, other));
    }
    // The last of an odd number has no other.
    changed += other.skip(half).filter(|(_, changed)| *changed).count();
    // One of each pair, of each that is alike the other, and whatever changed without its other.
    alike + changed - whole >= needed(share, changed)
}

/// A scaled field's change in its own unit, and whether it is more than rounding.
fn changed(spread: f64, before: f32, now: f32) -> (f64, bool) {
    let (before, now) = (f64::from(before), f64::from(now));
    let change = (now - before) * spread;
    let larger = if now.abs() > before.abs() { now.abs() } else { before.abs() };
    (change, change.abs() > ROUNDING * (larger * spread))
}

/// Whether two sizes are the same amount.
fn are_alike(one: f64, other: f64) -> bool {
    let (less, more) = if one < other { (one, other) } else { (other, one) };
    more <= less * (1.0 + SAME)
}

/// Whether a change lies on a grid so coarse that others of the same size are no wonder.
fn explains(marginal: &Marginal, change: f64) -> bool {
    marginal.grid().is_some_and(|grid| is_coarse(marginal, grid) && grid.holds(change))
}

/// Most of the ascending `sizes` that lie within the tolerance of one of them.
fn most_alike(sizes: &[f64]) -> usize {
    let alike = |first: usize, size: f64| {
        sizes.iter().skip(first).take_while(|other| **other <= size * (1.0 + SAME)).count()
    };
    sizes.iter().enumerate().map(|(first, size)| alike(first, *size)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(changes: &[f64], width: usize) -> f64 {
        // Three columns of whole numbers, the rest without a grid.
        let value = |row: usize, column: usize| match column {
            0..3 => (row * (column + 1) % 40) as f64,
            _ => (row as f64 * 0.754_877_666 * (column + 1) as f64).fract() * 10.0,
        };
        let number = |row, column| Some(value(row, column));
        let geometry = Geometry::of(400, width, number).unwrap();
        let marginals = Marginals::of(400, width, number, |_, _| false);
        let scaled = |row: &dyn Fn(usize) -> f64| -> Vec<f32> {
            geometry.scales().map(|(column, spread)| (row(column) / spread) as f32).collect()
        };
        let before = scaled(&|column| value(7, column));
        let after = scaled(&|column| value(7, column) + changes[column]);
        let mut taken = Changes::default();
        taken.take(&geometry, &marginals, &before, &after);
        assert_eq!(taken.fields, changes.iter().filter(|change| **change != 0.0).count());
        let share = taken.same_share();
        for limit in [0.51, 0.6, 0.75, 0.9, 1.0] {
            assert_eq!(taken.reach(limit), share >= limit, "{changes:?} reach {limit}");
            let looks = may_be_alike(geometry.spreads(), &before, &after, limit);
            assert!(looks || share < limit, "{changes:?} reach {limit} unseen");
        }
        share
    }

    #[test]
    fn equal_changes_up_or_down_are_alike() {
        assert!(share(&[0.15, -0.15, 0.15, 0.15, -0.15, 0.15], 6) > 0.99);
        assert!((share(&[0.15, 0.0, 0.15, 0.4, -0.15, 0.0], 6) - 0.75).abs() < 0.01, "three of four");
        assert!(share(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 6) < 0.2);
    }

    #[test]
    fn whole_steps_in_columns_of_whole_numbers_are_no_wonder() {
        assert_eq!(share(&[1.0, -1.0, 1.0, 0.0, 0.0, 0.0], 6), 0.0);
        assert!((share(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 6) - 0.5).abs() < 0.01, "only those without a grid");
    }
}
