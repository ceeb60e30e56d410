//! What a block takes, whom it must never touch, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use checkgate_load_tests::attack::{ask, ask_model, honest_row, sweep, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, PATIENCE, Start, explain};
use checkgate_load_tests::client::{Client, Reply};
use checkgate_load_tests::inference::{answer, infer_path};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::{until, whole};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// More rows than any detector of sweeps needs.
const MANY: u32 = 100;

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

async fn enforcing(server: &ModelServer, arguments: &[&str]) -> Checkgate {
    Start::in_front_of(server.address).with(&["--mode", "enforce"]).with(arguments).run().await.unwrap()
}

/// The decision on `client`; `action` is `block`, or `alert` where it may not act.
async fn decision_on(checkgate: &Checkgate, client: &str, action: &str) -> Value {
    let is_it = |record: &Value| {
        record["kind"] == "decision" && record["action"] == action && record["client"] == client
    };
    let records = checkgate.records_with(is_it).await.unwrap();
    records.into_iter().find(is_it).unwrap()
}

async fn block_of(checkgate: &Checkgate, client: &str) -> Value {
    decision_on(checkgate, client, "block").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_client_is_told_the_decision_and_nothing_else() {
    let server = pricing().await;
    let checkgate = enforcing(&server, &["--client", "ip"]).await;
    let swept = sweep(&mut checkgate.client("127.0.5.1"), MANY).await.unwrap();
    let refusal = swept.refusal.expect("a sweep of a hundred rows is blocked");
    let decision = block_of(&checkgate, "127.0.5.1").await;
    assert_eq!(decision["detector"], "one_field_sweep", "{decision:#}");
    assert_eq!(refusal.header("content-type"), "application/problem+json");
    assert_eq!(refusal.json().unwrap()["decision_id"], decision["decision_id"]);
    for told in ["sweep", "detector", "pricing", "age", "field", "127.0.5.1"] {
        assert!(!refusal.text().contains(told), "{told:?} is told to the attacker: {}", refusal.text());
    }
    let upstream = server.requests();
    assert_eq!(ask(&mut checkgate.client("127.0.5.1"), honest_row(1, 1)).await.unwrap().status, 403);
    assert_eq!(server.requests(), upstream, "the upstream is not asked for a blocked client");
    assert_eq!(
        ask(&mut checkgate.client("127.0.5.2"), honest_row(1, 1)).await.unwrap().status,
        200,
        "another client"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusals_decision_is_explained_by_the_running_program_and_from_its_file_alike() {
    let server = pricing().await;
    let checkgate = enforcing(&server, &["--client", "ip"]).await;
    sweep(&mut checkgate.client("127.0.5.1"), MANY).await.unwrap();
    let decision = block_of(&checkgate, "127.0.5.1").await;
    let (id, finding) = (decision["decision_id"].as_str().unwrap(), decision["id"].as_str().unwrap());
    let admin = checkgate.admin.to_string();
    let page = explain(&[id, "--admin", &admin]).unwrap();
    for told in ["127.0.5.1", "one_field_sweep", "AML.T0024.002 Extract AI Model", "ML05:2023", id, finding] {
        assert!(page.contains(told), "{told:?} is missing:\n{page}");
    }
    let file = checkgate.findings_file().display().to_string();
    assert_eq!(explain(&[finding, "--findings", &file]).unwrap(), page);
    let unknown = explain(&["d-0000000000000000", "--admin", &admin]).unwrap_err().to_string();
    assert!(unknown.contains("404") && unknown.contains("--findings"), "{unknown}");
}

/// Lets 200 probes of one client start wave after wave. Nobody gets an answer of the model before the gate opens, so
/// whatever is refused is refused while the first probes are open.
async fn probe_in_waves(
    checkgate: &Checkgate,
    server: &ModelServer,
    refused: &Arc<AtomicUsize>,
) -> JoinSet<StatusCode> {
    let mut probes = JoinSet::new();
    for wave in 0..20 {
        for step in wave * 10..(wave + 1) * 10 {
            let (mut client, refused) = (checkgate.client("127.0.6.1"), Arc::clone(refused));
            probes.spawn(async move {
                let status = ask(&mut client, sweep_row(step)).await.unwrap().status;
                if status == StatusCode::FORBIDDEN {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                status
            });
        }
        // A probe that waits for its answer when the block comes may be at the upstream and be refused.
        let launched = 1 + (wave as usize + 1) * 10;
        let accounted = || server.requests() + refused.load(Ordering::SeqCst) >= launched;
        until("every probe at the upstream or refused", accounted).await.unwrap();
    }
    probes
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_probes_of_a_slow_model_are_blocked_while_the_first_are_open() {
    let gate = Arc::new(Semaphore::new(0));
    let server =
        ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]])).once(&gate)).await.unwrap();
    let checkgate = enforcing(&server, &["--client", "ip"]).await;
    // A model that nobody named counts once it has answered; only then are its clients watched.
    gate.add_permits(1);
    ask(&mut checkgate.client("127.0.6.2"), honest_row(6, 1)).await.unwrap();
    let refused = Arc::new(AtomicUsize::new(0));
    let probes = probe_in_waves(&checkgate, &server, &refused).await;
    let reached = server.requests() - 1;
    until("the refusal of most probes", || refused.load(Ordering::SeqCst) >= 100).await.unwrap();
    assert!(reached <= 100, "{reached} of 200 probes reached the model before the block");
    gate.add_permits(200);
    let statuses = probes.join_all().await;
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(answered + refused.load(Ordering::SeqCst), 200, "each probe has its answer or its refusal");
}

/// Rows that a sweep gets answered where it sends one row every 50 ms.
async fn paced_sweep(checkgate: &Checkgate, model: &str, source: &str) -> u32 {
    let mut client = checkgate.client(source);
    for step in 0..MANY {
        if ask_model(&mut client, model, sweep_row(step)).await.unwrap().status == 403 {
            return step;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    MANY
}

/// Sends bodies of nearly `length` bytes, as fast as they are taken, until it is ended.
async fn flood(mut client: Client, length: usize, sent: Arc<AtomicUsize>) {
    let body = bytes::Bytes::from(format!("{{\"inputs\": [{}0]}}", "1.25,".repeat((length - 100) / 5)));
    loop {
        let request = Request::post(infer_path("pricing")).header("content-type", "application/json");
        let reply = client.send(request.body(whole(body.clone())).unwrap()).await.unwrap();
        assert_eq!(reply.status, 200, "the flood flows on: {}", reply.text());
        sent.fetch_add(1, Ordering::SeqCst);
    }
}

async fn blocks_under_flood(length: usize) {
    let server = pricing().await;
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "brake": {"share_of_clients": 1},
        "models": [{"name": "pricing"}, {"name": "digits"}],
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let calm = [
        paced_sweep(&checkgate, "pricing", "127.0.7.1").await,
        paced_sweep(&checkgate, "digits", "127.0.7.2").await,
    ];
    let sent = Arc::new(AtomicUsize::new(0));
    let mut floods = JoinSet::new();
    for _ in 0..2 {
        floods.spawn(flood(checkgate.client("127.0.7.99"), length, Arc::clone(&sent)));
    }
    until("the flood", || sent.load(Ordering::SeqCst) >= 4).await.unwrap();
    let before = sent.load(Ordering::SeqCst);
    let flooded = [
        paced_sweep(&checkgate, "pricing", "127.0.7.3").await,
        paced_sweep(&checkgate, "digits", "127.0.7.4").await,
    ];
    let during = sent.load(Ordering::SeqCst) - before;
    floods.abort_all();
    assert!(during > 2, "the flood stood still: {during} bodies");
    for (model, calm, flooded) in
        [("the flooded model", calm[0], flooded[0]), ("another model", calm[1], flooded[1])]
    {
        assert!(
            calm < MANY && flooded * 10 <= calm * 12,
            "block on {model} at row {calm}, under the flood at row {flooded}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_at_full_rate_do_not_move_another_clients_block() {
    blocks_under_flood(8 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: needs the release build, since an unoptimised one decodes many times slower"]
async fn the_largest_bodies_that_are_inspected_do_not_move_another_clients_block() {
    blocks_under_flood(1 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_never_block_list_beats_every_decision() {
    let server = pricing().await;
    let checkgate = enforcing(&server, &["--client", "ip", "--never-block", "127.0.8.0/24"]).await;
    let swept = sweep(&mut checkgate.client("127.0.8.77"), MANY).await.unwrap();
    assert_eq!(swept.answered, MANY, "a client on the list is served");
    let decision = decision_on(&checkgate, "127.0.8.77", "alert").await;
    assert!(decision["explanation"].as_str().unwrap().contains("never-block"), "{decision:#}");
}

/// Asks until the answer has `status`, at most a second plus what one request takes.
async fn status_within_a_second(client: &mut Client, status: u16) -> bool {
    let start = std::time::Instant::now();
    while start.elapsed() <= Duration::from_secs(1) {
        if ask(client, honest_row(2, 2)).await.unwrap().status == status {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ask(client, honest_row(2, 2)).await.unwrap().status == status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_ends_enforcement_within_a_second_and_survives_a_restart() {
    let server = pricing().await;
    let state = tempfile::tempdir().unwrap();
    let start = || {
        Start::in_front_of(server.address)
            .with(&["--mode", "enforce", "--client", "ip"])
            .in_state(state.path())
    };
    let mut checkgate = start().run().await.unwrap();
    let mut attacker = checkgate.client("127.0.9.1");
    assert!(sweep(&mut attacker, MANY).await.unwrap().refusal.is_some(), "the sweep is blocked");
    checkgate.command(&["kill-switch", "on"]).unwrap();
    assert!(status_within_a_second(&mut attacker, 200).await, "served within a second of the kill switch");
    checkgate.command(&["kill-switch", "off"]).unwrap();
    assert!(status_within_a_second(&mut attacker, 403).await, "refused again within a second of its release");
    checkgate.command(&["kill-switch", "on"]).unwrap();
    checkgate.stop().await.unwrap();

    let again = start().run().await.unwrap();
    let swept = sweep(&mut again.client("127.0.9.2"), MANY).await.unwrap();
    assert_eq!(swept.answered, MANY, "nobody is blocked after a restart with the kill switch on");
    again.command(&["kill-switch", "off"]).unwrap();
    let mut third = again.client("127.0.9.3");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        sweep(&mut third, MANY).await.unwrap().refusal.is_some(),
        "enforcement is back once it is released"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brake_turns_a_wave_of_blocks_into_observations_and_says_so_once() {
    let server = pricing().await;
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "brake": {"blocks_per_minute": 2, "share_of_clients": 1},
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let mut refused = 0;
    for attacker in 1..=6 {
        let swept = sweep(&mut checkgate.client(&format!("127.0.10.{attacker}")), MANY).await.unwrap();
        refused += u32::from(swept.refusal.is_some());
        block_of(&checkgate, &format!("127.0.10.{attacker}")).await;
    }
    assert_eq!(refused, 2, "clients refused under a brake of two blocks a minute");
    let records = checkgate.records_with(|record| record["detector"] == "brake").await.unwrap();
    assert_eq!(
        records.iter().filter(|record| record["detector"] == "brake").count(),
        1,
        "one finding says so: {records:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unproven_loopback_client_is_only_observed_and_one_warning_names_the_setting() {
    let server = pricing().await;
    let checkgate = enforcing(&server, &[]).await;
    let swept = sweep(&mut checkgate.client("127.0.11.1"), MANY).await.unwrap();
    assert_eq!(swept.answered, MANY, "an unproven client is served");
    decision_on(&checkgate, "127.0.11.1", "alert").await;
    sweep(&mut checkgate.client("127.0.11.2"), MANY).await.unwrap();
    decision_on(&checkgate, "127.0.11.2", "alert").await;
    let log = checkgate.log();
    let warnings: Vec<_> =
        log.lines().filter(|line| line.contains("WARN") && line.contains("--client")).collect();
    assert_eq!(warnings.len(), 1, "warnings that name the setting, in:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_the_rung_and_a_repeated_offence_climbs() {
    let server = pricing().await;
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "block_for": ["1s", "2m", "3h"],
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let mut attacker = checkgate.client("127.0.12.1");
    let first = sweep(&mut attacker, MANY).await.unwrap().refusal.expect("the sweep is blocked");
    assert_eq!(first.header("retry-after"), "1");
    while ask(&mut attacker, honest_row(3, 1)).await.unwrap().status == 403 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = sweep(&mut attacker, MANY).await.unwrap().refusal.expect("the second sweep is blocked");
    assert_eq!(second.header("retry-after"), "120", "the whole rung, whatever is left of it");
    let is_it = |record: &Value| record["explanation"].as_str().unwrap().contains("rung 2 of 3");
    let told = checkgate.records_with(is_it).await.unwrap().into_iter().find(is_it).unwrap();
    let lasts = told["until"].as_f64().unwrap() - told["time"].as_f64().unwrap();
    assert!((lasts - 120.0).abs() < 1e-3, "{told:#}");
}

async fn delete(checkgate: &Checkgate, id: &str, token: Option<&str>) -> Reply {
    let mut operator = Client::to(checkgate.admin);
    if let Some(token) = token {
        operator = operator.with("authorization", &format!("Bearer {token}"));
    }
    operator.call(Method::DELETE, &format!("/v1/decisions/{id}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lifts_a_decision_with_the_token_only() {
    let server = pricing().await;
    let token = "a-token-for-this-test";
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "admin": {"token": token},
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let mut attacker = checkgate.client("127.0.13.1");
    assert!(sweep(&mut attacker, MANY).await.unwrap().refusal.is_some(), "the sweep is blocked");
    let decision = block_of(&checkgate, "127.0.13.1").await;
    let id = decision["decision_id"].as_str().unwrap();
    for wrong in [None, Some("a-token-for-another-test")] {
        assert_eq!(delete(&checkgate, id, wrong).await.status, StatusCode::UNAUTHORIZED, "token {wrong:?}");
        assert_eq!(ask(&mut attacker, honest_row(3, 1)).await.unwrap().status, 403, "the block stands");
    }
    assert!(delete(&checkgate, id, Some(token)).await.status.is_success(), "the token lifts");
    assert_eq!(ask(&mut attacker, honest_row(3, 2)).await.unwrap().status, 200, "the client is served again");
    assert_eq!(delete(&checkgate, "d-0000000000000001", Some(token)).await.status, StatusCode::NOT_FOUND);
    assert!(sweep(&mut attacker, MANY).await.unwrap().refusal.is_some(), "a new sweep is a new block");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_address_counts_from_trusted_proxies_only() {
    let server = pricing().await;
    let checkgate = enforcing(&server, &["--client", "ip", "--trusted-proxy", "127.0.14.1/32"]).await;
    // The client may write what it likes to the left of what the trusted proxy appends.
    let mut attacker = checkgate.client("127.0.14.1").with("x-forwarded-for", "198.51.100.1, 203.0.113.7");
    assert!(sweep(&mut attacker, MANY).await.unwrap().refusal.is_some(), "the sweep is blocked");
    block_of(&checkgate, "203.0.113.7").await;
    let mut neighbour = checkgate.client("127.0.14.1").with("x-forwarded-for", "203.0.113.8");
    assert_eq!(
        ask(&mut neighbour, honest_row(4, 1)).await.unwrap().status,
        200,
        "another client of the same proxy"
    );

    let mut liar = checkgate.client("127.0.14.2").with("x-forwarded-for", "203.0.113.9");
    assert!(sweep(&mut liar, MANY).await.unwrap().refusal.is_some(), "the sweep is blocked");
    block_of(&checkgate, "127.0.14.2").await;
    let records = checkgate.records().unwrap();
    assert!(records.iter().all(|record| record["client"] != "203.0.113.9"), "a victim was named by a liar");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_proves_its_key_and_an_invented_key_is_no_identity() {
    let known = ["alice", "bob"];
    let server = ModelServer::answering(move |question| {
        let key = question.headers.get("x-api-key").and_then(|key| key.to_str().ok()).unwrap_or("");
        let answer = Answer::value(&answer("pricing", &[vec![100.0]]));
        if known.contains(&key) { answer } else { Answer::json("{}").status(StatusCode::UNAUTHORIZED) }
    });
    let server = server.await.unwrap();
    // The model is named: of one that nobody named, a refusal before its first answer says nothing.
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "header:x-api-key"},
        "models": [{"name": "pricing"}],
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let mut attacker = checkgate.client("127.0.15.1").with("x-api-key", "alice");
    assert_eq!(ask(&mut attacker, honest_row(5, 0)).await.unwrap().status, 200, "the upstream takes the key");
    let mut stranger = checkgate.client("127.0.15.3").with("x-api-key", "invented");
    assert_eq!(
        ask(&mut stranger, honest_row(5, 1)).await.unwrap().status,
        401,
        "the upstream refuses the key"
    );
    assert!(sweep(&mut attacker, MANY).await.unwrap().refusal.is_some(), "a proven key is blocked");
    let mut same_address = checkgate.client("127.0.15.1").with("x-api-key", "bob");
    assert_eq!(
        ask(&mut same_address, honest_row(5, 2)).await.unwrap().status,
        200,
        "another key at that address"
    );
    let mut other_address = checkgate.client("127.0.15.2").with("x-api-key", "alice");
    assert_eq!(
        ask(&mut other_address, honest_row(5, 3)).await.unwrap().status,
        403,
        "the key at another address"
    );
    let records = checkgate.records().unwrap();
    let text = serde_json::to_string(&records).unwrap();
    assert!(!text.contains("alice"), "a key stands in the records: {text}");
    assert!(!checkgate.log().contains("alice"), "a key stands in the log within {PATIENCE:?}");
}
