//! What drift remembers, in the state folder: a file for each model, written anew now and then and at the end.
//!
//! ```text
//! file = "checkgate drift memory " version " " SHA-256 of the rest in hexadecimal digits "\n"
//!        length of the model's name:u32 (little-endian), the name, what the engine saved
//! ```
//! A file's own name only keeps files apart: a model's name came from traffic. What is damaged or of another version is
//! set aside under the same name with the ending `aside`, where the next such file replaces it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use checkgate_detectors::drift::room::saved::VERSION;
use ring::digest::{SHA256, digest};

/// Where they lie in a state folder.
const FOLDER: &str = "drift";
/// The ending of a file.
const MEMORY: &str = "memory";
/// The ending of one that was set aside.
const ASIDE: &str = "aside";
/// What a file begins with, before its version.
const MAGIC: &str = "checkgate drift memory ";
/// Files that are kept: what further models remember is not.
pub const MODELS_MAX: usize = 1024;
/// No longer file is written or read: 256 features take some 6 MiB with everything.
pub const BYTES_MAX: usize = 16 << 20;
/// What nobody wrote anew for so long is removed at a start.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 86_400);

/// What one model's drift remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The model.
    pub model: String,
    /// What its engine saved.
    pub bytes: Vec<u8>,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The disk does not give or take it.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// Another version wrote it.
    #[error("another version of checkgate wrote it: it begins with {0:?}")]
    Version(String),
    /// It is cut, changed, or something else.
    #[error("its checksum differs from its content")]
    Damaged,
    /// It is longer than any that is written.
    #[error("it has {0} bytes, and {BYTES_MAX} are the most that is kept")]
    TooLong(usize),
    /// There are too many.
    #[error("there are {MODELS_MAX} files of other models already")]
    TooMany,
}

/// What a start finds.
#[derive(Debug, Default)]
pub struct Found {
    /// What reads, in the order of the files' names.
    pub memories: Vec<Memory>,
    /// What does not, with why: it was set aside.
    pub aside: Vec<(PathBuf, MemoryError)>,
}

/// Reads all that is kept in the state folder `state`.
#[must_use]
pub fn read(state: &Path) -> Found {
    let mut found = Found::default();
    // Where there is none, nothing was kept.
    let Ok(listed) = fs::read_dir(state.join(FOLDER)) else { return found };
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == MEMORY));
    paths.sort();
    for path in paths {
        if is_forgotten(&path) || found.memories.len() >= MODELS_MAX {
            // What cannot be removed is looked at again by the next start.
            fs::remove_file(&path).ok();
            continue;
        }
        match one(&path) {
            Ok(memory) => found.memories.push(memory),
            Err(error) => {
                fs::rename(&path, path.with_extension(ASIDE)).ok();
                found.aside.push((path, error));
            }
        }
    }
    found
}

/// Keeps what a model's drift remembers, in the place of what was kept before: whole or not at all.
///
/// # Errors
/// It is too much, or the disk does not take it.
pub fn write(state: &Path, memory: &Memory) -> Result<(), MemoryError> {
    if memory.bytes.len() > BYTES_MAX {
        return Err(MemoryError::TooLong(memory.bytes.len()));
    }
    let folder = state.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let whole = file_in(state, &memory.model);
    if !whole.exists() && fs::read_dir(&folder)?.count() >= 2 * MODELS_MAX {
        return Err(MemoryError::TooMany);
    }
    Ok(super::replace(&whole, &to_bytes(memory))?)
}

/// Sets a model's file aside: its engine does not take it.
pub fn set_aside(state: &Path, model: &str) {
    let file = file_in(state, model);
    // Where there is none, there is nothing to set aside.
    fs::rename(&file, file.with_extension(ASIDE)).ok();
}

fn file_in(state: &Path, model: &str) -> PathBuf {
    state.join(FOLDER).join(format!("{}.{MEMORY}", super::stem(model)))
}

fn is_forgotten(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = written.map(|written| SystemTime::now().duration_since(written).unwrap_or_default());
    age.is_ok_and(|age| age > FORGOTTEN_AFTER)
}

fn one(path: &Path) -> Result<Memory, MemoryError> {
    let mut bytes = Vec::new();
    // A head and a name are far shorter than the reserve.
    let most = BYTES_MAX as u64 + (1 << 20);
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    from_bytes(&bytes)
}

fn head(rest: &[u8]) -> String {
    format!("{MAGIC}{VERSION} {}\n", sum(rest))
}

fn to_bytes(memory: &Memory) -> Vec<u8> {
    let name = memory.model.as_bytes();
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes();
    let rest = [&length[..], name, &memory.bytes].concat();
    [head(&rest).as_bytes(), &rest].concat()
}

fn from_bytes(bytes: &[u8]) -> Result<Memory, MemoryError> {
    let end = bytes.iter().take(256).position(|byte| *byte == b'\n').ok_or(MemoryError::Damaged)?;
    let (first, rest) = bytes.split_at_checked(end + 1).ok_or(MemoryError::Damaged)?;
    if !first.starts_with(format!("{MAGIC}{VERSION} ").as_bytes()) {
        let begins: String = String::from_utf8_lossy(first).chars().take(MAGIC.len() + 6).collect();
        return Err(if begins.starts_with(MAGIC) {
            MemoryError::Version(begins.trim().to_owned())
        } else {
            MemoryError::Damaged
        });
    }
    if first != head(rest).as_bytes() {
        return Err(MemoryError::Damaged);
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(MemoryError::Damaged)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (name, bytes) = rest.split_at_checked(length).ok_or(MemoryError::Damaged)?;
    let model = String::from_utf8(name.to_vec()).map_err(|_| MemoryError::Damaged)?;
    Ok(Memory { model, bytes: bytes.to_vec() })
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn memory(model: &str, bytes: &[u8]) -> Memory {
        Memory { model: model.into(), bytes: bytes.to_vec() }
    }

    #[test]
    fn what_is_kept_is_found_again_under_its_models_own_name_and_is_private() {
        let state = tempfile::tempdir().unwrap();
        assert!(read(state.path()).memories.is_empty(), "nothing yet");
        let names = ["a:b", "a_b", "../../etc", "\u{fc}\n", ""];
        for name in names {
            write(state.path(), &memory(name, b"before")).unwrap();
            write(state.path(), &memory(name, name.as_bytes())).unwrap();
        }
        let Found { mut memories, aside } = read(state.path());
        assert!(aside.is_empty(), "{aside:?}");
        memories.sort_by(|one, other| one.model.cmp(&other.model));
        let mut expected = names.map(|name| memory(name, name.as_bytes()));
        expected.sort_by(|one, other| one.model.cmp(&other.model));
        assert_eq!(memories, expected, "names that look alike as files stay apart");
        let mode = fs::metadata(file_in(state.path(), "a:b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it holds addresses of clients");
        assert_eq!(fs::read_dir(state.path().join(FOLDER)).unwrap().count(), names.len(), "no draft is left");
    }

    #[test]
    fn whatever_is_cut_or_flipped_is_set_aside_and_so_is_another_version() {
        let whole = to_bytes(&memory("homes", b"what is remembered"));
        assert_eq!(from_bytes(&whole).unwrap(), memory("homes", b"what is remembered"));
        for place in 0..whole.len() {
            assert!(from_bytes(&whole[..place]).is_err(), "cut at {place}");
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            assert!(from_bytes(&flipped).is_err(), "flipped at {place}");
        }
        let state = tempfile::tempdir().unwrap();
        write(state.path(), &memory("homes", b"x")).unwrap();
        write(state.path(), &memory("fraud", b"x")).unwrap();
        fs::write(file_in(state.path(), "fraud"), format!("{MAGIC}0 abc\nx")).unwrap();
        OpenOptions::new().write(true).open(file_in(state.path(), "homes")).unwrap().set_len(70).unwrap();
        let found = read(state.path());
        assert!(found.memories.is_empty(), "{found:?}");
        let told: Vec<String> = found.aside.iter().map(|(_, error)| error.to_string()).collect();
        assert!(told[0].contains("drift memory 0") && told[1].contains("checksum"), "{told:?}");
        assert!(file_in(state.path(), "homes").with_extension(ASIDE).exists(), "for whoever asks why");
        assert!(read(state.path()).aside.is_empty(), "once");
    }

    #[test]
    fn too_much_is_not_kept_and_what_nobody_wrote_for_a_month_is_removed() {
        let state = tempfile::tempdir().unwrap();
        let refused = write(state.path(), &memory("homes", &vec![0; BYTES_MAX + 1]));
        assert!(matches!(refused, Err(MemoryError::TooLong(_))), "{refused:?}");
        write(state.path(), &memory("homes", b"x")).unwrap();
        let file = file_in(state.path(), "homes");
        let old = SystemTime::now() - FORGOTTEN_AFTER - Duration::from_secs(60);
        File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert!(read(state.path()).memories.is_empty() && !file.exists());
    }
}
