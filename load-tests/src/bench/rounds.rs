//! The rounds: everybody is asked in turn, in an order that rotates, so that whatever else the machine does meets all
//! of them alike.

use std::fs;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::accounting::{Cpu, is_lane};
use super::contender::{ALWAYS, Contender, DIRECT, EVERYTHING};
use super::options::Options;
use super::pace::{self, percentile};
use super::process::Process;
use super::question::{Requests, Size, USUAL};
use super::sample::{Measure, Sample, Samples};
use super::saturate::saturate;
use super::wire::{Wire, metric};
use super::{LOAD_CORE, Places, progress};
use crate::checkgate::free_address;

/// The constant rate, in requests a second.
pub const RATE: f64 = 1000.0;
/// A lane that used less than this in [`LOOK_EVERY`] has nothing left to do.
const LANE_IDLE: Duration = Duration::from_millis(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a lane may work off what waits.
const LANE_PATIENCE: Duration = Duration::from_secs(30);

/// Measures CPU and requests a second for every size, then latencies at constant rates.
///
/// # Errors
/// Where a contender is missing, does not start, or answers with anything but 200.
pub fn run(places: &Places, options: &Options, samples: &mut Samples) -> anyhow::Result<()> {
    let upstream = Upstream::start(places)?;
    let running = options.only.iter().map(|name| Contender::start(places, name, upstream.address));
    let contenders = running.collect::<anyhow::Result<Vec<_>>>()?;
    for size in &options.sizes {
        try_each(&contenders, size)?;
        in_turn(&contenders, options.rounds, |contender, round| {
            progress(&format!(
                "{}, round {} of {}, {}",
                size.name,
                round + 1,
                options.rounds,
                contender.name
            ));
            saturated(places, options, contender, size, round, samples)
        })?;
    }
    let direct = Contender::start(places, DIRECT, upstream.address)?;
    let all: Vec<_> = std::iter::once(&direct).chain(&contenders).collect();
    in_turn(&all, options.rounds, |contender, round| {
        progress(&format!("{RATE}/s, round {} of {}, {}", round + 1, options.rounds, contender.name));
        paced(options, contender, round, samples)
    })?;
    half_of_capacity(options, &contenders, samples)
}

/// The model server behind everybody.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
}

impl Upstream {
    /// Starts it on the core of the load.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(places: &Places) -> anyhow::Result<Self> {
        let address = free_address()?;
        let text = fs::read_to_string(places.bench.join("contenders/upstream.conf"))?;
        let text = text.replace("LISTEN", &address.to_string());
        let text = text.replace("SCRATCH", &places.scratch.path().to_string_lossy());
        let name = format!("upstream-{}.conf", address.port());
        let config = places.write(&name, &text)?.to_string_lossy().into_owned();
        let said = places.scratch.path().join("upstream.said");
        let words = ["nginx".to_owned(), "-c".to_owned(), config];
        let process = Process::start(LOAD_CORE, &words, said, address).context("the upstream")?;
        Ok(Self { address, _process: process })
    }
}

/// Asks everybody `rounds` times, each round beginning with another one.
fn in_turn<C>(
    contenders: &[C],
    rounds: usize,
    mut measure: impl FnMut(&C, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for round in 0..rounds {
        let first = round % contenders.len().max(1);
        for contender in contenders.iter().cycle().skip(first).take(contenders.len()) {
            measure(contender, round)?;
        }
    }
    Ok(())
}

/// One request to everybody: a mistake shows before an hour is spent.
fn try_each(contenders: &[Contender], size: &Size) -> anyhow::Result<()> {
    for contender in contenders {
        let mut requests = Requests::new(size, &contender.asked, 1);
        let asked = Wire::to(contender.address).and_then(|mut wire| wire.ask(requests.fresh()));
        asked.with_context(|| contender.name)?;
    }
    Ok(())
}

fn saturated(
    places: &Places,
    options: &Options,
    contender: &Contender,
    size: &'static Size,
    round: usize,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let Contender { name, address, admin, asked, .. } = contender;
    let process = contender.process().context("a contender without a process")?;
    saturate(places, *address, size, asked, options.warm_up)?;
    let (before, rows_before) = (settled(process)?, rows(*admin)?);
    let started = Instant::now();
    let result = saturate(places, *address, size, asked, options.load).with_context(|| (*name).to_owned())?;
    let used = Cpu::of(process)?.since(&before, |_| true);
    let busy = used.as_secs_f64() / started.elapsed().as_secs_f64();
    let after = settled(process)?;
    let inspected = (rows(*admin)? - rows_before) / size.rows as f64;
    let microseconds = |counts: &dyn Fn(&str) -> bool| after.since(&before, counts).as_secs_f64() * 1e6;
    let without_lanes = microseconds(&|thread| !is_lane(thread)) / result.requests;
    let lanes = if inspected > 0.0 { microseconds(&is_lane) / inspected } else { 0.0 };
    let mut add =
        |measure, value| samples.add(Sample { measure, size: size.name, contender: name, round, value });
    add(Measure::RequestsPerSecond, result.requests / result.took.as_secs_f64());
    add(Measure::CpuWithoutLanes, without_lanes);
    add(Measure::Utilisation, busy);
    add(Measure::Cpu, without_lanes + lanes);
    if inspected > 0.0 {
        add(Measure::CpuOfLanes, lanes);
        add(Measure::Inspected, inspected / result.requests);
    }
    Ok(())
}

/// The CPU time of a process once its lanes have worked off what waits: inspection that comes after the answer
/// belongs to its cost.
fn settled(process: u32) -> anyhow::Result<Cpu> {
    let deadline = Instant::now() + LANE_PATIENCE;
    let mut before = Cpu::of(process)?;
    loop {
        sleep(LOOK_EVERY);
        let now = Cpu::of(process)?;
        if now.since(&before, is_lane) < LANE_IDLE || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// Rows that checkgate's lanes have inspected so far.
fn rows(admin: Option<SocketAddr>) -> anyhow::Result<f64> {
    admin.map_or(Ok(0.0), |admin| metric(admin, "checkgate_rows_total"))
}

fn paced(
    options: &Options,
    contender: &Contender,
    round: usize,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let mut requests = Requests::new(USUAL, &contender.asked, round as u64);
    pace::run(contender.address, &mut requests, RATE, options.warm_up).context(contender.name)?;
    let before = contender.process().map(settled).transpose()?;
    let seen = pace::run(contender.address, &mut requests, RATE, options.load).context(contender.name)?;
    let after = contender.process().map(settled).transpose()?;
    let size = USUAL.name;
    let mut add =
        |measure, value| samples.add(Sample { measure, size, contender: contender.name, round, value });
    if let (Some(before), Some(after)) = (before, after) {
        let used = after.since(&before, |_| true).as_secs_f64() * 1e6;
        add(Measure::PacedCpu, used / seen.latencies.len() as f64);
    }
    add(Measure::P50, percentile(&seen.latencies, 0.5));
    add(Measure::P99, percentile(&seen.latencies, 0.99));
    add(Measure::P999, percentile(&seen.latencies, 0.999));
    add(Measure::Lateness, percentile(&seen.lateness, 0.99));
    Ok(())
}

/// Detectors off and on at the same rate: half of what goes through with them on.
fn half_of_capacity(
    options: &Options,
    contenders: &[Contender],
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let capacity = samples.median(Measure::RequestsPerSecond, USUAL.name, EVERYTHING);
    let Some(rate) = capacity.map(|capacity| capacity / 2.0) else { return Ok(()) };
    let both = |contender: &&Contender| [ALWAYS, EVERYTHING].contains(&contender.name);
    let both: Vec<&Contender> = contenders.iter().filter(both).collect();
    in_turn(&both, options.rounds, |contender, round| {
        progress(&format!("{rate:.0}/s, round {} of {}, {}", round + 1, options.rounds, contender.name));
        let mut requests = Requests::new(USUAL, &contender.asked, round as u64);
        pace::run(contender.address, &mut requests, rate, options.warm_up).context(contender.name)?;
        let seen = pace::run(contender.address, &mut requests, rate, options.load)?;
        let name = contender.name;
        let mut add =
            |measure, value| samples.add(Sample { measure, size: USUAL.name, contender: name, round, value });
        add(Measure::HalfP50, percentile(&seen.latencies, 0.5));
        add(Measure::HalfP99, percentile(&seen.latencies, 0.99));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_first_once() {
        let mut order = Vec::new();
        in_turn(&["a", "b", "c"], 3, |name, round| {
            order.push((round, *name));
            Ok(())
        })
        .unwrap();
        let names: String = order.iter().map(|(_, name)| *name).collect();
        assert_eq!(names, "abcbcacab");
    }
}
