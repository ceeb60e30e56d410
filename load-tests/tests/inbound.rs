//! What other systems decide by their endpoints, and how soon it holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use checkgate_load_tests::attack::{ask, honest_row};
use checkgate_load_tests::checkgate::{Checkgate, Start, binary};
use checkgate_load_tests::client::{Client, Reply};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::whole;
use http::Request;
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

const SECRET: &str = "a-secret-that-stands-in-a-file-0123456789";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A running checkgate with an endpoint of each shape, and the folder of its secrets.
struct House {
    checkgate: Checkgate,
    secrets: TempDir,
    config: Value,
    _server: ModelServer,
}

async fn house() -> House {
    let server = ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap();
    let secrets = TempDir::new().unwrap();
    std::fs::write(secrets.path().join("word"), SECRET).unwrap();
    std::fs::write(secrets.path().join("signing"), SIGNING).unwrap();
    let endpoint = |shape: &str, secret: &str| {
        json!({"name": format!("the-{shape}"), "shape": shape, "actions": ["ban", "lift"],
            "secrets": [{"file": secrets.path().join(secret)}]})
    };
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip", "never_block": ["127.0.60.99"]},
        "inbound": [endpoint("splunk", "word"), endpoint("alertmanager", "word"), endpoint("sentinel", "word"),
            endpoint("webhook", "signing")],
    });
    let checkgate = Start::configured(config.clone()).run().await.unwrap();
    House { checkgate, secrets, config, _server: server }
}

fn wall() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The headers of Standard Webhooks.
fn signed(id: &str, stamp: u64, body: &str) -> Vec<(&'static str, String)> {
    let key = BASE64_STANDARD.decode(SIGNING.trim_start_matches("whsec_")).unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{id}.{stamp}.{body}").as_bytes());
    vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", stamp.to_string()),
        ("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(tag))),
    ]
}

impl House {
    async fn tell(&self, path: &str, headers: &[(&'static str, String)], body: &Value) -> Reply {
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        Client::to(self.checkgate.admin).send(request.body(whole(body.to_string())).unwrap()).await.unwrap()
    }

    async fn status(&self, client: &str) -> u16 {
        ask(&mut self.checkgate.client(client), honest_row(1, 1)).await.unwrap().status.as_u16()
    }

    fn audit(&self) -> String {
        let show = ["audit", "show", "--json", "--state"];
        let output = Command::new(binary().unwrap()).args(show).arg(&self.checkgate.state).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn splunk(client: &str) -> Value {
    json!({"sid": "scheduler_1", "search_name": "a saved search", "result": {"src": client}})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shape_bans_within_a_second_and_the_audit_log_names_its_endpoint() {
    let house = house().await;
    let bearer = vec![("authorization", format!("Bearer {SECRET}"))];
    let alert = json!({"version": "4", "status": "firing", "alerts": [{
        "status": "firing", "fingerprint": "f1", "startsAt": "2026-11-28T19:00:00Z",
        "labels": {"client": "127.0.60.2"}, "annotations": {"summary": "an alert of Prometheus"}}]});
    let playbook = json!({"id": "run-1", "client": "127.0.60.3", "why": "an incident of Sentinel"});
    let webhook = json!({"type": "x", "data": {"client": "127.0.60.4", "why": "a story elsewhere"}});
    let text = webhook.to_string();
    let tries = [
        (
            "127.0.60.1",
            format!("/v1/inbound/the-splunk/{SECRET}"),
            vec![],
            splunk("127.0.60.1"),
            "a saved search",
        ),
        (
            "127.0.60.2",
            format!("/v1/inbound/the-alertmanager/{SECRET}"),
            vec![],
            alert,
            "an alert of Prometheus",
        ),
        ("127.0.60.3", "/v1/inbound/the-sentinel".to_owned(), bearer, playbook, "an incident of Sentinel"),
        (
            "127.0.60.4",
            "/v1/inbound/the-webhook".to_owned(),
            signed("m1", wall(), &text),
            webhook,
            "a story elsewhere",
        ),
    ];
    for (client, path, headers, body, why) in tries {
        assert_eq!(house.status(client).await, 200, "{client} before");
        let told = Instant::now();
        let reply = house.tell(&path, &headers, &body).await;
        assert_eq!(reply.status, 200, "{client}: {}", reply.text());
        assert_eq!(house.status(client).await, 403, "{client}");
        assert!(told.elapsed() < Duration::from_secs(1), "it took {:?}", told.elapsed());
        assert_eq!(reply.header("checkgate-durable"), "true", "{client}");
        let name = path.split('/').nth(3).unwrap();
        let audit = house.audit();
        let entry =
            audit.lines().find(|line| line.contains(client)).unwrap_or_else(|| panic!("{client}: {audit}"));
        assert!(entry.contains(&format!("inbound:{name}")) && entry.contains(why), "{entry}");
    }
    let text = house.checkgate.log() + &house.audit() + &house.checkgate.findings();
    assert!(!text.contains(SECRET) && !text.contains(SIGNING), "a secret is told");
    let done = house.checkgate.metric("checkgate_inbound_total", &["outcome=\"done\""]).await.unwrap();
    assert_eq!(done, 4.0, "each is counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_and_wrong_secrets_change_nothing_and_are_counted() {
    let house = house().await;
    let body = json!({"type": "x", "data": {"client": "127.0.60.5"}});
    let message = signed("m1", wall(), &body.to_string());
    let path = "/v1/inbound/the-webhook";
    assert_eq!(house.tell(path, &message, &body).await.status, 200);
    let decisions =
        house.checkgate.ask("/v1/decisions").await.unwrap().json().unwrap()["active_total"].clone();
    let copy = house.tell(path, &message, &body).await;
    assert_eq!((copy.status.as_u16(), copy.header("content-type")), (409, "application/problem+json"));
    assert_eq!(
        house.tell(path, &signed("m2", wall() - 400, &body.to_string()), &body).await.status,
        400,
        "old"
    );
    assert_eq!(house.tell(path, &signed("m3", wall(), "{}"), &body).await.status, 401, "of another body");
    let wrong = house
        .tell("/v1/inbound/the-splunk/not-the-secret-at-all-0123456789", &[], &splunk("127.0.60.6"))
        .await;
    assert_eq!(wrong.status, 401);
    assert!(!wrong.text().contains("not-the-secret"), "{}", wrong.text());
    assert!(!house.checkgate.log().contains("not-the-secret"), "{}", house.checkgate.log());
    assert_eq!(house.status("127.0.60.6").await, 200);
    let after = house.checkgate.ask("/v1/decisions").await.unwrap().json().unwrap()["active_total"].clone();
    assert_eq!(after, decisions, "nothing more was decided");
    for (outcome, count) in [("replayed", 1.0), ("stale", 1.0), ("unauthorized", 2.0), ("done", 1.0)] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(
            house.checkgate.metric("checkgate_inbound_total", &[&label]).await.unwrap(),
            count,
            "{outcome}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_never_block_list_wins_and_the_answer_says_so() {
    let house = house().await;
    let path = format!("/v1/inbound/the-splunk/{SECRET}");
    let reply = house.tell(&path, &[], &splunk("127.0.60.99")).await;
    let said = reply.json().unwrap();
    assert_eq!(said["outcomes"][0]["kept_back"], "the client is on the never-block list", "{said}");
    assert_eq!(house.status("127.0.60.99").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_exchanged_without_a_gap() {
    let house = house().await;
    let old = format!("/v1/inbound/the-splunk/{SECRET}");
    let new = "/v1/inbound/the-splunk/another-secret-0123456789-0123456789";
    let two = house.secrets.path().join("two");
    std::fs::write(&two, "another-secret-0123456789-0123456789").unwrap();
    let mut config = house.config.clone();
    config["inbound"][0]["secrets"].as_array_mut().unwrap().push(json!({"file": two}));
    house.checkgate.reload(&config.to_string()).await.unwrap();
    assert_eq!(house.tell(&old, &[], &splunk("127.0.60.7")).await.status, 200, "the old one holds");
    let reply = house.tell(new, &[], &splunk("127.0.60.7")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("idempotency-replayed")),
        (200, "true"),
        "it is still known"
    );
    config["inbound"][0]["secrets"].as_array_mut().unwrap().remove(0);
    house.checkgate.reload(&config.to_string()).await.unwrap();
    assert_eq!(house.tell(new, &[], &splunk("127.0.60.8")).await.status, 200);
    assert_eq!(house.tell(&old, &[], &splunk("127.0.60.8")).await.status, 401, "the old one is gone");
}
