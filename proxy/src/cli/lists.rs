//! What checkgate is made of, as lists: detectors, protocols, the configuration's schema.

use std::fmt::Write;

use checkgate_config::schema;
use checkgate_detectors::finding::Tier;
use checkgate_detectors::query::{self, DRILLS};
use checkgate_detectors::{campaign, contract, drift};

use crate::decode::DECODERS;
use crate::parts;

/// Every detector with what an operator wants to know of it.
pub fn detectors() -> String {
    let mut text = String::new();
    for spec in query::all() {
        let is_drill = DRILLS.iter().any(|drill| drill.name == spec.name);
        let tier = match spec.tier {
            _ if is_drill => "a drill: runs only where it is named",
            Tier::One if (spec.defaults)().get("may_block") == Some(&false.into()) => {
                "tier 1 with may_block, otherwise alerts only"
            }
            Tier::One => "tier 1: may block",
            Tier::Two => "tier 2: alerts only",
        };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{}\n  {}\n  {tier}; {}; {}\n  source: {}\n  parameters: {}\n\n",
            spec.name,
            spec.summary,
            spec.atlas,
            spec.owasp,
            spec.source,
            (spec.defaults)(),
        );
    }
    let _ = write!(
        text,
        "{}\n  An answer breaks what the operator asked of the model's outputs (`contract`)\n  acts on the answer: see \
         `on_violation`; {}\n\n",
        contract::NAME,
        contract::ATLAS,
    );
    let _ = write!(
        text,
        "{}\n  {}\n  an alert; refuses what lies in it where `hold: question`; {}; {}\n\n",
        campaign::NAME,
        campaign::SUMMARY,
        campaign::ATLAS,
        campaign::OWASP,
    );
    let _ = write!(
        text,
        "{}\n  {}\n  an alert; see `drift`; {}; {}\n\n",
        drift::NAME,
        drift::SUMMARY,
        drift::ATLAS,
        drift::OWASP,
    );
    text
}

/// Every protocol.
pub fn protocols() -> String {
    let mut text = String::new();
    for spec in DECODERS {
        let _ = writeln!(text, "{}\n  {}\n", spec.name, spec.summary);
    }
    text
}

/// The JSON Schema of the configuration file.
pub fn schema() -> String {
    schema::json_schema_text(&parts::all())
}

/// The configuration reference.
pub fn reference_page() -> String {
    schema::reference_page(&parts::all())
}
