//! How many requests a decision met: what it refused, or in `observe` would have met.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Requests of a decision's client that came while it stood. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Met(Arc<AtomicU64>);

impl Met {
    /// So many requests came already.
    #[must_use]
    pub fn of(requests: u64) -> Self {
        Self(Arc::new(requests.into()))
    }

    /// One more request came.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many requests came tells one decision from another as little as where a clock stands.
impl PartialEq for Met {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Met {}

impl Serialize for Met {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.requests())
    }
}

impl<'de> Deserialize<'de> for Met {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::of)
    }
}
