//! Streams as files for programs that are compared, and data sets that come as files.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use checkgate_detectors::drift::bins::Value;
use checkgate_detectors::drift::budget::named;
use checkgate_detectors::drift::reference::{Column, DriftReference, Settings, Table};
use checkgate_detectors::drift::watch::Layer;
use checkgate_detectors::facts::Time;

use super::drift_streams::{CHANGES, DEPENDENT, FAILURES, INDEPENDENT, Source, Stream, silent};
use super::table;

/// Events of a file before the change; the first of them are what others learn from.
const CLEAN: usize = 10_000;
/// Events after it.
const CHANGED: usize = 20_000;
/// Seeds of each stream: programs that are compared are slow.
const SEEDS: std::ops::RangeInclusive<u64> = 101..=105;

/// Streams that every program can read: numbers alone.
fn compared() -> impl Iterator<Item = &'static Stream> {
    let plain =
        |stream: &&Stream| !["null labels", "new label 1 %", "missing 1 to 3 %"].contains(&stream.name);
    INDEPENDENT.iter().chain(&DEPENDENT).chain(&CHANGES).chain(&FAILURES).filter(plain)
}

fn file_name(stream: &Stream, seed: u64) -> String {
    let plain: String =
        stream.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{plain}.{seed}.csv")
}

/// Writes each stream: 10,000 events before the change, 20,000 after it, one value a line; `streams.csv` says which
/// file is which stream.
pub fn write_streams(folder: &str) {
    fs::create_dir_all(folder).expect("the folder can be made");
    let mut index = "file,stream,changes_after\n".to_owned();
    for stream in compared() {
        for seed in SEEDS {
            let mut source = Source::new(seed);
            let mut text = "value\n".to_owned();
            for event in 0..CLEAN + CHANGED {
                if let Value::Number(value) = source.next(stream, event >= CLEAN) {
                    let _ = writeln!(text, "{value}");
                }
            }
            let file = file_name(stream, seed);
            let changes = if stream.name.starts_with("null") { String::new() } else { CLEAN.to_string() };
            let _ = writeln!(index, "{file},\"{}\",{changes}", stream.name);
            fs::write(Path::new(folder).join(file), text).expect("a file can be written");
        }
    }
    fs::write(Path::new(folder).join("streams.csv"), index).expect("the index can be written");
}

fn numbers(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().skip(1).map(|line| Value::Number(line.parse().expect("a number"))).collect()
}

/// What both layers take on the same files, with a reference of their first 5,000 events, and with one of 100,000 events of
/// the same stream: CSV for the comparison.
#[allow(clippy::disallowed_methods, reason = "what it costs is one of the figures")]
pub fn delays(folder: &str) -> String {
    let mut text = "program,stream,seed,events_before,alarms_before,delay,microseconds,bytes\n".to_owned();
    for stream in compared() {
        for seed in SEEDS {
            let values = numbers(&Path::new(folder).join(file_name(stream, seed)));
            let long = table_of_stream(stream, seed);
            let short = one_column(&values[..CLEAN / 2]);
            for (name, reference, from) in
                [("checkgate, 100,000 rows", long, 0), ("checkgate, 5,000 rows", short, CLEAN / 2)]
            {
                let reference = DriftReference::of(&reference, &Settings::default()).expect("enough rows");
                let clean = if stream.name.starts_with("null") { values.len() } else { CLEAN } - from;
                for (layer, threshold) in [(Layer::Early, 1e6), (Layer::Paging, 1000.0)] {
                    let began = Instant::now();
                    let (before, delay) = play(&reference, &values[from..], clean, layer, threshold);
                    let played = delay.map_or(values.len() - from, |delay| clean + delay);
                    let spent = began.elapsed().as_secs_f64() * 1e6 / played as f64;
                    let bytes = reference.features()[0].bytes() + silent(&reference).features()[0].bytes();
                    let delay = delay.map_or_else(String::new, |delay| delay.to_string());
                    let layer = if layer == Layer::Early { "early" } else { "paging" };
                    let _ = writeln!(
                        text,
                        "\"{name}, {layer}\",\"{}\",{seed},{clean},{before},{delay},{spent},{bytes}",
                        stream.name
                    );
                }
            }
        }
    }
    text
}

fn table_of_stream(stream: &Stream, seed: u64) -> Table {
    // Another seed than that of the file: the same stream at another time.
    super::drift_streams::table(&mut Source::new(seed + 10_000), stream, 100_000)
}

fn one_column(values: &[Value]) -> Table {
    Table { columns: vec![Column { name: "value".to_owned(), values: values.to_vec() }], times: Vec::new() }
}

/// Alarms of a layer before the change, each of which begins it anew, and the delay of the first one after it.
fn play(
    reference: &DriftReference,
    values: &[Value],
    clean: usize,
    layer: Layer,
    threshold: f64,
) -> (u32, Option<usize>) {
    let (mut watcher, mut before) = (silent(reference), 0);
    for (event, value) in values.iter().enumerate() {
        let now = Time(event as u64);
        if !watcher.see(reference, &[*value], now) {
            continue;
        }
        let _ = watcher.settle(reference, now);
        if watcher.evidence(reference, layer) >= threshold {
            if event >= clean {
                return (before, Some(event - clean + 1));
            }
            before += 1;
            watcher = silent(reference);
        }
    }
    (before, None)
}

/// Data sets of other packages: when each column is named after the change, at row 25,000 of the analysis or as the
/// name of the file says after `@`.
pub fn public(folder: &str) -> String {
    let mut text = String::new();
    let mut sets: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    sets.retain(|path| path.to_string_lossy().ends_with(".reference.csv"));
    sets.sort();
    for path in sets {
        let name = path.file_name().expect("a name").to_string_lossy().replace(".reference.csv", "");
        let analysis = path.with_file_name(format!("{name}.analysis.csv"));
        let _ = writeln!(text, "### D15: {name}\n\n{}", judged(&read(&path), &read(&analysis)).finish());
    }
    text
}

/// A plain CSV file without quotes, as the comparison writes them.
fn read(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines();
    let names = lines.next().expect("names").split(',');
    let mut columns: Vec<Column> =
        names.map(|name| Column { name: name.to_owned(), values: Vec::new() }).collect();
    for line in lines {
        for (column, field) in columns.iter_mut().zip(line.split(',')) {
            column.values.push(match field {
                "" => Value::Missing,
                text => text.parse().map_or_else(|_| Value::label([1, 2], text), Value::Number),
            });
        }
    }
    Table { columns, times: Vec::new() }
}

/// When each column by itself would be told by each layer: a budget of one false alarm in a million rows, and in 1,000
/// stretches; and by all together.
fn judged(reference: &Table, analysis: &Table) -> table::Table {
    let mut shown = table::Table::new(&["column", "early, row", "paging, row", "named with all others, row"]);
    let together = together(reference, analysis);
    for column in &reference.columns {
        let alone = Table { columns: vec![column.clone()], times: Vec::new() };
        let alone = DriftReference::of(&alone, &settings()).expect("enough rows");
        let Some(live) = analysis.columns.iter().find(|live| live.name == column.name) else { continue };
        let first = |layer, threshold| {
            let (_, row) = play(&alone, &live.values, 0, layer, threshold);
            table::or_dash(row)
        };
        let named = together.iter().find(|(name, _)| *name == column.name).map(|(_, row)| *row);
        shown.row(&[
            column.name.clone(),
            first(Layer::Early, 1e6),
            first(Layer::Paging, 1000.0),
            table::or_dash(named),
        ]);
    }
    shown
}

/// The reference of these sets has 50,000 rows, so a stretch has 500.
fn settings() -> Settings {
    Settings { stretch_rows: 500, ..Settings::default() }
}

/// The columns that the early layer names of all, with the row at which it first does.
fn together(reference: &Table, analysis: &Table) -> Vec<(String, usize)> {
    let frozen = DriftReference::of(reference, &settings()).expect("enough rows");
    let column = |name: &str| analysis.columns.iter().find(|column| column.name == name);
    let live: Vec<&Column> = frozen.features().iter().filter_map(|feature| column(&feature.name)).collect();
    assert_eq!(live.len(), frozen.features().len(), "the analysis has every column of the reference");
    let rows = live.first().map_or(0, |column| column.values.len());
    let (mut watcher, mut found) = (silent(&frozen), Vec::<(String, usize)>::new());
    for row in 0..rows {
        let values: Vec<Value> = live.iter().map(|column| column.values[row]).collect();
        if !watcher.see(&frozen, &values, Time(row as u64)) {
            continue;
        }
        let _ = watcher.settle(&frozen, Time(row as u64));
        let pairs = watcher.features().iter().zip(frozen.features());
        let levels: Vec<f64> = pairs.map(|(state, feature)| state.early(feature)).collect();
        for place in named(&levels, 1e6) {
            let name = &frozen.features()[place].name;
            if !found.iter().any(|(known, _)| known == name) {
                found.push((name.clone(), row + 1));
            }
        }
    }
    found
}
