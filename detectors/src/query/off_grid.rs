//! Precision: values finer than those that a model is asked about.
//!
//! Ages are whole, prices have two decimals, and the pixels of an image are multiples of 1/255. A search that adds
//! noise, halves distances or follows a gradient sends values between them. The grid of each column follows from the
//! reference's own values ([`Marginals`](crate::marginals::Marginals)). A row is off when one of its values is; a
//! request is when most of its new rows are; and a client is told when its sum of such requests reaches the limit.
//!
//! Cost: a multiplication and a rounding for each value of a new row; nothing is kept of a client whose sum is zero.
//!
//! It only alerts: whoever converts units or takes averages looks the same, and whoever rounds is not seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Exchange, Finding, Findings, Needs, ParameterError, Parameters, QueryDetector, QuerySpec};
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
    needs: Needs::QuestionAndReference,
    state_bytes_max: 80,
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

struct OffGrid {
    steps: Steps,
}

impl QueryDetector for OffGrid {
    type Slot = Kept;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Kept, out: &mut Findings) {
        let (Some(reference), Some(columns)) = (exchange.reference, exchange.columns.of_reference()) else {
            return;
        };
        let (mut off, mut field) = (0, None);
        for (position, row) in seen.rows().iter().enumerate() {
            let values = reference.marginals().values(exchange.question, row.index, columns);
            let finer = |(marginal, value): &(&Marginal, f64)| {
                marginal.grid().is_some_and(|grid| !grid.holds(*value))
            };
            if let Some((marginal, _)) = values.into_iter().find(finer) {
                off += 1;
                out.mark(position);
                field = field.or_else(|| columns.get(marginal.column).copied());
            }
        }
        if seen.rows().is_empty() {
            return;
        }
        if off * 2 <= seen.rows().len() {
            return self.steps.fall(me);
        }
        let origin = Origin { request: exchange.id, time: exchange.time };
        if let Some(evidence) = self.steps.rise(me, origin, off) {
            let field = field.map(|column| exchange.question.name(column));
            out.push(self.word(reference.trust, evidence, field));
        }
    }
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
