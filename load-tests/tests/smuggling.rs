//! The byte oracle over HTTP/1.1: no bytes of a client mean two things to servers behind the proxy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeSet;

use checkgate_load_tests::oracle::excerpt;
use checkgate_load_tests::oracle::mutations::{Random, mutated};
use checkgate_load_tests::oracle::proxies::Proxy;
use checkgate_load_tests::oracle::range::{Batch, Outcome, Shot, aim};
use checkgate_load_tests::oracle::recorder::Recorder;
use checkgate_load_tests::oracle::vectors::{Expect, Vector, folder, load};
use checkgate_load_tests::oracle::verdict::{Case, Verdict};

/// How many mutated requests, unless the environment says otherwise.
const MUTATIONS: usize = 1_500;
/// So many exchanges are judged at once, which bounds what the recorder keeps.
const BATCH: usize = 500;
/// One in so many mutated requests is a control that must be served all the same.
const CONTROL_EVERY: usize = 20;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn told<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> String {
    outcomes.into_iter().map(Outcome::told).collect::<Vec<_>>().join("\n")
}

fn assert_nothing_unclaimed(batch: &Batch) {
    let shown: Vec<String> = batch.unclaimed.iter().map(|bytes| excerpt(bytes)).collect();
    assert!(shown.is_empty(), "the upstream got requests that no client sent: {shown:#?}");
}

fn shots(vectors: &[Vector]) -> anyhow::Result<Vec<Shot>> {
    vectors.iter().map(Shot::of).collect()
}

/// The vectors that the file lets be lenient.
fn documented(vectors: &[Vector]) -> BTreeSet<String> {
    vectors.iter().filter(|vector| vector.lenient.is_some()).map(Vector::title).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_vector_reaches_the_upstream_dirty_and_no_honest_request_is_refused() -> anyhow::Result<()> {
    let vectors = load(&folder())?;
    let controls = vectors.iter().filter(|vector| vector.class == "controls").count();
    assert!(
        vectors.len() - controls >= 150 && controls >= 20,
        "{} vectors, {controls} controls",
        vectors.len()
    );
    let recorder = Recorder::start().await?;
    let proxy = Proxy::checkgate(recorder.address).await?;
    let batch = aim(&proxy, &recorder, shots(&vectors)?).await?;
    assert_nothing_unclaimed(&batch);
    let faults: Vec<&Outcome> = batch.outcomes.iter().filter(|outcome| outcome.is_fault()).collect();
    assert!(faults.is_empty(), "{} of {} vectors:\n{}", faults.len(), vectors.len(), told(faults));
    let documented = documented(&vectors);
    let lenient = batch.outcomes.iter().filter(|outcome| outcome.is_lenient());
    let surprising: Vec<&Outcome> = lenient.filter(|outcome| !documented.contains(&outcome.title)).collect();
    assert!(surprising.is_empty(), "{} lenient without a reason:\n{}", surprising.len(), told(surprising));
    Ok(())
}

/// Seeded mutations of all vectors, with controls among them.
fn mutations(vectors: &[Vector], count: usize, seed: u64) -> anyhow::Result<Vec<Shot>> {
    let all = shots(vectors)?;
    let bases: Vec<Vec<u8>> = all.iter().map(|shot| shot.segments.concat()).collect();
    let bases: Vec<Vec<u8>> = bases.into_iter().filter(|bytes| (1..2_000).contains(&bytes.len())).collect();
    let controls: Vec<&Shot> = all.iter().filter(|shot| shot.case.expect == Expect::Pass).collect();
    let mut random = Random::new(seed);
    let shot = |index: usize| {
        if index.is_multiple_of(CONTROL_EVERY) {
            return controls[index / CONTROL_EVERY % controls.len()].clone();
        }
        let title = format!("mutation {index} of seed {seed}");
        Shot { title, case: Case::any(), segments: vec![mutated(&bases, &mut random)] }
    };
    Ok((0..count).map(shot).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutated_request_reaches_the_upstream_dirty_or_ambiguous() -> anyhow::Result<()> {
    let vectors = load(&folder())?;
    let (count, seed) = (number("SCREEN_MUTATIONS", MUTATIONS), number("SCREEN_SEED", 1) as u64);
    let recorder = Recorder::start().await?;
    let proxy = Proxy::checkgate(recorder.address).await?;
    let shots = mutations(&vectors, count, seed)?;
    let (mut faults, mut lenient) = (Vec::new(), Vec::new());
    for shots in shots.chunks(BATCH) {
        let batch = aim(&proxy, &recorder, shots.to_vec()).await?;
        assert_nothing_unclaimed(&batch);
        faults.extend(batch.outcomes.iter().filter(|outcome| outcome.is_fault()).cloned());
        lenient.extend(batch.outcomes.into_iter().filter(Outcome::is_lenient));
    }
    assert!(faults.is_empty(), "{} of {count} with seed {seed}:\n{}", faults.len(), told(&faults));
    assert!(lenient.is_empty(), "{} of {count} with seed {seed}:\n{}", lenient.len(), told(&lenient));
    Ok(())
}

/// Whoever trusts the oracle must have seen it bite.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oracle_sees_the_faults_of_a_proxy_that_changes_nothing() -> anyhow::Result<()> {
    let recorder = Recorder::start().await?;
    let (address, forwarding) = forwarder(recorder.address).await?;
    let proxy = Proxy::foreign("nothing but bytes", address, true);
    let vectors = load(&folder())?;
    let batch = aim(&proxy, &recorder, shots(&vectors)?).await?;
    forwarding.abort();
    let of = |expect| batch.outcomes.iter().zip(&vectors).filter(move |(_, vector)| vector.expect == expect);
    let refused: Vec<&Outcome> = of(Expect::Refuse).map(|(outcome, _)| outcome).collect();
    let unseen: Vec<&Outcome> = refused.iter().filter(|outcome| !outcome.is_fault()).copied().collect();
    let of_all = format!("{} of {} vectors to refuse", unseen.len(), refused.len());
    // The rest are clean bytes that are refused by policy, such as upgrades, or answers that were never asked for.
    assert!(unseen.len() * 100 <= refused.len() * 15, "{of_all} went unseen:\n{}", told(unseen));
    let controls: Vec<&Outcome> = of(Expect::Pass).map(|(outcome, _)| outcome).collect();
    let passed = controls.iter().filter(|outcome| outcome.verdict == Verdict::Ok).count();
    assert!(passed * 100 >= controls.len() * 80, "{passed} of {} controls pass a plain wire", controls.len());
    println!("{of_all} went unseen; {passed} of {} controls passed\n{}", controls.len(), told(unseen));
    Ok(())
}

/// Copies bytes both ways and adds nothing but the client's address, in front of the first empty line.
async fn forwarder(
    upstream: std::net::SocketAddr,
) -> anyhow::Result<(std::net::SocketAddr, tokio::task::JoinHandle<()>)> {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let accepting = tokio::spawn(async move {
        while let Ok((mut client, peer)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(upstream).await?;
                server.write_all(&named(&mut client, peer).await?).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok((address, accepting))
}

async fn named(client: &mut tokio::net::TcpStream, peer: std::net::SocketAddr) -> std::io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt;
    let mut first = vec![0; 65536];
    let count = client.read(&mut first).await?;
    first.truncate(count);
    let after_request_line = first.iter().position(|byte| *byte == b'\n').map_or(0, |feed| feed + 1);
    let line = format!("X-Forwarded-For: {}\r\n", peer.ip());
    if after_request_line > 0 {
        first.splice(after_request_line..after_request_line, line.into_bytes());
    }
    Ok(first)
}
