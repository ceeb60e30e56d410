//! A reference and other rows side by side: what moved, how far, and how far it would have without a change.

use std::borrow::Cow;
use std::fmt::Write;

use checkgate_detectors::drift::bins::Bins;
use checkgate_detectors::drift::counts::Counts;
use checkgate_detectors::drift::feature::Feature;
use checkgate_detectors::drift::gauges::{EVENTS_MIN, Pair, shares};
use checkgate_detectors::drift::readings;
use checkgate_detectors::drift::reference::{ANSWER, DriftReference, Table};
use checkgate_detectors::drift::state::Extent;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::file::{ColumnRead, Header};
use super::rows::Choice;
use crate::rehearse::form::words::grouped;
use crate::told::{bar, clean, number};

/// Cells of the longest bar.
const BAR_CELLS: usize = 30;
/// Heights of a small bar.
const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// All columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Rows of the reference and of what is compared with it.
    pub rows: [u64; 2],
    /// The columns, those that moved most first.
    pub columns: Vec<Compared>,
    /// Columns of the reference that the rows do not have.
    pub absent: Vec<String>,
}

/// One column.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// How much of its stability index is more than chance.
    pub effect: f64,
    /// How large that is: `slight`, `small`, `medium` or `large`.
    #[schema(value_type = String)]
    pub extent: Cow<'static, str>,
    /// The gauges; none of too few rows.
    pub gauges: Vec<Gauge>,
    /// The slots.
    pub slots: Vec<Slot>,
    /// How far the rolling reference lies from the frozen one; absent where there is none, or too little was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub gap: Option<GapOfReferences>,
}

/// How far clean traffic has moved from the frozen reference by and by, whether anything was told or not.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct GapOfReferences {
    /// Jensen-Shannon distance of the rolling reference from the frozen one, 0 to 1.
    pub distance: f64,
    /// What it would be without a change, about.
    pub expected: f64,
}

/// One gauge.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Gauge {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Cow<'static, str>,
    /// What it shows.
    pub value: f64,
    /// What it would show without a change, about.
    pub expected: f64,
    /// How likely that much is without a change, where events are independent.
    pub p: Option<f64>,
}

/// One slot.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Slot {
    /// What falls into it.
    pub name: String,
    /// Its share of the reference.
    pub reference: f64,
    /// Its share now.
    pub now: f64,
}

/// Which columns a comparison needs, as what.
#[must_use]
pub fn choice(header: &Header) -> Choice {
    // A question's column of the same name, as columns by position have, is not the answer's.
    let is_asked = |name: &&str| header.columns.iter().any(|column| column.name == **name);
    let answers = header.columns.iter().filter_map(|column| column.name.strip_prefix(ANSWER));
    let answers = answers.filter(|name| !is_asked(name));
    let texts = header.columns.iter().filter(|column| column.as_labels);
    let bare = |column: &ColumnRead| column.name.strip_prefix(ANSWER).unwrap_or(&column.name).to_owned();
    Choice {
        text: texts.map(bare).collect(),
        answers: answers.map(str::to_owned).collect(),
        ..Choice::default()
    }
}

/// Compares rows with a reference.
#[must_use]
pub fn compare(header: &Header, reference: &DriftReference, table: &Table) -> Comparison {
    let (mut columns, mut absent) = (Vec::new(), Vec::new());
    for (feature, read) in reference.features().iter().zip(&header.columns) {
        match table.columns.iter().find(|column| column.name == feature.name) {
            None => absent.push(feature.name.clone()),
            Some(column) => {
                let mut counts = Counts::new(feature.bins.slots());
                column.values.iter().for_each(|value| counts.add(feature.bins.slot(*value)));
                columns.push(compared(feature, &read.names, &counts));
            }
        }
    }
    columns.sort_by(|one, other| other.effect.total_cmp(&one.effect));
    let rows = table.columns.first().map_or(0, |column| column.values.len() as u64);
    Comparison { rows: [reference.rows(), rows], columns, absent }
}

fn compared(feature: &Feature, names: &[String], counts: &Counts) -> Compared {
    let pair = Pair { reference: &feature.counts, window: counts, bins: &feature.bins };
    beside(&feature.name, &pair, names)
}

/// What a pair of counts shows; `names` are those of labels, the most frequent first, as far as they are known.
#[must_use]
pub fn beside(name: &str, pair: &Pair<'_>, names: &[String]) -> Compared {
    let psi = pair.psi();
    let effect = (psi.value - psi.expected).max(0.0);
    let gauge = |(name, reading): (&'static str, checkgate_detectors::drift::gauges::Reading)| Gauge {
        name: name.into(),
        value: reading.value,
        expected: reading.expected,
        p: reading.p,
    };
    // A column of infinite values has an infinite distance, which no JSON has.
    let readings = readings(pair, EVENTS_MIN).into_iter().filter(|(_, reading)| reading.value.is_finite());
    let [before, now] = [pair.reference, pair.window].map(|counts| shares(counts.slots()));
    let slot = |(slot, (reference, now)): (usize, (f64, f64))| Slot {
        name: slot_name(pair.bins, names, slot),
        reference,
        now,
    };
    Compared {
        name: name.to_owned(),
        effect,
        extent: extent(Extent::of(effect)).into(),
        gauges: readings.map(gauge).collect(),
        slots: before.into_iter().zip(now).enumerate().map(slot).collect(),
        gap: None,
    }
}

/// What falls into a slot.
fn slot_name(bins: &Bins, names: &[String], slot: usize) -> String {
    let scale = bins.scale();
    if slot == scale {
        return "missing".to_owned();
    }
    if slot > scale {
        return "wrong type".to_owned();
    }
    match bins {
        Bins::Numbers(_) => match (bins.edge(slot), bins.edge(slot + 1)) {
            (None, None) => "any number".to_owned(),
            (None, Some(to)) => format!("below {}", number(to)),
            (Some(from), None) => format!("{} and above", number(from)),
            (Some(from), Some(to)) => format!("{} to {}", number(from), number(to)),
        },
        Bins::Labels(_) if slot + 1 == scale => "never seen".to_owned(),
        Bins::Labels(_) if slot + 2 == scale => "other labels".to_owned(),
        Bins::Labels(_) => {
            let named = names.get(slot).filter(|name| !name.is_empty());
            named.cloned().unwrap_or_else(|| format!("label {}", slot + 1))
        }
    }
}

/// A comparison for people: all columns in short, and the slots of those that are `named`.
#[must_use]
pub fn page(comparison: &Comparison, name: &str, against: &str, named: &[String]) -> String {
    let mut page = String::new();
    let [before, now] = comparison.rows.map(grouped);
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(page, "{} ({before} rows) and {} ({now} rows)\n", clean(name), clean(against));
    columns(&mut page, &comparison.columns, named);
    if !comparison.absent.is_empty() {
        let absent: Vec<_> = comparison.absent.iter().map(|name| format!("{name:?}")).collect();
        let _ = writeln!(page, "\n  note: the rows lack {}", clean(&absent.join(", ")));
    }
    page.push_str(
        "\n  In brackets: what unchanged rows would show, about. Effect: how much of psi is more than that. None of it \
         is an alarm.\n",
    );
    page
}

/// Columns in short, and the slots of those that are `named`.
pub fn columns(page: &mut String, columns: &[Compared], named: &[String]) {
    for column in columns {
        short(page, column);
        if named.contains(&column.name) {
            slots(page, column);
        }
    }
}

fn short(page: &mut String, column: &Compared) {
    let _ = writeln!(page, "{}  effect {} {}", clean(&column.name), number(column.effect), column.extent);
    let gauges: Vec<_> =
        column.gauges.iter().filter(|gauge| SHOWN.contains(&&*gauge.name)).map(shown).collect();
    let gauges =
        if gauges.is_empty() { "fewer rows than a gauge is shown for".to_owned() } else { gauges.join("  ") };
    let _ = writeln!(page, "  {gauges}");
    let highest =
        column.slots.iter().flat_map(|slot| [slot.reference, slot.now]).fold(f64::MIN_POSITIVE, f64::max);
    let line = |share: fn(&Slot) -> f64| {
        column.slots.iter().map(|slot| height(share(slot) / highest)).collect::<String>()
    };
    let _ = writeln!(
        page,
        "  reference |{}|\n  now       |{}|",
        line(|slot| slot.reference),
        line(|slot| slot.now)
    );
}

/// Gauges of the short form; JSON has all.
const SHOWN: [&str; 4] = ["psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein"];

fn shown(gauge: &Gauge) -> String {
    let p = gauge.p.map_or_else(String::new, |p| format!(", p {}", probability(p)));
    format!("{} {} ({}{p})", gauge.name, number(gauge.value), number(gauge.expected))
}

fn probability(p: f64) -> String {
    if p < 1e-4 { "below 0.0001".to_owned() } else { format!("{p:.4}") }
}

fn height(part: f64) -> char {
    let step = (part * 8.0).ceil().clamp(0.0, 8.0) as usize;
    HEIGHTS.get(step).copied().unwrap_or(' ')
}

fn slots(page: &mut String, column: &Compared) {
    let highest =
        column.slots.iter().flat_map(|slot| [slot.reference, slot.now]).fold(f64::MIN_POSITIVE, f64::max);
    for slot in column.slots.iter().filter(|slot| slot.reference > 0.0 || slot.now > 0.0) {
        let name: String = clean(&slot.name).chars().take(28).collect();
        for (whose, share) in [("reference", slot.reference), ("now", slot.now)] {
            let name = if whose == "now" { "" } else { &name };
            let _ = writeln!(
                page,
                "    {name:<28} {whose:<9} {:>5.1} %  {}",
                share * 100.0,
                bar(share / highest, BAR_CELLS)
            );
        }
    }
}

/// An extent as a word.
#[must_use]
pub fn extent(extent: Extent) -> &'static str {
    match extent {
        Extent::Slight => "slight",
        Extent::Small => "small",
        Extent::Medium => "medium",
        Extent::Large => "large",
    }
}

#[cfg(test)]
pub mod tests {
    use checkgate_detectors::drift::bins::Value;
    use checkgate_detectors::drift::reference::{Column, Settings};

    use super::*;

    /// A reference of a number and a label, and rows in which both moved.
    pub fn moved() -> Comparison {
        let key = [7, 9];
        let number = |row: u32, by: f64| Value::Number(f64::from(row * 7919 % 2003) + by);
        let label =
            |row: u32, share: u32| Value::label(key, if row % 10 < share { "north" } else { "<south>" });
        let table = |by: f64, share: u32| Table {
            columns: vec![
                Column { name: "age".into(), values: (0..2000).map(|row| number(row, by)).collect() },
                Column {
                    name: "answer:region".into(),
                    values: (0..2000).map(|row| label(row, share)).collect(),
                },
                Column { name: "gone".into(), values: vec![Value::Number(1.0); 2000] },
            ],
            times: Vec::new(),
        };
        let reference = DriftReference::of(&table(0.0, 8), &Settings::default()).unwrap().with_label_key(key);
        let mut header = crate::reference::file::tests::header();
        let read = |name: &str, names: &[&str]| ColumnRead {
            name: name.into(),
            kind: String::new(),
            missing: 0,
            wrong_type: 0,
            first_wrong: None,
            constant: false,
            labels: 0,
            as_labels: false,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        header.columns =
            vec![read("age", &[]), read("answer:region", &["north", "<south>"]), read("gone", &[])];
        let mut now = table(100.0, 3);
        now.columns.pop();
        compare(&header, &reference, &now)
    }

    #[test]
    fn what_moved_most_stands_first_with_its_gauges_beside_what_chance_gives() {
        let comparison = moved();
        let names: Vec<_> = comparison.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["answer:region", "age"]);
        assert_eq!(comparison.absent, ["gone"]);
        for column in &comparison.columns {
            let psi = column.gauges.iter().find(|gauge| gauge.name == "psi").unwrap();
            assert!(psi.value > 10.0 * psi.expected && column.extent == "large", "{column:?}");
            assert!((column.effect - (psi.value - psi.expected)).abs() < 1e-12, "{column:?}");
            let whole: f64 = column.slots.iter().map(|slot| slot.now).sum();
            assert!((whole - 1.0).abs() < 1e-9, "every row falls into one slot: {whole}");
        }
        let page = page(&comparison, "it", "now.csv", &["answer:region".into()]);
        for told in [
            "answer:region  effect 1.",
            "north",
            "<south>",
            "the rows lack \"gone\"",
            "None of it is an alarm",
        ] {
            assert!(page.contains(told), "{told} in {page}");
        }
    }

    #[test]
    fn a_column_of_answers_is_told_from_a_question_s_of_the_same_name() {
        let mut header = crate::reference::file::tests::header();
        let read = |name: &str| -> ColumnRead {
            serde_json::from_value(serde_json::json!({
                "name": name, "kind": "numbers", "missing": 0, "wrong_type": 0, "first_wrong": null, "constant": false,
                "labels": 0,
            }))
            .unwrap()
        };
        header.columns = vec![read("0"), read("answer:0"), read("answer:price")];
        assert_eq!(choice(&header).answers, ["price"]);
    }

    #[test]
    fn rows_like_the_reference_have_no_effect_and_too_few_no_gauge() {
        let header = crate::reference::file::tests::header();
        let reference = crate::reference::file::tests::reference();
        let rows = |count: u32| Table {
            columns: vec![Column {
                name: "age".into(),
                values: (0..count).map(|row| Value::Number(f64::from(row * 7919 % 2000))).collect(),
            }],
            times: Vec::new(),
        };
        let mut header = header;
        header.columns = vec![ColumnRead { name: "age".into(), ..serde_json::from_value(serde_json::json!({
            "name": "age", "kind": "numbers", "missing": 0, "wrong_type": 0, "first_wrong": null, "constant": false,
            "labels": 0,
        })).unwrap() }];
        let same = compare(&header, &reference, &rows(2000));
        assert!(same.columns[0].effect < 0.01 && same.columns[0].extent == "slight", "{same:?}");
        assert!(compare(&header, &reference, &rows(50)).columns[0].gauges.is_empty(), "50 rows tell nothing");
    }
}
