//! From files to a frozen reference with its provenance.

use std::path::PathBuf;

use ahash::AHashMap;
use checkgate_detectors::drift::bins::{Bins, Value};
use checkgate_detectors::drift::reference::{DriftReference, Settings, TableError};
use checkgate_detectors::drift::{self, Early, Paging};
use checkgate_detectors::facts::Time;
use ring::digest::{Context, SHA256};

use super::file::{Header, Provenance};
use super::rows::{Choice, Gathering, Rows};
use super::source::{Asked, Source, SourceError};
use crate::rehearse::Progress;

/// What the key of labels is derived with.
const LABELS: &[u8] = b"checkgate labels\n";

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Order {
    /// The files, in the order of time.
    pub from: Vec<PathBuf>,
    /// The model whose rows of recordings count.
    pub model: Option<String>,
    /// The version of it whose rows of recordings count.
    pub version: Option<String>,
    /// Which columns.
    pub choice: Choice,
    /// How the early layer bets.
    pub early: Early,
    /// How the paging layer cuts.
    pub paging: Paging,
    /// Who makes it.
    pub by: String,
    /// When.
    pub at: Time,
}

/// Why there is no reference.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What they hold together.
    #[error("{0}")]
    Table(#[from] TableError),
    /// A column that an option names and no file has.
    #[error(
        "no file has a column {0:?}, which an option names; the names are those of the first line or of the keys"
    )]
    Unmet(String),
    /// No column is left.
    #[error("no column is left to watch; the files hold no values, or the options leave all columns out")]
    NoColumns,
}

/// Freezes a reference of files. The same files and options give the same reference, whoever builds it where.
///
/// # Errors
/// Says which file, line and column are wrong, and the mend.
pub fn build(order: &Order, progress: &dyn Progress) -> Result<(Header, DriftReference), BuildError> {
    let sources =
        order.from.iter().map(|path| Source::look_at(path, progress)).collect::<Result<Vec<_>, _>>()?;
    let key = label_key(&sources);
    let (mut gathering, from) = gather(order, &sources, key, progress)?;
    if gathering.table.columns.is_empty() {
        return Err(BuildError::NoColumns);
    }
    progress.begin("freezing", 0);
    let mut settings = drift::settings(&order.early, &order.paging);
    if gathering.table.times.is_empty() {
        // A stretch of which nobody knows how long it took ends by its rows alone.
        settings = Settings { stretch_microseconds: 0, ..settings };
    }
    let reference = DriftReference::of(&gathering.table, &settings)?.with_label_key(key);
    let columns = gathering.columns.iter_mut().zip(&gathering.texts).zip(reference.features());
    columns.for_each(|((column, texts), feature)| column.names = names(&feature.bins, texts));
    let span = reference.span().map(|(first, last)| (first.seconds(), last.seconds()));
    let provenance = Provenance {
        program: format!("checkgate {}", env!("CARGO_PKG_VERSION")),
        by: order.by.clone(),
        at: order.at.seconds(),
        from,
        rows: reference.rows(),
        rows_with_missing: gathering.rows_with_missing,
        span,
        sorted: gathering.sorted,
    };
    let header = Header {
        checkgate_drift_reference: super::file::VERSION,
        bytes: 0,
        provenance,
        columns: gathering.columns,
        left_out: gathering.left_out,
    };
    Ok((header, reference))
}

/// What the labels with a slot of their own are called.
fn names(bins: &Bins, texts: &AHashMap<u64, String>) -> Vec<String> {
    let Bins::Labels(_) = bins else { return Vec::new() };
    // The last four slots are no single labels.
    let mut names = vec![String::new(); bins.scale().saturating_sub(2)];
    for (label, text) in texts {
        if let Some(name) = names.get_mut(bins.slot(Value::Label(*label))) {
            name.clone_from(text);
        }
    }
    names
}

fn gather(
    order: &Order,
    sources: &[Source],
    key: [u64; 2],
    progress: &dyn Progress,
) -> Result<(Gathering, Vec<super::file::SourceFile>), BuildError> {
    let mut rows = Rows::new(order.choice.clone(), key);
    let asked = Asked { model: order.model.as_deref(), version: order.version.as_deref() };
    let from = sources.iter().map(|source| source.read(&mut rows, asked, progress));
    let from = from.collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = rows.unmet() {
        return Err(BuildError::Unmet(name.to_owned()));
    }
    Ok((rows.finish(), from))
}

/// A key for labels that follows from the files alone: whoever has not seen them does not know it.
fn label_key(sources: &[Source]) -> [u64; 2] {
    let mut context = Context::new(&SHA256);
    context.update(LABELS);
    sources.iter().for_each(|source| context.update(source.digest()));
    let digest = context.finish();
    let mut halves =
        digest.as_ref().chunks_exact(8).map(|bytes| bytes.try_into().map_or(0, u64::from_le_bytes));
    [halves.next().unwrap_or(0), halves.next().unwrap_or(0)]
}

/// The rows of files under the bins of a reference: what is compared with it.
///
/// # Errors
/// As [`build`].
pub fn table_of(
    paths: &[PathBuf],
    asked: Asked<'_>,
    choice: Choice,
    key: [u64; 2],
    progress: &dyn Progress,
) -> Result<Gathering, BuildError> {
    let mut rows = Rows::new(choice, key);
    for path in paths {
        Source::look_at(path, progress)?.read(&mut rows, asked, progress)?;
    }
    Ok(rows.finish())
}

#[cfg(test)]
pub mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    struct Quiet;

    impl Progress for Quiet {
        fn begin(&self, _: &str, _: u64) {}
        fn at(&self, _: u64) {}
        fn step(&self) {}
    }

    pub fn order(from: &[&Path]) -> Order {
        Order {
            from: from.iter().map(|path| path.to_path_buf()).collect(),
            model: None,
            version: None,
            choice: Choice::default(),
            early: Early::default(),
            paging: Paging::default(),
            by: "ada".into(),
            at: Time(1_800_000_000_000_000),
        }
    }

    fn made(text: &str, name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    /// A table of 2,000 rows: a number, a label, a time.
    fn table() -> String {
        let mut text = "age,region,when\n".to_owned();
        for row in 0..2000 {
            let region = ["north", "north", "north", "south", "south", "east"][row % 6];
            let age = if row == 700 { "unknown".to_owned() } else { (row * 7919 % 2003).to_string() };
            let age = if row % 100 == 1 { String::new() } else { age };
            writeln!(text, "{age},{region},{}", 1_700_000_000 + row).unwrap();
        }
        text
    }

    fn refused(text: &str, name: &str, change: impl FnOnce(&mut Order)) -> String {
        let (_folder, path) = made(text, name);
        let mut order = order(&[&path]);
        change(&mut order);
        build(&order, &Quiet).unwrap_err().to_string()
    }

    #[test]
    fn a_table_becomes_a_reference_that_says_where_it_comes_from() {
        let (_folder, path) = made(&table(), "train.csv");
        let mut order = order(&[&path]);
        order.choice.time = Some("when".into());
        let (header, reference) = build(&order, &Quiet).unwrap();
        let names: Vec<_> = reference.features().iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!((names, reference.rows()), (vec!["age", "region"], 2000));
        let Provenance { from, rows_with_missing, span, by, .. } = &header.provenance;
        assert_eq!((from[0].rows, &*from[0].form, from[0].sha256.len()), (2000, "csv", 64));
        assert_eq!((*rows_with_missing, &**by), (20, "ada"));
        assert_eq!(*span, Some((1_700_000_000.0, 1_700_001_999.0)));
        let age = &header.columns[0];
        assert_eq!((&*age.kind, age.missing, age.wrong_type), ("numbers", 20, 1));
        let first = age.first_wrong.as_deref().unwrap();
        assert!(first.starts_with("\"unknown\"") && first.ends_with("train.csv:702"), "{first}");
        assert_eq!((&*header.columns[1].kind, header.columns[1].labels), ("labels", 3));
        assert_eq!(header.columns[1].names, ["north", "south", "east"], "the most frequent first");
    }

    #[test]
    fn the_same_rows_in_another_form_give_the_same_features() {
        let (_one, csv) = made(&table(), "a.csv");
        let mut lines = String::new();
        for line in table().lines().skip(1) {
            let parts: Vec<_> = line.split(',').collect();
            let age = if parts[0].is_empty() {
                "null".into()
            } else {
                parts[0].parse::<f64>().map_or(format!("{:?}", parts[0]), |n| n.to_string())
            };
            writeln!(lines, r#"{{"age": {age}, "region": "{}", "when": {}}}"#, parts[1], parts[2]).unwrap();
        }
        let (_two, lines) = made(&lines, "a.jsonl");
        let counts = |path: &Path| {
            let (_, reference) = build(&order(&[path]), &Quiet).unwrap();
            let features = reference.features().iter();
            features.map(|feature| (feature.name.clone(), feature.counts.clone())).collect::<Vec<_>>()
        };
        let (csv, lines) = (counts(&csv), counts(&lines));
        assert_eq!(csv[0], lines[0], "numbers");
        let sorted = |counts: &checkgate_detectors::drift::counts::Counts| {
            let mut slots = counts.slots().to_vec();
            slots.sort_unstable();
            slots
        };
        assert_eq!(sorted(&csv[1].1), sorted(&lines[1].1), "labels, in an order of their own key");
    }

    #[test]
    fn what_is_wrong_is_told_with_file_line_column_and_the_mend() {
        let ragged = table().replace("\n300,", "\n300,7,");
        for (text, name, expected) in [
            ("a,b\n1,2\n3\n", "r.csv", "r.csv:3: 1 values where the first line names 2 columns"),
            ("1,2\n3,4\n", "n.csv", "n.csv:1: the first line holds numbers"),
            ("a,a\n1,2\n", "t.csv", "t.csv:1: two columns are called \"a\""),
            ("{\"a\": 1}\n{\"a\": }\n", "s.jsonl", "s.jsonl:2: character 7: expected value"),
            (
                "{\"a\": 1}\n{\"a\": {\"b\": 1}}\n",
                "o.jsonl",
                "o.jsonl:2: column \"a\" holds a list or an object",
            ),
            ("{\"a\": 1, \"a\": 2}\n", "d.jsonl", "d.jsonl:1: column \"a\": column \"a\" stands twice"),
            ("[1, 2]\n", "l.json", "one JSON list: give one object a line"),
            ("a\n1\n2\n", "few.csv", "2 rows are too few for a reference of drift: give at least 500"),
            (&ragged, "q.csv", "4 values where"),
        ] {
            let told = refused(text, name, |_| {});
            assert!(told.contains(expected), "{name}: {told}");
        }
        let told = refused(&table(), "w.csv", |order| order.choice.time = Some("at".into()));
        assert!(told.contains("no column \"at\", which --time names"), "{told}");
        let told = refused(&table(), "w.csv", |order| order.choice.time = Some("region".into()));
        assert!(told.contains("w.csv:2: column \"region\": \"north\" is no time"), "{told}");
        let told = refused(&table(), "w.csv", |order| order.choice.leave_out = vec!["agee".into()]);
        assert!(told.contains("no file has a column \"agee\""), "{told}");
    }

    #[test]
    fn the_same_files_give_the_same_reference() {
        let (_folder, path) = made(&table(), "train.csv");
        let bytes = || {
            let (header, reference) = build(&order(&[&path]), &Quiet).unwrap();
            super::super::file::write(header, &reference, None).unwrap()
        };
        assert_eq!(bytes(), bytes(), "byte for byte");
    }

    #[test]
    fn recorded_exchanges_have_questions_and_answers() {
        let mut text = "{\"features\":[\"age\",\"region\"]}\n".to_owned();
        for row in 0..600 {
            writeln!(text, r#"{{"x":[{row},"north"],"p":[{}],"t":{row}}}"#, row * 2).unwrap();
        }
        let (_folder, path) = made(&text, "learned.jsonl");
        let mut order = order(&[&path]);
        order.choice.time = Some("t".into());
        let (_, reference) = build(&order, &Quiet).unwrap();
        let names: Vec<_> = reference.features().iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!(names, ["age", "region", "answer:0"]);
        assert!(reference.span().is_some(), "the times are known");
    }

    #[test]
    fn lists_that_are_too_wide_are_projected_as_live_traffic_is() {
        let mut text = String::new();
        for row in 0..600 {
            let list: Vec<String> = (0..300).map(|column| ((row * 7 + column) % 11).to_string()).collect();
            writeln!(text, r#"{{"x":[{}],"p":[{row}]}}"#, list.join(",")).unwrap();
        }
        let (_folder, path) = made(&text, "vectors.jsonl");
        let (_, reference) = build(&order(&[&path]), &Quiet).unwrap();
        let names: Vec<_> = reference.features().iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!(names.len(), 18, "sixteen projections, the length and the answer: {names:?}");
        assert_eq!((names[0], names[16], names[17]), ("embedding[0]", "embedding_norm", "answer:0"));
    }
}
