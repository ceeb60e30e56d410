//! What the clients of a model reached within a window, so that one of them can be held against nearly all others.

use serde::{Deserialize, Serialize};

use crate::facts::Time;

/// The windows of all clients: this one and the one before.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Population {
    window: u64,
    now: Histogram,
    before: Histogram,
}

impl Population {
    /// Begins a new window where it is time to, and gives the number of the one that is open; a fact that comes late
    /// counts into that one. Windows last `seconds`, which must not be zero, and follow each other without overlap.
    pub fn turn(&mut self, time: Time, seconds: u64) -> u64 {
        let window = time.0 / 1_000_000 / seconds.max(1);
        if window > self.window {
            let last = std::mem::take(&mut self.now);
            self.before = if window == self.window + 1 { last } else { Histogram::default() };
            self.window = window;
        }
        self.window
    }

    /// Counts a client that has reached `to`, and had reached `from` within the window.
    pub fn move_client(&mut self, from: Option<u32>, to: u32) {
        self.now.move_client(from, to);
    }

    /// What a share `quantile` of the other clients does not exceed, in this window or the one before, whichever is
    /// more; nothing where neither has `clients_min` of them. The client itself stands at `own`. At most a quarter of a
    /// doubling too much.
    #[must_use]
    pub fn quantile(&self, quantile: f64, own: u32, clients_min: u64) -> Option<f64> {
        let now = self.now.quantile(quantile, Some(own), clients_min);
        let before = self.before.quantile(quantile, None, clients_min);
        now.into_iter().chain(before).reduce(f64::max)
    }
}

/// How many clients reached how much, by classes a quarter of a doubling wide.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Histogram {
    clients: Vec<u32>,
}

impl Histogram {
    /// Four classes to a doubling of a 32-bit count.
    const CLASSES: usize = 32 * 4;

    fn class(count: u32) -> usize {
        let doublings = count.max(1).ilog2();
        // The two bits below the leading one tell the quarter.
        let quarter = ((u64::from(count.max(1)) << 2) >> doublings) & 3;
        doublings as usize * 4 + quarter as usize
    }

    /// Most of a class.
    fn upper(class: usize) -> f64 {
        let (doublings, quarter) = (class / 4, class % 4);
        libm::exp2(doublings as f64) * (1.0 + (quarter + 1) as f64 / 4.0)
    }

    fn move_client(&mut self, from: Option<u32>, to: u32) {
        self.clients.resize(Self::CLASSES, 0);
        if let Some(count) = from.and_then(|from| self.clients.get_mut(Self::class(from))) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.clients.get_mut(Self::class(to)) {
            *count += 1;
        }
    }

    /// The quantile without one client that stands at `own`, where at least `clients_min` remain.
    fn quantile(&self, quantile: f64, own: Option<u32>, clients_min: u64) -> Option<f64> {
        let own_class = own.map(Self::class);
        let others =
            |class: usize, count: u32| u64::from(count) - u64::from(own_class == Some(class) && count > 0);
        let total: u64 = self.clients.iter().enumerate().map(|(class, &count)| others(class, count)).sum();
        if total < clients_min {
            return None;
        }
        let wanted = libm::ceil(quantile * total as f64) as u64;
        let mut below = 0;
        let classes = self.clients.iter().enumerate();
        classes.map(|(class, &count)| (class, others(class, count))).find_map(|(class, count)| {
            below += count;
            (below >= wanted).then(|| Self::upper(class))
        })
    }
}
