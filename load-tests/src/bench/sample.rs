//! Every measured figure, and what is computed from several of them.

use std::fmt::Write as _;

/// What a figure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Requests answered in a second, saturated.
    RequestsPerSecond,
    /// CPU microseconds of all threads for one request, saturated.
    Cpu,
    /// CPU microseconds of all threads but lanes for one request, saturated.
    CpuWithoutLanes,
    /// CPU microseconds of lane threads for one request that was inspected, saturated.
    CpuOfLanes,
    /// Share of the requests that a lane inspected, saturated.
    Inspected,
    /// Share of its core that the proxy used, saturated.
    Utilisation,
    /// CPU microseconds of all threads for one request at the constant rate.
    PacedCpu,
    /// Median latency at the constant rate, in microseconds.
    P50,
    /// The 99th percentile of it.
    P99,
    /// The 99.9th percentile of it.
    P999,
    /// How much later than intended the generator sent, 99th percentile, in microseconds.
    Lateness,
    /// Median latency at half of capacity, in microseconds.
    HalfP50,
    /// The 99th percentile of it.
    HalfP99,
    /// Resident memory of the idle proxy, in KiB.
    Rss,
    /// Resident memory for each idle connection, in KiB.
    RssOfConnection,
    /// Resident memory for each tracked client, in bytes.
    RssOfClient,
    /// Share of a core that the idle proxy uses, in per cent.
    IdleCpu,
    /// Microseconds of one inner part; its case stands in the contender's place.
    Part,
}

impl Measure {
    /// Its name in the file of samples.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::Cpu => "cpu_us",
            Self::CpuWithoutLanes => "cpu_without_lanes_us",
            Self::CpuOfLanes => "cpu_of_lanes_us",
            Self::Inspected => "inspected_share",
            Self::Utilisation => "utilisation_share",
            Self::PacedCpu => "paced_cpu_us",
            Self::P50 => "paced_p50_us",
            Self::P99 => "paced_p99_us",
            Self::P999 => "paced_p999_us",
            Self::Lateness => "paced_lateness_p99_us",
            Self::HalfP50 => "half_capacity_p50_us",
            Self::HalfP99 => "half_capacity_p99_us",
            Self::Rss => "rss_idle_kib",
            Self::RssOfConnection => "rss_per_connection_kib",
            Self::RssOfClient => "rss_per_client_bytes",
            Self::IdleCpu => "idle_cpu_percent",
            Self::Part => "part_us",
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What it says.
    pub measure: Measure,
    /// The size of the request body, such as `1 KB`; empty where there is none.
    pub size: &'static str,
    /// Whom it is about.
    pub contender: &'static str,
    /// The round that it was taken in, from 0.
    pub round: usize,
    /// The figure.
    pub value: f64,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Samples {
    all: Vec<Sample>,
}

/// Several figures in one: their median and their bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; between the two middle ones where their number is even.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of some figures; nothing where there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    /// The same in another unit, of which one has `divisor`.
    #[must_use]
    pub fn over(self, divisor: f64) -> Self {
        Self { median: self.median / divisor, min: self.min / divisor, max: self.max / divisor }
    }
}

impl Samples {
    /// Takes a figure.
    pub fn add(&mut self, sample: Sample) {
        self.all.push(sample);
    }

    /// All figures of one kind, size and contender.
    pub fn of<'a>(
        &'a self,
        measure: Measure,
        size: &'a str,
        contender: &'a str,
    ) -> impl Iterator<Item = &'a Sample> {
        self.all.iter().filter(move |sample| {
            sample.measure == measure && sample.size == size && sample.contender == contender
        })
    }

    /// Their spread over the rounds.
    #[must_use]
    pub fn spread(&self, measure: Measure, size: &str, contender: &str) -> Option<Spread> {
        Spread::of(self.of(measure, size, contender).map(|sample| sample.value).collect())
    }

    /// Their median.
    #[must_use]
    pub fn median(&self, measure: Measure, size: &str, contender: &str) -> Option<f64> {
        Some(self.spread(measure, size, contender)?.median)
    }

    /// The spread of `one` over `other`, taken round by round.
    #[must_use]
    pub fn paired(&self, measure: Measure, size: &str, one: &str, other: &str) -> Option<Spread> {
        self.combined(measure, size, one, other, |one, other| one / other)
    }

    /// The spread of a figure computed from those of `one` and `other` in the same round.
    #[must_use]
    pub fn combined(
        &self,
        measure: Measure,
        size: &str,
        one: &str,
        other: &str,
        combine: impl Fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let partner = |sample: &Sample| {
            let mut partners = self.of(measure, size, other);
            partners.find(|partner| partner.round == sample.round).map(|partner| partner.value)
        };
        let pairs = self.of(measure, size, one);
        Spread::of(pairs.filter_map(|sample| Some(combine(sample.value, partner(sample)?))).collect())
    }

    /// How many rounds a size was measured in.
    #[must_use]
    pub fn rounds(&self, size: &str) -> usize {
        let rounds = self.all.iter().filter(|sample| sample.size == size).map(|sample| sample.round + 1);
        rounds.max().unwrap_or(0)
    }

    /// All of them, a line each.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from("measure,body,contender,round,value\n");
        for sample in &self.all {
            let Sample { measure, size, contender, round, value } = sample;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{},{size},{contender},{round},{value:.3}", measure.name());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let mut samples = Samples::default();
        for (contender, round, value) in
            [("nginx", 0, 10.0), ("nginx", 1, 20.0), ("ours", 0, 15.0), ("ours", 1, 20.0), ("ours", 2, 99.0)]
        {
            samples.add(Sample { measure: Measure::Cpu, size: "1 KB", contender, round, value });
        }
        samples
    }

    #[test]
    fn ratios_are_paired_by_round_and_rounds_without_a_partner_are_left() {
        let ratio = samples().paired(Measure::Cpu, "1 KB", "ours", "nginx").unwrap();
        assert_eq!(ratio, Spread { median: 1.25, min: 1.0, max: 1.5 });
    }

    #[test]
    fn a_median_stands_between_the_two_middle_figures() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 100.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of(vec![]), None);
    }
}
