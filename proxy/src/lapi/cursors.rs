//! Who was told what: one cursor for each bouncer and place that it pulls from.
//!
//! ```text
//! unknown --a pull is answered with everything, and with what ended of late--> told a snapshot
//! told    --a pull is answered with the difference to the snapshot now-------> told that one
//! told    --startup=true, or its cursor made room--------------------------> unknown
//! ```
//! A cursor moves when the answer has been taken from this program, not when it is made: one that breaks off is made
//! again. All of them are in memory, so that after a restart every bouncer is told everything once more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use checkgate_detectors::facts::Time;
use parking_lot::Mutex;

use super::board::{Served, Snapshot};
use super::filter::Filter;

/// Places that one bouncer pulls from: several may share a key.
const PLACES_MAX: usize = 16;

/// Where a bouncer pulls from.
pub type Place = Option<IpAddr>;

/// What a bouncer was told last.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// All that acted then.
    pub told: Arc<Snapshot>,
    /// What of it was asked for.
    pub filter: Filter,
    /// When.
    pub at: Time,
}

/// What changed for a bouncer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// What it is to enforce.
    pub new: Vec<&'a Served>,
    /// What it is to let go.
    pub deleted: Vec<&'a Served>,
    /// Decisions that it was not told, since it cannot enforce networks.
    pub beyond: u64,
}

/// All cursors.
#[derive(Debug, Default)]
pub struct Cursors {
    by_bouncer: Mutex<BTreeMap<Arc<str>, BTreeMap<Place, Cursor>>>,
}

impl Cursors {
    /// What a bouncer was told last at this place.
    #[must_use]
    pub fn of(&self, bouncer: &str, place: Place) -> Option<Cursor> {
        self.by_bouncer.lock().get(bouncer)?.get(&place).cloned()
    }

    /// A bouncer was told. Of too many places the one that has been silent for longest is forgotten.
    pub fn moved(&self, bouncer: &Arc<str>, place: Place, cursor: Cursor) {
        let mut all = self.by_bouncer.lock();
        let places = all.entry(Arc::clone(bouncer)).or_default();
        if places.len() >= PLACES_MAX && !places.contains_key(&place) {
            let silent = places.iter().min_by_key(|(_, cursor)| cursor.at).map(|(place, _)| *place);
            silent.map(|place| places.remove(&place));
        }
        places.insert(place, cursor);
    }

    /// Forgets all but these bouncers.
    pub fn keep(&self, known: impl Fn(&str) -> bool) {
        self.by_bouncer.lock().retain(|name, _| known(name));
    }
}

/// What changed between what a bouncer was told and what acts now, as far as it asks for it.
#[must_use]
pub fn change<'a>(told: &'a Cursor, now: &'a Snapshot, filter: &Filter) -> Change<'a> {
    let mut change = Change::default();
    let asked_alike = told.filter == *filter;
    if std::ptr::eq(&raw const *told.told, now) && asked_alike {
        return change;
    }
    let was_told = |served: &Served| told.filter.asks_for(served) && told.filter.can(served);
    // Nearly all are the same as before, and then nothing needs to be looked at.
    let differs = |one: &Served, other: Option<&Served>| !(asked_alike && other == Some(one));
    for served in now.all() {
        let before = told.told.on(served.client);
        if !differs(served, before) || !filter.asks_for(served) {
            continue;
        }
        if before.filter(|before| was_told(before)) == Some(served) {
            continue;
        }
        if filter.can(served) {
            change.new.push(served);
        } else {
            change.beyond += 1;
        }
    }
    let is_held = |after: Option<&Served>| after.is_some_and(|one| filter.asks_for(one) && filter.can(one));
    let ended = |before: &&Served| {
        let after = now.on(before.client);
        differs(before, after) && was_told(before) && !is_held(after)
    };
    change.deleted = told.told.all().iter().filter(ended).collect();
    change
}

/// What a bouncer is told of which nothing is known: all that acts, and what of `gone` it may still hold.
#[must_use]
pub fn everything<'a>(now: &'a Snapshot, gone: &'a [Served], filter: &Filter) -> Change<'a> {
    let asked = |served: &&Served| filter.asks_for(served);
    let (new, beyond): (Vec<_>, Vec<_>) =
        now.all().iter().filter(asked).partition(|served| filter.can(served));
    let deleted = gone.iter().filter(asked).filter(|served| filter.can(served)).collect();
    Change { new, deleted, beyond: beyond.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{served, snapshot};
    use super::*;

    const NOW: Time = Time(60_000_000);

    fn all() -> Filter {
        Filter::of(&[]).unwrap()
    }

    fn cursor(told: &Arc<Snapshot>, filter: Filter) -> Cursor {
        Cursor { told: Arc::clone(told), filter, at: NOW }
    }

    fn values(served: &[&Served]) -> Vec<String> {
        served.iter().map(|served| served.value()).collect()
    }

    #[test]
    fn a_bouncer_is_told_what_changed_since_it_was_told_last_and_nothing_twice() {
        let first = snapshot(vec![served("192.0.2.1", 1), served("192.0.2.2", 2)]);
        let second = snapshot(vec![served("192.0.2.2", 2), served("2001:db8::1", 3)]);
        let told = cursor(&first, all());
        let change = change(&told, &second, &all());
        assert_eq!(values(&change.new), ["2001:db8::/64"]);
        assert_eq!(values(&change.deleted), ["192.0.2.1"]);
        let told = cursor(&second, all());
        assert_eq!(super::change(&told, &second, &all()), Change::default(), "nothing changed since");
        let same = snapshot(second.all().to_vec());
        assert_eq!(super::change(&told, &same, &all()), Change::default(), "nor in another snapshot");
    }

    #[test]
    fn another_decision_on_a_client_is_new_and_lets_nobody_go_meanwhile() {
        let first = snapshot(vec![served("192.0.2.1", 1)]);
        let longer = Served { until: Time(7_200_000_000), ..served("192.0.2.1", 1) };
        for replaced in [served("192.0.2.1", 2), longer] {
            let second = snapshot(vec![replaced]);
            let told = cursor(&first, all());
            let change = change(&told, &second, &all());
            assert_eq!((values(&change.new), change.deleted.len()), (vec!["192.0.2.1".to_owned()], 0));
        }
    }

    #[test]
    fn a_bouncer_without_ranges_is_told_of_none_and_holds_none() {
        let narrow = all().of_bouncer(false);
        let both = snapshot(vec![served("192.0.2.1", 1), served("2001:db8::1", 2)]);
        let told = everything(&both, both.all(), &narrow);
        assert_eq!((values(&told.new), told.beyond), (vec!["192.0.2.1".to_owned()], 1));
        assert_eq!(values(&told.deleted), ["192.0.2.1"]);
        let none = snapshot(Vec::new());
        let told = cursor(&both, narrow.clone());
        assert_eq!(values(&change(&told, &none, &narrow).deleted), ["192.0.2.1"]);
    }

    #[test]
    fn whoever_asks_otherwise_than_before_is_told_the_difference() {
        let both = snapshot(vec![served("192.0.2.1", 1), served("2001:db8::1", 2)]);
        let addresses = Filter::of(&[("scopes".to_owned(), "ip".to_owned())]).unwrap();
        let told = cursor(&both, addresses.clone());
        assert_eq!(values(&change(&told, &both, &all()).new), ["2001:db8::/64"]);
        let told = cursor(&both, all());
        assert_eq!(values(&change(&told, &both, &addresses).deleted), ["2001:db8::/64"]);
    }

    #[test]
    fn a_bouncer_has_a_bounded_number_of_places_and_the_longest_silent_goes() {
        let (cursors, name) = (Cursors::default(), Arc::from("edge"));
        let empty = snapshot(Vec::new());
        for index in 0..100_u8 {
            let place = Some(IpAddr::from([10, 0, 0, index]));
            cursors.moved(&name, place, Cursor { at: Time(u64::from(index)), ..cursor(&empty, all()) });
        }
        let known = |index: u8| cursors.of("edge", Some(IpAddr::from([10, 0, 0, index]))).is_some();
        assert_eq!((0..100).filter(|index| known(*index)).count(), PLACES_MAX);
        assert!(known(99) && !known(0), "the latest stay");
        cursors.keep(|name| name != "edge");
        assert!(!known(99), "it is no bouncer any more");
    }
}
