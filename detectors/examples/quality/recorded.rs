//! (a) Every recorded stream and every detector.

use std::sync::OnceLock;

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

/// What became of one recorded attack.
pub struct Attack {
    /// The recording.
    pub stream: Stream,
    /// Rows of it.
    pub rows: usize,
    /// With a reference that the operator named.
    pub trusted: Outcome,
    /// The same, and `off_distribution` may block.
    pub off_blocks: Outcome,
    /// The same as the first, where answers are labels alone.
    pub labels: Outcome,
    /// Without a reference.
    pub none: Outcome,
}

impl Attack {
    /// The row of the block with a reference.
    pub fn block(&self) -> Option<usize> {
        self.trusted.block.map(|told| told.place.rows)
    }

    /// Whether the finding that is acted upon, or else the first, names the family that the attack is of.
    pub fn is_named_rightly(&self) -> Option<bool> {
        let said = self.trusted.block.or(self.trusted.first)?;
        Some(named(said.atlas) == family(&self.stream.name))
    }
}

/// Every recorded attack, played once.
pub fn attacks() -> &'static [Attack] {
    static ATTACKS: OnceLock<Vec<Attack>> = OnceLock::new();
    ATTACKS.get_or_init(|| streams("attacks").into_iter().map(played).collect())
}

fn played(stream: Stream) -> Attack {
    Attack {
        rows: stream.requests.iter().map(|request| request.rows.len()).sum(),
        trusted: alone(&stream, TRUSTED),
        off_blocks: alone(&stream, Setting { off_may_block: true, ..TRUSTED }),
        labels: alone(&labels_only(&stream), TRUSTED),
        none: alone(&stream, ALONE),
        stream,
    }
}

/// Recorded honest clients, how many were blocked, and how many told of.
pub fn honest() -> (usize, usize, usize) {
    static HONEST: OnceLock<(usize, usize, usize)> = OnceLock::new();
    *HONEST.get_or_init(|| {
        let all = streams("benign");
        let outcomes = all.iter().map(|stream| (alone(stream, TRUSTED), alone(stream, ALONE)));
        let outcomes: Vec<_> = outcomes.collect();
        let blocked = outcomes.iter().filter(|(trusted, none)| trusted.block.or(none.block).is_some());
        let told = outcomes.iter().filter(|(trusted, _)| !trusted.detectors.is_empty());
        (all.len(), blocked.count(), told.count())
    })
}

/// The tables.
pub fn section() -> String {
    [
        "## Recorded attacks\n".to_owned(),
        attack_table(),
        "## Recorded attacks, each detector by itself\n".to_owned(),
        matrix(),
        "## Recorded honest clients\n".to_owned(),
        honest_table(),
    ]
    .join("\n")
}

fn family(attack: &str) -> &'static str {
    FAMILIES.iter().find(|(begin, _)| attack.starts_with(begin)).map_or("evasion", |(_, family)| family)
}

/// The family that an ATLAS technique stands for.
pub fn named(atlas: &str) -> &'static str {
    match atlas {
        "AML.T0043.001" => "evasion",
        "AML.T0024.002" => "extraction",
        "AML.T0024.001" => "inversion",
        "AML.T0024.000" => "membership",
        _ => "other",
    }
}

fn attack_table() -> String {
    let mut table = Table::new(&[
        "attack",
        "rows",
        "first note",
        "first finding",
        "by",
        "block",
        "by",
        "block, labels only",
        "block, `may_block`",
        "block, no reference",
        "by",
        "family",
        "named",
    ]);
    for attack in attacks() {
        let said = attack.trusted.block.or(attack.trusted.first);
        table.row(&[
            attack.stream.name.clone(),
            attack.rows.to_string(),
            place(attack.trusted.noted),
            place(attack.trusted.first),
            by(attack.trusted.first),
            place(attack.trusted.block),
            by(attack.trusted.block),
            place(attack.labels.block),
            place(attack.off_blocks.block),
            place(attack.none.block),
            by(attack.none.block),
            family(&attack.stream.name).to_owned(),
            or_dash(said.map(|told| named(told.atlas))),
        ]);
    }
    let count = |name: &str, of: &dyn Fn(&Attack) -> &Outcome| {
        let rows = attacks().iter().filter_map(|attack| Some(of(attack).block?.place.rows));
        let rows: Vec<usize> = rows.collect();
        format!("{} {name}, median row {}", rows.len(), or_dash(median(rows)))
    };
    let mut text = table.finish();
    text.push_str(&format!(
        "\nBlocked of {}, of which content can show {}: {}; {}; {}; {}.\n",
        attacks().len(),
        attacks().len() - INVISIBLE.len(),
        count("with a reference", &|attack| &attack.trusted),
        count("where answers are labels alone", &|attack| &attack.labels),
        count("where `off_distribution` may block", &|attack| &attack.off_blocks),
        count("without a reference", &|attack| &attack.none),
    ));
    text
}

fn place(told: Option<Told>) -> String {
    or_dash(told.map(|told| told.place))
}

fn by(told: Option<Told>) -> String {
    or_dash(told.map(|told| format!("`{}`", told.detector)))
}

fn matrix() -> String {
    let mut columns = vec!["attack"];
    columns.extend(QUERY.iter().map(|spec| spec.name));
    let mut table = Table::new(&columns);
    for Attack { stream, .. } in attacks() {
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

/// Honest clients that anything was said of; the others would fill a page of dashes.
fn honest_table() -> String {
    let mut table = Table::new(&["honest client", "rows", "blocked", "told of by"]);
    for stream in streams("benign") {
        let (trusted, none) = (alone(&stream, TRUSTED), alone(&stream, ALONE));
        let block = trusted.block.or(none.block);
        if block.is_none() && trusted.detectors.is_empty() {
            continue;
        }
        let rows: usize = stream.requests.iter().map(|request| request.rows.len()).sum();
        let mut names: Vec<_> = trusted.detectors.iter().map(|name| format!("`{name}`")).collect();
        names.sort_unstable();
        table.row(&[
            stream.name.clone(),
            rows.to_string(),
            block.map_or_else(|| "no".to_owned(), |told| told.place.to_string()),
            names.join(", "),
        ]);
    }
    let (all, blocked, told) = honest();
    let mut text = table.finish();
    text.push_str(&format!(
        "\nOf {all} recorded honest clients {blocked} are blocked, with a reference or without, and {told} told of, \
         with a reference; of the others nothing is said.\n"
    ));
    text
}
