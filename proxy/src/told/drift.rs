//! The page of a change of drift: how sure it is, how large, which features moved where, and who is behind it.

use std::fmt::Write;

use serde::Deserialize;

use super::{BAR_CELLS, bar, clean, moment, number};

/// A record as far as its page shows it; what another version did not write is left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Drift {
    pub(super) kind: String,
    id: String,
    time: f64,
    model: String,
    version: Option<String>,
    change: String,
    layer: String,
    evidence: Option<f64>,
    threshold: Option<f64>,
    extent: String,
    rows: u64,
    reference: Reference,
    budget: Budget,
    features: Vec<Feature>,
    attribution: Attribution,
    explanation: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    rows: u64,
    provisional: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Budget {
    false_alarms_a_week: f64,
    rows_a_second: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Feature {
    name: String,
    effect: f64,
    bins: Vec<Bin>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Bin {
    holds: String,
    reference: f64,
    now: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Attribution {
    systemic: bool,
    named: Vec<Named>,
    most: Option<Most>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Most {
    who: String,
    share: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    level: String,
    who: String,
    share: f64,
}

impl Drift {
    pub(super) fn page(&self) -> String {
        let mut page = String::new();
        let Self { id, change, model, version, time, .. } = self;
        let version = version.as_ref().map(|version| format!(" version {}", clean(version)));
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(page, "{id}  drift: {}  {}", clean(change), moment(*time));
        let _ = writeln!(page, "model {}{}\n", clean(model), version.unwrap_or_default());
        let _ = writeln!(page, "{}\n", clean(&self.explanation));
        self.write_bars(&mut page);
        self.features.iter().for_each(|feature| feature.write(&mut page));
        self.write_facts(&mut page);
        page
    }

    fn write_bars(&self, page: &mut String) {
        let bars = [("evidence", self.evidence), ("threshold", self.threshold)];
        // Both grow by factors, not by steps.
        let size = |value: f64| value.max(1.0).ln();
        let longest = bars.iter().filter_map(|(_, value)| *value).map(size).fold(0.0, f64::max);
        for (name, value) in bars {
            let Some(value) = value else { continue };
            let share = if longest > 0.0 { size(value) / longest } else { 0.0 };
            let _ = writeln!(page, "  {name:<10} {:<BAR_CELLS$} {}", bar(share, BAR_CELLS), number(value));
        }
        page.push('\n');
    }

    fn write_facts(&self, page: &mut String) {
        let mut fact = |name: &str, value: &str| {
            let _ = writeln!(page, "  {name:<10} {}", clean(value));
        };
        fact("layer", &self.layer);
        fact("extent", &self.extent);
        fact("rows", &format!("{} since the watch began", self.rows));
        let trust = if self.reference.provisional { ", learned and provisional" } else { "" };
        fact("reference", &format!("{} rows{trust}", self.reference.rows));
        let Budget { false_alarms_a_week, rows_a_second } = self.budget;
        fact(
            "budget",
            &format!(
                "{} false alarms a week at {} rows a second",
                number(false_alarms_a_week),
                number(rows_a_second)
            ),
        );
        let Attribution { systemic, named, most } = &self.attribution;
        if *systemic {
            fact("behind it", "many known clients at once");
        }
        for Named { level, who, share } in named {
            fact(
                "behind it",
                &format!("{level} {who}, {} % of the latest rows", number((share * 100.0).round())),
            );
        }
        if let Some(Most { who, share }) = most {
            fact(
                "sent most",
                &format!("client {who}, {} % of the latest rows", number((share * 100.0).round())),
            );
        }
        if self.reference.provisional {
            fact(
                "next",
                "look at the references folder of the state folder; name a reference with drift.reference",
            );
        }
    }
}

impl Feature {
    fn write(&self, page: &mut String) {
        let _ = writeln!(page, "  {} (effect {})", clean(&self.name), number(self.effect));
        for Bin { holds, reference, now } in &self.bins {
            let cells = BAR_CELLS / 2;
            let percent = |share: f64| number((share * 1000.0).round() / 10.0);
            let _ = writeln!(page, "    {}", clean(holds));
            let _ = writeln!(page, "      then {:<cells$} {} %", bar(*reference, cells), percent(*reference));
            let _ = writeln!(page, "      now  {:<cells$} {} %", bar(*now, cells), percent(*now));
        }
        page.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::page;

    #[test]
    fn a_change_of_drift_is_told_with_its_bins_and_who_is_behind_it() {
        let line = serde_json::json!({
            "id": "f-1", "time": 1_800_000_000.0, "kind": "drift", "model": "homes", "version": "2", "change": "drifting",
            "layer": "paging", "evidence": 4.0e4, "threshold": 2.4e4, "extent": "large", "rows": 1200,
            "reference": {"rows": 5000, "provisional": true},
            "budget": {"false_alarms_a_week": 1.0, "rows_a_second": 10.0},
            "features": [{"name": "area\u{1b}", "effect": 0.4,
                "bins": [{"holds": "1 to 2", "reference": 0.1, "now": 0.5}]}],
            "attribution": {"systemic": false, "named": [{"level": "client", "who": "192.0.2.1", "share": 0.2}],
                "most": {"who": "192.0.2.7", "share": 0.4}},
            "explanation": "Model homes drifts."
        });
        let page = page(&line.to_string()).unwrap();
        for part in [
            "drift: drifting",
            "model homes version 2",
            "Model homes drifts.",
            "1 to 2",
            "50 %",
            "192.0.2.1",
            "192.0.2.7, 40 %",
            "provisional",
        ] {
            assert!(page.contains(part), "{part} is missing:\n{page}");
        }
        assert!(!page.contains('\u{1b}'), "names come from traffic");
    }
}
