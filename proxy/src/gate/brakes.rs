//! All brakes of an instance: one for each model, one for each source of decisions besides the lanes.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkgate_detectors::engine::Block;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{
    ATLAS_VERSION, Action, FindingId, Grounds, Kind, Mode, Record, Tier, Window,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::brake::{self, Brake, BrakeLimits, Rule, Trip, Verdict};

/// The name under which the brake makes its finding.
pub const BRAKE: &str = "brake";
/// Sources of decisions that have a brake of their own; further ones share the last.
const SOURCES_MAX: usize = 256;
/// Somebody who makes a guard block its own users denies them the service.
const BRAKE_ATLAS: &str = "AML.T0029";

type Named = BTreeMap<Arc<str>, Brake>;

/// The brakes, by name.
#[derive(Debug, Default)]
pub struct Brakes {
    /// What a model's brake decides depends on that model's own order of decisions alone.
    models: Mutex<Named>,
    /// What one program does too much of leaves the others alone.
    sources: Mutex<Named>,
}

/// Brakes on their way to another process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedBrakes {
    models: Vec<(String, Brake)>,
    sources: Vec<(String, Brake)>,
}

impl Brakes {
    /// What a new block of a model may do, which had `clients_active` clients of late.
    pub fn judge_model(
        &self,
        model: &Arc<str>,
        limits: BrakeLimits,
        clients_active: usize,
        now: Time,
    ) -> Verdict {
        self.models.lock().entry(Arc::clone(model)).or_default().judge(&limits, clients_active, now)
    }

    /// What a new block of a source may do. One that has no clients of a model to compare with is held to the rate alone.
    pub fn judge_source(
        &self,
        source: &str,
        mut limits: BrakeLimits,
        clients_active: usize,
        now: Time,
    ) -> Verdict {
        if clients_active == 0 {
            limits.share_of_clients = f64::INFINITY;
        }
        let mut sources = self.sources.lock();
        let shared = sources.len() >= SOURCES_MAX && !sources.contains_key(source);
        sources.entry(Arc::from(if shared { "" } else { source })).or_default().judge(
            &limits,
            clients_active,
            now,
        )
    }

    /// Whether new blocks of any model or source are observations.
    pub fn are_engaged(&self, now: Time) -> bool {
        [&self.models, &self.sources]
            .iter()
            .any(|named| named.lock().values().any(|brake| brake.is_engaged(now)))
    }

    /// What they remember.
    pub fn save(&self) -> SavedBrakes {
        SavedBrakes { models: saved(&self.models.lock()), sources: saved(&self.sources.lock()) }
    }

    /// Remembers that instead.
    pub fn restore(&self, kept: SavedBrakes) {
        *self.models.lock() = restored(kept.models);
        *self.sources.lock() = restored(kept.sources);
    }
}

fn saved(named: &Named) -> Vec<(String, Brake)> {
    named.iter().map(|(name, brake)| (name.to_string(), brake.clone())).collect()
}

fn restored(saved: Vec<(String, Brake)>) -> Named {
    saved.into_iter().map(|(name, brake)| (Arc::from(name), brake)).collect()
}

/// What is told of a trip: `block` is the one too many, and `why` its record.
pub fn finding(trip: &Trip, block: &Block, why: &Record, mode: Mode, now: Time) -> Record {
    let (span, measured) = match trip.rule {
        Rule::Rate => (brake::MINUTE, format!("{} new blocks within a minute", trip.blocks)),
        Rule::Share => (
            brake::ACTIVE,
            format!(
                "{} new blocks within ten minutes among {} active clients",
                trip.blocks, block.clients_active
            ),
        ),
    };
    let explanation = format!(
        "The brake is on: {measured} go over the limit of {}. For one minute new blocks are observations, {} on {} \
         being the first; blocks already in force stay. Look whether the findings before this one are attacks: if \
         honest clients are blocked, switch the kill switch on.",
        trip.limit, block.id, block.client
    );
    Record {
        // The finding beside it has the id itself; all bits turned over, it is as good as another draw.
        id: FindingId(!why.id.0),
        time: now,
        kind: Kind::Finding,
        client: block.client,
        model: Arc::clone(&why.model),
        detector: BRAKE,
        tier: Tier::Two,
        atlas: BRAKE_ATLAS,
        atlas_version: ATLAS_VERSION,
        owasp: None,
        statistic: trip.statistic,
        limit: trip.limit,
        window: Window { rows: 0, requests: 0, seconds: span.as_secs_f64(), observed: 1.0 },
        action: Action::Alert,
        mode,
        decision_id: None,
        until: None,
        fields: Vec::new(),
        campaign: None,
        grounds: Grounds::default(),
        requests: Vec::new(),
        explanation,
    }
}
