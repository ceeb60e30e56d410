//! What the kernel says of a running proxy.

use std::fs;
use std::net::SocketAddr;

use anyhow::Context;

/// The process whose command line names `listener`.
///
/// # Errors
/// Where there is none.
pub fn listening_on(listener: SocketAddr) -> anyhow::Result<u32> {
    let wanted = listener.to_string();
    let names_it = |process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes())
    };
    let entries = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.into_iter().find(names_it).with_context(|| format!("no process names {wanted}"))
}

/// Memory that a process holds, in KiB.
///
/// # Errors
/// Where it has ended.
pub fn resident_kib(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
