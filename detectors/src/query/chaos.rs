//! A drill: a detector that misbehaves on purpose.
//!
//! It finds nothing. On a share of the questions it panics, does not come back for a long time, or keeps more than it
//! may, so that an operator sees on a running instance what such a detector costs: itself, and no request. It runs only
//! where it is named.

use std::hint::black_box;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::finding::Tier;
use crate::seen::Seen;

/// Numbers that it keeps of a client at each fit of growth.
const GROWTH: usize = 4096;

/// The entry of the list of drills.
pub const SPEC: QuerySpec = QuerySpec {
    name: "chaos",
    summary: "A drill that finds nothing: it panics, loops or grows on a share of the questions",
    source: "fault injection; compare Basiri et al., Chaos Engineering, IEEE Software 33(3), 2016",
    atlas: "AML.T0029",
    owasp: "ML01:2023",
    tier: Tier::Two,
    aspect: Aspect::Errors,
    tells_alone: true,
    purpose: Purpose::Technique,
    needs: Needs::Question,
    state_bytes_max: 32,
    schema: super::schema_of::<Chaos>,
    defaults: super::defaults_of::<Chaos>,
    example: r#"{"panics": 0.01}"#,
    check: super::check_of::<Chaos>,
    build: |parameters| super::build_with(parameters, |chaos: Chaos| chaos),
};

/// How often it does what. The shares are of questions, 0 to 1, and together at most 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Chaos {
    /// Share of the questions at which it panics.
    pub panics: f64,
    /// Share of the questions at which it runs in a circle.
    pub loops: f64,
    /// How often it goes round the circle; some billions take seconds.
    pub rounds: u64,
    /// Share of the questions after which it keeps more of the client than it may.
    pub grows: f64,
}

impl Default for Chaos {
    fn default() -> Self {
        Self { panics: 0.01, loops: 0.0, rounds: 20_000_000_000, grows: 0.0 }
    }
}

impl Parameters for Chaos {
    fn check(&self) -> Result<(), ParameterError> {
        for (key, share) in [("panics", self.panics), ("loops", self.loops), ("grows", self.grows)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(ParameterError::at(key, "is a share of the questions; give 0 to 1"));
            }
        }
        if self.panics + self.loops + self.grows > 1.0 {
            return Err(ParameterError::at("panics", "the shares together are above 1; lower one of them"));
        }
        Ok(())
    }
}

impl QueryDetector for Chaos {
    type Slot = Vec<u64>;
    type Population = ();

    fn observe(&self, exchange: &Exchange<'_>, _: &Seen, _: &mut (), kept: &mut Vec<u64>, _: &mut Findings) {
        // Ids are drawn from a hash or counted up; multiplied out, their upper bits are spread evenly either way.
        let spread = exchange.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
        let draw = spread as f64 / (1_u64 << 53) as f64;
        if draw < self.panics {
            Self::panic();
        }
        if draw < self.panics + self.loops {
            (0..self.rounds).for_each(|round| _ = black_box(round));
        } else if draw < self.panics + self.loops + self.grows {
            kept.extend(std::iter::repeat_n(exchange.id, GROWTH));
        }
    }
}

impl Chaos {
    #[expect(clippy::panic, reason = "what the drill is for")]
    fn panic() {
        panic!("a drill: the detector `chaos` panics on purpose")
    }
}
