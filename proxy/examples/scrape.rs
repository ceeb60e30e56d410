//! What a scrape and an export of the metrics take, for instances with ever more models.
//!
//! ```text
//! scrape [MODELS...]         10, 100 and 500 models without arguments, with references of 50 features each
//! scrape --held MS MODELS    exit code 1 where a scrape takes longer than MS milliseconds of the processor
//! scrape --times N MODELS    N scrapes and nothing else, for whoever counts instructions
//! ```

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use checkgate::workbench::scrape::Scrape;
use rustix::time::{ClockId, clock_gettime};

/// Times that each is taken; the median is shown.
const TIMES: usize = 15;
/// Features of each model's reference.
const FEATURES: u16 = 50;

fn main() -> anyhow::Result<ExitCode> {
    let mut given: Vec<String> = std::env::args().skip(1).collect();
    let option = given.first().filter(|word| word.starts_with("--")).cloned();
    let value = option.as_ref().and_then(|_| given.drain(..given.len().min(2)).nth(1));
    let models: Result<Vec<u16>, _> = given.iter().map(|models| models.parse()).collect();
    let models = models.context("MODELS are whole numbers")?;
    match (option.as_deref(), value) {
        (None, _) => {
            table(if models.is_empty() { &[10, 100, 500] } else { &models }).map(|()| ExitCode::SUCCESS)
        }
        (Some("--held"), Some(most)) => held(most.parse().context("MS is a number")?, &models),
        (Some("--times"), Some(times)) => repeat(times.parse().context("N is a number")?, &models),
        _ => anyhow::bail!("usage: scrape [--held MS | --times N] [MODELS...]"),
    }
}

fn scrape_of(models: u16) -> anyhow::Result<Scrape> {
    Scrape::of(models, FEATURES).context("these metrics cannot be declared")
}

fn table(models: &[u16]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "models  series  page KiB  scrape ms  gathering ms  export KiB  export ms")?;
    for &models in models {
        let scrape = scrape_of(models)?;
        let page = scrape.page();
        let (scraped, gathered) = (median(|| scrape.page().len()), median(|| scrape.gathered()));
        let exported = median(|| scrape.exported_bytes());
        let (series, kib, bytes) = (series(&page), page.len() >> 10, scrape.exported_bytes() >> 10);
        writeln!(
            out,
            "{models:>6}  {series:>6}  {kib:>8}  {scraped:>9.2}  {gathered:>12.2}  {bytes:>10}  {exported:>9.2}"
        )?;
    }
    Ok(())
}

fn held(most: f64, models: &[u16]) -> anyhow::Result<ExitCode> {
    let mut holds = true;
    for &models in models {
        let scrape = scrape_of(models)?;
        let taken = median(|| scrape.page().len());
        let verdict = if taken <= most { "holds" } else { "does not hold" };
        let series = series(&scrape.page());
        writeln!(
            std::io::stdout(),
            "{models} models, {series} series: {taken:.2} ms a scrape, {most} ms at most {verdict}"
        )?;
        holds &= taken <= most;
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repeat(times: usize, models: &[u16]) -> anyhow::Result<ExitCode> {
    for &models in models {
        let scrape = scrape_of(models)?;
        let bytes: usize = (0..times).map(|_| std::hint::black_box(scrape.page()).len()).sum();
        writeln!(std::io::stdout(), "{models} models: {times} scrapes of {bytes} bytes together")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn series(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#')).count()
}

/// Milliseconds of this thread's own time: others that use the machine do not count.
fn median(mut work: impl FnMut() -> usize) -> f64 {
    let mut taken: Vec<f64> = (0..TIMES)
        .map(|_| {
            let begun = own_time();
            std::hint::black_box(work());
            own_time() - begun
        })
        .collect();
    taken.sort_unstable_by(f64::total_cmp);
    taken.get(TIMES / 2).copied().unwrap_or_default()
}

fn own_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
