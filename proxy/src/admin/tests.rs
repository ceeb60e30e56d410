//! The API as a client sees it, without sockets.

use std::time::Duration;

use axum::body::Body;
use checkgate_config::settings::Secret;
use checkgate_detectors::engine::Block;
use checkgate_detectors::finding::Action;
use http::header::{ALLOW, AUTHORIZATION, HOST};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::gate::brake::BrakeLimits;
use crate::gate::{Applied, GateSettings, Origin, Rules};
use crate::records;

const NOW: Time = Time(1_700_000_000_000_000);
const TOKEN: &str = "a token of some length";

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
    let seen = Arc::clone(&lifted);
    let listen = "127.0.0.1:8766".parse().unwrap();
    let state = AdminState {
        gate,
        metrics,
        outlet,
        readiness: Arc::default(),
        access: Arc::new(Access::new(listen, &Secret::new(TOKEN.into()), false, [1, 2])),
        ledger: Arc::new(crate::ledger::Ledger::in_memory(Default::default())),
        lift: Arc::new(move |id| seen.lock().push(id)),
        models: Arc::new(|| vec![prices()]),
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
