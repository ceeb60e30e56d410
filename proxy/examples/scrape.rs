//! What a scrape and an export of the metrics take, for instances with ever more models.
//!
//! ```text
//! scrape [MODELS...]      10, 100 and 500 models without arguments
//! ```

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context;
use checkgate::workbench::scrape::Scrape;

/// Times that each is taken; the median is shown.
const TIMES: usize = 15;

fn main() -> anyhow::Result<()> {
    let given: Result<Vec<u16>, _> = std::env::args().skip(1).map(|models| models.parse()).collect();
    let given = given.context("MODELS are whole numbers")?;
    let models = if given.is_empty() { vec![10, 100, 500] } else { given };
    let mut out = std::io::stdout();
    writeln!(out, "models  series  page KiB  scrape ms  export KiB  export ms")?;
    for models in models {
        let scrape = Scrape::of(models).context("these metrics cannot be declared")?;
        let page = scrape.page();
        let series = page.lines().filter(|line| !line.starts_with('#')).count();
        let (scraped, exported) = (median(|| scrape.page().len()), median(|| scrape.exported_bytes()));
        let (kib, bytes) = (page.len() >> 10, scrape.exported_bytes() >> 10);
        writeln!(
            out,
            "{models:>6}  {series:>6}  {kib:>8}  {:>9.2}  {bytes:>10}  {:>9.2}",
            milliseconds(scraped),
            milliseconds(exported),
        )?;
    }
    Ok(())
}

fn median(mut work: impl FnMut() -> usize) -> Duration {
    let mut taken: Vec<_> = (0..TIMES)
        .map(|_| {
            let begun = Instant::now();
            std::hint::black_box(work());
            begun.elapsed()
        })
        .collect();
    taken.sort_unstable();
    taken.get(TIMES / 2).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
