//! What a sink delivers to another program: everything, at least once, and without holding up a request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use checkgate_load_tests::attack::sweep;
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::until;
use serde_json::{Value, json};

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

fn config(server: &ModelServer, receiver: std::net::SocketAddr, folder: &Path) -> Value {
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
            "webhook": {"url": format!("http://{receiver}/hook"), "secrets": [{"file": secret}]},
        }],
    })
}

fn kinds(got: &Got) -> Vec<String> {
    let kind = |(_, body): &(String, Value)| body["type"].as_str().unwrap_or_default().to_owned();
    got.lock().unwrap().iter().map(kind).collect()
}

async fn swept(checkgate: &Checkgate, source: &str) {
    let swept = sweep(&mut checkgate.client(source), 40).await.unwrap();
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
