//! What is refused before any model is asked, and what a model is told of the client.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;

use bytes::Bytes;
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::client::post;
use checkgate_load_tests::inference::infer_path;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::{Body, until, whole, within};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

async fn start(server: &ModelServer, more: Value) -> Checkgate {
    let mut config = json!({"upstream": format!("http://{}", server.address)});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Start::configured(config).run().await.unwrap()
}

async fn rejected(checkgate: &Checkgate, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    checkgate.metric("checkgate_rejected_total", &[&label]).await.unwrap()
}

#[tokio::test]
async fn beyond_the_bound_on_open_requests_the_answer_is_503_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let server = ModelServer::answering(move |_| Answer::json("{}").once(&held)).await.unwrap();
    let checkgate = start(&server, json!({"limits": {"in_flight": 2}})).await;
    let ask = |source: &'static str| {
        let mut client = checkgate.client(source);
        tokio::spawn(async move { client.post(&infer_path("pricing"), "{}").await.unwrap() })
    };
    let open = [ask("127.0.0.2"), ask("127.0.0.3")];
    until("two open requests", || server.open() == 2).await.unwrap();
    let refused = checkgate.client("127.0.0.4").post(&infer_path("pricing"), "{}").await.unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(server.requests(), 2, "the model was asked all the same");
    assert!((rejected(&checkgate, "in_flight").await - 1.0).abs() < f64::EPSILON);
    gate.add_permits(3);
    for answer in open {
        assert_eq!(answer.await.unwrap().status, 200, "whoever was let in is answered");
    }
    let after = checkgate.client("127.0.0.4").post(&infer_path("pricing"), "{}").await.unwrap();
    assert_eq!(after.status, 200, "there is room again");
}

#[tokio::test]
async fn a_body_that_announces_too_much_never_reaches_the_model() {
    let server = ModelServer::always(Answer::json("{}")).await.unwrap();
    let checkgate = start(&server, json!({"limits": {"body_bytes": "64KiB"}})).await;
    let mut client = checkgate.client("127.0.0.2");
    let fits = client.post(&infer_path("pricing"), vec![b' '; 64 << 10]).await.unwrap();
    assert_eq!(fits.status, 200, "the bound itself is allowed");
    let refused = client.post(&infer_path("pricing"), vec![b' '; (64 << 10) + 1]).await.unwrap();
    assert_eq!(refused.status, 413);
    assert_eq!(server.requests(), 1);
    assert!((rejected(&checkgate, "body_too_large").await - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_at_the_bound_of_its_model() {
    let server = ModelServer::always(Answer::json("{}")).await.unwrap();
    let models = json!([{"name": "pricing", "body_bytes": "16KiB"}]);
    let checkgate = start(&server, json!({"models": models})).await;
    let mut client = checkgate.client("127.0.0.2");
    let refused = client.send(post(&infer_path("pricing"), long()).unwrap()).await.unwrap();
    assert_eq!(refused.status, 413);
    assert!(server.bytes() <= 16 << 10, "{} bytes went past the bound", server.bytes());
    assert!((rejected(&checkgate, "body_too_large").await - 1.0).abs() < f64::EPSILON);
    let other = client.post(&infer_path("other"), vec![b' '; 32 << 10]).await.unwrap();
    assert_eq!(other.status, 200, "the bound is this model's own");
}

/// Sixteen times the bound in chunks: less than what is still read of a client that was refused, for one that writes on
/// beyond it gets a reset, and may see that before the answer.
fn long() -> Body {
    let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        for _ in 0..256 {
            if sender.send_data(Bytes::from_static(&[b' '; 1024])).await.is_err() {
                break;
            }
        }
    });
    channel.boxed_unsync()
}

#[tokio::test]
async fn the_model_is_told_who_asks_by_this_proxys_word() {
    let server = ModelServer::always(Answer::json("{}")).await.unwrap();
    let checkgate = start(&server, json!({"clients": {"trusted_proxies": ["127.0.0.9"]}})).await;
    let claims = |request: http::request::Builder| {
        request
            .header("x-forwarded-for", "192.0.2.66")
            .header("forwarded", "for=192.0.2.66")
            .header("x-original-url", "/admin")
            .header("traceparent", "00-not-a-trace")
            .header("connection", "x-private")
            .header("x-private", "1")
    };
    for source in ["127.0.0.2", "127.0.0.9"] {
        let request = claims(Request::get("/v2/health/ready")).body(whole("")).unwrap();
        within("an answer", checkgate.client(source).send(request)).await.unwrap().unwrap();
    }
    let heads: Vec<HeaderMap> = server.heads().into_iter().map(|(_, _, headers)| headers).collect();
    let value = |index: usize, name: &str| heads[index].get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!(value(0, "x-forwarded-for"), "127.0.0.2", "a stranger speaks for nobody");
    assert_eq!(value(0, "forwarded"), "for=127.0.0.2;proto=http");
    assert_eq!(value(1, "x-forwarded-for"), "192.0.2.66, 127.0.0.9", "a trusted proxy does");
    assert_eq!(value(1, "forwarded"), "for=192.0.2.66, for=127.0.0.9;proto=http");
    for (index, trusted) in [(0, false), (1, true)] {
        assert_eq!(value(index, "via"), "1.1 checkgate");
        assert_eq!(value(index, "traceparent"), "", "no trace is better than a broken one");
        assert_eq!(value(index, "x-private"), "", "it was meant for this connection");
        assert_eq!(
            heads[index].contains_key("x-original-url"),
            trusted,
            "another target is no stranger's to name"
        );
    }
}
