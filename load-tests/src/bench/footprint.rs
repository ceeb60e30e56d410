//! What a proxy costs while nobody asks: memory idle, for each open connection and for each client it knows, and CPU.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::accounting::{Cpu, resident_kib};
use super::contender::{ALWAYS, Contender, EVERYTHING, HELD, PASS};
use super::options::Options;
use super::question::{Asked, Random, SIZES, Size, USUAL, head};
use super::rounds::Upstream;
use super::sample::{Measure, Sample, Samples};
use super::wire::Wire;
use super::{Places, progress};

/// Connections that are opened and left alone.
pub const IDLE_CONNECTIONS: usize = 1000;
/// Models that are asked before the proxy is left alone.
pub const MODELS: usize = 20;
/// Requests that bring every allocator to its working size.
const WARM_UP: usize = 1000;
/// What is started settles, and what is freed is given back.
const SETTLE: Duration = Duration::from_secs(2);
/// Rows that fill checkgate's memory of rows, which is bounded for each model, before clients are counted.
const ROWS_TO_FILL: usize = 80_000;

/// Measures everybody who takes part, each started for it alone.
///
/// # Errors
/// Where a contender does not start, or answers with anything but 200.
pub fn run(places: &Places, options: &Options, samples: &mut Samples) -> anyhow::Result<()> {
    let upstream = Upstream::start(places)?;
    // The rows of checkgate differ in what a request costs; its largest footprint stands for all of them.
    let shown = options.only.iter().filter(|name| ![PASS, ALWAYS, HELD].contains(name));
    for name in shown {
        progress(&format!("memory and idle CPU, {name}"));
        at_rest(places, options, &upstream, name, samples).with_context(|| (*name).to_owned())?;
    }
    if options.includes(EVERYTHING) {
        progress(&format!("memory of {} clients", options.clients));
        clients(places, options, &upstream, samples)?;
    }
    Ok(())
}

fn at_rest(
    places: &Places,
    options: &Options,
    upstream: &Upstream,
    name: &'static str,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let contender = Contender::start(places, name, upstream.address)?;
    let process = contender.process().context("no process")?;
    let mut add =
        |measure, value| samples.add(Sample { measure, size: "", contender: name, round: 0, value });
    sleep(SETTLE);
    add(Measure::Rss, resident_kib(process)?);
    let questions: Vec<Vec<u8>> = (0..MODELS).map(question_of_model).collect();
    let mut wire = Wire::to(contender.address)?;
    for question in questions.iter().cycle().take(WARM_UP) {
        wire.ask(question)?;
    }
    sleep(SETTLE);
    let before = resident_kib(process)?;
    let connections = connect(&contender, &questions)?;
    sleep(SETTLE);
    let each = (resident_kib(process)? - before) / connections.len() as f64;
    add(Measure::RssOfConnection, each);
    add(Measure::IdleCpu, idle_share(process, options.idle)? * 100.0);
    drop(connections);
    Ok(())
}

/// Opens connections; on each one request is answered, so that all that belongs to a used connection is there.
fn connect(contender: &Contender, questions: &[Vec<u8>]) -> anyhow::Result<Vec<Wire>> {
    let open = |question: &Vec<u8>| {
        let mut wire = Wire::to(contender.address)?;
        wire.ask(question).map(|()| wire)
    };
    questions.iter().cycle().take(IDLE_CONNECTIONS).map(open).collect()
}

fn question_of_model(model: usize) -> Vec<u8> {
    let body = USUAL.body(&mut Random(model as u64));
    format!("{}{body}", head("POST", &format!("/v2/models/idle-{model}/infer"), 0, body.len())).into_bytes()
}

/// The share of a core that an idle process uses.
fn idle_share(process: u32, idle: Duration) -> anyhow::Result<f64> {
    let (before, started) = (Cpu::of(process)?, Instant::now());
    sleep(idle);
    Ok(Cpu::of(process)?.since(&before, |_| true).as_secs_f64() / started.elapsed().as_secs_f64())
}

/// The slope of memory over clients. The memory of rows, which all clients of a model share, is full before.
fn clients(
    places: &Places,
    options: &Options,
    upstream: &Upstream,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let contender = Contender::start(places, EVERYTHING, upstream.address)?;
    let process = contender.process().context("no process")?;
    let Some(batch) = SIZES.last() else { return Ok(()) };
    let mut wire = Wire::to(contender.address)?;
    for turn in 0..ROWS_TO_FILL / batch.rows {
        wire.ask(&question_of_client(batch, turn % 50, turn as u64))?;
    }
    let first = options.clients / 4;
    ask_as(&mut wire, 0..first)?;
    sleep(SETTLE);
    let before = resident_kib(process)?;
    ask_as(&mut wire, first..options.clients)?;
    sleep(SETTLE);
    let grown = resident_kib(process)? - before;
    let value = grown * 1024.0 / (options.clients - first) as f64;
    samples.add(Sample { measure: Measure::RssOfClient, size: "", contender: EVERYTHING, round: 0, value });
    Ok(())
}

/// One row, to the model whose memory is full.
const ROW_OF_CLIENT: Size = Size { name: "a row", rows: 1, columns: 109, fresh_every: 1 };

fn ask_as(wire: &mut Wire, clients: std::ops::Range<usize>) -> anyhow::Result<()> {
    for client in clients {
        wire.ask(&question_of_client(&ROW_OF_CLIENT, 100_000 + client, client as u64))?;
    }
    Ok(())
}

fn question_of_client(size: &Size, client: usize, seed: u64) -> Vec<u8> {
    let (method, path) = Asked::Question.target(SIZES.last().unwrap_or(USUAL));
    let body = size.body(&mut Random(seed));
    format!("{}{body}", head(method, &path, client, body.len())).into_bytes()
}
