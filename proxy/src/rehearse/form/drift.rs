//! Drift in the page: when which model drifted, what was told, and how the features that moved most lay then.

use std::collections::BTreeMap;
use std::fmt::Write;

use checkgate_detectors::drift::record::{Bin, DriftRecord, Moved, change};
use checkgate_detectors::drift::state::Change;

use super::escape::Escaped;
use super::plot::{LEFT, LINE, Plot, RIGHT, WIDTH, inner};
use super::words;
use crate::rehearse::report::Traffic;
use crate::told::{moment, number};

/// Models that the line of time shows.
const MODELS_SHOWN: usize = 30;
/// Changes that the table shows; the JSON form has the first 1,000.
const CHANGES_SHOWN: usize = 50;
/// Features that are drawn.
const FEATURES_DRAWN: usize = 6;
/// Height of the highest bar of a feature.
const BARS: f64 = 90.0;

/// A drift of one model, or a rule of it that was met.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    from: f64,
    until: f64,
    is_rule: bool,
}

/// What is drawn of one model.
#[derive(Debug, Default)]
struct Line {
    spans: Vec<Span>,
    warnings: Vec<f64>,
}

/// The section; nothing where nothing was told.
pub fn write(page: &mut String, traffic: &Traffic) {
    if traffic.drift.is_empty() {
        return;
    }
    page.push_str("<section>\n<h2>Drift</h2>\n<figure>\n");
    page.push_str(&timeline(traffic));
    page.push_str(
        "<figcaption>For each model a bar for as long as it drifts, a dot for each warning, and a thin bar while a rule on a \
         gauge is met.</figcaption>\n</figure>\n",
    );
    for (record, moved) in worst(&traffic.drift) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            page,
            "<figure>\n{}<figcaption>Feature <code>{}</code> of <code>{}</code> at {}, effect {}: its shares of the \
             reference, light, and then, dark.</figcaption>\n</figure>",
            bars(moved),
            Escaped(&moved.name),
            Escaped(&record.model),
            moment(record.time.seconds()),
            number(moved.effect)
        );
    }
    write_changes(page, traffic);
    page.push_str("</section>\n");
}

fn write_changes(page: &mut String, traffic: &Traffic) {
    page.push_str(
        "<div class=\"wide\">\n<table>\n<thead><tr><th>When</th><th>Model</th><th>What</th></tr></thead>\n<tbody>\n",
    );
    for record in traffic.drift.iter().take(CHANGES_SHOWN) {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td><code>{}</code></td><td class=\"{}\">{}<span class=\"why\">{}</span></td></tr>",
            moment(record.time.seconds()),
            Escaped(&record.model),
            class(record.change),
            change(record.change),
            Escaped(&record.explanation)
        );
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
    let more = traffic.drift.len().saturating_sub(CHANGES_SHOWN) as u64 + traffic.drift_not_shown;
    if more > 0 {
        let more = words::grouped(more);
        let _ = writeln!(
            page,
            "<p class=\"soft\">And {more} more changes; the JSON form has the first 1,000.</p>"
        );
    }
}

fn class(change: Change) -> &'static str {
    match change {
        Change::Drift => "high",
        Change::Warning | Change::Met => "medium",
        Change::Over | Change::Unmet => "calm",
    }
}

/// What is drawn of each model, by name.
fn lines(traffic: &Traffic) -> BTreeMap<&str, Line> {
    let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
    // What began, by model and rule; a drift has none.
    let mut open: BTreeMap<(&str, Option<&str>), f64> = BTreeMap::new();
    for record in &traffic.drift {
        let (model, time) = (&*record.model, record.time.seconds());
        let rule = record.rule.as_ref().map(|rule| rule.when.as_str());
        let line = lines.entry(model).or_default();
        match record.change {
            Change::Warning => line.warnings.push(time),
            Change::Drift | Change::Met => _ = open.entry((model, rule)).or_insert(time),
            // One that began before the recording is drawn from its beginning.
            Change::Over | Change::Unmet => {
                let from = open.remove(&(model, rule)).unwrap_or(traffic.from);
                line.spans.push(Span { from, until: time, is_rule: rule.is_some() });
            }
        }
    }
    for ((model, rule), from) in open {
        let span = Span { from, until: traffic.until, is_rule: rule.is_some() };
        lines.entry(model).or_default().spans.push(span);
    }
    lines
}

fn timeline(traffic: &Traffic) -> String {
    let lines = lines(traffic);
    let shown = lines.len().min(MODELS_SHOWN);
    let mut plot = Plot::new(28.0 + LINE * shown as f64, "Drift of models over time");
    let length = (traffic.until - traffic.from).max(1e-6);
    let x = |seconds: f64| LEFT + inner() * ((seconds - traffic.from) / length).clamp(0.0, 1.0);
    plot.text((LEFT, 13.0), "start", "soft", &moment(traffic.from));
    plot.text((WIDTH - RIGHT, 13.0), "end", "soft", &format!("{} later", words::span(length)));
    for (place, (model, line)) in lines.iter().take(shown).enumerate() {
        let y = 22.0 + LINE * place as f64;
        let middle = y + LINE / 2.0;
        plot.label(y, model);
        plot.line((LEFT, middle), (WIDTH - RIGHT, middle), "line");
        for span in &line.spans {
            let (what, class, height) = if span.is_rule {
                ("a rule is met", "fill-medium", 4.0)
            } else {
                ("drifting", "fill-high", 10.0)
            };
            let title =
                format!("{what} for {} from {}", words::span(span.until - span.from), moment(span.from));
            let size = (x(span.until) - x(span.from), height);
            plot.bar((x(span.from), middle - height / 2.0), size, class, &title);
        }
        for time in &line.warnings {
            plot.dot((x(*time), middle), "fill-medium", &format!("warning at {}", moment(*time)));
        }
    }
    plot.done()
}

/// The features that moved most, each where it had moved furthest.
fn worst(records: &[DriftRecord]) -> Vec<(&DriftRecord, &Moved)> {
    let mut furthest: BTreeMap<(&str, &str), (&DriftRecord, &Moved)> = BTreeMap::new();
    for record in records {
        for moved in record.features.iter().filter(|moved| !moved.all_bins.is_empty()) {
            let known = furthest.entry((&record.model, &moved.name)).or_insert((record, moved));
            if moved.effect > known.1.effect {
                *known = (record, moved);
            }
        }
    }
    let mut all: Vec<_> = furthest.into_values().collect();
    all.sort_by(|one, other| other.1.effect.total_cmp(&one.1.effect));
    all.truncate(FEATURES_DRAWN);
    all
}

/// The bins of a feature, two bars for each.
fn bars(moved: &Moved) -> String {
    let label = format!("Shares of {}, reference and then", moved.name);
    let mut plot = Plot::new(BARS + 12.0, &label);
    plot.label(BARS - 16.0, &moved.name);
    let shares = moved.all_bins.iter().flat_map(|bin| [bin.reference, bin.now]);
    let highest = shares.fold(f64::MIN_POSITIVE, f64::max);
    let step = inner() / moved.all_bins.len().max(1) as f64;
    for (place, Bin { holds, reference, now }) in moved.all_bins.iter().enumerate() {
        let x = LEFT + place as f64 * step;
        for (offset, share, class, whose) in
            [(0.0, reference, "bar", "the reference"), (0.44, now, "got", "then")]
        {
            let title = format!("{holds}: {} of {whose}", words::percent(*share));
            let height = BARS * share / highest;
            plot.bar((x + offset * step, BARS - height), (step * 0.42, height), class, &title);
        }
    }
    plot.line((LEFT, BARS), (WIDTH - RIGHT, BARS), "rule");
    plot.done()
}

#[cfg(test)]
mod tests {
    use checkgate_detectors::drift::record::{About, Behind, Ruled, Spent};
    use checkgate_detectors::drift::state::Extent;
    use checkgate_detectors::drift::watch::Layer;
    use checkgate_detectors::facts::Time;
    use checkgate_detectors::finding::{FindingId, Kind, Mode};
    use checkgate_detectors::severity::Severity;

    use super::*;

    fn record(seconds: u64, change: Change, rule: Option<&str>) -> DriftRecord {
        let bin = |holds: &str, reference, now| Bin { holds: holds.into(), reference, now };
        let moved = Moved {
            name: "<area>".into(),
            effect: 0.4,
            evidence: 1.0,
            by: None,
            bins: Vec::new(),
            all_bins: vec![bin("below 3", 0.6, 0.2), bin("<above>", 0.4, 0.8)],
        };
        DriftRecord {
            id: FindingId(seconds),
            time: Time(seconds * 1_000_000),
            kind: Kind::Drift,
            version: None,
            model: "<homes>".into(),
            mode: Mode::Observe,
            change,
            layer: Layer::Paging,
            evidence: 1.0,
            threshold: 1.0,
            extent: Extent::Large,
            rows: 9,
            reference: About { rows: 9, provisional: true },
            budget: Spent { false_alarms_a_week: 1.0, rows_a_second: 1.0 },
            rule: rule.map(|when| Ruled {
                when: when.into(),
                feature: None,
                severity: Severity::Low,
                expected: 0.1,
            }),
            features: if change == Change::Drift { vec![moved] } else { Vec::new() },
            attribution: Behind::default(),
            explanation: "Model <homes> & so on".into(),
        }
    }

    fn traffic(drift: Vec<DriftRecord>) -> Traffic {
        Traffic { from: 0.0, until: 100.0, drift, ..Traffic::default() }
    }

    #[test]
    fn a_drift_is_a_bar_from_its_beginning_to_its_end_or_to_the_end_of_the_recording() {
        let told = traffic(vec![
            record(10, Change::Warning, None),
            record(20, Change::Drift, None),
            record(30, Change::Met, Some("psi > 0.2")),
            record(40, Change::Over, None),
            record(50, Change::Unmet, Some("ks > 0.1")),
            record(60, Change::Drift, None),
        ]);
        let lines = lines(&told);
        let line = &lines["<homes>"];
        let span = |from, until, is_rule| Span { from, until, is_rule };
        let expected = [
            span(20.0, 40.0, false),
            span(0.0, 50.0, true),
            span(60.0, 100.0, false),
            span(30.0, 100.0, true),
        ];
        assert_eq!(line.spans, expected);
        assert_eq!(line.warnings, [10.0]);
    }

    #[test]
    fn nothing_from_traffic_is_markup_and_every_bin_has_two_bars() {
        let mut page = String::new();
        write(&mut page, &traffic(vec![record(20, Change::Drift, None)]));
        assert!(!page.contains("<area>") && !page.contains("<homes>") && !page.contains("<above>"), "{page}");
        assert_eq!(page.matches("class=\"bar\"").count(), 2, "{page}");
        assert_eq!(page.matches("class=\"got\"").count(), 2, "{page}");
        assert!(page.contains("drifting for 80 s"), "{page}");
        let mut none = String::new();
        write(&mut none, &traffic(Vec::new()));
        assert!(none.is_empty());
    }
}
