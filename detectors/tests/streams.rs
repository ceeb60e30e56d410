//! The recorded streams of attack tools and honest clients, each through an engine of its own.
//!
//! The names of streams tell what they are; no code of the crate sees them. The honest streams must never lead to a
//! block, and the attacks that move single fields must lead to one at exactly the pinned row, so that no change of
//! the arithmetic can hide.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "in a test, to fail is to tell")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use checkgate_detectors::contract::Contract;
use checkgate_detectors::engine::{Build, Engine, Limits, Outbox};
use checkgate_detectors::facts::{Asked, Cell, Features, Question, Time};
use checkgate_detectors::finding::{Action, Mode, Record};
use checkgate_detectors::identity::{Address, Asker, Standing};
use checkgate_detectors::policy::Policy;
use checkgate_detectors::query::QUERY;
use checkgate_detectors::reference::{Reference, Trust};
use serde::Deserialize;

/// One line of a stream.
#[derive(Deserialize)]
struct Line {
    /// Seconds.
    t: f64,
    /// Request.
    r: u64,
    /// Features.
    x: Vec<f64>,
}

/// A stream cut into requests.
struct Stream {
    name: String,
    requests: Vec<(f64, Vec<Vec<f64>>)>,
}

fn streams(kind: &str) -> Vec<Stream> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../load-tests/data/streams").join(kind);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn unpack(path: &Path) -> String {
    let packed = std::fs::read(path).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    text
}

fn read(path: &Path) -> Stream {
    let text = unpack(path);
    let name = path.file_name().unwrap().to_string_lossy().trim_end_matches(".jsonl.gz").to_owned();
    let mut requests: Vec<(f64, Vec<Vec<f64>>)> = Vec::new();
    let mut last_request = None;
    for line in text.lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        if last_request.replace(line.r) != Some(line.r) {
            requests.push((line.t, Vec::new()));
        }
        requests.last_mut().unwrap().1.push(line.x);
    }
    Stream { name, requests }
}

/// The reference of the model that a stream's name ends with.
fn reference(stream: &str) -> Reference {
    let model = ["digits", "cancer", "pricing"].into_iter().find(|model| stream.contains(model));
    let file = format!("../load-tests/data/streams/reference/{}.jsonl.gz", model.unwrap_or("pricing"));
    let text = unpack(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    Reference::from_json_lines(&text, Trust::Trusted).unwrap()
}

fn engine() -> Engine {
    engine_with(None)
}

fn engine_with(reference: Option<Reference>) -> Engine {
    let defaults = |spec: &checkgate_detectors::query::QuerySpec| {
        let mut parameters = (spec.defaults)();
        if spec.name == "off_distribution" {
            parameters["may_block"] = true.into();
        }
        (spec.name.to_owned(), parameters)
    };
    Engine::new(Build {
        model: Arc::from("pricing"),
        hash_key: [7, 11],
        detectors: QUERY.iter().map(defaults).collect(),
        contract: Contract::default(),
        contract_action: Action::Alert,
        policy: Policy { mode: Mode::Observe, block_for: Duration::from_secs(3600), never_block: Vec::new() },
        reference,
        limits: Limits { clients: 1000, open_questions: 1000, new_keys_per_address: 20 },
    })
    .unwrap()
}

fn client(number: u8) -> Asker {
    let address = Address::of(std::net::IpAddr::from([198, 51, 100, number]));
    Asker { address, standing: Standing::Declared, key: None, keys_verified: false }
}

fn features(rows: &[Vec<f64>]) -> Features {
    let cells = rows.iter().flatten().map(|&value| Cell::Number(value)).collect();
    Features { width: rows[0].len(), cells, ..Features::default() }
}

fn ask(engine: &mut Engine, asker: Asker, id: u64, seconds: f64, rows: &[Vec<f64>]) -> Outbox {
    let mut out = Outbox::default();
    let question = features(rows);
    let time = Time(1_800_000_000_000_000 + (seconds * 1e6) as u64);
    engine.asked(&Asked { id, time, asker, bytes: 100, question: Question::Rows(&question) }, &mut out);
    out
}

/// The records of a stream, each with the number of rows that had been sent when it was made.
fn run(stream: &Stream, mut engine: Engine) -> Vec<(usize, Record)> {
    let mut rows_sent = 0;
    let mut records = Vec::new();
    for (id, (seconds, rows)) in stream.requests.iter().enumerate() {
        let out = ask(&mut engine, client(1), id as u64, *seconds, rows);
        rows_sent += rows.len();
        records.extend(out.records.into_iter().map(|record| (rows_sent, record)));
    }
    records
}

/// Row of the first block, and the detector that asked for it.
fn first_block(records: &[(usize, Record)]) -> Option<(usize, &'static str)> {
    let block = records.iter().find(|(_, record)| record.action == Action::Block);
    block.map(|(row, record)| (*row, record.detector))
}

fn print(found: &BTreeMap<String, Option<(usize, &str)>>) {
    for (name, block) in found {
        match block {
            Some((row, detector)) => println!("{name:28} row {row:4} {detector}"),
            None => println!("{name:28} -"),
        }
    }
}

#[test]
fn honest_clients_are_never_blocked() {
    let streams = streams("benign");
    assert_eq!(streams.len(), 52, "recorded honest streams");
    for stream in &streams {
        let records = run(stream, engine());
        assert_eq!(first_block(&records), None, "{}: {:?}", stream.name, records.first());
    }
}

#[test]
fn single_field_attacks_are_blocked_at_their_row() {
    let found: BTreeMap<String, Option<(usize, &str)>> = streams("attacks")
        .iter()
        .map(|stream| (stream.name.clone(), first_block(&run(stream, engine()))))
        .collect();
    print(&found);
    for (name, row, detector) in [
        ("price_oat", 12, "one_field_sweep"),
        ("price_enum", 34, "one_field_sweep"),
        ("price_grid", 133, "one_field_sweep"),
        ("zoo_digits", 12, "field_by_field"),
        ("zoo_cancer", 95, "field_by_field"),
        ("inv_search_digits", 8, "field_by_field"),
    ] {
        assert_eq!(found[name], Some((row, detector)), "{name}");
    }
}

#[test]
fn honest_clients_are_never_blocked_with_a_trusted_reference() {
    for stream in streams("benign") {
        let records = run(&stream, engine_with(Some(reference(&stream.name))));
        assert_eq!(first_block(&records), None, "{}: {:?}", stream.name, records.first());
    }
}

#[test]
fn attacks_off_a_trusted_reference_are_blocked_at_their_row() {
    let found: BTreeMap<String, Option<(usize, &str)>> = streams("attacks")
        .iter()
        .map(|stream| {
            (stream.name.clone(), first_block(&run(stream, engine_with(Some(reference(&stream.name))))))
        })
        .collect();
    print(&found);
    for (name, row) in [
        ("hsj_digits", 6),
        ("hsj_cancer", 6),
        ("copycat_uniform_digits", 32),
        ("copycat_uniform_cancer", 32),
        ("copycat_other_digits", 32),
        ("knockoff_adaptive_digits", 4),
        ("price_lhs", 4),
        ("mi_labelonly_digits", 8),
    ] {
        assert_eq!(found[name], Some((row, "off_distribution")), "{name}");
    }
    for name in ["knockoff_natural_digits", "price_natural", "mi_rule_digits"] {
        assert_eq!(found[name], None, "{name}: content cannot show it, so something is wrong with the claim");
    }
}

/// Honest streams of the same model, each a client of its own, request by request in turns.
fn crowd(suffix: &str) -> Vec<Stream> {
    streams("benign").into_iter().filter(|stream| stream.name.contains(suffix)).collect()
}

#[test]
fn an_attacker_among_honest_clients_is_blocked_at_the_same_row_of_its_own() {
    let attacks = streams("attacks");
    for (name, suffix, row) in [
        ("price_oat", "pricing", 12),
        ("price_grid", "pricing", 133),
        ("zoo_digits", "digits", 12),
        ("zoo_cancer", "cancer", 95),
    ] {
        let attack = attacks.iter().find(|stream| stream.name == name).unwrap();
        let honest = crowd(suffix);
        let mut engine = engine();
        let (mut id, mut rows_sent, mut blocked_at) = (0, 0, None);
        for (turn, (seconds, rows)) in attack.requests.iter().enumerate() {
            for (number, stream) in honest.iter().enumerate() {
                let Some((_, rows)) = stream.requests.get(turn) else { continue };
                let out = ask(&mut engine, client(2 + number as u8), id, *seconds, rows);
                assert!(out.blocks.is_empty(), "{} beside {name}: {:?}", stream.name, out.records);
                id += 1;
            }
            let out = ask(&mut engine, client(1), id, *seconds, rows);
            id += 1;
            rows_sent += rows.len();
            if !out.blocks.is_empty() {
                blocked_at = Some(rows_sent);
                break;
            }
        }
        assert_eq!(blocked_at, Some(row), "{name}");
    }
}
