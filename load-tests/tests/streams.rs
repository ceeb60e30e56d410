//! Recorded streams through the binary: honest clients are served to the end, attackers are named and blocked.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, helpers included"
)]

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::client::Client;
use checkgate_load_tests::inference::{infer_path, question};
use checkgate_load_tests::model_server::ModelServer;
use checkgate_load_tests::streams::{RecordedModel, Stream, address, reference};
use serde_json::Value;

/// The recorded model, and checkgate in front of it in `enforce` with the model's reference.
struct Playground {
    checkgate: Checkgate,
    _server: ModelServer,
    _references: tempfile::TempDir,
}

impl Playground {
    async fn of(stream: &Stream) -> anyhow::Result<Self> {
        let mut model = RecordedModel::default();
        model.learn(stream);
        let server = ModelServer::answering(move |question| model.answer(question)).await?;
        let references = tempfile::tempdir()?;
        let file = reference(stream.model, references.path())?;
        let named = format!("{}={}", stream.model, file.display());
        let start = Start::in_front_of(server.address);
        let start = start.with(&["--mode", "enforce", "--client", "ip", "--reference", &named]);
        Ok(Self { checkgate: start.run().await?, _server: server, _references: references })
    }

    /// Plays the stream, a source address to a client, with `pause` after each answer, until the first refusal.
    /// Gives the rows that were answered.
    async fn play(&self, stream: &Stream, pause: Duration) -> anyhow::Result<usize> {
        let mut clients: HashMap<usize, Client> = HashMap::new();
        let mut answered = 0;
        for request in &stream.requests {
            let client = clients
                .entry(request.client)
                .or_insert_with(|| self.checkgate.client(&address(0, request.client)));
            let body = question(&request.rows).to_string();
            let reply = client.post(&infer_path(stream.model), body).await?;
            if reply.status == 403 {
                return Ok(answered);
            }
            ensure!(reply.status == 200, "{}: {} {}", stream.name, reply.status, reply.text());
            answered += request.rows.len();
            tokio::time::sleep(pause).await;
        }
        Ok(answered)
    }

    fn blocks(&self) -> anyhow::Result<Vec<Value>> {
        let records = self.checkgate.records()?;
        Ok(records
            .into_iter()
            .filter(|record| record["kind"] == "decision" && record["action"] == "block")
            .collect())
    }
}

async fn assert_served(name: &str) {
    let stream = Stream::load(name).unwrap();
    let mut playground = Playground::of(&stream).await.unwrap();
    let answered = playground.play(&stream, Duration::ZERO).await.unwrap();
    // Everything that the proxy has to say is written once it has ended.
    playground.checkgate.stop().await.unwrap();
    let blocks = playground.blocks().unwrap();
    assert!(blocks.is_empty(), "{name}: an honest client was blocked: {blocks:#?}");
    assert_eq!(answered, stream.rows(), "{name}: rows answered");
}

/// One stream of each kind, chosen for what it has in common with an attack: what-if forms and comparison portals
/// vary one field, probes and load testers repeat, batches and shared addresses ask for much.
const SAMPLE: [&str; 10] = [
    "benign/abload_digits.1",
    "benign/batch_cancer.1",
    "benign/compare_pricing.1",
    "benign/narrow_digits.1",
    "benign/natgw_pricing.1",
    "benign/nightly_pricing.1",
    "benign/probe_cancer.1",
    "benign/retry_pricing.1",
    "benign/sensor_digits.1",
    "benign/whatif_pricing.1",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_honest_clients_is_never_blocked() {
    for name in SAMPLE {
        assert_served(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: all 52 streams"]
async fn no_honest_client_is_ever_blocked() {
    let names = Stream::names("benign").unwrap();
    assert_eq!(names.len(), 52);
    for name in names {
        assert_served(&name).await;
    }
}

async fn assert_blocked(name: &str, detectors: &[&str]) {
    let stream = Stream::load(name).unwrap();
    let mut playground = Playground::of(&stream).await.unwrap();
    // A decision takes a moment; a stream whose last rows cross the limit leaves it that moment.
    let answered = playground.play(&stream, Duration::from_millis(10)).await.unwrap();
    playground.checkgate.stop().await.unwrap();
    let blocks = playground.blocks().unwrap();
    let [block] = blocks.as_slice() else { panic!("{name}: {} rows answered, blocks {blocks:#?}", answered) };
    let detector = block["detector"].as_str().unwrap();
    println!(
        "{name}: {detector} at row {} of {}, {answered} answered",
        block["window"]["rows"],
        stream.rows()
    );
    assert!(detectors.contains(&detector), "{name} was blocked by {detector}, expected one of {detectors:?}");
    assert!(answered < stream.rows(), "{name}: the decision came after the last of {answered} rows");
    let explanation = block["explanation"].as_str().unwrap();
    assert!(explanation.contains(&address(0, 0)), "{name}: who did it is not explained: {explanation}");
    for told in ["atlas", "statistic", "limit", "until", "decision_id"] {
        assert!(!block[told].is_null(), "{name}: {told} is missing in {block:#}");
    }
    assert!(!block["requests"].as_array().unwrap().is_empty(), "{name}: no request is named in {block:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_and_coordinate_searches_are_blocked_and_named() {
    let (line, star, near, pairs) = ("one_field_sweep", "field_by_field", "near_duplicates", "mirror_pairs");
    assert_blocked("attacks/price_oat", &[line]).await;
    assert_blocked("attacks/price_enum", &[line, near]).await;
    assert_blocked("attacks/price_grid", &[line]).await;
    assert_blocked("attacks/zoo_digits", &[star]).await;
    assert_blocked("attacks/zoo_cancer", &[line, star, pairs]).await;
    assert_blocked("attacks/inv_search_digits", &[line, star]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_that_move_many_fields_are_blocked_and_named() {
    let (near, walk, halves) = ("near_duplicates", "boundary_walk", "bisection");
    let (pairs, amounts) = ("mirror_pairs", "equal_amounts");
    assert_blocked("attacks/hsj_digits", &[halves, walk, near]).await;
    assert_blocked("attacks/hsj_cancer", &[halves, walk, near]).await;
    assert_blocked("attacks/nes_digits", &[walk, pairs]).await;
    assert_blocked("attacks/nes_cancer", &[near, pairs]).await;
    assert_blocked("attacks/simba_digits", &[near, pairs]).await;
    assert_blocked("attacks/square_digits", &[amounts]).await;
}
