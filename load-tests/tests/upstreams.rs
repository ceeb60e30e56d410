//! Several servers behind one model: who is asked, what is tried again, and what never is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use checkgate_load_tests::checkgate::{Checkgate, PATIENCE, Start, free_address};
use checkgate_load_tests::client::Client;
use checkgate_load_tests::faulty_server::{Act, FaultyServer, Script, send};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::{until, within};
use http::Method;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

const PATH: &str = "/v2/models/pricing/infer";

fn answer(name: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len())
}

/// Servers that answer with their own name: a, b, c and so on.
async fn named(count: usize) -> Vec<FaultyServer> {
    let mut servers = Vec::new();
    for name in ["a", "b", "c", "d", "e"].into_iter().take(count) {
        servers.push(FaultyServer::always(answer(name)).await.unwrap());
    }
    servers
}

fn urls(servers: &[FaultyServer]) -> Vec<Value> {
    servers.iter().map(|server| json!(server.url())).collect()
}

async fn proxy(upstream: Value) -> Checkgate {
    Start::configured(json!({ "upstream": upstream })).run().await.unwrap()
}

/// How often each answer came.
async fn answers(client: &mut Client, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let reply = client.post(PATH, "{}").await.unwrap();
        *answers.entry(reply.text()).or_default() += 1;
    }
    answers
}

fn counts(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// Waits until a metric has this value.
async fn until_metric(checkgate: &Checkgate, name: &str, labels: &[&str], value: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = checkgate.metric(name, labels).await.unwrap();
        if now == value {
            return;
        }
        assert!(Instant::now() < deadline, "{name} {labels:?} is {now}, not {value}\n{}", checkgate.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn requests_go_round_by_weight() {
    let servers = named(2).await;
    let weighted =
        json!([{ "url": servers[0].url(), "weight": 3 }, { "url": servers[1].url(), "weight": 1 }]);
    let checkgate = proxy(json!({ "servers": weighted })).await;
    let answers = answers(&mut checkgate.client("127.0.0.1"), 40).await;
    assert_eq!(answers, counts(&[("a", 30), ("b", 10)]));
    assert!(
        servers.iter().all(|server| server.connections() == 1),
        "one client needs one connection to each"
    );
}

#[tokio::test]
async fn the_least_loaded_server_is_asked() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let slow = ModelServer::answering(move |_| Answer::whole("slow").once(&held)).await.unwrap();
    let quick = named(1).await;
    let servers = json!([format!("http://{}", slow.address), quick[0].url()]);
    let checkgate = proxy(json!({ "servers": servers, "balance": "least_loaded" })).await;
    let mut waiting = JoinSet::new();
    for _ in 0..2 {
        let mut client = checkgate.client("127.0.0.1");
        waiting.spawn(async move { client.post(PATH, "{}").await.unwrap().text() });
    }
    until("one request is open at the slow server", || slow.open() == 1).await.unwrap();
    let mut client = checkgate.client("127.0.0.1");
    for _ in 0..10 {
        // An answer reaches its client a moment before its request counts as ended.
        until_metric(&checkgate, "checkgate_in_flight", &[], 1.0).await;
        let answers = answers(&mut client, 1).await;
        assert_eq!(answers, counts(&[("a", 1)]), "a server with an open request is passed over");
    }
    gate.add_permits(9);
    waiting.join_all().await;
}

#[tokio::test]
async fn a_client_keeps_its_server_and_moves_only_when_it_is_gone() {
    let mut servers = named(3).await;
    let checkgate = proxy(json!({ "servers": urls(&servers), "balance": "client_hash" })).await;
    let mut homes = BTreeMap::new();
    for host in 1..=30 {
        let answers = answers(&mut checkgate.client(&format!("127.0.0.{host}")), 3).await;
        assert_eq!(answers.len(), 1, "client {host} was sent to several servers: {answers:?}");
        homes.insert(host, answers.into_keys().next().unwrap());
    }
    let used = homes.values().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(used.len(), 3, "30 clients use all servers: {homes:?}");
    drop(servers.pop());
    for (host, home) in &homes {
        let now = checkgate.client(&format!("127.0.0.{host}")).post(PATH, "{}").await.unwrap().text();
        assert!(now == *home || home == "c", "client {host} moved from {home} to {now} without need");
        assert_ne!(now, "c", "the server is gone");
    }
}

#[tokio::test]
async fn health_checks_take_a_server_out_and_bring_it_back() {
    let sick = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&sick);
    let moody = ModelServer::answering(move |question| match question.path.as_str() {
        "/ready" if state.load(Ordering::SeqCst) => {
            Answer::whole("").status(http::StatusCode::SERVICE_UNAVAILABLE)
        }
        "/ready" => Answer::whole("ready"),
        _ => Answer::whole("moody"),
    });
    let (moody, steady) = (moody.await.unwrap(), named(1).await);
    let health = json!({ "path": "/ready", "every": "50ms", "timeout": "5s", "healthy_after": 2, "unhealthy_after": 2 });
    let servers = json!([format!("http://{}", moody.address), steady[0].url()]);
    let checkgate = proxy(json!({ "servers": servers, "health": health })).await;
    let mut client = checkgate.client("127.0.0.1");
    assert_eq!(answers(&mut client, 10).await, counts(&[("a", 5), ("moody", 5)]));
    sick.store(true, Ordering::SeqCst);
    until_metric(&checkgate, "checkgate_upstream_servers", &["unhealthy"], 1.0).await;
    assert_eq!(answers(&mut client, 10).await, counts(&[("a", 10)]), "an unhealthy server is not asked");
    sick.store(false, Ordering::SeqCst);
    until_metric(&checkgate, "checkgate_upstream_servers", &["available"], 2.0).await;
    assert_eq!(answers(&mut client, 10).await, counts(&[("a", 5), ("moody", 5)]));
    let lines = checkgate.log().lines().filter(|line| line.contains("health")).count();
    assert_eq!(lines, 2, "one line for each change:\n{}", checkgate.log());
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone() {
    let broken = FaultyServer::start(|_| Vec::new(), |_| Script::after(vec![Act::Close])).await.unwrap();
    let steady = named(1).await;
    let servers = json!([broken.url(), steady[0].url()]);
    let ejection = json!({ "failures": 3, "pause": "1h" });
    let checkgate = proxy(json!({ "servers": servers, "ejection": ejection })).await;
    let mut client = checkgate.client("127.0.0.1");
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(client.post(PATH, "{}").await.unwrap().status == 502);
    }
    assert_eq!(failed, 3, "three failures in a row, then nobody asks it");
    assert_eq!(broken.requests().len(), 3);
    assert_eq!(checkgate.metric("checkgate_upstream_ejections_total", &[]).await.unwrap(), 1.0);
    until_metric(&checkgate, "checkgate_upstream_servers", &["ejected"], 1.0).await;
    assert_eq!(checkgate.log().matches("server is left alone").count(), 1, "{}", checkgate.log());
}

#[tokio::test]
async fn the_last_server_is_never_left_alone() {
    let failing = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&failing);
    let choose = move |_| {
        let acts = if state.load(Ordering::SeqCst) { vec![Act::Close] } else { vec![send(answer("back"))] };
        Script::after(acts)
    };
    let only = FaultyServer::start(|_| Vec::new(), choose).await.unwrap();
    let ejection = json!({ "failures": 1, "pause": "1h" });
    let checkgate = proxy(json!({ "servers": [only.url()], "ejection": ejection })).await;
    let mut client = checkgate.client("127.0.0.1");
    for _ in 0..5 {
        assert_eq!(client.post(PATH, "{}").await.unwrap().status, 502);
    }
    failing.store(false, Ordering::SeqCst);
    assert_eq!(client.post(PATH, "{}").await.unwrap().text(), "back", "it was asked all the same");
}

#[tokio::test]
async fn a_server_that_is_down_costs_no_client_an_error() {
    let servers = named(1).await;
    let down = format!("http://{}", free_address().unwrap());
    let checkgate = proxy(json!({ "servers": [down, servers[0].url()] })).await;
    let answers = answers(&mut checkgate.client("127.0.0.1"), 30).await;
    assert_eq!(answers, counts(&[("a", 30)]), "what was not sent is tried at the next server");
    let retries = checkgate.metric("checkgate_upstream_retries_total", &[]).await.unwrap();
    assert_eq!(retries, 5.0, "after five failures in a row the server is left alone");
}

/// A point at which a server breaks a request off, and whether it had read the whole of it by then.
fn break_points() -> Vec<(&'static str, Script)> {
    let line = || send("HTTP/1.1 200 OK\r\n");
    vec![
        ("closes after the head", Script::before_body(vec![Act::Close])),
        ("resets after the head", Script::before_body(vec![Act::Reset])),
        ("closes after the request", Script::after(vec![Act::Close])),
        ("resets after the request", Script::after(vec![Act::Reset])),
        ("closes in the head of the answer", Script::after(vec![line(), Act::Close])),
        ("resets in the head of the answer", Script::after(vec![line(), Act::Reset])),
        ("hangs", Script::after(vec![Act::Hang])),
        ("answers garbage", Script::after(vec![send("garbage\r\n\r\n"), Act::Close])),
    ]
}

/// Two servers that break at `script` until they have seen `breaks` requests together, and then answer.
async fn breaking(script: &Script, breaks: usize) -> Vec<FaultyServer> {
    let seen = Arc::new(AtomicUsize::new(0));
    let mut servers = Vec::new();
    for _ in 0..2 {
        let (script, seen) = (script.clone(), Arc::clone(&seen));
        let choose = move |_| {
            let is_broken = seen.fetch_add(1, Ordering::SeqCst) < breaks;
            if is_broken { script.clone() } else { Script::after(vec![send(answer("whole"))]) }
        };
        servers.push(FaultyServer::start(|_| Vec::new(), choose).await.unwrap());
    }
    servers
}

fn total(servers: &[FaultyServer]) -> usize {
    servers.iter().map(|server| server.requests().len()).sum()
}

async fn patient_proxy(servers: &[FaultyServer]) -> Checkgate {
    let config = json!({
        "upstream": { "servers": urls(servers), "retries": 5 },
        "timeouts": { "each_try": "2s" },
    });
    Start::configured(config).run().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_never_sent_twice() {
    let mut playing = JoinSet::new();
    for (name, script) in break_points() {
        playing.spawn(async move {
            let servers = breaking(&script, usize::MAX).await;
            let checkgate = patient_proxy(&servers).await;
            let reply = checkgate.client("127.0.0.1").post(PATH, "{}").await.unwrap();
            assert!([502, 504].contains(&reply.status.as_u16()), "{name}: {}", reply.status);
            assert_eq!(total(&servers), 1, "{name}: one POST is one request");
        });
    }
    playing.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_is_sent_until_it_is_answered() {
    let mut playing = JoinSet::new();
    for (name, script) in break_points() {
        playing.spawn(async move {
            let servers = breaking(&script, 2).await;
            let checkgate = patient_proxy(&servers).await;
            let reply = checkgate.client("127.0.0.1").get("/v2/models/pricing").await.unwrap();
            assert_eq!(reply.text(), "whole", "{name}");
            assert_eq!(total(&servers), 3, "{name}: two tries broke");
        });
    }
    playing.join_all().await;
}

#[tokio::test]
async fn all_tries_together_end_at_the_first_byte_deadline() {
    let servers = breaking(&Script::after(vec![Act::Hang]), usize::MAX).await;
    let config = json!({
        "upstream": { "servers": urls(&servers), "retries": 10 },
        "timeouts": { "each_try": "600ms", "first_byte": "1500ms" },
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let reply = checkgate.client("127.0.0.1").call(Method::GET, "/v2/models/pricing").await.unwrap();
    assert_eq!(reply.status, 504);
    let tries = total(&servers);
    assert!((2..=3).contains(&tries), "1.5 s hold two whole tries of 0.6 s and a part: {tries}");
}

/// Rounds of POSTs, each into connections that the server closed 50 ms before or earlier.
async fn stale_connections(clients: usize, rounds: usize) {
    let choose = move |request: usize| {
        // Nobody is answered before all of a round have asked, so that each has a connection of its own.
        let whole_round = Act::Await((request / clients + 1) * clients);
        // Spread over 0 to 40 ms, as an idle limit of the server's would fall anywhere.
        let idle = Act::Pause(Duration::from_millis((request as u64).wrapping_mul(7) % 41));
        Script::after(vec![whole_round, send(answer("fresh")), idle, Act::Close])
    };
    let server = Arc::new(FaultyServer::start(|_| Vec::new(), choose).await.unwrap());
    let checkgate = proxy(json!({ "servers": [server.url()], "retries": 0 })).await;
    let mut idle: Vec<Client> = (0..clients).map(|_| checkgate.client("127.0.0.1")).collect();
    for round in 1..=rounds {
        let mut asking = JoinSet::new();
        for mut client in idle.drain(..) {
            asking.spawn(async move {
                let reply = client.post(PATH, "{}").await.unwrap();
                (reply.status.as_u16(), client)
            });
        }
        for (status, client) in asking.join_all().await {
            assert_eq!(status, 200, "a stale connection cost an error in round {round}\n{}", checkgate.log());
            idle.push(client);
        }
        until("every connection is closed", || server.closed() == clients * round).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.requests().len(), clients * rounds, "and none was sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_connections_cost_no_post_an_error() {
    stale_connections(50, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; .ci/long runs it"]
async fn stale_connections_cost_none_of_ten_thousand_posts_an_error() {
    stale_connections(50, 200).await;
}

#[tokio::test]
async fn a_full_server_is_passed_over_and_full_servers_give_503() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let slow = ModelServer::answering(move |_| Answer::whole("slow").once(&held)).await.unwrap();
    let url = format!("http://{}", slow.address);
    let checkgate = proxy(json!({ "servers": [url], "in_flight_per_server": 2 })).await;
    let mut waiting = JoinSet::new();
    for _ in 0..2 {
        let mut client = checkgate.client("127.0.0.1");
        waiting.spawn(async move { client.post(PATH, "{}").await.unwrap().status.as_u16() });
    }
    until("two requests are open", || slow.open() == 2).await.unwrap();
    let turned_away = checkgate.client("127.0.0.1").post(PATH, "{}").await.unwrap();
    assert_eq!(turned_away.status, 503);
    assert_eq!(turned_away.header("retry-after"), "1");
    assert_eq!(checkgate.metric("checkgate_upstream_full_total", &[]).await.unwrap(), 1.0);
    gate.add_permits(9);
    assert_eq!(waiting.join_all().await, [200, 200], "what was open is answered");
    let again = checkgate.client("127.0.0.1").post(PATH, "{}").await.unwrap();
    assert_eq!(again.status, 200, "and there is room again");
}

#[tokio::test]
async fn an_early_answer_does_not_lend_its_connection_to_the_next_request() {
    let early = Script::before_body(vec![send(answer("early"))]);
    let choose = move |request: usize| {
        if request == 0 { early.clone() } else { Script::after(vec![send(answer("next"))]) }
    };
    let server = FaultyServer::start(|_| Vec::new(), choose).await.unwrap();
    let checkgate = proxy(json!({ "servers": [server.url()] })).await;
    let (mut slow, gate) = (checkgate.client("127.0.0.1"), Arc::new(Semaphore::new(0)));
    let body = held_body(&gate);
    let request = http::Request::post(PATH).header("content-length", "8").body(body).unwrap();
    let opened = within("the early answer", slow.open(request)).await.unwrap().unwrap();
    assert_eq!(opened.status(), 200, "it is passed on while the question is on its way");
    let next = checkgate.client("127.0.0.1").post(PATH, "{}").await.unwrap();
    assert_eq!(next.text(), "next");
    assert_eq!(server.connections(), 2, "the first connection still waits for its body");
    gate.add_permits(1);
}

/// A body of 8 bytes whose second half waits for a permit.
fn held_body(gate: &Arc<Semaphore>) -> checkgate_load_tests::Body {
    use http_body_util::BodyExt;
    let (mut sender, channel) = http_body_util::channel::Channel::<bytes::Bytes, std::io::Error>::new(1);
    let gate = Arc::clone(gate);
    tokio::spawn(async move {
        drop(sender.send_data("half".into()).await);
        if let Ok(permit) = gate.acquire().await {
            permit.forget();
            drop(sender.send_data("half".into()).await);
        }
    });
    channel.boxed_unsync()
}

#[tokio::test]
async fn a_reload_keeps_the_connections_of_servers_that_did_not_change() {
    let servers = named(1).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkgate.yaml");
    let write = |retries: usize, mode: &str| {
        let upstream = json!({ "servers": urls(&servers), "retries": retries });
        std::fs::write(&file, json!({ "upstream": upstream, "mode": mode }).to_string()).unwrap();
    };
    write(1, "observe");
    let checkgate = Start::default().with_file(&file).run().await.unwrap();
    let mut client = checkgate.client("127.0.0.1");
    answers(&mut client, 2).await;
    write(1, "enforce");
    until_metric(&checkgate, "checkgate_config_reloads_total", &["applied"], 1.0).await;
    answers(&mut client, 2).await;
    assert_eq!(servers[0].connections(), 1, "the upstream did not change");
    write(2, "enforce");
    until_metric(&checkgate, "checkgate_config_reloads_total", &["applied"], 2.0).await;
    answers(&mut client, 2).await;
    assert_eq!(servers[0].connections(), 2, "the upstream changed");
    until_metric(&checkgate, "checkgate_upstream_servers", &["available"], 1.0).await;
}

#[tokio::test]
async fn every_server_metric_is_there_before_the_first_request() {
    let servers = named(2).await;
    let checkgate = proxy(json!({ "servers": urls(&servers) })).await;
    let text = String::from_utf8(checkgate.ask("/metrics").await.unwrap().body.to_vec()).unwrap();
    let mut missing = String::new();
    for line in [
        r#"checkgate_upstream_servers{model="discovered",state="available"} 2"#,
        r#"checkgate_upstream_connections_total{model="discovered",use="reused"} 0"#,
        r#"checkgate_upstream_idle_connections{model="discovered"} 0"#,
        r#"checkgate_upstream_retries_total{model="discovered"} 0"#,
        r#"checkgate_upstream_ejections_total{model="discovered"} 0"#,
        r#"checkgate_upstream_full_total{model="discovered"} 0"#,
    ] {
        if !text.contains(line) {
            writeln!(missing, "{line}").unwrap();
        }
    }
    assert!(missing.is_empty(), "missing:\n{missing}");
}

/// A server of HTTP/2 that closes each connection without a word, some time after its first answer. Counts the closed.
async fn closing_http2_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, closed) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&closed);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                answer_once(stream, counter.load(Ordering::SeqCst)).await;
                counter.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (address, closed)
}

async fn answer_once(stream: TcpStream, number: usize) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let Some(Ok((mut request, mut respond))) = connection.accept().await else { return };
    let answering = async move {
        while let Some(Ok(_)) = request.body_mut().data().await {}
        respond.send_response(http::Response::new(()), true).unwrap();
        tokio::time::sleep(Duration::from_millis((number as u64).wrapping_mul(7) % 21)).await;
    };
    // The connection must be polled for anything to be read or written; it ends where the answer has had its time.
    tokio::select! {
        () = answering => {}
        _ = connection.accept() => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_connections_of_http2_cost_no_post_an_error() {
    let (address, closed) = closing_http2_server().await;
    let checkgate =
        proxy(json!({ "servers": [format!("http://{address}")], "http": "http2", "retries": 0 })).await;
    let mut client = checkgate.client("127.0.0.1");
    for round in 1..=40 {
        let reply = client.post(PATH, "{}").await.unwrap();
        assert_eq!(reply.status, 200, "round {round}\n{}", checkgate.log());
        until("the connection is closed", || closed.load(Ordering::SeqCst) == round).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
