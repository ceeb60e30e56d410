//! HTTP/2.

use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// A client of HTTP/2 by prior knowledge.
async fn client(connected: Connected) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(connected.client)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn request(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(format!("http://models{path}")).body(Full::from(body)).unwrap()
}

/// The code in the last GOAWAY frame of what a server wrote.
fn goaway_code(mut written: &[u8]) -> Option<u32> {
    let mut code = None;
    while let Some((head, rest)) = written.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, next) = rest.split_at_checked(length)?;
        if head[3] == 7 {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        written = next;
    }
    code
}

async fn written(mut connected: Connected) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    drop(connected.client.read_to_end(&mut bytes).await);
    (bytes, connected.since.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn prior_knowledge_is_recognised_however_the_preface_is_cut() {
    let server = Server::plain();
    let (mut sender, _connection) = client(server.connect()).await;
    let response = sender.send_request(request("/", "one")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "one");
    let mut connected = server.connect();
    for byte in PREFACE {
        connected.client.write_all(&[*byte]).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    connected.client.write_all(&EMPTY_SETTINGS).await.unwrap();
    let mut head = [0; 9];
    connected.client.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the server answers with SETTINGS: {head:?}");
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_a_connection() {
    let server = Server::plain();
    let (sender, _connection) = client(server.connect()).await;
    let asked = (0..4).map(|_| {
        let mut sender = sender.clone();
        tokio::spawn(async move { sender.send_request(request("/slow", "x")).await.unwrap().status() })
    });
    let start = Instant::now();
    for answer in asked.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert_eq!(start.elapsed().as_secs(), 30, "all four at once");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_held_to_the_rules_of_http_1() {
    let server = Server::plain();
    let (mut sender, _connection) = client(server.connect()).await;
    let with = |name: &'static str, value: &str| {
        let mut request = request("/", "");
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    for (request, status, reason) in [
        (with("host", "others"), 400, Refused::HostMismatch),
        (with("x-long", &"y".repeat(5 << 10)), 431, Refused::HeadTooLarge),
    ] {
        let response = sender.send_request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), server.rejected(Rejected::Screen(reason))), (status, 1));
        let document = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["reason"], reason.as_str());
    }
    let mut many = request("/", "");
    for _ in 0..17 {
        many.headers_mut().append("x", "y".parse().unwrap());
    }
    assert_eq!(sender.send_request(many).await.unwrap().status(), 431);
    assert_eq!(server.rejected(Rejected::Screen(Refused::TooManyLines)), 1);
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    assert_eq!(sender.send_request(request("/", "fine")).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_told_and_closed() {
    let server = Server::plain();
    let (mut sender, connection) = client(server.connect()).await;
    let start = Instant::now();
    assert_eq!(sender.send_request(request("/", "one")).await.unwrap().status(), 200);
    connection.await.unwrap().expect("GOAWAY without an error");
    assert_eq!((start.elapsed().as_secs(), server.rejected(Rejected::KeepAlive)), (60, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_nothing_is_closed_all_the_same() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.client.write_all(&[PREFACE, &EMPTY_SETTINGS].concat()).await.unwrap();
    let (bytes, seconds) = written(connected).await;
    assert!(seconds <= 61, "it lived for {seconds} s");
    assert!(goaway_code(&bytes).is_some(), "it was told nothing");
    let mut connected = server.connect();
    connected.client.write_all(PREFACE).await.unwrap();
    assert_eq!(written(connected).await.1, 10, "the preface alone is no opening");
    assert_eq!(server.rejected(Rejected::HeadTimeout), 1);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_ends_the_connection_with_enhance_your_calm() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.client.write_all(&[PREFACE, &EMPTY_SETTINGS].concat()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(connected.client);
    let flood = tokio::spawn(async move {
        // The server hangs up in the middle of it.
        while writer.write_all(&PING.repeat(64)).await.is_ok() {}
    });
    let mut bytes = Vec::new();
    drop(reader.read_to_end(&mut bytes).await);
    drop(reader);
    connected.served.await.unwrap();
    drop(flood);
    assert_eq!(server.rejected(Rejected::Screen(Refused::Pings)), 1);
    let code = goaway_code(&bytes);
    assert!(code.is_none_or(|code| code == 0xb), "GOAWAY with {code:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_says_goaway_and_lets_open_streams_finish() {
    let server = Server::plain();
    let (mut sender, connection) = client(server.connect()).await;
    let (mut idle, idle_connection) = client(server.connect()).await;
    assert_eq!(idle.send_request(request("/", "one")).await.unwrap().status(), 200);
    let mut busy = sender.clone();
    let open = tokio::spawn(async move { busy.send_request(request("/slow", "two")).await });
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    server.drain.send_replace(true);
    idle_connection.await.unwrap().expect("GOAWAY without an error");
    assert_eq!(start.elapsed().as_secs(), 0, "an idle connection has nothing to wait for");
    assert!(sender.send_request(request("/", "three")).await.is_err(), "no further stream");
    let answer = open.await.unwrap().unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.to_bytes(), "late");
    drop(sender);
    connection.await.unwrap().expect("GOAWAY without an error");
}

/// A body whose length is not announced and that never ends.
struct Unending;

impl Body for Unending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_resets_its_stream_and_no_other() {
    let server = Server::plain();
    let io = TokioIo::new(server.connect().client);
    let (mut sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    let _connection = tokio::spawn(connection);
    let start = Instant::now();
    let mut other = sender.clone();
    let slow = tokio::spawn(async move {
        let body = Full::from("x").boxed_unsync();
        other.send_request(Request::post("http://models/slow").body(body).unwrap()).await.unwrap().status()
    });
    let stopped = Request::post("http://models/inline").body(Unending.boxed_unsync()).unwrap();
    assert!(sender.send_request(stopped).await.is_err(), "the stream was reset");
    assert!(start.elapsed() <= Duration::from_secs(21), "after {:?}", start.elapsed());
    assert_eq!(server.rejected(Rejected::BodyRate), 1);
    assert_eq!(slow.await.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_stream_may_stand_still() {
    let server = Server::plain();
    let (mut sender, _connection) = {
        let io = TokioIo::new(server.connect().client);
        let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
        (sender, tokio::spawn(connection))
    };
    let request = Request::post("http://models/").header("content-type", "application/grpc+proto");
    let waiting = sender.send_request(request.body(Unending.boxed_unsync()).unwrap());
    assert!(tokio::time::timeout(Duration::from_secs(300), waiting).await.is_err(), "it was ended");
    assert_eq!(server.rejected(Rejected::BodyRate), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_room_resets_its_stream() {
    let server = Server::plain();
    let (mut sender, _connection) = client(server.connect()).await;
    let mut answer = sender.send_request(request("/endless", "")).await.unwrap().into_body();
    let start = Instant::now();
    sleep(Duration::from_secs(25)).await;
    assert_eq!(server.rejected(Rejected::AnswerRate), 1, "after {:?}", start.elapsed());
    while let Some(frame) = answer.frame().await {
        if frame.is_err() {
            return;
        }
    }
    panic!("a cut answer looked whole");
}
