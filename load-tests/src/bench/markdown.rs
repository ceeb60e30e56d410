//! The tables.

use std::fmt::Write as _;

use anyhow::Context;

use super::contender::{DIRECT, NAMES, is_checkgate};
use super::footprint::{IDLE_CONNECTIONS, MODELS};
use super::goals::goals;
use super::machine::Machine;
use super::options::Options;
use super::parts::CASES;
use super::question::{SIZES, USUAL};
use super::rounds::RATE;
use super::sample::{Measure, Samples, Spread};

/// Between these lines of the documentation stands what the benchmark writes.
const MARKERS: [&str; 2] = ["<!-- written by load-tests/bench/run.sh --write -->\n", "<!-- until here -->"];

/// `text` with everything between its markers replaced.
///
/// # Errors
/// Where the markers are missing.
pub fn between_markers(text: &str, written: &str) -> anyhow::Result<String> {
    let [begin, end] = MARKERS;
    let (before, rest) = text.split_once(begin).context("docs/performance.md has no first marker")?;
    let (_, after) = rest.split_once(end).context("docs/performance.md has no last marker")?;
    Ok(format!("{before}{begin}\n{written}\n{end}{after}"))
}

/// Everything that is shown of a run.
#[must_use]
pub fn page(machine: &Machine, options: &Options, samples: &Samples) -> String {
    let tables = [
        head(machine, options),
        "## Goals\n".to_owned(),
        goals_table(samples),
        "## CPU for each request, saturated\n".to_owned(),
        saturated(samples),
        format!("## Latency at {RATE} requests a second\n"),
        paced(samples),
        half(samples),
        "## At rest\n".to_owned(),
        at_rest(samples),
        "## Inner parts\n".to_owned(),
        parts(samples),
    ];
    tables.join("\n").trim_end().to_owned()
}

fn head(machine: &Machine, options: &Options) -> String {
    let mut text = String::new();
    for line in machine.hardware.iter().chain(&machine.versions) {
        let _ = writeln!(text, "- {line}");
    }
    let given = options.given.join(" ");
    let _ = writeln!(text, "- `load-tests/bench/run.sh {given}`: {} rounds", options.rounds);
    text
}

fn goals_table(samples: &Samples) -> String {
    let mut table = Table::new(&["goal", "must", "moonshot", "measured", "verdict"]);
    for goal in goals(samples) {
        let unit = |value: f64| format!("<= {value} {}", goal.unit).trim_end().to_owned();
        let measured = goal.measured.map_or("-".to_owned(), |measured| spread(measured, goal.unit));
        let verdict = goal.verdict().word().to_owned();
        table.row([goal.what.to_owned(), unit(goal.must), unit(goal.moonshot), measured, verdict]);
    }
    table.text
}

fn saturated(samples: &Samples) -> String {
    let measured = SIZES.iter().filter(|size| samples.rounds(size.name) > 0);
    measured.map(|size| saturated_table(samples, size.name)).collect::<Vec<_>>().join("\n")
}

fn saturated_table(samples: &Samples, size: &str) -> String {
    let mut table = Table::new(&[
        size,
        "CPU us",
        "over nginx (min..max)",
        "requests/s",
        "of its core",
        "request threads us",
        "lane us, each inspected",
        "inspected",
    ]);
    for name in NAMES {
        let of = |measure| samples.spread(measure, size, name);
        let Some(cpu) = of(Measure::Cpu) else { continue };
        let over_nginx = samples.paired(Measure::Cpu, size, name, "nginx");
        let ours =
            |measure, digits| if is_checkgate(name) { median(of(measure), digits) } else { "-".into() };
        table.row([
            (*name).to_owned(),
            number(cpu.median, 1),
            over_nginx.map_or("-".to_owned(), |ratio| spread(ratio, "")),
            median(of(Measure::RequestsPerSecond), 0),
            median(of(Measure::Utilisation), 2),
            ours(Measure::CpuWithoutLanes, 1),
            ours(Measure::CpuOfLanes, 1),
            of(Measure::Inspected).map_or("-".to_owned(), |share| percent(share.median)),
        ]);
    }
    table.text
}

fn paced(samples: &Samples) -> String {
    let mut table = Table::new(&[
        USUAL.name,
        "p50 us",
        "p99 us",
        "p99.9 us",
        "p50 added, over nginx's",
        "CPU us",
        "sent late, p99 us",
    ]);
    let direct = samples.median(Measure::P50, USUAL.name, DIRECT);
    let added = |name| Some(samples.median(Measure::P50, USUAL.name, name)? - direct?);
    for name in std::iter::once(&DIRECT).chain(NAMES) {
        let of = |measure| samples.spread(measure, USUAL.name, name);
        if of(Measure::P50).is_none() {
            continue;
        }
        let over_nginx = added(name).and_then(|own| Some(own / added("nginx")?));
        table.row([
            (*name).to_owned(),
            median(of(Measure::P50), 0),
            median(of(Measure::P99), 0),
            median(of(Measure::P999), 0),
            over_nginx.filter(|_| *name != DIRECT).map_or("-".to_owned(), |ratio| number(ratio, 2)),
            median(of(Measure::PacedCpu), 1),
            median(of(Measure::Lateness), 0),
        ]);
    }
    table.text
}

fn half(samples: &Samples) -> String {
    let mut table = Table::new(&["half of capacity", "p50 us", "p99 us (min..max)"]);
    for name in NAMES {
        let of = |measure| samples.spread(measure, USUAL.name, name);
        let Some(p99) = of(Measure::HalfP99) else { continue };
        table.row([(*name).to_owned(), median(of(Measure::HalfP50), 0), spread(p99, "")]);
    }
    table.text
}

fn at_rest(samples: &Samples) -> String {
    let connections = format!("CPU idle, {IDLE_CONNECTIONS} connections, {MODELS} models");
    let mut table =
        Table::new(&["proxy", "memory idle KiB", "each connection KiB", &connections, "each client B"]);
    for name in NAMES {
        let of = |measure| samples.spread(measure, "", name);
        let Some(idle) = of(Measure::IdleCpu) else { continue };
        table.row([
            (*name).to_owned(),
            median(of(Measure::Rss), 0),
            median(of(Measure::RssOfConnection), 1),
            format!("{} %", number(idle.median, 2)),
            median(of(Measure::RssOfClient), 0),
        ]);
    }
    table.text
}

fn parts(samples: &Samples) -> String {
    let mut table = Table::new(&["part", "us (min..max)"]);
    for (case, _) in CASES {
        if let Some(time) = samples.spread(Measure::Part, "", case) {
            table.row([(*case).to_owned(), spread(time, "")]);
        }
    }
    table.text
}

fn median(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("-".to_owned(), |spread| number(spread.median, digits))
}

fn spread(spread: Spread, unit: &str) -> String {
    let Spread { median, min, max } = spread;
    let text = format!("{} ({}..{}) {unit}", number(median, 2), number(min, 2), number(max, 2));
    text.trim_end().to_owned()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A number with separated thousands where it has no decimals.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if digits > 0 || value < 1000.0 {
        return text;
    }
    let mut grouped = String::new();
    for (place, digit) in text.chars().enumerate() {
        if place > 0 && (text.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A table of Markdown.
struct Table {
    text: String,
}

impl Table {
    fn new(columns: &[&str]) -> Self {
        let rule = columns.iter().map(|_| "---|").collect::<String>();
        Self { text: format!("| {} |\n|{rule}\n", columns.join(" | ")) }
    }

    fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let [begin, end] = MARKERS;
        let text = format!("prose\n{begin}old\n{end}\nmore");
        let page = between_markers(&text, "new").unwrap();
        assert_eq!(page, format!("prose\n{begin}\nnew\n{end}\nmore"));
        assert_eq!(between_markers(&page, "new").unwrap(), page, "writing twice changes nothing");
        assert!(between_markers("prose", "new").is_err());
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(number(1_234_567.4, 0), "1,234,567");
        assert_eq!(number(999.6, 1), "999.6");
        assert_eq!(number(0.123, 2), "0.12");
    }
}
