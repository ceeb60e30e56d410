//! HAProxy in front, as a balancer of connections that says by the PROXY protocol whom each is from.
//!
//! Needs `haproxy` (a Debian package). Without it the test says so and passes, unless `CI` is `true`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use checkgate_load_tests::attack::{honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Start, free_address};
use checkgate_load_tests::client::Client;
use checkgate_load_tests::inference::{answer, infer_path, question};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use serde_json::json;

/// Where HAProxy connects from.
const BALANCER: &str = "127.0.7.1";

/// Ends with the test.
struct Haproxy(Child);

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// HAProxy with a front for each of the words, all in front of `checkgate`; nothing where it is not installed.
fn haproxy(folder: &Path, checkgate: SocketAddr, fronts: &[(&str, SocketAddr)]) -> Option<Haproxy> {
    let mut config = String::from(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n",
    );
    for (word, front) in fronts {
        config += &format!(
            "listen {word}\n  bind {front}\n  server checkgate {checkgate} source {BALANCER} {word} check\n"
        );
    }
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let quiet = || Stdio::null();
    let started =
        Command::new("haproxy").arg("-db").arg("-f").arg(&file).stdout(quiet()).stderr(quiet()).spawn();
    match started {
        Ok(child) => Some(Haproxy(child)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "haproxy is not installed");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attacker_is_blocked_behind_haproxy_and_nobody_else() {
    let server = ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap();
    let config = json!({
        "upstream": format!("http://{}", server.address), "mode": "enforce", "proxy_protocol": "required",
        "clients": {"identity": "ip", "trusted_proxies": [BALANCER]},
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let words = ["send-proxy", "send-proxy-v2"];
    let fronts = words.map(|word| (word, free_address().unwrap()));
    let Some(_haproxy) = haproxy(folder.path(), checkgate.address, &fronts) else {
        println!("haproxy is not installed: nothing was tried");
        return;
    };
    for (number, (word, front)) in fronts.into_iter().enumerate() {
        let attacker = format!("127.0.8.{}", number + 1);
        let ask = async |source: &str, row: Vec<f64>| {
            let mut client = Client::to(front).from(source);
            client
                .post(&infer_path("pricing"), question(&[row]).to_string())
                .await
                .map(|it| it.status.as_u16())
        };
        checkgate_load_tests::within("haproxy", async {
            while ask("127.0.9.1", honest_row(1, 1)).await.ok() != Some(200) {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap();
        for row in 0..40 {
            ask(&attacker, sweep_row(row)).await.unwrap();
        }
        let is_it =
            |record: &serde_json::Value| record["kind"] == "decision" && record["client"] == *attacker;
        checkgate.records_with(is_it).await.unwrap();
        assert_eq!(ask(&attacker, sweep_row(1)).await.unwrap(), 403, "{word}: the attacker");
        assert_eq!(ask("127.0.9.1", honest_row(2, 2)).await.unwrap(), 200, "{word}: somebody else");
    }
    let decided = checkgate.records().unwrap();
    let about = decided.iter().filter(|record| record["kind"] == "decision");
    assert_eq!(about.count(), 2, "one decision for each attacker: {decided:?}");
    let malformed =
        checkgate.metric("checkgate_rejected_total", &[r#"reason="proxy_header""#]).await.unwrap();
    assert!(malformed < 0.5, "what HAProxy writes is read, its health checks included: {malformed}");
}
