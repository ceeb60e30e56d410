//! What another policy would have done differently.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Run;
use super::attack::AttackVerdict;
use super::report::{ClientVerdict, Outcome};

/// What must be known of every comparison.
pub const CAVEAT: &str = "Both policies saw the same recorded requests. A live attacker would have reacted: whoever is \
                          blocked, degraded or let through asks other questions next, so of two policies the one that \
                          acts earlier has shown less of what would have followed.";

/// Where two policies differ.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The other policy's file.
    pub other: String,
    /// What must be known before it is believed.
    pub caveat: &'static str,
    /// Questions that the other policy refuses.
    pub refused: Option<u64>,
    /// Clients to whom something else happens.
    pub clients: Vec<ClientDifference>,
    /// Clients of whom both tell and to whom the same happens.
    pub clients_alike: u64,
    /// Attacks that get another share, the largest difference first.
    pub attacks: Vec<AttackDifference>,
    /// Attacks that get the same.
    pub attacks_alike: u64,
}

/// A client to whom two policies do different things.
#[derive(Debug, Serialize)]
pub struct ClientDifference {
    /// The client.
    pub client: String,
    /// What this policy does.
    pub this: Side,
    /// What the other does.
    pub other: Side,
}

/// What one policy does to a client.
#[derive(Debug, PartialEq, Serialize)]
pub struct Side {
    /// The strongest.
    pub outcome: Outcome,
    /// The detector that led to it, if one did.
    pub detector: Option<String>,
    /// When, Unix seconds.
    pub time: Option<f64>,
    /// Questions answered.
    pub answered: u64,
    /// Questions refused.
    pub refused: u64,
}

/// An attack that gets something else from two policies.
#[derive(Debug, Serialize)]
pub struct AttackDifference {
    /// Its name.
    pub name: String,
    /// The model in front of which it ran.
    pub model: String,
    /// Its rows.
    pub rows: u64,
    /// Rows that this policy answers.
    pub this_answers: u64,
    /// Rows that the other answers.
    pub other_answers: u64,
    /// The row of this policy's first block.
    pub this_blocks_at: Option<u64>,
    /// The row of the other's.
    pub other_blocks_at: Option<u64>,
}

impl Comparison {
    /// What `second`, the run of the policy called `other`, did differently from `first`.
    pub(super) fn of(other: &str, first: &Run, second: &Run) -> Self {
        let (clients, clients_alike) = clients(first, second);
        let (attacks, attacks_alike) = attacks(first, second);
        let refused = second.rehearsed.as_ref().map(|rehearsed| rehearsed.traffic.refused);
        let other = other.to_owned();
        Self { other, caveat: CAVEAT, refused, clients, clients_alike, attacks, attacks_alike }
    }
}

fn clients(first: &Run, second: &Run) -> (Vec<ClientDifference>, u64) {
    let mut pairs: BTreeMap<&str, [Option<&ClientVerdict>; 2]> = BTreeMap::new();
    for (position, run) in [first, second].into_iter().enumerate() {
        for verdict in run.rehearsed.iter().flat_map(|rehearsed| &rehearsed.traffic.verdicts) {
            if let Some(told) = pairs.entry(&verdict.client).or_default().get_mut(position) {
                *told = Some(verdict);
            }
        }
    }
    let all = pairs.len() as u64;
    let sides = pairs.into_iter().filter_map(|(client, pair)| Some((client, Side::both(pair)?)));
    let differ = sides.filter(|(_, (this, other))| this != other);
    let mut differ: Vec<ClientDifference> = differ
        .map(|(client, (this, other))| ClientDifference { client: client.to_owned(), this, other })
        .collect();
    differ.sort_by_key(|difference| std::cmp::Reverse(difference.this.outcome.max(difference.other.outcome)));
    let alike = all - differ.len() as u64;
    (differ, alike)
}

fn attacks(first: &Run, second: &Run) -> (Vec<AttackDifference>, u64) {
    let others: BTreeMap<(&str, &str), &AttackVerdict> =
        verdicts(second).map(|verdict| ((verdict.name.as_str(), verdict.model.as_str()), verdict)).collect();
    let pairs: Vec<(&AttackVerdict, &AttackVerdict)> = verdicts(first)
        .filter_map(|this| Some((this, *others.get(&(this.name.as_str(), this.model.as_str()))?)))
        .collect();
    let row = |verdict: &AttackVerdict| verdict.block.as_ref().map(|block| block.row);
    let same = |(this, other): &&(&AttackVerdict, &AttackVerdict)| {
        this.rows_answered == other.rows_answered && row(this) == row(other)
    };
    let alike = pairs.iter().filter(same).count() as u64;
    let mut differ: Vec<AttackDifference> = pairs
        .iter()
        .filter(|pair| !same(pair))
        .map(|(this, other)| AttackDifference {
            name: this.name.clone(),
            model: this.model.clone(),
            rows: this.rows,
            this_answers: this.rows_answered,
            other_answers: other.rows_answered,
            this_blocks_at: row(this),
            other_blocks_at: row(other),
        })
        .collect();
    differ.sort_by_key(|difference| {
        std::cmp::Reverse(difference.this_answers.abs_diff(difference.other_answers))
    });
    (differ, alike)
}

fn verdicts(run: &Run) -> impl Iterator<Item = &AttackVerdict> {
    run.attacks.iter().flat_map(|run| &run.attacks)
}

impl Side {
    fn of(verdict: &ClientVerdict) -> Self {
        let told = verdict.decisive();
        Self {
            outcome: verdict.outcome,
            detector: told.map(|told| told.detector.clone()),
            time: told.map(|told| told.time),
            answered: verdict.answered,
            refused: verdict.refused,
        }
    }

    /// What a policy does that has nothing to tell of the client of `verdict`: it answers everything.
    fn unnoticed(verdict: &ClientVerdict) -> Self {
        let answered = verdict.requests.saturating_sub(verdict.refused_when_recorded);
        Self { outcome: Outcome::Unnoticed, detector: None, time: None, answered, refused: 0 }
    }

    fn both(pair: [Option<&ClientVerdict>; 2]) -> Option<(Self, Self)> {
        match pair {
            [Some(this), Some(other)] => Some((Self::of(this), Self::of(other))),
            [Some(this), None] => Some((Self::of(this), Self::unnoticed(this))),
            [None, Some(other)] => Some((Self::unnoticed(other), Self::of(other))),
            [None, None] => None,
        }
    }
}
