//! References as files and as what models learned: made from recorded traffic, promoted by an operator, and what an
//! erasure leaves of a client.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use checkgate_load_tests::attack::{MODEL, ask, honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, Start, binary, replay};
use checkgate_load_tests::inference::{answer, infer_path, question};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Rows of each of four clients, so that a reference is learned.
const ROWS: u32 = 160;

fn cli(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary().unwrap()).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The same for a running checkgate.
fn ask_it(checkgate: &Checkgate, arguments: &[&str]) -> (bool, String) {
    let (admin, state) = (checkgate.admin.to_string(), checkgate.state.to_str().unwrap());
    cli(&[arguments, &["--admin", &admin, "--state", state]].concat())
}

async fn taught(checkgate: &Checkgate) {
    for client in 1..=4 {
        let mut asking = checkgate.client(&format!("127.0.60.{client}"));
        for number in 0..ROWS {
            ask(&mut asking, honest_row(client, number)).await.unwrap();
        }
    }
    trust(checkgate, "provisional").await;
}

/// Waits until the model's reference is trusted as far as that.
async fn trust(checkgate: &Checkgate, expected: &str) {
    let began = Instant::now();
    loop {
        let (_, said) = ask_it(checkgate, &["reference", "list", "--json"]);
        let list: Value = serde_json::from_str(&said).unwrap();
        if list["references"][0]["trust"] == expected {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{expected}: {list}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

fn start(server: &ModelServer, state: &Path) -> Start {
    Start::in_front_of(server.address).with(&["--mode", "enforce", "--client", "ip"]).in_state(state)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_is_trusted_from_an_operators_word_on_and_over_a_restart() {
    let server = pricing().await;
    let state = tempfile::tempdir().unwrap();
    let recording = state.path().join("recording");
    let record = ["--record", recording.to_str().unwrap()];
    let mut checkgate = start(&server, state.path()).with(&record).run().await.unwrap();
    let (done, said) = ask_it(&checkgate, &["reference", "promote", MODEL]);
    assert!(!done && said.contains("the reference was not promoted"), "nobody has asked it yet: {said}");
    taught(&checkgate).await;
    let (done, said) = ask_it(&checkgate, &["reference", "promote", MODEL, "--why", "looked through"]);
    assert!(done && said.contains("is trusted: 5"), "{said}");
    trust(&checkgate, "trusted").await;
    let findings = checkgate.findings_file();
    checkgate.stop().await.unwrap();
    let live = std::fs::read_to_string(findings).unwrap_or_default();
    assert_eq!(replay(&recording, &[]).unwrap(), live, "a replay gives the same");
    let (_, shown) =
        cli(&["audit", "show", "--state", state.path().to_str().unwrap(), "--kind", "reference"]);
    assert!(shown.contains("admin.token") && shown.contains("looked through"), "{shown}");
    let checkgate = start(&server, state.path()).run().await.unwrap();
    ask(&mut checkgate.client("127.0.60.1"), honest_row(9, 9)).await.unwrap();
    trust(&checkgate, "trusted").await;
}

/// What `date` calls a moment, so many minutes from now.
fn minutes_from_now(minutes: i32) -> String {
    let moment = format!("{minutes} minutes");
    let output = Command::new("date").args(["-u", "-d", &moment, "+%FT%TZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Settings of a model that is being exchanged, or is no longer.
fn exchanged(server: &ModelServer, lasts: bool) -> Value {
    let window = json!({
        "model": MODEL, "from": minutes_from_now(-5), "to": minutes_from_now(60), "note": "pricing v2"
    });
    json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "drift": {"warm_up_rows": 600},
        "models": [{"name": MODEL}],
        "maintenance": if lasts { vec![window] } else { vec![] },
    })
}

async fn candidate(checkgate: &Checkgate) -> Value {
    let began = Instant::now();
    loop {
        let (_, said) = ask_it(checkgate, &["reference", "list", "--json"]);
        let list: Value = serde_json::from_str(&said).unwrap();
        if list["candidates"][0].is_object() {
            return list["candidates"][0].clone();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{list}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maintenance_window_teaches_a_reference_that_waits_for_an_operator_over_a_restart() {
    let server = pricing().await;
    let state = tempfile::tempdir().unwrap();
    let recording = state.path().join("recording");
    let record = ["--record", recording.to_str().unwrap()];
    let begin = |lasts| Start::configured(exchanged(&server, lasts)).in_state(state.path());
    let mut checkgate = begin(true).with(&record).run().await.unwrap();
    let mut asking: Vec<_> = (1..=6).map(|client| checkgate.client(&format!("127.0.62.{client}"))).collect();
    let mut attacker = checkgate.client("127.0.62.99");
    let mut refused = 0;
    for number in 0..120 {
        for (client, asking) in (1..).zip(&mut asking) {
            ask(asking, honest_row(client, number)).await.unwrap();
        }
        let answer = ask(&mut attacker, sweep_row(number)).await.unwrap();
        refused += usize::from(answer.status == 403);
    }
    assert!(refused > 0, "an attack in the window is met as ever");
    let (done, said) = ask_it(&checkgate, &["reference", "promote", MODEL, "--candidate"]);
    assert!(!done && said.contains("no maintenance window left a reference"), "{said}");
    let config = exchanged(&server, false).to_string();
    checkgate.reload(&config).await.unwrap();
    let waiting = candidate(&checkgate).await;
    assert_eq!((&waiting["model"], &waiting["note"]), (&json!(MODEL), &json!("pricing v2")), "{waiting:#}");
    // Of the attacker's rows, those were seen that came before it was found out.
    assert_eq!((&waiting["clients"], &waiting["rows"]), (&json!(6), &json!(720)), "{waiting:#}");
    assert!((720..760).contains(&waiting["seen"].as_u64().unwrap()), "{waiting:#}");
    assert!(
        !waiting["shares"].to_string().contains("127.0.62.99"),
        "an attacker teaches nothing: {waiting:#}"
    );
    assert_eq!(waiting["drift_rows"], 601, "{waiting:#}");
    let metric = "checkgate_reference_candidates_total";
    assert_eq!(checkgate.metric(metric, &["outcome=\"waits\""]).await.unwrap(), 1.0);
    let findings = checkgate.findings_file();
    checkgate.stop().await.unwrap();
    let live = std::fs::read_to_string(findings).unwrap_or_default();
    assert_eq!(replay(&recording, &[]).unwrap(), live, "a replay gives the same");
    let mut checkgate = begin(false).run().await.unwrap();
    assert_eq!(candidate(&checkgate).await, waiting, "a restart leaves it, and promotes nothing");
    let (_, said) = ask_it(&checkgate, &["reference", "list"]);
    assert!(said.contains("A candidate for pricing waits") && said.contains("pricing v2"), "{said}");
    let (done, said) =
        ask_it(&checkgate, &["reference", "promote", MODEL, "--candidate", "--why", "v2 is out"]);
    assert!(done && said.contains("is trusted") && said.contains("of drift"), "{said}");
    trust(&checkgate, "trusted").await;
    let (_, said) = ask_it(&checkgate, &["reference", "list"]);
    assert!(!said.contains("waits"), "{said}");
    checkgate.stop().await.unwrap();
    let (_, shown) =
        cli(&["audit", "show", "--state", state.path().to_str().unwrap(), "--kind", "reference"]);
    assert!(shown.contains("maintenance window pricing v2") && shown.contains("v2 is out"), "{shown}");
    let checkgate = begin(false).run().await.unwrap();
    trust(&checkgate, "trusted").await;
    let shown = checkgate.ask(&format!("/v1/models/{MODEL}/drift")).await.unwrap().json().unwrap();
    assert_eq!(shown["reference"]["rows"], waiting["drift_rows"], "drift goes by it as well: {shown:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_traffic_makes_a_reference_that_is_signed_planned_with_and_compared() {
    let server = pricing().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (recording, made, picture) = (path("recording"), path("pricing.reference"), path("it.svg"));
    let state = folder.path().join("state");
    let mut checkgate = start(&server, &state).with(&["--record", &recording]).run().await.unwrap();
    taught(&checkgate).await;
    checkgate.stop().await.unwrap();
    let (done, said) =
        cli(&["reference", "build", "--from", &recording, "-o", &made, "--by", "ada", "--format", "json"]);
    assert!(done, "{said}");
    let built: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(built["header"]["provenance"]["rows"], json!(ROWS * 4), "{built:#}");
    let names: Vec<&str> = built["header"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert!(names.len() > 2 && names.iter().any(|name| name.starts_with("answer:")), "{names:?}");
    let (done, said) = cli(&["reference", "build", "--from", &recording, "-o", &made]);
    assert!(!done && said.contains("--force"), "a reference is frozen: {said}");
    let (done, said) = cli(&["reference", "verify", &made]);
    assert!(done && said.contains("signature: none"), "{said}");
    let (done, said) = cli(&["drift", "plan", "--reference", &made, "--rows-a-day", "100000"]);
    assert!(done && said.contains("+0.1 SD") && said.contains("1 per week"), "{said}");
    let (done, said) =
        cli(&["drift", "show", "--reference", &made, "--against", &recording, "--svg", &picture]);
    assert!(done && said.contains("None of it is an alarm"), "{said}");
    assert!(std::fs::read_to_string(picture).unwrap().ends_with("</svg>\n"));
}

/// Asks about `requests` times ten rows at `path`.
async fn ask_in_tens(checkgate: &Checkgate, path: &str, requests: u32) {
    for request in 0..requests {
        let mut asking = checkgate.client(&format!("127.0.63.{}", 1 + request % 4));
        let rows: Vec<Vec<f64>> = (0..10).map(|row| honest_row(request % 4, request * 10 + row)).collect();
        let reply = asking.post(path, question(&rows).to_string()).await.unwrap();
        assert_eq!(reply.status, 200, "request {request} at {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_of_one_version_holds_its_rows_and_no_others() {
    // It says in its answers that it is version 1. Where the path of a question says one, that counts.
    let ten = vec![vec![100.0]; 10];
    let server = ModelServer::always(Answer::value(&answer(MODEL, &ten))).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let recording = path("recording");
    let record = ["--record", recording.as_str()];
    let mut checkgate = start(&server, &folder.path().join("state")).with(&record).run().await.unwrap();
    ask_in_tens(&checkgate, &format!("/v2/models/{MODEL}/versions/2/infer"), 52).await;
    ask_in_tens(&checkgate, &infer_path(MODEL), 56).await;
    checkgate.stop().await.unwrap();
    let build = |version: &str, made: &str| {
        let from = ["reference", "build", "--from", &recording, "--format", "json", "-o", made];
        cli(&[&from[..], &["--model", MODEL, "--model-version", version]].concat())
    };
    for (version, rows) in [("2", 520), ("1", 560)] {
        let (done, said) = build(version, &path(version));
        assert!(done, "version {version}: {said}");
        let built: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(built["header"]["provenance"]["rows"], json!(rows), "version {version}: {built:#}");
    }
    let (done, said) = build("3", &path("3"));
    assert!(!done && said.contains("no answered question of version \"3\""), "{said}");
    assert!(!Path::new(&path("3")).exists(), "and nothing is written");
    let against = ["--against", &recording, "--model", MODEL, "--model-version", "2", "--format", "json"];
    let (done, said) = cli(&[&["drift", "show", "--reference", &path("2")], &against[..]].concat());
    assert!(done, "{said}");
    let compared: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(compared["rows"], json!([520, 520]), "{compared:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_erased_is_in_no_answer_and_the_chain_is_whole() {
    let server = pricing().await;
    let state = tempfile::tempdir().unwrap();
    let mut checkgate = start(&server, state.path()).run().await.unwrap();
    let client = "127.0.61.9";
    let (done, said) = ask_it(&checkgate, &["decisions", "add", client, "--for", "1h", "--why", "a test"]);
    assert!(done, "{said}");
    let (_, listed) = ask_it(&checkgate, &["decisions", "list", "--json"]);
    assert!(listed.contains(client), "{listed}");
    let token = std::fs::read_to_string(state.path().join("admin.token")).unwrap();
    let mut asking = checkgate_load_tests::client::Client::to(checkgate.admin)
        .with("authorization", &format!("Bearer {}", token.trim()));
    let order = json!({"client": client, "why": "she asked"}).to_string();
    let reply = asking.post("/v1/clients/erase", order).await.unwrap();
    let erased = reply.json().unwrap();
    assert_eq!(reply.status.as_u16(), 200, "{erased:#}");
    assert!(
        erased["entries"].as_u64().unwrap() >= 1 && erased["records"].as_u64().unwrap() >= 1,
        "{erased:#}"
    );
    assert_eq!(
        erased["standing"].as_array().unwrap().len(),
        1,
        "nothing is lifted by an erasure: {erased:#}"
    );
    assert!(erased["not_reached"].to_string().contains("findings file"), "{erased:#}");
    // What stands is still shown as standing, and nowhere else.
    let decisions = asking.get("/v1/decisions").await.unwrap().json().unwrap();
    for list in ["decisions", "recent"] {
        assert_eq!(decisions[list], json!([]), "{list}: {decisions:#}");
    }
    assert_eq!(decisions["active_total"], 1, "it acts on: {decisions:#}");
    let findings = asking.get("/v1/findings").await.unwrap().text();
    assert!(!findings.contains(client), "{findings}");
    checkgate.stop().await.unwrap();
    let state = state.path().to_str().unwrap();
    let (whole, said) = cli(&["audit", "verify", "--state", state]);
    assert!(whole, "{said}");
    let (_, shown) = cli(&["audit", "show", "--state", state, "--kind", "erased"]);
    assert!(shown.contains("she asked"), "{shown}");
}
