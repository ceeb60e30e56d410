//! The registry of metrics as DogStatsD datagrams, for an agent that is not asked to scrape.
//!
//! Names and tags are those that Datadog's OpenMetrics check makes of a scrape, so that one dashboard shows both:
//! `checkgate_requests_total` is `checkgate.requests.count`, and a histogram has `.count`, `.sum` and `.bucket`, the last
//! by `upper_bound` and cumulative. A registry keeps no single observations, so there is nothing that a distribution could
//! be made of. Counters are sent as what was added since the datagram that told of them last left; what was not sent is
//! told with the next.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::{self, Agent};
use prometheus::proto::{LabelPair, MetricFamily, MetricType};
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::metrics::Metrics;
use crate::metrics::labels::{ExportOutcome, Signal};

/// Bytes of a datagram by UDP, and by a unix socket: what Datadog's own clients send, so that neither is split on its way
/// and the agent's buffer, of 8192 bytes, takes either.
const UDP_BYTES_MAX: usize = 1432;
const UNIX_BYTES_MAX: usize = 8192;
/// Datagrams that are sent at once, and the pause behind them: what a receiver's socket holds by default is about 90.
const BURST: usize = 32;
const PAUSE: Duration = Duration::from_millis(10);
/// How long one datagram waits for an agent that is behind; what then stays is dropped and counted.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// One datagram.
#[derive(Debug, Default)]
pub struct Datagram {
    /// Lines, with a line feed between two of them.
    pub text: String,
    /// How many they are.
    pub lines: u64,
    /// The counters that it tells of, with where they stand.
    told: Vec<(String, f64)>,
}

/// What makes datagrams of the registry, and remembers what was told.
#[derive(Debug)]
pub struct Writer {
    /// Tags of every line.
    tags: String,
    bytes_max: usize,
    /// Where each counter stood when it was told, by name and tags: as many as there are series.
    told: HashMap<String, f64>,
}

/// One reading of the registry as it is written.
struct Reading<'a> {
    writer: &'a Writer,
    datagrams: Vec<Datagram>,
    /// Lines that are longer than a datagram.
    too_long: u64,
}

impl Writer {
    /// Lines for an agent at `agent`, with the attributes of all that is sent as tags.
    pub fn new(agent: &Agent, attributes: &[(String, String)], instance: &str) -> Self {
        let named = attributes.iter().map(|(name, value)| (tag_of(name), value.as_str()));
        let is_named = attributes.iter().any(|(name, _)| tag_of(name) == "instance");
        let own = Some(("instance", instance)).filter(|_| !is_named);
        let mut tags = String::new();
        for (name, value) in named.chain(own) {
            push_tag(&mut tags, name, value);
        }
        let bytes_max = match agent {
            Agent::Udp { .. } => UDP_BYTES_MAX,
            Agent::Unix(_) => UNIX_BYTES_MAX,
        };
        Self { tags, bytes_max, told: HashMap::new() }
    }

    /// The datagrams of one reading, and how many lines found no room in one.
    pub fn datagrams(&self, families: &[MetricFamily]) -> (Vec<Datagram>, u64) {
        let mut reading = Reading { writer: self, datagrams: Vec::new(), too_long: 0 };
        families.iter().for_each(|family| reading.family(family));
        (reading.datagrams, reading.too_long)
    }

    /// A datagram has left: its counters count from where they stood.
    pub fn sent(&mut self, datagram: Datagram) {
        self.told.extend(datagram.told);
    }
}

impl Reading<'_> {
    fn family(&mut self, family: &MetricFamily) {
        let name = family.name().strip_prefix("checkgate_").unwrap_or(family.name());
        for sample in family.get_metric() {
            let tags = self.tags(sample.get_label());
            match family.get_field_type() {
                MetricType::COUNTER => {
                    let base = name.strip_suffix("_total").unwrap_or(name);
                    self.counter(format!("checkgate.{base}.count"), &tags, sample.get_counter().get_value());
                }
                MetricType::HISTOGRAM => self.histogram(name, &tags, sample.get_histogram()),
                _ => self.gauge(name, &tags, sample.get_gauge().get_value()),
            }
        }
    }

    fn tags(&self, labels: &[LabelPair]) -> String {
        let mut tags = self.writer.tags.clone();
        for label in labels {
            push_tag(&mut tags, label.name(), label.value());
        }
        tags
    }

    fn histogram(&mut self, name: &str, tags: &str, histogram: &prometheus::proto::Histogram) {
        let count = histogram.get_sample_count();
        self.counter(format!("checkgate.{name}.count"), tags, count as f64);
        self.counter(format!("checkgate.{name}.sum"), tags, histogram.get_sample_sum());
        // The bucket without a bound is the count.
        for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
            let mut tags = tags.to_owned();
            push_tag(&mut tags, "upper_bound", &format!("{:?}", bucket.upper_bound()));
            self.counter(format!("checkgate.{name}.bucket"), &tags, bucket.cumulative_count() as f64);
        }
    }

    /// What was added; nothing where nothing was, which is what an agent makes of no line as well.
    fn counter(&mut self, name: String, tags: &str, value: f64) {
        let key = name + "|" + tags;
        let added = value - self.writer.told.get(&key).copied().unwrap_or_default();
        if added <= 0.0 {
            return;
        }
        let name = key.split('|').next().unwrap_or_default();
        let line = line(name, added, 'c', tags);
        self.push(&line, Some((key, value)));
    }

    fn gauge(&mut self, name: &str, tags: &str, value: f64) {
        if value.is_finite() {
            self.push(&line(&format!("checkgate.{name}"), value, 'g', tags), None);
        }
    }

    fn push(&mut self, line: &str, told: Option<(String, f64)>) {
        let room = self.writer.bytes_max;
        if line.len() > room {
            self.too_long += 1;
            return;
        }
        let full = self.datagrams.last().is_none_or(|last| last.text.len() + 1 + line.len() > room);
        if full {
            self.datagrams.push(Datagram::default());
        }
        let Some(datagram) = self.datagrams.last_mut() else { return };
        if datagram.lines > 0 {
            datagram.text.push('\n');
        }
        datagram.text.push_str(line);
        datagram.lines += 1;
        datagram.told.extend(told);
    }
}

/// A value without an exponent, which not every receiver reads.
fn line(name: &str, value: f64, kind: char, tags: &str) -> String {
    if tags.is_empty() { format!("{name}:{value}|{kind}") } else { format!("{name}:{value}|{kind}|#{tags}") }
}

/// Datadog's own words for the attributes that it knows.
fn tag_of(attribute: &str) -> &str {
    match attribute {
        "service.name" => "service",
        "service.version" => "version",
        "service.instance.id" => "instance",
        "deployment.environment.name" => "env",
        other => other,
    }
}

/// Adds a tag. What would end it, or the line, is written as `_`.
fn push_tag(tags: &mut String, name: &str, value: &str) {
    let plain = |c: char| if matches!(c, ',' | '|' | '#') || c.is_control() { '_' } else { c };
    if !tags.is_empty() {
        tags.push(',');
    }
    tags.extend(name.chars().map(plain));
    tags.push(':');
    tags.extend(value.chars().map(plain));
}

/// A socket that is connected to the agent. It is made anew for each reading: the agent may have been started since.
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    async fn connect(agent: &Agent) -> io::Result<Self> {
        match agent {
            Agent::Udp { host, port } => {
                let addresses = tokio::net::lookup_host((host.as_str(), *port)).await?;
                let address = addresses.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
                let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Ok(Self::Udp(socket))
            }
            Agent::Unix(path) => Self::connect_unix(path).map(Self::Unix),
        }
    }

    fn connect_unix(path: &Path) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(socket)
    }

    async fn send(&self, text: &str) -> io::Result<()> {
        let sent = async {
            match self {
                Self::Udp(socket) => socket.send(text.as_bytes()).await,
                Self::Unix(socket) => socket.send(text.as_bytes()).await,
            }
        };
        timeout(WAIT_MAX, sent).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(())
    }
}

/// What pushes to an agent.
#[derive(Debug)]
pub struct Pusher {
    agent: Agent,
    writer: Writer,
    metrics: Arc<Metrics>,
    /// Whether the last reading failed, so that the log tells of a change alone.
    fails: bool,
}

impl Pusher {
    /// To the agent that `settings` name, if they name one.
    pub fn new(settings: &settings::Telemetry, instance: &str, metrics: Arc<Metrics>) -> Option<Self> {
        let agent = settings.dogstatsd.clone()?;
        let writer = Writer::new(&agent, &settings.resource, instance);
        Some(Self { agent, writer, metrics, fails: false })
    }

    /// Pushes on an interval until `stopped` turns true, and once more then.
    pub async fn run(mut self, every: Duration, mut stopped: watch::Receiver<bool>) {
        let mut next = Instant::now() + every;
        loop {
            let stop = tokio::select! {
                () = sleep_until(next) => false,
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            next = Instant::now() + every;
            self.push().await;
            if stop {
                return;
            }
        }
    }

    /// Sends one reading. The first datagram that does not leave ends it: the others would not leave either.
    pub async fn push(&mut self) {
        let (datagrams, too_long) = self.writer.datagrams(&self.metrics.gather());
        self.metrics.telemetry.dropped.inc_by(Signal::Dogstatsd, too_long);
        let lines: u64 = datagrams.iter().map(|datagram| datagram.lines).sum();
        let (mut left, mut failed) = (lines, None);
        match timeout(WAIT_MAX, Socket::connect(&self.agent)).await {
            Ok(Ok(socket)) => failed = self.send_all(&socket, datagrams, &mut left).await.err(),
            Ok(Err(error)) => failed = Some(error),
            Err(_) => failed = failed.or_else(|| Some(io::ErrorKind::TimedOut.into())),
        }
        self.metrics.telemetry.dropped.inc_by(Signal::Dogstatsd, left);
        self.tell(failed);
    }

    async fn send_all(
        &mut self,
        socket: &Socket,
        datagrams: Vec<Datagram>,
        left: &mut u64,
    ) -> io::Result<()> {
        for (number, datagram) in datagrams.into_iter().enumerate() {
            if number > 0 && number % BURST == 0 {
                sleep(PAUSE).await;
            }
            socket.send(&datagram.text).await?;
            *left -= datagram.lines;
            self.metrics.telemetry.exported(Signal::Dogstatsd, ExportOutcome::Delivered);
            self.writer.sent(datagram);
        }
        Ok(())
    }

    fn tell(&mut self, failed: Option<io::Error>) {
        match &failed {
            Some(error) => {
                self.metrics.telemetry.exported(Signal::Dogstatsd, ExportOutcome::Failed);
                if !self.fails {
                    tracing::warn!(%error, "DogStatsD's agent cannot be reached; it is tried again at every interval");
                }
            }
            None if self.fails => tracing::info!("DogStatsD's agent is reached again"),
            None => {}
        }
        self.fails = failed.is_some();
    }
}
