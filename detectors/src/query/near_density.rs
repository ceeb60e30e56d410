//! Near density: a client's rows crowd together, not as closely as near duplicates do.
//!
//! The early sign of a search around one row, and of honest clients that interpolate or compare: it alerts and marks,
//! and never blocks. The measure is that of `near_duplicates`, with all that is closer than the reference's closest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "near_density",
    summary: "Rows of one client lie more densely than the reference's rows",
    source: "Chen, Carlini, Wagner, Stateful Detection of Black-Box Adversarial Attacks, 2019",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::Two,
    aspect: Aspect::Case,
    tells_alone: false,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 64,
    schema: super::schema_of::<Density>,
    defaults: super::defaults_of::<Density>,
    example: r#"{"rows": 20}"#,
    check: super::check_of::<Density>,
    build: |parameters| super::build_with(parameters, |density: Density| NearDensity { density }),
};

/// When rows count as dense.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Density {
    /// Rows closer to ten of the client's own than the reference's rows come, at which the detector speaks: 3 to 1000.
    #[schemars(range(min = 3, max = 1000))]
    pub rows: u32,
}

impl Default for Density {
    fn default() -> Self {
        Self { rows: 5 }
    }
}

impl Parameters for Density {
    fn check(&self) -> Result<(), ParameterError> {
        if (3..=1000).contains(&self.rows) {
            return Ok(());
        }
        Err(ParameterError::at("rows", format!("{} is out of range; give 3 to 1000", self.rows)))
    }
}

struct NearDensity {
    density: Density,
}

/// The dense rows of a client that has any.
type Slot = Option<Box<Trail>>;

impl QueryDetector for NearDensity {
    type Slot = Slot;
    type Population = ();
    const HEARS_ANSWERS: bool = false;

    fn observe(&self, exchange: &Exchange<'_>, seen: &Seen, (): &mut (), me: &mut Slot, out: &mut Findings) {
        let Some(reference) = exchange.reference else { return };
        let dense = |position: &usize| {
            exchange.neighbours.of(*position).is_some_and(|found| found.tenth_own().is_some())
        };
        let mut spoke = false;
        for position in (0..seen.rows().len()).filter(dense) {
            out.mark(position);
            me.get_or_insert_default().add(Origin { request: exchange.id, time: exchange.time });
            spoke = true;
        }
        if let Some(trail) = me.as_deref().filter(|trail| spoke && trail.rows >= self.density.rows) {
            out.push(Finding {
                tier: Tier::Two,
                statistic: f64::from(trail.rows),
                limit: f64::from(self.density.rows),
                trail: *trail,
                fields: Vec::new(),
                did: "asked about rows that lie more densely than the reference's rows do".to_owned(),
                rests_on: Some(reference.trust),
            });
        }
    }
}
