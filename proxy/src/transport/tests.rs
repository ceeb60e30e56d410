//! Whole connections in memory, in simulated time: what a client is told, what the handler sees, what is counted.

mod http1;
mod http2;
mod proxy_header;
mod tls;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::caps::Caps;
use super::tls::TlsHandle;
use super::*;
use crate::metrics::Metrics;
use crate::screen::Refused;
use crate::screen::http1::Bounds;

/// Bytes on their way in one direction.
const PIPE_BYTES: usize = 16 << 10;

fn rules() -> Rules {
    Rules {
        caps: Caps { total: 100, per_address: 10 },
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        proxy_header: false,
        bounds: Bounds { head_bytes: 4 << 10, header_lines: 16 },
        head: Duration::from_secs(10),
        keep_alive: Duration::from_secs(60),
        body_bytes_per_second: 240,
        answer_bytes_per_second: 240,
        http2_streams: 4,
    }
}

/// Answers by path, and remembers what it was asked.
#[derive(Default)]
struct Model {
    seen: Arc<Mutex<Vec<String>>>,
    open: Mutex<i32>,
}

type Answer = UnsyncBoxBody<Bytes, Infallible>;

impl Handler for Model {
    type Body = Answer;

    async fn handle(&self, peer: &Peer, request: Request<Received>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let (path, certificate) = (head.uri.path().to_owned(), peer.certificate);
        if path == "/refused" {
            body.discard(head.headers.contains_key("expect")).await;
            return Response::new(Full::from("no").boxed_unsync());
        }
        let reading = read(path.clone(), body, Arc::clone(&self.seen));
        let said = match path.as_str() {
            "/inline" => reading.await,
            // A task of its own, as an upstream's connection is: it outlives the client's.
            _ => tokio::spawn(reading).await.unwrap(),
        };
        let body = match path.as_str() {
            "/never" => std::future::pending().await,
            "/endless" => Endless.boxed_unsync(),
            "/slow" => {
                sleep(Duration::from_secs(30)).await;
                Full::from("late").boxed_unsync()
            }
            "/who" => Full::from(format!("{} {certificate:02x?}", peer.tls)).boxed_unsync(),
            "/where" => Full::from(format!("{} named {}", peer.ip, peer.is_named)).boxed_unsync(),
            _ => Full::from(said).boxed_unsync(),
        };
        Response::new(body)
    }

    fn connection(&self, open: bool) {
        *self.open.lock().unwrap() += if open { 1 } else { -1 };
    }
}

async fn read(path: String, body: Received, seen: Arc<Mutex<Vec<String>>>) -> String {
    let said = match body.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => "(cut)".to_owned(),
    };
    seen.lock().unwrap().push(format!("{path} {said}"));
    said
}

struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1024])))))
    }
}

/// A transport under test.
struct Server {
    app: Arc<App<Model>>,
    drain: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl Server {
    fn with(rules: Rules, tls: Option<TlsHandle>) -> Self {
        let metrics = Metrics::new(&[], &[]).unwrap();
        let (drain, draining) = watch::channel(false);
        let downstream = Arc::new(Downstream::new(rules, tls, Arc::clone(&metrics)));
        Self { app: Arc::new(App::new(Arc::default(), downstream, draining)), drain, metrics }
    }

    fn plain() -> Self {
        Self::with(rules(), None)
    }

    fn connect(&self) -> Connected {
        self.connect_from("192.0.2.1")
    }

    fn connect_from(&self, ip: &str) -> Connected {
        let (client, server) = duplex(PIPE_BYTES);
        let (app, ip) = (Arc::clone(&self.app), ip.parse().ok());
        let served = tokio::spawn(async move { app.serve(Socket::Memory(server), ip).await });
        Connected { client, served, since: Instant::now() }
    }

    fn seen(&self) -> Vec<String> {
        self.app.handler.seen.lock().unwrap().clone()
    }

    fn rejected(&self, reason: Rejected) -> u64 {
        self.metrics.rejected.get(reason)
    }
}

/// A client's end.
struct Connected {
    client: DuplexStream,
    served: JoinHandle<()>,
    since: Instant,
}

impl Connected {
    async fn say(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything that comes until `end` has come.
    async fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).ends_with(end) {
            match self.client.read_u8().await {
                Ok(byte) => heard.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&heard)),
            }
        }
        String::from_utf8(heard).unwrap()
    }

    /// Everything that comes until the connection ends, and how long it lasted in whole seconds.
    async fn hear_all(mut self) -> (String, u64) {
        let mut heard = Vec::new();
        drop(self.client.read_to_end(&mut heard).await);
        let seconds = self.since.elapsed().as_secs();
        drop(self.client);
        self.served.await.unwrap();
        (String::from_utf8_lossy(&heard).into_owned(), seconds)
    }
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: models\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(start_paused = true)]
async fn a_connection_over_a_cap_is_closed_at_once_and_one_that_closes_makes_room() {
    let server = Server::plain();
    let mut kept: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for connected in &mut kept {
        connected.say(&post("/", "a")).await;
        connected.hear("\r\n\r\na").await;
    }
    let (heard, seconds) = server.connect().hear_all().await;
    assert_eq!((heard.as_str(), seconds), ("", 0), "the eleventh of one address");
    assert_eq!(server.rejected(Rejected::ConnectionsPerAddress), 1);
    let mut other = server.connect_from("192.0.2.2");
    other.say(&post("/", "b")).await;
    other.hear("\r\n\r\nb").await;
    drop(kept.pop().map(|connected| connected.client));
    sleep(Duration::from_millis(1)).await;
    let mut again = server.connect();
    again.say(&post("/", "c")).await;
    again.hear("\r\n\r\nc").await;
}

#[tokio::test(start_paused = true)]
async fn a_trusted_proxy_is_held_to_the_cap_over_all_only() {
    let server = Server::plain();
    let mut kept = Vec::new();
    for _ in 0..100 {
        let mut connected = server.connect_from("10.0.0.1");
        connected.say(&post("/", "a")).await;
        connected.hear("\r\n\r\na").await;
        kept.push(connected);
    }
    let (heard, _) = server.connect_from("10.0.0.1").hear_all().await;
    assert_eq!(heard, "");
    assert_eq!(server.rejected(Rejected::Connections), 1);
}
