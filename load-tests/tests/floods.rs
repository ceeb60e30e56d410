//! Floods of HTTP/2 frames that cost a client nothing: the proxy ends the connection, soon and without growing, and
//! serves honest clients meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::oracle::honest::Honest;
use checkgate_load_tests::oracle::http2::{Frame, Frames, PREFACE, flag, kind, literal, open, ordinary};
use checkgate_load_tests::oracle::process::{listening_on, resident_kib};
use checkgate_load_tests::oracle::recorder::Recorder;
use checkgate_load_tests::oracle::wire::{connect, source};
use checkgate_load_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A connection must have ended when it has sent so many frames.
const FRAMES_MAX: usize = 10_000;
/// Frames between two looks at what the proxy says.
const BATCH: usize = 100;
/// Frames that come one by one, so that the proxy takes every request before its reset is there.
const ONE_BY_ONE: usize = 1;
/// Requests of a rapid-reset attack that may reach the upstream.
const REQUESTS_MAX: usize = 200;
/// By so much one attack may make the proxy grow, in KiB.
const GROWTH_MAX_KIB: u64 = 8 * 1024;

const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

/// An attack: what begins it, and what is repeated, given the number of the round.
struct Flood {
    name: &'static str,
    opening: Vec<Frame>,
    round: fn(u32) -> Vec<Frame>,
}

fn flood(name: &'static str, opening: Vec<Frame>, round: fn(u32) -> Vec<Frame>) -> Flood {
    Flood { name, opening, round }
}

/// The client's stream of a round; stream 1 belongs to the opening.
fn stream(round: u32) -> u32 {
    round * 2 + 3
}

fn headers(flags: u8, stream: u32) -> Frame {
    Frame::new(kind::HEADERS, flags, stream, ordinary("POST", "/v1/ask"))
}

fn number(kind: u8, stream: u32, number: u32) -> Frame {
    Frame::new(kind, 0, stream, number.to_be_bytes())
}

/// A request whose header block is `fields` beyond the ordinary ones.
fn request_with(round: u32, fields: &[u8]) -> Vec<Frame> {
    let block = [ordinary("GET", "/v1/ask"), fields.to_vec()].concat();
    vec![Frame::new(kind::HEADERS, WHOLE, stream(round), block)]
}

/// One field that stays in the table: the first dynamic entry, index 62.
fn planted() -> Frame {
    let block = [ordinary("GET", "/v1/ask"), literal(0x40, b"x-planted", &[b'a'; 3_900])].concat();
    Frame::new(kind::HEADERS, WHOLE, 1, block)
}

fn floods() -> Vec<Flood> {
    let opened = || vec![headers(flag::END_HEADERS, 1)];
    let unfinished = || vec![headers(0, 1)];
    vec![
        // CVE-2023-44487
        flood("rapid reset", vec![], |round| {
            vec![headers(WHOLE, stream(round)), number(kind::RST_STREAM, stream(round), 8)]
        }),
        flood("rapid reset of open requests", vec![], |round| {
            vec![headers(flag::END_HEADERS, stream(round)), number(kind::RST_STREAM, stream(round), 8)]
        }),
        // CVE-2025-8671: the client has the proxy reset its streams.
        flood("made you reset by an increment of nothing", vec![], |round| {
            vec![headers(flag::END_HEADERS, stream(round)), number(kind::WINDOW_UPDATE, stream(round), 0)]
        }),
        flood("made you reset by a window that overflows", vec![], |round| {
            vec![
                headers(flag::END_HEADERS, stream(round)),
                number(kind::WINDOW_UPDATE, stream(round), 0x7fff_ffff),
            ]
        }),
        flood("made you reset by data after the end", vec![], |round| {
            vec![headers(WHOLE, stream(round)), Frame::new(kind::DATA, 0, stream(round), *b"more")]
        }),
        flood("made you reset by a priority of a wrong length", vec![], |round| {
            vec![headers(WHOLE, stream(round)), Frame::new(kind::PRIORITY, 0, stream(round), *b"four")]
        }),
        flood("made you reset by a stream that depends on itself", vec![], |round| {
            let itself = [&stream(round).to_be_bytes()[..], &[0]].concat();
            vec![headers(WHOLE, stream(round)), Frame::new(kind::PRIORITY, 0, stream(round), itself)]
        }),
        // CVE-2024-27316 and others.
        flood("continuation", unfinished(), |round| {
            let field = literal(0x00, format!("x-{round}").as_bytes(), b"value");
            vec![Frame::new(kind::CONTINUATION, 0, 1, field)]
        }),
        flood("empty continuation", unfinished(), |_| vec![Frame::new(kind::CONTINUATION, 0, 1, *b"")]),
        // CVE-2019-9512
        flood("ping", vec![], |round| vec![Frame::new(kind::PING, 0, 0, u64::from(round).to_be_bytes())]),
        // CVE-2019-9515
        flood("settings", vec![], |_| vec![Frame::new(kind::SETTINGS, 0, 0, [0, 4, 0, 1, 0, 0])]),
        flood("empty settings", vec![], |_| vec![Frame::new(kind::SETTINGS, 0, 0, *b"")]),
        flood("acknowledgements of settings", vec![], |_| vec![Frame::new(kind::SETTINGS, 1, 0, *b"")]),
        // CVE-2019-9518
        flood("empty data", opened(), |_| vec![Frame::new(kind::DATA, 0, 1, *b"")]),
        flood("padding alone", opened(), |_| vec![Frame::new(kind::DATA, flag::PADDED, 1, [3, 0, 0, 0])]),
        flood("small increments of the connection", vec![], |_| vec![number(kind::WINDOW_UPDATE, 0, 1)]),
        flood("small increments of a stream", opened(), |_| vec![number(kind::WINDOW_UPDATE, 1, 1)]),
        // CVE-2019-9513
        flood("priority", vec![], |round| {
            vec![Frame::new(kind::PRIORITY, 0, stream(round % 100), [0, 0, 0, 0, (round % 256) as u8])]
        }),
        flood("unknown frames", vec![], |_| vec![Frame::new(0xfa, 0, 0, *b"whatever")]),
        // CVE-2019-9516
        flood("fields without name and value", vec![], |round| request_with(round, &[0; 9_000])),
        flood("references to one large field", vec![planted()], |round| request_with(round, &[0xbe; 4_000])),
        flood("sizes of the table", vec![], |round| request_with(round, &[0x20; 2_000])),
        flood("one stream again and again", vec![], |_| vec![headers(WHOLE, 1)]),
        flood("streams that count down", vec![], |round| vec![headers(WHOLE, stream(20_000 - round))]),
        flood("resets of streams that never were", vec![], |round| {
            vec![number(kind::RST_STREAM, stream(round), 8)]
        }),
        flood("more streams than are offered", vec![], |round| {
            vec![headers(flag::END_HEADERS, stream(round))]
        }),
        flood("promises", vec![], |round| {
            let promised = [&stream(round).to_be_bytes()[..], &ordinary("GET", "/")].concat();
            vec![Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, 1, promised)]
        }),
        flood("goaway", vec![], |_| vec![Frame::new(kind::GOAWAY, 0, 0, [0; 8])]),
    ]
}

/// How an attack went.
#[derive(Debug)]
struct Attack {
    frames: usize,
    lasted: Duration,
    ended: bool,
}

async fn attack(
    checkgate: &Checkgate,
    flood: &Flood,
    frames_max: usize,
    at_once: usize,
) -> anyhow::Result<Attack> {
    let (incoming, mut outgoing) = open(checkgate.address, source(), &[]).await?;
    let ended = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch_for_the_end(incoming, Arc::clone(&ended)));
    let mut frames = flood.opening.iter().cloned().chain((0..).flat_map(flood.round));
    let (began, mut sent) = (Instant::now(), 0);
    while sent < frames_max && !ended.load(Ordering::SeqCst) {
        let batch: Vec<u8> = frames.by_ref().take(at_once).flat_map(|frame| frame.bytes()).collect();
        // A proxy that neither reads nor closes is not waited for; its window of the kernel is full.
        let writing = tokio::time::timeout(Duration::from_secs(2), outgoing.write_all(&batch)).await;
        if !matches!(writing, Ok(Ok(()))) {
            break;
        }
        sent += at_once;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waited = tokio::time::timeout(Duration::from_secs(3), watching).await;
    Ok(Attack { frames: sent, lasted: began.elapsed(), ended: waited.is_ok() })
}

/// Reads until GOAWAY or the end.
async fn watch_for_the_end<R: tokio::io::AsyncRead + Unpin>(mut incoming: Frames<R>, ended: Arc<AtomicBool>) {
    while let Some(frame) = incoming.next().await {
        if frame.kind == kind::GOAWAY {
            break;
        }
    }
    ended.store(true, Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flood_ends_its_connection_and_leaves_honest_clients_alone() -> anyhow::Result<()> {
    let recorder = Recorder::start().await?;
    let checkgate = Start::in_front_of(recorder.address).run().await?;
    let process = listening_on(checkgate.address)?;
    let mut faults = Vec::new();
    println!(
        "| flood | frames sent | ended after ms | growth KiB | honest served | slowest ms |\n|---|---|---|---|---|---|"
    );
    for flood in floods() {
        let honest = Honest::client_of(checkgate.address);
        let before = resident_kib(process)?;
        let went = attack(&checkgate, &flood, FRAMES_MAX, BATCH).await?;
        let growth = resident_kib(process)?.saturating_sub(before);
        let served = honest.stop().await?;
        let (lasted, slowest) = (went.lasted.as_millis(), served.slowest.as_millis());
        let served = served.requests;
        println!("| {} | {} | {lasted} | {growth} | {served} | {slowest} |", flood.name, went.frames);
        if !went.ended {
            faults.push(format!("{} went on after {} frames", flood.name, went.frames));
        }
        if growth > GROWTH_MAX_KIB {
            faults.push(format!("{} made the proxy grow by {growth} KiB", flood.name));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_thousand_rapid_resets_few_requests_reach_the_upstream() -> anyhow::Result<()> {
    let recorder = Recorder::start().await?;
    let checkgate = Start::in_front_of(recorder.address).run().await?;
    for flood in floods().iter().take(3) {
        let went = attack(&checkgate, flood, 2 * 50_000, ONE_BY_ONE).await?;
        assert!(went.ended, "{} went on after {} frames", flood.name, went.frames);
        recorder.settled().await?;
        let requests = recorder.take().iter().filter(|bytes| !bytes.is_empty()).count();
        println!("{}: {requests} requests reached the upstream", flood.name);
        assert!(requests <= REQUESTS_MAX, "{}: {requests} requests reached the upstream", flood.name);
    }
    let counted = checkgate.metric("checkgate_rejected_total", &["rapid_resets"]).await?;
    assert!(counted >= 1.0, "checkgate_rejected_total counts no rapid reset");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_does_not_begin_with_the_preface_ends_at_once() -> anyhow::Result<()> {
    let recorder = Recorder::start().await?;
    let checkgate = Start::in_front_of(recorder.address).run().await?;
    let almost = [&PREFACE[..18], b"XX\r\n\r\n"].concat();
    let settings = Frame::new(kind::SETTINGS, 0, 0, *b"").bytes();
    let (cut, long) = (PREFACE[..20].to_vec(), [PREFACE, &[0xff; 64]].concat());
    for beginning in [almost, [b"\x00\x00\x00".to_vec(), settings].concat(), cut, long] {
        let mut stream = connect(checkgate.address, source()).await?;
        stream.write_all(&beginning).await?;
        stream.shutdown().await?;
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = within("the end of a connection without preface", stream.read_to_end(&mut rest)).await?;
    }
    assert_eq!(recorder.answered(), 0, "nothing of it reached the upstream");
    Ok(())
}
