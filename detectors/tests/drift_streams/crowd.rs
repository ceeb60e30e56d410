//! Many clients of one endpoint, some of whom change or come anew.

use checkgate_detectors::drift::attribution::{Attribution, Sides, attribute, distance};
use checkgate_detectors::drift::bins::{Bins, Value};
use checkgate_detectors::drift::senders::Senders;

use super::Numbers;

/// Known clients.
const CLIENTS: u64 = 300;
/// Clients of one network.
const NETWORK: u64 = 10;
/// Events of a window.
pub const WINDOW: usize = 4000;
/// Events of the reference.
const REFERENCE: usize = 100_000;
/// The first client that nobody knows.
pub const NEWCOMER: u64 = 10_000;
/// The network of a botnet.
pub const BOTNET: u64 = 99_999;

/// What happens in a window.
#[derive(Clone, Copy, Debug)]
pub enum Scenario {
    /// Nothing.
    Calm,
    /// A new client sends this share of events, of its own kind.
    Attacker(f64),
    /// A known client changes; the one whose share is nearest.
    Changes(f64),
    /// 200 new addresses of one network send this share.
    Botnet(f64),
    /// All clients move by this many deviations.
    AllShift(f64),
    /// The known client that is furthest off grows to this share.
    Grows(f64),
    /// A new client sends this share, no different from others.
    HonestNewcomer(f64),
}

/// A population, its reference, and the line of a shift.
pub struct Crowd {
    numbers: Numbers,
    weights: Vec<f64>,
    means: Vec<f64>,
    bins: Bins,
    reference: [Senders; 2],
    line: f64,
}

impl Crowd {
    /// A population of its own by each seed. The line is the largest distance of 40 calm windows.
    pub fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed.wrapping_mul(0x2545_f491));
        let weight = |rank: u64| libm::pow(rank as f64 + 1.0, -1.1);
        let means: Vec<f64> = (0..CLIENTS).map(|_| 0.35 * numbers.normal()).collect();
        let mut crowd = Self {
            weights: sums((0..CLIENTS).map(weight)),
            means,
            bins: Bins::of(&[]),
            reference: [Senders::new(1), Senders::new(1)],
            line: 0.0,
            numbers,
        };
        let values: Vec<Value> =
            (0..REFERENCE).map(|_| Value::Number(crowd.event(Scenario::Calm).1)).collect();
        crowd.bins = Bins::of(&values);
        crowd.reference = crowd.count(Scenario::Calm, REFERENCE);
        let calm = (0..40).map(|_| {
            let window = crowd.count(Scenario::Calm, WINDOW);
            distance(window[0].all(), crowd.reference[0].all())
        });
        let line = calm.fold(0.0, f64::max);
        crowd.line = line;
        crowd
    }

    /// A client and its value.
    fn event(&mut self, scenario: Scenario) -> (u64, f64) {
        let client = self.client(scenario);
        let mean = self.means.get(client as usize).copied().unwrap_or(0.0);
        let value = match scenario {
            Scenario::Attacker(_) if client >= NEWCOMER => 1.5 + 0.3 * self.numbers.normal(),
            Scenario::Botnet(_) if client >= NEWCOMER => 1.5 + 0.3 * self.numbers.normal(),
            Scenario::Changes(share) if client == self.nearest(share) => 1.5 + 0.3 * self.numbers.normal(),
            Scenario::AllShift(shift) => mean + shift + self.numbers.normal(),
            _ => mean + self.numbers.normal(),
        };
        (client, value)
    }

    fn client(&mut self, scenario: Scenario) -> u64 {
        let draw = self.numbers.uniform();
        match scenario {
            Scenario::Attacker(share) | Scenario::HonestNewcomer(share) if draw < share => NEWCOMER,
            Scenario::Botnet(share) if draw < share => NEWCOMER + 1 + self.numbers.bits() % 200,
            Scenario::Grows(share) if draw < share => self.oddest(),
            Scenario::Changes(share) if draw < share => self.nearest(share),
            _ => {
                let draw = self.numbers.uniform();
                self.weights.partition_point(|sum| *sum < draw) as u64
            }
        }
    }

    /// Who of the known clients changes: among the first twenty, by the share.
    pub fn nearest(&self, share: f64) -> u64 {
        let own = |client: usize| {
            let before = client.checked_sub(1).map_or(0.0, |before| self.weights[before]);
            self.weights[client] - before
        };
        let apart = |client: &usize| (own(*client) - share).abs();
        (0..20).min_by(|one, other| apart(one).total_cmp(&apart(other))).unwrap_or(0) as u64
    }

    /// The client among the first twenty whose mean is furthest off.
    pub fn oddest(&self) -> u64 {
        (0..20).max_by(|one, other| self.means[*one].abs().total_cmp(&self.means[*other].abs())).unwrap_or(0)
            as u64
    }

    fn count(&mut self, scenario: Scenario, events: usize) -> [Senders; 2] {
        let slots = self.bins.slots();
        let mut levels = [Senders::new(slots), Senders::new(slots)];
        for _ in 0..events {
            let (client, value) = self.event(scenario);
            let slot = self.bins.slot(Value::Number(value));
            let network = if client > NEWCOMER { BOTNET } else { 50_000 + client / NETWORK };
            levels[0].add(client, network, slot);
            levels[1].add(network, 0, slot);
        }
        levels
    }

    /// Who is behind what happens in a window.
    pub fn ask(&mut self, scenario: Scenario) -> Attribution {
        let window = self.count(scenario, WINDOW);
        let sides = |level: usize| Sides { window: &window[level], reference: &self.reference[level] };
        attribute(&[sides(0), sides(1)], self.line)
    }

    /// Whom a scenario would have named, with the level.
    pub fn culprit(&self, scenario: Scenario) -> Option<(usize, u64)> {
        match scenario {
            Scenario::Attacker(_) => Some((0, NEWCOMER)),
            Scenario::Changes(share) => Some((0, self.nearest(share))),
            Scenario::Botnet(_) => Some((1, BOTNET)),
            Scenario::Calm | Scenario::AllShift(_) | Scenario::Grows(_) | Scenario::HonestNewcomer(_) => None,
        }
    }
}

/// Running sums of shares.
fn sums(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let weights: Vec<f64> = weights.collect();
    let whole: f64 = weights.iter().sum();
    let mut sum = 0.0;
    weights
        .iter()
        .map(|weight| {
            sum += weight / whole;
            sum
        })
        .collect()
}
