//! The ticks of all features, at once: what was counted of each becomes evidence.
//!
//! It is compiled once more for processors with AVX2. That changes no result: each number is multiplied and added to in the
//! same order.

use super::feature::{Feature, FeatureState};
use crate::facts::Time;
use crate::processor::{Processor, Work};

/// Settles a tick of every feature.
pub(super) fn settle(states: &mut [FeatureState], features: &[Feature], now: Time) {
    Processor::default().run(Ticks { states, features, now });
}

struct Ticks<'a> {
    states: &'a mut [FeatureState],
    features: &'a [Feature],
    now: Time,
}

impl<By> Work<By> for Ticks<'_> {
    type Output = ();

    #[inline(always)]
    fn by(self, _: By) {
        for (state, feature) in self.states.iter_mut().zip(self.features) {
            state.settle(feature, self.now);
        }
    }
}
