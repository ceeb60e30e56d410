//! Streams of one feature with and without a change, and how long each layer takes to see it.

#![allow(dead_code, reason = "every test file takes what it needs")]

pub mod crowd;

use checkgate_detectors::drift::bins::Value;
use checkgate_detectors::drift::budget::Thresholds;
use checkgate_detectors::drift::reference::{Column, DriftReference, Settings, Table};
use checkgate_detectors::drift::room::GAUGES;
use checkgate_detectors::drift::watch::{self, Layer, Watch};
use checkgate_detectors::facts::Time;

/// Random numbers, the same on every run (Steele, Lea and Flood's SplitMix64, 2014).
#[derive(Clone)]
pub struct Numbers(pub u64);

impl Numbers {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// From 0 to below 1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal with mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// How often something happens whose mean is `mean`.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        let (limit, mut product, mut count) = (libm::exp(-mean), self.uniform(), 0.0);
        while product > limit {
            product *= self.uniform();
            count += 1.0;
        }
        count
    }
}

/// A stream at one moment.
pub struct Source {
    /// Its chance.
    pub numbers: Numbers,
    /// Events since it began.
    pub event: u64,
    /// Events since the change; 0 before it.
    pub since: u64,
    client: f64,
    left: u32,
}

/// A stream with a change.
#[derive(Clone, Copy)]
pub struct Stream {
    /// What changes.
    pub name: &'static str,
    /// The next value; `since` of the source tells whether it has changed.
    pub next: fn(&mut Source) -> Value,
}

impl Source {
    /// A stream before its change.
    pub fn new(seed: u64) -> Self {
        Self { numbers: Numbers(seed.wrapping_mul(0x5851_f42d)), event: 0, since: 0, client: 0.0, left: 0 }
    }

    fn changed(&self) -> bool {
        self.since > 0
    }

    fn happens(&mut self, share: f64) -> bool {
        self.changed() && self.numbers.uniform() < share
    }

    fn moved(&self, before: f64, after: f64) -> f64 {
        if self.changed() { after } else { before }
    }

    /// Clients with a mean of their own (deviation 0.5) who send twenty values in a row.
    fn burst(&mut self) -> f64 {
        if self.left == 0 {
            (self.client, self.left) = (0.5 * self.numbers.normal(), 20);
        }
        self.left -= 1;
        self.client + 0.75_f64.sqrt() * self.numbers.normal()
    }

    /// A mean that swings by 0.3 deviations, 5,000 events to a day.
    fn day(&mut self) -> f64 {
        0.3 * libm::sin(std::f64::consts::TAU * self.event as f64 / 5000.0) + self.numbers.normal()
    }

    fn label(&mut self) -> Value {
        // Twenty labels, label k about as often as 1/k.
        let weight = libm::exp(self.numbers.uniform() * libm::log(21.0));
        Value::Label((weight as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn price(&mut self) -> f64 {
        libm::exp(4.0 + 0.5 * self.numbers.normal())
    }

    /// The next value of `stream`.
    pub fn next(&mut self, stream: &Stream, changed: bool) -> Value {
        self.event += 1;
        self.since += u64::from(changed);
        (stream.next)(self)
    }
}

const fn stream(name: &'static str, next: fn(&mut Source) -> Value) -> Stream {
    Stream { name, next }
}

/// Streams without a change, independent from event to event.
pub const INDEPENDENT: [Stream; 3] = [
    stream("null normal", |source| Value::Number(source.numbers.normal())),
    stream("null lognormal", |source| Value::Number(libm::exp(source.numbers.normal()))),
    stream("null labels", Source::label),
];

/// Streams without a change whose events depend on one another.
pub const DEPENDENT: [Stream; 2] = [
    stream("null burst", |source| Value::Number(source.burst())),
    stream("null day and night", |source| Value::Number(source.day())),
];

/// Changes of one feature.
pub const CHANGES: [Stream; 7] = [
    stream("mean +0.5 sd", |source| Value::Number(source.numbers.normal() + source.moved(0.0, 0.5))),
    stream("mean +0.1 sd", |source| Value::Number(source.numbers.normal() + source.moved(0.0, 0.1))),
    stream("sd x1.5", |source| Value::Number(source.numbers.normal() * source.moved(1.0, 1.5))),
    stream("bimodal", |source| {
        // Two humps at 0.85 with the mean and the deviation of before.
        let (place, width) =
            if source.changed() { (0.85, (1.0_f64 - 0.85 * 0.85).sqrt()) } else { (0.0, 1.0) };
        let side = if source.numbers.uniform() < 0.5 { -place } else { place };
        Value::Number(side + width * source.numbers.normal())
    }),
    stream("lognormal x1.3", |source| {
        Value::Number(libm::exp(source.numbers.normal()) * source.moved(1.0, 1.3))
    }),
    stream("rate 0.10 to 0.13", |source| {
        let rate = source.moved(0.10, 0.13);
        Value::Number(f64::from(u8::from(source.numbers.uniform() < rate)))
    }),
    stream("ramp of 1 sd in 10,000", |source| {
        Value::Number(source.numbers.normal() + (source.since as f64 * 1e-4).min(1.0))
    }),
];

/// Failures that operators meet.
pub const FAILURES: [Stream; 6] = [
    stream("stuck 2 %", |source| {
        let value = source.numbers.normal();
        Value::Number(if source.happens(0.02) { 0.0 } else { value })
    }),
    stream("new label 1 %", |source| {
        let label = source.label();
        if source.happens(0.01) { Value::Label(77) } else { label }
    }),
    stream("price x1000, 1 in 200", |source| {
        let price = source.price();
        Value::Number(if source.happens(0.005) { price * 1000.0 } else { price })
    }),
    stream("missing 1 to 3 %", |source| {
        let value = source.numbers.normal();
        let share = source.moved(0.01, 0.03);
        if source.numbers.uniform() < share { Value::Missing } else { Value::Number(value) }
    }),
    stream("integers, mean 4 to 5", |source| {
        let mean = source.moved(4.0, 5.0);
        Value::Number(source.numbers.poisson(mean))
    }),
    stream("negative price 1 %", |source| {
        let price = source.price();
        Value::Number(if source.happens(0.01) { -price } else { price })
    }),
];

/// Changes beneath dependent traffic.
pub const BENEATH: [Stream; 2] = [
    stream("burst, +0.3 sd", |source| Value::Number(source.burst() + source.moved(0.0, 0.3))),
    stream("day and night, +0.3 sd", |source| Value::Number(source.day() + source.moved(0.0, 0.3))),
];

/// The next `rows` values of a stream as a table of one column.
pub fn table(source: &mut Source, stream: &Stream, rows: usize) -> Table {
    let values = (0..rows).map(|_| source.next(stream, false)).collect();
    Table { columns: vec![Column { name: stream.name.to_owned(), values }], times: Vec::new() }
}

/// Rows of `width` features that are correlated by a half; `change` is what becomes of each value.
pub fn many(numbers: &mut Numbers, rows: usize, width: usize, change: &dyn Fn(usize, f64) -> f64) -> Table {
    let mut columns: Vec<Column> = (0..width)
        .map(|feature| Column { name: format!("f{feature}"), values: Vec::with_capacity(rows) })
        .collect();
    for _ in 0..rows {
        let common = numbers.normal();
        for (feature, column) in columns.iter_mut().enumerate() {
            let value = 0.5_f64.sqrt() * (common + numbers.normal());
            column.values.push(Value::Number(change(feature, value)));
        }
    }
    Table { columns, times: Vec::new() }
}

/// A watch whose evidence is read from outside, and which therefore never speaks by itself.
pub fn silent(reference: &DriftReference) -> Watch {
    let never = Thresholds { early: f64::INFINITY, paging: f64::INFINITY };
    // As live, with a window of gauges.
    let settings = watch::Settings { pace: GAUGES, ..watch::Settings::default() };
    Watch::new(reference, settings, never)
}

/// When each layer first reached its threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Events of the early layer.
    pub early: Option<u64>,
    /// Events of the paging layer.
    pub paging: Option<u64>,
    /// The most evidence that the paging layer had.
    pub paging_most: f64,
}

/// Watches `events` of a stream; gives when each layer first reached its threshold. Stops when both have, or, with
/// `early_alone`, when the early layer has.
pub fn watch(
    source: &mut Source,
    stream: &Stream,
    (reference, watch): (&DriftReference, &mut Watch),
    thresholds: Thresholds,
    (events, changed, early_alone): (u64, bool, bool),
) -> Seen {
    let mut seen = Seen::default();
    for event in 1..=events {
        let value = source.next(stream, changed);
        if !watch.see(reference, &[value], Time(event)) {
            continue;
        }
        let _ = watch.settle(reference, Time(event));
        if watch.evidence(reference, Layer::Early) >= thresholds.early {
            seen.early = seen.early.or(Some(event));
        }
        let paging = watch.evidence(reference, Layer::Paging);
        seen.paging_most = seen.paging_most.max(paging);
        if paging >= thresholds.paging {
            seen.paging = seen.paging.or(Some(event));
        }
        if seen.early.is_some() && (early_alone || seen.paging.is_some()) {
            break;
        }
    }
    seen
}

/// What one seed shows: a reference of `rows`, `clean` events without a change, then `events` with it.
pub struct Trial {
    /// Rows of the reference.
    pub rows: usize,
    /// Events before the change.
    pub clean: u64,
    /// Events after it.
    pub events: u64,
    /// The thresholds.
    pub thresholds: Thresholds,
    /// How the reference is made.
    pub settings: Settings,
    /// Whether only the early layer is looked at.
    pub early_alone: bool,
}

impl Trial {
    /// When each layer spoke before the change, and how long after it.
    pub fn run(&self, stream: &Stream, seed: u64) -> (Seen, Seen) {
        let mut source = Source::new(seed);
        let table = table(&mut source, stream, self.rows);
        let reference = DriftReference::of(&table, &self.settings).unwrap();
        let mut watcher = silent(&reference);
        let part = |events, changed| (events, changed, self.early_alone);
        let pair = (&reference, &mut watcher);
        let before = watch(&mut source, stream, pair, self.thresholds, part(self.clean, false));
        let pair = (&reference, &mut watcher);
        (before, watch(&mut source, stream, pair, self.thresholds, part(self.events, true)))
    }
}

/// The middle value, with `None` above all others; of an even number, the upper one of the two.
pub fn median(values: Vec<Option<u64>>) -> Option<u64> {
    quarter(values, 2)
}

/// The value that so many quarters of all lie below, as the median.
pub fn quarter(mut values: Vec<Option<u64>>, quarters: usize) -> Option<u64> {
    values.sort_by_key(|value| value.unwrap_or(u64::MAX));
    values.get(values.len() * quarters / 4).copied().flatten()
}
