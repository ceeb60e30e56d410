//! The handles of bouncers and of sources, by the names that the configuration gives them.

use prometheus::{IntCounter, IntGauge};

use super::labels::{NotTaken, PerLabel, Pulled, Taken};
use super::{Families, OTHER};

/// Everything that is counted of one bouncer.
#[derive(Clone, Debug)]
pub struct BouncerMetrics {
    /// Pulls that were answered.
    pub pulls: IntCounter,
    /// Decisions that it was told of.
    pub new: IntCounter,
    /// Decisions of whose end it was told.
    pub deleted: IntCounter,
    /// Decisions that it was not told of, since it cannot enforce networks.
    pub beyond: IntCounter,
}

impl BouncerMetrics {
    pub(super) fn resolve(all: &Families, name: &str) -> Self {
        let told = |change: &str| all.crowdsec_told.with_label_values(&[name, change]);
        Self {
            pulls: all.crowdsec_pulls.with_label_values(&[name]),
            new: told("new"),
            deleted: told("deleted"),
            beyond: told("beyond"),
        }
    }
}

/// Everything that is counted of one source.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    /// Whether the last pull succeeded.
    pub up: IntGauge,
    /// Clients on whom its decisions stand.
    pub standing: IntGauge,
    /// Pulls, by what came of them.
    pub pulls: PerLabel<Pulled>,
    /// Decisions, by what was done about them.
    pub taken: PerLabel<Taken>,
    /// Decisions that were not taken, by why not.
    pub not_taken: PerLabel<NotTaken>,
}

impl SourceMetrics {
    pub(super) fn resolve(all: &Families, name: &str) -> Self {
        Self {
            up: all.crowdsec_source_up.with_label_values(&[name]),
            standing: all.crowdsec_source_standing.with_label_values(&[name]),
            pulls: PerLabel::resolve(|of| all.crowdsec_source_pulls.with_label_values(&[name, of])),
            taken: PerLabel::resolve(|what| all.crowdsec_source_taken.with_label_values(&[name, what])),
            not_taken: PerLabel::resolve(|why| all.crowdsec_source_not_taken.with_label_values(&[name, why])),
        }
    }
}

/// Every series of this kind has one value at least before anybody asks.
pub(super) fn declare(all: &Families) {
    BouncerMetrics::resolve(all, OTHER);
    let source = SourceMetrics::resolve(all, OTHER);
    // Nobody stands behind it, so nobody is away.
    source.up.set(1);
}
