//! What a model remembers, in bytes of resident memory: `cargo run --release -p checkgate-detectors --example memory`.
//!
//! Every detector is on at its defaults. First the memories of rows are filled, which all clients of a model share and
//! which are bounded; what each client adds after that is the slope over 100,000 of them, each with a proven key and a
//! few ordinary rows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for people"
)]

use std::time::Duration;

use checkgate_detectors::contract::Contract;
use checkgate_detectors::engine::{Build, Engine, Limits, Outbox};
use checkgate_detectors::facts::{Answered, Asked, Cell, Features, Question, Time};
use checkgate_detectors::finding::Action;
use checkgate_detectors::identity::{Address, Asker, Standing};
use checkgate_detectors::policy::Policy;
use checkgate_detectors::query::QUERY;
use checkgate_detectors::reference::{Reference, Trust};

/// Rows of clients that come first, so that every memory of rows is full.
const ROWS_BEFORE: u64 = 80_000;
const CLIENTS_BEFORE: u64 = 50;
const CLIENTS: u64 = 100_000;
/// Clients of a crowd.
const CROWD: u64 = 1_000_000;

/// Numbers from 0 to 1, the same on every run (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn row(&mut self, width: usize) -> Vec<f64> {
        (0..width).map(|_| self.next() + self.next() + self.next()).collect()
    }
}

fn reference(numbers: &mut Numbers, width: usize) -> Reference {
    let names: Vec<String> = (0..width).map(|column| format!("f{column}")).collect();
    let mut text = serde_json::json!({ "features": names }).to_string();
    for _ in 0..1000 {
        text.push_str(&format!("\n{}", serde_json::json!({"x": numbers.row(width), "p": [1.0]})));
    }
    Reference::from_json_lines(&text, Trust::Trusted).unwrap()
}

fn engine(reference: Option<Reference>, clients: usize) -> Engine {
    Engine::new(Build {
        model: "pricing".into(),
        hash_key: [1, 2],
        detectors: QUERY.iter().map(|spec| (spec.name.to_owned(), (spec.defaults)())).collect(),
        contract: Contract::default(),
        contract_action: Action::Alert,
        policy: Policy::default(),
        reference,
        drift: None,
        limits: Limits { clients, open_questions: 4096, new_keys_per_address: u32::MAX },
    })
    .unwrap()
}

/// One question of one row, and its answer.
fn ask(engine: &mut Engine, client: u64, id: u64, row: &[f64], out: &mut Outbox) {
    let features = |values: &[f64]| Features {
        width: values.len(),
        cells: values.iter().map(|value| Cell::Number(*value)).collect(),
        ..Features::default()
    };
    let (question, answer) = (features(row), features(&[100.0]));
    let address = Address::of(std::net::Ipv4Addr::new(198, 51, 100, 1).into());
    let asker = Asker {
        address,
        standing: Standing::Declared,
        key: Some(client.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        keys_verified: true,
    };
    let time = Time(1_000_000_000 + id * 10_000);
    out.clear();
    engine.asked(&Asked { id, time, asker, bytes: 1000, question: Question::Rows(&question) }, out);
    let (status, latency, judged) = (200, Duration::ZERO, None);
    engine.answered(
        &Answered { id, time, asker, status, bytes: 200, latency, answer: Ok(&answer), judged },
        out,
    );
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

fn measure(name: &str, reference_rows: bool, width: usize, rows: u64) {
    let mut numbers = Numbers(1);
    let reference = reference_rows.then(|| reference(&mut numbers, width));
    let before = resident();
    let mut engine = engine(reference, 1_000_000);
    let mut out = Outbox::default();
    let mut id = 0;
    for turn in 0..ROWS_BEFORE {
        ask(&mut engine, turn % CLIENTS_BEFORE, id, &numbers.row(width), &mut out);
        id += 1;
    }
    let full = resident();
    for client in 0..CLIENTS {
        for _ in 0..rows {
            ask(&mut engine, CLIENTS_BEFORE + client, id, &numbers.row(width), &mut out);
            id += 1;
        }
    }
    let after = resident();
    println!(
        "{name:44} {:9.1} MiB {:9.1} B {:9.1} B",
        (full - before) / 1_048_576.0,
        (after - full) / CLIENTS as f64,
        engine.client_bytes() as f64 / (CLIENTS_BEFORE + CLIENTS) as f64
    );
}

/// A row of round numbers, as forms ask for: such rows share values, and lie on lines.
fn coarse(numbers: &mut Numbers, width: usize) -> Vec<f64> {
    numbers.row(width).into_iter().map(|value| (value * 10.0).floor()).collect()
}

/// A crowd of which each client asks once, and of which 10,000 are remembered at a time: what all tables
/// take together, from the first request on.
fn crowd(name: &str, width: usize) {
    let mut numbers = Numbers(1);
    let before = resident();
    let mut engine = engine(None, 10_000);
    let mut out = Outbox::default();
    let mut at = |wanted: u64, from: u64| {
        (from..wanted).for_each(|id| ask(&mut engine, id, id, &coarse(&mut numbers, width), &mut out));
        (resident() - before) / 1_048_576.0
    };
    let (first, half, all) = (at(CROWD / 10, 0), at(CROWD / 2, CROWD / 10), at(CROWD, CROWD / 2));
    println!("{name:44} {first:9.1} MiB {half:9.1} MiB {all:9.1} MiB");
}

fn measure_apart(case: usize) {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).arg(case.to_string()).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    println!("{}", lines.lines().last().unwrap());
}

fn main() {
    println!("{:44} rows full    a client more  of it in tables", "");
    // What one case frees the next would take: each is measured in a process of its own.
    match std::env::args().nth(1).and_then(|case| case.parse::<usize>().ok()) {
        Some(0) => measure("109 columns, a learned reference, one row", false, 109, 1),
        Some(1) => measure("10 columns, a learned reference, three rows", false, 10, 3),
        Some(2) => measure("10 columns, a named reference, three rows", true, 10, 3),
        Some(_) => crowd("10 columns, a crowd of 1,000,000: 10, 50, 100 %", 10),
        None => (0..4).for_each(measure_apart),
    }
}
