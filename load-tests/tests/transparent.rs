//! The request flows: bodies come out as they went in, as they come, and a failing upstream gives nothing away.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use checkgate_load_tests::attack::{self, sweep, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, Start, free_address};
use checkgate_load_tests::client::{Client, Reply, post};
use checkgate_load_tests::inference::{answer, infer_path, question};
use checkgate_load_tests::model_server::{Answer, ModelServer, Step, raw_server};
use checkgate_load_tests::{Body, digest, until, whole, within};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use serde_json::json;
use tokio::sync::Semaphore;

const MEBIBYTE: usize = 1 << 20;

/// A request body, and how it goes out.
#[derive(Clone, Debug)]
struct Sent {
    pieces: Vec<Vec<u8>>,
    with_length: bool,
    path: &'static str,
    kind: &'static str,
}

impl Sent {
    fn content(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    fn request(&self) -> anyhow::Result<Request<Body>> {
        let body = if self.with_length { whole(self.content()) } else { chunked(self.pieces.clone()) };
        Ok(Request::post(self.path).header("content-type", self.kind).body(body)?)
    }
}

fn chunked(pieces: Vec<Vec<u8>>) -> Body {
    let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        for piece in pieces {
            if sender.send_data(piece.into()).await.is_err() {
                return;
            }
        }
    });
    channel.boxed_unsync()
}

/// Texts that a reader who is not careful takes for framing, for another request, or for the end.
const ADVERSARIAL: [&[u8]; 10] = [
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"GET /v1/decisions HTTP/1.1\r\nhost: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"\xef\xbb\xbf{\"inputs\": [NaN, Infinity, 1e999]}",
    b"\xff\xfe{\0}\0",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"inputs\": 1, \"inputs\": 2}",
    b"data: {}\n\ndata: \xc3\x28\n\n",
];

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..300),
        2 => prop::sample::select(ADVERSARIAL.to_vec()).prop_map(<[u8]>::to_vec),
        1 => (1usize..200_000, any::<u8>()).prop_map(|(length, seed)| filler(length, seed)),
    ]
}

/// Cheap bytes that do not repeat soon.
fn filler(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed).wrapping_mul(0x9e37_79b9) | 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(step).collect()
}

fn sent() -> impl Strategy<Value = Sent> {
    let paths = vec!["/v2/models/pricing/infer", "/invocations", "/anything/else?a=b"];
    let kinds = vec!["application/json", "application/octet-stream", "text/event-stream", "text/csv"];
    let pieces = prop::collection::vec(piece(), 0..12);
    (pieces, any::<bool>(), prop::sample::select(paths), prop::sample::select(kinds))
        .prop_map(|(pieces, with_length, path, kind)| Sent { pieces, with_length, path, kind })
}

async fn echoed(client: &mut Client, sent: &Sent) -> anyhow::Result<Reply> {
    within("an echo", client.send(sent.request()?)).await?
}

async fn check_echo(client: &mut Client, sent: &Sent) -> Result<(), String> {
    let reply = echoed(client, sent).await.map_err(|error| format!("{error:#}"))?;
    let (out, back) = (digest(&sent.content()), digest(&reply.body));
    if reply.status == 200 && out == back {
        Ok(())
    } else {
        Err(format!("{}: {out} went out, {back} came", reply.status))
    }
}

#[test]
fn bodies_come_out_as_they_went_in() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(ModelServer::echo()).unwrap();
    let checkgate = runtime.block_on(Start::in_front_of(server.address).run()).unwrap();
    let client = std::cell::RefCell::new(checkgate.client("127.0.0.1"));
    // PROPTEST_CASES raises the number of cases for the long run.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&sent(), |sent| {
        let checked = runtime.block_on(check_echo(&mut client.borrow_mut(), &sent));
        checked.map_err(TestCaseError::fail)
    });
    if let Err(TestError::Fail(reason, smallest)) = result {
        let lengths: Vec<_> = smallest.pieces.iter().map(Vec::len).collect();
        panic!("{reason}; {} to {}, pieces of {lengths:?} bytes", smallest.kind, smallest.path);
    }
    assert!(
        client.borrow().connections() <= 1,
        "{} connections for keep-alive requests",
        client.borrow().connections()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_come_out_as_they_went_in() {
    let server = ModelServer::echo().await.unwrap();
    let checkgate = Start::in_front_of(server.address).run().await.unwrap();
    let mut client = checkgate.client("127.0.0.1");
    for (length, pieces, with_length) in [
        (65_535, 1, true),
        (65_537, 3, false),
        (MEBIBYTE, 7, false),
        (32 * MEBIBYTE, 1, true),
        (32 * MEBIBYTE, 501, false),
    ] {
        let content = filler(length, 7);
        let pieces = content.chunks(length.div_ceil(pieces)).map(<[u8]>::to_vec).collect();
        let sent = Sent { pieces, with_length, path: "/v2/models/pricing/infer", kind: "application/json" };
        check_echo(&mut client, &sent).await.unwrap();
    }
}

async fn data(body: &mut Incoming) -> Option<Bytes> {
    within("the next bytes of the answer", body.frame()).await.unwrap()?.unwrap().into_data().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bytes_of_an_answer_arrive_before_the_upstream_has_finished() {
    for length in [None, Some("10")] {
        let gate = Arc::new(Semaphore::new(0));
        let mut first = Answer::json("").steps(vec![
            Step::Send("first".into()),
            Step::Await(Arc::clone(&gate)),
            Step::Send("later".into()),
        ]);
        if let Some(length) = length {
            first = first.header("content-length", length);
        }
        let server = ModelServer::always(first).await.unwrap();
        let checkgate = Start::in_front_of(server.address).with(&["--mode", "enforce"]).run().await.unwrap();
        let request = post(&infer_path("pricing"), whole("{}")).unwrap();
        let mut client = checkgate.client("127.0.0.1");
        let response = within("the head", client.open(request)).await.unwrap().unwrap();
        let mut body = response.into_body();
        assert_eq!(data(&mut body).await.unwrap(), "first", "the first bytes stand alone, length {length:?}");
        gate.add_permits(1);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "later", "the rest follows, length {length:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_body_flows_on_before_it_is_complete() {
    let server = ModelServer::always(Answer::json("{}")).await.unwrap();
    let checkgate = Start::in_front_of(server.address).run().await.unwrap();
    let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(1);
    let request = post(&infer_path("pricing"), channel.boxed_unsync()).unwrap();
    let mut client = checkgate.client("127.0.0.1");
    let asking = tokio::spawn(async move { client.send(request).await });
    sender.send_data("{\"inputs\"".into()).await.unwrap();
    until("the first bytes of the question at the upstream", || server.bytes() == 9).await.unwrap();
    sender.send_data(": []}".into()).await.unwrap();
    drop(sender);
    let reply = within("the answer", asking).await.unwrap().unwrap().unwrap();
    assert_eq!((reply.status, server.bytes()), (StatusCode::OK, 14));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_pass_one_by_one() {
    let gate = Arc::new(Semaphore::new(0));
    let events = ["one", "two", "three"].map(|name| format!("data: {name}\n\n"));
    let steps =
        events.iter().flat_map(|event| [Step::Send(event.clone().into()), Step::Await(Arc::clone(&gate))]);
    let answer = Answer::events([]).steps(steps.collect());
    let server = ModelServer::always(answer).await.unwrap();
    let checkgate = Start::in_front_of(server.address).run().await.unwrap();
    let mut client = checkgate.client("127.0.0.1");
    let response = client.open(post("/v2/models/chat/generate_stream", whole("{}")).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for event in events {
        assert_eq!(data(&mut body).await.unwrap(), event, "each event comes before the next is sent");
        gate.add_permits(1);
    }
    assert!(data(&mut body).await.is_none(), "nothing follows the last event");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_requests() {
    let server = ModelServer::always(Answer::json("{}")).await.unwrap();
    let checkgate = Start::in_front_of(server.address).run().await.unwrap();
    let mut client = checkgate.client("127.0.0.1");
    for number in 0..50 {
        assert_eq!(client.get("/v2/health/ready").await.unwrap().status, 200, "request {number}");
    }
    assert_eq!(client.connections(), 1, "connections of the client");
    assert_eq!(server.requests(), 50, "requests at the upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_its_answer_is_counted_and_forgotten() {
    let never = Arc::new(Semaphore::new(0));
    let server = ModelServer::always(Answer::json("{}").once(&never)).await.unwrap();
    let config = json!({"upstream": format!("http://{}", server.address), "models": [{"name": "pricing"}]});
    let checkgate = Start::configured(config).run().await.unwrap();
    let asked = question(&[sweep_row(0)]).to_string();
    let mut client = checkgate.client("127.0.3.2");
    let asking = tokio::spawn(async move { client.post(&infer_path("pricing"), asked).await.map(drop) });
    until("the question at the upstream", || server.requests() == 1).await.unwrap();
    asking.abort();
    let mut left = 0.0;
    for _ in 0..100 {
        left = checkgate.metric("checkgate_requests_total", &["code_class=\"other\""]).await.unwrap();
        if left > 0.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left, 1.0, "requests whose clients left");
}

/// A price that breaks every contract of the tests.
const NEGATIVE: f64 = -12.5;

async fn observing(hold: &str) -> (ModelServer, Checkgate) {
    let server =
        ModelServer::always(Answer::value(&answer("pricing", &[vec![NEGATIVE]])).header("etag", "\"v1\""))
            .await;
    let server = server.unwrap();
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "observe",
        "hold": hold,
        "clients": {"identity": "ip"},
        "contract": {"rules": [{"minimum": 0}], "on_violation": "clamp"},
    });
    (server, Start::configured(config).run().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_changes_no_byte_and_no_status() {
    for hold in ["none", "answer", "question"] {
        let (server, checkgate) = observing(hold).await;
        let asked = question(&[sweep_row(0)]).to_string();
        let direct = Client::to(server.address).post(&infer_path("pricing"), asked.clone()).await.unwrap();
        let mut attacker = checkgate.client("127.0.3.1");
        let swept = sweep(&mut attacker, 60).await.unwrap();
        assert_eq!(swept.answered, 60, "hold {hold}: an attacker is served in observe");
        checkgate
            .records_with(|record| record["action"] == "block" && record["kind"] == "decision")
            .await
            .unwrap();
        let reply = attacker.post(&infer_path("pricing"), asked).await.unwrap();
        assert_eq!(
            (reply.status, &reply.body),
            (direct.status, &direct.body),
            "hold {hold}: status and body"
        );
        assert_eq!(reply.header("etag"), "\"v1\"", "hold {hold}: the entity tag stays");
        let records = checkgate.records_with(|record| record["detector"] == "output_contract").await.unwrap();
        assert!(records.iter().all(|record| record["mode"] == "observe"), "hold {hold}: {records:#?}");
    }
}

fn assert_names_nothing(reply: &Reply, upstream: &str) {
    assert_eq!(reply.header("content-type"), "application/problem+json", "{}", reply.text());
    let problem = reply.json().unwrap();
    assert_eq!(problem["status"], reply.status.as_u16(), "{problem}");
    let port = upstream.rsplit(':').next().unwrap_or(upstream);
    for internal in [port, "127.0.0.1", "hyper", "pingora", "os error", "onnection refused"] {
        assert!(!reply.text().contains(internal), "{internal:?} is named in {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_gives_502_without_internals() {
    let nobody = free_address().unwrap();
    let checkgate = Start::in_front_of(nobody).run().await.unwrap();
    let reply = attack::ask(&mut checkgate.client("127.0.0.1"), sweep_row(0)).await.unwrap();
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert_names_nothing(&reply, &nobody.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_silent_gives_504_without_internals() {
    let server = ModelServer::always(Answer::json("{}").once(&Arc::new(Semaphore::new(0)))).await.unwrap();
    let config =
        json!({"upstream": format!("http://{}", server.address), "timeouts": {"first_byte": "200ms"}});
    let checkgate = Start::configured(config).run().await.unwrap();
    let reply = attack::ask(&mut checkgate.client("127.0.0.1"), sweep_row(0)).await.unwrap();
    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
    assert_names_nothing(&reply, &server.address.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_speaks_no_http_gives_502_without_internals() {
    for garbage in [b"\0\x01\x02 not http\r\n\r\n".as_slice(), b"", b"HTTP/1.1 200 OK\r\ncontent-len"] {
        let (address, accepting) = raw_server(garbage).await.unwrap();
        let checkgate = Start::in_front_of(address).run().await.unwrap();
        let reply = attack::ask(&mut checkgate.client("127.0.0.1"), sweep_row(0)).await.unwrap();
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{:?}", String::from_utf8_lossy(garbage));
        assert_names_nothing(&reply, &address.to_string());
        accepting.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_passed_off_as_whole() {
    let broken = Answer::json("").steps(vec![
        Step::Send("{\"outputs\"".into()),
        Step::Pause(Duration::from_millis(20)),
        Step::Break,
    ]);
    for answer in [broken.clone(), broken.header("content-length", "500")] {
        let server = ModelServer::always(answer).await.unwrap();
        let checkgate = Start::in_front_of(server.address).run().await.unwrap();
        let reply = attack::ask(&mut checkgate.client("127.0.0.1"), sweep_row(0)).await;
        assert!(
            reply.as_ref().map_or(true, |reply| reply.status == 502),
            "a broken answer came out as {reply:?}"
        );
    }
}
