//! Findings as pipelines take them: each about a place, by a rule, with a fingerprint that lasts from run to run.

use std::collections::BTreeMap;

use checkgate_detectors::query;
use checkgate_detectors::{campaign, contract, drift};

use crate::identity::keyed_hash;
use crate::rehearse::Severity;
use crate::rehearse::candidate::Broken;
use crate::rehearse::report::{FindingLine, Report};
use crate::told::clean;

/// The rule that a candidate's broken answers are by.
const CANDIDATE: &str = "candidate_contract";

/// One finding.
pub struct Issue {
    /// The detector.
    pub rule: String,
    /// How grave it is.
    pub severity: Severity,
    /// Whom and what it is about, in a line.
    pub title: String,
    /// What happened, in sentences.
    pub text: String,
    /// The model.
    pub model: String,
    /// The same for the same detector, client, model and turn, run after run.
    pub fingerprint: String,
}

/// A rule that issues are by.
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it looks for.
    pub summary: &'static str,
    /// MITRE ATLAS technique.
    pub atlas: &'static str,
}

/// Every rule: the detectors, and those that are no part of the list.
pub fn rules() -> Vec<Rule> {
    let listed = query::all().map(|spec| Rule { name: spec.name, summary: spec.summary, atlas: spec.atlas });
    let others = [
        Rule {
            name: contract::NAME,
            summary: "an answer of the model broke its contract",
            atlas: contract::ATLAS,
        },
        Rule { name: campaign::NAME, summary: campaign::SUMMARY, atlas: campaign::ATLAS },
        Rule { name: drift::NAME, summary: drift::SUMMARY, atlas: drift::ATLAS },
    ];
    listed.chain(others).collect()
}

/// The findings of a report.
pub fn issues(report: &Report) -> Vec<Issue> {
    let mut turns: BTreeMap<String, u64> = BTreeMap::new();
    let findings = report.traffic.iter().flat_map(|traffic| &traffic.findings);
    let mut issues: Vec<Issue> = findings.map(|finding| of_finding(finding, &mut turns)).collect();
    issues.extend(report.candidate.iter().flat_map(|candidate| &candidate.broken).map(of_candidate));
    issues
}

fn of_candidate(broken: &Broken) -> Issue {
    Issue {
        rule: CANDIDATE.to_owned(),
        severity: Severity::High,
        title: clean(&format!("{CANDIDATE} on {} at model {}", broken.request, broken.model)),
        text: clean(&broken.explanation),
        model: clean(&broken.model),
        fingerprint: fingerprint(&format!("{CANDIDATE}\n{}\n{}", broken.model, broken.request)),
    }
}

fn of_finding(finding: &FindingLine, turns: &mut BTreeMap<String, u64>) -> Issue {
    let FindingLine { severity, record, .. } = finding;
    let about = format!("{}\n{}\n{}", record.detector, record.model, record.client);
    let turn = turns.entry(about.clone()).or_default();
    let fingerprint = fingerprint(&format!("{about}\n{turn}"));
    *turn += 1;
    Issue {
        rule: record.detector.to_owned(),
        severity: *severity,
        title: clean(&format!("{} on {} at model {}", record.detector, record.client, record.model)),
        text: clean(&record.explanation),
        model: clean(&record.model),
        fingerprint,
    }
}

/// A fingerprint of what an issue is about; nobody needs a secret to make it.
fn fingerprint(about: &str) -> String {
    let [high, low] = [0, 1].map(|half| keyed_hash([half, 0], about.as_bytes()));
    format!("{high:016x}{low:016x}")
}

/// The file that issues are shown at: the policy, or else the recording.
pub fn place(report: &Report) -> String {
    let recording = || report.traffic.as_ref().and_then(|traffic| traffic.recordings.first());
    report.policy.as_ref().or_else(recording).cloned().unwrap_or_else(|| "checkgate.yaml".to_owned())
}
