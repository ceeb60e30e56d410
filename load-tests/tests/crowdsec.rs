//! Decisions enforced elsewhere and taken from elsewhere: two instances that share a ban, and bouncers with cursors of
//! their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use checkgate_load_tests::attack::{ask, honest_row};
use checkgate_load_tests::checkgate::{Checkgate, PATIENCE, Start, free_address};
use checkgate_load_tests::client::{Client, Reply};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::tls::Authority;
use checkgate_load_tests::whole;
use http::{Method, Request};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// The client that is banned.
const CLIENT: &str = "127.0.60.1";
const OTHER: &str = "127.0.60.2";
const EDGE: &str = "the-key-of-the-edge-firewall";
const PEER: &str = "the-key-of-the-other-instance";
/// A ban that is decided at one instance holds at the other within this time, and so does its lift.
const SHARED_WITHIN: Duration = Duration::from_secs(1);

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

fn config(server: &ModelServer, crowdsec: &Value) -> Value {
    json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "decisions": {"scope": "everywhere"},
        "clients": {"identity": "ip"},
        "models": [{"name": "pricing"}],
        "crowdsec": crowdsec,
    })
}

/// A key where the configuration may have one: in a file.
fn kept(key: &str) -> Value {
    let folder = std::env::temp_dir().join("checkgate-load-tests-keys");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(key);
    if !file.exists() {
        // Under a name of its own first: other tests read it meanwhile.
        let made = tempfile::NamedTempFile::new_in(&folder).unwrap();
        std::fs::write(made.path(), key).unwrap();
        made.persist(&file).unwrap();
    }
    json!({ "file": file })
}

fn serving(lapi: SocketAddr) -> Value {
    json!({"serve": {"listen": lapi.to_string(), "bouncers": [
        {"name": "edge", "key": kept(EDGE)},
        {"name": "peer", "key": kept(PEER)},
    ]}})
}

fn pulling(lapi: SocketAddr) -> Value {
    json!({"pull": [{"name": "first", "url": format!("http://{lapi}"), "key": kept(PEER)}]})
}

/// An instance that bouncers pull from at `lapi`.
async fn serves(server: &ModelServer, lapi: SocketAddr, state: &Path) -> Checkgate {
    Start::configured(config(server, &serving(lapi))).in_state(state).run().await.unwrap()
}

async fn call(checkgate: &Checkgate, method: Method, path: &str, body: &Value) -> Reply {
    let token = std::fs::read_to_string(checkgate.state.join("admin.token")).unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("content-type", "application/json");
    Client::to(checkgate.admin).send(request.body(whole(body.to_string())).unwrap()).await.unwrap()
}

/// Bans a client for an hour, and gives the decision.
async fn ban(checkgate: &Checkgate, client: &str) -> String {
    let order = json!({"client": client, "seconds": 3600, "why": "a test"});
    let reply = call(checkgate, Method::POST, "/v1/decisions", &order).await;
    let taken = reply.json().unwrap();
    assert_eq!((reply.status.as_u16(), &taken["status"]), (201, &json!("in_force")), "{taken:#}");
    taken["id"].as_str().unwrap().to_owned()
}

async fn lift(checkgate: &Checkgate, id: &str) {
    let reply =
        call(checkgate, Method::DELETE, &format!("/v1/decisions/{id}?why=a%20test"), &json!({})).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
}

async fn status(checkgate: &Checkgate, client: &str) -> u16 {
    ask(&mut checkgate.client(client), honest_row(1, 1)).await.unwrap().status.as_u16()
}

/// How long it takes until a client gets `expected`.
async fn until(checkgate: &Checkgate, client: &str, expected: u16) -> Duration {
    let begun = Instant::now();
    while status(checkgate, client).await != expected {
        assert!(begun.elapsed() < PATIENCE, "{client} never gets {expected}:\n{}", checkgate.log());
        sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// What a bouncer is told.
async fn pull(lapi: SocketAddr, key: &str, query: &str) -> Value {
    let mut bouncer = Client::to(lapi).with("x-api-key", key);
    let reply = bouncer.get(&format!("/v1/decisions/stream?{query}")).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json().unwrap()
}

/// The values of a list, in order.
fn values(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|one| one["value"].as_str().unwrap().to_owned()).collect()
}

fn nothing() -> Value {
    json!({"new": null, "deleted": null})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_of_one_instance_holds_at_the_other_within_a_second_and_so_does_its_lift() {
    let (server, lapi, folder) = (pricing().await, free_address().unwrap(), tempfile::tempdir().unwrap());
    let first = serves(&server, lapi, folder.path()).await;
    let relay = free_address().unwrap();
    let mut both = pulling(lapi);
    both["serve"] = serving(relay)["serve"].clone();
    let second = Start::configured(config(&server, &both)).run().await.unwrap();
    assert_eq!(status(&second, CLIENT).await, 200);
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let id = ban(&first, CLIENT).await;
        slowest = slowest.max(until(&second, CLIENT, 403).await);
        assert_eq!(status(&second, OTHER).await, 200, "nobody else is meant");
        lift(&first, &id).await;
        slowest = slowest.max(until(&second, CLIENT, 200).await);
    }
    println!("the slowest of ten changes took {slowest:?}");
    assert!(slowest < SHARED_WITHIN, "it took {slowest:?}");
    ban(&first, CLIENT).await;
    until(&second, CLIENT, 403).await;
    let listed = second.ask("/v1/decisions?limit=10").await.unwrap().text();
    assert!(listed.contains("crowdsec:first"), "it says whose decision it is: {listed}");
    assert_eq!(pull(relay, EDGE, "startup=true").await, nothing(), "it is not told on");
    let enforced = [r#"source="first""#, r#"outcome="enforced""#];
    let name = "checkgate_crowdsec_source_decisions_total";
    assert!((second.metric(name, &enforced).await.unwrap() - 6.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_changes_nothing_and_what_it_lifted_meanwhile_is_lifted_afterwards() {
    let (server, lapi, folder) = (pricing().await, free_address().unwrap(), tempfile::tempdir().unwrap());
    let second = Start::configured(config(&server, &pulling(lapi))).run().await.unwrap();
    let up = async || second.metric("checkgate_crowdsec_source_up", &[r#"source="first""#]).await.unwrap();
    assert!(up().await < 0.5, "nobody is there");
    let mut first = serves(&server, lapi, folder.path()).await;
    let lifted = ban(&first, CLIENT).await;
    ban(&first, OTHER).await;
    until(&second, CLIENT, 403).await;
    until(&second, OTHER, 403).await;
    first.stop().await.unwrap();
    let begun = Instant::now();
    while up().await > 0.5 {
        assert!(begun.elapsed() < PATIENCE, "it is not noticed that the source is away");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status(&second, CLIENT).await, 403, "what it told stands");
    // Nobody pulls from this one, so that the lift is told by the next alone.
    let apart = serves(&server, free_address().unwrap(), folder.path()).await;
    lift(&apart, &lifted).await;
    drop(apart);
    let first = serves(&server, lapi, folder.path()).await;
    until(&second, CLIENT, 200).await;
    assert_eq!(status(&second, OTHER).await, 403, "this one still stands");
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_taker_agrees_with_its_source_and_a_removed_source_leaves_nothing() {
    let (server, lapi, folder) = (pricing().await, free_address().unwrap(), tempfile::tempdir().unwrap());
    let first = serves(&server, lapi, folder.path()).await;
    let taker = tempfile::tempdir().unwrap();
    let start = || Start::configured(config(&server, &pulling(lapi))).in_state(taker.path());
    let mut second = start().run().await.unwrap();
    let lifted = ban(&first, CLIENT).await;
    ban(&first, OTHER).await;
    until(&second, CLIENT, 403).await;
    until(&second, OTHER, 403).await;
    second.stop().await.unwrap();
    lift(&first, &lifted).await;
    let second = start().run().await.unwrap();
    until(&second, CLIENT, 200).await;
    assert_eq!(status(&second, OTHER).await, 403);
    let none = config(&server, &json!({})).to_string();
    second.reload(&none).await.unwrap();
    until(&second, OTHER, 200).await;
    let with = config(&server, &pulling(lapi)).to_string();
    second.reload(&with).await.unwrap();
    until(&second, OTHER, 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bouncers_have_cursors_of_their_own_and_miss_nothing_over_a_restart_and_a_hand_over() {
    let (server, lapi, folder) = (pricing().await, free_address().unwrap(), tempfile::tempdir().unwrap());
    let mut checkgate = serves(&server, lapi, folder.path()).await;
    assert_eq!(pull(lapi, EDGE, "startup=true").await, nothing());
    let first = ban(&checkgate, CLIENT).await;
    let told = pull(lapi, EDGE, "").await;
    assert_eq!((values(&told["new"]), &told["deleted"]), (vec![CLIENT.to_owned()], &Value::Null));
    assert_eq!(pull(lapi, EDGE, "").await, nothing());
    assert_eq!(values(&pull(lapi, PEER, "").await["new"]), [CLIENT], "another bouncer was told nothing yet");
    let second = ban(&checkgate, OTHER).await;
    lift(&checkgate, &first).await;
    checkgate.stop().await.unwrap();

    let mut checkgate = serves(&server, lapi, folder.path()).await;
    let told = pull(lapi, EDGE, "").await;
    assert_eq!(
        (values(&told["new"]), values(&told["deleted"])),
        (vec![OTHER.to_owned()], vec![CLIENT.to_owned()])
    );
    lift(&checkgate, &second).await;
    assert_eq!(values(&pull(lapi, EDGE, "").await["deleted"]), [OTHER]);

    let third = ban(&checkgate, CLIENT).await;
    assert_eq!(values(&pull(lapi, EDGE, "").await["new"]), [CLIENT]);
    checkgate.hand_over(&[]).await.unwrap();
    checkgate.predecessors_ended().await.unwrap();
    assert_eq!(values(&pull(lapi, EDGE, "").await["new"]), [CLIENT], "the new process tells everything once");
    lift(&checkgate, &third).await;
    assert_eq!(values(&pull(lapi, EDGE, "").await["deleted"]), [CLIENT]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_opens_nothing_and_a_reload_gives_and_takes_keys() {
    let (server, lapi, folder) = (pricing().await, free_address().unwrap(), tempfile::tempdir().unwrap());
    let checkgate = serves(&server, lapi, folder.path()).await;
    for key in ["", "wrong", "the-key-of-the-edge-firewal"] {
        let mut bouncer = Client::to(lapi).with("x-api-key", key);
        let reply = bouncer.get("/v1/decisions/stream?startup=true").await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (403, r#"{"message":"access forbidden"}"#)
        );
    }
    assert!((checkgate.metric("checkgate_crowdsec_refusals_total", &[]).await.unwrap() - 3.0).abs() < 0.5);
    let mut other = serving(lapi);
    other["serve"]["bouncers"] = json!([{"name": "shop", "key": kept("the-key-of-the-shop")}]);
    checkgate.reload(&config(&server, &other).to_string()).await.unwrap();
    assert_eq!(pull(lapi, "the-key-of-the-shop", "startup=true").await, nothing());
    let reply = Client::to(lapi).with("x-api-key", EDGE).get("/v1/decisions").await.unwrap();
    assert_eq!(reply.status, 403, "its key was taken back");
    other["serve"]["listen"] = json!(free_address().unwrap().to_string());
    let config = checkgate.reload(&config(&server, &other).to_string()).await.unwrap();
    assert_eq!(config["needs_restart"], json!(["crowdsec.serve"]), "{config:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_and_the_never_block_list_hold_at_bouncers_as_well() {
    let (server, lapi, folder) = (pricing().await, free_address().unwrap(), tempfile::tempdir().unwrap());
    let checkgate = serves(&server, lapi, folder.path()).await;
    ban(&checkgate, CLIENT).await;
    ban(&checkgate, OTHER).await;
    assert_eq!(values(&pull(lapi, EDGE, "startup=true").await["new"]), [CLIENT, OTHER]);
    let path = format!("/v1/never-block/{OTHER}?why=a%20test");
    let reply = call(&checkgate, Method::PUT, &path, &json!({})).await;
    assert!(reply.status.is_success(), "{}", reply.text());
    assert_eq!(values(&pull(lapi, EDGE, "").await["deleted"]), [OTHER]);
    checkgate.command(&["kill-switch", "on"]).unwrap();
    let begun = Instant::now();
    while values(&pull(lapi, EDGE, "").await["deleted"]) != [CLIENT] {
        assert!(begun.elapsed() < Duration::from_secs(2), "nothing is let go");
        sleep(Duration::from_millis(50)).await;
    }
    checkgate.command(&["kill-switch", "off"]).unwrap();
    while values(&pull(lapi, EDGE, "").await["new"]) != [CLIENT] {
        assert!(begun.elapsed() < Duration::from_secs(5), "it does not come back");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_come_by_tls_from_whoever_the_authority_vouches_for() {
    let (server, lapi, folder) = (pricing().await, free_address().unwrap(), tempfile::tempdir().unwrap());
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let issued = authority.issue("lapi", &["localhost"]).unwrap();
    let mut secured = serving(lapi);
    secured["serve"]["tls"] = json!({"certificate": issued.certificate, "key": issued.key});
    let first = Start::configured(config(&server, &secured)).in_state(folder.path()).run().await.unwrap();
    ban(&first, CLIENT).await;
    let pulling = |ca: &Authority| {
        let url = format!("https://localhost:{}", lapi.port());
        json!({"pull": [{"name": "first", "url": url, "key": kept(PEER), "ca": ca.file()}]})
    };
    let second = Start::configured(config(&server, &pulling(&stranger))).run().await.unwrap();
    let failed = [r#"source="first""#, r#"outcome="failed""#];
    let begun = Instant::now();
    while second.metric("checkgate_crowdsec_source_pulls_total", &failed).await.unwrap() < 0.5 {
        assert!(begun.elapsed() < PATIENCE, "an unknown authority is believed, or nobody asks");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status(&second, CLIENT).await, 200);
    second.reload(&config(&server, &pulling(&authority)).to_string()).await.unwrap();
    until(&second, CLIENT, 403).await;
}
