//! What other proxies are answered that ask whether a request may pass. `authz/run.sh` has nginx and Envoy ask.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::net::SocketAddr;

use checkgate_load_tests::attack::{ask, honest_row};
use checkgate_load_tests::checkgate::{Checkgate, Start, free_address};
use checkgate_load_tests::client::{Client, Reply};
use checkgate_load_tests::http2::{http2, whole_reply};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::whole;
use http::{Method, Request};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// A proxy that is trusted, and one that is not.
const PROXY: &str = "127.0.71.1";
const STRANGER: &str = "127.0.72.1";
const CLIENT: &str = "203.0.113.7";

struct House {
    checkgate: Checkgate,
    authz: SocketAddr,
    _server: ModelServer,
}

async fn house(more: Value) -> House {
    let server = ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap();
    let authz = free_address().unwrap();
    let mut config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "policy": {"requests_per_minute": 2},
        "clients": {"trusted_proxies": ["127.0.71.0/24"], "never_block": ["198.51.100.0/24"]},
        "authz": {"listen": authz.to_string()},
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    House { checkgate: Start::configured(config).run().await.unwrap(), authz, _server: server }
}

impl House {
    async fn decide(&self, client: &str, action: &str) -> String {
        self.decide_as(json!({"client": client, "action": action})).await
    }

    async fn decide_as(&self, mut order: Value) -> String {
        let token = std::fs::read_to_string(self.checkgate.state.join("admin.token")).unwrap();
        order
            .as_object_mut()
            .unwrap()
            .extend([("seconds".into(), 600.into()), ("why".into(), "a test".into())]);
        let request = Request::post("/v1/decisions")
            .header("authorization", format!("Bearer {}", token.trim()))
            .header("content-type", "application/json")
            .body(whole(order.to_string()))
            .unwrap();
        let reply = Client::to(self.checkgate.admin).send(request).await.unwrap();
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json().unwrap()["id"].as_str().unwrap().to_owned()
    }

    async fn asked_at(&self, proxy: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::builder().method(Method::GET).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Client::to(self.authz).from(proxy).send(request.body(whole("")).unwrap()).await.unwrap()
    }

    /// What a trusted proxy is told of a client.
    async fn asked(&self, client: &str) -> Reply {
        self.asked_at(PROXY, "/authz", &[("x-forwarded-for", client)]).await
    }

    async fn status(&self, client: &str) -> u16 {
        self.asked(client).await.status.as_u16()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_as_it_is_to_our_own_clients_and_counts_as_met() {
    let house = house(json!({})).await;
    assert_eq!(house.status(CLIENT).await, 200);
    let id = house.decide(CLIENT, "block").await;
    let told = house.asked(CLIENT).await;
    assert_eq!((told.status.as_u16(), told.header("retry-after")), (403, "600"));
    let own = ask(&mut house.checkgate.client(PROXY).with("x-forwarded-for", CLIENT), honest_row(1, 1))
        .await
        .unwrap();
    assert_eq!((own.status, &own.body), (told.status, &told.body), "the same as on our own way");
    assert_eq!(told.header("x-checkgate-decision"), id);
    let active = house.checkgate.ask("/v1/decisions").await.unwrap().json().unwrap()["active"][0].clone();
    assert_eq!((&active["decision_id"], &active["requests"]), (&json!(id), &json!(2)), "one of each way");
    let blocked =
        house.checkgate.metric("checkgate_authz_total", &["outcome=\"blocked\"", "protocol=\"http\""]);
    assert_eq!(blocked.await.unwrap(), 1.0);
    let seen = house.checkgate.metric("checkgate_requests_total", &[]).await.unwrap();
    assert_eq!(seen, 1.0, "what is asked here is no request of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttles_tags_and_the_never_block_list_hold_here_as_well() {
    let house = house(json!({})).await;
    house.decide(CLIENT, "throttle").await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(house.status(CLIENT).await);
    }
    assert_eq!(told, [200, 200, 429]);
    let forbidden = [("x-forwarded-for", CLIENT), ("x-checkgate-throttle-as", "403")];
    let told = house.asked_at(PROXY, "/authz", &forbidden).await;
    assert_eq!((told.status.as_u16(), told.header("x-checkgate-status")), (403, "429"));
    let tag = house.decide("203.0.113.8", "tag").await;
    let told = house.asked("203.0.113.8").await;
    assert_eq!((told.status.as_u16(), told.header("x-checkgate-decision")), (200, tag.as_str()));
    house.decide("198.51.100.1", "block").await;
    assert_eq!(house.status("198.51.100.1").await, 200, "it is never blocked");
    house.decide("2001:db8:0:7::1", "block").await;
    assert_eq!(house.status("2001:db8:0:7:1:2:3:4").await, 403, "the same /64");
    house.checkgate.command(&["kill-switch", "on"]).unwrap();
    house.checkgate.config_with("the kill switch", |_| true).await.unwrap();
    checkgate_load_tests::within("the kill switch", async {
        while house.status("2001:db8:0:7::1").await != 200 {}
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_not_trusted_speaks_for_nobody() {
    let house = house(json!({})).await;
    house.decide(CLIENT, "block").await;
    let told = house.asked_at(STRANGER, "/authz", &[("x-forwarded-for", CLIENT)]).await;
    assert_eq!(told.status, 200, "it asks about itself");
    assert_eq!(house.checkgate.metric("checkgate_authz_untrusted_total", &[]).await.unwrap(), 1.0);
    house.decide(STRANGER, "block").await;
    assert_eq!(house.asked_at(STRANGER, "/authz", &[("x-forwarded-for", "203.0.113.9")]).await.status, 403);
    let grpc = [("x-forwarded-for", CLIENT), ("content-type", "application/grpc")];
    for path in ["/authz", "/envoy.service.auth.v3.Authorization/Check"] {
        let told = house.asked_at(PROXY, path, &grpc).await;
        assert_eq!(told.status, 403, "{path}: the content type is the client's and changes nothing");
    }
    let forged = [("x-forwarded-for", "203.0.113.9, 203.0.113.7")];
    assert_eq!(
        house.asked_at(PROXY, "/authz", &forged).await.status,
        403,
        "what stands on the left is the client's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_judged_by_itself() {
    let identity = json!({"clients": {
        "trusted_proxies": ["127.0.71.0/24"],
        "identity": {"header": "x-api-key", "verified_by_upstream": true},
    }});
    let house = house(identity).await;
    house.decide(CLIENT, "block").await;
    let with = |key: &'static str| [("x-forwarded-for", CLIENT), ("x-api-key", key)];
    assert_eq!(house.asked_at(PROXY, "/authz", &with("a")).await.status, 403, "a key that nobody proved");
    let model = "/v2/models/pricing/infer";
    let mut client =
        house.checkgate.client(PROXY).with("x-forwarded-for", "203.0.113.20").with("x-api-key", "a");
    assert_eq!(client.post(model, "{}").await.unwrap().status, 200, "the model server takes it");
    checkgate_load_tests::within("the key being proven", async {
        while house.asked_at(PROXY, "/authz", &with("a")).await.status != 200 {}
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_that_is_meant_says_whether_decisions_act() {
    let server = "http://127.0.0.1:9";
    let models = json!({"mode": "observe", "models": [
        {"name": "guarded", "path": "/guarded", "upstream": server, "mode": "enforce"},
        {"name": "watched", "path": "/watched", "upstream": server},
    ]});
    let house = house(models).await;
    house.decide(CLIENT, "block").await;
    let about = async |path: &str, headers: &[(&str, &str)]| {
        let headers = [headers, &[("x-forwarded-for", CLIENT)]].concat();
        house.asked_at(PROXY, path, &headers).await.status.as_u16()
    };
    assert_eq!(about("/authz", &[("x-original-uri", "/guarded/a?b")]).await, 403, "nginx");
    assert_eq!(about("/authz", &[("x-forwarded-uri", "/guarded")]).await, 403, "Traefik");
    assert_eq!(about("/authz/guarded/a", &[]).await, 403, "Envoy");
    assert_eq!(about("/authz/guard%65d/a", &[]).await, 403, "however it is written");
    assert_eq!(about("/authz/watched", &[]).await, 200);
    assert_eq!(about("/authz", &[]).await, 200, "the top level observes");
    let both = [("x-original-uri", "/watched"), ("x-forwarded-uri", "/guarded")];
    assert_eq!(about("/authz", &both).await, 403, "a client that names another model gains nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_at_one_model_is_met_where_that_model_is_meant() {
    let server = "http://127.0.0.1:9";
    let models = json!({"mode": "enforce", "models": [
        {"name": "pricing", "path": "/pricing", "upstream": server},
        {"name": "risk", "path": "/risk", "upstream": server},
    ]});
    let house = house(models).await;
    house.decide_as(json!({"client": CLIENT, "action": "block", "model": "pricing"})).await;
    let about = async |path: &str, headers: &[(&str, &str)]| {
        let headers = [headers, &[("x-forwarded-for", CLIENT)]].concat();
        house.asked_at(PROXY, path, &headers).await.status.as_u16()
    };
    assert_eq!(about("/authz/pricing/a", &[]).await, 403);
    assert_eq!(about("/authz/risk/a", &[]).await, 200, "another model");
    assert_eq!(about("/authz", &[]).await, 200, "nobody says which model is meant");
    let both = [("x-original-uri", "/risk"), ("x-forwarded-uri", "/pricing")];
    assert_eq!(about("/authz", &both).await, 403, "a client that names another model gains nothing");
}

/// A field of a message that has a length: the number, then the bytes (Protocol Buffers, wire type 2).
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    assert!(length < 128, "a longer one needs two bytes of length");
    [&[number << 3 | 2, length], bytes].concat()
}

/// The message that Envoy sends about a client, with one header of that client's.
fn check(source: &str, header: (&str, &str)) -> Vec<u8> {
    let address = field(1, &field(1, &field(1, &field(2, source.as_bytes()))));
    let pair = field(3, &[field(1, header.0.as_bytes()), field(2, header.1.as_bytes())].concat());
    let http = [field(2, b"POST"), pair, field(4, b"/a")].concat();
    let message = field(1, &[address, field(4, &field(2, &http))].concat());
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
}

async fn called(authz: SocketAddr, path: &str, message: Vec<u8>) -> Reply {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{PROXY}:0").parse().unwrap()).unwrap();
    let stream: TcpStream = socket.connect(authz).await.unwrap();
    let mut sender = http2(stream).await.unwrap();
    let request = Request::post(format!("http://checkgate{path}")).header("content-type", "application/grpc");
    whole_reply(sender.send_request(request.body(whole(message)).unwrap())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_grpc_the_peer_of_the_asking_proxy_counts_before_what_its_client_writes() {
    let house = house(json!({})).await;
    let id = house.decide(CLIENT, "block").await;
    let path = "/envoy.service.auth.v3.Authorization/Check";
    let blocked = called(house.authz, path, check(CLIENT, ("x-forwarded-for", "203.0.113.99"))).await;
    assert_eq!(blocked.trailers.as_ref().unwrap()["grpc-status"], "0", "the call itself succeeds");
    assert!(
        blocked.text().contains(&id) && blocked.text().contains("urn:checkgate:blocked"),
        "{}",
        blocked.text()
    );
    let passes = called(house.authz, path, check("203.0.113.99", ("x-forwarded-for", CLIENT))).await;
    assert!(!passes.text().contains(&id), "nobody takes the blame: {}", passes.text());
    let odd = called(house.authz, path, b"\0\0\0\0\x03abc".to_vec()).await;
    assert_eq!(odd.trailers.unwrap()["grpc-status"], "0", "what cannot be read passes");
    let malformed =
        house.checkgate.metric("checkgate_authz_total", &["outcome=\"malformed\"", "protocol=\"grpc\""]);
    assert_eq!(malformed.await.unwrap(), 1.0, "and is counted");
    let other = called(house.authz, "/some.Service/Method", Vec::new()).await;
    assert_eq!(other.header("content-type"), "", "what is no such call is a question over HTTP");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_leaves_no_proxy_without_an_answer() {
    let mut house = house(json!({})).await;
    house.decide(CLIENT, "block").await;
    assert_eq!(house.status(CLIENT).await, 403);
    house.checkgate.hand_over(&[]).await.unwrap();
    assert_eq!(house.status(CLIENT).await, 403, "the new process answers at the same place");
    assert_eq!(house.status("203.0.113.9").await, 200);
}
