//! The kill switch: enforcement off, at once and across restarts.
//!
//! It is a file in the state folder, so that it works when nothing else does: `touch` is enough. Whoever serves
//! requests reads one atomic; the file is polled by the gate's watcher.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Whether enforcement is switched off.
#[derive(Debug)]
pub struct KillSwitch {
    /// What requests read.
    on: AtomicBool,
    /// Exists while the switch is on.
    file: PathBuf,
    /// Whether the file existed when it was last looked at. Only a change of the file moves the switch: a switch
    /// that was set while the disk was read-only must not spring back at the next poll.
    seen: Mutex<bool>,
}

impl KillSwitch {
    /// Reads the switch; off where the file cannot be looked for.
    #[must_use]
    pub fn open(file: PathBuf) -> Self {
        let on = exists(&file).unwrap_or(false);
        Self { on: AtomicBool::new(on), file, seen: Mutex::new(on) }
    }

    /// Whether nothing may be enforced.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Switches, whether or not the file can follow.
    ///
    /// # Errors
    /// The switch holds for this process but will not survive a restart.
    pub fn set(&self, on: bool) -> io::Result<()> {
        let mut seen = self.seen.lock();
        self.on.store(on, Ordering::Relaxed);
        write(&self.file, on)?;
        *seen = on;
        Ok(())
    }

    /// Follows the file. A state folder that cannot be read leaves the last known state.
    ///
    /// Returns the new state where it changed.
    pub fn poll(&self) -> Option<bool> {
        let mut seen = self.seen.lock();
        let exists = exists(&self.file)?;
        if exists == *seen {
            return None;
        }
        *seen = exists;
        (self.on.swap(exists, Ordering::Relaxed) != exists).then_some(exists)
    }
}

/// Makes or removes the file: all that the command line does, and enough for a running instance to notice.
///
/// # Errors
/// The state folder cannot be written.
pub fn write(file: &Path, on: bool) -> io::Result<()> {
    if on {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file)?;
    } else {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // The name is what must survive a power cut, and names live in the directory.
    file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Whether the file exists; `None` where that cannot be told, a directory that has vanished included.
fn exists(file: &Path) -> Option<bool> {
    match fs::symlink_metadata(file) {
        Ok(_) => Some(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.parent()?.is_dir().then_some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch() -> (tempfile::TempDir, KillSwitch) {
        let directory = tempfile::tempdir().unwrap();
        let switch = KillSwitch::open(directory.path().join("kill-switch"));
        (directory, switch)
    }

    #[test]
    fn it_survives_a_restart() {
        let (directory, switch) = switch();
        assert!(!switch.is_on());
        switch.set(true).unwrap();
        assert!(KillSwitch::open(directory.path().join("kill-switch")).is_on());
        switch.set(false).unwrap();
        assert!(!KillSwitch::open(directory.path().join("kill-switch")).is_on());
    }

    #[test]
    fn it_follows_a_file_that_somebody_else_makes_and_removes() {
        let (directory, switch) = switch();
        let file = directory.path().join("kill-switch");
        assert_eq!(switch.poll(), None);
        write(&file, true).unwrap();
        assert_eq!(switch.poll(), Some(true));
        assert!(switch.is_on());
        assert_eq!(switch.poll(), None, "only a change is told");
        write(&file, false).unwrap();
        assert_eq!(switch.poll(), Some(false));
        assert!(!switch.is_on());
    }

    #[test]
    fn a_directory_that_has_vanished_leaves_the_last_known_state() {
        let (directory, switch) = switch();
        switch.set(true).unwrap();
        drop(directory);
        assert_eq!(switch.poll(), None);
        assert!(switch.is_on(), "enforcement came back by itself");
    }

    #[test]
    fn a_switch_that_cannot_be_written_holds_until_the_file_changes() {
        let directory = tempfile::tempdir().unwrap();
        let in_the_way = directory.path().join("state");
        fs::write(&in_the_way, "").unwrap();
        let switch = KillSwitch::open(in_the_way.join("kill-switch"));
        switch.set(true).expect_err("a file cannot hold a file");
        assert!(switch.is_on(), "the switch must act although it is not durable");
        fs::remove_file(&in_the_way).unwrap();
        fs::create_dir(&in_the_way).unwrap();
        assert_eq!(switch.poll(), None, "the file never existed, so nothing changed");
        assert!(switch.is_on());
    }

    #[test]
    fn switching_off_what_is_off_is_no_error() {
        let (_directory, switch) = switch();
        switch.set(false).unwrap();
        assert!(!switch.is_on());
    }
}
