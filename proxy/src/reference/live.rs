//! How the drift of a model of a running checkgate stands, for people.

use std::fmt::Write;

use super::compare;
use crate::admin::drift::{BudgetOfDrift, FeatureOfDrift, ModelDrift, Rates, ReferenceOfDrift};
use crate::rehearse::form::words::{grouped, percent, span};
use crate::told::{bar, clean, moment, number};

/// Cells of the longest bar.
const BAR_CELLS: usize = 24;

/// The page: state, reference and budget, then each feature; the slots of those that are `named`.
#[must_use]
pub fn page(drift: &ModelDrift, named: &[String]) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail, here and below.
    let since = drift.since.map_or_else(String::new, |since| format!(" since {}", moment(since)));
    let version = drift.version.as_ref().map(|version| format!(" version {}", clean(version)));
    let name = format!("{}{}", clean(&drift.model), version.unwrap_or_default());
    let _ = writeln!(page, "{name}  {}{since}\n", clean(&drift.state));
    match &drift.reference {
        Some(reference) => write_reference(&mut page, reference),
        None => {
            let learned = grouped(drift.learned);
            let _ = writeln!(page, "  reference  is being learned: {learned} rows so far");
        }
    }
    let rows = grouped(drift.rows);
    let began = drift.watched_since.map_or_else(String::new, |began| format!(" since {}", moment(began)));
    let _ = writeln!(page, "  watched    {rows} rows{began}");
    if !drift.versions.is_empty() {
        let versions: Vec<String> = drift.versions.iter().map(|version| clean(version)).collect();
        let others = grouped(drift.other_versions);
        let _ = writeln!(
            page,
            "  apart      versions {}; {others} rows of others are the model's",
            versions.join(", ")
        );
    }
    let left = &drift.not_counted;
    let counts = [left.over_share, left.unknown_columns, left.no_room, left.maintenance];
    if counts != [0; 4] {
        let [share, columns, room, exchanged] = counts.map(grouped);
        let _ = writeln!(
            page,
            "  not counted  {share} rows beyond a client's share, {columns} of other columns, {room} without room, \
             {exchanged} in maintenance"
        );
    }
    write_budget(&mut page, &drift.budget);
    page.push('\n');
    drift.features.iter().for_each(|feature| write_feature(&mut page, feature, named));
    page.push_str(
        "\n  In brackets: what unchanged rows would show, about. Effect: how much of psi is more than that. Gauges are \
         of the last half hour. Gap: how far a reference that follows clean traffic has moved from the frozen one. None \
         of them is an alarm.\n",
    );
    page
}

fn write_reference(page: &mut String, reference: &ReferenceOfDrift) {
    let age = reference.age_seconds.map_or_else(
        || ", whose rows have no times".to_owned(),
        |age| format!(", the last of them {} ago", span(age)),
    );
    let _ = writeln!(
        page,
        "  reference  {} of {} rows{age}, {}",
        clean(&reference.version),
        grouped(reference.rows),
        clean(&reference.trust)
    );
}

fn write_budget(page: &mut String, budget: &BudgetOfDrift) {
    let BudgetOfDrift { false_alarms_a_week, warnings, drifts, recoveries, .. } = budget;
    let _ = writeln!(
        page,
        "  budget     {} false alarms a week for each layer; told: {warnings} warnings, {drifts} drifts, {recoveries} ends",
        number(*false_alarms_a_week)
    );
    for (name, layer) in [("early", &budget.early), ("paging", &budget.paging)] {
        let threshold = layer
            .threshold
            .map_or_else(String::new, |threshold| format!(" of {}", grouped(threshold as u64)));
        let filled = bar(layer.spent, BAR_CELLS);
        let _ = writeln!(page, "    {name:<8} |{filled:<BAR_CELLS$}| {}{threshold}", percent(layer.spent));
    }
}

fn write_feature(page: &mut String, feature: &FeatureOfDrift, named: &[String]) {
    compare::columns(page, std::slice::from_ref(&feature.compared), named);
    let rate = |name: &str, rates: Rates| {
        let told = rates.reference > 0.0 || rates.now > 0.0;
        told.then(|| format!("{name} {} ({})", percent(rates.now), percent(rates.reference)))
    };
    let rates = [
        rate("missing", feature.missing),
        rate("wrong type", feature.wrong_type),
        rate("outside", feature.outside),
    ];
    let by = feature.told_by.as_ref().map(|by| format!("told by {}", clean(by)));
    let gap =
        feature.compared.gap.map(|gap| format!("gap {} ({})", number(gap.distance), number(gap.expected)));
    let evidence = format!("evidence {} of the threshold", percent(feature.evidence));
    let facts: Vec<String> =
        [Some(clean(&feature.state)), Some(evidence), gap, by].into_iter().chain(rates).flatten().collect();
    let _ = writeln!(page, "  {}\n", facts.join("  "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_since_when_what_is_used_and_what_moved_and_steers_no_terminal() {
        let mut drift: ModelDrift = serde_json::from_value(serde_json::json!({
            "model": "homes\u{1b}[2J", "version": "2", "versions": ["2"], "other_versions": 7, "state": "drifting", "since": 1_800_000_000.0, "rows": 12_345, "learned": 0,
            "watched_since": 1_799_000_000.0,
            "reference": {"version": "00ff", "rows": 5000, "trust": "trusted", "age_seconds": 7200.0, "left_out": 0},
            "budget": {"false_alarms_a_week": 1.0, "early": {"threshold": 60480.0, "spent": 0.25},
                "paging": {"threshold": 241.0, "spent": 1.0}, "warnings": 1, "drifts": 1, "recoveries": 0, "rules_met": 0},
            "not_counted": {"over_share": 3, "unknown_columns": 0, "no_room": 0, "maintenance": 0},
            "features": [{"name": "area", "effect": 0.4, "extent": "large", "state": "moved", "evidence": 0.5,
                "gauges": [{"name": "psi", "value": 0.5, "expected": 0.01, "p": null}],
                "slots": [{"name": "below 3", "reference": 0.5, "now": 0.1}, {"name": "3 and above", "reference": 0.5,
                    "now": 0.9}],
                "gap": {"distance": 0.125, "expected": 0.02},
                "last_p": 0.01, "events": 900, "missing": {"reference": 0.0, "now": 0.1},
                "wrong_type": {"reference": 0.0, "now": 0.0}, "outside": {"reference": 0.0, "now": 0.0}}],
        }))
        .unwrap();
        let page = page(&drift, &["area".into()]);
        for told in [
            "version 2  drifting since Fri, 15 Jan 2027",
            "12,345 rows",
            "versions 2; 7 rows of others",
            "00ff of 5,000 rows",
            "1 false alarms a week",
            "of 60,480",
            "psi 0.5 (0.01)",
            "gap 0.125 (0.02)",
            "missing 10",
            "below 3",
            "moved",
        ] {
            assert!(page.contains(told), "{told} is missing:\n{page}");
        }
        assert!(!page.contains('\u{1b}') && !page.contains("wrong type"), "{page}");
        (drift.reference, drift.since, drift.state) = (None, None, "learning".into());
        assert!(super::page(&drift, &[]).contains("is being learned"));
    }
}
