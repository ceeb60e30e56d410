//! The machine and the versions that a result holds for.

use std::fs;

use anyhow::{Context, ensure};

use super::Places;
use super::contender::ENVOY;
use super::process::output_of;

/// What stands above the tables.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Processor, cores, memory, kernel: one line each.
    pub hardware: Vec<String>,
    /// Program and version: one line each.
    pub versions: Vec<String>,
}

impl Machine {
    /// Asks the machine and every program.
    ///
    /// # Errors
    /// Where a program is missing.
    pub fn describe(places: &Places) -> anyhow::Result<Self> {
        Ok(Self { hardware: hardware()?, versions: versions(places)? })
    }
}

fn hardware() -> anyhow::Result<Vec<String>> {
    let cpu = output_of(&["lscpu"])?;
    let of = |name: &str| {
        let line = cpu.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("unknown", str::trim).to_owned()
    };
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(vec![
        format!(
            "{}, family {} model {}, {} cores",
            of("Model name"),
            of("CPU family"),
            of("Model"),
            of("CPU(s)")
        ),
        format!("hypervisor {}, L2 {}, L3 {}", of("Hypervisor vendor"), of("L2 cache"), of("L3 cache")),
        format!("{} GiB of memory, {}", memory.unwrap_or(0) >> 20, output_of(&["uname", "-sr"])?.trim()),
    ])
}

fn versions(places: &Places) -> anyhow::Result<Vec<String>> {
    let checkgate = places.root.join("target/release/checkgate");
    let envoy = places.root.join(ENVOY);
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let commit =
        output_of(&["git", "-C", &places.root.to_string_lossy(), "describe", "--always", "--dirty"])?;
    let peers = fs::read_to_string(places.bench.join("peers/Cargo.lock"))?;
    let first = |words: &[&str]| -> anyhow::Result<String> {
        Ok(output_of(words)?.lines().next().unwrap_or("says nothing").trim().to_owned())
    };
    let envoy = output_of(&[&path(envoy), "--version"])?;
    let version =
        |word: &&str| word.split('.').count() == 3 && word.starts_with(|c: char| c.is_ascii_digit());
    let envoy = envoy.rsplit('/').find(version).context("envoy tells no version")?;
    Ok(vec![
        format!("{}, commit {}", first(&[&path(checkgate), "--version"])?, commit.trim()),
        first(&["nginx", "-v"])?,
        first(&["haproxy", "-v"])?.split(" - ").next().unwrap_or_default().to_owned(),
        format!("Envoy {envoy}"),
        format!("pingora-proxy {}", locked(&peers, "pingora-proxy")?),
        format!("hyper {}, hyper-util {}", locked(&peers, "hyper")?, locked(&peers, "hyper-util")?),
        first(&["wrk", "-v"])?.split(" Copyright").next().unwrap_or_default().to_owned(),
        first(&["rustc", "--version"])?,
    ])
}

/// The version of a crate in a lock file.
fn locked(lock: &str, name: &str) -> anyhow::Result<String> {
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")));
    let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
    Ok(version.with_context(|| format!("{name} is not in the lock file of the peers"))?.to_owned())
}

/// Keeps this process, and what it starts, on one core.
///
/// # Errors
/// Where there is no such core.
pub fn pin_to(core: u32) -> anyhow::Result<()> {
    let own = std::process::id().to_string();
    let said = output_of(&["taskset", "-cp", &core.to_string(), &own])?;
    ensure!(said.contains("new affinity list"), "cannot use core {core}; the benchmark needs two: {said}");
    // Timers of this process fire when they are due; the kernel's usual slack is 50 us (prctl(2), PR_SET_TIMERSLACK).
    fs::write("/proc/self/timerslack_ns", "1").context("cannot ask for exact timers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_version_is_found_by_whole_name() {
        let lock = "[[package]]\nname = \"hyper-util\"\nversion = \"0.1\"\n\n[[package]]\nname = \"hyper\"\nversion = \"1.2\"\n";
        assert_eq!(locked(lock, "hyper").unwrap(), "1.2");
        assert!(locked(lock, "hype").is_err());
    }
}
