//! The journal's file form: what a lane saw, in the order in which it saw it.
//!
//! ```text
//! file   = "CKGTJRNL" version:u16 frame(plan as JSON) frame(entry as postcard)*
//! frame  = length:u32 crc32:u32 bytes          (all integers little-endian)
//! ```
//! A torn tail (the process was killed while it wrote) ends the journal; everything before it counts.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::capture::{Entry, VERSION};
use crate::plan::Plan;

const MAGIC: &[u8; 8] = b"CKGTJRNL";
/// No frame is longer: a capture holds two bounded bodies at most. A larger length is damage, not data.
const FRAME_MAX: u32 = 256 * 1024 * 1024;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened, read or written.
    #[error("recording {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a checkgate recording; `checkgate run --record FILE` writes one", .0.display())]
    NotARecording(PathBuf),
    /// The file is of a version that this build does not read.
    #[error("{} is a recording of version {version}; this checkgate reads version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The plan or an entry does not read back.
    #[error("recording {}: entry {index} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Position of the entry; 0 is the plan.
        index: u64,
    },
}

/// Writes the journal of one lane.
pub struct JournalWriter {
    file: BufWriter<File>,
    path: PathBuf,
    written: u64,
    bytes_max: u64,
    scratch: Vec<u8>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the journal.
    Yes,
    /// The recording has reached its bound; it ends here.
    Full,
}

impl JournalWriter {
    /// Begins a recording at `path`, readable by its owner only: it holds bodies and the instance's secret.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create(path: &Path, plan: &Plan, bytes_max: u64) -> Result<Self, JournalError> {
        let failed = |error| JournalError::Io { path: path.to_owned(), error };
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut writer = Self {
            file: BufWriter::with_capacity(256 * 1024, file.map_err(failed)?),
            path: path.to_owned(),
            written: 0,
            bytes_max,
            scratch: Vec::new(),
        };
        let plan = serde_json::to_vec(plan).map_err(|error| failed(error.into()))?;
        writer.file.write_all(MAGIC).map_err(failed)?;
        writer.file.write_all(&VERSION.to_le_bytes()).map_err(failed)?;
        writer.frame(&plan).map_err(failed)?;
        Ok(writer)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, entry: &Entry) -> Result<Appended, JournalError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let encoded = postcard::to_extend(entry, scratch)
            .map_err(|_| self.failed(io::Error::other("an entry cannot be encoded")))?;
        let fits = self.written.saturating_add(encoded.len() as u64 + 8) <= self.bytes_max;
        let result = if fits { self.frame(&encoded) } else { Ok(()) };
        self.scratch = encoded;
        result.map_err(|error| self.failed(error))?;
        Ok(if fits { Appended::Yes } else { Appended::Full })
    }

    /// Hands everything written so far to the operating system.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        let result = self.file.flush();
        result.map_err(|error| self.failed(error))
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&crc32fast::hash(bytes).to_le_bytes())?;
        self.file.write_all(bytes)?;
        self.written += u64::from(length) + 8;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), error }
    }
}

/// Reads a recording back.
pub struct JournalReader {
    file: BufReader<File>,
    path: PathBuf,
    index: u64,
    position: u64,
    torn: bool,
}

impl JournalReader {
    /// Opens the recording at `path` and reads the plan that it was made under.
    ///
    /// # Errors
    /// When the file cannot be read or is no recording of this version.
    pub fn open(path: &Path) -> Result<(Self, Plan), JournalError> {
        let failed = |error| JournalError::Io { path: path.to_owned(), error };
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let (mut magic, mut version) = ([0; 8], [0; 2]);
        let read = file.read_exact(&mut magic).and_then(|()| file.read_exact(&mut version));
        if read.is_err() || magic != *MAGIC {
            return Err(JournalError::NotARecording(path.to_owned()));
        }
        let version = u16::from_le_bytes(version);
        if version != VERSION {
            return Err(JournalError::Version { path: path.to_owned(), version });
        }
        let mut reader = Self { file, path: path.to_owned(), index: 0, position: 10, torn: false };
        let plan = reader.frame()?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let plan = plan.ok_or_else(|| reader.damaged())?;
        Ok((reader, plan))
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// When an entry does not read back.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        self.index += 1;
        let Some(bytes) = self.frame()? else { return Ok(None) };
        postcard::from_bytes(&bytes).map(Some).map_err(|_| self.damaged())
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the recording ended in the middle of an entry.
    pub fn torn(&self) -> bool {
        self.torn
    }

    fn frame(&mut self) -> Result<Option<Vec<u8>>, JournalError> {
        let mut head = [0; 8];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = head;
        let (length, crc) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if length > FRAME_MAX {
            return Err(self.damaged());
        }
        let mut bytes = vec![0; length as usize];
        if !self.fill(&mut bytes)? {
            self.torn = true;
            return Ok(None);
        }
        if crc32fast::hash(&bytes) != crc {
            return Err(self.damaged());
        }
        Ok(Some(bytes))
    }

    /// Fills `bytes`; false at the end of the file, torn if it came too early.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, JournalError> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read(rest) {
                Ok(0) => {
                    self.torn |= filled > 0;
                    return Ok(false);
                }
                Ok(read) => {
                    filled += read;
                    self.position += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(JournalError::Io { path: self.path.clone(), error }),
            }
        }
        Ok(true)
    }

    fn damaged(&self) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), index: self.index }
    }
}

#[cfg(test)]
mod tests {
    use checkgate_detectors::facts::Time;
    use checkgate_detectors::finding::DecisionId;

    use super::*;
    use std::sync::Arc;

    use crate::capture::{Approved, Lift, Rejected, Replanned};
    use crate::plan::tests::plan;

    fn entry(number: u64) -> Entry {
        Entry::Lift(Lift { time: Time(number), decision: DecisionId(number * 7) })
    }

    /// A recording of `entries`, as bytes.
    fn recording(entries: u64, bytes_max: u64) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let mut writer = JournalWriter::create(&path, &plan(), bytes_max).unwrap();
        for number in 0..entries {
            writer.append(&entry(number)).unwrap();
        }
        writer.flush().unwrap();
        (folder, path)
    }

    fn read(path: &Path) -> (Vec<Entry>, bool, Result<(), JournalError>) {
        let (mut reader, read_plan) = JournalReader::open(path).unwrap();
        assert_eq!(read_plan, plan(), "the plan must read back as it was");
        let mut entries = Vec::new();
        let ended = loop {
            match reader.next_entry() {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (entries, reader.torn(), ended)
    }

    #[test]
    fn a_recording_reads_back_in_order() {
        let (_folder, path) = recording(100, u64::MAX);
        let (entries, torn, ended) = read(&path);
        assert_eq!(entries, (0..100).map(entry).collect::<Vec<_>>());
        assert!(!torn && ended.is_ok());
    }

    #[test]
    fn a_reload_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let mut writer = JournalWriter::create(&path, &plan(), u64::MAX).unwrap();
        let replanned = Entry::Plan(Replanned { time: Time(7), plan: Arc::new(plan()) });
        writer.append(&replanned).unwrap();
        writer.flush().unwrap();
        let (entries, torn, ended) = read(&path);
        assert_eq!(entries, [replanned]);
        assert!(!torn && ended.is_ok());
    }

    #[test]
    fn what_operators_say_of_proposals_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let mut writer = JournalWriter::create(&path, &plan(), u64::MAX).unwrap();
        let decision = DecisionId(7);
        let said = [
            Entry::Approve(Approved { time: Time(7), decision, until: Time(9) }),
            Entry::Reject(Rejected { time: Time(8), decision }),
        ];
        said.iter().for_each(|entry| assert_eq!(writer.append(entry).unwrap(), Appended::Yes));
        writer.flush().unwrap();
        let (entries, torn, ended) = read(&path);
        assert_eq!(entries, said);
        assert!(!torn && ended.is_ok());
    }

    #[test]
    fn a_recording_is_its_owners_only() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = recording(1, u64::MAX);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_tail_costs_the_last_entry_only() {
        let (_folder, path) = recording(10, u64::MAX);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 1..12 {
            std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            let (entries, torn, ended) = read(&path);
            assert_eq!(entries.len(), 9, "{cut} bytes were cut");
            assert!(torn && ended.is_ok());
        }
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let (_folder, path) = recording(10, u64::MAX);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (entries, _, ended) = read(&path);
        assert_eq!(entries.len(), 9);
        assert!(matches!(ended, Err(JournalError::Damaged { index: 10, .. })), "{ended:?}");
    }

    #[test]
    fn a_full_recording_ends_between_two_entries() {
        let (_folder, path) = recording(1_000, 2_000);
        let (entries, torn, ended) = read(&path);
        assert!(!entries.is_empty() && entries.len() < 1_000, "{} entries in 2,000 bytes", entries.len());
        assert!(!torn && ended.is_ok());
    }

    #[test]
    fn another_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "not a recording at all").unwrap();
        assert!(matches!(JournalReader::open(&path).map(drop), Err(JournalError::NotARecording(_))));
        std::fs::write(&path, [&MAGIC[..], &99_u16.to_le_bytes()].concat()).unwrap();
        assert!(matches!(
            JournalReader::open(&path).map(drop),
            Err(JournalError::Version { version: 99, .. })
        ));
    }
}
