//! A sink's position in the ledger, in a file of its own that is replaced whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::spool::Stand;

/// Nothing in the file is longer.
const FILE_BYTES_MAX: u64 = 4096;

/// The folder of all sinks in the state folder.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join("sinks")
}

/// Where one sink keeps its position.
#[derive(Clone, Debug)]
pub struct Cursor {
    folder: PathBuf,
    file: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    stand: Stand,
}

impl Cursor {
    /// The position of the sink `name` under the state folder.
    #[must_use]
    pub fn new(state: &Path, name: &str) -> Self {
        let folder = folder(state);
        let file = folder.join(format!("{name}.cursor"));
        Self { folder, file }
    }

    /// The position; nothing where there is none yet.
    ///
    /// # Errors
    /// There is one and it cannot be read. A sink that takes that for none would lose what waits for it.
    pub fn load(&self) -> io::Result<Option<Stand>> {
        let mut text = String::new();
        match File::open(&self.file) {
            Ok(file) => file.take(FILE_BYTES_MAX).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let written: Written = serde_json::from_str(&text).map_err(io::Error::other)?;
        Ok(Some(written.stand))
    }

    /// Puts `stand` in the place of the position before, whole or not at all.
    ///
    /// # Errors
    /// The disk cannot; the position before stays.
    pub fn save(&self, stand: Stand) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // A sink that was cut off may still be writing its own.
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        let draft = DRAFTS.fetch_add(1, Ordering::Relaxed) % 8;
        let draft = self.file.with_extension(format!("draft-{}-{draft}", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let text = serde_json::to_string(&Written { stand }).map_err(io::Error::other)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&draft, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ledger::line::Hash;
    use crate::ledger::log::Place;

    #[test]
    fn a_position_reads_back_and_belongs_to_its_owner() {
        let state = tempfile::tempdir().unwrap();
        let cursor = Cursor::new(state.path(), "siem.one");
        assert_eq!(cursor.load().unwrap(), None, "it has not begun");
        for number in [1, u64::MAX] {
            let stand = Stand { number, hash: Hash([7; 32]), place: Place { segment: 3, offset: 9 } };
            cursor.save(stand).unwrap();
            assert_eq!(Cursor::new(state.path(), "siem.one").load().unwrap(), Some(stand));
        }
        let mode = fs::metadata(&cursor.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "others may read it");
        fs::write(&cursor.file, "").unwrap();
        assert!(cursor.load().is_err(), "what was cut is no position before the first entry");
    }
}
