//! What a budget of false alarms costs in time: how long shifts of known size would stay unseen, by layer, for this
//! reference and this traffic. Every figure follows from formulas of the core and the reference's own stretches.

use std::fmt::Write;

use checkgate_detectors::drift::bins::Bins;
use checkgate_detectors::drift::budget::{
    Budget, Expected, SHIFTS, Thresholds, expected, expected_by_stretches,
};
use checkgate_detectors::drift::feature::Feature;
use checkgate_detectors::drift::reference::DriftReference;
use serde::Serialize;

use super::budget::Grant;
use super::file::Header;
use super::words::{compact, rows_a_stretch};
use crate::rehearse::form::words::{grouped, span};
use crate::told::clean;

/// Seconds of a day.
const DAY: f64 = 86_400.0;
/// Budgets that are compared with the one that was asked for.
const COMPARED: [&str; 4] = ["1 per day", "1 per week", "1 per month", "1 per year"];
/// A shift that stays unseen for longer is pointed out.
const LONG: f64 = 30.0;

/// A plan.
#[derive(Clone, Debug, Serialize)]
pub struct DriftPlan {
    /// Rows of a day.
    pub rows_a_day: f64,
    /// Whence that is known.
    pub traffic: &'static str,
    /// Columns that are watched, and those of numbers that the figures are of.
    pub columns: [usize; 2],
    /// The sizes of shift, in standard deviations.
    pub shifts: [f64; 3],
    /// Every budget, the one that was asked for first.
    pub budgets: Vec<Offer>,
}

/// One budget.
#[derive(Clone, Debug, Serialize)]
pub struct Offer {
    /// As it is written.
    pub false_alarms: String,
    /// Days between two false alarms that it grants to a layer.
    pub days_between: f64,
    /// What the layers must reach.
    pub thresholds: Thresholds,
    /// Whether the traffic of that time is less than the lowest threshold: the layer then alarms less often than granted.
    pub below_the_least: bool,
    /// The early layer.
    pub early: Layer,
    /// The paging layer.
    pub paging: Layer,
    /// For each size of shift: whether a layer that pages tells it sooner than the next false alarm may come.
    pub affordable: [bool; 3],
}

/// One layer under a budget.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Whether it pages; otherwise it warns.
    pub pages: bool,
    /// For each size of shift: how long it stays unseen.
    pub unseen: [Unseen; 3],
}

/// How long a shift of one column stays unseen; absent where it is never told.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Unseen {
    /// Rows, for the column in the middle.
    pub rows: Option<f64>,
    /// The same in days.
    pub days: Option<f64>,
    /// Rows for the slowest column; absent where a column never tells.
    pub slowest_rows: Option<f64>,
    /// Which that is.
    pub slowest: String,
}

/// Plans for a reference: `rows_a_day`, and whence they are known.
#[must_use]
pub fn plan(
    header: &Header,
    reference: &DriftReference,
    grant: &Grant,
    (rows_a_day, traffic): (f64, &'static str),
) -> DriftPlan {
    let others = COMPARED.iter().filter_map(|text| text.parse().ok());
    let mut grants = vec![grant.clone()];
    grants.extend(others.filter(|other| other != grant));
    let planner = Planner { reference, rows_a_stretch: rows_a_stretch(header, reference), rows_a_day };
    DriftPlan {
        rows_a_day,
        traffic,
        columns: [reference.features().len(), planner.numbers().count()],
        shifts: SHIFTS,
        budgets: grants.iter().map(|grant| planner.offer(grant)).collect(),
    }
}

struct Planner<'a> {
    reference: &'a DriftReference,
    rows_a_stretch: f64,
    rows_a_day: f64,
}

impl<'a> Planner<'a> {
    /// Columns for which a standard deviation means something.
    fn numbers(&self) -> impl Iterator<Item = &'a Feature> + use<'a> {
        let is_number =
            |feature: &&Feature| matches!(feature.bins, Bins::Numbers(_)) && feature.bins.scale() > 2;
        self.reference.features().iter().filter(is_number)
    }

    fn offer(&self, grant: &Grant) -> Offer {
        let budget = Budget {
            false_alarms_a_week: grant.a_week,
            rows_a_second: self.rows_a_day / DAY,
            rows_a_stretch: self.rows_a_stretch,
        };
        let thresholds = budget.thresholds();
        let days_between = 7.0 / grant.a_week;
        let features = self.reference.features().len();
        let worth = self.reference.worth();
        let early = |feature: &Feature| expected(&feature.bank, feature.bank_share(), features, &thresholds);
        let paging = |feature: &Feature| {
            expected_by_stretches(feature, worth, self.rows_a_stretch, features, &thresholds)
        };
        let quality = self.reference.quality();
        let early = Layer { pages: quality.early_may_page(&thresholds), unseen: self.unseen(early) };
        let paging = Layer { pages: true, unseen: self.unseen(paging) };
        let told = |place: usize| {
            let layers = [&early, &paging].into_iter().filter(|layer| layer.pages);
            let days = layers.filter_map(|layer| layer.unseen.get(place)?.days);
            days.fold(f64::INFINITY, f64::min) <= days_between
        };
        Offer {
            false_alarms: grant.to_string(),
            days_between,
            thresholds,
            below_the_least: self.rows_a_day * days_between < thresholds.early,
            affordable: [told(0), told(1), told(2)],
            early,
            paging,
        }
    }

    fn unseen(&self, told: impl Fn(&Feature) -> [Expected; 3]) -> [Unseen; 3] {
        let all: Vec<(&Feature, [Expected; 3])> =
            self.numbers().map(|feature| (feature, told(feature))).collect();
        [0, 1, 2].map(|place| {
            let rows = |expected: &[Expected; 3]| expected.get(place).and_then(|one| one.events);
            let mut sorted: Vec<(f64, &str)> = all
                .iter()
                .map(|(feature, expected)| (rows(expected).unwrap_or(f64::INFINITY), feature.name.as_str()))
                .collect();
            sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
            let middle = sorted.get(sorted.len() / 2).map(|one| one.0).filter(|rows| rows.is_finite());
            let last = sorted.last();
            Unseen {
                rows: middle,
                days: middle.map(|rows| rows / self.rows_a_day),
                slowest_rows: last.map(|one| one.0).filter(|rows| rows.is_finite()),
                slowest: last.map_or_else(String::new, |one| one.1.to_owned()),
            }
        })
    }
}

/// A plan for people.
#[must_use]
pub fn page(plan: &DriftPlan, name: &str) -> String {
    let mut page = String::new();
    let [columns, numbers] = plan.columns;
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(page, "Plan for {}", clean(name));
    let _ = writeln!(page, "  {} rows a day ({}), {columns} columns", compact(plan.rows_a_day), plan.traffic);
    let _ = writeln!(
        page,
        "  How long a shift of one column stays unseen, about, where false alarms of a layer are as rare as granted.\n  \
         Of {numbers} columns of numbers the one in the middle; sd is its standard deviation.\n"
    );
    let mut rows = Vec::new();
    for offer in &plan.budgets {
        rows.push(line(offer, "early", &offer.early, format!("{} rows", compact(offer.thresholds.early))));
        rows.push(line(
            offer,
            "paging",
            &offer.paging,
            format!("{} stretches", compact(offer.thresholds.paging)),
        ));
    }
    let head = ["FALSE ALARMS", "LAYER", "DOES", "THRESHOLD", "+0.1 SD", "+0.3 SD", "+0.5 SD"];
    page.push_str(&crate::cli::table(&head, &rows));
    for note in notes(plan) {
        let _ = writeln!(page, "\n  {}", clean(&note));
    }
    page
}

fn line(offer: &Offer, name: &str, layer: &Layer, threshold: String) -> Vec<String> {
    let does = if layer.pages { "pages" } else { "warns" };
    let unseen = layer.unseen.each_ref().map(|unseen| match (unseen.rows, unseen.days) {
        (Some(rows), Some(days)) => format!("{} rows, {}", compact(rows), span(days * DAY)),
        _ => "never".to_owned(),
    });
    let mut line = vec![offer.false_alarms.clone(), name.to_owned(), does.to_owned(), threshold];
    line.extend(unseen);
    line
}

/// What an operator should know before choosing.
fn notes(plan: &DriftPlan) -> Vec<String> {
    let mut notes = Vec::new();
    for (place, shift) in plan.shifts.iter().enumerate() {
        let affordable = |offer: &&Offer| offer.affordable.get(place).copied().unwrap_or_default();
        let budgets: Vec<_> =
            plan.budgets.iter().filter(affordable).map(|offer| offer.false_alarms.as_str()).collect();
        notes.push(match budgets[..] {
            [] => format!(
                "A shift of {shift} sd: no budget here tells it sooner than its next false alarm may come. At this \
                 traffic watch the gauges over longer windows, or accept that it stays unseen."
            ),
            _ => format!("A shift of {shift} sd is told sooner than the next false alarm at {}.", budgets.join(", ")),
        });
    }
    if let Some(asked) = plan.budgets.first() {
        notes.extend(slow(plan, asked));
        if asked.below_the_least {
            notes.push(format!(
                "At {} there are {} rows between two false alarms, fewer than the lowest threshold: the layer alarms less \
                 often than granted, and takes as long as for {} rows.",
                asked.false_alarms,
                grouped((plan.rows_a_day * asked.days_between) as u64),
                compact(asked.thresholds.early)
            ));
        }
        if !asked.early.pages {
            notes.push(
                "The early layer only warns here: rows of the reference itself would have made it alarm, or it has too \
                 few to be asked."
                    .to_owned(),
            );
        }
    }
    notes
}

fn slow(plan: &DriftPlan, asked: &Offer) -> Option<String> {
    let days = |layer: &Layer| layer.unseen[0].days.unwrap_or(f64::INFINITY);
    let least = days(&asked.early).min(days(&asked.paging));
    let long = least > LONG && least.is_finite();
    long.then(|| {
        format!(
            "At {} rows a day a shift of {} sd stays unseen for {} in any layer: that is what so little traffic can \
             tell.",
            compact(plan.rows_a_day),
            plan.shifts[0],
            span(least * DAY)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::file::tests::{header, reference};

    fn planned(rows_a_day: f64) -> DriftPlan {
        plan(&header(), &reference(), &Grant::default(), (rows_a_day, "told"))
    }

    #[test]
    fn more_traffic_and_larger_shifts_are_told_sooner_and_rarer_false_alarms_later() {
        let (busy, idle) = (planned(1e6), planned(1e4));
        let days = |plan: &DriftPlan, budget: usize, place: usize| {
            plan.budgets[budget].early.unseen[place].days.unwrap()
        };
        assert!(days(&busy, 0, 2) < days(&idle, 0, 2), "traffic");
        assert!(days(&busy, 0, 2) < days(&busy, 0, 1), "size");
        let names: Vec<_> = busy.budgets.iter().map(|offer| offer.false_alarms.as_str()).collect();
        assert_eq!(names, ["1 per week", "1 per day", "1 per month", "1 per year"], "each budget once");
        assert!(days(&busy, 1, 2) < days(&busy, 0, 2) && days(&busy, 0, 2) < days(&busy, 3, 2), "budget");
    }

    #[test]
    fn little_traffic_is_told_the_truth() {
        let page = page(&planned(1.0), "it");
        assert!(page.contains("no budget here tells it sooner"), "{page}");
        assert!(page.contains("fewer than the lowest threshold"), "{page}");
        let busy = self::page(&planned(1e7), "it");
        assert!(
            busy.contains("A shift of 0.5 sd is told sooner than the next false alarm at 1 per week"),
            "{busy}"
        );
    }

    #[test]
    fn the_same_reference_gives_the_same_plan() {
        let text = |plan| serde_json::to_string(&plan).unwrap();
        assert_eq!(text(planned(5e4)), text(planned(5e4)));
    }
}
