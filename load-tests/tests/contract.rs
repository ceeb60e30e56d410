//! `hold: answer`: no byte of an answer that breaks its contract reaches the client, whatever shape it comes in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use checkgate_load_tests::attack::{self, honest_row};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::client::{Client, Reply, post};
use checkgate_load_tests::inference::{answer, infer_path, question};
use checkgate_load_tests::model_server::{Answer, ModelServer, Step, raw_server};
use checkgate_load_tests::{digest, whole, within};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// A price that breaks the contract, and how it is written.
const NEGATIVE: f64 = -12.5;
const WRITTEN: &str = "12.5";

/// One answer of the model behind a contract "at least 0".
struct Held {
    server: ModelServer,
    checkgate: Checkgate,
}

impl Held {
    async fn start(answer: Answer, settings: Value) -> Self {
        let server = ModelServer::always(answer).await.unwrap();
        let mut config = json!({
            "upstream": format!("http://{}", server.address),
            "mode": "enforce",
            "hold": "answer",
            "contract": {"rules": [{"minimum": 0}]},
        });
        lay_over(&mut config, settings);
        let checkgate = Start::configured(config).run().await.unwrap();
        Self { server, checkgate }
    }

    fn client(&self) -> Client {
        self.checkgate.client("127.0.0.1").with("te", "trailers")
    }

    async fn ask(&self) -> Reply {
        attack::ask(&mut self.client(), honest_row(1, 1)).await.unwrap()
    }
}

fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn prices(prices: &[f64]) -> Value {
    answer("pricing", &prices.iter().map(|price| vec![*price]).collect::<Vec<_>>())
}

fn one_negative() -> Answer {
    Answer::value(&prices(&[NEGATIVE]))
}

fn assert_withheld(reply: &Reply, status: StatusCode) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert!(!reply.text().contains(WRITTEN), "the offending price reached the client: {}", reply.text());
    assert!(reply.trailers.is_none(), "trailers of a withheld answer: {:?}", reply.trailers);
    for described in ["etag", "digest", "content-digest", "repr-digest", "content-md5", "content-encoding"] {
        assert_eq!(reply.header(described), "", "{described} describes an answer that was withheld");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negative_price_is_refused() {
    let held = Held::start(one_negative().header("etag", "\"v1\""), json!({})).await;
    assert_withheld(&held.ask().await, StatusCode::UNPROCESSABLE_ENTITY);
    let records =
        held.checkgate.records_with(|record| record["detector"] == "output_contract").await.unwrap();
    let record = &records[0];
    assert_eq!(
        (&record["action"], &record["statistic"], &record["limit"]),
        (&json!("refuse"), &json!(NEGATIVE), &json!(0.0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_answer_passes_byte_for_byte() {
    let clean = Answer::json(
        "{\"outputs\" : [{\"name\":\"output\",\"shape\":[1,1],\"datatype\":\"FP64\", \"data\":[ 1.50e1 ]}]}\n",
    );
    let clean = clean.header("etag", "\"v1\"");
    let held = Held::start(clean.clone(), json!({})).await;
    let reply = held.ask().await;
    assert_eq!((reply.status, &reply.body), (StatusCode::OK, &clean.content()));
    assert_eq!(reply.header("etag"), "\"v1\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn clamp_moves_only_the_offending_rows_of_a_batch() {
    let mut batch: Vec<f64> = (0..600).map(|row| 100.0 + f64::from(row)).collect();
    batch[500] = NEGATIVE;
    let described = Answer::value(&prices(&batch))
        .header("etag", "\"v1\"")
        .header("digest", "md5=abc")
        .header("content-md5", "abc");
    let described = described
        .header("content-digest", "sha-256=:abc:")
        .header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let held = Held::start(described, json!({"contract": {"on_violation": "clamp"}})).await;
    let reply = held.ask().await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let mended = reply.json().unwrap()["outputs"][0]["data"].clone();
    batch[500] = 0.0;
    let clamped: Vec<f64> = mended.as_array().unwrap().iter().map(|price| price.as_f64().unwrap()).collect();
    assert_eq!(clamped, batch, "row 500 is clamped and no other row is touched");
    assert_eq!(reply.header("content-length"), reply.body.len().to_string());
    for stale in ["etag", "digest", "content-digest", "content-md5", "last-modified"] {
        assert_eq!(reply.header(stale), "", "{stale} describes the answer that was changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_500_of_a_batch_is_refused() {
    let mut batch = vec![100.0; 600];
    batch[500] = NEGATIVE;
    let held = Held::start(Answer::value(&prices(&batch)), json!({})).await;
    assert_withheld(&held.ask().await, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_stands_in_for_the_row_or_for_the_whole_answer() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content, expected) in [
        ("row.json", json!(250), json!([100.0, 250, 300.0])),
        (
            "whole.json",
            json!({"outputs": [{"name": "output", "data": ["ask an agent"]}]}),
            json!(["ask an agent"]),
        ),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, content.to_string()).unwrap();
        let settings = json!({"contract": {"on_violation": {"fallback": file}}});
        let held = Held::start(Answer::value(&prices(&[100.0, NEGATIVE, 300.0])), settings).await;
        let reply = held.ask().await;
        assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.text());
        assert_eq!(reply.json().unwrap()["outputs"][0]["data"], expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_compressed_against_the_request_is_refused() {
    let held = Held::start(one_negative().gzip(), json!({})).await;
    let mut client = held.client().with("accept-encoding", "gzip, br");
    let reply = attack::ask(&mut client, honest_row(1, 1)).await.unwrap();
    assert_withheld(&reply, StatusCode::BAD_GATEWAY);
    let (_, _, asked) = held.server.heads().remove(0);
    let encodings: Vec<_> = asked.get_all("accept-encoding").iter().collect();
    assert_eq!(encodings, ["identity"], "what the upstream was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_passes_where_the_operator_says_so() {
    let oversized = Answer::value(&prices(&vec![100.0; 1000]));
    let cases = [
        ("encoding", Answer::value(&prices(&[100.0])).gzip(), json!({})),
        ("unparsable", Answer::json("{\"outputs\": [{\"data\": [1,"), json!({})),
        (
            "media type",
            Answer::whole("<price>1</price>").header("content-type", "application/xml"),
            json!({}),
        ),
        ("size", oversized, json!({"limits": {"hold_bytes": "1KiB"}})),
    ];
    for (name, answer, settings) in cases {
        let content = answer.content();
        let held = Held::start(answer.clone(), settings.clone()).await;
        assert_withheld(&held.ask().await, StatusCode::BAD_GATEWAY);
        let mut settings = settings;
        lay_over(&mut settings, json!({"contract": {"on_error": "pass"}}));
        let reply = Held::start(answer, settings).await.ask().await;
        assert_eq!((reply.status, &reply.body), (StatusCode::OK, &content), "{name} with on_error: pass");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_32_mebibytes_is_judged_or_refused_and_never_leaks() {
    let row = "100.0,".repeat((32 << 20) / 6);
    let text = |last: &str| {
        let rows = row.len() / 6 + 1;
        format!(
            "{{\"outputs\":[{{\"name\":\"o\",\"datatype\":\"FP64\",\"shape\":[{rows},1],\"data\":[{row}{last}]}}]}}"
        )
    };
    let small = Held::start(Answer::json(text("-12.5")), json!({})).await;
    assert_withheld(&small.ask().await, StatusCode::BAD_GATEWAY);
    let large = json!({"limits": {"hold_bytes": "64MiB"}});
    let held = Held::start(Answer::json(text("-12.5")), large.clone()).await;
    assert_withheld(&held.ask().await, StatusCode::UNPROCESSABLE_ENTITY);
    let clean = text("12.0");
    let reply = Held::start(Answer::json(clean.clone()), large).await.ask().await;
    assert_eq!((reply.status, digest(&reply.body)), (StatusCode::OK, digest(clean.as_bytes())));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_bad_number_passes() {
    for number in ["NaN", "-Infinity", "Infinity", "-1e999", "1e999", "-0.0001", "-1e-3", "\"NaN\""] {
        let text = format!(
            "{{\"outputs\":[{{\"name\":\"o\",\"datatype\":\"FP64\",\"shape\":[2],\"data\":[1.0,{number}]}}]}}"
        );
        let held = Held::start(Answer::json(text), json!({})).await;
        let reply = held.ask().await;
        assert!(
            reply.status == 422 || reply.status == 502,
            "{number} gave {}: {}",
            reply.status,
            reply.text()
        );
        assert!(!reply.text().contains(number), "{number} reached the client: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_cut_between_chunks_is_judged_whole() {
    let content = one_negative().content();
    let at = content.windows(WRITTEN.len()).position(|window| window == WRITTEN.as_bytes()).unwrap();
    // Before the sign, after it, and inside of the digits.
    for offset in at - 1..at + WRITTEN.len() {
        let held = Held::start(one_negative().cut_at(&[offset, offset + 1]), json!({})).await;
        assert_withheld(&held.ask().await, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_pass_at_once() {
    for (method, status) in [
        (Method::HEAD, StatusCode::OK),
        (Method::POST, StatusCode::NO_CONTENT),
        (Method::GET, StatusCode::NOT_MODIFIED),
    ] {
        let mut bodiless = Answer::whole("").status(status).header("etag", "\"v1\"");
        if method == Method::HEAD {
            bodiless = bodiless.header("content-length", "1234").header("content-type", "application/json");
        }
        let held = Held::start(bodiless, json!({})).await;
        let mut client = held.client();
        let reply = client.call(method.clone(), &infer_path("pricing")).await.unwrap();
        assert_eq!(
            (reply.status, reply.body.len(), reply.header("etag")),
            (status, 0, "\"v1\""),
            "{method} {status}"
        );
        assert_eq!(
            client.call(method, &infer_path("pricing")).await.unwrap().status,
            status,
            "the connection lives on"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_an_answer_is_refused() {
    let part = one_negative().status(StatusCode::PARTIAL_CONTENT).header("content-range", "bytes 0-99/200");
    let held = Held::start(part, json!({})).await;
    let request = Request::post(infer_path("pricing"))
        .header("range", "bytes=0-99")
        .header("content-type", "application/json");
    let request = request.body(whole(question(&[honest_row(1, 1)]).to_string())).unwrap();
    assert_withheld(&held.client().send(request).await.unwrap(), StatusCode::BAD_GATEWAY);
}

/// An answer with a trailer that comes whether or not anybody asked for trailers.
const WITH_TRAILER: [&[u8]; 2] = [
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntrailer: x-price\r\ntransfer-encoding: chunked\r\n\r\n\
      46\r\n{\"outputs\":[{\"name\":\"o\",\"datatype\":\"FP64\",\"shape\":[1],\"data\":[12.5]}]}\r\n0\r\nx-price: 12.5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntrailer: x-price\r\ntransfer-encoding: chunked\r\n\r\n\
      47\r\n{\"outputs\":[{\"name\":\"o\",\"datatype\":\"FP64\",\"shape\":[1],\"data\":[-12.5]}]}\r\n0\r\nx-price: -12.5\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn trailers_go_where_their_answer_goes() {
    for (answer, status) in WITH_TRAILER.into_iter().zip([StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY]) {
        let (address, accepting) = raw_server(answer).await.unwrap();
        let config = json!({
            "upstream": format!("http://{address}"),
            "mode": "enforce",
            "hold": "answer",
            "contract": {"rules": [{"minimum": 0}]},
        });
        let checkgate = Start::configured(config).run().await.unwrap();
        let mut client = checkgate.client("127.0.0.1").with("te", "trailers");
        let reply = attack::ask(&mut client, honest_row(1, 1)).await.unwrap();
        if status == StatusCode::OK {
            assert_eq!(reply.status, status, "{}", reply.text());
            assert_eq!(reply.json().unwrap()["outputs"][0]["data"], json!([12.5]));
            assert_eq!(reply.trailers.unwrap()["x-price"], "12.5", "the trailer of a clean answer");
        } else {
            assert_withheld(&reply, status);
        }
        accepting.abort();
    }
}

fn event(price: f64) -> String {
    prices(&[price]).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_judged_one_by_one() {
    let gate = Arc::new(Semaphore::new(0));
    let data = |price: f64| Bytes::from(format!("data: {}\n\n", event(price)));
    let steps = vec![
        Step::Send(data(100.0)),
        Step::Await(Arc::clone(&gate)),
        Step::Send(data(NEGATIVE)),
        Step::Send(data(300.0)),
    ];
    let held = Held::start(Answer::events([]).steps(steps), json!({})).await;
    let request = post("/v2/models/pricing/infer", whole(question(&[honest_row(1, 1)]).to_string())).unwrap();
    let mut client = held.client();
    let response = within("the head", client.open(request)).await.unwrap().unwrap();
    let mut body = response.into_body();
    let first = within("the first event", body.frame()).await.unwrap().unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, data(100.0), "a clean event passes before the next one is sent");
    gate.add_permits(1);
    // Whether the stream then ends in an event or breaks off is the proxy's choice.
    let rest =
        within("the end", body.collect()).await.unwrap().map(|rest| rest.to_bytes()).unwrap_or_default();
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains(WRITTEN), "the offending event reached the client: {rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_event_that_breaks_the_contract_gives_no_event_at_all() {
    let cut = Answer::events([event(NEGATIVE).as_str()]);
    let offset = cut.content().len() / 2;
    for answer in [cut.clone(), cut.cut_at(&[offset])] {
        let held = Held::start(answer, json!({})).await;
        assert_withheld(&held.ask().await, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_beyond_the_hold_deadline_is_refused_before_it_ends() {
    let never = Arc::new(Semaphore::new(0));
    let content = Answer::value(&prices(&[100.0])).content();
    let steps = vec![
        Step::Send(content.slice(..10)),
        Step::Await(Arc::clone(&never)),
        Step::Send(content.slice(10..)),
    ];
    let held =
        Held::start(Answer::json("").steps(steps), json!({"timeouts": {"hold_answer": "200ms"}})).await;
    assert_withheld(&held.ask().await, StatusCode::BAD_GATEWAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_beyond_the_hold_deadline_passes_where_the_operator_says_so() {
    let content = Answer::value(&prices(&[100.0])).content();
    let late = vec![
        Step::Send(content.slice(..10)),
        Step::Pause(Duration::from_millis(600)),
        Step::Send(content.slice(10..)),
    ];
    let settings = json!({"timeouts": {"hold_answer": "200ms"}, "contract": {"on_error": "pass"}});
    let reply = Held::start(Answer::json("").steps(late), settings).await.ask().await;
    assert_eq!((reply.status, &reply.body), (StatusCode::OK, &content));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_model_passes_as_it_came() {
    for status in [StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE] {
        let error = Answer::json("{\"error\": \"rows of width 9\"}").status(status);
        let reply = Held::start(error.clone(), json!({})).await.ask().await;
        assert_eq!((reply.status, &reply.body), (status, &error.content()));
    }
}
