//! What operators and programs change through the admin API and the command line, and how soon it holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::process::Command;
use std::time::Duration;

use checkgate_load_tests::attack::{MODEL, ask, honest_row, sweep};
use checkgate_load_tests::checkgate::{Checkgate, Start, binary, free_address};
use checkgate_load_tests::client::{Client, Reply};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::whole;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

const CLIENT: &str = "127.0.50.1";
/// A name in the certificate of the examples.
const CERTIFIED: &str = "client.example";

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

async fn enforcing(server: &ModelServer) -> Checkgate {
    Start::in_front_of(server.address).with(&["--mode", "enforce", "--client", "ip"]).run().await.unwrap()
}

/// What the command line says, and whether it succeeds.
fn cli(checkgate: &Checkgate, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary().unwrap());
    command.args(arguments).arg("--admin").arg(checkgate.admin.to_string());
    let output =
        command.arg("--state").arg(&checkgate.state).env_remove("CHECKGATE_ADMIN_TOKEN").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// A call with the token of the state folder.
async fn call(checkgate: &Checkgate, method: Method, path: &str, body: &Value) -> Reply {
    let token = std::fs::read_to_string(checkgate.state.join("admin.token")).unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("content-type", "application/json");
    Client::to(checkgate.admin).send(request.body(whole(body.to_string())).unwrap()).await.unwrap()
}

async fn status(checkgate: &Checkgate) -> u16 {
    ask(&mut checkgate.client(CLIENT), honest_row(1, 1)).await.unwrap().status.as_u16()
}

/// Everything that the instance tells from now on, until `enough`.
async fn events(checkgate: &Checkgate, enough: impl Fn(&str) -> bool) -> impl Future<Output = String> {
    let mut client = Client::to(checkgate.admin);
    let request = Request::get("/v1/events").body(whole("")).unwrap();
    let mut body = client.open(request).await.unwrap().into_body();
    async move {
        let mut told = String::new();
        while !enough(&told) {
            let frame = timeout(Duration::from_secs(10), body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("nothing more is told after {told}"));
            told.push_str(&String::from_utf8_lossy(&frame.unwrap().unwrap().into_data().unwrap()));
        }
        // The client ends with the stream, not before.
        drop(client);
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_by_hand_refuses_at_once_until_it_is_lifted_and_events_name_who_did_it() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    let told = events(&checkgate, |told| told.contains("event: lifted")).await;
    assert_eq!(status(&checkgate).await, 200);
    let (done, said) =
        cli(&checkgate, &["decisions", "add", CLIENT, "--for", "1h", "--why", "seen elsewhere", "--json"]);
    assert!(done, "{said}");
    let taken: Value = serde_json::from_str(&said).unwrap();
    let id = taken["id"].as_str().unwrap();
    assert_eq!((&taken["status"], status(&checkgate).await), (&json!("in_force"), 403));
    let (_, listed) = cli(&checkgate, &["decisions", "list", "--status", "in_force"]);
    assert!(listed.contains(id) && listed.contains(CLIENT) && listed.contains("operator"), "{listed}");
    let lifted = Instant::now();
    let reply =
        call(&checkgate, Method::DELETE, &format!("/v1/decisions/{id}?why=a%20mistake"), &json!({})).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    assert_eq!(status(&checkgate).await, 200);
    assert!(lifted.elapsed() < Duration::from_secs(1), "it took {:?}", lifted.elapsed());
    let told = told.await;
    let expected =
        ["event: decision", "\"who\":\"admin.token\"", "seen elsewhere", "event: lifted", "a mistake", id];
    for text in expected {
        assert!(told.contains(text), "{text:?} is not told:\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_never_blocked_is_not_by_hand_either() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    let (done, said) = cli(&checkgate, &["never-block", "add", "127.0.50.0/24", "--why", "our own"]);
    assert!(done, "{said}");
    let order = json!({"client": CLIENT, "seconds": 600, "why": "a mistake"});
    let reply = call(&checkgate, Method::POST, "/v1/decisions", &order).await;
    let taken = reply.json().unwrap();
    assert_eq!((reply.status.as_u16(), &taken["status"]), (201, &json!("observed")), "{taken:#}");
    assert_eq!(taken["kept_back"], "the client is on the never-block list");
    assert_eq!(status(&checkgate).await, 200);
    let (done, said) = cli(&checkgate, &["never-block", "remove", "127.0.50.0/24"]);
    assert!(done, "{said}");
    let (_, said) = cli(&checkgate, &["decisions", "add", CLIENT, "--for", "1h", "--why", "now it may be"]);
    assert!(said.contains("in_force"), "{said}");
    assert_eq!(status(&checkgate).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_line_cannot_do_it_says_with_the_mend() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    for (arguments, expected) in [
        (
            &["decisions", "lift", "d-0000000000000001"][..],
            "404 Not Found: d-0000000000000001 is not in force; GET",
        ),
        (&["decisions", "approve", "d-0000000000000001"], "is not in force"),
        (&["decisions", "add", "example.org", "--for", "1h", "--why", "x"], "write an address"),
        (&["never-block", "remove", "192.0.2.1"], "is not on the never-block list"),
        (&["references", "promote", "nobody"], "there is no such model"),
    ] {
        let (done, said) = cli(&checkgate, arguments);
        assert!(!done && said.contains(expected), "{arguments:?}: {said}");
    }
    for arguments in
        [&["status"][..], &["findings", "list"], &["references", "list"], &["never-block", "list"]]
    {
        let (done, said) = cli(&checkgate, arguments);
        assert!(done, "{arguments:?}: {said}");
    }
    let mut command = Command::new(binary().unwrap());
    command.args(["status", "--admin", "127.0.0.1:1"]);
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("name its admin listener with --admin"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_command_line_made_may_do_what_its_scopes_say() {
    let server = pricing().await;
    let made =
        Command::new(binary().unwrap()).args(["token", "new", "watch", "--scopes", "read"]).output().unwrap();
    let printed = String::from_utf8(made.stdout).unwrap();
    let token = printed.lines().next().unwrap().to_owned();
    let hash = printed.split("sha256: ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "admin": {"tokens": [{"name": "watch", "sha256": hash, "scopes": ["read"]}]},
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let mut watch = Client::to(checkgate.admin).with("authorization", &format!("Bearer {token}"));
    assert_eq!(watch.get("/v1/decisions").await.unwrap().status, 200);
    let refused = watch.call(Method::PUT, "/v1/kill-switch").await.unwrap();
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(checkgate.ask("/v1/decisions").await.unwrap().status, 401, "reads are free no more");
}

/// The certificates of the examples.
fn certificate(name: &str) -> String {
    format!("{}/../config/examples/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_certificate_with_a_known_name_opens_a_listener_that_other_machines_reach() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, admin) = (free_address().unwrap(), free_address().unwrap());
    let config = json!({
        "listen": proxy.to_string(),
        "upstream": "http://127.0.0.1:9",
        "state": folder.path().join("state"),
        "findings": folder.path().join("findings.jsonl"),
        "admin": {
            "listen": format!("0.0.0.0:{}", admin.port()),
            "tls": {
                "certificate": certificate("server.pem"),
                "key": certificate("server.key"),
                "client_ca": certificate("authority.pem"),
                "client_certificate": "optional",
            },
            "certificates": [{"name": CERTIFIED, "scopes": ["read"]}],
        },
    });
    let file = folder.path().join("checkgate.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut process = Command::new(binary().unwrap()).arg("run").arg("-c").arg(&file).spawn().unwrap();
    let asks = |more: &[&str]| {
        let mut command = Command::new(binary().unwrap());
        command.args(more).args(["--ca", &certificate("authority.pem")]);
        command.args(["--admin", &format!("https://localhost:{}", admin.port())]);
        let output = command.args(["--state", "/nowhere"]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let (chain, key) = (certificate("client.pem"), certificate("client.key"));
    let shows = ["--certificate", &chain, "--key", &key];
    let mut said = String::new();
    for _ in 0..100 {
        said = asks(&[&["status"], &shows[..]].concat());
        if said.contains("ready") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let refused = asks(&[&["never-block", "add", "192.0.2.1"], &shows[..]].concat());
    let without = asks(&["status"]);
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(said.contains("checkgate") && said.contains("ready"), "{said}");
    assert!(refused.contains("403") && refused.contains("needs the scope decide"), "{refused}");
    assert!(without.contains("401"), "{without}");
}

#[tokio::test]
async fn the_report_says_whom_enforce_would_have_met() {
    let server = ModelServer::always(Answer::value(&answer(MODEL, &[vec![1.0]]))).await.unwrap();
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "models": [{"name": MODEL}],
        "clients": {"identity": "ip"},
        "tenants": [{"name": "acme", "tier": "enterprise", "clients": ["127.0.0.64/28"]}],
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let swept = sweep(&mut checkgate.client("127.0.0.66"), 60).await.unwrap();
    assert_eq!(swept.answered, 60, "observe refuses nobody");
    let (told, page) = cli(&checkgate, &["report"]);
    assert!(told && page.contains("What was decided"), "{page}");
    checkgate.records_with(|record| record["kind"] == "decision").await.unwrap();
    let report = checkgate.ask("/v1/report").await.unwrap().json().unwrap();
    let would = &report["outcomes"]["would_have_acted"];
    assert_eq!((&would["decisions"], &would["clients"]), (&json!(1), &json!(1)), "{report}");
    let requests = would["requests"].as_u64().unwrap();
    assert!((30..60).contains(&requests), "{requests} requests came after the decision");
    assert_eq!(report["clients"][0]["client"], "127.0.0.66");
    assert_eq!(report["clients"][0]["detector"], "one_field_sweep");
    assert_eq!(report["held_back"]["mode"]["decisions"], 1);
    assert_eq!(report["tenants"]["acme"]["all"]["clients"], 1, "{report}");
}

#[tokio::test]
async fn what_the_file_of_the_kill_switch_does_is_told_once_and_by_whom() {
    let server = pricing().await;
    let checkgate = enforcing(&server).await;
    let told = events(&checkgate, |told| told.contains("\"never_block\"")).await;
    std::fs::write(checkgate.state.join("kill-switch"), "").unwrap();
    let moved = async {
        while checkgate.metric("checkgate_kill_switch", &[]).await.unwrap() < 1.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Longer than anybody looks at the file again.
        tokio::time::sleep(Duration::from_millis(700)).await;
    };
    timeout(Duration::from_secs(10), moved).await.unwrap();
    let (done, said) = cli(&checkgate, &["never-block", "add", "192.0.2.0/24"]);
    assert!(done, "{said}");
    let told = told.await;
    let moves: Vec<&str> = told.lines().filter(|line| line.contains("\"kind\":\"kill_switch\"")).collect();
    assert_eq!(moves.len(), 1, "{told}");
    assert!(moves[0].contains("\"from\":\"file\"") && moves[0].contains("\"who\":\"checkgate\""), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_detector_proposes_can_be_approved_and_outlives_a_restart() {
    let server = pricing().await;
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "policy": {"on_tier_one": "propose"},
    });
    let mut checkgate = Start::configured(config.clone()).run().await.unwrap();
    let swept = sweep(&mut checkgate.client(CLIENT), 20).await.unwrap();
    assert!(swept.refusal.is_none(), "nothing is done before it is approved");
    let proposed = checkgate.records_with(|record| record["kind"] == "decision").await.unwrap();
    let id = proposed.iter().find_map(|record| record["decision_id"].as_str()).unwrap();
    let shown = checkgate.ask(&format!("/v1/decisions/{id}")).await.unwrap().json().unwrap();
    assert_eq!(shown["status"], "proposed", "{shown:#}");
    checkgate.stop().await.unwrap();
    let again = Start::configured(config).in_state(&checkgate.state).run().await.unwrap();
    let reply = call(&again, Method::POST, &format!("/v1/decisions/{id}/approve"), &json!({})).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json().unwrap()["status"]),
        (200, &json!("in_force")),
        "{}",
        reply.text()
    );
    assert_eq!(status(&again).await, 403);
}
