//! The API as a client sees it, without sockets.

use std::time::Duration;

use axum::body::Body;
use checkgate_config::settings::{Admin, Scope, Secret, Token};
use checkgate_detectors::engine::Block;
use checkgate_detectors::finding::{Action, DecisionId, Kind};
use http::Request;
use http::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::control::{Hears, Modes, NotPromoted, Promotion, Rooms};
use crate::gate::brake::BrakeLimits;
use crate::gate::{Applied, GateSettings, Origin, Rules};
use crate::ledger::entry::{By, Decided, Status, What};
use crate::records;
use crate::state::candidates::Summary;
use crate::state::candidates::tests::candidate;
use crate::told::clean::steers;
use crate::told::clean::tests::read_back;

mod inbound;

const NOW: Time = Time(1_700_000_000_000_000);
const TOKEN: &str = "a token of some length";

/// Lanes that remember what they heard.
struct Ears(Arc<Mutex<Vec<DecisionId>>>);

impl Hears for Ears {
    fn lift(&self, id: DecisionId) {
        self.0.lock().push(id);
    }

    fn approve(&self, _: DecisionId, _: Time) {}

    fn reject(&self, id: DecisionId) {
        self.lift(id);
    }

    fn promote(&self, _model: &str) -> Result<Promotion, NotPromoted> {
        Ok(Promotion { rows: 500, kept: true })
    }

    fn promote_candidate(&self, _: &str) -> Result<(Summary, bool), NotPromoted> {
        Ok((candidate("prices").summary, true))
    }
}

fn access(tokens: Vec<Token>) -> Access {
    let listen = "127.0.0.1:8766".parse().unwrap();
    let admin = Admin { listen, token: None, tokens, tls: None, certificates: vec![] };
    Access::new(listen, &Secret::new(TOKEN.into()), &admin)
}

struct Fixture {
    state: AdminState,
    lifted: Arc<Mutex<Vec<DecisionId>>>,
    directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::new(&["prices".to_owned()], &["one_field_sweep"]).unwrap();
    let outlet = Arc::new(records::tests::silent(&metrics));
    let settings = GateSettings {
        blocks_max: 100,
        proven_keys_max: 100,
        brake: BrakeLimits { blocks_per_minute: 100, share_of_clients: 1.0 },
        never_block: vec![],
        at_most: None,
        shared_addresses: Vec::new(),
        kill_switch: directory.path().join("kill-switch"),
    };
    let gate = Arc::new(Gate::new(settings, Arc::clone(&metrics)));
    let lifted = Arc::<Mutex<Vec<DecisionId>>>::default();
    let ledger = Arc::new(Ledger::in_memory(Default::default()));
    let control = Control::new(Rooms {
        gate: Arc::clone(&gate),
        ledger: Arc::clone(&ledger),
        outlet: Arc::clone(&outlet),
        lanes: Arc::new(Ears(Arc::clone(&lifted))),
        modes: Box::new(|| Modes { named: vec![("prices".into(), Mode::Enforce)], others: None }),
        configured: Box::new(|| vec!["198.51.100.0/24".parse().unwrap()]),
        widest: Box::new(|| checkgate_config::settings::WidestPrefix { ipv4: 24, ipv6: 48 }),
        instance_key: [7; 16],
    });
    let inbound = Arc::new(crate::inbound::Inbound::new(&[], &metrics));
    let state = AdminState {
        gate,
        metrics,
        outlet,
        readiness: Arc::default(),
        access: Arc::new(access(vec![])),
        ledger,
        control: Arc::new(control),
        inbound,
        answers: Arc::default(),
        listeners: Room::default(),
        models: Arc::new(|| vec![prices()]),
        candidates: Arc::new(|| vec![candidate("prices").summary]),
        drift: Arc::new(|_, version| {
            Ok(version.is_none_or(|version| version == "2").then(|| super::drift::tests::view(3000, 40.0)))
        }),
        farthest: Arc::new(|_| Ok(crate::farthest::tests::of("prices", "203.0.113.7"))),
        sinks: Arc::new(Vec::new),
        config: Arc::new(|| ConfigStatus::new(Some("/etc/checkgate.yaml".into()))),
        directory: Arc::new(StateStatus { directory: "/var/lib/checkgate".into(), problems: vec![] }),
        clock: Arc::new(|| NOW),
    };
    Fixture { state, lifted, directory }
}

#[tokio::test]
async fn a_finding_is_told_by_its_id_and_by_its_decisions() {
    let fixture = fixture();
    fixture.state.outlet.offer(None, &records::tests::record(Kind::Finding, 7));
    for id in ["f-0000000000000007", "d-0000000000000007"] {
        let (status, body) = get_with(&fixture, &format!("/v1/findings/{id}"), "application/json").await;
        assert_eq!(
            (status, body.starts_with("{\"id\":\"f-0000000000000007\"")),
            (StatusCode::OK, true),
            "{body}"
        );
        let (status, body) = get_with(&fixture, &format!("/v1/findings/{id}"), "text/plain").await;
        assert_eq!(
            (status, body.starts_with("f-0000000000000007  one_field_sweep")),
            (StatusCode::OK, true),
            "{body}"
        );
    }
    let (status, body) = get_with(&fixture, "/v1/findings/f-0000000000000008", "text/plain").await;
    assert_eq!((status, body.contains("mend")), (StatusCode::NOT_FOUND, true), "{body}");
}

#[tokio::test]
async fn who_asks_most_is_listed_beside_what_that_means() {
    let fixture = fixture();
    let get = async |path: &str| {
        let (status, body) = get_with(&fixture, path, "application/json").await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let (status, listed) = get("/v1/clients?model=prices&most=5").await;
    let first = listed.pointer("/models/0/farthest/0").cloned().unwrap_or_default();
    assert_eq!(
        (status, &first["client"], &first["rows"]),
        (StatusCode::OK, &Value::from("203.0.113.7"), &Value::from(1500))
    );
    assert!(listed["caveat"].as_str().is_some_and(|said| said.contains("nobody is accused")), "{listed}");
    for (path, status) in [
        ("/v1/clients?most=0", StatusCode::BAD_REQUEST),
        ("/v1/clients?most=101", StatusCode::BAD_REQUEST),
        ("/v1/clients?model=nobody", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(get(path).await.0, status, "{path}");
    }
    let (_, report) = get("/v1/report").await;
    assert_eq!(report.pointer("/farthest/0/farthest/0"), Some(&first), "the report holds it as well");
}

#[tokio::test]
async fn every_naughty_string_comes_back_from_the_api_and_steers_no_terminal() {
    let fixture = fixture();
    for (id, text) in (1..).zip(naughty_strings::BLNS) {
        let record = records::tests::record(Kind::Finding, id);
        let text = *text;
        let record = checkgate_detectors::finding::Record {
            model: text.into(),
            fields: vec![text.into()],
            explanation: text.to_owned(),
            ..record
        };
        fixture.state.outlet.offer(None, &record);
    }
    let (status, body) = get_with(&fixture, "/v1/findings?limit=1000", "application/json").await;
    assert_eq!((status, body.contains(steers)), (StatusCode::OK, false), "{body:?}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let findings = body["findings"].as_array().unwrap();
    assert_eq!(findings.len(), naughty_strings::BLNS.len());
    for (finding, text) in findings.iter().rev().zip(naughty_strings::BLNS) {
        let got = [&finding["model"], &finding["fields"][0], &finding["explanation"]];
        assert_eq!(got, [*text; 3]);
        let path = format!("/v1/findings/{}", finding["id"].as_str().unwrap());
        let (_, page) = get_with(&fixture, &path, "text/plain").await;
        assert!(!page.contains(|c| steers(c) && c != '\n'), "{page:?}");
        let line = format!("client 192.0.2.7, model {text}");
        assert!(page.split('\n').any(|shown| read_back(shown) == line), "{line:?} is not on {page:?}");
    }
}

async fn get_with(fixture: &Fixture, path: &str, accept: &str) -> (StatusCode, String) {
    let request =
        Request::get(path).header(HOST, "127.0.0.1").header(ACCEPT, accept).body(Body::empty()).unwrap();
    let response = router(fixture.state.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn prices() -> ModelStatus {
    ModelStatus {
        name: "prices".into(),
        discovered: false,
        mode: Mode::Enforce,
        hold: Hold::Answer,
        protocol: Some("open_inference".into()),
        detectors: vec!["one_field_sweep".into()],
        quarantined: vec![],
        reference: Some(ReferenceStatus { rows: 500, trust: "provisional" }),
        clients: 3,
    }
}

impl Fixture {
    async fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
    ) -> (StatusCode, http::HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "127.0.0.1:8766");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response =
            router(self.state.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, headers, body) = self.send("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "application/json", "GET {path}");
        serde_json::from_str(&body)
            .unwrap_or_else(|error| panic!("GET {path} gives no JSON ({error}): {body}"))
    }

    fn block(&self, id: u64) {
        let why = records::tests::record(Kind::Decision, id);
        let block = Block {
            id: DecisionId(id),
            client: why.client,
            action: Action::Block,
            time: why.time,
            acts_from: NOW,
            until: NOW.plus(Duration::from_secs(600)),
            lasts: Duration::from_secs(600),
            may_act: true,
            clients_active: 100,
        };
        self.state.outlet.offer(Some(0), &why);
        let origin = Origin { model: Some(0), mode: Mode::Enforce };
        let rules = Rules {
            brake: BrakeLimits { blocks_per_minute: 100, share_of_clients: 1.0 },
            ..Rules::default()
        };
        assert_eq!(
            self.state.gate.apply(&block, &why, (origin, &rules), NOW, &mut Vec::new()),
            Applied::Enforced
        );
    }
}

#[tokio::test]
async fn every_error_is_a_problem_document_with_a_mend() {
    let it = fixture();
    for (method, path, token, expected) in [
        ("GET", "/", None, 404),
        ("POST", "/metrics", Some(TOKEN), 405),
        ("POST", "/healthz", None, 405),
        ("PUT", "/v1/kill-switch", None, 401),
        ("DELETE", "/v1/decisions/d-0000000000000001", None, 401),
        ("DELETE", "/v1/decisions/d-0000000000000001", Some("wrong"), 401),
        ("DELETE", "/v1/decisions/d-0000000000000001", Some(TOKEN), 404),
        ("DELETE", "/v1/decisions/everything", Some(TOKEN), 400),
        ("DELETE", "/v1/decisions/%ff", Some(TOKEN), 400),
        ("GET", "/v1/decisions?limit=10001", None, 400),
        ("GET", "/v1/findings?limit=-1", None, 400),
    ] {
        let (status, headers, body) = it.send(method, path, token).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "application/problem+json", "{method} {path}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], expected);
        for field in ["type", "title", "detail", "mend"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field} is missing in {body}"
            );
        }
        assert!(status != 405 || headers.contains_key(ALLOW), "{method} {path} names no methods");
    }
    assert_eq!(it.state.metrics.admin_refusals.get(), 3);
}

#[tokio::test]
async fn a_decision_is_listed_with_its_evidence_until_it_is_lifted() {
    let it = fixture();
    it.block(1);
    it.block(2);
    let listed = it.get("/v1/decisions").await;
    assert_eq!((&listed["active_total"], listed["recent"].as_array().unwrap().len()), (&2.into(), 2));
    let active = &listed["active"][0];
    assert_eq!(active["client"], "192.0.2.7");
    assert_eq!((&active["acts"], &active["action"]), (&Value::from(true), &Value::from("block")));
    assert_eq!(active["until"], 1_700_000_600.0);
    assert_eq!(active["record"]["explanation"], "it moved one field \"area\"\nand nothing else");
    assert_eq!(active["record"]["decision_id"], active["decision_id"]);
    let (status, ..) = it.send("DELETE", "/v1/decisions/d-0000000000000001", Some(TOKEN)).await;
    assert_eq!(status, 204);
    assert_eq!(*it.lifted.lock(), [DecisionId(1)], "the lanes must hear of it");
    let listed = it.get("/v1/decisions?limit=0").await;
    assert_eq!((&listed["active_total"], &listed["active"]), (&1.into(), &Value::Array(vec![])));
}

#[tokio::test]
async fn findings_are_listed_newest_first() {
    let it = fixture();
    it.state.outlet.offer(Some(0), &records::tests::record(Kind::Finding, 1));
    it.state.outlet.offer(Some(0), &records::tests::record(Kind::Finding, 2));
    let findings = it.get("/v1/findings?limit=1").await;
    assert_eq!(findings["findings"].as_array().unwrap().len(), 1);
    assert_eq!(findings["findings"][0]["decision_id"], "d-0000000000000002");
}

#[tokio::test]
async fn the_kill_switch_is_set_read_and_unset() {
    let it = fixture();
    assert_eq!(it.get("/v1/kill-switch").await["on"], false);
    for (method, on) in [("PUT", true), ("PUT", true), ("DELETE", false), ("DELETE", false)] {
        let (status, _, body) = it.send(method, "/v1/kill-switch", Some(TOKEN)).await;
        assert_eq!((status.as_u16(), body), (200, format!(r#"{{"on":{on}}}"#)), "{method}");
        assert_eq!(it.get("/v1/kill-switch").await["on"], on);
        assert_eq!(it.directory.path().join("kill-switch").exists(), on, "it must survive a restart");
    }
}

#[tokio::test]
async fn a_kill_switch_that_is_not_durable_holds_and_says_so() {
    let it = fixture();
    std::fs::remove_dir_all(it.directory.path()).unwrap();
    let (status, _, body) = it.send("PUT", "/v1/kill-switch", Some(TOKEN)).await;
    assert_eq!(status, 507, "{body}");
    assert_eq!(it.get("/v1/kill-switch").await["on"], true);
}

#[tokio::test]
async fn readiness_follows_the_listeners() {
    let it = fixture();
    assert_eq!(it.send("GET", "/readyz", None).await.0, 503);
    it.state.readiness.set_ready();
    assert_eq!(it.send("GET", "/readyz", None).await.0, 200);
    it.state.readiness.set_draining();
    assert_eq!(it.send("GET", "/readyz", None).await.0, 503);
    assert_eq!(it.send("GET", "/healthz", None).await.0, 200, "a draining process is healthy");
}

#[tokio::test]
async fn status_tells_where_things_stand() {
    let it = fixture();
    it.state.readiness.set_ready();
    let status = it.get("/v1/status").await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["kill_switch"]["on"], false);
    assert_eq!(status["brake"]["engaged"], false);
    assert_eq!(status["state"]["directory"], "/var/lib/checkgate");
    assert_eq!(status["models"][0]["mode"], "enforce");
    assert_eq!(status["models"][0]["reference"]["trust"], "provisional");
}

#[tokio::test]
async fn metrics_are_text_and_no_answer_is_cached() {
    let it = fixture();
    let (status, headers, body) = it.send("GET", "/metrics", None).await;
    assert_eq!(status, 200);
    assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(headers.get(CACHE_CONTROL).unwrap(), "no-store");
    assert_eq!(headers.get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
    assert!(body.contains("checkgate_build_info{version="), "{body}");
}

/// What an answer says: status, headers, body.
type Said = (u16, http::HeaderMap, Value);

impl Fixture {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Said {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "127.0.0.1:8766");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = router(self.state.clone()).oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        if head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
            // It has no end.
            return (head.status.as_u16(), head.headers, Value::Null);
        }
        let body = body.collect().await.unwrap().to_bytes();
        let body =
            serde_json::from_slice(&body).unwrap_or(Value::String(String::from_utf8_lossy(&body).into()));
        (head.status.as_u16(), head.headers, body)
    }

    /// A POST of JSON with the token of everything.
    async fn post(&self, path: &str, body: &str) -> Said {
        let token = format!("Bearer {TOKEN}");
        self.ask("POST", path, &[("authorization", &token), ("content-type", "application/json")], body).await
    }
}

const BLOCK: &str = r#"{"client":"192.0.2.9","seconds":600,"why":"seen elsewhere"}"#;

#[tokio::test]
async fn whom_no_decision_can_be_about_is_refused_and_counted_by_why_and_what_is_decided_by_action() {
    use crate::metrics::labels::ClientRefusal;
    let it = fixture();
    let order = |client: &str| format!(r#"{{"client":"{client}","seconds":600,"why":"a test"}}"#);
    for (client, status) in [("192.0.0.0/16", 403), ("2001:db8::/32", 403), ("everybody", 422), ("0/0", 422)]
    {
        assert_eq!(it.post("/v1/decisions", &order(client)).await.0, status, "{client}");
    }
    let erase = it.post("/v1/clients/erase", r#"{"client":"somebody"}"#).await;
    assert_eq!(erase.0, 422, "{:?}", erase.2);
    let refused = &it.state.metrics.clients_refused;
    let counted = (refused.get(ClientRefusal::TooWide), refused.get(ClientRefusal::Unreadable));
    assert_eq!(counted, (2, 3));
    it.state.metrics.model(Some(0)).record(&records::tests::record(Kind::Decision, 7));
    let page = it.state.metrics.encode();
    let line = "checkgate_decisions_by_action_total{action=\"block\",model=\"prices\"} 1";
    assert!(page.contains(line), "{page}");
}

#[tokio::test]
async fn a_decision_is_taken_shown_extended_and_listed_by_filters() {
    let it = fixture();
    let (status, headers, taken) = it.post("/v1/decisions", BLOCK).await;
    assert_eq!(
        (status, &taken["status"], &taken["durable"]),
        (201, &"in_force".into(), &false.into()),
        "{taken}"
    );
    assert_eq!(headers.get("checkgate-durable").unwrap(), "false", "a ledger in memory");
    let id = taken["id"].as_str().unwrap();
    assert_eq!(headers.get("location").unwrap().to_str().unwrap(), format!("/v1/decisions/{id}"));
    assert_eq!(it.get(&format!("/v1/decisions/{id}")).await["client"], "192.0.2.9");
    let (status, _, longer) = it.post(&format!("/v1/decisions/{id}/extend"), r#"{"seconds":1200}"#).await;
    assert_eq!((status, &longer["until"]), (200, &1_700_001_200.0.into()), "{longer}");
    for (filter, listed) in [
        ("", 1),
        ("?client=192.0.2.9&action=block&detector=operator&status=in_force", 1),
        ("?client=192.0.2.8", 0),
        ("?status=lifted", 0),
        ("?action=throttle", 0),
        ("?since=1699999999.5", 1),
        ("?since=1700000001", 0),
    ] {
        let list = it.get(&format!("/v1/decisions{filter}")).await;
        assert_eq!(list["decisions"].as_array().unwrap().len(), listed, "{filter}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_a_problem_of_its_own_status() {
    let it = fixture();
    let token = format!("Bearer {TOKEN}");
    let json = [("authorization", &*token), ("content-type", "application/json")];
    let long = format!("{{\"client\":\"192.0.2.9\",\"seconds\":1,\"why\":\"{}\"}}", "x".repeat(70_000));
    for (headers, body, expected) in [
        (&json[..], "{", 400),
        (&json, "[]", 422),
        (&json, r#"{"client":"192.0.2.9","seconds":1,"why":"x","reason":"y"}"#, 422),
        (&json, r#"{"client":"192.0.2.9","seconds":-1,"why":"x"}"#, 422),
        (&json, r#"{"client":"192.0.2.9","seconds":0,"why":"x"}"#, 422),
        (&json, r#"{"client":"example.org","seconds":1,"why":"x"}"#, 422),
        (&json, r#"{"client":"192.0.2.9","seconds":1}"#, 422),
        (&json, r#"{"client":"192.0.2.9","seconds":1,"why":"x","model":"none"}"#, 404),
        (&json, &long, 413),
        (&json[..1], BLOCK, 415),
    ] {
        let (status, headers, problem) = it.ask("POST", "/v1/decisions", headers, body).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(status, expected, "{shown}: {problem}");
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "application/problem+json", "{shown}");
        assert!(problem["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{problem}");
    }
    assert_eq!(it.get("/v1/decisions").await["active_total"], 0);
}

#[tokio::test]
async fn the_same_key_does_nothing_twice() {
    let it = fixture();
    let token = format!("Bearer {TOKEN}");
    let headers =
        [("authorization", &*token), ("content-type", "application/json"), ("idempotency-key", "k-1")];
    let (status, _, first) = it.ask("POST", "/v1/decisions", &headers, BLOCK).await;
    assert_eq!(status, 201);
    let (status, said, again) = it.ask("POST", "/v1/decisions", &headers, BLOCK).await;
    assert_eq!((status, &again), (201, &first));
    assert_eq!(said.get("idempotency-replayed").unwrap(), "true");
    assert_eq!(it.get("/v1/decisions").await["active_total"], 1, "it was done twice");
    let (status, ..) = it.ask("POST", "/v1/decisions", &headers, &BLOCK.replace("600", "601")).await;
    assert_eq!(status, 422, "the same key with another body");
}

#[tokio::test]
async fn the_never_block_list_is_read_and_written() {
    let it = fixture();
    for (method, path, expected) in [
        ("PUT", "/v1/never-block/192.0.2.9?why=a%20load%20balancer", 200),
        ("PUT", "/v1/never-block/10.0.0.0%2F8", 200),
        ("PUT", "/v1/never-block/10.0.0.0%2F8", 200),
        ("DELETE", "/v1/never-block/10.0.0.0%2F8", 204),
        ("DELETE", "/v1/never-block/10.0.0.0%2F8", 404),
        ("DELETE", "/v1/never-block/198.51.100.0%2F24", 409),
        ("PUT", "/v1/never-block/0.0.0.0%2F0", 400),
        ("PUT", "/v1/never-block/example.org", 400),
    ] {
        let (status, _, body) = it.send(method, path, Some(TOKEN)).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
    }
    let entries = it.get("/v1/never-block").await["entries"].clone();
    assert_eq!(
        entries,
        serde_json::json!([
            {"network": "198.51.100.0/24", "source": "configuration"},
            {"network": "192.0.2.9/32", "source": "operators"},
        ])
    );
    let (status, _, taken) = it.post("/v1/decisions", BLOCK).await;
    assert_eq!((status, &taken["status"]), (201, &"observed".into()), "{taken}");
    assert_eq!(taken["kept_back"], "the client is on the never-block list");
}

#[tokio::test]
async fn a_reference_is_listed_and_promoted() {
    let it = fixture();
    let listed = it.get("/v1/references").await;
    assert_eq!(listed["references"][0]["model"], "prices");
    let (status, _, promoted) = it.post("/v1/references/prices/promote", "{}").await;
    assert_eq!((status, &promoted["rows"]), (200, &500.into()), "{promoted}");
    assert_eq!(promoted.get("drift_rows"), None, "{promoted}");
    let waiting = &listed["candidates"][0];
    assert_eq!((&waiting["model"], &waiting["shares"][0]["client"]), (&"prices".into(), &"192.0.2.7".into()));
    let order = r#"{"candidate": true, "why": "v2 is out"}"#;
    let (status, _, promoted) = it.post("/v1/references/prices/promote", order).await;
    assert_eq!((status, &promoted["rows"]), (200, &1.into()), "{promoted}");
    assert_eq!(it.post("/v1/references/nobody/promote", "").await.0, 404);
    assert_eq!(it.post("/v1/references/nobody/promote", order).await.0, 404);
}

#[tokio::test]
async fn the_drift_of_a_model_is_shown_and_a_busy_lane_says_so() {
    let mut it = fixture();
    let shown = it.get("/v1/models/prices/drift?features=1").await;
    assert_eq!((&shown["model"], &shown["state"]), (&"prices".into(), &"drifting".into()), "{shown:#}");
    assert_eq!(shown["features"][0]["name"], "area", "{shown:#}");
    let status = async |it: &Fixture, path: &str| get_with(it, path, "application/json").await.0.as_u16();
    assert_eq!(status(&it, "/v1/models/nobody/drift").await, 404);
    let of_version = it.get("/v1/models/prices/drift?version=2").await;
    assert_eq!(of_version["version"], "2", "{of_version:#}");
    assert_eq!(status(&it, "/v1/models/prices/drift?version=3").await, 404, "it is not watched apart");
    for wrong in ["features=0", "features=257", "features=x", "limit=3"] {
        assert_eq!(status(&it, &format!("/v1/models/prices/drift?{wrong}")).await, 400, "{wrong}");
    }
    it.state.drift = Arc::new(|_, _| Ok(None));
    assert_eq!(status(&it, "/v1/models/prices/drift").await, 404, "it is not watched");
    it.state.drift = Arc::new(|_, _| Err(crate::lane::LaneError::Busy));
    assert_eq!(status(&it, "/v1/models/prices/drift").await, 503);
}

#[tokio::test]
async fn a_client_that_is_none_is_not_erased_and_an_erasure_without_a_disk_is_told() {
    let it = fixture();
    let (status, _, problem) = it.post("/v1/clients/erase", r#"{"client": "somebody"}"#).await;
    assert_eq!(status, 422, "{problem}");
    // The ledger of this fixture is in memory, so nothing could be taken off a disk.
    let (status, _, problem) = it.post("/v1/clients/erase", r#"{"client": "192.0.2.7"}"#).await;
    assert_eq!(status, 503, "{problem}");
}

#[tokio::test]
async fn a_link_needs_no_token_and_its_page_changes_nothing() {
    let it = fixture();
    let (_, _, taken) = it.post("/v1/decisions", BLOCK).await;
    let id: DecisionId = taken["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(it.post(&format!("/v1/decisions/{id}/links"), "").await.0, 409, "it is in force");
    let decided = it.state.ledger.book().decision(id).cloned().unwrap();
    let proposed = Decided { status: Status::Proposed, ..decided };
    it.state.ledger.note(NOW, By::itself(), What::Decision(Box::new(proposed)));
    let (status, _, links) = it.post(&format!("/v1/decisions/{id}/links"), r#"{"seconds":60}"#).await;
    assert_eq!(status, 201, "{links}");
    let path = links["reject"].as_str().unwrap();
    let (status, headers, page) = it.ask("GET", path, &[], "").await;
    assert_eq!((status, headers.get("referrer-policy").unwrap().as_bytes()), (200, &b"no-referrer"[..]));
    assert!(page.as_str().unwrap().contains(&format!("reject {id}")), "{page}");
    assert_eq!(
        it.get("/v1/decisions").await["decisions"][0]["status"],
        "proposed",
        "looking changed something"
    );
    assert_eq!(it.ask("POST", path, &[("origin", "http://127.0.0.1:8766")], "").await.0, 200);
    assert_eq!(it.get("/v1/decisions").await["decisions"][0]["status"], "rejected");
    assert_eq!(it.ask("POST", path, &[], "").await.0, 410, "it was used");
    for _ in 0..10 {
        assert_eq!(it.ask("GET", "/v1/links/00", &[], "").await.0, 404);
    }
    assert_eq!(it.ask("GET", path, &[], "").await.0, 429, "whoever guesses has to wait");
}

#[tokio::test]
async fn events_tell_what_happens_with_the_actor() {
    let it = fixture();
    let request = Request::get("/v1/events").header(HOST, "127.0.0.1").body(Body::empty()).unwrap();
    let response = router(it.state.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), "text/event-stream");
    it.post("/v1/decisions", BLOCK).await;
    let mut body = response.into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    assert!(text.contains("event: decision\n") && text.contains("id: 1\n"), "{text}");
    assert!(
        text.contains("\"who\":\"admin.token\"") && text.contains("\"why\":\"seen elsewhere\""),
        "{text}"
    );
    for _ in 0..5000 {
        it.state.ledger.note(NOW, By::itself(), What::KillSwitch { on: false });
    }
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    assert!(text.contains("event: lost\n") && text.contains("{\"lost\":904}"), "{text}");
}

#[tokio::test]
async fn only_so_many_listen_at_once() {
    let it = fixture();
    let listen = || {
        let request = Request::get("/v1/events").header(HOST, "127.0.0.1").body(Body::empty()).unwrap();
        router(it.state.clone()).oneshot(request)
    };
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(listen().await.unwrap());
    }
    assert_eq!(listen().await.unwrap().status(), 503);
    assert_eq!(it.state.metrics.admin_bounds.get(AdminBound::Listeners), 1, "the bound was reached once");
    open.pop();
    assert_eq!(listen().await.unwrap().status(), 200);
}

#[test]
fn every_operation_has_an_id_of_its_own() {
    let document: Value = serde_json::from_str(openapi::text()).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let operations = document["paths"].as_object().unwrap().values().filter_map(Value::as_object).flatten();
    for (_, operation) in operations {
        let Some(id) = operation["operationId"].as_str() else { continue };
        assert!(seen.insert(id.to_owned()), "two operations are called {id}");
    }
    assert!(seen.len() > 20, "{seen:?}");
}

/// Every operation of the document, with its path made real.
fn operations() -> Vec<(String, String, String)> {
    let document: Value = serde_json::from_str(openapi::text()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let real = path
                .replace("{id}", "d-0000000000000001")
                .replace("{network}", "192.0.2.1")
                .replace("{model}", "prices")
                .replace("{name}", "nobody")
                .replace("{secret}", "00")
                .replace("{token}", "00");
            all.push((method.to_uppercase(), path.clone(), real));
        }
    }
    all
}

#[tokio::test]
async fn every_route_asks_for_its_scope() {
    let mut it = fixture();
    let token = |name: &str, scope| {
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        Token { name: name.into(), sha256: digest.as_ref().try_into().unwrap(), scope }
    };
    let scopes = [("reader", Scope::Read), ("decider", Scope::Decide), ("administrator", Scope::Admin)];
    it.state.access = Arc::new(access(scopes.map(|(name, scope)| token(name, scope)).to_vec()));
    for (method, path, real) in operations() {
        let needed = match (&*method, &*path) {
            (_, "/healthz" | "/readyz" | "/v1/links/{token}") => None,
            (_, path) if path.starts_with("/v1/inbound/") => None,
            ("GET", _) => Some(Scope::Read),
            (_, path) if path.starts_with("/v1/decisions") || path.starts_with("/v1/never-block") => {
                Some(Scope::Decide)
            }
            _ => Some(Scope::Admin),
        };
        let refused = |status: u16| status == 401 || status == 403;
        let (status, ..) = it.ask(&method, &real, &[], "").await;
        assert_eq!(status == 401, needed.is_some(), "{method} {path} without a token: {status}");
        for (name, scope) in scopes {
            let bearer = format!("Bearer {name}");
            let (status, ..) = it.ask(&method, &real, &[("authorization", &bearer)], "").await;
            let expected = needed.is_some_and(|needed| scope < needed);
            assert_eq!(refused(status), expected, "{method} {path} as {name}: {status}");
        }
    }
}

#[tokio::test]
async fn the_document_names_every_route_and_no_other() {
    let it = fixture();
    let operations = operations();
    let token = format!("Bearer {TOKEN}");
    for (_, path, real) in &operations {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let described = operations.iter().any(|(known, place, _)| known == method && place == path);
            let (status, ..) = it.ask(method, real, &[("authorization", &token)], "").await;
            assert_eq!(status != 405, described, "{method} {path}: {status}");
        }
    }
    let routes = format!("{:?}", router(it.state.clone()));
    let mut paths: Vec<_> = operations.into_iter().map(|(_, path, _)| path).collect();
    paths.dedup();
    for path in &paths {
        assert!(routes.contains(&format!("\"{path}\"")), "{path} is in no router: {routes}");
    }
    let (served, _) =
        routes.split_once("fallback_router").expect("axum prints its routes before its fallback");
    let served = served.matches("): MethodRouter(").count();
    assert_eq!(served, paths.len(), "{routes}");
}

#[test]
fn the_document_is_the_committed_one() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    checkgate_config::golden::equals_committed(&file, openapi::text()).unwrap();
}

/// Two types of one name would be one schema, whichever comes last.
#[test]
fn no_schema_of_the_document_stands_for_two_types() {
    let resources = [
        status::router(),
        decisions::router(),
        super::inbound::router(),
        findings::router(),
        report::router(),
        never_block::router(),
        references::router(),
        super::drift::router(),
        kill_switch::router(),
        events::router(),
    ];
    let mut known = std::collections::BTreeMap::new();
    for resource in resources {
        for (name, schema) in resource.into_openapi().components.unwrap_or_default().schemas {
            let schema = serde_json::to_value(schema).unwrap();
            let before = known.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*before, schema, "{name} stands for two types; name one with #[schema(as = ...)]");
        }
    }
}
