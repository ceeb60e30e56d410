//! `checkgate rehearse` from outside: what it says of a recording and of attacks, its exit codes, its forms.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use checkgate_load_tests::checkgate::binary;
use checkgate_load_tests::scenario::{self, Played};
use serde_json::{Value, json};

/// A recording of the scenario of that name.
async fn recorded(name: &str) -> Played {
    let scenarios = scenario::all().unwrap();
    let scenario = scenarios.iter().find(|scenario| scenario.name() == name).unwrap();
    scenario.play().await.unwrap()
}

fn rehearse(arguments: &[&str]) -> Output {
    Command::new(binary().unwrap()).arg("rehearse").args(arguments).output().unwrap()
}

/// What it says as JSON, and its exit code.
fn report(arguments: &[&str]) -> (Value, i32) {
    let output = rehearse(&[arguments, &["--format", "json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (report, output.status.code().unwrap())
}

/// A configuration file in `folder`; JSON is YAML.
fn policy(folder: &Path, name: &str, settings: &Value) -> PathBuf {
    let mut whole = json!({"upstream": "http://127.0.0.1:1", "clients": {"identity": "ip"}});
    for (key, value) in settings.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let file = folder.join(name);
    std::fs::write(&file, whole.to_string()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_whom_a_policy_would_have_blocked_when_and_why() {
    let played = recorded("one-field-sweep").await;
    let folder = tempfile::tempdir().unwrap();
    let recording = played.recording.to_str().unwrap();
    let strict = policy(folder.path(), "strict.yaml", &json!({"mode": "enforce"}));
    let (report, code) = report(&[recording, "-c", strict.to_str().unwrap(), "--no-pack"]);
    assert_eq!(code, 0, "without a gate there is nothing to fail");
    assert_eq!(report["traffic"]["requests"], 48, "{report:#}");
    let blocked: Vec<&Value> = report["traffic"]["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|verdict| verdict["outcome"] == "blocked")
        .collect();
    let [verdict] = blocked.as_slice() else { panic!("one client sweeps: {report:#}") };
    assert_eq!(verdict["severity"], "high");
    let decision = &verdict["decision"];
    assert_eq!((&decision["detector"], &decision["acts"]), (&json!("one_field_sweep"), &json!(true)));
    let explanation = decision["explanation"].as_str().unwrap();
    assert!(explanation.contains(verdict["client"].as_str().unwrap()), "{explanation}");
    let answered = verdict["answered_before_decision"].as_u64().unwrap();
    assert_eq!(answered, 12, "a block comes at the twelfth value: {verdict:#}");
    assert_eq!(report["severity"], "high");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_clean_findings_and_errors() {
    let played = recorded("one-field-sweep").await;
    let folder = tempfile::tempdir().unwrap();
    let recording = played.recording.to_str().unwrap();
    let [enforce, observe, off] = [
        ("enforce.yaml", json!({"mode": "enforce"})),
        ("observe.yaml", json!({"mode": "observe"})),
        ("off.yaml", json!({"mode": "enforce", "detectors": {"one_field_sweep": false}})),
    ]
    .map(|(name, settings)| policy(folder.path(), name, &settings).display().to_string());
    let code = |file: &str, severity: &str| {
        let arguments = [recording, "-c", file, "--no-pack", "--fail-on-severity", severity];
        rehearse(&arguments).status.code().unwrap()
    };
    assert_eq!(code(&enforce, "high"), 1, "a block in enforce is high");
    assert_eq!(code(&observe, "high"), 0, "in observe nobody is blocked");
    assert_eq!(code(&observe, "medium"), 1, "a finding of tier one is medium");
    assert_eq!(code(&off, "high"), 0, "without its detector the sweep passes");
    assert_eq!(code("missing.yaml", "high"), 2, "a file that is not there is an error");
    assert_eq!(rehearse(&["missing"]).status.code(), Some(2), "so is a recording that is not there");
    assert_eq!(rehearse(&[]).status.code(), Some(2), "and nothing to rehearse");
    assert_eq!(rehearse(&["--format", "nonsense"]).status.code(), Some(2), "and an unknown form");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_the_file_does_not_name_is_told() {
    let played = recorded("one-field-sweep").await;
    let folder = tempfile::tempdir().unwrap();
    let mut other = json!({"clients": {"identity": "ip"}, "mode": "enforce"});
    other["models"] = json!([{"name": "renewals", "upstream": "http://127.0.0.1:1"}]);
    let file = folder.path().join("other.yaml");
    std::fs::write(&file, other.to_string()).unwrap();
    let (report, _) =
        report(&[played.recording.to_str().unwrap(), "-c", file.to_str().unwrap(), "--no-pack"]);
    let notes: Vec<&str> = report["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(notes.iter().any(|note| note.contains("names no model \"pricing\"")), "{notes:#?}");
    assert!(
        notes.iter().any(|note| note.contains("Nobody in the recording asked \"renewals\"")),
        "{notes:#?}"
    );
    assert_eq!(report["traffic"]["verdicts"], json!([]), "nothing judges it");
}

#[test]
fn it_says_what_attacks_would_have_got_away_with() {
    let folder = tempfile::tempdir().unwrap();
    let strict = policy(folder.path(), "strict.yaml", &json!({"mode": "enforce"}));
    let (report, code) = report(&["-c", strict.to_str().unwrap(), "--fail-on-severity", "low"]);
    assert_eq!(code, 0, "attacks are meant to be found");
    let attacks = report["attacks"][0]["attacks"].as_array().unwrap();
    assert_eq!(attacks.len(), 25);
    let attack = |name: &str| attacks.iter().find(|attack| attack["name"] == name).unwrap();
    let sweep = attack("price_oat");
    assert_eq!(
        (&sweep["block"]["row"], &sweep["block"]["detector"]),
        (&json!(12), &json!("one_field_sweep"))
    );
    assert_eq!((&sweep["rows_answered"], &sweep["rows"]), (&json!(12), &json!(240)));
    let natural = attack("price_natural");
    assert!(natural["first_finding"].is_null(), "content cannot show it: {natural:#}");
    assert_eq!(natural["share_answered"], 1.0);
}
