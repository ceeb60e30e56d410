//! The outage drill that every sink on the list goes through, against a receiver that resets, answers 500 and then takes
//! everything: each event arrives, whatever the sink's form is.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use checkgate_detectors::facts::Time;
use flate2::read::GzDecoder;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Duration, Instant, sleep, timeout};

use super::*;

/// Every key that an answer of some receiver must have, in one body.
const BODY: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600,"token":"t","expire":"2099-01-01T00:00:00Z","code":0,"text":"Success","ackId":0,"acks":{"0":true},"errors":false}"#;
/// Tries that the receiver spoils.
const SPOILT: usize = 3;

/// Takes whatever comes, by TCP and UDP on one port.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    got: Arc<Mutex<Vec<u8>>>,
    requests: Requests,
}

/// Heads and bodies of what came by HTTP, uncompressed.
type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

impl Receiver {
    pub(super) async fn new(spoilt: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let datagrams = UdpSocket::bind(address).await.unwrap();
        let got = Arc::<Mutex<Vec<u8>>>::default();
        let requests = Requests::default();
        let (by_udp, by_tcp, by_http) = (Arc::clone(&got), Arc::clone(&got), Arc::clone(&requests));
        tokio::spawn(async move {
            let mut datagram = vec![0; 65_536];
            while let Ok(length) = datagrams.recv(&mut datagram).await {
                by_udp.lock().extend_from_slice(&datagram[..length]);
            }
        });
        tokio::spawn(async move {
            let tries = Arc::new(AtomicUsize::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                let (tries, got) = (Arc::clone(&tries), Arc::clone(&by_tcp));
                let requests = Arc::clone(&by_http);
                tokio::spawn(async move { take(stream, &tries, spoilt, (&got, &requests)).await });
            }
        });
        Self { address, got, requests }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.got.lock()).into_owned()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.got.lock().clone()
    }

    pub(super) fn requests(&self) -> Vec<(String, Vec<u8>)> {
        self.requests.lock().clone()
    }
}

async fn take(
    mut stream: TcpStream,
    tries: &AtomicUsize,
    spoilt: usize,
    (got, requests): (&Mutex<Vec<u8>>, &Requests),
) {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 65_536];
    loop {
        let Ok(Ok(read)) = timeout(Duration::from_secs(30), stream.read(&mut chunk)).await else { return };
        if read == 0 {
            return;
        }
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let is_http = text.contains(" HTTP/1.1\r\n");
        if is_http && !whole(&text, bytes.len()) {
            continue;
        }
        let nth = tries.fetch_add(1, Ordering::SeqCst);
        let status = match (nth < spoilt, nth % 2) {
            (true, 0) => return,
            (true, _) if is_http => "500 Internal Server Error",
            (true, _) => return,
            _ => "200 OK",
        };
        if status == "200 OK" {
            let request = plain(&bytes);
            got.lock().extend_from_slice(&request);
            if let Some(end) = head_end(&request).filter(|_| is_http) {
                let (head, body) = request.split_at(end);
                requests.lock().push((String::from_utf8_lossy(head).into_owned(), body.to_vec()));
            }
        }
        bytes.clear();
        if is_http {
            let length = BODY.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{BODY}"
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// A request as it was before its body was compressed.
fn plain(bytes: &[u8]) -> Vec<u8> {
    let (head, body) = bytes.split_at(head_end(bytes).unwrap_or_default());
    if !String::from_utf8_lossy(head).to_lowercase().contains("content-encoding: gzip") {
        return bytes.to_vec();
    }
    let mut read = head.to_vec();
    GzDecoder::new(body).read_to_end(&mut read).unwrap();
    read
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn whole(text: &str, bytes: usize) -> bool {
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    bytes >= head.len() + 4 + length.unwrap_or(0_usize)
}

/// The parameters of a sink's example, aimed at `address`: URLs keep their path and lose their TLS, the value of
/// `address` is replaced, and `tls` as a transport is `tcp`.
pub(super) fn aimed(parameters: &Value, address: SocketAddr) -> Value {
    match parameters {
        Value::String(text) => match text.split_once("://") {
            Some(("http" | "https", rest)) => {
                let path = rest.find('/').map_or("/", |at| &rest[at..]);
                format!("http://{address}{path}").into()
            }
            _ => text.clone().into(),
        },
        Value::Array(items) => items.iter().map(|item| aimed(item, address)).collect(),
        Value::Object(keys) => keys
            .iter()
            .map(|(key, value)| match (key.as_str(), value.as_str()) {
                ("address", Some(_)) => (key.clone(), address.to_string().into()),
                ("transport", Some("tls")) => (key.clone(), "tcp".into()),
                _ => (key.clone(), aimed(value, address)),
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sink_delivers_every_kind_of_event_after_an_outage_whatever_it_holds() {
    for spec in SINKS {
        for text in ["prices"].into_iter().chain(HOSTILE) {
            let spoilt = if text == "prices" { SPOILT } else { 0 };
            let receiver = Receiver::new(spoilt).await;
            let sink = built(spec, &aimed(&example(spec), receiver.address));
            let sink = sink.unwrap_or_else(|error| panic!("{}: {error:?}", spec.name));
            let mut all = events(text);
            all[15].time = Time(all[15].time.0 + 1);
            let most = sink.bounds().events.min(4);
            for batch in all.chunks(most) {
                let deadline = Instant::now() + Duration::from_secs(10);
                while let Err(error) = timeout(Duration::from_secs(2), sink.send(batch)).await.unwrap() {
                    assert!(
                        matches!(error, SinkError::Later { .. }),
                        "{} does not try again after an outage, or refuses {text:?}: {error:?}",
                        spec.name
                    );
                    assert!(Instant::now() < deadline, "{}: {error}", spec.name);
                    sleep(Duration::from_millis(20)).await;
                }
                if spoilt > 0 {
                    // What acknowledges nothing learns of a closed connection before its next batch.
                    sleep(Duration::from_millis(50)).await;
                }
            }
            sleep(Duration::from_millis(50)).await;
            let got = receiver.text();
            for event in all.iter().filter(|event| sink.takes(event)) {
                assert!(
                    got.contains(&*event.id),
                    "{} did not deliver {:?} with {text:?}",
                    spec.name,
                    event.kind
                );
            }
            let risky = |c: char| crate::told::clean::steers(c) && !"\r\n\t".contains(c);
            assert!(!got.contains(risky), "{} lets through what steers: {text:?}", spec.name);
        }
    }
}
