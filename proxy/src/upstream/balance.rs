//! Which of several servers takes a request: three selectors, each a pure function of what it is given.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicUsize};

use checkgate_config::settings::Balance;

/// Longest cycle of the weighted round robin; weights are scaled down until they fit.
const CYCLE_MAX: usize = 4_096;

/// Chooses among the servers of one upstream, which are known by their position.
#[derive(Debug)]
pub struct Balancer {
    balance: Balance,
    weights: Box<[u32]>,
    /// What tells one server from another for the consistent hash: a hash of its address.
    seeds: Box<[u64]>,
    /// Positions in the order of turns, each as often as its weight says.
    cycle: Box<[usize]>,
    turn: AtomicUsize,
}

impl Balancer {
    /// A balancer of servers with these names and weights.
    pub fn new<'a>(balance: Balance, servers: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let (seeds, weights): (Vec<u64>, Vec<u32>) =
            servers.into_iter().map(|(name, weight)| (seed(name), weight.max(1))).unzip();
        Self {
            balance,
            cycle: cycle(&weights),
            weights: weights.into(),
            seeds: seeds.into(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The position of the chosen server among those that are `eligible`; `None` where none is.
    ///
    /// `client` is the hash of whoever asks, `open` the number of requests that a server has open.
    pub fn choose(
        &self,
        client: u64,
        eligible: impl Fn(usize) -> bool,
        open: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        match self.balance {
            Balance::RoundRobin => self.next_in_turn(eligible),
            Balance::LeastLoaded => self.least_loaded(eligible, open),
            Balance::ClientHash => self.of_client(client, eligible),
        }
    }

    fn next_in_turn(&self, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.take_turn();
        let (before, from) = self.cycle.split_at_checked(start)?;
        from.iter().chain(before).copied().find(|server| eligible(*server))
    }

    /// Ties go round in turn; otherwise all load of a quiet upstream would fall on its first server.
    fn least_loaded(&self, eligible: impl Fn(usize) -> bool, open: impl Fn(usize) -> usize) -> Option<usize> {
        let start = self.take_turn();
        let (before, from) = self.cycle.split_at_checked(start)?;
        let load = |server: usize| Load { open: open(server) + 1, weight: self.weight(server) };
        let candidates = from.iter().chain(before).copied().filter(|server| eligible(*server));
        candidates.map(|server| (load(server), server)).min_by(|a, b| a.0.compare(b.0)).map(|found| found.1)
    }

    /// Rendezvous hashing (Thaler and Ravishankar 1998) with weights (Schindelhauer and Schomaker 2005): every server
    /// draws a number for the client, and the highest draw takes it. A server that leaves moves its own clients only.
    fn of_client(&self, client: u64, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let draw =
            |server: usize, seed: u64| -f64::from(self.weight(server)) / unit(mixed(client ^ seed)).ln();
        let draws = self.seeds.iter().enumerate().filter(|(server, _)| eligible(*server));
        draws
            .map(|(server, seed)| (draw(server, *seed), server))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|found| found.1)
    }

    fn take_turn(&self) -> usize {
        self.turn.fetch_add(1, atomic::Ordering::Relaxed) % self.cycle.len().max(1)
    }

    fn weight(&self, server: usize) -> u32 {
        self.weights.get(server).copied().unwrap_or(1)
    }
}

/// Requests that a server would have open, against its weight.
#[derive(Clone, Copy)]
struct Load {
    open: usize,
    weight: u32,
}

impl Load {
    fn compare(self, other: Self) -> Ordering {
        let (ours, theirs) = (self.open as u64, other.open as u64);
        (ours * u64::from(other.weight)).cmp(&(theirs * u64::from(self.weight)))
    }
}

/// One turn after the other such that each server comes as often as its weight says and never in a burst: at every
/// turn all servers gain their weight, the richest is taken and pays the sum of all.
fn cycle(weights: &[u32]) -> Box<[usize]> {
    let weights = shortened(weights);
    let sum: i64 = weights.iter().sum();
    let mut wealth = vec![0; weights.len()];
    let mut cycle = Vec::new();
    for _ in 0..sum {
        for (owned, weight) in wealth.iter_mut().zip(&weights) {
            *owned += weight;
        }
        let richest = wealth.iter_mut().enumerate().rev().max_by_key(|(_, owned)| **owned);
        if let Some((server, owned)) = richest {
            *owned -= sum;
            cycle.push(server);
        }
    }
    cycle.into()
}

/// The same proportions in the smallest numbers, and at most [`CYCLE_MAX`] in sum as long as there are fewer servers.
fn shortened(weights: &[u32]) -> Vec<i64> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let sum = weights.iter().sum::<i64>();
    let cycle_max = CYCLE_MAX as i64;
    if sum > cycle_max {
        weights.iter_mut().for_each(|weight| *weight = (*weight * cycle_max / sum).max(1));
    }
    weights
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// FNV-1a: two processes must agree, so no hasher with a random key will do.
fn seed(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// SplitMix64's finaliser (Steele, Lea and Flood 2014): every bit of the input moves half the bits of the output.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A number between 0 and 1, both excluded.
fn unit(value: u64) -> f64 {
    ((value >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn balancer(balance: Balance, weights: &[u32]) -> Balancer {
        let names: Vec<String> = (0..weights.len()).map(|index| format!("10.0.0.{index}:80")).collect();
        Balancer::new(balance, names.iter().map(String::as_str).zip(weights.iter().copied()))
    }

    fn counts(servers: usize, chosen: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut counts = vec![0; servers];
        chosen.for_each(|server| counts[server] += 1);
        counts
    }

    fn weights() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(1_u32..=20, 1..8)
    }

    #[test]
    fn turns_are_interleaved_and_not_in_bursts() {
        assert_eq!(cycle(&[5, 1, 1]).as_ref(), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(cycle(&[1_000, 500]).as_ref(), [0, 1, 0], "weights count by their proportion");
        assert!(cycle(&[1_000, 999, 998, 997, 991]).len() <= CYCLE_MAX);
    }

    #[test]
    fn nobody_is_chosen_where_nobody_is_eligible() {
        for balance in [Balance::RoundRobin, Balance::LeastLoaded, Balance::ClientHash] {
            assert_eq!(balancer(balance, &[1, 2]).choose(7, |_| false, |_| 0), None, "{balance:?}");
            assert_eq!(balancer(balance, &[]).choose(7, |_| true, |_| 0), None, "{balance:?}");
        }
    }

    #[test]
    fn equal_loads_go_round() {
        let balancer = balancer(Balance::LeastLoaded, &[1, 1, 1]);
        let chosen = (0..300).filter_map(|_| balancer.choose(0, |_| true, |_| 0));
        assert_eq!(counts(3, chosen), [100, 100, 100]);
    }

    proptest! {
        #[test]
        fn one_cycle_gives_each_server_its_weight(weights in weights()) {
            let balancer = balancer(Balance::RoundRobin, &weights);
            let sum = weights.iter().sum::<u32>() as usize;
            let chosen = (0..sum).filter_map(|_| balancer.choose(0, |_| true, |_| 0));
            let wanted: Vec<usize> = weights.iter().map(|weight| *weight as usize).collect();
            prop_assert_eq!(counts(weights.len(), chosen), wanted);
        }

        #[test]
        fn only_eligible_servers_are_chosen(weights in weights(), out in any::<u8>(), client in any::<u64>()) {
            let eligible = |server: usize| out >> server & 1 == 0;
            let any = (0..weights.len()).any(eligible);
            for balance in [Balance::RoundRobin, Balance::LeastLoaded, Balance::ClientHash] {
                let chosen = balancer(balance, &weights).choose(client, eligible, |server| server);
                prop_assert_eq!(chosen.is_some(), any, "{:?}", balance);
                prop_assert!(chosen.is_none_or(eligible), "{:?} chose {:?}", balance, chosen);
            }
        }

        #[test]
        fn the_least_loaded_has_the_fewest_for_its_weight(
            servers in prop::collection::vec((1_u32..=20, 0_usize..50), 1..8)
        ) {
            let (weights, open): (Vec<u32>, Vec<usize>) = servers.into_iter().unzip();
            let chosen = balancer(Balance::LeastLoaded, &weights).choose(0, |_| true, |server| open[server]);
            let load = |server: usize| (open[server] + 1) as f64 / f64::from(weights[server]);
            let chosen = load(chosen.unwrap());
            prop_assert!((0..weights.len()).all(|server| chosen <= load(server) + 1e-9));
        }

        #[test]
        fn a_server_that_leaves_moves_its_own_clients_only(weights in weights(), gone in 0_usize..8) {
            let balancer = balancer(Balance::ClientHash, &weights);
            for client in 0..200_u64 {
                let before = balancer.choose(client, |_| true, |_| 0);
                let after = balancer.choose(client, |server| server != gone, |_| 0);
                prop_assert!(before == after || before == Some(gone), "client {} moved without need", client);
            }
        }
    }

    #[test]
    fn clients_spread_by_weight() {
        let weights = [1, 2, 5];
        let balancer = balancer(Balance::ClientHash, &weights);
        let clients = 40_000;
        let chosen = (0..clients).filter_map(|client| balancer.choose(client, |_| true, |_| 0));
        for (count, weight) in counts(3, chosen).into_iter().zip(weights) {
            let share = count as f64 / clients as f64;
            let due = f64::from(weight) / 8.0;
            assert!((share - due).abs() < 0.01, "weight {weight} of 8 got {share}");
        }
    }
}
