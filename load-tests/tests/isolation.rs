//! What a detector that misbehaves costs: itself, and no request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::time::Duration;

use checkgate_load_tests::attack::{MODEL, ask, honest_row, sweep};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::within;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Clients and questions of each: at a share of a hundredth, some ten of them hit the drill.
const CLIENTS: u32 = 10;
const QUESTIONS_EACH: u32 = 100;

async fn server() -> ModelServer {
    ModelServer::always(Answer::value(&answer(MODEL, &[vec![1.0]]))).await.unwrap()
}

async fn drilled(server: &ModelServer, chaos: Value) -> Checkgate {
    held(server, chaos, "none").await
}

async fn held(server: &ModelServer, chaos: Value, hold: &str) -> Checkgate {
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "models": [{"name": MODEL, "mode": "enforce", "hold": hold, "detectors": {"chaos": chaos}}],
        "clients": {"identity": "ip"},
        "timeouts": {"hold_question": "50ms"},
    });
    Start::configured(config).run().await.unwrap()
}

/// Asks for many customers from several addresses; every answer must be whole.
async fn everybody_is_answered(checkgate: &Checkgate, seed: u32) {
    for source in 1..=CLIENTS {
        let mut client = checkgate.client(&format!("127.0.1.{source}"));
        for number in 0..QUESTIONS_EACH {
            let reply = ask(&mut client, honest_row(seed + source, number)).await.unwrap();
            assert_eq!(reply.status, 200, "question {number} of client {source}");
            assert!(reply.json().is_ok(), "question {number} of client {source} got half an answer");
        }
    }
}

async fn count_of(checkgate: &Checkgate, name: &str) -> u64 {
    checkgate.metric(name, &[]).await.unwrap() as u64
}

async fn switched_off(checkgate: &Checkgate) -> u64 {
    let named = ["detector=\"chaos\""];
    checkgate.metric("checkgate_detectors_quarantined_total", &named).await.unwrap() as u64
}

/// What the drill did is told once, in the metric, in the log and in the status.
async fn the_drill_is_switched_off(checkgate: &Checkgate) {
    let told = async {
        while switched_off(checkgate).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the drill being switched off", told).await.unwrap();
    assert_eq!(switched_off(checkgate).await, 1, "it is switched off once");
    assert!(checkgate.log().contains("chaos"), "the log does not name it");
    let listed = async {
        loop {
            let status = checkgate.ask("/v1/status").await.unwrap().json().unwrap();
            if status["models"][0]["quarantined"] == json!(["chaos"]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the status naming it", listed).await.unwrap();
}

/// The other detectors go on: a sweep is refused.
async fn a_sweep_is_blocked(checkgate: &Checkgate) {
    let swept = sweep(&mut checkgate.client("127.0.2.1"), 200).await.unwrap();
    assert!(swept.refusal.is_some(), "the other detectors no longer see a sweep");
}

#[tokio::test]
async fn a_detector_that_panics_fails_no_request_and_is_switched_off() {
    let server = server().await;
    let checkgate = drilled(&server, json!({"panics": 0.01})).await;
    everybody_is_answered(&checkgate, 0).await;
    the_drill_is_switched_off(&checkgate).await;
    a_sweep_is_blocked(&checkgate).await;
}

#[tokio::test]
async fn a_detector_that_grows_fails_no_request_and_is_switched_off() {
    let server = server().await;
    let checkgate = drilled(&server, json!({"panics": 0.0, "grows": 0.1})).await;
    everybody_is_answered(&checkgate, 0).await;
    the_drill_is_switched_off(&checkgate).await;
    a_sweep_is_blocked(&checkgate).await;
}

#[tokio::test]
async fn a_detector_that_does_not_come_back_fails_no_request_and_loses_its_thread() {
    let server = server().await;
    let checkgate = drilled(&server, json!({"panics": 0.0, "loops": 0.01, "rounds": i64::MAX})).await;
    everybody_is_answered(&checkgate, 0).await;
    the_drill_is_switched_off(&checkgate).await;
    assert_eq!(count_of(&checkgate, "checkgate_lanes_replaced_total").await, 1);
    everybody_is_answered(&checkgate, 100).await;
    assert_eq!(count_of(&checkgate, "checkgate_lanes_stuck").await, 0);
    a_sweep_is_blocked(&checkgate).await;
}

#[tokio::test]
async fn questions_that_are_held_go_on_at_their_deadline_while_a_lane_is_stuck() {
    let server = server().await;
    let endless = json!({"panics": 0.0, "loops": 1.0, "rounds": i64::MAX});
    let checkgate = held(&server, endless, "question").await;
    let mut client = checkgate.client("127.0.1.1");
    for number in 0..20 {
        let reply = ask(&mut client, honest_row(1, number)).await.unwrap();
        assert_eq!(reply.status, 200, "question {number}");
    }
    let deadline = ["outcome=\"deadline\""];
    let passed_unjudged = checkgate.metric("checkgate_held_questions_total", &deadline).await.unwrap();
    assert!(passed_unjudged >= 19.0, "{passed_unjudged} of 20 went on at their deadline");
    the_drill_is_switched_off(&checkgate).await;
    let swept = sweep(&mut checkgate.client("127.0.2.1"), 200).await.unwrap();
    assert!(swept.refusal.is_some(), "questions are held again and the sweep is refused");
}

/// Callers of the operators' listener that hang, each in a way of its own.
async fn callers_that_hang(checkgate: &Checkgate) -> Vec<TcpStream> {
    let mut hanging = Vec::new();
    for number in 0..60 {
        let mut caller = TcpStream::connect(checkgate.admin).await.unwrap();
        let sent = match number % 3 {
            0 => "GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n",
            1 => "GET /metrics HTTP/1.1\r\nhost: loc",
            _ => "POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\n{",
        };
        caller.write_all(sent.as_bytes()).await.unwrap();
        hanging.push(caller);
    }
    hanging
}

#[tokio::test]
async fn callers_of_the_admin_api_that_hang_fail_no_request_and_keep_no_decision_away() {
    let server = server().await;
    let checkgate = drilled(&server, json!({"panics": 0.0})).await;
    let hanging = callers_that_hang(&checkgate).await;
    everybody_is_answered(&checkgate, 0).await;
    a_sweep_is_blocked(&checkgate).await;
    assert_eq!(checkgate.ask("/v1/status").await.unwrap().status, 200, "other operators are served");
    drop(hanging);
}
