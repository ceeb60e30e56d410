//! The watch over one endpoint: rows in, and at ticks at most one thing to tell.
//!
//! [`Watch::see`] is all that happens for a row; [`Watch::settle`] turns counts into evidence and may run behind. Both
//! take the time, and the same rows at the same times give the same findings.

use serde::{Deserialize, Serialize};

use super::bins::Value;
use super::budget::{Thresholds, named, together};
use super::counts::Pace;
use super::derived::{By, Derived};
use super::feature::{Feature, FeatureState};
use super::gauges::Pair;
use super::reference::{DriftReference, Stretch};
use super::state::{Change, Condition, Extent, Rules, Signs, State};
use super::ticks;
use crate::facts::Time;

/// The slot of a value that is not known.
pub const UNKNOWN: u8 = u8::MAX;

/// Rows between two ticks where nothing else is asked for.
pub const TICK_ROWS: u32 = 8;

/// How an endpoint is watched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Rows between two ticks, at least 1, and at least as many as there are features.
    pub tick_rows: u32,
    /// How the window of the gauges goes on, where there is one.
    pub pace: Pace,
    /// When something is told.
    pub rules: Rules,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tick_rows: TICK_ROWS, pace: Pace::Never, rules: Rules::default() }
    }
}

/// Rows between two ticks of a reference with so many features, where `tick_rows` are asked for.
#[must_use]
pub fn rows_a_tick(tick_rows: u32, features: usize) -> u32 {
    tick_rows.max(u32::try_from(features).unwrap_or(u32::MAX)).max(1)
}

impl Settings {
    fn for_features(self, features: usize) -> Self {
        Self { tick_rows: rows_a_tick(self.tick_rows, features), ..self }
    }
}

/// All that is remembered of one endpoint, of bounded size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    settings: Settings,
    thresholds: Thresholds,
    features: Vec<FeatureState>,
    stretch: Stretch,
    stretch_ended: bool,
    since_tick: u32,
    rows: u64,
    state: State,
}

/// What is told of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What happened.
    pub change: Change,
    /// When.
    pub time: Time,
    /// After how many rows.
    pub row: u64,
    /// The layer whose evidence it is.
    pub layer: Layer,
    /// The evidence.
    pub evidence: f64,
    /// The threshold that it reached.
    pub threshold: f64,
    /// The features that may be named, most evidence first. Empty where no single one stands out.
    pub features: Vec<Shifted>,
    /// How large the change is.
    pub extent: Extent,
}

/// One feature of a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shifted {
    /// Its position in the reference.
    pub feature: usize,
    /// Its evidence.
    pub evidence: f64,
    /// The population stability index of its latest stretches, less its expectation without a change.
    pub effect: f64,
    /// The derived feature that gave it away, if one did.
    pub by: Option<Derived>,
}

/// The two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// Event by event: fast, and right where events do not depend on one another.
    Early,
    /// Stretch by stretch: slow, and right under bursts and habits.
    Paging,
    /// No layer: a rule on a gauge, which promises nothing.
    Gauge,
}

impl Watch {
    /// A watch that has seen nothing. Ticks of a wide reference lie further apart, so that what they cost for a row does
    /// not grow with the number of features.
    #[must_use]
    pub fn new(reference: &DriftReference, settings: Settings, thresholds: Thresholds) -> Self {
        let features = reference.features().iter();
        Self {
            settings: settings.for_features(features.len()),
            thresholds,
            features: features.map(|feature| FeatureState::new(feature, settings.pace)).collect(),
            stretch: Stretch::default(),
            stretch_ended: false,
            since_tick: 0,
            rows: 0,
            state: State::default(),
        }
    }

    /// Counts a row of a sender that is not known; `values` stand in the order of the reference's features. Says whether it
    /// is time to settle.
    #[inline]
    pub fn see(&mut self, reference: &DriftReference, values: &[Value], now: Time) -> bool {
        let features = self.features.iter_mut().zip(reference.features()).zip(values);
        features.for_each(|((state, feature), value)| {
            let _ = state.see(feature, *value, By::NOBODY);
        });
        self.count_row(reference, now)
    }

    /// Counts a row `by` a sender, of which some values may not be known; `slots` gets where the others fell, [`UNKNOWN`] for those.
    /// Says whether it is time to settle.
    #[inline]
    pub fn see_known(
        &mut self,
        reference: &DriftReference,
        values: &[Option<Value>],
        (by, now): (By, Time),
        slots: &mut Vec<u8>,
    ) -> bool {
        slots.clear();
        let features = self.features.iter_mut().zip(reference.features()).zip(values);
        slots.extend(features.map(|((state, feature), value)| {
            value.map_or(UNKNOWN, |value| u8::try_from(state.see(feature, value, by)).unwrap_or(UNKNOWN))
        }));
        self.count_row(reference, now)
    }

    fn count_row(&mut self, reference: &DriftReference, now: Time) -> bool {
        self.rows += 1;
        self.since_tick += 1;
        self.stretch_ended |= reference.cut().ends(&mut self.stretch, now);
        self.stretch_ended || self.since_tick >= self.settings.tick_rows
    }

    /// Goes by other settings from now on; the window of the gauges keeps its pace.
    pub fn adopt(&mut self, settings: Settings) {
        self.settings = Settings { pace: self.settings.pace, ..settings.for_features(self.features.len()) };
    }

    /// Goes by other thresholds from now on: the traffic is slower or faster than was thought.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// When a layer speaks.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// Turns what was counted into evidence, and tells what there is to tell.
    pub fn settle(&mut self, reference: &DriftReference, now: Time) -> Option<Finding> {
        self.since_tick = 0;
        let pairs = || reference.features().iter();
        ticks::settle(&mut self.features, reference.features(), now);
        if std::mem::take(&mut self.stretch_ended) {
            let worth = reference.worth();
            self.features
                .iter_mut()
                .zip(pairs())
                .for_each(|(state, feature)| state.close_stretch(feature, worth));
        }
        if self.rows < self.settings.rules.rows_min {
            return None;
        }
        let (early, paging) =
            (self.evidence(reference, Layer::Early), self.evidence(reference, Layer::Paging));
        let early_speaks = early >= self.thresholds.early;
        let paging_speaks = paging >= self.thresholds.paging;
        self.judge(reference, now, (early, early_speaks), (paging, paging_speaks))
    }

    fn judge(
        &mut self,
        reference: &DriftReference,
        now: Time,
        (early, early_speaks): (f64, bool),
        (paging, paging_speaks): (f64, bool),
    ) -> Option<Finding> {
        let early_pages = early_speaks && reference.quality().early_may_page(&self.thresholds);
        let speaks = early_speaks || paging_speaks;
        let in_doubt = matches!(self.state.condition(), Condition::Drifting { .. });
        let effect = if speaks || in_doubt { self.largest_effect(reference) } else { 0.0 };
        let paging_now = paging_speaks || early_pages;
        let signs = Signs { now, rows: self.rows, early: early_speaks, paging: paging_now, effect };
        let change = self.state.step(&self.settings.rules, &signs);
        let layer = if paging_speaks { Layer::Paging } else { Layer::Early };
        let (evidence, threshold) = match layer {
            Layer::Early => (early, self.thresholds.early),
            Layer::Paging | Layer::Gauge => (paging, self.thresholds.paging),
        };
        let finding = change.map(|change| Finding {
            change,
            time: now,
            row: self.rows,
            layer,
            evidence,
            threshold,
            features: self.shifted(reference, layer, threshold),
            extent: Extent::of(effect),
        });
        self.reset(reference, early_speaks, paging_speaks);
        finding
    }

    /// A layer that spoke begins anew.
    fn reset(&mut self, reference: &DriftReference, early: bool, paging: bool) {
        for (state, feature) in self.features.iter_mut().zip(reference.features()) {
            if early {
                state.reset_early(feature);
            }
            if paging {
                state.reset_paging();
            }
        }
    }

    fn levels<'a>(&'a self, reference: &'a DriftReference, layer: Layer) -> impl Iterator<Item = f64> + 'a {
        let pairs = self.features.iter().zip(reference.features());
        pairs.map(move |(state, feature)| match layer {
            Layer::Early => state.early(feature),
            Layer::Paging => state.paging(),
            Layer::Gauge => 0.0,
        })
    }

    /// The evidence of all features together.
    #[must_use]
    pub fn evidence(&self, reference: &DriftReference, layer: Layer) -> f64 {
        together(self.levels(reference, layer))
    }

    fn shifted(&self, reference: &DriftReference, layer: Layer, threshold: f64) -> Vec<Shifted> {
        let levels: Vec<f64> = self.levels(reference, layer).collect();
        let told = |place: usize| {
            let (state, feature) = (self.features.get(place)?, reference.features().get(place)?);
            Some(Shifted {
                feature: place,
                evidence: levels.get(place).copied()?,
                effect: effect(state, feature),
                by: state.told_by(feature).filter(|_| layer == Layer::Early),
            })
        };
        named(&levels, threshold).into_iter().filter_map(told).collect()
    }

    fn largest_effect(&self, reference: &DriftReference) -> f64 {
        let pairs = self.features.iter().zip(reference.features());
        pairs.map(|(state, feature)| effect(state, feature)).fold(0.0, f64::max)
    }

    /// The effect of a feature by its position: how much of its index is more than chance.
    #[must_use]
    pub fn effect(&self, reference: &DriftReference, place: usize) -> f64 {
        let pair = self.features.get(place).zip(reference.features().get(place));
        pair.map_or(0.0, |(state, feature)| effect(state, feature))
    }

    /// The population stability index of a feature's latest stretches by its position, and what chance gives at so few
    /// events.
    #[must_use]
    pub fn index(&self, reference: &DriftReference, place: usize) -> (f64, f64) {
        let pair = self.features.get(place).zip(reference.features().get(place));
        pair.map_or((0.0, 0.0), |(state, feature)| index(state, feature))
    }

    /// How things stand.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.state.condition()
    }

    /// Rows seen.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What is remembered of each feature, in the order of the reference.
    #[must_use]
    pub fn features(&self) -> &[FeatureState] {
        &self.features
    }
}

/// How much of a feature's index is more than chance.
fn effect(state: &FeatureState, feature: &Feature) -> f64 {
    let (value, expected) = index(state, feature);
    (value - expected).max(0.0)
}

fn index(state: &FeatureState, feature: &Feature) -> (f64, f64) {
    let recent = state.recent();
    let pair = Pair { reference: &feature.counts, window: &recent, bins: &feature.bins };
    let reading = pair.psi();
    (reading.value, reading.expected.max(pair.psi_of_smoothing()))
}
