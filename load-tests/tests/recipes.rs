//! The requests of `deploy/integrations/`, sent to a running checkgate with the configuration of their page.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use checkgate_load_tests::attack::{ask, honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::client::{Client, Reply};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::{whole, within};
use http::Request;
use ring::hmac;
use serde_json::json;
use tempfile::TempDir;

const SECRET: &str = "a-secret-for-all-the-recipes-0123456789";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CLIENT: &str = "127.0.61.1";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/integrations")
}

/// Every request with its page.
fn requests() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.filter(|path| path.is_dir()).flat_map(|path| {
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    });
    let mut requests: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|ext| ext == "http")).collect();
    requests.sort();
    requests
}

/// A running checkgate with what the page of a request says of its configuration.
struct House {
    checkgate: Checkgate,
    _server: ModelServer,
    _secrets: TempDir,
}

async fn house(request: &Path) -> House {
    let server = ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap();
    let secrets = TempDir::new().unwrap();
    let page = std::fs::read_to_string(request.with_file_name("README.md")).unwrap();
    let block = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let mut config =
        format!("upstream: http://{}\nmode: enforce\nclients: {{identity: ip}}\n{block}", server.address);
    for (name, secret) in [("CHECKGATE_SOAR", SECRET), ("CHECKGATE_SIGNING", SIGNING)] {
        let file = secrets.path().join(name);
        std::fs::write(&file, secret).unwrap();
        let named = format!("secrets: [{{file: {}}}]", file.display());
        config = config.replace(&format!("secrets: [\"${{{name}}}\"]"), &named);
    }
    let file = secrets.path().join("checkgate.yaml");
    std::fs::write(&file, config).unwrap();
    let checkgate = Start::default().with_file(&file).run().await.unwrap();
    House { checkgate, _server: server, _secrets: secrets }
}

impl House {
    /// Sends the request of a file with every `{{...}}` made real.
    async fn send(&self, file: &Path, real: &BTreeMap<&str, String>) -> Reply {
        let mut text = std::fs::read_to_string(file).unwrap();
        for (name, value) in real {
            text = text.replace(&format!("{{{{{name}}}}}"), value);
        }
        let (head, body) = text.split_once("\n\n").unwrap();
        let body = body.trim_end();
        let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string();
        let key = BASE64_STANDARD.decode(SIGNING.trim_start_matches("whsec_")).unwrap();
        let signed = format!("{}.{stamp}.{body}", real["id"]);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        let head = head.replace("{{timestamp}}", &stamp);
        let head = head.replace("{{signature}}", &format!("v1,{}", BASE64_STANDARD.encode(tag)));
        assert!(!head.contains("{{") && !body.contains("{{"), "{}: {head}\n{body}", file.display());
        let mut lines = head.lines();
        let mut line = lines.next().unwrap().split(' ');
        let (method, path) = (line.next().unwrap(), line.next().unwrap());
        let mut request = Request::builder().method(method).uri(path);
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let request = request.body(whole(body.to_owned())).unwrap();
        Client::to(self.checkgate.admin).send(request).await.unwrap()
    }

    async fn status(&self) -> u16 {
        ask(&mut self.checkgate.client(CLIENT), honest_row(1, 1)).await.unwrap().status.as_u16()
    }

    /// The id of a decision that a detector proposed on the client, after an attack.
    async fn proposed(&self) -> String {
        let mut client = self.checkgate.client(CLIENT);
        for step in 0..20 {
            ask(&mut client, sweep_row(step)).await.unwrap();
        }
        within("a proposal", async {
            loop {
                let list = self.checkgate.ask("/v1/decisions?status=proposed").await.unwrap().json().unwrap();
                if let Some(id) = list["decisions"][0]["id"].as_str() {
                    return id.to_owned();
                }
            }
        })
        .await
        .unwrap()
    }

    /// The id of a block that an operator took.
    async fn blocked(&self) -> String {
        let token = std::fs::read_to_string(self.checkgate.state.join("admin.token")).unwrap();
        let order = json!({"client": CLIENT, "seconds": 600, "why": "a test"});
        let request = Request::post("/v1/decisions")
            .header("authorization", format!("Bearer {}", token.trim()))
            .header("content-type", "application/json");
        let reply = Client::to(self.checkgate.admin)
            .send(request.body(whole(order.to_string())).unwrap())
            .await
            .unwrap();
        reply.json().unwrap()["id"].as_str().unwrap().to_owned()
    }
}

/// Sends the request of a file, and the same again. Gives the status of the client before and after.
async fn tried(file: &Path) -> (u16, u16) {
    let house = house(file).await;
    let text = std::fs::read_to_string(file).unwrap();
    let decision = if text.contains("{{decision_id}}") {
        house.proposed().await
    } else if text.contains("\"action\": \"lift\"") {
        house.blocked().await
    } else {
        String::new()
    };
    let real = BTreeMap::from([
        ("admin", house.checkgate.admin.to_string()),
        ("secret", SECRET.to_owned()),
        ("id", "4711".to_owned()),
        ("client", CLIENT.to_owned()),
        ("decision_id", decision),
    ]);
    let before = house.status().await;
    let reply = house.send(file, &real).await;
    assert_eq!(reply.status, 200, "{}: {}", file.display(), reply.text());
    let after = house.status().await;
    if !text.contains("webhook-id") {
        let again = house.send(file, &real).await;
        assert_eq!(
            (again.status.as_u16(), &again.body),
            (200, &reply.body),
            "{}: the same again",
            file.display()
        );
        assert_eq!(house.status().await, after, "{}: changed something", file.display());
    }
    (before, after)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_recipe_does_what_its_page_says() {
    let expected = BTreeMap::from([
        ("cortex-xsoar/request.http", (200, 403)),
        ("sentinel-playbook/request.http", (403, 200)),
        ("shuffle/request.http", (200, 403)),
        ("splunk-soar/alert.http", (200, 403)),
        ("splunk-soar/request.http", (200, 403)),
        ("tines/request.http", (200, 200)),
    ]);
    let files = requests();
    let names: Vec<_> =
        files.iter().map(|file| file.strip_prefix(folder()).unwrap().to_str().unwrap()).collect();
    assert_eq!(names, expected.keys().copied().collect::<Vec<_>>(), "every recipe is tried");
    for (name, file) in names.iter().zip(&files) {
        assert_eq!(tried(file).await, expected[name], "{name}: the client before and after");
    }
}

#[test]
fn every_page_says_that_it_was_not_tried_in_the_product_and_is_short() {
    for file in requests() {
        let page = std::fs::read_to_string(file.with_file_name("README.md")).unwrap();
        assert!(page.contains("Not tried in the product"), "{}", file.display());
        assert!(page.lines().count() <= 50, "{} is longer than a page", file.display());
    }
}
