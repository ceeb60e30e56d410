//! Drift over a restart: what was watched goes on, an operator sees it, and what is damaged is set aside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use checkgate_load_tests::attack::{MODEL, honest_row};
use checkgate_load_tests::checkgate::{Checkgate, PATIENCE, Start, binary, replay};
use checkgate_load_tests::inference::{answer, infer_path, question};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

/// Rows of a question.
const ROWS: u32 = 10;
/// Clients that ask in turn.
const CLIENTS: u32 = 6;

/// Detectors of query patterns, which are not what is tested.
const OFF: [&str; 17] = [
    "one_field_sweep",
    "field_by_field",
    "off_distribution",
    "client_volume",
    "near_duplicates",
    "fingerprints",
    "near_density",
    "off_grid",
    "marginal_drift",
    "sign_step",
    "constant_step",
    "coverage_growth",
    "error_probing",
    "bisection",
    "mirror_pairs",
    "equal_amounts",
    "boundary_walk",
];

fn config(server: &ModelServer) -> Value {
    let off: serde_json::Map<String, Value> =
        OFF.iter().map(|name| ((*name).to_owned(), json!("off"))).collect();
    json!({
        "upstream": format!("http://{}", server.address),
        "clients": {"identity": "ip"},
        "detectors": off,
        "drift": {
            "warm_up_rows": 800,
            "cool_down_rows": 400,
            "paging": {"stretch_rows": 200, "stretch_seconds": 0},
        },
        "models": [{"name": MODEL}],
    })
}

/// Questions of all clients in turn, whose customers are `older` than those of the reference.
async fn asked(checkgate: &Checkgate, numbers: std::ops::Range<u32>, older: f64) {
    for number in numbers {
        let client = number % CLIENTS;
        let rows: Vec<Vec<f64>> = (0..ROWS)
            .map(|row| {
                let mut row = honest_row(client, number * ROWS + row);
                row[0] += older;
                row
            })
            .collect();
        let mut asking = checkgate.client(&format!("127.0.70.{}", client + 1));
        let reply = asking.post(&infer_path(MODEL), question(&rows).to_string()).await.unwrap();
        assert_eq!(reply.status.as_u16(), 200);
    }
}

/// The drift of the model once its state is that, and all `rows` were counted.
async fn drift(checkgate: &Checkgate, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = checkgate.ask(&format!("/v1/models/{MODEL}/drift")).await.unwrap();
        let told = reply.json().unwrap();
        if reply.status == 200 && wanted(&told) {
            return told;
        }
        assert!(Instant::now() < deadline, "{told:#}\n{}", checkgate.log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// The same once no capture waits any more: two looks show as many rows.
async fn settled(checkgate: &Checkgate, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut before = drift(checkgate, &wanted).await;
    loop {
        sleep(Duration::from_millis(500)).await;
        let now = drift(checkgate, &wanted).await;
        if now["rows"] == before["rows"] {
            return now;
        }
        before = now;
    }
}

fn cli(checkgate: &Checkgate, arguments: &[&str]) -> (bool, String) {
    let (admin, state) = (checkgate.admin.to_string(), checkgate.state.to_str().unwrap());
    let arguments = [arguments, &["--admin", &admin, "--state", state]].concat();
    let output = Command::new(binary().unwrap()).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn memory_in(state: &Path, ending: &str) -> Option<PathBuf> {
    let listed = fs::read_dir(state.join("drift")).ok()?;
    let mut paths = listed.map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|end| end == ending))
}

async fn outcome(checkgate: &Checkgate, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    checkgate.metric("checkgate_drift_memory_total", &[&label]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_is_watched_on_over_a_restart_and_a_damaged_memory_is_set_aside() {
    let server = ModelServer::always(Answer::value(&answer(MODEL, &vec![vec![100.0]; ROWS as usize])));
    let server = server.await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let start = || Start::configured(config(&server)).in_state(state.path());
    let mut checkgate = start().run().await.unwrap();
    asked(&checkgate, 0..150, 0.0).await;
    asked(&checkgate, 150..250, 60.0).await;
    let before = settled(&checkgate, |told| told["state"] == "drifting").await;
    assert_eq!(before["reference"]["trust"], "provisional", "{before:#}");
    checkgate.stop().await.unwrap();

    let recording = state.path().join("recording");
    let record = ["--record", recording.to_str().unwrap()];
    let mut checkgate = start().with(&record).run().await.unwrap();
    let after = drift(&checkgate, |_| true).await;
    for kept in ["state", "since", "rows", "watched_since", "reference/version", "budget"] {
        assert_eq!(
            after.pointer(&format!("/{kept}")),
            before.pointer(&format!("/{kept}")),
            "{kept}: {after:#}"
        );
    }
    assert_eq!(after["features"], before["features"], "windows, stretches and evidence");
    assert_eq!(outcome(&checkgate, "restored").await, 1.0);
    let (done, page) = cli(&checkgate, &["drift", "show", MODEL]);
    assert!(done && page.contains("drifting since"), "{page}");
    let picture = state.path().join("now.svg");
    let (done, told) =
        cli(&checkgate, &["drift", "show", MODEL, "--json", "--svg", picture.to_str().unwrap()]);
    assert!(done && told.contains("\"drifting\""), "{told}");
    assert!(fs::read_to_string(picture).unwrap().ends_with("</svg>\n"));

    asked(&checkgate, 250..300, 60.0).await;
    asked(&checkgate, 300..450, 0.0).await;
    settled(&checkgate, |told| told["state"] != "drifting").await;
    let findings = checkgate.findings_file();
    let records = checkgate.records_with(|record| record["kind"] == "drift").await.unwrap();
    let changes: Vec<_> = records.iter().map(|record| &record["change"]).collect();
    assert_eq!(changes, ["recovered"], "the drift that lasted is not told again");
    checkgate.stop().await.unwrap();
    let live = fs::read_to_string(findings).unwrap();
    assert_eq!(replay(&recording, &[]).unwrap(), live, "a replay begins with what was remembered");

    let memory = memory_in(state.path(), "memory").unwrap();
    OpenOptions::new().write(true).open(&memory).unwrap().set_len(1000).unwrap();
    let checkgate = start().run().await.unwrap();
    let told = drift(&checkgate, |_| true).await;
    assert_eq!((&told["rows"], &told["state"]), (&json!(0), &json!("warming")), "{told:#}");
    assert_eq!(outcome(&checkgate, "set_aside").await, 1.0);
    assert!(memory_in(state.path(), "aside").is_some() && checkgate.log().contains("set aside"));
    asked(&checkgate, 450..460, 0.0).await;
    drift(&checkgate, |told| told["rows"].as_u64() > Some(80)).await;
}
