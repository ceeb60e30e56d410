//! Inner parts on their own: the program whose instructions are guarded also takes the time.

use anyhow::Context;

use super::options::Options;
use super::process::output_of;
use super::sample::{Measure, Sample, Samples};
use super::{PROXY_CORE, Places, progress};

/// A row of 10 features through the engine, everything on, against a reference of 1,000 rows.
pub const OBSERVE_10: &str = "observe/row-10";
/// A body with 104 numbers.
pub const DECODE_KIB: &str = "decode/question-104";
/// How many KiB that body has.
pub const KIB_DECODED: f64 = 1.0;

/// Cases that are timed, with how often each is done in a round.
pub const CASES: &[(&str, u32)] = &[
    ("decode/question-10", 20_000),
    (DECODE_KIB, 20_000),
    ("decode/question-1090", 2_000),
    ("decode/answer-1", 20_000),
    (OBSERVE_10, 10_000),
    ("observe/row-96", 5_000),
    ("observe/row-104", 10_000),
];

/// Times every case in every round.
///
/// # Errors
/// Where the program is missing or refuses a case.
pub fn run(places: &Places, options: &Options, samples: &mut Samples) -> anyhow::Result<()> {
    let program = places.root.join("target/release/examples/instructions");
    let program = program.to_string_lossy();
    for round in 0..options.rounds {
        progress(&format!("parts, round {} of {}", round + 1, options.rounds));
        for (case, times) in CASES {
            let core = PROXY_CORE.to_string();
            let words = ["taskset", "-c", &core, &program, "time", case, &times.to_string()];
            let said = output_of(&words)?;
            let nanoseconds = said.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok());
            let value = nanoseconds.with_context(|| said.clone())? / 1000.0;
            samples.add(Sample { measure: Measure::Part, size: "", contender: case, round, value });
        }
    }
    Ok(())
}
