//! As many requests as go through: wrk, with rows of its own in every request.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::process::output_of;
use super::question::{Asked, Random, Size};
use super::{CLIENTS, CONNECTIONS, Places};

/// What wrk counted.
#[derive(Clone, Copy, Debug)]
pub struct Saturated {
    /// Requests answered.
    pub requests: f64,
    /// Time that it took.
    pub took: Duration,
}

/// Asks `address` as fast as it answers, for some time.
///
/// # Errors
/// Where an answer is not a 2xx, or a connection breaks.
pub fn saturate(
    places: &Places,
    address: SocketAddr,
    size: &Size,
    asked: &Asked,
    load: Duration,
) -> anyhow::Result<Saturated> {
    let body = places.write("body.json", &size.body(&mut Random(1)))?;
    let script = places.bench.join("fresh.lua");
    let (method, path) = asked.target(size);
    // wrk knows whole seconds only.
    let seconds = load.as_secs().max(1);
    let said = output_of(&[
        "wrk",
        "--threads=1",
        &format!("--connections={CONNECTIONS}"),
        &format!("--duration={seconds}s"),
        "--timeout=20s",
        &format!("--script={}", script.display()),
        &format!("http://{address}/"),
        &body.to_string_lossy(),
        method,
        &path,
        &size.fresh_every.to_string(),
        &CLIENTS.to_string(),
    ])?;
    read(&said).with_context(|| said.clone())
}

/// The line that `fresh.lua` prints at the end.
fn read(said: &str) -> anyhow::Result<Saturated> {
    let line = said.lines().find_map(|line| line.strip_prefix("bench ")).context("wrk printed no result")?;
    let numbers: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [requests, microseconds, failed] = numbers.as_slice() else { anyhow::bail!("not a result: {line}") };
    ensure!(*failed == 0.0, "{failed} requests were not answered with success");
    ensure!(*requests > 0.0, "no request was answered");
    Ok(Saturated { requests: *requests, took: Duration::from_secs_f64(microseconds / 1e6) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_with_failures_is_none() {
        let result = read("Running\nbench 100 2000000 0\n").unwrap();
        assert_eq!((result.requests, result.took), (100.0, Duration::from_secs(2)));
        assert!(read("bench 100 2000000 1").is_err());
        assert!(read("bench 0 2000000 0").is_err());
        assert!(read("unable to connect").is_err());
    }
}
