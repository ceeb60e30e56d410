//! (c) Attacks that are a small part of a model's traffic.

use std::sync::OnceLock;

use checkgate_detectors::engine::reach::{Farthest, Reach};
use checkgate_detectors::identity::Identity;

use super::honest::{self, Numbers, People, people};
use super::host::{Host, Outcome, Place, TRUSTED, client};
use super::recorded::INVISIBLE;
use super::table::{Table, median, or_dash};
use crate::support::{Request, Stream, model_of, streams};

/// Attacks of every family that is blocked by content, of every model, and of every detector that blocks.
pub const ATTACKS: [&str; 8] = [
    "price_oat",
    "price_enum",
    "zoo_digits",
    "hsj_digits",
    "simba_digits",
    "mi_labelonly_digits",
    "hsj_cancer",
    "nes_cancer",
];
/// Shares of the attack in all rows; the smallest for the shortest attacks only.
pub const SHARES: [f64; 4] = [0.1, 0.01, 0.001, 0.0001];
/// An attack that is blocked by this row when it is alone is short.
const SHORT: usize = 15;
/// Rows after which an attack counts as not blocked.
const ROWS_MAX: usize = 250_000;
/// Seconds between two rows of the traffic.
const PAUSE: f64 = 0.05;
/// Honest clients at work at once.
const AT_ONCE: usize = 12;
/// The attacker's number; honest clients have larger ones.
pub const ATTACKER: u32 = 1;

/// Block rows of one attack.
pub struct Curve {
    /// The attack.
    pub name: String,
    /// Alone.
    pub alone: Option<usize>,
    /// Share and block row; no row where it was not blocked.
    pub diluted: Vec<(f64, Option<usize>)>,
    /// Honest clients that were blocked meanwhile, at the smallest share.
    honest_blocked: usize,
}

/// The recorded attacks of [`ATTACKS`].
pub fn attacks() -> Vec<(&'static str, Stream)> {
    ATTACKS.into_iter().zip(recorded(&ATTACKS)).collect()
}

/// Recorded attacks by their names.
fn recorded(names: &[&str]) -> Vec<Stream> {
    let all = streams("attacks");
    let named = |name: &&str| {
        let stream = all.iter().find(|stream| stream.name == *name);
        let stream = stream.unwrap_or_else(|| panic!("there is no recorded attack {name}"));
        Stream { name: stream.name.clone(), requests: stream.requests.clone() }
    };
    names.iter().map(named).collect()
}

/// Honest requests without end: as soon as a client has finished, one of the next profile begins.
pub struct Crowd<'a> {
    people: &'a People,
    seed: u64,
    at_work: Vec<(u32, std::vec::IntoIter<Request>)>,
    turn: usize,
}

impl<'a> Crowd<'a> {
    /// The crowd of a model.
    pub fn new(people: &'a People) -> Self {
        let mut crowd = Self { people, seed: 100_000, at_work: Vec::new(), turn: 0 };
        for _ in 0..AT_ONCE {
            let client = crowd.next_client();
            crowd.at_work.push(client);
        }
        crowd
    }

    fn next_client(&mut self) -> (u32, std::vec::IntoIter<Request>) {
        let mut profiles: Vec<_> = honest::first().iter().collect();
        profiles.retain(|profile| profile.model == self.people.model);
        let profile = profiles[self.seed as usize % profiles.len()];
        self.seed += 1;
        let requests = honest::stream(profile, self.people, self.seed, 0.0);
        (self.seed as u32, requests.into_iter())
    }

    /// The next request and whose it is.
    pub fn next(&mut self) -> (u32, Request) {
        loop {
            self.turn = (self.turn + 1) % AT_ONCE;
            let (number, requests) = &mut self.at_work[self.turn];
            if let Some(request) = requests.next() {
                return (*number, request);
            }
            self.at_work[self.turn] = self.next_client();
        }
    }
}

/// A model's traffic: what honest clients ask, at a steady pace.
pub struct Traffic<'a> {
    /// The engine.
    pub host: Host,
    crowd: Crowd<'a>,
    /// Rows so far.
    pub rows: usize,
    /// Honest clients blocked so far, each decision counted.
    pub honest_blocked: usize,
}

impl<'a> Traffic<'a> {
    /// In front of a new engine.
    pub fn new(people: &'a People, host: Host) -> Self {
        Self { host, crowd: Crowd::new(people), rows: 0, honest_blocked: 0 }
    }

    /// The moment of the next row, in seconds.
    pub fn now(&self) -> f64 {
        self.rows as f64 * PAUSE
    }

    /// At least `rows` rows of honest clients.
    pub fn go_on(&mut self, rows: usize) {
        let until = self.rows + rows;
        while self.rows < until {
            let (number, request) = self.crowd.next();
            let now = self.now();
            self.rows += request.rows.len();
            self.honest_blocked += self.host.ask_at(number, now, &request).blocks.len();
        }
    }

    /// Plays an attack that makes up `share` of all rows from here on, until it is blocked or `rows_max` rows passed.
    pub fn with_attack(&mut self, attack: &[Request], share: f64, rows_max: usize) -> Outcome {
        let start = self.rows;
        let mut outcome = Outcome::default();
        let mut rows = 0;
        for (turn, request) in attack.iter().enumerate() {
            rows += request.rows.len();
            let due = start + (rows as f64 / share) as usize;
            if due - start > rows_max {
                break;
            }
            self.go_on(due.saturating_sub(self.rows + request.rows.len()));
            let now = self.now();
            self.rows += request.rows.len();
            let out = self.host.ask_at(ATTACKER, now, request);
            outcome.take(&out, Place { rows, requests: turn + 1 });
            if outcome.block.is_some() {
                break;
            }
        }
        outcome
    }
}

/// All curves, measured once.
pub fn curves() -> &'static [Curve] {
    static CURVES: OnceLock<Vec<Curve>> = OnceLock::new();
    CURVES.get_or_init(|| recorded(&ATTACKS).iter().map(curve).collect())
}

fn curve(attack: &Stream) -> Curve {
    let name = attack.name.as_str();
    let people = people(model_of(name));
    let row = |outcome: &Outcome| outcome.block.map(|told| told.place.rows);
    let mut curve = Curve {
        name: name.to_owned(),
        alone: row(&super::host::alone(attack, TRUSTED)),
        diluted: Vec::new(),
        honest_blocked: 0,
    };
    let short = curve.alone.is_some_and(|row| row <= SHORT);
    for share in SHARES.into_iter().filter(|share| short || *share > 0.0005) {
        eprintln!("quality: {name} at {share}");
        let mut traffic = Traffic::new(people, Host::new(name, TRUSTED));
        traffic.go_on(1000);
        let outcome = traffic.with_attack(&attack.requests, share, ROWS_MAX);
        curve.diluted.push((share, row(&outcome)));
        curve.honest_blocked = traffic.honest_blocked;
    }
    curve
}

/// The median row at 0.1 % over the median at 10 %, where an attack that is not blocked counts as infinitely late.
pub fn ratio() -> f64 {
    let at = |share: f64| {
        let rows = curves().iter().flat_map(|curve| &curve.diluted).filter(|(of, _)| *of == share);
        median(rows.map(|(_, row)| row.unwrap_or(usize::MAX)).collect())
    };
    at(0.001).zip(at(0.1)).map_or(f64::INFINITY, |(rare, often)| rare as f64 / often as f64)
}

/// The table of dilution alone, of other recorded attacks where some are named.
pub fn dilution_of(names: &[&str]) -> String {
    if names.is_empty() {
        return dilution(curves());
    }
    dilution(&recorded(names).iter().map(curve).collect::<Vec<_>>())
}

fn dilution(curves: &[Curve]) -> String {
    let mut table = Table::new(&["attack: row of the block", "alone", "10 %", "1 %", "0.1 %", "0.01 %"]);
    for curve in curves {
        let at = |share: f64| {
            let measured = curve.diluted.iter().find(|(of, _)| *of == share);
            measured.map_or_else(|| "not run".to_owned(), |(_, row)| or_dash(*row))
        };
        let mut cells = vec![curve.name.clone(), or_dash(curve.alone)];
        cells.extend(SHARES.map(at));
        table.row(&cells);
    }
    let honest = curves.iter().map(|curve| curve.honest_blocked).sum::<usize>();
    [
        "## Attacks as a part of the traffic\n".to_owned(),
        table.finish(),
        format!(
            "Blocks of honest clients meanwhile, at the smallest share of each attack: {honest}; their profiles are those \
             of the table above.\n"
        ),
    ]
    .join("\n")
}

/// The tables of dilution, disguises and splitting.
pub fn section() -> String {
    [
        dilution(curves()),
        "### Attacks that content cannot show, beside a population\n".to_owned(),
        natural_table(),
        "## Attacks in disguise\n".to_owned(),
        super::disguised::table(),
        "## One attack over many clients\n".to_owned(),
        super::split::table(),
    ]
    .join("\n")
}

/// An attack that content cannot show.
pub struct Natural {
    /// The recording.
    pub name: String,
    rows: usize,
    /// What became of it as a tenth of the traffic.
    pub outcome: Outcome,
    /// Who reached farthest when it was over.
    farthest: Farthest,
}

impl Natural {
    /// The attack's places by rows and by cells, among [`PLACES`].
    pub fn places(&self) -> [Option<u32>; 2] {
        self.reach(ATTACKER).map_or([None; 2], |reach| [reach.by_rows, reach.by_cells])
    }

    /// Whether it stands among the first ten by either.
    pub fn is_seen(&self) -> bool {
        self.places().into_iter().flatten().any(|place| place as usize <= PLACES)
    }

    fn reach(&self, number: u32) -> Option<&Reach> {
        let client = Identity::Address(client(number).address);
        self.farthest.reach.iter().find(|reach| reach.client == client)
    }

    /// What is told of a client: rows, cells, and these beside those of as many rows of the reference's source.
    fn told(&self, number: u32) -> Option<(u32, u32, f64)> {
        let reach = self.reach(number)?;
        Some((reach.rows, reach.cells?, f64::from(reach.cells?) / reach.expected_cells?))
    }
}

/// Places that are looked at: as many as the API tells of by itself.
const PLACES: usize = 10;
/// Large honest clients beside a natural attack: they ask for as many rows as it does, for half and for twice as many, each
/// a customer's.
const AGGREGATORS: [(u32, f64); 5] = [(10, 0.5), (11, 1.0), (12, 1.0), (13, 2.0), (14, 2.0)];

/// Natural attacks beside a population, each played once.
pub fn naturals() -> &'static [Natural] {
    static NATURALS: OnceLock<Vec<Natural>> = OnceLock::new();
    NATURALS.get_or_init(|| {
        let mut attacks = streams("attacks");
        attacks.retain(|stream| INVISIBLE.contains(&stream.name.as_str()));
        attacks.into_iter().map(beside_population).collect()
    })
}

fn beside_population(stream: Stream) -> Natural {
    let people = people(model_of(&stream.name));
    let mut traffic = Traffic::new(people, Host::new(&stream.name, TRUSTED));
    traffic.go_on(5000);
    let rows = stream.requests.iter().map(|request| request.rows.len()).sum();
    aggregate(&mut traffic, people, rows);
    let outcome = traffic.with_attack(&stream.requests, 0.1, ROWS_MAX);
    let farthest = traffic.host.farthest(traffic.now(), PLACES.max(AGGREGATORS.len() + 1));
    Natural { name: stream.name, rows, outcome, farthest }
}

/// Has [`AGGREGATORS`] ask beside an attack of so many rows.
fn aggregate(traffic: &mut Traffic<'_>, people: &People, rows: usize) {
    let mut numbers = Numbers::new(77);
    for (number, times) in AGGREGATORS {
        for _ in 0..(rows as f64 * times) as usize {
            let case = people.case(&mut numbers);
            let request = Request { seconds: 0.0, predictions: vec![people.answer(&case)], rows: vec![case] };
            let now = traffic.now();
            traffic.rows += 1;
            traffic.honest_blocked += traffic.host.ask_at(number, now, &request).blocks.len();
        }
    }
}

/// The table of attacks that content cannot show.
pub fn natural_table() -> String {
    let mut table = Table::new(&[
        "attack, 10 % of the traffic",
        "rows",
        "blocked",
        "told of",
        "first at row",
        "place by rows",
        "place by coverage",
        "of clients",
        "cells",
        "of those that as many reference rows reach",
        "the same of large honest clients",
    ]);
    for natural in naturals() {
        let Natural { name, rows, outcome, farthest } = natural;
        let [by_rows, by_cells] = natural.places();
        let own = natural.told(ATTACKER);
        let shares = AGGREGATORS.iter().filter_map(|(number, _)| natural.told(*number));
        let shares: Vec<String> = shares.map(|(_, _, share)| format!("{share:.2}")).collect();
        let names: Vec<String> = outcome.detectors.iter().map(|name| format!("`{name}`")).collect();
        table.row(&[
            name.clone(),
            rows.to_string(),
            if outcome.block.is_some() { "yes" } else { "no" }.to_owned(),
            if names.is_empty() { "-".to_owned() } else { names.join(", ") },
            or_dash(outcome.first.map(|told| told.place.rows)),
            or_dash(by_rows),
            or_dash(by_cells),
            farthest.clients.to_string(),
            or_dash(own.map(|(_, cells, _)| cells)),
            or_dash(own.map(|(_, _, share)| format!("{share:.2}"))),
            shares.join(", "),
        ]);
    }
    table.finish()
}
