//! Recorded streams: what real attack tools and honest clients asked, and what a real model answered.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::inference;
use crate::model_server::{Answer, Question};

/// A row as it was written down.
#[derive(Debug, Deserialize)]
struct Recorded {
    c: String,
    r: u64,
    x: Vec<f64>,
    p: Vec<f64>,
}

/// One request of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The client's position among those of its stream, from 0.
    pub client: usize,
    /// What was asked.
    pub rows: Vec<Vec<f64>>,
    /// What the recorded model answered, row by row.
    pub predictions: Vec<Vec<f64>>,
}

/// A recorded stream, request by request in the order of recording.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Folder and name, such as `attacks/zoo_digits`.
    pub name: String,
    /// The model that was asked: `digits`, `cancer` or `pricing`.
    pub model: &'static str,
    /// The requests.
    pub requests: Vec<Request>,
}

/// The folder of this crate's data.
#[must_use]
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/streams")
}

impl Stream {
    /// Reads `attacks/NAME` or `benign/NAME`.
    ///
    /// # Errors
    /// Where there is no such stream, or a line is not a row.
    pub fn load(name: &str) -> anyhow::Result<Self> {
        let path = data().join(format!("{name}.jsonl.gz"));
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let mut clients: HashMap<String, usize> = HashMap::new();
        let mut requests: Vec<Request> = Vec::new();
        let mut last = None;
        for line in BufReader::new(GzDecoder::new(file)).lines() {
            let row: Recorded = serde_json::from_str(&line?).with_context(|| name.to_owned())?;
            let next = clients.len();
            let client = *clients.entry(row.c).or_insert(next);
            if last != Some((client, row.r)) {
                requests.push(Request { client, ..Request::default() });
                last = Some((client, row.r));
            }
            if let Some(request) = requests.last_mut() {
                request.rows.push(row.x);
                request.predictions.push(row.p);
            }
        }
        Ok(Self { name: name.to_owned(), model: model_of(name), requests })
    }

    /// The names of all streams in a folder, `attacks` or `benign`, in alphabetical order.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn names(folder: &str) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(data().join(folder))? {
            let file = entry?.file_name();
            names.extend(
                file.to_str()
                    .and_then(|file| file.strip_suffix(".jsonl.gz"))
                    .map(|name| format!("{folder}/{name}")),
            );
        }
        names.sort();
        Ok(names)
    }

    /// How many clients the stream has.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.requests.iter().map(|request| request.client + 1).max().unwrap_or(0)
    }

    /// How many rows the stream has.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.requests.iter().map(|request| request.rows.len()).sum()
    }
}

fn model_of(name: &str) -> &'static str {
    ["digits", "cancer"].into_iter().find(|model| name.contains(model)).unwrap_or("pricing")
}

/// Writes a model's reference rows, unpacked, to `folder` and gives the file.
///
/// # Errors
/// Where the model has none, or the folder cannot be written.
pub fn reference(model: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let packed = File::open(data().join(format!("reference/{model}.jsonl.gz")))?;
    let mut rows = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut rows)?;
    let file = folder.join(format!("{model}.jsonl"));
    fs::write(&file, rows)?;
    Ok(file)
}

/// The addresses that play the clients of the stream at position `stream`: nobody else has them.
#[must_use]
pub fn address(stream: u8, client: usize) -> String {
    let [high, low] = u16::try_from(client + 1).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(127, stream.saturating_add(1), high, low).to_string()
}

/// A model that knows the recorded answers by heart.
#[derive(Debug, Default)]
pub struct RecordedModel {
    predictions: HashMap<Vec<u64>, Vec<f64>>,
}

impl RecordedModel {
    /// Learns the answers of `stream`.
    pub fn learn(&mut self, stream: &Stream) {
        for request in &stream.requests {
            for (row, prediction) in request.rows.iter().zip(&request.predictions) {
                self.predictions.insert(bits(row), prediction.clone());
            }
        }
    }

    /// Its answer to a question of the Open Inference Protocol. A row it does not know gets no scores at all.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Answer {
        let rows = inference::rows(&question.body);
        let known = rows.iter().map(|row| self.predictions.get(&bits(row)).cloned().unwrap_or_default());
        Answer::value(&inference::answer(inference::model_of(&question.path), &known.collect::<Vec<_>>()))
    }
}

fn bits(row: &[f64]) -> Vec<u64> {
    row.iter().map(|value| value.to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_reads_whole() {
        for (folder, streams) in [("attacks", 25), ("benign", 52)] {
            let names = Stream::names(folder).unwrap();
            assert_eq!(names.len(), streams, "streams in {folder}");
            for name in names {
                let stream = Stream::load(&name).unwrap();
                assert!(stream.rows() > 0, "{name} has no row");
                assert!(stream.rows() >= stream.requests.len(), "{name} has a request without rows");
            }
        }
    }

    #[test]
    fn rows_of_one_request_stay_together() {
        let batches = Stream::load("benign/batch_pricing.1").unwrap();
        assert_eq!(batches.rows(), 800);
        assert!(batches.requests.len() < 100, "{} requests", batches.requests.len());
        assert_eq!(batches.model, "pricing");
    }
}
