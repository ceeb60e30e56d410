//! (d) What an attacker has when it is blocked, as far as its stream alone shows it.

use super::honest::people;
use super::host::{Outcome, TRUSTED, alone, label};
use super::table::{Table, or_dash, percent};
use crate::support::{Request, Stream, model_of, streams};

/// Searches that begin with the row whose label they mean to change.
const SEARCHES: [&str; 6] = ["boundary", "hsj", "nes", "simba", "square", "zoo"];

/// One row and its answer.
struct Answered<'a> {
    x: &'a [f64],
    p: &'a [f64],
}

/// The table.
pub fn section() -> String {
    let mut table = Table::new(&[
        "attack",
        "rows answered / of",
        "lowest price / of",
        "labels / of",
        "nearest other label / of",
    ]);
    for stream in streams("attacks") {
        let outcome: Outcome = alone(&stream, TRUSTED);
        let answered = answered(&stream);
        let Some(block) = outcome.block else {
            table.row(&[
                stream.name.clone(),
                format!("all {}, no block", answered.len()),
                dash(),
                dash(),
                dash(),
            ]);
            continue;
        };
        let until = &answered[..block.place.rows];
        let share = percent(until.len() as f64 / answered.len() as f64, 1);
        table.row(&[
            stream.name.clone(),
            format!("{} / {} ({share})", until.len(), answered.len()),
            both(lowest(until), lowest(&answered), 0),
            both(labels(until), labels(&answered), 0),
            both(nearest(&stream, until), nearest(&stream, &answered), 3),
        ]);
    }
    format!("## What the attacker has at the block\n\n{}", table.finish())
}

fn dash() -> String {
    "-".to_owned()
}

fn both(until: Option<f64>, whole: Option<f64>, digits: usize) -> String {
    let Some(whole) = whole else { return dash() };
    format!("{} / {whole:.digits$}", or_dash(until.map(|value| format!("{value:.digits$}"))))
}

fn answered(stream: &Stream) -> Vec<Answered<'_>> {
    let rows = |request: &Request| request.rows.len();
    let mut all = Vec::with_capacity(stream.requests.iter().map(rows).sum());
    for request in &stream.requests {
        all.extend(request.rows.iter().zip(&request.predictions).map(|(x, p)| Answered { x, p }));
    }
    all
}

fn lowest(answered: &[Answered<'_>]) -> Option<f64> {
    let prices = answered.iter().filter(|row| row.p.len() == 1).map(|row| row.p[0]);
    prices.min_by(f64::total_cmp)
}

fn labels(answered: &[Answered<'_>]) -> Option<f64> {
    let labels: std::collections::BTreeSet<_> = answered.iter().filter_map(|row| label(row.p)).collect();
    (!labels.is_empty()).then_some(labels.len() as f64)
}

/// The root mean square distance, over columns in the reference's standard deviations, from the first row to the
/// nearest row with another label.
fn nearest(stream: &Stream, answered: &[Answered<'_>]) -> Option<f64> {
    if !SEARCHES.iter().any(|search| stream.name.starts_with(search)) {
        return None;
    }
    let spreads = &people(model_of(&stream.name)).spreads;
    let first = answered.first()?;
    let others = answered.iter().filter(|row| label(row.p) != label(first.p));
    let distances = others.map(|row| {
        let columns = row.x.iter().zip(first.x).zip(spreads);
        let sum: f64 = columns.map(|((x, first), spread)| ((x - first) / spread).powi(2)).sum();
        (sum / spreads.len() as f64).sqrt()
    });
    distances.min_by(f64::total_cmp)
}
