//! Documents in the fields of the Elastic Common Schema 8; what it has no field for stands under `checkgate`.

use std::net::IpAddr;

use checkgate_config::settings::EventKind;
use checkgate_detectors::finding::Action;
use checkgate_detectors::severity::Severity;
use serde_json::{Map, Value, json};

use super::{rfc3339, signature};
use crate::ledger::entry::Status;
use crate::sinks::Event;

/// An event as a document; not `whole`, it is without its record, and short.
#[must_use]
pub fn document(event: &Event, whole: bool) -> Value {
    let plain = if whole { event.plain() } else { event.short() };
    let message = plain.get("explanation").cloned().unwrap_or_default();
    let mut document = json!({
        "@timestamp": rfc3339(event.time),
        "ecs": {"version": "8.17.0"},
        "message": message,
        "event": {
            "id": event.id,
            "kind": if about_client(event.kind) { "alert" } else { "event" },
            "category": [category(event.kind)],
            "type": [kind(event)],
            "action": event.kind.as_str(),
            "code": signature(event),
            "severity": severity(event.severity),
            "module": "checkgate",
            "dataset": "checkgate.event",
            "provider": "checkgate",
        },
        "observer": {
            "vendor": "checkgate", "product": "checkgate", "type": "proxy", "version": env!("CARGO_PKG_VERSION"),
        },
        "checkgate": plain,
    });
    if let Some(keys) = document.as_object_mut() {
        about(event, keys);
    }
    document
}

/// Whom it is about, and why.
fn about(event: &Event, keys: &mut Map<String, Value>) {
    let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    if let Some(ip) = event.client.as_deref().filter(|client| client.parse::<IpAddr>().is_ok()) {
        set("client", json!({ "ip": ip }));
        set("source", json!({ "ip": ip }));
        set("related", json!({ "ip": [ip] }));
    }
    if let Some(detector) = event.detector.as_deref() {
        set("rule", json!({ "name": detector, "ruleset": "checkgate" }));
    }
    if let Some(atlas) = event.atlas.as_deref() {
        set("threat", json!({"framework": "MITRE ATLAS", "technique": {"id": [atlas]}}));
    }
}

fn about_client(kind: EventKind) -> bool {
    use EventKind::{Approved, Decision, Extended, Finding, Lifted, Met, Rejected};
    matches!(kind, Finding | Decision | Approved | Rejected | Lifted | Extended | Met)
}

fn category(kind: EventKind) -> &'static str {
    if about_client(kind) { "intrusion_detection" } else { "configuration" }
}

fn kind(event: &Event) -> &'static str {
    match (event.status, event.action) {
        _ if !about_client(event.kind) => "info",
        (Some(Status::Lifted | Status::Rejected), _) => "allowed",
        (Some(Status::InForce), Some(Action::Block | Action::Throttle | Action::Refuse)) => "denied",
        _ => "info",
    }
}

/// The middle of the bands that Elastic's own rules use.
fn severity(severity: Severity) -> u32 {
    match severity {
        Severity::Low => 21,
        Severity::Medium => 47,
        Severity::High => 73,
    }
}
