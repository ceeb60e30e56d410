//! Precision: values finer than those that a model is asked about.
//!
//! Ages are whole, prices have two decimals, and the pixels of an image are multiples of 1/255. A search that adds
//! noise, halves distances or follows a gradient sends values between them. The grid of each column follows from the
//! reference's own values ([`Marginals`](crate::marginals::Marginals)). A row is off when one of its values is; a
//! request is when most of its new rows are; and a client is told when its sum of such requests reaches the limit.
//!
//! Cost: a multiplication and a rounding for each value of a new row; nothing is kept of a client whose sum is zero.
//!
//! Whoever converts units sends values off the grid in the same few columns of every row. So a client is told only where
//! half of the columns with a grid were off in one row or another, or where rows after the first went on to bring
//! columns that were not off before. Grids finer than a ten-thousandth are left out of that count: values are often cut
//! to a few decimals.
//!
//! It only alerts: whoever takes averages looks the same, and whoever rounds is not seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::cumulative::{Evidence, Kept, Shares, Steps};
use crate::finding::Tier;
use crate::lines::Origin;
use crate::marginals::Marginal;
use crate::reference::Trust;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "off_grid",
    summary: "Values of a client are finer than the values that the reference has in the same columns",
    source: "grids of the reference's columns and a cumulative sum (Page, Biometrika 1954)",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::Two,
    aspect: Aspect::Values,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 192,
    schema: super::schema_of::<Fine>,
    defaults: super::defaults_of::<Fine>,
    example: r#"{"attack_share": 0.6, "false_alarms": 0.00001}"#,
    check: super::check_of::<Fine>,
    build: |parameters| {
        super::build_with(parameters, |fine: Fine| OffGrid { steps: Steps::new(fine.shares()) })
    },
};

/// When a client counts as off the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fine {
    /// Share of an honest client's requests that may hold finer values, above 0 and below `attack_share`.
    pub honest_share: f64,
    /// Share of an attacker's requests that holds finer values, below 1.
    pub attack_share: f64,
    /// How likely an honest client's run of requests is taken for an attack, above 0 and below 0.1.
    pub false_alarms: f64,
}

impl Default for Fine {
    fn default() -> Self {
        Self { honest_share: 0.02, attack_share: 0.5, false_alarms: 1e-4 }
    }
}

impl Fine {
    fn shares(&self) -> Shares {
        Shares { honest: self.honest_share, attack: self.attack_share, false_alarms: self.false_alarms }
    }
}

impl Parameters for Fine {
    fn check(&self) -> Result<(), ParameterError> {
        self.shares().check()
    }
}

/// Finest step of a grid that is counted.
const STEP_MIN: f64 = 1e-4;
/// Fewest rows that bring columns which were not off before, of a client that is told for these.
const NEW_ROWS_MIN: u32 = 2;
/// ... and one in so many rows, at least.
const NEW_ROWS_PART: u32 = 3;
/// Columns that are told apart: a bit to a column, in turn where there are more.
const BITS: usize = 512;

struct OffGrid {
    steps: Steps,
}

/// What is kept of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    sum: Kept,
    columns: Option<Box<Off>>,
}

/// The columns that were off, since the sum was last zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Off {
    bits: [u64; BITS / 64],
    rows: u32,
    /// Rows after the first with columns that were not off before.
    new_rows: u32,
}

impl Off {
    fn take(&mut self, columns: impl Iterator<Item = usize>) {
        let before = self.bits;
        for column in columns.map(|column| column % BITS) {
            if let Some(bits) = self.bits.get_mut(column / 64) {
                *bits |= 1 << (column % 64);
            }
        }
        self.new_rows += u32::from(self.rows > 0 && self.bits != before);
        self.rows = self.rows.saturating_add(1);
    }

    /// Whether the columns are more than those of a client with units of its own, of `counted` with a grid.
    fn is_more_than_units(&self, counted: usize) -> bool {
        let off: u32 = self.bits.iter().map(|bits| bits.count_ones()).sum();
        let changes =
            self.new_rows >= NEW_ROWS_MIN && self.new_rows * NEW_ROWS_PART >= self.rows.saturating_sub(1);
        changes || 2 * off as usize >= counted
    }
}

impl QueryDetector for OffGrid {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let (Some(reference), Some(columns)) = (exchange.reference, exchange.columns.of_reference()) else {
            return;
        };
        let (mut off, mut field) = (0, None);
        for (position, row) in seen.rows().iter().enumerate() {
            let finer = reference.marginals().finer(exchange.question, row.index, columns);
            let mut finer = finer.peekable();
            if let Some(first) = finer.peek() {
                off += 1;
                out.mark(position);
                field = field.or_else(|| columns.get(first.column).copied());
                let counted = finer.filter(|marginal| is_counted(marginal));
                me.columns.get_or_insert_default().take(counted.map(|marginal| marginal.column));
            }
        }
        if seen.rows().is_empty() {
            return;
        }
        if off * 2 <= seen.rows().len() {
            self.steps.fall(&mut me.sum);
            if me.sum.is_none() {
                me.columns = None;
            }
            return;
        }
        let origin = Origin { request: exchange.id, time: exchange.time };
        let counted = || reference.marginals().columns().iter().filter(|column| is_counted(column)).count();
        let is_more = me.columns.as_ref().is_some_and(|off| off.is_more_than_units(counted()));
        if let Some(evidence) = self.steps.rise(&mut me.sum, origin, off).filter(|_| is_more) {
            let field = field.map(|column| exchange.question.name(column));
            out.push(self.word(reference.trust, evidence, field));
        }
    }
}

/// Whether the grid of a column is coarse enough to count.
fn is_counted(marginal: &Marginal) -> bool {
    marginal.grid().is_some_and(|grid| grid.step() >= STEP_MIN)
}

impl OffGrid {
    fn word(&self, trust: Trust, evidence: &Evidence, field: Option<String>) -> Finding {
        Finding {
            tier: Tier::Two,
            statistic: evidence.sum,
            limit: self.steps.limit,
            trail: evidence.trail,
            fields: field.into_iter().collect(),
            did: "sent values finer than the steps that the reference's values keep".to_owned(),
            rests_on: Some(trust),
        }
    }
}
