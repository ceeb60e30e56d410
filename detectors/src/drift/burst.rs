//! Who is behind evidence that a few rows made: the client without whose rows there is none.
//!
//! The early layer bets event by event, so a dozen like rows of one client can be all of its evidence, where
//! [`mod@super::attribution`] sees too few rows to judge. Here the latest rows are played once more, with everybody and
//! without those who lie furthest off. Where a population moved, what is left without a client is about what the others'
//! share of the rows is, and nobody is named; where one client alone made it, next to nothing is left. Rows that repeat
//! are not played: no client repeats by itself, see [`mod@super::derived`].

use std::collections::BTreeMap;

use super::bins::SLOTS;
use super::counts::Pace;
use super::feature::{Feature, FeatureState};
use super::senders::Vector;
use super::watch::TICK_ROWS;
use crate::facts::Time;

/// Rows that are played.
pub const ROWS: usize = 768;
/// Clients that may be taken out next.
const CANDIDATES: usize = 3;
/// Most clients that are named.
const NAMED_MAX: usize = 3;
/// Most rows that may be theirs: what is left must be able to tell.
const SHARE_MAX: f64 = 0.5;
/// Least evidence for each row, as a logarithm: one that chance reaches once in a thousand times.
const LEAST: f64 = 6.9;
/// What may be left of it.
const LEFT_MAX: f64 = 0.2;

/// A row as far as one feature goes: its client, and the slot of its value.
pub type Row = (u64, usize);

/// A client that is behind a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Who.
    pub client: u64,
    /// Its share of the rows, 0 to 1.
    pub share: f64,
    /// Evidence of the rows with everybody, in nats for each.
    pub before: f64,
    /// The same without this client and those before it.
    pub after: f64,
}

/// Those without whose rows the feature has no evidence, at most three; nobody where the evidence is everybody's, or where
/// the rows have none. `has_changed` says of a client and its counts in coarse slots that it is unlike its own past, or has
/// none. O(rows), a dozen times.
#[must_use]
pub fn behind(feature: &Feature, rows: &[Row], has_changed: impl Fn(u64, &[u32]) -> bool) -> Vec<Burst> {
    let rows = rows.get(rows.len().saturating_sub(ROWS)..).unwrap_or_default();
    let (count, mut named) = (rows.len().max(1) as f64, Vec::<Burst>::new());
    let whole = surplus(feature, rows, &[]);
    if whole < LEAST {
        return named;
    }
    let suspects = suspects(feature, rows, has_changed);
    let (mut without, mut taken) = (Vec::new(), 0.0);
    while named.len() < NAMED_MAX {
        let others = suspects.iter().filter(|(client, _)| !without.contains(client)).take(CANDIDATES);
        let left = others.filter(|(_, own)| taken + own / count <= SHARE_MAX).map(|(client, own)| {
            let all: Vec<u64> = without.iter().copied().chain([*client]).collect();
            (surplus(feature, rows, &all), *client, own / count)
        });
        let Some((left, client, share)) = left.min_by(|one, other| one.0.total_cmp(&other.0)) else { break };
        without.push(client);
        taken += share;
        named.push(Burst { client, share, before: whole / count, after: left / count });
        if left <= LEFT_MAX * whole {
            return named;
        }
    }
    Vec::new()
}

/// The clients by how far their rows lie from the reference, furthest first, with how many rows are theirs.
fn suspects(feature: &Feature, rows: &[Row], has_changed: impl Fn(u64, &[u32]) -> bool) -> Vec<(u64, f64)> {
    let mut clients: BTreeMap<u64, [u32; SLOTS]> = BTreeMap::new();
    for (client, slot) in rows {
        if let Some(count) = clients.entry(*client).or_insert([0; SLOTS]).get_mut(*slot) {
            *count += 1;
        }
    }
    let far = |own: &[u32]| {
        let all = f64::from(own.iter().sum::<u32>());
        let part = |(count, p0): (&u32, &f64)| f64::from(*count) * libm::log(f64::from(*count) / all / p0);
        let pairs = own.iter().zip(feature.bank.p0()).filter(|(count, _)| **count > 0);
        (pairs.map(part).sum::<f64>(), all)
    };
    let changed = clients.iter().filter(|(client, own)| has_changed(**client, own.as_slice()));
    let mut order: Vec<(u64, (f64, f64))> = changed.map(|(client, own)| (*client, far(own))).collect();
    order.sort_by(|one, other| other.1.0.total_cmp(&one.1.0).then(one.0.cmp(&other.0)));
    order.into_iter().map(|(client, (_, own))| (client, own)).collect()
}

/// The most evidence that the rows of others than `without` reach, over their number: its logarithm, at least 0.
fn surplus(feature: &Feature, rows: &[Row], without: &[u64]) -> f64 {
    let mut state = FeatureState::new(feature, Pace::Never);
    let (mut played, mut most) = (0_u32, 0.0_f64);
    for (_, slot) in rows.iter().filter(|(client, _)| !without.contains(client)) {
        state.see_slot(*slot);
        played += 1;
        if played.is_multiple_of(TICK_ROWS) {
            state.settle(feature, Time(0));
            most = most.max(libm::log(state.early(feature) / f64::from(played)));
        }
    }
    most
}

/// Counts of a feature's own slots as coarse ones.
#[must_use]
pub fn coarse(slots: usize, counts: &[u32]) -> Vector {
    *super::senders::Senders::of_nobody(counts.get(..slots).unwrap_or(counts)).all()
}
