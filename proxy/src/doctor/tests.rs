//! The checks, on machines that nobody has to set up.

use std::path::{Path, PathBuf};

use checkgate_config::golden;
use serde_json::json;

use super::facts::{Certificate, Facts, Outlet, Port, Reference, Running, Server, StateFolder, look};
use super::{Answer, CHECKS, Verdict, examine, render, worst};
use crate::parts;

const NOW: f64 = 1_800_000_000.0;
const DAY: f64 = 86_400.0;

/// A machine on which all is well, and nothing runs.
fn sound(text: &str) -> Facts {
    let settings = checkgate_config::read(text, "checkgate.yaml", &parts::all()).unwrap();
    Facts {
        file: PathBuf::from("checkgate.yaml"),
        settings,
        now: NOW,
        stepped: 0.001,
        ports: ["127.0.0.1:8765", "127.0.0.1:8766"]
            .map(|listen| Port { listen: listen.to_owned(), taken: None })
            .to_vec(),
        servers: vec![Server {
            url: "http://127.0.0.1:8080".into(),
            model: "pricing".into(),
            path: ("/v2/health/ready".into(), false),
            looked: Ok((200, Some(NOW - 1.0))),
        }],
        descriptors: 1 << 20,
        state: StateFolder {
            exists: true,
            free_bytes: Some(50 << 30),
            since: Some(NOW - 3.0 * DAY),
            ..StateFolder::default()
        },
        references: vec![Reference { model: "pricing".into(), changed: NOW - 10.5 * DAY }],
        certificates: vec![Certificate {
            file: "server.pem".into(),
            from: NOW - DAY,
            until: NOW + 200.0 * DAY,
        }],
        outlets: vec![Outlet { name: "findings: standard output".into(), trouble: None }],
        running: Running::Silent,
    }
}

const SOUND: &str = "clients: {identity: ip, never_block: [10.0.0.0/8]}\n\
                     models: [{name: pricing, path: /p, upstream: 'http://127.0.0.1:8080', mode: enforce}]\n";

/// What a running checkgate says where all is well.
fn status() -> serde_json::Value {
    json!({
        "version": "0.1.0", "phase": "ready", "kill_switch": {"on": false}, "brake": {"engaged": false},
        "config": {"error": null, "needs_restart": []}, "ledger": {"durable": true, "trouble": null},
    })
}

/// A machine on which everything is wrong, next to a checkgate in trouble.
fn sick() -> Facts {
    let bouncer = format!(
        "crowdsec: {{serve: {{listen: '127.0.0.1:8089', bouncers: [{{name: fw, sha256: {}}}]}}}}\n",
        "0a".repeat(32)
    );
    let mut facts = sound(&format!("upstream: http://127.0.0.1:8080\nmode: enforce\n{bouncer}"));
    let mut status = status();
    status["kill_switch"]["on"] = true.into();
    status["brake"]["engaged"] = true.into();
    status["config"] =
        json!({"error": "checkgate.yaml:3:1: unknown key \"mod\"", "needs_restart": ["listen", "lanes"]});
    status["ledger"] = json!({"durable": false, "trouble": "no space left on device"});
    let metrics = "# HELP checkgate_untrusted_hops_total x\ncheckgate_untrusted_hops_total 250\n\
                   checkgate_would_block_total{model=\"a\",reason=\"unproven\"} 3\n\
                   checkgate_would_block_total{model=\"a\",reason=\"mode\"} 9\ncheckgate_lanes_stuck 1\n";
    facts.running = Running::Answers { status, metrics: metrics.into(), spared: 0 };
    facts.servers = vec![
        Server {
            url: "http://127.0.0.1:8080".into(),
            model: "discovered".into(),
            path: ("/v2/health/ready".into(), false),
            looked: Err("connection refused".into()),
        },
        Server {
            url: "https://m.example:8443".into(),
            model: "pricing".into(),
            path: ("/live".into(), true),
            looked: Ok((404, Some(NOW + 90.0))),
        },
        Server {
            url: "http://m.example:8081".into(),
            model: "pricing".into(),
            path: ("/v2/health/ready".into(), false),
            looked: Ok((503, None)),
        },
    ];
    facts.descriptors = 1024;
    facts.state = StateFolder {
        exists: true,
        unwritable: Some("permission denied".into()),
        open_to_others: vec![("checkgate-state/admin.token".into(), 0o644)],
        free_bytes: Some(40 << 20),
        since: None,
    };
    facts.references = vec![Reference { model: "pricing".into(), changed: NOW - 400.0 * DAY }];
    let certificate = |file: &str, from: f64, until: f64| Certificate {
        file: file.into(),
        from: NOW + from * DAY,
        until: NOW + until * DAY,
    };
    facts.certificates = vec![
        certificate("old.pem", -400.0, -0.5),
        certificate("soon.pem", -60.0, 12.3),
        certificate("new.pem", 1.0, 90.0),
    ];
    facts.outlets = vec![
        Outlet { name: "findings: /var/log/f.jsonl".into(), trouble: Some("permission denied".into()) },
        Outlet { name: "telemetry: metrics to c:4318".into(), trouble: Some("connection refused".into()) },
    ];
    facts
}

fn golden_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/doctor").join(name)
}

#[test]
fn what_is_wrong_is_told_with_its_mend() {
    let mut observing = sound("upstream: http://127.0.0.1:8080\n");
    observing.state.since = Some(NOW - 40.0 * DAY);
    observing.ports[0].taken = Some("address in use".into());
    observing.stepped = -3.0;
    let mut shut = sound(SOUND);
    shut.running = Running::Refuses("127.0.0.1:8766 answered 401 Unauthorized: a token is missing".into());
    shut.ports[1].taken = Some("address in use".into());
    let refused =
        "checkgate.yaml:3:1: unknown key \"mod\"; did you mean \"mode\"?\n  |\n3 | mod: enforce\n  | ^^^\n";
    for (name, facts, expected) in [
        ("sound", Ok(sound(SOUND)), Verdict::Ok),
        ("sick", Ok(sick()), Verdict::Fail),
        ("observing", Ok(observing), Verdict::Fail),
        ("shut", Ok(shut), Verdict::Fail),
        ("refused", Err(refused.to_owned()), Verdict::Fail),
    ] {
        let answers = examine(&facts);
        let reference = |answer: &&Answer| answer.verdict > Verdict::Ok;
        for answer in answers.iter().filter(reference) {
            assert!(answer.mend.is_some(), "{name}: {} says no mend", answer.check);
        }
        golden::equals_committed(&golden_file(&format!("{name}.txt")), &render::text(&answers)).unwrap();
        golden::equals_committed(&golden_file(&format!("{name}.json")), &render::json(&answers)).unwrap();
        if name != "sound" {
            assert_eq!(worst(&answers), expected, "{name}");
        }
    }
}

#[test]
fn a_running_checkgate_without_trouble_gives_no_warning() {
    let mut facts = sound(SOUND);
    facts.references.clear();
    facts.running = Running::Answers {
        status: status(),
        metrics: "checkgate_untrusted_hops_total 2\n".into(),
        spared: 1,
    };
    facts.ports[0].taken = Some("address in use".into());
    let answers = examine(&Ok(facts));
    // The model of this file names no reference, which is told in any case.
    let told: Vec<_> = answers.iter().filter(|answer| answer.verdict > Verdict::Ok).collect();
    assert_eq!(told.iter().map(|answer| answer.check).collect::<Vec<_>>(), ["references"], "{told:#?}");
}

#[test]
fn every_check_says_something_of_a_sick_machine_and_names_are_unique() {
    let answers = examine(&Ok(sick()));
    for check in CHECKS {
        assert_eq!(CHECKS.iter().filter(|other| other.name == check.name).count(), 1, "{}", check.name);
        assert!(answers.iter().any(|answer| answer.check == check.name), "{} is silent", check.name);
    }
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md")).unwrap();
    for check in CHECKS {
        assert!(
            page.contains(&format!("| `{}` |", check.name)),
            "docs/operations.md says nothing of {}",
            check.name
        );
    }
}

#[tokio::test]
async fn a_look_sees_ports_servers_state_and_certificates_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("server.pem"), cert.pem()).unwrap();
    std::fs::write(folder.path().join("server.key"), signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("reference.jsonl"), "{\"x\":[1.0]}\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "listen: {}\nadmin: {{listen: '127.0.0.1:0', token: a-token-that-nobody-may-see}}\nstate: {}\n\
         tls: {{certificate: server.pem, key: server.key}}\n\
         telemetry: {{endpoint: 'http://{gone}', headers: {{x-key: another-secret}}}}\n\
         models: [{{name: pricing, path: /p, upstream: 'http://{gone}', reference: reference.jsonl}}]\n",
        taken.local_addr().unwrap(),
        folder.path().join("state").display(),
    );
    let file = folder.path().join("checkgate.yaml");
    let settings = checkgate_config::read(&text, &file.display().to_string(), &parts::all()).unwrap();
    let facts = look(&file, settings, Running::Silent).await;
    assert!(facts.ports[0].taken.is_some() && facts.ports[1].taken.is_none(), "{:?}", facts.ports);
    assert!(facts.servers[0].looked.is_err(), "{:?}", facts.servers);
    assert!(!facts.state.exists && facts.state.unwritable.is_none(), "{:?}", facts.state);
    assert!(facts.state.free_bytes.is_some_and(|bytes| bytes > 0), "{:?}", facts.state);
    assert!(facts.descriptors > 0);
    assert_eq!((facts.certificates.len(), facts.references.len()), (1, 1), "{:?}", facts.certificates);
    assert!(facts.certificates[0].until > facts.now);
    assert!(facts.stepped.abs() < 60.0, "{}", facts.stepped);
    assert_eq!(facts.outlets.len(), 2, "{:?}", facts.outlets);
    assert!(facts.outlets[1].trouble.is_some(), "nobody listens there");
    assert!(!folder.path().join("state").exists(), "a look makes no folder");
    let answers = examine(&Ok(facts));
    for page in [render::text(&answers), render::json(&answers)] {
        assert!(!page.contains("nobody-may-see") && !page.contains("another-secret"), "{page}");
    }
}
