//! (e) One attacker who adapts: who knows this program's source, all but its secret and its reference, and searches for the
//! disguise that costs least. Answers are live: a model fitted to the recorded ones answers whatever is asked.

use checkgate_detectors::finding::{Action, Kind};

use super::honest::{Numbers, People, people};
use super::host::{Host, TRUSTED, label};
use super::table::Table;
use crate::support::Request;

/// The model that is attacked.
const MODEL: &str = "digits";
/// Disguises tried at first, and how many of them are tried further: each time on more rows.
const TRIALS: usize = 64;
const HALVINGS: [(usize, usize); 3] = [(TRIALS, 1), (16, 2), (4, 4)];
/// Rows attacked that no disguise was chosen on.
const HELD_OUT: usize = 12;
/// Questions that the plain attack asks to set the aim, and questions of all kinds after which one gives up.
const AIM_ROWS: usize = 400;
const GIVES_UP: usize = 6_000;
/// Identities after which one gives up.
const IDENTITIES: usize = 100;

/// How one attack searches, and how it hides.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Way {
    /// Directions of each estimate, and how far they reach in standard deviations.
    directions: usize,
    reach: f64,
    /// Whether it goes by probabilities, and not by labels alone.
    reads_scores: bool,
    /// Standard deviation of the noise on each question, in those of the columns.
    noise: f64,
    /// Whether values are rounded to sixteenths, the steps that pixels are known to have.
    rounds: bool,
    /// Honest rows in each request beside the attack's row.
    packed: usize,
    /// Requests with an honest row between two of the attack.
    between: usize,
    /// Seconds between requests.
    pause: f64,
    /// Identities that take turns.
    identities: usize,
}

const PLAIN: Way = Way {
    directions: 16,
    reach: 0.2,
    reads_scores: false,
    noise: 0.0,
    rounds: false,
    packed: 0,
    between: 0,
    pause: 0.1,
    identities: 1,
};

impl Way {
    fn drawn(numbers: &mut Numbers) -> Self {
        Self {
            directions: *numbers.pick(&[4, 8, 16, 32]),
            reach: *numbers.pick(&[0.05, 0.2, 0.5, 1.0]),
            reads_scores: numbers.chance(0.5),
            noise: *numbers.pick(&[0.0, 0.0, 0.03, 0.1, 0.3]),
            rounds: numbers.chance(0.5),
            packed: *numbers.pick(&[0, 0, 1, 3, 7]),
            between: *numbers.pick(&[0, 0, 1, 4, 9]),
            pause: *numbers.pick(&[0.1, 1.0, 60.0, 3600.0]),
            identities: *numbers.pick(&[1, 1, 2, 8, 32]),
        }
    }

    /// The same search in the open.
    fn open(self) -> Self {
        let Self { directions, reach, reads_scores, .. } = self;
        Self { directions, reach, reads_scores, ..PLAIN }
    }

    fn told(&self) -> String {
        let Self { directions, reach, noise, packed, between, pause, identities, .. } = self;
        let goes_by = if self.reads_scores { "probabilities" } else { "labels" };
        let grid = if self.rounds { "on sixteenths" } else { "not rounded" };
        format!(
            "{directions} directions of {reach} sd by {goes_by}; noise {noise} sd, {grid}, {packed} honest rows in each \
             request, {between} honest requests between, {pause} s apart, {identities} identities by turns"
        )
    }
}

/// What an attack cost.
#[derive(Clone, Copy, Default, Debug)]
struct Cost {
    reached: bool,
    /// Rows that were answered, honest ones included.
    rows: usize,
    /// Identities that asked, and those of them that were blocked.
    identities: usize,
    blocked: usize,
}

/// One attack at work; without a gate nothing hinders it.
struct Attacker<'a> {
    people: &'a People,
    gate: Option<&'a mut Gate>,
    way: Way,
    numbers: Numbers,
    x0: Vec<f64>,
    /// Nearest row with another label so far, and how near.
    best: (f64, Vec<f64>),
    aim: f64,
    most: usize,
    cost: Cost,
    asking: Vec<u32>,
    turn: usize,
}

/// The gate, and what is next there.
struct Gate {
    host: Host,
    seconds: f64,
    client: u32,
}

impl Gate {
    fn newcomer(&mut self) -> u32 {
        self.client += 1;
        self.client
    }
}

impl<'a> Attacker<'a> {
    fn new(people: &'a People, gate: Option<&'a mut Gate>, way: Way, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let x0 = people.case(&mut numbers);
        let cost = Cost { identities: way.identities, ..Cost::default() };
        let best = (f64::INFINITY, Vec::new());
        let mut new = Self {
            people,
            gate,
            way,
            numbers,
            x0,
            best,
            aim: 0.0,
            most: GIVES_UP,
            cost,
            asking: Vec::new(),
            turn: 0,
        };
        if let Some(gate) = new.gate.as_deref_mut() {
            new.asking = (0..way.identities).map(|_| gate.newcomer()).collect();
        }
        new
    }

    fn is_over(&self) -> bool {
        self.best.0 <= self.aim || self.cost.rows >= self.most || self.cost.identities >= IDENTITIES
    }

    /// The length of a move, over columns, in standard deviations.
    fn apart(&self, x: &[f64]) -> f64 {
        let columns = x.iter().zip(&self.x0).zip(&self.people.spreads);
        let sum: f64 = columns.map(|((x, x0), spread)| ((x - x0) / spread).powi(2)).sum();
        (sum / x.len() as f64).sqrt()
    }

    /// Asks about a row as the way has it, and says how far its answer is from the first row's label: above 0 beyond it.
    fn beyond(&mut self, x: &[f64]) -> f64 {
        let asked: Vec<f64> = (x.iter().zip(&self.people.spreads))
            .map(|(x, spread)| {
                let noisy = x + self.way.noise * spread * self.numbers.normal();
                if self.way.rounds { (noisy * 16.0).round() / 16.0 } else { noisy }
            })
            .collect();
        for _ in 0..self.way.between {
            let honest = self.people.case(&mut self.numbers);
            self.send(vec![honest]);
        }
        let mut rows: Vec<Vec<f64>> =
            (0..self.way.packed).map(|_| self.people.case(&mut self.numbers)).collect();
        rows.push(asked.clone());
        self.send(rows);
        let answer = self.people.fitted_answer(&asked);
        let was = label(&self.people.fitted_answer(&self.x0)).unwrap_or(0);
        let other = answer.iter().enumerate().filter(|(class, _)| *class != was);
        let margin = other.map(|(_, p)| *p).fold(0.0, f64::max) - answer[was];
        if label(&answer) != Some(was) && self.apart(&asked) < self.best.0 {
            self.best = (self.apart(&asked), asked);
        }
        if self.way.reads_scores { margin } else { margin.signum() }
    }

    /// One request, by whoever's turn it is. A blocked identity is replaced.
    fn send(&mut self, rows: Vec<Vec<f64>>) {
        self.cost.rows += rows.len();
        let Some(gate) = self.gate.as_deref_mut() else { return };
        self.turn = (self.turn + 1) % self.asking.len();
        gate.seconds += self.way.pause;
        let predictions = rows.iter().map(|x| self.people.fitted_answer(x)).collect();
        let request = Request { seconds: gate.seconds, rows, predictions };
        let out = gate.host.ask(self.asking[self.turn], &request);
        let is_block = |record: &checkgate_detectors::finding::Record| {
            record.action == Action::Block && record.kind == Kind::Decision
        };
        if out.records.iter().any(is_block) {
            self.asking[self.turn] = gate.newcomer();
            self.cost.blocked += 1;
            self.cost.identities += 1;
        }
    }

    /// Walks along the border, as HopSkipJump does (Chen, Jordan, Wainwright, 2020), until it is near enough.
    fn run(mut self) -> (Cost, f64) {
        let other = loop {
            let case = self.people.case(&mut self.numbers);
            if self.beyond(&case) > 0.0 || self.is_over() {
                break case;
            }
        };
        let mut at = other;
        let mut step = 1.0;
        while !self.is_over() {
            at = self.bisected(&at);
            let ascent = self.estimated(&at);
            let ahead = moved(&at, &ascent, step * self.apart(&at), &self.people.spreads);
            if self.beyond(&ahead) > 0.0 {
                at = ahead;
            } else {
                step = f64::max(step * 0.7, 0.02);
            }
        }
        self.cost.reached = self.best.0 <= self.aim;
        (self.cost, self.best.0)
    }

    /// A row just beyond the border, on the way from the first row to `at`.
    fn bisected(&mut self, at: &[f64]) -> Vec<f64> {
        let (mut near, mut far) = (0.0, 1.0);
        let between = |x0: &[f64], share: f64| -> Vec<f64> {
            x0.iter().zip(at).map(|(x0, at)| x0 + share * (at - x0)).collect()
        };
        for _ in 0..7 {
            if self.is_over() {
                break;
            }
            let middle = f64::midpoint(near, far);
            let row = between(&self.x0, middle);
            if self.beyond(&row) > 0.0 { far = middle } else { near = middle }
        }
        between(&self.x0, far)
    }

    /// A direction in which answers get further beyond the border.
    fn estimated(&mut self, at: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; at.len()];
        let mut said = Vec::with_capacity(self.way.directions);
        for _ in 0..self.way.directions {
            if self.is_over() {
                break;
            }
            let direction: Vec<f64> = (0..at.len()).map(|_| self.numbers.normal()).collect();
            let row = moved(at, &direction, self.way.reach, &self.people.spreads);
            said.push((self.beyond(&row), direction));
        }
        let mean = said.iter().map(|(value, _)| value).sum::<f64>() / said.len().max(1) as f64;
        for (value, direction) in &said {
            sum.iter_mut().zip(direction).for_each(|(sum, part)| *sum += (value - mean) * part);
        }
        sum
    }
}

/// `from`, moved by `length` standard deviations (root mean square over columns) along `direction`.
fn moved(from: &[f64], direction: &[f64], length: f64, spreads: &[f64]) -> Vec<f64> {
    let size = (direction.iter().map(|part| part * part).sum::<f64>() / from.len() as f64).sqrt().max(1e-12);
    let columns = from.iter().zip(direction).zip(spreads);
    columns.map(|((from, part), spread)| (from + length * part / size * spread).clamp(0.0, 1.0)).collect()
}

/// What the plain attack reaches unhindered: the aim of all others on that row.
fn aim(people: &People, seed: u64) -> f64 {
    let mut plain = Attacker::new(people, None, PLAIN, seed);
    plain.most = AIM_ROWS;
    plain.run().1
}

/// What a way costs on each of some rows.
fn costs(people: &People, mut gate: Option<&mut Gate>, way: Way, seeds: std::ops::Range<u64>) -> Vec<Cost> {
    let one = |seed| {
        let mut attacker = Attacker::new(people, gate.as_deref_mut(), way, seed);
        attacker.aim = aim(people, seed);
        attacker.run().0
    };
    seeds.map(one).collect()
}

/// Whoever fails is worse than whoever does not; then fewer identities count, then fewer rows.
fn rank(costs: &[Cost]) -> (usize, usize, usize) {
    let failed = costs.iter().filter(|cost| !cost.reached).count();
    (failed, costs.iter().map(|cost| cost.identities).sum(), costs.iter().map(|cost| cost.rows).sum())
}

fn fewest_rows(costs: &[Cost]) -> (usize, usize, usize) {
    let (failed, identities, rows) = rank(costs);
    (failed, rows, identities)
}

type Rank = fn(&[Cost]) -> (usize, usize, usize);

/// The best of many ways: tried on one row, the better ones on more (Karnin, Koren, Somekh, ICML 2013).
fn searched(people: &People, gate: &mut Gate, ways: &[Way], rank: Rank) -> Way {
    let mut left = ways.to_vec();
    for (keep, rows) in HALVINGS {
        left.truncate(keep);
        left.sort_by_cached_key(|way| rank(&costs(people, Some(gate), *way, 1..1 + rows as u64)));
    }
    left[0]
}

fn row(table: &mut Table, name: &str, way: Way, costs: &[Cost], open: f64) {
    let reached = costs.iter().filter(|cost| cost.reached).count();
    let mean = |of: fn(&Cost) -> usize| costs.iter().map(of).sum::<usize>() as f64 / costs.len() as f64;
    let rows = mean(|cost| cost.rows);
    table.row(&[
        name.to_owned(),
        format!("{reached} of {}", costs.len()),
        format!("{rows:.0}"),
        format!("{:.1}", rows / open),
        format!("{:.1}", mean(|cost| cost.identities)),
        format!("{:.1}", mean(|cost| cost.blocked)),
        way.told(),
    ]);
}

/// The table.
pub fn section() -> String {
    let people = people(MODEL);
    let mut numbers = Numbers::new(29);
    let ways: Vec<Way> = (0..TRIALS).map(|_| Way::drawn(&mut numbers)).collect();
    let mut gate = Gate { host: Host::new(MODEL, TRUSTED), seconds: 1.0, client: 100 };
    let held_out = 1001..1001 + HELD_OUT as u64;
    let mut open: Vec<Way> = vec![PLAIN];
    for way in ways.iter().map(|way| way.open()) {
        if !open.contains(&way) {
            open.push(way);
        }
    }
    let open = open
        .into_iter()
        .min_by_key(|way| fewest_rows(&costs(people, None, *way, 1..5)))
        .expect("there are ways");
    let unhindered = costs(people, None, open, held_out.clone());
    let least = unhindered.iter().map(|cost| cost.rows).sum::<usize>() as f64 / HELD_OUT as f64;
    let mut table = Table::new(&[
        "attacker",
        "reached the aim",
        "rows, honest ones included",
        "times the unhindered",
        "identities",
        "of these blocked",
        "how",
    ]);
    row(&mut table, "unhindered, its best way", open, &unhindered, least);
    let naive = costs(people, Some(&mut gate), open, held_out.clone());
    row(&mut table, "the same way through checkgate", open, &naive, least);
    let ranks: [(&str, Rank); 2] =
        [("adapted, fewest identities", rank), ("adapted, fewest rows", fewest_rows)];
    for (name, rank) in ranks {
        eprintln!("quality: {name}");
        let way = searched(people, &mut gate, &ways, rank);
        row(&mut table, name, way, &costs(people, Some(&mut gate), way, held_out.clone()), least);
    }
    let tried: usize = HALVINGS.iter().map(|(ways, rows)| ways * rows).sum();
    format!(
        "## An attacker who adapts\n\n{TRIALS} ways tried for each of two aims, the better ones on more rows: {tried} attacks \
         each. Means over {HELD_OUT} rows on which no way was chosen; who has not reached the aim gave up after {GIVES_UP} \
         rows or {IDENTITIES} identities, and counts with these.\n\n{}",
        table.finish()
    )
}
