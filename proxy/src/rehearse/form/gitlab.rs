//! GitLab's code quality report: the form that merge requests of every tier show.

use serde_json::{Value, json};

use super::issue::{Issue, issues, place};
use crate::rehearse::Severity;
use crate::rehearse::report::Report;

/// The report as the list that GitLab takes.
pub fn write(report: &Report) -> Value {
    let place = place(report);
    let path = place.strip_prefix("./").unwrap_or(&place);
    Value::Array(issues(report).iter().map(|issue| entry(issue, path)).collect())
}

fn entry(issue: &Issue, path: &str) -> Value {
    json!({
        "description": format!("{}. {}", issue.title, issue.text),
        "check_name": issue.rule,
        "fingerprint": issue.fingerprint,
        "severity": match issue.severity {
            Severity::High => "critical",
            Severity::Medium => "major",
            Severity::Low => "info",
        },
        "location": {"path": path, "lines": {"begin": 1}},
    })
}
