//! A constant rate: every request has a moment at which it should be sent, and its latency counts from that moment.
//!
//! A generator that waits for an answer before it sends the next request sends less just when the other side is slow,
//! and so leaves out the worst moments ("coordinated omission"; Tene, "How NOT to Measure Latency", 2013). Here a
//! request that finds no free connection waits in line, and its wait counts.
//!
//! Timer: `epoll_pwait2` with nanoseconds and a timer slack of 1 ns. How late requests were sent all the same is
//! measured with them ([`Paced::lateness`]).

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::CONNECTIONS;
use super::question::Requests;
use super::wire::answer_of;

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was seen at a constant rate.
#[derive(Debug, Default)]
pub struct Paced {
    /// From the intended moment to the last byte of the answer, sorted.
    pub latencies: Vec<Duration>,
    /// From the intended moment to the moment of sending, sorted.
    pub lateness: Vec<Duration>,
}

/// The smallest value that at least `share` of the sorted values do not exceed, in microseconds.
#[must_use]
pub fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let value = sorted.get(rank.saturating_sub(1)).or(sorted.last());
    value.map_or(f64::NAN, |value| value.as_nanos() as f64 / 1e3)
}

/// Sends `rate` requests a second for some time, over [`CONNECTIONS`] kept connections.
///
/// # Errors
/// Where an answer is not a 200, or does not come.
pub fn run(address: SocketAddr, requests: &mut Requests, rate: f64, load: Duration) -> anyhow::Result<Paced> {
    let mut generator = Generator::connect(address)?;
    let total = (rate * load.as_secs_f64()) as u64;
    let started = Instant::now() + Duration::from_millis(5);
    let due = |number: u64| Duration::from_secs_f64(number as f64 / rate);
    let mut next = 0;
    while next < total || generator.is_busy() {
        let now = Instant::now().saturating_duration_since(started);
        while next < total && due(next) <= now && started <= Instant::now() {
            generator.line.push_back(due(next));
            next += 1;
        }
        generator.send_line(requests, started)?;
        let wait = if next < total {
            (started + due(next)).saturating_duration_since(Instant::now())
        } else {
            PATIENCE
        };
        generator.receive(wait, started)?;
        ensure!(now < load + PATIENCE, "answers stay out");
    }
    Ok(generator.paced())
}

struct Generator {
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    /// Intended moments of requests that wait for a connection.
    line: VecDeque<Duration>,
    seen: Paced,
    events: Vec<Event>,
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    /// When its request should have been sent; nothing while it is idle.
    intended: Option<Duration>,
}

impl Generator {
    fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).with_context(|| address.to_string())?;
            stream.set_nodelay(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
            connections.push(Connection { stream, answer: Vec::new(), intended: None });
        }
        let idle = (0..CONNECTIONS).collect();
        let events = Vec::with_capacity(CONNECTIONS);
        Ok(Self { epoll, connections, idle, line: VecDeque::new(), seen: Paced::default(), events })
    }

    fn is_busy(&self) -> bool {
        !self.line.is_empty() || self.idle.len() < self.connections.len()
    }

    fn send_line(&mut self, requests: &mut Requests, started: Instant) -> anyhow::Result<()> {
        while let (Some(&intended), Some(&number)) = (self.line.front(), self.idle.front()) {
            self.line.pop_front();
            self.idle.pop_front();
            let connection = self.connections.get_mut(number).context("no such connection")?;
            connection.intended = Some(intended);
            self.seen.lateness.push(started.elapsed().saturating_sub(intended));
            connection.stream.write_all(requests.fresh())?;
        }
        Ok(())
    }

    fn receive(&mut self, wait: Duration, started: Instant) -> anyhow::Result<()> {
        let timeout = Timespec::try_from(wait)?;
        self.events.clear();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout))?;
        for event in std::mem::take(&mut self.events) {
            let number = usize::try_from(event.data.u64())?;
            let connection = self.connections.get_mut(number).context("no such connection")?;
            if let Some(intended) = connection.read()? {
                self.seen.latencies.push(started.elapsed().saturating_sub(intended));
                self.idle.push_back(number);
            }
        }
        self.events.reserve(CONNECTIONS);
        Ok(())
    }

    fn paced(mut self) -> Paced {
        self.seen.latencies.sort_unstable();
        self.seen.lateness.sort_unstable();
        self.seen
    }
}

impl Connection {
    /// Reads what has come; gives the intended moment of the request whose answer is now whole.
    fn read(&mut self) -> anyhow::Result<Option<Duration>> {
        let mut chunk = [0; 16 * 1024];
        let read = self.stream.read(&mut chunk)?;
        ensure!(read > 0, "a connection was closed under load");
        self.answer.extend(chunk.iter().take(read));
        match answer_of(&self.answer)? {
            None => Ok(None),
            Some((200, length)) if self.answer.len() < length => Ok(None),
            Some((200, length)) if self.answer.len() == length => {
                self.answer.clear();
                Ok(Some(self.intended.take().context("an answer that nobody asked for")?))
            }
            Some(_) => bail!("not one 200: {}", String::from_utf8_lossy(&self.answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::{sleep, spawn};

    use super::*;
    use crate::bench::question::{Asked, USUAL};

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<Duration> = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(percentile(&values, 0.5), 500.0);
        assert_eq!(percentile(&values, 0.99), 990.0);
        assert_eq!(percentile(&values, 0.999), 999.0);
        assert_eq!(percentile(&values[..1], 0.99), 1.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    /// Answers every request, but the first one of each connection only after `pause`.
    fn sluggish(pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let length = Requests::new(USUAL, &Asked::Question, 1).fresh().len();
        spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                spawn(move || {
                    let mut request = vec![0; length];
                    let mut pause = Some(pause);
                    while stream.read_exact(&mut request).is_ok() {
                        sleep(pause.take().unwrap_or_default());
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
                    }
                });
            }
        });
        address
    }

    #[test]
    fn a_stall_counts_for_every_request_that_should_have_been_sent_in_it() {
        let address = sluggish(Duration::from_millis(400));
        let mut requests = Requests::new(USUAL, &Asked::Question, 1);
        let paced = run(address, &mut requests, 500.0, Duration::from_millis(500)).unwrap();
        assert_eq!(paced.latencies.len(), 250);
        // 64 connections take the first 64 requests and stall on them for 400 ms. Nothing is answered before: all
        // that were due in the first 200 ms took at least 200 ms. A busy machine makes that longer, never shorter.
        let slow = paced.latencies.iter().filter(|latency| **latency >= Duration::from_millis(195)).count();
        assert!(slow >= 100, "only {slow} of 250 requests show the stall");
    }
}
