//! What a reference is and what it is worth, in words and as JSON.

use std::fmt::Write;

use checkgate_detectors::drift::budget::{Budget, Thresholds};
use checkgate_detectors::drift::reference::DriftReference;
use serde_json::{Value, json};

use super::budget::Grant;
use super::file::{ColumnRead, Header, ReferenceFile, Signed};
use crate::rehearse::form::words::{counted, grouped, span};
use crate::told::{clean, moment};

/// Seconds of a day.
const DAY: f64 = 86_400.0;
/// Columns that are shown one by one; JSON has all.
const COLUMNS_SHOWN: usize = 60;
/// Labels of which more than this part are different name rows, and tell nothing.
const IDENTIFIER: f64 = 0.9;
/// Without a budget, a column whose evidence exceeds the rows by this factor is pointed out: one in so many would
/// where nothing changed.
const ODD: f64 = 1000.0;

/// What traffic there is, and what is granted.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// False alarms that each layer may raise.
    pub grant: Grant,
    /// Rows of a day, where they are told.
    pub rows_a_day: Option<f64>,
}

/// A reference beside its terms.
pub struct Appraisal<'a> {
    header: &'a Header,
    reference: &'a DriftReference,
    grant: &'a Grant,
    rows_a_day: Option<f64>,
}

impl<'a> Appraisal<'a> {
    /// Where the terms tell no traffic, that of the reference itself counts, if its rows have times.
    #[must_use]
    pub fn new(header: &'a Header, reference: &'a DriftReference, terms: &'a Terms) -> Self {
        let rows_a_day = terms.rows_a_day.or_else(|| rows_a_day(header));
        Self { header, reference, grant: &terms.grant, rows_a_day }
    }

    /// The thresholds that keep the grant; nothing where no traffic is known.
    #[must_use]
    pub fn thresholds(&self) -> Option<Thresholds> {
        let budget = Budget {
            false_alarms_a_week: self.grant.a_week,
            rows_a_second: self.rows_a_day? / DAY,
            rows_a_stretch: rows_a_stretch(self.header, self.reference),
        };
        Some(budget.thresholds())
    }

    fn stretches(&self) -> usize {
        self.reference.features().first().map_or(0, |feature| feature.calibration.stretches())
    }

    /// Columns whose own held-out rows would have alarmed, or nearly.
    fn odd(&self) -> Vec<&str> {
        let features = self.reference.features();
        let count = features.len() as f64;
        let held = self.reference.quality().rows as f64;
        let limit = self.thresholds().map_or(ODD * held, |thresholds| thresholds.early) * count;
        let odd = features.iter().filter(|feature| held > 0.0 && feature.held.early >= limit);
        odd.map(|feature| feature.name.as_str()).collect()
    }
}

/// Rows of a day that the reference itself had.
#[must_use]
pub fn rows_a_day(header: &Header) -> Option<f64> {
    let (from, until) = header.provenance.span?;
    (until > from).then(|| header.provenance.rows as f64 / (until - from) * DAY)
}

/// Rows of a stretch on average: where the traffic is dense a stretch lasts longer than its fewest rows.
#[must_use]
pub fn rows_a_stretch(header: &Header, reference: &DriftReference) -> f64 {
    let stretches = reference.features().first().map_or(0, |feature| feature.calibration.stretches());
    let measured = header.provenance.rows as f64 / (stretches.max(1) as f64);
    if stretches == 0 {
        f64::from(reference.cut().rows())
    } else {
        measured.max(f64::from(reference.cut().rows()))
    }
}

/// The page of a reference.
#[must_use]
pub fn page(file: &ReferenceFile, name: &str, terms: &Terms) -> String {
    let appraisal = Appraisal::new(&file.header, &file.reference, terms);
    let mut page = String::new();
    head(&mut page, file, name);
    value(&mut page, &appraisal);
    notes(&mut page, &appraisal);
    columns(&mut page, &appraisal);
    page
}

fn head(page: &mut String, file: &ReferenceFile, name: &str) {
    let Header { provenance, columns, left_out, .. } = &file.header;
    // Writing to a String cannot fail, here and below.
    let mut say = |key: &str, text: String| _ = writeln!(page, "  {key:<10} {}", clean(&text));
    say("reference", name.to_owned());
    say("made", format!("{} by {} with {}", moment(provenance.at), provenance.by, provenance.program));
    for from in &provenance.from {
        let digest = from.sha256.get(..16).unwrap_or(&from.sha256);
        say(
            "from",
            format!("{}: {}, {}, sha256 {digest}...", from.name, from.form, counted(from.rows, "row")),
        );
    }
    let gaps = provenance.rows_with_missing;
    let sorted = if provenance.sorted { "; put in the order of their times" } else { "" };
    say("rows", format!("{}, {} of them lack a value{sorted}", grouped(provenance.rows), grouped(gaps)));
    say("span", spanned(&file.header));
    let labels = columns.iter().filter(|column| column.kind == "labels").count();
    let kinds = format!("{} of numbers, {labels} of labels", columns.len() - labels);
    say("columns", format!("{} watched: {kinds}; {} left out", columns.len(), left_out.len()));
    say("checksum", format!("whole, sha256 {}", file.sha256));
    say("signature", signature(&file.signed));
}

fn spanned(header: &Header) -> String {
    match header.provenance.span {
        None => "not known: no column says when a row came (--time COLUMN)".to_owned(),
        Some((from, until)) => {
            format!("{}, from {} until {}", span(until - from), moment(from), moment(until))
        }
    }
}

/// What is known of a signature, in words.
#[must_use]
pub fn signature(signed: &Signed) -> String {
    match signed {
        Signed::No => "none".to_owned(),
        Signed::Unchecked(key) => format!("by the key {key}, not checked (--key FILE checks it)"),
        Signed::By(key) => format!("by the key {key}, verified"),
    }
}

fn value(page: &mut String, appraisal: &Appraisal<'_>) {
    let quality = appraisal.reference.quality();
    let _ = writeln!(page, "\nIts own last third, watched by what the first two thirds make");
    if quality.rows == 0 {
        let _ = writeln!(
            page,
            "  too few rows to hold any out: the early layer will not page by itself. Give 1,500 or more."
        );
        return;
    }
    let (rows, stretches) = (grouped(quality.rows), grouped(quality.stretches));
    let _ = writeln!(
        page,
        "  early layer    evidence up to {} in {rows} rows{}",
        compact(quality.early),
        early(appraisal)
    );
    let rows = grouped(u64::from(appraisal.reference.cut().rows()));
    let _ = writeln!(
        page,
        "  paging layer   evidence up to {} in {stretches} stretches of {rows} rows or more{}",
        compact(quality.paging),
        paging(appraisal)
    );
}

fn early(appraisal: &Appraisal<'_>) -> String {
    let quality = appraisal.reference.quality();
    let Some(thresholds) = appraisal.thresholds() else {
        let least = grouped(quality.early.min(1e12) as u64 + 1);
        return format!(
            "\n                 it may page where a false alarm in {least} rows, or fewer, is granted; --rows-a-day says for a budget"
        );
    };
    let (threshold, grant) = (compact(thresholds.early), appraisal.grant);
    if quality.early_may_page(&thresholds) {
        format!(", quiet at {grant} (threshold {threshold}): it may page by itself")
    } else {
        let chance = chance(quality.rows, thresholds.early);
        format!(", an alarm at {grant} (threshold {threshold}; {chance}): it warns and never pages by itself")
    }
}

fn paging(appraisal: &Appraisal<'_>) -> String {
    let Some(thresholds) = appraisal.thresholds() else { return String::new() };
    let (threshold, grant) = (compact(thresholds.paging), appraisal.grant);
    let quality = appraisal.reference.quality();
    if quality.paging_alarms(&thresholds) {
        let chance = chance(quality.stretches, thresholds.paging);
        format!(
            ", an alarm at {grant} (threshold {threshold}; {chance}): unless by chance, its stretches differ more over \
             time than the promise allows"
        )
    } else {
        format!(", quiet at {grant} (threshold {threshold})")
    }
}

/// How often chance alone gives an alarm: evidence grows by at most one with each event or stretch, on average (Doob).
fn chance(count: u64, threshold: f64) -> String {
    format!("by chance in at most {:.1} % of such references", (count as f64 / threshold * 100.0).min(100.0))
}

fn notes(page: &mut String, appraisal: &Appraisal<'_>) {
    let mut notes = Vec::new();
    let odd = appraisal.odd();
    if !odd.is_empty() {
        notes.push(format!(
            "by itself {} would have alarmed on rows of the reference: look at it, or leave it out with --leave-out",
            listed(&odd)
        ));
    }
    if appraisal.header.provenance.span.is_some_and(|(from, until)| until - from < 7.0 * DAY) {
        notes.push(
            "it spans less than a week: a weekday or an hour that it never saw looks like drift".to_owned(),
        );
    }
    if appraisal.stretches() < 20 {
        notes.push(format!(
            "{} are few for the paging layer: the strangest of so many is worth little. Give more rows.",
            counted(appraisal.stretches() as u64, "stretch").replace("stretchs", "stretches")
        ));
    }
    if appraisal.header.provenance.rows < 10_000 {
        notes.push(
            "fewer than 10,000 rows cost the early layer power: small shifts take several times as long"
                .to_owned(),
        );
    }
    for note in notes {
        let _ = writeln!(page, "\n  note: {}", clean(&note));
    }
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<_> = names.iter().take(5).map(|name| format!("{name:?}")).collect();
    let more = names.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn columns(page: &mut String, appraisal: &Appraisal<'_>) {
    let Header { columns, left_out, provenance, .. } = appraisal.header;
    let row = |(column, feature): (&ColumnRead, &checkgate_detectors::drift::feature::Feature)| {
        vec![
            column.name.clone(),
            column.kind.clone(),
            grouped(column.missing),
            grouped(column.wrong_type),
            compact(feature.held.early),
            remark(column, provenance.rows),
        ]
    };
    let watched = columns.iter().zip(appraisal.reference.features());
    let rows: Vec<_> = watched.take(COLUMNS_SHOWN).map(row).collect();
    let head = ["COLUMN", "KIND", "MISSING", "WRONG TYPE", "EVIDENCE", ""];
    let _ = write!(page, "\n{}", crate::cli::table(&head, &rows));
    if columns.len() > COLUMNS_SHOWN {
        let _ = writeln!(page, "and {} more; --format json has all", columns.len() - COLUMNS_SHOWN);
    }
    for left in left_out.iter().take(COLUMNS_SHOWN) {
        let _ = writeln!(page, "left out: {}: {}", clean(&left.name), clean(&left.why));
    }
}

fn remark(column: &ColumnRead, rows: u64) -> String {
    let there = rows.saturating_sub(column.missing) as f64;
    if column.constant {
        return "always the same: any other value will be told".to_owned();
    }
    if column.labels as f64 > IDENTIFIER * there && there > 100.0 {
        return "nearly every label is another: an identifier tells nothing".to_owned();
    }
    column.first_wrong.as_ref().map_or_else(String::new, |first| format!("the first of wrong type: {first}"))
}

/// A number that may be very large.
#[must_use]
pub fn compact(number: f64) -> String {
    match number {
        large if large >= 1e9 => format!("{large:.1e}"),
        large if large >= 100.0 => grouped(large.round() as u64),
        small => format!("{small:.1}"),
    }
}

/// The same for programs.
#[must_use]
pub fn as_json(file: &ReferenceFile, terms: &Terms) -> Value {
    let appraisal = Appraisal::new(&file.header, &file.reference, terms);
    let quality = file.reference.quality();
    let thresholds = appraisal.thresholds();
    let features = file.reference.features().iter();
    let held: Vec<_> =
        features.map(|f| json!({"name": f.name, "early": f.held.early, "paging": f.held.paging})).collect();
    json!({
        "header": file.header,
        "sha256": file.sha256,
        "signature": match &file.signed {
            Signed::No => json!({"signed": false, "verified": false}),
            Signed::Unchecked(key) => json!({"signed": true, "verified": false, "key": key}),
            Signed::By(key) => json!({"signed": true, "verified": true, "key": key}),
        },
        "quality": {
            "held_out_rows": quality.rows,
            "held_out_stretches": quality.stretches,
            "early": quality.early,
            "paging": quality.paging,
            "features": held,
            "stretches": appraisal.stretches(),
        },
        "terms": {
            "false_alarms_a_week": appraisal.grant.a_week,
            "rows_a_day": appraisal.rows_a_day,
            "thresholds": thresholds,
            "early_may_page": thresholds.map(|thresholds| quality.early_may_page(&thresholds)),
            "paging_alarms": thresholds.map(|thresholds| quality.paging_alarms(&thresholds)),
        },
    })
}
