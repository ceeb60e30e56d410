//! What the documents name is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Documents that name the tests which hold their sentences.
const DOCUMENTS: [&str; 2] = ["docs/ARCHITECTURE.md", "docs/trust.md"];
/// A name with so many words is a test's: no setting or function that a document speaks of is as long.
const WORDS_MIN: usize = 5;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every function of the workspace, and every file by its path.
fn functions_and_files() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut functions, mut files) = (BTreeSet::new(), BTreeSet::new());
    let mut folders: Vec<PathBuf> =
        ["config", "detectors", "load-tests", "proxy"].iter().map(|room| root().join(room)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                functions.extend(text.split("fn ").skip(1).map(|rest| name_at(rest).to_owned()));
                files.insert(path.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    (functions, files)
}

fn name_at(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// What stands between backticks in a document.
fn quoted(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_test_that_a_document_names_exists() {
    let (functions, files) = functions_and_files();
    for document in DOCUMENTS {
        let mut tests = 0;
        for name in quoted(document) {
            let is_metric = name.starts_with("checkgate_");
            if name == name_at(&name) && name.split('_').count() >= WORDS_MIN && !is_metric {
                assert!(functions.contains(&name), "{document} names {name}, which is nowhere");
                tests += 1;
            }
            if name.ends_with(".rs") && name.contains("tests/") {
                assert!(files.contains(&name), "{document} names {name}, which is nowhere");
            }
        }
        assert!(tests >= 20, "{document} names {tests} tests only; is it still read rightly?");
    }
}
