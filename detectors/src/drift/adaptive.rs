//! The bets of the early layer that learn: the latest events tell what the next ones are.
//!
//! Each half-life is a bet. What they know of a slot stands side by side, so that one instruction works on all of them.

use serde::{Deserialize, Serialize};

use super::counts::Tick;
use super::event::{MARGIN_MIN, raised};
use super::powers::{powers, times};

/// Half-lives of the adaptive bets, in events.
const HALF_LIVES: [f64; 3] = [64.0, 512.0, 4096.0];

/// The bets that the latest events tell what the next ones are, side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Adaptive {
    levels: Bets,
    keeps: Bets,
    events: Bets,
    /// Of each slot.
    counts: Vec<Bets>,
}

/// A number of each adaptive bet. Four go together, so that of the last one stands there twice.
type Bets = [f64; HALF_LIVES.len() + 1];

/// What an adaptive bet must allow for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margins {
    /// By how much of itself each slot's probability may differ without being a change.
    pub tolerance: f64,
    /// Standard errors of the reference, in units of the root of chi-square.
    pub error: f64,
}

impl Adaptive {
    /// Nothing learned yet.
    pub fn new(slots: usize) -> Self {
        let half_life = |bet: usize| HALF_LIVES.get(bet).or(HALF_LIVES.last());
        let keep = |bet| half_life(bet).map_or(0.0, |half_life| libm::exp2(-1.0 / half_life));
        Self {
            levels: Bets::default(),
            keeps: std::array::from_fn(keep),
            events: Bets::default(),
            counts: vec![Bets::default(); slots],
        }
    }

    /// Settles a tick with what was learned before it, then learns from it. `p0` are the reference's probabilities.
    #[inline(always)]
    pub fn take(&mut self, p0: &[f64], margins: Margins, tick: &Tick<'_>) {
        let factors = self.factors(p0, margins, tick);
        let pairs = self.levels.iter_mut().zip(factors);
        pairs.for_each(|(level, factor)| *level = raised(*level, tick.events(), factor));
        self.learn(tick);
    }

    /// The evidence of each bet.
    pub fn levels(&self) -> impl Iterator<Item = f64> + '_ {
        self.levels.iter().take(HALF_LIVES.len()).copied()
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<Bets>()
    }

    /// By what a tick multiplies each bet; 0 where too little was learned to say anything.
    #[inline(always)]
    fn factors(&self, p0: &[f64], Margins { tolerance, error }: Margins, tick: &Tick<'_>) -> Bets {
        let prior = 2.0 * p0.len() as f64;
        let wholes = self.events.map(|events| events + prior);
        let (mut apart, mut squares) = (Bets::default(), Bets::default());
        for (p, kept) in p0.iter().zip(&self.counts) {
            let sums = apart.iter_mut().zip(&mut squares).zip(shares(*p, kept, prior, &wholes));
            for ((apart, squares), share) in sums {
                let difference = share - p;
                *apart += difference.abs();
                *squares += difference * difference / p;
            }
        }
        let mut margins = Bets::default();
        for ((margin, apart), squares) in margins.iter_mut().zip(apart).zip(squares) {
            // Twice the total variation is the sum of the differences.
            *margin = 1.0 + tolerance * apart + error * squares.sqrt();
        }
        let mut factors = [1.0; HALF_LIVES.len() + 1];
        for (slot, count) in tick.met() {
            let (Some(p), Some(kept)) = (p0.get(slot), self.counts.get(slot)) else { continue };
            let mut ratios = shares(*p, kept, prior, &wholes);
            ratios.iter_mut().zip(margins).for_each(|(ratio, margin)| *ratio /= p * margin);
            factors = times(factors, &powers(ratios, count));
        }
        let pairs = factors.iter_mut().zip(margins).filter(|(_, margin)| *margin < 1.0 + MARGIN_MIN);
        pairs.for_each(|(factor, _)| *factor = 0.0);
        factors
    }

    #[inline(always)]
    fn learn(&mut self, tick: &Tick<'_>) {
        let keeps = powers(self.keeps, tick.events());
        self.events = times(self.events, &keeps).map(|events| events + f64::from(tick.events()));
        self.counts.iter_mut().for_each(|kept| *kept = times(*kept, &keeps));
        for (slot, count) in tick.met() {
            if let Some(kept) = self.counts.get_mut(slot) {
                *kept = kept.map(|kept| kept + f64::from(count));
            }
        }
    }
}

/// The probability of a slot by what each adaptive bet kept of it.
#[inline(always)]
fn shares(p: f64, kept: &Bets, prior: f64, wholes: &Bets) -> Bets {
    let mut shares = kept.map(|kept| kept + prior * p);
    shares.iter_mut().zip(wholes).for_each(|(share, whole)| *share /= whole);
    shares
}
