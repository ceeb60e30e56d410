//! What a sink delivers to another program: everything, at least once, and without holding up a request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use checkgate_load_tests::attack::{ask, honest_row, sweep};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::faulty_server::{Act, FaultyServer, Script, send};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::{until, within};
use serde_json::{Value, json};
use tokio::time::sleep;

/// A secret as Standard Webhooks has them.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

/// What a receiver got: the id that the request's head gives, and the body.
type Got = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver that takes everything.
async fn receiver() -> (ModelServer, Got) {
    let got = Got::default();
    let keeps = Arc::clone(&got);
    let server = ModelServer::answering(move |question| {
        let id = question.headers["webhook-id"].to_str().unwrap().to_owned();
        let signature = question.headers["webhook-signature"].to_str().unwrap();
        assert!(signature.starts_with("v1,"), "{signature}");
        keeps.lock().unwrap().push((id, serde_json::from_slice(&question.body).unwrap()));
        Answer::whole("")
    });
    (server.await.unwrap(), got)
}

fn config(server: &ModelServer, receiver: SocketAddr, folder: &Path) -> Value {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "brake": {"blocks_per_minute": 1_000_000, "share_of_clients": 1},
        "models": [{"name": "pricing"}],
        "sinks": [{
            "name": "hooks",
            "batch": {"wait": "0s"},
            "timeout": "500ms",
            "webhook": {"url": format!("http://{receiver}/hook"), "secrets": [{"file": secret}]},
        }],
    })
}

fn kinds(got: &Got) -> Vec<String> {
    let kind = |(_, body): &(String, Value)| body["type"].as_str().unwrap_or_default().to_owned();
    got.lock().unwrap().iter().map(kind).collect()
}

async fn swept(checkgate: &Checkgate, source: &str) {
    // A busy machine judges some rows after they were answered.
    let swept = sweep(&mut checkgate.client(source), 2000).await.unwrap();
    assert!(swept.refusal.is_some(), "{source} was not blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_hears_of_a_finding_a_decision_and_its_lift() {
    let (server, folder) = (pricing().await, tempfile::tempdir().unwrap());
    let (hooks, got) = receiver().await;
    let mut checkgate = Start::configured(config(&server, hooks.address, folder.path())).run().await.unwrap();
    swept(&checkgate, "127.0.0.7").await;
    let has = |kind: &str| kinds(&got).iter().any(|known| known == kind);
    until("a decision at the receiver", || has("checkgate.finding") && has("checkgate.decision"))
        .await
        .unwrap();
    let id = {
        let got = got.lock().unwrap();
        let (event, decision) = got.iter().find(|(_, body)| body["type"] == "checkgate.decision").unwrap();
        let data = &decision["data"];
        assert_eq!(data["event_id"], **event, "the head and the body name the same event");
        assert_eq!((&data["client"], &data["model"]), (&json!("127.0.0.7"), &json!("pricing")));
        assert_eq!((&data["action"], &data["severity"]), (&json!("block"), &json!("high")));
        assert!(data["record"]["explanation"].as_str().unwrap().contains("127.0.0.7"));
        data["id"].as_str().unwrap().to_owned()
    };
    let (admin, token) = (checkgate.admin.to_string(), checkgate.state.join("admin.token"));
    let token = token.display().to_string();
    let lift = ["decisions", "lift", &id, "--why", "a test", "--admin", &admin, "--token-file", &token];
    checkgate.command(&lift).unwrap();
    until("the lift at the receiver", || has("checkgate.lifted")).await.unwrap();
    {
        let got = got.lock().unwrap();
        let (_, lifted) = got.iter().find(|(_, body)| body["type"] == "checkgate.lifted").unwrap();
        let data = &lifted["data"];
        assert_eq!((&data["client"], &data["detector"]), (&json!("127.0.0.7"), &json!("one_field_sweep")));
        assert_eq!(data["why"], "a test");
        let ids: BTreeSet<_> = got.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), got.len(), "an event came twice although everything was taken");
    }
    let shown = checkgate.ask("/v1/sinks").await.unwrap().json().unwrap();
    let sink = &shown["sinks"][0];
    assert_eq!((&sink["name"], &sink["state"]), (&json!("hooks"), &json!("works")), "{shown}");
    assert!(sink["delivered"].as_u64().unwrap() >= 3, "{shown}");
    checkgate.stop().await.unwrap();
}

/// How a receiver fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Works,
    Hangs,
    ResetsConnections,
    ResetsRequests,
    Closes,
    Busy,
    Fails,
    Redirects,
    Garbage,
    Endless,
    CutShort,
    Unwanted,
}

/// A receiver that fails as it is told, and keeps the ids of what it took.
struct Receiver {
    server: FaultyServer,
    fault: Arc<Mutex<Fault>>,
    taken: Arc<Mutex<Vec<usize>>>,
}

impl Receiver {
    async fn start() -> Self {
        let fault = Arc::new(Mutex::new(Fault::Works));
        let taken = Arc::<Mutex<Vec<usize>>>::default();
        let (accepts, answers, keeps) = (Arc::clone(&fault), Arc::clone(&fault), Arc::clone(&taken));
        let on_accept = move |_| match *accepts.lock().unwrap() {
            Fault::ResetsConnections => vec![Act::Reset],
            _ => Vec::new(),
        };
        let choose = move |request| {
            let fault = *answers.lock().unwrap();
            if fault == Fault::Works {
                keeps.lock().unwrap().push(request);
            }
            Script::after(answer_of(fault))
        };
        let server = FaultyServer::start(on_accept, choose).await.unwrap();
        Self { server, fault, taken }
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// The numbers of entries that it took, in order of arrival; a number that came again stands again.
    fn numbers(&self) -> Vec<u64> {
        let heads = self.server.requests();
        let number = |request: &usize| {
            let id = heads[*request].lines().find_map(|line| line.strip_prefix("webhook-id: "))?;
            // The id is INSTANCE-NUMBER-HASH, and an instance is `cg-` and digits.
            id.split('-').nth(2)?.parse().ok()
        };
        self.taken.lock().unwrap().iter().filter_map(number).collect()
    }
}

fn answer_of(fault: Fault) -> Vec<Act> {
    let answer = |text: &str| vec![send(text.as_bytes())];
    match fault {
        Fault::Works => answer("HTTP/1.1 204 No Content\r\n\r\n"),
        Fault::Hangs => vec![Act::Hang],
        Fault::ResetsConnections | Fault::ResetsRequests => vec![Act::Reset],
        Fault::Closes => vec![Act::Close],
        Fault::Busy => {
            answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        }
        Fault::Fails => answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\noh\x1b[2J"),
        Fault::Redirects => {
            answer("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        }
        Fault::Garbage => answer("\0\u{1}SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        Fault::Unwanted => answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"),
        Fault::Endless => vec![
            send("HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Act::Forever(format!("1000\r\n{}\r\n", "x".repeat(0x1000)), Duration::from_millis(1)),
        ],
        Fault::CutShort => {
            vec![send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"), Act::Close]
        }
    }
}

async fn sink(checkgate: &Checkgate) -> Value {
    checkgate.ask("/v1/sinks").await.unwrap().json().unwrap()["sinks"][0].clone()
}

/// Has something happen that is an entry of the ledger.
async fn happens(checkgate: &Checkgate, number: u32) {
    let network = format!("198.51.{}.{}/32", number / 250, 1 + number % 250);
    let admin = checkgate.admin.to_string();
    checkgate.command(&["never-block", "add", &network, "--why", "a drill", "--admin", &admin]).unwrap();
}

/// Waits until the sink has done with every entry.
async fn delivered(checkgate: &Checkgate) {
    let all = async {
        loop {
            let sink = sink(checkgate).await;
            if sink["state"] == "works" && sink["backlog_entries"] == 0 {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    if let Err(error) = within("the backlog being delivered", all).await {
        panic!("{error:#}: {}\n{}", sink(checkgate).await, checkgate.log());
    }
}

/// The numbers of all entries, as the ledger itself has them.
fn entries(checkgate: &Checkgate) -> Vec<u64> {
    let file = checkgate.state.join("ledger/audit-000001.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let number = |line: &str| serde_json::from_str::<Value>(line).ok()?["entry"].as_u64();
    text.lines().filter_map(number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_to_fail_loses_an_event_or_delays_the_next_one() {
    let (server, folder) = (pricing().await, tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let text = config(&server, receiver.server.address, folder.path());
    let mut checkgate = Start::configured(text.clone()).run().await.unwrap();
    delivered(&checkgate).await;
    let faults = [
        Fault::Hangs,
        Fault::ResetsConnections,
        Fault::ResetsRequests,
        Fault::Closes,
        Fault::Busy,
        Fault::Fails,
        Fault::Garbage,
        Fault::Endless,
        Fault::CutShort,
        Fault::Redirects,
    ];
    for (fault, number) in faults.into_iter().zip(0..) {
        receiver.set(fault);
        let before = receiver.server.connections() + receiver.server.requests().len();
        happens(&checkgate, number).await;
        until("a try", || receiver.server.connections() + receiver.server.requests().len() > before)
            .await
            .unwrap();
        let failed = async {
            while sink(&checkgate).await["state"] == "works" {
                sleep(Duration::from_millis(10)).await;
            }
        };
        within(&format!("{fault:?} being noticed"), failed).await.unwrap();
        let shown = sink(&checkgate).await;
        let error = shown["last_error"].as_str().unwrap().to_owned();
        assert!(!error.contains('\u{1b}'), "{fault:?}: {error:?}");
        assert_eq!(shown["backlog_entries"], 1, "{fault:?}: {shown}");
        receiver.set(Fault::Works);
        if fault == Fault::Redirects {
            assert_eq!(shown["state"], "refused", "{shown}");
            assert!(error.contains("302") && error.contains("redirects are not followed"), "{error}");
            // It would be tried again in half a minute; whoever mends it reads the configuration again.
            checkgate.reload(&text.to_string()).await.unwrap();
        }
        let began = Instant::now();
        delivered(&checkgate).await;
        assert!(began.elapsed() < Duration::from_secs(12), "{fault:?}: it took {:?}", began.elapsed());
    }
    let numbers = receiver.numbers();
    let (taken, held): (BTreeSet<_>, BTreeSet<_>) =
        (numbers.iter().copied().collect(), entries(&checkgate).into_iter().collect());
    let lost: Vec<_> = held.difference(&taken).filter(|number| *number > taken.first().unwrap()).collect();
    assert!(lost.is_empty(), "{lost:?} of {held:?} were lost");
    assert!(numbers.is_sorted(), "events came out of order: {numbers:?}");
    assert_eq!(numbers.len(), taken.len(), "what had been taken came again: {numbers:?}");
    assert_eq!(checkgate.metric("checkgate_sink_lost_total", &[]).await.unwrap(), 0.0);
    assert_eq!(checkgate.metric("checkgate_sink_dead_letters_total", &[]).await.unwrap(), 0.0);
    checkgate.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_not_delayed_while_a_sink_hangs() {
    let (server, folder) = (pricing().await, tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let mut config = config(&server, receiver.server.address, folder.path());
    config["sinks"][0]["timeout"] = json!("10m");
    let mut checkgate = Start::configured(config).run().await.unwrap();
    delivered(&checkgate).await;
    let mut client = checkgate.client("127.0.0.9");
    let mut slowest = [Duration::ZERO; 2];
    for (round, fault) in [Fault::Works, Fault::Hangs].into_iter().enumerate() {
        receiver.set(fault);
        swept(&checkgate, &format!("127.0.1.{}", 1 + round)).await;
        for number in 0..300 {
            let began = Instant::now();
            let reply = ask(&mut client, honest_row(round as u32, number)).await.unwrap();
            assert_eq!(reply.status, 200);
            slowest[round] = slowest[round].max(began.elapsed());
        }
    }
    assert!(sink(&checkgate).await["backlog_entries"].as_u64().unwrap() > 0, "nothing hung");
    assert!(slowest[1] < slowest[0] * 3 + Duration::from_millis(250), "slowest requests: {slowest:?}");
    let began = Instant::now();
    checkgate.stop().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(6), "the stop waited {:?} for the sink", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_mid_delivery_loses_nothing_that_the_ledger_holds() {
    let rounds: u32 = std::env::var("SINK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let (server, folder) = (pricing().await, tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let state = folder.path().join("state");
    let config = config(&server, receiver.server.address, folder.path());
    let mut checkgate = Start::configured(config.clone()).in_state(&state).run().await.unwrap();
    delivered(&checkgate).await;
    for round in 0..rounds {
        for source in 0..6 {
            let source = format!("127.{}.{}.{}", 30 + round / 200, 1 + round % 200, 1 + source);
            sweep(&mut checkgate.client(&source), 40).await.unwrap();
        }
        sleep(Duration::from_millis(u64::from(round * 13 % 60))).await;
        checkgate.signal("KILL").unwrap();
        checkgate.ended().await.unwrap();
        checkgate = Start::configured(config.clone()).in_state(&state).run().await.unwrap();
    }
    delivered(&checkgate).await;
    let numbers = receiver.numbers();
    let taken: BTreeSet<_> = numbers.iter().copied().collect();
    let first = *taken.first().unwrap();
    let lost: Vec<_> = entries(&checkgate)
        .into_iter()
        .filter(|number| *number >= first && !taken.contains(number))
        .collect();
    assert!(lost.is_empty(), "{lost:?} were lost over {rounds} kills");
    assert!(taken.len() as u32 > rounds * 8, "only {} events were made", taken.len());
    let repeats = numbers.len() - taken.len();
    assert!(repeats <= rounds as usize * 2, "{repeats} events came again after {rounds} kills");
    checkgate.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_goes_on_across_reloads_and_a_hand_over() {
    let (server, folder) = (pricing().await, tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let with = config(&server, receiver.server.address, folder.path());
    let mut without = with.clone();
    without["sinks"] = json!([]);
    let mut checkgate = Start::configured(with.clone()).run().await.unwrap();
    delivered(&checkgate).await;
    happens(&checkgate, 1).await;
    delivered(&checkgate).await;
    checkgate.reload(&without.to_string()).await.unwrap();
    happens(&checkgate, 2).await;
    sleep(Duration::from_millis(300)).await;
    let before = receiver.numbers().len();
    checkgate.reload(&with.to_string()).await.unwrap();
    delivered(&checkgate).await;
    assert!(receiver.numbers().len() > before, "what happened without it was forgotten");
    receiver.set(Fault::Hangs);
    happens(&checkgate, 3).await;
    checkgate.hand_over(&[]).await.unwrap();
    receiver.set(Fault::Works);
    happens(&checkgate, 4).await;
    delivered(&checkgate).await;
    checkgate.predecessors_ended().await.unwrap();
    let numbers = receiver.numbers();
    let taken: BTreeSet<_> = numbers.iter().copied().collect();
    let first = *taken.first().unwrap();
    let lost: Vec<_> = entries(&checkgate)
        .into_iter()
        .filter(|number| *number >= first && !taken.contains(number))
        .collect();
    assert!(lost.is_empty(), "{lost:?} were lost; taken were {numbers:?}");
    checkgate.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_step_by_step_what_happened_and_dead_letters_can_be_sent_again() {
    let (server, folder) = (pricing().await, tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let config = config(&server, receiver.server.address, folder.path());
    let mut checkgate = Start::configured(config).run().await.unwrap();
    delivered(&checkgate).await;
    let said = |arguments: &[&str]| {
        let binary = checkgate_load_tests::checkgate::binary().unwrap();
        let file = checkgate.config_file();
        let mut command = std::process::Command::new(binary);
        command.args(arguments).arg("-c").arg(file).arg("--state").arg(&checkgate.state);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (taken, text) = said(&["sinks", "test", "hooks"]);
    assert!(taken, "{text}");
    for step in ["127.0.0.1 is 127.0.0.1", "connected to 127.0.0.1:", "it answers 204", "taken"] {
        assert!(text.contains(step), "{step} is not told: {text}");
    }
    receiver.set(Fault::Redirects);
    let (taken, text) = said(&["sinks", "test", "hooks"]);
    assert!(!taken && text.contains("302") && text.contains("somebody has to mend it"), "{text}");
    receiver.set(Fault::Unwanted);
    happens(&checkgate, 1).await;
    delivered(&checkgate).await;
    assert_eq!(checkgate.metric("checkgate_sink_dead_letters_total", &[]).await.unwrap(), 1.0);
    let before = receiver.numbers();
    let (done, text) = said(&["sinks", "replay", "hooks"]);
    assert!(!done && text.contains("0 dead letters were taken, 1 were not and are kept"), "{text}");
    receiver.set(Fault::Works);
    let (done, text) = said(&["sinks", "replay", "hooks"]);
    assert!(done && text.contains("1 dead letters were taken, 0 were not"), "{text}");
    let numbers = receiver.numbers();
    assert_eq!(
        numbers.last(),
        entries(&checkgate).last(),
        "the letter was not the event: {before:?} {numbers:?}"
    );
    checkgate.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_does_not_delay_another_one() {
    let (server, folder) = (pricing().await, tempfile::tempdir().unwrap());
    let (hangs, works) = (Receiver::start().await, Receiver::start().await);
    hangs.set(Fault::Hangs);
    let mut text = config(&server, hangs.server.address, folder.path());
    let mut second = text["sinks"][0].clone();
    second["name"] = json!("second");
    second["webhook"]["url"] = json!(works.server.url());
    text["sinks"][0]["timeout"] = json!("10m");
    text["sinks"].as_array_mut().unwrap().push(second);
    let mut checkgate = Start::configured(text).run().await.unwrap();
    for number in 0..5 {
        let before = works.numbers().len();
        happens(&checkgate, number).await;
        let began = Instant::now();
        until("the second sink", || works.numbers().len() > before).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "event {number} took {:?}", began.elapsed());
    }
    checkgate.stop().await.unwrap();
}
