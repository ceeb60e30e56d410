//! One feature at work: what is counted of it between ticks, and its evidence in both layers.

use serde::{Deserialize, Serialize};

use super::bins::{Bins, Value};
use super::counts::{Counts, Pace, Ring, Tick};
use super::derived::{self, By, Derived, Hits, Memory, Rates};
use super::event::{self, Bank};
use super::quality::Held;
use super::stretch::{self, Calibration, Worth};
use crate::facts::Time;

/// The share of a feature's evidence that the derived features have together, where one of them can tell something.
const DERIVED_SHARE: f64 = 0.3;

/// One feature of a frozen reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Where its values fall.
    pub bins: Bins,
    /// How often the reference's did.
    pub counts: Counts,
    /// The bets of the early layer.
    pub bank: Bank,
    /// What the derived features may do.
    pub rates: Rates,
    /// The scores of the reference's stretches.
    pub calibration: Calibration,
    /// What the replay of held-out rows showed of it.
    pub held: Held,
}

/// What is remembered of one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureState {
    tick: Counts,
    hits: Hits,
    memory: Memory,
    early: event::Evidence,
    derived: derived::Evidence,
    stretch: Counts,
    last_stretch: Counts,
    paging: stretch::Evidence,
    /// The p of the latest stretch.
    last_p: f64,
    window: Ring,
}

impl Feature {
    /// The share of its evidence that the bank has.
    #[must_use]
    pub fn bank_share(&self) -> f64 {
        if self.rates.telling() > 0 { 1.0 - DERIVED_SHARE } else { 1.0 }
    }
}

impl Feature {
    /// Bytes that it takes, all told.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.name.capacity()
            + self.bins.bytes()
            + self.counts.bytes()
            + self.bank.bytes()
            + self.calibration.bytes()
    }
}

impl FeatureState {
    /// Bytes that it takes, all told.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let counts = self.tick.bytes() + self.stretch.bytes() + self.last_stretch.bytes();
        size_of::<Self>() + counts + self.window.bytes() + self.early.bytes() + self.memory.bytes()
    }

    /// Nothing seen yet; the window for gauges, if there is one, goes on at `pace`.
    #[must_use]
    pub fn new(feature: &Feature, pace: Pace) -> Self {
        let slots = feature.bins.slots();
        Self {
            tick: Counts::new(slots),
            hits: Hits::default(),
            memory: Memory::new(feature.rates.tells(Derived::Repeats)),
            early: event::Evidence::new(&feature.bank),
            derived: derived::Evidence::default(),
            stretch: Counts::new(slots),
            last_stretch: Counts::new(slots),
            paging: stretch::Evidence::default(),
            last_p: 1.0,
            window: Ring::new(slots, pace),
        }
    }

    /// Counts a value that a sender brought: all that happens for each event. Gives its slot.
    #[inline]
    pub fn see(&mut self, feature: &Feature, value: Value, by: By) -> usize {
        let (Bins::Numbers(bins), Value::Number(number)) = (&feature.bins, value) else {
            return self.see_other(feature, value, by);
        };
        let slot = bins.slot(number);
        self.tick.add(slot);
        if slot < bins.scale() {
            self.memory.look_back_at(number, by, &mut self.hits);
        }
        slot
    }

    /// What [`FeatureState::see`] does with what is no number.
    #[inline(never)]
    fn see_other(&mut self, feature: &Feature, value: Value, by: By) -> usize {
        let slot = feature.bins.slot(value);
        self.tick.add(slot);
        self.memory.look_back(&feature.bins, value, slot, by, &mut self.hits);
        slot
    }

    /// Counts a value by its slot alone: nothing that looks back hears of it.
    pub fn see_slot(&mut self, slot: usize) {
        self.tick.add(slot);
    }

    /// Turns what was counted since the last tick into evidence of the early layer.
    #[inline(always)]
    pub fn settle(&mut self, feature: &Feature, now: Time) {
        let mut met = Tick::room();
        let tick = Tick::of(&self.tick, &mut met);
        self.hits.by_slot(&feature.bins, &tick);
        self.early.take(&feature.bank, &tick);
        self.derived.take(&feature.rates, &self.hits);
        self.stretch.take(&tick);
        self.window.take(&tick, now);
        self.tick.clear();
        self.hits = Hits::default();
    }

    /// Turns the stretch that ended into evidence of the paging layer.
    pub fn close_stretch(&mut self, feature: &Feature, worth: &Worth) {
        self.last_p = self.paging.take(&feature.calibration, worth, &self.stretch, feature.bank.p0());
        std::mem::swap(&mut self.last_stretch, &mut self.stretch);
        self.stretch.clear();
    }

    /// The evidence of the early layer.
    #[must_use]
    pub fn early(&self, feature: &Feature) -> f64 {
        let bank = self.early.level();
        match self.derived.level(&feature.rates) {
            Some(derived) => (1.0 - DERIVED_SHARE) * bank + DERIVED_SHARE * derived,
            None => bank,
        }
    }

    /// The derived feature that has more evidence than the bank, if one has: what a finding is worded by.
    #[must_use]
    pub fn told_by(&self, feature: &Feature) -> Option<Derived> {
        let telling = derived::DERIVED.into_iter().filter(|derived| feature.rates.tells(*derived));
        let strongest =
            telling.max_by(|one, other| self.derived.of(*one).total_cmp(&self.derived.of(*other)))?;
        (self.derived.of(strongest) > self.early.level()).then_some(strongest)
    }

    /// The evidence of the paging layer.
    #[must_use]
    pub fn paging(&self) -> f64 {
        self.paging.level()
    }

    /// The share of the reference's stretches that lie at least as far off as the latest stretch, 0 to 1.
    #[must_use]
    pub fn last_p(&self) -> f64 {
        self.last_p
    }

    /// The counts of the last whole stretch and of the one under way.
    #[must_use]
    pub fn recent(&self) -> Counts {
        let mut recent = self.last_stretch.clone();
        recent.merge(&self.stretch);
        recent
    }

    /// The counts of the window that gauges are shown for; empty where there is none.
    #[must_use]
    pub fn window(&self) -> Counts {
        self.window.sum()
    }

    /// The same without what has grown too old by `now`.
    #[must_use]
    pub fn window_at(&self, now: Time) -> Counts {
        let mut window = self.window.clone();
        window.advance(now);
        window.sum()
    }

    /// New labels that were no longer followed because others came, ever.
    #[must_use]
    pub fn labels_replaced(&self) -> u64 {
        self.memory.replaced()
    }

    /// Forgets the evidence of the early layer.
    pub fn reset_early(&mut self, feature: &Feature) {
        self.early.reset(&feature.bank);
        self.derived.reset();
        self.memory.reset();
    }

    /// Forgets the evidence of the paging layer. The stretch under way goes on.
    pub fn reset_paging(&mut self) {
        self.paging.reset();
    }
}
