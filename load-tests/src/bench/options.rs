//! What the benchmark is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use super::contender::NAMES;
use super::question::{SIZES, Size};

/// How to call the benchmark.
pub const USAGE: &str = "\
load-tests/bench/run.sh [OPTIONS]

  --rounds N       rounds of each measurement (10)
  --seconds N      seconds of load in a round, for each contender (2)
  --sizes LIST     request bodies, of: 0.25, 1, 10, 100 (all)
  --only LIST      contenders, of those below (all)
  --quick          one short round of everything: tries the command, measures nothing of worth
  --write          write docs/performance.md, docs/img/performance-*.svg and load-tests/bench/samples.csv";

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
    /// The root of the project, where results are to be written.
    pub write: Option<PathBuf>,
    /// The arguments as they were given.
    pub given: Vec<String>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// Says what it does not understand.
    pub fn read(arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let given: Vec<String> = arguments.collect();
        let mut options = Self {
            rounds: 10,
            load: Duration::from_secs(2),
            warm_up: Duration::from_millis(500),
            idle: Duration::from_secs(10),
            clients: 40_000,
            sizes: SIZES.iter().collect(),
            only: NAMES.to_vec(),
            write: None,
            given: given.clone(),
        };
        let mut words = given.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--seconds" => options.load = Duration::from_secs(value()?.parse().context("--seconds")?),
                "--sizes" => options.sizes = each(value()?, size)?,
                "--only" => options.only = each(value()?, contender)?,
                "--write" => options.write = Some(root()?),
                "--quick" => options.quick(),
                _ => bail!("{word} is not understood\n\n{USAGE}\n\ncontenders: {}", NAMES.join(", ")),
            }
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

fn each<T>(list: &str, read: impl Fn(&str) -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
    list.split(',').map(|word| read(word.trim())).collect()
}

fn size(word: &str) -> anyhow::Result<&'static Size> {
    let known = SIZES.iter().find(|size| size.name.split(' ').next() == Some(word));
    known.with_context(|| format!("no body of {word} KB"))
}

fn contender(word: &str) -> anyhow::Result<&'static str> {
    let known = NAMES.iter().find(|name| **name == word);
    known.copied().with_context(|| format!("no contender {word}; there are {}", NAMES.join(", ")))
}

fn root() -> anyhow::Result<PathBuf> {
    Ok(super::Places::find()?.root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> anyhow::Result<Options> {
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
        for (line, named) in [("--round 3", "--round"), ("--only apache", "apache"), ("--sizes 3", "3 KB")] {
            let error = format!("{:#}", read(line).unwrap_err());
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
