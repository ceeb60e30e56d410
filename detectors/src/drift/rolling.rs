//! The rolling reference: what clean traffic was like lately, beside the reference that is frozen.
//!
//! Whoever moves the traffic by small steps moves a reference that follows along with it; a frozen one ages instead. So
//! both are kept: everything alarms by the frozen one, the rolling one follows slowly whatever is told, without the rows
//! of clients that something speaks against, and the gap between them is shown, feature by feature. A gap that grows
//! steadily is a slow walk, or a reference that has grown old; which of them is for people to say. It triggers nothing.

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::gauges::{EVENTS_MIN, Pair};
use super::reference::DriftReference;

/// After so many clean rows, what was known before weighs half.
pub const HALF_LIFE: f64 = 16_384.0;

/// What each feature's slots were met by lately, older rows fading.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rolling {
    /// The slots of each feature, in the order of the reference.
    features: Vec<Vec<f32>>,
}

/// How far the rolling reference lies from the frozen one, in one feature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Jensen-Shannon distance, base 2, 0 to 1.
    pub distance: f64,
    /// What chance alone gives at these numbers of rows, about.
    pub expected: f64,
}

impl Rolling {
    /// Lets what is known of every feature fade by `rows` clean rows that come next.
    pub fn fade(&mut self, reference: &DriftReference, rows: usize) {
        if self.features.len() != reference.features().len() {
            let slots = reference.features().iter().map(|feature| feature.bins.slots());
            self.features = slots.map(|slots| vec![0.0; slots]).collect();
        }
        let keep = libm::exp2(-(rows as f64) / HALF_LIFE) as f32;
        self.features.iter_mut().flatten().for_each(|count| *count *= keep);
    }

    /// Counts a clean value of a feature by its slot.
    #[inline]
    pub fn add(&mut self, feature: usize, slot: usize) {
        if let Some(count) = self.features.get_mut(feature).and_then(|slots| slots.get_mut(slot)) {
            *count += 1.0;
        }
    }

    /// How far a feature lies from the frozen reference; nothing while too few clean rows were seen.
    #[must_use]
    pub fn gap(&self, reference: &DriftReference, place: usize) -> Option<Gap> {
        let (feature, slots) = (reference.features().get(place)?, self.features.get(place)?);
        let lately = Counts::from_slots(slots.iter().map(|count| count.round() as u32).collect());
        let pair = Pair { reference: &feature.counts, window: &lately, bins: &feature.bins };
        (lately.total() >= EVENTS_MIN).then(|| {
            let reading = pair.jensen_shannon();
            Gap { distance: reading.value, expected: reading.expected }
        })
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let slots = self.features.iter().map(|slots| slots.capacity() * size_of::<f32>());
        self.features.capacity() * size_of::<Vec<f32>>() + slots.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::bins::Value;
    use crate::drift::latest::{Latest, Sender};
    use crate::drift::reference::{Column, Settings, Table};
    use crate::identity::{Address, Identity};

    fn reference() -> DriftReference {
        let values = (0..20_000).map(|row| Value::Number(f64::from(row % 1000))).collect();
        let columns = vec![Column { name: "amount".to_owned(), values }];
        DriftReference::of(&Table { columns, times: Vec::new() }, &Settings::default()).unwrap()
    }

    fn follow(rolling: &mut Rolling, reference: &DriftReference, turns: u32, shift: f64) {
        let bins = &reference.features()[0].bins;
        for turn in 0..turns {
            rolling.fade(reference, 2000);
            let values = (0..2000).map(|row| f64::from((row + turn) * 7919 % 1000) + shift);
            values.for_each(|value| rolling.add(0, bins.slot(Value::Number(value))));
        }
    }

    #[test]
    fn traffic_like_the_reference_leaves_no_gap_and_other_traffic_opens_one_slowly() {
        let (reference, mut rolling) = (reference(), Rolling::default());
        assert_eq!(rolling.gap(&reference, 0), None, "nothing was seen");
        follow(&mut rolling, &reference, 20, 0.0);
        let calm = rolling.gap(&reference, 0).expect("enough was seen");
        assert!(calm.distance < 2.0 * calm.expected, "{calm:?}");
        follow(&mut rolling, &reference, 1, 200.0);
        let soon = rolling.gap(&reference, 0).unwrap().distance;
        follow(&mut rolling, &reference, 30, 200.0);
        let later = rolling.gap(&reference, 0).unwrap().distance;
        assert!(later > 2.0 * soon && later > 0.3, "{soon}, then {later}");
    }

    #[test]
    fn rows_of_a_client_that_something_speaks_against_are_left_out() {
        let (reference, mut rolling) = (reference(), Rolling::default());
        let address = Address::of(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        let sender = |key| Sender { client: Identity::Key(key), address, may_be_blocked: false };
        let mut latest = Latest::default();
        for row in 0..600_u32 {
            let _ = latest.take(sender(u64::from(row % 3)), &[if row % 3 == 0 { 9 } else { 3 }]);
        }
        latest.roll(&mut rolling, &reference, |client| client == Identity::Key(0));
        let kept = &rolling.features[0];
        assert_eq!((kept[3], kept[9]), (400.0, 0.0), "{kept:?}");
    }

    #[test]
    fn what_it_keeps_does_not_grow_and_other_features_begin_anew() {
        let (reference, mut rolling) = (reference(), Rolling::default());
        follow(&mut rolling, &reference, 1, 0.0);
        let bytes = rolling.bytes();
        follow(&mut rolling, &reference, 50, 3.0);
        assert_eq!(rolling.bytes(), bytes);
        rolling.fade(&reference.clone().without(&["amount".to_owned()]), 1);
        assert_eq!((rolling.bytes(), rolling.gap(&reference, 0)), (0, None));
    }
}
