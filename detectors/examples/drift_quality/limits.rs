//! What no detector can do better, and what chance alone may do.

use checkgate_detectors::drift::counts::Counts;
use checkgate_detectors::drift::reference::DriftReference;

use crate::drift_streams::{Source, Stream};

/// Events that any detector of independent events takes for a change at that run length, about: the logarithm of the run
/// length over the divergence of after from before (Lorden, Procedures for Reacting to a Change in Distribution, 1971).
/// Nothing where the divergence is not finite, or the change has no moment.
pub fn least(name: &str, run_length: f64) -> Option<u64> {
    Some((libm::log(run_length) / divergence(name)?).ceil() as u64)
}

/// The same for a detector that knows no more of a value than the bin it falls into, as all bets on bins do: by the bins of
/// a reference and a million events after the change. Nothing where the change has no moment.
pub fn least_in_bins(stream: &Stream, reference: &DriftReference, run_length: f64) -> Option<u64> {
    const EVENTS: u32 = 1_000_000;
    divergence(stream.name)?;
    let feature = reference.features().first()?;
    let (mut source, mut counts) = (Source::new(7), Counts::new(feature.bins.slots()));
    (0..EVENTS).for_each(|_| counts.add(feature.bins.slot(source.next(stream, true))));
    let shares: Vec<f64> = counts.slots().iter().map(|count| f64::from(*count) / f64::from(EVENTS)).collect();
    let pairs = shares.iter().zip(feature.bank.p0()).filter(|(after, _)| **after > 0.0);
    let nats: f64 = pairs.map(|(after, before)| after * libm::log(after / before)).sum();
    Some((libm::log(run_length) / nats).ceil() as u64)
}

/// Nats an event, of after from before.
fn divergence(name: &str) -> Option<f64> {
    let shift = |by: f64| 0.5 * by * by;
    let rate = |after: f64, before: f64| {
        after * libm::log(after / before) + (1.0 - after) * libm::log((1.0 - after) / (1.0 - before))
    };
    Some(match name {
        "mean +0.5 sd" => shift(0.5),
        "mean +0.1 sd" => shift(0.1),
        "sd x1.5" => 0.5 * (1.5 * 1.5 - 1.0) - libm::log(1.5),
        "bimodal" => two_humps(),
        "lognormal x1.3" => shift(libm::log(1.3)),
        "rate 0.10 to 0.13" => rate(0.13, 0.10),
        "missing 1 to 3 %" => rate(0.03, 0.01),
        "integers, mean 4 to 5" => 5.0 * libm::log(5.0 / 4.0) - 1.0,
        _ => return None,
    })
}

/// Two humps at 0.85 from a normal distribution of the same mean and deviation, by the rule of midpoints.
fn two_humps() -> f64 {
    let (place, steps) = (0.85, 20_000);
    let width = (1.0_f64 - place * place).sqrt();
    let density = |x: f64, deviation: f64| {
        libm::exp(-0.5 * (x / deviation) * (x / deviation)) / (deviation * std::f64::consts::TAU.sqrt())
    };
    let step = 20.0 / f64::from(steps);
    let part = |number: i32| {
        let x = -10.0 + (f64::from(number) + 0.5) * step;
        let after = 0.5 * (density(x - place, width) + density(x + place, width));
        if after > 0.0 { after * libm::log(after / density(x, 1.0)) * step } else { 0.0 }
    };
    (0..steps).map(part).sum()
}

/// The most alarms that chance gives in 99 of 100 trials where `mean` are granted (Poisson).
pub fn most_by_chance(mean: f64) -> u32 {
    let (mut term, mut sum, mut count) = (libm::exp(-mean), 0.0, 0);
    loop {
        sum += term;
        if sum >= 0.99 || count > 10_000 {
            return count;
        }
        count += 1;
        term *= mean / f64::from(count);
    }
}
