//! What is read from the bodies that other systems send, and that nothing else is.

use std::time::Duration;

use checkgate_config::settings::InboundAction;
use proptest::prelude::*;
use serde_json::json;

use super::ask::{Wish, read};
use super::*;

/// An endpoint as the configuration makes it.
pub fn endpoint(shape: &str, more: &str) -> settings::Inbound {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    std::fs::write(folder.path().join("word"), "a-secret-of-enough-letters\n").unwrap();
    let secret = if shape == "webhook" { "secret" } else { "word" };
    let text = format!(
        "upstream: http://127.0.0.1:1\ninbound: [{{name: soc, shape: {shape}, secrets: [{{file: {secret}}}]{more}}}]\n"
    );
    let origin = folder.path().join("checkgate.yaml").display().to_string();
    let settings = checkgate_config::read(&text, &origin, &crate::parts::all());
    settings.map_err(|problems| checkgate_config::problem::render(&problems)).unwrap().inbound.remove(0)
}

fn fixture(shape: &str) -> Value {
    let file = format!("{}/fixtures/inbound/{shape}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn asks(shape: &str, more: &str) -> Vec<Result<Ask, Fault>> {
    read(&endpoint(shape, more), Some("msg_1"), &fixture(shape)).unwrap()
}

fn client(text: &str) -> Option<checkgate_detectors::identity::Identity> {
    crate::identity::written(text)
}

#[test]
fn a_splunk_alert_asks_about_its_first_row() {
    let ask = asks("splunk", ", actions: [ban, lift]").remove(0).unwrap();
    assert_eq!(ask.wish, Wish::Act(InboundAction::Ban), "the first of the allowed ones");
    assert_eq!(ask.client, client("203.0.113.7"));
    assert_eq!(ask.decision, "d-00f3a2b1c4d5e6f7".parse().ok());
    assert_eq!((ask.model.as_deref(), ask.lasts), (Some("pricing"), None));
    assert_eq!(ask.why, "Pricing model probed from one address");
    assert!(
        ask.id.starts_with("scheduler__admin__search__RMD5a1b2c3d4e5f60718_at_1764363600_12/"),
        "{}",
        ask.id
    );
    let mut other = fixture("splunk");
    other["result"]["count"] = json!("42");
    let other = read(&endpoint("splunk", ""), None, &other).unwrap().remove(0).unwrap();
    assert_ne!(other.id, ask.id, "another row of the same search");
}

#[test]
fn alerts_are_told_apart_by_fingerprint_and_start_and_those_about_nobody_are_named() {
    let asks = asks("alertmanager", ", actions: [ban]");
    let [Ok(firing), Ok(resolved), Err(nobody)] = asks.as_slice() else { panic!("{asks:#?}") };
    assert_eq!(firing.wish, Wish::Act(InboundAction::Ban));
    assert_eq!((firing.client, firing.lasts), (client("203.0.113.7"), Some(Duration::from_secs(600))));
    assert_eq!(&*firing.id, "c1f8a2b3d4e5f607/2026-11-28T19:00:00.000Z");
    assert_eq!(firing.why, "203.0.113.7 asks pricing 40 times as often as anybody");
    assert_eq!((resolved.wish, resolved.client), (Wish::Resolved, client("2001:db8:0:7::/64")));
    assert_ne!(resolved.key, &*resolved.id, "that it began and that it ended are two things");
    assert_eq!((nobody.at.as_str(), nobody.status.as_u16()), ("/alerts/2/labels/client", 422));
}

#[test]
fn a_playbook_and_a_webhook_say_what_they_ask_for() {
    let ask = asks("sentinel", "").remove(0).unwrap();
    assert_eq!((ask.wish, ask.client), (Wish::Act(InboundAction::Reject), None));
    assert_eq!(&*ask.id, "08584321234567890123456789012CU12");
    let ask = asks("webhook", "").remove(0).unwrap();
    assert_eq!((ask.wish, &*ask.id), (Wish::Act(InboundAction::Ban), "msg_1"));
    assert_eq!((ask.client, ask.lasts), (client("key:00f3a2b1c4d5e6f7"), Some(Duration::from_secs(1800))));
    assert_eq!(ask.model, None, "all models are no model");
}

#[test]
fn other_pointers_take_the_place_of_the_usual_ones() {
    let ask = asks("splunk", ", fields: {client: /result/decision_id}").remove(0).unwrap_err();
    assert_eq!(ask.at, "/result/decision_id", "that is no client");
    let ask = asks("splunk", ", fields: {client: /nowhere, why: /owner}").remove(0).unwrap();
    assert_eq!((ask.client, ask.why.as_str()), (None, "admin"));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_mend() {
    for (shape, pointer, value, place) in [
        ("splunk", "/sid", json!(7), "/sid"),
        ("splunk", "/result", json!([]), "/result"),
        ("splunk", "/result/client", json!(["203.0.113.7", "203.0.113.8"]), "/result/client"),
        ("splunk", "/result/client", json!("host.example"), "/result/client"),
        ("splunk", "/result/client", json!("0x7f.1"), "/result/client"),
        ("splunk", "/result/decision_id", json!("D-00F3A2B1C4D5E6F7"), "/result/decision_id"),
        ("alertmanager", "/version", json!(4), "/version"),
        ("alertmanager", "/alerts", json!([]), "/alerts"),
        ("alertmanager", "/alerts", json!(vec![json!({}); 65]), "/alerts"),
        ("alertmanager", "/alerts/0/fingerprint", json!(null), "/alerts/0/fingerprint"),
        ("alertmanager", "/alerts/0/status", json!("on fire"), "/alerts/0/status"),
        (
            "alertmanager",
            "/alerts/0/annotations/checkgate_seconds",
            json!("-1"),
            "/alerts/0/annotations/checkgate_seconds",
        ),
        ("sentinel", "/id", json!(""), "/id"),
        ("sentinel", "/id", json!("x".repeat(257)), "/id"),
        ("sentinel", "/action", json!("unleash"), "/action"),
        ("webhook", "/data/seconds", json!("NaN"), "/data/seconds"),
        ("webhook", "/data/seconds", json!(1e300), "/data/seconds"),
        ("webhook", "/data", json!(null), "/data/client"),
    ] {
        let mut body = fixture(shape);
        *body.pointer_mut(pointer).unwrap() = value;
        let fault = match read(&endpoint(shape, ""), Some("m"), &body) {
            Ok(asks) => asks.into_iter().find_map(Result::err),
            Err(fault) => Some(fault),
        };
        let fault = fault.unwrap_or_else(|| panic!("{shape} {pointer} was taken"));
        assert_eq!(fault.at, place, "{shape}: {fault:?}");
        assert!(!fault.detail.is_empty() && !fault.mend.is_empty(), "{fault:?}");
    }
}

#[test]
fn what_a_sender_writes_steers_no_terminal_and_is_cut() {
    let mut body = fixture("sentinel");
    body["why"] = json!(format!("\u{1b}[2J\n{}", "x".repeat(1000)));
    let ask = read(&endpoint("sentinel", ""), None, &body).unwrap().remove(0).unwrap();
    assert_eq!(ask.why.chars().count(), 500);
    assert!(!ask.why.contains(char::is_control), "{:?}", ask.why);
}

#[test]
fn only_the_whole_secret_is_one() {
    let metrics = Metrics::new(&[], &[]).unwrap();
    let one = Endpoint::new(endpoint("splunk", ""), Arc::default(), &metrics);
    for (shown, expected) in [
        ("a-secret-of-enough-letters", true),
        ("a-secret-of-enough-letter", false),
        ("a-secret-of-enough-letterss", false),
        ("", false),
    ] {
        assert_eq!(one.knows(shown.as_bytes()), expected, "{shown:?}");
    }
    assert!(!format!("{one:?}").contains("a-secret"), "{one:?}");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("203.0.113.7")),
        Just(json!("d-00f3a2b1c4d5e6f7")),
        Just(json!("firing")),
    ];
    let keys = prop_oneof![
        Just("result"),
        Just("client"),
        Just("src"),
        Just("sid"),
        Just("alerts"),
        Just("version"),
        Just("labels"),
        Just("data"),
        Just("id"),
        Just("action"),
        Just("seconds"),
        Just("status"),
        Just("fingerprint"),
        Just("startsAt"),
        Just("decision_id"),
        Just("why"),
        Just("model"),
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever stands in a body, it is read or refused with a place that is a JSON pointer.
    #[test]
    fn no_body_is_too_odd(mut body in values(), place in 0_usize..8, odd in values()) {
        for shape in ["splunk", "alertmanager", "sentinel", "webhook"] {
            let endpoint = known_endpoint(shape);
            let mut half = fixture(shape);
            let pointers = ["/result", "/result/client", "/alerts/0", "/alerts/0/labels", "/id", "/data", "/sid", "/alerts"];
            if let Some(part) = pointers.get(place).and_then(|pointer| half.pointer_mut(pointer)) {
                *part = odd.clone();
            }
            for body in [&mut body, &mut half] {
                let faults = match read(endpoint, Some("m"), body) {
                    Ok(asks) => {
                        prop_assert!(asks.len() <= super::ask::ASKS_MAX);
                        asks.into_iter().filter_map(Result::err).collect()
                    }
                    Err(fault) => vec![fault],
                };
                for fault in faults {
                    prop_assert!(fault.at.is_empty() || fault.at.starts_with('/'), "{:?}", fault);
                    prop_assert!(fault.status.is_client_error() && !fault.mend.is_empty(), "{:?}", fault);
                }
            }
        }
    }
}

/// Made once: a property asks for it a thousand times.
fn known_endpoint(shape: &str) -> &'static settings::Inbound {
    static KNOWN: std::sync::LazyLock<BTreeMap<&str, settings::Inbound>> = std::sync::LazyLock::new(|| {
        ["splunk", "alertmanager", "sentinel", "webhook"].map(|shape| (shape, endpoint(shape, ""))).into()
    });
    &KNOWN[shape]
}
