//! How long a decision lasts: by how often its client offended before, and by nothing else.
//!
//! The same few lengths for every detector and every score, so that neither the length of a decision nor the wait
//! that a refused client is told gives away what was found.

use std::time::Duration;

/// The lengths of decisions, first offence first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<Duration>,
}

/// One step of a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Its number, from 1.
    pub number: usize,
    /// Rungs of its ladder.
    pub of: usize,
    /// How long a decision on it lasts.
    pub lasts: Duration,
}

impl Ladder {
    /// A ladder of these lengths. Without any, decisions end as soon as they are taken.
    #[must_use]
    pub fn new(rungs: Vec<Duration>) -> Self {
        Self { rungs }
    }

    /// The rung of a client that offended `before` times; whoever is at the top stays there.
    #[must_use]
    pub fn rung(&self, before: u32) -> Rung {
        let top = self.rungs.len().saturating_sub(1);
        let index = top.min(before as usize);
        Rung {
            number: index + 1,
            of: self.rungs.len(),
            lasts: self.rungs.get(index).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_climbs_rung_by_rung_and_stays_at_the_top() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let ladder = Ladder::new(vec![minutes(15), minutes(120), minutes(1440)]);
        let climbed: Vec<_> = [0, 1, 2, 3, u32::MAX].map(|before| ladder.rung(before)).to_vec();
        assert_eq!(climbed.iter().map(|rung| rung.number).collect::<Vec<_>>(), [1, 2, 3, 3, 3]);
        assert_eq!(climbed[1], Rung { number: 2, of: 3, lasts: minutes(120) });
        assert_eq!(climbed[4].lasts, minutes(1440));
    }

    #[test]
    fn a_ladder_without_rungs_has_nothing_that_lasts() {
        assert_eq!(Ladder::new(Vec::new()).rung(7).lasts, Duration::ZERO);
    }
}
