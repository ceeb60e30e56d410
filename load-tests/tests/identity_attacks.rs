//! Attacks on who a client is: an attacker that writes its victims' names on every request, and a crowd of invented
//! clients. `IDENTITY_REQUESTS` and `IDENTITY_CLIENTS` set other sizes than those of every change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use checkgate_load_tests::attack::{honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, PATIENCE, Start};
use checkgate_load_tests::inference::{answer, infer_path, question};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::oracle::process::{listening_on, resident_kib};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Forged requests, unless `IDENTITY_REQUESTS` says otherwise.
const REQUESTS: u32 = 20_000;
/// Invented clients, unless `IDENTITY_CLIENTS` says otherwise.
const CLIENTS: u32 = 100_000;
/// People whose names the attacker writes.
const VICTIMS: u32 = 1_000;
/// Requests that are on their way at once on one connection.
const PIPELINED: u32 = 32;
/// Connections that a crowd comes by.
const SENDERS: u32 = 4;
/// Requests of a crowd until the lane is waited for: what waits there has a bound of its own.
const ROUND: u32 = 1_000;
/// By so much a crowd may make the proxy grow, in KiB.
const GROWTH_MAX_KIB: u64 = 64 * 1024;

fn sized(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

/// A connection on which requests are sent without waiting for the answers before them.
struct Pipeline {
    stream: TcpStream,
    /// Bytes of answers that are not read to their end yet.
    unread: Vec<u8>,
}

impl Pipeline {
    async fn from(source: &str, server: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        let stream = socket.connect(server).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Sends the requests and gives the statuses of their answers.
    async fn send(&mut self, requests: &[String]) -> Vec<u16> {
        self.stream.write_all(requests.concat().as_bytes()).await.unwrap();
        let mut statuses = Vec::new();
        while statuses.len() < requests.len() {
            match self.next_answer() {
                Some(status) => statuses.push(status),
                None => {
                    let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.unread));
                    let read = read.await.unwrap().unwrap();
                    assert_ne!(read, 0, "the proxy closed the connection after {} answers", statuses.len());
                }
            }
        }
        statuses
    }

    /// Takes one whole answer from what was read.
    fn next_answer(&mut self) -> Option<u16> {
        let mut lines = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut lines);
        let httparse::Status::Complete(begin) = head.parse(&self.unread).unwrap() else { return None };
        let length = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case("content-length"));
        let length = length.unwrap();
        let length: usize = std::str::from_utf8(length.value).unwrap().parse().unwrap();
        let status = head.code.unwrap();
        (self.unread.len() >= begin + length).then(|| {
            self.unread.drain(..begin + length);
            status
        })
    }
}

fn request(path: &str, lines: &str, row: &[f64]) -> String {
    let body = question(&[row.to_vec()]).to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: model\r\ncontent-type: application/json\r\n{lines}content-length: {length}\r\n\r\n{body}"
    )
}

fn victim(number: u32) -> String {
    format!("198.18.{}.{}", number % VICTIMS / 250, number % 250 + 1)
}

/// Every field that ever made a proxy believe that a client is somebody else.
fn forged(number: u32) -> String {
    let victim = victim(number);
    let chain = match number % 5 {
        0 => victim.clone(),
        1 => format!("{victim}, {victim}"),
        2 => format!("::ffff:{victim}"),
        3 => format!("{victim}:4711, 127.0.0.1"),
        _ => format!("unknown, {victim}, 010.0.0.1"),
    };
    format!(
        "x-forwarded-for: {chain}\r\nforwarded: for={victim};proto=https, for=\"[::ffff:{victim}]\"\r\n\
         x-real-ip: {victim}\r\ntrue-client-ip: {victim}\r\nx-client-ip: {victim}\r\nx-cluster-client-ip: {victim}\r\n\
         cf-connecting-ip: {victim}\r\nx-original-forwarded-for: {victim}\r\nx-api-key: key of {victim}\r\n"
    )
}

/// Sends forged requests of a sweep from `source` until `requests` were sent; gives how many were refused.
async fn attack(server: SocketAddr, source: &str, requests: u32) -> u32 {
    let mut pipeline = Pipeline::from(source, server).await;
    let mut refused = 0;
    let path = infer_path("pricing");
    let mut sent = 0;
    while sent < requests {
        // One by one until the block is there: the lane is to see the sweep before its requests are refused.
        let batch = if refused == 0 { 1 } else { PIPELINED.min(requests - sent) };
        let batch: Vec<_> =
            (sent..sent + batch).map(|number| request(&path, &forged(number), &sweep_row(number))).collect();
        sent += batch.len() as u32;
        let statuses = pipeline.send(&batch).await;
        refused += statuses.iter().filter(|status| **status == 403).count() as u32;
        assert!(statuses.iter().all(|status| [200, 403].contains(status)), "{statuses:?}");
    }
    refused
}

/// Whom decisions are about, however they act.
fn decided_about(records: &[Value]) -> BTreeSet<String> {
    let decisions = records.iter().filter(|record| record["kind"] == "decision");
    decisions.map(|record| record["client"].as_str().unwrap().to_owned()).collect()
}

/// Attacks the proxy under `clients` and holds that the attacker is blocked and nobody else is spoken of.
async fn nobody_else_pays(clients: Value, attacker: &str) {
    let server = pricing().await;
    let config =
        json!({"upstream": format!("http://{}", server.address), "mode": "enforce", "clients": clients});
    let checkgate = Start::configured(config).run().await.unwrap();
    let requests = sized("IDENTITY_REQUESTS", REQUESTS);
    let refused = attack(checkgate.address, attacker, requests).await;
    assert!(refused > requests / 2, "{refused} of {requests} requests were refused under {clients}");
    let is_it = |record: &Value| record["kind"] == "decision" && record["action"] == "block";
    let records = checkgate.records_with(is_it).await.unwrap();
    let decided = decided_about(&records);
    assert_eq!(decided, BTreeSet::from([attacker.to_owned()]), "whom decisions are about, under {clients}");
    let spoken_of: BTreeSet<_> = records.iter().map(|record| record["client"].to_string()).collect();
    assert_eq!(spoken_of.len(), 1, "findings are about the attacker alone: {spoken_of:?}");
    for source in ["127.0.9.1", "127.0.9.2"] {
        let mut honest = Pipeline::from(source, checkgate.address).await;
        let asked = request(&infer_path("pricing"), "", &honest_row(1, 1));
        assert_eq!(honest.send(&[asked]).await, [200], "{source} asks in its own name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_others_move_no_decision_to_them_where_addresses_are_clients() {
    nobody_else_pays(json!({"identity": "ip"}), "127.0.8.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_others_move_no_decision_to_them_beside_a_trusted_proxy() {
    let clients = json!({"identity": "ip", "trusted_proxies": ["127.0.7.0/24"]});
    nobody_else_pays(clients, "127.0.8.2").await;
}

/// What a trusted proxy passes on of an attacker at 203.0.113.66: its forgeries, and behind them what the proxy saw.
async fn behind_a_proxy(hops: &str, seen: fn(&str) -> String) {
    let server = pricing().await;
    let config = json!({
        "upstream": format!("http://{}", server.address), "mode": "enforce",
        "clients": {"identity": {"header": "X-API-Key"}, "trusted_proxies": ["127.0.7.1"], "hops": hops},
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let mut proxy = Pipeline::from("127.0.7.1", checkgate.address).await;
    let path = infer_path("pricing");
    let mut refused = 0;
    for number in 0..sized("IDENTITY_REQUESTS", REQUESTS) / 10 {
        let victim = victim(number);
        let lines = format!("{}x-api-key: key of {victim}\r\n", seen(&victim));
        let statuses = proxy.send(&[request(&path, &lines, &sweep_row(number))]).await;
        refused += u32::from(statuses == [403]);
    }
    assert!(refused > 0, "the attacker is blocked behind the proxy");
    let records = checkgate.records().unwrap();
    // Its keys are not proven, for the model server refuses none: the address stands.
    assert_eq!(decided_about(&records), BTreeSet::from(["203.0.113.66".to_owned()]), "{hops}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_writes_before_a_trusted_proxy_names_nobody() {
    let by_list = |victim: &str| {
        format!(
            "x-forwarded-for: {victim}, 203.0.113.66\r\nforwarded: for={victim}\r\nx-real-ip: {victim}\r\n"
        )
    };
    behind_a_proxy("x-forwarded-for", by_list).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_writes_before_a_proxy_that_writes_forwarded_names_nobody() {
    let by_element = |victim: &str| {
        format!(
            "forwarded: for={victim}, for=\"{victim}, for=203.0.113.66;proto=https\r\nx-forwarded-for: {victim}\r\n"
        )
    };
    behind_a_proxy("forwarded", by_element).await;
}

/// Attacks by headers of the PROXY protocol that name victims, each on a connection of its own, in both versions.
async fn by_proxy_headers(checkgate: &Checkgate, source: &str, connections: u32) {
    for number in 0..connections {
        let victim = victim(number);
        let octets = victim.parse::<std::net::Ipv4Addr>().unwrap().octets();
        let line = format!("PROXY TCP4 {victim} 127.0.0.1 4711 8080\r\n").into_bytes();
        let block =
            [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &octets, &[127, 0, 0, 1, 1, 2, 3, 4]].concat();
        let header = if number % 2 == 0 { line } else { block };
        let mut pipeline = Pipeline::from(source, checkgate.address).await;
        let asked = request(&infer_path("pricing"), &forged(number), &sweep_row(number));
        // The proxy may close the connection before everything is written.
        pipeline.stream.write_all(&[&header[..], asked.as_bytes()].concat()).await.ok();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, pipeline.stream.read_to_end(&mut answer));
        read.await.unwrap().ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{source} was answered: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_proxy_protocol_from_nobodies_name_nobody() {
    let server = pricing().await;
    let connections = sized("IDENTITY_REQUESTS", REQUESTS) / 100;
    for (word, counted) in [("required", true), ("off", false)] {
        let config = json!({
            "upstream": format!("http://{}", server.address), "mode": "enforce", "proxy_protocol": word,
            "clients": {"identity": "ip", "trusted_proxies": ["127.0.7.0/24"]},
        });
        let checkgate = Start::configured(config).run().await.unwrap();
        by_proxy_headers(&checkgate, "127.0.8.4", connections).await;
        let expected = if counted { f64::from(connections) } else { 0.0 };
        checkgate_load_tests::within("the count of those who are not trusted", async {
            let untrusted = [r#"reason="untrusted_proxy""#];
            // The last one is counted after its connection was closed.
            while (checkgate.metric("checkgate_rejected_total", &untrusted).await.unwrap() - expected).abs()
                > 0.5
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        rested(&checkgate).await;
        assert!(checkgate.records().unwrap().is_empty(), "nobody is spoken of, proxy_protocol: {word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_writes_behind_the_header_of_a_balancer_names_nobody() {
    let server = pricing().await;
    let config = json!({
        "upstream": format!("http://{}", server.address), "mode": "enforce", "proxy_protocol": "required",
        "clients": {"identity": "ip", "trusted_proxies": ["127.0.7.1"]},
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let mut balancer = Pipeline::from("127.0.7.1", checkgate.address).await;
    balancer.stream.write_all(b"PROXY TCP4 203.0.113.66 127.0.0.1 4711 8080\r\n").await.unwrap();
    let mut refused = 0;
    for number in 0..sized("IDENTITY_REQUESTS", REQUESTS) / 100 {
        let asked = request(&infer_path("pricing"), &forged(number), &sweep_row(number));
        refused += u32::from(balancer.send(&[asked]).await == [403]);
    }
    assert!(refused > 0, "the attacker is blocked behind the balancer");
    let records = checkgate.records_with(|record| record["kind"] == "decision").await.unwrap();
    assert_eq!(
        decided_about(&records),
        BTreeSet::from(["203.0.113.66".to_owned()]),
        "whom decisions are about"
    );
    let mut honest = Pipeline::from("127.0.7.1", checkgate.address).await;
    honest.stream.write_all(b"PROXY TCP4 198.18.0.1 127.0.0.1 4711 8080\r\n").await.unwrap();
    let asked = request(&infer_path("pricing"), "", &honest_row(1, 1));
    assert_eq!(honest.send(&[asked]).await, [200], "a victim behind the same balancer asks in its own name");
}

/// Lines of `/metrics` that are samples.
async fn series(checkgate: &Checkgate) -> BTreeSet<String> {
    let text = checkgate.ask("/metrics").await.unwrap().text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// Requests of invented clients `numbers`, each with an address, a key and a path of its own.
async fn visit(server: SocketAddr, numbers: std::ops::Range<u32>) {
    let mut pipeline = Pipeline::from("127.0.7.1", server).await;
    let numbers: Vec<_> = numbers.collect();
    for batch in numbers.chunks(PIPELINED as usize) {
        let requests = batch.iter().map(|&number| {
            let [_, a, b, c] = number.to_be_bytes();
            let lines = format!("x-forwarded-for: 100.{a}.{b}.{c}\r\nx-api-key: invented {number}\r\n");
            let path =
                if number % 2 == 0 { infer_path("pricing") } else { infer_path(&format!("m{number}")) };
            request(&path, &lines, &honest_row(number, number))
        });
        pipeline.send(&requests.collect::<Vec<_>>()).await;
    }
}

/// A crowd of invented clients `numbers`, in rounds; between two of them the lane is waited for.
async fn crowd(checkgate: &Checkgate, numbers: std::ops::Range<u32>) {
    let end = numbers.end;
    for round in numbers.step_by(ROUND as usize) {
        let mut senders = tokio::task::JoinSet::new();
        let each = (end - round).min(ROUND) / SENDERS;
        for first in (0..SENDERS).map(|sender| round + sender * each) {
            senders.spawn(visit(checkgate.address, first..first + each));
        }
        senders.join_all().await;
        rested(checkgate).await;
    }
}

/// Waits until everything that was asked has been judged.
async fn rested(checkgate: &Checkgate) {
    let deadline = Instant::now() + PATIENCE;
    while checkgate.metric("checkgate_lane_waiting_parts", &[]).await.unwrap() > 0.0 {
        assert!(Instant::now() < deadline, "captures still wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_invented_clients_keys_and_paths_stays_within_bounds() {
    let server = pricing().await;
    let config = json!({
        "upstream": format!("http://{}", server.address), "mode": "enforce",
        "clients": {
            "identity": {"header": "X-API-Key", "verified_by_upstream": true},
            "trusted_proxies": ["127.0.7.1"], "new_keys_per_address": 1_000_000,
        },
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let process = listening_on(checkgate.address).unwrap();
    let clients = sized("IDENTITY_CLIENTS", CLIENTS);
    let before = resident_kib(process).unwrap();
    crowd(&checkgate, 0..ROUND).await;
    let declared = series(&checkgate).await;
    crowd(&checkgate, ROUND..clients).await;
    let grown = resident_kib(process).unwrap().saturating_sub(before);
    println!("{clients} invented clients: {grown} KiB more than after the start");
    assert!(grown <= GROWTH_MAX_KIB, "{clients} clients made it grow by {grown} KiB");
    assert_eq!(series(&checkgate).await, declared, "no series comes from traffic");
    for evicted in ["checkgate_clients_evicted_total", "checkgate_proven_keys_evicted_total"] {
        let count = checkgate.metric(evicted, &[]).await.unwrap();
        assert!(count > 0.0, "{evicted} says that there was no room for everybody");
    }
    let over = checkgate.metric("checkgate_models_over_limit_total", &[]).await.unwrap();
    assert!(over > 0.0, "model names beyond the bound are counted");
}
