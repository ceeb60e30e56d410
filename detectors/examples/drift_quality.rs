//! Evidence for drift detection: run lengths without a change, delays with one, names of features, and who is behind
//! it. `cargo run -p checkgate-detectors --example drift_quality` prints the tables; all seeds are fixed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures")]

#[path = "../tests/drift_streams/mod.rs"]
mod drift_streams;
#[allow(dead_code, reason = "other tables need more of it")]
#[path = "quality/table.rs"]
mod table;

use checkgate_detectors::drift::bins::Value;
use checkgate_detectors::drift::budget::{Thresholds, expected, named};
use checkgate_detectors::drift::reference::{DriftReference, Settings};
use checkgate_detectors::drift::watch::{Layer, Watch};
use checkgate_detectors::facts::Time;
use drift_streams::crowd::{Crowd, Scenario};
use drift_streams::{
    BENEATH, CHANGES, DEPENDENT, FAILURES, INDEPENDENT, Numbers, Seen, Source, Stream, Trial, many, median,
    silent, watch,
};
use table::{Table, or_dash};

/// One false alarm in a million events, or in 1,000 stretches of 250.
const BUDGET: Thresholds = Thresholds { early: 1e6, paging: 1000.0 };
const REFERENCE: usize = 100_000;
const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;

/// Makes one table.
type Section = fn() -> Table;

fn main() {
    let sections: [(&str, Section); 7] = [
        ("Run length of the early layer without a change: 40 runs, seeds 1001 to 1040", run_lengths),
        ("Alarms without a change: 100,000 events for each of 20 seeds", quiet),
        ("Delay after a change, in events: median of seeds 1 to 20, reference of 100,000", delays),
        ("What the tolerance costs: delay of the early layer, median of seeds 1 to 20", tolerances),
        ("Offending answers until the alarm: seeds 1 to 20, reference of 100,000", offending),
        (
            "Names among 50 features: 20 runs each, reference of 20,000, one false alarm in 6,048,000 rows",
            names,
        ),
        ("Who is behind a shift: seeds 1 to 20, one window of 4,000 events each", senders),
    ];
    for (title, section) in sections {
        println!("## {title}\n\n{}", section().finish());
    }
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
            let mut source = Source::new(1000 + seed);
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
        let runs: Vec<Option<u64>> = (1..=40_u64).map(run).collect();
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
        "early layer may page",
        "runs with a paging alarm",
        "stretches without a change",
    ]);
    for stream in INDEPENDENT.iter().chain(&DEPENDENT) {
        let run = |seed: u64| {
            let mut source = Source::new(seed);
            let reference = drift_streams::table(&mut source, stream, REFERENCE);
            let reference = DriftReference::of(&reference, &Settings::default()).unwrap();
            let pair = (&reference, &mut silent(&reference));
            let seen = watch(&mut source, stream, pair, BUDGET, (100_000, false, false));
            (seen, reference.quality().early_may_page(&BUDGET))
        };
        let runs: Vec<(Seen, bool)> = SEEDS.map(run).collect();
        let count =
            |holds: &dyn Fn(&(Seen, bool)) -> bool| runs.iter().filter(|run| holds(run)).count().to_string();
        table.row(&[
            stream.name.to_owned(),
            count(&|(seen, _)| seen.early.is_some()),
            count(&|(_, may)| *may),
            count(&|(seen, _)| seen.paging.is_some()),
            (runs.len() * 400).to_string(),
        ]);
    }
    table
}

/// What the early layer, or a derived feature of it, and the paging layer should take at most.
fn goal(name: &str) -> (Option<u64>, Option<u64>) {
    match name {
        "mean +0.5 sd" => (Some(115), Some(1000)),
        "mean +0.1 sd" => (Some(3600), None),
        "sd x1.5" => (Some(160), Some(1000)),
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
        "early",
        "goal",
        "missed",
        "alarms before",
        "paging",
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
        let runs: Vec<(Seen, Seen)> = SEEDS.map(|seed| trial.run(stream, seed)).collect();
        let (early, paging) = goal(stream.name);
        let layer = |of: fn(&Seen) -> Option<u64>, goal: Option<u64>| {
            let delays: Vec<Option<u64>> = runs.iter().map(|(_, after)| of(after)).collect();
            let missed = delays.iter().filter(|delay| delay.is_none()).count();
            let before = runs.iter().filter(|(before, _)| of(before).is_some()).count();
            [or_dash(median(delays)), or_dash(goal), missed.to_string(), before.to_string()]
        };
        let [first, second] = [layer(|seen| seen.early, early), layer(|seen| seen.paging, paging)];
        let plan = or_dash(planned(stream));
        table.row(&[&[stream.name.to_owned()], &first[..], &second[..], &[plan]].concat());
    }
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
            or_dash(median(SEEDS.map(|seed| trial.run(stream, seed).1.early).collect()))
        };
        table.row(&[relative.to_string(), delay(0), delay(1), delay(5)]);
    }
    table
}

/// What a plan says of the shifts that it knows.
fn planned(stream: &Stream) -> Option<u64> {
    let place =
        ["mean +0.1 sd", "mean +0.3 sd", "mean +0.5 sd"].iter().position(|name| *name == stream.name)?;
    let table = drift_streams::table(&mut Source::new(1), stream, REFERENCE);
    let reference = DriftReference::of(&table, &Settings::default()).unwrap();
    let feature = &reference.features()[0];
    let told = expected(&feature.bank, feature.bank_share(), 1, &BUDGET);
    told.get(place)?.events.map(|events| events as u64)
}

fn offending() -> Table {
    let mut table = Table::new(&["threshold", "median", "most", "goal"]);
    for threshold in [1e6, 1e8] {
        let stream = FAILURES.iter().find(|stream| stream.name == "negative price 1 %").unwrap();
        let counts: Vec<u64> = SEEDS.map(|seed| offenders(stream, seed, threshold)).collect();
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
            (1..=20).map(|seed| named_after(seed, features, moved, WEEK)).collect();
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
    let mut crowds: Vec<Crowd> = SEEDS.map(Crowd::new).collect();
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
