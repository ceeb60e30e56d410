//! Every limit on connections, heads, bodies, answers and frames: tripped, answered, counted, while others are served.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use checkgate_load_tests::checkgate::{Checkgate, PATIENCE, Start};
use checkgate_load_tests::http2::{self, flood, frame, headers};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::whole;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

type Result = anyhow::Result<()>;

/// A proxy with limits of its own before a model that answers at once.
struct Limited {
    proxy: Checkgate,
    _model: ModelServer,
}

impl Limited {
    async fn new(limits: Value, timeouts: Value) -> anyhow::Result<Self> {
        Self::before(ModelServer::always(Answer::json(r#"{"ok":true}"#)).await?, limits, timeouts).await
    }

    async fn before(model: ModelServer, limits: Value, timeouts: Value) -> anyhow::Result<Self> {
        let upstream = format!("http://{}", model.address);
        let config = json!({"upstream": upstream, "limits": limits, "timeouts": timeouts});
        Ok(Self { proxy: Start::configured(config).run().await?, _model: model })
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        connect(self.proxy.address, "127.0.0.66").await
    }

    /// The limit was counted, and a client at another address is served.
    async fn tripped(&self, reason: &str) -> Result {
        self.tripped_within(reason, PATIENCE).await
    }

    async fn tripped_within(&self, reason: &str, patience: Duration) -> Result {
        let label = format!("reason=\"{reason}\"");
        let counted = async {
            while self.proxy.metric("checkgate_rejected_total", &[&label]).await.unwrap_or(0.0) < 1.0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(patience, counted).await.with_context(|| format!("{reason} was not counted"))?;
        let reply = self.proxy.client("127.0.0.7").post("/score", "{}").await?;
        ensure!(reply.status == 200, "an honest client got {}", reply.status);
        Ok(())
    }
}

async fn connect(server: SocketAddr, source: &str) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse()?, 0))?;
    Ok(socket.connect(server).await?)
}

/// Everything that the server still says; a reset ends it as well.
async fn heard(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    drop(timeout(Duration::from_secs(40), stream.read_to_end(&mut bytes)).await?);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

const GET: &[u8] = b"GET /v2 HTTP/1.1\r\nHost: models\r\n\r\n";

#[tokio::test]
async fn a_head_has_a_deadline() -> Result {
    let limited = Limited::new(json!({}), json!({"head": "300ms"})).await?;
    let mut stream = limited.connect().await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: mod").await?;
    let heard = heard(&mut stream).await?;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard:?}");
    limited.tripped("head_timeout").await
}

#[tokio::test]
async fn a_connection_that_says_nothing_has_the_same_deadline_and_hears_nothing() -> Result {
    let limited = Limited::new(json!({}), json!({"head": "300ms"})).await?;
    assert_eq!(heard(&mut limited.connect().await?).await?, "");
    limited.tripped("head_timeout").await
}

#[tokio::test]
async fn operators_have_the_same_deadlines() -> Result {
    let limited = Limited::new(json!({}), json!({"head": "300ms"})).await?;
    let mut stream = TcpStream::connect(limited.proxy.admin).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\n").await?;
    let heard = heard(&mut stream).await?;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard:?}");
    limited.tripped("head_timeout").await
}

#[tokio::test]
async fn a_kept_connection_is_closed_when_nothing_is_asked() -> Result {
    let limited = Limited::new(json!({}), json!({"keep_alive": "300ms"})).await?;
    let mut stream = limited.connect().await?;
    stream.write_all(GET).await?;
    let heard = heard(&mut stream).await?;
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with(r#"{"ok":true}"#), "{heard:?}");
    limited.tripped("keep_alive").await
}

#[tokio::test]
async fn a_head_has_a_size_and_a_number_of_lines() -> Result {
    let limited = Limited::new(json!({"head_bytes": "1KiB", "header_lines": 8}), json!({})).await?;
    let long = format!("GET / HTTP/1.1\r\nHost: m\r\nX: {}\r\n\r\n", "y".repeat(1024));
    let many = format!("GET / HTTP/1.1\r\nHost: m\r\n{}\r\n", "X: y\r\n".repeat(8));
    for (head, reason) in [(long, "head_too_large"), (many, "too_many_lines")] {
        let mut stream = limited.connect().await?;
        stream.write_all(head.as_bytes()).await?;
        let heard = heard(&mut stream).await?;
        assert!(heard.starts_with("HTTP/1.1 431 "), "{heard:?}");
        limited.tripped(reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_address_has_so_many_connections() -> Result {
    let limited = Limited::new(json!({"connections_per_address": 2}), json!({})).await?;
    let _kept = (limited.connect().await?, limited.connect().await?);
    let mut third = limited.connect().await?;
    assert_eq!(heard(&mut third).await?, "");
    limited.tripped("connections_per_address").await
}

#[tokio::test]
async fn all_addresses_have_so_many_connections() -> Result {
    let limited = Limited::new(json!({"connections": 3}), json!({})).await?;
    let mut honest = limited.proxy.client("127.0.0.7");
    assert_eq!(honest.post("/score", "{}").await?.status, 200);
    let _kept = (limited.connect().await?, limited.connect().await?);
    assert_eq!(heard(&mut limited.connect().await?).await?, "");
    assert_eq!(honest.post("/score", "{}").await?.status, 200, "whoever is connected is served");
    assert_eq!(honest.connections(), 1);
    drop(_kept);
    limited.tripped("connections").await
}

#[tokio::test]
async fn a_body_has_a_least_pace() -> Result {
    let limited = Limited::new(json!({"body_bytes_per_second": 1000}), json!({})).await?;
    let mut stream = limited.connect().await?;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 100000\r\n\r\n{").await?;
    let heard = heard(&mut stream).await?;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard:?}");
    limited.tripped("body_rate").await
}

#[tokio::test]
async fn an_answer_must_be_taken() -> Result {
    let large = ModelServer::answering(|question| match question.path.as_str() {
        "/large" => Answer::whole(vec![b'x'; 64 << 20]),
        _ => Answer::json("{}"),
    });
    let limited = Limited::before(large.await?, json!({"answer_bytes_per_second": 1000}), json!({})).await?;
    let mut stream = limited.connect().await?;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: m\r\n\r\n").await?;
    // The pace is judged after each ten seconds, and what was taken before the stop counts in the first.
    limited.tripped_within("answer_rate", Duration::from_secs(60)).await?;
    let taken = heard(&mut stream).await?.len();
    assert!(taken < 64 << 20, "a cut answer came whole");
    Ok(())
}

/// The n-th frames of a flood.
type Flood = fn(u32) -> Vec<u8>;

#[tokio::test]
async fn frames_that_cost_nothing_have_budgets() -> Result {
    const END_HEADERS: u8 = 4;
    let limited = Limited::new(json!({}), json!({})).await?;
    let frames: [(&str, Flood); 6] = [
        ("pings", |_| frame(6, 0, 0, &[0; 8])),
        ("settings", |_| frame(4, 0, 0, &[])),
        ("rapid_resets", |n| {
            [headers(END_HEADERS, 2 * n + 1), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()
        }),
        ("empty_data", |n| if n == 0 { headers(END_HEADERS, 1) } else { frame(0, 0, 1, &[]) }),
        ("continuations", |n| if n == 0 { headers(0, 1) } else { frame(9, 0, 1, &[]) }),
        ("priorities", |_| frame(2, 0, 1, &[0, 0, 0, 0, 1])),
    ];
    for (reason, frames) in frames {
        flood(limited.proxy.address, frames).await?;
        limited.tripped(reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_header_list_has_a_size() -> Result {
    let limited = Limited::new(json!({"head_bytes": "1KiB"}), json!({})).await?;
    let mut sender = http2::http2(limited.connect().await?).await?;
    let mut request = http2::post("/", whole("{}"))?;
    request.headers_mut().insert("x", "y".repeat(2000).parse()?);
    let reply = http2::whole_reply(sender.send_request(request)).await?;
    assert_eq!(reply.status, 431);
    limited.tripped("head_too_large").await
}

#[tokio::test]
async fn a_connection_has_so_many_streams() -> Result {
    let limited = Limited::new(json!({"http2_streams": 2}), json!({})).await?;
    let mut stream = limited.connect().await?;
    let opened: Vec<_> = (0..4).flat_map(|n| headers(4, 2 * n + 1)).collect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    stream.write_all(&opened).await?;
    limited.tripped("http2_streams").await
}
