//! What the doctor says of an installation, with and without a running checkgate.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::path::Path;
use std::process::Command;

use checkgate_load_tests::attack::{ask, honest_row};
use checkgate_load_tests::checkgate::{Checkgate, Start, binary, free_address};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use serde_json::{Value, json};

/// Exit code and answers of the doctor.
fn doctor(file: &Path, arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(binary().unwrap());
    command.args(["doctor", "--format", "json", "-c"]).arg(file).args(arguments);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let answers = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}\n{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), answers)
}

/// Verdicts of one check, in order.
fn verdicts(answers: &Value, check: &str) -> Vec<String> {
    let of = answers["answers"].as_array().unwrap().iter().filter(|answer| answer["check"] == check);
    of.map(|answer| answer["verdict"].as_str().unwrap().to_owned()).collect()
}

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

/// A configuration whose listeners and folder are those of the running checkgate.
fn described(checkgate: &Checkgate, server: &ModelServer, more: &Value) -> tempfile::NamedTempFile {
    let mut config = json!({
        "listen": checkgate.address.to_string(),
        "admin": {"listen": checkgate.admin.to_string()},
        "state": checkgate.state.display().to_string(),
        "upstream": format!("http://{}", server.address),
        "limits": {"connections": 100},
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), config.to_string()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_checkgate_is_well_until_something_is_wrong() {
    let server = pricing().await;
    let checkgate = Start::in_front_of(server.address).run().await.unwrap();
    let file = described(&checkgate, &server, &json!({}));
    let (code, answers) = doctor(file.path(), &[]);
    assert_eq!((code, &answers["worst"]), (0, &json!("ok")), "{answers:#}");
    assert_eq!(verdicts(&answers, "ports"), ["ok", "ok"], "{answers:#}");
    assert_eq!(verdicts(&answers, "running"), ["ok"], "{answers:#}");

    // A load balancer that nobody declared, and the kill switch.
    let mut client = checkgate.client("127.0.10.1").with("x-forwarded-for", "203.0.113.7");
    for number in 0..120 {
        assert_eq!(ask(&mut client, honest_row(3, number)).await.unwrap().status, 200);
    }
    std::fs::write(checkgate.state.join("kill-switch"), "").unwrap();
    while checkgate.metric("checkgate_kill_switch", &[]).await.unwrap() == 0.0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (code, answers) = doctor(file.path(), &[]);
    assert_eq!((code, &answers["worst"]), (1, &json!("warn")), "{answers:#}");
    for check in ["proxies", "running"] {
        assert_eq!(verdicts(&answers, check), ["warn"], "{check}: {answers:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_work_ends_with_2_and_no_token_is_shown() {
    let server = pricing().await;
    let checkgate = Start::in_front_of(server.address).run().await.unwrap();
    let dead = free_address().unwrap();
    let file = described(&checkgate, &server, &json!({"upstream": format!("http://{dead}")}));
    let (code, answers) = doctor(file.path(), &[]);
    assert_eq!((code, verdicts(&answers, "upstream")), (2, vec!["fail".to_owned()]), "{answers:#}");
    let token = std::fs::read_to_string(checkgate.state.join("admin.token")).unwrap();
    assert!(!answers.to_string().contains(token.trim()), "the token is shown");

    // Somebody else's port, and nobody who runs.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = json!({
        "listen": taken.local_addr().unwrap().to_string(), "admin": {"listen": free_address().unwrap().to_string()},
    });
    let file = described(&checkgate, &server, &elsewhere);
    let (code, answers) = doctor(file.path(), &[]);
    assert_eq!(
        (code, verdicts(&answers, "ports")),
        (2, vec!["fail".to_owned(), "ok".to_owned()]),
        "{answers:#}"
    );

    std::fs::write(file.path(), "upstream: http://127.0.0.1:1\nmod: enforce\n").unwrap();
    let (code, answers) = doctor(file.path(), &[]);
    assert_eq!((code, verdicts(&answers, "config")), (2, vec!["fail".to_owned()]), "{answers:#}");
}
