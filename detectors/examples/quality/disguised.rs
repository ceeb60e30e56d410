//! (c) Attacks that hide: behind a flood, in batches, in time, on the grid, under noise.

use super::diluted::{ATTACKER, Traffic, attacks};
use super::honest::{Numbers, People, people};
use super::host::{Host, Outcome, Place, TRUSTED, alone, labels_only};
use super::table::{Table, or_dash};
use crate::support::{Request, Stream, model_of};

/// Rows of a flood.
const FLOOD: usize = 10_000;
/// Rows of a batch that one attack row hides in.
const BATCH: usize = 8;
/// Share of the attack where it is diluted here.
const SHARE: f64 = 0.01;
/// Standard deviation of the noise, in parts of each column's range.
const NOISE: f64 = 0.05;
/// The first flooding client.
const FLOODER: u32 = 2;

/// The table.
pub fn table() -> String {
    let mut table = Table::new(&[
        "attack",
        "alone",
        "after a flood",
        "by 100 clients",
        "of pairs",
        "1 in 8 of a batch",
        "a row an hour",
        "on the grid",
        "on the grid, labels only",
        "under noise",
        "under noise, labels only",
    ]);
    for (name, attack) in attacks() {
        eprintln!("quality: {name} in disguise");
        let people = people(model_of(name));
        let gridded = changed(&attack, |x| people.on_grid(x));
        let mut numbers = Numbers::new(5);
        let noisy = changed(&attack, |x| noisy(people, x, &mut numbers));
        table.row(&[
            name.to_owned(),
            said(&alone(&attack, TRUSTED)),
            said(&flooded(people, &attack, &marked(people), 1)),
            said(&flooded(people, &attack, &marked(people), 100)),
            said(&flooded(people, &attack, &pairs(people), 100)),
            said(&hidden(people, &attack)),
            said(&slow(people, &attack)),
            said(&alone(&gridded, TRUSTED)),
            said(&alone(&labels_only(&gridded), TRUSTED)),
            said(&alone(&noisy, TRUSTED)),
            said(&alone(&labels_only(&noisy), TRUSTED)),
        ]);
    }
    table.finish()
}

/// The attacker's row of the block, or the row at which it was first told of, in parentheses.
fn said(outcome: &Outcome) -> String {
    let first = outcome.first.map(|told| format!("({})", told.place.rows));
    outcome.block.map_or_else(|| or_dash(first), |told| told.place.rows.to_string())
}

fn changed(attack: &Stream, mut change: impl FnMut(Vec<f64>) -> Vec<f64>) -> Stream {
    let mut requests = attack.requests.clone();
    for row in requests.iter_mut().flat_map(|request| &mut request.rows) {
        *row = change(std::mem::take(row));
    }
    Stream { name: attack.name.clone(), requests }
}

fn noisy(people: &People, x: Vec<f64>, numbers: &mut Numbers) -> Vec<f64> {
    let columns = x.into_iter().zip(&people.ranges);
    columns.map(|(value, (low, high))| value + NOISE * (high - low) * numbers.normal()).collect()
}

/// Cases by chance whose values lie off the columns' grid: each is marked, and none leads to a block.
fn marked(people: &People) -> Vec<Vec<f64>> {
    let mut numbers = Numbers::new(3);
    let mut row = || {
        let case = people.case(&mut numbers);
        let values = case.iter().zip(&people.spreads);
        values.map(|(value, spread)| value + 0.01 * spread * numbers.normal()).collect()
    };
    (0..FLOOD).map(|_| row()).collect()
}

/// Cases, each followed by a copy with another value in one column: every pair is the beginning of a sweep.
fn pairs(people: &People) -> Vec<Vec<f64>> {
    let mut numbers = Numbers::new(4);
    let mut rows = Vec::with_capacity(FLOOD);
    while rows.len() < FLOOD {
        let case = people.case(&mut numbers);
        let column = numbers.whole(0, case.len() - 1);
        let mut copy = case.clone();
        copy[column] += people.spreads[column] * numbers.between(0.5, 1.5);
        rows.extend([case, copy]);
    }
    rows
}

/// The attack at a small share of the traffic, after a flood that several clients sent in equal parts.
fn flooded(people: &People, attack: &Stream, flood: &[Vec<f64>], clients: usize) -> Outcome {
    let mut traffic = Traffic::new(people, Host::new(&attack.name, TRUSTED));
    traffic.go_on(1000);
    for (sent, row) in flood.iter().enumerate() {
        let request =
            Request { seconds: 0.0, predictions: vec![people.answer(row)], rows: vec![row.clone()] };
        let now = traffic.now();
        traffic.rows += 1;
        let number = FLOODER + (sent * clients / FLOOD) as u32;
        let blocks = traffic.host.ask_at(number, now, &request).blocks.len();
        if blocks > 0 {
            eprintln!("quality: a flooding client of {} is blocked after {sent} rows", attack.name);
        }
    }
    traffic.with_attack(&attack.requests, SHARE, usize::MAX)
}

/// Every row of an attack as a request of its own.
fn one_by_one(attack: &Stream) -> Vec<Request> {
    let rows = attack.requests.iter().flat_map(|request| {
        request.rows.iter().zip(&request.predictions).map(|(x, p)| Request {
            seconds: request.seconds,
            rows: vec![x.clone()],
            predictions: vec![p.clone()],
        })
    });
    rows.collect()
}

fn hidden(people: &People, attack: &Stream) -> Outcome {
    let mut numbers = Numbers::new(9);
    let mut host = Host::new(&attack.name, TRUSTED);
    let mut outcome = Outcome::default();
    for (turn, mut request) in one_by_one(attack).into_iter().enumerate() {
        for _ in 1..BATCH {
            let place = numbers.whole(0, request.rows.len());
            let beside = people.case(&mut numbers);
            request.predictions.insert(place, people.answer(&beside));
            request.rows.insert(place, beside);
        }
        outcome.take(&host.ask(ATTACKER, &request), Place { rows: turn + 1, requests: turn + 1 });
    }
    outcome
}

fn slow(people: &People, attack: &Stream) -> Outcome {
    let mut traffic = Traffic::new(people, Host::new(&attack.name, TRUSTED));
    let mut outcome = Outcome::default();
    for (turn, request) in one_by_one(attack).iter().enumerate() {
        // Some honest clients within the hour, at their own pace.
        traffic.rows = turn * 72_000;
        traffic.go_on(20);
        let out = traffic.host.ask_at(ATTACKER, (turn + 1) as f64 * 3600.0, request);
        outcome.take(&out, Place { rows: turn + 1, requests: turn + 1 });
        if outcome.block.is_some() {
            break;
        }
    }
    outcome
}
