//! Tokens as identities, seen from outside: whoever shows a verified token is known by it wherever it comes from.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use checkgate_load_tests::attack::{ask, honest_row, sweep};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use http::StatusCode;
use serde_json::{Value, json};

/// Keys and tokens of an issuer that is no longer there; the tokens name alice and expire in the year 2100.
fn issuer() -> Value {
    serde_json::from_str(include_str!("../../proxy/fixtures/tokens/rsa.json")).unwrap()
}

fn alices(issuer: &Value, algorithm: &str) -> String {
    format!("Bearer {}", issuer["tokens"][algorithm].as_str().unwrap())
}

/// How many tokens were worth so much.
async fn counted(checkgate: &Checkgate, outcome: &str) -> f64 {
    checkgate.metric("checkgate_tokens_total", &[&format!("outcome=\"{outcome}\"")]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_is_blocked_by_its_token_and_nobody_at_its_address_pays_for_it() {
    let price = Answer::value(&answer("pricing", &[vec![100.0]]));
    let model = ModelServer::always(price).await.unwrap();
    let (issuer, folder) = (issuer(), tempfile::tempdir().unwrap());
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, issuer["jwks"].to_string()).unwrap();
    let token = json!({"jwks": keys, "issuer": "https://login.example", "audience": "pricing"});
    let config = json!({
        "upstream": format!("http://{}", model.address), "mode": "enforce",
        "clients": {"identity": {"token": token}},
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let client = |source: &str| checkgate.client(source);
    let mut alice = client("127.0.0.2").with("authorization", &alices(&issuer, "RS256"));
    let swept = sweep(&mut alice, 200).await.unwrap();
    assert!(swept.refusal.is_some(), "{} rows were answered", swept.answered);
    let mut elsewhere = client("127.0.0.3").with("authorization", &alices(&issuer, "PS512"));
    let reply = ask(&mut elsewhere, honest_row(1, 1)).await.unwrap();
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "another token of the same client at another address");
    let forged = alices(&issuer, "RS256").replacen('.', ".e30", 1);
    for neighbour in [client("127.0.0.2"), client("127.0.0.2").with("authorization", &forged)] {
        let mut neighbour = neighbour;
        let reply = ask(&mut neighbour, honest_row(2, 1)).await.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "the address is not the client");
    }
    assert_eq!(counted(&checkgate, "verified").await, 2.0, "a token costs one check of its signature");
    assert!(counted(&checkgate, "remembered").await >= f64::from(swept.answered));
    assert_eq!(counted(&checkgate, "signature").await, 1.0);
    assert_eq!(counted(&checkgate, "missing").await, 1.0);
    // The issuer changes its key: the file is read again by itself.
    let other = issuer["jwks"].to_string().replace("\"rsa\"", "\"another\"");
    std::fs::write(&keys, other).unwrap();
    let loaded = checkgate.config().await.unwrap()["loaded"].clone();
    checkgate.config_with("the new keys", |config| config["loaded"] != loaded).await.unwrap();
    let reply = ask(&mut elsewhere, honest_row(1, 2)).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "the token names nobody any more");
    assert_eq!(counted(&checkgate, "unknown_key").await, 1.0);
}
