//! What the kernel says that a process costs: CPU time thread by thread, and resident memory.
//!
//! `schedstat` counts the nanoseconds that a thread ran; it is exact, where the ticks of `stat` are samples
//! (Documentation/scheduler/sched-stats.rst in the sources of Linux).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// CPU time of every thread of a process and its descendants.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    threads: BTreeMap<u32, Thread>,
}

#[derive(Clone, Debug)]
struct Thread {
    name: String,
    ran: Duration,
}

impl Cpu {
    /// The CPU time that the tree of `process` has used so far.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn of(process: u32) -> anyhow::Result<Self> {
        let mut cpu = Self::default();
        for member in tree(process)? {
            cpu.add_threads(member)?;
        }
        Ok(cpu)
    }

    fn add_threads(&mut self, process: u32) -> anyhow::Result<()> {
        for task in numbers_in(&format!("/proc/{process}/task"))? {
            let folder = format!("/proc/{process}/task/{task}");
            // A thread may end between the list and the look.
            let Ok(schedstat) = fs::read_to_string(format!("{folder}/schedstat")) else { continue };
            let ran = schedstat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
            let name = fs::read_to_string(format!("{folder}/comm")).unwrap_or_default();
            let ran = Duration::from_nanos(ran.context("schedstat without a number")?);
            self.threads.insert(task, Thread { name: name.trim().to_owned(), ran });
        }
        Ok(())
    }

    /// What was used since `earlier`, by threads whose name `counts`.
    #[must_use]
    pub fn since(&self, earlier: &Self, counts: impl Fn(&str) -> bool) -> Duration {
        let used = |(task, thread): (&u32, &Thread)| {
            let before = earlier.threads.get(task).map_or(Duration::ZERO, |thread| thread.ran);
            thread.ran.saturating_sub(before)
        };
        self.threads.iter().filter(|(_, thread)| counts(&thread.name)).map(used).sum()
    }
}

/// Whether a thread of checkgate looks into captures.
#[must_use]
pub fn is_lane(thread: &str) -> bool {
    thread.starts_with("lane-")
}

/// Resident memory of a process and its descendants, in KiB.
///
/// # Errors
/// Where the process is gone.
pub fn resident_kib(process: u32) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for member in tree(process)? {
        let status = fs::read_to_string(format!("/proc/{member}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        sum += kib.context("no VmRSS")?;
    }
    Ok(sum)
}

/// A process and all its descendants.
fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut parents = BTreeMap::new();
    for process in numbers_in("/proc")? {
        if let Some(parent) = parent_of(process) {
            parents.insert(process, parent);
        }
    }
    let mut members = vec![root];
    let mut next = 0;
    while let Some(parent) = members.get(next).copied() {
        members.extend(parents.iter().filter(|(_, its)| **its == parent).map(|(process, _)| *process));
        next += 1;
    }
    Ok(members)
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything; state and parent follow the last bracket.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn numbers_in(folder: &str) -> anyhow::Result<Vec<u32>> {
    let entries = fs::read_dir(Path::new(folder)).with_context(|| folder.to_owned())?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_a_thread_shows_under_its_name() {
        let own = std::process::id();
        let before = Cpu::of(own).unwrap();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let work = move || {
            let mut sum = 0_u64;
            for number in 0..20_000_000_u64 {
                sum = std::hint::black_box(sum ^ number);
            }
            // The thread stays until it was looked at.
            wait.recv().ok();
            sum
        };
        let thread = std::thread::Builder::new().name("lane-9".into()).spawn(work).unwrap();
        let worked = || Cpu::of(own).unwrap().since(&before, is_lane) > Duration::from_micros(100);
        while !worked() {
            std::thread::yield_now();
        }
        drop(done);
        thread.join().unwrap();
        assert!(resident_kib(own).unwrap() > 1000.0, "a test process is larger than a megabyte");
    }
}
