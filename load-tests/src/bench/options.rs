//! What the benchmark is asked to do.

use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use super::contender::NAMES;
use super::question::{SIZES, Size};

/// Compares checkgate with the proxies that one would use without it, side by side on this machine.
///
/// Prints tables in Markdown. Wants a machine with two cores that does nothing else.
#[derive(Debug, Parser)]
#[command(bin_name = "load-tests/bench/run.sh", after_help = format!("contenders: {}", NAMES.join(", ")))]
struct Arguments {
    /// Rounds of each measurement
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: usize,
    /// Seconds of load in a round, for each contender
    #[arg(long, value_name = "N", default_value_t = 2)]
    seconds: u64,
    /// Request bodies in KB, of: 0.25, 1, 10, 100 [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = size)]
    sizes: Option<Vec<&'static Size>>,
    /// Contenders, of those below [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = contender)]
    only: Option<Vec<&'static str>>,
    /// One short round of everything: tries the command, measures nothing of worth
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Write docs/performance.md, docs/img/performance-*.svg and load-tests/bench/samples.csv
    #[arg(long)]
    write: bool,
}

/// What the benchmark is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds of each measurement.
    pub rounds: usize,
    /// Load in one round.
    pub load: Duration,
    /// Load before it that is not counted.
    pub warm_up: Duration,
    /// Idle time whose CPU is counted.
    pub idle: Duration,
    /// Clients whose memory is counted.
    pub clients: usize,
    /// Bodies.
    pub sizes: Vec<&'static Size>,
    /// Contenders by name.
    pub only: Vec<&'static str>,
    /// Whether results are written into the project.
    pub writes: bool,
    /// The arguments as they were given.
    pub given: Vec<String>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// Says what is not understood, or is the help that was asked for.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self, clap::Error> {
        let given: Vec<String> = arguments.collect();
        let read =
            Arguments::try_parse_from(std::iter::once("bench").chain(given.iter().map(String::as_str)))?;
        let mut options = Self {
            rounds: read.rounds,
            load: Duration::from_secs(read.seconds),
            warm_up: Duration::from_millis(500),
            idle: Duration::from_secs(10),
            clients: 40_000,
            sizes: read.sizes.unwrap_or_else(|| SIZES.iter().collect()),
            only: read.only.unwrap_or_else(|| NAMES.to_vec()),
            writes: read.write,
            given,
        };
        if read.quick {
            options.quick();
        }
        Ok(options)
    }

    fn quick(&mut self) {
        self.rounds = 1;
        self.load = Duration::from_secs(1);
        self.warm_up = Duration::from_millis(200);
        self.idle = Duration::from_secs(1);
        self.clients = 2_000;
    }

    /// Whether a contender takes part.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        self.only.contains(&name)
    }
}

fn size(word: &str) -> anyhow::Result<&'static Size> {
    let known = SIZES.iter().find(|size| size.name.split(' ').next() == Some(word));
    known.with_context(|| format!("no body of {word} KB"))
}

fn contender(word: &str) -> anyhow::Result<&'static str> {
    let known = NAMES.iter().find(|name| **name == word);
    known.copied().with_context(|| format!("no contender {word}; there are {}", NAMES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, clap::Error> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_in_any_order() {
        let options = read("--sizes 1,100 --rounds 3 --only nginx,checkgate-always-on").unwrap();
        let sizes: Vec<_> = options.sizes.iter().map(|size| size.name).collect();
        assert_eq!((options.rounds, sizes), (3, vec!["1 KB", "100 KB"]));
        assert!(options.includes("nginx") && !options.includes("envoy"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, named) in [("--round 3", "--rounds"), ("--only apache", "apache"), ("--sizes 3", "3 KB")] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
