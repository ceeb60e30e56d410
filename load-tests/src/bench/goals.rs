//! What the project wants to reach, beside what was measured.

use super::contender::{ALWAYS, DIRECT, EVERYTHING, HELD, PASS};
use super::parts::{DECODE_KIB, KIB_DECODED, OBSERVE_10};
use super::question::USUAL;
use super::sample::{Measure, Samples, Spread};

/// A bound from above, and a bolder one.
#[derive(Debug)]
pub struct Goal {
    /// What is bounded.
    pub what: &'static str,
    /// What must hold.
    pub must: f64,
    /// What would be a first.
    pub moonshot: f64,
    /// In what it is measured; empty for a ratio.
    pub unit: &'static str,
    /// What was measured.
    pub measured: Option<Spread>,
}

/// How a measurement stands to a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The bolder bound holds.
    Moonshot,
    /// The bound holds.
    Held,
    /// It does not.
    Missed,
    /// It was not measured in this run.
    Unknown,
}

impl Goal {
    /// By the median.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.measured.map(|measured| measured.median) {
            None => Verdict::Unknown,
            Some(median) if median <= self.moonshot => Verdict::Moonshot,
            Some(median) if median <= self.must => Verdict::Held,
            Some(_) => Verdict::Missed,
        }
    }
}

impl Verdict {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Moonshot => "moonshot",
            Self::Held => "held",
            Self::Missed => "**missed**",
            Self::Unknown => "not measured",
        }
    }
}

/// Every goal with what these samples say of it.
#[must_use]
pub fn goals(samples: &Samples) -> Vec<Goal> {
    let cpu = |one, other| samples.paired(Measure::Cpu, USUAL.name, one, other);
    let part = |case| samples.spread(Measure::Part, "", case);
    let at_rest = |measure| samples.spread(measure, "", EVERYTHING);
    let goal = |what, must, moonshot, unit, measured| Goal { what, must, moonshot, unit, measured };
    vec![
        goal("pass-through, CPU over nginx", 1.3, 1.1, "", cpu(PASS, "nginx")),
        goal("everything on, CPU of all threads over nginx", 1.9, 1.6, "", cpu(EVERYTHING, "nginx")),
        goal("everything on, CPU of all threads over Envoy", 0.75, 0.6, "", cpu(EVERYTHING, "envoy")),
        goal(
            "everything on, CPU of all threads over pingora-proxy",
            0.9,
            0.7,
            "",
            cpu(EVERYTHING, "pingora-proxy"),
        ),
        goal(
            "request threads, added by what is always on",
            3.0,
            1.0,
            "us",
            added_on_request_threads(samples),
        ),
        goal("engine, a row of 10 features", 3.0, 2.0, "us", part(OBSERVE_10)),
        // The whole lane, decoding included: the engine alone is told among the inner parts.
        goal(
            "lane, an exchange with a row of 104 features",
            25.0,
            10.0,
            "us",
            samples.spread(Measure::CpuOfLanes, USUAL.name, EVERYTHING),
        ),
        goal(
            "decoding, for each KB of JSON",
            2.0,
            0.7,
            "us",
            part(DECODE_KIB).map(|all| all.over(KIB_DECODED)),
        ),
        goal("p50 added at 1,000/s, over that of nginx", 1.3, 1.1, "", added_latency(samples)),
        goal(
            "p99 at half of capacity, detectors on over off",
            1.1,
            1.0,
            "",
            samples.paired(Measure::HalfP99, USUAL.name, EVERYTHING, ALWAYS),
        ),
        goal("memory, idle", 25.0, 15.0, "MB", at_rest(Measure::Rss).map(|rss| rss.over(1e6 / 1024.0))),
        goal("memory, each idle connection", 40.0, 16.0, "KiB", at_rest(Measure::RssOfConnection)),
        goal("memory, each tracked client", 256.0, 128.0, "B", at_rest(Measure::RssOfClient)),
        goal("CPU idle, 1,000 connections and 20 models", 0.5, 0.1, "% of a core", at_rest(Measure::IdleCpu)),
        goal("answers held over not held, CPU", 1.15, 1.05, "", cpu(HELD, EVERYTHING)),
    ]
}

fn added_on_request_threads(samples: &Samples) -> Option<Spread> {
    let measure = Measure::CpuWithoutLanes;
    samples.combined(measure, USUAL.name, ALWAYS, PASS, |always, pass| always - pass)
}

/// The median that everything on adds to the upstream's own, over what nginx adds, round by round.
fn added_latency(samples: &Samples) -> Option<Spread> {
    let p50 = |name| samples.of(Measure::P50, USUAL.name, name);
    let ratio = |round| {
        let of = |name| p50(name).find(|sample| sample.round == round).map(|sample| sample.value);
        let (ours, nginx, direct) = (of(EVERYTHING)?, of("nginx")?, of(DIRECT)?);
        Some((ours - direct) / (nginx - direct))
    };
    Spread::of((0..samples.rounds(USUAL.name)).filter_map(ratio).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::Sample;

    #[test]
    fn added_latency_is_counted_from_the_upstream_itself() {
        let mut samples = Samples::default();
        for (contender, value) in [(DIRECT, 100.0), ("nginx", 200.0), (EVERYTHING, 220.0)] {
            samples.add(Sample { measure: Measure::P50, size: USUAL.name, contender, round: 0, value });
        }
        let goals = goals(&samples);
        let goal = goals.iter().find(|goal| goal.what.starts_with("p50")).unwrap();
        assert_eq!(goal.measured.unwrap().median, 1.2);
        assert_eq!(goal.verdict(), Verdict::Held);
        let unmeasured = goals.iter().filter(|goal| goal.verdict() == Verdict::Unknown).count();
        assert_eq!(unmeasured, goals.len() - 1);
    }
}
