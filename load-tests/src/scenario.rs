//! Scenario folders: `config.yaml`, `exchanges.jsonl` and `expected.jsonl` are data, one function plays them all.
//!
//! A scenario is played live, one exchange after the other, so that its order is the file's order. What depends on
//! the clock or on the instance's secret (times, ids, durations) is left out of `expected.jsonl`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::checkgate::{Checkgate, Start};
use crate::client::Client;
use crate::inference;
use crate::model_server::{Answer, ModelServer};

/// Members of a record that differ from run to run.
const CHANGING: [&str; 6] = ["id", "time", "until", "decision_id", "requests", "explanation"];

/// Members of a change of drift that follow from the clock: the threshold depends on how fast the traffic is.
const OF_DRIFT: [&str; 7] = ["evidence", "threshold", "extent", "layer", "rows", "budget", "reference"];

/// One line of `exchanges.jsonl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Source address of the client, such as `127.1.0.1`.
    pub client: String,
    /// The model.
    pub model: String,
    /// What is asked, row by row.
    pub rows: Vec<Vec<f64>>,
    /// What the model answers, row by row; 100 for each row where absent.
    #[serde(default)]
    pub answer: Option<Vec<Vec<f64>>>,
    /// The error that the model answers with instead.
    #[serde(default)]
    pub fails: Option<u16>,
    /// How many times in a row the exchange happens; once where absent.
    #[serde(default = "once")]
    pub times: u32,
    /// What the client must get; what the model answers where absent. After a block it is either, as a decision may take a moment.
    #[serde(default)]
    pub status: Option<u16>,
    /// Whether the model server must be told of a decision.
    #[serde(default)]
    pub tagged: Option<bool>,
    /// Whether the exchange happens again and again until it is as it must be, for ten seconds at most.
    #[serde(default)]
    pub eventually: bool,
}

/// How long an exchange may take to become what it must be.
const EVENTUALLY: Duration = Duration::from_secs(10);
/// A decision that no client can make up.
const FORGED: &str = "d-0000000000000000";

fn once() -> u32 {
    1
}

/// A folder.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The folder.
    pub folder: PathBuf,
    /// Its exchanges, in order.
    pub exchanges: Vec<Exchange>,
}

/// What a scenario gave.
#[derive(Debug)]
pub struct Played {
    /// The findings file, as it was written.
    pub findings: String,
    /// The recording.
    pub recording: PathBuf,
    _scratch: tempfile::TempDir,
}

/// All scenarios, by name.
///
/// # Errors
/// Where a folder lacks a file or a line is no exchange.
pub fn all() -> anyhow::Result<Vec<Scenario>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        scenarios.push(Scenario::load(entry?.path())?);
    }
    scenarios.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(scenarios)
}

impl Scenario {
    fn load(folder: PathBuf) -> anyhow::Result<Self> {
        let file = folder.join("exchanges.jsonl");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let read = |line| serde_json::from_str(line).with_context(|| format!("{}: {line}", file.display()));
        let exchanges = text.lines().map(read).collect::<anyhow::Result<_>>()?;
        Ok(Self { folder, exchanges })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Plays it through the binary, recording.
    ///
    /// # Errors
    /// Where a client gets what it must not get.
    pub async fn play(&self) -> anyhow::Result<Played> {
        let scratch = tempfile::tempdir()?;
        let recording = scratch.path().join("recording");
        let server = ModelServer::answering(|question| {
            let header = |name| question.headers.get(name).map(http::HeaderValue::as_bytes);
            let fails =
                header("x-scenario-fails").and_then(|status| http::StatusCode::from_bytes(status).ok());
            let answer = Answer::json(header("x-scenario-answer").unwrap_or_default().to_vec());
            let answer = answer.status(fails.unwrap_or_default());
            match question.headers.get("checkgate-decision").and_then(|id| id.to_str().ok()) {
                Some(decision) => answer.header("x-scenario-decision", decision),
                None => answer,
            }
        });
        let server = server.await?;
        let start = Start::in_front_of(server.address).with_file(&self.folder.join("config.yaml"));
        let mut checkgate = start.with(&["--record", &recording.display().to_string()]).run().await?;
        self.exchange_all(&checkgate).await?;
        checkgate.stop().await?;
        Ok(Played { findings: checkgate.findings(), recording, _scratch: scratch })
    }

    async fn exchange_all(&self, checkgate: &Checkgate) -> anyhow::Result<()> {
        let mut clients: HashMap<&str, Client> = HashMap::new();
        for (number, exchange) in self.exchanges.iter().enumerate() {
            let client =
                clients.entry(&exchange.client).or_insert_with(|| checkgate.client(&exchange.client));
            for _ in 0..exchange.times {
                let began = Instant::now();
                let mut got = exchange.send(client).await?;
                while exchange.eventually && !exchange.allows(&got) && began.elapsed() < EVENTUALLY {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    got = exchange.send(client).await?;
                }
                ensure!(exchange.allows(&got), "{}: line {} got {got:?}", self.name(), number + 1);
            }
        }
        Ok(())
    }

    /// The content of `expected.jsonl`; empty where there is none.
    #[must_use]
    pub fn expected(&self) -> String {
        fs::read_to_string(self.folder.join("expected.jsonl")).unwrap_or_default()
    }

    /// Writes `expected.jsonl`.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn expect(&self, content: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.folder.join("expected.jsonl"), content)?)
    }
}

/// What a client got, and what the model server was told with its request.
#[derive(Debug)]
struct Got {
    status: u16,
    decision: Option<String>,
}

impl Exchange {
    fn allows(&self, got: &Got) -> bool {
        let answered = self.fails.unwrap_or(200);
        let status = self
            .status
            .map_or(got.status == answered || got.status == 403, |expected| got.status == expected);
        let decision = got.decision.as_deref();
        status
            && decision != Some(FORGED)
            && self.tagged.is_none_or(|tagged| tagged == decision.is_some_and(|id| id.starts_with("d-")))
    }

    async fn send(&self, client: &mut Client) -> anyhow::Result<Got> {
        let answer = self.answer.clone().unwrap_or_else(|| vec![vec![100.0]; self.rows.len()]);
        let answer = inference::answer(&self.model, &answer).to_string();
        let asked = inference::question(&self.rows).to_string();
        let request = http::Request::post(inference::infer_path(&self.model))
            .header("content-type", "application/json")
            .header("x-scenario-answer", answer)
            .header("checkgate-decision", FORGED)
            .header("x-scenario-fails", self.fails.unwrap_or(200));
        let reply = client.send(request.body(crate::whole(asked))?).await?;
        let decision = reply.headers.get("x-scenario-decision").and_then(|id| id.to_str().ok());
        Ok(Got { status: reply.status.as_u16(), decision: decision.map(str::to_owned) })
    }
}

/// The records of a findings file without what differs from run to run, one a line.
///
/// # Errors
/// Where a line is not JSON.
pub fn lasting(findings: &str) -> anyhow::Result<String> {
    let mut lasting = String::new();
    for line in findings.lines() {
        let mut record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if let Some(record) = record.as_object_mut() {
            record.retain(|member, _| !CHANGING.contains(&member.as_str()));
            if record.get("kind").is_some_and(|kind| kind == "drift") {
                lasting_drift(record);
            }
            if record.get("detector").is_some_and(|detector| detector == "drift") {
                // How far off the latest rows are follows from when the change was seen.
                record.retain(|member, _| !["statistic", "limit"].contains(&member.as_str()));
            }
            for (part, member) in [("window", "seconds"), ("proposed", "approves"), ("proposed", "expires")] {
                if let Some(part) = record.get_mut(part).and_then(Value::as_object_mut) {
                    part.remove(member);
                }
            }
        }
        lasting.push_str(&record.to_string());
        lasting.push('\n');
    }
    Ok(lasting)
}

/// Of a change of drift, what happened at which model, the feature that moved most, and who is behind it.
fn lasting_drift(record: &mut serde_json::Map<String, Value>) {
    record.retain(|member, _| !OF_DRIFT.contains(&member.as_str()));
    if let Some(features) = record.get_mut("features").and_then(Value::as_array_mut) {
        features.truncate(1);
        for feature in features.iter_mut().filter_map(Value::as_object_mut) {
            feature.retain(|member, _| member == "name");
        }
    }
    if let Some(rule) = record.get_mut("rule").and_then(Value::as_object_mut) {
        // How many events the window held follows from the clock.
        rule.remove("expected");
    }
    let named = record.get_mut("attribution").and_then(|attribution| attribution.get_mut("named"));
    for named in named.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
        named.retain(|member, _| ["level", "who"].contains(&member.as_str()));
    }
}
