//! The latest rows and who sent them: what a shift is attributed by.
//!
//! For each row the slots of its values and its sender are kept, and nothing else happens; counts by sender are made
//! when somebody asks who is behind a shift. Now and then, while nothing drifts, the rows become part of the senders'
//! past. Rows of clients that something speaks against do not: what is suspected is nobody's usual behaviour.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::attribution::{Attribution, Sides, attribute, has_changed};
use super::burst;
use super::feature::Feature;
use super::measure::chi_square_quantile;
use super::reference::DriftReference;
use super::rolling::Rolling;
use super::senders::{COARSE, Senders, total};
use super::watch::UNKNOWN;
use crate::hashing::Hashing;
use crate::identity::{Address, Identity};

/// Most rows that are kept.
pub const ROWS: usize = 2048;
/// Most slots that are kept, a byte each: for very wide models there are fewer rows.
const SLOTS_MAX: usize = 1 << 18;
/// Rows that a shift is looked for in, one after the other: a young one stands out among few.
const LOOKED_AT: [usize; 3] = [256, 768, ROWS];
/// Features whose senders have a past.
const WITH_PAST_MAX: usize = 16;
/// So many times, rows become past whenever all were exchanged; later every eighth time, for it costs.
const SOON: u32 = 8;
/// Fewest events of a past that is gone by.
const PAST_MIN: u32 = 1000;
/// Rows of which somebody may have sent most.
const MOST_OF: usize = 128;
/// Whoever sent a smaller share of them is not told of.
const MOST_MIN: f64 = 1.0 / 3.0;
/// How likely chance alone goes over the line of a shift.
const ERROR: f64 = 1e-3;

/// The latest rows of one model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latest {
    senders: VecDeque<Sender>,
    /// The slots of each row, one row after the other.
    slots: VecDeque<u8>,
    /// Rows since the last ones became past.
    since: usize,
    turns: u32,
    past: Vec<Past>,
}

/// Who sent a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The client.
    pub client: Identity,
    /// Where it sent the row from.
    pub address: Address,
    /// Whether a decision on the client might have acted then.
    pub may_be_blocked: bool,
}

/// What the senders of one feature's values did while nothing drifted.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Past {
    feature: usize,
    levels: [Senders; 2],
}

/// A row that becomes past. Every feature counts the same rows in the same order, so a sender nearly always stands
/// where it stood in the feature before.
struct Row {
    row: usize,
    ids: [u64; 2],
    places: [usize; 2],
}

/// A level of senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Clients: addresses and keys.
    Client,
    /// Networks of clients: IPv4 by /24, IPv6 by /48.
    Network,
}

/// Somebody behind a shift.
#[derive(Clone, Debug, PartialEq)]
pub struct Carrier {
    /// At which level.
    pub level: Level,
    /// Who, as records print it.
    pub who: String,
    /// The same as its rows tell it; of a network, one of those in it.
    pub sender: Sender,
    /// Its share of the rows that were looked at, 0 to 1.
    pub share: f64,
    /// How far off the rows were with everybody, in nats for each.
    pub before: f64,
    /// How far off they are without this one and those before it.
    pub after: f64,
}

/// A client that sent many of the latest rows, whatever they were like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Most {
    /// Who.
    pub client: Identity,
    /// Its share of them, 0 to 1.
    pub share: f64,
}

/// Who is behind a shift, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carried {
    /// Many known clients changed at once.
    pub systemic: bool,
    /// Those without whom the rest looks as before, at most three. They behave unlike their own past, or, where they
    /// have none, unlike any client known.
    pub named: Vec<Carrier>,
}

impl Latest {
    /// Takes a row. Says whether it is time to make the rows past.
    pub fn take(&mut self, sender: Sender, slots: &[u8]) -> bool {
        let rows_max = ROWS.min(SLOTS_MAX / slots.len().max(1));
        while self.senders.len() >= rows_max {
            self.senders.pop_front();
            self.slots.drain(..slots.len().min(self.slots.len()));
        }
        self.senders.push_back(sender);
        self.slots.extend(slots);
        self.since += 1;
        self.since >= rows_max
    }

    /// Has the rolling reference follow the rows since the last time, but for those of whom `speaks_against` anything.
    /// O(rows x features), once for as many rows as are kept.
    pub fn roll(
        &self,
        rolling: &mut Rolling,
        reference: &DriftReference,
        speaks_against: impl Fn(Identity) -> bool,
    ) {
        let features = reference.features().len();
        let skipped = self.senders.len().saturating_sub(self.since);
        let rows = self.senders.iter().enumerate().skip(skipped);
        let clean: Vec<usize> =
            rows.filter(|(_, sender)| !speaks_against(sender.client)).map(|(row, _)| row).collect();
        rolling.fade(reference, clean.len());
        for row in clean {
            // There is no slot of the number that stands for one that is not known, so it counts nowhere.
            let slots = self.slots.iter().skip(row * features).take(features);
            slots.enumerate().for_each(|(feature, slot)| rolling.add(feature, usize::from(*slot)));
        }
    }

    /// Makes the rows past, where `calm` says that nothing drifts. Rows of whom `speaks_against` anything are left out.
    pub fn make_past(
        &mut self,
        reference: &DriftReference,
        hashing: &Hashing,
        calm: bool,
        speaks_against: impl Fn(Identity) -> bool,
    ) {
        self.since = 0;
        if !calm {
            return;
        }
        self.turns = self.turns.saturating_add(1);
        if self.turns > SOON && !self.turns.is_multiple_of(SOON) {
            return;
        }
        let mut past = std::mem::take(&mut self.past);
        if past.is_empty() {
            past = with_past(reference).collect();
        }
        let counted = self.senders.iter().enumerate().filter(|(_, sender)| !speaks_against(sender.client));
        let mut rows: Vec<Row> =
            counted.map(|(row, sender)| Row { row, ids: ids(hashing, sender), places: [0; 2] }).collect();
        let features = reference.features().len();
        for Past { feature, levels: [clients, networks] } in &mut past {
            for Row { row, ids: [client, network], places: [of_client, of_network] } in &mut rows {
                let slot = self.slots.get(*row * features + *feature).copied();
                let Some(slot) = slot.filter(|slot| *slot != UNKNOWN).map(usize::from) else { continue };
                clients.add_near(*client, *network, slot, of_client);
                networks.add_near(*network, 0, slot, of_network);
            }
        }
        self.past = past;
    }

    /// Whoever sent most of the latest rows, where that is a third of them or more.
    #[must_use]
    pub fn most(&self) -> Option<Most> {
        let mut clients: BTreeMap<Identity, u32> = BTreeMap::new();
        let rows = self.senders.iter().rev().take(MOST_OF);
        rows.for_each(|sender| *clients.entry(sender.client).or_default() += 1);
        let (client, rows) = clients.into_iter().max_by_key(|(_, rows)| *rows)?;
        let share = f64::from(rows) / self.senders.len().min(MOST_OF) as f64;
        (share >= MOST_MIN).then_some(Most { client, share })
    }

    /// The clients whose few rows made the evidence of a feature, if there are any.
    #[must_use]
    pub fn burst(&self, reference: &DriftReference, hashing: &Hashing, place: usize) -> Vec<Carrier> {
        let Some(feature) = reference.features().get(place) else { return Vec::new() };
        let rows = self.rows(place, reference.features().len(), burst::ROWS);
        let rows: Vec<burst::Row> = rows.map(|(sender, slot)| (hashing.salt(sender.client), slot)).collect();
        let past = self.past.iter().find(|past| past.feature == place).map(|past| &past.levels);
        let slots = feature.bins.slots();
        let changed = |client: u64, own: &[u32]| {
            let past = past.and_then(|[clients, _]| clients.of(client));
            has_changed(&burst::coarse(slots, own), past.as_ref())
        };
        let found = burst::behind(feature, &rows, changed);
        let carrier = |burst: &burst::Burst| {
            let sender =
                self.senders.iter().rev().find(|sender| hashing.salt(sender.client) == burst.client)?;
            let burst::Burst { share, before, after, .. } = *burst;
            let who = sender.client.to_string();
            Some(Carrier { level: Level::Client, who, sender: *sender, share, before, after })
        };
        found.iter().filter_map(carrier).collect()
    }

    /// Who is behind a shift of a feature.
    #[must_use]
    pub fn carried(&self, reference: &DriftReference, hashing: &Hashing, feature: usize) -> Carried {
        let mut found = Carried::default();
        for rows in LOOKED_AT {
            found = self.carried_in(reference, hashing, feature, rows);
            if found.systemic || !found.named.is_empty() || self.senders.len() <= rows {
                break;
            }
        }
        found
    }

    fn carried_in(
        &self,
        reference: &DriftReference,
        hashing: &Hashing,
        place: usize,
        rows: usize,
    ) -> Carried {
        let Some(feature) = reference.features().get(place) else { return Carried::default() };
        let mut window = [Senders::new(feature.bins.slots()), Senders::new(feature.bins.slots())];
        count(hashing, self.rows(place, reference.features().len(), rows), &mut window);
        let frozen = frozen(feature);
        let past = self.past.iter().find(|past| past.feature == place).map(|past| &past.levels);
        let past = past.filter(|[clients, _]| total(clients.all()) >= PAST_MIN).unwrap_or(&frozen);
        let sides: Vec<Sides<'_>> =
            window.iter().zip(past).map(|(window, reference)| Sides { window, reference }).collect();
        let found = attribute(&sides, chi_square_quantile(COARSE - 1, ERROR));
        self.told(hashing, &found)
    }

    /// The same with names in place of hashes.
    fn told(&self, hashing: &Hashing, found: &Attribution) -> Carried {
        let of = |level: usize, id: u64| {
            self.senders.iter().rev().find(|sender| ids(hashing, sender).get(level) == Some(&id)).copied()
        };
        let named = found.named.iter().filter_map(|named| {
            let sender = of(named.level, named.sender)?;
            let (level, who) = match named.level {
                0 => (Level::Client, sender.client.to_string()),
                _ => (Level::Network, network_text(sender.address)),
            };
            let (share, before, after) = (named.share, named.before, named.after);
            Some(Carrier { level, who, sender, share, before, after })
        });
        Carried { systemic: found.systemic, named: named.collect() }
    }

    /// Sender and slot of the latest `rows` rows, of one feature.
    fn rows(
        &self,
        feature: usize,
        features: usize,
        rows: usize,
    ) -> impl Iterator<Item = (&Sender, usize)> + '_ {
        let from = self.senders.len().saturating_sub(rows);
        let slot = move |row: usize| self.slots.get(row * features + feature).copied();
        let sent = self.senders.iter().enumerate().skip(from);
        sent.filter_map(move |(row, sender)| {
            let slot = slot(row).filter(|slot| *slot != UNKNOWN)?;
            Some((sender, usize::from(slot)))
        })
    }

    /// Forgets everything: another reference has other slots.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let past = self.past.iter().flat_map(|past| &past.levels).map(Senders::bytes);
        self.senders.capacity() * size_of::<Sender>() + self.slots.capacity() + past.sum::<usize>()
    }
}

/// The features whose senders have a past: all, or of very many the first and the last, where predictions stand.
fn with_past(reference: &DriftReference) -> impl Iterator<Item = Past> + '_ {
    let features = reference.features();
    let first = WITH_PAST_MAX - WITH_PAST_MAX / 4;
    let last = features.len().saturating_sub(WITH_PAST_MAX / 4);
    let kept = features.iter().enumerate();
    let kept =
        kept.filter(move |(place, _)| features.len() <= WITH_PAST_MAX || *place < first || *place >= last);
    kept.map(|(feature, of)| {
        let slots = of.bins.slots();
        Past { feature, levels: [Senders::new(slots), Senders::new(slots)] }
    })
}

/// What the frozen reference counted, of nobody in particular: it does not know who sent its rows.
fn frozen(feature: &Feature) -> [Senders; 2] {
    [Senders::of_nobody(feature.counts.slots()), Senders::of_nobody(feature.counts.slots())]
}

fn count<'a>(
    hashing: &Hashing,
    rows: impl Iterator<Item = (&'a Sender, usize)>,
    [clients, networks]: &mut [Senders; 2],
) {
    for (sender, slot) in rows {
        let [client, network] = ids(hashing, sender);
        clients.add(client, network, slot);
        networks.add(network, 0, slot);
    }
}

/// What stands for a client and for its network.
fn ids(hashing: &Hashing, sender: &Sender) -> [u64; 2] {
    [hashing.salt(sender.client), hashing.salt(Identity::Address(network(sender.address)))]
}

fn network(address: Address) -> Address {
    Address::of(match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & !0xff)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80)),
    })
}

fn network_text(address: Address) -> String {
    let ip = network(address).ip();
    if ip.is_ipv4() { format!("{ip}/24") } else { format!("{ip}/48") }
}
