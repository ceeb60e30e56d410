//! What a row costs a lane: `cargo bench -p checkgate-detectors`.
//!
//! Every detector is on at its defaults, and the reference has 1,000 rows. *One busy* is a client with 1,000 rows of its
//! own to be compared with, beside 1,000 recent rows of others; *fifty* are clients that ask in turn, with a few dozen
//! rows each; *far* is a client whose rows lie far from the reference, a little in every column. Told is the median of twenty parts of a thousand rows, as a neighbour on the machine may disturb some. Times
//! depend on the machine; the columns compare. For numbers that do not, let callgrind count what the function `counted`
//! does: arguments name the widths and the traffic, `busy`, `fifty` or `far`.
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*counted*' target/release/deps/rows-HASH 104 busy
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Instant;

use checkgate_detectors::engine::{Engine, Outbox};
use checkgate_detectors::reference::{Reference, Trust};
use support::{Request, client, engine, play};

const ROWS: usize = 1000;
/// Rows that are timed together.
const PART: usize = 50;

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

/// An engine, what its clients ask, and the number of the next request.
struct Traffic {
    engine: Engine,
    numbers: Numbers,
    width: usize,
    next: u64,
    /// What every value is multiplied by.
    scale: f64,
}

impl Traffic {
    fn new(width: usize) -> Self {
        let mut numbers = Numbers(1);
        let engine = engine(Some(reference(&mut numbers, width)), &[]);
        Self { engine, numbers, width, next: 0, scale: 1.0 }
    }

    /// Asks a thousand times as client `asker(turn)`, one row at a time; gives the microseconds that one took.
    fn ask(&mut self, ask: fn(&mut Engine, u16, u64, &Request) -> Outbox, asker: fn(usize) -> u16) -> f64 {
        let mut parts = Vec::new();
        for part in 0..ROWS / PART {
            let turns = part * PART..(part + 1) * PART;
            let requests: Vec<(usize, Request)> = turns.map(|turn| (turn, self.request(turn))).collect();
            let started = Instant::now();
            for (turn, request) in &requests {
                black_box(ask(&mut self.engine, asker(*turn), self.next, request));
                self.next += 1;
            }
            parts.push(started.elapsed().as_secs_f64() * 1e6 / PART as f64);
        }
        parts.sort_by(f64::total_cmp);
        parts[parts.len() / 2]
    }

    fn request(&mut self, turn: usize) -> Request {
        let row = self.numbers.row(self.width).into_iter().map(|value| value * self.scale).collect();
        Request { seconds: turn as f64, rows: vec![row], predictions: vec![vec![0.9, 0.1]] }
    }
}

fn warm_up(engine: &mut Engine, number: u16, id: u64, request: &Request) -> Outbox {
    play(engine, client(number), id, request)
}

/// Never inlined, so that its name stands in the profile.
#[inline(never)]
fn counted(engine: &mut Engine, number: u16, id: u64, request: &Request) -> Outbox {
    play(engine, client(number), id, request)
}

fn one_busy(width: usize) -> f64 {
    let mut traffic = Traffic::new(width);
    traffic.ask(warm_up, |_| 1);
    traffic.ask(warm_up, |turn| 2 + (turn % 100) as u16);
    traffic.ask(counted, |_| 1)
}

fn fifty(width: usize) -> f64 {
    let mut traffic = Traffic::new(width);
    traffic.ask(warm_up, |turn| (turn % 50) as u16);
    traffic.ask(warm_up, |turn| (turn % 50) as u16);
    traffic.ask(counted, |turn| (turn % 50) as u16)
}

fn far(width: usize) -> f64 {
    let mut traffic = Traffic::new(width);
    traffic.ask(warm_up, |turn| (turn % 50) as u16);
    traffic.scale = 2.0;
    traffic.ask(warm_up, |_| 100);
    traffic.ask(counted, |_| 100)
}

/// The name of a traffic, and what measures a row of so many features in it.
type Case = (&'static str, fn(usize) -> f64);

/// The columns.
const TRAFFICS: &[Case] = &[("busy", one_busy), ("fifty", fifty), ("far", far)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut widths: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if widths.is_empty() {
        widths = vec![10, 30, 64, 104];
    }
    let is_named = |name: &str| arguments.iter().any(|argument| argument == name);
    let are_all_wanted = !TRAFFICS.iter().any(|(name, _)| is_named(name));
    let titles: String = TRAFFICS.iter().map(|(name, _)| format!("{name:>10}")).collect();
    println!("us a row, by features{titles}");
    for width in widths {
        let row = |(name, traffic): &Case| {
            let is_wanted = are_all_wanted || is_named(name);
            if is_wanted { format!("{:10.2}", traffic(width)) } else { format!("{:>10}", "-") }
        };
        println!("{width:21}{}", TRAFFICS.iter().map(row).collect::<String>());
    }
}
