//! Aims every vector at checkgate and at the proxies that people would use in its place, and prints a table.
//!
//! `cargo run -p checkgate-load-tests --example screen_scores` after `cargo build -p checkgate`. A proxy that runs
//! already, in front of an upstream that this program names, is added with `SCREEN_UPSTREAM=127.0.0.1:9000
//! SCREEN_PROXY=NAME=127.0.0.1:9001`; it is shot at one by one, over HTTP/1.1. `SCREEN_DETAILS=1` prints every vector that is not ok.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use anyhow::Context;
use checkgate_load_tests::oracle::proxies::Proxy;
use checkgate_load_tests::oracle::range::{Batch, Shot, aim, aim_frames};
use checkgate_load_tests::oracle::recorder::Recorder;
use checkgate_load_tests::oracle::vectors::{folder, load};
use checkgate_load_tests::oracle::verdict::Verdict;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let shots: Vec<Shot> = load(&folder())?.iter().map(Shot::of).collect::<anyhow::Result<_>>()?;
    let downgrades = load(&folder().join("http2"))?;
    println!("| proxy | what | vectors | ok | lenient | FAIL | hang |\n|---|---|---|---|---|---|---|");
    let recorder = recorder().await?;
    let mut proxies = vec![Proxy::checkgate(recorder.address).await?];
    if Proxy::others_installed() {
        proxies.push(Proxy::nginx(recorder.address).await?);
        proxies.push(Proxy::haproxy(recorder.address).await?);
    }
    proxies.extend(foreign()?);
    for proxy in &proxies {
        let batch = aim(proxy, &recorder, shots.clone()).await?;
        println!("{}", row(&proxy.name, "HTTP/1.1", &batch));
        details(&batch);
        if !proxy.names_clients {
            continue;
        }
        let batch = aim_frames(proxy, &recorder, &downgrades).await?;
        println!("{}", row(&proxy.name, "HTTP/2 to HTTP/1.1", &batch));
        details(&batch);
    }
    Ok(())
}

async fn recorder() -> anyhow::Result<Recorder> {
    let address = match std::env::var("SCREEN_UPSTREAM") {
        Ok(address) => address.parse()?,
        Err(_) => ([127, 0, 0, 1], 0).into(),
    };
    Ok(Recorder::on(address).await?)
}

fn foreign() -> anyhow::Result<Option<Proxy>> {
    let Ok(named) = std::env::var("SCREEN_PROXY") else { return Ok(None) };
    let (name, address) = named.split_once('=').context("SCREEN_PROXY is NAME=ADDRESS")?;
    Ok(Some(Proxy::foreign(name, address.parse()?, false)))
}

fn row(name: &str, what: &str, batch: &Batch) -> String {
    let count =
        |fits: fn(&Verdict) -> bool| batch.outcomes.iter().filter(|outcome| fits(&outcome.verdict)).count();
    let ok = count(|verdict| *verdict == Verdict::Ok);
    let lenient = count(|verdict| matches!(verdict, Verdict::Lenient(_)));
    let failed = count(|verdict| matches!(verdict, Verdict::Fail(_))) + batch.unclaimed.len();
    let hung = count(|verdict| *verdict == Verdict::Hang);
    format!("| {name} | {what} | {} | {ok} | {lenient} | {failed} | {hung} |", batch.outcomes.len())
}

fn details(batch: &Batch) {
    if std::env::var_os("SCREEN_DETAILS").is_none() {
        return;
    }
    for outcome in batch.outcomes.iter().filter(|outcome| outcome.verdict != Verdict::Ok) {
        println!("{}", outcome.told());
    }
}
