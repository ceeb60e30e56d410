use std::path::Path;
use std::time::Duration;

use axum::http::Request;
use checkgate_config::golden::equals_committed;
use checkgate_detectors::finding::Action;
use flate2::read::GzDecoder;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::super::tests::{HOUR, House, KEY, bouncer, house, server, state};
use super::*;
use crate::gate::{Applied, Reason};

const FIREWALL: &str = "crowdsec-firewall-bouncer/v0.0.25-debian";
const CUSTOM: &str = "crowdsec-custom-bouncer/-";

/// Status and body of an answer that is taken whole.
async fn ask(state: &ServerState, path: &str, headers: &[(&str, &str)]) -> (u16, Vec<u8>) {
    send(state, "GET", path, headers).await
}

async fn send(state: &ServerState, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Vec<u8>) {
    let request =
        headers.iter().fold(Request::builder().method(method).uri(path), |request, (name, value)| {
            request.header(*name, *value)
        });
    let answer = router(state.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// A pull of the one bouncer that there is.
async fn pull(state: &ServerState, query: &str) -> Value {
    pull_as(state, query, CUSTOM).await
}

async fn pull_as(state: &ServerState, query: &str, agent: &str) -> Value {
    let (status, body) =
        ask(state, &format!("{STREAM}?{query}"), &[("x-api-key", KEY), ("user-agent", agent)]).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// The values of a list.
fn values(list: &Value) -> Vec<&str> {
    list.as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .map(|one| one["value"].as_str().unwrap())
        .collect()
}

fn golden(name: &str, answer: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/lapi").join(name);
    equals_committed(&file, &format!("{answer:#}\n")).unwrap();
}

/// Three bans, one of them on a /64, an observation, and decisions that mean nothing to a firewall.
fn furnished() -> House {
    let house = house();
    assert_eq!(house.decides(1, "192.0.2.7", Action::Block), Applied::Enforced);
    house.decides(2, "192.0.2.8", Action::Block);
    house.decides(3, "2001:db8:1:2::/64", Action::Block);
    house.decides(4, "192.0.2.9", Action::Throttle);
    house.decides(5, "192.0.2.10", Action::Degrade);
    house.decides(6, "192.0.2.11", Action::Tag);
    house.decides(7, "key:00000000000000ab", Action::Block);
    let spared = house.decides(8, "198.51.100.7", Action::Block);
    assert_eq!(spared, Applied::Observed(Reason::NeverBlock));
    house
}

#[tokio::test]
async fn a_stream_has_the_form_that_bouncers_read() {
    let house = furnished();
    golden("startup.json", &pull(&house.state, "startup=true").await);
    golden("nothing.json", &pull(&house.state, "").await);
    house.lifts(1);
    house.decides(9, "192.0.2.12", Action::Block);
    golden("changed.json", &pull(&house.state, "").await);
    let key = [("x-api-key", KEY)];
    for (name, path) in [
        ("lookup.json", "/v1/decisions?ip=2001:db8:1:2::99"),
        ("lookup-nothing.json", "/v1/decisions?ip=192.0.2.7"),
    ] {
        let (status, body) = ask(&house.state, path, &key).await;
        assert_eq!(status, 200);
        golden(name, &serde_json::from_slice(&body).unwrap());
    }
}

#[tokio::test]
async fn what_ends_is_told_to_whoever_was_told_of_it_and_once() {
    let house = furnished();
    pull(&house.state, "startup=true").await;
    house.passes(HOUR + Duration::from_secs(1));
    let ended = pull(&house.state, "").await;
    assert_eq!(values(&ended["deleted"]), ["192.0.2.7", "192.0.2.8", "2001:db8:1:2::/64"]);
    assert_eq!((&ended["new"], &ended["deleted"][0]["duration"]), (&Value::Null, &json!("-1s")));
    assert_eq!(pull(&house.state, "").await, json!({"new": null, "deleted": null}));
}

#[tokio::test]
async fn each_bouncer_has_a_cursor_of_its_own() {
    let house = furnished();
    let both = [bouncer("edge", KEY), bouncer("shop", "the key of the shop")];
    house.state.keys.adopt(&both, &house.metrics);
    pull(&house.state, "startup=true").await;
    let shop = [("x-api-key", "the key of the shop")];
    let (_, first) = ask(&house.state, STREAM, &shop).await;
    let first: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(values(&first["new"]).len(), 3, "it never pulled before: {first}");
    assert_eq!(pull(&house.state, "").await["new"], Value::Null);
}

#[tokio::test]
async fn after_a_restart_a_bouncer_that_goes_on_is_told_everything_and_what_ended_meanwhile() {
    let house = furnished();
    pull(&house.state, "startup=true").await;
    house.lifts(2);
    let restarted = state(&house.gate, &house.ledger, &house.metrics);
    let told = pull(&restarted, "").await;
    assert_eq!(values(&told["new"]), ["192.0.2.7", "2001:db8:1:2::/64"]);
    assert_eq!(values(&told["deleted"]), ["192.0.2.8"]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_given_again() {
    let house = furnished();
    let request = Request::get(STREAM).header("x-api-key", KEY).body(Body::empty()).unwrap();
    drop(router(house.state.clone()).oneshot(request).await.unwrap());
    assert_eq!(values(&pull(&house.state, "").await["new"]).len(), 3, "nobody took the first answer");
    assert_eq!(pull(&house.state, "").await["new"], Value::Null);
    let (status, body) = send(&house.state, "HEAD", STREAM, &[("x-api-key", KEY)]).await;
    assert_eq!((status, body.len()), (200, 0));
}

#[tokio::test]
async fn what_stops_enforcement_here_stops_it_at_bouncers() {
    let house = furnished();
    pull(&house.state, "startup=true").await;
    house.gate.set_kill_switch(true).unwrap();
    assert_eq!(values(&pull(&house.state, "").await["deleted"]).len(), 3, "the kill switch");
    house.gate.set_kill_switch(false).unwrap();
    assert_eq!(values(&pull(&house.state, "").await["new"]).len(), 3);
    house.gate.spare(&["192.0.2.0/29".parse().unwrap()]);
    assert_eq!(values(&pull(&house.state, "").await["deleted"]), ["192.0.2.7"], "the never-block list");
    house.gate.spare(&[]);
    assert_eq!(values(&pull(&house.state, "").await["new"]), ["192.0.2.7"]);
}

#[tokio::test]
async fn of_a_shared_address_no_more_is_told_than_what_acts() {
    let house = house();
    house.decides(1, "203.0.113.9", Action::Block);
    assert_eq!(pull(&house.state, "startup=true").await["new"], Value::Null, "it is a throttle");
    house.state.board.adopt(Some(&checkgate_config::settings::LapiServer {
        throttle_as: Some("captcha".into()),
        ..server()
    }));
    let told = pull(&house.state, "").await;
    assert_eq!((values(&told["new"]), &told["new"][0]["type"]), (vec!["203.0.113.9"], &json!("captcha")));
}

#[tokio::test]
async fn a_firewall_is_told_of_no_networks_and_of_nothing_old_when_it_starts() {
    let house = furnished();
    house.lifts(2);
    let started = pull_as(&house.state, "startup=true", FIREWALL).await;
    assert_eq!((values(&started["new"]), &started["deleted"]), (vec!["192.0.2.7"], &Value::Null));
    let other = pull_as(&house.state, "startup=true", CUSTOM).await;
    assert_eq!(values(&other["deleted"]), ["192.0.2.8"], "its script may hold what an earlier run told");
    let metrics = house.metrics.encode();
    assert!(metrics.contains("checkgate_crowdsec_decisions_total{bouncer=\"edge\",change=\"beyond\"} 1"));
}

#[tokio::test]
async fn decisions_of_sources_are_told_only_where_the_operator_relays() {
    let house = house();
    let by = crate::ledger::entry::By { who: "crowdsec:lan".into(), ..Default::default() };
    let order = crate::control::Order {
        client: crate::identity::written("192.0.2.7").unwrap(),
        action: Action::Block,
        lasts: HOUR,
        model: None,
    };
    drop(house.hands.control.decide_elsewhere(&order, None, by, super::super::tests::clock()).unwrap());
    assert_eq!(pull(&house.state, "startup=true").await, json!({"new": null, "deleted": null}));
    house.state.board.adopt(Some(&checkgate_config::settings::LapiServer { relay: true, ..server() }));
    let told = pull(&house.state, "").await;
    assert_eq!((values(&told["new"]), &told["new"][0]["origin"]), (vec!["192.0.2.7"], &json!("lan")));
}

#[tokio::test]
async fn a_wrong_key_opens_nothing_and_is_counted() {
    let house = furnished();
    let forbidden = br#"{"message":"access forbidden"}"#.to_vec();
    for headers in [&[][..], &[("x-api-key", "")], &[("x-api-key", "wrong")], &[("authorization", KEY)]] {
        for path in [STREAM, DECISIONS] {
            assert_eq!(
                ask(&house.state, path, headers).await,
                (403, forbidden.clone()),
                "{path} {headers:?}"
            );
        }
        assert_eq!(send(&house.state, "POST", USAGE, headers).await.0, 403);
    }
    assert_eq!(house.metrics.crowdsec_refusals.get(), 12);
}

#[tokio::test]
async fn other_requests_are_answered_as_a_local_api_answers_them() {
    let house = furnished();
    let key = [("x-api-key", KEY)];
    for (method, path, expected) in [
        ("POST", USAGE, 201),
        ("HEAD", DECISIONS, 200),
        ("GET", "/health", 200),
        ("GET", "/v1/decisions?ip=nowhere", 400),
        ("GET", "/v1/alerts", 404),
        ("DELETE", DECISIONS, 404),
        ("POST", "/v1/watchers/login", 404),
    ] {
        assert_eq!(send(&house.state, method, path, &key).await.0, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_long_answer_is_packed_for_whoever_takes_that() {
    let house = house();
    (0..80).for_each(|index| {
        house.decides(index, &format!("192.0.2.{index}"), Action::Block);
    });
    let lookup = |accepts: &'static str| {
        let state = house.state.clone();
        async move { ask(&state, DECISIONS, &[("x-api-key", KEY), ("accept-encoding", accepts)]).await.1 }
    };
    let plain = lookup("identity").await;
    for accepts in ["gzip", "br;q=1.0, GZIP;q=0.5"] {
        let mut unpacked = Vec::new();
        let packed = lookup(accepts).await;
        std::io::Read::read_to_end(&mut GzDecoder::new(&*packed), &mut unpacked).unwrap();
        assert_eq!(unpacked, plain, "{accepts}");
        assert!(packed.len() * 4 < plain.len(), "{} of {} bytes", packed.len(), plain.len());
    }
    assert_eq!(lookup("gzip;q=0, *").await, plain, "a weight of zero is a no");
}

/// Prints what a full table costs bouncers: `cargo test -p checkgate --lib lapi::server -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "it prints figures; a full table takes a while without optimisation"]
async fn a_hundred_thousand_bans_are_told_once_and_cost_next_to_nothing_afterwards() {
    const BANS: u32 = 100_000;
    let house = house();
    house.decides(0, "192.0.2.7", Action::Block);
    house.gate.adopt(crate::gate::Rules::default(), 2 * BANS as usize);
    let one = house.ledger.book().decision(checkgate_detectors::finding::DecisionId(0)).unwrap().clone();
    let bans: Vec<_> = (1..=BANS)
        .map(|index| crate::ledger::entry::Decided {
            id: checkgate_detectors::finding::DecisionId(u64::from(index)),
            client: crate::identity::written(&std::net::Ipv4Addr::from(0x0a00_0000 + index).to_string())
                .unwrap(),
            ..one.clone()
        })
        .collect();
    house.gate.resume(bans.iter(), super::super::tests::clock());
    for (what, changes) in [("everything", false), ("nothing", false), ("one change", true)] {
        if changes {
            house.lifts(0);
        }
        let begun = std::time::Instant::now();
        let (status, body) =
            ask(&house.state, STREAM, &[("x-api-key", KEY), ("accept-encoding", "gzip")]).await;
        println!("{what}: {:?}, {} bytes", begun.elapsed(), body.len());
        assert_eq!(status, 200);
        assert_eq!(body.len() > 100_000, what == "everything", "{what}");
    }
}
