//! BOUNDARY: a client most of whose questions get answers that are unsure of their class.
//!
//! Evasion by labels alone (HopSkipJump, the boundary attack), extraction by adaptive sampling and model inversion all
//! walk along the border between two classes, where the two largest probabilities are nearly equal. What is nearly
//! equal follows from the reference's own answers. One unsure answer means nothing, so each client has a cumulative
//! sum (Page, Biometrika 1954) of the evidence for "half of the requests are unsure" against "three in twenty are": it
//! takes one step a request, by the majority of its rows.
//!
//! It is silent where answers hold no probabilities. Rows that lie where the reference's rows lie densely are no
//! evidence against anybody, however unsure the model is there. O(classes) a row, and O(reference rows x width) for a
//! row with an unsure answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, EarlierRows, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose,
    QueryDetector,
};
use super::{QuerySpec, Reply};
use crate::cumulative::{Evidence, Kept, Shares, Steps};
use crate::facts::Features;
use crate::finding::Tier;
use crate::lines::Origin;
use crate::margins::Margins;
use crate::reference::Trust;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "boundary_walk",
    summary: "Most answers to a client are unsure of their class, as on the border between two",
    source: "margins of answers (Brendel et al., ICLR 2018) and a cumulative sum (Page, Biometrika 1954)",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::One,
    aspect: Aspect::Answers,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::AnswerAndReference,
    state_bytes_max: 80,
    schema: super::schema_of::<Walk>,
    defaults: super::defaults_of::<Walk>,
    example: r#"{"attack_share": 0.6, "false_alarms": 0.00001}"#,
    check: super::check_of::<Walk>,
    build: |parameters| super::build_with(parameters, BoundaryWalk::new),
};

/// When a client counts as walking along a border.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Walk {
    /// Share of an honest client's requests whose answers may be unsure, above 0 and below `attack_share`.
    pub honest_share: f64,
    /// Share of an attacker's requests whose answers are, below 1.
    pub attack_share: f64,
    /// How likely an honest client's run of requests is taken for an attack, above 0 and below 0.1.
    pub false_alarms: f64,
}

impl Default for Walk {
    fn default() -> Self {
        Self { honest_share: 0.15, attack_share: 0.5, false_alarms: 1e-4 }
    }
}

impl Parameters for Walk {
    fn check(&self) -> Result<(), ParameterError> {
        self.shares().check()
    }
}

impl Walk {
    fn shares(&self) -> Shares {
        Shares { honest: self.honest_share, attack: self.attack_share, false_alarms: self.false_alarms }
    }
}

struct BoundaryWalk {
    steps: Steps,
}

impl BoundaryWalk {
    fn new(walk: Walk) -> Self {
        Self { steps: Steps::new(walk.shares()) }
    }
}

impl QueryDetector for BoundaryWalk {
    type Slot = Kept;
    type Population = ();

    fn observe(&self, _: &Exchange<'_>, _: &Seen, (): &mut (), _: &mut Kept, _: &mut Findings) {}

    fn answered(&self, reply: &Reply<'_>, (): &mut (), me: &mut Kept, out: &mut Findings) {
        let Some(reference) = reply.reference else { return };
        let (Some(margins), Ok(answer), Ok(asked)) = (reference.margins(), reply.answer, &reply.asked) else {
            return;
        };
        let Judged { rows, unsure, apart } = judged(margins, answer, asked);
        if unsure * 2 > rows {
            let origin = Origin { request: reply.id, time: reply.time };
            if let Some(evidence) = self.steps.rise(me, origin, apart) {
                out.push(self.word(reference.trust, margins.narrow(), evidence));
            }
        } else if rows > 0 {
            self.steps.fall(me);
        }
    }
}

impl BoundaryWalk {
    fn word(&self, trust: Trust, narrow: f64, evidence: &Evidence) -> Finding {
        Finding {
            tier: Tier::One,
            statistic: evidence.sum,
            limit: self.steps.limit,
            trail: evidence.trail,
            fields: Vec::new(),
            did: format!(
                "asked again and again where the model is unsure: the two most likely classes lie less than {narrow:.2} \
                 apart, as they do for one in twenty usual questions at most"
            ),
            rests_on: Some(trust),
        }
    }
}

/// How many new rows were answered with probabilities, how many of those answers are unsure, and how many unsure rows
/// lie apart from where the reference is dense.
struct Judged {
    rows: usize,
    unsure: usize,
    apart: usize,
}

fn judged(margins: &Margins, answer: &Features, asked: &EarlierRows<'_>) -> Judged {
    let mut judged = Judged { rows: 0, unsure: 0, apart: 0 };
    for (position, &row) in asked.distinct_rows.iter().enumerate() {
        let Some(margin) = margins.of_answer(answer, row as usize) else { continue };
        judged.rows += 1;
        if margin < margins.narrow() {
            judged.unsure += 1;
            judged.apart += usize::from(asked.lies_apart(position));
        }
    }
    judged
}
