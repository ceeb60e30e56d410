//! Evidence for drift detection: run lengths without a change, delays with one, names of features, and who is behind
//! it. `load-tests/quality/run.sh` builds and runs it. The same program prints the same tables: all seeds are fixed, and
//! no clock is read.
//!
//! `--write` puts the tables into docs/detection-quality.md. `--from SEED` prints those of 40 other seeds, which nobody
//! looked at before. `--streams FOLDER` writes the streams as files instead, for
//! programs that are compared, and `--delays FOLDER` what both layers take on them. `--public FOLDER` judges data sets
//! that were written there as CSV: NAME.reference.csv and NAME.analysis.csv.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that measures and fails by panicking"
)]

#[path = "../tests/drift_streams/mod.rs"]
mod drift_streams;
#[path = "drift_quality/files.rs"]
mod files;
#[path = "drift_quality/limits.rs"]
mod limits;
#[path = "drift_quality/references.rs"]
mod references;
#[allow(dead_code, reason = "other tables need more of it")]
#[path = "quality/table.rs"]
mod table;

use std::sync::atomic::{AtomicU64, Ordering};

use checkgate_detectors::drift::bins::Value;
use checkgate_detectors::drift::budget::{Thresholds, expected, expected_by_stretches, named};
use checkgate_detectors::drift::reference::{DriftReference, Settings};
use checkgate_detectors::drift::watch::{Layer, Watch};
use checkgate_detectors::facts::Time;
use drift_streams::crowd::{Crowd, Scenario};
use drift_streams::{
    BENEATH, CHANGES, DEPENDENT, FAILURES, INDEPENDENT, Numbers, Seen, Source, Stream, Trial, many, median,
    quarter, silent, watch,
};
use table::{Table, or_dash};

/// One false alarm in a million events, or in 1,000 stretches of 250.
const BUDGET: Thresholds = Thresholds { early: 1e6, paging: 1000.0 };
const REFERENCE: usize = 100_000;
/// One false alarm a week of ten rows a second, in stretches.
const WEEK_OF_STRETCHES: f64 = 24_192.0;
/// Held out: bets, weights and tolerances were chosen on other seeds, and before these were looked at.
const HELD_OUT: std::ops::RangeInclusive<u64> = 301..=340;
/// Those: `--chosen-on` prints the tables of these.
const CHOSEN_ON: std::ops::RangeInclusive<u64> = 1..=40;
/// Held out as well, for run lengths.
const LONG_SEEDS: std::ops::RangeInclusive<u64> = 3001..=3040;
/// Between these lines of the page stands what this program writes.
const MARKERS: [&str; 2] =
    ["<!-- drift: written by load-tests/quality/run.sh --write -->\n", "<!-- drift: until here -->"];
const PAGE: &str = "../docs/detection-quality.md";

/// The first of the 40 seeds that tables are of.
static FIRST: AtomicU64 = AtomicU64::new(*HELD_OUT.start());

fn seeds() -> std::ops::RangeInclusive<u64> {
    let first = FIRST.load(Ordering::Relaxed);
    first..=first.saturating_add(39)
}

const USAGE: &str = "\
usage: drift_quality [OPTION]

Prints the tables on drift of docs/detection-quality.md.

  --write               put them into docs/
  --from SEED           of 40 other seeds
  --chosen-on           of the seeds that settings were chosen on
  --streams FOLDER      write the streams that other programs are compared on
  --delays FOLDER       delays on these streams
  --public FOLDER       delays on data sets of packages";

/// Makes one table.
type Section = fn() -> Table;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => print!("{}", tables()),
        ["--write"] => write(&tables()),
        ["--chosen-on"] => {
            FIRST.store(*CHOSEN_ON.start(), Ordering::Relaxed);
            print!("{}", tables());
        }
        ["--from", seed] => {
            let seed = seed.parse().expect("a seed is a whole number");
            FIRST.store(seed, Ordering::Relaxed);
            print!("Of 40 seeds from {seed} on.\n\n{}", tables());
        }
        ["--streams", folder] => files::write_streams(folder),
        ["--delays", folder] => print!("{}", files::delays(folder)),
        ["--public", folder] => print!("{}", files::public(folder)),
        ["--help"] => println!("{USAGE}"),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    }
}

fn tables() -> String {
    let sections: [(&str, Section); 9] = [
        ("D1: run length of the early layer without a change, 40 runs", run_lengths),
        ("D1, D2: alarms without a change, 100,000 events in each of 40 runs", quiet),
        ("The paging layer's promise under each of 200 references, 400 stretches without a change", || {
            references::promises(*seeds().start())
        }),
        ("D3, D4, D5: delay after a change in events, median of 40 runs, reference of 100,000", delays),
        ("What the tolerance costs: delay of the early layer, median of 40 runs", tolerances),
        (
            "D6: names among 50 features, 40 runs each, reference of 20,000, one false alarm in 6,048,000 rows",
            names,
        ),
        ("D9: memory of one feature, in bytes", memory),
        ("D11: who is behind a shift, 40 runs of one window of 4,000 events each", senders),
        ("D12: negative prices until the early layer alarms, 40 runs, reference of 100,000", offending),
    ];
    let mut text = String::new();
    for (title, section) in sections {
        eprintln!("quality: {title}");
        text.push_str(&format!("### {title}\n\n{}\n", section().finish()));
    }
    text
}

/// Replaces what stands between the markers of the page.
fn write(tables: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let [begin, end] = MARKERS;
    let (before, rest) = page.split_once(begin).expect("the page has its first marker");
    let (_, after) = rest.split_once(end).expect("the page has its last marker");
    std::fs::write(&path, format!("{before}{begin}\n{}\n\n{end}{after}", tables.trim_end()))
        .expect("it can be written");
    print!("{tables}");
}

fn run_lengths() -> Table {
    let mut table =
        Table::new(&["threshold", "reference", "longest run", "mean run length", "runs that alarmed"]);
    let cells =
        [(1e4, 1000, 200_000), (1e4, 10_000, 200_000), (1e4, 100_000, 200_000), (1e6, 100_000, 1_200_000)];
    for (threshold, rows, longest) in cells {
        let thresholds = Thresholds { early: threshold, paging: f64::INFINITY };
        let stream = &INDEPENDENT[0];
        let run = |seed: u64| {
            let mut source = Source::new(seed);
            let reference = drift_streams::table(&mut source, stream, rows);
            let reference = DriftReference::of(&reference, &Settings::default()).unwrap();
            watch(
                &mut source,
                stream,
                (&reference, &mut silent(&reference)),
                thresholds,
                (longest, false, true),
            )
            .early
        };
        let runs: Vec<Option<u64>> = LONG_SEEDS.map(run).collect();
        let mean = runs.iter().map(|run| run.unwrap_or(longest)).sum::<u64>() / 40;
        let alarmed = runs.iter().flatten().count();
        table.row(&[
            format!("{threshold:.0}"),
            rows.to_string(),
            longest.to_string(),
            mean.to_string(),
            alarmed.to_string(),
        ]);
    }
    table
}

fn quiet() -> Table {
    let mut table = Table::new(&[
        "stream",
        "runs with an early alarm",
        "granted, 99 %",
        "early layer may page",
        "runs with a paging alarm",
        "granted, 99 %",
        "... at a week's budget",
        "granted, 99 %",
        "stretches without a change",
    ]);
    for stream in INDEPENDENT.iter().chain(&DEPENDENT) {
        let run = |seed: u64| {
            let mut source = Source::new(seed);
            let reference = drift_streams::table(&mut source, stream, REFERENCE);
            let reference = DriftReference::of(&reference, &Settings::default()).unwrap();
            let pair = (&reference, &mut silent(&reference));
            // To the end, whatever speaks before: only then is the most evidence that of the whole run.
            let never_both = Thresholds { paging: f64::INFINITY, ..BUDGET };
            let seen = watch(&mut source, stream, pair, never_both, (100_000, false, false));
            (seen, reference.quality().early_may_page(&BUDGET))
        };
        let runs: Vec<(Seen, bool)> = seeds().map(run).collect();
        let count =
            |holds: &dyn Fn(&(Seen, bool)) -> bool| runs.iter().filter(|run| holds(run)).count().to_string();
        let events = runs.len() as f64 * 100_000.0;
        let early = if DEPENDENT.iter().any(|dependent| dependent.name == stream.name) {
            "not promised".to_owned()
        } else {
            limits::most_by_chance(events / BUDGET.early).to_string()
        };
        table.row(&[
            stream.name.to_owned(),
            count(&|(seen, _)| seen.early.is_some()),
            early,
            count(&|(_, may)| *may),
            count(&|(seen, _)| seen.paging_most >= BUDGET.paging),
            limits::most_by_chance(events / 250.0 / BUDGET.paging).to_string(),
            count(&|(seen, _)| seen.paging_most >= WEEK_OF_STRETCHES),
            limits::most_by_chance(events / 250.0 / WEEK_OF_STRETCHES).to_string(),
            (runs.len() * 400).to_string(),
        ]);
    }
    table
}

/// What one feature takes, frozen and at work.
fn memory() -> Table {
    let mut table = Table::new(&["feature", "frozen", "at work, after 100,000 events", "together", "goal"]);
    let many_labels = Stream {
        name: "60 labels",
        next: |source| Value::Label((source.numbers.uniform() * 60.0) as u64 * 0x9e37_79b9),
    };
    for stream in [&INDEPENDENT[0], &INDEPENDENT[2], &many_labels] {
        let mut source = Source::new(101);
        let reference = drift_streams::table(&mut source, stream, REFERENCE);
        let reference = DriftReference::of(&reference, &Settings::default()).unwrap();
        let mut watcher = silent(&reference);
        let _ = watch(&mut source, stream, (&reference, &mut watcher), BUDGET, (100_000, true, false));
        let (frozen, at_work) = (reference.features()[0].bytes(), watcher.features()[0].bytes());
        let goal = "8192".to_owned();
        table.row(&[
            stream.name.to_owned(),
            frozen.to_string(),
            at_work.to_string(),
            (frozen + at_work).to_string(),
            goal,
        ]);
    }
    table
}

/// What the early layer, or a derived feature of it, and the paging layer should take at most.
fn goal(name: &str) -> (Option<u64>, Option<u64>) {
    match name {
        "mean +0.5 sd" => (Some(115), Some(1000)),
        "mean +0.1 sd" => (Some(3000), None),
        "sd x1.5" => (Some(100), Some(1000)),
        "bimodal" => (Some(180), Some(1000)),
        "lognormal x1.3" => (Some(450), None),
        "rate 0.10 to 0.13" => (Some(2900), None),
        "ramp of 1 sd in 10,000" => (Some(2300), None),
        "stuck 2 %" => (Some(150), None),
        "new label 1 %" => (Some(1500), None),
        "price x1000, 1 in 200" => (Some(1100), None),
        "missing 1 to 3 %" => (Some(750), None),
        "burst, +0.3 sd" => (None, Some(2000)),
        "day and night, +0.3 sd" => (None, Some(1500)),
        _ => (None, None),
    }
}

fn delays() -> Table {
    let mut table = Table::new(&[
        "change",
        "least possible",
        "... in its bins",
        "early",
        "middle half",
        "goal",
        "missed",
        "alarms before",
        "told by a plan",
        "paging",
        "middle half",
        "goal",
        "missed",
        "alarms before",
        "told by a plan",
    ]);
    let trial = Trial {
        rows: REFERENCE,
        clean: 10_000,
        events: 20_000,
        thresholds: BUDGET,
        settings: Settings::default(),
        early_alone: false,
    };
    for stream in CHANGES.iter().chain(&FAILURES).chain(&BENEATH) {
        let runs: Vec<(Seen, Seen)> = seeds().map(|seed| trial.run(stream, seed)).collect();
        let (early, paging) = goal(stream.name);
        let layer = |of: fn(&Seen) -> Option<u64>, goal: Option<u64>| {
            let delays: Vec<Option<u64>> = runs.iter().map(|(_, after)| of(after)).collect();
            let missed = delays.iter().filter(|delay| delay.is_none()).count();
            let before = runs.iter().filter(|(before, _)| of(before).is_some()).count();
            let half = [1, 3].map(|quarters| or_dash(quarter(delays.clone(), quarters))).join(" to ");
            [or_dash(median(delays)), half, or_dash(goal), missed.to_string(), before.to_string()]
        };
        let [first, second] = [layer(|seen| seen.early, early), layer(|seen| seen.paging, paging)];
        let [early_plan, paging_plan] = planned(stream).map(or_dash);
        let least = or_dash(limits::least(stream.name, BUDGET.early));
        let reference = drift_streams::table(&mut Source::new(1), stream, REFERENCE);
        let reference = DriftReference::of(&reference, &Settings::default()).unwrap();
        let in_bins = or_dash(limits::least_in_bins(stream, &reference, BUDGET.early));
        table.row(
            &[
                &[stream.name.to_owned(), least, in_bins],
                &first[..],
                &[early_plan],
                &second[..],
                &[paging_plan],
            ]
            .concat(),
        );
    }
    // What is not to be scored by: it has a delay as good as any, and means nothing.
    let always = ["50", "25 to 75", "-", "0", "40", "-"];
    let cells = [&["an alarm every 100 events", "-", "-"], &always[..], &always[..]].concat();
    table.row(&cells.into_iter().map(str::to_owned).collect::<Vec<_>>());
    table
}

fn tolerances() -> Table {
    let mut table = Table::new(&["tolerance", "mean +0.5 sd", "mean +0.1 sd", "rate 0.10 to 0.13"]);
    for relative in [0.0, 0.01, 0.02] {
        let mut settings = Settings::default();
        settings.tolerance.relative = relative;
        let trial = Trial {
            rows: REFERENCE,
            clean: 2000,
            events: 20_000,
            thresholds: BUDGET,
            settings,
            early_alone: true,
        };
        let delay = |place: usize| {
            let stream = &CHANGES[place];
            or_dash(median(seeds().map(|seed| trial.run(stream, seed).1.early).collect()))
        };
        table.row(&[relative.to_string(), delay(0), delay(1), delay(5)]);
    }
    table
}

/// What a plan says of the shifts that it knows, of both layers.
fn planned(stream: &Stream) -> [Option<u64>; 2] {
    let sizes = ["+0.1 sd", "+0.3 sd", "+0.5 sd"];
    let Some(place) = sizes.iter().position(|size| stream.name.ends_with(size)) else { return [None, None] };
    let table = drift_streams::table(&mut Source::new(1), stream, REFERENCE);
    let reference = DriftReference::of(&table, &Settings::default()).unwrap();
    let feature = &reference.features()[0];
    let early = expected(&feature.bank, feature.bank_share(), 1, &BUDGET);
    let paging = expected_by_stretches(feature, reference.worth(), 250.0, 1, &BUDGET);
    [early, paging].map(|told| told[place].events.map(|events| events as u64))
}

fn offending() -> Table {
    let mut table = Table::new(&["threshold", "median", "most", "goal"]);
    for threshold in [1e6, 1e8] {
        let stream = FAILURES.iter().find(|stream| stream.name == "negative price 1 %").unwrap();
        let counts: Vec<u64> = seeds().map(|seed| offenders(stream, seed, threshold)).collect();
        let most = counts.iter().max().copied();
        let middle = median(counts.iter().map(|count| Some(*count)).collect());
        table.row(&[format!("{threshold:.0}"), or_dash(middle), or_dash(most), "4".to_owned()]);
    }
    table
}

/// Negative prices until the early layer alarms.
fn offenders(stream: &Stream, seed: u64, threshold: f64) -> u64 {
    let mut source = Source::new(seed);
    let reference = drift_streams::table(&mut source, stream, REFERENCE);
    let reference = DriftReference::of(&reference, &Settings::default()).unwrap();
    let mut watcher = silent(&reference);
    let _ = watch(&mut source, stream, (&reference, &mut watcher), BUDGET, (10_000, false, false));
    let mut offending = 0;
    for event in 1..100_000 {
        let value = source.next(stream, true);
        offending += u64::from(matches!(value, Value::Number(price) if price < 0.0));
        if watcher.see(&reference, &[value], Time(event)) {
            let _ = watcher.settle(&reference, Time(event));
            if watcher.evidence(&reference, Layer::Early) >= threshold {
                break;
            }
        }
    }
    offending
}

fn names() -> Table {
    const FEATURES: usize = 50;
    const WEEK: f64 = 6_048_000.0;
    let mut table = Table::new(&[
        "features that moved by 0.5 sd",
        "median delay",
        "missed",
        "median named",
        "wrong names",
        "features",
    ]);
    for (features, moved) in [(1, 1), (FEATURES, 1), (FEATURES, 5), (FEATURES, 0)] {
        let runs: Vec<(Option<u64>, Vec<usize>)> =
            seeds().map(|seed| named_after(seed, features, moved, WEEK)).collect();
        let delays: Vec<Option<u64>> = runs.iter().map(|(delay, _)| *delay).collect();
        let missed = delays.iter().filter(|delay| delay.is_none()).count();
        let right = |names: &Vec<usize>| Some(names.iter().filter(|name| **name < moved).count() as u64);
        let wrong = runs.iter().filter(|(_, names)| names.iter().any(|name| *name >= moved)).count();
        table.row(&[
            moved.to_string(),
            or_dash(median(delays)),
            missed.to_string(),
            or_dash(median(runs.iter().map(|(_, names)| right(names)).collect())),
            wrong.to_string(),
            features.to_string(),
        ]);
    }
    table
}

/// When the features together reach the threshold, and which are named then.
fn named_after(seed: u64, features: usize, moved: usize, threshold: f64) -> (Option<u64>, Vec<usize>) {
    let mut numbers = Numbers(seed);
    let reference = many(&mut numbers, 20_000, features, &|_, value| value);
    let reference = DriftReference::of(&reference, &Settings::default()).unwrap();
    let live = many(&mut numbers, 2000, features, &|feature, value| {
        if feature < moved { value + 0.5 } else { value }
    });
    let mut watcher: Watch = silent(&reference);
    for row in 0..2000 {
        let values: Vec<Value> = live.columns.iter().map(|column| column.values[row]).collect();
        if !watcher.see(&reference, &values, Time(row as u64)) {
            continue;
        }
        let _ = watcher.settle(&reference, Time(row as u64));
        let pairs = watcher.features().iter().zip(reference.features());
        let levels: Vec<f64> = pairs.map(|(state, feature)| state.early(feature)).collect();
        if watcher.evidence(&reference, Layer::Early) >= threshold {
            return (Some(row as u64 + 1), named(&levels, threshold));
        }
    }
    (None, Vec::new())
}

fn senders() -> Table {
    let mut table =
        Table::new(&["window", "shift seen", "culprit named", "others named", "systemic", "culprit watched"]);
    let scenarios = [
        ("no change", Scenario::Calm),
        ("new attacker, 1 %", Scenario::Attacker(0.01)),
        ("new attacker, 2 %", Scenario::Attacker(0.02)),
        ("new attacker, 5 %", Scenario::Attacker(0.05)),
        ("new attacker, 10 %", Scenario::Attacker(0.1)),
        ("a known client changes, 2 %", Scenario::Changes(0.02)),
        ("a known client changes, 5 %", Scenario::Changes(0.05)),
        ("a known client changes, 10 %", Scenario::Changes(0.1)),
        ("200 new addresses of one network, 8 %", Scenario::Botnet(0.08)),
        ("all clients shift by 0.3 sd", Scenario::AllShift(0.3)),
        ("the oddest client grows to 25 %", Scenario::Grows(0.25)),
        ("honest new client, 5 %", Scenario::HonestNewcomer(0.05)),
    ];
    let mut crowds: Vec<Crowd> = seeds().map(Crowd::new).collect();
    for (name, scenario) in scenarios {
        let mut counts = [0; 5];
        for crowd in &mut crowds {
            let (found, culprit) = (crowd.ask(scenario), crowd.culprit(scenario));
            let is_culprit = |level: usize, sender: u64| culprit == Some((level, sender));
            let holds = [
                found.shifted,
                found.named.iter().any(|one| is_culprit(one.level, one.sender)),
                found.named.iter().any(|one| !is_culprit(one.level, one.sender)),
                found.systemic,
                found.unlike.iter().any(|one| is_culprit(one.level, one.sender)),
            ];
            counts.iter_mut().zip(holds).for_each(|(count, holds)| *count += u32::from(holds));
        }
        table.row(&[&[name.to_owned()], &counts.map(|count| count.to_string())[..]].concat());
    }
    table
}
