//! What other systems may do by their endpoints, and that they may do nothing else.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use checkgate_detectors::identity::{Asker, Identity, Standing};
use ring::hmac;
use serde_json::json;

use super::*;
use crate::inbound::Inbound;
use crate::inbound::tests::endpoint;
use crate::metrics::unix_seconds;

const SECRET: &str = "a-secret-of-enough-letters";
const PATH: &str = "/v1/inbound/soc/a-secret-of-enough-letters";

/// A fixture with one endpoint, as the configuration makes it.
fn with(shape: &str, more: &str) -> Fixture {
    let mut it = fixture();
    it.state.inbound = Arc::new(Inbound::new(&[endpoint(shape, more)], &it.state.metrics));
    it
}

fn row(client: &str) -> String {
    json!({"sid": "s1", "search_name": "probed", "result": {"client": client}}).to_string()
}

fn alert(status: &str, client: &str, started: &str) -> String {
    let alert = json!({
        "status": status, "fingerprint": "f1", "startsAt": started, "labels": {"client": client}, "annotations": {},
    });
    json!({"version": "4", "status": status, "alerts": [alert]}).to_string()
}

impl Fixture {
    async fn tells(&self, path: &str, body: &str) -> Said {
        self.ask("POST", path, &[], body).await
    }

    fn refuses(&self, client: &str) -> bool {
        let Some(Identity::Address(address)) = crate::identity::written(client) else { return false };
        let asker = Asker { address, standing: Standing::Declared, key: None, keys_verified: false };
        self.state.gate.admit(&asker, crate::gate::Aim { models: &["prices"], acts: true }, NOW).is_some()
    }

    fn status_of(&self, id: &str) -> Status {
        self.state.ledger.book().decision(id.parse().unwrap()).unwrap().status
    }

    /// A decision on the model `prices` that waits for approval.
    fn propose(&self, id: u64, client: &str) -> String {
        let mut why = records::tests::record(Kind::Decision, id);
        why.client = crate::identity::written(client).unwrap();
        let block = Block {
            id: DecisionId(id),
            client: why.client,
            action: Action::Block,
            time: NOW,
            acts_from: Time::NEVER,
            until: NOW.plus(Duration::from_secs(600)),
            lasts: Duration::from_secs(600),
            may_act: true,
            clients_active: 100,
        };
        let rules = Rules {
            brake: BrakeLimits { blocks_per_minute: 100, share_of_clients: 1.0 },
            ..Rules::default()
        };
        let origin = Origin { model: Some(0), mode: Mode::Enforce };
        self.state.gate.apply(&block, &why, (origin, &rules), NOW, &mut Vec::new());
        let decided = Decided {
            model: Some("prices".into()),
            scope: checkgate_detectors::finding::Scope::Everywhere,
            client: block.client,
            ..crate::ledger::line::tests::decided(id)
        };
        let decided = Decided { status: Status::Proposed, time: NOW, until: block.until, ..decided };
        self.state.ledger.note(NOW, By::itself(), What::Decision(Box::new(decided)));
        DecisionId(id).to_string()
    }
}

#[tokio::test]
async fn a_ban_holds_at_once_under_the_endpoints_name_and_the_same_again_changes_nothing() {
    let it = with("splunk", ", actions: [ban]");
    let mut entries = it.state.ledger.listen();
    let (status, _, said) = it.tells(PATH, &row("192.0.2.9")).await;
    assert_eq!(status, 200, "{said}");
    let outcome = &said["outcomes"][0];
    assert_eq!((&outcome["outcome"], &outcome["asked"]), (&json!("done"), &json!("ban")), "{said}");
    assert!(it.refuses("192.0.2.9") && !it.refuses("192.0.2.8"));
    let entry = entries.recv().await.unwrap();
    assert_eq!((&*entry.by.who, &*entry.by.why), ("inbound:soc", "probed"));
    let (status, headers, again) = it.tells(PATH, &row("192.0.2.9")).await;
    assert_eq!((status, &again), (200, &said), "as before");
    assert_eq!(headers.get("idempotency-replayed").unwrap(), "true");
    assert!(headers.get("checkgate-durable").is_none(), "nothing was changed");
    assert_eq!(it.state.gate.list(NOW).len(), 1, "nothing was done twice");
    let id = outcome["decisions"][0].as_str().unwrap();
    it.state.control.lift(id.parse().unwrap(), By::itself(), NOW).unwrap();
    it.tells(PATH, &row("192.0.2.9")).await;
    assert!(!it.refuses("192.0.2.9"), "what an operator lifted is not banned again by the same alert");
}

#[tokio::test]
async fn after_a_restart_the_ledger_knows_what_an_endpoint_asked_for() {
    let mut it = with("splunk", ", actions: [ban]");
    let (_, _, first) = it.tells(PATH, &row("192.0.2.9")).await;
    it.state.inbound = Arc::new(Inbound::new(&[endpoint("splunk", ", actions: [ban]")], &it.state.metrics));
    let (status, _, again) = it.tells(PATH, &row("192.0.2.9")).await;
    assert_eq!((status, &again["outcomes"][0]["decisions"]), (200, &first["outcomes"][0]["decisions"]));
    assert_eq!(it.state.gate.list(NOW).len(), 1, "it was banned twice");
}

#[tokio::test]
async fn an_endpoint_may_do_what_it_was_given_and_nothing_else() {
    let it = with("splunk", "");
    let (status, _, said) = it.tells(PATH, &row("192.0.2.9")).await;
    assert_eq!((status, &said["where"]), (404, &json!("")), "nothing waits on this client: {said}");
    let ban = json!({"sid": "s2", "result": {"client": "192.0.2.9", "checkgate_action": "ban"}}).to_string();
    let (status, _, said) = it.tells(PATH, &ban).await;
    assert_eq!((status, &said["detail"]), (403, &json!("this endpoint may not ban, only approve, reject")));
    assert!(said["mend"].as_str().unwrap().contains("`actions`"), "{said}");
    it.block(7);
    let lift = json!({"sid": "s3", "result": {"decision_id": DecisionId(7).to_string(), "checkgate_action": "lift"}});
    assert_eq!(it.tells(PATH, &lift.to_string()).await.0, 403);
    assert_eq!(it.state.gate.list(NOW).len(), 1, "nothing was changed");
}

#[tokio::test]
async fn what_waits_is_approved_or_rejected_by_decision_or_by_client() {
    let it = with("splunk", ", models: [prices]");
    let (one, two) = (it.propose(1, "192.0.2.1"), it.propose(2, "192.0.2.2"));
    let (status, _, said) = it.tells(PATH, &row("192.0.2.1")).await;
    assert_eq!((status, &said["outcomes"][0]["decisions"][0]), (200, &json!(one)), "{said}");
    assert!(it.refuses("192.0.2.1"), "it acts");
    assert!(said["outcomes"][0]["until"].is_f64(), "{said}");
    let reject =
        json!({"sid": "s2", "result": {"decision_id": two, "checkgate_action": "reject"}}).to_string();
    assert_eq!(it.tells(PATH, &reject).await.0, 200);
    assert_eq!((it.status_of(&one), it.status_of(&two)), (Status::InForce, Status::Rejected));
    let again = json!({"sid": "s3", "result": {"decision_id": two}}).to_string();
    let (status, _, said) = it.tells(PATH, &again).await;
    assert_eq!((status, said["mend"].is_string()), (409, true), "{said}");
    let other = json!({"sid": "s4", "result": {"decision_id": one, "client": "192.0.2.77"}}).to_string();
    assert_eq!(it.tells(PATH, &other).await.0, 409, "about somebody else");
}

#[tokio::test]
async fn models_that_an_endpoint_does_not_reach_are_left_alone() {
    let it = with("splunk", ", models: [digits], actions: [approve, ban]");
    let id = it.propose(1, "192.0.2.1");
    let by_id = json!({"sid": "s1", "result": {"decision_id": id}}).to_string();
    assert_eq!(it.tells(PATH, &by_id).await.0, 403);
    assert_eq!(it.tells(PATH, &row("192.0.2.1")).await.0, 404);
    let ban = |model: &str| {
        json!({"sid": "s2", "result": {"client": "192.0.2.1", "model": model, "checkgate_action": "ban"}})
            .to_string()
    };
    assert_eq!(it.tells(PATH, &ban("prices")).await.0, 403);
    assert_eq!(it.tells(PATH, &ban("digits")).await.0, 404, "the door knows no such model");
    assert!(it.state.gate.list(NOW).iter().all(|block| block.is_proposed(NOW)), "nothing was done");
}

#[tokio::test]
async fn what_holds_back_other_decisions_holds_back_these_and_the_answer_says_so() {
    let it = with("sentinel", ", actions: [ban], at_most: 10m, lasts: 5m");
    let bearer = format!("Bearer {SECRET}");
    let ban = |id: &str, client: &str, seconds: u32| {
        json!({"id": id, "client": client, "seconds": seconds, "why": "incident 7"}).to_string()
    };
    let tell =
        async |body: String| it.ask("POST", "/v1/inbound/soc", &[("authorization", &bearer)], &body).await.2;
    it.state.control.spare_network("192.0.2.0/25".parse().unwrap(), By::itself(), NOW).unwrap();
    let said = tell(ban("1", "192.0.2.9", 60)).await;
    let outcome = &said["outcomes"][0];
    assert_eq!(outcome["outcome"], "kept_back", "{said}");
    assert_eq!(outcome["kept_back"], "the client is on the never-block list");
    assert!(!it.refuses("192.0.2.9"));
    let said = tell(ban("2", "192.0.2.200", 86_400)).await;
    let outcome = &said["outcomes"][0];
    assert_eq!((&outcome["shortened"], &outcome["until"]), (&json!(true), &json!(1_700_000_600.0)), "{said}");
    let control = &it.state.control;
    control.switch(true, By::itself(), NOW).1.unwrap();
    let said = tell(ban("3", "192.0.2.201", 60)).await;
    assert_eq!(said["outcomes"][0]["kept_back"], "the kill switch is on", "{said}");
}

#[tokio::test]
async fn a_source_that_bans_too_many_trips_its_own_brake() {
    let it = with("splunk", ", actions: [ban]");
    let mut kept_back = 0;
    for host in 0..110 {
        let (_, _, said) = it.tells(PATH, &row(&format!("198.18.0.{host}"))).await;
        kept_back += usize::from(said["outcomes"][0]["kept_back"] == "the brake is on");
    }
    assert_eq!(kept_back, 10, "a hundred a minute are allowed");
    let (status, _, taken) = it.post("/v1/decisions", BLOCK).await;
    assert_eq!((status, &taken["status"]), (201, &json!("in_force")), "others are not braked: {taken}");
}

#[tokio::test]
async fn resolved_lifts_what_this_alert_banned_and_nothing_else() {
    let it = with("alertmanager", ", actions: [ban]");
    let (_, _, operators) = it.post("/v1/decisions", BLOCK).await;
    let (began, later) = ("2026-11-28T19:00:00Z", "2026-11-28T20:00:00Z");
    let (status, _, said) = it.tells(PATH, &alert("firing", "192.0.2.9", began)).await;
    assert_eq!((status, &said["outcomes"][0]["outcome"]), (200, &json!("done")), "{said}");
    assert_eq!(it.state.gate.list(NOW).len(), 2);
    let (_, _, said) = it.tells(PATH, &alert("resolved", "192.0.2.9", later)).await;
    assert_eq!(said["outcomes"][0]["outcome"], "nothing", "another alert: {said}");
    let (_, _, said) = it.tells(PATH, &alert("resolved", "192.0.2.9", began)).await;
    assert_eq!(said["outcomes"][0]["outcome"], "done", "{said}");
    let standing = it.state.gate.list(NOW);
    assert_eq!(standing.len(), 1, "{standing:?}");
    assert_eq!(standing[0].id.to_string(), operators["id"].as_str().unwrap(), "the operator's stays");
    let (_, _, said) = it.tells(PATH, &alert("firing", "192.0.2.9", later)).await;
    assert_eq!(said["outcomes"][0]["outcome"], "nothing", "it was resolved before it came: {said}");
}

#[tokio::test]
async fn whoever_may_ban_may_lift_its_own_and_no_others() {
    let it = with("splunk", ", actions: [ban]");
    let (_, _, operators) = it.post("/v1/decisions", BLOCK).await;
    it.tells(PATH, &row("192.0.2.9")).await;
    let lift = |sid: &str, more: Value| {
        let mut result = json!({"checkgate_action": "lift"});
        result.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"sid": sid, "result": result}).to_string()
    };
    let theirs = lift("s2", json!({"decision_id": operators["id"]}));
    let (status, _, said) = it.tells(PATH, &theirs).await;
    assert_eq!((status, &said["mend"]), (403, &json!("add lift to its `actions`")), "{said}");
    assert_eq!(it.tells(PATH, &lift("s3", json!({"client": "192.0.2.9"}))).await.0, 200);
    assert_eq!(it.state.gate.list(NOW).len(), 1, "its own went");
    assert!(it.refuses("192.0.2.9"), "the operator's stays");
    let it = with("splunk", ", actions: [lift]");
    it.post("/v1/decisions", BLOCK).await;
    assert_eq!(it.tells(PATH, &row("192.0.2.9")).await.0, 200, "lift reaches what others decided");
    assert!(!it.refuses("192.0.2.9"));
}

#[tokio::test]
async fn a_wrong_secret_opens_nothing_and_stands_in_no_answer() {
    let it = with("splunk", ", actions: [ban]");
    for path in ["/v1/inbound/soc/wrong-secret-of-enough-letters", "/v1/inbound/soc", "/v1/inbound/soc/"] {
        let (status, _, said) = it.tells(path, &row("192.0.2.9")).await;
        assert!([401, 404].contains(&status), "{path}: {status} {said}");
        assert!(!said.to_string().contains("wrong-secret"), "{said}");
    }
    assert_eq!(it.tells("/v1/inbound/nobody/x", "{}").await.0, 404);
    assert_eq!(it.ask("GET", PATH, &[], "").await.0, 405, "looking changes nothing");
    assert!(!it.refuses("192.0.2.9"));
    for _ in 0..10 {
        it.tells("/v1/inbound/soc/wrong", "{}").await;
    }
    assert_eq!(it.tells(PATH, &row("192.0.2.9")).await.0, 429, "whoever guesses has to wait");
}

#[tokio::test]
async fn what_cannot_be_read_is_a_problem_and_never_a_crash() {
    let it = with("splunk", ", actions: [ban]");
    let (deep, long) = ("[".repeat(100_000), format!("\"{}\"", "x".repeat(300_000)));
    for (body, expected) in [
        ("", 400),
        ("{", 400),
        ("[]", 422),
        ("null", 422),
        ("{}", 422),
        ("\u{0}", 400),
        (deep.as_str(), 400),
        (long.as_str(), 413),
        (r#"{"sid":"s","result":{}}"#, 422),
    ] {
        let (status, _, said) = it.tells(PATH, body).await;
        let shown = &body[..body.len().min(40)];
        assert_eq!(status, expected, "{shown:?}: {said}");
        assert!(said["mend"].is_string() && said["detail"].is_string(), "{shown:?}: {said}");
    }
}

fn signed(id: &str, stamp: u64, body: &str) -> [(&'static str, String); 3] {
    let key = hmac::Key::new(
        hmac::HMAC_SHA256,
        &BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
    );
    let tag = hmac::sign(&key, format!("{id}.{stamp}.{body}").as_bytes());
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", stamp.to_string()),
        ("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(tag))),
    ]
}

#[tokio::test]
async fn a_copy_of_a_signed_message_is_refused_and_a_further_attempt_is_answered_as_before() {
    let it = with("webhook", ", actions: [ban]");
    let body = json!({"type": "x", "data": {"client": "192.0.2.9", "seconds": 60}}).to_string();
    let now = unix_seconds() as u64 + 1;
    let tell = async |headers: &[(&'static str, String); 3], body: &str| {
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        it.ask("POST", "/v1/inbound/soc", &headers, body).await
    };
    let message = signed("m1", now, &body);
    let (status, _, said) = tell(&message, &body).await;
    assert_eq!(status, 200, "{said}");
    assert!(it.refuses("192.0.2.9"));
    let (status, _, copy) = tell(&message, &body).await;
    assert_eq!((status, copy["mend"].is_string()), (409, true), "{copy}");
    let (status, headers, again) = tell(&signed("m1", now + 1, &body), &body).await;
    assert_eq!((status, &again), (200, &said), "a further attempt");
    assert_eq!(headers.get("idempotency-replayed").unwrap(), "true");
    assert_eq!(it.state.gate.list(NOW).len(), 1, "nothing was done twice");
    let (status, ..) = tell(&signed("m2", now, &body), "{}").await;
    assert_eq!(status, 401, "another body");
    let (status, ..) = tell(&signed("m3", now - 400, &body), &body).await;
    assert_eq!(status, 400, "signed too long ago");
    let (status, ..) = it.ask("POST", "/v1/inbound/soc", &[], &body).await;
    assert_eq!(status, 400, "not signed at all");
}
