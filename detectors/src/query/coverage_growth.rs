//! Coverage: one client sees more of the feature space than nearly all others.
//!
//! Extraction with natural queries shows in nothing that a single row holds, but whoever wants to copy a model must
//! ask about all of it. The reference's medians halve up to eleven columns, which makes 2,048 cells; what counts is
//! how many different cells a client's rows lie in, within a window: many rows about one kind of case count little,
//! and rows from everywhere count each. Compared is with the reference, since a client that covers half of the cells
//! where a model is used at all knows much of it, and with the population's own quantile, as busy models have busy
//! clients.
//!
//! Cost: eleven comparisons for each new row; 256 bytes of a client from its 51st row in a window on.
//!
//! It only alerts: a large honest client covers much, too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::engine::reach::Covers;
use crate::facts::Time;
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
use crate::marginals::{CELLS, Marginals};
use crate::population::Population;
use crate::reference::Reference;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "coverage_growth",
    summary: "The rows of one client cover far more of the feature space than those of nearly all others",
    source: "coverage as in Kesarwani et al., Model Extraction Warning in MLaaS Paradigm, ACSAC 2018",
    atlas: "AML.T0024.002",
    owasp: "ML05:2023",
    tier: Tier::Two,
    aspect: Aspect::Volume,
    tells_alone: true,
    purpose: Purpose::Technique,
    needs: Needs::QuestionAndReference,
    state_bytes_max: CELLS / 8 + 96,
    schema: super::schema_of::<Growth>,
    defaults: super::defaults_of::<Growth>,
    example: r#"{"share": 0.3, "times": 10.0}"#,
    check: super::check_of::<Growth>,
    build: |parameters| super::build_with(parameters, |growth: Growth| CoverageGrowth { growth }),
};

/// When a coverage counts as out of proportion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Growth {
    /// Length of a window in seconds, at least 60. Windows follow each other without overlap.
    #[schemars(range(min = 60))]
    pub window_seconds: u64,
    /// How many cells a client must cover, in parts of those that the reference's rows lie in: above 0 and at most 1.
    pub share: f64,
    /// How many times the population's quantile a client must cover, above 1.
    pub times: f64,
    /// The quantile of the clients' coverage that counts as usual, above 0 and below 1.
    pub quantile: f64,
    /// Fewest other clients in the window, or the one before, that make a population.
    pub clients_min: u64,
}

impl Default for Growth {
    fn default() -> Self {
        Self { window_seconds: 86_400, share: 0.5, times: 5.0, quantile: 0.9, clients_min: 20 }
    }
}

impl Parameters for Growth {
    fn check(&self) -> Result<(), ParameterError> {
        let wrong = |key, message: &str| Err(ParameterError::at(key, message));
        if self.window_seconds < 60 {
            return wrong("window_seconds", "too short; give 60 or more");
        }
        if !(self.share > 0.0 && self.share <= 1.0) {
            return wrong("share", "must lie above 0 and be at most 1");
        }
        if !(self.times > 1.0 && self.times.is_finite()) {
            return wrong("times", "must be a number above 1");
        }
        if !(self.quantile > 0.0 && self.quantile < 1.0) {
            return wrong("quantile", "must lie between 0 and 1, as 0.9 does");
        }
        if self.clients_min == 0 {
            return wrong("clients_min", "without other clients there is no measure; give 1 or more");
        }
        Ok(())
    }
}

/// Rows of a client whose cells are not told apart, so that nothing is kept of clients that ask for little.
const ROWS_UNTOLD: u32 = 50;

struct CoverageGrowth {
    growth: Growth,
}

/// One client's window: its rows, and the cells of a client that has enough of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    window: u32,
    rows: u32,
    covered: Option<Box<Covered>>,
}

/// The cells of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Covered {
    basis: u64,
    /// A bit to a cell.
    bits: Vec<u8>,
    cells: u32,
    alerted: bool,
    trail: Trail,
}

impl QueryDetector for CoverageGrowth {
    type Slot = Slot;
    type Population = Population;
    const HEARS_ANSWERS: bool = false;

    fn observe(
        &self,
        exchange: &Exchange<'_>,
        seen: &Seen,
        population: &mut Population,
        me: &mut Slot,
        out: &mut Findings,
    ) {
        let (Some(reference), Some(columns)) = (exchange.reference, exchange.columns.of_reference()) else {
            return;
        };
        let marginals = reference.marginals();
        me.turn(population.turn(exchange.time, self.growth.window_seconds));
        let before = me.reached();
        for row in seen.rows() {
            if let Some(cell) = marginals.cell(exchange.question, row.index, columns) {
                me.take(marginals, cell, Origin { request: exchange.id, time: exchange.time });
            }
        }
        let reached = me.reached();
        if reached == before {
            return;
        }
        population.move_client((before > 0).then_some(before), reached);
        if let Some(covered) = me.covered.as_deref_mut().filter(|covered| !covered.alerted) {
            self.judge(population, reference, reached, covered, out);
        }
    }

    fn covers(&self, me: &Slot) -> Option<Covers> {
        let at = |window: u32| Time(u64::from(window) * self.growth.window_seconds * 1_000_000);
        let covered = me.covered.as_deref();
        let covers = Covers {
            from: at(me.window),
            until: at(me.window.saturating_add(1)),
            rows: me.rows,
            told_apart: covered.map_or(0, |covered| covered.trail.rows),
            cells: covered.map_or(0, |covered| covered.cells),
            basis: covered.map_or(0, |covered| covered.basis),
        };
        (me.rows > 0).then_some(covers)
    }
}

impl CoverageGrowth {
    fn judge(
        &self,
        population: &Population,
        reference: &Reference,
        reached: u32,
        covered: &mut Covered,
        out: &mut Findings,
    ) {
        let Growth { quantile, clients_min, times, share, .. } = self.growth;
        let known = reference.marginals().cells();
        let statistic = f64::from(covered.cells);
        let of_known = share * known as f64;
        if statistic < of_known {
            return;
        }
        let Some(usual) = population.quantile(quantile, reached, clients_min) else { return };
        let limit = (usual * times).max(of_known);
        if statistic < limit {
            return;
        }
        covered.alerted = true;
        out.push(Finding {
            tier: Tier::Two,
            statistic,
            limit,
            trail: covered.trail,
            fields: Vec::new(),
            did: format!(
                "asked about {statistic} cells of feature space within a window of {} s, where the reference lies in \
                 {known} and {} % of the clients stay within {usual}",
                self.growth.window_seconds,
                quantile * 100.0
            ),
            rests_on: Some(reference.trust),
        });
    }
}

impl Slot {
    fn turn(&mut self, window: u64) {
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        if self.window != window {
            *self = Self { window, ..Self::default() };
        }
    }

    /// What is compared with other clients: the cells, and at first the rows, which may lie in as many.
    fn reached(&self) -> u32 {
        self.rows.min(ROWS_UNTOLD) + self.covered.as_ref().map_or(0, |covered| covered.cells)
    }

    fn take(&mut self, marginals: &Marginals, cell: usize, origin: Origin) {
        self.rows = self.rows.saturating_add(1);
        if self.rows > ROWS_UNTOLD {
            let covered = self.covered.get_or_insert_default();
            covered.adopt(marginals);
            covered.add(cell, origin);
        }
    }
}

impl Covered {
    /// Cells of other marginals mean nothing.
    fn adopt(&mut self, marginals: &Marginals) {
        if self.bits.is_empty() || self.basis != marginals.basis() {
            *self = Self { basis: marginals.basis(), bits: vec![0; CELLS / 8], ..Self::default() };
        }
    }

    fn add(&mut self, cell: usize, origin: Origin) {
        self.trail.add(origin);
        let bit = 1 << (cell % 8);
        if let Some(byte) = self.bits.get_mut(cell / 8).filter(|byte| **byte & bit == 0) {
            *byte |= bit;
            self.cells += 1;
        }
    }
}
