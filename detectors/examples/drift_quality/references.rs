//! Whether the paging layer keeps its promise under each reference, and not only on average over them.

use checkgate_detectors::drift::counts::Counts;
use checkgate_detectors::drift::reference::{DriftReference, Settings};
use checkgate_detectors::drift::stretch::{Evidence, REFERENCE_ERROR, score};

use crate::drift_streams::{DEPENDENT, INDEPENDENT, Source, Stream, table};
use crate::limits::most_by_chance;
use crate::table::Table;
use crate::{BUDGET, WEEK_OF_STRETCHES};

/// References of each kind.
const REFERENCES: u64 = 200;
/// Stretches of a run without a change.
const RUN: u32 = 400;
/// Stretches that what one of them is worth on average is told by: its standard error is then an eightieth.
const LONG_RUN: u32 = 4000;

/// What one reference shows where nothing changes.
struct Shown {
    stretches: usize,
    most: f64,
    mean_worth: f64,
}

/// Runs of 200 references of each kind, from seed `first` on.
pub fn promises(first: u64) -> Table {
    let mut table = Table::new(&[
        "stream",
        "reference",
        "its stretches",
        "runs with a paging alarm",
        "granted, 99 %",
        "... at a week's budget",
        "granted, 99 %",
        "references that break the promise",
        "may, 99 %",
    ]);
    let (normal, burst) = (&INDEPENDENT[0], &DEPENDENT[0]);
    for (stream, rows) in [(normal, 100_000), (normal, 20_000), (normal, 5000), (burst, 100_000)] {
        let shown: Vec<Shown> = (first..first + REFERENCES).map(|seed| show(stream, rows, seed)).collect();
        let count =
            |holds: &dyn Fn(&Shown) -> bool| shown.iter().filter(|one| holds(one)).count().to_string();
        let granted =
            |threshold: f64| most_by_chance(REFERENCES as f64 * f64::from(RUN) / threshold).to_string();
        table.row(&[
            stream.name.to_owned(),
            rows.to_string(),
            shown.first().map_or(0, |one| one.stretches).to_string(),
            count(&|one| one.most >= BUDGET.paging),
            granted(BUDGET.paging),
            count(&|one| one.most >= WEEK_OF_STRETCHES),
            granted(WEEK_OF_STRETCHES),
            count(&|one| one.mean_worth > 1.0),
            most_by_chance(REFERENCES as f64 * REFERENCE_ERROR).to_string(),
        ]);
    }
    table
}

fn show(stream: &Stream, rows: usize, seed: u64) -> Shown {
    let mut source = Source::new(seed);
    let reference = DriftReference::of(&table(&mut source, stream, rows), &Settings::default()).unwrap();
    let (feature, worth) = (&reference.features()[0], reference.worth());
    let (mut evidence, mut counts) = (Evidence::default(), Counts::new(feature.bins.slots()));
    let (mut most, mut sum) = (0.0_f64, 0.0);
    for stretch in 0..LONG_RUN {
        counts.clear();
        (0..250).for_each(|_| counts.add(feature.bins.slot(source.next(stream, false))));
        sum += worth.at(feature.calibration.at_least(score(&counts, feature.bank.p0())));
        if stretch < RUN {
            let _ = evidence.take(&feature.calibration, worth, &counts, feature.bank.p0());
            most = most.max(evidence.level());
        }
    }
    Shown { stretches: feature.calibration.stretches(), most, mean_worth: sum / f64::from(LONG_RUN) }
}
