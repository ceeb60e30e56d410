//! What drift detection costs: `cargo bench -p checkgate-detectors --bench drift`.
//!
//! Times depend on the machine and on what else it does. `drift count`, `drift settle` and `drift nothing` as the only
//! arguments run one part for a tool that counts instructions; the difference to `nothing` is what the part takes.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

#[path = "../tests/drift_streams/mod.rs"]
mod drift_streams;

use std::hint::black_box;
use std::time::{Duration, Instant};

use checkgate_detectors::drift::bins::Value;
use checkgate_detectors::drift::gauges::Pair;
use checkgate_detectors::drift::reference::{DriftReference, Settings, Table};
use checkgate_detectors::drift::watch::Watch;
use checkgate_detectors::facts::Time;
use drift_streams::{Numbers, many, silent};

const REFERENCE: usize = 20_000;
const ROWS: usize = 4000;
/// Passes over the rows; the middle one counts.
const PASSES: usize = 21;

/// A reference of `width` features, and rows to be watched.
fn made(width: usize) -> (DriftReference, Vec<Vec<Value>>) {
    let mut numbers = Numbers(1);
    let reference =
        DriftReference::of(&many(&mut numbers, REFERENCE, width, &|_, value| value), &Settings::default());
    let table = many(&mut numbers, ROWS, width, &|_, value| value);
    let row = |row: usize| table.columns.iter().map(|column| column.values[row]).collect();
    (reference.unwrap(), (0..ROWS).map(row).collect())
}

/// Counts rows, and settles where `settle`.
fn pass(reference: &DriftReference, watch: &mut Watch, rows: &[Vec<Value>], settle: bool) {
    for (row, values) in rows.iter().enumerate() {
        let due = watch.see(reference, black_box(values), Time(row as u64));
        if settle && due {
            let _ = watch.settle(reference, Time(row as u64));
        }
    }
}

fn median(mut spans: Vec<Duration>) -> f64 {
    spans.sort_unstable();
    spans[spans.len() / 2].as_secs_f64() * 1e9
}

fn timed(mut run: impl FnMut()) -> f64 {
    let once = |_| {
        let started = Instant::now();
        run();
        started.elapsed()
    };
    median((0..PASSES).map(once).collect())
}

fn report(width: usize) {
    let (reference, rows) = made(width);
    let mut watch = silent(&reference);
    let counting = timed(|| pass(&reference, &mut watch, &rows, false)) / ROWS as f64;
    let both = timed(|| pass(&reference, &mut watch, &rows, true)) / ROWS as f64;
    println!(
        "{width:8} {:17.1} {:13.1} {:26.1}",
        counting / width as f64,
        counting,
        (both - counting) / width as f64
    );
}

fn gauges() {
    let (reference, rows) = made(1);
    let mut watch = silent(&reference);
    pass(&reference, &mut watch, &rows, true);
    let (feature, state) = (&reference.features()[0], &watch.features()[0]);
    let recent = state.recent();
    let pair = Pair { reference: &feature.counts, window: &recent, bins: &feature.bins };
    let took = timed(|| {
        for _ in 0..1000 {
            let pair = black_box(&pair);
            black_box((pair.psi(), pair.kolmogorov_smirnov(), pair.jensen_shannon(), pair.wasserstein()));
        }
    });
    println!("\nPSI, KS, JS and W1 of one feature: {:.2} us", took / 1e6);
}

fn set_up() {
    let table: Table = many(&mut Numbers(1), 100_000, 50, &|_, value| value);
    let started = Instant::now();
    black_box(DriftReference::of(&table, &Settings::default()).unwrap());
    println!(
        "a reference of 100,000 rows and 50 features, frozen and replayed: {:.2} s",
        started.elapsed().as_secs_f64()
    );
}

fn main() {
    let part = std::env::args().find(|argument| ["count", "settle", "nothing"].contains(&argument.as_str()));
    if let Some(part) = part {
        let (reference, rows) = made(1);
        let mut watch = silent(&reference);
        if part != "nothing" {
            (0..PASSES).for_each(|_| pass(&reference, &mut watch, &rows, part == "settle"));
        }
        println!("{part}: {} events", PASSES * ROWS);
        return;
    }
    println!("features   ns an event, counted   ns a row   ns an event, settled later");
    [1, 10, 50].into_iter().for_each(report);
    gauges();
    set_up();
}
