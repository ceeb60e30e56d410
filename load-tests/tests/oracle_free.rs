//! What a refused client is told says that it is refused, and nothing that it could learn from.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::net::{IpAddr, SocketAddr};

use checkgate_load_tests::attack::{ask, honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::inference::{answer, infer_path, question, rows};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::within;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// Clients, each with the detector that its traffic provokes.
const SWEEPER: (&str, &str) = ("127.0.30.1", "one_field_sweep");
const PROBER: (&str, &str) = ("127.0.30.2", "field_by_field");
const VIOLATOR: (&str, &str) = ("127.0.30.3", "output_contract");

/// A model whose price is below zero wherever a customer is older than 900.
async fn pricing() -> ModelServer {
    let server = ModelServer::answering(|asked| {
        let prices: Vec<_> = rows(&asked.body).iter().map(|row| vec![900.0 - row[0]]).collect();
        Answer::value(&answer("pricing", &prices))
    });
    server.await.unwrap()
}

async fn enforcing(server: &ModelServer, hold: &str, on_tier_one: &str) -> Checkgate {
    let config = json!({
        // The clients are degraded after different rows of theirs, so all of them stay on the first step.
        "policy": {"on_tier_one": on_tier_one, "delay": "0s", "step_rows": 1000, "requests_per_minute": 1},
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "hold": hold,
        "clients": {"identity": "ip"},
        "contract": {"rules": [{"minimum": 0}], "block_after": 3},
        "brake": {"share_of_clients": 1},
        "models": [{"name": "pricing"}],
    });
    Start::configured(config).run().await.unwrap()
}

/// Asks for row after row until there is a decision on the client, and gives it.
async fn provoke(
    checkgate: &Checkgate,
    (client, detector): (&str, &str),
    action: &str,
    row: impl Fn(u32) -> Vec<f64>,
) -> Value {
    let mut asker = checkgate.client(client);
    for number in 0..40 {
        ask(&mut asker, row(number)).await.unwrap();
    }
    let is_it = |record: &Value| record["kind"] == "decision" && record["client"] == client;
    let records = checkgate.records_with(is_it).await.unwrap();
    let decision = records.into_iter().find(is_it).unwrap();
    assert_eq!(
        (&decision["detector"], &decision["action"]),
        (&json!(detector), &json!(action)),
        "{decision:#}"
    );
    decision
}

/// Provokes a decision on each of the three clients.
async fn provoke_all(checkgate: &Checkgate, action: &str) -> Vec<Value> {
    let one_changed = |step: u32| {
        let mut row = honest_row(7, 1);
        if let Some(field) = (step > 0).then(|| (step as usize - 1) % row.len()) {
            row[field] += 1.0 + f64::from(step);
        }
        row
    };
    let too_old = |number: u32| {
        let mut row = honest_row(9, number);
        row[0] = 1_000.0 + f64::from(number);
        row
    };
    vec![
        provoke(checkgate, SWEEPER, action, sweep_row).await,
        provoke(checkgate, PROBER, action, one_changed).await,
        provoke(checkgate, VIOLATOR, action, too_old).await,
    ]
}

/// All bytes that come back for one honest question.
async fn raw_answer(proxy: SocketAddr, source: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(proxy).await.unwrap();
    let body = question(&[honest_row(5, 5)]).to_string();
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: pricing\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        infer_path("pricing"),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    within("the end of the answer", stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The answer with its decision and its date replaced: the only two things in which refusals may differ.
fn without_id_and_date(answer: &str, decision: &Value, named: usize) -> String {
    let id = decision["decision_id"].as_str().unwrap();
    assert_eq!(answer.matches(id).count(), named, "how often the answer names its decision: {answer}");
    let lines = answer.split("\r\n").map(|line| if line.starts_with("date: ") { "date: DATE" } else { line });
    lines.collect::<Vec<_>>().join("\r\n").replace(id, "DECISION")
}

/// What each of the three clients is told, compared byte for byte; gives what the first was told.
async fn told_alike(checkgate: &Checkgate, decisions: &[Value], names_decision: bool) -> String {
    let mut told = Vec::new();
    for ((client, _), decision) in [SWEEPER, PROBER, VIOLATOR].into_iter().zip(decisions) {
        let answer = raw_answer(checkgate.address, client).await;
        told.push(without_id_and_date(&answer, decision, usize::from(names_decision)));
    }
    assert_eq!(told[0], told[1], "{} and {}", SWEEPER.1, PROBER.1);
    assert_eq!(told[0], told[2], "{} and {}", SWEEPER.1, VIOLATOR.1);
    told.swap_remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_by_different_detectors_are_the_same_bytes() {
    let server = pricing().await;
    for hold in ["none", "answer", "question"] {
        let checkgate = enforcing(&server, hold, "block").await;
        let decisions = provoke_all(&checkgate, "block").await;
        let told = told_alike(&checkgate, &decisions, true).await;
        assert!(told.starts_with("HTTP/1.1 403 Forbidden\r\n"), "hold: {hold}: {told}");
        assert!(told.contains("\r\nretry-after: 900\r\n"), "hold: {hold}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn throttles_by_different_detectors_are_the_same_bytes() {
    let server = pricing().await;
    let checkgate = enforcing(&server, "none", "throttle").await;
    let decisions = provoke_all(&checkgate, "throttle").await;
    let told = told_alike(&checkgate, &decisions, true).await;
    assert!(told.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{told}");
    assert!(told.contains("\r\nretry-after: 60\r\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn degraded_answers_for_different_detectors_are_the_same_bytes() {
    let server = pricing().await;
    let checkgate = enforcing(&server, "none", "degrade").await;
    let decisions = provoke_all(&checkgate, "degrade").await;
    let told = told_alike(&checkgate, &decisions, false).await;
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    assert!(!told.contains("decision"), "a degraded client is told nothing at all: {told}");
}
