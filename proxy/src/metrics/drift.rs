//! What is shown of one model's drift. Features are labels only where an operator named the reference that they stand
//! in; what was learned from traffic is shown as one series, the largest.

use std::collections::BTreeSet;

use checkgate_detectors::drift::record;
use checkgate_detectors::drift::room::{FeatureStanding, Standing};
use checkgate_detectors::drift::state::{Change, Condition};
use checkgate_detectors::facts::Time;
use checkgate_detectors::reference::Trust;
use parking_lot::Mutex;
use prometheus::{Gauge, IntCounter, IntGauge};

use super::Families;
use super::labelled::GaugeVec;

/// The label of the largest of a model's features.
pub const LARGEST: &str = "largest";
/// Every state, in the order of [`place`].
const STATES: [&str; 6] = ["learning", "warming", "stable", "warned", "drifting", "recovered"];
/// Every change, in their own order.
const CHANGES: [Change; 5] = [Change::Warning, Change::Drift, Change::Over, Change::Met, Change::Unmet];

/// The handles of one model's drift.
#[derive(Debug)]
pub struct DriftMetrics {
    name: String,
    states: Vec<IntGauge>,
    changes: Vec<IntCounter>,
    rows: IntCounter,
    not_counted: [IntCounter; 4],
    of_other_versions: IntCounter,
    reference_rows: IntGauge,
    early: Gauge,
    paging: Gauge,
    granted: Gauge,
    reference_until: Gauge,
    /// Of features, in the order of [`values`].
    of_features: [GaugeVec; 5],
    /// Features that have series.
    features: Mutex<BTreeSet<String>>,
}

impl DriftMetrics {
    pub(super) fn resolve(all: &Families, name: &str) -> Self {
        let not_counted = |why: &str| all.drift_rows_not_counted.with_label_values(&[name, why]);
        let metrics = Self {
            name: name.to_owned(),
            states: STATES.iter().map(|state| all.drift_state.with_label_values(&[name, state])).collect(),
            changes: CHANGES
                .iter()
                .map(|change| all.drift_changes.with_label_values(&[name, record::change(*change)]))
                .collect(),
            rows: all.drift_rows.with_label_values(&[name]),
            not_counted: ["over_share", "unknown_columns", "no_room", "maintenance"].map(not_counted),
            of_other_versions: all.drift_rows_of_other_versions.with_label_values(&[name]),
            reference_rows: all.drift_reference_rows.with_label_values(&[name]),
            early: all.drift_evidence.with_label_values(&[name, "early"]),
            paging: all.drift_evidence.with_label_values(&[name, "paging"]),
            granted: all.drift_granted.with_label_values(&[name]),
            reference_until: all.drift_reference_until.with_label_values(&[name]),
            of_features: [
                all.drift_feature_effect.clone(),
                all.drift_feature_evidence.clone(),
                all.drift_feature_index.clone(),
                all.drift_feature_expected.clone(),
                all.drift_reference_gap.clone(),
            ],
            features: Mutex::default(),
        };
        metrics.set(LARGEST, [0.0; 5]);
        metrics
    }

    fn set(&self, feature: &str, values: [f64; 5]) {
        for (gauge, value) in self.of_features.iter().zip(values) {
            gauge.with_label_values(&[&self.name, feature]).set(value);
        }
    }

    /// Counts a change that was told.
    pub fn told(&self, change: Change) {
        if let Some(counter) = self.changes.get(change as usize) {
            counter.inc();
        }
    }

    /// Moves what several models may share by what changed in one since `before`.
    pub fn shift(&self, before: Option<&Standing>, after: Option<&Standing>) {
        for (standing, by) in [(before, -1), (after, 1)] {
            let Some(standing) = standing else { continue };
            if let Some(gauge) = self.states.get(place(standing)) {
                gauge.add(by);
            }
            let rows = if standing.trust.is_some() { standing.reference_rows } else { standing.learned };
            self.reference_rows.add(by * i64::try_from(rows).unwrap_or(i64::MAX));
        }
        let Some(after) = after else { return };
        let others = before.map_or(0, |before| before.other_versions);
        self.of_other_versions.inc_by(after.other_versions.saturating_sub(others));
        let counted = |standing: &Standing| {
            let counts = standing.counts;
            [standing.rows, counts.over_share, counts.unknown, standing.not_kept, counts.maintenance]
        };
        let before = before.map_or([0; 5], counted);
        let counters = std::iter::once(&self.rows).chain(&self.not_counted);
        for ((counter, before), after) in counters.zip(before).zip(counted(after)) {
            counter.inc_by(after.saturating_sub(before));
        }
    }

    /// Shows where the model stands; of several models that share a label, the furthest in each.
    pub fn show(&self, standings: &[&Standing]) {
        let largest = |value: fn(&Standing) -> f64| {
            standings.iter().map(|standing| value(standing)).fold(0.0, f64::max)
        };
        self.early.set(largest(|standing| standing.early));
        self.paging.set(largest(|standing| standing.paging));
        self.granted.set(largest(|standing| standing.false_alarms_a_week));
        // The oldest, of those that have a time.
        let until = standings.iter().filter_map(|standing| standing.reference_until).min();
        self.reference_until.set(until.map_or(0.0, Time::seconds));
        let all = || standings.iter().flat_map(|standing| &standing.features);
        let moved_most = all().max_by(|one, other| one.effect.total_cmp(&other.effect)).map(values);
        // The index stands beside the expectation of the same feature; evidence may be another's.
        let [effect, _, index, expected, _] = moved_most.unwrap_or_default();
        let evidence = all().map(|feature| feature.evidence).fold(0.0, f64::max);
        let gap = all().map(gap).fold(0.0, f64::max);
        self.set(LARGEST, [effect, evidence, index, expected, gap]);
        let named = standings.iter().filter(|standing| standing.trust == Some(Trust::Trusted));
        let mut shown = BTreeSet::new();
        // A feature of several versions is shown where it moved most.
        let mut features: Vec<_> = named.flat_map(|standing| &standing.features).collect();
        features.sort_by(|one, other| one.effect.total_cmp(&other.effect));
        for feature in features {
            self.set(&feature.name, values(feature));
            shown.insert(feature.name.clone());
        }
        let mut features = self.features.lock();
        for gone in features.difference(&shown).filter(|name| *name != LARGEST) {
            // It was there, so removing it cannot fail; if it were not, nothing would be wrong.
            for gauge in &self.of_features {
                gauge.remove_label_values(&[&self.name, gone]).ok();
            }
        }
        *features = shown;
    }
}

/// What is shown of a feature: effect, evidence, index, what chance would give, and the gap.
fn values(feature: &FeatureStanding) -> [f64; 5] {
    [feature.effect, feature.evidence, feature.index, feature.expected, gap(feature)]
}

/// The gap of a feature; 0 while too little of it was seen.
fn gap(feature: &FeatureStanding) -> f64 {
    feature.gap.map_or(0.0, |gap| gap.distance)
}

fn place(standing: &Standing) -> usize {
    match (standing.trust, standing.condition) {
        (None, _) => 0,
        (Some(_), Condition::Warming) => 1,
        (Some(_), Condition::Stable) => 2,
        (Some(_), Condition::Warned { .. }) => 3,
        (Some(_), Condition::Drifting { .. }) => 4,
        (Some(_), Condition::Recovered { .. }) => 5,
    }
}
