//! (a) Every recorded stream and every detector.

use checkgate_detectors::query::QUERY;

use super::host::{ALONE, Outcome, Setting, TRUSTED, Told, alone, labels_only};
use super::table::{Table, median, or_dash};
use crate::support::{Stream, streams};

/// Nothing in their rows tells them from honest clients.
pub const INVISIBLE: [&str; 3] = ["knockoff_natural_digits", "price_natural", "mi_rule_digits"];

/// What each recorded attack is: the beginning of its name, and its family.
const FAMILIES: [(&str, &str); 8] = [
    ("copycat", "extraction"),
    ("knockoff", "extraction"),
    ("jbda", "extraction"),
    ("price", "extraction"),
    ("mi_", "membership"),
    ("inv_", "inversion"),
    ("zoo", "evasion"),
    ("", "evasion"),
];

/// The tables.
pub fn section() -> String {
    let attacks = streams("attacks");
    let honest = streams("benign");
    [
        "## Recorded attacks\n".to_owned(),
        attack_table(&attacks),
        "## Recorded attacks, each detector by itself\n".to_owned(),
        matrix(&attacks),
        "## Recorded honest clients\n".to_owned(),
        honest_table(&honest),
    ]
    .join("\n")
}

fn family(attack: &str) -> &'static str {
    FAMILIES.iter().find(|(begin, _)| attack.starts_with(begin)).map_or("evasion", |(_, family)| family)
}

/// The family that an ATLAS technique stands for.
fn named(atlas: &str) -> &'static str {
    match atlas {
        "AML.T0043.001" => "evasion",
        "AML.T0024.002" => "extraction",
        "AML.T0024.001" => "inversion",
        "AML.T0024.000" => "membership",
        _ => "other",
    }
}

fn attack_table(attacks: &[Stream]) -> String {
    let mut table = Table::new(&[
        "attack",
        "rows",
        "first finding, row / request",
        "by",
        "block, reference",
        "by",
        "labels only",
        "block, no reference",
        "by",
        "family",
        "named",
    ]);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for stream in attacks {
        let (trusted, none) = (alone(stream, TRUSTED), alone(stream, ALONE));
        let labels = alone(&labels_only(stream), TRUSTED);
        let rows = |outcome: &Outcome| outcome.block.map(|told| told.place.rows);
        with.extend(rows(&trusted));
        without.extend(rows(&none));
        let said = trusted.block.or(trusted.first);
        table.row(&[
            stream.name.clone(),
            stream.requests.iter().map(|request| request.rows.len()).sum::<usize>().to_string(),
            place(trusted.first),
            by(trusted.first),
            place(trusted.block),
            by(trusted.block),
            place(labels.block),
            place(none.block),
            by(none.block),
            family(&stream.name).to_owned(),
            or_dash(said.map(|told| named(told.atlas))),
        ]);
    }
    let visible = attacks.len() - INVISIBLE.len();
    let mut text = table.finish();
    text.push_str(&format!(
        "\nBlocked: {} of {} ({visible} of them can be seen by content) with a reference, median row {}; {} without \
         one, median row {}.\n",
        with.len(),
        attacks.len(),
        or_dash(median(with)),
        without.len(),
        or_dash(median(without)),
    ));
    text
}

fn place(told: Option<Told>) -> String {
    or_dash(told.map(|told| told.place))
}

fn by(told: Option<Told>) -> String {
    or_dash(told.map(|told| format!("`{}`", told.detector)))
}

fn matrix(attacks: &[Stream]) -> String {
    let mut columns = vec!["attack"];
    columns.extend(QUERY.iter().map(|spec| spec.name));
    let mut table = Table::new(&columns);
    for stream in attacks {
        let first = |only| {
            let outcome = alone(stream, Setting { only: Some(only), ..TRUSTED });
            outcome.first.filter(|told| told.detector == only).map(|told| told.place.rows)
        };
        let mut cells = vec![stream.name.clone()];
        cells.extend(QUERY.iter().map(|spec| or_dash(first(spec.name))));
        table.row(&cells);
    }
    table.finish()
}

fn honest_table(honest: &[Stream]) -> String {
    let mut table = Table::new(&["honest client", "rows", "blocked", "told of by"]);
    let (mut blocked, mut told) = (0, 0);
    for stream in honest {
        let (trusted, none) = (alone(stream, TRUSTED), alone(stream, ALONE));
        let block = trusted.block.or(none.block);
        blocked += usize::from(block.is_some());
        told += usize::from(!trusted.detectors.is_empty());
        let rows: usize = stream.requests.iter().map(|request| request.rows.len()).sum();
        let mut names: Vec<_> = trusted.detectors.iter().map(|name| format!("`{name}`")).collect();
        names.sort_unstable();
        table.row(&[
            stream.name.clone(),
            rows.to_string(),
            block.map_or_else(|| "no".to_owned(), |told| told.place.to_string()),
            if names.is_empty() { "-".to_owned() } else { names.join(", ") },
        ]);
    }
    let mut text = table.finish();
    text.push_str(&format!(
        "\nBlocked: {blocked} of {}, with a reference or without. Told of: {told}, with a reference.\n",
        honest.len()
    ));
    text
}
