//! What outlives a reload and a stop: windows, decisions, and the requests that are open.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::net::SocketAddr;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use checkgate_load_tests::attack::{ask, honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, PATIENCE, Start, replay};
use checkgate_load_tests::client::{Client, post};
use checkgate_load_tests::inference::{answer, infer_path, question};
use checkgate_load_tests::model_server::{Answer, ModelServer, Step};
use checkgate_load_tests::{until, whole, within};
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// More rows than any detector of sweeps needs.
const MANY: u32 = 100;
/// Rows of a sweep that no detector has recognised yet.
const HALF: u32 = 6;

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

/// An enforcing configuration; `more` is laid over it.
fn config(server: &ModelServer, more: Value) -> String {
    let mut config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "brake": {"share_of_clients": 1},
        "models": [{"name": "pricing"}],
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config.to_string()
}

async fn enforcing(server: &ModelServer) -> Checkgate {
    configured(&config(server, json!({}))).run().await.unwrap()
}

fn configured(text: &str) -> Start {
    Start::configured(serde_json::from_str(text).unwrap())
}

/// Sends the rows of a sweep one by one until one is refused; says whether one was.
async fn sweep_rows(checkgate: &Checkgate, source: &str, rows: std::ops::Range<u32>) -> bool {
    let mut client = checkgate.client(source);
    for row in rows {
        if ask(&mut client, sweep_row(row)).await.unwrap().status == 403 {
            return true;
        }
        // The lane judges on a thread of its own, which a busy machine may keep waiting.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

/// The rows on which the decision to block `client` rests: where it stood in its sweep when it was decided upon.
async fn rows_of_block(checkgate: &Checkgate, client: &str) -> Value {
    let is_it = |record: &Value| record["kind"] == "decision" && record["client"] == client;
    let records = checkgate.records_with(is_it).await.unwrap();
    records.iter().find(|record| is_it(record)).unwrap()["window"]["rows"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_the_old_settings_and_says_why() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    let success = || checkgate.metric("checkgate_config_reload_success", &[]);
    assert_eq!(success().await.unwrap(), 1.0, "at the start");
    let told = checkgate.reload("upstream: [nothing\n").await.unwrap();
    assert!(told["error"].as_str().is_some_and(|error| error.contains("checkgate.yaml")), "{told:#}");
    assert_eq!(success().await.unwrap(), 0.0, "after a broken file");
    assert!(checkgate.log().contains("was not reloaded"), "{}", checkgate.log());
    let wrong = config(&server, json!({"models": [{"name": "pricing", "reference": "missing.jsonl"}]}));
    let told = checkgate.reload(&wrong).await.unwrap();
    assert!(told["error"].as_str().is_some_and(|error| error.contains("missing.jsonl")), "{told:#}");
    assert_eq!(ask(&mut checkgate.client("127.0.30.1"), honest_row(1, 1)).await.unwrap().status, 200);
    let told = checkgate.reload(&config(&server, json!({}))).await.unwrap();
    assert_eq!((&told["error"], &told["needs_restart"]), (&Value::Null, &json!([])), "{told:#}");
    assert_eq!(success().await.unwrap(), 1.0, "after the mend");
    assert_eq!(checkgate.metric("checkgate_config_reloads_total", &[]).await.unwrap(), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_is_read_again_and_so_is_what_it_names() {
    let server = ModelServer::always(Answer::value(&answer("pricing", &[vec![-1.0]]))).await.unwrap();
    let contract = json!({"rules": [{"minimum": 0}], "on_violation": {"fallback": "price.json"}});
    let guarded = json!({"models": [{"name": "pricing", "hold": "answer", "contract": contract}]});
    let checkgate = enforcing(&server).await;
    let price = checkgate.config_file().with_file_name("price.json");
    checkgate.configure(&config(&server, guarded)).unwrap();
    let told = checkgate.config_with("the missing fallback", |config| !config["error"].is_null()).await;
    assert!(told.unwrap()["error"].as_str().is_some_and(|error| error.contains("price.json")));
    for stand_in in [250.5, 300.25] {
        std::fs::write(&price, stand_in.to_string()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = ask(&mut checkgate.client("127.0.31.1"), honest_row(2, 1)).await.unwrap();
            if reply.text().contains(&stand_in.to_string()) {
                break;
            }
            assert!(Instant::now() < deadline, "the file's {stand_in} never came: {}", reply.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_named_and_the_rest_applies() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    let told = checkgate.reload(&config(&server, json!({"lanes": 2, "mode": "observe"}))).await.unwrap();
    assert_eq!(told["needs_restart"], json!(["lanes"]), "{told:#}");
    let status = checkgate.ask("/v1/status").await.unwrap().json().unwrap();
    assert_eq!(status["models"][0]["mode"], "observe", "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_model_is_served_measured_and_watched_after_a_reload() {
    let server = ModelServer::answering(|question| {
        let model = checkgate_load_tests::inference::model_of(&question.path).to_owned();
        Answer::value(&answer(&model, &[vec![100.0]]))
    });
    let server = server.await.unwrap();
    let checkgate = enforcing(&server).await;
    let models = json!({"models": [{"name": "renewals"}, {"name": "pricing"}]});
    checkgate.reload(&config(&server, models)).await.unwrap();
    let mut client = checkgate.client("127.0.32.1");
    let asked = client.post(&infer_path("renewals"), question(&[sweep_row(1)]).to_string()).await.unwrap();
    assert_eq!(asked.status, 200);
    let rows = async |model: &str| checkgate.metric("checkgate_rows_total", &[model]).await;
    let deadline = Instant::now() + PATIENCE;
    while rows(r#"model="renewals""#).await.unwrap() < 1.0 {
        assert!(Instant::now() < deadline, "the new model's rows never counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rows(r#"model="pricing""#).await.unwrap(), 0.0, "they count for no other model");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_is_blocked_at_the_same_row_across_reloads_and_the_block_holds() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    assert!(sweep_rows(&checkgate, "127.0.33.1", 0..MANY).await, "a sweep is blocked");
    assert!(!sweep_rows(&checkgate, "127.0.33.2", 0..HALF).await, "half of it is not");
    let more = json!({"clients": {"identity": "ip", "never_block": ["192.0.2.0/24"]}});
    checkgate.reload(&config(&server, more)).await.unwrap();
    checkgate.reload("not: [yaml\n").await.unwrap();
    assert!(sweep_rows(&checkgate, "127.0.33.2", HALF..MANY).await, "the other half is");
    assert_eq!(
        rows_of_block(&checkgate, "127.0.33.2").await,
        rows_of_block(&checkgate, "127.0.33.1").await,
        "rows until the block, with and without reloads"
    );
    assert_eq!(ask(&mut checkgate.client("127.0.33.1"), honest_row(3, 1)).await.unwrap().status, 403);
    let spared = json!({"clients": {"identity": "ip", "never_block": ["127.0.33.1/32"]}});
    checkgate.reload(&config(&server, spared)).await.unwrap();
    assert_eq!(ask(&mut checkgate.client("127.0.33.1"), honest_row(3, 2)).await.unwrap().status, 200);
    assert_eq!(ask(&mut checkgate.client("127.0.33.2"), honest_row(3, 3)).await.unwrap().status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_across_reloads_replays_byte_for_byte() {
    let server = pricing().await;
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording");
    let start = configured(&config(&server, json!({}))).with(&["--record", &recording.display().to_string()]);
    let mut checkgate = start.run().await.unwrap();
    let variants = [
        json!({"mode": "observe"}),
        json!({"models": [{"name": "renewals"}, {"name": "pricing", "block_for": "5m"}]}),
        json!({"brake": {"blocks_per_minute": 1, "share_of_clients": 1}}),
        json!({"models": [{"name": "pricing", "detectors": {"one_field_sweep": {"values": 5}}}]}),
    ];
    for (number, variant) in variants.into_iter().enumerate() {
        let mut sweeps = JoinSet::new();
        for client in 0..4 {
            let mut client = checkgate.client(&format!("127.0.34.{}", 10 * number + client));
            sweeps.spawn(async move {
                for row in 0..30 {
                    ask(&mut client, sweep_row(row)).await.unwrap();
                }
            });
        }
        // The reload comes amid the sweeps.
        let told = checkgate.reload(&config(&server, variant)).await.unwrap();
        assert_eq!(told["error"], Value::Null, "{told:#}");
        sweeps.join_all().await;
    }
    checkgate.stop().await.unwrap();
    let live = checkgate.findings();
    assert!(live.lines().count() > 16, "sweeps are found in every phase:\n{live}");
    let replayed = replay(&recording, &[]).unwrap();
    for (number, (live, replayed)) in live.lines().zip(replayed.lines()).enumerate() {
        assert_eq!(live, replayed, "line {}", number + 1);
    }
    assert_eq!(live.lines().count(), replayed.lines().count());
}

/// Requests at a steady rate, each on its own or a kept connection, and what became of them.
struct Traffic {
    failed: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    clients: JoinSet<()>,
    last: Arc<std::sync::Mutex<String>>,
}

impl Traffic {
    /// `clients` clients, each with one request every `pause`.
    fn start(checkgate: &Checkgate, clients: u32, pause: Duration) -> Self {
        let mut traffic = Self {
            failed: Arc::default(),
            answered: Arc::default(),
            ends: Arc::default(),
            clients: JoinSet::new(),
            last: Arc::default(),
        };
        for number in 0..clients {
            let client = checkgate.client(&format!("127.0.35.{}", number + 1));
            let (failed, answered, ends) =
                (Arc::clone(&traffic.failed), Arc::clone(&traffic.answered), Arc::clone(&traffic.ends));
            let last = Arc::clone(&traffic.last);
            traffic.clients.spawn(async move {
                let reply = |error: String| *last.lock().unwrap() = error;
                honest(client, number, pause, (&failed, &answered, &ends), reply).await;
            });
        }
        traffic
    }

    /// Ends it: how many requests were answered and how many failed, with what the last failure said.
    async fn end(self) -> (usize, usize, String) {
        self.ends.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
        let last = self.last.lock().unwrap().clone();
        (self.answered.load(Ordering::SeqCst), self.failed.load(Ordering::SeqCst), last)
    }
}

async fn honest(
    mut client: Client,
    number: u32,
    pause: Duration,
    (failed, answered, ends): (&AtomicUsize, &AtomicUsize, &AtomicBool),
    told: impl Fn(String),
) {
    let mut due = Instant::now() + pause * number / 10;
    for turn in 0.. {
        tokio::time::sleep_until(due).await;
        due += pause;
        if ends.load(Ordering::SeqCst) {
            return;
        }
        match ask(&mut client, honest_row(number, turn)).await {
            Ok(reply) if reply.status == 200 => answered.fetch_add(1, Ordering::SeqCst),
            Ok(reply) => {
                told(format!("{}: {}", reply.status, reply.text()));
                failed.fetch_add(1, Ordering::SeqCst)
            }
            Err(error) => {
                told(format!("{error:#}"));
                failed.fetch_add(1, Ordering::SeqCst)
            }
        };
    }
}

/// A stream of server-sent events, one every 50 ms, that is read while other things happen.
struct Stream {
    ends: Arc<AtomicBool>,
    events: Arc<AtomicUsize>,
    reading: tokio::task::JoinHandle<Result<usize, String>>,
}

/// Answers questions at once, and `generate_stream` with 400 events, 50 ms apart.
async fn streaming() -> ModelServer {
    let events = |number: u32| {
        [Step::Send(format!("data: {number}\n\n").into()), Step::Pause(Duration::from_millis(50))]
    };
    let stream = Answer::events([]).steps((0..400).flat_map(events).collect());
    let plain = Answer::value(&answer("pricing", &[vec![100.0]]));
    ModelServer::answering(move |question| {
        if question.path.ends_with("generate_stream") { stream.clone() } else { plain.clone() }
    })
    .await
    .unwrap()
}

impl Stream {
    async fn open(checkgate: &Checkgate) -> Self {
        let mut client = checkgate.client("127.0.36.1");
        let request = post("/v2/models/chat/generate_stream", whole("{}")).unwrap();
        let mut body = client.open(request).await.unwrap().into_body();
        let (ends, events) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (end, count) = (Arc::clone(&ends), Arc::clone(&events));
        let reading = tokio::spawn(async move {
            // The connection lives as long as its client.
            let _client = client;
            let mut text = String::new();
            while !end.load(Ordering::SeqCst) {
                let frame = body.frame().await.ok_or("the stream ended early")?;
                let data = frame.map_err(|error| error.to_string())?.into_data().unwrap_or_default();
                text.push_str(&String::from_utf8_lossy(&data));
                count.store(text.matches("data: ").count(), Ordering::SeqCst);
            }
            for number in 0..text.matches("\n\n").count() {
                let event = format!("data: {number}\n\n");
                if !text.contains(&event) {
                    return Err(format!("{event:?} is missing"));
                }
            }
            Ok(text.matches("\n\n").count())
        });
        until("the first event", || events.load(Ordering::SeqCst) > 0).await.unwrap();
        Self { ends, events, reading }
    }

    /// Ends it; gives how many events came, all of them in order, or what broke it.
    async fn end(self) -> Result<usize, String> {
        let before = self.events.load(Ordering::SeqCst);
        // It still flows.
        until("another event", || self.events.load(Ordering::SeqCst) > before || self.reading.is_finished())
            .await
            .unwrap();
        self.ends.store(true, Ordering::SeqCst);
        within("the end of the stream", self.reading).await.unwrap().unwrap()
    }
}

async fn reloads_under_load(reloads: u32, clients: u32, pause: Duration) {
    let server = streaming().await;
    let unclaimed = json!({"models": [{"name": "pricing"}, {"name": "chat", "path": "/v2/models/chat"}]});
    let text = |turn: u32| {
        let mut more = unclaimed.clone();
        more["timeouts"] = json!({"connect": format!("{}s", 2 + turn % 3)});
        more["clients"] = json!({"identity": "ip", "never_block": [format!("192.0.2.{turn}/32")]});
        config(&server, more)
    };
    let checkgate = configured(&text(0)).run().await.unwrap();
    let began = Instant::now();
    let (traffic, stream) = (Traffic::start(&checkgate, clients, pause), Stream::open(&checkgate).await);
    for turn in 1..=reloads {
        let broken = turn % 2 == 0;
        let written = if broken { "upstream: {".to_owned() } else { text(turn) };
        let told = checkgate.reload(&written).await.unwrap();
        assert_eq!(told["error"].is_null(), !broken, "reload {turn}: {told:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (answered, failed, last) = traffic.end().await;
    assert_eq!(failed, 0, "of {} requests; the last said: {last}", answered + failed);
    let intended = f64::from(clients) * began.elapsed().as_secs_f64() / pause.as_secs_f64();
    assert!(answered as f64 > intended / 2.0, "{answered} of {intended} requests: the rate was not held");
    assert!(stream.end().await.unwrap() > 1, "the event stream stays whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_fail_no_request_and_break_no_stream() {
    reloads_under_load(6, 10, Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: the whole rate"]
async fn twenty_reloads_at_500_requests_a_second_fail_none() {
    reloads_under_load(20, 50, Duration::from_millis(100)).await;
}

async fn hand_overs_under_load(hand_overs: u32, clients: u32, pause: Duration) {
    let server = streaming().await;
    let models = json!({"models": [{"name": "pricing"}, {"name": "chat", "path": "/v2/models/chat"}]});
    let mut checkgate = configured(&config(&server, models)).run().await.unwrap();
    let began = Instant::now();
    let (traffic, stream) = (Traffic::start(&checkgate, clients, pause), Stream::open(&checkgate).await);
    for _ in 0..hand_overs {
        checkgate.hand_over(&[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (answered, failed, last) = traffic.end().await;
    assert_eq!(failed, 0, "of {} requests; the last said: {last}", answered + failed);
    let intended = f64::from(clients) * began.elapsed().as_secs_f64() / pause.as_secs_f64();
    assert!(answered as f64 > intended / 2.0, "{answered} of {intended} requests: the rate was not held");
    assert!(stream.end().await.unwrap() > 1, "the event stream stays whole");
    checkgate.predecessors_ended().await.unwrap();
    assert_eq!(checkgate.metric("checkgate_deciding", &[]).await.unwrap(), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_overs_under_load_fail_no_request_and_break_no_stream() {
    hand_overs_under_load(2, 10, Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: the whole rate"]
async fn five_hand_overs_at_500_requests_a_second_fail_none() {
    hand_overs_under_load(5, 50, Duration::from_millis(100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_is_blocked_at_the_same_row_across_a_hand_over_and_the_block_holds() {
    let server = pricing().await;
    let mut checkgate = enforcing(&server).await;
    assert!(sweep_rows(&checkgate, "127.0.39.1", 0..MANY).await, "a sweep is blocked");
    assert!(!sweep_rows(&checkgate, "127.0.39.2", 0..HALF).await, "half of it is not");
    checkgate.hand_over(&[]).await.unwrap();
    assert_eq!(ask(&mut checkgate.client("127.0.39.1"), honest_row(4, 1)).await.unwrap().status, 403);
    assert!(sweep_rows(&checkgate, "127.0.39.2", HALF..MANY).await, "the other half is");
    assert_eq!(
        rows_of_block(&checkgate, "127.0.39.2").await,
        rows_of_block(&checkgate, "127.0.39.1").await,
        "rows until the block, with and without a hand-over"
    );
    let decisions = checkgate.ask("/v1/decisions").await.unwrap().json().unwrap();
    assert_eq!(decisions["active_total"], 2, "operators see both: {decisions:#}");
    checkgate.predecessors_ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_fails_leaves_the_old_process_serving() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    // The first fails before it calls, the second after it was given the sockets.
    for more in [["--reference", "pricing=missing.jsonl"], ["--listen", &taken]] {
        let mut successor = checkgate.successor(&more).unwrap();
        let status = tokio::task::spawn_blocking(move || successor.wait()).await.unwrap().unwrap();
        assert!(!status.success(), "{more:?} is no start");
        assert_eq!(ask(&mut checkgate.client("127.0.40.1"), honest_row(5, 1)).await.unwrap().status, 200);
    }
    let what = "the failure in the log";
    until(what, || checkgate.log().contains("there was no hand-over, this process goes on")).await.unwrap();
    assert_eq!(checkgate.metric("checkgate_deciding", &[]).await.unwrap(), 1.0);
    assert!(sweep_rows(&checkgate, "127.0.40.2", 0..MANY).await, "and it decides");
}

/// A server that speaks HTTP/2 and answers each call with a message for every permit of `gate`, and with the status
/// behind the last of `messages`.
async fn grpc_server(messages: usize, gate: &Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, gate) = (listener.local_addr().unwrap(), Arc::clone(gate));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let gate = Arc::clone(&gate);
            let service = service_fn(move |_request: Request<Incoming>| {
                let (sender, body) = Channel::<Bytes>::new(1);
                tokio::spawn(send_messages(sender, messages, Arc::clone(&gate)));
                let response = Response::builder().header("content-type", "application/grpc").body(body);
                async move { response }
            });
            let serving = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn send_messages(mut sender: Sender<Bytes>, messages: usize, gate: Arc<Semaphore>) {
    for _ in 0..messages {
        gate.acquire().await.unwrap().forget();
        // One byte of no compression, four of length, and the message.
        sender.send_data(Bytes::from_static(b"\0\0\0\0\x02hi")).await.unwrap();
    }
    let status = [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
    sender.send_trailers(status).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_stream_outlives_reloads_and_hand_overs() {
    let gate = Arc::new(Semaphore::new(1));
    let address = grpc_server(4, &gate).await;
    let text =
        |name: &str| json!({"upstream": format!("http://{address}"), "models": [{"name": name}]}).to_string();
    let mut checkgate = configured(&text("a")).run().await.unwrap();
    let stream = TcpStream::connect(checkgate.address).await.unwrap();
    let mut client = checkgate_load_tests::http2::http2(stream).await.unwrap();
    let request = Request::post("http://models.test/inference.Service/ModelStreamInfer")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(whole("\0\0\0\0\0"));
    let answer = within("the head", client.send_request(request.unwrap())).await.unwrap().unwrap();
    let mut body = answer.into_body();
    for turn in 0..4 {
        let frame = within("a message", body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "\0\0\0\0\x02hi", "message {turn}");
        match turn {
            0 => drop(checkgate.reload(&text("b")).await.unwrap()),
            1 | 2 => checkgate.hand_over(&[]).await.unwrap(),
            _ => {}
        }
        gate.add_permits(1);
    }
    let end = within("the end", body.frame()).await.unwrap().unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(end["grpc-status"], "0", "the status comes with the end");
    checkgate.predecessors_ended().await.unwrap();
}

/// Waits until a successor serves and the old process, which sends its clients away, still owns the decisions: that
/// takes it a second while a connection is kept.
async fn amid_hand_over(checkgate: &Checkgate) -> Child {
    let successor = checkgate.successor(&[]).unwrap();
    until("the successor to serve", || checkgate.log().matches(" ready ").count() == 2).await.unwrap();
    successor
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_dies_before_it_owns_the_decisions_changes_nothing() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    let mut kept = checkgate.client("127.0.41.9");
    assert_eq!(ask(&mut kept, honest_row(6, 1)).await.unwrap().status, 200);
    assert!(!sweep_rows(&checkgate, "127.0.41.1", 0..HALF).await, "half a sweep");
    let mut successor = amid_hand_over(&checkgate).await;
    successor.kill().unwrap();
    successor.wait().unwrap();
    until("the failure in the log", || checkgate.log().contains("this process goes on")).await.unwrap();
    assert_eq!(checkgate.metric("checkgate_deciding", &[]).await.unwrap(), 1.0);
    assert!(sweep_rows(&checkgate, "127.0.41.1", HALF..MANY).await, "the other half is blocked");
    assert!(sweep_rows(&checkgate, "127.0.41.2", 0..MANY).await, "and a whole one");
    assert_eq!(
        rows_of_block(&checkgate, "127.0.41.1").await,
        rows_of_block(&checkgate, "127.0.41.2").await,
        "rows until the block, with and without a hand-over that failed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_while_it_hands_over_leaves_its_blocks_in_force() {
    let server = pricing().await;
    let mut checkgate = enforcing(&server).await;
    assert!(sweep_rows(&checkgate, "127.0.42.1", 0..MANY).await, "a sweep is blocked");
    let mut kept = checkgate.client("127.0.42.9");
    assert_eq!(ask(&mut kept, honest_row(7, 1)).await.unwrap().status, 200);
    let successor = amid_hand_over(&checkgate).await;
    checkgate.signal("KILL").unwrap();
    checkgate.follow(successor);
    let told = "with the blocks in force and without memory";
    until("the loss in the log", || checkgate.log().contains(told)).await.unwrap();
    assert_eq!(ask(&mut checkgate.client("127.0.42.1"), honest_row(7, 2)).await.unwrap().status, 403);
    assert!(sweep_rows(&checkgate, "127.0.42.2", 0..MANY).await, "the successor decides");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_take_over_from_is_an_error() {
    let start = Start::in_front_of("127.0.0.1:1".parse().unwrap()).with(&["--take-over"]);
    let error = start.run().await.expect_err("there is no process to take over from").to_string();
    assert!(error.contains("start without --take-over"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_is_open_and_refuses_what_is_new() {
    let gate = Arc::new(Semaphore::new(0));
    let server = ModelServer::always(Answer::json("{}").once(&gate)).await.unwrap();
    let mut checkgate = Start::in_front_of(server.address).run().await.unwrap();
    let mut client = checkgate.client("127.0.37.1");
    let open = tokio::spawn(async move { client.get("/v2/health/ready").await });
    until("the request at the upstream", || server.requests() == 1).await.unwrap();
    checkgate.signal("TERM").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(checkgate.address).await.is_ok() {
        assert!(Instant::now() < deadline, "new connections are still accepted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(checkgate.ask("/readyz").await.unwrap().status, 503, "operators hear that it is not ready");
    assert!(!open.is_finished(), "the open request was cut");
    gate.add_permits(1);
    let reply = within("the answer", open).await.unwrap().unwrap().unwrap();
    assert_eq!(reply.status, 200, "the open request is answered");
    assert!(checkgate.ended().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_does_not_delay_a_stop() {
    let server = ModelServer::always(Answer::json("{}")).await.unwrap();
    let mut checkgate = Start::in_front_of(server.address).run().await.unwrap();
    let mut kept = checkgate.client("127.0.38.1");
    assert_eq!(kept.get("/v2/health/ready").await.unwrap().status, 200);
    let _silent = TcpStream::connect(checkgate.address).await.unwrap();
    let began = Instant::now();
    assert!(checkgate.stop().await.unwrap().success());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "idle connections held the process for {took:?}");
}
