//! A disk in memory that fails as disks do. What was not synced may be lost when the power goes, wholly, in part or in
//! the middle of a line; names that were not synced may be the old ones; operations fail; there may be no room.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::dice::Dice;
use crate::ledger::disk::{Disk, DiskFile, Held};

/// What the disk keeps or loses as a whole. Small, so that most lines are torn somewhere.
const SECTOR: usize = 64;
/// Room on a disk that is nearly full, beyond what it holds.
const LITTLE: u64 = 600;

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// Every write and sync fails.
    Fails,
    /// Any operation may fail.
    Flaky,
    /// There is hardly any room left.
    Full,
}

/// What the disk says and does not do: bugs on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lies {
    /// Syncs of files do nothing, so that what is acknowledged is not there.
    pub syncs: bool,
    /// Syncs of names do nothing.
    pub names: bool,
    /// A file that this process did not write is not synced, whatever an earlier one left in it.
    pub inherited: bool,
    /// What was not synced reaches the disk in any order, and what a sync failed to write is taken for written.
    pub harsh: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug)]
enum Renaming {
    Made(String, usize),
    Renamed(String, String),
    Removed(String),
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// As programs see it.
    now: Vec<u8>,
    /// As the power would leave it.
    synced: Vec<u8>,
    /// From the one to the other.
    changes: Vec<Change>,
    /// Whether the process that has the disk wrote to it.
    is_own: bool,
}

struct State {
    dice: Dice,
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    renamings: Vec<Renaming>,
    trouble: Trouble,
    room: u64,
    lies: Lies,
    /// The process whose disk this was has ended.
    gone: bool,
    claims: u32,
}

/// The disk, as one process has it.
#[derive(Clone)]
pub struct VirtualDisk(Arc<Mutex<State>>);

impl fmt::Debug for VirtualDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualDisk").finish_non_exhaustive()
    }
}

impl VirtualDisk {
    pub fn new(seed: u64, lies: Lies) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice: Dice::new(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            renamings: Vec::new(),
            trouble: Trouble::None,
            room: 0,
            lies,
            gone: false,
            claims: 0,
        })))
    }

    /// What is wrong with it from now on.
    pub fn trouble(&self, trouble: Trouble) {
        let mut state = self.0.lock();
        state.trouble = trouble;
        let held: usize = state.files.iter().map(|file| file.now.len()).sum();
        state.room = held as u64 + LITTLE;
    }

    /// The process is killed: what it wrote is there, and it writes no more. Gives the disk to the next one.
    pub fn killed(&self) -> Self {
        self.passed_on(|_| {})
    }

    /// The power is cut: what was not synced is there or not. Gives the disk to the next one.
    pub fn powered_off(&self) -> Self {
        self.passed_on(State::lose)
    }

    fn passed_on(&self, what: impl FnOnce(&mut State)) -> Self {
        let mut state = self.0.lock();
        what(&mut state);
        state.gone = true;
        let mut files = state.files.clone();
        files.iter_mut().for_each(|file| file.is_own = false);
        let seed = state.dice.below(1 << 50) as u64;
        Self(Arc::new(Mutex::new(State {
            dice: Dice::new(seed),
            files,
            names: state.names.clone(),
            synced_names: state.synced_names.clone(),
            renamings: state.renamings.clone(),
            trouble: Trouble::None,
            room: 0,
            lies: state.lies,
            gone: false,
            claims: 0,
        })))
    }

    fn whole<T>(&self, writes: bool, what: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock();
        state.may_fail(writes)?;
        what(&mut state)
    }
}

impl State {
    fn may_fail(&mut self, writes: bool) -> io::Result<()> {
        let fails = match self.trouble {
            Trouble::None | Trouble::Full => false,
            Trouble::Fails => writes,
            Trouble::Flaky => self.dice.chance(0.15),
        };
        if self.gone || fails { Err(io::Error::other("the disk fails")) } else { Ok(()) }
    }

    fn lose(&mut self) {
        let kept = self.dice.below(self.renamings.len() + 1);
        let mut names = std::mem::take(&mut self.synced_names);
        for renaming in self.renamings.drain(..).take(kept) {
            renaming.apply(&mut names);
        }
        (self.names, self.synced_names) = (names.clone(), names);
        for file in &mut self.files {
            file.lose(!self.lies.harsh, &mut self.dice);
        }
    }
}

impl Renaming {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Made(name, file) => _ = names.insert(name, file),
            Self::Removed(name) => _ = names.remove(&name),
            Self::Renamed(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
        }
    }
}

impl Content {
    /// What was taken for written after a sync that failed stays unwritten.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Length(length) => self.synced.resize(length, 0),
                Change::Write { offset, bytes } => put(&mut self.synced, offset, &bytes),
            }
        }
    }

    /// What was written first is there, up to some sector. Where the disk keeps no order, any sectors are, and the
    /// length of any moment.
    fn lose(&mut self, in_order: bool, dice: &mut Dice) {
        let changes = std::mem::take(&mut self.changes);
        let whole = if in_order { dice.below(changes.len() + 1) } else { 0 };
        let share: f64 = dice.pick(&[0.0, 0.3, 0.8, 1.0]);
        for (number, change) in changes.into_iter().enumerate() {
            if in_order && number > whole {
                break;
            }
            let is_whole = in_order && number < whole;
            match change {
                Change::Length(length) if is_whole || (!in_order && dice.chance(share)) => {
                    self.synced.resize(length, 0);
                }
                Change::Length(_) => {}
                Change::Write { offset, bytes } => {
                    let sectors = dice.below(bytes.len().div_ceil(SECTOR) + 1);
                    for (place, sector) in bytes.chunks(SECTOR).enumerate() {
                        let kept = if in_order { is_whole || place < sectors } else { dice.chance(share) };
                        if kept {
                            put(&mut self.synced, offset + place * SECTOR, sector);
                        }
                    }
                }
            }
        }
        self.now = self.synced.clone();
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

#[derive(Debug)]
struct Claim(VirtualDisk);

impl Held for Claim {}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.0.lock().claims -= 1;
    }
}

impl Disk for VirtualDisk {
    fn claim(&self) -> io::Result<Box<dyn Held>> {
        self.whole(true, |state| {
            if state.claims > 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state.claims += 1;
            Ok(())
        })?;
        Ok(Box::new(Claim(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.whole(false, |state| Ok(state.names.keys().cloned().collect()))
    }

    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.whole(make, |state| match state.names.get(name) {
            Some(file) => Ok(*file),
            None if make => {
                let file = state.files.len();
                state.files.push(Content::default());
                state.names.insert(name.to_owned(), file);
                state.renamings.push(Renaming::Made(name.to_owned(), file));
                Ok(file)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        })?;
        Ok(Arc::new(VirtualFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.whole(true, |state| {
            let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), file);
            state.renamings.push(Renaming::Renamed(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.whole(true, |state| {
            state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            state.renamings.push(Renaming::Removed(name.to_owned()));
            Ok(())
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.whole(true, |state| {
            if !state.lies.names {
                state.renamings.clear();
                state.synced_names = state.names.clone();
            }
            Ok(())
        })
    }
}

#[derive(Debug)]
struct VirtualFile {
    disk: VirtualDisk,
    file: usize,
}

impl DiskFile for VirtualFile {
    fn length(&self) -> io::Result<u64> {
        self.disk.whole(false, |state| Ok(state.files[self.file].now.len() as u64))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.whole(false, |state| {
            let rest = state.files[self.file].now.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.disk.whole(true, |state| {
            let held: usize = state.files.iter().map(|file| file.now.len()).sum();
            let grows = (offset as usize + bytes.len()).saturating_sub(state.files[self.file].now.len());
            let over = (held + grows).saturating_sub(state.room as usize);
            let fits = match state.trouble {
                Trouble::Full => bytes.len().saturating_sub(over),
                Trouble::Flaky => state.dice.below(bytes.len()) + 1,
                _ => bytes.len(),
            };
            if fits == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = &mut state.files[self.file];
            let bytes = &bytes[..fits.min(bytes.len())];
            put(&mut file.now, offset as usize, bytes);
            file.changes.push(Change::Write { offset: offset as usize, bytes: bytes.to_vec() });
            file.is_own = true;
            Ok(bytes.len())
        })
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.whole(true, |state| {
            let file = &mut state.files[self.file];
            file.now.resize(length as usize, 0);
            file.changes.push(Change::Length(length as usize));
            file.is_own = true;
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.disk.whole(true, |state| {
            let lies = state.lies;
            let file = &mut state.files[self.file];
            if !lies.syncs && (file.is_own || !lies.inherited) {
                file.sync();
            }
            Ok(())
        });
        if synced.is_err() {
            let mut state = self.disk.0.lock();
            // So Linux does on some file systems.
            if state.lies.harsh && state.dice.chance(0.5) {
                state.files[self.file].changes.clear();
            }
        }
        synced
    }
}
