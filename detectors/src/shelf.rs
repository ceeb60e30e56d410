//! A bounded memory that clients share fairly.
//!
//! When it is full, the client that holds most loses its oldest entry, so that a slow client's few entries outlive
//! any flood from busier ones; and no client ever holds more than its share. Both rules depend on counts alone,
//! hence on nothing but the order of the facts.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::pages::Pages;
use crate::places::Places;

/// A client's index in the one client table.
pub type ClientIndex = usize;

/// Entries under 64-bit keys, each owned by one client. A key belongs to one client only: it is hashed with the
/// client's own salt.
///
/// All entries lie in one slab, those of a client as a ring, so that a client with few of them costs little beyond
/// them: 8 bytes for its end of the ring, and 8 for its rank.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    from = "Stored<V>",
    into = "Stored<V>",
    bound(serialize = "V: Clone + Default + Serialize", deserialize = "V: Default + Deserialize<'de>")
)]
pub struct Shelf<V> {
    bounds: Bounds,
    entries: Vec<Entry<V>>,
    /// The first free place of the slab; a free entry tells the next.
    free: u32,
    places: Places<2>,
    shares: Pages<Share>,
    /// The clients that hold something: a heap whose first is who loses next.
    ranking: Vec<Ranked>,
    held: usize,
    births: u64,
    evicted: u64,
}

/// How much may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Entries of all clients together.
    pub entries: usize,
    /// Entries of one client.
    pub entries_per_client: usize,
}

impl Bounds {
    /// `entries` altogether, of which one client may hold an eighth.
    #[must_use]
    pub fn shared(entries: usize) -> Self {
        Self { entries, entries_per_client: (entries / 8).max(1) }
    }
}

/// A client of the ranking, with how much it holds: mostly that alone tells who stands higher, and it lies at hand.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    client: u32,
    entries: u32,
}

/// Orders clients that hold as much: the one with the oldest entry stands highest.
type Age = (Reverse<u64>, u32);

/// Who makes room for entries.
#[derive(Clone, Copy, Debug)]
enum Loser {
    /// There is room, for so many.
    Nobody { entries: usize },
    /// The client itself, all the time or until its oldest entry was born after that of a client that holds as many.
    Itself { until: Option<u64> },
    /// Another client, for so many.
    Other { client: ClientIndex, entries: usize },
}

/// No place.
const NONE: u32 = u32::MAX;

/// Where a client's entries are: the latest leads to the oldest, and each to the one after it.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    latest: u32,
    /// Where the client stands in the ranking, counted from 1; 0 where it holds nothing.
    seat: u32,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    key: u64,
    born: u64,
    owner: u32,
    next: u32,
    value: V,
}

/// What is written down of a shelf: the rest follows from it.
#[derive(Serialize, Deserialize)]
struct Stored<V> {
    bounds: Bounds,
    births: u64,
    evicted: u64,
    /// Client, key, birth and value, by client and age.
    entries: Vec<(u32, u64, u64, V)>,
}

impl<V: Default> Shelf<V> {
    /// An empty shelf.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: Vec::new(),
            free: NONE,
            places: Places::default(),
            shares: Pages::default(),
            ranking: Vec::new(),
            held: 0,
            births: 0,
            evicted: 0,
        }
    }

    /// Entries held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Entries dropped to make room, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The client's entries, oldest first.
    pub fn of(&self, client: ClientIndex) -> impl Iterator<Item = &V> {
        self.ring(client).map(|entry| &entry.value)
    }

    /// The client's entry under `key`.
    #[must_use]
    pub fn get(&self, client: ClientIndex, key: u64) -> Option<&V> {
        self.entries.get(self.find(client, key)?).map(|entry| &entry.value)
    }

    /// The client's entry under `key`, to be changed.
    pub fn get_mut(&mut self, client: ClientIndex, key: u64) -> Option<&mut V> {
        let place = self.find(client, key)?;
        self.entries.get_mut(place).map(|entry| &mut entry.value)
    }

    /// Puts an entry under a key that the client does not hold yet; O(log clients).
    pub fn insert(&mut self, client: ClientIndex, key: u64, value: V) {
        self.insert_all(client, std::iter::once((key, value)));
    }

    /// Puts several entries under keys that the client does not hold yet, as [`Shelf::insert`] does one after the other:
    /// but clients are ranked anew only once the loser changes.
    pub fn insert_all(&mut self, client: ClientIndex, mut entries: impl ExactSizeIterator<Item = (u64, V)>) {
        while entries.len() > 0 {
            match self.loser(client, entries.len()) {
                Loser::Itself { until } => self.replace_oldest(client, until, &mut entries),
                Loser::Other { client: loser, entries: count } => {
                    self.drop_oldest(loser, count);
                    self.append(client, entries.by_ref().take(count));
                }
                Loser::Nobody { entries: count } => self.append(client, entries.by_ref().take(count)),
            }
        }
    }

    /// Whether the client holds anything.
    #[must_use]
    pub fn holds(&self, client: ClientIndex) -> bool {
        self.seat_of(client).is_some()
    }

    /// Forgets everything of one client.
    pub fn forget(&mut self, client: ClientIndex) {
        let evicted = self.evicted;
        self.drop_oldest(client, self.held_by(client));
        self.evicted = evicted;
    }

    /// Bytes that grow with the clients, entries left out.
    #[must_use]
    pub fn client_bytes(&self) -> usize {
        self.shares.bytes() + self.ranking.capacity() * size_of::<Ranked>()
    }

    fn find(&self, client: ClientIndex, key: u64) -> Option<usize> {
        self.places.find(key, |place| {
            self.entries.get(place).is_some_and(|entry| entry.key == key && entry.owner as usize == client)
        })
    }

    fn ring(&self, client: ClientIndex) -> impl Iterator<Item = &Entry<V>> {
        let held = self.held_by(client);
        let latest = self.shares.get(client).filter(|_| held > 0).and_then(|share| self.entry(share.latest));
        let oldest = latest.and_then(|latest| self.entry(latest.next));
        std::iter::successors(oldest, |entry| self.entry(entry.next)).take(held)
    }

    fn seat_of(&self, client: ClientIndex) -> Option<usize> {
        (self.shares.get(client)?.seat as usize).checked_sub(1)
    }

    fn held_by(&self, client: ClientIndex) -> usize {
        let ranked = self.seat_of(client).and_then(|seat| self.ranking.get(seat));
        ranked.map_or(0, |ranked| ranked.entries as usize)
    }

    fn entry(&self, place: u32) -> Option<&Entry<V>> {
        self.entries.get(place as usize)
    }

    /// Who makes room for entries of this client, at most so many.
    fn loser(&self, client: ClientIndex, wanted: usize) -> Loser {
        let own = self.held_by(client);
        let of_client = self.bounds.entries_per_client.max(1).saturating_sub(own);
        if of_client == 0 {
            return Loser::Itself { until: None };
        }
        let room = self.bounds.entries.saturating_sub(self.held).min(of_client);
        let Some(loser) = self.ranking.first().filter(|_| room == 0) else {
            return Loser::Nobody { entries: room.clamp(1, wanted) };
        };
        let next = self.next();
        let lead = loser.entries - next.map_or(0, |next| next.entries);
        if loser.client as usize == client {
            let next = next.filter(|_| lead == 0).and_then(|next| self.age(next.client));
            return Loser::Itself { until: next.map(|(Reverse(born), _)| born) };
        }
        // The one loses what the other gains.
        let until_met = (loser.entries as usize - own).div_ceil(2);
        let entries = (lead as usize).min(until_met).min(of_client).clamp(1, wanted);
        Loser::Other { client: loser.client as usize, entries }
    }

    /// Who would lose next but for the one who does.
    fn next(&self) -> Option<&Ranked> {
        let below = self.ranking.iter().skip(1).take(2);
        below.reduce(|one, other| if self.outranks(*other, *one) { other } else { one })
    }

    /// Puts entries where their client's oldest are, until the oldest was born after `until`: busy clients make room for
    /// themselves most of the time. The ring stays as it is, but for which entry is the latest.
    fn replace_oldest(
        &mut self,
        client: ClientIndex,
        until: Option<u64>,
        entries: impl Iterator<Item = (u64, V)>,
    ) {
        let Some(share) = self.shares.get_mut(client) else { return entries.for_each(drop) };
        let mut place = self.entries.get(share.latest as usize).map_or(NONE, |latest| latest.next);
        for (key, value) in entries {
            let Some(oldest) = self.entries.get_mut(place as usize) else { return };
            share.latest = place;
            let (before, next) = (oldest.key, oldest.next);
            *oldest = Entry { key, born: self.births, owner: oldest.owner, next, value };
            self.births += 1;
            self.evicted += 1;
            let known = &self.entries;
            self.places.remove(before, place as usize, |place| key_at(known, place));
            self.places.insert(key, place as usize, |place| key_at(known, place));
            place = next;
            if until.is_some_and(|until| known.get(place as usize).is_none_or(|oldest| oldest.born > until)) {
                break;
            }
        }
        self.seat_of(client).into_iter().for_each(|seat| self.sink(seat));
    }

    /// Adds entries, the oldest of them first.
    fn append(&mut self, client: ClientIndex, entries: impl Iterator<Item = (u64, V)>) {
        let births = self.births..;
        self.append_born(client, entries.zip(births));
    }

    /// Adds entries with their births, younger than all others of their client, the oldest of them first.
    fn append_born(&mut self, client: ClientIndex, entries: impl Iterator<Item = ((u64, V), u64)>) {
        let seat = self.seat_of(client);
        let latest = self.shares.get(client).filter(|_| seat.is_some()).map(|share| share.latest);
        // The latest leads to the oldest; the one before leads to the latest.
        let mut oldest = latest.and_then(|latest| self.entry(latest)).map(|latest| latest.next);
        let (mut last, mut added) = (latest, 0);
        for ((key, value), born) in entries {
            let place = self.put(Entry { key, born, owner: client as u32, next: NONE, value });
            last.into_iter().for_each(|last| self.link(last, place));
            let known = &self.entries;
            self.places.insert(key, place as usize, |place| key_at(known, place));
            self.births = born + 1;
            oldest = oldest.or(Some(place));
            last = Some(place);
            added += 1;
        }
        let (Some(latest), Some(oldest)) = (last, oldest) else { return };
        self.link(latest, oldest);
        self.shares.entry(client).into_iter().for_each(|share| share.latest = latest);
        self.held += added as usize;
        self.rank(client, seat, added);
    }

    /// Ranks a client anew that holds so many entries more than before.
    fn rank(&mut self, client: ClientIndex, seat: Option<usize>, added: u32) {
        if let Some(seat) = seat {
            self.ranking.get_mut(seat).into_iter().for_each(|ranked| ranked.entries += added);
            return self.rise(seat);
        }
        if self.ranking.len() == self.ranking.capacity() {
            self.ranking.reserve_exact(self.ranking.len() / 8 + 8);
        }
        self.ranking.push(Ranked { client: client as u32, entries: added });
        self.rise(self.ranking.len() - 1);
    }

    /// Puts an entry into a free place of the slab.
    fn put(&mut self, entry: Entry<V>) -> u32 {
        let place = self.free;
        match self.entries.get_mut(place as usize) {
            Some(free) => {
                self.free = free.next;
                *free = entry;
                place
            }
            None => {
                self.entries.push(entry);
                // Bounds lie far below what four bytes can tell.
                (self.entries.len() - 1) as u32
            }
        }
    }

    fn link(&mut self, place: u32, next: u32) {
        self.entries.get_mut(place as usize).into_iter().for_each(|entry| entry.next = next);
    }

    /// Drops the oldest entries of a client that holds so many, to make room.
    fn drop_oldest(&mut self, client: ClientIndex, count: usize) {
        let Some(seat) = self.seat_of(client) else { return };
        let latest = self.shares.get(client).map_or(NONE, |share| share.latest);
        let mut place = self.entry(latest).map_or(NONE, |latest| latest.next);
        for _ in 0..count {
            let Some(oldest) = self.entries.get_mut(place as usize) else { return };
            let key = oldest.key;
            oldest.value = V::default();
            let after = std::mem::replace(&mut oldest.next, std::mem::replace(&mut self.free, place));
            let known = &self.entries;
            self.places.remove(key, place as usize, |place| key_at(known, place));
            place = after;
        }
        self.held -= count;
        self.evicted += count as u64;
        self.take_off(seat, count as u32, (latest, place));
    }

    /// Ranks a client anew that holds so many entries less than before, of which the latest now leads to that oldest.
    fn take_off(&mut self, seat: usize, count: u32, (latest, oldest): (u32, u32)) {
        let Some(ranked) = self.ranking.get_mut(seat) else { return };
        ranked.entries -= count;
        if ranked.entries > 0 {
            self.link(latest, oldest);
            self.sink(seat);
        } else {
            let client = ranked.client as usize;
            self.shares.get_mut(client).into_iter().for_each(|share| share.seat = 0);
            self.unrank(seat);
        }
    }

    /// Takes whoever sits at `at` out of the ranking.
    fn unrank(&mut self, at: usize) {
        let Some(last) = self.ranking.pop() else { return };
        if let Some(place) = self.ranking.get_mut(at) {
            *place = last;
            self.rise(at);
            self.sink(at);
        }
    }

    /// Moves a client of the ranking up to where it belongs.
    fn rise(&mut self, mut at: usize) {
        let Some(&client) = self.ranking.get(at) else { return };
        while at > 0 {
            let above = (at - 1) / 2;
            let Some(&other) = self.ranking.get(above) else { return };
            if !self.outranks(client, other) {
                break;
            }
            self.seat(at, other);
            at = above;
        }
        self.seat(at, client);
    }

    /// Moves a client of the ranking down to where it belongs.
    fn sink(&mut self, mut at: usize) {
        let Some(&client) = self.ranking.get(at) else { return };
        // Mostly neither of the two below belongs above, which is told without asking which of them is higher.
        let higher = |shelf: &Self, at: usize| {
            shelf.ranking.get(at).copied().filter(|other| shelf.outranks(*other, client))
        };
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let (below, highest) = match (higher(self, left), higher(self, right)) {
                (Some(one), Some(other)) if self.outranks(other, one) => (right, other),
                (Some(one), _) => (left, one),
                (None, Some(other)) => (right, other),
                (None, None) => break,
            };
            self.seat(at, highest);
            at = below;
        }
        self.seat(at, client);
    }

    fn seat(&mut self, at: usize, ranked: Ranked) {
        self.ranking.get_mut(at).into_iter().for_each(|place| *place = ranked);
        self.shares.get_mut(ranked.client as usize).into_iter().for_each(|share| share.seat = at as u32 + 1);
    }

    fn outranks(&self, one: Ranked, other: Ranked) -> bool {
        match one.entries.cmp(&other.entries) {
            std::cmp::Ordering::Equal => self.age(one.client) > self.age(other.client),
            order => order.is_gt(),
        }
    }

    fn age(&self, client: u32) -> Option<Age> {
        let share = self.shares.get(client as usize)?;
        let oldest = self.entry(self.entry(share.latest)?.next)?;
        Some((Reverse(oldest.born), client))
    }
}

fn key_at<V>(entries: &[Entry<V>], place: usize) -> u64 {
    entries.get(place).map_or(0, |entry| entry.key)
}

impl<V: Default> From<Stored<V>> for Shelf<V> {
    fn from(stored: Stored<V>) -> Self {
        let mut shelf = Self::new(stored.bounds);
        for (owner, key, born, value) in stored.entries {
            shelf.append_born(owner as usize, std::iter::once(((key, value), born)));
        }
        Self { births: stored.births, evicted: stored.evicted, ..shelf }
    }
}

impl<V: Clone + Default> From<Shelf<V>> for Stored<V> {
    fn from(shelf: Shelf<V>) -> Self {
        let mut clients: Vec<u32> = shelf.ranking.iter().map(|ranked| ranked.client).collect();
        clients.sort_unstable();
        let rings = clients.iter().flat_map(|client| shelf.ring(*client as usize));
        let entries = rings.map(|entry| (entry.owner, entry.key, entry.born, entry.value.clone())).collect();
        Self { bounds: shelf.bounds, births: shelf.births, evicted: shelf.evicted, entries }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shelf() -> Shelf<u64> {
        Shelf::new(Bounds { entries: 8, entries_per_client: 4 })
    }

    #[test]
    fn a_quiet_clients_entry_outlives_a_flood() {
        let mut shelf = shelf();
        shelf.insert(0, 1, 10);
        for key in 100..1000 {
            shelf.insert(1 + (key % 3) as usize, key, key);
        }
        assert_eq!(shelf.get(0, 1), Some(&10), "three busy clients must not push out a quiet one");
        assert_eq!(shelf.len(), 8);
    }

    #[test]
    fn no_client_holds_more_than_its_share() {
        let mut shelf = shelf();
        for key in 0..5 {
            shelf.insert(0, key, key);
        }
        assert_eq!(shelf.get(0, 0), None, "the oldest goes first");
        assert_eq!((shelf.len(), shelf.evicted()), (4, 1));
    }

    #[test]
    fn a_key_is_found_by_its_owner_only() {
        let mut shelf = shelf();
        shelf.insert(0, 7, 70);
        shelf.insert(1, 8, 80);
        assert_eq!(shelf.get(1, 7), None);
        assert_eq!(shelf.get(0, 8), None);
    }

    /// The rules as they are told at the top: client, key and birth of each entry.
    fn insert_plainly(held: &mut Vec<(ClientIndex, u64, usize)>, client: ClientIndex, key: u64, born: usize) {
        let count = |of: ClientIndex| held.iter().filter(|(owner, ..)| *owner == of).count();
        let oldest = |of: ClientIndex| held.iter().position(|(owner, ..)| *owner == of);
        let loser = if count(client) >= 4 {
            Some(client)
        } else if held.len() >= 8 {
            let rank = |of: &ClientIndex| (count(*of), oldest(*of).map(|place| Reverse(held[place].2)), *of);
            (0..6).filter(|of| count(*of) > 0).max_by_key(rank)
        } else {
            None
        };
        loser.and_then(oldest).map(|place| held.remove(place));
        held.push((client, key, born));
    }

    proptest! {
        /// Most shelves are full after a few turns: with quotas that are seldom reached, and ones that are all the time.
        #[test]
        fn several_at_once_are_what_they_are_one_by_one(
            entries in 1..32_usize,
            entries_per_client in 1..32_usize,
            turns in prop::collection::vec((0..6_usize, 0..24_u64, prop::bool::weighted(0.05)), 0..40),
        ) {
            let bounds = Bounds { entries, entries_per_client };
            let (mut together, mut one_by_one) = (Shelf::new(bounds), Shelf::new(bounds));
            for (turn, (client, count, forgets)) in (0..).zip(turns) {
                if forgets {
                    together.forget(client);
                    one_by_one.forget(client);
                }
                let entries: Vec<(u64, u64)> = (0..count).map(|number| (100 * turn + number, number)).collect();
                entries.iter().for_each(|(key, value)| one_by_one.insert(client, *key, *value));
                together.insert_all(client, entries.iter().copied());
                let saved = [&together, &one_by_one].map(|shelf| postcard::to_stdvec(shelf).unwrap());
                prop_assert_eq!(&saved[0], &saved[1]);
                prop_assert!(together.len() <= bounds.entries);
                prop_assert_eq!(together.ranking.len(), one_by_one.ranking.len());
                for at in 1..together.ranking.len() {
                    let (above, below) = (together.ranking[(at - 1) / 2], together.ranking[at]);
                    prop_assert!(together.outranks(above, below), "the ranking is a heap");
                }
                for (key, value) in entries {
                    let found = [&together, &one_by_one].map(|shelf| shelf.get(client, key));
                    prop_assert_eq!(found[0], found[1]);
                    prop_assert!(found[0].is_none_or(|found| *found == value));
                }
            }
        }

        #[test]
        fn who_loses_is_whom_the_rules_name(clients in prop::collection::vec(0..6_usize, 0..100)) {
            let mut shelf = shelf();
            let mut held = Vec::new();
            for (number, client) in clients.into_iter().enumerate() {
                shelf.insert(client, number as u64, number as u64);
                insert_plainly(&mut held, client, number as u64, number);
                for other in 0..6 {
                    let expected: Vec<u64> =
                        held.iter().filter(|(owner, ..)| *owner == other).map(|(_, key, _)| *key).collect();
                    prop_assert_eq!(shelf.of(other).copied().collect::<Vec<_>>(), expected, "client {}", other);
                }
            }
        }

        #[test]
        fn bounds_hold_and_a_stored_shelf_goes_on_alike(
            before in prop::collection::vec((0..6_usize, any::<u64>()), 0..60),
            after in prop::collection::vec((0..6_usize, any::<u64>(), prop::bool::weighted(0.1)), 0..60),
        ) {
            let mut live = shelf();
            for (client, key) in before {
                live.insert(client, key, key);
            }
            let bytes = postcard::to_stdvec(&live).unwrap();
            let mut restored: Shelf<u64> = postcard::from_bytes(&bytes).unwrap();
            for (client, key, forget) in after {
                for shelf in [&mut live, &mut restored] {
                    if forget { shelf.forget(client) } else { shelf.insert(client, key, key) }
                    prop_assert!(shelf.len() <= 8);
                    prop_assert_eq!(shelf.len(), (0..6).map(|client| shelf.of(client).count()).sum::<usize>());
                    for at in 1..shelf.ranking.len() {
                        let (above, below) = (shelf.ranking[(at - 1) / 2], shelf.ranking[at]);
                        prop_assert!(shelf.outranks(above, below), "the ranking is a heap");
                    }
                    for (at, Ranked { client, entries }) in shelf.ranking.iter().enumerate() {
                        prop_assert_eq!(shelf.seat_of(*client as usize), Some(at));
                        prop_assert_eq!(shelf.of(*client as usize).count(), *entries as usize);
                        prop_assert!(*entries > 0, "who holds nothing has no rank");
                    }
                }
                prop_assert_eq!(live.get(client, key), restored.get(client, key));
            }
            prop_assert_eq!(postcard::to_stdvec(&live).unwrap(), postcard::to_stdvec(&restored).unwrap());
        }
    }
}
