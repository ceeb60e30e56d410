//! Clients that hold on to connections: each is closed in time, costs little until then, and harms nobody.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::oracle::honest::Honest;
use checkgate_load_tests::oracle::http2::{Frame, PREFACE, flag, kind, ordinary};
use checkgate_load_tests::oracle::process::{listening_on, resident_kib};
use checkgate_load_tests::oracle::wire::{connect, source};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections held at once by each test, all kinds together, unless `SLOW_CLIENTS` says otherwise.
const HELD: usize = 150;
/// The configured limits on heads and on idle connections.
const HEAD: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// The fixed time of grace before a pace is judged.
const GRACE: Duration = Duration::from_secs(10);
/// By so much a loaded machine may be late.
const LATE: Duration = Duration::from_secs(5);
/// Between two bytes of a slow client.
const DRIP_EVERY: Duration = Duration::from_millis(250);
/// An answer that no buffer on the way takes whole.
const LARGE: usize = 16 << 20;

/// Memory that one held connection may cost, in KiB: one that does not read, and any other. A debug build and the
/// allocator's own growth, spread over few connections, are in these figures.
const UNREAD_MAX_KIB: u64 = 512;
const HELD_MAX_KIB: u64 = 160;

/// One way to be slow.
struct Slow {
    name: &'static str,
    opening: Vec<u8>,
    drip: Vec<u8>,
    /// Whether it takes what the proxy sends.
    reads: bool,
    closed_within: Duration,
}

const ASK: &[u8] = b"GET /v1/ask HTTP/1.1\r\nHost: oracle\r\n\r\n";

fn http2(settings: &[u8], path: &str, flags: u8) -> Vec<u8> {
    let settings = Frame::new(kind::SETTINGS, 0, 0, settings).bytes();
    let block = ordinary("POST", path);
    let headers = Frame::new(kind::HEADERS, flag::END_HEADERS | flags, 1, block).bytes();
    [PREFACE, &settings, &headers].concat()
}

fn slow(name: &'static str, opening: &[u8], drip: &[u8], closed_within: Duration) -> Slow {
    Slow { name, opening: opening.to_vec(), drip: drip.to_vec(), reads: true, closed_within }
}

fn slow_in_http1() -> Vec<Slow> {
    let partial_head = b"GET /v1/ask HTTP/1.1\r\nHost: oracle\r\nX: ";
    let posted = b"POST /v1/ask HTTP/1.1\r\nHost: oracle\r\nContent-Length: 100000\r\n\r\n";
    let chunked = b"POST /v1/ask HTTP/1.1\r\nHost: oracle\r\nTransfer-Encoding: chunked\r\n\r\n";
    let large = b"GET /large HTTP/1.1\r\nHost: oracle\r\n\r\n";
    vec![
        slow("head byte by byte", partial_head, b"a", HEAD),
        slow("head of nothing but its first byte", b"G", b"", HEAD),
        slow("head on a kept connection", &[ASK, partial_head].concat(), b"a", HEAD),
        slow("connection that says nothing", b"", b"", KEEP_ALIVE.max(HEAD)),
        slow("kept connection that says nothing", ASK, b"", KEEP_ALIVE),
        slow("body byte by byte", posted, b"a", GRACE),
        slow("body in chunks of one byte", chunked, b"1\r\na\r\n", GRACE),
        slow("body that never comes", posted, b"", GRACE),
        // The buffers on the way take the first megabytes at once, so that the pace is below the least in the second
        // time of grace only.
        Slow { reads: false, ..slow("answer that is not read", large, b"", GRACE * 2) },
    ]
}

fn slow_in_http2() -> Vec<Slow> {
    let data = Frame::new(kind::DATA, 0, 1, *b"a").bytes();
    let ping = Frame::new(kind::PING, 0, 0, [0; 8]).bytes();
    let asked = http2(b"", "/v1/ask", flag::END_STREAM);
    vec![
        slow("preface byte by byte", b"PRI * HTTP/2.0\r\n", b"", HEAD),
        slow("header block that never ends", &http2(b"", "/v1/ask", 0)[..60], b"", KEEP_ALIVE.max(HEAD)),
        slow("kept connection", &asked, b"", KEEP_ALIVE),
        slow("kept connection that pings", &asked, &ping, KEEP_ALIVE),
        slow("body in frames of one byte", &http2(b"", "/v1/ask", 0), &data, GRACE),
        slow("body that never comes, and pings", &http2(b"", "/v1/ask", 0), &ping, GRACE),
        slow("window of nothing", &http2(&[0, 4, 0, 0, 0, 0], "/large", flag::END_STREAM), &ping, GRACE),
    ]
}

async fn upstream() -> std::io::Result<ModelServer> {
    let large = Answer::whole(vec![b'a'; LARGE]);
    ModelServer::answering(
        move |question| {
            if question.path == "/large" { large.clone() } else { Answer::whole("ok") }
        },
    )
    .await
}

/// Holds one connection until the proxy closes it, and tells how long that took; nothing where it is never closed.
async fn hold(
    proxy: SocketAddr,
    opening: Vec<u8>,
    drip: Vec<u8>,
    reads: bool,
) -> anyhow::Result<Option<Duration>> {
    let mut stream = connect(proxy, source()).await?;
    let began = Instant::now();
    stream.write_all(&opening).await?;
    let patience = GRACE * 3;
    if reads {
        let closed = tokio::time::timeout(patience, drip_until_closed(&mut stream, &drip)).await;
        return Ok(closed.is_ok().then(|| began.elapsed()));
    }
    // Whoever does not read does not see the end: it is over once it cannot write any more.
    while began.elapsed() < patience {
        tokio::time::sleep(DRIP_EVERY).await;
        if stream.write_all(b"G").await.is_err() {
            return Ok(Some(began.elapsed()));
        }
    }
    Ok(None)
}

async fn drip_until_closed(stream: &mut TcpStream, drip: &[u8]) {
    let mut buffer = [0; 4096];
    loop {
        match tokio::time::timeout(DRIP_EVERY, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_) => {
                if !drip.is_empty() && stream.write_all(drip).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The memory of `process`, as soon as it has stopped to grow.
async fn settled_kib(process: u32) -> anyhow::Result<u64> {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = resident_kib(process)?;
        if now <= before {
            return Ok(now);
        }
        before = now;
    }
}

/// What one way of being slow came to.
struct Outcome {
    name: &'static str,
    closed_within: Duration,
    each_kib: u64,
    each_max_kib: u64,
    holding: JoinSet<anyhow::Result<Option<Duration>>>,
}

/// Opens `count` connections of one kind and measures what they cost.
async fn opened(checkgate: &Checkgate, process: u32, slow: Slow, count: usize) -> anyhow::Result<Outcome> {
    let before = resident_kib(process)?;
    let mut holding = JoinSet::new();
    for _ in 0..count {
        holding.spawn(hold(checkgate.address, slow.opening.clone(), slow.drip.clone(), slow.reads));
    }
    let growth = settled_kib(process).await?.saturating_sub(before);
    let each_max_kib = if slow.reads { HELD_MAX_KIB } else { UNREAD_MAX_KIB };
    let each_kib = growth / count.max(1) as u64;
    Ok(Outcome { name: slow.name, closed_within: slow.closed_within, each_kib, each_max_kib, holding })
}

/// One kind, once all its connections have ended: a row of the table, and what is wrong, if anything.
async fn judged(outcome: Outcome) -> anyhow::Result<(String, Option<String>)> {
    let (name, within, each) = (outcome.name, outcome.closed_within, outcome.each_kib);
    let held = outcome.holding.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let closed: Vec<Duration> = held.iter().flatten().copied().collect();
    let slowest = closed.iter().max().copied().unwrap_or_default();
    let (count, open) = (held.len(), held.len() - closed.len());
    let row =
        format!("| {name} | {count} | {open} | {} | {} | {each} |", within.as_millis(), slowest.as_millis());
    let fault = if open > 0 {
        Some(format!("{name}: {open} of {count} were never closed"))
    } else if slowest > within + LATE {
        Some(format!("{name}: closed after {slowest:?}, not {within:?}"))
    } else if each > outcome.each_max_kib {
        Some(format!("{name}: {each} KiB for each connection"))
    } else {
        None
    };
    Ok((row, fault))
}

/// Holds connections in all these `ways` at once; an honest client is served meanwhile.
async fn hold_all(ways: Vec<Slow>) -> anyhow::Result<()> {
    let model_server = upstream().await?;
    let checkgate = Start::configured(json!({
        "upstream": format!("http://{}", model_server.address),
        "timeouts": { "head": format!("{}s", HEAD.as_secs()), "keep_alive": format!("{}s", KEEP_ALIVE.as_secs()) },
    }));
    let checkgate = checkgate.run().await?;
    let process = listening_on(checkgate.address)?;
    let honest = Honest::client_of(checkgate.address);
    let count = std::env::var("SLOW_CLIENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(HELD);
    let each = count.div_ceil(ways.len());
    let (mut outcomes, mut told, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for slow in ways {
        outcomes.push(opened(&checkgate, process, slow, each).await?);
    }
    for outcome in outcomes {
        let (row, fault) = judged(outcome).await?;
        told.push(row);
        faults.extend(fault);
    }
    let served = honest.stop().await?;
    let told = told.join("\n");
    let table = format!(
        "| slow client | held | never closed | limit ms | slowest ms | KiB each |\n|---|---|---|---|---|---|\n{told}"
    );
    ensure!(faults.is_empty(), "{table}\n{faults:#?}");
    ensure!(served.requests > 0, "no honest client was served");
    drop(writeln!(std::io::stderr(), "{table}\nhonest: {served:?}"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_slow_client_of_http1_is_closed_in_time_and_harms_nobody() -> anyhow::Result<()> {
    hold_all(slow_in_http1()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_slow_client_of_http2_is_closed_in_time_and_harms_nobody() -> anyhow::Result<()> {
    hold_all(slow_in_http2()).await
}

/// A client that is slow for other reasons, but fast enough, is no attacker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_at_twice_the_least_pace_is_served() -> anyhow::Result<()> {
    const PIECE: usize = 1_000;
    const PIECES: usize = 24;
    let model_server = upstream().await?;
    let checkgate = Start::in_front_of(model_server.address).run().await?;
    let mut stream = connect(checkgate.address, source()).await?;
    let length = PIECE * PIECES;
    let head = format!(
        "POST /v1/ask HTTP/1.1\r\nHost: oracle\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    for _ in 0..PIECES {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stream.write_all(&[b'a'; PIECE]).await?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "an honest slow client got {answer}");
    assert_eq!(model_server.bytes(), length, "all of its body arrived");
    Ok(())
}
