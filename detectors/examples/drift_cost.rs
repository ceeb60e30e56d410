//! What watching drift adds to an exchange of one row: the work of an engine without detectors, with and without it.
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*counted*' drift_cost WIDTH plain|watched TIMES
//! ```
//!
//! The instructions that callgrind collects, divided by TIMES, are those of one exchange; the difference of the two is
//! the cost. The first 1,000 exchanges teach a reference and are not counted.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a program that measures")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use checkgate_detectors::contract::Contract;
use checkgate_detectors::drift::room::Settings;
use checkgate_detectors::engine::{Build, Drift, Engine, Limits, Outbox};
use checkgate_detectors::facts::{Answered, Asked, Cell, Features, Question, Time};
use checkgate_detectors::finding::Action;
use checkgate_detectors::identity::{Address, Asker, Standing};
use checkgate_detectors::policy::Policy;

/// Exchanges before the first counted one.
const WARM_UP: u64 = 1500;
/// Clients that ask in turn.
const CLIENTS: u64 = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [width, watched, times] = arguments.as_slice() else {
        eprintln!("usage: drift_cost WIDTH plain|watched TIMES");
        return;
    };
    let (width, times): (usize, u64) = (width.parse().unwrap(), times.parse().unwrap());
    let settings = Settings { warm_up_rows: 1000, ..Settings::default() };
    let drift = (watched == "watched").then_some(Drift { settings, ..Drift::default() });
    let (mut engine, mut random, mut out) = (engine(drift), Random(7), Outbox::default());
    for id in 0..WARM_UP + times {
        let (row, price) = (features(width, &mut random), features(1, &mut random));
        let mut exchange = || {
            out.clear();
            engine.asked(&asked(id, &row), &mut out);
            engine.answered(&answered(id, &price), &mut out);
        };
        if id < WARM_UP { exchange() } else { counted(exchange) }
    }
    println!("{:?}", engine.drift().map(|standing| (standing.rows, standing.features.len())));
}

/// The one function whose instructions count, inclusive of what it calls.
#[inline(never)]
fn counted(work: impl FnOnce()) {
    work();
    black_box(());
}

fn engine(drift: Option<Drift>) -> Engine {
    let built = Engine::new(Build {
        model: "pricing".into(),
        hash_key: [1, 2],
        detectors: Vec::new(),
        contract: Contract::default(),
        contract_action: Action::Alert,
        policy: Policy::default(),
        reference: None,
        drift,
        limits: Limits { clients: 10_000, open_questions: 4096, new_keys_per_address: 20 },
    });
    built.unwrap()
}

fn features(width: usize, random: &mut Random) -> Features {
    let mut features = Features { width, ..Features::default() };
    features.names.push_numbered("input", width);
    features.cells = (0..width).map(|_| Cell::Number(random.unit() + random.unit())).collect();
    features
}

fn asker(id: u64) -> Asker {
    let client = u8::try_from(id % CLIENTS).unwrap_or_default();
    Asker {
        address: Address::of(Ipv4Addr::new(198, 51, 100, client).into()),
        standing: Standing::Declared,
        key: None,
        keys_verified: false,
    }
}

/// A question every 10 ms.
fn asked(id: u64, row: &Features) -> Asked<'_> {
    let time = Time(1_000_000_000 + id * 10_000);
    Asked { id, time, asker: asker(id), bytes: 1000, question: Question::Rows(row) }
}

fn answered(id: u64, price: &Features) -> Answered<'_> {
    Answered {
        id,
        time: Time(1_000_001_000 + id * 10_000),
        asker: asker(id),
        status: 200,
        bytes: 250,
        latency: Duration::from_millis(1),
        answer: Ok(price),
        judged: None,
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
