//! The byte oracle over HTTP/2: what becomes HTTP/1.1 on its way to the upstream is one clean request, or none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use checkgate_load_tests::oracle::proxies::Proxy;
use checkgate_load_tests::oracle::range::{Outcome, aim_frames};
use checkgate_load_tests::oracle::recorder::Recorder;
use checkgate_load_tests::oracle::vectors::{folder, load};

fn told(outcomes: &[&Outcome]) -> String {
    outcomes.iter().map(|outcome| outcome.told()).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_http2_request_becomes_one_clean_request_or_none() -> anyhow::Result<()> {
    let vectors = load(&folder().join("http2"))?;
    assert!(vectors.len() >= 48, "{} vectors", vectors.len());
    let recorder = Recorder::start().await?;
    let proxy = Proxy::checkgate(recorder.address).await?;
    let batch = aim_frames(&proxy, &recorder, &vectors).await?;
    assert!(
        batch.unclaimed.is_empty(),
        "the upstream got requests that no client sent: {:?}",
        batch.unclaimed
    );
    let faults: Vec<&Outcome> = batch.outcomes.iter().filter(|outcome| outcome.is_fault()).collect();
    assert!(faults.is_empty(), "{} of {} vectors:\n{}", faults.len(), vectors.len(), told(&faults));
    let judged = batch.outcomes.iter().zip(&vectors);
    let surprising = judged.filter(|(outcome, vector)| outcome.is_lenient() && vector.lenient.is_none());
    let surprising: Vec<&Outcome> = surprising.map(|(outcome, _)| outcome).collect();
    assert!(surprising.is_empty(), "{} lenient without a reason:\n{}", surprising.len(), told(&surprising));
    Ok(())
}
