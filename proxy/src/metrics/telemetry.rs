//! The handles of what is exported.

use super::Families;
use super::labels::{ExportOutcome, Label, PerLabel, Signal};

/// Everything that is counted of exports.
#[derive(Clone, Debug)]
pub struct TelemetryMetrics {
    exports: Box<[PerLabel<ExportOutcome>]>,
    /// Spans, log records and data points that were not delivered.
    pub dropped: PerLabel<Signal>,
}

impl TelemetryMetrics {
    pub(super) fn resolve(all: &Families) -> Self {
        let exports = |signal: &Signal| {
            PerLabel::resolve(|outcome| all.telemetry_exports.with_label_values(&[signal.as_str(), outcome]))
        };
        Self {
            exports: Signal::ALL.iter().map(exports).collect(),
            dropped: PerLabel::resolve(|signal| all.telemetry_dropped.with_label_values(&[signal])),
        }
    }

    /// Counts a delivery.
    pub fn exported(&self, signal: Signal, outcome: ExportOutcome) {
        if let Some(outcomes) = self.exports.get(signal.index()) {
            outcomes.inc(outcome);
        }
    }

    /// Deliveries so far.
    #[cfg(test)]
    pub fn exports(&self, signal: Signal, outcome: ExportOutcome) -> u64 {
        self.exports.get(signal.index()).map_or(0, |outcomes| outcomes.get(outcome))
    }
}
