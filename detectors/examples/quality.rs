//! Evidence for the quality of detection: recorded attacks, generated honest clients, diluted and disguised attacks,
//! and what an attacker has when it is blocked. `load-tests/quality/run.sh` builds and runs it.
//!
//! Tables go to standard output, progress to standard error. The same program prints the same tables: seeds are fixed,
//! and no clock is read. `--svg FILE` also draws the dilution.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that measures and fails by panicking, as the tests do"
)]

#[path = "quality/mod.rs"]
mod quality;
#[path = "../tests/support/mod.rs"]
mod support;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let svg = arguments.next().filter(|word| word == "--svg").and_then(|_| arguments.next());
    let sections: [(&str, fn() -> String); 4] = [
        ("recorded streams", quality::recorded::section),
        ("honest clients", quality::crowd::section),
        ("dilution and disguise", quality::diluted::section),
        ("what the attacker has", quality::at_block::section),
    ];
    for (name, section) in sections {
        eprintln!("quality: {name}");
        println!("{}", section());
    }
    if let Some(path) = svg {
        std::fs::write(&path, quality::plot::drawing()).expect("the drawing can be written");
    }
}
