//! Recorded attack streams: one JSON object a line, `{"t": seconds, "c": client, "r": request, "x": row, "p": answer}`.
//!
//! Rows with the same `c` and `r` came in one request. `x` is a list of values or an object of named ones, and `p`,
//! what was answered to it, may be absent. A file may be compressed with gzip.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use checkgate_detectors::facts::Time;
use checkgate_detectors::identity::{Address, Asker, Standing};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::capture::{Admission, Answered, Asked, Body, Entry, Outcome};
use crate::decode::{DECODERS, KeptLines};

/// A stream is no longer than this, unpacked, so that a small file cannot fill the memory.
const BYTES_MAX: u64 = 256 << 20;
/// When every stream begins: a round moment, so that two rehearsals print the same.
const BEGINS: u64 = 1_800_000_000_000_000;
/// The protocol that a stream's bodies are written in.
const PROTOCOL: &str = "mlflow";

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    t: f64,
    #[serde(default)]
    c: Value,
    #[serde(default)]
    r: u64,
    x: Value,
    #[serde(default)]
    p: Option<Value>,
}

/// One request of a stream.
#[derive(Debug, Default)]
struct Request {
    client: u16,
    seconds: f64,
    rows: Vec<Value>,
    answers: Vec<Value>,
}

/// A recorded stream, request by request.
#[derive(Debug)]
pub struct Stream {
    requests: Vec<Request>,
}

impl Stream {
    /// Reads the lines of a stream.
    ///
    /// # Errors
    /// Names the first line that is no row.
    pub fn from_lines(text: &str) -> anyhow::Result<Self> {
        let mut clients: BTreeMap<String, u16> = BTreeMap::new();
        let mut requests: Vec<Request> = Vec::new();
        let mut last = None;
        for (number, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let line: Line =
                serde_json::from_str(text).with_context(|| format!("line {} is no row", number + 1))?;
            let next = u16::try_from(clients.len()).unwrap_or(u16::MAX);
            let client = *clients.entry(line.c.to_string()).or_insert(next);
            if last.replace((client, line.r)) != Some((client, line.r)) {
                requests.push(Request { client, seconds: line.t, ..Request::default() });
            }
            if let Some(request) = requests.last_mut() {
                request.rows.push(line.x);
                request.answers.extend(line.p);
            }
        }
        if requests.is_empty() {
            bail!("it holds no row");
        }
        Ok(Self { requests })
    }

    /// Unpacks and reads a stream.
    ///
    /// # Errors
    /// As [`Stream::from_lines`], and where it does not unpack.
    pub fn from_gzip(packed: &[u8]) -> anyhow::Result<Self> {
        Self::from_lines(&unpack(packed)?)
    }

    /// Reads a file, by its name either plain or compressed.
    ///
    /// # Errors
    /// Where the file cannot be read or is no stream.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let read = if file.extension().is_some_and(|end| end == "gz") {
            Self::from_gzip(&bytes)
        } else {
            std::str::from_utf8(&bytes).context("it is no text").and_then(Self::from_lines)
        };
        read.with_context(|| format!("{} is no recorded stream", file.display()))
    }

    /// Its requests.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Its rows.
    pub fn rows(&self) -> u64 {
        self.requests.iter().map(|request| request.rows.len() as u64).sum()
    }

    /// How many rows each of its requests has.
    pub fn row_counts(&self) -> impl Iterator<Item = u64> {
        self.requests.iter().map(|request| request.rows.len() as u64)
    }

    /// Every request as the two captures that it would have left at a lane, for the model with that id. Its clients
    /// are proven: an attacker whose identity is in doubt would be let off by everything.
    pub fn captures(&self, model: u16) -> impl Iterator<Item = (Entry, Entry)> {
        let protocol = DECODERS.iter().position(|spec| spec.name == PROTOCOL);
        let protocol = protocol.and_then(|position| u8::try_from(position).ok());
        self.requests.iter().zip(1..).map(move |(request, id)| {
            let asked = request.asked(id, model, protocol);
            let answered = request.answered(id, asked.time);
            (Entry::Asked(asked), Entry::Answered(answered))
        })
    }
}

impl Request {
    fn asked(&self, id: u64, model: u16, protocol: Option<u8>) -> Asked {
        let body = whole(&serde_json::json!({"instances": self.rows}));
        Asked {
            id,
            time: Time(BEGINS + (self.seconds.max(0.0) * 1e6) as u64),
            asker: asker(self.client),
            model: Some(model),
            protocol,
            name: String::new(),
            path: "/invocations".to_owned(),
            headers: json_type(),
            length: body.held() as u64,
            hash: 0,
            body,
            admission: Admission::Admitted,
        }
    }

    fn answered(&self, id: u64, time: Time) -> Answered {
        let body = whole(&serde_json::json!({"predictions": self.answers}));
        Answered {
            id,
            time,
            status: 200,
            headers: json_type(),
            length: body.held() as u64,
            latency: std::time::Duration::ZERO,
            body,
            judged: None,
            outcome: Outcome::Answered,
        }
    }
}

fn whole(body: &Value) -> Body {
    Body::Whole(Bytes::from(body.to_string()))
}

fn json_type() -> KeptLines {
    [("content-type".into(), "application/json".to_owned())].into()
}

/// The client of that number: an address of the range for benchmarks (RFC 2544), which nobody has.
fn asker(client: u16) -> Asker {
    let [high, low] = client.to_be_bytes();
    let address = Address::of(Ipv4Addr::new(198, 18, high, low).into());
    Asker { address, standing: Standing::Declared, key: None, keys_verified: false }
}

/// The text of a compressed file.
///
/// # Errors
/// Where it does not unpack, or is too long.
pub fn unpack(packed: &[u8]) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = GzDecoder::new(packed).take(BYTES_MAX).read_to_string(&mut text);
    let read = read.context("it does not unpack as gzip")?;
    if read as u64 >= BYTES_MAX {
        bail!("it is longer than {BYTES_MAX} bytes");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_request_stay_together() {
        let text = "{\"t\":1.5,\"c\":\"a\",\"r\":0,\"i\":0,\"x\":[1,2],\"p\":[3]}\n\
                    {\"t\":1.5,\"c\":\"a\",\"r\":0,\"i\":1,\"x\":[2,2],\"p\":[4]}\n\n\
                    {\"t\":2.0,\"c\":\"b\",\"r\":0,\"x\":{\"age\":7}}\n";
        let stream = Stream::from_lines(text).unwrap();
        assert_eq!((stream.requests(), stream.rows()), (2, 3));
        let (asked, answered) = stream.captures(4).next().unwrap();
        let Entry::Asked(asked) = asked else { panic!("a question comes first") };
        assert_eq!(asked.body, Body::Whole(Bytes::from_static(b"{\"instances\":[[1,2],[2,2]]}")));
        assert_eq!((asked.model, asked.time), (Some(4), Time(BEGINS + 1_500_000)));
        let Entry::Answered(answered) = answered else { panic!("then its answer") };
        assert_eq!(answered.body, Body::Whole(Bytes::from_static(b"{\"predictions\":[[3],[4]]}")));
    }

    #[test]
    fn what_is_no_stream_is_refused_with_its_line() {
        let error = Stream::from_lines("{\"x\":[1]}\nnonsense\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(Stream::from_lines("\n").is_err(), "an empty stream is none");
        assert!(Stream::from_gzip(b"not gzip").is_err());
    }
}
