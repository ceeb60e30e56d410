//! Whether new requests should be sent here.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where the instance stands between start and stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The listeners are not up yet.
    Starting,
    /// Requests are served.
    Ready,
    /// Open requests are finished, new ones should go elsewhere.
    Draining,
}

impl Phase {
    /// The phase as the API says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The handle by which whoever runs the listeners tells the admin API.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// The listeners are up. Nothing leads back from draining.
    pub fn set_ready(&self) {
        self.advance(Phase::Ready);
    }

    /// The instance was told to stop.
    pub fn set_draining(&self) {
        self.advance(Phase::Draining);
    }

    /// Where the instance stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_back_from_draining() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.set_draining();
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
