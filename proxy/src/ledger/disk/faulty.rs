//! A disk in memory whose operations fail one by one, and whose power can be cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Disk, DiskFile, Held};

/// What an operation that fails says and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It says that it failed and did nothing.
    Error,
    /// A write stops halfway and then fails, as on a full disk; whatever else fails.
    Short,
}

/// Which operations fail.
#[derive(Debug, Default)]
pub struct Plan {
    /// Operations so far.
    done: AtomicU64,
    /// From which one on, to which one, and how.
    fails: Mutex<Option<(u64, u64, Fault)>>,
}

impl Plan {
    /// Operations so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Has operation number `first`, counted from 0, and the `more` after it fail.
    pub fn fail(&self, first: u64, more: u64, fault: Fault) {
        *self.fails.lock() = Some((first, first.saturating_add(more), fault));
    }

    /// Has everything work again.
    pub fn mend(&self) {
        *self.fails.lock() = None;
    }

    fn next(&self) -> Option<Fault> {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        let fails = *self.fails.lock();
        fails.filter(|(first, last, _)| (*first..=*last).contains(&number)).map(|(_, _, fault)| fault)
    }

    fn whole(&self) -> io::Result<()> {
        match self.next() {
            None => Ok(()),
            Some(_) => Err(io::Error::other("this operation was to fail")),
        }
    }
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    /// As it was when it was last synced.
    synced: Vec<u8>,
}

type Node = Arc<Mutex<Content>>;

#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<String, Node>,
    synced: BTreeMap<String, Node>,
}

/// The disk.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    names: Arc<Mutex<Names>>,
    claimed: Arc<Mutex<()>>,
    /// What fails.
    pub plan: Arc<Plan>,
}

#[derive(Debug)]
struct Claim;

impl Held for Claim {}

impl Memory {
    /// What is left after the power was cut: what was synced, and nothing else.
    pub fn after_power_cut(&self) -> Self {
        let disk = Self::default();
        let names = self.names.lock();
        for (name, node) in &names.synced {
            disk.put(name, &node.lock().synced);
        }
        disk
    }

    /// A copy that shares nothing.
    pub fn copy(&self) -> Self {
        let disk = Self::default();
        for (name, node) in &self.names.lock().now {
            disk.put(name, &node.lock().now);
        }
        disk
    }

    /// The content of a file.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.names.lock().now.get(name).map(|node| node.lock().now.clone())
    }

    /// Makes a file, synced.
    pub fn put(&self, name: &str, content: &[u8]) {
        let node = Arc::new(Mutex::new(Content { now: content.to_vec(), synced: content.to_vec() }));
        let mut names = self.names.lock();
        names.now.insert(name.to_owned(), Arc::clone(&node));
        names.synced.insert(name.to_owned(), node);
    }
}

impl Disk for Memory {
    fn claim(&self) -> io::Result<Box<dyn Held>> {
        self.plan.whole()?;
        drop(self.claimed.lock());
        Ok(Box::new(Claim))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.plan.whole()?;
        Ok(self.names.lock().now.keys().cloned().collect())
    }

    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.plan.whole()?;
        let mut names = self.names.lock();
        let node = match names.now.get(name) {
            Some(node) => Arc::clone(node),
            None if make => Arc::clone(names.now.entry(name.to_owned()).or_default()),
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(MemoryFile { node, plan: Arc::clone(&self.plan) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.whole()?;
        let mut names = self.names.lock();
        let node = names.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.now.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plan.whole()?;
        self.names.lock().now.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.plan.whole()?;
        let mut names = self.names.lock();
        names.synced = names.now.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    node: Node,
    plan: Arc<Plan>,
}

impl DiskFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        self.plan.whole()?;
        Ok(self.node.lock().now.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.plan.whole()?;
        let content = self.node.lock();
        let rest = content.now.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let bytes = match self.plan.next() {
            None => bytes,
            Some(Fault::Short) if bytes.len() > 1 => &bytes[..bytes.len() / 2],
            Some(_) => return Err(io::Error::other("this write was to fail")),
        };
        let mut content = self.node.lock();
        let end = offset as usize + bytes.len();
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        content.now[offset as usize..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.plan.whole()?;
        self.node.lock().now.resize(length as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.plan.whole()?;
        let mut content = self.node.lock();
        content.synced = content.now.clone();
        Ok(())
    }
}
