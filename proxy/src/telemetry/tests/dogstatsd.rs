//! What agents get, read back from sockets of our own.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::{self, Agent};

use super::metrics;
use crate::metrics::Metrics;
use crate::metrics::labels::{CodeClass, ExportOutcome, Signal};
use crate::telemetry::Telemetry;
use crate::telemetry::dogstatsd::{Pusher, Writer};

/// Values by name, type and tags.
type Lines = BTreeMap<(String, char, Vec<String>), f64>;

fn read(datagrams: impl IntoIterator<Item = String>) -> Lines {
    let mut lines = Lines::new();
    for datagram in datagrams {
        for line in datagram.lines() {
            let (metric, tags) = line.split_once("|#").unwrap();
            let (metric, kind) = metric.rsplit_once('|').unwrap();
            let (name, value) = metric.split_once(':').unwrap();
            let tags = tags.split(',').map(str::to_owned).collect();
            let key = (name.to_owned(), kind.parse().unwrap(), tags);
            assert!(lines.insert(key, value.parse().unwrap()).is_none(), "{line} came twice");
        }
    }
    lines
}

fn agent() -> (UdpSocket, Agent) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, Agent::Udp { host: address.ip().to_string(), port: address.port() })
}

fn received(socket: &UdpSocket) -> Vec<String> {
    let mut room = [0; 65_536];
    std::iter::from_fn(|| {
        let length = socket.recv(&mut room).ok()?;
        Some(String::from_utf8(room[..length].to_vec()).unwrap())
    })
    .collect()
}

fn to(agent: Agent) -> settings::Telemetry {
    settings::Telemetry {
        dogstatsd: Some(agent),
        metrics_every: Duration::from_secs(3600),
        resource: vec![("service.name".into(), "gate".into()), ("zone".into(), "b,c|#".into())],
        ..settings::Telemetry::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn pusher(agent: Agent, metrics: &Arc<Metrics>) -> Pusher {
    Pusher::new(&to(agent), "one", Arc::clone(metrics)).unwrap()
}

fn tags(own: &[&str]) -> Vec<String> {
    let all = ["service:gate", "zone:b_c__", "instance:one"];
    all.iter().chain(own).map(|&tag| tag.to_owned()).collect()
}

#[test]
fn counters_are_told_as_what_was_added_and_gauges_as_they_stand() {
    let (socket, agent) = agent();
    let metrics = metrics();
    let mut pusher = pusher(agent, &metrics);
    let prices = metrics.model(Some(0));
    let key = ("checkgate.requests.count".to_owned(), 'c', tags(&["code_class:2xx", "model:prices"]));
    for (asked, blocks) in [(3, 2), (0, 1), (4, 0)] {
        (0..asked).for_each(|_| prices.requests.inc(CodeClass::of(200)));
        metrics.blocks_active.set(blocks);
        runtime().block_on(pusher.push());
        let lines = read(received(&socket));
        assert_eq!(lines.get(&key).copied(), (asked > 0).then_some(f64::from(asked)), "{lines:?}");
        let gauge = ("checkgate.blocks_active".to_owned(), 'g', tags(&[]));
        assert_eq!(lines.get(&gauge).copied(), Some(blocks as f64));
        let zeros = lines.iter().filter(|((_, kind, _), value)| *kind == 'c' && **value <= 0.0);
        assert_eq!(zeros.count(), 0, "a counter that did not move has no line");
    }
    assert_eq!(metrics.telemetry.dropped.get(Signal::Dogstatsd), 0);
    assert!(metrics.telemetry.exports(Signal::Dogstatsd, ExportOutcome::Delivered) > 3);
}

#[test]
fn a_histogram_has_count_sum_and_cumulative_buckets() {
    let metrics = metrics();
    [0.0007, 0.02, 900.0]
        .iter()
        .for_each(|seconds| metrics.model(Some(1)).request_duration.observe(*seconds));
    let writer = Writer::new(&Agent::Unix(PathBuf::new()), &[], "one");
    let (datagrams, too_long) = writer.datagrams(&metrics.gather());
    let lines = read(datagrams.into_iter().map(|datagram| datagram.text));
    let value = |end: &str, tags: &[&str]| {
        let tags = ["instance:one", "model:digits"].iter().chain(tags).map(|&tag| tag.to_owned()).collect();
        lines.get(&(format!("checkgate.request_duration_seconds.{end}"), 'c', tags)).copied()
    };
    assert_eq!((value("count", &[]), value("sum", &[])), (Some(3.0), Some(900.0207)));
    for (bound, below) in [("0.001", 1.0), ("0.025", 2.0), ("60.0", 2.0)] {
        assert_eq!(value("bucket", &[&format!("upper_bound:{bound}")]), Some(below), "up to {bound}");
    }
    assert_eq!(value("bucket", &["upper_bound:0.0005"]), None, "nothing took less");
    assert_eq!(too_long, 0);
}

#[test]
fn datagrams_keep_their_bound_and_a_line_that_is_longer_is_counted() {
    let metrics = metrics();
    let agent = Agent::Udp { host: "127.0.0.1".into(), port: 1 };
    let (datagrams, too_long) = Writer::new(&agent, &[], "one").datagrams(&metrics.gather());
    assert!(datagrams.len() > 1, "{}", datagrams.len());
    assert!(datagrams.iter().all(|datagram| datagram.text.len() <= 1432), "a datagram is split on its way");
    assert_eq!(too_long, 0);
    let long = [("zone".to_owned(), "z".repeat(2000))];
    let (none, too_long) = Writer::new(&agent, &long, "one").datagrams(&metrics.gather());
    assert!(none.is_empty() && too_long > 50, "{too_long} lines have no room");
}

#[test]
fn what_did_not_leave_is_counted_and_told_with_the_next_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dsd.socket");
    let metrics = metrics();
    let mut pusher = pusher(Agent::Unix(path.clone()), &metrics);
    metrics.model(Some(0)).requests.inc(CodeClass::of(200));
    runtime().block_on(pusher.push());
    let dropped = metrics.telemetry.dropped.get(Signal::Dogstatsd);
    assert!(dropped > 50, "nobody listens: {dropped}");
    assert_eq!(metrics.telemetry.exports(Signal::Dogstatsd, ExportOutcome::Failed), 1);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    metrics.model(Some(0)).requests.inc(CodeClass::of(200));
    let reader = std::thread::spawn(move || {
        let (mut room, mut all, mut idle) = ([0; 65_536], Vec::new(), 0);
        while idle < 100 {
            match socket.recv(&mut room) {
                Ok(length) => all.push(String::from_utf8(room[..length].to_vec()).unwrap()),
                Err(_) => {
                    idle += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        all
    });
    runtime().block_on(pusher.push());
    let lines = read(reader.join().unwrap());
    let key = ("checkgate.requests.count".to_owned(), 'c', tags(&["code_class:2xx", "model:prices"]));
    assert_eq!(lines.get(&key), Some(&2.0), "the first one was not lost");
    assert_eq!(metrics.telemetry.dropped.get(Signal::Dogstatsd), dropped, "nothing more was dropped");
}

#[test]
fn an_agent_that_reads_nothing_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dsd.socket");
    let _silent = UnixDatagram::bind(&path).unwrap();
    // A unix socket holds a few datagrams by default, and these are many.
    let models: Vec<_> = (0..200).map(|number| format!("model-{number}")).collect();
    let metrics = Metrics::new(&models, &["contract"]).unwrap();
    let mut pusher = pusher(Agent::Unix(path), &metrics);
    let begun = std::time::Instant::now();
    runtime().block_on(pusher.push());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(metrics.telemetry.dropped.get(Signal::Dogstatsd) > 0, "what found no room is counted");
}

#[test]
fn the_last_reading_leaves_when_the_process_stops() {
    let (socket, agent) = agent();
    let metrics = metrics();
    let telemetry =
        Telemetry::start(&to(agent), b"key", &metrics, &super::Waiting::default()).unwrap().unwrap();
    metrics.model(Some(0)).requests.inc(CodeClass::of(200));
    telemetry.stop();
    let lines = read(received(&socket));
    assert!(lines.keys().any(|(name, ..)| name == "checkgate.requests.count"), "{lines:?}");
}
