//! A recording gives, in another process, the findings and decisions that live traffic gave, byte for byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use checkgate_load_tests::attack::{ask_model, honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, Start, replay};
use checkgate_load_tests::inference::{self, answer};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::scenario::{self, lasting};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Compares line by line, so that a failure shows the first line that differs and not two files.
fn assert_same_lines<'a>(
    what: &str,
    left: impl IntoIterator<Item = &'a str>,
    right: impl IntoIterator<Item = &'a str>,
) {
    let (left, right): (Vec<_>, Vec<_>) = (left.into_iter().collect(), right.into_iter().collect());
    for (number, (left, right)) in left.iter().zip(&right).enumerate() {
        assert_eq!(left, right, "{what}: line {}", number + 1);
    }
    let longer = if left.len() > right.len() { &left } else { &right };
    let common = left.len().min(right.len());
    assert_eq!(left.len(), right.len(), "{what}: only one of them goes on with {:?}", longer.get(common));
}

/// The records without the mode that they were made in.
fn without_mode(findings: &str) -> Vec<Value> {
    let read = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove("mode").unwrap();
        record
    };
    findings.lines().map(read).collect()
}

fn assert_modes_agree(recording: &Path, what: &str) {
    let [observe, enforce] = ["observe", "enforce"].map(|mode| replay(recording, &["--mode", mode]).unwrap());
    for (mode, findings) in [("observe", &observe), ("enforce", &enforce)] {
        let told: Vec<Value> = findings.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(
            told.iter().all(|record| record["mode"] == mode),
            "{what}: a record of a replay in {mode} says otherwise"
        );
    }
    assert_eq!(without_mode(&observe), without_mode(&enforce), "{what}: both modes decide alike");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_gives_what_it_expects_and_replays_byte_for_byte() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for scenario in scenario::all().unwrap() {
        let name = scenario.name();
        let played = scenario.play().await.unwrap();
        let lasting = lasting(&played.findings).unwrap();
        if update {
            scenario.expect(&lasting).unwrap();
        }
        assert_eq!(
            lasting,
            scenario.expected(),
            "{name}; UPDATE_GOLDEN=1 takes what came for what is expected"
        );
        let replayed = replay(&played.recording, &[]).unwrap();
        assert_same_lines(&format!("{name}: replay and live"), replayed.lines(), played.findings.lines());
        assert_modes_agree(&played.recording, &name);
    }
}

#[test]
fn every_detector_and_every_case_has_a_scenario() {
    let names: BTreeSet<String> = scenario::all().unwrap().iter().map(scenario::Scenario::name).collect();
    let listed = std::process::Command::new(checkgate_load_tests::checkgate::binary().unwrap())
        .arg("detectors")
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    // What a drill does is shown by `isolation.rs`: it finds nothing.
    let paragraphs = listed.split("\n\n").filter(|detector| !detector.contains("a drill:"));
    let detectors = paragraphs.filter_map(|detector| detector.lines().next());
    for case in detectors.chain(["output_contract", "honest_what_if", "honest_outage", "exact_repeats"]) {
        assert!(names.contains(&case.replace('_', "-")), "there is no scenario for {case} among {names:?}");
    }
}

/// 64 clients at once on two models: each asks honestly, every eighth sweeps.
async fn busy(checkgate: &Checkgate, rows: u32) {
    let mut clients = JoinSet::new();
    for number in 0..64 {
        let mut client = checkgate.client(&format!("127.0.20.{}", number + 1));
        clients.spawn(async move {
            for step in 0..rows {
                let model = if (number + step) % 2 == 0 { "pricing" } else { "renewals" };
                let row = if number % 8 == 0 { sweep_row(step) } else { honest_row(number, step) };
                let status = ask_model(&mut client, model, row).await.unwrap().status;
                assert!(status == 200 || status == 403 || status == 422, "client {number} got {status}");
            }
        });
    }
    clients.join_all().await;
}

async fn record_and_replay(lanes: usize, rows: u32) {
    let server = ModelServer::answering(|question| {
        let rows = inference::rows(&question.body);
        // Some prices of the sweep are negative: contracts and detectors speak at the same time.
        let prices: Vec<_> = rows.iter().map(|row| vec![row[0] - 22.0]).collect();
        Answer::value(&answer(inference::model_of(&question.path), &prices))
    });
    let server = server.await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let recording = scratch.path().join("recording");
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "lanes": lanes,
        // The brake spans all lanes and is told beside the decisions; it has a test of its own.
        "brake": {"blocks_per_minute": 1000, "share_of_clients": 1},
        "clients": {"identity": "ip"},
        "models": [
            {"name": "pricing", "hold": "answer", "contract": {"rules": [{"minimum": 0}]}},
            {"name": "renewals"},
        ],
    });
    let start = Start::configured(config).with(&["--record", &recording.display().to_string()]);
    let mut checkgate = start.run().await.unwrap();
    busy(&checkgate, rows).await;
    checkgate.stop().await.unwrap();
    let live = checkgate.findings();
    assert!(live.lines().count() >= 16, "8 attackers leave findings and decisions:\n{live}");
    let recordings = recordings(scratch.path());
    assert_eq!(recordings.len(), lanes, "each lane has a recording: {recordings:?}");
    let replayed: String = recordings.iter().map(|recording| replay(recording, &[]).unwrap()).collect();
    for model in ["pricing", "renewals"] {
        let what = format!("{lanes} lanes, {model}: replay and live");
        assert_same_lines(&what, of_model(&replayed, model), of_model(&live, model));
    }
    if lanes == 1 {
        assert_same_lines("replay and live, as one file", replayed.lines(), live.lines());
    }
    for recording in &recordings {
        assert_modes_agree(recording, "64 connections and two models");
    }
}

/// The recordings of all lanes: the first has the name that was given, the others stand beside it.
fn recordings(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The lines of one model in their order. With more than one lane, the order between models belongs to no lane.
fn of_model<'a>(findings: &'a str, model: &str) -> Vec<&'a str> {
    let marked = format!("\"model\":\"{model}\"");
    findings.lines().filter(|line| line.contains(&marked)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_64_connections_and_two_models_replays_byte_for_byte() {
    record_and_replay(1, 60).await;
    record_and_replay(2, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: many more rows"]
async fn a_long_recording_replays_byte_for_byte() {
    record_and_replay(2, 2000).await;
}
