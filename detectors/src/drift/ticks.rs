//! The ticks of all features, at once: what was counted of each becomes evidence.
//!
//! It is compiled once more for processors with AVX2, which the program finds out when it runs. That changes how many
//! numbers one instruction works on, and no result: each is multiplied and added to in the same order.

use super::feature::{Feature, FeatureState};
use crate::facts::Time;

/// Settles a tick of every feature.
pub(super) fn settle(states: &mut [FeatureState], features: &[Feature], now: Time) {
    let ticks = Ticks { states, features, now };
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, ticks);
    }
    ticks.all();
}

struct Ticks<'a> {
    states: &'a mut [FeatureState],
    features: &'a [Feature],
    now: Time,
}

#[cfg(target_arch = "x86_64")]
impl pulp::WithSimd for Ticks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: pulp::Simd>(self, _: V) {
        self.all();
    }
}

impl Ticks<'_> {
    #[inline(always)]
    fn all(self) {
        for (state, feature) in self.states.iter_mut().zip(self.features) {
            state.settle(feature, self.now);
        }
    }
}
