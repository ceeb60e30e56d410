//! How many distinct rows one client asks for within a window, held against the population.

use serde::{Deserialize, Serialize};

use crate::facts::Time;
use crate::population::Population;

/// One client's distinct rows within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    window: u32,
    rows: u32,
}

impl Volume {
    /// Counts `rows` more rows at `time`, here and in the population. Windows last `seconds`, which must not be zero.
    pub fn add(&mut self, rows: u32, time: Time, seconds: u64, population: &mut Population) {
        let window = population.turn(time, seconds) as u32;
        if self.window != window {
            *self = Self { window, rows: 0 };
        }
        let before = (self.rows > 0).then_some(self.rows);
        self.rows = self.rows.saturating_add(rows);
        population.move_client(before, self.rows);
    }

    /// The same with the beginning of that window, where windows last `seconds`.
    #[must_use]
    pub fn within(self, seconds: u64) -> (u32, Time) {
        (self.rows, Time(u64::from(self.window) * seconds * 1_000_000))
    }

    /// Rows within the window of the last of them.
    #[must_use]
    pub fn rows(self) -> u32 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds rows in the hour of a number.
    fn add(volume: &mut Volume, rows: u32, hour: u64, population: &mut Population) {
        volume.add(rows, Time(hour * 3_600_000_000), 3600, population);
    }

    #[test]
    fn the_usual_volume_leaves_out_the_client_that_is_measured_by_it() {
        let mut population = Population::default();
        for rows in 1..=20 {
            add(&mut Volume::default(), rows, 7, &mut population);
        }
        let mut busy = Volume::default();
        add(&mut busy, 1000, 7, &mut population);
        assert_eq!(busy.rows(), 1000);
        let usual = population.quantile(0.95, busy.rows(), 20).unwrap();
        assert!((19.0..=24.0).contains(&usual), "95 % of the others stay within 19 rows, told is {usual}");
        assert_eq!(population.quantile(0.95, busy.rows(), 21), None, "twenty others are no population of 21");
    }

    #[test]
    fn the_window_before_counts_and_the_one_before_that_does_not() {
        let (mut population, mut client) = (Population::default(), Volume::default());
        add(&mut client, 100, 7, &mut population);
        add(&mut client, 1, 8, &mut population);
        assert_eq!(client.rows(), 1, "a window of its own");
        assert!(population.quantile(0.5, 1, 1).unwrap() >= 100.0);
        add(&mut client, 1, 9, &mut population);
        assert_eq!(client.rows(), 1);
        assert_eq!(population.quantile(0.5, 1, 1), Some(1.25), "of the hour before");
    }

    #[test]
    fn what_comes_late_counts_into_the_window_that_is_open() {
        let (mut population, mut client) = (Population::default(), Volume::default());
        add(&mut client, 5, 8, &mut population);
        add(&mut client, 5, 7, &mut population);
        assert_eq!(client.rows(), 10);
    }
}
