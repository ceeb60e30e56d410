//! What a client gets that is degraded or throttled instead of blocked, and that nobody else notices.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::time::{Duration, Instant};

use checkgate_load_tests::attack::{ask, honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::client::{Client, Reply, post};
use checkgate_load_tests::inference::{answer, infer_path, question, rows};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::whole;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A client that sweeps, and one that does not.
const ATTACKER: &str = "127.0.31.1";
const BYSTANDER: &str = "127.0.31.2";

/// Rows that any detector of sweeps needs, and some.
const ROWS: u32 = 20;

async fn start(server: &ModelServer, mode: &str, policy: Value, more: Value) -> Checkgate {
    Start::configured(config(server, mode, policy, more)).run().await.unwrap()
}

fn config(server: &ModelServer, mode: &str, policy: Value, more: Value) -> Value {
    let mut config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": mode,
        "clients": {"identity": "ip"},
        "policy": policy,
        "brake": {"share_of_clients": 1},
        "models": [{"name": "pricing"}],
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// Sweeps until there is a decision on the client.
async fn sweep(checkgate: &Checkgate, client: &mut Client) -> Value {
    for step in 0..ROWS {
        ask(client, sweep_row(step)).await.unwrap();
    }
    let is_it = |record: &Value| record["kind"] == "decision" && record["client"] == ATTACKER;
    checkgate.records_with(is_it).await.unwrap().into_iter().find(is_it).unwrap()
}

/// A ladder of one step, so that what is expected does not depend on how soon the decision came.
fn degrade(delay: &str) -> Value {
    json!({"on_tier_one": "degrade", "delay": delay, "step_rows": 100_000})
}

/// A model with a price of many digits for every row.
async fn pricing() -> ModelServer {
    let server = ModelServer::answering(|asked| {
        let prices: Vec<_> = rows(&asked.body).iter().map(|row| vec![1_234.567_89 + row[0] / 1e3]).collect();
        Answer::value(&answer("pricing", &prices))
    });
    server.await.unwrap()
}

/// Significant digits of the first price of an answer.
fn digits(reply: &Reply) -> usize {
    let price = reply.json().unwrap()["outputs"][0]["data"][0].as_f64().unwrap();
    let written = format!("{price:e}");
    written.split('e').next().unwrap().bytes().filter(u8::is_ascii_digit).count()
}

async fn refused_for_its_turn(checkgate: &Checkgate) -> f64 {
    checkgate.metric("checkgate_degraded_answers_total", &["refused"]).await.unwrap()
}

/// An operator of its admin API.
fn operator(checkgate: &Checkgate) -> Client {
    let token = std::fs::read_to_string(checkgate.state.join("admin.token")).unwrap();
    Client::to(checkgate.admin).with("authorization", &format!("Bearer {}", token.trim()))
}

async fn asks(client: &mut Client) -> Reply {
    ask(client, honest_row(3, 3)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_degraded_client_gets_coarse_numbers_and_everybody_else_the_bytes_of_the_model() {
    let exact = "{\"outputs\" : [{\"name\":\"p\",\"shape\":[1,3],\"datatype\":\"FP64\", \"data\":[ 0.0712,0.8669, 0.0619]}]}\n";
    let coarse = exact.replace("0.0712", "0.065").replace("0.8669", "0.87").replace("0.0619", "0.065");
    let described =
        Answer::json(exact).header("etag", "\"v1\"").header("digest", "md5=abc").header("x-model", "7");
    let server = ModelServer::always(described).await.unwrap();
    let checkgate = start(&server, "enforce", degrade("0s"), json!({})).await;
    let (mut attacker, mut bystander) = (checkgate.client(ATTACKER), checkgate.client(BYSTANDER));
    assert_eq!(asks(&mut attacker).await.body, exact, "before the decision");
    let decision = sweep(&checkgate, &mut attacker).await;
    assert_eq!((&decision["action"], &decision["detector"]), (&json!("degrade"), &json!("one_field_sweep")));
    let told = decision["explanation"].as_str().unwrap();
    assert!(told.contains("Its answers are to be coarsened and delayed for 15 min (rung 1 of 3)"), "{told}");
    let reply = asks(&mut attacker).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, coarse.clone()));
    assert_eq!(reply.header("content-length"), coarse.len().to_string());
    assert_eq!((reply.header("etag"), reply.header("digest"), reply.header("x-model")), ("", "", "7"));
    let reply = asks(&mut bystander).await;
    assert_eq!((reply.text(), reply.header("etag")), (exact.to_owned(), "\"v1\""));
    let active = checkgate.ask("/v1/decisions").await.unwrap().json().unwrap()["active"][0].clone();
    assert_eq!((&active["action"], &active["acts"]), (&json!("degrade"), &json!(true)));
    assert_eq!(checkgate.metric("checkgate_degrades_active", &[]).await.unwrap(), 1.0);
    assert!(checkgate.metric("checkgate_degraded_answers_total", &["coarsened"]).await.unwrap() >= 1.0);
    assert_eq!(checkgate.metric("checkgate_refused_total", &[]).await.unwrap(), 0.0);
}

/// A protocol, the path that asks for a prediction, settings of the model, an answer and what is left of it.
type Protocol = (&'static str, &'static str, Value, &'static str, &'static str);

fn protocols() -> [Protocol; 4] {
    [
        (
            "oip_v2",
            "/v2/models/pricing/infer",
            json!({}),
            r#"{"outputs":[{"name":"price","shape":[2],"datatype":"FP32","data":[1234.567,9.0]},{"name":"id","shape":[2],"datatype":"INT64","data":[123456,7]}]}"#,
            r#"{"outputs":[{"name":"price","shape":[2],"datatype":"FP32","data":[1200.0,9.0]},{"name":"id","shape":[2],"datatype":"INT64","data":[123456,7]}]}"#,
        ),
        (
            "mlflow",
            "/invocations",
            json!({"protocol": "mlflow", "path": "/invocations"}),
            r#"{"predictions": [[0.1234, 0.8766], [0.9, 0.1]]}"#,
            r#"{"predictions": [[0.12, 0.88], [0.9, 0.1]]}"#,
        ),
        (
            "mlflow, by name",
            "/invocations",
            json!({"protocol": "mlflow", "path": "/invocations"}),
            r#"{"predictions": [{"low": 0.2512, "high": 0.6288, "other": 0.12, "label": "high"}]}"#,
            r#"{"predictions": [{"low": 0.185, "high": 0.63, "other": 0.185, "label": "high"}]}"#,
        ),
        (
            "generic",
            "/price",
            json!({"protocol": {"generic": {"features": "/rows", "predictions": "/prices"}}, "path": "/price"}),
            r#"{"prices": [[19.987], [-3.14159e4]], "took": 0.00123}"#,
            r#"{"prices": [[20.0], [-31000.0]], "took": 0.00123}"#,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_stays_what_its_clients_read() {
    for (name, path, settings, exact, coarse) in protocols() {
        let server = ModelServer::always(Answer::json(exact)).await.unwrap();
        let mut model = json!({"name": "pricing"});
        model.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let checkgate = start(&server, "enforce", degrade("0s"), json!({"models": [model]})).await;
        let mut client = checkgate.client(ATTACKER);
        for step in 0..ROWS {
            let row = sweep_row(step);
            let question = match path {
                "/invocations" => json!({"inputs": [row]}),
                "/price" => json!({"rows": [row]}),
                _ => question(&[row]),
            };
            client.post(path, question.to_string()).await.unwrap();
        }
        let is_it = |record: &Value| record["kind"] == "decision";
        checkgate.records_with(is_it).await.unwrap();
        let question = if path == "/price" { json!({"rows": [[1.0]]}) } else { json!({"inputs": [[1.0]]}) };
        let reply = client.post(path, question.to_string()).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.text()), (200, coarse.to_owned()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_coarsened_comes_later_and_as_it_is() {
    let long =
        json!({"outputs": [{"name": "p", "shape": [400], "datatype": "FP64", "data": vec![0.123_456; 400]}]});
    let cases = [
        ("a stream", Answer::events(["{\"price\": 1.2345}"])),
        ("an encoding", Answer::json("{\"outputs\": [1.2345]}").gzip()),
        ("another media type", Answer::whole("<p>1.2345</p>").header("content-type", "application/xml")),
        ("what is no prediction", Answer::json("{\"price\": 1.2345}")),
        ("more than may be held", Answer::value(&long)),
    ];
    for (name, answer) in cases {
        let content = answer.content();
        let server = ModelServer::always(answer).await.unwrap();
        let limits = json!({"limits": {"hold_bytes": "1KiB"}});
        let checkgate = start(&server, "enforce", degrade("50ms"), limits).await;
        let mut attacker = checkgate.client(ATTACKER);
        sweep(&checkgate, &mut attacker).await;
        let before = checkgate.metric("checkgate_degraded_answers_total", &["delayed"]).await.unwrap();
        let begun = Instant::now();
        let reply = asks(&mut attacker).await;
        assert_eq!(reply.body, content, "{name}");
        assert!(begun.elapsed() >= Duration::from_millis(50), "{name} came at once");
        let after = checkgate.metric("checkgate_degraded_answers_total", &["delayed"]).await.unwrap();
        assert_eq!(after - before, 1.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_later_and_coarser_with_every_row_and_stay_what_clients_read() {
    let server = pricing().await;
    // So long a longest delay that nothing is forgotten meanwhile.
    let ladder =
        json!({"on_tier_one": "degrade", "digits": 4, "delay": "10ms", "step_rows": 5, "delay_max": "1m"});
    let checkgate = start(&server, "enforce", ladder, json!({})).await;
    let mut attacker = checkgate.client(ATTACKER);
    sweep(&checkgate, &mut attacker).await;
    let mut told = Vec::new();
    for _ in 0..25 {
        let begun = Instant::now();
        let reply = asks(&mut attacker).await;
        assert_eq!(reply.status, 200, "who asks one after the other is never refused");
        told.push((digits(&reply), begun.elapsed()));
    }
    assert!(told[0].0 > 1 && told.is_sorted_by_key(|(digits, _)| std::cmp::Reverse(*digits)), "{told:?}");
    let last = told.last().unwrap();
    assert!(last.0 == 1 && last.1 >= Duration::from_millis(160), "four steps up: {told:?}");
    assert_eq!(refused_for_its_turn(&checkgate).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_side_by_side_do_not_divide_the_delay() {
    let server = pricing().await;
    let checkgate = start(&server, "enforce", degrade("400ms"), json!({})).await;
    let mut attacker = checkgate.client(ATTACKER);
    sweep(&checkgate, &mut attacker).await;
    let (begun, before) = (Instant::now(), refused_for_its_turn(&checkgate).await);
    let many = (0..16).map(|_| {
        let mut client = checkgate.client(ATTACKER);
        tokio::spawn(async move { asks(&mut client).await })
    });
    let (mut served, mut refused) = (0, 0);
    for task in many.collect::<Vec<_>>() {
        let reply = task.await.unwrap();
        match reply.status.as_u16() {
            200 => served += 1,
            429 => {
                assert_eq!(reply.header("retry-after"), "30", "as the ladder says");
                refused += 1;
            }
            other => panic!("{other}: {}", reply.text()),
        }
    }
    assert!(served > 0 && refused > 0 && served + refused == 16, "{served} served, {refused} refused");
    assert!(begun.elapsed() >= Duration::from_millis(400) * served, "{served} in {:?}", begun.elapsed());
    assert_eq!(refused_for_its_turn(&checkgate).await - before, f64::from(refused), "each is counted");
    assert_eq!(asks(&mut checkgate.client(BYSTANDER)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_many_rows_pays_for_each_of_them() {
    let server = pricing().await;
    let mut policy = degrade("50ms");
    policy["delay_max"] = json!("500ms");
    let checkgate = start(&server, "enforce", policy, json!({})).await;
    let mut attacker = checkgate.client(ATTACKER);
    sweep(&checkgate, &mut attacker).await;
    let batch: Vec<Vec<f64>> = (0..40).map(|row| honest_row(4, row)).collect();
    let begun = Instant::now();
    let reply = attacker.post(&infer_path("pricing"), question(&batch).to_string()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500), "held for the longest delay");
    assert_eq!(reply.json().unwrap()["outputs"][0]["data"].as_array().unwrap().len(), 40);
    let refusal = asks(&mut attacker).await;
    assert_eq!(
        (refusal.status.as_u16(), refusal.header("retry-after")),
        (429, "1"),
        "a second and a half is owed"
    );
    while asks(&mut attacker).await.status != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(40 * 50), "paid after {:?}", begun.elapsed());
}

/// An answer to the attacker that is held for half a minute, and how long it was asked for.
async fn held(checkgate: &Checkgate, server: &ModelServer, policy: Value) -> (JoinHandle<Reply>, Instant) {
    let later = config(server, "enforce", policy, json!({}));
    checkgate.reload(&later.to_string()).await.unwrap();
    let (begun, mut attacker) = (Instant::now(), checkgate.client(ATTACKER));
    let waiting = tokio::spawn(async move { asks(&mut attacker).await });
    while checkgate.metric("checkgate_degraded_in_flight", &[]).await.unwrap() < 1.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (waiting, begun)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_comes_while_an_answer_is_held_refuses_it() {
    let server = pricing().await;
    let checkgate = start(&server, "enforce", degrade("0s"), json!({})).await;
    sweep(&checkgate, &mut checkgate.client(ATTACKER)).await;
    let (waiting, begun) = held(&checkgate, &server, degrade("30s")).await;
    let asked =
        json!({"client": ATTACKER, "action": "block", "seconds": 900, "why": "it was seen elsewhere"});
    let decided = operator(&checkgate).post("/v1/decisions", asked.to_string()).await.unwrap();
    assert!(decided.status.is_success(), "{}", decided.text());
    let reply = waiting.await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (403, "900"), "{}", reply.text());
    assert!(begun.elapsed() < Duration::from_secs(25), "held on for {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_lets_go_of_an_answer_that_is_held_and_a_reload_keeps_the_pace() {
    let server = pricing().await;
    let ladder = |delay: &str| json!({"on_tier_one": "degrade", "digits": 4, "delay": delay, "step_rows": 1});
    let checkgate = start(&server, "enforce", ladder("0s"), json!({})).await;
    let mut attacker = checkgate.client(ATTACKER);
    sweep(&checkgate, &mut attacker).await;
    for _ in 0..4 {
        asks(&mut attacker).await;
    }
    let (waiting, begun) = held(&checkgate, &server, ladder("30s")).await;
    checkgate.command(&["kill-switch", "on"]).unwrap();
    let reply = waiting.await.unwrap();
    assert_eq!((reply.status.as_u16(), digits(&reply)), (200, 1), "as coarse as its rows of before make it");
    assert!(begun.elapsed() < Duration::from_secs(25), "held on for {:?}", begun.elapsed());
    assert_eq!(
        checkgate.metric("checkgate_degraded_in_flight", &[]).await.unwrap(),
        0.0,
        "its place is free"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rounding_that_would_break_the_contract_is_left_out() {
    let answer = r#"{"outputs":[{"name":"price","shape":[1],"datatype":"FP64","data":[104.9]}]}"#;
    let server = ModelServer::always(Answer::json(answer)).await.unwrap();
    // Of two digits 100 would be left, below what the contract allows.
    let held = json!({"hold": "answer", "contract": {"rules": [{"minimum": 104}]}});
    let checkgate = start(&server, "enforce", degrade("0s"), held).await;
    let mut attacker = checkgate.client(ATTACKER);
    sweep(&checkgate, &mut attacker).await;
    assert_eq!(asks(&mut attacker).await.text(), answer);
    assert!(checkgate.metric("checkgate_degraded_answers_total", &["contract"]).await.unwrap() >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_never_block_and_the_kill_switch_keep_answers_whole() {
    let exact = r#"{"outputs":[{"name":"price","shape":[1],"datatype":"FP64","data":[1234.567]}]}"#;
    let server = ModelServer::always(Answer::json(exact)).await.unwrap();
    let observing = start(&server, "observe", degrade("0s"), json!({})).await;
    let mut attacker = observing.client(ATTACKER);
    assert_eq!(sweep(&observing, &mut attacker).await["action"], "degrade", "what would have been done");
    assert_eq!(asks(&mut attacker).await.text(), exact);

    let spared = json!({"clients": {"identity": "ip", "never_block": ["127.0.31.0/24"]}});
    let sparing = start(&server, "enforce", degrade("0s"), spared).await;
    let mut attacker = sparing.client(ATTACKER);
    assert_eq!(sweep(&sparing, &mut attacker).await["action"], "alert");
    assert_eq!(asks(&mut attacker).await.text(), exact);

    let enforcing = start(&server, "enforce", degrade("0s"), json!({})).await;
    let mut attacker = enforcing.client(ATTACKER);
    let decision = sweep(&enforcing, &mut attacker).await;
    assert!(asks(&mut attacker).await.text().contains("[1200.0]"));
    enforcing.command(&["kill-switch", "on"]).unwrap();
    while asks(&mut attacker).await.text() != exact {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    enforcing.command(&["kill-switch", "off"]).unwrap();
    while asks(&mut attacker).await.text() == exact {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = decision["decision_id"].as_str().unwrap();
    let lifted = operator(&enforcing).call(Method::DELETE, &format!("/v1/decisions/{id}")).await.unwrap();
    assert!(lifted.status.is_success(), "{}", lifted.text());
    assert_eq!(asks(&mut attacker).await.text(), exact, "after it was lifted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_client_is_served_so_often_a_minute_and_told_to_wait_one() {
    let answer = r#"{"outputs":[{"name":"price","shape":[1],"datatype":"FP64","data":[1234.567]}]}"#;
    let server = ModelServer::always(Answer::json(answer)).await.unwrap();
    let policy = json!({"on_tier_one": "throttle", "requests_per_minute": 30});
    let checkgate = start(&server, "enforce", policy, json!({})).await;
    let mut attacker = checkgate.client(ATTACKER);
    let decision = sweep(&checkgate, &mut attacker).await;
    assert_eq!(decision["action"], "throttle");
    let request = || post(&infer_path("pricing"), whole(question(&[honest_row(3, 3)]).to_string())).unwrap();
    let mut served = 0;
    let refusal = loop {
        let reply = attacker.send(request()).await.unwrap();
        if reply.status != 200 {
            break reply;
        }
        assert_eq!(reply.text(), answer, "what is let through is as the model sent it");
        served += 1;
        assert!(served <= 30, "more than thirty requests were served");
    };
    assert_eq!((refusal.status.as_u16(), refusal.header("retry-after")), (429, "60"));
    assert_eq!(refusal.json().unwrap()["decision_id"], decision["decision_id"]);
    assert_eq!(asks(&mut checkgate.client(BYSTANDER)).await.status, 200);
    assert!(checkgate.metric("checkgate_throttled_total", &[]).await.unwrap() >= 1.0);
    assert_eq!(checkgate.metric("checkgate_throttles_active", &[]).await.unwrap(), 1.0);
}
