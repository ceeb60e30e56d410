//! What a reference is worth: the last third of its rows, watched by what the first two thirds make.
//!
//! The promises of both layers rest on assumptions about traffic. Here the reference itself shows whether they hold:
//! what alarms on its own held-out rows will alarm on any day.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::bins::Value;
use super::budget::{Thresholds, together};
use super::counts::Pace;
use super::derived::By;
use super::feature::FeatureState;
use super::reference::{DriftReference, Stretch, Table};
use super::watch::rows_a_tick;
use crate::facts::Time;

/// What the replay of held-out rows showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Rows that were replayed; 0 where the reference is too short to hold any out.
    pub rows: u64,
    /// Their stretches.
    pub stretches: u64,
    /// The highest evidence of the early layer over all features, in events. Traffic as the layer assumes it rarely
    /// exceeds the number of rows.
    pub early: f64,
    /// The highest evidence of the paging layer, in stretches.
    pub paging: f64,
}

/// What it showed of one feature: which column it is that would alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The highest evidence of the early layer, in events.
    pub early: f64,
    /// The highest evidence of the paging layer, in stretches.
    pub paging: f64,
}

impl Quality {
    /// Watches `rows` of a table by a reference that did not see them, and looks at the same rows as a watch does that is
    /// asked for `tick_rows`. Gives what all features together showed, and each.
    #[must_use]
    pub fn replay(
        reference: &DriftReference,
        table: &Table,
        rows: Range<usize>,
        tick_rows: u32,
    ) -> (Self, Vec<Held>) {
        let mut held = vec![Held::default(); reference.features().len()];
        let features = reference.features();
        let mut states: Vec<FeatureState> =
            features.iter().map(|feature| FeatureState::new(feature, Pace::Never)).collect();
        let mut quality = Self { rows: rows.len() as u64, ..Self::default() };
        let (mut stretch, mut since_tick) = (Stretch::default(), 0);
        let tick_rows = rows_a_tick(tick_rows, features.len());
        for row in rows {
            let watched = features.iter().zip(&mut states).zip(&table.columns);
            for ((feature, state), column) in watched {
                let value = column.values.get(row).copied().unwrap_or(Value::Missing);
                let _ = state.see(feature, value, By::NOBODY);
            }
            let now = table.times.get(row).copied().unwrap_or(Time(0));
            let ends = reference.cut().ends(&mut stretch, now);
            since_tick += 1;
            if ends || since_tick >= tick_rows {
                since_tick = 0;
                features.iter().zip(&mut states).for_each(|(feature, state)| state.settle(feature, now));
                let levels = features.iter().zip(&states).zip(&mut held);
                let level = together(levels.map(|((feature, state), held)| {
                    let level = state.early(feature);
                    held.early = held.early.max(level);
                    level
                }));
                quality.early = quality.early.max(level);
            }
            if ends {
                let pairs = features.iter().zip(&mut states);
                pairs.for_each(|(feature, state)| state.close_stretch(feature, reference.worth()));
                quality.stretches += 1;
                quality.paging = quality.paging.max(together(states.iter().map(FeatureState::paging)));
                let pairs = held.iter_mut().zip(&states);
                pairs.for_each(|(held, state)| held.paging = held.paging.max(state.paging()));
            }
        }
        (quality, held)
    }

    /// Whether the early layer may page by itself: the reference was long enough to be asked, and did not alarm.
    #[must_use]
    pub fn early_may_page(&self, thresholds: &Thresholds) -> bool {
        self.rows > 0 && self.early < thresholds.early
    }

    /// Whether the paging layer would have alarmed on the reference itself.
    #[must_use]
    pub fn paging_alarms(&self, thresholds: &Thresholds) -> bool {
        self.paging >= thresholds.paging
    }
}
