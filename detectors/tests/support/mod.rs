//! Recorded streams, and engines to play them through.

#![allow(dead_code, reason = "every test file takes what it needs")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use checkgate_detectors::contract::Contract;
use checkgate_detectors::engine::{Build, Engine, Limits, Outbox};
use checkgate_detectors::facts::{Answered, Asked, Cell, Features, Question, Time};
use checkgate_detectors::finding::{Action, Record};
use checkgate_detectors::identity::{Address, Asker, Standing};
use checkgate_detectors::ladder::Ladder;
use checkgate_detectors::policy::Policy;
use checkgate_detectors::query::QUERY;
use checkgate_detectors::reference::{Reference, ReferenceValue, Trust};
use serde::Deserialize;

/// One row of a recording.
#[derive(Deserialize)]
struct Line {
    t: f64,
    r: u64,
    x: Vec<f64>,
    p: Vec<f64>,
}

/// One request of a recording.
#[derive(Clone, Default)]
pub struct Request {
    /// When it came.
    pub seconds: f64,
    /// Its rows.
    pub rows: Vec<Vec<f64>>,
    /// What was answered, one to a row.
    pub predictions: Vec<Vec<f64>>,
}

/// One client's recorded requests.
pub struct Stream {
    /// Its name: for people only.
    pub name: String,
    /// Its requests in order.
    pub requests: Vec<Request>,
}

/// All streams of `attacks` or `benign`, by name.
pub fn streams(kind: &str) -> Vec<Stream> {
    let folder = data(kind);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn data(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../load-tests/data/streams").join(below)
}

fn unpack(path: &Path) -> String {
    let packed = std::fs::read(path).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    text
}

fn read(path: &Path) -> Stream {
    let text = unpack(path);
    let name = path.file_name().unwrap().to_string_lossy();
    stream_of(name.trim_end_matches(".jsonl.gz"), &text)
}

/// The stream that `text` holds, a row to a line.
pub fn stream_of(name: &str, text: &str) -> Stream {
    let mut requests: Vec<Request> = Vec::new();
    let mut last_request = None;
    for line in text.lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        if last_request.replace(line.r) != Some(line.r) {
            requests.push(Request { seconds: line.t, ..Request::default() });
        }
        let request = requests.last_mut().unwrap();
        request.rows.push(line.x);
        request.predictions.push(line.p);
    }
    Stream { name: name.to_owned(), requests }
}

/// The model that a stream was recorded in front of.
pub fn model_of(stream: &str) -> &'static str {
    ["digits", "cancer"].into_iter().find(|model| stream.contains(model)).unwrap_or("pricing")
}

/// The trusted reference of the model that a stream was recorded in front of.
pub fn reference(stream: &str) -> Reference {
    let text = unpack(&data(&format!("reference/{}.jsonl.gz", model_of(stream))));
    Reference::from_json_lines(&text, Trust::Trusted).unwrap()
}

/// A row that an honest client of the model may ask about.
pub fn case(model: &str) -> Vec<f64> {
    let number =
        |value: &ReferenceValue| if let ReferenceValue::Number(number) = value { *number } else { 0.0 };
    reference(model).rows()[0].x.iter().map(number).collect()
}

/// The row with another value in one column.
pub fn with(row: &[f64], column: usize, value: f64) -> Vec<f64> {
    let mut changed = row.to_vec();
    changed[column] = value;
    changed
}

/// One row to a request, each answered with the same number.
pub fn singly(name: &str, rows: Vec<Vec<f64>>) -> Stream {
    let request =
        |(turn, row)| Request { seconds: f64::from(turn), rows: vec![row], predictions: vec![vec![500.0]] };
    Stream { name: name.to_owned(), requests: (0..).zip(rows).map(request).collect() }
}

/// An engine with every detector at its defaults but for `changed` parameters: detector, key, value.
pub fn engine(reference: Option<Reference>, changed: &[(&str, &str, serde_json::Value)]) -> Engine {
    let parameters = |spec: &checkgate_detectors::query::QuerySpec| {
        let mut parameters = (spec.defaults)();
        for (_, key, value) in changed.iter().filter(|(detector, _, _)| *detector == spec.name) {
            parameters[*key] = value.clone();
        }
        (spec.name.to_owned(), parameters)
    };
    Engine::new(Build {
        model: Arc::from("pricing"),
        hash_key: [7, 11],
        detectors: QUERY.iter().map(parameters).collect(),
        contract: Contract::default(),
        contract_action: Action::Alert,
        policy: Policy {
            ladder: Ladder::new(vec![Duration::from_secs(3600)]),
            refuses_content: true,
            ..Policy::default()
        },
        reference,
        drift: None,
        limits: Limits { clients: 1000, open_questions: 1000, new_keys_per_address: 20 },
    })
    .unwrap()
}

/// A client by number.
pub fn client(number: u16) -> Asker {
    let [high, low] = number.to_be_bytes();
    let address = Address::of(std::net::IpAddr::from([198, 18, high, low]));
    Asker { address, standing: Standing::Declared, key: None, keys_verified: false }
}

fn features(rows: &[Vec<f64>]) -> Features {
    let cells = rows.iter().flatten().map(|&value| Cell::Number(value)).collect();
    Features { width: rows[0].len(), cells, ..Features::default() }
}

/// Plays one request and its answer.
pub fn play(engine: &mut Engine, asker: Asker, id: u64, request: &Request) -> Outbox {
    let mut out = Outbox::default();
    let (question, answer) = (features(&request.rows), features(&request.predictions));
    let time = Time(1_800_000_000_000_000 + (request.seconds * 1e6) as u64);
    engine.asked(&Asked { id, time, asker, bytes: 100, question: Question::Rows(&question) }, &mut out);
    let answered = Answered {
        id,
        time,
        asker,
        status: 200,
        bytes: 100,
        latency: Duration::ZERO,
        answer: Ok(&answer),
        judged: None,
    };
    engine.answered(&answered, &mut out);
    out
}

/// The records of a stream, each with the number of rows that had been sent when it was made.
pub fn run(stream: &Stream, mut engine: Engine) -> Vec<(usize, Record)> {
    let mut rows_sent = 0;
    let mut records = Vec::new();
    for (id, request) in stream.requests.iter().enumerate() {
        let out = play(&mut engine, client(1), id as u64, request);
        rows_sent += request.rows.len();
        records.extend(out.records.into_iter().map(|record| (rows_sent, record)));
    }
    records
}

/// Row of the first block, and the detector that asked for it.
pub fn first_block(records: &[(usize, Record)]) -> Option<(usize, &'static str)> {
    let block = records.iter().find(|(_, record)| record.action == Action::Block);
    block.map(|(row, record)| (*row, record.detector))
}

/// Where each attack is blocked, in front of what `engine` builds for it; printed for whoever changes a detector.
pub fn blocks_of_attacks(
    engine: impl Fn(&Stream) -> Engine,
) -> BTreeMap<String, Option<(usize, &'static str)>> {
    let attacks = streams("attacks");
    let found = attacks.iter().map(|stream| (stream.name.clone(), first_block(&run(stream, engine(stream)))));
    let found: BTreeMap<_, _> = found.collect();
    for (name, block) in &found {
        match block {
            Some((row, detector)) => println!("{name:28} row {row:4} {detector}"),
            None => println!("{name:28} -"),
        }
    }
    found
}
