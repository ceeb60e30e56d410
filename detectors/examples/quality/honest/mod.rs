//! Honest clients, made: profiles, and the streams that they send.
//!
//! A profile is one way of using a model. Its generator gives a client's requests and the pauses between them; the
//! same seed gives the same requests. What stands in `first` was written before anything here was run, `second`
//! afterwards, with the thresholds untouched, `third` with a change of the sweep detectors, before it was first run, and
//! `fourth` once charts, drawn rows, bisections and notes were told apart and frozen, `fifth` once turned knobs were, and
//! `sixth` once mirror pairs and equal amounts were, each before any of it was run.

mod fifth;
mod first;
mod fourth;
mod numbers;
mod people;
mod second;
mod sixth;
mod surrogate;
mod third;

pub use numbers::Numbers;
pub use people::People;

use std::sync::OnceLock;

use crate::support::Request;

/// One way of using a model honestly.
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// The model that it uses.
    pub model: &'static str,
    /// Whether a client's rows depend on each other, so that they lie closer or more regularly than chance would have.
    pub dependent: bool,
    /// What the client does, as the end of a sentence.
    pub does: &'static str,
    /// A client's requests.
    pub make: fn(&mut Draw<'_>) -> Vec<Ask>,
}

/// One request: seconds since the one before, and rows.
pub struct Ask {
    /// Seconds since the client's request before.
    pub pause: f64,
    /// Its rows.
    pub rows: Vec<Vec<f64>>,
}

/// What a generator draws from.
pub struct Draw<'a> {
    /// Chance.
    pub numbers: Numbers,
    /// Whom clients ask about.
    pub people: &'a People,
}

impl Draw<'_> {
    /// A case.
    pub fn case(&mut self) -> Vec<f64> {
        self.people.case(&mut self.numbers)
    }

    /// Several cases.
    pub fn cases(&mut self, low: usize, high: usize) -> Vec<Vec<f64>> {
        let count = self.numbers.whole(low, high);
        (0..count).map(|_| self.case()).collect()
    }

    /// Requests of one row each, about `pause` seconds apart.
    pub fn singly(&mut self, rows: Vec<Vec<f64>>, pause: f64) -> Vec<Ask> {
        self.in_batches(rows, 1, pause)
    }

    /// Requests of `size` rows each, about `pause` seconds apart.
    pub fn in_batches(&mut self, rows: Vec<Vec<f64>>, size: usize, pause: f64) -> Vec<Ask> {
        let batches = rows.chunks(size).map(<[Vec<f64>]>::to_vec);
        batches.map(|rows| Ask { pause: pause * self.numbers.between(0.3, 1.7), rows }).collect()
    }
}

/// Whom clients of `model` ask about: read once.
pub fn people(model: &str) -> &'static People {
    static ALL: OnceLock<[People; 3]> = OnceLock::new();
    let all = ALL.get_or_init(|| ["pricing", "digits", "cancer"].map(People::of));
    all.iter().find(|people| people.model == model).expect("a recorded model")
}

/// The profiles that were written before the whole was first run.
pub fn first() -> &'static [Profile] {
    first::PROFILES
}

/// The profiles that were written afterwards.
pub fn second() -> &'static [Profile] {
    second::PROFILES
}

/// The profiles that were written with a change of the sweep detectors.
pub fn third() -> &'static [Profile] {
    third::PROFILES
}

/// The profiles that were written once notes and families were frozen.
pub fn fourth() -> &'static [Profile] {
    fourth::PROFILES
}

/// The profiles that were written once turned knobs were told apart.
pub fn fifth() -> &'static [Profile] {
    fifth::PROFILES
}

/// The profiles that were written once mirror pairs and equal amounts were told.
pub fn sixth() -> &'static [Profile] {
    sixth::PROFILES
}

/// All profiles.
pub fn profiles() -> impl Iterator<Item = &'static Profile> {
    first().iter().chain(second()).chain(third()).chain(fourth()).chain(fifth()).chain(sixth())
}

/// The stream of one client of a profile, from `start` seconds on.
pub fn stream(profile: &Profile, people: &People, seed: u64, start: f64) -> Vec<Request> {
    let mut draw = Draw { numbers: Numbers::new(seed_of(profile.name, seed)), people };
    let mut seconds = start;
    let asks = (profile.make)(&mut draw);
    let requests = asks.into_iter().map(|ask| {
        seconds += ask.pause;
        let predictions = ask.rows.iter().map(|x| people.answer(x)).collect();
        Request { seconds, rows: ask.rows, predictions }
    });
    requests.collect()
}

/// Different for every profile, the same on every run (FNV-1a of the name).
fn seed_of(name: &str, seed: u64) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step).wrapping_add(seed.wrapping_mul(0x9e37_79b9))
}

/// The best class of an answer; none of an answer with one number.
fn label(prediction: &[f64]) -> Option<usize> {
    let best = prediction.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1))?;
    (prediction.len() > 1).then_some(best.0)
}
