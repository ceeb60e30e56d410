use std::path::Path;
use std::time::Duration;

use checkgate_config::golden::equals_committed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::tests::{NOW, built};
use super::*;

/// A block of an hour on an address.
fn event(kind: EventKind, client: &str) -> Event {
    Event {
        kind,
        client: Some(client.into()),
        model: Some("pricing".into()),
        detector: Some("one_field_sweep".into()),
        atlas: Some("AML.T0024.002".into()),
        action: Some(Action::Block),
        status: Some(if kind == EventKind::Lifted { Status::Lifted } else { Status::InForce }),
        until: Some(NOW.plus(Duration::from_secs(3600))),
        decision: Some(DecisionId(7)),
        explanation: "Client 192.0.2.7 tried 12 different values of one field.".into(),
        ..Event::test("cg-0123456789abcdef", NOW)
    }
}

fn means(event: &Event) -> Told {
    told(event, true, NOW)
}

#[test]
fn a_block_on_an_address_becomes_an_alert_with_a_decision() {
    let Told::Ban(alert) = means(&event(EventKind::Decision, "192.0.2.7")) else { panic!("it is no ban") };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/lapi/alert.json");
    equals_committed(&file, &format!("{alert:#}\n")).unwrap();
    let Told::Ban(network) = means(&event(EventKind::Approved, "2001:db8:1:2::/64")) else {
        panic!("no ban")
    };
    assert_eq!(
        (&network["source"]["scope"], &network["decisions"][0]["value"]),
        (&"Range".into(), &"2001:db8:1:2::/64".into())
    );
}

#[test]
fn what_no_bouncer_can_or_may_enforce_is_not_told() {
    let block = event(EventKind::Decision, "192.0.2.7");
    for (nothing, why) in [
        (Event { client: Some("key:00000000000000ab".into()), ..block.clone() }, "a key"),
        (Event { action: Some(Action::Throttle), ..block.clone() }, "a throttle"),
        (Event { status: Some(Status::Proposed), ..block.clone() }, "a proposal"),
        (Event { scope: Some(Scope::Model), ..block.clone() }, "what holds at one model"),
        (Event { detector: Some("crowdsec:lan".into()), ..block.clone() }, "what a source decided"),
        (Event { until: Some(NOW), ..block.clone() }, "what is over"),
        (Event { kind: EventKind::Finding, ..block.clone() }, "a finding"),
        (Event { kind: EventKind::Met, ..block.clone() }, "who was met"),
        (Event { kind: EventKind::Rejected, status: Some(Status::Rejected), ..block.clone() }, "a rejection"),
    ] {
        assert_eq!(means(&nothing), Told::Nothing, "{why}");
    }
    let observed = Event { status: Some(Status::Observed), ..block };
    let Told::Ban(alert) = means(&observed) else { panic!("an observation is simulated") };
    assert_eq!((&alert["simulated"], &alert["decisions"][0]["simulated"]), (&true.into(), &true.into()));
    assert_eq!(told(&observed, false, NOW), Told::Nothing, "the operator wants none");
}

/// What a request holds, and what is answered to it.
type Step = (&'static str, &'static str, &'static str);

/// A Local API that is asked these things in this order, and no others.
async fn lapi(steps: Vec<Step>) -> (Box<dyn Sink>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        for (expected, status, body) in steps {
            let mut bytes = vec![0; 65_536];
            let mut request = String::new();
            while !is_whole(&request) {
                let read = socket.read(&mut bytes).await.unwrap();
                assert!(read > 0, "{expected} was not asked");
                request.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
            assert!(request.contains(expected), "{expected} is not in {request}");
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let parameters = json!({"url": format!("http://{address}/lapi"), "machine": "cg", "password": "${P}"});
    (built(&SPEC, &parameters).unwrap(), server)
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

const LOGIN: Step = ("POST /lapi/v1/watchers/login ", "200 OK", r#"{"code":200,"token":"first"}"#);

#[tokio::test]
async fn a_lift_ends_the_one_decision_that_it_is_about() {
    let alerts = r#"[{"message":"x (d-0000000000000007)","decisions":[{"id":41},{"id":42}]},
        {"message":"y (d-0000000000000008)","decisions":[{"id":43}]},{"message":"cscli","decisions":null}]"#;
    let (sink, server) = lapi(vec![
        LOGIN,
        ("authorization: Bearer first", "200 OK", alerts),
        ("DELETE /lapi/v1/decisions/41 ", "200 OK", r#"{"nbDeleted":"1"}"#),
        ("DELETE /lapi/v1/decisions/42 ", "200 OK", r#"{"nbDeleted":"1"}"#),
    ])
    .await;
    sink.send(&[event(EventKind::Lifted, "192.0.2.7")]).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_no_longer_taken_is_replaced_and_a_wrong_password_is_for_a_person() {
    let second = ("POST /lapi/v1/watchers/login ", "200 OK", r#"{"code":200,"token":"second"}"#);
    let later = Event { until: Some(Time::NEVER), ..event(EventKind::Decision, "192.0.2.7") };
    let (sink, server) = lapi(vec![
        LOGIN,
        ("POST /lapi/v1/alerts ", "201 Created", r#"["1"]"#),
        ("authorization: Bearer first", "401 Unauthorized", "{}"),
        second,
        ("authorization: Bearer second", "201 Created", r#"["2"]"#),
    ])
    .await;
    sink.send(std::slice::from_ref(&later)).await.unwrap();
    sink.send(std::slice::from_ref(&later)).await.unwrap();
    server.await.unwrap();
    let (sink, server) = lapi(vec![("login", "403 Forbidden", r#"{"message":"incorrect password"}"#)]).await;
    let error = sink.send(&[Event::test("cg", NOW)]).await.unwrap_err();
    server.await.unwrap();
    assert!(matches!(error, SinkError::Refused { .. }) && !error.to_string().contains("MfKQ9r8"), "{error}");
}
