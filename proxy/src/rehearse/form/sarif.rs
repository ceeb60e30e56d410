//! SARIF 2.1.0 (OASIS), as GitHub code scanning, Azure DevOps and others take it.

use serde_json::{Value, json};

use super::issue::{Issue, Rule, issues, place, rules};
use crate::rehearse::Severity;
use crate::rehearse::report::Report;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The report as one SARIF log.
pub fn write(report: &Report) -> Value {
    let uri = as_uri(&place(report));
    let rules = rules();
    let results: Vec<Value> = issues(report).iter().map(|issue| result(issue, &uri, &rules)).collect();
    let notes: Vec<Value> =
        report.notes.iter().map(|note| json!({"level": "note", "message": {"text": note}})).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "checkgate",
                "version": report.checkgate,
                "semanticVersion": report.checkgate,
                "rules": rules.iter().map(rule).collect::<Vec<_>>(),
            }},
            "automationDetails": {"id": "checkgate/rehearse"},
            "invocations": [{"executionSuccessful": true, "toolExecutionNotifications": notes}],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.name,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "properties": {"tags": ["security", rule.atlas]},
    })
}

fn result(issue: &Issue, uri: &str, rules: &[Rule]) -> Value {
    let mut result = json!({
        "ruleId": issue.rule,
        "level": level(issue.severity),
        "message": {"text": format!("{}. {}", issue.title, issue.text)},
        "locations": [{
            "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}},
            "logicalLocations": [{"name": issue.model, "kind": "resource"}],
        }],
        "partialFingerprints": {"checkgate/v1": issue.fingerprint},
        "properties": {"severity": issue.severity, "security-severity": score(issue.severity)},
    });
    if let Some(index) = rules.iter().position(|rule| rule.name == issue.rule) {
        result["ruleIndex"] = json!(index);
    }
    result
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "note",
    }
}

/// A place within the bands that code scanning sorts by, 0 to 10.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "8.0",
        Severity::Medium => "5.0",
        Severity::Low => "2.0",
    }
}

/// A path as a relative or absolute URI reference (RFC 3986): everything but unreserved characters and slashes is
/// percent-encoded.
fn as_uri(path: &str) -> String {
    let relative = path.strip_prefix("./").unwrap_or(path);
    let mut uri = String::new();
    for byte in relative.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_reference() {
        assert_eq!(as_uri("./config/a b.yaml"), "config/a%20b.yaml");
        assert_eq!(as_uri("/tmp/é:1.yaml"), "/tmp/%C3%A9%3A1.yaml");
    }
}
