//! What an operator is shown of a room: copies of counts, so that what is computed of them takes nobody's time who judges.

use super::{Room, Standing, Watched};
use crate::drift::bins::Bins;
use crate::drift::budget::Thresholds;
use crate::drift::counts::Counts;
use crate::drift::derived::Derived;
use crate::facts::Time;

/// One model's drift at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// How it stands.
    pub standing: Standing,
    /// False alarms in a week that each layer may raise.
    pub false_alarms_a_week: f64,
    /// When the watch began; nothing before the first row.
    pub watched_since: Option<Time>,
    /// What it is compared with, as soon as there is a reference.
    pub reference: Option<Reference>,
    /// Evidence at which each layer speaks.
    pub thresholds: Option<Thresholds>,
    /// The features, in the order of the reference; their evidence stands in `standing`, in the same order.
    pub features: Vec<FeatureView>,
    /// Versions of the model that have rooms of their own.
    pub versions: Vec<String>,
}

/// A reference as it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// The checksum of its content.
    pub checksum: u64,
    /// Rows that it was made of.
    pub rows: u64,
    /// When its first and its last row came, where that is known.
    pub span: Option<(Time, Time)>,
    /// Columns that are not watched because there are too many.
    pub left_out: usize,
}

/// One feature.
#[derive(Clone, Debug)]
pub struct FeatureView {
    /// Its name.
    pub name: String,
    /// Where values fall.
    pub bins: Bins,
    /// How often the reference's did.
    pub reference: Counts,
    /// How often those of the gauges' window did.
    pub window: Counts,
    /// The derived feature that has more evidence than the bins, if one has.
    pub told_by: Option<Derived>,
    /// The share of the reference's stretches that lie at least as far off as the latest stretch, 0 to 1.
    pub last_p: f64,
}

impl Room {
    /// Everything that is shown at `now`. O(features), some 2 KiB for each.
    #[must_use]
    pub fn look(&self, now: Time) -> View {
        let watched = self.memory.watched.as_ref();
        let features = watched.into_iter().flat_map(|Watched { frozen, watch, .. }| {
            frozen.reference.features().iter().zip(watch.features()).map(|(feature, state)| FeatureView {
                name: feature.name.clone(),
                bins: feature.bins.clone(),
                reference: feature.counts.clone(),
                window: state.window_at(now),
                told_by: state.told_by(feature),
                last_p: state.last_p(),
            })
        });
        View {
            standing: self.standing(),
            false_alarms_a_week: self.settings.false_alarms_a_week,
            watched_since: watched.and_then(|watched| watched.since),
            reference: watched.map(|Watched { frozen, .. }| Reference {
                checksum: self.checksum,
                rows: frozen.reference.rows(),
                span: frozen.reference.span(),
                left_out: frozen.reference.left_out(),
            }),
            thresholds: watched.map(|watched| watched.watch.thresholds()),
            features: features.collect(),
            versions: Vec::new(),
        }
    }
}
