//! (c) Attacks that are a small part of a model's traffic.

use std::sync::OnceLock;

use super::honest::{self, People, people};
use super::host::{Host, Outcome, Place, TRUSTED};
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
    pub name: &'static str,
    /// Alone.
    pub alone: Option<usize>,
    /// Share and block row; no row where it was not blocked.
    pub diluted: Vec<(f64, Option<usize>)>,
    /// Honest clients that were blocked meanwhile, at the smallest share.
    honest_blocked: usize,
}

/// The recorded attacks of [`ATTACKS`].
pub fn attacks() -> Vec<(&'static str, Stream)> {
    let all = streams("attacks");
    let named = |name: &'static str| {
        let stream = all.iter().find(|stream| stream.name == name)?;
        Some((name, Stream { name: stream.name.clone(), requests: stream.requests.clone() }))
    };
    ATTACKS.iter().copied().filter_map(named).collect()
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
    CURVES.get_or_init(|| attacks().iter().map(|(name, attack)| curve(name, attack)).collect())
}

fn curve(name: &'static str, attack: &Stream) -> Curve {
    let people = people(model_of(name));
    let row = |outcome: &Outcome| outcome.block.map(|told| told.place.rows);
    let mut curve = Curve {
        name,
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

/// The table of dilution alone.
pub fn dilution() -> String {
    let mut table = Table::new(&["attack: row of the block", "alone", "10 %", "1 %", "0.1 %", "0.01 %"]);
    for curve in curves() {
        let at = |share: f64| {
            let measured = curve.diluted.iter().find(|(of, _)| *of == share);
            measured.map_or_else(|| "not run".to_owned(), |(_, row)| or_dash(*row))
        };
        let mut cells = vec![curve.name.to_owned(), or_dash(curve.alone)];
        cells.extend(SHARES.map(at));
        table.row(&cells);
    }
    let honest = curves().iter().map(|curve| curve.honest_blocked).sum::<usize>();
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
        dilution(),
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
}

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
    let mut traffic = Traffic::new(people(model_of(&stream.name)), Host::new(&stream.name, TRUSTED));
    traffic.go_on(5000);
    let outcome = traffic.with_attack(&stream.requests, 0.1, ROWS_MAX);
    let rows = stream.requests.iter().map(|request| request.rows.len()).sum();
    Natural { name: stream.name, rows, outcome }
}

fn natural_table() -> String {
    let mut table =
        Table::new(&["attack, 10 % of the traffic", "rows", "blocked", "told of", "first at row"]);
    for Natural { name, rows, outcome } in naturals() {
        let names: Vec<String> = outcome.detectors.iter().map(|name| format!("`{name}`")).collect();
        table.row(&[
            name.clone(),
            rows.to_string(),
            if outcome.block.is_some() { "yes" } else { "no" }.to_owned(),
            if names.is_empty() { "-".to_owned() } else { names.join(", ") },
            or_dash(outcome.first.map(|told| told.place.rows)),
        ]);
    }
    table.finish()
}
