//! Who is behind a shift: the sender without whom the rest looks like the reference again.
//!
//! The sender whose removal moves the distance most is the wrong answer: where everybody shifted that is merely the
//! largest. So a sender is named only if it behaves unlike its own past, if the rest is back at rest without it (taken
//! out of window *and* reference, measured as excess per event, for a distance also falls because there are fewer
//! events), and if few enough events go with it. Where many known senders changed at once, the cause is not a sender.

use serde::{Deserialize, Serialize};

use super::measure::{chi_square_above, divergence, smoothed};
use super::senders::{COARSE, SENDERS, Senders, Vector, total, without};

/// Most senders that are named.
const NAMED_MAX: usize = 3;
/// Most events that may be theirs.
const SHARE_MAX: f64 = 0.3;
/// What may be left of the excess where it is not back under the limit.
const LEFT_MAX: f64 = 0.2;
/// How likely one of the senders of a window is unlike its past by chance.
const ERROR: f64 = 1e-3;
/// Fewest events of a sender in the reference that count as its past.
const PAST_MIN: u32 = 50;
/// Fewest events of a sender in a window that it is judged by.
const NOW_MIN: u32 = 20;
/// One level of senders, in the window and in the reference.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// What the window counted.
    pub window: &'a Senders,
    /// What the reference counted.
    pub reference: &'a Senders,
}

/// Who is behind a shift.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The window's distance from the reference exceeds the limit.
    pub shifted: bool,
    /// Many known senders changed at once: a cause of its own, never a reason to block one of them.
    pub systemic: bool,
    /// Those without whom the rest is at rest; empty where it is not.
    pub named: Vec<Named>,
    /// Senders unlike their own past, or, where they have none, unlike any known sender. To be watched.
    pub unlike: Vec<Unlike>,
}

/// A sender that is named.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// Position of its level, 0 the finest.
    pub level: usize,
    /// Who.
    pub sender: u64,
    /// Its share of the window's events, 0 to 1.
    pub share: f64,
    /// Excess per event with everybody, in nats.
    pub before: f64,
    /// Excess per event without the senders named so far.
    pub after: f64,
    /// The three coarse slots in which it exceeds the reference most.
    pub slots: [usize; 3],
}

/// A sender that behaves unlike before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlike {
    /// Position of its level.
    pub level: usize,
    /// Who.
    pub sender: u64,
    /// Whether the reference knows it.
    pub known: bool,
}

/// Window and reference, as far as nobody was taken out of them.
#[derive(Clone, Copy)]
struct Rest {
    window: Vector,
    reference: Vector,
}

/// The distance of the window from the reference: twice the events times the divergence, less what the reference's own
/// sampling adds. About chi-square with [`COARSE`] - 1 degrees for independent events.
#[must_use]
pub fn distance(window: &Vector, reference: &Vector) -> f64 {
    let (now, past) = (f64::from(total(window)), f64::from(total(reference)));
    let shares: Vec<f64> = window.iter().map(|count| f64::from(*count) / now.max(1.0)).collect();
    2.0 * now * divergence(&shares, &smoothed(reference)) / (1.0 + now / past.max(1.0))
}

impl Rest {
    fn distance(&self) -> f64 {
        distance(&self.window, &self.reference)
    }

    /// Excess per event: what is left of the distance when chance is taken off.
    fn excess(&self) -> f64 {
        let events = f64::from(total(&self.window)).max(1.0);
        ((self.distance() - (COARSE - 1) as f64) / (2.0 * events)).max(0.0)
    }

    fn without(&self, window: &Vector, reference: &Vector) -> Self {
        Self { window: without(&self.window, window), reference: without(&self.reference, reference) }
    }
}

/// Finds who is behind a shift that is told by a distance above `limit`; the finest of `levels` first.
#[must_use]
pub fn attribute(levels: &[Sides<'_>], limit: f64) -> Attribution {
    let Some(finest) = levels.first() else { return Attribution::default() };
    let whole = Rest { window: *finest.window.all(), reference: *finest.reference.all() };
    let unlike: Vec<Unlike> =
        levels.iter().enumerate().flat_map(|(level, sides)| unlike(level, *sides, &[])).collect();
    let mut found = Attribution {
        shifted: whole.distance() > limit,
        systemic: is_systemic(*finest),
        named: Vec::new(),
        unlike,
    };
    if found.shifted && !found.systemic {
        found.named = named(levels, whole, limit);
    }
    found
}

/// Whether the known senders changed together: put into one, with the share that each has now, they are unlike what
/// their pasts with these shares would be. Those that changed most, and could be named, are left aside.
fn is_systemic(sides: Sides<'_>) -> bool {
    let own = |(sender, _, now): (u64, u64, Vector)| {
        let past = sides.reference.of(sender).filter(|past| total(past) >= PAST_MIN)?;
        Some((distance(&now, &past), now, past))
    };
    let mut known: Vec<(f64, Vector, Vector)> = sides.window.each().filter_map(own).collect();
    known.sort_by(|one, other| other.0.total_cmp(&one.0));
    let (mut found, mut expected, mut error) = ([0.0; COARSE], [0.0; COARSE], 0.0);
    for (_, now, past) in known.iter().skip(NAMED_MAX) {
        let (events, before) = (f64::from(total(now)), f64::from(total(past)));
        error += events * events / before;
        for ((found, expected), (now, past)) in found.iter_mut().zip(&mut expected).zip(now.iter().zip(past))
        {
            *found += f64::from(*now);
            *expected += events * f64::from(*past) / before;
        }
    }
    let events = found.iter().sum::<f64>().max(1.0);
    let share = |counts: [f64; COARSE]| counts.map(|count| count / events);
    // A past has a sampling error of its own.
    let apart = 2.0 * events * divergence(&share(found), &share(expected)) / (1.0 + error / events);
    chi_square_above(COARSE - 1, apart) < ERROR
}

fn named(levels: &[Sides<'_>], whole: Rest, limit: f64) -> Vec<Named> {
    let mut calm: Vec<(u64, Vector, Vector)> = Vec::new();
    for (level, sides) in levels.iter().enumerate() {
        let suspects = unlike(level, *sides, &calm);
        let found = remove(level, *sides, &suspects, whole, limit);
        if !found.is_empty() {
            return found;
        }
        // What is known to behave as ever does not speak for or against its network.
        let past = |sender| sides.reference.of(sender).unwrap_or_default();
        let calm_here = sides.window.each().filter(|(sender, _, counts)| {
            total(counts) >= NOW_MIN && !suspects.iter().any(|suspect| suspect.sender == *sender)
        });
        calm = calm_here.map(|(sender, parent, counts)| (parent, counts, past(sender))).collect();
    }
    Vec::new()
}

/// The senders of a level that behave unlike before, without those below them that behave as ever.
fn unlike(level: usize, sides: Sides<'_>, calm: &[(u64, Vector, Vector)]) -> Vec<Unlike> {
    let residual = |sender: u64, mut now: Vector, mut past: Vector| {
        for (_, own, before) in calm.iter().filter(|(parent, _, _)| *parent == sender) {
            now = without(&now, own);
            past = without(&past, before);
        }
        (now, past)
    };
    let known: Vec<Vector> = sides.reference.each().map(|(_, _, counts)| counts).collect();
    let judge = |(sender, _, counts): (u64, u64, Vector)| {
        let past = sides.reference.of(sender).unwrap_or_default();
        let (now, own) = residual(sender, counts, past);
        let has_past = total(&own) >= PAST_MIN;
        let odd = total(&now) >= NOW_MIN && is_unlike(&now, has_past.then_some(&own), &known);
        odd.then_some(Unlike { level, sender, known: has_past })
    };
    sides.window.each().filter_map(judge).collect()
}

/// Whether a sender is unlike its own past; one that has none is.
#[must_use]
pub fn has_changed(now: &Vector, past: Option<&Vector>) -> bool {
    let known = past.filter(|past| total(past) >= PAST_MIN);
    known.is_none_or(|past| is_unlike(now, Some(past), &[]))
}

/// Whether counts are too far from a past, or, without one, from every known sender.
fn is_unlike(now: &Vector, past: Option<&Vector>, known: &[Vector]) -> bool {
    let limit = 2.0 * libm::log(2.0 * SENDERS as f64 / ERROR) + COARSE as f64;
    let far = |past: &Vector| distance(now, past) > limit;
    match past {
        Some(past) => far(past),
        None => known.iter().filter(|past| total(past) >= PAST_MIN).all(far),
    }
}

/// Takes suspects out, each time the one without whom least is left, until the rest is at rest.
fn remove(level: usize, sides: Sides<'_>, suspects: &[Unlike], whole: Rest, limit: f64) -> Vec<Named> {
    let (before, events) = (whole.excess(), f64::from(total(&whole.window)).max(1.0));
    let (mut rest, mut taken, mut named) = (whole, 0.0, Vec::<Named>::new());
    while named.len() < NAMED_MAX {
        let left = suspects.iter().filter(|suspect| named.iter().all(|one| one.sender != suspect.sender));
        let candidates = left.filter_map(|suspect| {
            let own = sides.window.of(suspect.sender)?;
            let share = f64::from(total(&own)) / events;
            let past = sides.reference.of(suspect.sender).unwrap_or_default();
            (taken + share <= SHARE_MAX).then(|| (suspect.sender, own, share, rest.without(&own, &past)))
        });
        let best = candidates.min_by(|one, other| one.3.excess().total_cmp(&other.3.excess()));
        let Some((sender, own, share, without)) = best else { return Vec::new() };
        (rest, taken) = (without, taken + share);
        let slots = exceeding(&own, &whole.reference);
        named.push(Named { level, sender, share, before, after: rest.excess(), slots });
        if rest.distance() <= limit || rest.excess() < LEFT_MAX * before {
            return named;
        }
    }
    Vec::new()
}

/// The three slots in which a sender exceeds the reference most.
fn exceeding(own: &Vector, reference: &Vector) -> [usize; 3] {
    let part = |counts: &Vector, count: u32| f64::from(count) / f64::from(total(counts)).max(1.0);
    let mut order: Vec<(usize, f64)> = own
        .iter()
        .zip(reference)
        .map(|(own_count, count)| part(own, *own_count) - part(reference, *count))
        .enumerate()
        .collect();
    order.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    let mut slots = order.into_iter().map(|(slot, _)| slot);
    std::array::from_fn(|_| slots.next().unwrap_or_default())
}
