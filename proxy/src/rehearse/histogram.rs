//! Counts over a stretch of time whose end nobody knows beforehand.

use serde::Serialize;

/// Bars; a plot shows no more.
const BARS: usize = 120;
/// The narrowest bar, in microseconds.
const NARROWEST: u64 = 100_000;

/// Counts in bars of one width, which doubles whenever the last bar is passed.
#[derive(Clone, Debug, Serialize)]
pub struct Histogram {
    /// When the first bar begins, in microseconds since the Unix epoch.
    pub start: u64,
    /// How long a bar is, in microseconds.
    pub width: u64,
    /// The counts.
    pub bars: Vec<u64>,
}

impl Histogram {
    /// One that begins at `start`.
    pub fn new(start: u64) -> Self {
        Self { start, width: NARROWEST, bars: Vec::new() }
    }

    /// Counts one at `time`; what lies before the start counts to the first bar.
    pub fn add(&mut self, time: u64) {
        while time.saturating_sub(self.start) / self.width >= BARS as u64 {
            self.fold();
        }
        let bar = usize::try_from(time.saturating_sub(self.start) / self.width).unwrap_or(0);
        if self.bars.len() <= bar {
            self.bars.resize(bar + 1, 0);
        }
        if let Some(count) = self.bars.get_mut(bar) {
            *count += 1;
        }
    }

    fn fold(&mut self) {
        self.bars = self.bars.chunks(2).map(|pair| pair.iter().sum()).collect();
        self.width = self.width.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_however_long_it_takes() {
        let mut histogram = Histogram::new(1_000_000);
        for second in 0..5_000 {
            histogram.add(1_000_000 + second * 1_000_000);
        }
        histogram.add(0);
        assert_eq!(histogram.bars.iter().sum::<u64>(), 5_001, "every request is in some bar");
        assert!(histogram.bars.len() <= BARS, "{} bars", histogram.bars.len());
        histogram.add(u64::MAX);
        assert_eq!(histogram.bars.iter().sum::<u64>(), 5_002, "a time beyond all measure has a bar too");
    }
}
