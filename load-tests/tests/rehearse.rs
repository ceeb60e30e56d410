//! `checkgate rehearse` from outside: what it says of a recording and of attacks, its exit codes, its forms.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use checkgate_load_tests::checkgate::{Start, binary, replay};
use checkgate_load_tests::model_server::{Answer, ModelServer};
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
        (&json!(24), &json!("one_field_sweep"))
    );
    assert_eq!((&sweep["rows_answered"], &sweep["rows"]), (&json!(24), &json!(240)));
    let natural = attack("price_natural");
    assert!(natural["first_finding"].is_null(), "content cannot show it: {natural:#}");
    assert_eq!(natural["share_answered"], 1.0);
}

const HOSTILE: &str = "</td><script>alert(1)</script>\"'&\u{202e}";

/// A recording in which a client sweeps a field whose name is markup.
async fn hostile_recording(folder: &Path) -> PathBuf {
    let server = ModelServer::always(Answer::value(&json!({"predictions": [100]}))).await.unwrap();
    let recording = folder.join("hostile");
    let start = Start::configured(json!({
        "upstream": format!("http://{}", server.address),
        "clients": {"identity": "ip"},
        "models": [{"name": "pricing", "path": "/invocations"}],
    }));
    let start = start.with(&["--record", recording.to_str().unwrap()]);
    let mut checkgate = start.run().await.unwrap();
    let mut client = checkgate.client("127.1.0.9");
    for step in 0..20 {
        let mut row = json!({"size": 7});
        row[HOSTILE] = json!(step);
        let body = json!({"dataframe_records": [row]}).to_string();
        assert_eq!(client.post("/invocations", body).await.unwrap().status, 200);
    }
    checkgate.stop().await.unwrap();
    recording
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_from_traffic_is_markup_or_a_command_in_any_form() {
    let folder = tempfile::tempdir().unwrap();
    let recording = hostile_recording(folder.path()).await;
    let of = |form: &str| {
        let arguments = [recording.to_str().unwrap(), "--mode", "enforce", "--no-pack", "--format", form];
        let output = rehearse(&arguments);
        assert_eq!(output.status.code(), Some(0), "{form}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for form in ["html", "junit", "text", "github"] {
        let written = of(form);
        assert!(written.contains("one_field_sweep"), "{form} tells the finding:\n{written}");
        assert!(!written.contains('\u{202e}'), "{form} turns the direction of writing");
    }
    for form in ["html", "junit"] {
        let written = of(form);
        assert!(!written.contains("<script") && !written.contains("</td><s"), "{form}:\n{written}");
        assert!(written.contains("&lt;script&gt;"), "{form} shows the name as it is:\n{written}");
    }
    let page = of("html");
    assert!(
        page.contains("default-src 'none'") && !page.contains("http://") && !page.contains("src="),
        "{page}"
    );
    for line in of("github").lines() {
        assert!(line.starts_with("::") && line.matches("::").count() >= 2, "{line}");
    }
    let sarif: Value = serde_json::from_str(&of("sarif")).unwrap();
    assert_eq!(
        (&sarif["version"], &sarif["runs"][0]["results"][0]["level"]),
        (&json!("2.1.0"), &json!("error"))
    );
    let gitlab: Value = serde_json::from_str(&of("gitlab")).unwrap();
    assert_eq!(gitlab[0]["severity"], "critical", "{gitlab:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_is_compared_client_by_client_and_attack_by_attack() {
    let played = recorded("one-field-sweep").await;
    let folder = tempfile::tempdir().unwrap();
    let strict = policy(folder.path(), "strict.yaml", &json!({"mode": "enforce"}));
    let lax = json!({"mode": "enforce", "detectors": {"one_field_sweep": {"values": 20, "alone": 40}}});
    let lax = policy(folder.path(), "lax.yaml", &lax);
    let arguments = [
        played.recording.to_str().unwrap(),
        "-c",
        strict.to_str().unwrap(),
        "--compare",
        lax.to_str().unwrap(),
    ];
    let (report, _) = report(&arguments);
    let comparison = &report["comparison"];
    let differ = comparison["clients"].as_array().unwrap();
    let [client] = differ.as_slice() else { panic!("one client is treated otherwise: {comparison:#}") };
    let (here, there) = (&client["this"], &client["other"]);
    assert!(here["answered"].as_u64() < there["answered"].as_u64(), "{comparison:#}");
    let attacks = comparison["attacks"].as_array().unwrap();
    let sweep = attacks.iter().find(|attack| attack["name"] == "price_oat").unwrap();
    assert_eq!((&sweep["this_blocks_at"], sweep["other_blocks_at"].as_u64() > Some(24)), (&json!(24), true));
    assert!(comparison["caveat"].as_str().unwrap().contains("live attacker"), "{comparison:#}");
}

#[test]
fn attacks_of_ones_own_run_in_front_of_the_model_that_their_folder_names() {
    let folder = tempfile::tempdir().unwrap();
    let models =
        json!({"mode": "enforce", "models": [{"name": "pricing"}, {"name": "renewals", "mode": "observe"}]});
    let file = policy(folder.path(), "checkgate.yaml", &models);
    let attacks = folder.path().join("attacks");
    std::fs::create_dir_all(attacks.join("renewals")).unwrap();
    let rows =
        (0..30).map(|step| json!({"r": step, "x": {"age": 40, "power": step}, "p": [1]}).to_string() + "\n");
    let rows: String = rows.collect();
    std::fs::write(attacks.join("everywhere.jsonl"), &rows).unwrap();
    std::fs::write(attacks.join("renewals/there.jsonl"), &rows).unwrap();
    let arguments = ["-c", file.to_str().unwrap(), "--no-pack", "--attacks", attacks.to_str().unwrap()];
    let (report, _) = report(&arguments);
    let run = |model: &str| {
        let runs = report["attacks"].as_array().unwrap();
        let run = runs.iter().find(|run| run["models"][0] == model).unwrap();
        run["attacks"].as_array().unwrap().clone()
    };
    let [everywhere] = &run("pricing")[..] else { panic!("{report:#}") };
    assert_eq!((&everywhere["block"]["acts"], &everywhere["rows_answered"]), (&json!(true), &json!(12)));
    let renewals = run("renewals");
    assert_eq!(renewals.len(), 2, "its own and everybody's: {renewals:#?}");
    for attack in renewals {
        assert_eq!((&attack["block"]["acts"], &attack["rows_answered"]), (&json!(false), &json!(30)));
    }
    std::fs::write(attacks.join("broken.jsonl"), "{}\n").unwrap();
    assert_eq!(rehearse(&arguments).status.code(), Some(2), "a stream that is none is an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_asked_what_was_recorded_and_held_against_it() {
    let folder = tempfile::tempdir().unwrap();
    let recording = hostile_recording(folder.path()).await;
    // The recorded model answered 100 each time; this one is cheaper, and once below zero.
    let candidate = ModelServer::answering(|question| {
        let step =
            serde_json::from_slice::<Value>(&question.body).unwrap()["dataframe_records"][0][HOSTILE].clone();
        let price = if step == json!(5) { -1 } else { 90 };
        Answer::value(&json!({"predictions": [price]}))
    });
    let candidate = candidate.await.unwrap();
    let url = format!("http://{}", candidate.address);
    let contract = json!({"rules": [{"minimum": 0}]});
    let models = json!({"models": [{"name": "pricing", "path": "/invocations", "contract": contract}]});
    let file = policy(folder.path(), "checkgate.yaml", &models);
    let arguments = |limit: &'static str, gate: &'static str| {
        let (recording, file) = (recording.display().to_string(), file.display().to_string());
        [recording, "-c".into(), file, "--no-pack".into(), "--upstream".into(), url.clone()]
            .into_iter()
            .chain(["--limit", limit, "--fail-on-severity", gate].map(str::to_owned))
            .collect::<Vec<String>>()
    };
    let said = |arguments: Vec<String>| report(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (all, code) = said(arguments("1000", "high"));
    let compared = &all["candidate"];
    assert_eq!((&compared["asked"], &compared["compared"]), (&json!(20), &json!(20)), "{all:#}");
    assert_eq!(
        (&compared["breaks"], &compared["recorded_breaks"], code),
        (&json!(1), &json!(0), 1),
        "{all:#}"
    );
    let moved = &compared["models"]["pricing"]["outputs"][0];
    assert_eq!((&moved["mean_difference"], &moved["ks_distance"]), (&json!(-14.55), &json!(1.0)), "{all:#}");
    assert_eq!(moved["largest_absolute_difference"], 101.0);
    assert_eq!(compared["models"]["pricing"]["labels"]["agree"], 0);
    assert_eq!(candidate.requests(), 20);
    let (few, code) = said(arguments("5", "high"));
    assert_eq!((&few["candidate"]["asked"], &few["candidate"]["breaks"], code), (&json!(5), &json!(0), 0));
    assert_eq!(candidate.requests(), 25, "no more than the limit");
    drop(candidate);
    let (gone, _) = said(arguments("3", "high"));
    assert_eq!(gone["candidate"]["not_compared"], json!({"candidate: no_answer": 3}), "{gone:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discovered_model_is_matched_by_name_and_judged_by_the_files_contract() {
    let played = recorded("one-field-sweep").await;
    let folder = tempfile::tempdir().unwrap();
    let models = |contract: Value| json!({"mode": "enforce", "models": [{"name": "pricing", "hold": "answer", "contract": contract}]});
    let broken = policy(folder.path(), "broken.yaml", &models(json!({"rules": [{"maximum": 50}]})));
    let (report, _) =
        report(&[played.recording.to_str().unwrap(), "-c", broken.to_str().unwrap(), "--no-pack"]);
    let traffic = &report["traffic"];
    assert_eq!(report["notes"], json!([]), "the file names what was recorded");
    assert_eq!(traffic["models"]["pricing"]["mode"], "enforce");
    // 24 honest ones and the 11 before the sweep's block: after it, evidence on its client rests.
    assert_eq!(traffic["answers_that_break_their_contract"], 35, "{traffic:#}");
    assert!(traffic["refused"].as_u64() > Some(0), "and the sweep is blocked all the same");
}

#[test]
fn what_is_milder_than_a_block_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |name: &str, settings: Value| {
        let file = policy(folder.path(), name, &settings);
        let (report, _) = report(&["-c", file.to_str().unwrap()]);
        let attacks = report["attacks"][0]["attacks"].as_array().unwrap().clone();
        attacks.into_iter().find(|attack| attack["name"] == "price_oat").unwrap()
    };
    let degraded = sweep("d.yaml", json!({"mode": "enforce", "policy": {"on_tier_one": "degrade"}}));
    assert_eq!(
        (&degraded["rows_answered"], &degraded["rows_degraded"]),
        (&json!(240), &json!(217)),
        "{degraded:#}"
    );
    assert_eq!((&degraded["block"], &degraded["first_decision"]["acts"]), (&Value::Null, &json!(true)));
    let later = degraded["seconds_later"].as_f64().unwrap();
    assert!(
        (5_000.0..5_800.0).contains(&later),
        "30 rows in some three minutes, then two a minute: {later} s"
    );
    let throttle = json!({"on_tier_one": "throttle", "requests_per_minute": 3});
    let throttled = sweep("t.yaml", json!({"mode": "enforce", "policy": throttle}));
    let answered = throttled["rows_answered"].as_u64().unwrap();
    assert!((15..100).contains(&answered), "three a minute after the twenty-fourth: {throttled:#}");
    let held = sweep("h.yaml", json!({"mode": "enforce", "hold": "question"}));
    assert_eq!(held["rows_answered"], 23, "the row that crosses the line is not answered: {held:#}");
    let observed = sweep("o.yaml", json!({"mode": "observe"}));
    assert_eq!((&observed["rows_answered"], &observed["block"]["acts"]), (&json!(240), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn under_its_own_settings_a_recording_gives_the_findings_of_its_replay() {
    for scenario in scenario::all().unwrap() {
        let name = scenario.name();
        let played = scenario.play().await.unwrap();
        let (report, _) = report(&[played.recording.to_str().unwrap(), "--no-pack"]);
        let rehearsed = report["traffic"]["findings"].as_array().unwrap().iter().map(|finding| {
            let mut record = finding.clone();
            record.as_object_mut().unwrap().retain(|key, _| key != "severity" && key != "acts");
            record
        });
        let replayed = replay(&played.recording, &[]).unwrap();
        let replayed = replayed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let replayed = replayed.filter(|record| record["kind"] == "finding" && record["detector"] != "brake");
        assert_eq!(rehearsed.collect::<Vec<_>>(), replayed.collect::<Vec<_>>(), "{name}");
    }
}
