//! The folder that the ledger stands in, behind one small trait: every operation on a file that the ledger makes goes
//! through here, so that a test can make each of them fail in its turn.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

/// Something that is held until it is dropped.
pub trait Held: fmt::Debug + Send + Sync {}

impl Held for File {}

/// A folder of files. Names are plain, without a path.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Claims the folder for this process, making it where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made or written, or another process holds it (`WouldBlock`).
    fn claim(&self) -> io::Result<Box<dyn Held>>;

    /// The names of its files, in no order.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing; `make` makes it where it does not exist.
    ///
    /// # Errors
    /// It does not exist, or cannot be opened.
    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// Puts a file in the place of another, or of none.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// It does not exist, or the folder cannot be written.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes what was made, renamed and removed survive a loss of power.
    ///
    /// # Errors
    /// The disk cannot.
    fn sync_names(&self) -> io::Result<()>;
}

/// One file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The disk cannot say.
    fn length(&self) -> io::Result<u64>;

    /// Reads from `offset` on; gives how many bytes, 0 at the end.
    ///
    /// # Errors
    /// The disk cannot read.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes at `offset`; gives how many bytes, which may be fewer than were given.
    ///
    /// # Errors
    /// The disk cannot write.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts or lengthens the file; what is new is zero.
    ///
    /// # Errors
    /// The disk cannot.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes what was written survive a loss of power.
    ///
    /// # Errors
    /// The disk cannot; what was written since the last success may be gone.
    fn sync(&self) -> io::Result<()>;
}

/// Reads exactly as many bytes as fit.
///
/// # Errors
/// The disk cannot read, or the file ends before.
pub fn read_exactly(file: &dyn DiskFile, offset: u64, mut into: &mut [u8]) -> io::Result<()> {
    let mut offset = offset;
    while !into.is_empty() {
        match file.read_at(offset, into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                into = into.get_mut(read..).unwrap_or_default();
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes`.
///
/// # Errors
/// The disk cannot, possibly after some of them.
pub fn write_all(file: &dyn DiskFile, offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    let mut offset = offset;
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// All bytes of a file.
///
/// # Errors
/// The disk cannot read.
pub fn read_whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    read_exactly(file, 0, &mut bytes)?;
    Ok(bytes)
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Disk for Folder {
    fn claim(&self) -> io::Result<Box<dyn Held>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.0.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("another process holds {}", self.0.display()),
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(make).truncate(false).mode(0o600);
        Ok(Arc::new(options.open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A folder for whoever looks at a ledger and leaves everything as it is: the command line, and sinks.
#[derive(Debug)]
pub struct ReadOnly(pub PathBuf);

impl ReadOnly {
    fn refused() -> io::Error {
        io::ErrorKind::ReadOnlyFilesystem.into()
    }
}

impl Disk for ReadOnly {
    fn claim(&self) -> io::Result<Box<dyn Held>> {
        Err(Self::refused())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Folder(self.0.clone()).list()
    }

    fn open(&self, name: &str, _make: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(self.0.join(name))?))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(Self::refused())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(Self::refused())
    }

    fn sync_names(&self) -> io::Result<()> {
        Err(Self::refused())
    }
}

#[cfg(test)]
pub mod faulty;
