//! What a client sees when its model server breaks HTTP: a failure, or an answer that is visibly cut. Never an answer
//! that looks whole and is not, never another request's answer, and never a request that was sent twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::client::Client;
use checkgate_load_tests::faulty_server::{Act, FaultyServer, Script, send};
use checkgate_load_tests::{whole, within};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Deadlines of the proxy under test: long enough for a busy machine, short enough to wait for.
const FIRST_BYTE: &str = "3s";
const IDLE: &str = "3s";
const TOTAL: &str = "8s";

/// What a client must see.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sees {
    /// A whole answer with this status and this body.
    Whole(u16, &'static str),
    /// This status, with a problem document of the proxy's own.
    Status(u16),
    /// An answer that visibly breaks off: in its body, or before its head has left.
    Cut,
}

/// A fault, and what must come of it.
struct Case {
    name: &'static str,
    method: Method,
    on_accept: Vec<Act>,
    script: Script,
    sees: Sees,
    /// How often the server may be asked for it.
    tries: usize,
}

impl Case {
    fn new(name: &'static str, script: Script, sees: Sees) -> Self {
        Self { name, method: Method::POST, on_accept: Vec::new(), script, sees, tries: 1 }
    }

    /// The server answers the whole request with these bytes and closes.
    fn answer(name: &'static str, bytes: impl Into<Vec<u8>>, sees: Sees) -> Self {
        Self::new(name, Script::after(vec![send(bytes), Act::Close]), sees)
    }

    fn accept(name: &'static str, acts: Vec<Act>, sees: Sees) -> Self {
        Self { on_accept: acts, ..Self::new(name, Script::default(), sees) }
    }

    fn of(self, method: Method) -> Self {
        Self { method, ..self }
    }

    fn tried(self, tries: usize) -> Self {
        Self { tries, ..self }
    }
}

fn ok(length: usize, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}")
}

fn fine() -> String {
    ok(4, "fine")
}

/// The server closes, resets or hangs, at every point of an exchange.
fn broken_off() -> Vec<Case> {
    let status_line = || send("HTTP/1.1 200 OK\r\n");
    vec![
        Case::accept("closes at once", vec![Act::Close], Sees::Status(502)).tried(0),
        Case::accept("resets at once", vec![Act::Reset], Sees::Status(502)).tried(0),
        Case::accept("hangs at once", vec![Act::Hang], Sees::Status(504)).tried(0),
        Case::new("closes after the head", Script::before_body(vec![Act::Close]), Sees::Status(502)),
        Case::new("resets after the head", Script::before_body(vec![Act::Reset]), Sees::Status(502)),
        Case::new("closes after the request", Script::after(vec![Act::Close]), Sees::Status(502)),
        Case::new("resets after the request", Script::after(vec![Act::Reset]), Sees::Status(502)),
        Case::new("hangs after the request", Script::after(vec![Act::Hang]), Sees::Status(504)),
        Case::new("closes in the head", Script::after(vec![status_line(), Act::Close]), Sees::Status(502)),
        Case::new("resets in the head", Script::after(vec![status_line(), Act::Reset]), Sees::Status(502)),
        Case::new("hangs in the head", Script::after(vec![status_line(), Act::Hang]), Sees::Status(504)),
        Case::new("hangs in the body", Script::after(vec![send(ok(9, "cut")), Act::Hang]), Sees::Cut),
        Case::new("resets in the body", Script::after(vec![send(ok(9, "cut")), Act::Reset]), Sees::Cut),
        Case::new("resets in a chunk", Script::after(vec![send(chunked("9\r\ncut")), Act::Reset]), Sees::Cut),
        Case::new(
            "resets a body that ends with the connection",
            Script::after(vec![
                send("HTTP/1.1 200 OK\r\n\r\nno length"),
                Act::Pause(Duration::from_millis(100)),
                Act::Reset,
            ]),
            Sees::Cut,
        ),
    ]
}

/// Heads that are endless, too large, or no heads.
fn heads() -> Vec<Case> {
    let line = |name: &str, length: usize| format!("{name}: {}\r\n", "x".repeat(length));
    let lines = |count: usize| (0..count).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}content-length: 4\r\n\r\nfine");
    let endless = |piece: &str, pause| {
        Script::after(vec![
            send("HTTP/1.1 200 OK\r\n"),
            Act::Forever(piece.to_owned(), Duration::from_millis(pause)),
        ])
    };
    vec![
        Case::new("endless lines", endless(&"x: y\r\n".repeat(999), 0), Sees::Status(502)),
        Case::new("an endless line", endless(&"x".repeat(9_999), 0), Sees::Status(502)),
        Case::new("a head that trickles", endless("x", 50), Sees::Status(504)),
        Case::answer("a line of 70 KB", head(&line("x", 70_000)), Sees::Status(502)),
        Case::answer("a line of 30 KB", head(&line("x", 30_000)), Sees::Whole(200, "fine")),
        Case::answer("300 lines", head(&lines(300)), Sees::Status(502)),
        Case::answer("90 lines", head(&lines(90)), Sees::Whole(200, "fine")),
        Case::answer("garbage", "\u{1}\u{2}\u{3}garbage\r\n\r\n", Sees::Status(502)),
        Case::answer("no head at all", "{\"outputs\": []}", Sees::Status(502)),
        Case::answer("frames of HTTP/2", "\0\0\0\u{4}\0\0\0\0\0", Sees::Status(502)),
        Case::answer("an alert of TLS", "\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{28}", Sees::Status(502)),
        Case::answer("another protocol", "SSH-2.0-OpenSSH_9.6\r\n", Sees::Status(502)),
        Case::answer("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", Sees::Status(502)),
        Case::answer("a status of 600", "HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n", Sees::Status(502)),
        Case::answer("HTTP/3 on TCP", "HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n", Sees::Status(502)),
        Case::answer("a folded line", head("x: 1\r\n 2\r\n"), Sees::Status(502)),
        Case::answer("a space before the colon", head("x : 1\r\n"), Sees::Status(502)),
        Case::answer("a NUL in a line", head("x: \0\r\n"), Sees::Status(502)),
    ]
}

/// Bodies whose end is not what was announced.
fn framing() -> Vec<Case> {
    let with = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n4\r\nfine\r\n0\r\n\r\n");
    vec![
        Case::answer("less than its length", ok(9, "cut"), Sees::Cut),
        Case::answer("nothing of its length", ok(9, ""), Sees::Cut),
        Case::answer("more than its length", ok(4, "finebut more"), Sees::Whole(200, "fine")),
        Case::answer("a negative length", with("content-length: -1"), Sees::Status(502)),
        Case::answer("a length that is no number", with("content-length: 4x"), Sees::Status(502)),
        Case::answer("two lengths", with("content-length: 4\r\ncontent-length: 5"), Sees::Status(502)),
        Case::answer("a doubled length", with("content-length: 4\r\ncontent-length: 4"), Sees::Status(502)),
        Case::answer("a list of lengths", with("content-length: 4, 4"), Sees::Status(502)),
        Case::answer(
            "length and chunks",
            with("content-length: 4\r\ntransfer-encoding: chunked"),
            Sees::Status(502),
        ),
        Case::answer("two codings", with("transfer-encoding: gzip, chunked"), Sees::Status(502)),
        Case::answer(
            "chunks in HTTP/1.0",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Sees::Status(502),
        ),
        Case::answer("no last chunk", chunked("3\r\ncut\r\n"), Sees::Cut),
        Case::answer("a cut chunk", chunked("9\r\ncut"), Sees::Cut),
        Case::answer("a chunk without a size", chunked("3\r\ncut\r\nzz\r\n"), Sees::Cut),
        Case::answer("a chunk beyond 64 bits", chunked("3\r\ncut\r\nfffffffffffffffff\r\nx"), Sees::Cut),
        Case::answer("a chunk longer than its size", chunked("3\r\ncut off\r\n0\r\n\r\n"), Sees::Cut),
        Case::answer("a cut trailer", chunked("3\r\ncut\r\n0\r\nx: y"), Sees::Cut),
        Case::new(
            "endless trailers",
            Script::after(vec![
                send(chunked("3\r\ncut\r\n0\r\n")),
                Act::Forever("x: y\r\n".into(), Duration::ZERO),
            ]),
            Sees::Cut,
        ),
        Case::new(
            "an endless chunk extension",
            Script::after(vec![
                send(chunked("3\r\ncut\r\n3;")),
                Act::Forever("x".repeat(99), Duration::ZERO),
            ]),
            Sees::Cut,
        ),
        Case::new(
            "a body that trickles without end",
            Script::after(vec![
                send(chunked("")),
                Act::Forever("1\r\nx\r\n".into(), Duration::from_millis(200)),
            ]),
            Sees::Cut,
        ),
        Case::answer("a body on 204", "HTTP/1.1 204 No Content\r\n\r\nunasked", Sees::Whole(204, "")),
        Case::answer("a body on HEAD", ok(4, "fine"), Sees::Whole(200, "")).of(Method::HEAD),
    ]
}

/// Answers that come too early, too often, or that nobody asked for.
fn unasked() -> Vec<Case> {
    let interim = |count: usize| "HTTP/1.1 102 Processing\r\n\r\n".repeat(count);
    let flood = Act::Forever(interim(1), Duration::ZERO);
    vec![
        Case::answer("16 interim answers", interim(16) + &fine(), Sees::Whole(200, "fine")),
        Case::answer("17 interim answers", interim(17) + &fine(), Sees::Status(502)),
        Case::new("a flood of interim answers", Script::after(vec![flood]), Sees::Status(502)),
        Case::answer("an interim answer and no other", interim(1), Sees::Status(502)),
        Case::answer(
            "another protocol, unasked",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n",
            Sees::Status(502),
        ),
        Case::new(
            "two answers at once",
            Script::after(vec![send(fine() + &ok(6, "poison"))]),
            Sees::Whole(200, "fine"),
        ),
        Case::new(
            "a second answer later",
            Script::after(vec![send(fine()), Act::Pause(Duration::from_millis(20)), send(ok(6, "poison"))]),
            Sees::Whole(200, "fine"),
        ),
        Case::new(
            "an answer before the body",
            Script::before_body(vec![send(fine())]),
            Sees::Whole(200, "fine"),
        ),
        Case::new(
            "an answer before the body, and the end",
            Script::before_body(vec![send(
                "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno",
            )]),
            Sees::Whole(413, "no"),
        ),
    ]
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = [broken_off(), heads(), framing(), unasked()].into_iter().flatten().collect();
    assert!(cases.len() >= 39, "{} cases are fewer than there must be", cases.len());
    cases
}

/// One proxy in front of all of them; each fault is a model of its own.
async fn proxy(upstreams: Vec<Value>) -> Checkgate {
    let models: Vec<Value> = upstreams
        .into_iter()
        .enumerate()
        .map(|(number, upstream)| {
            json!({ "name": format!("case-{number}"), "path": format!("/case-{number}"), "upstream": upstream })
        })
        .collect();
    let config = json!({
        "models": models,
        "timeouts": { "each_try": FIRST_BYTE, "first_byte": FIRST_BYTE, "idle": IDLE, "total": TOTAL },
    });
    Start::configured(config).run().await.unwrap()
}

async fn seen(client: &mut Client, method: &Method, path: &str) -> Result<(u16, String, bool), String> {
    let body = if *method == Method::POST { "a question\r\n\r\n" } else { "" };
    let request = Request::builder().method(method).uri(path).body(whole(body)).unwrap();
    let opened =
        within("the head of an answer", client.open(request)).await.map_err(|error| error.to_string())?;
    let (head, body) = opened.map_err(|error| format!("no head: {error}"))?.into_parts();
    let collected =
        within("the end of an answer", body.collect()).await.map_err(|error| error.to_string())?;
    let (text, is_whole) = match collected {
        Ok(collected) => (String::from_utf8_lossy(&collected.to_bytes()).into_owned(), true),
        Err(_) => (String::new(), false),
    };
    Ok((head.status.as_u16(), text, is_whole))
}

fn agrees(sees: Sees, seen: &Result<(u16, String, bool), String>) -> bool {
    match (sees, seen) {
        (Sees::Whole(status, body), Ok((seen, text, true))) => status == *seen && body == text,
        (Sees::Status(status), Ok((seen, text, true))) => {
            status == *seen && (text.is_empty() || text.contains("urn:checkgate:"))
        }
        (Sees::Cut, Ok((200, _, false)) | Err(_)) => true,
        _ => false,
    }
}

/// A case with its server, which answers soundly once it is healed.
struct Stage {
    case: Case,
    server: FaultyServer,
    healed: Arc<AtomicBool>,
}

impl Stage {
    async fn set(case: Case) -> Self {
        let healed = Arc::new(AtomicBool::new(false));
        let (acts, script) = (case.on_accept.clone(), case.script.clone());
        let (accepts, answers) = (Arc::clone(&healed), Arc::clone(&healed));
        let on_accept = move |_| if accepts.load(Ordering::SeqCst) { Vec::new() } else { acts.clone() };
        let choose = move |_| {
            if answers.load(Ordering::SeqCst) { Script::after(vec![send(fine())]) } else { script.clone() }
        };
        Self { case, server: FaultyServer::start(on_accept, choose).await.unwrap(), healed }
    }
}

/// Plays one case, then asks the same server for something sound. Says what went wrong.
async fn play(number: usize, stage: Stage, mut client: Client) -> Option<String> {
    let Stage { case, server, healed } = stage;
    let (name, sees) = (case.name, case.sees);
    let path = format!("/case-{number}/infer");
    let seen_first = seen(&mut client, &case.method, &path).await;
    if !agrees(sees, &seen_first) {
        return Some(format!("{name}: the client must see {sees:?} and saw {seen_first:?}"));
    }
    let tries = server.requests_with("/infer");
    if tries != case.tries {
        return Some(format!("{name}: the server was asked {tries} times, not {} times", case.tries));
    }
    healed.store(true, Ordering::SeqCst);
    // Long enough for what was sent unasked to arrive.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let after = seen(&mut client, &Method::POST, &format!("/case-{number}/sound")).await;
    let sound = agrees(Sees::Whole(200, "fine"), &after);
    (!sound).then(|| format!("{name}: the request after it must be answered and saw {after:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_server_never_makes_a_client_believe_it() {
    let mut stages = Vec::new();
    for case in cases() {
        stages.push(Stage::set(case).await);
    }
    let upstream = |stage: &Stage| json!({ "servers": [stage.server.url()], "retries": 0 });
    let checkgate = proxy(stages.iter().map(upstream).collect()).await;
    let mut playing = JoinSet::new();
    for (number, stage) in stages.into_iter().enumerate() {
        playing.spawn(play(number, stage, checkgate.client("127.0.0.1")));
    }
    let wrong: Vec<String> = playing.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const DATA: u8 = 0;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

fn reset(code: u8) -> Act {
    send(frame(RST_STREAM, 0, 1, &[0, 0, 0, code]))
}

fn go_away(last: u8, code: u8) -> Act {
    send(frame(GOAWAY, 0, 0, &[0, 0, 0, last, 0, 0, 0, code]))
}

/// The head of an answer with status 200 (entry 8 of the static table), and more fields.
fn head(fields: &[u8]) -> Act {
    send(frame(HEADERS, END_HEADERS, 1, &[&[0x88], fields].concat()))
}

fn data(flags: u8, text: &str) -> Act {
    send(frame(DATA, flags, 1, text.as_bytes()))
}

/// What a server of HTTP/2 does once it has the question, whether another server may then be asked, and what the
/// client must see; where another is asked it sees that one's answer.
fn http2_cases() -> Vec<(&'static str, Vec<Act>, Sees)> {
    let elsewhere = Sees::Whole(200, "elsewhere");
    // `content-length: 9`, a literal with the name at entry 28 of the static table.
    let length_9 = &[0x5c, 1, b'9'];
    vec![
        ("refuses the stream", vec![reset(7), Act::Hang], elsewhere),
        ("goes away without having looked at it", vec![go_away(0, 0), Act::Close], elsewhere),
        ("goes away in anger, without having looked at it", vec![go_away(0, 11), Act::Close], elsewhere),
        ("goes away having looked at it", vec![go_away(1, 0), Act::Close], Sees::Status(502)),
        ("resets the stream for an error of its own", vec![reset(2), Act::Hang], Sees::Status(502)),
        ("cancels the stream", vec![reset(8), Act::Hang], Sees::Status(502)),
        ("closes", vec![Act::Close], Sees::Status(502)),
        ("breaks the connection", vec![Act::Reset], Sees::Status(502)),
        ("hangs", vec![Act::Hang], Sees::Status(504)),
        ("sends no frames", vec![send("HTTP/1.1 200 OK\r\n\r\n"), Act::Hang], Sees::Status(502)),
        ("sends data without a head", vec![data(END_STREAM, "body"), Act::Hang], Sees::Status(502)),
        ("resets the stream in the body", vec![head(&[]), data(0, "cut"), reset(2), Act::Hang], Sees::Cut),
        ("refuses the stream in the body", vec![head(&[]), data(0, "cut"), reset(7), Act::Hang], Sees::Cut),
        ("closes in the body", vec![head(&[]), data(0, "cut"), Act::Close], Sees::Cut),
        ("hangs in the body", vec![head(&[]), data(0, "cut"), Act::Hang], Sees::Cut),
        ("ends before its length", vec![head(length_9), data(END_STREAM, "cut"), Act::Hang], Sees::Cut),
        (
            "goes on beyond its length",
            vec![head(length_9), data(END_STREAM, "much too long"), Act::Hang],
            Sees::Cut,
        ),
        ("answers", vec![head(&[]), data(END_STREAM, "sound"), Act::Hang], Sees::Whole(200, "sound")),
    ]
}

/// How often a client says that a request has ended: its body ends with an empty line, which this harness takes for
/// the end of a head. The preface of HTTP/2 has two of them.
const PREFACE_HEADS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_server_of_http2_is_not_believed_either() {
    let mut playing = JoinSet::new();
    for (name, acts, sees) in http2_cases() {
        let choose = move |heads: usize| {
            let is_question = heads == PREFACE_HEADS;
            Script::after(if is_question { acts.clone() } else { Vec::new() })
        };
        let faulty = FaultyServer::start(|_| vec![send(frame(SETTINGS, 0, 0, &[]))], choose).await.unwrap();
        playing.spawn(play_http2(name, faulty, sees));
    }
    let wrong: Vec<String> = playing.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_speaks_http2_is_passed_over() {
    let mut playing = JoinSet::new();
    for (name, acts) in [
        ("speaks HTTP/1.1", vec![send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), Act::Close]),
        ("says nothing", vec![Act::Hang]),
        ("closes", vec![Act::Close]),
    ] {
        let faulty = FaultyServer::start(move |_| acts.clone(), |_| Script::default()).await.unwrap();
        playing.spawn(play_http2(name, faulty, Sees::Whole(200, "elsewhere")));
    }
    let wrong: Vec<String> = playing.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Asks a faulty server of HTTP/2 that has a sound one beside it. Says what went wrong.
async fn play_http2(name: &str, faulty: FaultyServer, sees: Sees) -> Option<String> {
    let elsewhere = elsewhere().await;
    let config = json!({
        "upstream": { "servers": [faulty.url(), format!("http://{}", elsewhere.0)], "http": "http2", "retries": 1 },
        "timeouts": { "each_try": FIRST_BYTE, "first_byte": "20s", "idle": IDLE },
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    let saw = seen(&mut checkgate.client("127.0.0.1"), &Method::POST, "/infer").await;
    let asked_elsewhere = elsewhere.1.load(Ordering::SeqCst);
    if asked_elsewhere != (sees == Sees::Whole(200, "elsewhere")) {
        return Some(format!("{name}: whether the other server was asked: {asked_elsewhere}; saw {saw:?}"));
    }
    (!agrees(sees, &saw)).then(|| format!("{name}: the client must see {sees:?} and saw {saw:?}"))
}

/// A sound server of HTTP/2, and whether it was asked.
async fn elsewhere() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_elsewhere(stream, Arc::clone(&seen)));
        }
    });
    (address, asked)
}

async fn answer_elsewhere(stream: TcpStream, asked: Arc<AtomicBool>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((mut request, mut respond))) = connection.accept().await {
        asked.store(true, Ordering::SeqCst);
        tokio::spawn(async move {
            while let Some(Ok(_)) = request.body_mut().data().await {}
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data("elsewhere".into(), true).unwrap();
        });
    }
}

/// Asks through a contract that holds answers, and says what the client saw.
async fn seen_through_a_contract(answer: Vec<Act>) -> Result<(u16, String, bool), String> {
    let server = FaultyServer::start(|_| Vec::new(), move |_| Script::after(answer.clone())).await.unwrap();
    let config = json!({
        "upstream": server.url(),
        "mode": "enforce",
        "hold": "answer",
        "contract": { "rules": [{ "minimum": 0 }] },
        "timeouts": { "idle": IDLE },
    });
    let checkgate = Start::configured(config).run().await.unwrap();
    seen(&mut checkgate.client("127.0.0.1"), &Method::POST, "/v2/models/pricing/infer").await
}

#[tokio::test]
async fn a_held_answer_that_is_cut_is_withheld() {
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"outputs\":";
    for end in [Act::Close, Act::Reset] {
        let saw = seen_through_a_contract(vec![send(json), end.clone()]).await;
        assert!(agrees(Sees::Status(502), &saw), "{end:?}: {saw:?}");
    }
}

#[tokio::test]
async fn a_held_event_stream_that_is_cut_breaks_off() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = "data: [DONE]\n\n";
    let first = || send(format!("{head}{:x}\r\n{event}\r\n", event.len()));
    for end in [Act::Close, Act::Reset, Act::Hang] {
        let saw = seen_through_a_contract(vec![first(), end.clone()]).await;
        assert!(agrees(Sees::Cut, &saw), "after an event, {end:?}: {saw:?}");
        let saw = seen_through_a_contract(vec![send(head), end.clone()]).await;
        assert!(agrees(Sees::Status(502), &saw), "before any event, {end:?}: {saw:?}");
    }
    let whole = vec![first(), send("0\r\n\r\n")];
    let saw = seen_through_a_contract(whole).await;
    assert!(agrees(Sees::Whole(200, event), &saw), "a stream that ends is whole: {saw:?}");
}

/// Whether an answer ends in an error of its stream, as a client of HTTP/2 sees it.
async fn is_cut_over_http2(checkgate: &Checkgate, path: &str) -> bool {
    let stream = TcpStream::connect(checkgate.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    let uri = format!("http://{}{path}", checkgate.address);
    let (answer, _) = sender.send_request(Request::get(uri).body(()).unwrap(), true).unwrap();
    let Ok(answer) = within("the head of an answer", answer).await.unwrap() else { return true };
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    while let Some(piece) = within("a piece of the answer", body.data()).await.unwrap() {
        let Ok(piece) = piece else { return true };
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    false
}

#[tokio::test]
async fn a_cut_answer_resets_the_stream_of_a_client_of_http2() {
    let endings = [
        ("closes", vec![send(ok(9, "cut")), Act::Close], true),
        ("resets", vec![send(ok(9, "cut")), Act::Reset], true),
        ("hangs", vec![send(ok(9, "cut")), Act::Hang], true),
        ("sends no last chunk", vec![send(chunked("3\r\ncut\r\n")), Act::Close], true),
        ("answers", vec![send(ok(9, "not a cut"))], false),
    ];
    for (name, acts, is_cut) in endings {
        let choose = move |_| Script::after(acts.clone());
        let server = FaultyServer::start(|_| Vec::new(), choose).await.unwrap();
        let checkgate = proxy(vec![json!({ "servers": [server.url()], "retries": 0 })]).await;
        assert_eq!(is_cut_over_http2(&checkgate, "/case-0/infer").await, is_cut, "{name}");
    }
}
