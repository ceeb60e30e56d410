//! What a row costs a lane, and what a model remembers: `cargo bench -p checkgate-detectors`.
//!
//! Every detector is on at its defaults, the reference has 1,000 rows, and the client that asks has 1,000 rows of its
//! own to be compared with, beside 1,000 recent rows of others. Times depend on the machine; the columns compare.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use checkgate_detectors::engine::Engine;
use checkgate_detectors::reference::{Reference, Trust};
use support::{Request, client, engine, play};

const ROWS: usize = 1000;

/// Numbers as honest rows have them: sums of uniform ones, the same on every run.
struct Numbers(u64);

impl Numbers {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn row(&mut self, width: usize) -> Vec<f64> {
        let value = |numbers: &mut Self| (0..6).map(|_| numbers.uniform()).sum::<f64>();
        (0..width).map(|column| value(self) * (column + 1) as f64).collect()
    }
}

fn reference(numbers: &mut Numbers, width: usize) -> Reference {
    let features: Vec<String> = (0..width).map(|column| format!("f{column}")).collect();
    let mut text = serde_json::json!({ "features": features }).to_string();
    for _ in 0..ROWS {
        text.push_str(&format!("\n{}", serde_json::json!({"x": numbers.row(width), "p": [0.5]})));
    }
    Reference::from_json_lines(&text, Trust::Trusted).unwrap()
}

/// Asks `rows` times as client `asker(turn)`, one row at a time.
fn ask(engine: &mut Engine, numbers: &mut Numbers, width: usize, asker: impl Fn(usize) -> u16, from: u64) {
    for turn in 0..ROWS {
        let request = Request {
            seconds: turn as f64,
            rows: vec![numbers.row(width)],
            predictions: vec![vec![0.9, 0.1]],
        };
        play(engine, client(asker(turn)), from + turn as u64, &request);
    }
}

/// Widths given as arguments, or the usual ones.
fn widths() -> Vec<usize> {
    let given: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if given.is_empty() { vec![10, 30, 64, 104] } else { given }
}

fn main() {
    println!("features   us a row   without the detectors' generator");
    for width in widths() {
        let mut numbers = Numbers(1);
        let mut engine = engine(Some(reference(&mut numbers, width)), &[]);
        ask(&mut engine, &mut numbers, width, |_| 1, 0);
        ask(&mut engine, &mut numbers, width, |turn| 2 + (turn % 100) as u16, 1000);
        let generated = Instant::now();
        (0..ROWS).for_each(|_| drop(std::hint::black_box(numbers.row(width))));
        let generating = generated.elapsed();
        let started = Instant::now();
        ask(&mut engine, &mut numbers, width, |_| 1, 2000);
        let took = started.elapsed();
        let row = |span: std::time::Duration| span.as_secs_f64() * 1e6 / ROWS as f64;
        println!("{width:8}   {:8.2}   {:8.2}", row(took), row(took.saturating_sub(generating)));
    }
}
