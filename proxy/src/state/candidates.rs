//! Candidates in the state folder: what maintenance windows taught and no operator has promoted yet, a file for each
//! model. References of drift that operators promoted have the same form.
//!
//! ```text
//! file = "checkgate candidate 1 " SHA-256 of the rest in hexadecimal digits "\n"
//!        what people are told of it, as one line of JSON "\n"
//!        JSON lines of the query reference, and bytes of that of drift, either of them or both (postcard)
//! ```
//! A file's own name only keeps files apart: a model's name came from traffic. What is damaged, or holds a reference that
//! this program does not read, is told and offered to nobody.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkgate_detectors::drift::reference::DriftReference;
use checkgate_detectors::maintenance::Taught;
use checkgate_detectors::reference::{Reference, Trust};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Models whose candidates are kept.
pub const MODELS_MAX: usize = 256;
/// What a file begins with.
const MAGIC: &str = "checkgate candidate 1 ";
/// A longer file is none of ours: a query reference has 1,500 rows at most.
const BYTES_MAX: u64 = 320 << 20;

/// A reference that waits for an operator, as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WaitingReference)]
pub struct Summary {
    /// The model.
    pub model: String,
    /// What the maintenance window was for; empty where it does not say.
    pub note: String,
    /// When the window began, in seconds since 1970.
    pub from: f64,
    /// When it was to end.
    pub until: f64,
    /// Rows that were asked for and answered in it, repeats aside.
    pub seen: u64,
    /// Rows of the reference that queries are held against; 0 where there were too few rows or clients for one.
    pub rows: u64,
    /// Rows of the reference that drift is measured by; 0 where there were too few, or drift is not watched.
    pub drift_rows: u64,
    /// When the first of the learned rows came, in seconds since 1970.
    pub first: f64,
    /// When the last one came.
    pub last: f64,
    /// Clients of whom rows were learned.
    pub clients: u64,
    /// The clients that gave most, at most eight, the largest share first.
    pub shares: Vec<Share>,
    /// What the last third of the rows showed, watched by what the first two thirds make; absent where drift has no
    /// reference, or one that is too short for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<HeldOut>,
}

/// What one client gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClientShare)]
pub struct Share {
    /// The client, as records print it.
    pub client: String,
    /// Its share of the learned rows, 0 to 1.
    pub share: f64,
}

/// How a reference of drift does on its own last third: what alarms there will alarm on any day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HeldOut {
    /// Rows that were watched.
    pub rows: u64,
    /// The highest evidence of the early layer, in events; where nothing is odd, it rarely exceeds the rows.
    pub early: f64,
    /// The highest evidence of the paging layer, in stretches.
    pub paging: f64,
    /// Stretches that were watched.
    pub stretches: u64,
}

/// A reference that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What people are told of it.
    pub summary: Summary,
    /// The query reference, as its JSON lines.
    pub query: Option<Arc<str>>,
    /// [`DriftReference::to_bytes`] of that of drift.
    pub drift: Option<Arc<[u8]>>,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    /// The disk does not give or take it.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// It is cut, changed, or something else.
    #[error("it is no whole candidate of this version: its checksum differs from its content")]
    Damaged,
    /// A reference in it does not read.
    #[error("{0}")]
    Reference(String),
}

impl Candidate {
    /// What a window taught, where that is enough for a reference.
    #[must_use]
    pub fn of(taught: &Taught) -> Option<Self> {
        let Taught { model, window, seen, clients, shares, span, query, drift, .. } = taught;
        let quality = drift.as_ref().map(DriftReference::quality).filter(|quality| quality.rows > 0);
        let (first, last) = span.unwrap_or((window.from, window.until));
        let summary = Summary {
            model: model.to_string(),
            note: window.note.clone(),
            from: window.from.seconds(),
            until: window.until.seconds(),
            seen: *seen,
            rows: query.as_ref().map_or(0, |reference| reference.rows().len() as u64),
            drift_rows: drift.as_ref().map_or(0, DriftReference::rows),
            first: first.seconds(),
            last: last.seconds(),
            clients: *clients,
            shares: shares
                .iter()
                .map(|(client, share)| Share { client: client.to_string(), share: *share })
                .collect(),
            quality: quality.map(|quality| HeldOut {
                rows: quality.rows,
                early: quality.early,
                paging: quality.paging,
                stretches: quality.stretches,
            }),
        };
        taught.is_enough().then(|| Self {
            summary,
            query: query.as_ref().map(|reference| reference.to_json_lines().into()),
            drift: drift.as_ref().map(|reference| reference.to_bytes().into()),
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        // Plain data of this crate's own types always serialises into memory.
        let said = serde_json::to_vec(&self.summary).unwrap_or_default();
        let references = postcard::to_stdvec(&(self.query.as_deref(), self.drift.as_deref()));
        let rest = [&said[..], b"\n", &references.unwrap_or_default()].concat();
        [head(&rest).as_bytes(), &rest].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CandidateError> {
        let (first, rest) = line(bytes).ok_or(CandidateError::Damaged)?;
        if first != head(rest).as_bytes() {
            return Err(CandidateError::Damaged);
        }
        let (said, references) = line(rest).ok_or(CandidateError::Damaged)?;
        let summary = serde_json::from_slice(said).map_err(|_| CandidateError::Damaged)?;
        let (query, drift): (Option<String>, Option<Vec<u8>>) =
            postcard::from_bytes(references).map_err(|_| CandidateError::Damaged)?;
        let refused = |error: &dyn std::fmt::Display| CandidateError::Reference(error.to_string());
        if let Some(text) = &query {
            Reference::from_json_lines(text, Trust::Trusted).map_err(|error| refused(&error))?;
        }
        if let Some(bytes) = &drift {
            DriftReference::from_bytes(bytes).map_err(|error| refused(&error))?;
        }
        Ok(Self { summary, query: query.map(Into::into), drift: drift.map(Into::into) })
    }
}

/// Reads what is kept in a folder under names that end in `ending`, by the model's name. What does not read is told, and
/// left for the operator.
pub fn read(folder: &Path, ending: &str, problems: &mut Vec<String>) -> BTreeMap<String, Arc<Candidate>> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            problems.push(format!("{} cannot be read: {error}", folder.display()));
            return BTreeMap::new();
        }
    };
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == ending));
    paths.sort();
    let mut found = BTreeMap::new();
    for path in paths.iter().take(MODELS_MAX) {
        match one(path) {
            Ok(candidate) => _ = found.insert(candidate.summary.model.clone(), Arc::new(candidate)),
            Err(error) => {
                problems.push(format!("{}: {error}; what it holds is offered to nobody", path.display()));
            }
        }
    }
    found
}

fn one(path: &Path) -> Result<Candidate, CandidateError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Candidate::from_bytes(&bytes)
}

/// Keeps a candidate in the place of what was kept of its model before: whole or not at all.
///
/// # Errors
/// The disk does not take it.
pub fn write(folder: &Path, ending: &str, candidate: &Candidate) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let whole = file_in(folder, ending, &candidate.summary.model);
    super::replace(&whole, &candidate.to_bytes())
}

/// Removes what is kept of a model.
///
/// # Errors
/// The disk does not let it go.
pub fn remove(folder: &Path, ending: &str, model: &str) -> io::Result<()> {
    fs::remove_file(file_in(folder, ending, model))
}

fn file_in(folder: &Path, ending: &str, model: &str) -> PathBuf {
    folder.join(format!("{}.{ending}", super::stem(model)))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (first, rest) = bytes.split_at_checked(end + 1)?;
    Some((first, rest))
}

fn head(rest: &[u8]) -> String {
    format!("{MAGIC}{}\n", hex::encode(digest(&SHA256, rest)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const LINES: &str = "{\"features\":[\"age\"]}\n{\"x\":[1.5],\"p\":[2.0]}\n";

    pub(crate) fn candidate(model: &str) -> Candidate {
        let summary = Summary {
            model: model.into(),
            note: "v2".into(),
            from: 1.5,
            until: 3600.0,
            seen: 900,
            rows: 1,
            drift_rows: 0,
            first: 2.0,
            last: 3599.0,
            clients: 12,
            shares: vec![Share { client: "192.0.2.7".into(), share: 0.25 }],
            quality: None,
        };
        Candidate { summary, query: Some(LINES.into()), drift: None }
    }

    #[test]
    fn what_waits_is_found_again_under_its_models_own_name_and_a_newer_one_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut problems = Vec::new();
        assert!(read(&folder.path().join("none"), "candidate", &mut problems).is_empty());
        for model in ["a:b", "a_b", "../../etc", "\u{fc}\n"] {
            let mut earlier = candidate(model);
            earlier.summary.note = "v1".into();
            write(folder.path(), "candidate", &earlier).unwrap();
            write(folder.path(), "candidate", &candidate(model)).unwrap();
        }
        let found = read(folder.path(), "candidate", &mut problems);
        assert_eq!(found.len(), 4, "names that look alike as files stay apart");
        assert!(found.values().all(|found| **found == candidate(&found.summary.model)), "{found:?}");
        remove(folder.path(), "candidate", "a:b").unwrap();
        assert_eq!(read(folder.path(), "candidate", &mut problems).len(), 3);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn whatever_is_cut_or_flipped_is_told_and_offered_to_nobody() {
        let whole = candidate("homes").to_bytes();
        assert_eq!(Candidate::from_bytes(&whole).unwrap(), candidate("homes"));
        for place in 0..whole.len() {
            assert!(Candidate::from_bytes(&whole[..place]).is_err(), "cut at {place}");
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            assert!(Candidate::from_bytes(&flipped).is_err(), "flipped at {place}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.candidate"), &whole[..40]).unwrap();
        let odd = Candidate { drift: Some(Arc::from(&b"nothing"[..])), ..candidate("odd") };
        write(folder.path(), "candidate", &odd).unwrap();
        let mut problems = Vec::new();
        assert!(read(folder.path(), "candidate", &mut problems).is_empty());
        assert!(
            problems.len() == 2 && problems.iter().any(|told| told.contains("x.candidate")),
            "{problems:?}"
        );
    }
}
