//! How many requests are open at once: beyond the bound a client is told at once to come back, which costs less than
//! a queue that grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// The requests that are open, over all models and connections.
#[derive(Debug)]
pub struct InFlight {
    open: AtomicUsize,
    open_max: AtomicUsize,
    gauge: IntGauge,
}

impl InFlight {
    /// At most `open_max` at once; `gauge` shows how many there are.
    pub fn new(open_max: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), open_max: AtomicUsize::new(open_max), gauge })
    }

    /// Room for one more request, held until the permit is dropped; `None` beyond the bound.
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        if before >= self.open_max.load(Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.gauge.inc();
        Some(Permit(Arc::clone(self)))
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Another bound, from the next request on; what is open stays.
    pub fn bound(&self, open_max: usize) {
        self.open_max.store(open_max, Ordering::Relaxed);
    }
}

/// Room for one request.
#[derive(Debug)]
pub struct Permit(Arc<InFlight>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_there_is_no_room_until_one_leaves() {
        let in_flight = InFlight::new(2, IntGauge::new("open", "open requests").unwrap());
        let first = in_flight.enter();
        let second = in_flight.enter();
        assert!(first.is_some() && second.is_some(), "the bound itself is allowed");
        assert!(in_flight.enter().is_none(), "the third is beyond it");
        assert_eq!(in_flight.count(), 2, "a refused request leaves no trace");
        drop(first);
        assert!(in_flight.enter().is_some(), "room was made");
        in_flight.bound(0);
        assert!(in_flight.enter().is_none(), "a new bound holds from the next request on");
        drop(second);
        assert_eq!(in_flight.count(), 0);
    }
}
