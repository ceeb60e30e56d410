//! OCSF 1.8.0 (schema.ocsf.io). What is about a finding or a decision is a Detection Finding (2004) with the profile
//! `security_control`: a finding, the decision that it led to and that decision's end are the creation, an update and the
//! close of one finding, under one `finding_info.uid`. Everything else is a Base Event (0).
//!
//! What the schema has no attribute for stands under `unmapped`.

use std::net::IpAddr;

use checkgate_config::settings::EventKind;
use checkgate_detectors::contract;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, Mode};
use checkgate_detectors::severity::Severity;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{cut, title};
use crate::control::OPERATOR;
use crate::ledger::entry::Status;
use crate::sinks::Event;
use crate::told::technique_name;

/// The version of the schema.
const VERSION: &str = "1.8.0";
/// Bytes of any text where the whole event is too long, and of an explanation there.
const SHORT_BYTES: usize = 64;
const SHORT_EXPLANATION_BYTES: usize = 256;
/// Class and category of a Detection Finding.
const DETECTION_FINDING: (u32, u32) = (2004, 2);
/// Keys of an event's plain form that have an attribute of the schema.
const MAPPED: [&str; 10] = [
    "event_id",
    "time",
    "severity",
    "explanation",
    "client",
    "model",
    "tenant",
    "detector",
    "atlas",
    "record",
];

/// An event as OCSF has it; not `whole`, it is without record and rest, and with a bound on every text.
#[must_use]
pub fn event(event: &Event, whole: bool) -> Value {
    let text = |text: &str| if whole { text.to_owned() } else { cut(text, SHORT_BYTES).to_owned() };
    let explanation =
        if whole { &*event.explanation } else { cut(&event.explanation, SHORT_EXPLANATION_BYTES) };
    let mut said = Map::new();
    let (severity_id, severity) = severity(event.severity);
    let activity = activity(event);
    let (class, category) = if activity.is_some() { DETECTION_FINDING } else { (0, 0) };
    let (activity_id, activity_name) = activity.unwrap_or((99, "Other"));
    set(&mut said, "activity_id", activity_id);
    set(&mut said, "activity_name", activity_name);
    set(&mut said, "category_uid", category);
    set(&mut said, "class_uid", class);
    set(&mut said, "type_uid", class * 100 + activity_id);
    set(&mut said, "severity_id", severity_id);
    set(&mut said, "severity", severity);
    set(&mut said, "time", milliseconds(event.time));
    set(&mut said, "message", explanation);
    set(&mut said, "metadata", metadata(event, activity.is_some(), &text));
    if activity.is_some() {
        finding(event, &mut said, whole, &text);
    }
    if whole {
        let mut rest = event.plain();
        if let Some(rest) = rest.as_object_mut() {
            rest.retain(|key, _| !is_mapped(event, key));
        }
        set(&mut said, "unmapped", rest);
    } else {
        set(&mut said, "unmapped", json!({ "kind": event.kind, "shortened": true }));
    }
    Value::Object(said)
}

/// Whether a key of the plain form stands elsewhere. A Base Event has attributes for few.
fn is_mapped(event: &Event, key: &str) -> bool {
    let everywhere = ["event_id", "time", "severity", "explanation", "tenant"];
    MAPPED.contains(&key) && (activity(event).is_some() || everywhere.contains(&key))
}

fn set(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    object.insert(key.to_owned(), value.into());
}

/// What becomes of a finding, as number and word; nothing where the event is about none.
fn activity(event: &Event) -> Option<(u32, &'static str)> {
    match event.kind {
        EventKind::Finding => Some((1, "Create")),
        // No finding stands before what an operator decides.
        EventKind::Decision if event.detector.as_deref() == Some(OPERATOR) => Some((1, "Create")),
        EventKind::Decision | EventKind::Approved | EventKind::Extended | EventKind::Met => {
            Some((2, "Update"))
        }
        EventKind::Rejected | EventKind::Lifted => Some((3, "Close")),
        EventKind::NeverBlock
        | EventKind::Configuration
        | EventKind::Reference
        | EventKind::KillSwitch
        | EventKind::Erased
        | EventKind::Started
        | EventKind::Unwritten
        | EventKind::Removed
        // It is about a model and its features, and no decision ever closes it.
        | EventKind::Drift
        | EventKind::Test => None,
    }
}

fn severity(severity: Severity) -> (u32, &'static str) {
    match severity {
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
    }
}

fn milliseconds(time: Time) -> u64 {
    time.0 / 1000
}

fn metadata(event: &Event, about_finding: bool, text: &dyn Fn(&str) -> String) -> Value {
    let mut metadata = Map::new();
    set(&mut metadata, "version", VERSION);
    set(
        &mut metadata,
        "product",
        json!({"name": "checkgate", "vendor_name": "checkgate", "version": env!("CARGO_PKG_VERSION")}),
    );
    set(&mut metadata, "uid", &*event.id);
    set(&mut metadata, "event_code", event.kind.as_str());
    if about_finding {
        set(&mut metadata, "profiles", json!(["security_control"]));
    }
    if let Some(tenant) = some(&event.tenant) {
        set(&mut metadata, "tenant_uid", text(tenant));
    }
    Value::Object(metadata)
}

fn some(text: &Option<std::sync::Arc<str>>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The attributes of a Detection Finding.
fn finding(event: &Event, said: &mut Map<String, Value>, whole: bool, text: &dyn Fn(&str) -> String) {
    let (action_id, action) = done(event);
    let (disposition_id, disposition) = disposition(event, action_id);
    let (status_id, status) = status(event);
    set(said, "action_id", action_id);
    set(said, "action", action);
    set(said, "disposition_id", disposition_id);
    set(said, "disposition", disposition);
    set(said, "status_id", status_id);
    set(said, "status", status);
    set(said, "is_alert", event.severity >= Severity::Medium);
    set(said, "finding_info", finding_info(event, whole, text));
    if let Some((confidence_id, confidence)) = confidence(event) {
        set(said, "confidence_id", confidence_id);
        set(said, "confidence", confidence);
    }
    if let Some(rule) = event.of_record("rule").and_then(Value::as_str).filter(|_| whole) {
        set(said, "policy", json!({ "name": rule, "is_applied": acts(event) }));
    }
    let mut observables = Vec::new();
    let mut evidence = Map::new();
    if let Some(client) = some(&event.client) {
        evidence_of(&text(client), &mut evidence, &mut observables);
    }
    if let Some(record) = event.record.as_ref().filter(|_| whole) {
        set(&mut evidence, "data", record.clone());
    }
    if !evidence.is_empty() {
        set(said, "evidences", json!([evidence]));
    }
    if let Some(model) = some(&event.model) {
        let model = text(model);
        observables.push(observable("resources[].uid", 10, "Resource UID", &model));
        set(said, "resources", json!([{ "uid": model, "name": model, "type": "Model" }]));
    }
    if !observables.is_empty() {
        set(said, "observables", observables);
    }
}

/// Whether something is done about it, rather than told or proposed.
fn acts(event: &Event) -> bool {
    match event.status {
        Some(status) => status == Status::InForce,
        None => event.mode == Some(Mode::Enforce),
    }
}

/// What is done, as `action_id` has it.
fn done(event: &Event) -> (u32, &'static str) {
    match (event.status, event.action) {
        (Some(Status::Lifted | Status::Rejected), _) => (1, "Allowed"),
        (_, None | Some(Action::Alert)) => (3, "Observed"),
        _ if !acts(event) => (3, "Observed"),
        (_, Some(Action::Tag)) => (1, "Allowed"),
        (_, Some(Action::Clamp | Action::Fallback | Action::Degrade)) => (4, "Modified"),
        (_, Some(Action::Refuse | Action::Throttle | Action::Block)) => (2, "Denied"),
    }
}

/// What came of it for the client.
fn disposition(event: &Event, action_id: u32) -> (u32, &'static str) {
    match (action_id, event.action) {
        (1, Some(Action::Tag)) => (18, "Tagged"),
        (1, _) => (1, "Allowed"),
        (2, Some(Action::Throttle)) => (25, "Rejected"),
        (2, _) => (2, "Blocked"),
        (4, Some(Action::Degrade)) => (14, "Delayed"),
        (4, _) => (11, "Corrected"),
        (_, Some(Action::Alert)) => (19, "Alert"),
        _ => (15, "Detected"),
    }
}

fn status(event: &Event) -> (u32, &'static str) {
    match event.status {
        _ if event.of_record("muted").is_some() => (3, "Suppressed"),
        Some(Status::Lifted | Status::Rejected) => (4, "Resolved"),
        Some(Status::InForce) => (2, "In Progress"),
        _ => (1, "New"),
    }
}

/// How sure the detector is: what may block by itself is precise.
fn confidence(event: &Event) -> Option<(u32, &'static str)> {
    match event.of_record("tier").and_then(Value::as_u64) {
        Some(1) => Some((3, "High")),
        Some(_) => Some((2, "Medium")),
        None => None,
    }
}

fn finding_info(event: &Event, whole: bool, text: &dyn Fn(&str) -> String) -> Value {
    let mut info = Map::new();
    set(&mut info, "uid", uid(event));
    let detector = some(&event.detector).map(text);
    let by_hand = event.detector.as_deref() == Some(OPERATOR);
    let first = if by_hand { EventKind::Decision } else { EventKind::Finding };
    set(&mut info, "title", title(&Event { kind: first, ..event.clone() }));
    if let Some(explanation) = event.of_record("explanation").and_then(Value::as_str).filter(|_| whole) {
        set(&mut info, "desc", explanation);
    }
    if let Some(seconds) = event.of_record("time").and_then(Value::as_f64) {
        set(&mut info, "created_time", (seconds * 1000.0).round().max(0.0) as u64);
    }
    set(&mut info, "modified_time", milliseconds(event.time));
    set(&mut info, "data_sources", json!(["inference requests"]));
    if let Some(detector) = detector {
        let (type_id, kind) = analytic(&detector);
        set(
            &mut info,
            "analytic",
            json!({ "uid": detector, "name": detector, "type_id": type_id, "type": kind }),
        );
    }
    if let Some(atlas) = some(&event.atlas) {
        set(&mut info, "attacks", json!([attack(&text(atlas), event.of_record("atlas_version"))]));
    }
    Value::Object(info)
}

/// The id that a finding, its decision and the decision's end share, in front of it the instance.
fn uid(event: &Event) -> String {
    let instance = event.id.rsplitn(3, '-').nth(2).unwrap_or_default();
    let own = event.decision.map(|id| id.to_string());
    let found = || event.of_record("id").and_then(Value::as_str).map(|id| cut(id, SHORT_BYTES).to_owned());
    format!("{instance}-{}", own.or_else(found).unwrap_or_else(|| event.number.to_string()))
}

/// What kind of analytic a detector is: a contract is a rule, drift is statistics, the others look at behaviour.
fn analytic(detector: &str) -> (u32, &'static str) {
    match detector {
        contract::NAME | OPERATOR => (1, "Rule"),
        name if name.contains("drift") => (3, "Statistical"),
        _ => (2, "Behavioral"),
    }
}

/// A technique of MITRE ATLAS, such as `AML.T0024`, or a part of one, such as `AML.T0024.002`.
fn attack(atlas: &str, version: Option<&Value>) -> Value {
    let mut attack = Map::new();
    let mut parts = atlas.splitn(3, '.');
    let technique: Vec<_> = parts.by_ref().take(2).collect();
    set(&mut attack, "technique", named(&technique.join(".")));
    if parts.next().is_some() {
        set(&mut attack, "sub_technique", named(atlas));
    }
    if let Some(version) = version.and_then(Value::as_str) {
        set(&mut attack, "version", cut(version, SHORT_BYTES));
    }
    Value::Object(attack)
}

fn named(id: &str) -> Value {
    json!({ "uid": id, "name": technique_name(id).unwrap_or(id) })
}

/// Whom the evidence is about: an address, a network, or the hash of a key.
fn evidence_of(client: &str, evidence: &mut Map<String, Value>, observables: &mut Vec<Value>) {
    if client.parse::<IpAddr>().is_ok() {
        set(evidence, "src_endpoint", json!({ "ip": client }));
        observables.push(observable("evidences[].src_endpoint.ip", 2, "IP Address", client));
    } else if client.parse::<IpNet>().is_ok() {
        set(evidence, "src_endpoint", json!({ "name": client }));
        observables.push(observable("evidences[].src_endpoint.name", 12, "Subnet", client));
    } else {
        set(evidence, "user", json!({ "uid": client }));
        observables.push(observable("evidences[].user.uid", 31, "User Object: uid", client));
    }
}

fn observable(name: &str, type_id: u32, kind: &str, value: &str) -> Value {
    json!({ "name": name, "type_id": type_id, "type": kind, "value": value })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sinks::render::json_text;
    use crate::sinks::tests::{HOSTILE, as_committed, events};

    #[test]
    fn a_finding_its_decision_and_its_lift_are_one_finding() {
        let all = events("prices");
        let about_one: Vec<_> = all.iter().filter(|event| activity(event).is_some()).collect();
        let uids: BTreeSet<_> = about_one.iter().map(|one| uid(one)).collect();
        assert_eq!(uids.into_iter().collect::<Vec<_>>(), ["cg-0123456789abcdef-d-0000000000000007"]);
        let of = |kind: EventKind| event(about_one.iter().find(|event| event.kind == kind).unwrap(), true);
        let (found, decided, lifted) =
            (of(EventKind::Finding), of(EventKind::Decision), of(EventKind::Lifted));
        assert_eq!(
            [&found["type_uid"], &decided["type_uid"], &lifted["type_uid"]],
            [200_401, 200_402, 200_403]
        );
        assert_eq!((&decided["action"], &decided["disposition"]), (&json!("Denied"), &json!("Blocked")));
        assert_eq!((&lifted["action"], &lifted["status"]), (&json!("Allowed"), &json!("Resolved")));
        assert_eq!(decided["finding_info"]["attacks"][0]["sub_technique"]["uid"], "AML.T0024.002");
        assert_eq!(decided["finding_info"]["attacks"][0]["technique"]["uid"], "AML.T0024");
        assert_eq!(decided["evidences"][0]["src_endpoint"]["ip"], "10.0.0.7");
    }

    #[test]
    fn the_form_is_as_committed() {
        as_committed("ocsf", |one| json_text(&event(one, true)));
        as_committed("ocsf_short", |one| json_text(&event(one, false)));
    }

    #[test]
    fn what_does_not_act_is_observed() {
        let decided = events("prices").into_iter().find(|event| event.kind == EventKind::Decision).unwrap();
        for status in [Status::Observed, Status::Proposed] {
            let said = event(&Event { status: Some(status), ..decided.clone() }, true);
            assert_eq!(
                (&said["action"], &said["disposition"]),
                (&json!("Observed"), &json!("Detected")),
                "{status:?}"
            );
        }
    }

    #[test]
    fn nothing_of_an_event_is_lost() {
        for one in events("prices") {
            let said = event(&one, true);
            let text = json_text(&said);
            for value in one.plain().as_object().unwrap().values().filter(|value| value.is_string()) {
                let known = text.contains(value.as_str().unwrap()) || text.contains("\"severity\"");
                assert!(known, "{:?} has lost {value}", one.kind);
            }
            assert_eq!(said["metadata"]["uid"], *one.id);
            assert_eq!(said["time"], 1_700_000_000_000_u64);
        }
    }

    #[test]
    fn the_short_form_is_short_whatever_an_event_holds() {
        for one in HOSTILE.iter().flat_map(|text| events(&text.repeat(10_000))) {
            let said = json_text(&event(&one, false));
            assert!(said.len() < 8192, "{:?}: {} bytes", one.kind, said.len());
            assert!(said.contains(&*one.id));
        }
    }

    #[test]
    fn a_client_is_an_address_a_network_or_a_key() {
        for (client, path, kind) in [
            ("192.0.2.7", "evidences[].src_endpoint.ip", 2),
            ("2001:db8::/64", "evidences[].src_endpoint.name", 12),
            ("key:0a1b", "evidences[].user.uid", 31),
        ] {
            let (mut evidence, mut observables) = (Map::new(), Vec::new());
            evidence_of(client, &mut evidence, &mut observables);
            assert_eq!(
                (&observables[0]["name"], &observables[0]["type_id"]),
                (&json!(path), &json!(kind)),
                "{client}"
            );
        }
    }
}
