//! Dead letters: events that the other side will never take, kept with the reason in a bounded file, one JSON object a
//! line. `checkgate sinks replay NAME` sends them again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use checkgate_detectors::facts::Time;
use serde::{Deserialize, Serialize};

use super::cursor;
use super::event::Event;

/// Bytes of the file; what comes beyond is lost, and counted.
pub const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The dead letters of one sink.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    folder: PathBuf,
    file: PathBuf,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// What the other side said.
    pub why: String,
    /// When it was given up.
    pub given_up: Time,
    /// The event.
    pub event: Event,
}

impl DeadLetters {
    /// Those of the sink `name` under the state folder.
    #[must_use]
    pub fn new(state: &Path, name: &str) -> Self {
        let folder = cursor::folder(state);
        let file = folder.join(format!("{name}.dead.jsonl"));
        Self { folder, file }
    }

    /// Keeps `letter`; says whether there was room.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn keep(&self, letter: &Letter) -> io::Result<bool> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.file)?;
        let mut line = serde_json::to_vec(letter).map_err(io::Error::other)?;
        line.push(b'\n');
        if file.metadata()?.len() + line.len() as u64 > BYTES_MAX {
            return Ok(false);
        }
        file.write_all(&line)?;
        file.sync_data()?;
        Ok(true)
    }

    /// How many there are, and their bytes.
    #[must_use]
    pub fn count(&self) -> (u64, u64) {
        let Ok(file) = File::open(&self.file) else { return (0, 0) };
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        (BufReader::new(file).lines().map_while(Result::ok).count() as u64, bytes)
    }

    /// Takes all of them out of the file, to be sent again; what is not taken then is to be kept anew. What an earlier
    /// try left behind comes first.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn take(&self) -> io::Result<Taken> {
        let aside = self.file.with_extension("replay");
        if !aside.exists() {
            match fs::rename(&self.file, &aside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Taken { aside: None, letters: Vec::new(), unread: 0 });
                }
                other => other?,
            }
        }
        let (mut letters, mut unread) = (Vec::new(), 0);
        for line in BufReader::new(File::open(&aside)?).lines() {
            match serde_json::from_str(&line?) {
                Ok(letter) => letters.push(letter),
                Err(_) => unread += 1,
            }
        }
        Ok(Taken { aside: Some(aside), letters, unread })
    }
}

/// Dead letters that were taken out.
#[derive(Debug)]
pub struct Taken {
    aside: Option<PathBuf>,
    /// The letters, the oldest first.
    pub letters: Vec<Letter>,
    /// Lines that hold none: the disk was full, or somebody wrote into the file.
    pub unread: u64,
}

impl Taken {
    /// Forgets them: each was sent, or kept anew.
    ///
    /// # Errors
    /// The disk cannot.
    pub fn done(self) -> io::Result<()> {
        self.aside.map_or(Ok(()), fs::remove_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(number: u64) -> Letter {
        let event = Event { number, ..Event::test("i", Time(number)) };
        Letter { why: "\u{202e}no\n".into(), given_up: Time(9), event }
    }

    #[test]
    fn letters_come_back_as_they_were_and_an_interrupted_replay_loses_none() {
        let state = tempfile::tempdir().unwrap();
        let dead = DeadLetters::new(state.path(), "siem");
        assert!(dead.take().unwrap().letters.is_empty(), "there is no file yet");
        let written: Vec<_> = (1..=5).map(letter).collect();
        written.iter().for_each(|letter| assert!(dead.keep(letter).unwrap()));
        assert_eq!(dead.count().0, 5);
        let taken = dead.take().unwrap();
        assert_eq!(taken.letters, written);
        drop(taken);
        assert!(dead.keep(&letter(6)).unwrap(), "the sink goes on meanwhile");
        let again = dead.take().unwrap();
        assert_eq!(again.letters, written, "the replay was interrupted before it was done");
        again.done().unwrap();
        assert_eq!(dead.take().unwrap().letters, [letter(6)]);
    }

    #[test]
    fn the_file_is_bounded() {
        let state = tempfile::tempdir().unwrap();
        let dead = DeadLetters::new(state.path(), "siem");
        let long = Letter { why: "x".repeat(6 * 1024 * 1024), ..letter(1) };
        let kept: Vec<_> = (0..4).map(|_| dead.keep(&long).unwrap()).collect();
        assert_eq!(kept, [true, true, false, false]);
        assert!(dead.count().1 <= BYTES_MAX);
        assert!(dead.keep(&letter(2)).unwrap(), "a short one still finds room");
    }
}
