//! What `hold: question` adds: the row that crosses the line is itself refused, before the upstream is contacted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use checkgate_load_tests::attack::{ask, honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use serde_json::json;

/// Distinct values of one field at which `one_field_sweep` speaks.
const VALUES: u32 = 12;

async fn start(mode: &str, hold: &str) -> (ModelServer, Checkgate) {
    let server = ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap();
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": mode,
        "hold": hold,
        "clients": {"identity": "ip"},
        // Nothing is decided by the deadline on a busy machine.
        "timeouts": {"hold_question": "30s"},
        "models": [{"name": "pricing"}],
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    (server, checkgate)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_that_crosses_the_line_never_reaches_the_model() {
    let (server, checkgate) = start("enforce", "question").await;
    let mut client = checkgate.client("127.0.7.1");
    for step in 0..VALUES - 1 {
        assert_eq!(ask(&mut client, sweep_row(step)).await.unwrap().status, 200, "row {step}");
    }
    assert_eq!(ask(&mut client, sweep_row(VALUES - 1)).await.unwrap().status, 403, "the crossing row");
    assert_eq!(server.requests(), VALUES as usize - 1);
    let honest = ask(&mut checkgate.client("127.0.7.2"), honest_row(1, 1)).await.unwrap();
    assert_eq!(honest.status, 200, "a held honest question goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_observe_no_question_is_held_or_refused() {
    let (server, checkgate) = start("observe", "question").await;
    let mut client = checkgate.client("127.0.7.1");
    for step in 0..2 * VALUES {
        assert_eq!(ask(&mut client, sweep_row(step)).await.unwrap().status, 200, "row {step}");
    }
    assert_eq!(server.requests(), 2 * VALUES as usize);
}
